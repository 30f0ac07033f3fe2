"""Thermal statistics of one view: how warm the torso is, how unevenly, and where.

Everything is computed from degrees inside a torso mask, so that the room, the marker and the
frame say nothing here. Shapes: matrices (height, width) in degC, masks of the same shape.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import FloatArray

Mask = npt.NDArray[np.bool_]

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
GLOBAL_NAMES = ("mean", "sd", "skewness", "kurtosis", "range", "interquartile", *(f"p{each}" for each in PERCENTILES))
"""Fifteen numbers a view."""

GRID_ROWS, GRID_COLUMNS = 3, 2
REGION_PERCENTILES = (50, 95)
REGION_NAMES = tuple(
    f"region{row}{column}.p{each}"
    for row in range(GRID_ROWS)
    for column in range(GRID_COLUMNS)
    for each in REGION_PERCENTILES
)


def global_statistics(celsius: FloatArray, torso: Mask) -> FloatArray:
    """The fifteen statistics of ``GLOBAL_NAMES`` over the torso, shape (15,); degC where they have a unit.

    Skewness and kurtosis (excess) are the standardised third and fourth moments, 0 for a flat torso.
    """
    values = celsius[torso]
    mean, sd = values.mean(), values.std()
    standard = (values - mean) / sd if sd > 0 else np.zeros_like(values)
    percentiles = np.percentile(values, PERCENTILES)
    low, quarter, three_quarters, high = (percentiles[PERCENTILES.index(each)] for each in (1, 25, 75, 99))
    squared = standard * standard  # powers by multiplication: numpy's general power is ten times slower
    kurtosis = (squared * squared).mean() - 3.0 if sd > 0 else 0.0
    shape = (mean, sd, (squared * standard).mean(), kurtosis, high - low, three_quarters - quarter)
    return np.concatenate([shape, percentiles])


def region_percentiles(celsius: FloatArray, torso: Mask) -> FloatArray:
    """Median and 95th percentile of a 3 x 2 grid over the torso's bounding box, relative to the torso's median.

    Shape (12,), degC, in the order of ``REGION_NAMES``. A cell without torso is 0: as the median.
    """
    rows, columns = np.flatnonzero(torso.any(axis=1)), np.flatnonzero(torso.any(axis=0))
    middle = np.median(celsius[torso])
    row_edges = np.linspace(rows[0], rows[-1] + 1, GRID_ROWS + 1).astype(int)
    column_edges = np.linspace(columns[0], columns[-1] + 1, GRID_COLUMNS + 1).astype(int)
    found = []
    for top, bottom in pairwise(row_edges):
        for left, right in pairwise(column_edges):
            cell = celsius[top:bottom, left:right][torso[top:bottom, left:right]]
            found.append(np.percentile(cell, REGION_PERCENTILES) - middle if cell.size else np.zeros(2))
    return np.concatenate(found)
