"""Choosing an operating point on inner out-of-fold scores, never on the scores that are reported.

A score at or above the threshold means sick. Thresholds lie midway between neighbouring scores, so
that a new score close to an inner one falls on the side it would have fallen on there.
"""

from __future__ import annotations

import numpy as np

from thermocancer.config.learning import FuseSection
from thermocancer.data.cohort import FloatArray, IntArray

FIXED = 0.5


def choose_threshold(scores: FloatArray, labels: IntArray, aim: str, sensitivity: float = 0.9) -> float:
    """The threshold for an aim, from scores in [0, 1] and labels, both (n,).

    ``sensitivity``: the best specificity among thresholds with at least that sensitivity;
    ``youden``: the greatest sensitivity + specificity; ``fixed``: 0.5. With one class only: 0.5.
    """
    if aim == "fixed" or len(set(labels.tolist())) < 2:
        return FIXED
    candidates, sensitivities, specificities = _operating_points(scores, labels)
    if aim == "sensitivity":
        # thresholds ascend, so the last one that is sensitive enough is the most specific
        return float(candidates[np.flatnonzero(sensitivities >= sensitivity - 1e-12)[-1]])
    sums = sensitivities + specificities
    best = np.flatnonzero(sums >= sums.max() - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - FIXED))]])


def _operating_points(scores: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds in ascending order, and the sensitivity and specificity at each."""
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    candidates = np.concatenate([[0.0], (levels[:-1] + levels[1:]) / 2.0])
    sick, healthy = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivities = 1.0 - np.searchsorted(sick, candidates, side="left") / len(sick)
    specificities = np.searchsorted(healthy, candidates, side="left") / len(healthy)
    return candidates, sensitivities, specificities


def describe_aim(fuse: FuseSection, protocol: str) -> str:
    """Where the threshold of a run comes from, in words for the report."""
    if protocol == "thesis":
        return "fixed at 0.5 (thesis protocol)"
    if fuse.aim == "fixed":
        return "fixed at 0.5"
    aim = "Youden's index" if fuse.aim == "youden" else f"sensitivity >= {fuse.aim_sensitivity:.2f} at best specificity"
    return f"inner folds: {aim}"
