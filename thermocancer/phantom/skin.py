"""The temperature of the whole skin of one visit: at rest, and how it recovers from cooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.anatomy import Body, smooth_step
from thermocancer.phantom.camera import SkinGrid
from thermocancer.phantom.contrast import Footprint
from thermocancer.phantom.recovery import ColumnTable
from thermocancer.phantom.vessels import Vessels, warmth

FloatArray = npt.NDArray[np.float64]

MOTTLE = ((110.0, 0.18), (50.0, 0.28), (24.0, 0.27), (10.0, 0.20))
"""Patches of perfusion: spacing of their centres in millimetres, standard deviation of its logarithm."""

ARM_STEPS = 33
"""Points along the arm at which its temperature is known."""

ARM_SPREAD = 0.3
"""Standard deviation in degC of the pattern on the arms, which are drawn and not solved."""


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
    result = []
    for spacing, spread in MOTTLE:
        rows, columns = int(640 / spacing) + 4, int(6 * 140 / spacing) + 4
        # a cubic B-spline surface through white noise has .48 of its standard deviation
        result.append(strength * spread / 0.48 * rng.standard_normal((rows, columns)))
    return tuple(result)


def draw_arms(rng: np.random.Generator, strength: float) -> FloatArray:
    """The pattern of both arms, (2, along, across) degC: patches of about 25 mm."""
    coarse = ARM_SPREAD * strength / 0.48 * rng.standard_normal((2, 15, 8))
    fine = np.linspace(1.5, 12.5, 61), np.linspace(1.5, 5.5, 25)
    down, across = _spline(fine[0], 15), _spline(fine[1], 8)
    return np.array([down @ each @ across.T for each in coarse])


def perfusion(body: Body, grid: SkinGrid, blood: Circulation, lesion: Lesion | None) -> FloatArray:
    """Perfusion relative to the parameter set, (rows, samples)."""
    logarithm = sum((_spline_surface(each, grid) for each in blood.patches), np.full(grid.radius.shape, blood.level))
    azimuth, y = grid.azimuth, grid.heights[:, None]
    for side in range(2):
        level = blood.breasts[side]
        if lesion is not None and lesion.side == side:
            level += float(np.log(lesion.response))
        if level:
            logarithm += level * smooth_step(2.0 * body.breast_cap(side, azimuth, y))
    return np.exp(logarithm)


def _spline_surface(values: FloatArray, grid: SkinGrid) -> FloatArray:
    rows, columns = values.shape
    down = _spline((320.0 - grid.heights) / 640.0 * (rows - 4) + 1.5, rows)
    across = _spline((grid.azimuth + 3.0) / 6.0 * (columns - 4) + 1.5, columns)
    surface: FloatArray = down @ values @ across.T
    return surface


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
        extra, extra_courses = _fading(lesion.footprint, distance)
        shapes, courses = np.concatenate([shapes, extra]), np.concatenate([courses, extra_courses])
    way = np.linspace(0.0, 1.0, ARM_STEPS)
    arm = table.spread(0.25 + 0.1 * way, convection * (0.95 + 0.35 * way), np.full(ARM_STEPS, np.exp(blood.level)))
    arm = np.concatenate([arm, np.zeros((len(shapes) + 1 - len(arm), ARM_STEPS))])
    return SkinMaps(steady, shapes, courses, contrast, arm)


def _fading(footprint: Footprint, distance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How the tumour's contrast differs from its steady one in time, as shapes on the grid and courses."""
    if not len(footprint.course):
        return np.zeros((0, *distance.shape)), np.zeros((0, 0))
    left, size, right = np.linalg.svd(footprint.steady - footprint.course, full_matrices=False)
    rank = min(2, len(size))
    shapes = [np.interp(distance, footprint.radius, each, right=0.0) for each in right[:rank]]
    return np.array(shapes), (left[:, :rank] * size[:rank]).T


def distance_on_skin(body: Body, grid: SkinGrid, lesion: Lesion) -> FloatArray:
    """Straight distance in metres of every grid point from the skin above the tumour."""
    breast = body.breasts[lesion.side]
    azimuth = breast.azimuth + lesion.u * breast.radius / body.arc_per_radian
    y = breast.height + lesion.v * breast.radius
    centre = float(body.radius(np.array([azimuth]), np.array([[y]]))[0, 0])
    r = grid.radius
    square = r**2 + centre**2 - 2 * r * centre * np.cos(grid.azimuth - azimuth) + (grid.heights[:, None] - y) ** 2
    return np.sqrt(np.maximum(square, 0.0)) * 1e-3
