"""Which network reads the frames of a dynamic exam in one fold, and how frames are made ready for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.classifiers.sequence.input import FrameInput, encoder_input, frame_input, input_to_json
from thermocancer.config import Config
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.kinds import backbone
from thermocancer.workspace import Workspace


@dataclass(frozen=True, eq=False)
class FrameReader:
    """A backbone with the input it takes: images (n, h, w, depth) to features (n, F).

    ``weights`` is the fingerprint of what it computes with. ``seen`` are the patients whose
    thermograms it was trained on.
    """

    name: str
    model: Any
    input: FrameInput
    weights: str
    seen: frozenset[int] = frozenset()

    @property
    def features(self) -> int:
        """Features a frame: those of every channel, side by side."""
        return int(self.model.output_shape[-1]) * len(self.input.channels)

    def read(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features (T, F) of one exam's images (T, channels, h, w, depth)."""
        running = strategy.current()
        folded = images.reshape(-1, *images.shape[2:])  # time and channels into the batch
        padded = running.batch(len(folded))
        full = np.concatenate([folded, np.repeat(folded[-1:], padded - len(folded), axis=0)])
        found = running.engine.predict(self.model, full)[: len(folded)]
        return np.asarray(found, np.float32).reshape(len(images), -1)


@dataclass
class FrameReaders:
    """Makes the reader of each fold and remembers it: most backbones serve every fold."""

    config: Config
    workspace: Workspace
    _made: dict[str, FrameReader] = field(default_factory=dict)

    def of(self, fold: str) -> FrameReader:
        """The reader for one outer fold (``1.3``, ``test``, ``all``). Call it inside the strategy's scope."""
        own = backbone(self.config.dit.backbone).own
        key = fold if own else ""
        if key not in self._made:
            self._made[key] = self._encoder(fold) if own else self._backbone()
        return self._made[key]

    def _backbone(self) -> FrameReader:
        from thermocancer.models.backbones import build_backbone, weights_identity

        dit = self.config.dit
        weights = None if dit.weights is None else Path(dit.weights)
        model = build_backbone(
            dit.backbone, dit.size, weights=weights, sha256=dit.weights_sha256, seed=self.config.seed
        )
        return FrameReader(dit.backbone, model, frame_input(dit), weights_identity(model))

    def _encoder(self, fold: str) -> FrameReader:
        from thermocancer.models.backbones import pooled, weights_identity
        from thermocancer.training.autoencoder.files import load_encoder, trained_input, trained_patients

        variant = self.config.autoencoder.variant
        model = pooled(load_encoder(self.workspace, variant, DYNAMIC_VIEW, fold))
        seen = trained_patients(self.workspace, variant, DYNAMIC_VIEW, fold)
        rows, columns = model.input_shape[1:3]
        taken = encoder_input(
            self.config.dit, (rows, columns), trained_input(self.workspace, variant, DYNAMIC_VIEW, fold)
        )
        return FrameReader(f"autoencoder {variant}", model, taken, weights_identity(model), seen)


class UntrainedReaders(FrameReaders):
    """The run's own autoencoders with weights drawn from the seed: the same networks, having learnt nothing."""

    def _encoder(self, fold: str) -> FrameReader:
        from thermocancer.models.backbones import weights_identity
        from thermocancer.models.layers import initialise

        reader = super()._encoder(fold)
        reader.model.trainable = True  # frozen layers would keep what they have learnt
        initialise(reader.model, self.config.seed)
        reader.model.trainable = False
        name, weights = f"{reader.name}, untrained", weights_identity(reader.model)
        return replace(reader, name=name, weights=weights, seen=frozenset())


def describe_reader(reader: FrameReader) -> dict[str, Any]:
    """Which network reads the frames and how they are made ready for it; JSON types only."""
    return {"backbone": reader.name, "weights": reader.weights, "input": input_to_json(reader.input)}


def reader_identity(reader: FrameReader) -> dict[str, Any]:
    """Everything that decides the features of a frame, for the key of the cache."""
    running = strategy.current()
    return describe_reader(reader) | {"backend": running.backend, "precision": running.precision}
