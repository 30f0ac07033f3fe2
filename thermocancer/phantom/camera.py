"""What a level camera sees of the body: which piece of skin each pixel shows, and how obliquely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.anatomy import Body, smooth_step

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

AZIMUTHS = {"Frontal": 0.0, "Right45": -np.pi / 4, "Right": -np.pi / 2, "Left45": np.pi / 4, "Left": np.pi / 2}
"""Where the camera stands around the patient, radians; the patient's right is negative."""

SKIN_INDEX = 1.33
"""Refractive index that gives skin its emissivity of .98 seen square on, and its fall when seen obliquely."""


@dataclass(frozen=True)
class Framing:
    """How the body stands in the frame: rows, columns, millimetres a pixel, shifts in millimetres."""

    rows: int
    columns: int
    pitch: float
    left: float
    up: float

    def heights(self) -> FloatArray:
        """Body height y of each row, (rows)."""
        return self.up + (self.rows / 2 - 0.5 - np.arange(self.rows, dtype=np.float64)) * self.pitch

    def abscissae(self) -> FloatArray:
        """Distance of each column right of the body's axis, (columns)."""
        return self.left + (np.arange(self.columns, dtype=np.float64) + 0.5 - self.columns / 2) * self.pitch


@dataclass(frozen=True)
class SkinGrid:
    """The torso sampled at (row, azimuth): radius in millimetres, (rows, samples)."""

    azimuth: FloatArray
    heights: FloatArray
    radius: FloatArray


@dataclass(frozen=True)
class Sight:
    """One view: for each pixel the fractional azimuth sample it shows (torso), or the place on an arm.

    ``sample`` (rows, columns), ``torso`` and ``arm`` masks, ``along`` 0 shoulder to 1 elbow,
    ``cosine`` of the angle between line of sight and skin normal.
    """

    sample: FloatArray
    torso: npt.NDArray[np.bool_]
    arm: npt.NDArray[np.bool_]
    along: FloatArray
    cosine: FloatArray

    def from_grid(self, values: FloatArray) -> FloatArray:
        """Values of a map on the skin grid at every pixel, linear between samples; garbage off the torso."""
        low = self.sample.astype(np.int64)
        low = np.clip(low, 0, values.shape[1] - 2)
        part = self.sample - low
        at = low + np.arange(values.shape[0])[:, None] * values.shape[1]
        flat = values.ravel()
        first: FloatArray = flat[at]
        return first + part * (flat[at + 1] - first)


def make_grid(body: Body, framing: Framing) -> SkinGrid:
    """Sample the torso densely enough that no pixel of any view is jumped over often."""
    samples = max(200, int(2.6 * np.pi * body.half_width / framing.pitch))
    azimuth = np.linspace(-2.9, 2.9, samples)
    heights = framing.heights()
    return SkinGrid(azimuth, heights, body.radius(azimuth[None, :], heights[:, None]))


def look(body: Body, framing: Framing, grid: SkinGrid, view: str) -> Sight:
    """Project torso and arms as the camera of ``view`` sees them (parallel rays, level camera)."""
    angle = AZIMUTHS[view]
    sample, depth, cosine = _torso(framing, grid, angle)
    torso = sample >= 0
    along = np.zeros(sample.shape)
    arm = np.zeros(sample.shape, dtype=bool)
    for side in (-1, 1):
        part, arm_depth, arm_cosine = _arm(body, framing, angle, side)
        front = (part >= 0) & (arm_depth > depth)
        depth = np.where(front, arm_depth, depth)
        along = np.where(front, part, along)
        cosine = np.where(front, arm_cosine, cosine)
        arm |= front
    return Sight(sample, torso & ~arm, arm, along, cosine)


