"""The audit of a run of ``train-cnn``: its folder read again, and the controls that can be had of single images.

They are cheap on purpose: one short training for the permuted labels (``evaluate.audit_image_epochs``), one
pass over the images for the untrained twin, none for the brightness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thermocancer import __version__
from thermocancer.cache import cached_json
from thermocancer.classifiers.protocol import Unavailable
from thermocancer.config import Config
from thermocancer.data.class_images import ImageFolder, read_image_folder, validation_rows
from thermocancer.data.cohort import IMAGE, Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.controls import BASELINE, Control, Judge
from thermocancer.evaluation.audit.nuisance import ridge_logistic
from thermocancer.evaluation.audit.refits import judge_permuted
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.files import HashIndex, fingerprint
from thermocancer.progress import Progress, Silent
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.classifiers.image.network import ImageTrainer

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
RIDGE = 1.0
"""Penalty of the logistic regression on standardised columns, as scikit-learn's default."""

NOT_FOR_IMAGES = (
    ("nuisance variables, matched pairs", "nothing is recorded of when, where and how image files were made"),
    ("leaky twin", "train-cnn keeps the parts that the folder gives; nothing is divided again"),
    ("torso only, background only, early to late", "image files hold neither degrees to find a body by nor dates"),
)
"""Controls of thermograms that single images do not allow, and why."""


@dataclass(frozen=True)
class ImageBench:
    """The folder behind a run, divided as the run divided it, and what controls need besides.

    ``config`` is the run's own; ``train``, ``validation`` and ``test`` hold positions in ``images.images``.
    """

    run: Run
    config: Config
    workspace: Workspace
    judge: Judge
    epochs: int
    images: ImageFolder
    train: IntArray
    validation: IntArray
    test: IntArray

    def rows(self, scores: FloatArray, labels: IntArray | None = None) -> list[Prediction]:
        """Scores (len(test),) of the test images as prediction rows."""
        labels = self.images.labels if labels is None else labels
        return [
            Prediction(image.patient, image.visit, "test", int(labels[row]), float(score), int(score >= 0.5))
            for row, score in zip(self.test, scores, strict=True)
            for image in [self.images.images[row]]
        ]

    def scores(self, name: str, make: Callable[[], FloatArray], *parts: Any) -> FloatArray:
        """Scores of the test images, computed once: an interrupted audit goes on where it stopped."""
        own = self.config.cnn.model_dump(mode="json", exclude={"name", "data"})
        key = fingerprint(
            __version__, name, own, self.images.fingerprint, self.config.seed, self.run.manifest.made_from, parts
        )
        path = self.workspace.cache / "audit" / f"{key[:32]}.json"

        def read(found: list[float]) -> FloatArray:
            return np.array(found, dtype=np.float64).reshape(len(self.test))

        return cached_json(path, make, encode=lambda made: made.tolist(), decode=read)

    def trainer(self, labels: IntArray | None = None, **changed: Any) -> ImageTrainer:
        """The run's own trainer, with other labels or other settings of ``cnn``."""
        from thermocancer import strategy
        from thermocancer.classifiers.image.features import image_features
        from thermocancer.classifiers.image.network import ImageTrainer

        cnn, cache = self.config.cnn.model_copy(update=changed), self.workspace.cache
        running = strategy.set_up(self.config.strategy, self.config.seed)
        labels = self.images.labels if labels is None else labels
        content, features = self.images.fingerprint, None
        if cnn.model == "backbone":
            features = image_features(cnn, self.pixels, content, cache, running, self.config.seed, Silent())
        known = fingerprint(content, labels.tolist())
        return ImageTrainer(cnn, running, self.pixels, labels, known, cache, features)

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """Every image at ``cnn.size``, mapped from the cache."""
        from thermocancer.classifiers.image.pixels import load_pixels

        return load_pixels(self.images, self.config.cnn, self.workspace.cache, Silent())


def open_images(
    run: Run, own: Config | None, workspace: Workspace, judge: Judge, epochs: int
) -> tuple[ImageBench | None, str]:
    """The run's images as they lie there now, or None and why they cannot be audited."""
    if own is None:
        return None, "the run kept no config that this version can read"
    index = HashIndex(workspace.cache / "image_hashes.json")
    try:
        images = read_image_folder(
            Path(str(own.cnn.data)), positive=own.cnn.positive, group=own.cnn.group, index=index
        )  # fmt: skip
        train, validation = validation_rows(images, own.cnn.validation_fraction, own.seed)
    except (DataError, ConfigError) as error:
        return None, error.what
    if images.fingerprint != run.manifest.dataset.fingerprint:
        return None, "the images have changed since the run was made"
    return ImageBench(run, own, workspace, judge, epochs, images, train, validation, images.rows("Test")), ""


