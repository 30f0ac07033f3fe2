"""ROC, precision-recall and accuracy against threshold: points to draw, from units."""

from __future__ import annotations

from typing import Any

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.statistics.units import Units


def roc_points(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """False positive rate and sensitivity at every distinct threshold, from (0, 0) to (1, 1)."""
    _, hits, alarms = _counts_from_above(labels, scores)
    return alarms / alarms[-1], hits / hits[-1]


def precision_recall_points(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Recall and precision at every distinct threshold, highest first."""
    _, hits, alarms = _counts_from_above(labels, scores)
    return hits[1:] / hits[-1], hits[1:] / (hits[1:] + alarms[1:])


def _counts_from_above(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds from the highest, with sick and healthy units at or above each; starts with none."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits = np.r_[0, np.cumsum(labels[order])[ends]].astype(float)
    alarms = np.r_[0, np.cumsum(1 - labels[order])[ends]].astype(float)
    return np.r_[np.inf, scores[order][ends]], hits, alarms


def accuracy_by_threshold(units: Units) -> list[dict[str, float]]:
    """Accuracy, sensitivity and specificity at thresholds 0.00 to 1.00 in steps of 0.01."""
    sick = units.labels == 1
    rows = []
    for percent in range(101):
        called = units.scores >= percent / 100
        rows.append(
            {
                "threshold": percent / 100,
                "accuracy": float(np.mean(called == sick)),
                "sensitivity": float(np.mean(called[sick])),
                "specificity": float(np.mean(~called[~sick])),
            }
        )
    return rows


def reference_points(units: Units) -> list[dict[str, Any]]:
    """For comparison only: the figures at 0.5 and at Youden's threshold, the latter chosen on the scored units."""
    labels, scores = units.labels, units.scores
    thresholds, hits, alarms = _counts_from_above(labels, scores)
    youden = float(thresholds[1:][np.argmax(hits[1:] / hits[-1] - alarms[1:] / alarms[-1])])
    rows = []
    for name, threshold in (("0.5, fixed", 0.5), ("Youden's, chosen on these very units (optimistic)", youden)):
        called = scores >= threshold
        rows.append(
            {
                "name": name,
                "threshold": threshold,
                "sensitivity": float(np.mean(called[labels == 1])),
                "specificity": float(np.mean(~called[labels == 0])),
                "accuracy": float(np.mean(called == (labels == 1))),
            }
        )
    return rows
