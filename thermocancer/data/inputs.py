"""What a network is fed of some exams: scaled temperatures or colour renderings, read as they are needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import CentiCelsius, Cohort, IntArray, centi_celsius, colours
from thermocancer.errors import ConfigError

Float32Array = npt.NDArray[np.float32]


def input_channels(config: InputSection) -> int:
    """1 for scaled temperatures, 3 for colour renderings."""
    return 1 if config.kind == "celsius" else 3


def network_input(source: Cohort, view: str, rows: IntArray, config: InputSection) -> Float32Array:
    """One view of some exams as a network sees it, float32 (n, H, W, channels) in [0, 1].

    ``celsius``: (T - low) / (high - low), clipped, one channel (with range ``minmax`` each image's
    own low and high). ``rgb``: the colour rendering / 255. Raises ConfigError when the data set
    holds images and degrees are asked for.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if source.kind == "rgb":
        if config.kind == "celsius":
            raise ConfigError(
                "a data set of colour images has no degrees", where="input.kind", expected="rgb", found="celsius",
                hint="build the data set with dataset.source: matrices",
            )  # fmt: skip
        return colours(source, view, rows).astype(np.float32) / np.float32(255)
    centi = centi_celsius(source, view, rows)
    if config.kind == "celsius":
        return scale_celsius(centi, config.rendering)
    from thermocancer.thermal.rendering import render_centi

    coloured: Float32Array = render_centi(centi, config.rendering).astype(np.float32)
    coloured /= np.float32(255)
    return coloured


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
