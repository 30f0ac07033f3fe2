"""Late fusion: one score from the out-of-sample scores of several runs on the same patients.

Runs may see different protocols (static views, dynamic sequences) and different patients; a patient
whom only some runs have scored is scored from those. Whatever is fitted here (the weights of
stacking, the threshold) is fitted on the runs' inner scores of the same fold: those of training
patients by inner models, so that no scored patient has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from thermocancer.classifiers.calibrated import CalibratedFitted, choose_threshold
from thermocancer.classifiers.crossval import CrossValidation, FoldResult
from thermocancer.classifiers.decisions import LinearDecision, arrays_of, fit_logistic, read_arrays, write_arrays
from thermocancer.classifiers.late.features import tables_of
from thermocancer.classifiers.protocol import Fitted, Settings, logistic, logit
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import BoolArray, Cohort, FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.manifest import read_manifest
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.workspace import VIEWS, Workspace

Unit = tuple[int, int | None]
"""A patient, or one visit of a patient whose labels differ."""

FEWEST = 5
"""Patients of each class that stacking must learn from."""


class ScoredRun(Protocol):
    """What is combined of a run: out-of-sample and inner scores, by the run's name."""

    @property
    def name(self) -> str: ...

    @property
    def rows(self) -> Sequence[Prediction]: ...

    @property
    def inner(self) -> Sequence[Prediction]: ...


@dataclass(frozen=True)
class Relabelled:
    """The scores of a run beside other labels."""

    name: str
    rows: Sequence[Prediction]
    inner: Sequence[Prediction]

    @classmethod
    def of(cls, run: ScoredRun, labels: Mapping[int, int]) -> Relabelled:
        """``labels`` by patient; who is not among them keeps their own."""
        rows, inner = (
            [replace(row, label=labels.get(row.patient, row.label)) for row in part] for part in (run.rows, run.inner)
        )
        return cls(run.name, rows, inner)


def combine(runs: Sequence[ScoredRun], *, stacking: bool, aim: str, sensitivity: float) -> CrossValidation:
    """Combine runs fold by fold: the mean of their logits, or with ``stacking`` a logistic regression on them.

    Each unit has one row a fold. Raises DataError when the runs were scored on different folds, or
    stacking has too few patients to learn from.
    """
    mixed = mixed_patients(runs)
    check_folds(runs, mixed)
    folds = sorted({row.fold for run in runs for row in run.rows}, key=fold_order)
    results = []
    for fold in folds:
        test = UnitScores.of([[row for row in run.rows if row.fold == fold] for run in runs], mixed)
        scored = set(test.units)
        inner = UnitScores.of(
            [[row for row in run.inner if row.fold == fold and _unit(row, mixed) not in scored] for run in runs], mixed
        )
        tested, learnt = combined_scores(inner, (test, inner), stacking=stacking)
        threshold = choose_threshold(learnt, inner.labels, aim, sensitivity)
        rows = _rows(test, fold, tested, threshold)
        results.append(FoldResult(fold, rows, threshold, (), _rows(inner, fold, learnt, threshold)))
    return CrossValidation(tuple(results))


def describe_combination(runs: Sequence[Run], result: CrossValidation, how: str) -> dict[str, object]:
    """What the manifest of a combined run says of it; ``how`` the runs were combined, in words."""
    scored = {run.name: {row.patient for row in run.rows} for run in runs}
    return {
        "combine": [run.name for run in runs],
        "combination": how,
        "views": [view for view in VIEWS if any(view in run.manifest.views for run in runs)],
        "protocol": runs[0].manifest.protocol,
        "dataset": runs[0].manifest.dataset.model_dump(),
        "thresholds": result.thresholds,
        "threshold": float(np.median(list(result.thresholds.values()))),
        "leaks": [f"{run.name}: {leak}" for run in runs for leak in run.manifest.leaks],
        "patients": len(set().union(*scored.values())),
        "sick": len({row.patient for row in result.rows if row.label}),
        "patients_by_run": {name: len(patients) for name, patients in scored.items()},
        "patients_in_all": len(set.intersection(*scored.values())),
    }


def mixed_patients(runs: Sequence[ScoredRun]) -> set[int]:
    """Patients whose visits have different labels."""
    labels: dict[int, set[int]] = {}
    for row in (row for run in runs for row in (*run.rows, *run.inner)):
        labels.setdefault(row.patient, set()).add(row.label)
    return {patient for patient, found in labels.items() if len(found) > 1}


def fold_order(fold: str) -> tuple[int, ...]:
    """``1.10`` after ``1.9``."""
    return tuple(int(part) for part in fold.split(".") if part.isdigit())


def _unit(row: Prediction, mixed: set[int]) -> Unit:
    return row.patient, row.visit if row.patient in mixed else None


