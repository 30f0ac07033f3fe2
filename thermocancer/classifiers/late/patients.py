"""Patients as the unit of late fusion by features: whose exams belong together, and in which fold they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from thermocancer.classifiers.late.blocks import Block, CombinedRun
from thermocancer.classifiers.late.features import TableCohort
from thermocancer.classifiers.late.scores import Unit, check_folds, fold_order
from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.files import fingerprint
from thermocancer.runs.run import Run, read_run
from thermocancer.workspace import Workspace


@dataclass(frozen=True, eq=False)
class PatientCohort(TableCohort):
    """Patients (visits, where a patient's labels differ) with the exams of every block .

    ``exams`` holds one entry a unit, with the hashes of all its images; ``members`` by block and unit the
    positions in the block's rows. Features and nuisance of several exams of one unit are averaged.
    """

    blocks: tuple[Block, ...]
    units: tuple[Unit, ...]
    exams: tuple[Exam, ...]
    members: tuple[tuple[IntArray, ...], ...]
    _known: dict[tuple[int, str], FloatArray] = field(default_factory=dict, repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint("patients", [each.source.fingerprint for each in self.blocks], self.units)

    def table(self, block: int, fold: str) -> FloatArray:
        """Features (n, p); NaN rows for units that lack the block."""
        if (block, fold) not in self._known:
            for old in [key for key in self._known if key[0] == block]:
                del self._known[old]
            self._known[block, fold] = self._mean(block, self.blocks[block].table(fold))
        return self._known[block, fold]

    def nuisance_of(self, block: int) -> Mapping[str, FloatArray]:
        """What can be measured without the breast, each (n,), NaN where unknown."""
        own = self.blocks[block]
        return {
            name: self._mean(block, values[own.rows][:, None])[:, 0] for name, values in own.source.nuisance().items()
        }

    def nuisance(self) -> dict[str, FloatArray]:
        """The same over all blocks: the mean of what is known of a unit's exams, each (n,)."""
        found: dict[str, list[FloatArray]] = {}
        for block in range(len(self.blocks)):
            for name, values in self.nuisance_of(block).items():
                found.setdefault(name, []).append(values)
        return {name: _known_mean(np.stack(every)) for name, every in sorted(found.items())}

    def _mean(self, block: int, table: FloatArray) -> FloatArray:
        found = np.full((len(self.units), table.shape[1]), np.nan)
        for unit, own in enumerate(self.members[block]):
            if len(own):
                found[unit] = table[own].mean(axis=0)
        return found


def gather_patients(blocks: Sequence[Block]) -> PatientCohort:
    """Gather the exams that the runs count into units."""
    counted = [[each.source.exams[row] for row in each.rows] for each in blocks]
    labels: dict[int, set[int]] = {}
    for exam in (exam for every in counted for exam in every):
        labels.setdefault(exam.patient, set()).add(exam.label)
    places: dict[Unit, list[list[int]]] = {}
    for block, every in enumerate(counted):
        for position, exam in enumerate(every):
            unit = exam.patient, exam.visit if len(labels[exam.patient]) > 1 else None
            places.setdefault(unit, [[] for _ in blocks])[block].append(position)
    units = sorted(places, key=lambda unit: (unit[0], unit[1] or 0))
    exams = tuple(
        _one([counted[block][place] for block, own in enumerate(places[unit]) for place in own]) for unit in units
    )
    members = tuple(
        tuple(np.array(places[unit][block], dtype=np.int64) for unit in units) for block in range(len(blocks))
    )
    return PatientCohort(tuple(blocks), tuple(units), exams, members)


def open_patients(names: Sequence[str], workspace: Workspace, stack: ExitStack) -> PatientCohort:
    """The patients of finished runs; their data sets are closed with ``stack``. Raises as ``Block.open`` does."""
    runs = [CombinedRun.of(read_run(workspace, name)) for name in names]
    return gather_patients([Block.open(run, stack) for run in runs])


def _known_mean(values: FloatArray) -> FloatArray:
    """Mean of (k, n) over its first axis where known, (n,); NaN where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _one(exams: Sequence[Exam]) -> Exam:
    """The exams of a unit as one: its first, with the hashes of all images."""
    hashes = tuple((f"{number}-{name}", digest) for number, exam in enumerate(exams) for name, digest in exam.hashes)
    return replace(exams[0], visit=min(exam.visit for exam in exams), hashes=hashes)


def patient_folds(patients: PatientCohort, runs: Sequence[Run]) -> list[Fold]:
    """The folds on which the runs were scored: whom any of them tested is tested, everybody else trains.

    Raises DataError when the runs were scored on different folds.
    """
    mixed = {unit[0] for unit in patients.units if unit[1] is not None}
    check_folds(runs, mixed)
    tested: dict[str, set[int]] = {}
    for row in (row for run in runs for row in run.rows):
        tested.setdefault(row.fold, set()).add(row.patient)
    numbers = np.array([unit[0] for unit in patients.units])
    folds = []
    for name in sorted(tested, key=fold_order):
        inside = np.isin(numbers, sorted(tested[name]))
        folds.append(Fold(name, np.flatnonzero(~inside), np.flatnonzero(inside)))
    return folds
