"""Several seeds of one image classifier: each with its threshold, their mean, spread and majority vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.calibrated import choose_threshold
from thermocancer.classifiers.image.network import ImageTrainer, Weights, score_pixels
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import read_image
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.files import read_json, write_json
from thermocancer.strategy import Running
from thermocancer.training.checkpoint import load_model, save_model

CLASSIFIER_FILE = "classifier.json"
KIND = "images"


@dataclass(frozen=True)
class SeedRun:
    """One seed: its threshold from validation scores, and its scores of validation and test images."""

    seed: int
    threshold: float
    validation: FloatArray
    test: FloatArray
    weights: Weights
    history: tuple[dict[str, Any], ...] = ()

    @property
    def decisions(self) -> IntArray:
        """0 or 1 for each test image."""
        return (self.test >= self.threshold).astype(np.int64)


def run_seed(trainer: ImageTrainer, seed: int, train: IntArray, validation: IntArray, test: IntArray) -> SeedRun:
    """Train with one seed; the threshold is chosen on validation images alone."""
    weights, history = trainer.train(seed, train, validation)
    scores = trainer.scores(weights, validation)
    threshold = threshold_for(trainer.config, scores, trainer.labels[validation])
    return SeedRun(seed, threshold, scores, trainer.scores(weights, test), weights, tuple(history))


def threshold_for(config: CnnSection, scores: FloatArray, labels: IntArray) -> float:
    """The threshold of ``cnn.aim`` from validation scores (n,)."""
    if config.aim == "accuracy":
        return best_accuracy_threshold(scores, labels)
    return choose_threshold(scores, labels, config.aim, config.aim_sensitivity)


def best_accuracy_threshold(scores: FloatArray, labels: IntArray) -> float:
    """The threshold with the most right decisions; of several as good the one in the widest gap between scores.

    The study reads it off a grid of 0.00 to 0.99 on its test set; here it comes from validation scores.
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    candidates = (levels[:-1] + levels[1:]) / 2
    right = [int(((scores >= each) == labels).sum()) for each in candidates]
    gaps = np.diff(levels)
    best = max(range(len(candidates)), key=lambda place: (right[place], gaps[place], -abs(candidates[place] - 0.5)))
    return float(candidates[best])


def mean_and_vote(runs: Sequence[SeedRun]) -> tuple[FloatArray, IntArray]:
    """Mean score and majority vote of the seeds for each test image; a tied vote goes by the mean score."""
    scores = np.mean([run.test for run in runs], axis=0)
    share = np.mean([run.decisions for run in runs], axis=0)
    tied = scores >= float(np.mean([run.threshold for run in runs]))
    return scores, np.where(share == 0.5, tied, share > 0.5).astype(np.int64)


def seed_figures(run: SeedRun, validation_labels: IntArray, test_labels: IntArray) -> dict[str, float]:
    """AUC and accuracy of one seed on validation and on test images."""
    from sklearn.metrics import roc_auc_score

    return {
        "seed": run.seed,
        "threshold": run.threshold,
        "validation_auc": float(roc_auc_score(validation_labels, run.validation)),
        "validation_accuracy": float(((run.validation >= run.threshold) == validation_labels).mean()),
        "test_auc": float(roc_auc_score(test_labels, run.test)),
        "test_accuracy": float((run.decisions == test_labels).mean()),
    }


def save_seeds(trainer: ImageTrainer, runs: Sequence[SeedRun], classes: tuple[str, str], folder: Path) -> None:
    """Write each seed's network and ``classifier.json``; the first one is ``model.keras``."""
    folder.mkdir(parents=True, exist_ok=True)
    files = ["model.keras", *(f"seed-{run.seed}.keras" for run in runs[1:])]
    for name, run in zip(files, runs, strict=True):
        save_model(trainer.holding(run.weights), folder / name)
    content = {
        "kind": KIND, "classes": list(classes), "files": files, "thresholds": [run.threshold for run in runs],
        "size": list(trainer.config.size), "color": trainer.config.color,
        "test_time_augmentation": trainer.config.test_time_augmentation,
    }  # fmt: skip
    write_json(folder / CLASSIFIER_FILE, content)


@dataclass(frozen=True)
class ImageScore:
    """What a run says of one image; ``problem`` says why there is no score."""

    path: Path
    score: float | None
    predicted: str | None
    problem: str | None = None


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """A run of ``train-cnn``, loaded: its networks, one a seed, and their thresholds."""

    classes: tuple[str, str]
    models: tuple[Any, ...]
    thresholds: tuple[float, ...]
    config: CnnSection
    running: Running

    def score_pixels(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, IntArray]:
        """Mean probability of the positive class and majority vote for images uint8 (n, H, W, C)."""
        scores = self.seed_scores(pixels)
        return mean_and_vote([
            SeedRun(number, threshold, np.zeros(0), own, [])
            for number, (threshold, own) in enumerate(zip(self.thresholds, scores, strict=True))
        ])  # fmt: skip

    def seed_scores(self, pixels: npt.NDArray[np.uint8]) -> FloatArray:
        """The score by each seed's network, (seeds, n)."""
        rows = np.arange(len(pixels))
        return np.stack([score_pixels(model, pixels, rows, self.config, self.running) for model in self.models])

    def score_files(self, paths: Sequence[Path]) -> list[ImageScore]:
        """One score a file; a file that cannot be read keeps its place and says why."""
        results = []
        for path in paths:
            try:
                pixels = read_image(path, colour=self.config.color, size=self.config.size)
            except DataError as error:
                results.append(ImageScore(path, None, None, error.what))
                continue
            scores, votes = self.score_pixels(pixels[np.newaxis])
            results.append(ImageScore(path, float(scores[0]), self.classes[int(votes[0])]))
        return results


def load_image_classifier(folder: Path, running: Running) -> ImageClassifier:
    """What ``save_seeds`` wrote under ``runs/NAME/model``. Raises DataError when it is not there or damaged."""
    path = folder / CLASSIFIER_FILE
    if not path.exists():
        raise DataError("this run has no trained classifier", where=path, hint="train the run again")
    content = read_json(path)
    if content.get("kind") != KIND:
        raise DataError("this run classifies no single images", where=path, expected=KIND, found=content.get("kind"))
    rows, columns = content["size"]
    config = CnnSection(
        size=(rows, columns), color=content["color"], test_time_augmentation=content["test_time_augmentation"]
    )
    models = tuple(load_model(folder / name) for name in content["files"])
    negative, positive = content["classes"]
    return ImageClassifier((negative, positive), models, tuple(content["thresholds"]), config, running)
