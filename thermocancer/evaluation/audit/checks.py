"""The leak audit: facts about the run's own folds that must hold before any figure is believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thermocancer.data.split import shared_between
from thermocancer.evaluation.audit.controls import Control
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.files import hash_file
from thermocancer.runs.run import BASELINE, PREDICTIONS, Run

SCORES = (PREDICTIONS, BASELINE)
"""The out-of-sample scores of a run and of its baseline."""

UNNAMED, IMAGES_GONE, TRAINING_GONE = (
    "nobody knows whose the images are (cnn.group is not set)",
    "the images behind this run could not be read again",
    "what the run was trained on could not be read again",
)


def leak_checks(scope: Scope, controls: list[Control]) -> list[dict[str, Any]]:
    """``name``, ``passed`` and ``found`` of each check, and ``problem``: what a check that fails has found.

    ``passed`` is None for what these files cannot tell; ``found`` then says why.
    """
    patients: set[int] = set()
    twins: set[tuple[str, str]] = set()
    for fold in scope.folds:
        shared, same = shared_between(scope.exams, fold.train, fold.test)
        patients |= set(shared)
        twins |= set(same)
    checks = [
        _check(
            "no patient on both sides of a fold", "a patient on both sides of a fold", sorted(patients),
            unknown=_why_patients_are_unknown(scope),
        ),
        _check(
            "no identical image on both sides of a fold", "an identical image on both sides of a fold",
            [" and ".join(pair) for pair in sorted(twins)], unknown=_why_images_are_unknown(scope),
        ),
        _check("each exam scored once in each repeat", "an exam scored twice in a repeat", _scored_twice(scope)),
        _check(
            "labels of the predictions are those of the data set", "labels that differ from those of the data set",
            relabelled(scope),
        ),
        *_as_written(scope.run),
        declared_leaks(scope.run.manifest.leaks),
    ]  # fmt: skip
    permuted = next((control for control in controls if control.name == "permuted"), None)
    if permuted is not None:
        checks.append(
            {
                "name": "permuted labels cannot be predicted",
                "problem": "permuted labels can be predicted",
                "passed": permuted.flag != "failed",
                "found": f"AUC {permuted.auc.value:.3f}" if permuted.auc.value is not None else "",
            }
        )
    return checks


def _as_written(run: Run) -> list[dict[str, Any]]:
    """The files of scores against what the run recorded of them; no check where it recorded nothing."""
    recorded = {name: run.manifest.outputs.get(name) for name in SCORES}
    known = {name: digest for name, digest in recorded.items() if digest and (run.folder / name).is_file()}
    changed = [name for name, digest in known.items() if hash_file(run.folder / name) != digest]
    if not known:
        return []
    return [
        _check("the predictions are as the run wrote them", "predictions changed after the run wrote them", changed)
    ]


def declared_leaks(leaks: Sequence[str]) -> dict[str, Any]:
    """The leaks that the run's own protocol names; ``declared`` tells this check from those that found something."""
    problem = "leaks declared by the protocol"
    name = problem if leaks else "no leak declared by the protocol"
    return _check(name, problem, leaks) | {"declared": True}


def failed_checks(checks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks that found something. What cannot be told is neither passed nor failed."""
    return [check for check in checks if check["passed"] is False]


def _check(name: str, problem: str, found: Sequence[Any], *, unknown: str = "") -> dict[str, Any]:
    words = ", ".join(str(each) for each in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    passed = False if found else None if unknown else True
    return {"name": name, "problem": problem, "passed": passed, "found": words or unknown}


def _why_patients_are_unknown(scope: Scope) -> str:
    if not scope.patients_known:
        return UNNAMED
    return "" if all(len(fold.train) for fold in scope.folds) else TRAINING_GONE


def _why_images_are_unknown(scope: Scope) -> str:
    if not any(exam.hashes for exam in scope.exams):
        return IMAGES_GONE
    return "" if all(len(fold.train) for fold in scope.folds) else TRAINING_GONE


def _scored_twice(scope: Scope) -> list[str]:
    seen: set[tuple[int, int, str]] = set()
    twice = []
    for row in scope.run.rows:
        key = (row.patient, row.visit, row.fold.split(".")[0])
        if key in seen:
            twice.append(f"{row.patient}_{row.visit} in {row.fold}")
        seen.add(key)
    return twice


def relabelled(scope: Scope) -> list[str]:
    """Exams whose label in the predictions is not that of the data set."""
    labels = {(exam.patient, exam.visit): exam.label for exam in scope.exams}
    return sorted({f"{r.patient}_{r.visit}" for r in scope.run.rows if labels[r.patient, r.visit] != r.label})
