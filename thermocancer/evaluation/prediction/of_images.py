"""Answers of a run of ``train-cnn`` for new images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.seeds import SeedsFitted
from thermocancer.config import Config
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import is_image, read_image
from thermocancer.data.cohort import IMAGE, ArrayCohort, Exam
from thermocancer.errors import DataError
from thermocancer.evaluation.prediction.scoring import UNCOMPARED, decision_words
from thermocancer.files import Json
from thermocancer.runs.run import Run

THUMBNAIL = 160


def image_files(path: Path) -> list[Path]:
    """The image at ``path``, or every image below it. Raises DataError when there is none."""
    if not path.exists():
        raise DataError("there is no such file or folder", where=path, hint="predict FILE or FOLDER --run NAME")
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file() and is_image(each))
    if not files:
        raise DataError("there is no image here", where=path, expected="PNG, JPEG, TIFF, BMP or DICOM files")
    return files


def image_answers(run: Run, config: Config, path: Path) -> tuple[list[Json], dict[str, list[Json]]]:
    """One answer an image, as ``predict`` shows them, and the pictures of its page; ``config`` is the run's own.

    Raises DataError when the run kept no classifier of single images.
    """
    strategy.set_up(config.strategy, config.seed)
    fitted = load_fitted(run.model_folder, run.workspace)
    if not isinstance(fitted, SeedsFitted):
        raise DataError("this run classifies no single images", where=run.model_folder, hint="train the run again")
    answers: list[Json] = []
    pictures: dict[str, list[Json]] = {}
    for file in image_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        answers.append(_answer(fitted, run.manifest.classes, config.cnn, file, name))
        pictures[name] = [_picture(file)] if answers[-1]["status"] == "scored" else []
    return answers, pictures


def _answer(fitted: SeedsFitted, classes: tuple[str, str], cnn: CnnSection, path: Path, name: str) -> Json:
    try:
        pixels = read_image(path, colour=cnn.color, size=cnn.size, interpolation=cnn.interpolation)
    except DataError as error:
        verdicts = [{"code": "unreadable", "reason": error.what}]
        return {"exam": name, "files": [_file(path, verdicts)], "status": "refused", "reason": error.what}
    alone = ArrayCohort((Exam(1, 1, 0),), {IMAGE: pixels[np.newaxis, np.newaxis]})
    apart = fitted.apart(alone, np.zeros(1, np.int64))
    (score,), (call,) = fitted.together(apart)
    seeds = [float(scores[0]) for scores, _ in apart]
    several = {"low": min(seeds), "high": max(seeds), "method": f"range of {len(seeds)} seeds"}
    one = {"low": None, "high": None, "method": "not available: the run has one seed (cnn.seeds)"}
    return {
        "exam": name, "files": [_file(path, [])], "status": "scored", "reason": "", "score": float(score),
        "interval": several if len(seeds) > 1 else one, "threshold": fitted.threshold, "like_scores": None,
        "decision": f"{decision_words(bool(call))}: {classes[int(call)]}", "out_of_distribution": UNCOMPARED,
    }  # fmt: skip


def _file(path: Path, verdicts: Sequence[dict[str, str]]) -> Json:
    kind = path.suffix.lower().lstrip(".")
    return {"file": path.name, "view": None, "layout": kind, "range_celsius": None, "verdicts": verdicts, "notes": []}


def _picture(path: Path) -> Json:
    import cv2

    pixels = read_image(path, size=(THUMBNAIL, THUMBNAIL))
    _, png = cv2.imencode(".png", pixels[..., ::-1])
    return {"picture": png.tobytes(), "alternative": f"The image {path.name}", "caption": path.name}
