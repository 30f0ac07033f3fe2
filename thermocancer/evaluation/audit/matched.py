"""The model on pairs that the shortcuts cannot tell apart: close in date and in room temperature.

A pair counts where both of its exams were tested in one fold. Across folds the model that scored the sick one
had learnt that her neighbour in time is healthy, and the other way round: whatever follows the calendar then
ranks such pairs wrong (.29 instead of .5 for a support vector machine on meaningless dates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermocancer.data.cohort import BoolArray, FloatArray, IntArray
from thermocancer.evaluation.audit.scope import Scope, Tested
from thermocancer.evaluation.statistics.intervals import pairs_interval, wilson
from thermocancer.files import Json
from thermocancer.runs.predictions import Prediction

FEW_PAIRS, FEW_EXAMS = 100, 15
"""Below so many pairs, or sick or healthy exams among them, a matched AUC carries a warning."""


@dataclass(frozen=True)
class Matching:
    """Which pairs count: at most so many days and so many degC of background apart; None: not asked for."""

    days: float | None
    room_celsius: float | None

    def words(self) -> str:
        return self._joined("exam dates within {:g} days", "background within {:g} degC")

    def title(self) -> str:
        """The same, short enough for a plot."""
        return f"pairs within {self._joined('{:g} days', '{:g} degC of background')}"

    def _joined(self, *forms: str) -> str:
        limits = zip(forms, (self.days, self.room_celsius), strict=True)
        return " and ".join(form.format(limit) for form, limit in limits if limit is not None)


def exam_scores(scope: Tested, rows: Sequence[Prediction]) -> FloatArray:
    """Mean score of each exam in ``scope.exams`` over its rows; NaN where it was not scored. Shape (n,)."""
    places = {(exam.patient, exam.visit): place for place, exam in enumerate(scope.exams)}
    total, count = np.zeros(len(scope.exams)), np.zeros(len(scope.exams))
    for row in rows:
        place = places[row.patient, row.visit]
        total[place] += row.score
        count[place] += 1
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def matched_auc(
    scope: Scope, rows: Sequence[Prediction], matching: Matching, *, confidence: float, keep: BoolArray | None = None,
    within: str | None = None, across_folds: bool = False,
) -> Json | None:  # fmt: skip
    """Share of matched sick-healthy pairs of exams that the scores rank right, ties counting half.

    A pair counts once for every fold that tested both; with ``across_folds`` every pair counts once, by mean
    scores. ``keep`` (n,) restricts the exams. Returns None where no pair matches (or dates, or the room, are
    unknown).
    """
    usable = np.ones(len(scope.exams), bool) if keep is None else keep
    near: list[tuple[FloatArray, float]] = []
    for values, limit in ((scope.dates(), matching.days), (scope.nuisance("room_celsius"), matching.room_celsius)):
        if limit is not None:
            near.append((values[:, None], limit))
    found = auc_of_pairs(scope, rows, near, confidence=confidence, keep=usable, across_folds=across_folds)
    return found and {
        "title": matching.title() + (f", within {within}" if within else ""),
        "matching": matching.words(), "by_date": matching.days is not None,
        "by_room": matching.room_celsius is not None, "stratum": within, **found,
    }  # fmt: skip


def auc_of_pairs(
    scope: Tested, rows: Sequence[Prediction], near: Sequence[tuple[FloatArray, float]], *, confidence: float,
    keep: BoolArray, across_folds: bool = False,
) -> Json | None:  # fmt: skip
    """The same for pairs whose values (n, k) differ in every column by no more than the limit beside them."""
    scores = exam_scores(scope, rows)
    usable = np.isfinite(scores) & keep
    sick = np.flatnonzero(usable & (scope.labels == 1))
    healthy = np.flatnonzero(usable & (scope.labels == 0))
    patients = np.array([exam.patient for exam in scope.exams], dtype=np.int64)
    match = patients[sick][:, None] != patients[healthy]
    for columns, limit in near:
        for values in columns.T:
            match &= np.abs(values[sick][:, None] - values[healthy]) <= limit  # NaN: not within
    folds: dict[str, list[Prediction]] = {}
    for row in rows:
        folds.setdefault(row.fold, []).append(row)
    every = match * _meetings(scope, [rows], sick, healthy)  # (2, s, h): how often they met, and the sick one won
    met, won = every if across_folds else match * _meetings(scope, list(folds.values()), sick, healthy)
    if not met.any():
        return None
    of_sick, of_healthy = (_same_patient(patients[rows]) for rows in (sick, healthy))
    estimate = pairs_interval(of_sick @ won @ of_healthy.T, of_sick @ met @ of_healthy.T, confidence)
    pairs, met_sick, met_healthy = (int(np.count_nonzero(each)) for each in (met, met.any(axis=1), met.any(axis=0)))
    return {
        "auc": estimate.as_dict(), "pairs": pairs, "sick": met_sick, "healthy": met_healthy,
        "few": pairs < FEW_PAIRS or min(met_sick, met_healthy) < FEW_EXAMS,
        "all_pairs": {"pairs": int(match.sum()), "auc": float(every[1].sum() / every[0].sum())},
    }  # fmt: skip


def own_pairs(scope: Scope, rows: Sequence[Prediction], whose: str, confidence: float) -> Json | None:
    """Pairs of one patient, who has both classes (before and after contrast agent): what tells patients apart is equal.

    The mean over patients of the share that the scores rank right, ties counting half; Wilson's interval for as many
    trials as patients, which is wide enough whatever a patient's pairs have in common. None where nobody has both.
    """
    scores, labels = exam_scores(scope, rows), scope.labels
    patients = np.array([exam.patient for exam in scope.exams], dtype=np.int64)
    known, shares, own = np.isfinite(scores), list[float](), list[tuple[int, int]]()
    for patient in np.unique(patients[known]):
        low, high = (scores[known & (patients == patient) & (labels == label)] for label in (0, 1))
        if low.size and high.size:
            above = high[:, None] - low
            shares.append(float(np.mean((above > 0) + 0.5 * (above == 0))))
            own.append((low.size, high.size))
    if not own:
        return None
    estimate, pairs = wilson(sum(shares), len(shares), confidence), sum(one * other for one, other in own)
    return {
        "title": f"pairs within a {whose}", "matching": f"one {whose}", "by_date": True, "by_room": True,
        "stratum": None, "auc": estimate.as_dict(), "pairs": pairs, "sick": sum(each[1] for each in own),
        "healthy": sum(each[0] for each in own), "few": len(shares) < FEW_EXAMS,
        "all_pairs": {"pairs": pairs, "auc": estimate.value},
    }  # fmt: skip


def _same_patient(patients: IntArray) -> FloatArray:
    """Which exams are of each patient, (patients, exams): what sums pairs of exams into pairs of patients."""
    return np.asarray(np.unique(patients)[:, None] == patients, dtype=np.float64)


def _meetings(scope: Tested, groups: Sequence[Sequence[Prediction]], sick: IntArray, healthy: IntArray) -> FloatArray:
    """How often each pair was scored in one group of rows, and how often the sick one higher: (2, sick, healthy)."""
    found = np.zeros((2, len(sick), len(healthy)))
    for rows in groups:
        scores = exam_scores(scope, rows)
        above, below = scores[sick][:, None], scores[healthy][None, :]
        found[0] += np.isfinite(above) & np.isfinite(below)
        found[1] += (above > below) + 0.5 * (above == below)  # False where one is NaN
    return found


def largest_stratum(scope: Scope) -> tuple[str, BoolArray] | None:
    """The acquisition layout with most scored exams; None where all share one or it holds one class only."""
    layouts = np.array([exam.layout for exam in scope.exams])
    scored = np.zeros(len(scope.exams), bool)
    scored[scope.scored] = True
    names, counts = np.unique(layouts[scored], return_counts=True)
    if len(names) < 2:
        return None
    keep = scored & (layouts == names[np.argmax(counts)])
    both = len(set(scope.labels[keep].tolist())) == 2
    return (str(names[np.argmax(counts)]), keep) if both else None
