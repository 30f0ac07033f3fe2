"""Classifiers on a small table of features: thermal statistics, asymmetry, pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.classifiers.decisions import (
    KernelDecision,
    LinearDecision,
    arrays_of,
    decision_from,
    fit_logistic,
    fit_pca_svm,
    read_arrays,
    write_arrays,
)
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import DataError
from thermocancer.features.prepared import OncePerCohort
from thermocancer.features.residual import NuisanceFit, NuisanceScale
from thermocancer.features.tables import TableKind, measured_table


@dataclass(frozen=True)
class FeatureTable:
    """Which table is computed and where it is kept; ``of(source, rows)`` gives shape (len(rows), p)."""

    kind: TableKind
    views: tuple[str, ...]
    pixels: tuple[int, int]
    cache: Path | None = None
    _known: OncePerCohort[FloatArray] = field(default_factory=OncePerCohort, repr=False, compare=False)

    def of(self, source: Cohort, rows: IntArray) -> FloatArray:
        """The rows' features. Raises DataError when one of the exams lacks a view."""
        table = self._known.of(
            source, lambda each: measured_table(each, self.kind, self.views, self.pixels, self.cache)
        )[rows]  # fmt: skip
        lacking = np.flatnonzero(np.isnan(table).any(axis=1))
        if len(lacking):
            raise DataError(
                "an exam lacks a view that the classifier needs",
                where=f"exam {source.exams[int(rows[lacking[0]])].key}",
                expected=", ".join(self.views),
            )
        return table

    def describe(self) -> dict[str, Any]:
        return {"table": self.kind, "views": list(self.views), "pixels": list(self.pixels)}


@dataclass(frozen=True)
class Residual:
    """What nuisance adds to each feature: ``effect`` (k, p)."""

    scaling: NuisanceScale
    effect: FloatArray

    def removed_from(self, table: FloatArray, source: Cohort, rows: IntArray) -> FloatArray:
        return table - self.scaling.design(source, rows) @ self.effect


@dataclass(frozen=True)
class TabularModel:
    """A decision function and the table it reads."""

    features: FeatureTable
    decision: LinearDecision | KernelDecision
    residual: Residual | None = None

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        table = self.features.of(source, rows)
        if self.residual is not None:
            table = self.residual.removed_from(table, source, rows)
        return self.decision.decide(table)

    def save(self, folder: Path) -> None:
        arrays = arrays_of(self.decision)
        if self.residual is not None:
            arrays |= self.residual.scaling.arrays() | {"nuisance_effect": self.residual.effect}
        write_arrays(folder, arrays)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> TabularModel:
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        arrays = read_arrays(folder)
        rows, columns = settings["pixels"]
        features = FeatureTable(settings["table"], tuple(settings["views"]), (rows, columns))
        scaling = NuisanceScale.from_arrays(arrays)
        residual = None if scaling is None else Residual(scaling, arrays["nuisance_effect"])
        return cls(features, decision_from(arrays), residual)


@dataclass(frozen=True)
class TabularMethod:
    """Logistic regression on a table, or with ``components`` an RBF SVM on that many principal components."""

    features: FeatureTable
    C: float
    components: int | None = None
    residualise: bool = False
    exam_weights: ExamWeights | None = None

    @property
    def name(self) -> str:
        return self.features.kind

    @property
    def probabilistic(self) -> bool:
        return self.components is None

    def describe(self) -> dict[str, Any]:
        return {"kind": "tabular", "name": self.name, **self.features.describe()}

    def announce(self, source: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        """Nothing to prepare: the table is measured once for all exams."""

    def train(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> TabularModel:
        table, residual = self.features.of(source, rows), None
        if self.residualise:
            fit = NuisanceFit.of(source, rows, labels)
            effect = fit.coefficients(self.features.of(source, fit.healthy))
            residual = Residual(fit.scaling, effect)
            table = residual.removed_from(table, source, rows)
        weights = None if self.exam_weights is None else self.exam_weights[rows]
        if self.components is None:
            return TabularModel(self.features, fit_logistic(table, labels, self.C, weights), residual)
        return TabularModel(self.features, fit_pca_svm(table, labels, self.components, self.C, weights), residual)
