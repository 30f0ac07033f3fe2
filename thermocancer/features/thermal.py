"""What is measured of one thermogram: how warm its skin is, how unevenly, where, and how unlike on its two sides.

Everything is computed from degrees inside a mask of the skin, so that room, marker and frame say nothing here.
Shapes: matrices (height, width) in degC, NaN where missing, masks of the same shape. Asymmetry, the one sign
of disease that follows neither the date nor the room, compares the sides of the body's midline in one view, or a right
view with its left one. All its indices are in degC, 0 for a symmetrical body, and do not tell which side is warmer.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np

from thermocancer.data.cohort import BoolArray, FloatArray
from thermocancer.thermal.regions import find_marker, torso_mask

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
GLOBAL_NAMES = ("mean", "sd", "skewness", "kurtosis", "range", "interquartile", *(f"p{each}" for each in PERCENTILES))
"""Fifteen numbers a view."""

GRID, REGION_PERCENTILES = (3, 2), (50, 95)
REGION_NAMES = tuple(f"region{row}{column}.p{each}" for row, column in np.ndindex(GRID) for each in REGION_PERCENTILES)

SIDES = (("Right45", "Left45"), ("Right", "Left"))
"""Pairs of views that show one side of the body each."""

SIDE_PERCENTILES = (5, 25, 50, 75, 95)
PAIR_NAMES = ("mean", "sd", "p95", "distribution")
MIRROR_NAMES = (*PAIR_NAMES, "mirrored", "mirrored.p95")


def skin_of(celsius: FloatArray) -> BoolArray:
    """What features are measured on: the torso without the burned-in marker, a mask that is never empty."""
    torso = torso_mask(celsius)
    marker = find_marker(celsius, torso)
    return torso if marker is None or (torso <= marker.mask).all() else torso & ~marker.mask


def global_statistics(celsius: FloatArray, torso: BoolArray) -> FloatArray:
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


def region_percentiles(celsius: FloatArray, torso: BoolArray) -> FloatArray:
    """Median and 95th percentile of a 3 x 2 grid over the torso's bounding box, relative to the torso's median.

    Shape (12,), degC, in the order of ``REGION_NAMES``. A cell without torso is 0: as the median.
    """
    box = (np.flatnonzero(torso.any(axis=1)), np.flatnonzero(torso.any(axis=0)))
    edges = [np.linspace(at[0], at[-1] + 1, cells + 1).astype(int) for at, cells in zip(box, GRID, strict=True)]
    middle = np.median(celsius[torso])
    found = []
    for (top, bottom), (left, right) in product(*map(pairwise, edges)):
        cell = celsius[top:bottom, left:right][torso[top:bottom, left:right]]
        found.append(np.percentile(cell, REGION_PERCENTILES) - middle if cell.size else np.zeros(2))
    return np.concatenate(found)


def side_differences(one: FloatArray, other: FloatArray) -> FloatArray:
    """How different two sides are, from the temperatures of each, shapes (n,) and (m,): shape (4,), degC.

    Absolute differences of mean, standard deviation and 95th percentile, and the mean absolute difference of five
    percentiles (a coarse Wasserstein distance).
    """
    if one.size == 0 or other.size == 0:
        return np.zeros(len(PAIR_NAMES))
    first, second = np.percentile(one, SIDE_PERCENTILES), np.percentile(other, SIDE_PERCENTILES)
    moments = (abs(one.mean() - other.mean()), abs(one.std() - other.std()))
    return np.array([*moments, abs(first[-1] - second[-1]), np.abs(first - second).mean()])


def mirror_asymmetry(celsius: FloatArray, torso: BoolArray, midline: int) -> FloatArray:
    """The two sides of one view about the column ``midline``, shape (6,), degC, as ``MIRROR_NAMES``.

    The last two are the median and the 95th percentile of how far each pixel is from its mirror image.
    """
    width = celsius.shape[1]
    middle = min(max(midline, 1), width - 1)
    reach = min(middle, width - middle)
    left, left_torso = celsius[:, :middle], torso[:, :middle]
    right, right_torso = celsius[:, middle:], torso[:, middle:]
    sides = side_differences(left[left_torso], right[right_torso])
    both = left_torso[:, middle - reach :][:, ::-1] & right_torso[:, :reach]
    apart = np.abs(left[:, middle - reach :][:, ::-1] - right[:, :reach])[both]
    mirrored = np.percentile(apart, (50, 95)) if apart.size else np.zeros(2)
    return np.concatenate([sides, mirrored])


def area_weights(size: int, reduced: int) -> FloatArray:
    """Matrix (reduced, size) that averages ``size`` samples over ``reduced`` equal stretches.

    A sample across an edge counts in both stretches, by its share. Where ``reduced`` is larger, samples are repeated.
    """
    edges, sample = np.linspace(0.0, size, reduced + 1)[:, None], np.arange(size)[None, :]
    overlap = np.clip(np.minimum(edges[1:], sample + 1) - np.maximum(edges[:-1], sample), 0.0, None)
    return np.asarray(overlap / overlap.sum(axis=1, keepdims=True))


def reduce_area(images: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Average images (n, height, width) down to (n, rows, columns): the plainest image features there are."""
    rows, columns = (area_weights(size, reduced) for size, reduced in zip(images.shape[1:], shape, strict=True))
    return np.asarray(rows @ images @ columns.T)
