"""Training a classifier of single images, one seed at a time, each bit for bit repeatable on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.image.features import ImageFeatures
from thermocancer.classifiers.image.pixels import ImageExamples, to_unit, views_of
from thermocancer.config.learning import CnnSection
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.files import fingerprint, hash_file
from thermocancer.strategy import Running
from thermocancer.training.batches import Examples
from thermocancer.training.checkpoint import Snapshot
from thermocancer.training.fit import Compilation, FitSettings, compile_model, fit_resumable, forget

HE_UNIFORM = "dense_64"
"""The one layer that the study does not start as Keras does by default."""

PREDICT_BATCH = 64
Weights = list[npt.NDArray[Any]]

_DECIDES = {
    "size", "color", "model", "backbone", "epochs", "batch", "learning_rate", "augment", "mixup", "patience", "keep",
}  # fmt: skip


@dataclass
class ImageTrainer:
    """Trains ``cnn.model`` on some images of one folder, as often as asked, from any seed.

    ``pixels`` are all images of the folder, uint8 (n, H, W, C), ``labels`` (n,), ``content`` the
    fingerprint of both. ``features`` are there for ``cnn.model: backbone`` alone: the head learns on
    them, and ``whole`` is the network from image to probability.
    """

    config: CnnSection
    running: Running
    pixels: npt.NDArray[np.uint8]
    labels: IntArray
    content: str
    cache: Path
    features: ImageFeatures | None = None
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        from thermocancer.models.image_classifier import backbone_head, build_classifier, on_backbone

        with self.running.scope():
            if self.features is None:
                self.model = self.whole = build_classifier(self.config)
            else:
                self.model = backbone_head(self.features.width)
                shape = self.pixels.shape[1:]
                self.whole = on_backbone(self.features.backbone, shape, self.model)
            how = Compilation("binary_crossentropy", learning_rate=self.config.learning_rate, metrics=("accuracy",))
            compile_model(self.model, how, self.running)
        self._start = Snapshot.of(self.model)

    def train(self, seed: int, train: IntArray, validation: IntArray) -> tuple[Weights, list[dict[str, Any]]]:
        """Weights and history of one training. Raises Interrupted on SIGINT; the same call goes on from there."""
        self._fresh(seed)
        if not self.config.train:
            return self._weights(), []
        identity = fingerprint(
            "images", self.content, self._settings(), seed, train.tolist(), validation.tolist(), self.running.precision
        )
        folder = self.cache / "fits" / identity[:32]
        settings = FitSettings(
            self.config.epochs, self.config.batch, seed, identity, patience=self.config.patience, keep=self.config.keep
        )
        result = fit_resumable(
            self.model, self._examples(train, seed, training=True), folder=folder, settings=settings,
            validation=self._examples(validation, seed, training=False), running=self.running,
        )  # fmt: skip
        forget(folder)
        return self._weights(), list(result.history)

    def scores(self, weights: Weights, rows: IntArray) -> FloatArray:
        """Probability of the positive class for images of the folder, (len(rows),)."""
        return score_pixels(self.holding(weights), self.pixels, rows, self.config, self.running)

    def untrained_features(self, seed: int) -> FloatArray:
        """What the network with random weights, never trained, hands to its dense layers: (n, F) for every image.

        With a frozen backbone those are its own features: build the trainer with ``cnn.backbone: random``.
        """
        import keras

        from thermocancer.models.layers import initialise

        if self.features is not None:
            return self.features.values[0].astype(np.float64)
        self._start.put_into(self.model)
        initialise(self.model, seed)
        with self.running.scope():
            below = keras.Model(self.model.inputs, self.model.get_layer(HE_UNIFORM).input)
        return _outputs(below, self.pixels, range(len(self.pixels)), self.config, self.running)

    def holding(self, weights: Weights) -> Any:
        """The network from image to probability, with these weights."""
        self.model.set_weights(weights)
        return self.whole

    def _weights(self) -> Weights:
        return [np.array(each) for each in self.model.get_weights()]

    def _fresh(self, seed: int) -> None:
        """New weights, optimizer and dropout from ``seed`` alone; or the weights of ``cnn.init``."""
        from thermocancer.models.image_classifier import load_old_weights
        from thermocancer.models.layers import initialise

        self._start.put_into(self.model)
        initialise(self.model, seed)
        dense = self.model.get_layer(HE_UNIFORM)
        limit = np.sqrt(6.0 / dense.kernel.shape[0])
        rng = np.random.default_rng([seed, 6003])
        dense.kernel.assign(rng.uniform(-limit, limit, dense.kernel.shape).astype(np.float32))
        for number, variable in enumerate(each for each in self.model.variables if each.name == "seed_generator_state"):
            variable.assign(np.array([seed % 2**32, number], dtype="uint32"))
        if self.config.init is not None:
            self.loaded[:] = load_old_weights(self.model, Path(self.config.init))

    def _settings(self) -> dict[str, Any]:
        init = None if self.config.init is None else hash_file(Path(self.config.init))
        return self.config.model_dump(mode="json", include=_DECIDES) | {"init": init}

    def _examples(self, rows: IntArray, seed: int, *, training: bool) -> Examples:
        mixup = self.config.mixup if training else 0.0
        if self.features is not None:
            return self.features.examples(rows, self.labels, seed, training=training, mixup=mixup)
        augment = self.config.augment and training
        return ImageExamples(self.pixels, rows, self.labels[rows], seed, augment, mixup)


def score_pixels(
    model: Any, pixels: npt.NDArray[np.uint8], rows: IntArray | Sequence[int], config: CnnSection, running: Running
) -> FloatArray:
    """Probabilities (len(rows),) of uint8 images; with test-time augmentation the mean over several copies."""
    return _outputs(model, pixels, rows, config, running)[:, 0] if len(rows) else np.zeros(0)


def _outputs(
    model: Any, pixels: npt.NDArray[np.uint8], rows: IntArray | Sequence[int], config: CnnSection, running: Running
) -> FloatArray:
    """The model's outputs (len(rows), k), read in batches that every device gets a whole part of."""
    found = []
    for start in range(0, len(rows), PREDICT_BATCH):
        images = to_unit(pixels[np.asarray(rows[start : start + PREDICT_BATCH])])
        padding = running.batch(len(images)) - len(images)
        copies = views_of(images) if config.test_time_augmentation else [images]
        of_copies = [
            running.engine.predict(model, np.concatenate([copy, np.repeat(copy[-1:], padding, axis=0)]))
            for copy in copies
        ]
        found.append(np.mean(of_copies, axis=0)[: len(images)])
    return np.concatenate(found).astype(np.float64)
