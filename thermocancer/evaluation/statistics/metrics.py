"""``metrics.json``: the fixed figures, each with its interval and how it was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from thermocancer.data.cohort import FloatArray
from thermocancer.evaluation.statistics.intervals import (
    BOOTSTRAP,
    REFLECTED,
    Estimate,
    auc_interval,
    percentile_interval,
    reflected_interval,
    wilson,
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
from thermocancer.evaluation.statistics.units import Units, require_both_classes
from thermocancer.runs.run import RunFacts

METRICS = (
    "precision", "sensitivity", "specificity", "accuracy", "f1", "auc", "average_precision", "brier", "ece",
)  # fmt: skip
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


def proportions(confusion: dict[str, int], confidence: float) -> dict[str, Estimate]:
    """Precision, sensitivity, specificity and accuracy with Wilson intervals."""
    tn, fp, fn, tp = (confusion[name] for name in ("tn", "fp", "fn", "tp"))
    return {
        "precision": wilson(tp, tp + fp, confidence),
        "sensitivity": wilson(tp, tp + fn, confidence),
        "specificity": wilson(tn, tn + fp, confidence),
        "accuracy": wilson(tp + tn, tn + fp + fn + tp, confidence),
    }


def bootstrapped(units: Units, counts: FloatArray, confidence: float) -> dict[str, Estimate]:
    """F1, average precision, Brier score and AUC with patient-bootstrap intervals.

    ``counts`` (B, n) comes from ``patient_counts``.
    """
    labels, scores, decisions = units.labels, units.scores, units.decisions
    whole = np.ones((1, len(units)))
    functions = {
        "f1": lambda weights: f1_of(weights, labels, decisions),
        "auc": lambda weights: auc_of(weights, labels, scores),
        "average_precision": lambda weights: average_precision_of(weights, labels, scores),
        "brier": lambda weights: brier_of(weights, labels, scores),
    }
    method = f"{BOOTSTRAP} ({len(counts)} replicates)"
    estimates = {}
    for name, function in functions.items():
        value = float(function(whole)[0])
        estimates[name] = percentile_interval(function(counts), value, confidence, method)
    return estimates


def calibration_error(units: Units, counts: FloatArray, confidence: float, seed: int) -> Estimate:
    """ECE with an interval that allows for what sampling adds to it; ``counts`` as for ``bootstrapped``."""
    value = float(ece_of(np.ones((1, len(units))), units.labels, units.scores)[0])
    draws, by_chance = ece_of(counts, units.labels, units.scores), ece_by_chance(units.scores, len(counts), seed)
    return reflected_interval(draws, by_chance, value, confidence, f"{REFLECTED} ({len(counts)} replicates)")


def measure(units: Units, *, confidence: float, bootstrap: int, seed: int, where: object = None) -> dict[str, Estimate]:
    """Every metric of the contract, and ``auc_bootstrap`` beside DeLong's ``auc``.

    Raises DataError when only one class is there.
    """
    require_both_classes(units, where)
    estimates = proportions(confusion_of(units), confidence)
    counts = patient_counts(units.patients, bootstrap, seed)
    drawn = bootstrapped(units, counts, confidence)
    estimates["auc_bootstrap"] = drawn.pop("auc")
    estimates |= drawn | {"ece": calibration_error(units, counts, confidence, seed)}
    estimates["auc"] = auc_interval(units.labels, units.scores, confidence)
    return estimates


def metrics_document(estimates: dict[str, Estimate], units: Units, facts: RunFacts) -> dict[str, Any]:
    """The content of ``metrics.json`` (design, section 2.1)."""
    by_visit = int(np.sum(units.visits > 0))
    document: dict[str, Any] = {name: estimates[name].as_dict() for name in (*METRICS, "auc_bootstrap")}
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
    }
    return document | facts.more
