"""Several runs on the patients they share: every pair tested, one table, one forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from thermocancer.config import Config
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.whole import Row, draw_forest
from thermocancer.evaluation.report.exams import is_phantom, sources_of
from thermocancer.evaluation.report.judgement import Picture
from thermocancer.evaluation.report.page import PHANTOM_NOTICE, Words, number, with_interval
from thermocancer.evaluation.statistics.comparison import compare_pairs, shared_units
from thermocancer.evaluation.statistics.metrics import METRICS, measure
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json, read_json
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.manifest import read_manifest
from thermocancer.runs.run import PREDICTIONS, Run, run_names
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class RunComparison:
    """``document`` is ``compare.json``; ``picture`` is the forest plot."""

    document: Json
    picture: Picture


def compare_runs(runs: Sequence[Run], workspace: Workspace, config: Config) -> RunComparison:
    """Measure and test the runs against one another, two by two.

    Raises DataError when they share no patient, disagree about labels, or only one class was scored.
    """
    confidence, bootstrap, seed = config.evaluate.confidence, config.evaluate.bootstrap, config.seed
    by_exam = all(run.by_exam for run in runs)  # else exams of one run would find no patients of the other
    own = {run.name: gather_units(run.rows, by_exam=by_exam) for run in runs}
    units = shared_units(own)
    described: list[Json] = []
    for run in runs:
        where = run.folder / PREDICTIONS
        measured = measure(units[run.name], confidence=confidence, bootstrap=bootstrap, seed=seed, where=where)
        described.append(
            {
                "name": run.name,
                "model": run.manifest.model,
                "protocol": run.facts().protocol,
                "leaks": list(run.manifest.leaks),
                "units_of_its_own": len(own[run.name]),
                "metrics": {name: measured[name].as_dict() for name in METRICS},
            }
        )
    pairs = compare_pairs(units, confidence=confidence, bootstrap=bootstrap, seed=seed)
    phantom = is_phantom(sources_of(workspace, runs[0].rows))
    words = Words.of(runs[0])
    shared = units[runs[0].name]
    document = {
        "runs": described,
        "pairs": pairs,
        "n": len(shared),
        "positives": int(shared.labels.sum()),
        "confidence": confidence,
        "phantom": phantom,
        "classes": list(words.classes),
        "verdict": verdict_between(described, pairs, confidence, phantom=phantom),
    }
    flags = {"auc": "model", "accuracy": "none", "sensitivity": "none", "specificity": "none"}
    groups: list[tuple[str, list[Row]]] = [
        (METRICS[name], [(run["name"], run["metrics"][name], flag) for run in described])
        for name, flag in flags.items()
    ]
    picture = Picture(
        draw_forest(groups, reference=None, axis="value", middle=0.5),
        f"Forest plot of AUC, accuracy, sensitivity and specificity of {len(runs)} runs",
        f"Every run on the same {len(shared)} units, with intervals.",
    )
    return RunComparison(document, picture)


def verdict_between(runs: Sequence[Json], pairs: Sequence[Json], confidence: float, *, phantom: bool) -> Json:
    """``tone``, ``headline`` and ``sentences``: green only where runs differ that are sound and better than chance.

    ``open`` where no run can be told from another, with the difference that the data leave possible; ``caution`` where
    a protocol leaks or the better run is not shown to be better than chance.
    """
    better = clear_differences(pairs, confidence)
    leaky = [run["name"] for run in runs if run["leaks"]]
    lost = [run for run in runs if run["metrics"]["auc"]["low"] <= 0.5]
    doubtful = {run["name"] for run in lost} & {winner for winner, _, _ in better}
    sentences = []
    if leaky:
        sentences.append(f"The protocol of {', '.join(leaky)} leaks: a difference from a sound run says nothing.")
    if not better:
        bounds = [abs(pair["auc"][side]) for pair in pairs for side in ("low", "high") if pair["auc"][side] is not None]
        if bounds:
            most = number(min(max(bounds), 1.0))
            sentences.append(f"This does not show that they are equal: differences up to {most} AUC are possible.")
    if lost:
        named = ", ".join(f"{run['name']} (AUC {with_interval(run['metrics']['auc'])})" for run in lost)
        sentences.append(f"Not shown to be better than chance: {named}.")
    if phantom:
        sentences.append(PHANTOM_NOTICE)
    return {
        "tone": "caution" if leaky or doubtful else "good" if better else "open",
        "headline": which_differ(pairs, confidence),
        "sentences": sentences,
    }


def which_differ(pairs: Sequence[Json], confidence: float) -> str:
    """The headline: which runs differ, or that none does."""
    found = clear_differences(pairs, confidence)
    words = [f"{winner} ranks better than {other} by {number(gain)} AUC" for winner, other, gain in found]
    return "; ".join(words) + "." if words else "On these patients no run can be told from another by its AUC."


def clear_differences(pairs: Sequence[Json], confidence: float) -> list[tuple[str, str, float]]:
    """Better run, other run and difference, allowing for their number: of ten equal ones some look clear two times
    in five.
    """
    found = []
    for pair in pairs:
        auc = pair["auc"]
        excludes_zero = auc["low"] is not None and not auc["low"] <= 0 <= auc["high"]
        if excludes_zero and (len(pairs) == 1 or auc["p_holm"] < 1 - confidence):
            names = (pair["first"], pair["second"]) if auc["value"] > 0 else (pair["second"], pair["first"])
            found.append((*names, abs(auc["value"])))
    return found


# --- every run of a workspace, one line each --------------------------------------------------------------------------

BY = ("name", "made", "auc", "model")


def listed_runs(workspace: Workspace, by: str = "made") -> list[Json]:
    """Every run of a workspace with what its evaluation found, the best or the latest first.

    ``auc``, ``baseline`` (value, low, high; None where not evaluated), ``tone`` and ``headline`` are those of the last
    ``evaluate``; ``evaluated`` is False where there was none, or the run's scores have changed since. A run that cannot
    be read has ``problem`` alone beside its name. ``made`` is when its manifest was written, UTC.
    """
    found = []
    for name in run_names(workspace):
        folder = workspace.run(name)
        try:
            found.append(described_run(folder))
        except (DataError, KeyError) as error:
            found.append({"name": name, "problem": error.what if isinstance(error, DataError) else f"no {error}"})
    if by == "auc":
        return sorted(found, key=lambda each: -((each.get("auc") or {}).get("value") or 0.0))
    newest = sorted(found, key=lambda each: str(each.get(by, "")))
    return newest[::-1] if by == "made" else newest


def described_run(folder: Path) -> Json:
    """One line of ``listed_runs``. Raises DataError or KeyError for a run that cannot be read."""
    manifest = read_manifest(folder / MANIFEST)
    made = datetime.fromtimestamp((folder / MANIFEST).stat().st_mtime, UTC).isoformat(timespec="seconds")
    line: Json = {
        "name": folder.name, "model": manifest.model, "kind": manifest.kind, "views": list(manifest.views),
        "dataset": manifest.dataset.name, "protocol": manifest.protocol, "leaks": list(manifest.leaks), "made": made,
        "evaluated": False, "auc": None, "baseline": None, "tone": None, "headline": None,
    }  # fmt: skip
    if not all((folder / name).is_file() for name in ("metrics.json", "report.json")):
        return line
    metrics, report = read_json(folder / "metrics.json"), read_json(folder / "report.json")
    verdict, baseline = report["verdict"], report.get("baseline")
    interval = ("value", "low", "high")
    return line | {
        "evaluated": (folder / "metrics.json").stat().st_mtime >= (folder / PREDICTIONS).stat().st_mtime,
        "auc": {key: metrics["auc"][key] for key in interval}, "patients": metrics["patients"],
        "positives": metrics["positives"], "tone": verdict["tone"], "headline": verdict["headline"],
        "baseline": baseline and {key: baseline["auc"][key] for key in interval},
    }  # fmt: skip
