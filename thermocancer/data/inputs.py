"""What a network is fed: batches of scaled temperatures or colour renderings, read as they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import InputSection
from thermocancer.data.exams import CentiCelsius, ExamSource, IntArray
from thermocancer.errors import ConfigError

Float32Array = npt.NDArray[np.float32]


def input_channels(config: InputSection) -> int:
    """1 for scaled temperatures, 3 for colour renderings."""
    return 1 if config.kind == "celsius" else 3


def network_input(source: ExamSource, view: str, rows: IntArray, config: InputSection) -> Float32Array:
    """One view of some exams as a network sees it, float32 (n, H, W, channels) in [0, 1].

    ``celsius``: (T - low) / (high - low), clipped, one channel (with range ``minmax`` each image's
    own low and high). ``rgb``: the colour rendering / 255. Raises ConfigError when the data set
    holds images and degrees are asked for.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if source.kind == "rgb":
        if config.kind == "celsius":
            raise ConfigError(
                "a data set of colour images has no degrees",
                where="input.kind",
                expected="rgb",
                found="celsius",
                hint="build the data set with dataset.source: matrices",
            )
        return source.rgb(view, rows).astype(np.float32) / np.float32(255)
    centi = source.centi_celsius(view, rows)
    return scale_celsius(centi, config.rendering) if config.kind == "celsius" else _coloured(centi, config.rendering)


def scale_celsius(centi: CentiCelsius, rendering: Rendering) -> Float32Array:
    """Hundredths of a degree (n, H, W) to float32 (n, H, W, 1) in [0, 1] over the rendering's range."""
    values = centi.astype(np.float32)
    if isinstance(rendering.range, CelsiusRange):
        low = np.float32(100 * rendering.range.low)
        span = np.float32(100 * (rendering.range.high - rendering.range.low))
    else:
        low = values.min(axis=(1, 2), keepdims=True)
        span = np.maximum(values.max(axis=(1, 2), keepdims=True) - low, 1)
    values -= low
    values /= span
    return np.clip(values, 0, 1, out=values)[..., np.newaxis]


def _coloured(centi: CentiCelsius, rendering: Rendering) -> Float32Array:
    from thermocancer.thermal.rendering import render_centi

    coloured: Float32Array = render_centi(centi, rendering).astype(np.float32)
    coloured /= np.float32(255)
    return coloured


class InputBatches:
    """Batches of one or several views, each read when it is asked for.

    A batch is ``(inputs, targets)``: ``inputs`` float32 (b, H, W, C), or a tuple of them with several
    views; ``targets`` the inputs themselves (an autoencoder) when ``labels`` is None, else float32
    (b,). With ``shuffle`` the order is a function of (seed, epoch) alone. The last batch may be
    shorter. ``as_keras`` wraps it for ``fit``.
    """

    def __init__(
        self,
        source: ExamSource,
        views: str | tuple[str, ...],
        rows: IntArray,
        config: InputSection,
        *,
        batch: int,
        labels: IntArray | None = None,
        seed: int = 0,
        shuffle: bool = False,
        epoch: int = 0,
    ) -> None:
        self.source, self.config, self.batch = source, config, batch
        self.views = (views,) if isinstance(views, str) else tuple(views)
        self.rows = np.asarray(rows, dtype=np.int64)
        self.labels = None if labels is None else np.asarray(labels, dtype=np.float32)
        self.seed, self.shuffle, self.epoch = seed, shuffle, epoch

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch)

    def order(self, epoch: int) -> IntArray:
        """Positions in ``rows`` in the order of one epoch."""
        if not self.shuffle:
            return np.arange(len(self.rows), dtype=np.int64)
        return np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))

    def read(self, number: int, epoch: int) -> tuple[Any, Any]:
        """Batch ``number`` of an epoch as (inputs, targets). IndexError beyond the last."""
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number} of {len(self)}")
        chosen = self.order(epoch)[number * self.batch : (number + 1) * self.batch]
        arrays = tuple(network_input(self.source, view, self.rows[chosen], self.config) for view in self.views)
        inputs = arrays[0] if len(arrays) == 1 else arrays
        return inputs, inputs if self.labels is None else self.labels[chosen]

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return self.read(number, self.epoch)


def as_keras(batches: InputBatches) -> Any:
    """A ``keras.utils.PyDataset`` over ``batches`` that decodes the next batch while one is trained on.

    Pass its ``follow_epochs`` callback to ``fit``: it sets ``epoch``, and with it the shuffled order,
    to ``batches.epoch`` plus the epochs this ``fit`` has begun. (Counting ``on_epoch_end`` calls would
    not do: Keras also makes one before the first epoch.)
    """
    import keras

    threads = 1 if keras.backend.backend() == "tensorflow" else 2  # tf.data prefetches by itself, JAX does not

    class KerasBatches(keras.utils.PyDataset):
        def __init__(self) -> None:
            super().__init__(workers=threads, use_multiprocessing=False, max_queue_size=2)
            self.epoch = batches.epoch
            self.follow_epochs = keras.callbacks.LambdaCallback(on_epoch_begin=self._begin)
            self._begun = 0

        def _begin(self, epoch: int, logs: object = None) -> None:
            self.epoch = batches.epoch + self._begun
            self._begun += 1

        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, number: int) -> tuple[Any, Any]:
            return batches.read(number, self.epoch)

    return KerasBatches()
