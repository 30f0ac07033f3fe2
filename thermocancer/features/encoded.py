"""Codes of thermograms: what an encoder makes of every exam, one view at a time.

Codes of an encoder that several folds share are kept on disk; those of a fold's own encoder are
needed once and live in memory or, when large, in an unnamed temporary file.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import Cohort, IntArray, all_alike
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.errors import DataError
from thermocancer.features.pixels import area_weights
from thermocancer.files import fingerprint, written_aside

VERSION = 1
"""Part of the cache key; raise it when codes change their meaning."""

IN_MEMORY_BYTES = 1 << 30
"""Larger codes of one view go to a temporary file: with v1 at full size that is above 430 exams."""

POOLED_GRID = (4, 4)
"""Rows and columns that pooled codes keep: enough to tell the sides and the quadrants of the breasts apart."""


@dataclass(frozen=True)
class ViewEncoder:
    """An encoder, what it is fed, and what identifies its weights. ``batch`` exams go through at once.

    ``model`` may be shared by encoders of one architecture (each new model would be compiled anew),
    so ``weights`` are put into it before it runs.
    """

    model: Any
    weights: list[Float32Array]
    input: InputSection
    identity: str
    batch: int

    def codes(self, source: Cohort, view: str, rows: IntArray) -> Iterator[tuple[slice, Float32Array]]:
        """Yield (positions in ``rows``, codes (b, p)) batch by batch.

        The last of several batches is filled up, so that the network sees one shape only: each new
        one would be compiled anew. Of a view that is the same in all exams one code stands for all.
        """
        if len(rows) > 1 and all_alike(source, view):
            _, code = next(self.codes(source, view, rows[:1]))
            yield slice(0, len(rows)), np.broadcast_to(code, (len(rows), code.shape[1]))
            return
        size = min(self.batch, len(rows))
        for start in range(0, len(rows), self.batch):
            chosen = rows[start : start + self.batch]
            filled = np.concatenate([chosen, np.repeat(chosen[-1:], size - len(chosen))])
            images = network_input(source, view, filled, self.input)  # (batch, H, W, C)
            self._check(images.shape[1:], view)
            self.model.set_weights(self.weights)
            codes = np.asarray(self.model.predict_on_batch(images), dtype=np.float32)
            yield slice(start, start + len(chosen)), codes[: len(chosen)].reshape(len(chosen), -1)

    @property
    def size(self) -> int:
        """Numbers in one code."""
        return int(np.prod(self.model.output_shape[1:]))

    def _check(self, shape: tuple[int, ...], view: str) -> None:
        expected = tuple(self.model.input_shape[1:])
        if shape != expected:
            raise DataError(
                "the autoencoder was trained on images of another size",
                where=f"view {view}",
                expected="x".join(map(str, expected)),
                found="x".join(map(str, shape)),
                hint="train-ae again on this data set, or build the data set with the same dataset.size",
            )


@contextlib.contextmanager
def all_codes(
    encoder: ViewEncoder, source: Cohort, view: str, cache: Path, *, keep: bool, in_memory: int = IN_MEMORY_BYTES
) -> Iterator[Float32Array]:
    """Codes of all exams of a source that have the view, (n, p) float32; zeros for the others.

    With ``keep`` they are read from the cache, or written there first. Without, they are gone when
    the block ends.
    """
    rows = np.flatnonzero(source.present(view)).astype(np.int64)
    shape = (len(source.exams), encoder.size)
    if keep:
        yield _kept(encoder, source, view, rows, shape, cache)
        return
    with _room(shape, cache, in_memory) as codes:
        _fill(codes, encoder, source, view, rows)
        yield codes


def _fill(codes: Float32Array, encoder: ViewEncoder, source: Cohort, view: str, rows: IntArray) -> None:
    for positions, part in encoder.codes(source, view, rows):
        codes[rows[positions]] = part


@contextlib.contextmanager
def _room(shape: tuple[int, int], cache: Path, in_memory: int) -> Iterator[Float32Array]:
    if 4 * shape[0] * shape[1] <= in_memory:
        yield np.zeros(shape, np.float32)
        return
    cache.mkdir(parents=True, exist_ok=True)
    # unnamed: the system removes it even when the process is killed
    with tempfile.TemporaryFile(dir=cache) as file:
        yield np.memmap(file, np.float32, "w+", shape=shape)


def _kept(
    encoder: ViewEncoder, source: Cohort, view: str, rows: IntArray, shape: tuple[int, int], cache: Path
) -> Float32Array:
    key = fingerprint("codes", VERSION, encoder.identity, source.fingerprint, view)
    path = cache / "features" / f"codes-{view}-{key[:32]}.npy"
    with contextlib.suppress(OSError, ValueError):  # not there, or damaged: made again
        codes: Float32Array = np.load(path, mmap_mode="r", allow_pickle=False)
        if codes.shape == shape:
            return codes
    with written_aside(path) as side:
        codes = np.lib.format.open_memmap(side, "w+", np.float32, shape)
        _fill(codes, encoder, source, view, rows)
        codes.flush()
        del codes
    found: Float32Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def pooled_codes(
    encoder: ViewEncoder, source: Cohort, view: str, rows: IntArray, cache: Path | None = None
) -> Float32Array:
    """Codes of some exams averaged over ``POOLED_GRID``: (len(rows), rows x columns x channels) float32.

    With ``cache`` those of every exam that has the view are computed at once and kept there.
    """
    if cache is None:
        return _pooled(encoder, source, view, rows)
    key = fingerprint("pooled codes", VERSION, POOLED_GRID, encoder.identity, source.fingerprint, view)
    path = cache / "features" / f"pooled-{view}-{key[:32]}.npy"
    with contextlib.suppress(OSError, ValueError):  # not there, or damaged: made again
        known: Float32Array = np.load(path, allow_pickle=False)
        if len(known) == len(source.exams):
            return known[rows]
    present = np.flatnonzero(source.present(view)).astype(np.int64)
    pooled = _pooled(encoder, source, view, present)
    every = np.zeros((len(source.exams), pooled.shape[1]), np.float32)
    every[present] = pooled
    with written_aside(path) as side:
        np.save(side, every, allow_pickle=False)
    return every[rows]


def _pooled(encoder: ViewEncoder, source: Cohort, view: str, rows: IntArray) -> Float32Array:
    height, width, channels = encoder.model.output_shape[1:]
    down, across = area_weights(height, POOLED_GRID[0]), area_weights(width, POOLED_GRID[1])
    found = np.empty((len(rows), POOLED_GRID[0] * POOLED_GRID[1] * channels), np.float32)
    for positions, codes in encoder.codes(source, view, rows):
        images = codes.reshape(-1, height, width, channels)
        found[positions] = np.einsum("rh,nhwc,kw->nrkc", down, images, across, optimize=True).reshape(len(images), -1)
    return found
