"""What a level camera sees of the body: which piece of skin each pixel shows, and how obliquely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.phantom import FloatArray, IntArray
from thermocancer.phantom.anatomy import Body, smooth_step

AZIMUTHS = {"Frontal": 0.0, "Right45": -np.pi / 4, "Right": -np.pi / 2, "Left45": np.pi / 4, "Left": np.pi / 2}
"""Where the camera stands around the patient, radians; the patient's right is negative."""

SKIN_INDEX = 1.33
"""Refractive index that gives skin its emissivity of .98 seen square on, and its fall when seen obliquely."""

ROUGHNESS = 0.3
"""Slope of the skin's own relief (root mean square): what keeps the rim of a body from going dark."""

ARM_LENGTH = 300.0
CREASE = 9.0
"""Millimetres of depth over which arm and torso run into one another."""


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

    def normals(self) -> tuple[FloatArray, FloatArray]:
        """x and z components of the skin's unit normal, (rows, samples)."""
        r = self.radius
        across = np.gradient(r, self.azimuth, axis=1) / r
        up = np.gradient(r, self.heights, axis=0)
        length = np.sqrt(1.0 + across**2 + up**2)
        sine, cosine = np.sin(self.azimuth), np.cos(self.azimuth)
        return (sine - cosine * across) / length, (cosine + sine * across) / length


@dataclass(frozen=True)
class Sight:
    """One view: what each pixel shows.

    ``torso`` (n) are the flat pixels that show torso, in order; ``corner``, ``down``, ``across`` (n) their
    places on the coarse skin grid. The other arrays are (rows, columns): ``arm`` share of arm, 0 torso to 1;
    ``along`` 0 shoulder to 1 elbow; ``around`` -1 to 1 across the right arm, 2 to 4 across the left one;
    ``body`` is it skin at all; ``cosine`` between line of sight and normal.
    """

    torso: IntArray
    corner: IntArray
    down: FloatArray
    across: FloatArray
    arm: FloatArray
    along: FloatArray
    around: FloatArray
    body: npt.NDArray[np.bool_]
    cosine: FloatArray

    def from_grid(self, maps: FloatArray) -> FloatArray:
        """Coarse maps (k, grid rows, samples) as the camera sees them: (k, rows, columns), 0 off the torso."""
        count, _, samples = maps.shape
        # side by side, so that one look-up finds the values of all maps
        flat = np.ascontiguousarray(maps.reshape(count, -1).T)
        across, down = self.across[:, None], self.down[:, None]
        upper, lower = flat[self.corner], flat[self.corner + samples]
        upper += across * (flat[self.corner + 1] - upper)
        lower += across * (flat[self.corner + samples + 1] - lower)
        lower -= upper
        lower *= down
        upper += lower
        image = np.zeros((count, self.arm.size))
        image[:, self.torso] = upper.T
        return image.reshape(count, *self.arm.shape)


