"""Left-right asymmetry: the one sign of disease that follows neither the date nor the room.

Inside one view the two sides lie on either side of the body's midline; between views, the right
and the left lateral (and oblique) views are compared. All indices are in degC, 0 for a symmetrical
body, and do not tell which side is warmer.
"""

from __future__ import annotations

import numpy as np

from thermocancer.data.cohort import FloatArray
from thermocancer.features.thermal import Mask

SIDES = (("Right45", "Left45"), ("Right", "Left"))
"""Pairs of views that show one side of the body each."""

PERCENTILES = (5, 25, 50, 75, 95)
PAIR_NAMES = ("mean", "sd", "p95", "distribution")
MIRROR_NAMES = (*PAIR_NAMES, "mirrored", "mirrored.p95")


def side_differences(one: FloatArray, other: FloatArray) -> FloatArray:
    """How different two sides are, from the temperatures of each, shapes (n,) and (m,): shape (4,), degC.

    Absolute differences of mean, standard deviation and 95th percentile, and the mean absolute
    difference of five percentiles (a coarse Wasserstein distance).
    """
    if one.size == 0 or other.size == 0:
        return np.zeros(len(PAIR_NAMES))
    first, second = np.percentile(one, PERCENTILES), np.percentile(other, PERCENTILES)
    return np.array([
        abs(one.mean() - other.mean()), abs(one.std() - other.std()),
        abs(first[-1] - second[-1]), np.abs(first - second).mean(),
    ])  # fmt: skip


def mirror_asymmetry(celsius: FloatArray, torso: Mask, midline: int) -> FloatArray:
    """The two sides of one view about the column ``midline``, shape (6,), degC, as ``MIRROR_NAMES``.

    ``celsius`` and ``torso`` have shape (height, width). The last two are the median and the 95th
    percentile of the absolute difference between each pixel and its mirror image.
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
