"""Skin temperature of columns of tissue, at rest and while they recover from a fan.

A column is known by three numbers: ``padding`` (0: thin fat over muscle, as on the breastbone; 1: the
middle of the breast, thick fat and gland under curved skin), the heat transfer coefficient at its
skin, and the perfusion of its tissue relative to the parameter set. All combinations are solved at
once for a visit and interpolated over the body.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thermocancer.phantom import FloatArray, IntArray
from thermocancer.phantom.contrast import Cooling, significant, skin_course
from thermocancer.phantom.solver import Bioheat, Properties, Surroundings, column_mesh, properties_of
from thermocancer.phantom.tissue import Tissue

PADDING = np.linspace(0.0, 1.0, 5)
CONVECTION = np.array([2.5, 4.0, 6.0, 8.0, 10.0, 13.0])
PERFUSION = np.array([0.25, 0.5, 0.8, 1.3, 2.2, 4.5])
SHAPE = (len(PADDING), len(CONVECTION), len(PERFUSION))
CELLS, CELLS_OF_SKIN = 8, 3
"""Cells down a layer of tissue, and down a layer of skin thinner than a millimetre."""

RANK = 3
"""Courses in time that describe the recovery of every column to about a hundredth of a degree."""


@dataclass(frozen=True)
class ColumnTable:
    """Skin temperatures of all columns, ``SHAPE``, and their deficit while recovering.

    The deficit of column c in frame t is the sum over r of ``shapes[r, c] * courses[r, t]``.
    """

    steady: FloatArray
    shapes: FloatArray
    courses: FloatArray

    def spread(self, padding: FloatArray, convection: FloatArray, perfusion: FloatArray) -> FloatArray:
        """Steady temperature, then the deficit's shapes, at every point: (1 + rank, ...), trilinear."""
        places = [_place(padding, PADDING), _place(convection, CONVECTION), _place(perfusion, PERFUSION)]
        strides = (SHAPE[1] * SHAPE[2], SHAPE[2], 1)
        corner = sum(low * stride for (low, _), stride in zip(places, strides, strict=True))
        tables = np.concatenate([self.steady[None], self.shapes]).reshape(1 + len(self.shapes), -1)
        result = np.zeros((len(tables), *padding.shape))
        for number in range(8):
            bits = [number >> axis & 1 for axis in range(3)]
            weight = np.ones(padding.shape)
            for bit, (_, part) in zip(bits, places, strict=True):
                weight *= part if bit else 1.0 - part
            at = corner + sum(bit * stride for bit, stride in zip(bits, strides, strict=True))
            for values, table in zip(result, tables, strict=True):
                values += weight * table[at]
        return result


def _place(values: FloatArray, nodes: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index of the node below each value, and the share of the way to the next."""
    position = np.interp(values, nodes, np.arange(len(nodes), dtype=np.float64))
    low = np.minimum(position.astype(np.int64), len(nodes) - 2)
    return low, position - low


def tabulate(
    tissue: Tissue, padding_fat: float, curvature: float, cooling: Cooling | None, *, step_s: float = 7.5
) -> ColumnTable:
    """Solve all columns. ``padding_fat`` metres are added to the fat of the fullest column.

    ``curvature`` is that of the breast's skin in 1/m; the breastbone is flat.
    """
    columns = int(np.prod(SHAPE))
    padding, convection, perfusion = (
        each.ravel() for each in np.meshgrid(PADDING, CONVECTION, PERFUSION, indexing="ij")
    )
    model = _columns(tissue, padding, perfusion, padding_fat, curvature)
    surroundings = Surroundings(convection, tissue.ambient_celsius)
    state = model.steady(surroundings)
    steady = significant(model.skin_celsius(state, surroundings))
    if cooling is None:
        return ColumnTable(steady.reshape(SHAPE), np.zeros((0, *SHAPE)), np.zeros((0, 0)))
    # the fan reaches each piece of skin as still air does: in proportion to its own coefficient
    fan = Surroundings(np.asarray(cooling.fan.convection) * convection / tissue.convection, cooling.fan.ambient_celsius)
    course = skin_course(model, state, surroundings, replace(cooling, fan=fan), step_s)
    left, size, right = np.linalg.svd(significant(steady - course), full_matrices=False)
    rank = min(RANK, len(size), columns)
    return ColumnTable(steady.reshape(SHAPE), right[:rank].reshape(-1, *SHAPE), (left[:, :rank] * size[:rank]).T)


def _columns(
    tissue: Tissue, padding: FloatArray, perfusion: FloatArray, padding_fat: float, curvature: float
) -> Bioheat:
    edges = [np.zeros(len(padding))]
    materials = []
    for layer in tissue.layers:
        thickness = np.full(len(padding), layer.thickness)
        if layer.name == "fat":
            thickness = layer.thickness + padding_fat * padding
        elif layer.name == "gland":  # over the breastbone there is a tenth of it
            thickness = layer.thickness * (0.1 + 0.9 * padding)
        cells = CELLS_OF_SKIN if layer.thickness < 1e-3 else CELLS
        edges += [edges[-1] + thickness * (part + 1) / cells for part in range(cells)]
        materials += [layer.material] * cells
    depth = np.array(edges)
    # a column may not narrow to nothing before it reaches the core
    bend = np.minimum(curvature * padding, 0.8 / depth[-1])
    ones = np.ones(len(padding))
    factors, table = (ones, ones, perfusion, ones), properties_of(materials, tissue)
    properties = Properties(*(each[:, None] * factor for each, factor in zip(table, factors, strict=True)))
    return Bioheat(column_mesh(depth, bend), properties, tissue.core_celsius)
