"""The bioheat equation by finite volumes: rho c dT/dt = div(k grad T) + w rho_b c_b (T_a - T) + Q.

Second order in space; steady by one sparse factorisation, transient by BDF2. Every cell keeps an
exact energy balance, so the balance of the whole tissue holds to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.mesh import Mesh

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Properties:
    """Cell values, each (rows, columns): conductivity W/(m K), capacity J/(m3 K), sink W/(m3 K), heat W/m3.

    ``sink`` is perfusion times the heat capacity of blood by volume.
    """

    conductivity: FloatArray
    capacity: FloatArray
    sink: FloatArray
    heat: FloatArray


@dataclass(frozen=True)
class Surroundings:
    """What the skin meets: ``convection`` W/(m2 K), one value or one a column, and air in degC."""

    convection: float | FloatArray
    ambient_celsius: float


class Bioheat:
    """The discrete equation on one mesh. The base is held at ``core_celsius``, the outer rim is insulated."""

    def __init__(self, mesh: Mesh, properties: Properties, core_celsius: float = 37.0) -> None:
        self.mesh = mesh
        self.properties = properties
        self.core_celsius = core_celsius
        k = properties.conductivity
        self._half = mesh.height / (2 * k)
        self._down = mesh.level_area[1:-1] / (self._half[:-1] + self._half[1:])
        across = mesh.width / (2 * k)
        self._side = mesh.side_area / (across[:, :-1] + across[:, 1:])
        self._base = mesh.level_area[-1] / self._half[-1]

    def _skin(self, surroundings: Surroundings) -> FloatArray:
        """Conductance (W/K) between the centre of each uppermost cell and the air, (columns)."""
        return self.mesh.level_area[0] / (self._half[0] + 1.0 / np.asarray(surroundings.convection))

    def system(self, surroundings: Surroundings) -> tuple[Any, FloatArray]:
        """The sparse matrix (W/K) and right-hand side (W) of the steady equation."""
        import scipy.sparse

        rows, columns = self.mesh.shape
        volume = self.mesh.volume
        diagonal = self.properties.sink * volume
        right = (self.properties.sink * self.core_celsius + self.properties.heat) * volume
        skin = self._skin(surroundings)
        diagonal[0] += skin
        right[0] += skin * surroundings.ambient_celsius
        diagonal[-1] += self._base
        right[-1] += self._base * self.core_celsius
        diagonal[:-1] += self._down
        diagonal[1:] += self._down
        diagonal[:, :-1] += self._side
        diagonal[:, 1:] += self._side
        below = -self._down.ravel()
        parts, offsets = [diagonal.ravel(), below, below], [0, columns, -columns]
        if columns > 1:
            side = np.zeros((rows, columns))
            side[:, :-1] = -self._side
            beside = side.ravel()[:-1]
            parts, offsets = [*parts, beside, beside], [*offsets, 1, -1]
        matrix = scipy.sparse.diags_array(parts, offsets=offsets, format="csc")
        return matrix, right.ravel()

    def steady(self, surroundings: Surroundings) -> FloatArray:
        """Steady temperatures in degC, (rows, columns)."""
        matrix, right = self.system(surroundings)
        solution: FloatArray = _factorised(matrix).solve(right)
        return solution.reshape(self.mesh.shape)

    def transient(
        self, start: FloatArray, surroundings: Surroundings, step_s: float, steps: int
    ) -> Iterator[FloatArray]:
        """Temperatures after each of ``steps`` steps of ``step_s`` seconds from ``start`` (rows, columns).

        BDF2 with one first step of backward Euler: stable for any step, second order in time.
        """
        import scipy.sparse

        matrix, right = self.system(surroundings)
        mass = (self.properties.capacity * self.mesh.volume).ravel() / step_s
        first = _factorised(matrix + scipy.sparse.diags_array(mass))
        later = _factorised(matrix + scipy.sparse.diags_array(1.5 * mass))
        before, now = start.ravel(), first.solve(right + mass * start.ravel())
        yield now.reshape(self.mesh.shape)
        for _ in range(steps - 1):
            before, now = now, later.solve(right + mass * (2.0 * now - 0.5 * before))
            yield now.reshape(self.mesh.shape)

    def skin_celsius(self, celsius: FloatArray, surroundings: Surroundings) -> FloatArray:
        """Temperature of the skin itself above each column, (columns)."""
        inner = 1.0 / self._half[0]
        outer = np.asarray(surroundings.convection)
        return (inner * celsius[0] + outer * surroundings.ambient_celsius) / (inner + outer)

    def balance(self, celsius: FloatArray, surroundings: Surroundings) -> dict[str, float]:
        """Heat flows of a state in watts: into the tissue from core, blood and metabolism; out through the skin."""
        volume = self.mesh.volume
        return {
            "core": float(np.sum(self._base * (self.core_celsius - celsius[-1]))),
            "blood": float(np.sum(self.properties.sink * volume * (self.core_celsius - celsius))),
            "metabolism": float(np.sum(self.properties.heat * volume)),
            "skin": float(np.sum(self._skin(surroundings) * (celsius[0] - surroundings.ambient_celsius))),
        }


def _factorised(matrix: Any) -> Any:
    """Sparse LU for a symmetric positive definite matrix: no pivoting, least fill."""
    from scipy.sparse.linalg import splu

    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
