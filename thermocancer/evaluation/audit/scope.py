"""What an audit works on: the run's exams, its own folds, and the nuisance known of each exam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from thermocancer.data.cohort import Cohort, Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.evaluation.report.exams import ExamFacts, ExamKey
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run


@dataclass(frozen=True)
class Scope:
    """``folds`` hold positions in ``exams``; ``scored`` are those that the run has predictions for.

    ``source`` is the data set behind the run, with the same positions, or None where it is gone (or holds
    no static exams): then only what the predictions and the catalog say can be audited.
    """

    run: Run
    exams: tuple[Exam, ...]
    scored: IntArray
    folds: tuple[Fold, ...]
    source: Cohort | None
    facts: dict[ExamKey, ExamFacts]
    patients_known: bool = True
    """False for image files whose patients nobody knows: each then counts as a patient of its own."""

    @property
    def labels(self) -> IntArray:
        return np.array([exam.label for exam in self.exams], dtype=np.int64)

    def first_repeats(self, count: int) -> tuple[Fold, ...]:
        """The folds of the first ``count`` repeats (all of them where folds are not numbered so)."""
        wanted = {str(number) for number in range(1, count + 1)}
        return tuple(fold for fold in self.folds if "." not in fold.name or fold.name.split(".")[0] in wanted)

    def dates(self) -> FloatArray:
        """Days since year 1 of each exam, NaN where unknown. Shape (n,)."""
        return np.array([_day(exam.date) for exam in self.exams])

    def nuisance(self, name: str) -> FloatArray:
        """One measured variable by name, all NaN where it was not measured. Shape (n,)."""
        measured = {} if self.source is None else self.source.nuisance()
        return np.asarray(measured.get(name, np.full(len(self.exams), np.nan)), dtype=np.float64)


def _day(text: str | None) -> float:
    try:
        return float(date.fromisoformat(text).toordinal()) if text else np.nan
    except ValueError:
        return np.nan


def make_scope(run: Run, source: Cohort | None, facts: dict[ExamKey, ExamFacts]) -> Scope:
    """Place the run's predictions on the exams of its data set."""
    exams = _exams_of(run.rows, facts) if source is None else tuple(source.exams)
    places = {(exam.patient, exam.visit): row for row, exam in enumerate(exams)}
    if source is not None and any((row.patient, row.visit) not in places for row in run.rows):
        return make_scope(run, None, facts)  # the data set has changed since the run was made
    scored = np.array(sorted({places[row.patient, row.visit] for row in run.rows}), dtype=np.int64)
    folds = _folds_of(run, exams, places, scored)
    return Scope(run, exams, scored, folds, source, facts)


def _exams_of(rows: Sequence[Prediction], facts: dict[ExamKey, ExamFacts]) -> tuple[Exam, ...]:
    labels = {(row.patient, row.visit): row.label for row in rows}
    empty = ExamFacts()
    return tuple(
        Exam(*key, label, facts.get(key, empty).date, facts.get(key, empty).layout)
        for key, label in sorted(labels.items())
    )


def _folds_of(run: Run, exams: Sequence[Exam], places: dict[ExamKey, int], scored: IntArray) -> tuple[Fold, ...]:
    """The folds as the predictions show them; what was not tested was trained on."""
    tested: dict[str, set[int]] = {}
    for row in run.rows:
        tested.setdefault(row.fold, set()).add(places[row.patient, row.visit])
    pool = set(scored.tolist()) if len(tested) > 1 else _training_pool(run, exams, scored)
    folds = []
    for name in sorted(tested, key=_fold_order):
        test = np.array(sorted(tested[name]), dtype=np.int64)
        train = np.array(sorted(pool - tested[name]), dtype=np.int64)
        folds.append(Fold(name, train, test))
    return tuple(folds)


def _training_pool(run: Run, exams: Sequence[Exam], scored: IntArray) -> set[int]:
    """With a single fold: exams that were not scored, nor left out, nor (unless thesis) of a scored patient."""
    left_out = {each.exam for each in run.manifest.excluded}
    seen = set() if run.manifest.protocol == "thesis" else {exams[row].patient for row in scored}
    return {
        row for row, exam in enumerate(exams) if exam.key not in left_out and exam.patient not in seen
    } - set(scored.tolist())  # fmt: skip


def _fold_order(name: str) -> tuple[object, ...]:
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in name.split("."))
