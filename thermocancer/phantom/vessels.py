"""Branching superficial veins: warm lines on the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.anatomy import Body

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vessels:
    """Points along all veins of a body: arc position, height and depth in millimetres, warmth in degC."""

    arc: FloatArray
    height: FloatArray
    celsius: FloatArray
    depth: FloatArray
    branches: int


def grow(rng: np.random.Generator, body: Body, strength: float) -> Vessels:
    """Let veins wander over the breasts, the upper chest and the belly, and branch.

    ``strength`` scales their warmth; 0 leaves the veins there but cold.
    """
    walks: list[FloatArray] = []
    density = float(rng.uniform(0.5, 1.5))
    for breast in body.breasts:
        arc = breast.azimuth * body.arc_per_radian
        for _ in range(int(rng.poisson(6 * density)) + 2):
            angle = rng.uniform(0, 2 * np.pi)
            x = arc + breast.radius * 1.1 * float(np.cos(angle))
            y = breast.height + breast.radius * (0.2 + 1.1 * abs(float(np.sin(angle))))
            heading = float(np.arctan2(breast.height - y, arc - x)) + rng.normal(0, 0.7)
            _walk(
                rng,
                walks,
                (x, y),
                heading,
                strength * rng.uniform(0.3, 1.2),
                rng.uniform(2, 5),
                rng.uniform(60, 140),
                0,
            )
    for low, high, count in ((60.0, 150.0, 6), (-190.0, -90.0, 3)):
        for _ in range(int(rng.poisson(count * density))):
            x, y = rng.uniform(-1, 1) * body.half_width, rng.uniform(low, high)
            warm = strength * rng.uniform(0.2, 0.8)
            _walk(rng, walks, (x, y), rng.uniform(0, 2 * np.pi), warm, rng.uniform(2.5, 6), rng.uniform(60, 160), 0)
    points = np.concatenate(walks)
    return Vessels(points[:, 0], points[:, 1], points[:, 2], points[:, 3], len(walks))


def _walk(
    rng: np.random.Generator,
    walks: list[FloatArray],
    start: tuple[float, float],
    heading: float,
    celsius: float,
    depth: float,
    length: float,
    generation: int,
) -> None:
    """One vein as a random walk in 1 mm steps; it fades towards its end and may branch on the way."""
    steps = int(length)
    turns = heading + np.cumsum(rng.normal(0, 0.11, steps))
    arc = start[0] + np.cumsum(np.cos(turns))
    height = start[1] + np.cumsum(np.sin(turns))
    fade = np.minimum(1.0, np.minimum(np.arange(steps) / 8.0, np.arange(steps)[::-1] / 20.0))
    walks.append(np.stack([arc, height, celsius * fade, np.full(steps, depth)], axis=1))
    if generation >= 2:
        return
    for at in np.flatnonzero(rng.random(steps) < 0.018):
        side = rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0)
        _walk(
            rng, walks, (float(arc[at]), float(height[at])), float(turns[at]) + side,
            celsius * 0.7, depth, length * rng.uniform(0.35, 0.7), generation + 1,
        )  # fmt: skip


def warmth(vessels: Vessels, azimuth: FloatArray, heights: FloatArray, arc_per_radian: float) -> FloatArray:
    """Warmth in degC on a (heights, azimuth) grid: each vein blurred by the tissue above it."""
    from scipy.ndimage import gaussian_filter

    if not vessels.celsius.any():
        return np.zeros((len(heights), len(azimuth)))
    step_a = (azimuth[1] - azimuth[0]) * arc_per_radian
    step_y = heights[0] - heights[1]
    column = np.rint((vessels.arc / arc_per_radian - azimuth[0]) / (azimuth[1] - azimuth[0])).astype(np.int64)
    row = np.rint((heights[0] - vessels.height) / step_y).astype(np.int64)
    total = np.zeros((len(heights), len(azimuth)))
    inside = (column >= 0) & (column < len(azimuth)) & (row >= 0) & (row < len(heights))
    for low, high in ((0.0, 3.0), (3.0, 4.0), (4.0, 99.0)):
        chosen = inside & (vessels.depth >= low) & (vessels.depth < high)
        if not chosen.any():
            continue
        spread = float(min(max((low + min(high, 5.0)) / 2, 1.8), 4.5))
        layer = np.zeros_like(total)
        np.add.at(layer, (row[chosen], column[chosen]), vessels.celsius[chosen])
        # a line of unit weight a millimetre keeps its height when blurred across
        scale = np.sqrt(2 * np.pi) * spread / (step_a * step_y)
        total += gaussian_filter(layer, (spread / step_y, spread / step_a), mode="constant", truncate=3.0) * scale
    return total
