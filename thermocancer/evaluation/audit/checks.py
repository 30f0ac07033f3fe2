"""The leak audit: facts about the run's own folds that must hold before any figure is believed."""

from __future__ import annotations

from typing import Any

from thermocancer.data.grouping import shared_between
from thermocancer.evaluation.audit.controls import Control
from thermocancer.evaluation.audit.scope import Scope

DECLARED = "no leak declared by the protocol"


def leak_checks(scope: Scope, controls: list[Control]) -> list[dict[str, Any]]:
    """``name``, ``passed`` and ``found`` of each check."""
    patients: set[int] = set()
    twins: set[tuple[str, str]] = set()
    for fold in scope.folds:
        shared, same = shared_between(scope.exams, fold.train, fold.test)
        patients |= set(shared)
        twins |= set(same)
    checks = [
        _check("no patient on both sides of a fold", sorted(patients)),
        _check("no identical image on both sides of a fold", [" and ".join(pair) for pair in sorted(twins)]),
        _check("each exam scored once in each repeat", _scored_twice(scope)),
        _check("labels of the predictions are those of the data set", _relabelled(scope)),
        _check(DECLARED, list(scope.run.manifest.get("leaks", ()))),
    ]
    permuted = next((control for control in controls if control.name == "permuted"), None)
    if permuted is not None:
        checks.append(
            {
                "name": "permuted labels cannot be predicted",
                "passed": permuted.flag != "failed",
                "found": f"AUC {permuted.auc.value:.3f}" if permuted.auc.value is not None else "",
            }
        )
    return checks


def _check(name: str, found: list[Any]) -> dict[str, Any]:
    words = ", ".join(str(each) for each in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    return {"name": name, "passed": not found, "found": words}


def _scored_twice(scope: Scope) -> list[str]:
    seen: set[tuple[int, int, str]] = set()
    twice = []
    for row in scope.run.rows:
        key = (row.patient, row.visit, row.fold.split(".")[0])
        if key in seen:
            twice.append(f"{row.patient}_{row.visit} in {row.fold}")
        seen.add(key)
    return twice


def _relabelled(scope: Scope) -> list[str]:
    labels = {(exam.patient, exam.visit): exam.label for exam in scope.exams}
    return sorted({f"{r.patient}_{r.visit}" for r in scope.run.rows if labels[r.patient, r.visit] != r.label})