def _torso(framing: Framing, grid: SkinGrid, angle: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    rows, columns = framing.rows, framing.columns
    turned = grid.azimuth - angle
    facing = np.flatnonzero(np.abs(turned) < 2.2)
    x = grid.radius[:, facing] * np.sin(turned[facing])
    z = grid.radius[:, facing] * np.cos(turned[facing])
    position = (x - framing.left) / framing.pitch + columns / 2 - 0.5
    column = np.rint(position).astype(np.int64)
    inside = (column >= 0) & (column < columns)
    place = (column + np.arange(rows)[:, None] * columns)[inside]
    nearest = np.full(rows * columns, -np.inf)
    np.maximum.at(nearest, place, z[inside])
    wins = z[inside] == nearest[place]
    index = np.full(rows * columns, -1.0)
    number = np.broadcast_to(facing.astype(float), x.shape)[inside][wins]
    index[place[wins]] = number
    sample = _fill_gaps(index.reshape(rows, columns))
    seen = np.where(np.isfinite(nearest), nearest, -1e9).reshape(rows, columns)
    seen = np.where((sample >= 0) & (seen < -1e8), -1e3, seen)
    cosine = _grid_cosine(grid, angle)
    low = np.clip(sample.astype(np.int64), 0, len(grid.azimuth) - 1)
    return sample, seen, np.where(sample >= 0, np.take_along_axis(cosine, low, axis=1), 1.0)


def _fill_gaps(index: FloatArray) -> FloatArray:
    """Pixels between two skin pixels of a row are skin: interpolate short gaps."""
    columns = index.shape[1]
    here = np.arange(columns)
    known = index >= 0
    left = np.maximum.accumulate(np.where(known, here, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, here, columns)[:, ::-1], axis=1)[:, ::-1]
    gap = ~known & (left >= 0) & (right < columns)
    row, column = np.nonzero(gap)
    filled = index.copy()
    a, b = left[row, column], right[row, column]
    part = (column - a) / (b - a)
    low, high = index[row, a], index[row, b]
    near = np.where(part < 0.5, low, high)
    smooth = np.abs(high - low) < 60
    filled[row, column] = np.where(smooth, low + part * (high - low), near)
    return filled


def _grid_cosine(grid: SkinGrid, angle: float) -> FloatArray:
    """Cosine between the skin's normal and the direction of the camera, (rows, samples)."""
    r = grid.radius
    r_azimuth = np.gradient(r, grid.azimuth, axis=1)
    r_y = np.gradient(r, grid.heights, axis=0)
    sine, cosine = np.sin(grid.azimuth), np.cos(grid.azimuth)
    # the normal of (r sin a, y, r cos a): radial 1, azimuthal -r_a / r, vertical -r_y
    normal_x = sine - cosine * r_azimuth / r
    normal_z = cosine + sine * r_azimuth / r
    length = np.sqrt(normal_x**2 + normal_z**2 + r_y**2)
    return np.clip((normal_x * np.sin(angle) + normal_z * np.cos(angle)) / length, 0.0, 1.0)


def _arm(body: Body, framing: Framing, angle: float, side: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """A raised upper arm: (share of the way to the elbow or -1, depth, cosine) at every pixel."""
    length = 290.0
    root = np.array(
        [side * (body.half_width - 0.55 * body.arm_radius), body.shoulder_height - 62.0, -0.12 * body.half_depth]
    )
    direction = np.array([side * np.cos(body.arm_angle), np.sin(body.arm_angle), -0.25])
    direction /= np.sqrt(np.sum(direction**2))
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    root, direction = turn @ root, turn @ direction
    x = framing.abscissae()[None, :] - root[0]
    y = framing.heights()[:, None] - root[1]
    flat = direction[0] ** 2 + direction[1] ** 2
    along = (x * direction[0] + y * direction[1]) / flat / length
    # off the ends the nearest point of the axis is the end itself
    nearest = np.clip(along, 0.0, 1.0)
    dx, dy = x - nearest * length * direction[0], y - nearest * length * direction[1]
    radius = body.arm_radius * (1.0 - 0.25 * smooth_step(nearest))
    bulge = radius**2 - dx**2 - dy**2
    inside = bulge > 0
    height = np.sqrt(np.maximum(bulge, 0.0))
    depth = root[2] + nearest * length * direction[2] + height
    return np.where(inside, nearest, -1.0), depth, np.clip(height / radius, 0.0, 1.0)


def emissivity(cosine: FloatArray) -> FloatArray:
    """Emissivity of skin against the cosine of the viewing angle: 1 minus Fresnel's reflectance.

    .98 square on, .94 at 60 degrees, .61 at 80 degrees (unpolarised, index 1.33).
    """
    n = SKIN_INDEX
    inner = np.sqrt(1.0 - (1.0 - cosine**2) / n**2)
    across = ((cosine - n * inner) / (cosine + n * inner)) ** 2
    along = ((inner - n * cosine) / (inner + n * cosine)) ** 2
    return 1.0 - (across + along) / 2


def apparent_celsius(celsius: FloatArray, cosine: FloatArray, room_celsius: float) -> FloatArray:
    """What a camera set to emissivity .98 reads: emitted plus reflected room radiation, as T^4."""
    square_on = float(emissivity(np.ones(1))[0])
    share = emissivity(cosine) / square_on
    room = (room_celsius + 273.15) ** 4
    return (room + share * ((celsius + 273.15) ** 4 - room)) ** 0.25 - 273.15
