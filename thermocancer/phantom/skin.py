"""The temperature of the whole skin of one visit: at rest, and how it recovers from cooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermocancer.phantom import FloatArray
from thermocancer.phantom.anatomy import Body, smooth_step
from thermocancer.phantom.camera import SkinGrid
from thermocancer.phantom.contrast import Footprint
from thermocancer.phantom.recovery import ColumnTable

MOTTLE = ((110.0, 0.18), (50.0, 0.28), (24.0, 0.27), (10.0, 0.20))
"""Patches of perfusion: spacing of their centres in millimetres, standard deviation of its logarithm."""

ARM_STEPS = 33
"""Points along the arm at which its temperature is known."""

ARM_SPREAD = 0.3
"""Standard deviation in degC of the pattern on the arms, which are drawn and not solved."""


# --- branching superficial veins: warm lines on the skin ----


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

    def walk(x: float, y: float, heading: float, celsius: float, depth: float, length: float, older: int = 0) -> None:
        """One vein as a random walk in 1 mm steps; it fades towards its end and may branch on the way."""
        steps = int(length)
        turns = heading + np.cumsum(rng.normal(0, 0.11, steps))
        arc, height = x + np.cumsum(np.cos(turns)), y + np.cumsum(np.sin(turns))
        fade = np.minimum(1.0, np.minimum(np.arange(steps) / 8.0, np.arange(steps)[::-1] / 20.0))
        walks.append(np.stack([arc, height, celsius * fade, np.full(steps, depth)], axis=1))
        if older >= 2:
            return
        for at in np.flatnonzero(rng.random(steps) < 0.018):
            aside = turns[at] + rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.0)
            walk(arc[at], height[at], aside, celsius * 0.7, depth, length * rng.uniform(0.35, 0.7), older + 1)

    density = float(rng.uniform(0.5, 1.5))
    for breast in body.breasts:
        arc = breast.azimuth * body.arc_per_radian
        for _ in range(int(rng.poisson(6 * density)) + 2):
            angle = rng.uniform(0, 2 * np.pi)
            x = arc + breast.radius * 1.1 * float(np.cos(angle))
            y = breast.height + breast.radius * (0.2 + 1.1 * abs(float(np.sin(angle))))
            heading = float(np.arctan2(breast.height - y, arc - x)) + rng.normal(0, 0.7)
            walk(x, y, heading, strength * rng.uniform(0.3, 1.2), rng.uniform(2, 5), rng.uniform(60, 140))
    for low, high, count in ((60.0, 150.0, 6), (-190.0, -90.0, 3)):
        for _ in range(int(rng.poisson(count * density))):
            x, y = rng.uniform(-1, 1) * body.half_width, rng.uniform(low, high)
            warm = strength * rng.uniform(0.2, 0.8)
            walk(x, y, rng.uniform(0, 2 * np.pi), warm, rng.uniform(2.5, 6), rng.uniform(60, 160))
    points = np.concatenate(walks)
    return Vessels(points[:, 0], points[:, 1], points[:, 2], points[:, 3], len(walks))


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


# --- blood, tumour and air over the skin --------------------------------------


@dataclass(frozen=True)
class Lesion:
    """A tumour as the skin knows it: its footprint, the breast (0 right, 1 left), where on it, what it does to it.

    ``response`` multiplies the perfusion of the whole breast: tumours dilate the vessels around them.
    """

    footprint: Footprint
    side: int
    u: float
    v: float
    response: float


@dataclass(frozen=True)
class SkinMaps:
    """Maps on the coarse skin grid, (rows, samples).

    ``steady`` degC with everything in it; ``shapes`` (rank, rows, samples) of the deficit whose
    ``courses`` (rank, frames) run in time; ``contrast`` degC of the tumour alone; ``arm`` (1 + rank,
    ``ARM_STEPS``) the same along the arms.
    """

    steady: FloatArray
    shapes: FloatArray
    courses: FloatArray
    contrast: FloatArray
    arm: FloatArray


@dataclass(frozen=True)
class Circulation:
    """How blood is spread over one body: patches at three scales, each breast's own level, the veins.

    ``patches`` holds one array of coefficients for each entry of ``MOTTLE``; ``breasts`` and ``level``
    are logarithms of perfusion relative to the parameter set. ``arms`` (2, along, across) is the pattern
    of the arms in degC.
    """

    patches: tuple[FloatArray, ...]
    breasts: tuple[float, float]
    vessels: Vessels
    arms: FloatArray
    level: float = 0.0

    def arm_pattern(self, along: FloatArray, around: FloatArray) -> FloatArray:
        """Pattern at places of ``camera.Sight.along`` and ``around``, both (n)."""
        from scipy.ndimage import map_coordinates

        _, steps, across = self.arms.shape
        left = (around > 1.5).astype(np.float64)
        place = [left, along * (steps - 1), (around - 3.0 * left + 1.0) * ((across - 1) / 2)]
        return np.asarray(map_coordinates(self.arms, place, order=1, mode="nearest"))


def draw_patches(rng: np.random.Generator, strength: float) -> tuple[FloatArray, ...]:
    """Coefficients of the patches over azimuth -3 to 3 and y -320 to 320 mm."""
    # a cubic B-spline surface through white noise has .48 of its standard deviation
    return tuple(
        strength * spread / 0.48 * rng.standard_normal((int(640 / spacing) + 4, int(6 * 140 / spacing) + 4))
        for spacing, spread in MOTTLE
    )


def draw_arms(rng: np.random.Generator, strength: float) -> FloatArray:
    """The pattern of both arms, (2, along, across) degC: patches of about 25 mm."""
    coarse = ARM_SPREAD * strength / 0.48 * rng.standard_normal((2, 15, 8))
    fine = np.linspace(1.5, 12.5, 61), np.linspace(1.5, 5.5, 25)
    down, across = _spline(fine[0], 15), _spline(fine[1], 8)
    return np.array([down @ each @ across.T for each in coarse])


def perfusion(body: Body, grid: SkinGrid, blood: Circulation, lesion: Lesion | None) -> FloatArray:
    """Perfusion relative to the parameter set, (rows, samples)."""
    logarithm = np.full(grid.radius.shape, blood.level)
    for patches in blood.patches:
        rows, columns = patches.shape
        down = _spline((320.0 - grid.heights) / 640.0 * (rows - 4) + 1.5, rows)
        across = _spline((grid.azimuth + 3.0) / 6.0 * (columns - 4) + 1.5, columns)
        logarithm += down @ patches @ across.T
    azimuth, y = grid.azimuth, grid.heights[:, None]
    for side in range(2):
        level = blood.breasts[side]
        if lesion is not None and lesion.side == side:
            level += float(np.log(lesion.response))
        if level:
            logarithm += level * smooth_step(2.0 * body.breast_cap(side, azimuth, y))
    return np.asarray(np.exp(logarithm))


def _spline(position: FloatArray, count: int) -> FloatArray:
    """Cubic B-spline weights, (len(position), count)."""
    t = np.abs(position[:, None] - np.arange(count))
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def exposure(body: Body, grid: SkinGrid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(padding 0..1, factor on the heat transfer coefficient, areola mask 0..1) over the grid.

    Folds shelter the skin: under the breasts, between them and in the armpits still air insulates.
    """
    azimuth, y = grid.azimuth, grid.heights[:, None]
    padding, shelter, areola = (np.zeros(grid.radius.shape) for _ in range(3))
    for side, breast in enumerate(body.breasts):
        u, v = body.breast_place(side, azimuth, y)
        dome = body.breast_cap(side, azimuth, y)
        padding = np.maximum(padding, np.minimum(dome, 1.0) ** 0.7 * min(1.0, breast.projection / 45.0))
        rho = np.sqrt(u**2 + (np.minimum(v, 0.0) * (1.15 - 0.2 * breast.sag)) ** 2)
        medial = smooth_step(-u * np.sign(breast.azimuth) * 1.3) * smooth_step(0.8 - v)
        under = smooth_step(-v * 1.5)
        ring = np.exp(-(((rho - 1.06) / (0.10 + 0.08 * breast.sag)) ** 2))
        shelter = np.maximum(shelter, ring * np.maximum(under, 0.55 * medial) * (0.30 + 0.40 * breast.sag))
        nipple = np.sqrt((u - 0.02) ** 2 + (v + 0.10) ** 2)
        areola = np.maximum(
            areola, 0.6 * smooth_step((0.21 - nipple) / 0.06) + 0.4 * smooth_step((0.09 - nipple) / 0.05)
        )
    shoulder = (y - body.shoulder_height + 85.0) / 50.0
    armpit = np.exp(-(((np.abs(azimuth) - 1.25) / 0.33) ** 2) - shoulder**2)
    neck = smooth_step((y - body.shoulder_height + 10.0) / 60.0)
    shelter = np.maximum(shelter, np.maximum(0.50 * armpit, 0.40 * neck))
    return padding, 1.0 - shelter, areola


