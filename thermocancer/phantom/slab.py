"""The exact one-dimensional solution of the bioheat equation in a layered slab, steady state."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.tissue import Layer, Tissue

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SlabSolution:
    """Temperature of each layer as offset + a e1(z) + b e2(z), z measured down from its top."""

    tissue: Tissue
    coefficients: FloatArray

    @property
    def skin_celsius(self) -> float:
        return float(self.celsius(np.zeros(1))[0])

    def celsius(self, depths: FloatArray) -> FloatArray:
        """Temperatures at ``depths`` (metres below the skin), any shape."""
        result = np.full(depths.shape, self.tissue.core_celsius)
        top = 0.0
        for layer, (a, b) in zip(self.tissue.layers, self.coefficients, strict=True):
            inside = (depths >= top) & (depths <= top + layer.thickness)
            first, second, particular = _basis(layer, self.tissue, depths[inside] - top)
            result[inside] = a * first + b * second + particular
            top += layer.thickness
        return result


def solve_slab(tissue: Tissue) -> SlabSolution:
    """Solve k T'' + w rho_b c_b (T_a - T) + Q = 0 in every layer (Pennes 1948).

    Continuity of temperature and flux between layers, h (T_s - T_amb) at the skin, T_a at the base.
    """
    layers = tissue.layers
    size = 2 * len(layers)
    matrix, right = np.zeros((size, size)), np.zeros(size)
    first = layers[0]
    start, slope = _ends(first, tissue, 0.0)
    k = first.material.conductivity
    matrix[0, :2] = k * slope[:2] - tissue.convection * start[:2]
    right[0] = tissue.convection * (start[2] - tissue.ambient_celsius) - k * slope[2]
    for index, (upper, lower) in enumerate(pairwise(layers)):
        row, column = 1 + 2 * index, 2 * index
        end, end_slope = _ends(upper, tissue, upper.thickness)
        start, start_slope = _ends(lower, tissue, 0.0)
        for offset, left, other, scale in (
            (0, end, start, (1.0, 1.0)),
            (1, end_slope, start_slope, (upper.material.conductivity, lower.material.conductivity)),
        ):
            matrix[row + offset, column : column + 2] = scale[0] * left[:2]
            matrix[row + offset, column + 2 : column + 4] = -scale[1] * other[:2]
            right[row + offset] = scale[1] * other[2] - scale[0] * left[2]
    end, _ = _ends(layers[-1], tissue, layers[-1].thickness)
    matrix[-1, -2:] = end[:2]
    right[-1] = tissue.core_celsius - end[2]
    return SlabSolution(tissue, np.linalg.solve(matrix, right).reshape(-1, 2).astype(np.float64))


def _basis(layer: Layer, tissue: Tissue, z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The two homogeneous solutions and the particular one at depth ``z`` below the layer's top."""
    material = layer.material
    sink = material.perfusion * tissue.blood
    if sink == 0:
        return np.ones_like(z), z / layer.thickness, -material.heat * z**2 / (2 * material.conductivity)
    rate = np.sqrt(sink / material.conductivity)
    particular = np.full_like(z, tissue.core_celsius + material.heat / sink)
    return np.exp(-rate * z), np.exp(rate * (z - layer.thickness)), particular


def _ends(layer: Layer, tissue: Tissue, z: float) -> tuple[FloatArray, FloatArray]:
    """Values and slopes of the three functions of ``_basis`` at one depth."""
    values = np.array([part[0] for part in _basis(layer, tissue, np.array([z]))])
    material = layer.material
    sink = material.perfusion * tissue.blood
    if sink == 0:
        return values, np.array([0.0, 1.0 / layer.thickness, -material.heat * z / material.conductivity])
    rate = np.sqrt(sink / material.conductivity)
    return values, np.array([-rate * values[0], rate * values[1], 0.0])
