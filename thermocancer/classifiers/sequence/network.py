"""Training the sequence network: on cached features, or end to end through the backbone.

Wrapped into ``Calibrated``, ``SequenceClassifier`` gets its threshold on inner folds and is judged like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.cache import content_hash
from thermocancer.classifiers.calibrated import held_back
from thermocancer.classifiers.protocol import Classifier, Fitted, Row, Settings, logit
from thermocancer.classifiers.sequence.input import input_from_json
from thermocancer.classifiers.sequence.readers import (
    FrameReader,
    FrameReaders,
    SequenceFeatures,
    describe_reader,
    exam_images,
    reader_identity,
)
from thermocancer.config import Config
from thermocancer.config.learning import DitSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.files import fingerprint, read_json, write_json
from thermocancer.models.layers import start_from
from thermocancer.progress import Progress
from thermocancer.training.batches import ArrayExamples, Examples
from thermocancer.training.checkpoint import Snapshot, load_model, save_model
from thermocancer.training.fit import Compilation, FitSettings, compile_model, fit_resumable, forget
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    import keras

HEAD_FILE, BACKBONE_FILE, SETTINGS_FILE = "head.keras", "backbone.keras", "sequence.json"
VALIDATION_FOLDS = 5
"""With early stopping one patient in five of the training part is held out to stop on."""

_DECIDES = {
    "frames", "channels", "head", "units", "dropout", "norm_momentum", "optimizer", "learning_rate", "weight_decay",
    "ema_momentum", "loss", "class_weights", "epochs", "batch", "patience", "augment", "finetune", "finetune_blocks",
}  # fmt: skip

Weights = list[npt.NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class SequenceModel(Fitted):
    """A trained sequence network: a frame reader and the weights of a head."""

    kind: str
    reader: FrameReader
    indices: tuple[int, ...]
    slot: HeadSlot
    weights: Weights
    history: Sequence[Row] = ()
    features: SequenceFeatures | None = None

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of sick, (len(rows),)."""
        return logit(self.probabilities(self.frame_features(cohort, rows)))

    def frame_features(self, cohort: Cohort, rows: IntArray) -> npt.NDArray[np.float32]:
        """What the head sees: (len(rows), frames, features)."""
        known = self.features
        if known is None or known.source is not cohort:
            known = SequenceFeatures(cohort, self.reader, self.indices, None, 0)
        return known.of(np.asarray(rows, dtype=np.int64))

    def probabilities(self, features: npt.NDArray[np.float32]) -> FloatArray:
        """Probability of sick for features (n, frames, features)."""
        return self.slot.predict(self.weights, features)

    def describe(self) -> Settings:
        return {"kind": self.kind}

    def save(self, folder: Path) -> None:
        """Write both networks and how frames are made ready; ``load_sequence_model`` reads them back."""
        save_model(self.slot.holding(self.weights), folder / HEAD_FILE)
        save_model(self.reader.model, folder / BACKBONE_FILE)
        write_json(folder / SETTINGS_FILE, {"frames": list(self.indices), **describe_reader(self.reader)})


def load_sequence_model(folder: Path, kind: str) -> SequenceModel:
    """The network that ``SequenceModel.save`` wrote.

    A strategy must have been set up. Raises DataError when a file is missing or damaged.
    """
    settings = read_json(folder / SETTINGS_FILE)
    head, backbone = load_model(folder / HEAD_FILE), load_model(folder / BACKBONE_FILE)
    backbone.trainable = False
    reader = FrameReader(settings["backbone"], backbone, input_from_json(settings["input"]), settings["weights"])
    return SequenceModel(kind, reader, tuple(settings["frames"]), HeadSlot(head), head.get_weights())


