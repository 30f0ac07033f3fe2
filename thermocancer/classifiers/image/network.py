"""The network on single images: trained from any seed, each bit for bit repeatable on a CPU; kept, and read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.classifiers.calibrated import labels_of
from thermocancer.classifiers.encoders import ensure_running
from thermocancer.classifiers.image.examples import Batch, ImageExamples, image_features, outputs_of, views_of
from thermocancer.classifiers.protocol import Asked, Classifier, Probabilistic, Row, Settings
from thermocancer.config.learning import CnnSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import held_back
from thermocancer.features.prepared import OncePerCohort
from thermocancer.files import fingerprint, hash_file
from thermocancer.progress import Progress, Silent
from thermocancer.runs.deciding import deciding_settings
from thermocancer.training.batches import ArrayExamples, Examples, MixedExamples
from thermocancer.training.checkpoint import Snapshot, load_model, save_model
from thermocancer.training.fit import Compilation, FitSettings, compile_model, fit_resumable, forget
from thermocancer.workspace import LABELS

if TYPE_CHECKING:
    import keras

FORM = "images"
"""How ``classifier.json`` calls it."""

MODEL_FILE = "model.keras"
PREDICT_BATCH = 64
Weights = list[npt.NDArray[np.generic]]
Labelled = tuple[IntArray, IntArray]
"""Rows of a cohort and their labels, both (n,)."""

READING = {"size", "color", "interpolation", "test_time_augmentation"}
"""Settings of ``cnn`` that a trained network needs again to read images."""

# --- a trained network ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ImageModel(Probabilistic):
    """A trained network. ``whole`` turns images into probabilities; ``taught`` is what was trained of it.

    Other seeds train the same two, so ``weights`` are put into ``taught`` before it runs; None: they are in it.
    """

    config: CnnSection
    classes: tuple[str, ...]
    whole: keras.Model
    taught: keras.Model
    weights: Weights | None = None
    history: tuple[Row, ...] = ()
    held: IntArray | None = None

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Probability of the positive class, (len(rows),); with test-time augmentation the mean over several copies."""
        return predicted(self.network(), cohort, rows, self.config)[:, 0]

    def network(self) -> keras.Model:
        """From image to probability, with these weights."""
        if self.weights is not None:
            self.taught.set_weights(self.weights)
        return self.whole

    def describe(self) -> Settings:
        return {"kind": FORM, "classes": list(self.classes), **self.config.model_dump(mode="json", include=READING)}

    def save(self, folder: Path) -> None:
        save_model(self.network(), folder / MODEL_FILE)

    @classmethod
    def load(cls, path: Path, settings: Settings) -> ImageModel:
        """A saved network, and what ``describe`` says of it. Raises DataError when it is missing or damaged."""
        ensure_running()
        model = load_model(path)
        config = CnnSection.model_validate({key: settings[key] for key in READING if key in settings})
        return cls(config, tuple(settings["classes"]), model, model)


def predicted(model: keras.Model, cohort: Cohort, rows: IntArray, config: CnnSection) -> FloatArray:
    """A model's outputs for some images, float64 (len(rows), k)."""
    found = outputs_of(
        model, cohort, rows, ensure_running(), size=PREDICT_BATCH,
        seen=lambda images, _: views_of(images) if config.test_time_augmentation else [images],
    )  # fmt: skip
    return np.concatenate([np.zeros((0, int(model.output_shape[-1])), np.float32), *found]).astype(np.float64)


# --- training -------------------------------------------------------------------


