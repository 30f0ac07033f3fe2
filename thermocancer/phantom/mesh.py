"""Finite-volume meshes: layers of cells below a skin that is flat, spherical, or a set of columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


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
    ring = np.pi * np.diff(radius_edges**2)
    height = np.diff(depth_edges)
    side = 2 * np.pi * radius_edges[1:-1]
    columns, rows = len(ring), len(height)
    return Mesh(
        np.repeat(height[:, None], columns, axis=1),
        np.repeat(np.diff(radius_edges)[None], rows, axis=0),
        height[:, None] * ring,
        np.repeat(ring[None], rows + 1, axis=0),
        height[:, None] * side,
        np.repeat(_centres(depth_edges)[:, None], columns, axis=1),
        _centres(radius_edges),
    )


def spherical_mesh(depth_edges: FloatArray, radius_edges: FloatArray, skin_radius: float) -> Mesh:
    """A cone of tissue under a spherical skin, symmetric about its axis.

    ``radius_edges`` are arc lengths along the skin (metres). As ``skin_radius`` grows it becomes ``flat_mesh``.
    """
    r = skin_radius - depth_edges
    angle = radius_edges / skin_radius
    solid = 2 * np.pi * -np.diff(np.cos(angle))
    shell = (r[:-1] ** 3 - r[1:] ** 3) / 3
    middle = skin_radius - _centres(depth_edges)
    return Mesh(
        np.repeat(np.diff(depth_edges)[:, None], len(solid), axis=1),
        middle[:, None] * np.diff(angle),
        shell[:, None] * solid,
        (r**2)[:, None] * solid,
        ((r[:-1] ** 2 - r[1:] ** 2) / 2)[:, None] * (2 * np.pi * np.sin(angle[1:-1])),
        np.repeat(_centres(depth_edges)[:, None], len(solid), axis=1),
        _centres(radius_edges),
        skin_radius,
    )


def column_mesh(depth_edges: FloatArray, curvature: FloatArray | float = 0.0) -> Mesh:
    """Separate columns below one square metre of skin: ``depth_edges`` (rows + 1, columns); no heat flows across.

    ``curvature`` (1/m, one a column or one for all) narrows a column towards the centre of a spherical skin.
    """
    height = np.diff(depth_edges, axis=0)
    columns = height.shape[1]
    area = (1.0 - np.asarray(curvature) * depth_edges) ** 2
    return Mesh(
        height,
        np.ones_like(height),
        height * (area[1:] + area[:-1]) / 2,
        area,
        np.zeros((len(height), columns - 1)),
        (depth_edges[1:] + depth_edges[:-1]) / 2,
        np.arange(columns, dtype=float),
    )


def graded_edges(length: float, first: float, growth: float) -> FloatArray:
    """Edges from 0 to ``length`` whose spacing starts near ``first`` and grows by ``growth`` a cell."""
    count = int(np.ceil(np.log1p(length * (growth - 1) / first) / np.log(growth))) if growth > 1 else 0
    if growth <= 1:
        return np.linspace(0.0, length, max(1, round(length / first)) + 1)
    edges = np.concatenate([[0.0], np.cumsum(growth ** np.arange(count))])
    return edges * (length / edges[-1])


def _centres(edges: FloatArray) -> FloatArray:
    return (edges[1:] + edges[:-1]) / 2