class Stage:
    """The body in front of the camera: sampled once, looked at from five sides."""

    def __init__(self, body: Body, framing: Framing) -> None:
        self.body, self.framing = body, framing
        samples = max(200, int(2.6 * np.pi * body.half_width / framing.pitch))
        self._fine = _sample(body, framing.heights(), samples)
        self._normals = self._fine.normals()
        # temperatures vary over millimetres: every second row and sample is enough for them
        step = max(1, round(1.4 / framing.pitch))
        ends = framing.heights()[[0, -1]]
        rows = int(np.ceil((framing.rows - 1) / step)) + 1
        self.grid = _sample(body, np.linspace(ends[0], ends[1], rows), max(200, samples // step))

    def look(self, view: str) -> Sight:
        """Project torso and arms as the camera of ``view`` sees them (parallel rays, level camera)."""
        angle = AZIMUTHS[view]
        sample, depth = _visible(self.framing, self._fine, angle)
        torso = sample >= 0
        nearest = np.clip(np.rint(sample).astype(np.int64), 0, len(self._fine.azimuth) - 1)
        nearest += np.arange(self.framing.rows)[:, None] * len(self._fine.azimuth)
        x, z = (part.ravel()[nearest] for part in self._normals)
        cosine = np.where(torso, np.maximum(x * np.sin(angle) + z * np.cos(angle), 0.0), 0.0)
        arm, along, around = (np.zeros(sample.shape) for _ in range(3))
        upper = slice(0, int(np.searchsorted(-self._fine.heights, self.body.arm_radius - self.body.arm_height)))
        for side in (-1, 1):
            share, part, across, arm_depth, arm_cosine = _arm(self.body, self.framing, angle, side, depth[upper])
            cosine[upper] += share * (arm_cosine - cosine[upper])
            along[upper] += share * (part - along[upper])
            arm[upper] += share * (1.0 - arm[upper])
            around[upper] = np.where(share > 0, across + (3.0 if side > 0 else 0.0), around[upper])
            depth[upper] = np.where(share > 0.5, arm_depth, depth[upper])
        # skin is rough: its furrows turn some of it towards any camera
        cosine = np.sqrt((np.minimum(cosine, 1.0) ** 2 + ROUGHNESS**2) / (1.0 + ROUGHNESS**2))
        # flat pixels that show torso, and their places on the coarse grid
        rows, samples = self.grid.radius.shape
        row, column = np.nonzero(torso & (arm < 1.0))
        down = row * ((rows - 1) / (self.framing.rows - 1))
        across = sample[row, column] * ((samples - 1) / (len(self._fine.azimuth) - 1))
        low_r = np.minimum(down.astype(np.int64), rows - 2)
        low_s = np.minimum(across.astype(np.int64), samples - 2)
        shown, corner = row * self.framing.columns + column, low_r * samples + low_s
        body = torso | (arm > 0)
        return Sight(shown, corner, down - low_r, across - low_s, arm, along, around, body, cosine)


def _sample(body: Body, heights: FloatArray, samples: int) -> SkinGrid:
    azimuth = np.linspace(-2.9, 2.9, samples)
    return SkinGrid(azimuth, heights, body.radius(azimuth, heights[:, None]))


def _visible(framing: Framing, grid: SkinGrid, angle: float) -> tuple[FloatArray, FloatArray]:
    """For every pixel the foremost sample of its row (fractional, -1 for none) and its depth in millimetres."""
    rows, columns = framing.rows, framing.columns
    facing = np.flatnonzero(np.abs(grid.azimuth - angle) < 2.0)
    turned = grid.azimuth[facing] - angle
    radius = grid.radius[:, facing[0] : facing[-1] + 1]
    position = radius * (np.sin(turned) / framing.pitch)
    position += columns / 2 - 0.5 - framing.left / framing.pitch
    depth = radius * np.cos(turned)
    row = np.arange(rows)[:, None] * columns
    number = np.broadcast_to(facing.astype(np.float64), position.shape)
    splats: list[tuple[IntArray, FloatArray, FloatArray]] = []

    def splat(position: FloatArray, depth: FloatArray, number: FloatArray, row: IntArray) -> None:
        """Keep the points that fall into the frame: flat pixel, depth, sample."""
        column = np.rint(position).astype(np.int64)
        inside = (column >= 0) & (column < columns)
        splats.append(((column + row)[inside], depth[inside], number[inside]))

    splat(position, depth, number, row)
    # steep flanks jump over pixels: put points between samples there, or the chest behind shows through
    stride = np.abs(np.diff(position, axis=1))
    for parts in (2, 4, 8):
        at, sample = np.nonzero((stride > parts / 2) & (stride <= parts) if parts < 8 else stride > parts / 2)
        for part in range(1, parts):
            share = part / parts
            between = (position[at, sample] * (1 - share) + position[at, sample + 1] * share)[:, None]
            halfway = (depth[at, sample] * (1 - share) + depth[at, sample + 1] * share)[:, None]
            splat(between, halfway, (facing[0] + sample + share)[:, None], at[:, None] * columns)
    place, front, index = (np.concatenate(each) for each in zip(*splats, strict=True))
    nearest: FloatArray = np.full(rows * columns, -np.inf)
    np.maximum.at(nearest, place, front)
    wins = front == nearest[place]
    foremost: FloatArray = np.full(rows * columns, -1.0)
    foremost[place[wins]] = index[wins]
    nearest[np.isneginf(nearest)] = -1e9
    foremost, nearest = foremost.reshape(rows, columns), nearest.reshape(rows, columns)
    _fill_gaps(foremost, nearest)
    return foremost, nearest


def _fill_gaps(index: FloatArray, depth: FloatArray) -> None:
    """Pixels between two skin pixels of a row are skin: take over the one on their left, or interpolate."""
    columns = index.shape[1]
    here = np.arange(columns)
    known = index >= 0
    left = np.maximum.accumulate(np.where(known, here, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, here, columns)[:, ::-1], axis=1)[:, ::-1]
    row, column = np.nonzero(~known & (left >= 0) & (right < columns))
    a, b = left[row, column], right[row, column]
    low, high = index[row, a], index[row, b]
    part = (column - a) / (b - a)
    # across a cliff (the rim of a breast in front of the chest) nothing lies between
    smooth = np.abs(depth[row, a] - depth[row, b]) < 8.0
    index[row, column] = np.where(smooth, low + part * (high - low), np.where(part < 0.5, low, high))
    depth[row, column] = np.where(part < 0.5, depth[row, a], depth[row, b])


def _arm(
    body: Body, framing: Framing, angle: float, side: int, depth: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """A raised upper arm before ``depth``: (share of arm, way to the elbow, place across it, depth, cosine)."""
    root = np.array([side * 0.80 * body.half_width, body.arm_height, -0.10 * body.half_depth])
    direction = np.array([side * np.cos(body.arm_angle), np.sin(body.arm_angle), -0.20])
    direction /= np.sqrt(np.sum(direction**2))
    cosine, sine = np.cos(angle), np.sin(angle)
    root, direction = (
        np.array([cosine * x - sine * z, y, sine * x + cosine * z]) for x, y, z in (root, direction)
    )  # as the camera sees them
    x = framing.abscissae()[None, :] - root[0]
    y = framing.heights()[: len(depth), None] - root[1]
    flat = direction[0] ** 2 + direction[1] ** 2
    # off the ends the nearest point of the axis is the end itself
    way = (x * direction[0] + y * direction[1]) / (flat * ARM_LENGTH)
    along = np.clip(way, 0.0, 1.0)
    dx, dy = x - along * (ARM_LENGTH * direction[0]), y - along * (ARM_LENGTH * direction[1])
    radius = body.arm_radius * (1.0 - 0.30 * smooth_step(along * 1.2))
    bulge = radius**2 - dx**2 - dy**2
    height = np.sqrt(np.maximum(bulge, 0.0))
    front = root[2] + along * (ARM_LENGTH * direction[2]) + height
    # the shoulder end runs out into the torso, where there is a torso to run into
    joined = np.where(depth > -1e8, smooth_step(1.0 + way * (ARM_LENGTH / body.arm_radius)), 1.0)
    share = np.where(bulge > 0, smooth_step((front - depth) / (2 * CREASE) + 0.5) * joined, 0.0)
    across = (dy * direction[0] - dx * direction[1]) / (np.sqrt(flat) * radius)
    return share, along, across, front, height / radius


def emissivity(cosine: FloatArray) -> FloatArray:
    """Emissivity of skin against the cosine of the viewing angle: 1 minus Fresnel's reflectance.

    .98 square on, .94 at 60 degrees, .65 at 80 degrees (unpolarised, index 1.33).
    """
    n = SKIN_INDEX
    inner = np.sqrt(1.0 - (1.0 - cosine**2) / n**2)
    across = ((cosine - n * inner) / (cosine + n * inner)) ** 2
    along = ((inner - n * cosine) / (inner + n * cosine)) ** 2
    return 1.0 - (across + along) / 2


def apparent_celsius(celsius: FloatArray, cosine: FloatArray, room_celsius: float) -> tuple[FloatArray, FloatArray]:
    """What a camera set to emissivity .98 reads: emitted plus reflected room radiation, as T^4.

    Returns the reading and its derivative by the skin's temperature.
    """
    square_on = float(emissivity(np.ones(1))[0])
    share = emissivity(cosine) / square_on
    room = (room_celsius + 273.15) ** 4
    kelvin = celsius + 273.15
    reading = np.sqrt(np.sqrt(room + share * (kelvin**4 - room)))
    return reading - 273.15, share * (kelvin / reading) ** 3
