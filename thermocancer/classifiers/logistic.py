"""A plain logistic regression on columns of numbers: what trivial controls of single exams are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer.classifiers.protocol import Classifier, Probabilistic, Settings
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.features.prepared import OncePerCohort

RIDGE = 1.0
"""Penalty on standardised columns, as scikit-learn's default."""

Columns = Callable[[Cohort], FloatArray]
"""Numbers of every exam of a cohort, (n, k)."""


def ridge_logistic(design: FloatArray, labels: IntArray, ridge: float = 0.1) -> FloatArray:
    """Logistic regression with a small penalty, by Newton's method. Returns intercept and weights (k + 1,).

    The classes weigh the same: otherwise a fold with fewer sick in training scores everyone lower, and
    folds pooled rank worse than chance.
    """
    full = np.column_stack([np.ones(len(design)), design])
    share = np.where(labels == 1, labels.mean(), 1 - labels.mean())
    weight = 0.5 / share
    penalty = ridge * np.diag([1e-6, *np.ones(design.shape[1])])
    weights = np.zeros(full.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(full @ weights, -30, 30)))
        gradient = full.T @ (weight * (labels - chance)) - penalty @ weights
        curvature = full.T @ (full * (weight * chance * (1 - chance))[:, None]) + penalty
        step = np.linalg.solve(curvature, gradient)
        weights = weights + step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return weights


@dataclass(frozen=True, eq=False)
class ColumnsModel(Probabilistic):
    """Intercept and weights (k + 1,) of standardised columns."""

    table: Columns
    mean: FloatArray
    spread: FloatArray
    weights: FloatArray

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        standard = (self.table(cohort)[rows] - self.mean) / self.spread
        odds = np.column_stack([np.ones(len(rows)), standard]) @ self.weights
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))))

    def describe(self) -> Settings:
        return {}

    def save(self, folder: Path) -> None:
        """Nothing: no run keeps a control."""
        return None


@dataclass(frozen=True, eq=False)
class ColumnsClassifier(Classifier):
    """``ridge_logistic`` on ``columns``, standardised in training."""

    title: str
    columns: Columns
    probabilistic: bool = True
    _known: OncePerCohort[FloatArray] = field(default_factory=OncePerCohort, repr=False)

    @property
    def name(self) -> str:
        return self.title

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> ColumnsModel:
        known = self.table(cohort)[rows]
        spread = known.std(axis=0)
        mean, spread = known.mean(axis=0), np.where(spread > 0, spread, 1.0)
        return ColumnsModel(self.table, mean, spread, ridge_logistic((known - mean) / spread, labels, RIDGE))

    def table(self, cohort: Cohort) -> FloatArray:
        """The columns of a cohort, measured once."""
        return self._known.of(cohort, self.columns)
