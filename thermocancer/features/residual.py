"""Regressing nuisance (room, marker, framing) out of features, fitted on healthy training exams only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from thermocancer.data.exams import ExamSource, FloatArray, IntArray
from thermocancer.errors import DataError

RIDGE = 1.0
"""In units of one exam, on standardised nuisance: keeps the fit sane when variables repeat one another."""


@dataclass(frozen=True)
class NuisanceFit:
    """Standardised nuisance and the healthy training exams that teach its effect.

    ``names`` (k,), ``mean`` and ``scale`` (k,), ``projector`` (k + 1, healthy): applied to the healthy
    rows of a feature column it gives the column's coefficients (the last is the intercept).
    """

    names: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray
    projector: FloatArray
    healthy: IntArray

    @classmethod
    def of(cls, source: ExamSource, rows: IntArray, labels: IntArray) -> NuisanceFit:
        """Prepare the regression from the healthy rows. Raises DataError when nothing is measured."""
        measured = source.nuisance()
        names = tuple(sorted(name for name, values in measured.items() if np.isfinite(values[rows]).any()))
        healthy = np.asarray(rows)[labels == 0]
        if not names or len(healthy) < 2:
            raise DataError(
                "nuisance cannot be regressed out",
                where="features.residualise",
                expected="measured nuisance and at least 2 healthy training exams",
                found=f"{len(names)} nuisance variables, {len(healthy)} healthy exams",
                hint="run build-dataset again, or set features.residualise to false",
            )
        values = np.column_stack([measured[name][healthy] for name in names])
        mean = np.nanmean(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
        values = np.where(np.isfinite(values), values, mean)
        spread = values.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        design = np.column_stack([(values - mean) / scale, np.ones(len(values))])
        penalty = RIDGE * np.diag([*np.ones(len(names)), 0.0])
        projector = np.linalg.solve(design.T @ design + penalty, design.T)
        return cls(names, mean, scale, projector, healthy)

    def design(self, source: ExamSource, rows: IntArray) -> FloatArray:
        """Standardised nuisance of some exams, shape (len(rows), k); unknown values are 0, the mean."""
        return standardised_nuisance(source, rows, self.names, self.mean, self.scale)

    def coefficients(self, healthy_features: FloatArray) -> FloatArray:
        """Effect of nuisance on features (healthy, p): shape (k, p), the intercept left out."""
        return np.asarray((self.projector @ healthy_features)[:-1])


def standardised_nuisance(
    source: ExamSource, rows: IntArray, names: tuple[str, ...], mean: FloatArray, scale: FloatArray
) -> FloatArray:
    """Nuisance of some exams as a fit has standardised it, shape (len(rows), k); unknown values are 0.

    Raises DataError when the source does not measure one of the variables.
    """
    measured = source.nuisance()
    missing = [name for name in names if name not in measured]
    if missing:
        raise DataError("a nuisance variable is not measured here", expected=", ".join(names), found=f"no {missing}")
    values = np.column_stack([measured[name][rows] for name in names])
    standard = (values - mean) / scale
    return np.where(np.isfinite(standard), standard, 0.0)