def check_folds(runs: Sequence[ScoredRun], mixed: set[int]) -> None:
    """Raise DataError unless every run scored each patient in the same fold of the same repeats."""
    names = {run.name: sorted({row.fold for row in run.rows}) for run in runs}
    if len({tuple(each) for each in names.values()}) > 1:
        found = "; ".join(f"{name}: {len(folds)} folds" for name, folds in names.items())
        raise _different_folds(found)
    place: dict[tuple[Unit, str], tuple[str, str]] = {}
    for run in runs:
        for row in run.rows:
            repeat = row.fold.partition(".")[0]
            fold, first = place.setdefault((_unit(row, mixed), repeat), (row.fold, run.name))
            if fold != row.fold:
                raise _different_folds(f"patient {row.patient} is in fold {fold} of {first}, {row.fold} of {run.name}")


def _different_folds(found: str) -> DataError:
    return DataError(
        "the runs to combine were scored on different folds", where="fuse.combine",
        expected="runs with one seed and one split section", found=found,
        hint="train them again with the same seed, split.folds and split.repeats",
    )  # fmt: skip


@dataclass(frozen=True)
class UnitScores:
    """Units of one part of a fold: logits (n, runs), NaN where a run has no score; labels (n,)."""

    units: tuple[Unit, ...]
    visits: tuple[int, ...]
    logits: FloatArray
    labels: IntArray

    @classmethod
    def of(cls, parts: Sequence[Iterable[Prediction]], mixed: set[int]) -> UnitScores:
        """From the rows of each run."""
        found: dict[Unit, dict[int, list[float]]] = {}
        facts: dict[Unit, tuple[int, int]] = {}
        for number, rows in enumerate(parts):
            for row in rows:
                unit = _unit(row, mixed)
                found.setdefault(unit, {}).setdefault(number, []).append(row.score)
                visit, label = facts.get(unit, (row.visit, row.label))
                facts[unit] = min(visit, row.visit), label
        units = sorted(found, key=lambda unit: (unit[0], unit[1] or 0))
        logits = np.full((len(units), len(parts)), np.nan)
        for position, unit in enumerate(units):
            for number, scores in found[unit].items():
                logits[position, number] = logit(np.array(scores)).mean()
        return cls(
            tuple(units), tuple(facts[unit][0] for unit in units), logits,
            np.array([facts[unit][1] for unit in units], dtype=np.int64),
        )  # fmt: skip


def combined_scores(known: UnitScores, tables: Sequence[UnitScores], *, stacking: bool) -> tuple[FloatArray, ...]:
    """Scores of the units of each table, (n,): by weights fitted on ``known``, or by the mean of their logits."""
    if not stacking:
        return tuple(logistic(np.nanmean(each.logits, axis=1)) for each in tables)
    stack = Stack(known)
    return tuple(stack.scores(each) for each in tables)


def _rows(table: UnitScores, fold: str, scores: FloatArray, threshold: float) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(unit[0], visit, fold, int(label), float(score), int(score >= threshold))
        for unit, visit, label, score in zip(table.units, table.visits, table.labels, scores, strict=True)
    )


class Stack:
    """One logistic regression for each set of runs that a unit may have been scored by."""

    def __init__(self, inner: UnitScores) -> None:
        self._inner = inner
        self._fitted: dict[tuple[bool, ...], LinearDecision] = {}

    def scores(self, table: UnitScores) -> FloatArray:
        """Probabilities, (n,), from the logits of the runs that each unit has."""
        scores = np.empty(len(table.units))
        known = ~np.isnan(table.logits)
        for pattern in np.unique(known, axis=0):
            chosen = (known == pattern).all(axis=1)
            decision = self.decision(pattern)
            scores[chosen] = logistic(decision.decide(table.logits[chosen][:, pattern]))
        return scores

    def decision(self, pattern: BoolArray) -> LinearDecision:
        """The weights for units that these runs have scored. Raises DataError with too few patients to learn from."""
        key = tuple(pattern.tolist())
        if key not in self._fitted:
            usable = self._usable(pattern)
            labels = self._inner.labels[usable]
            if not self.can_learn(pattern):
                raise DataError(
                    "stacking has too few patients to learn from", where="fuse.stacking",
                    expected=f"inner scores by all of the runs of {FEWEST} patients of each class, in every fold",
                    found=f"{int((labels == 0).sum())} healthy, {int((labels == 1).sum())} sick",
                    hint="set fuse.stacking to false: the mean of the logits needs none",
                )  # fmt: skip
            self._fitted[key] = fit_logistic(self._inner.logits[usable][:, pattern], labels, 1.0)
        return self._fitted[key]

    def can_learn(self, pattern: BoolArray) -> bool:
        """Have these runs scored enough patients of each class?"""
        labels = self._inner.labels[self._usable(pattern)]
        return min(int((labels == 0).sum()), int((labels == 1).sum())) >= FEWEST

    def _usable(self, pattern: BoolArray) -> BoolArray:
        return np.asarray(~np.isnan(self._inner.logits[:, pattern]).any(axis=1))


# --- what a late run keeps: which runs it combines, as they were, and how their scores be ---


KIND = "late-scores"


