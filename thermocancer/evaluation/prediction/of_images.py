"""Answers of a run of ``train-cnn`` for new images."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.seeds import SeedsFitted
from thermocancer.config import Config
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import is_image, pixel_hash, read_image
from thermocancer.data.cohort import IMAGE, ArrayCohort, Exam
from thermocancer.data.names import is_junk
from thermocancer.errors import DataError
from thermocancer.evaluation.prediction.novelty import Met
from thermocancer.evaluation.prediction.page import budget_of, encoded
from thermocancer.evaluation.prediction.scoring import UNCOMPARED, decision_words
from thermocancer.files import HashIndex, Json
from thermocancer.runs.predictions import read_files
from thermocancer.runs.run import PREDICTIONS, Run

THUMBNAIL = 240


def image_files(paths: Sequence[Path]) -> dict[str, Path]:
    """The images at ``paths``, or below them, by the name that they go by. Raises DataError when there is none."""
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, hint="predict FILE or FOLDER --run NAME")
        if path.is_file():
            found[path.name if path.name not in found else str(path)] = path
            continue
        for each in sorted(path.rglob("*")):
            inside = each.relative_to(path)
            if each.is_file() and is_image(each) and not any(map(is_junk, inside.parts)):
                name = inside.as_posix()
                found[name if name not in found else str(each)] = each
    if not found:
        raise DataError("there is no image here", where=paths[0], expected="PNG, JPEG, TIFF, BMP or DICOM files")
    return found


def image_answers(
    run: Run, config: Config, paths: Sequence[Path], *, pictured: bool
) -> tuple[list[Json], dict[str, list[Json]]]:
    """One answer an image, as ``predict`` shows them, and the pictures of its page; ``config`` is the run's own.

    Raises DataError when the run kept no classifier of single images.
    """
    files = image_files(paths)
    strategy.set_up(config.strategy, config.seed)
    fitted = load_fitted(run.model_folder, run.workspace)
    if not isinstance(fitted, SeedsFitted):
        raise DataError("this run classifies no single images", where=run.model_folder, hint="train the run again")
    trained = _trained_on(run, config)
    answers: list[Json] = []
    pictures: dict[str, list[Json]] = {}
    for name, file in files.items():
        answers.append(_answer(fitted, run, config.cnn, file, name, trained))
        if pictured and answers[-1]["status"] == "scored":
            pictures[name] = [_picture(file, budget_of(len(files)))]
    return answers, pictures


def _trained_on(run: Run, config: Config) -> dict[str, str] | None:
    """The pictures that the run was trained on or chosen by, by the hash of their pixels; None where they are gone."""
    root = Path(config.cnn.data or "")
    if not config.cnn.data or not root.is_dir():
        return None
    index = HashIndex(run.workspace.cache / "image_hashes.json")
    tested, found = set(read_files(run.folder / PREDICTIONS)), dict[str, str]()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and is_image(path) and name not in tested:
            with contextlib.suppress(DataError):  # what cannot be read was not trained on either
                found[index.of(path, pixel_hash)] = name
    index.save()
    return found


def _met(path: Path, trained: dict[str, str] | None) -> Met:
    if trained is None:
        return {"status": "unknown", "words": "the run's images are not here: what was in training is not known"}
    same = trained.get(pixel_hash(path))
    if same is None:
        return {"status": "no", "words": ""}
    return {"status": "exam", "words": f"the run was trained on this very picture ({same})"}


def _answer(
    fitted: SeedsFitted, run: Run, cnn: CnnSection, path: Path, name: str, trained: dict[str, str] | None
) -> Json:
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
        "interval": several if len(seeds) > 1 else one, "threshold": run.manifest.threshold, "like_scores": None,
        "decision": f"{decision_words(bool(call))}: {run.manifest.classes[int(call)]}",
        "out_of_distribution": UNCOMPARED, "in_training": _met(path, trained),
    }  # fmt: skip


def _file(path: Path, verdicts: Sequence[dict[str, str]]) -> Json:
    kind = path.suffix.lower().lstrip(".")
    return {"file": path.name, "view": None, "layout": kind, "range_celsius": None, "verdicts": verdicts, "notes": []}


def _picture(path: Path, most_bytes: int) -> Json:
    picture = encoded(read_image(path, size=(THUMBNAIL, THUMBNAIL)), most_bytes)
    return {"picture": picture, "alternative": f"The image {path.name}", "caption": path.name}