def build_maps(
    body: Body, grid: SkinGrid, table: ColumnTable, convection: float, blood: Circulation, lesion: Lesion | None
) -> SkinMaps:
    """Lay the columns, the veins and the tumour over the body."""
    padding, factor, areola = exposure(body, grid)
    spread = table.spread(padding, convection * factor, perfusion(body, grid, blood, lesion))
    steady, shapes, courses = spread[0], spread[1:], table.courses
    steady = steady + warmth(blood.vessels, grid.azimuth, grid.heights, body.arc_per_radian) - 0.6 * areola
    contrast = np.zeros_like(steady)
    if lesion is not None:
        distance = distance_on_skin(body, grid, lesion)
        contrast = np.interp(distance, lesion.footprint.radius, lesion.footprint.steady, right=0.0)
        steady = steady + contrast
        if len(lesion.footprint.course):  # how the contrast differs from its steady one in time
            left, size, right = np.linalg.svd(lesion.footprint.steady - lesion.footprint.course, full_matrices=False)
            rank = min(2, len(size))
            fading = [np.interp(distance, lesion.footprint.radius, each, right=0.0) for each in right[:rank]]
            shapes = np.concatenate([shapes, fading])
            courses = np.concatenate([courses, (left[:, :rank] * size[:rank]).T])
    way = np.linspace(0.0, 1.0, ARM_STEPS)
    arm = table.spread(0.25 + 0.1 * way, convection * (0.95 + 0.35 * way), np.full(ARM_STEPS, np.exp(blood.level)))
    arm = np.concatenate([arm, np.zeros((len(shapes) + 1 - len(arm), ARM_STEPS))])
    return SkinMaps(steady, shapes, courses, contrast, arm)


def distance_on_skin(body: Body, grid: SkinGrid, lesion: Lesion) -> FloatArray:
    """Straight distance in metres of every grid point from the skin above the tumour."""
    azimuth, y = body.place_on(lesion.side, np.array([lesion.u]), np.array([[lesion.v]]))
    centre = float(body.radius(azimuth, y)[0, 0])
    r = grid.radius
    square = r**2 + centre**2 - 2 * r * centre * np.cos(grid.azimuth - azimuth) + (grid.heights[:, None] - y) ** 2
    return np.sqrt(np.maximum(square, 0.0)) * 1e-3
