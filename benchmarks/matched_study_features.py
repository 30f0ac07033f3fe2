"""Left against right breast on straightened, mirror-registered maps: the features of ``matched_study.py``.

Each side of a frontal thermogram is sampled between the body's axis and its outline, row by row, so that
place (row, column) of one map mirrors the same place of the other whatever the tilt, the framing or the
width of the body. The burned-in marker is left out on both sides. All figures are left minus right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import Cohort, FloatArray, centi_celsius
from thermocancer.thermal.regions import find_marker, torso_mask

ROWS, COLUMNS = 96, 48
"""Size of a map of one side."""

BAND = (0.35, 0.85)
"""Rows of the breasts, shares of the frame's height: below the armpits, above the waist."""

REACH = (0.04, 0.94)
"""From the axis (0) to the outline (1): without the axis itself and the outline's cold rim."""

HOT_CELSIUS = 0.5
"""A place this much warmer than its mirror image is hot."""

SMOOTHING = 2.0
"""Standard deviation of the Gaussian, in places of a map, before places are compared: registration is no finer."""

VESSEL_SCALES = (1.0, 4.0)
"""Band (standard deviations of two Gaussians) in which vessels show."""

QUADRANTS: tuple[tuple[str, Any], ...] = tuple(
    (name, np.s_[rows, columns])
    for name, rows, columns in (
        ("upper inner", slice(None, ROWS // 2), slice(None, COLUMNS // 2)),
        ("upper outer", slice(None, ROWS // 2), slice(COLUMNS // 2, None)),
        ("lower inner", slice(ROWS // 2, None), slice(None, COLUMNS // 2)),
        ("lower outer", slice(ROWS // 2, None), slice(COLUMNS // 2, None)),
    )
)

SIGNED_NAMES = (
    "mean",
    *(f"mean {name}" for name, _ in QUADRANTS),
    *(f"p95 {name}" for name, _ in QUADRANTS),
    "vessels upper",
    "vessels lower",
    "hot area",
)
"""Columns of the signed vector: degC; vessels: logarithm of a ratio; hot area: share of the map."""

INDEX_NAMES = ("local", "vessels")
"""Two more numbers without a sign: 95th percentile of the local difference, degC; vessels of the whole map."""


@dataclass(frozen=True)
class Sides:
    """Maps of the picture's left and right side, degC, (ROWS, COLUMNS) each; ``valid`` where both show skin."""

    left: FloatArray
    right: FloatArray
    valid: npt.NDArray[np.bool_]


def straighten(celsius: FloatArray) -> Sides:
    """The two sides of a frontal matrix (H, W) in degC, registered about the body's axis."""
    import cv2

    height = 240
    size = (height * celsius.shape[1] // celsius.shape[0], height)
    small = cv2.resize(celsius.astype(np.float32), size, interpolation=cv2.INTER_AREA).astype(np.float32)
    torso = torso_mask(small)
    marker = find_marker(small, torso)
    hidden = np.zeros(small.shape, np.float32)
    if marker is not None:
        hidden = cv2.dilate(marker.mask.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(np.float32)
    hidden = np.maximum(hidden, (~torso).astype(np.float32))
    rows = np.linspace(BAND[0] * height, BAND[1] * height - 1, ROWS)
    axis, first, last = _outline(torso, rows)
    share = np.linspace(*REACH, COLUMNS)
    maps = []
    for edge in (first, last):
        x = (axis[:, None] + (edge - axis)[:, None] * share).astype(np.float32)
        y = np.repeat(rows[:, None], COLUMNS, axis=1).astype(np.float32)
        maps.append((cv2.remap(small, x, y, cv2.INTER_LINEAR), cv2.remap(hidden, x, y, cv2.INTER_LINEAR) == 0))
    (left, left_seen), (right, right_seen) = maps
    return Sides(left.astype(np.float64), right.astype(np.float64), left_seen & right_seen)


def _outline(torso: npt.NDArray[np.bool_], rows: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The body's axis (a straight line through the rows' centres) and its two edges at ``rows``, in columns."""
    body = torso[rows.round().astype(int)]
    width = body.shape[1]
    first, last = body.argmax(axis=1).astype(float), (width - 1 - body[:, ::-1].argmax(axis=1)).astype(float)
    slope, level = np.polyfit(rows, (first + last) / 2, 1)
    axis = np.clip(slope * rows + level, 2, width - 3)
    return axis, np.minimum(first, axis - 1), np.maximum(last, axis + 1)


def compare_sides(sides: Sides) -> FloatArray:
    """``SIGNED_NAMES`` then ``INDEX_NAMES`` of one exam, shape (14,)."""
    apart = _smooth(sides.left - sides.right, SMOOTHING, sides.valid)
    quadrants = [(sides.left[each][sides.valid[each]], sides.right[each][sides.valid[each]]) for _, each in QUADRANTS]
    means = [_difference(np.mean, one, other) for one, other in quadrants]
    warmest = [_difference(lambda each: np.percentile(each, 95), one, other) for one, other in quadrants]
    vessels = [_vessel_energy(each, sides.valid) for each in (sides.left, sides.right)]
    halves = (slice(None, ROWS // 2), slice(ROWS // 2, None), slice(None))
    upper, lower, whole = (_log_ratio(vessels[0][half], vessels[1][half], sides.valid[half]) for half in halves)
    seen = apart[sides.valid]
    hot = float((seen > HOT_CELSIUS).mean() - (seen < -HOT_CELSIUS).mean())
    local = float(np.percentile(np.abs(seen - np.median(seen)), 95))
    return np.array([float((sides.left - sides.right)[sides.valid].mean()), *means, *warmest, upper, lower, hot,
                     local, whole])  # fmt: skip


def _difference(statistic: Callable[[FloatArray], Any], one: FloatArray, other: FloatArray) -> float:
    """Left less right; 0 where nothing of the quadrant shows."""
    return float(statistic(one) - statistic(other)) if one.size else 0.0


def _smooth(values: FloatArray, scale: float, valid: npt.NDArray[np.bool_]) -> FloatArray:
    """Gaussian mean over valid places only, same shape."""
    import cv2

    weight = cv2.GaussianBlur(valid.astype(np.float64), (0, 0), scale)
    total = cv2.GaussianBlur(np.where(valid, values, 0.0), (0, 0), scale)
    return np.divide(total, weight, out=np.zeros_like(values), where=weight > 1e-6)


def _vessel_energy(side: FloatArray, valid: npt.NDArray[np.bool_]) -> FloatArray:
    """Squared band-passed temperature at each place, degC squared."""
    fine, coarse = (_smooth(side, scale, valid) for scale in VESSEL_SCALES)
    squared: FloatArray = (fine - coarse) ** 2
    return squared


def _log_ratio(left: FloatArray, right: FloatArray, valid: npt.NDArray[np.bool_]) -> float:
    if not valid.any():
        return 0.0
    return float(np.log((left[valid].mean() + 1e-6) / (right[valid].mean() + 1e-6)) / 2)


def side_table(source: Cohort, planted: FloatArray | None = None, seed: int = 0) -> FloatArray:
    """``compare_sides`` of every exam's frontal view, shape (n, 14).

    ``planted`` (n,) degC: so warm a spot is added on one side, drawn by chance, for a study of power.
    """
    found = []
    for row in range(len(source.exams)):
        sides = straighten(centi_celsius(source, "Frontal", np.array([row]))[0] / 100.0)
        if planted is not None and planted[row]:
            sides = plant(sides, float(planted[row]), np.random.default_rng([seed, 6, row]))
        found.append(compare_sides(sides))
    return np.array(found)


def plant(sides: Sides, celsius: float, random: np.random.Generator) -> Sides:
    """A warm spot (Gaussian, a fifth of a breast wide) somewhere in the middle of one side."""
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    row, column = random.uniform(0.2 * ROWS, 0.7 * ROWS), random.uniform(0.25 * COLUMNS, 0.75 * COLUMNS)
    distance = np.hypot((rows - row) / (ROWS / 10), (columns - column) / (COLUMNS / 10))
    spot = celsius * np.exp(-(distance**2) / 2)
    if random.integers(2):
        return Sides(sides.left + spot, sides.right, sides.valid)
    return Sides(sides.left, sides.right + spot, sides.valid)