class ImageTrainer:
    """Trains ``cnn.model`` on some images of one cohort, as often as asked, from any seed.

    It is built once: compiling takes longer than a small training. With ``cnn.model: backbone`` a head is
    trained on what the frozen backbone makes of the images, and ``whole`` is both.
    """

    def __init__(self, asked: Asked, cohort: Cohort, progress: Progress) -> None:
        from thermocancer.models.image_classifier import backbone_head, build_classifier, on_backbone

        config, cnn = asked.config, asked.config.cnn
        self.asked, self.cnn, self.cohort, self.progress = asked, cnn, cohort, progress
        self.running = running = strategy.set_up(config.strategy, config.seed)
        self.features: Batch | None = None
        self._noted = False
        if cnn.model == "backbone":
            backbone, self.features = image_features(cnn, cohort, asked.workspace.cache, running, config.seed, progress)
        with running.scope():
            if self.features is None:
                self.taught = self.whole = build_classifier(cnn)
            else:
                self.taught = backbone_head(self.features.shape[-1])
                self.whole = on_backbone(backbone, (*cohort.shape, 3 if cnn.color == "rgb" else 1), self.taught)
            how = Compilation("binary_crossentropy", learning_rate=cnn.learning_rate, metrics=("accuracy",))
            compile_model(self.taught, how, running)
        self._start = Snapshot.of(self.taught)

    def train(self, seed: int, train: Labelled, validation: Labelled) -> tuple[Weights, tuple[Row, ...]]:
        """Weights and history of one training. Raises Interrupted on SIGINT; the same call goes on from there."""
        cnn, history = self.cnn, list[Row]()
        self._fresh(seed)
        if cnn.train:
            identity = fingerprint(
                FORM, self.cohort.fingerprint, deciding_settings(self.asked.config, ("cnn",)), weights_content(cnn),
                seed, [each.tolist() for each in (*train, *validation)], self.running.precision,
            )  # fmt: skip
            folder = self.asked.workspace.cache / "fits" / identity[:32]
            settings = FitSettings(cnn.epochs, cnn.batch, seed, identity, patience=cnn.patience, keep=cnn.keep)
            result = fit_resumable(
                self.taught, self._examples(train, seed, training=True), folder=folder, settings=settings,
                validation=self._examples(validation, seed, training=False), running=self.running,
            )  # fmt: skip
            forget(folder)
            history += result.history
        return [np.array(each) for each in self.taught.get_weights()], tuple(history)

    def _fresh(self, seed: int) -> None:
        """New weights, optimizer and dropout from ``seed`` alone; or the weights of ``cnn.init``."""
        from thermocancer.models.image_classifier import load_old_weights, start_classifier

        self._start.put_into(self.taught)
        start_classifier(self.taught, seed)
        if self.cnn.init is not None:
            lines = load_old_weights(self.taught, Path(self.cnn.init))
            for line in [] if self._noted else lines:
                self.progress.note(line)
            self._noted = True

    def _examples(self, part: Labelled, seed: int, *, training: bool) -> Examples:
        rows, labels = part
        found: Examples = ImageExamples(self.cohort, rows, labels, seed, self.cnn.augment and training)
        if self.features is not None:  # training sees every copy
            copies = self.features if training else self.features[:1]
            y = np.tile(labels, len(copies)).astype(np.float32)[:, np.newaxis]
            found = ArrayExamples(np.concatenate([copy[rows] for copy in copies]), y)
        return MixedExamples(found, self.cnn.mixup, seed) if training and self.cnn.mixup > 0 else found

    def untrained_features(self, seed: int) -> FloatArray:
        """What the network with random weights, never trained, hands to its dense layers: (n, F) for every image.

        With a frozen backbone those are its own features: ask for one whose weights are random.
        """
        from thermocancer.models.image_classifier import start_classifier, without_dense_layers

        if self.features is not None:
            return np.asarray(self.features[0], np.float64)
        self._start.put_into(self.taught)
        start_classifier(self.taught, seed)
        with self.running.scope():
            below = without_dense_layers(self.taught)
        return predicted(below, self.cohort, np.arange(len(self.cohort.exams)), self.cnn)


def weights_content(cnn: CnnSection) -> list[str | None]:
    """Hashes of the weights that are started from, and of a local file of the backbone's."""
    named = (cnn.init, cnn.weights)
    return [hash_file(Path(path)) if path is not None and Path(path).is_file() else None for path in named]


@dataclass(frozen=True, eq=False)
class ImageClassifier(Classifier):
    """Trains ``cnn.model``; some patients of the training rows are held back and choose the epoch.

    They are the first by name (``cnn.validation: first``), or drawn from ``seed`` of the config; and by the labels
    that the cohort itself gives, so that they are the same for every seed of the training, and where an audit has
    shuffled the labels.
    """

    asked: Asked
    progress: Progress = field(default_factory=Silent, repr=False)
    probabilistic: bool = True
    _trainers: OncePerCohort[ImageTrainer] = field(default_factory=OncePerCohort, repr=False)

    @property
    def name(self) -> str:
        return self.asked.config.cnn.model

    def trainer(self, cohort: Cohort) -> ImageTrainer:
        """What trains on the images of this cohort."""
        return self._trainers.of(cohort, lambda each: ImageTrainer(self.asked, each, self.progress))

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> ImageModel:
        """Fit on ``rows``. Raises DataError when a class has too few patients for a part to validate on."""
        config, trainer = self.asked.config, self.trainer(cohort)
        first = config.cnn.validation == "first"
        train, held = held_back(cohort.exams, rows, config.cnn.validation_fraction, config.seed, first=first)
        weights, history = trainer.train(seed, *((part, labels_of(part, rows, labels)) for part in (train, held)))
        classes = cohort.classes if isinstance(cohort, ImageCohort) else LABELS
        return ImageModel(config.cnn, classes, trainer.whole, trainer.taught, weights, history, held)
