"""Decision values to probabilities: Platt scaling, fitted on scores of exams the classifier has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray

MINIMUM_SLOPE = 1e-2
"""Decision values that say nothing (or the opposite) on inner data still keep their order."""


def logistic(values: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow; >= 0.5 exactly where x >= 0."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, dtype=np.float64)))


def logit(scores: FloatArray, margin: float = 1e-6) -> FloatArray:
    """The inverse of ``logistic``; scores are kept ``margin`` away from 0 and 1."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), margin, 1.0 - margin)
    return np.log(inside) - np.log1p(-inside)


@dataclass(frozen=True)
class Calibration:
    """score = logistic(slope * decision + intercept), slope > 0: the order of decision values is kept."""

    slope: float = 1.0
    intercept: float = 0.0

    def scores(self, decisions: FloatArray) -> FloatArray:
        """Probabilities of sick for decision values, same shape."""
        return logistic(self.slope * decisions + self.intercept)


RAW = Calibration()
"""Scores straight from decision values: 0.5 where the classifier itself changes its mind."""


def fit_platt(decisions: FloatArray, labels: IntArray) -> Calibration:
    """Fit slope and intercept to out-of-fold decision values, shapes (n,).

    Newton's method with Platt's smoothed targets, which keep the fit finite for separable classes
    (Platt 1999; Lin, Lin and Weng 2007, Machine Learning 68:267, whose line search this follows).
    A slope below ``MINIMUM_SLOPE`` is set to it and the intercept fitted alone.
    """
    sick = int(labels.sum())
    healthy = len(labels) - sick
    targets = np.where(labels == 1, (sick + 1.0) / (sick + 2.0), 1.0 / (healthy + 2.0))
    start = np.array([0.0, np.log((sick + 1.0) / (healthy + 1.0))])
    slope, intercept = _newton(np.column_stack([decisions, np.ones_like(decisions)]), targets, start)
    if slope < MINIMUM_SLOPE:
        slope = MINIMUM_SLOPE
        offset = slope * decisions
        (intercept,) = _newton(np.ones((len(decisions), 1)), targets, start[1:], offset)
    return Calibration(float(slope), float(intercept))


def _newton(
    design: FloatArray, targets: FloatArray, start: FloatArray, offset: FloatArray | float = 0.0, steps: int = 100
) -> FloatArray:
    """Minimise the cross-entropy of logistic(design @ w + offset) against ``targets``; convex, so it converges."""
    weights, ridge = start.copy(), 1e-12 * np.eye(design.shape[1])
    loss = _cross_entropy(design @ weights + offset, targets)
    for _ in range(steps):
        probability = logistic(design @ weights + offset)
        gradient = design.T @ (probability - targets)
        curvature = (design * (probability * (1.0 - probability))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-10:
            candidate = weights - size * step
            better = _cross_entropy(design @ candidate + offset, targets)
            if better <= loss - 1e-4 * size * float(gradient @ step):
                break
            size /= 2.0
        else:
            return weights
        weights, gain, loss = candidate, loss - better, better
        if gain < 1e-12 * (1.0 + abs(loss)):
            return weights
    return weights


def _cross_entropy(values: FloatArray, targets: FloatArray) -> float:
    return float((np.logaddexp(0.0, values) - targets * values).sum())