def components_of(runs: Sequence[Run]) -> tuple[dict[str, str], ...]:
    """Name and identity of each run, for ``classifier.json``."""
    return tuple({"run": run.name, "identity": run.identity} for run in runs)


def check_components(workspace: Workspace, components: Iterable[Mapping[str, str]], late: str) -> None:
    """Raise DataError when a run that ``late`` combines is gone, or is no longer the one it was made from."""
    for each in components:
        path = workspace.run(each["run"]) / MANIFEST
        if not path.exists():
            raise DataError(
                f"run {each['run']} is gone, and {late} combines it",
                where=path, hint=f"train it again, then combine again: thermocancer fuse --name {late}",
            )  # fmt: skip
        found = read_manifest(path).identity
        if found != each["identity"]:
            raise DataError(
                f"run {each['run']} has changed since {late} was made from it",
                where=path, expected=each["identity"][:16], found=found[:16],
                hint=f"combine again: thermocancer fuse --name {late}, with the settings in runs/{late}/config.yaml",
            )  # fmt: skip


@dataclass(frozen=True)
class ScoresModel(Fitted):
    """The mean of the runs' logits, or with ``stack`` a logistic regression on them .

    ``stack`` holds one regression for each set of runs that may have scored an exam, a 1 for each of them
    (``110``: the first two of three). A source gives logits as ``joint.Tables``, one column a run.
    """

    runs: tuple[str, ...]
    stack: Mapping[str, LinearDecision] | None = None
    components: tuple[dict[str, str], ...] = ()

    def describe(self) -> Settings:
        stacking = self.stack is not None
        return {"kind": KIND, "name": "late", "components": list(self.components), "stacking": stacking}

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of sick, (len(rows),). Raises DataError for a set of runs that no weights were fitted for."""
        tables = tables_of(source)
        logits = np.column_stack([tables.table(number, "all")[rows, 0] for number in range(len(self.runs))])
        return np.array([self._one(each) for each in logits])

    def _one(self, logits: FloatArray) -> float:
        known = ~np.isnan(logits)
        if not known.any():
            raise DataError("none of the combined runs could score the exam", expected=", ".join(self.runs))
        if self.stack is None:
            return float(logits[known].mean())
        decision = self.stack.get(_key(known))
        if decision is None:
            raise DataError(
                "stacking had too few patients to learn weights for what this exam offers",
                expected="scores by " + " or by ".join(" and ".join(self._named(key)) for key in sorted(self.stack)),
                found="scores by " + " and ".join(self._named(_key(known))),
                hint="combine again with fuse.stacking: false",
            )
        return float(decision.decide(logits[None, known])[0])

    def _named(self, key: str) -> list[str]:
        return [name for name, there in zip(self.runs, key, strict=True) if there == "1"]

    def save(self, folder: Path) -> None:
        fitted = self.stack or {}
        write_arrays(folder, {f"{key}-{name}": each for key in fitted for name, each in arrays_of(fitted[key]).items()})

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> ScoresModel:
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        runs = tuple(each["run"] for each in settings["components"])
        if not settings["stacking"]:
            return cls(runs, None, tuple(settings["components"]))
        arrays = read_arrays(folder)
        keys = sorted({name.partition("-")[0] for name in arrays})
        fields = LinearDecision.__dataclass_fields__
        return cls(
            runs,
            {key: LinearDecision(**{name: arrays[f"{key}-{name}"] for name in fields}) for key in keys},
            tuple(settings["components"]),
        )


def _key(known: BoolArray) -> str:
    return "".join("01"[int(each)] for each in known)


def keep_scores(runs: Sequence[Run], *, stacking: bool, aim: str, sensitivity: float) -> CalibratedFitted:
    """The combination for new exams, which the runs' kept models score.

    In cross-validation those models learnt from every patient, so weights and threshold are fitted on the
    out-of-sample scores of all of them; in a hold-out on the inner scores of its one fold.
    """
    mixed = mixed_patients(runs)
    known = UnitScores.of([run.rows for run in runs], mixed)
    if len({row.fold for run in runs for row in run.rows}) == 1:
        scored = {row.patient for run in runs for row in run.rows}
        known = UnitScores.of([[row for row in run.inner if row.patient not in scored] for run in runs], mixed)
    (scores,) = combined_scores(known, [known], stacking=stacking)
    threshold = choose_threshold(scores, known.labels, aim, sensitivity)
    weights: dict[str, LinearDecision] | None = None
    if stacking:  # for every set of runs that scored somebody, and for each run alone, where there are enough patients
        stack = Stack(known)
        patterns = [*np.unique(~np.isnan(known.logits), axis=0), *np.eye(len(runs), dtype=bool)]
        weights = {_key(each): stack.decision(each) for each in patterns if stack.can_learn(each)}
    model = ScoresModel(tuple(run.name for run in runs), weights, components_of(runs))
    return CalibratedFitted(model, model.describe(), FeaturesSection(), threshold=threshold)
