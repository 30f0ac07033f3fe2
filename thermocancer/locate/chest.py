"""Every thermogram on one grid: the torso in the middle, as wide as everybody's, whatever the camera's distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from thermocancer.errors import DataError
from thermocancer.locate import Cells, FloatArray
from thermocancer.thermal.regions import Mask, filled, midline, torso_mask

ROWS, COLUMNS = 64, 88
HALF_WIDTH = 36.0
"""Cells from the midline to the torso's flank; a cell is about 4.4 mm of an average woman."""

CELL_MM = 4.4
"""Millimetres a cell, on average over phantoms (half width 152 mm)."""

OBLIQUE = ("Right45", "Left45")
"""Views read beside the frontal one, at half the grid's resolution."""

COARSE_ROWS = 120
"""Frames are averaged down to about so many rows first: a pixel is then smaller than a cell, and noise is gone."""


Place = TypeVar("Place", float, FloatArray)


@dataclass(frozen=True)
class Chest:
    """The grid on a frame: pixels (of the frame) a cell, and the frame's column and row of the grid's corner."""

    pixels: float
    left: float
    top: float

    def cells_of(self, column: FloatArray, row: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Places in the frame (in pixels, 0 at its edge) as (row, column) on the grid, 0 at its edge."""
        return (row - self.top) / self.pixels, (column - self.left) / self.pixels

    def pixels_of(self, row: Place, column: Place) -> tuple[Place, Place]:
        """The inverse: places on the grid as (column, row) of the frame."""
        return self.left + column * self.pixels, self.top + row * self.pixels

    def sample(self, maps: FloatArray) -> Cells:
        """Maps (k, height, width) of the frame on the grid, (k, ROWS, COLUMNS) float32; its edge goes on beyond it."""
        import cv2

        height = maps.shape[1]
        step = max(1, height // COARSE_ROWS)
        back = self.pixels / step
        # pixel centres: a cell's centre in coarse pixels, less half a pixel
        there = np.array(
            [[back, 0, self.left / step + 0.5 * back - 0.5], [0, back, self.top / step + 0.5 * back - 0.5]]
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.stack([
            cv2.warpAffine(_averaged(each, step), there, (COLUMNS, ROWS), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for each in maps
        ])  # fmt: skip


def _averaged(celsius: FloatArray, step: int) -> Cells:
    height, width = (length // step * step for length in celsius.shape)
    blocks = celsius[:height, :width].reshape(height // step, step, width // step, step)
    return np.ascontiguousarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def find_chest(celsius: FloatArray, torso: Mask | None = None) -> Chest:
    """Lay the grid over a frame (height, width) by the outline of its ``torso``: its midline and its median width.

    The grid's middle is 5 % of the frame's height below the frame's own: the nipples are about there.
    """
    height, width = celsius.shape
    torso = torso_mask(celsius) if torso is None else torso
    band = torso[int(0.40 * height) : int(0.75 * height)]
    rows = band[band.any(axis=1)]
    wide = width - rows[:, ::-1].argmax(axis=1) - rows.argmax(axis=1) if len(rows) else np.array([width])
    pixels = float(np.clip(np.median(wide) / (2 * HALF_WIDTH), width / 400, width / 40))
    middle = midline(celsius, torso)
    return Chest(pixels, middle - COLUMNS / 2 * pixels, 0.55 * height - ROWS / 2 * pixels)


def shown(views: Mapping[str, FloatArray], frames: FloatArray | None = None) -> dict[str, Cells]:
    """What a network is shown of one exam, from frames (height, width) in degC by view; ``Frontal`` must be there.

    ``frames`` (T, height, width) are those of a dynamic exam, in order; without ``Frontal`` their last quarter stands
    for it. A pixel that is NaN is no torso and holds its background. ``frontal`` (1, ROWS, COLUMNS, 2), ``oblique`` (1,
    2, ROWS / 2, COLUMNS / 2, 2), the left view mirrored, and ``dynamic`` (1, ROWS, COLUMNS, 2): zeros for what is
    missing.
    """
    oblique = np.zeros((1, len(OBLIQUE), ROWS // 2, COLUMNS // 2, 2), np.float32)
    for number, view in enumerate(OBLIQUE):
        if view in views:
            grid = centred(*halved(_with_mask(views[view])))
            oblique[0, number] = grid[:, ::-1] if view.startswith("Left") else grid
    dynamic = np.zeros((1, ROWS, COLUMNS, 2), np.float32)
    frontal = views.get("Frontal")
    if frames is not None:
        change, bend, late = np.tensordot(course_weights(len(frames)), frames, axes=1)
        frontal = late if frontal is None else frontal
        torso, known = torso_mask(late), ~np.isnan(late)
        told = [np.where(known, each, np.median(each[known])) for each in (change, bend)]
        dynamic[0] = recovering(*find_chest(late, torso).sample(np.stack([*told, torso])))
    if frontal is None:
        raise DataError("an exam has no frontal view", expected="Frontal, or the frames of a dynamic exam")
    return {"frontal": centred(*_with_mask(frontal))[None], "oblique": oblique, "dynamic": dynamic}


def course_weights(frames: int) -> FloatArray:
    """What a recovery of so many frames is told by, as weights (3, frames).

    Its last quarter less its first; its middle half less the mean of both; the last quarter itself.
    """
    quarter = max(1, frames // 4)
    first, last, middle = (np.zeros(frames) for _ in range(3))
    first[:quarter], last[-quarter:] = 1.0 / quarter, 1.0 / quarter
    inside = slice(quarter, frames - quarter) if frames > 2 * quarter else slice(None)
    middle[inside] = 1.0 / len(middle[inside])
    return np.stack([last - first, middle - (first + last) / 2, last])


def recovering(change: Cells, bend: Cells, body: Cells) -> Cells:
    """Two maps of a recovery (..., ROWS, COLUMNS) about the torso's medians, in fifths of a degree: (..., 2)."""
    seen = np.stack([change, bend], axis=-1)
    inside = np.where(body[..., None] > 0.5, seen, np.nan)
    middle = np.nanmedian(inside, axis=(-3, -2), keepdims=True)
    return np.where(body[..., None] > 0.5, np.clip(5.0 * (seen - middle), -5.0, 5.0), 0.0).astype(np.float32)


def _with_mask(celsius: FloatArray) -> Cells:
    """A frame's degrees and its torso on the grid, (2, ROWS, COLUMNS)."""
    torso = torso_mask(celsius)
    return find_chest(celsius, torso).sample(np.stack([filled(celsius), torso]))


def halved(cells: Cells) -> Cells:
    """Maps (..., ROWS, COLUMNS) at half the resolution."""
    blocks = cells.reshape(*cells.shape[:-2], ROWS // 2, 2, COLUMNS // 2, 2)
    return np.asarray(blocks.mean(axis=(-3, -1)), dtype=np.float32)


def centred(grid: Cells, body: Cells) -> Cells:
    """Temperatures (..., rows, columns) about the median of the torso in each, and its mask: (..., 2).

    Room and everything colder than 6 degC below the median are cut off.
    """
    inside = np.where(body > 0.5, grid, np.nan)
    middle = np.nanmedian(inside.reshape(*grid.shape[:-2], -1), axis=-1)[..., None, None]
    return np.stack([np.clip(np.where(body > 0.5, grid - middle, -6.0), -6.0, 6.0), body], axis=-1).astype(np.float32)
