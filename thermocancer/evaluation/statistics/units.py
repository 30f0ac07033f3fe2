"""Units as arrays: what every metric, curve and comparison counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.runs.predictions import Prediction, to_units


@dataclass(frozen=True)
class Units:
    """Patients (or visits, where a patient's labels differ), each counted once. Every array is (n,).

    ``visits`` is 0 where the unit is the whole patient. ``scores`` are means over the repeats; ``by_repeat`` (R, n) are
    those of each, NaN where a repeat has none, and ``folds`` (R, n) the fold that tested the unit there.
    """

    patients: IntArray
    visits: IntArray
    labels: IntArray
    scores: FloatArray
    decisions: IntArray
    by_repeat: FloatArray
    folds: IntArray

    @property
    def repeats(self) -> int:
        """How often everything was tested by models of other folds; 0 for one model, tested once."""
        several = any(len(set(own[own >= 0].tolist())) > 1 for own in self.folds)
        return len(self.folds) if several else 0

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def keys(self) -> list[tuple[int, int]]:
        """(patient, visit or 0) of each unit: what pairs the units of two runs."""
        return [(int(patient), int(visit)) for patient, visit in zip(self.patients, self.visits, strict=True)]

    def at(self, rows: IntArray) -> Units:
        """The units at ``rows``."""
        return Units(
            self.patients[rows], self.visits[rows], self.labels[rows], self.scores[rows], self.decisions[rows],
            self.by_repeat[:, rows], self.folds[:, rows],
        )  # fmt: skip

    @property
    def has_both_classes(self) -> bool:
        return len(self) > 0 and 0 < int(self.labels.sum()) < len(self)


def gather_units(rows: Sequence[Prediction], *, by_exam: bool = False) -> Units:
    """Gather the rows of ``predictions.csv`` into units; ``by_exam`` counts every file, as the original study."""
    units = to_units(rows, by_exam=by_exam)
    names = sorted({row.fold for row in rows})
    repeat_of = {name: name.split(".")[0] if "." in name else "" for name in names}
    repeats = {name: number for number, name in enumerate(sorted(set(repeat_of.values())))}
    total, count = np.zeros((2, len(repeats), len(units)))
    folds = np.full(total.shape, -1, dtype=np.int64)
    for place, unit in enumerate(units):
        for row in unit.rows:
            at = repeats[repeat_of[row.fold]], place
            total[at] += row.score
            count[at] += 1
            folds[at] = names.index(row.fold)
    return Units(
        np.array([each.patient for each in units], dtype=np.int64),
        np.array([each.visit or 0 for each in units], dtype=np.int64),
        np.array([each.label for each in units], dtype=np.int64),
        np.array([each.score for each in units], dtype=np.float64),
        np.array([each.predicted for each in units], dtype=np.int64),
        np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0),
        folds,
    )


def units_of(labels: IntArray, scores: FloatArray) -> Units:
    """Given scores (n,) of one model, each of a patient of its own, decided at .5: nothing was cross-validated."""
    numbers = np.arange(1, len(labels) + 1)
    nothing = np.zeros(len(labels), np.int64)
    called = (scores >= 0.5).astype(np.int64)
    return Units(numbers, nothing, labels, scores, called, scores[None, :], nothing[None, :])


def require_both_classes(units: Units, where: object) -> None:
    """Raise DataError where no figure can tell the classes apart, because only one is there."""
    if not units.has_both_classes:
        raise DataError(
            "only one class was scored, so nothing can be measured",
            where=where,
            expected="healthy and sick units",
            found=f"{len(units) - int(units.labels.sum())} healthy, {int(units.labels.sum())} sick",
            hint="check the labels, or use more patients or another split",
        )
