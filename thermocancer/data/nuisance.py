"""What can be measured of an exam without looking at the breast: room, marker, framing, camera, calendar.

If these numbers predict the label, a network can too without seeing disease. The audit, matching
and residualising all read them from the data set. Temperatures are in degC, lengths and areas are
shares of the frame, dates are days (proleptic Gregorian ordinals); NaN is unknown.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import BoolArray, Exam, FloatArray
from thermocancer.thermal.regions import filled, find_marker, resize_missing, room_mask, torso_mask

OUTSIDE_THE_BREAST = (
    "room_celsius", "room_spread", "marker_area", "marker_celsius", "torso_area", "centroid_x", "centroid_y",
    "bottom_width",
)  # fmt: skip
"""Eight numbers from room, marker and framing: the model that sees no breast."""

RETIRED = ("marker_contrast", "sharpness")
"""Names under which earlier versions stored numbers that rise with the skin's temperature: nobody reads them."""

LAYOUT = "layout_"
MISSING_SHARE = "missing_share"
"""Share of an exam's frames without temperatures; a variable where some exam has such pixels, 0 for the others."""

_ROWS = 240
_LEAST_ROOM = 50  # pixels; with less background than this the room is unknown
_LEAST_EDGE = 1.0  # degC between skin and room


def measure_matrix(celsius: npt.NDArray[np.floating]) -> dict[str, float]:
    """Everything that one matrix (H, W) in degC tells without the breast, and that warmer skin leaves as it is.

    Pixels that are NaN count nowhere. Large frames are averaged down to about 240 rows first: four times as fast, and
    no figure needs more.
    """
    import cv2

    rows, columns = celsius.shape
    gaps = bool(np.isnan(celsius).any())
    small = np.ascontiguousarray(filled(celsius.astype(np.float64)) if gaps else celsius, dtype=np.float32)
    step = max(1, rows // _ROWS)
    if step > 1:
        small = cv2.resize(small, (columns // step, rows // step), interpolation=cv2.INTER_AREA).astype(np.float32)
    missing = resize_missing(np.isnan(celsius), small.shape) if gaps else np.zeros(small.shape, bool)
    seen = np.where(missing, np.float32(np.nan), small)
    torso = torso_mask(seen)
    far = room_mask(torso | missing)
    room = small[far]
    if room.size < _LEAST_ROOM:
        room = small[~torso & ~missing]
    known = room.size >= _LEAST_ROOM
    marker = find_marker(seen, torso)
    height, width = torso.shape
    row_sums, column_sums = torso.sum(axis=1), torso.sum(axis=0)
    area = float(row_sums.sum())
    with_body = np.flatnonzero(row_sums > 0.02 * width)
    reach = max(3, round(0.02 * height) | 1)
    square, body = np.ones((reach, reach), np.uint8), torso.astype(np.uint8)
    outline = cv2.dilate(body, square) != cv2.erode(body, square)
    outline &= cv2.dilate(missing.astype(np.uint8), square) == 0
    return {
        "room_celsius": float(np.median(room)) if known else float("nan"),
        "room_spread": float(room.std(dtype=np.float64)) if known else float("nan"),
        "frame_minimum": float(np.nanmin(celsius)),
        "marker_area": float(marker.mask.mean()) if marker else 0.0,
        "marker_celsius": marker.celsius if marker else float("nan"),
        "torso_area": area / torso.size,
        "centroid_x": float(column_sums @ np.arange(width)) / area / width,
        "centroid_y": float(row_sums @ np.arange(height)) / area / height,
        "top_width": float(np.median(row_sums[: height // 4])) / width,
        "bottom_width": float(np.median(row_sums[3 * height // 4 :])) / width,
        "top_row": float(with_body[0]) / height if with_body.size else 0.0,
        "bottom_row": float(with_body[-1]) / height if with_body.size else 1.0,
        "edge_sharpness": _edge_sharpness(small, torso, outline, far) if known else float("nan"),
    }


def _edge_sharpness(
    celsius: npt.NDArray[np.float32], torso: BoolArray, outline: BoolArray, far: BoolArray
) -> float:  # fmt: skip
    """Logarithm of the Laplacian's variance along the body's outline, of an edge of 1 degC and without noise.

    Inside the body it would also count vessels. The edge is as high as skin is warmer than room: undivided, the
    figure rises by 1.9 standard deviations of phantoms where skin is 1.5 degC warmer. The noise, measured in the
    room, does not grow with the edge: left in, blurred figures fall by up to 1.5. NaN without an edge to speak of.
    """
    import cv2

    height = float(np.median(celsius[torso]) - np.median(celsius[far])) if far.any() else 0.0
    if height < _LEAST_EDGE or not outline.any():
        return float("nan")
    bends = cv2.Laplacian(celsius, cv2.CV_32F).astype(np.float64)
    variance, noise = bends[outline].var(), bends[far].var()
    return float(np.log(max(variance - noise, 0.01 * variance, 1e-9)) - 2 * np.log(height))


def measure_picture(content: bytes, pixels: npt.NDArray[np.uint8]) -> dict[str, float]:
    """What an image file (H, W, channels) tells without any place in it: its size and the grey levels as stored."""
    import cv2

    grey = pixels.astype(np.float32).mean(axis=-1)
    return {
        "file_bytes": float(len(content)),
        "width": float(grey.shape[1]),
        "height": float(grey.shape[0]),
        "mean_grey": float(grey.mean()),
        "grey_spread": float(grey.std()),
        "grey_sharpness": float(np.log(cv2.Laplacian(grey, cv2.CV_32F).var() + 1e-6)),
    }


def catalog_measures(exam: Exam, file_bytes: float, assigned: Collection[str] = ()) -> dict[str, float]:
    """Facts of the catalog about one exam, as numbers: patient (enrolment order), visit, date and file size.

    ``assigned`` are ``patient`` and ``visit`` where the tool made the number up: it is no fact then, but NaN.
    """
    day = float(datetime.date.fromisoformat(exam.date).toordinal()) if exam.date else float("nan")
    known = {"patient": float(exam.patient), "visit": float(exam.visit)}
    return {
        **{name: float("nan") if name in assigned else value for name, value in known.items()},
        "date_ordinal": day,
        "file_bytes": float(file_bytes),
    }


def nuisance_columns(exams: Sequence[Exam], measured: Sequence[Mapping[str, float]]) -> dict[str, FloatArray]:
    """One array (n,) a variable, NaN where unmeasured, and ``layout_NAME`` 0 or 1 for each acquisition layout."""
    names = sorted({name for row in measured for name in row})
    absent = {MISSING_SHARE: 0.0}
    columns = {
        name: np.array([row.get(name, absent.get(name, np.nan)) for row in measured], dtype=np.float64)
        for name in names
    }
    for layout in sorted({exam.layout for exam in exams}):
        columns[f"{LAYOUT}{layout or 'unknown'}"] = np.array([float(exam.layout == layout) for exam in exams])
    return columns
