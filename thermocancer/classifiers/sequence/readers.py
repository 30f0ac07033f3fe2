"""Which network reads the frames of a dynamic exam in one fold, and how frames are made ready for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.cache import content_hash
from thermocancer.classifiers.sequence.input import FrameInput, augmented, encoder_input, frame_input, input_to_json
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, Frames, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.errors import ConfigError
from thermocancer.features.frozen import FeatureCache
from thermocancer.kinds import backbone
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class FrameReader:
    """A backbone with the input it takes: images (n, h, w, depth) to features (n, F).

    ``weights`` is the fingerprint of what it computes with. ``seen`` are the patients whose
    thermograms it was trained on.
    """

    name: str
    model: keras.Model
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
        from thermocancer.training.autoencoder import load_encoder, trained_input, trained_patients

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


def describe_reader(reader: FrameReader) -> dict[str, object]:
    """Which network reads the frames and how they are made ready for it; JSON types only."""
    return {"backbone": reader.name, "weights": reader.weights, "input": input_to_json(reader.input)}


def reader_identity(reader: FrameReader) -> dict[str, object]:
    """Everything that decides the features of a frame, for the key of the cache."""
    running = strategy.current()
    return describe_reader(reader) | {"backend": running.backend, "precision": running.precision}


# --- Features of dynamic exams: read once from the cache or the backbone, then held -----------------------------------


def check_frames(source: Cohort, indices: Sequence[int]) -> None:
    """Raise ConfigError when the config asks for frames that the sequences do not have, or not in order."""
    if not indices or list(indices) != sorted(set(indices)):
        raise ConfigError("frames must ascend", where="dit.frames", found=list(indices))
    if indices[0] < 0 or indices[-1] >= source.length(source.views[0]):
        raise ConfigError(
            "the sequences are shorter than the frames asked for",
            where="dit.frames", expected=f"0 to {source.length(source.views[0]) - 1}", found=list(indices),
        )  # fmt: skip


def exam_images(
    source: Cohort, row: int, indices: Sequence[int], reader: FrameReader, *, copy: int = 0, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Images (T, channels, h, w, depth) of one exam as ``reader`` takes them; ``copy`` 1, 2, ... are augmented."""
    wanted = sorted({0, *indices})  # the first frame is what differences are taken from
    frames = source.frames(source.views[0], np.array([row]), wanted)[0]  # (T or T + 1, H, W) or (..., 3)
    return _prepare(frames, wanted, indices, reader, copy, seed)


def _prepare(
    frames: Frames, wanted: Sequence[int], indices: Sequence[int], reader: FrameReader, copy: int, seed: int
) -> npt.NDArray[np.float32]:
    if copy:
        key = int(content_hash(frames)[:8], 16)
        frames = augmented(frames, np.random.default_rng([seed, 4002, copy, key]))
    chosen = frames[[wanted.index(index) for index in indices]]
    if frames.ndim == 4:
        return reader.input.of_colours(chosen)
    return reader.input.of_temperatures(chosen, frames[0], np.asarray(indices))


@dataclass
class SequenceFeatures:
    """Features of one source by one reader, kept in memory and, with ``cache``, on disk."""

    source: Cohort
    reader: FrameReader
    indices: tuple[int, ...]
    cache: Path | None
    seed: int
    _disk: FeatureCache | None = field(default=None, repr=False)
    _known: dict[tuple[int, int], Float32Array] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_frames(self.source, self.indices)
        if self.cache is not None:
            about = {**reader_identity(self.reader), "frames": list(self.indices)}
            self._disk = FeatureCache(self.cache / "features", about, (len(self.indices), self.reader.features))

    def of(self, rows: IntArray, copy: int = 0, progress: Progress | None = None) -> Float32Array:
        """Features (len(rows), T, F); ``copy`` 1, 2, ... are augmented copies."""
        missing = [row for row in rows.tolist() if (row, copy) not in self._known]
        if missing:
            with (progress or Silent()).task("frame features", len(missing), "exams") as task:
                for row in missing:
                    self._known[row, copy] = self._one(row, copy)
                    task.advance()
        return np.stack([self._known[row, copy] for row in rows.tolist()])

    def content_of(self, row: int) -> str:
        """Hash of the frames that the head sees of one exam."""
        return content_hash(self.source.frames(self.source.views[0], np.array([row]), self.indices))

    @property
    def counts(self) -> tuple[int, int]:
        """Exams read from disk and exams computed, so far."""
        return (0, 0) if self._disk is None else (self._disk.read_from_disk, self._disk.computed)

    def _one(self, row: int, copy: int) -> Float32Array:
        wanted = sorted({0, *self.indices})
        frames = self.source.frames(self.source.views[0], np.array([row]), wanted)[0]

        def compute() -> Float32Array:
            return self.reader.read(_prepare(frames, wanted, self.indices, self.reader, copy, self.seed))

        if self._disk is None:
            return compute()
        name = content_hash(frames) + (f".{self.seed}.{copy}" if copy else "")
        return self._disk.of(name, compute)
