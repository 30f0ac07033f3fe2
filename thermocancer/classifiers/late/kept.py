"""What a late run keeps: which runs it combines, as they were, and how their scores become one.

The runs themselves stay where they are; ``check_components`` refuses to combine others in their place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.classifiers.calibrated import CalibratedFitted, choose_threshold
from thermocancer.classifiers.late.features import tables_of
from thermocancer.classifiers.late.scores import Stack, UnitScores, combined_scores, mixed_patients
from thermocancer.classifiers.protocol import Fitted, Settings
from thermocancer.classifiers.tabular import LinearDecision, arrays_of, read_arrays, write_arrays
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.manifest import read_manifest
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

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


def _key(known: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
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
    weights = _weights(known) if stacking else None
    model = ScoresModel(tuple(run.name for run in runs), weights, components_of(runs))
    return CalibratedFitted(model, model.describe(), FeaturesSection(), threshold=threshold)


def _weights(known: UnitScores) -> dict[str, LinearDecision]:
    """Weights for every set of runs that scored somebody, and for each run alone, where there are enough patients."""
    stack, runs = Stack(known), known.logits.shape[1]
    patterns = [*np.unique(~np.isnan(known.logits), axis=0), *np.eye(runs, dtype=bool)]
    found = {}
    for pattern in patterns:
        if stack.can_learn(pattern):
            found[_key(pattern)] = stack.decision(pattern)
    return found