@dataclass(frozen=True, eq=False)
class SequenceClassifier(Classifier):
    """How a sequence network is trained."""

    kind: str
    config: Config
    workspace: Workspace
    readers: FrameReaders
    exam_weights: ExamWeights | None = None
    _slots: dict[tuple[int, int], HeadSlot] = field(default_factory=dict, repr=False)
    _features: dict[tuple[int, int], SequenceFeatures] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        dit = self.config.dit
        return f"{dit.backbone} + {dit.head} {dit.units}"

    def announce(self, cohort: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        """These parts are going to be trained on: their features are computed at once."""
        self.read_ahead(cohort, np.unique(np.concatenate([rows for rows, _ in parts])), fold)

    def read_ahead(self, cohort: Cohort, rows: IntArray, fold: str, progress: Progress | None = None) -> None:
        """Compute the features of some exams, or find them in the cache, before anything is trained on them."""
        if not self._on_cache:
            return
        with strategy.current().scope():
            features = self.features_of(cohort, self.readers.of(fold))
        for copy in range(self.config.dit.augment + 1):
            features.of(rows, copy, progress)

    @property
    def counts(self) -> dict[str, int]:
        """Exams whose features were read from disk, and exams whose features were computed."""
        found = [each.counts for each in self._features.values()]
        return {
            "features_from_cache": sum(read for read, _ in found),
            "features_computed": sum(computed for _, computed in found),
        }

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> SequenceModel:
        """Train on ``rows``. Raises Interrupted on SIGINT; the same call goes on from there."""
        with strategy.current().scope():
            reader = self.readers.of(fold)
            features = self.features_of(cohort, reader)
            shape = (len(features.indices), reader.features)
            if shape not in self._slots:
                self._slots[shape] = HeadSlot.build(self.config.dit, *shape)
        inner = VALIDATION_FOLDS if self.config.dit.patience else 0
        taught, held = held_back(cohort, rows, labels, inner, seed, self.config.cohort)
        parts = [(rows[taught], labels[taught], True), (rows[held], labels[held], False)]
        train = self._on_features if self._on_cache else self._end_to_end
        return train(self._slots[shape], features, parts, seed)

    def _on_features(
        self, slot: HeadSlot, features: SequenceFeatures, parts: list[tuple[IntArray, IntArray, bool]], seed: int
    ) -> SequenceModel:
        def examples(rows: IntArray, labels: IntArray, training: bool) -> ArrayExamples:
            copies = range(self.config.dit.augment + 1) if training and len(rows) else range(1)
            none = np.zeros((0, len(features.indices), features.reader.features), np.float32)
            x = np.concatenate([features.of(rows, copy) if len(rows) else none for copy in copies])
            y = np.tile(labels, len(copies)).astype(np.float32)[:, np.newaxis]
            return ArrayExamples(x, y, self._weights(np.tile(rows, len(copies)), y[:, 0]))

        train, validation = (examples(*part) for part in parts)
        identity = fingerprint(
            "frame features", reader_identity(features.reader), self._settings(), seed,
            *(content_hash(each.x) + content_hash(each.y) + str(each.weights) for each in (train, validation)),
        )  # fmt: skip
        model = slot.fresh(seed)
        history = self._fit(model, train, validation, identity, seed)
        weights = slot.weights_of(model)
        return SequenceModel(self.kind, features.reader, features.indices, slot, weights, history, features)

    def _end_to_end(
        self, slot: HeadSlot, features: SequenceFeatures, parts: list[tuple[IntArray, IntArray, bool]], seed: int
    ) -> SequenceModel:
        """Through the backbone at every step: frozen (the original recipe), or its last blocks learning too."""
        reader, dit = features.reader, self.config.dit
        with strategy.current().scope():
            model, backbone = compile_end_to_end(reader, slot, dit, seed)

        def examples(rows: IntArray, labels: IntArray, training: bool) -> ImageExamples:
            copies = dit.augment + 1 if training else 1
            y, every = np.tile(labels, copies).astype(np.float32)[:, np.newaxis], np.tile(rows, copies)
            numbers = np.repeat(np.arange(copies), len(rows))
            return ImageExamples(features, every, numbers, y, self._weights(every, y[:, 0]))

        train, validation = (examples(*part) for part in parts)
        identity = fingerprint(
            "end to end", reader_identity(reader), self._settings(), seed,
            [features.content_of(row) for row in train.rows.tolist()],
            [part[1].tolist() for part in parts],
        )  # fmt: skip
        history = self._fit(model, train, validation, identity, seed)
        weights = slot.weights_of(model.get_layer(slot.model.name))
        if not dit.finetune:
            return SequenceModel(self.kind, reader, features.indices, slot, weights, history, features)
        from thermocancer.models.backbones import weights_identity

        tuned = replace(reader, name=f"{reader.name}, fine-tuned", model=backbone, weights=weights_identity(backbone))
        return SequenceModel(self.kind, tuned, features.indices, slot, weights, history)

    def _settings(self) -> dict[str, object]:
        return self.config.dit.model_dump(mode="json", include=_DECIDES)

    @property
    def _on_cache(self) -> bool:
        return self.config.dit.cache and not self.config.dit.finetune

    def features_of(self, cohort: Cohort, reader: FrameReader) -> SequenceFeatures:
        """The features of ``source`` by ``reader``, shared by all folds."""
        key = (id(cohort), id(reader))
        if key not in self._features:
            cache = self.workspace.cache if self._on_cache else None
            indices = tuple(self.config.dit.frames)
            self._features[key] = SequenceFeatures(cohort, reader, indices, cache, self.config.seed)
        return self._features[key]

    def _weights(self, rows: IntArray, labels: npt.NDArray[np.float32]) -> FloatArray | None:
        """Weights of the examples: those of matching, and of rare classes; None when all are alike."""
        if self.exam_weights is None and not self.config.dit.class_weights:
            return None
        weights = np.ones(len(rows)) if self.exam_weights is None else self.exam_weights[rows].astype(np.float64)
        if self.config.dit.class_weights:
            sick = float(labels.mean()) if len(labels) else 0.5
            if 0 < sick < 1:
                weights = weights * np.where(labels == 1, 0.5 / sick, 0.5 / (1 - sick))
        return weights

    def _fit(
        self,
        model: keras.Model,
        train: Examples,
        validation: Examples,
        identity: str,
        seed: int,
    ) -> list[Row]:
        dit = self.config.dit
        folder = self.workspace.cache / "fits" / identity[:32]
        settings = FitSettings(dit.epochs, dit.batch, seed, identity, patience=dit.patience)
        held_out = validation if len(validation) else None
        result = fit_resumable(model, train, folder=folder, settings=settings, validation=held_out)
        forget(folder)
        return list(result.history)


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """Exams as images (see ``batches.Examples``): rendered when a batch asks for them."""

    features: SequenceFeatures
    rows: IntArray
    copies: IntArray
    y: npt.NDArray[np.float32]
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: IntArray, epoch: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images (n, T, channels, H, W, depth) and labels (n, 1)."""
        known = self.features
        images = [
            exam_images(
                known.source, int(self.rows[row]), known.indices, known.reader, copy=int(self.copies[row]),
                seed=known.seed,
            )
            for row in rows
        ]  # fmt: skip
        return np.stack(images), self.y[rows]


# --- the compiled sequence head that all folds share, and the end-to-end model made of it ---


PREDICT_BATCH = 256


@dataclass(eq=False)
class HeadSlot:
    """One head; ``start`` is its state before any training, None for a loaded one."""

    model: keras.Model
    start: Snapshot | None = None

    @classmethod
    def build(cls, config: DitSection, frames: int, features: int) -> HeadSlot:
        """Build and compile. Call it inside the strategy's scope."""
        from thermocancer.models.sequence import build_head

        model = build_head(frames, features, **head_settings(config))
        compile_model(model, compilation(config), strategy.current())
        return cls(model, Snapshot.of(model))

    def fresh(self, seed: int) -> keras.Model:
        """The compiled model with new weights, a new optimizer state and new dropout, all from ``seed``."""
        if self.start is not None:
            self.start.put_into(self.model)
        start_from(self.model, seed)
        return self.model

    def holding(self, weights: Weights) -> keras.Model:
        """The model with these weights."""
        self.model.set_weights(weights)
        return self.model

    def weights_of(self, model: keras.Model) -> Weights:
        return [np.array(each) for each in model.get_weights()]

    def predict(self, weights: Weights, features: npt.NDArray[np.float32]) -> FloatArray:
        """Probabilities (n,) for features (n, frames, features), in batches of one size."""
        model, running = self.holding(weights), strategy.current()
        found = []
        for start in range(0, len(features), PREDICT_BATCH):
            part = features[start : start + PREDICT_BATCH]
            padded = np.concatenate([part, np.repeat(part[-1:], running.batch(len(part)) - len(part), axis=0)])
            found.append(np.asarray(running.engine.predict(model, padded))[: len(part), 0])
        return np.concatenate(found).astype(np.float64) if found else np.zeros(0)


def head_settings(config: DitSection) -> dict[str, Any]:
    """The config's part of ``build_head``."""
    return {
        "reader": config.head, "units": config.units, "dropout": config.dropout,
        "norm_momentum": config.norm_momentum,
    }  # fmt: skip


def compilation(config: DitSection) -> Compilation:
    """Optimiser and loss of the config; by default the original study's optimiser."""
    return Compilation(
        loss="binary_crossentropy" if config.loss == "bce" else "mean_squared_error",
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay if config.optimizer == "adamw" else None,
        ema_momentum=config.ema_momentum,
    )


def compile_end_to_end(
    reader: FrameReader, slot: HeadSlot, config: DitSection, seed: int
) -> tuple[keras.Model, keras.Model]:
    """Backbone and head as one compiled model, and the backbone in it.

    With ``finetune`` the backbone is a copy whose last blocks learn; otherwise it is the reader's own.
    """
    import keras

    from thermocancer.models.backbones import unfreeze_last_blocks
    from thermocancer.models.sequence import build_head, join_backbone

    frames, features = slot.model.input_shape[1:]
    head = build_head(frames, features, **head_settings(config))
    start_from(head, seed)
    backbone = reader.model
    if config.finetune:
        backbone = keras.models.clone_model(reader.model)
        backbone.set_weights(reader.model.get_weights())
        unfreeze_last_blocks(backbone, config.finetune_blocks)
    model = join_backbone(backbone, head, len(reader.input.channels))
    compile_model(model, compilation(config), strategy.current())
    return model, backbone
