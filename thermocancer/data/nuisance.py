"""What can be measured of an exam without looking at the breast: room, marker, framing, camera, calendar.

If these numbers predict the label, a network can too without seeing disease. The audit, matching
and residualising all read them from the data set. Temperatures are in degC, lengths and areas are
shares of the frame, dates are days (proleptic Gregorian ordinals); NaN is unknown.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import Exam, FloatArray
from thermocancer.thermal.regions import find_marker, room_mask, torso_mask

OUTSIDE_THE_BREAST = (
    "room_celsius", "room_spread", "marker_area", "marker_contrast", "marker_celsius", "torso_area", "centroid_x",
    "centroid_y", "bottom_width",
)  # fmt: skip
"""Nine numbers from room, marker and framing: the model that sees no breast."""

LAYOUT = "layout_"
_ROWS = 240
_LEAST_ROOM = 50  # pixels; with less background than this the room is unknown


def measure_matrix(celsius: npt.NDArray[np.floating]) -> dict[str, float]:
    """Everything that one matrix (H, W) in degC tells without the breast.

    ``sharpness`` is the logarithm of the Laplacian's variance along the body's outline (inside the body it
    would also count vessels). Large frames are averaged down to about 240 rows first: four times as fast,
    and no figure needs more.
    """
    import cv2

    small = np.ascontiguousarray(celsius, dtype=np.float32)
    rows, columns = small.shape
    step = max(1, rows // _ROWS)
    if step > 1:
        small = cv2.resize(small, (columns // step, rows // step), interpolation=cv2.INTER_AREA).astype(np.float32)
    torso = torso_mask(small)
    room = small[room_mask(torso)]
    if room.size < _LEAST_ROOM:
        room = small[~torso]
    known = room.size >= _LEAST_ROOM
    marker = find_marker(small, torso)
    height, width = torso.shape
    row_sums, column_sums = torso.sum(axis=1), torso.sum(axis=0)
    area = float(row_sums.sum())
    with_body = np.flatnonzero(row_sums > 0.02 * width)
    reach = max(3, round(0.02 * height) | 1)
    square, body = np.ones((reach, reach), np.uint8), torso.astype(np.uint8)
    outline = cv2.dilate(body, square) != cv2.erode(body, square)
    edges = cv2.Laplacian(small, cv2.CV_32F)[outline]
    return {
        "room_celsius": float(np.median(room)) if known else float("nan"),
        "room_spread": float(room.std(dtype=np.float64)) if known else float("nan"),
        "frame_minimum": float(celsius.min()),
        "marker_area": float(marker.mask.mean()) if marker else 0.0,
        "marker_contrast": marker.contrast if marker else 0.0,
        "marker_celsius": marker.celsius if marker else float("nan"),
        "torso_area": area / torso.size,
        "centroid_x": float(column_sums @ np.arange(width)) / area / width,
        "centroid_y": float(row_sums @ np.arange(height)) / area / height,
        "top_width": float(np.median(row_sums[: height // 4])) / width,
        "bottom_width": float(np.median(row_sums[3 * height // 4 :])) / width,
        "top_row": float(with_body[0]) / height if with_body.size else 0.0,
        "bottom_row": float(with_body[-1]) / height if with_body.size else 1.0,
        "sharpness": float(np.log(edges.var(dtype=np.float64) + 1e-6)) if outline.any() else float("nan"),
    }


def catalog_measures(exam: Exam, file_bytes: int) -> dict[str, float]:
    """Facts of the catalog about one exam, as numbers: patient (enrolment order), visit, date and file size."""
    day = float(datetime.date.fromisoformat(exam.date).toordinal()) if exam.date else float("nan")
    return {
        "patient": float(exam.patient),
        "visit": float(exam.visit),
        "date_ordinal": day,
        "file_bytes": float(file_bytes),
    }


def nuisance_columns(exams: Sequence[Exam], measured: Sequence[Mapping[str, float]]) -> dict[str, FloatArray]:
    """One array (n,) a variable, NaN where unmeasured, and ``layout_NAME`` 0 or 1 for each acquisition layout."""
    names = sorted({name for row in measured for name in row})
    columns = {name: np.array([row.get(name, np.nan) for row in measured], dtype=np.float64) for name in names}
    for layout in sorted({exam.layout for exam in exams}):
        columns[f"{LAYOUT}{layout or 'unknown'}"] = np.array([float(exam.layout == layout) for exam in exams])
    return columns
