"""Whom ``matched_study.py`` looks at, and how its recipes turn training exams into scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matched_study_features import SIGNED_NAMES

from thermocancer.classifiers.decisions import fit_logistic
from thermocancer.data.cohort import ArrayCohort, Exam, FloatArray, IntArray
from thermocancer.evaluation.audit.matched import Matching
from thermocancer.features.residual import NuisanceFit
from thermocancer.features.tables import Table

DAYS, ROOM_CELSIUS = 270.0, 0.75
PRIMARY, BY_DATE = Matching(DAYS, ROOM_CELSIUS), Matching(DAYS, None)
RIDGE_C = 0.1
"""Inverse strength of the ridge of every logistic recipe: few exams, many numbers."""


@dataclass(frozen=True)
class Measured:
    """All exams of the data set with the tables measured on them; ``rows`` are those of the study.

    ``source`` holds no matrices any more, only what was measured outside the breast.
    """

    source: ArrayCohort
    exams: tuple[Exam, ...]
    rows: IntArray
    signed: FloatArray
    indices: FloatArray
    regions: FloatArray
    known: dict[Table, FloatArray]

    @property
    def labels(self) -> IntArray:
        return np.array([exam.label for exam in self.exams], dtype=np.int64)

    def column(self, name: str) -> FloatArray:
        return self.source.nuisance()[name]

    def matches(self, sick: IntArray, healthy: IntArray, matching: Matching) -> FloatArray:
        """1.0 where a sick and a healthy row form a pair, shape (sick, healthy)."""
        close = np.ones((len(sick), len(healthy)), bool)
        for name, most in (("date_ordinal", matching.days), ("room_celsius", matching.room_celsius)):
            if most is not None:
                values = self.column(name)
                close &= np.abs(values[sick][:, None] - values[healthy]) <= most
        return close.astype(float)


Scorer = Callable[[Measured, IntArray, IntArray], FloatArray]
"""(cohort, training rows, rows to score) -> scores, larger means sick. Labels are read of training rows only."""


def unfitted(score: Callable[[Measured], FloatArray]) -> Scorer:
    return lambda cohort, train, rows: score(cohort)[rows]


def logistic_on(table: Callable[[Measured], FloatArray], *, residual: bool = False, absolute: bool = False) -> Scorer:
    """Ridge logistic regression; ``residual``: nuisance regressed out on healthy training exams first."""

    def score(cohort: Measured, train: IntArray, rows: IntArray) -> FloatArray:
        values = without_nuisance(cohort, table(cohort), train) if residual else table(cohort)
        values = np.abs(values) if absolute else values
        return fit_logistic(values[train], cohort.labels[train], RIDGE_C).decide(values[rows])

    return score


def without_nuisance(cohort: Measured, table: FloatArray, train: IntArray) -> FloatArray:
    """The table (n, p) less what date, room, marker and framing explain among healthy training exams."""
    fit = NuisanceFit.of(cohort.source, train, cohort.labels[train])
    everyone = np.arange(len(table), dtype=np.int64)
    return table - fit.scaling.design(cohort.source, everyone) @ fit.coefficients(table[fit.healthy])


def novelty(*, residual: bool = False) -> Scorer:
    """Mahalanobis distance of the signed vector from healthy training exams (Ledoit-Wolf shrinkage)."""

    def score(cohort: Measured, train: IntArray, rows: IntArray) -> FloatArray:
        from sklearn.covariance import LedoitWolf

        table = without_nuisance(cohort, cohort.signed, train) if residual else cohort.signed
        healthy = table[train[cohort.labels[train] == 0]]
        middle, scale = healthy.mean(axis=0), healthy.std(axis=0)
        model = LedoitWolf().fit((healthy - middle) / scale)
        return np.sqrt(np.asarray(model.mahalanobis((table[rows] - middle) / scale), dtype=np.float64))

    return score


def paired(table: Callable[[Measured], FloatArray]) -> Scorer:
    """Logistic regression on the differences of matched sick-healthy training pairs: taught within pairs only."""

    def score(cohort: Measured, train: IntArray, rows: IntArray) -> FloatArray:
        from sklearn.linear_model import LogisticRegression

        values, labels = table(cohort), cohort.labels[train]
        middle, scale = values[train].mean(axis=0), values[train].std(axis=0)
        standard = (values - middle) / scale
        sick, healthy = train[labels == 1], train[labels == 0]
        one, other = np.nonzero(cohort.matches(sick, healthy, PRIMARY))
        apart = standard[sick[one]] - standard[healthy[other]]
        both, truth = np.concatenate([apart, -apart]), np.repeat([1, 0], len(apart))
        weights = np.full(len(both), len(sick) / len(both))  # as many pairs as there are, as much say as the sick
        model = LogisticRegression(C=RIDGE_C, fit_intercept=False, max_iter=2000).fit(both, truth, weights)
        return np.asarray(standard[rows] @ model.coef_[0], dtype=np.float64)

    return score


def magnitude(cohort: Measured) -> FloatArray:
    return np.abs(cohort.signed)


def magnitude_and_regions(cohort: Measured) -> FloatArray:
    return np.concatenate([np.abs(cohort.signed), cohort.regions], axis=1)


def signed_columns(cohort: Measured, start: str) -> FloatArray:
    return np.abs(cohort.signed[:, [name.startswith(start) for name in SIGNED_NAMES]])


def nuisance_columns(*names: str) -> Callable[[Measured], FloatArray]:
    def table(cohort: Measured) -> FloatArray:
        values = np.column_stack([cohort.column(name) for name in names])
        return np.where(np.isfinite(values), values, np.nanmedian(values[cohort.rows], axis=0))

    return table
