"""The body: torso, neck, breasts and raised arms as surfaces around a vertical axis.

Coordinates in millimetres: x to the patient's left, y up from the level of the nipples, z forward.
The torso with its breasts is a radius r(azimuth, y) around the y axis, azimuth 0 in front and
positive to the patient's left. What a level camera sees of such a body it sees row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Body:
    """A torso with two breasts, ``breasts`` right then left (the patient's own sides)."""

    half_width: float
    half_depth: float
    waist: float
    shoulder_height: float
    neck_radius: float
    arm_angle: float
    arm_radius: float
    breasts: tuple[Breast, Breast]

    def torso_radius(self, azimuth: FloatArray, y: FloatArray) -> FloatArray:
        """Radius of the torso without breasts."""
        narrowing = 1.0 - self.waist * smooth_step((-40.0 - y) / 140.0)
        rise = smooth_step((y - self.shoulder_height + 55.0) / 75.0)
        half_width = self.half_width * narrowing * (1 - rise) + self.neck_radius * rise
        half_depth = self.half_depth * narrowing * (1 - 0.15 * smooth_step((y - 40) / 100)) * (1 - rise)
        half_depth = half_depth + self.neck_radius * rise
        return superellipse(azimuth, half_width, half_depth, 2.5)

    def breast_cap(self, side: int, azimuth: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(share of the projection 0..1, u, v) of one breast; u, v are offsets from its centre over its radius."""
        breast = self.breasts[side]
        arc = (azimuth - breast.azimuth) * (0.62 * self.half_width + 0.38 * self.half_depth)
        u = arc / breast.radius
        v = (y - breast.height) / breast.radius
        below = np.where(v < 0, v * (1.0 + 0.25 * (1 - breast.sag)), v * (0.78 - 0.12 * breast.sag))
        rho2 = u**2 * (1.0 + 0.10 * v) + below**2
        dome = np.sqrt(np.maximum(1.0 - rho2, 0.0))
        slope = np.where(v > 0, 1.0 - 0.45 * smooth_step(v / 1.3), 1.0 + 0.10 * breast.sag * smooth_step(-v))
        return dome * slope, u, v

    def radius(self, azimuth: FloatArray, y: FloatArray) -> FloatArray:
        """Radius of the skin, breasts included."""
        result = self.torso_radius(azimuth, y)
        for side, breast in enumerate(self.breasts):
            result = result + breast.projection * self.breast_cap(side, azimuth, y)[0]
        return result


def smooth_step(t: FloatArray) -> FloatArray:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def superellipse(azimuth: FloatArray, a: FloatArray, b: FloatArray, power: float) -> FloatArray:
    """Radius of |x/a|^p + |z/b|^p = 1 in direction ``azimuth``."""
    x, z = np.abs(np.sin(azimuth)) / a, np.abs(np.cos(azimuth)) / b
    return (x**power + z**power) ** (-1.0 / power)


def draw_body(rng: np.random.Generator) -> Body:
    """A body from stated distributions; nothing in it depends on health."""
    half_width = float(np.clip(rng.normal(152, 13), 125, 185))
    radius = float(np.clip(rng.normal(0.44, 0.035), 0.36, 0.52)) * half_width
    projection = float(np.clip(rng.normal(48, 13), 20, 80))
    sag = float(rng.uniform(0.1, 1.0))
    azimuth = float(rng.uniform(0.56, 0.66))
    breasts = []
    for sign in (-1, 1):
        breasts.append(
            Breast(
                sign * azimuth + float(rng.normal(0, 0.015)),
                float(rng.normal(0, 4)),
                radius * float(rng.normal(1, 0.025)),
                projection * float(np.clip(rng.normal(1, 0.07), 0.8, 1.2)),
                sag,
            )
        )
    return Body(
        half_width,
        half_width * float(rng.uniform(0.62, 0.72)),
        float(rng.uniform(0.02, 0.14)),
        float(rng.uniform(150, 175)),
        float(rng.uniform(54, 64)),
        float(rng.uniform(0.35, 0.75)),
        float(rng.uniform(0.27, 0.34)) * half_width,
        (breasts[0], breasts[1]),
    )
