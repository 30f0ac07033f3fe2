"""Skin temperature of columns of tissue, at rest and while they recover from a fan.

A column is known by two numbers: ``padding`` (0: thin fat over muscle, as on the breastbone; 1: the
middle of the breast, thick fat and gland) and the heat transfer coefficient at its skin. Both are
tabulated once a visit and interpolated over the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.contrast import SIGNIFICANT_CELSIUS, Cooling, skin_course
from thermocancer.phantom.mesh import column_mesh
from thermocancer.phantom.solver import Bioheat, Properties, Surroundings
from thermocancer.phantom.tissue import Tissue

FloatArray = npt.NDArray[np.float64]

PADDING = np.linspace(0.0, 1.0, 7)
CONVECTION = np.array([2.5, 4.0, 6.0, 8.0, 10.0, 13.0, 17.0])
RANK = 3
"""Courses in time that describe the recovery of every column to better than a hundredth of a degree."""


@dataclass(frozen=True)
class ColumnTable:
    """Skin temperatures of all columns, (padding, convection), and their deficit while recovering.

    The deficit of column (p, c) in frame t is the sum over r of ``shapes[r, p, c] * courses[r, t]``.
    """

    steady: FloatArray
    shapes: FloatArray
    courses: FloatArray

    def spread(self, padding: FloatArray, convection: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Bilinear interpolation: steady temperature and the deficit's shapes (rank, ...) at every point."""
        p = np.clip(padding, 0.0, 1.0) * (len(PADDING) - 1)
        c = np.interp(convection, CONVECTION, np.arange(len(CONVECTION), dtype=float))
        low_p = np.minimum(p.astype(np.int64), len(PADDING) - 2)
        low_c = np.minimum(c.astype(np.int64), len(CONVECTION) - 2)
        p -= low_p
        c -= low_c
        corner = low_p * len(CONVECTION) + low_c
        tables = [self.steady.ravel(), *(each.ravel() for each in self.shapes)]
        found = [_bilinear(table, corner, p, c, len(CONVECTION)) for table in tables]
        return found[0], np.array(found[1:]).reshape(-1, *found[0].shape)


def _bilinear(
    table: FloatArray, corner: npt.NDArray[np.int64], p: FloatArray, c: FloatArray, stride: int
) -> FloatArray:
    near: FloatArray = table[corner] * (1 - c) + table[corner + 1] * c
    far: FloatArray = table[corner + stride] * (1 - c) + table[corner + stride + 1] * c
    return near + p * (far - near)


def tabulate(tissue: Tissue, extra_fat: float, cooling: Cooling | None, *, step_s: float = 7.5) -> ColumnTable:
    """Solve all columns at once. ``extra_fat`` metres are added to the fat of the fullest column."""
    thickness = _thicknesses(tissue, extra_fat)
    columns = len(PADDING) * len(CONVECTION)
    per_layer = 12
    tops = np.zeros(columns)
    edges, rows = [tops], []
    for layer, depth in zip(tissue.layers, thickness, strict=True):
        depth = np.repeat(depth, len(CONVECTION))
        edges += [edges[-1] + depth * (part + 1) / per_layer for part in range(per_layer)]
        rows += [layer.material] * per_layer
    mesh = column_mesh(np.array(edges))
    values = [
        np.repeat(np.array(row)[:, None], columns, axis=1)
        for row in (
            [m.conductivity for m in rows],
            [m.density * m.heat_capacity for m in rows],
            [m.perfusion * tissue.blood for m in rows],
            [m.heat for m in rows],
        )
    ]
    model = Bioheat(mesh, Properties(*values), tissue.core_celsius)
    surroundings = Surroundings(np.tile(CONVECTION, len(PADDING)), tissue.ambient_celsius)
    state = model.steady(surroundings)
    steady = model.skin_celsius(state, surroundings)
    shape = (len(PADDING), len(CONVECTION))
    if cooling is None:
        return ColumnTable(_rounded(steady).reshape(shape), np.zeros((0, *shape)), np.zeros((0, 0)))
    # the fan reaches each piece of skin as still air does: in proportion to its own coefficient
    reach = np.tile(CONVECTION, len(PADDING)) / tissue.convection
    fan = Surroundings(np.asarray(cooling.fan.convection) * reach, cooling.fan.ambient_celsius)
    course = skin_course(model, state, surroundings, replace(cooling, fan=fan), step_s)
    shapes, courses = _low_rank(_rounded(steady - course))
    return ColumnTable(_rounded(steady).reshape(shape), shapes.reshape(-1, *shape), courses)


def _thicknesses(tissue: Tissue, extra_fat: float) -> list[FloatArray]:
    """Thickness of each layer for every padding: a column thins to a third of its fat and a tenth of its gland."""
    result = []
    for layer in tissue.layers:
        if layer.name == "fat":
            result.append(layer.thickness * (0.8 + 0.2 * PADDING) + extra_fat * PADDING)
        elif layer.name == "gland":
            result.append(layer.thickness * (0.1 + 0.9 * PADDING))
        else:
            result.append(np.full(len(PADDING), layer.thickness))
    return result


def _rounded(celsius: FloatArray) -> FloatArray:
    return np.round(celsius / SIGNIFICANT_CELSIUS) * SIGNIFICANT_CELSIUS


def _low_rank(deficit: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split (frames, columns) into (rank, columns) shapes and (rank, frames) courses."""
    left, size, right = np.linalg.svd(deficit, full_matrices=False)
    rank = min(RANK, len(size))
    return right[:rank], (left[:, :rank] * size[:rank]).T
