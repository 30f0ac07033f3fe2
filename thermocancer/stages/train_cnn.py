"""``train-cnn``: a binary classifier on a folder of class images (the second original study)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.image.features import image_features
from thermocancer.classifiers.image.network import ImageTrainer
from thermocancer.classifiers.image.pixels import load_pixels
from thermocancer.classifiers.image.seeds import SeedRun, mean_and_vote, run_seed, save_seeds, seed_figures
from thermocancer.config import Config
from thermocancer.data.class_images import ImageFolder, read_image_folder, validation_rows
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.errors import ConfigError
from thermocancer.files import HashIndex, fingerprint, hash_file
from thermocancer.kinds import CNN as STAGE
from thermocancer.kinds import only_kind_of
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.predictions import Prediction, predictions_text
from thermocancer.runs.run import VALIDATION
from thermocancer.runs.writing import write_run
from thermocancer.workspace import Stamp, Workspace

BY_IMAGE = "validation images chosen by image, not by patient: cnn.group is not set, so nobody knows whose they are"


@dataclass(frozen=True)
class Job:
    """One run: the images, the three parts, and what identifies the result."""

    config: Config
    workspace: Workspace
    images: ImageFolder
    train: IntArray
    validation: IntArray
    test: IntArray
    made_from: str

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.config.cnn.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / MANIFEST)


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    job = _job(config, workspace, HashIndex(workspace.cache / "image_hashes.json"))
    if job.stamp.is_current(job.made_from):
        return Plan(STAGE, current=1)
    parts = f"{len(job.train)} to train, {len(job.validation)} to validate, {len(job.test)} to test"
    notes = (f"{' and '.join(job.images.classes)}: {parts}", f"{len(job.images.rejected)} left out")
    return Plan(STAGE, (f"runs/{config.cnn.name}: {config.cnn.model}, {config.cnn.seeds} seeds",), notes=notes)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Train every seed, choose thresholds on validation images, score the test images, write the run.

    Raises DataError when the folder cannot be used; images that cannot are listed as failed.
    """
    index = HashIndex(workspace.cache / "image_hashes.json")
    job = _job(config, workspace, index)
    index.save()
    report = StageReport(STAGE, failed=list(job.images.rejected), outputs=[str(job.folder)])
    if job.stamp.is_current(job.made_from):
        report.current = 1
        return report
    trainer = _trainer(job, progress)
    runs = _train(job, trainer, progress)
    _write(job, trainer, runs, report)
    return report


def _job(config: Config, workspace: Workspace, index: HashIndex) -> Job:
    cnn = config.cnn
    if cnn.data is None:
        raise ConfigError("no image folder is named", where="cnn.data", hint="thermocancer train-cnn --data DIR")
    if not cnn.train and cnn.init is None:
        raise ConfigError("cnn.train: false judges the weights of cnn.init, which is not set", where="cnn.init")
    images = read_image_folder(Path(cnn.data), positive=cnn.positive, group=cnn.group, index=index)
    train, validation = validation_rows(images, cnn.validation_fraction, config.seed)
    files = [hash_file(Path(path)) for path in (cnn.init, cnn.weights) if path is not None and Path(path).is_file()]
    made_from = fingerprint(
        STAGE, cnn.model_dump(mode="json", exclude={"name", "data", "init", "weights"}), files, images.fingerprint,
        [image.group for image in images.images], config.seed, config.strategy.backend, config.strategy.precision,
    )  # fmt: skip
    return Job(config, workspace, images, train, validation, images.rows("Test"), made_from)


def _trainer(job: Job, progress: Progress) -> ImageTrainer:
    config, cnn, cache = job.config, job.config.cnn, job.workspace.cache
    running = strategy.set_up(config.strategy, config.seed)
    progress.note(running.why)
    pixels = load_pixels(job.images, cnn, cache, progress)
    content = job.images.fingerprint
    features = None
    if cnn.model == "backbone":
        features = image_features(cnn, pixels, content, cache, running, config.seed, progress)
    return ImageTrainer(cnn, running, pixels, job.images.labels, content, cache, features)


