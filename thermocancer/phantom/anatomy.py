"""The body: torso, neck, breasts and raised arms as surfaces around a vertical axis.

Coordinates in millimetres: x to the patient's left, y up from the level of the nipples, z forward.
The torso with its breasts is a radius r(azimuth, y) around the y axis, azimuth 0 in front and
positive to the patient's left. What a level camera sees of such a body it sees row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermocancer.phantom import FloatArray


@dataclass(frozen=True)
class Variation:
    """Random numbers whose spread can be turned down: how much people and rooms differ.

    Draws around their middle: ``scale`` 1 as stated, 0 always the middle. Takes as many numbers at any scale."""

    rng: np.random.Generator
    scale: float

    def normal(self, mean: float, spread: float, low: float = -np.inf, high: float = np.inf) -> float:
        """A normal number, clipped to ``low``..``high``."""
        return float(np.clip(mean + self.scale * self.rng.normal(0.0, spread), low, high))

    def uniform(self, low: float, high: float) -> float:
        """An even number between ``low`` and ``high``."""
        middle = (low + high) / 2
        return float(middle + self.scale * (self.rng.uniform(low, high) - middle))


@dataclass(frozen=True)
class Breast:
    """One breast: centre of its base on the torso, base radius, projection and sag.

    ``azimuth`` radians, ``height``, ``radius``, ``projection`` in millimetres; ``sag`` 0 (firm) to 1.
    """

    azimuth: float
    height: float
    radius: float
    projection: float
    sag: float

    @property
    def skin_radius(self) -> float:
        """Radius of the sphere that has this base and projection, millimetres."""
        return (self.radius**2 + self.projection**2) / (2 * self.projection)


@dataclass(frozen=True)
class Body:
    """A torso with two breasts, right then left, and two raised arms. Millimetres and radians."""

    half_width: float
    half_depth: float
    waist: float
    shoulder_height: float
    neck_radius: float
    arm_angle: float
    arm_radius: float
    breasts: tuple[Breast, Breast]

    @property
    def arc_per_radian(self) -> float:
        """Millimetres of skin a radian of azimuth, on the front of the chest."""
        return 0.62 * self.half_width + 0.38 * self.half_depth

    @property
    def arm_height(self) -> float:
        """Height of the shoulder joints."""
        return self.shoulder_height - 62.0

    def torso_radius(self, azimuth: FloatArray, y: FloatArray) -> FloatArray:
        """Radius of the torso without breasts; ``azimuth`` and ``y`` broadcast."""
        waist = (
            1.0 - self.waist * smooth_step((-30.0 - y) / 130.0) + 0.5 * self.waist * smooth_step((-150.0 - y) / 80.0)
        )
        tapered = 1.0 - 0.15 * smooth_step((y - 15.0) / (self.shoulder_height - 55.0))
        rise = smooth_step((y - self.shoulder_height + 45.0) / 80.0)
        half_width = self.half_width * waist * tapered * (1 - rise) + self.neck_radius * rise
        half_depth = self.half_depth * waist * (1.0 - 0.25 * smooth_step((y - 40.0) / 110.0)) * (1 - rise)
        half_depth = half_depth + self.neck_radius * rise
        return superellipse(azimuth, half_width, half_depth, 2.3)

    def breast_place(self, side: int, azimuth: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Offsets (u, v) from the centre of a breast, in units of its radius."""
        breast = self.breasts[side]
        return (azimuth - breast.azimuth) * (self.arc_per_radian / breast.radius), (y - breast.height) / breast.radius

    def place_on(self, side: int, u: FloatArray, v: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Azimuth and height of offsets from the centre of a breast: the inverse of ``breast_place``."""
        breast = self.breasts[side]
        return breast.azimuth + u * breast.radius / self.arc_per_radian, breast.height + v * breast.radius

    def breast_cap(self, side: int, azimuth: FloatArray, y: FloatArray) -> FloatArray:
        """Share (0 to about 1) of the breast's projection at each point.

        It runs out gently towards the collarbone and ends in a steep rim below: the fold.
        """
        return cap(*self.breast_place(side, azimuth, y), self.breasts[side].sag)

    def radius(self, azimuth: FloatArray, y: FloatArray) -> FloatArray:
        """Radius of the skin, breasts included; ``azimuth`` (n) and ``y`` (m, 1) give (m, n)."""
        result = np.broadcast_to(self.torso_radius(azimuth, y), np.broadcast_shapes(azimuth.shape, y.shape)).copy()
        for side, breast in enumerate(self.breasts):
            # only where the breast rises from the chest
            rows = np.flatnonzero(np.abs(y[:, 0] - breast.height) < 1.6 * breast.radius)
            columns = np.flatnonzero(np.abs(azimuth - breast.azimuth) * self.arc_per_radian < breast.radius)
            result[np.ix_(rows, columns)] += breast.projection * self.breast_cap(side, azimuth[columns], y[rows])
        return result


def cap(u: FloatArray, v: FloatArray, sag: float) -> FloatArray:
    """Profile of a breast over (u, v), 1 near its centre and 0 from the rim on."""
    lower = np.maximum(-v, 0.0)
    upper = np.maximum(v, 0.0)
    rho2 = u**2 + (lower * (1.15 - 0.2 * sag)) ** 2 + (upper * (0.80 - 0.12 * sag)) ** 2
    inside = rho2 < 1.0
    down = -v / np.sqrt(u**2 + v**2 + 1e-9)
    power = 1.0 - 0.42 * down
    dome = np.where(inside, 1.0 - np.minimum(rho2, 1.0), 0.0) ** power
    return dome * (1.0 - (0.10 + 0.15 * sag) * np.clip(v, -1.0, 1.0))


def smooth_step(t: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def superellipse(azimuth: FloatArray, a: FloatArray, b: FloatArray, power: float) -> FloatArray:
    """Radius of |x/a|^p + |z/b|^p = 1 in direction ``azimuth``."""
    x, z = np.abs(np.sin(azimuth)) / a, np.abs(np.cos(azimuth)) / b
    return (x**power + z**power) ** (-1.0 / power)


def draw_body(rng: np.random.Generator, asymmetry: float = 1.0, variation: float = 1.0) -> Body:
    """A body from stated distributions; nothing in it depends on health.

    ``asymmetry`` 0 makes its breasts alike, ``variation`` 0 makes all bodies alike.
    """
    people, sides = Variation(rng, variation), Variation(rng, asymmetry)
    half_width = people.normal(152, 12, 125, 185)
    radius = people.normal(0.47, 0.03, 0.40, 0.54) * half_width
    projection = people.normal(52, 12, 25, 80)
    sag, azimuth = people.uniform(0.1, 1.0), people.uniform(0.58, 0.68)
    right, left = (
        Breast(
            sides.normal(sign * azimuth, 0.012),
            sides.normal(0, 4),
            radius * sides.normal(1, 0.025),
            projection * sides.normal(1, 0.07, 0.8, 1.2),
            sag,
        )
        for sign in (-1, 1)
    )
    half_depth, waist = half_width * people.uniform(0.62, 0.72), people.uniform(0.02, 0.12)
    shoulders, neck = people.uniform(150, 175), people.uniform(54, 64)
    arm_angle, arm_radius = people.uniform(0.45, 0.95), people.uniform(0.31, 0.37) * half_width
    return Body(half_width, half_depth, waist, shoulders, neck, arm_angle, arm_radius, (right, left))
