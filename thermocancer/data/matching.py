"""Which exams of a data set count, and matching healthy with sick exams by date and room.

Matching is the remedy against shortcuts of the calendar: healthy and sick exams are made to agree in
exam date and background temperature before a model sees them. Matches must not tell a training part of
what is tested: an exam whose match is tested does not teach, and weights know the training part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import CohortSection
from thermocancer.data.cohort import Cohort, Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError


def choose_rows(source: Cohort, config: CohortSection) -> tuple[IntArray, FloatArray]:
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
    if config.match == "choose":
        paired = np.sort(np.concatenate(_pairs(source, rows, config)))
        return paired, np.ones(len(paired))
    return _weighted(*_near(source, rows, config)[:3])


def keep_matches_apart(source: Cohort, folds: Sequence[Fold], config: CohortSection) -> list[Fold]:
    """The folds, where ``match: choose`` paired exams, without training exams whose match is tested.

    An exam next to the tested one in time, of the other class, would teach whatever follows the calendar to
    answer wrongly (AUC .11 instead of .5 on meaningless labels).
    """
    if config.match != "choose":
        return list(folds)
    healthy, sick = _pairs(source, _wanted(source.exams, config), config)
    pairs = list(zip(healthy.tolist(), sick.tolist(), strict=True))
    match = dict(pairs) | {second: first for first, second in pairs}
    return [
        Fold(fold.name, np.setdiff1d(fold.train, [match[row] for row in fold.test.tolist() if row in match]), fold.test)
        for fold in folds
    ]


@dataclass(frozen=True)
class MatchWeights:
    """Weights of ``match: weight`` for one training part after another; index it with the rows of the part.

    ``measures`` (2, n) are date and room in units of their limits, ``labels`` (n,). Counterparts are looked for
    among the rows alone: weights by all exams would tell them when the tested sick were imaged.
    """

    measures: FloatArray
    labels: IntArray

    @classmethod
    def of(cls, source: Cohort, config: CohortSection) -> MatchWeights:
        """Raises DataError when date or room are not measured."""
        return cls(_measures(source, config), np.array([exam.label for exam in source.exams], dtype=np.int64))

    def __getitem__(self, rows: IntArray) -> FloatArray:
        """Weights (len(rows),), mean 1 in each class; next to none for an exam without a counterpart."""
        part, place = np.unique(rows, return_inverse=True)
        healthy, sick = (part[self.labels[part] == label] for label in (0, 1))
        near, _ = _apart(self.measures, healthy, sick)
        if not near.any():
            return np.ones(len(rows))
        kept, weights = _weighted(healthy, sick, near)
        found = np.full(len(part), LEAST_WEIGHT)
        found[np.searchsorted(part, kept)] = np.maximum(weights, LEAST_WEIGHT)
        return np.asarray(found[place])

    @property
    def identity(self) -> list[str]:
        """Changes with the limits and with what was measured (NaN included)."""
        return ["within each training part", *(repr(each.tolist()) for each in self.measures)]


ExamWeights = FloatArray | MatchWeights
"""What is indexed with the rows of a training part for their weights."""

LEAST_WEIGHT = 1e-3
"""Libraries do not take a weight of 0 alike."""


def _pairs(source: Cohort, rows: IntArray, config: CohortSection) -> tuple[IntArray, IntArray]:
    """The healthy and the sick exam of every pair of ``match: choose``.

    As many pairs as possible, and among those the nearest: an assignment problem.
    """
    from scipy.optimize import linear_sum_assignment

    healthy, sick, near, distance = _near(source, rows, config)
    too_far = 1e3 * (1 + min(near.shape))  # dearer than every real pair together
    down, across = linear_sum_assignment(np.where(near, np.nan_to_num(distance), too_far))
    real = near[down, across]
    return healthy[down[real]], sick[across[real]]


def _near(
    source: Cohort, rows: IntArray, config: CohortSection
) -> tuple[IntArray, IntArray, npt.NDArray[np.bool_], FloatArray]:
    """Healthy and sick rows, and what ``_apart`` says of them. Raises DataError where none are near."""
    labels = np.array([source.exams[row].label for row in rows])
    healthy, sick = rows[labels == 0], rows[labels == 1]
    near, distance = _apart(_measures(source, config), healthy, sick)
    if not near.any():
        raise DataError(
            "no healthy and sick exam can be matched", where="cohort.match",
            expected=f"exams within {config.match_days} days and {config.match_room_celsius} degC of the room",
            found=f"{len(healthy)} healthy and {len(sick)} sick exams, none that near (or without dates)",
            hint="widen cohort.match_days or cohort.match_room_celsius, or set cohort.match to none",
        )  # fmt: skip
    return healthy, sick, near, distance


def _wanted(exams: Sequence[Exam], config: CohortSection) -> IntArray:
    excluded = set(config.exclude)
    known = {exam.key for exam in exams} | {str(exam.patient) for exam in exams}
    if excluded - known:
        raise ConfigError(
            "cohort.exclude names an exam that the data set does not have", where="cohort.exclude",
            expected="PATIENT or PATIENT_VISIT, such as 276 or 276_1", found=", ".join(sorted(excluded - known)),
        )  # fmt: skip
    rows = [
        row
        for row, exam in enumerate(exams)
        if (not config.layouts or exam.layout in config.layouts) and not {exam.key, str(exam.patient)} & excluded
    ]
    if not rows:
        layouts = sorted({exam.layout for exam in exams})
        raise DataError(
            "no exam is left", where="cohort.layouts",
            expected=f"one of: {', '.join(layouts)}", found=", ".join(config.layouts),
        )  # fmt: skip
    return np.array(rows, dtype=np.int64)


def _measures(source: Cohort, config: CohortSection) -> FloatArray:
    """Date and room of every exam in units of their limits, (2, n)."""
    measured = source.nuisance()
    limits = {"date_ordinal": float(config.match_days), "room_celsius": config.match_room_celsius}
    missing = [name for name in limits if name not in measured]
    if missing:
        expected, found = "measured nuisance", f"no {missing}"
        raise DataError("exams cannot be matched", where="cohort.match", expected=expected, found=found)
    return np.stack([measured[name] / limit for name, limit in limits.items()])


def _apart(measures: FloatArray, healthy: IntArray, sick: IntArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """For each healthy (down) and sick (across) exam: near enough, and how far apart in units of the limits."""
    apart = np.abs(measures[:, healthy][:, :, None] - measures[:, sick][:, None, :])  # (2, healthy, sick)
    return np.asarray((apart <= 1).all(axis=0)), np.asarray(apart.sum(axis=0))  # False where unknown (NaN)


def _weighted(healthy: IntArray, sick: IntArray, near: npt.NDArray[np.bool_]) -> tuple[IntArray, FloatArray]:
    """Each sick exam spreads a weight of one over its healthy counterparts."""
    counterparts = near.sum(axis=0)
    shares = near[:, counterparts > 0] / counterparts[counterparts > 0]
    healthy_weights = shares.sum(axis=1)
    kept_healthy, kept_sick = healthy_weights > 0, counterparts > 0
    rows = np.concatenate([healthy[kept_healthy], sick[kept_sick]])
    of_healthy = healthy_weights[kept_healthy]
    weights = np.concatenate([of_healthy / of_healthy.mean(), np.ones(int(kept_sick.sum()))])
    order = np.argsort(rows, kind="stable")
    return rows[order], weights[order]