def _train(job: Job, trainer: ImageTrainer, progress: Progress) -> list[SeedRun]:
    cnn = job.config.cnn
    count = cnn.seeds if cnn.train else 1  # weights as they are do not depend on a seed
    runs = []
    with progress.task("seeds", count, "seeds") as task:
        for number in range(count):
            runs.append(run_seed(trainer, job.config.seed + number, job.train, job.validation, job.test))
            task.advance()
    for line in trainer.loaded:
        progress.note(line)
    return runs


def _write(job: Job, trainer: ImageTrainer, runs: Sequence[SeedRun], report: StageReport) -> None:
    labels = job.images.labels
    figures = [seed_figures(each, labels[job.validation], labels[job.test]) for each in runs]
    scores, votes = mean_and_vote(runs)
    validation = np.mean([each.validation for each in runs], axis=0)
    threshold = float(np.mean([each.threshold for each in runs]))
    decided = (validation >= threshold).astype(np.int64)
    tested, test_files = _predictions(job.images, job.test, "test", scores, votes)
    tables = {
        VALIDATION: predictions_text(*_predictions(job.images, job.validation, "validation", validation, decided)),
        "seeds.csv": _table(figures),
    }
    write_run(
        job.folder, job.config, only_kind_of(STAGE), job.made_from, _facts(job, runs, figures, threshold),
        rows=tested, files=test_files, tables=tables,
        history=[{"fold": f"seed {each.seed}", **row} for each in runs for row in each.history],
        save_model=lambda folder: save_seeds(trainer, runs, job.images.classes, folder),
    )  # fmt: skip
    report.made = 1
    report.figures |= {"images": len(job.images.images), "parameters": trainer.whole.count_params()}
    report.figures |= _spread(figures)
    report.figures["accuracy"] = float((votes == labels[job.test]).mean())


def _predictions(
    images: ImageFolder, rows: IntArray, fold: str, scores: FloatArray, predicted: IntArray
) -> tuple[list[Prediction], list[str]]:
    """The scores of some images as prediction rows, and the image files behind them."""
    chosen = [images.images[row] for row in rows]
    found = [
        Prediction(image.patient, image.visit, fold, image.label, float(score), int(call))
        for image, score, call in zip(chosen, scores, predicted, strict=True)
    ]
    return found, [image.path for image in chosen]


def _table(figures: Sequence[dict[str, float]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(figures[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(figures)
    return text.getvalue()


def _spread(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of the seeds' test figures and, of several seeds, their standard deviation."""
    found = {}
    for name in ("test_auc", "test_accuracy"):
        values = np.array([each[name] for each in figures])
        found[f"{name}_mean"] = float(values.mean())
        if len(values) > 1:
            found[f"{name}_sd"] = float(values.std(ddof=1))
    return found


def _facts(job: Job, runs: Sequence[SeedRun], figures: Sequence[dict[str, float]], threshold: float) -> dict[str, Any]:
    config, images = job.config, job.images
    aim = config.cnn.aim
    return {
        "model": config.cnn.model if config.cnn.model != "backbone" else f"{config.cnn.backbone} + dense",
        "views": [],
        "protocol": "holdout",
        "classes": list(images.classes),
        "dataset": {"name": Path(str(config.cnn.data)).name, "fingerprint": images.fingerprint},
        "threshold": threshold,
        "thresholds_of_seeds": {str(run.seed): run.threshold for run in runs},
        "threshold_source": "fixed at 0.5" if aim == "fixed" else f"validation images: {aim}",
        "decision": "threshold" if len(runs) == 1 else f"majority vote of {len(runs)} seeds",
        "seeds": [dict(each) for each in figures],
        "spread": _spread(figures),
        "images": {"train": len(job.train), "validation": len(job.validation), "test": len(job.test)},
        "left_out": [{"image": each.item, "reason": each.reason} for each in images.rejected],
        "leaks": [] if images.grouped else [BY_IMAGE],
        "seed": config.seed,
    }
