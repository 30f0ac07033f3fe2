"""Are the probabilities meant as probabilities? Slope, intercept, reliability, decision curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.statistics.resampling import ECE_BINS, score_bins

EDGE = 1e-6
"""Scores are moved this far inside (0, 1) before the logit is taken."""


def logit(scores: FloatArray) -> FloatArray:
    """Log-odds of scores, clipped so that 0 and 1 stay finite."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    odds: FloatArray = np.log(inside / (1 - inside))
    return odds


def calibration_line(labels: IntArray, scores: FloatArray) -> dict[str, float | None]:
    """Slope and intercept of the logistic recalibration, and the calibration in the large.

    Slope 1 and intercept 0 are ideal; a slope below 1 means scores too extreme (Cox 1958; Van Calster 2019,
    BMC Medicine 17:230). ``in_the_large`` is the intercept with the slope held at 1. None where the scores
    separate the classes, because the fit then has no finite answer.
    """
    odds = logit(scores)
    slope = _newton(np.column_stack([np.ones_like(odds), odds]), labels, np.zeros(len(odds)))
    large = _newton(np.ones((len(odds), 1)), labels, odds)
    return {
        "slope": None if slope is None else float(slope[1]),
        "intercept": None if slope is None else float(slope[0]),
        "in_the_large": None if large is None else float(large[0]),
    }


def _newton(design: FloatArray, labels: IntArray, offset: FloatArray) -> FloatArray | None:
    """Unpenalised logistic regression by Newton's method; None where it does not converge."""
    weights = np.zeros(design.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -500, 500)))
        curvature = design.T @ (design * (chance * (1 - chance))[:, None])
        if not np.linalg.cond(curvature) < 1e12:
            return None
        step = np.linalg.solve(curvature, design.T @ (labels - chance))
        weights = weights + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            return weights
    return None


def reliability(labels: IntArray, scores: FloatArray) -> list[dict[str, Any]]:
    """For each of ten bins that holds a score: its units, mean score and share of sick."""
    bins = score_bins(scores)
    rows = []
    for number in range(ECE_BINS):
        inside = bins == number
        if inside.any():
            rows.append(
                {
                    "from": number / ECE_BINS,
                    "to": (number + 1) / ECE_BINS,
                    "n": int(inside.sum()),
                    "mean_score": float(scores[inside].mean()),
                    "share_sick": float(labels[inside].mean()),
                }
            )
    return rows


def decision_curve(labels: IntArray, scores: FloatArray) -> list[dict[str, float]]:
    """Net benefit at threshold probabilities of 1 to 20 % (Vickers and Elkin 2006), beside calling everyone sick.

    The sample's own prevalence is used, which is far above that of screening.
    """
    count = len(labels)
    rows = []
    for percent in range(1, 21):
        chance = percent / 100
        odds = chance / (1 - chance)
        called = scores >= chance
        hits, alarms = int(np.sum(called & (labels == 1))), int(np.sum(called & (labels == 0)))
        everyone = (int(labels.sum()) - (count - int(labels.sum())) * odds) / count
        rows.append({"threshold": chance, "model": (hits - alarms * odds) / count, "everyone": everyone, "nobody": 0.0})
    return rows


def predictive_values(
    sensitivity: float | None, specificity: float | None, prevalences: Sequence[float]
) -> list[dict[str, float | None]]:
    """PPV and NPV by Bayes' rule at each prevalence."""
    rows: list[dict[str, float | None]] = []
    for prevalence in prevalences:
        row: dict[str, float | None] = {"prevalence": float(prevalence), "ppv": None, "npv": None}
        if sensitivity is not None and specificity is not None:
            called = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
            cleared = specificity * (1 - prevalence) + (1 - sensitivity) * prevalence
            row["ppv"] = sensitivity * prevalence / called if called else None
            row["npv"] = specificity * (1 - prevalence) / cleared if cleared else None
        rows.append(row)
    return rows
