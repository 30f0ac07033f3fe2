"""Float32Array of dynamic exams: read once from the cache or the backbone, then held for every fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.cache import content_hash
from thermocancer.classifiers.sequence.input import augmented
from thermocancer.classifiers.sequence.readers import FrameReader, reader_identity
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.errors import ConfigError
from thermocancer.features.frozen import FeatureCache
from thermocancer.progress import Progress, Silent


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
    frames: npt.NDArray[Any], wanted: Sequence[int], indices: Sequence[int], reader: FrameReader, copy: int, seed: int
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
    """Float32Array of one source by one reader, kept in memory and, with ``cache``, on disk."""

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
        """Float32Array (len(rows), T, F); ``copy`` 1, 2, ... are augmented copies."""
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
