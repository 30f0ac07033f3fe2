"""Which exams of a data set count, and matching healthy with sick exams by date and room.

Matching is the remedy against shortcuts of the calendar: healthy and sick exams are made to agree in
exam date and background temperature before a model sees them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import CohortSection
from thermocancer.data.exams import Exam, ExamSource, FloatArray, IntArray
from thermocancer.errors import ConfigError, DataError


def choose_rows(source: ExamSource, config: CohortSection) -> tuple[IntArray, FloatArray]:
    """The rows of ``source`` that count, ascending, and a weight for each (mean 1 in each class).

    ``layouts`` and ``exclude`` drop exams. ``match: choose`` keeps the largest set of healthy-sick
    pairs within ``match_days`` and ``match_room_celsius``, each exam once, nearest first among equals.
    ``match: weight`` keeps every exam that has a counterpart and weights the healthy ones so that
    their dates and rooms are distributed as those of the sick. Raises ConfigError for an ``exclude``
    entry that is no exam of the data set, DataError when nothing is left.
    """
    rows = _wanted(source.exams, config)
    if config.match == "none":
        return rows, np.ones(len(rows))
    near, distance = _pairs(source, rows, config)
    labels = np.array([source.exams[row].label for row in rows])
    healthy, sick = rows[labels == 0], rows[labels == 1]
    if not near.any():
        raise DataError(
            "no healthy and sick exam can be matched",
            where="cohort.match",
            expected=f"exams within {config.match_days} days and {config.match_room_celsius} degC of the room",
            found=f"{len(healthy)} healthy and {len(sick)} sick exams, none that near (or without dates)",
            hint="widen cohort.match_days or cohort.match_room_celsius, or set cohort.match to none",
        )
    if config.match == "choose":
        chosen = _largest_matching(near, distance)
        kept = np.sort(np.concatenate([healthy[chosen[0]], sick[chosen[1]]]))
        return kept, np.ones(len(kept))
    return _weighted(healthy, sick, near)


def _wanted(exams: Sequence[Exam], config: CohortSection) -> IntArray:
    excluded = set(config.exclude)
    known = {exam.key for exam in exams} | {str(exam.patient) for exam in exams}
    if excluded - known:
        raise ConfigError(
            "cohort.exclude names an exam that the data set does not have",
            where="cohort.exclude",
            expected="PATIENT or PATIENT_VISIT, such as 276 or 276_1",
            found=", ".join(sorted(excluded - known)),
        )
    rows = [
        row
        for row, exam in enumerate(exams)
        if (not config.layouts or exam.layout in config.layouts) and not {exam.key, str(exam.patient)} & excluded
    ]
    if not rows:
        raise DataError(
            "no exam is left",
            where="cohort.layouts",
            expected=f"one of: {', '.join(sorted({exam.layout for exam in exams}))}",
            found=", ".join(config.layouts),
        )
    return np.array(rows, dtype=np.int64)


def _pairs(source: ExamSource, rows: IntArray, config: CohortSection) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """For each healthy (down) and sick (across) exam: near enough, and how far apart in units of the limits."""
    measured = source.nuisance()
    missing = [name for name in ("date_ordinal", "room_celsius") if name not in measured]
    if missing:
        raise DataError(
            "exams cannot be matched", where="cohort.match", expected="measured nuisance", found=f"no {missing}"
        )
    labels = np.array([source.exams[row].label for row in rows])
    distance = np.zeros((int((labels == 0).sum()), int((labels == 1).sum())))
    limits = {"date_ordinal": float(config.match_days), "room_celsius": config.match_room_celsius}
    near = np.ones(distance.shape, bool)
    for name, limit in limits.items():
        values = measured[name][rows] / limit
        apart = np.abs(values[labels == 0][:, None] - values[labels == 1][None, :])
        near &= apart <= 1  # False where unknown (NaN)
        distance += apart
    return near, distance


def _largest_matching(near: npt.NDArray[np.bool_], distance: FloatArray) -> tuple[IntArray, IntArray]:
    """As many pairs as possible, and among those the nearest: an assignment problem."""
    from scipy.optimize import linear_sum_assignment

    too_far = 1e3 * (1 + min(near.shape))  # dearer than every real pair together
    healthy, sick = linear_sum_assignment(np.where(near, np.nan_to_num(distance), too_far))
    real = near[healthy, sick]
    return healthy[real], sick[real]


def _weighted(healthy: IntArray, sick: IntArray, near: npt.NDArray[np.bool_]) -> tuple[IntArray, FloatArray]:
    """Each sick exam spreads a weight of one over its healthy counterparts."""
    counterparts = near.sum(axis=0)
    shares = near[:, counterparts > 0] / counterparts[counterparts > 0]
    healthy_weights = shares.sum(axis=1)
    kept_healthy, kept_sick = healthy_weights > 0, counterparts > 0
    rows = np.concatenate([healthy[kept_healthy], sick[kept_sick]])
    weights = np.concatenate([
        healthy_weights[kept_healthy] / healthy_weights[kept_healthy].mean(), np.ones(int(kept_sick.sum())),
    ])  # fmt: skip
    order = np.argsort(rows, kind="stable")
    return rows[order], weights[order]
