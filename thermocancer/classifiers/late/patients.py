"""Patients as the unit of late fusion by features: whose exams belong together, and in which fold they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.late.features import TableCohort
from thermocancer.classifiers.late.scores import Unit, check_folds, fold_order
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.protocol import Asked, Family, Reader
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, Exam, FloatArray, IntArray
from thermocancer.data.matching import choose_rows
from thermocancer.data.split import Fold
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.prepared import prepare
from thermocancer.features.tables import complete_rows
from thermocancer.files import fingerprint
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run, read_run
from thermocancer.training.autoencoder import WHOLE_SPLIT
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
        """The same over all blocks: the mean of what is known of a unit's exams, each (n,); NaN where nothing is."""

        def mean(values: FloatArray) -> FloatArray:
            known = np.isfinite(values)
            total = np.where(known, values, 0.0).sum(axis=0)
            return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)

        found: dict[str, list[FloatArray]] = {}
        for block in range(len(self.blocks)):
            for name, values in self.nuisance_of(block).items():
                found.setdefault(name, []).append(values)
        return {name: mean(np.stack(every)) for name, every in sorted(found.items())}

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
    exams = []
    for unit in units:  # its first exam, with the hashes of all images
        every = [counted[block][place] for block, own in enumerate(places[unit]) for place in own]
        hashes = tuple((f"{number}-{name}", digest) for number, one in enumerate(every) for name, digest in one.hashes)
        exams.append(replace(every[0], visit=min(one.visit for one in every), hashes=hashes))
    members = tuple(
        tuple(np.array(places[unit][block], dtype=np.int64) for unit in units) for block in range(len(blocks))
    )
    return PatientCohort(tuple(blocks), tuple(units), tuple(exams), members)


def open_patients(names: Sequence[str], workspace: Workspace, stack: ExitStack) -> PatientCohort:
    """The patients of finished runs; their data sets are closed with ``stack``. Raises as ``Block.open`` does."""
    runs = [CombinedRun.of(read_run(workspace, name)) for name in names]
    return gather_patients([Block.open(run, stack) for run in runs])


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


# --- late fusion by features: the exams of several runs as one table of patients, fold by ---


@dataclass(frozen=True)
class CombinedRun:
    """A run whose features are combined, and the settings that made it."""

    scores: Run
    config: Config

    @classmethod
    def of(cls, scores: Run) -> CombinedRun:
        """Raises ConfigError for a run that reads no thermograms itself."""
        found = cls(scores, scores.required_config())
        if scores.reads is Reads.RUNS:
            raise found._refused("a late run has no features of its own")
        if scores.reads is Reads.IMAGES:
            raise found._refused(f"a run of {scores.manifest.stage}")
        return found

    def check_frozen(self) -> None:
        """Raise ConfigError when the run's features differ by fold in what is not kept, or its folds tell or leak."""
        if why := self.family.why_not_frozen(self.asked):
            raise self._refused(why)
        if self.config.cohort.match != "none":
            raise self._refused("its cohort is matched, and matches must not stand on both sides of a fold")
        if self.scores.manifest.protocol == "thesis":
            raise self._refused("its folds are the original study's, where patients stand on both sides")

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the features of run {self.scores.name} cannot be combined", where="fuse.combine", found=reason,
            hint="combine scores instead: fuse.combine_by: scores",
        )  # fmt: skip

    @property
    def family(self) -> Family:
        family: Family = self.scores.kind.family()
        return family

    @property
    def asked(self) -> Asked:
        return Asked(self.config, self.scores.workspace, self.scores.manifest.views)

    @property
    def dynamic(self) -> bool:
        return self.scores.reads is Reads.FRAMES

    @property
    def residualise(self) -> bool:
        """Whether nuisance is regressed out of the run's features, as the run itself does."""
        return not self.dynamic and self.config.features.residualise

    def reader(self, cohort: Cohort, fold: str) -> Reader:
        """What reads exams for one outer fold; for ``all`` and ``test`` what the run keeps."""
        if self.scores.kind.runs_network:
            strategy.set_up(self.config.strategy, self.config.seed)
        if fold in WHOLE_SPLIT:
            fitted = load_fitted(self.scores.model_folder, self.scores.workspace)
            return self.family.kept_reader(fitted, self.scores.workspace.cache)
        return self.family.reader(self.asked, cohort, fold)


@dataclass(eq=False)
class Block:
    """The exams that one run counts, ``rows`` (m,) of ``source``, and their features by the fold at hand."""

    run: CombinedRun
    source: Cohort
    rows: IntArray
    _known: dict[str, FloatArray] = field(default_factory=dict, repr=False)
    _readers: dict[str, Reader] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, run: CombinedRun, stack: ExitStack) -> Block:
        """Open the run's data set, closed with ``stack``. Raises DataError when it is not the one of the run."""
        path = run.scores.workspace.dataset(run.config.dataset.name)
        source: Cohort = stack.enter_context(StoredCohort(path, DYNAMIC if run.dynamic else STATIC))
        expected = run.scores.manifest.dataset.fingerprint
        if source.fingerprint != expected:
            raise DataError(
                f"the data set has changed since run {run.scores.name} was made",
                where=path, expected=expected[:16], found=source.fingerprint[:16], hint="train the run again",
            )  # fmt: skip
        rows, _ = choose_rows(source, run.config.cohort)
        if not run.dynamic:
            rows = np.intersect1d(rows, complete_rows(source, run.asked.views))
            source = prepare(source, run.config.features)
        return cls(run, source, rows)

    def table(self, fold: str) -> FloatArray:
        """Features of ``rows`` by the frozen parts of a fold, (m, p)."""
        if fold not in self._known:
            self._known.clear()  # folds come one after another
            self._known[fold] = self._reader(fold).of(self.source, self.rows)
        return self._known[fold]

    def _reader(self, fold: str) -> Reader:
        """One that serves every fold is made once."""
        shared = self.run.family.shared_reader(self.run.asked)
        key = "" if shared and fold not in WHOLE_SPLIT else fold
        if key not in self._readers:
            self._readers.clear()
            self._readers[key] = self.run.reader(self.source, fold)
        return self._readers[key]
