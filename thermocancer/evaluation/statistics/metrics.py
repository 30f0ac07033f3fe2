"""``metrics.json``: the fixed figures, each with its interval and how it was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from thermocancer.config.judging import EvaluateSection
from thermocancer.data.cohort import FloatArray
from thermocancer.evaluation.statistics.curves import precision_recall_band, roc_band
from thermocancer.evaluation.statistics.intervals import (
    BOOTSTRAP,
    REFLECTED,
    Estimate,
    auc_interval,
    decision_shares,
    delong_components,
    percentile_interval,
    reflected_interval,
)
from thermocancer.evaluation.statistics.resampling import (
    auc_of,
    average_precision_of,
    brier_of,
    ece_by_chance,
    ece_of,
    f1_of,
    patient_counts,
)
from thermocancer.evaluation.statistics.units import Units, gather_units, require_both_classes
from thermocancer.files import Json
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import RunFacts

METRICS = {
    "auc": "AUC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "accuracy": "accuracy",
    "f1": "F1",
    "average_precision": "average precision",
    "brier": "Brier score ↓",
    "ece": "calibration error ↓",
}
"""The metrics of ``metrics.json`` and their titles, in the order in which people read them; ↓: lower is better."""

DECISION_RULE = (
    "a unit's score is the mean over its rows of predictions.csv; it is called sick when at least half of its rows "
    "have predicted = 1, each row having been decided by the threshold of its own fold"
)


def confusion_of(units: Units) -> dict[str, int]:
    """Counts of right and wrong decisions: tn, fp, fn, tp."""
    sick, called = units.labels == 1, units.decisions == 1
    return {
        "tn": int(np.sum(~sick & ~called)),
        "fp": int(np.sum(~sick & called)),
        "fn": int(np.sum(sick & ~called)),
        "tp": int(np.sum(sick & called)),
    }


def calibration_error(units: Units, counts: FloatArray, confidence: float, seed: int) -> Estimate:
    """ECE with an interval that allows for what sampling adds to it; ``counts`` (B, n): of ``patient_counts``."""
    value = float(ece_of(np.ones((1, len(units))), units.labels, units.scores)[0])
    draws, by_chance = ece_of(counts, units.labels, units.scores), ece_by_chance(units.scores, len(counts), seed)
    return reflected_interval(draws, by_chance, value, confidence, f"{REFLECTED} ({len(counts)} replicates)")


def measure(units: Units, *, confidence: float, bootstrap: int, seed: int, where: object = None) -> dict[str, Estimate]:
    """Every metric; ``auc`` counts pairs tested in one fold, ``auc_pooled`` and ``auc_bootstrap`` all, by mean scores.

    Intervals without a formula are those of the patient bootstrap. Raises DataError when only one class is there.
    """
    require_both_classes(units, where)
    labels, scores = units.labels, units.scores
    tn, fp, fn, tp = confusion_of(units).values()
    sample, counts = np.ones((1, len(units))), patient_counts(units.patients, bootstrap, seed)
    resampled: dict[str, Callable[[FloatArray], FloatArray]] = {
        "f1": partial(f1_of, labels=labels, decisions=units.decisions),
        "auc_bootstrap": partial(auc_of, labels=labels, scores=scores),
        "average_precision": partial(average_precision_of, labels=labels, scores=scores),
        "brier": partial(brier_of, labels=labels, scores=scores),
    }
    method = f"{BOOTSTRAP} ({len(counts)} replicates)"
    return {
        **decision_shares(tp, tp + fn, tn, tn + fp, repeats=units.repeats, confidence=confidence),
        "auc": auc_interval(units, confidence),
        "auc_pooled": Estimate(
            delong_components(labels, scores)[0], None, None, "all pairs, by mean scores over folds"
        ),
        "ece": calibration_error(units, counts, confidence, seed),
    } | {
        name: percentile_interval(metric(counts), float(metric(sample)[0]), confidence, method)
        for name, metric in resampled.items()
    }


def auc_figures(
    rows: Sequence[Prediction], settings: EvaluateSection, name: str = "auc", *, by_exam: bool
) -> dict[str, float | None]:  # fmt: skip
    """``name``, ``name_low`` and ``name_high`` of out-of-sample rows, for the terminal; None without both classes.

    ``by_exam`` as ``Run.by_exam``, so that ``evaluate`` says the same.
    """
    units = gather_units(rows, by_exam=by_exam)
    if not units.has_both_classes:
        return {name: None}
    found = auc_interval(units, settings.confidence)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def subgroup_figures(units: Units, confidence: float) -> Json:
    """Counts of a part of the units, their shares and AUC with intervals; None where a class they need is missing."""
    tn, fp, fn, tp = confusion_of(units).values()
    shares = decision_shares(tp, tp + fn, tn, tn + fp, repeats=units.repeats, confidence=confidence)
    return {
        "n": len(units),
        "sick": tp + fn,
        "sensitivity": shares["sensitivity"].as_dict() if tp + fn else None,
        "specificity": shares["specificity"].as_dict() if tn + fp else None,
        "auc": auc_interval(units, confidence).as_dict() if units.has_both_classes else None,
    }


def metrics_document(estimates: dict[str, Estimate], units: Units, facts: RunFacts, confidence: float) -> Json:
    """The content of ``metrics.json``, but for what is known of folds."""
    by_visit = int(np.sum(units.visits > 0))
    document: Json = {name: estimates[name].as_dict() for name in (*METRICS, "auc_bootstrap", "auc_pooled")}
    document |= {
        "n": len(units),
        "positives": int(units.labels.sum()),
        "patients": len(np.unique(units.patients)),
        "threshold": facts.threshold,
        "threshold_source": facts.threshold_source,
        "decision_rule": DECISION_RULE,
        "confusion": confusion_of(units),
        "unit": facts.unit or ("exam" if len(units) and by_visit == len(units) else "patient"),
        "units_by_visit": by_visit,
        "protocol": facts.protocol,
        "leaks": list(facts.leaks),
        "confidence": confidence,
        "roc": roc_band(units, confidence),
        "precision_recall": precision_recall_band(units, confidence),
    }
    return document
