"""Several runs on the patients they share: every pair tested, one table, one forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thermocancer.config import Config
from thermocancer.evaluation.audit.whole import Row, draw_forest
from thermocancer.evaluation.report.exams import is_phantom, sources_of
from thermocancer.evaluation.report.judgement import Picture
from thermocancer.evaluation.report.page import PHANTOM_NOTICE, number
from thermocancer.evaluation.statistics.comparison import compare_pairs, shared_units
from thermocancer.evaluation.statistics.metrics import METRICS, measure
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json
from thermocancer.runs.run import PREDICTIONS, Run
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
    own = {run.name: gather_units(run.rows) for run in runs}
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
    sentences = [PHANTOM_NOTICE] if phantom else []
    leaky = [run["name"] for run in described if run["leaks"]]
    if leaky:
        sentences.insert(0, f"The protocol of {', '.join(leaky)} leaks: a difference from a sound run says nothing.")
    tone = "caution" if leaky else "good"
    shared = units[runs[0].name]
    document = {
        "runs": described,
        "pairs": pairs,
        "n": len(shared),
        "positives": int(shared.labels.sum()),
        "confidence": confidence,
        "phantom": phantom,
        "verdict": {"tone": tone, "headline": which_differ(pairs, confidence), "sentences": sentences},
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


def which_differ(pairs: Sequence[Json], confidence: float) -> str:
    """Which runs differ, allowing for the number of pairs: of ten equal ones some look clear two times in five."""
    words = []
    for pair in pairs:
        auc = pair["auc"]
        excludes_zero = auc["low"] is not None and not auc["low"] <= 0 <= auc["high"]
        if excludes_zero and (len(pairs) == 1 or auc["p_holm"] < 1 - confidence):
            names = (pair["first"], pair["second"]) if auc["value"] > 0 else (pair["second"], pair["first"])
            words.append(f"{names[0]} ranks better than {names[1]} by {number(abs(auc['value']))} AUC")
    return "; ".join(words) + "." if words else "On these patients no run can be told from another by its AUC."
