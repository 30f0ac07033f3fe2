"""From temperatures to colours: a function of matrix, range and colour map, by table lookup."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.errors import ConfigError, DataError

Colours = npt.NDArray[np.uint8]
COLOURS = 256


@lru_cache(maxsize=32)
def colour_table(name: str) -> Colours:
    """The 256 colours of a matplotlib colour map, uint8 RGB (256, 3); ``gray`` needs no matplotlib.

    Raises ConfigError with the nearest names for a map that matplotlib does not have.
    """
    if name == "gray":
        table = np.repeat(np.arange(COLOURS, dtype=np.uint8)[:, None], 3, axis=1)
    else:
        import matplotlib

        if name not in matplotlib.colormaps:
            import difflib

            close = difflib.get_close_matches(name, list(matplotlib.colormaps))
            raise ConfigError(
                f"there is no colour map {name!r}",
                where="rendering.colormap",
                expected="the name of a matplotlib colour map",
                hint=f"did you mean {close[0]!r}?" if close else "viridis, prism, jet and gray are usual",
            )
        # the middle of each 256th of [0, 1]: exact for maps of 256 colours, and right for shorter ones
        middles = (np.arange(COLOURS) + 0.5) / COLOURS
        table = matplotlib.colormaps[name](middles, bytes=True)[:, :3].copy()
    table.setflags(write=False)
    return table


def render(celsius: npt.NDArray[np.floating], rendering: Rendering) -> Colours:
    """Colour a matrix in degrees Celsius: (height, width) to uint8 RGB (height, width, 3).

    The pixels are those of ``matplotlib``'s map on ``(celsius - low) / (high - low)``; below and above
    a fixed range the first and last colour. Raises DataError for values that are not finite, and for
    a flat matrix under ``minmax`` (its range would be zero).
    """
    return colour_table(rendering.colormap).take(levels(celsius, rendering), axis=0)


def levels(celsius: npt.NDArray[np.floating], rendering: Rendering) -> npt.NDArray[np.uint8]:
    """Which of the 256 colours each temperature gets: any shape to uint8. Raises as ``render`` does."""
    low, high = _range_of(celsius, rendering)
    scaled = (celsius - low) * (COLOURS / (high - low))
    np.clip(scaled, 0, COLOURS - 1, out=scaled)
    return scaled.astype(np.uint8)


def levels_of_centi(centi: npt.NDArray[np.uint16], rendering: Rendering) -> npt.NDArray[np.uint8]:
    """``levels`` of one matrix in hundredths of a degree, each temperature that occurs computed once."""
    lowest, highest = int(centi.min()), int(centi.max())
    if highest == lowest:
        return levels(centi / 100.0, rendering)
    possible = np.arange(lowest, highest + 1) / 100.0
    return levels(possible, rendering).take(centi - np.uint16(lowest))


def render_centi(centi: npt.NDArray[np.uint16], rendering: Rendering) -> Colours:
    """Colour hundredths of a degree: (height, width) or (n, height, width) to uint8 RGB (..., 3).

    ``minmax`` is taken of each matrix by itself. Raises DataError as ``render`` does.
    """
    table = colour_table(rendering.colormap)
    if centi.ndim == 2:
        return table.take(levels_of_centi(centi, rendering), axis=0)
    coloured = np.empty((*centi.shape, 3), np.uint8)
    for each, matrix in zip(coloured, centi, strict=True):
        table.take(levels_of_centi(matrix, rendering), axis=0, out=each)
    return coloured


def _range_of(celsius: npt.NDArray[np.floating], rendering: Rendering) -> tuple[float, float]:
    lowest, highest = float(celsius.min()), float(celsius.max())  # NaN if there is one
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise DataError("a matrix with values that are not finite cannot be coloured", found=f"{lowest}, {highest}")
    if isinstance(rendering.range, CelsiusRange):
        return rendering.range.low, rendering.range.high
    if highest <= lowest:
        raise DataError(
            "a flat matrix has no range to stretch",
            expected="at least two temperatures",
            found=f"{lowest:g} degC everywhere",
            hint="filter drops such exams; a fixed range can show it",
        )
    return lowest, highest
