"""Answers of a run of ``train-cnn`` for new images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.image.seeds import ImageClassifier, load_image_classifier
from thermocancer.config import Config
from thermocancer.data.class_images import is_image, read_image
from thermocancer.errors import DataError
from thermocancer.evaluation.prediction.scoring import UNCOMPARED, decision_words
from thermocancer.evaluation.report.page import render_page
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


def image_answers(run: Run, config: Config, path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One answer an image, as ``predict`` shows them, and the pictures of its page; ``config`` is the run's own."""
    classifier = load_image_classifier(run.model_folder, strategy.set_up(config.strategy, config.seed))
    files = image_files(path)
    names = [each.relative_to(path).as_posix() if path.is_dir() else each.name for each in files]
    answers = [_answer(classifier, each, name) for each, name in zip(files, names, strict=True)]
    pictures = {
        answer["exam"]: [_picture(classifier, file)] if answer["status"] == "scored" else []
        for answer, file in zip(answers, files, strict=True)
    }
    return answers, pictures


def image_page(run: Run, answers: Sequence[dict[str, Any]], pictures: dict[str, Any]) -> str:
    """The page for people."""
    facts = {
        "title": f"Scores by run {run.name}", "answers": answers, "exam_pictures": pictures, "run": run.name,
        "model": run.manifest.model, "leaks": list(run.manifest.leaks),
    }  # fmt: skip
    return render_page("predict.html", facts, {})


def _answer(classifier: ImageClassifier, path: Path, name: str) -> dict[str, Any]:
    try:
        pixels = read_image(path, colour=classifier.config.color, size=classifier.config.size)
    except DataError as error:
        verdicts = [{"code": "unreadable", "reason": error.what}]
        return {"exam": name, "files": [_file(path, verdicts)], "status": "refused", "reason": error.what}
    seeds = classifier.seed_scores(pixels[np.newaxis])[:, 0]
    scores, votes = classifier.score_pixels(pixels[np.newaxis])
    threshold = float(np.mean(classifier.thresholds))
    several = {"low": float(seeds.min()), "high": float(seeds.max()), "method": f"range of {len(seeds)} seeds"}
    one = {"low": None, "high": None, "method": "not available: the run has one seed (cnn.seeds)"}
    return {
        "exam": name, "files": [_file(path, [])], "status": "scored", "reason": "", "score": float(scores[0]),
        "interval": several if len(seeds) > 1 else one, "threshold": threshold, "like_scores": None,
        "decision": f"{decision_words(bool(votes[0]))}: {classifier.classes[int(votes[0])]}",
        "out_of_distribution": UNCOMPARED,
    }  # fmt: skip


def _file(path: Path, verdicts: Sequence[dict[str, str]]) -> dict[str, Any]:
    kind = path.suffix.lower().lstrip(".")
    return {"file": path.name, "view": None, "layout": kind, "range_celsius": None, "verdicts": verdicts, "notes": []}


def _picture(classifier: ImageClassifier, path: Path) -> dict[str, Any]:
    import cv2

    pixels = read_image(path, size=(THUMBNAIL, THUMBNAIL))
    _, png = cv2.imencode(".png", pixels[..., ::-1])
    return {"picture": png.tobytes(), "alternative": f"The image {path.name}", "caption": path.name}
