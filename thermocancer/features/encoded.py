"""Codes of thermograms: what an encoder makes of every exam, one view at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from thermocancer.cache import cached_array, content_hash, mapped_array, scratch_array
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import Cohort, IntArray, all_alike
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.errors import DataError
from thermocancer.features.thermal import area_weights
from thermocancer.files import fingerprint

VERSION = 1  # part of the cache key; raise it when codes change their meaning
IN_MEMORY_BYTES = 1 << 30
"""Larger codes of one view go to a temporary file: with v1 at full size that is above 430 exams."""

POOLED_GRID = (4, 4)
"""Rows and columns that pooled codes keep: enough to tell the sides and the quadrants of the breasts apart."""


_HOLDS: WeakKeyDictionary[Any, list[Float32Array]] = WeakKeyDictionary()
"""The weights that each encoder's model was last given; nothing else changes those of such a model."""


_ALIKE: dict[str, Float32Array] = {}
"""Codes of the last few single exams that stood for many, by encoder and image."""

MOST_ALIKE = 16
"""Every view of a few exams: one view is varied in small portions, and the others are the same in each."""


def let_go(model: Any) -> None:
    """Somebody else may have changed the weights of this encoder's model."""
    _HOLDS.pop(model, None)


@dataclass(frozen=True)
class ViewEncoder:
    """An encoder, what it is fed, and what identifies its weights. ``batch`` exams go through at once.

    ``model`` may be shared by encoders of one architecture (each new model would be compiled anew), so ``weights``
    are put into it before it runs.
    """

    model: Any
    weights: list[Float32Array]
    input: InputSection
    identity: str
    batch: int

    def codes(self, cohort: Cohort, view: str, rows: IntArray) -> Iterator[tuple[slice, Float32Array]]:
        """Yield (positions in ``rows``, codes (b, p)) batch by batch.

        The last of several batches is filled up, so that the network sees one shape only: each new one would be
        compiled anew. Of a view that is the same in all exams one code stands for all. Raises DataError when the
        encoder was trained on images of another size.
        """
        if len(rows) > 1 and all_alike(cohort, view):
            image = network_input(cohort, view, rows[:1], self.input)
            key = fingerprint(self.identity, content_hash(image))
            if key not in _ALIKE:
                _, _ALIKE[key] = next(self.codes(cohort, view, rows[:1]))
                while len(_ALIKE) > MOST_ALIKE:
                    del _ALIKE[next(iter(_ALIKE))]
            code = _ALIKE[key]
            yield slice(0, len(rows)), np.broadcast_to(code, (len(rows), code.shape[1]))
            return
        size, expected = min(self.batch, len(rows)), tuple(self.model.input_shape[1:])
        for start in range(0, len(rows), self.batch):
            chosen = rows[start : start + self.batch]
            filled = np.concatenate([chosen, np.repeat(chosen[-1:], size - len(chosen))])
            images = network_input(cohort, view, filled, self.input)  # (batch, H, W, C)
            if images.shape[1:] != expected:
                raise DataError(
                    "the autoencoder was trained on images of another size", where=f"view {view}",
                    expected="x".join(map(str, expected)), found="x".join(map(str, images.shape[1:])),
                    hint="train-ae again on this data set, or build the data set with the same dataset.size",
                )  # fmt: skip
            self.take_hold()
            codes = np.asarray(self.model.predict_on_batch(images), dtype=np.float32)
            yield slice(start, start + len(chosen)), codes[: len(chosen)].reshape(len(chosen), -1)

    def take_hold(self) -> None:
        """Put the weights into the model, unless it has them: that takes as long as a batch of small images."""
        if _HOLDS.get(self.model) is not self.weights:
            self.model.set_weights(self.weights)
            _HOLDS[self.model] = self.weights

    @property
    def size(self) -> int:
        """Numbers in one code."""
        return int(np.prod(self.model.output_shape[1:]))


@contextlib.contextmanager
def all_codes(
    encoder: ViewEncoder, cohort: Cohort, view: str, cache: Path, *, keep: bool, in_memory: int = IN_MEMORY_BYTES
) -> Iterator[Float32Array]:
    """Codes of all exams of a cohort that have the view, (n, p) float32; zeros for the others.

    With ``keep`` (an encoder that several folds share) they are read from the cache, or written there first.
    Without, they live in memory or, when large, in an unnamed temporary file, and are gone when the block ends.
    """
    shape = (len(cohort.exams), encoder.size)

    def fill(codes: Float32Array) -> None:
        rows = np.flatnonzero(cohort.present(view))
        for positions, part in encoder.codes(cohort, view, rows):
            codes[rows[positions]] = part

    if keep:
        key = fingerprint("codes", VERSION, encoder.identity, cohort.fingerprint, view)
        yield mapped_array(cache / "features" / f"codes-{view}-{key[:32]}.npy", shape, np.float32, fill)
    else:
        with scratch_array(cache, shape, np.float32, in_memory) as codes:
            fill(codes)
            yield codes


def pooled_codes(
    encoder: ViewEncoder, cohort: Cohort, view: str, rows: IntArray, cache: Path | None = None
) -> Float32Array:
    """Codes of some exams averaged over ``POOLED_GRID``: (len(rows), rows x columns x channels) float32.

    With ``cache`` those of every exam that has the view are computed at once and kept there.
    """
    height, width, channels = encoder.model.output_shape[1:]
    down, across = area_weights(height, POOLED_GRID[0]), area_weights(width, POOLED_GRID[1])
    shape = (len(cohort.exams), POOLED_GRID[0] * POOLED_GRID[1] * channels)
    wanted = rows if cache is None else np.flatnonzero(cohort.present(view))

    def measure() -> Float32Array:
        found = np.zeros(shape, np.float32)
        for positions, codes in encoder.codes(cohort, view, wanted):
            images = codes.reshape(-1, height, width, channels)
            pooled = np.einsum("rh,nhwc,kw->nrkc", down, images, across, optimize=True)
            found[wanted[positions]] = pooled.reshape(len(images), -1)
        return found

    key = fingerprint("pooled codes", VERSION, POOLED_GRID, encoder.identity, cohort.fingerprint, view)
    path = None if cache is None else cache / "features" / f"pooled-{view}-{key[:32]}.npy"
    return cached_array(path, shape, np.float32, measure)[rows]
