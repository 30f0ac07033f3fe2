"""Several runs on the patients they share: every pair tested, one table, one forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from thermocancer.config import Config
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.controls import holm
from thermocancer.evaluation.audit.forest import Row, draw_forest
from thermocancer.evaluation.report.cohort_flow import is_phantom, sources_of
from thermocancer.evaluation.report.judgement import Picture
from thermocancer.evaluation.report.notices import PHANTOM_NOTICE, number
from thermocancer.evaluation.statistics.comparison import auc_difference, mcnemar, pair_units, share_differences
from thermocancer.evaluation.statistics.metrics import METRICS, measure
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.runs.run import RunRecord
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Contest:
    """``document`` is ``compare.json``; ``picture`` is the forest plot."""

    document: dict[str, Any]
    picture: Picture


def shared_units(runs: Sequence[RunRecord]) -> dict[str, Units]:
    """Each run's units, restricted to those that all runs have. Raises DataError when there are none."""
    units = {run.name: gather_units(run.rows) for run in runs}
    keys = set.intersection(*(set(each.keys) for each in units.values()))
    if not keys:
        counts = ", ".join(f"{name} {len(each)}" for name, each in units.items())
        raise DataError(
            "these runs have no patient in common",
            expected="runs on the same data set",
            found=f"units: {counts}; none in all of them",
            hint="compare runs that were trained on the same exams",
        )
    import numpy as np

    return {
        name: each.at(np.array([row for row, key in enumerate(each.keys) if key in keys], dtype=np.int64))
        for name, each in units.items()
    }


def contest(runs: Sequence[RunRecord], workspace: Workspace, config: Config) -> Contest:
    """Measure and test the runs against one another, two by two."""
    settings, units = config.evaluate, shared_units(runs)
    measured = {
        run.name: measure(
            units[run.name], confidence=settings.confidence, bootstrap=settings.bootstrap, seed=config.seed,
            where=run.folder / "predictions.csv",
        )
        for run in runs
    }  # fmt: skip
    pairs = [_pair(first.name, second.name, units, config) for first, second in combinations(runs, 2)]
    corrected = holm([1.0 if pair["auc"]["p"] is None else pair["auc"]["p"] for pair in pairs])
    for pair, chance in zip(pairs, corrected, strict=True):
        pair["auc"]["p_holm"] = chance
    first = units[runs[0].name]
    phantom = is_phantom(sources_of(workspace, runs[0].rows))
    document = {
        "runs": [_describe(run, units, measured[run.name]) for run in runs],
        "pairs": pairs,
        "n": len(first),
        "positives": int(first.labels.sum()),
        "confidence": settings.confidence,
        "phantom": phantom,
        "verdict": {
            "tone": "good",
            "headline": _headline(pairs, settings.confidence),
            "sentences": [PHANTOM_NOTICE] if phantom else [],
        },
    }
    leaky = [run.name for run in runs if run.manifest.get("leaks")]
    if leaky:
        document["verdict"]["tone"] = "caution"  # type: ignore[index]
        document["verdict"]["sentences"].insert(  # type: ignore[index]
            0, f"The protocol of {', '.join(leaky)} leaks: a difference from a sound run says nothing."
        )
    return Contest(document, _picture(document))


def _describe(run: RunRecord, units: dict[str, Units], measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": run.name,
        "model": run.manifest.get("model"),
        "protocol": run.facts().protocol,
        "leaks": list(run.manifest.get("leaks", ())),
        "units_of_its_own": len(gather_units(run.rows)),
        "metrics": {name: measured[name].as_dict() for name in METRICS},
    }


def _pair(first: str, second: str, units: dict[str, Units], config: Config) -> dict[str, Any]:
    paired = pair_units(units[first], units[second])
    how = config.evaluate
    return {
        "first": first,
        "second": second,
        "auc": auc_difference(paired, confidence=how.confidence, bootstrap=how.bootstrap, seed=config.seed),
        "shares": share_differences(paired, confidence=how.confidence, bootstrap=how.bootstrap, seed=config.seed),
        "mcnemar": mcnemar(paired),
    }


def _headline(pairs: Sequence[dict[str, Any]], confidence: float) -> str:
    """Which runs differ, allowing for the number of pairs: of ten equal ones some look clear two times in five."""
    clear = [
        pair
        for pair in pairs
        if pair["auc"]["low"] is not None
        and not _includes_zero(pair["auc"])
        and (len(pairs) == 1 or pair["auc"]["p_holm"] < 1 - confidence)
    ]
    if not clear:
        return "On these patients no run can be told from another by its AUC."
    words = []
    for pair in clear:
        better, worse = (pair["first"], pair["second"]) if pair["auc"]["value"] > 0 else (pair["second"], pair["first"])
        words.append(f"{better} ranks better than {worse} by {number(abs(pair['auc']['value']))} AUC")
    return "; ".join(words) + "."


def _includes_zero(difference: dict[str, Any]) -> bool:
    return bool(difference["low"] <= 0 <= difference["high"])


def _picture(document: dict[str, Any]) -> Picture:
    runs: list[Row] = [(run["name"], run["metrics"]["auc"], "model") for run in document["runs"]]
    shares: list[tuple[str, list[Row]]] = [
        (name, [(run["name"], run["metrics"][name], "none") for run in document["runs"]])
        for name in ("accuracy", "sensitivity", "specificity")
    ]
    return Picture(
        draw_forest([("AUC", runs), *shares], reference=None, axis="value", middle=0.5),
        f"Forest plot of AUC, accuracy, sensitivity and specificity of {len(runs)} runs",
        f"Every run on the same {document['n']} units, with intervals.",
    )
