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


@dataclass(frozen=True)
class Mottle:
    """Patches of stronger and weaker perfusion: random values on two coarse grids of the body."""

    wide: FloatArray
    narrow: FloatArray


@dataclass(frozen=True)
class SkinMaps:
    """Maps on the skin grid, (rows, samples): steady degC without tumour, recovery shapes, tumour contrast.

    ``shapes`` (rank, rows, samples) goes with ``courses`` (rank, frames); ``tumour_shapes`` and
    ``tumour_courses`` likewise. ``arm`` holds (steady, shapes...) of the arms.
    """

    steady: FloatArray
    shapes: FloatArray
    courses: FloatArray
    contrast: FloatArray
    tumour_shapes: FloatArray
    tumour_courses: FloatArray


def draw_mottle(rng: np.random.Generator) -> Mottle:
    """Standard normal values; ``mottle_celsius`` scales and smooths them."""
    return Mottle(rng.standard_normal((14, 22)), rng.standard_normal((36, 60)))


def mottle_celsius(mottle: Mottle, grid: SkinGrid) -> FloatArray:
    """Smooth random warmth in degC on the skin grid."""
    return 0.32 * _smooth(mottle.wide, grid) + 0.28 * _smooth(mottle.narrow, grid)


def _smooth(values: FloatArray, grid: SkinGrid) -> FloatArray:
    """Cubic B-spline surface through coefficients laid over azimuth -3..3 and y -300..300 mm."""
    rows, columns = values.shape
    down = _spline((300.0 - grid.heights) / 600.0 * (rows - 3) + 1, rows)
    across = _spline((grid.azimuth + 3.0) / 6.0 * (columns - 3) + 1, columns)
    surface: FloatArray = 1.8 * (down @ values @ across.T)
    return surface


def _spline(position: FloatArray, count: int) -> FloatArray:
    """Cubic B-spline weights, (len(position), count)."""
    t = np.abs(position[:, None] - np.arange(count))
    return np.where(t < 1, 2 / 3 - t**2 + t**3 / 2, np.where(t < 2, (2 - t) ** 3 / 6, 0.0))


def exposure(body: Body, grid: SkinGrid) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(padding, factor on the heat transfer coefficient, areola mask 0..1) over the grid.

    Folds shelter the skin: under the breasts, between them and in the armpits still air insulates.
    """
    azimuth, y = grid.azimuth[None, :], grid.heights[:, None]
    shape = grid.radius.shape
    padding = np.zeros(shape)
    shelter = np.zeros(shape)
    areola = np.zeros(shape)
    for side, breast in enumerate(body.breasts):
        dome, u, v = body.breast_cap(side, azimuth, y)
        padding = np.maximum(padding, np.sqrt(dome) * min(1.0, breast.projection / 45.0))
        low = np.where(v < 0, v * (1.0 + 0.25 * (1 - breast.sag)), v)
        rho = np.sqrt(u**2 + low**2)
        medial = smooth_step(-u * np.sign(breast.azimuth) * 1.2) * smooth_step(0.9 - v)
        under = smooth_step(-v * 1.4 + 0.1)
        ring = np.exp(-(((rho - 1.03) / (0.10 + 0.10 * breast.sag)) ** 2))
        shelter = np.maximum(shelter, ring * np.maximum(under, 0.5 * medial) * (0.35 + 0.45 * breast.sag))
        areola = np.maximum(areola, smooth_step((0.20 - np.sqrt((u - 0.02) ** 2 + (v + 0.12) ** 2)) / 0.05))
    shoulder = (y - body.shoulder_height + 70.0) / 45.0
    armpit = np.exp(-(((np.abs(azimuth) - 1.30) / 0.28) ** 2) - shoulder**2)
    neck = smooth_step((y - body.shoulder_height + 25.0) / 60.0)
    shelter = np.maximum(shelter, np.maximum(0.60 * armpit, 0.45 * neck))
    return padding, 1.0 - shelter, areola


def build_maps(
    body: Body,
    grid: SkinGrid,
    table: ColumnTable,
    convection: float,
    mottle: Mottle,
    vessels: Vessels,
    tumour: tuple[Footprint, int, float, float] | None,
) -> SkinMaps:
    """Everything the camera needs. ``tumour`` is (footprint, side, u, v) or None."""
    padding, factor, areola = exposure(body, grid)
    steady, shapes = table.spread(padding, convection * factor)
    arc = arc_per_radian(body)
    relief = mottle_celsius(mottle, grid) + warmth(vessels, grid.azimuth, grid.heights, arc)
    steady = steady + relief - 0.5 * areola
    if tumour is None:
        none = np.zeros((0, *steady.shape))
        return SkinMaps(steady, shapes, table.courses, np.zeros_like(steady), none, np.zeros((0, 0)))
    footprint, side, u, v = tumour
    distance = distance_on_skin(body, grid, side, u, v)
    contrast = np.interp(distance, footprint.radius, footprint.steady, right=0.0)
    courses, tumour_shapes = np.zeros((0, 0)), np.zeros((0, *steady.shape))
    if len(footprint.course):
        left, size, right = np.linalg.svd(footprint.course - footprint.steady, full_matrices=False)
        rank = min(2, len(size))
        courses = (left[:, :rank] * size[:rank]).T
        tumour_shapes = np.array([np.interp(distance, footprint.radius, each, right=0.0) for each in right[:rank]])
    return SkinMaps(steady, shapes, table.courses, contrast, tumour_shapes, courses)


def arc_per_radian(body: Body) -> float:
    """Millimetres of skin a radian of azimuth, on the front of the chest."""
    return 0.62 * body.half_width + 0.38 * body.half_depth


def spot_on_breast(body: Body, side: int, u: float, v: float) -> tuple[float, float]:
    """(azimuth, height) of the point (u, v) of a breast."""
    breast = body.breasts[side]
    return breast.azimuth + u * breast.radius / arc_per_radian(body), breast.height + v * breast.radius


def distance_on_skin(body: Body, grid: SkinGrid, side: int, u: float, v: float) -> FloatArray:
    """Straight distance in metres of every grid point from the skin above the tumour."""
    azimuth, y = spot_on_breast(body, side, u, v)
    centre = float(body.radius(np.array([[azimuth]]), np.array([[y]]))[0, 0])
    r = grid.radius
    square = r**2 + centre**2 - 2 * r * centre * np.cos(grid.azimuth - azimuth) + (grid.heights[:, None] - y) ** 2
    return np.sqrt(np.maximum(square, 0.0)) * 1e-3