def image_scope(bench: ImageBench) -> Scope:
    """The images as exams, each with its picture's hash, and the one fold: trained or validated on, and tested."""
    exams = tuple(
        Exam(image.patient, image.visit, image.label, hashes=((IMAGE, image.sha256),)) for image in bench.images.images
    )
    fold = Fold("test", np.sort(np.concatenate([bench.train, bench.validation])), bench.test)
    return Scope(bench.run, exams, bench.test, (fold,), None, {}, patients_known=bench.images.grouped)


def image_controls(
    bench: ImageBench, skip: tuple[str, ...], progress: Progress
) -> tuple[list[Control], list[dict[str, str]]]:
    """Every control that single images allow, and what was not done with its reason."""
    controls: list[Control] = []
    left_out = [{"name": name, "reason": reason} for name, reason in NOT_FOR_IMAGES]
    with progress.task(f"audit of {bench.run.name}", len(IMAGE_REFITS), "controls") as bar:
        for name, control in IMAGE_REFITS:
            bar.say(name)
            try:
                if name in skip:
                    raise Unavailable("skipped by evaluate.audit_skip")
                controls.append(control(bench))
            except (DataError, ConfigError) as error:
                left_out.append({"name": name, "reason": error.what})
            bar.advance()
    return controls, left_out


def permuted_labels(bench: ImageBench) -> Control:
    """The run's own network taught shuffled labels, and asked for them."""
    if not bench.config.cnn.train:
        raise Unavailable("the run judges weights as they are and trains nothing")
    labels = permute_by_group(bench.images, bench.config.seed)
    epochs = min(bench.config.cnn.epochs, bench.epochs)
    if any(len(set(labels[part].tolist())) < 2 for part in (bench.train, bench.validation, bench.test)):
        raise Unavailable("too few images to shuffle their labels")

    def taught() -> FloatArray:
        trainer = bench.trainer(labels, epochs=epochs)
        weights, _ = trainer.train(bench.config.seed, bench.train, bench.validation)
        return trainer.scores(weights, bench.test)

    scores = bench.scores("permuted", taught, epochs)
    note = f"one seed, {epochs} of {bench.config.cnn.epochs} epochs (evaluate.audit_image_epochs)"
    return judge_permuted(bench.judge, bench.rows(scores, labels), note)


def permute_by_group(images: ImageFolder, seed: int) -> IntArray:
    """Labels (n,) shuffled among the groups of both parts, each group's images keeping one label."""
    first = {image.patient: image.label for image in reversed(images.images)}
    patients = sorted(first)
    shuffled = np.random.default_rng([seed, 0xA0D1]).permutation([first[patient] for patient in patients])
    given = dict(zip(patients, shuffled.tolist(), strict=True))
    return np.array([given[image.patient] for image in images.images], dtype=np.int64)


def untrained_twin(bench: ImageBench) -> Control:
    """A logistic regression on what the network's convolutions give with random weights."""
    cnn = bench.config.cnn
    changed: dict[str, Any] = {"init": None}
    if cnn.model == "backbone":
        if cnn.backbone == "random":
            raise Unavailable("the run's backbone has random weights: it is the untrained twin itself")
        changed |= {"backbone": "random", "weights": None, "weights_sha256": None}

    def read() -> FloatArray:
        trainer = bench.trainer(**changed)
        return logistic_scores(bench, trainer.untrained_features(bench.config.seed))

    control = bench.judge.control(
        "untrained", "untrained twin: random weights, never trained", BASELINE,
        bench.rows(bench.scores("untrained", read)),
    )  # fmt: skip
    return control.with_(note="one pass through random convolutions, then a logistic regression")


def brightness(bench: ImageBench) -> Control:
    """What the grey levels alone tell: their mean, spread and percentiles, without any place."""

    def measure() -> FloatArray:
        pixels = bench.pixels
        return logistic_scores(bench, np.stack([_grey_statistics(pixels[row]) for row in range(len(pixels))]))

    rows = bench.rows(bench.scores("brightness", measure))
    return bench.judge.control("brightness", "global brightness statistics", BASELINE, rows)


def _grey_statistics(image: npt.NDArray[np.uint8]) -> FloatArray:
    grey = image.astype(np.float64).mean(axis=-1)
    return np.array([grey.mean(), grey.std(), *np.percentile(grey, PERCENTILES)])


def logistic_scores(bench: ImageBench, columns: FloatArray) -> FloatArray:
    """Probabilities of the test images from columns (n, k), standardised and fitted on the training images."""
    known = columns[bench.train]
    spread = known.std(axis=0)
    standard = (columns - known.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    weights = ridge_logistic(standard[bench.train], bench.images.labels[bench.train], ridge=RIDGE)
    odds = np.column_stack([np.ones(len(bench.test)), standard[bench.test]]) @ weights
    scores: FloatArray = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
    return scores


IMAGE_REFITS: tuple[tuple[str, Callable[[ImageBench], Control]], ...] = (
    ("permuted labels", permuted_labels),
    ("untrained twin", untrained_twin),
    ("trivial baselines", brightness),
)
"""By the names that ``evaluate.audit_skip`` knows."""
