"""Where the body is in a matrix: warmer than Otsu's threshold between room and skin."""

from __future__ import annotations

import numpy as np

from thermocancer.data.exams import FloatArray
from thermocancer.features.thermal import Mask


def torso_of(celsius: FloatArray) -> Mask:
    """Mask (H, W) of a matrix (H, W); everything where no threshold separates two levels."""
    low, high = float(celsius.min()), float(celsius.max())
    if high - low < 1e-9:
        return np.ones(celsius.shape, bool)
    counts, edges = np.histogram(celsius, bins=256, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return np.asarray(celsius > edges[1:][int(np.nanargmax(spread))])


def midline_of(torso: Mask) -> float:
    """Column about which the torso is balanced: the mean over rows of the middle of each row's span."""
    rows = torso.any(axis=1)
    first = torso.argmax(axis=1)[rows]
    last = torso.shape[1] - 1 - torso[:, ::-1].argmax(axis=1)[rows]
    return float(np.median((first + last) / 2.0)) + 0.5
