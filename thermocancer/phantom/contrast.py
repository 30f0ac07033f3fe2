"""What a tumour adds to the temperature of the skin above it: footprint and course in time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from thermocancer.errors import ConfigError
from thermocancer.phantom import FloatArray
from thermocancer.phantom.solver import (
    Bioheat,
    Mesh,
    Properties,
    Surroundings,
    flat_mesh,
    graded_edges,
    properties_of,
    spherical_mesh,
)
from thermocancer.phantom.tissue import Tissue

SIGNIFICANT_CELSIUS = 1e-4
"""Solutions are rounded to this: machines differ in the last bits of a factorisation, cohorts must not."""


def significant(celsius: FloatArray) -> FloatArray:
    """Solutions rounded to what every machine agrees on."""
    return np.round(celsius / SIGNIFICANT_CELSIUS) * SIGNIFICANT_CELSIUS


@dataclass(frozen=True)
class Tumour:
    """A ball of tumour: ``diameter`` and ``depth`` of its centre below the skin in metres, ``heat`` in W/m3."""

    diameter: float
    depth: float
    heat: float


@dataclass(frozen=True)
class Footprint:
    """Contrast (degC) against distance along the skin (metres) from the point above the tumour.

    ``steady`` (n), ``course`` (frames, n): the contrast in each frame of a dynamic exam.
    """

    radius: FloatArray
    steady: FloatArray
    course: FloatArray

    @property
    def peak(self) -> float:
        return float(self.steady[0])

    def half_width(self) -> float:
        """Distance (metres) at which the steady contrast has fallen to half its peak."""
        return float(np.interp(-self.peak / 2, -self.steady, self.radius))

    def rounded(self) -> Footprint:
        """The same footprint on any machine."""
        return Footprint(self.radius, significant(self.steady), significant(self.course))

    def scaled_to(self, peak: float) -> Footprint:
        """The same footprint with another peak: the equation is linear in the heat source."""
        factor = peak / self.peak if self.peak else 0.0
        return Footprint(self.radius, self.steady * factor, self.course * factor)


@dataclass(frozen=True)
class Cooling:
    """A dynamic exam: fan for ``fan_s`` seconds, then ``frames`` frames ``interval_s`` apart, the first as it stops."""

    fan: Surroundings
    fan_s: float
    frames: int
    interval_s: float


def tumour_mesh(tissue: Tissue, tumour: Tumour, *, fine: float = 1.0, skin_radius: float | None = None) -> Mesh:
    """A mesh around the axis through the tumour; ``fine`` 2 halves every cell, ``skin_radius`` bends the skin."""
    if tumour.depth - tumour.diameter / 2 <= 0:
        raise ConfigError(
            "the tumour breaks through the skin",
            expected="a depth of its centre above half its diameter",
            found=f"depth {tumour.depth * 1e3:g} mm, diameter {tumour.diameter * 1e3:g} mm",
        )
    cell = min(tumour.diameter / 12, 1.0e-3) / fine
    tops = np.concatenate([[0.0], np.cumsum([layer.thickness for layer in tissue.layers])])
    counts = [max(2, int(np.ceil(thickness / cell))) for thickness in np.diff(tops)]
    parts = [np.linspace(*ends, count + 1)[1:] for ends, count in zip(pairwise(tops), counts, strict=True)]
    edges = np.concatenate([[0.0], *parts])
    reach = 4 * tumour.depth + 0.04
    across = graded_edges(reach if skin_radius is None else min(reach, 1.5 * skin_radius), cell, 1.0 + 0.06 / fine)
    return flat_mesh(edges, across) if skin_radius is None else spherical_mesh(edges, across, skin_radius)


def layered_properties(mesh: Mesh, tissue: Tissue) -> Properties:
    """The layers of a tissue on a mesh whose rows do not cross a layer's border."""
    bottoms = np.cumsum([layer.thickness for layer in tissue.layers])
    index = np.minimum(np.searchsorted(bottoms, mesh.depth), len(bottoms) - 1)
    return Properties(*(each[index] for each in properties_of([layer.material for layer in tissue.layers], tissue)))


def with_tumour(mesh: Mesh, tissue: Tissue, healthy: Properties, tumour: Tumour) -> Properties:
    """Mix the tumour into the cells by the share of each that lies inside the ball."""
    share = _share_inside(mesh, tumour)
    sick = properties_of([replace(tissue.tumour, heat=tumour.heat)], tissue)
    return Properties(*((1 - share) * here + share * value for here, value in zip(healthy, sick, strict=True)))


def _share_inside(mesh: Mesh, tumour: Tumour, points: int = 5) -> FloatArray:
    """Share of each cell's volume inside the ball, from points x points samples; the ball's volume is kept."""
    offsets = (np.arange(points) + 0.5) / points - 0.5
    radius = mesh.radius[None]
    width = np.gradient(radius, axis=1) if radius.shape[1] > 1 else mesh.width
    share = np.zeros(mesh.shape)
    weights = np.zeros(mesh.shape)
    for down in offsets:
        for out in offsets:
            at = np.maximum(radius + out * width, 0.0) + np.zeros(mesh.shape)
            inside = mesh.distance_from(mesh.depth + down * mesh.height, at, tumour.depth) <= tumour.diameter / 2
            share += inside * at
            weights += at
    share /= weights
    volume = float(np.sum(share * mesh.volume))
    return np.minimum(share * (np.pi / 6 * tumour.diameter**3 / volume), 1.0)


def solve_footprint(
    tissue: Tissue,
    tumour: Tumour,
    *,
    cooling: Cooling | None = None,
    skin_radius: float | None = None,
    fine: float = 1.0,
    step_s: float = 7.5,
) -> Footprint:
    """Solve the tissue with and without the tumour and return the difference at the skin."""
    mesh = tumour_mesh(tissue, tumour, fine=fine, skin_radius=skin_radius)
    healthy = layered_properties(mesh, tissue)
    surroundings = Surroundings(tissue.convection, tissue.ambient_celsius)
    steady: list[FloatArray] = []
    courses: list[FloatArray] = []
    for properties in (healthy, with_tumour(mesh, tissue, healthy, tumour)):
        model = Bioheat(mesh, properties, tissue.core_celsius)
        state = model.steady(surroundings)
        steady.append(model.skin_celsius(state, surroundings))
        still = np.zeros((0, len(mesh.radius)))
        courses.append(still if cooling is None else skin_course(model, state, surroundings, cooling, step_s))
    return Footprint(np.concatenate([[0.0], mesh.radius[1:]]), steady[1] - steady[0], courses[1] - courses[0])


def skin_course(
    model: Bioheat, state: FloatArray, surroundings: Surroundings, cooling: Cooling, step_s: float
) -> FloatArray:
    """Skin temperatures (frames, columns) while the tissue recovers from a fan; the first frame as it stops."""
    for _state in model.transient(state, cooling.fan, step_s, max(1, round(cooling.fan_s / step_s))):
        state = _state
    every = max(1, round(cooling.interval_s / step_s))
    frames = [model.skin_celsius(state, surroundings)]
    steps = every * (cooling.frames - 1)
    for number, each in enumerate(model.transient(state, surroundings, step_s, steps), 1) if steps else ():
        if number % every == 0:
            frames.append(model.skin_celsius(each, surroundings))
    return np.array(frames)
