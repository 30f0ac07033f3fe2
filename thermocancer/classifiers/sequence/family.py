"""The sequence networks as a family: how one is made, loaded, twinned, combined and taken elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted
from thermocancer.classifiers.encoders import Encoders
from thermocancer.classifiers.protocol import (
    MOST_SAMPLES,
    Asked,
    Classifier,
    Exportable,
    Family,
    Fitted,
    Reader,
    Settings,
    Unavailable,
    exported_facts,
)
from thermocancer.classifiers.sequence.input import VERSION, input_to_json
from thermocancer.classifiers.sequence.network import SequenceClassifier, SequenceModel, load_sequence_model
from thermocancer.classifiers.sequence.readers import (
    FrameReader,
    FrameReaders,
    SequenceFeatures,
    UntrainedReaders,
    exam_images,
)
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.data.store.reading import DYNAMIC, DYNAMIC_VIEW, StoredCohort
from thermocancer.errors import DataError
from thermocancer.features.prepared import OncePerCohort
from thermocancer.files import hash_file
from thermocancer.kinds import backbone, backbones

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class FrameSummary(Reader):
    """The backbone's frame features of a dynamic exam: their mean, and the last frame's less the first's."""

    reader: FrameReader
    indices: tuple[int, ...]
    cache: Path | None = None
    seed: int = 0
    _known: OncePerCohort[SequenceFeatures] = field(default_factory=OncePerCohort, repr=False)

    def of(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        features = self._known.of(
            cohort, lambda each: SequenceFeatures(each, self.reader, self.indices, self.cache, self.seed)
        )
        return summarise(features.of(np.asarray(rows, dtype=np.int64)))


def summarise(frames: npt.NDArray[np.floating]) -> FloatArray:
    """Frame features (n, frames, p) as (n, 2 p): mean over the frames, and last less first."""
    exact = frames.astype(np.float64)
    return np.concatenate([exact.mean(axis=1), exact[:, -1] - exact[:, 0]], axis=1)


class SequenceFamily(Family):
    """A backbone that reads frames, and a recurrent head on top."""

    exports = ("saved_model", "tf2onnx", "litert")

    def title(self, asked: Asked) -> str:
        dit = asked.config.dit
        return f"{dit.backbone} + {dit.head} {dit.units}"

    def aim(self, asked: Asked) -> tuple[str, float]:
        return asked.config.dit.aim, asked.config.dit.aim_sensitivity

    def facts(
        self, asked: Asked, cohort: Cohort, rows: IntArray, excluded: Sequence[tuple[str, str]]
    ) -> Settings:  # fmt: skip
        filled = cohort.filled if isinstance(cohort, StoredCohort) else np.zeros((len(cohort.exams), 1), bool)
        counts = {cohort.exams[row].key: int(filled[row].sum()) for row in rows}
        return {"dynamic": True, "filled_frames": {key: count for key, count in sorted(counts.items()) if count}}

    def make(self, asked: Asked) -> Calibrated:
        return self.calibrated(self.network(asked, FrameReaders(asked.config, asked.workspace)), asked)

    def network(self, asked: Asked, readers: FrameReaders) -> SequenceClassifier:
        """The bare network, whose frame features may be read ahead."""
        return SequenceClassifier(self.kind.name, asked.config, asked.workspace, readers, asked.exam_weights)

    def calibrated(self, network: SequenceClassifier, asked: Asked) -> Calibrated:
        """The network with calibration and threshold as the settings of ``dit`` ask for them."""
        dit = asked.config.dit
        return Calibrated(
            network, FeaturesSection(), asked.inner_folds, dit.aim, dit.aim_sensitivity, asked.config.cohort
        )

    def load(self, folder: Path, settings: Settings) -> Fitted:
        return CalibratedFitted.around(load_sequence_model(folder, self.kind.name), settings)

    def content(self, asked: Asked, folds: Sequence[str]) -> list[object]:
        dit = asked.config.dit
        found: list[object] = [VERSION]
        if dit.weights is not None and Path(dit.weights).is_file():
            found.append(hash_file(Path(dit.weights)))
        return [*found, *self.encoder_content(asked)]

    @staticmethod
    def encoder_content(asked: Asked) -> list[object]:
        """The folds' own autoencoders, where they read the frames."""
        if not backbone(asked.config.dit.backbone).own:
            return []
        folder = asked.workspace.autoencoder(asked.config.autoencoder.variant, DYNAMIC_VIEW)
        return [[str(each.relative_to(folder)), hash_file(each)] for each in sorted(folder.rglob("manifest.json"))]

    def check_unseen(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> None:
        """Raise DataError when an encoder has seen thermograms of a patient whom its fold tests."""
        if not backbone(asked.config.dit.backbone).own:
            return
        for fold in folds:
            both = sorted(self.shown(asked, cohort, fold))
            if both:
                raise DataError(
                    "the autoencoder was trained on patients whom this fold tests",
                    where=f"fold {fold.name}", found=f"{len(both)} patients, such as {both[0]}",
                    hint="train it again with autoencoder.per_fold: true, or set dit.backbone: efficientnet_lite0",
                )  # fmt: skip

    def shown(self, asked: Asked, cohort: Cohort, fold: Fold) -> set[int]:
        if not backbone(asked.config.dit.backbone).own:
            return set()
        # train-dit takes each fold's own encoder, whatever the settings of fuse
        own = asked.with_settings("fuse", autoencoder=None, untrained=False, encoders="fold")
        return Encoders.of(own.config, asked.workspace).shown(cohort, DYNAMIC_VIEW, fold)

    def leaks(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
        if asked.config.split.protocol != "thesis" or not backbone(asked.config.dit.backbone).own:
            return []
        own = asked.with_settings("fuse", autoencoder=None, untrained=False, encoders="fold")
        return Encoders.of(own.config, asked.workspace).leaks(cohort, (DYNAMIC_VIEW,), folds)

    def twin(self, asked: Asked) -> tuple[Classifier, str]:
        given = backbone(asked.config.dit.backbone)
        if given.untrained:
            raise Unavailable("the model has no trained network, or is the untrained twin itself")
        strategy.set_up(asked.config.strategy, asked.config.seed)
        if given.own:
            still = asked.with_settings("dit", finetune=False)  # fine-tuning would train what must not be
            return self.calibrated(self.network(still, UntrainedReaders(still.config, still.workspace)), still), ""
        stand_in = next(each.name for each in backbones().values() if each.untrained)
        other = asked.with_settings("dit", finetune=False, backbone=stand_in, weights=None)
        note = f"three random convolutions stand in for {given.name}, which so deep gives nothing untrained"
        return self.calibrated(self.network(other, UntrainedReaders(other.config, other.workspace)), other), note

    def reader(self, asked: Asked, cohort: Cohort, fold: str) -> Reader:
        strategy.set_up(asked.config.strategy, asked.config.seed)
        with strategy.current().scope():
            reader = FrameReaders(asked.config, asked.workspace).of(fold)
        return FrameSummary(reader, tuple(asked.config.dit.frames), asked.workspace.cache, asked.config.seed)

    def kept_reader(self, fitted: Fitted, cache: Path | None = None) -> Reader:
        model = fitted.model if isinstance(fitted, CalibratedFitted) else fitted
        if not isinstance(model, SequenceModel):
            return super().kept_reader(fitted, cache)
        return FrameSummary(model.reader, model.indices, cache)

    def shared_reader(self, asked: Asked) -> bool:
        return not backbone(asked.config.dit.backbone).own

    def why_not_frozen(self, asked: Asked) -> str:
        return (
            "its backbone is fine-tuned (dit.finetune), and not kept for every fold"
            if asked.config.dit.finetune
            else ""
        )

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """Backbone and head joined: images (n, frames, channels, H, W, depth)."""
        from thermocancer.models.sequence import join_backbone

        loaded = load_sequence_model(folder, self.kind.name)
        reader = loaded.reader
        model = join_backbone(reader.model, _unrolled(loaded.slot.holding(loaded.weights)), len(reader.input.channels))
        dataset = asked.config.dataset.name
        with StoredCohort(asked.workspace.dataset(dataset), DYNAMIC) as cohort:
            rows = range(min(MOST_SAMPLES, len(cohort.exams)))
            images = np.stack([exam_images(cohort, row, loaded.indices, reader) for row in rows])
        fed = {"frames": list(loaded.indices), **input_to_json(reader.input)}
        return Exportable(model, {model.inputs[0].name: images}, exported_facts(settings, dataset) | {"input": fed})


def _unrolled(head: keras.Model) -> keras.Model:
    """The same head with its recurrence written out: LiteRT has no loops over tensor lists."""
    import keras

    def unroll(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        return type(layer).from_config(config | {"unroll": True} if "unroll" in config else config)

    copy = keras.models.clone_model(head, clone_function=unroll)
    copy.set_weights(head.get_weights())
    return copy
