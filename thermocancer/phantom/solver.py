"""The bioheat equation by finite volumes: rho c dT/dt = div(k grad T) + w rho_b c_b (T_a - T) + Q.

Second order in space; steady by one sparse factorisation, transient by BDF2. Every cell keeps an
exact energy balance, so the balance of the whole tissue holds to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.phantom import FloatArray
from thermocancer.phantom.tissue import Layer, Material, Tissue

if TYPE_CHECKING:
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import SuperLU


# --- meshes: layers of cells below a skin that is flat, spherical, or a set of columns ---


@dataclass(frozen=True)
class Mesh:
    """Cells in rows (depth, skin first) and columns (across); arrays in metres, m2 and m3.

    ``height`` and ``width`` (rows, columns) of a cell; ``volume`` (rows, columns); ``level_area``
    (rows + 1, columns) of the faces above and below; ``side_area`` (rows, columns - 1) of the faces
    between columns; ``depth`` (rows, columns) of the centre; ``radius`` (columns) of the centre along the skin.
    """

    height: FloatArray
    width: FloatArray
    volume: FloatArray
    level_area: FloatArray
    side_area: FloatArray
    depth: FloatArray
    radius: FloatArray
    skin_radius: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.volume.shape
        return rows, columns

    def distance_from(self, depth: FloatArray, radius: FloatArray, centre: float) -> FloatArray:
        """Distance of points (depth, arc length along the skin) from a point ``centre`` deep on the axis."""
        if self.skin_radius is None:
            return np.sqrt((depth - centre) ** 2 + radius**2)
        r, c = self.skin_radius - depth, self.skin_radius - centre
        return np.sqrt(np.maximum(r**2 + c**2 - 2 * r * c * np.cos(radius / self.skin_radius), 0.0))


def flat_mesh(depth_edges: FloatArray, radius_edges: FloatArray) -> Mesh:
    """A disc of tissue under a flat skin, symmetric about its axis. Edges in metres, ascending from 0."""
    height, depth = np.diff(depth_edges)[:, None], _centres(depth_edges)[:, None]
    ring = np.pi * np.diff(radius_edges**2)
    down, across = np.ones_like(depth_edges)[:, None], np.ones_like(ring)
    width, side = down[1:] * np.diff(radius_edges), height * (2 * np.pi * radius_edges[1:-1])
    return Mesh(height * across, width, height * ring, down * ring, side, depth * across, _centres(radius_edges))


def spherical_mesh(depth_edges: FloatArray, radius_edges: FloatArray, skin_radius: float) -> Mesh:
    """A cone of tissue under a spherical skin, symmetric about its axis.

    ``radius_edges`` are arc lengths along the skin (metres). As ``skin_radius`` grows it becomes ``flat_mesh``.
    """
    height, depth = np.diff(depth_edges)[:, None], _centres(depth_edges)[:, None]
    r, angle = (skin_radius - depth_edges)[:, None], radius_edges / skin_radius
    solid = 2 * np.pi * -np.diff(np.cos(angle))
    across = np.ones_like(solid)
    width, volume = (skin_radius - depth) * np.diff(angle), (r[:-1] ** 3 - r[1:] ** 3) / 3 * solid
    side = (r[:-1] ** 2 - r[1:] ** 2) / 2 * (2 * np.pi * np.sin(angle[1:-1]))
    centres = _centres(radius_edges)
    return Mesh(height * across, width, volume, r**2 * solid, side, depth * across, centres, skin_radius)


def column_mesh(depth_edges: FloatArray, curvature: FloatArray | float = 0.0) -> Mesh:
    """Separate columns below one square metre of skin: ``depth_edges`` (rows + 1, columns); no heat flows across.

    ``curvature`` (1/m, one a column or one for all) narrows a column towards the centre of a spherical skin.
    """
    height = np.diff(depth_edges, axis=0)
    columns = height.shape[1]
    area = (1.0 - np.asarray(curvature) * depth_edges) ** 2
    volume, nothing = height * (area[1:] + area[:-1]) / 2, np.zeros((len(height), columns - 1))
    return Mesh(height, np.ones_like(height), volume, area, nothing, _centres(depth_edges), np.arange(float(columns)))


def graded_edges(length: float, first: float, growth: float) -> FloatArray:
    """Edges from 0 to ``length`` whose spacing starts near ``first`` and grows by ``growth`` a cell."""
    if growth <= 1:
        return np.linspace(0.0, length, max(1, round(length / first)) + 1)
    count = int(np.ceil(np.log1p(length * (growth - 1) / first) / np.log(growth)))
    edges = np.concatenate([[0.0], np.cumsum(growth ** np.arange(count))])
    return np.asarray(edges * (length / edges[-1]))


def _centres(edges: FloatArray) -> FloatArray:
    return np.asarray((edges[1:] + edges[:-1]) / 2)


# --- the equation on a mesh ---------------------------------------------------


@dataclass(frozen=True)
class Properties:
    """Cell values, each (rows, columns): conductivity W/(m K), capacity J/(m3 K), sink W/(m3 K), heat W/m3.

    ``sink`` is perfusion times the heat capacity of blood by volume.
    """

    conductivity: FloatArray
    capacity: FloatArray
    sink: FloatArray
    heat: FloatArray

    def __iter__(self) -> Iterator[FloatArray]:
        return iter((self.conductivity, self.capacity, self.sink, self.heat))


def properties_of(materials: Sequence[Material], tissue: Tissue) -> Properties:
    """The properties of some materials, (n) each, in a tissue with this blood."""
    rows = [(each.conductivity, each.density * each.heat_capacity, each.perfusion * tissue.blood, each.heat)
            for each in materials]  # fmt: skip
    return Properties(*np.array(rows, np.float64).T)


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
        return np.asarray(self.mesh.level_area[0] / (self._half[0] + 1.0 / np.asarray(surroundings.convection)))

    def system(self, surroundings: Surroundings) -> tuple[csc_array, FloatArray]:
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
        return np.asarray((inner * celsius[0] + outer * surroundings.ambient_celsius) / (inner + outer))

    def balance(self, celsius: FloatArray, surroundings: Surroundings) -> dict[str, float]:
        """Heat flows of a state in watts: into the tissue from core, blood and metabolism; out through the skin."""
        volume = self.mesh.volume
        return {
            "core": float(np.sum(self._base * (self.core_celsius - celsius[-1]))),
            "blood": float(np.sum(self.properties.sink * volume * (self.core_celsius - celsius))),
            "metabolism": float(np.sum(self.properties.heat * volume)),
            "skin": float(np.sum(self._skin(surroundings) * (celsius[0] - surroundings.ambient_celsius))),
        }


def _factorised(matrix: csc_array) -> SuperLU:
    """Sparse LU for a symmetric positive definite matrix: no pivoting, least fill."""
    from scipy.sparse.linalg import splu

    return splu(matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})


# --- the exact solution in a layered slab, one-dimensional and steady ---------


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
            first, second, particular = _basis(layer, self.tissue, depths[inside] - top)[0]
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
    # temperature and flux of each layer's three functions at its top and at its bottom, (2, 3) each
    tops = [_state(layer, tissue, 0.0) for layer in layers]
    bottoms = [_state(layer, tissue, layer.thickness) for layer in layers]
    matrix[0, :2] = tops[0][1, :2] - tissue.convection * tops[0][0, :2]
    right[0] = tissue.convection * (tops[0][0, 2] - tissue.ambient_celsius) - tops[0][1, 2]
    for at, (above, below) in enumerate(zip(bottoms[:-1], tops[1:], strict=True)):
        row = slice(1 + 2 * at, 3 + 2 * at)
        matrix[row, 2 * at : 2 * at + 2] = above[:, :2]
        matrix[row, 2 * at + 2 : 2 * at + 4] = -below[:, :2]
        right[row] = below[:, 2] - above[:, 2]
    matrix[-1, -2:] = bottoms[-1][0, :2]
    right[-1] = tissue.core_celsius - bottoms[-1][0, 2]
    return SlabSolution(tissue, np.linalg.solve(matrix, right).reshape(-1, 2).astype(np.float64))


def _basis(layer: Layer, tissue: Tissue, z: FloatArray) -> tuple[list[FloatArray], list[FloatArray]]:
    """The two homogeneous solutions and the particular one at depth ``z`` below the layer's top, and their slopes."""
    material = layer.material
    sink = material.perfusion * tissue.blood
    one, zero = np.ones_like(z), np.zeros_like(z)
    if sink == 0:
        bend = -material.heat / material.conductivity
        return [one, z / layer.thickness, bend * z**2 / 2], [zero, one / layer.thickness, bend * z]
    rate = np.sqrt(sink / material.conductivity)
    falling, rising = np.exp(-rate * z), np.exp(rate * (z - layer.thickness))
    return [falling, rising, one * (tissue.core_celsius + material.heat / sink)], [-rate * falling, rate * rising, zero]


def _state(layer: Layer, tissue: Tissue, z: float) -> FloatArray:
    """Temperature and flux of the functions of ``_basis`` at one depth, (2, 3)."""
    values, slopes = np.array(_basis(layer, tissue, np.array([z])))[:, :, 0]
    return np.array([values, layer.material.conductivity * slopes])
