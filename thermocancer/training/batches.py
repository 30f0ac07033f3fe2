"""From examples to padded batches, read one ahead while the network works.

A last batch that the devices cannot share equally is filled up with rows of weight zero.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.strategy.running import Arrays, Running

if TYPE_CHECKING:
    import keras

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


class Examples(Protocol):
    """What a network is trained on: ``take`` reads the rows of one batch, nothing else is held."""

    @property
    def weights(self) -> FloatArray | None:
        """One weight an example, shape (n,), or None for all alike."""

    def __len__(self) -> int: ...

    def take(self, rows: IntArray, epoch: int) -> tuple[Arrays, Arrays]:
        """Inputs and targets of ``rows``. Called from another thread; ``epoch`` may seed augmentation."""


@dataclass(frozen=True)
class ArrayExamples:
    """Examples held in memory: ``x`` one array or a tuple, list or dict of arrays, ``y`` one array."""

    x: Arrays
    y: npt.NDArray[np.generic]
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: IntArray, epoch: int) -> tuple[Arrays, Arrays]:
        import keras

        return keras.tree.map_structure(lambda array: array[rows], self.x), self.y[rows]


@dataclass(frozen=True)
class MixedExamples:
    """Examples blended in pairs (mixup, Zhang 2018, arXiv:1710.09412): a function of (seed, epoch, batch).

    Inputs and targets are one array each; ``alpha`` shapes the beta distribution of the shares.
    """

    examples: Examples
    alpha: float
    seed: int

    @property
    def weights(self) -> FloatArray | None:
        return self.examples.weights

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, rows: IntArray, epoch: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        x, y = self.examples.take(rows, epoch)
        return mixed(x, y, self.alpha, np.random.default_rng([self.seed, 6002, epoch, *rows.tolist()]))


def mixed(
    inputs: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], alpha: float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Blend each input (n, ...) and its target (n, 1) with another's."""
    share = rng.beta(alpha, alpha, len(inputs)).astype(np.float32)
    partner = rng.permutation(len(inputs))
    own = share.reshape(-1, *[1] * (inputs.ndim - 1))
    column = share[:, np.newaxis]
    return own * inputs + (1 - own) * inputs[partner], column * targets + (1 - column) * targets[partner]


def order_of(count: int, seed: int, epoch: int) -> IntArray:
    """The order of the examples in one epoch: a function of seed and epoch alone."""
    return np.random.default_rng([seed, epoch, 3]).permutation(count).astype(np.int64)


@dataclass(frozen=True)
class Batch:
    """One batch of this process: inputs, targets, weights; ``count`` examples over all processes."""

    x: Arrays
    y: Arrays
    weights: npt.NDArray[np.float32]
    count: int


def read_batch(examples: Examples, rows: IntArray, epoch: int, running: Running) -> Batch:
    """Read a batch, padded to a multiple of the devices by rows of weight zero.

    The others weigh a little more, so that the mean over the padded batch is the mean over ``rows``:
    no example is lost or counted twice, whatever the number of devices.
    """
    padded = running.batch(len(rows))
    own = np.ones(len(rows)) if examples.weights is None else examples.weights[rows]
    weights = np.zeros(padded, np.float32)
    weights[: len(rows)] = own * (padded / len(rows))
    here = running.share(padded)
    all_rows = np.concatenate([rows, np.repeat(rows[-1:], padded - len(rows))])
    x, y = examples.take(all_rows[here], epoch)
    local = weights[here]
    # one weight an example, spread over the axes of an image
    return Batch(x, y, local.reshape(len(local), *[1] * max(0, np.ndim(y) - 2)), len(rows))


def batches(
    examples: Examples, order: IntArray, size: int, epoch: int, running: Running, *, first: int = 0
) -> Iterator[tuple[Batch, float]]:
    """Batches from number ``first`` on, read one ahead in another thread; and the seconds waited for each."""
    starts = range(first * size, len(order), size)
    if not starts:
        return  # stopped behind the last step of an epoch: only its end is left to do
    with ThreadPoolExecutor(1) as reader:

        def ask(start: int) -> Future[Batch]:
            return reader.submit(read_batch, examples, order[start : start + size], epoch, running)

        following = [ask(start) for start in starts[:1]]
        for start in [*starts[1:], None]:
            asked = time.perf_counter()
            batch = following.pop().result()
            waited = time.perf_counter() - asked
            if start is not None:
                following.append(ask(start))
            yield batch, waited


def predict(
    model: keras.Model, examples: Examples, size: int, running: Running
) -> Iterator[tuple[IntArray, Arrays, npt.NDArray[np.float32]]]:
    """Yield rows, inputs and outputs batch by batch, in order, so that nothing is held whole.

    Every process of a multi-host job predicts everything.
    """
    for start in range(0, len(examples), size):
        rows = np.arange(start, min(start + size, len(examples)), dtype=np.int64)
        inputs, _ = examples.take(rows, 0)
        yield rows, inputs, running.engine.predict(model, inputs)
