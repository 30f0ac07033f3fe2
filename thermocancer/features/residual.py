"""Regressing nuisance out of features, and erasing what tells early from late: fitted on healthy training exams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.nuisance import LAYOUT, MISSING_SHARE, RETIRED
from thermocancer.errors import DataError

RIDGE = 1.0
"""In units of one exam, on standardised nuisance: keeps the fit sane when variables repeat one another."""


@dataclass(frozen=True)
class NuisanceScale:
    """Which nuisance variables are used, and their mean and scale, each (k,)."""

    names: tuple[str, ...]
    mean: FloatArray
    scale: FloatArray

    def design(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Standardised nuisance of some exams, shape (len(rows), k); unknown values are 0, the mean.

        A format that no exam of the cohort came in has no column there: all of them are not of it; nor has the share
        of missing pixels where no exam lacks any. Raises DataError when the cohort does not measure another variable.
        """
        measured = cohort.nuisance()
        formats = [name for name in measured if name.startswith(LAYOUT)]
        if formats:
            nowhere = np.zeros_like(measured[formats[0]])
            measured = {name: nowhere for name in self.names if name.startswith((LAYOUT, MISSING_SHARE))} | measured
        missing = [name for name in self.names if name not in measured]
        if missing:
            known = ", ".join(self.names)
            hint = "train the run again: this figure moved with the skin" if {*missing} & {*RETIRED} else None
            raise DataError(
                "a nuisance variable is not measured here", expected=known, found=f"no {missing}", hint=hint
            )
        values = np.column_stack([measured[name][rows] for name in self.names])
        standard = (values - self.mean) / self.scale
        return np.where(np.isfinite(standard), standard, 0.0)

    def arrays(self) -> dict[str, FloatArray]:
        """For a file; ``from_arrays`` reads them."""
        return {"nuisance_names": np.array(self.names), "nuisance_mean": self.mean, "nuisance_scale": self.scale}

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray]) -> NuisanceScale | None:
        """What ``arrays`` gave, or None where nothing was regressed out."""
        if "nuisance_names" not in arrays:
            return None
        return cls(tuple(map(str, arrays["nuisance_names"])), arrays["nuisance_mean"], arrays["nuisance_scale"])


@dataclass(frozen=True)
class NuisanceFit:
    """Nuisance and the healthy training exams that teach its effect on features.

    ``projector`` (k + 1, healthy) turns the healthy rows of a feature column into its coefficients, the intercept last.
    """

    scaling: NuisanceScale
    projector: FloatArray
    healthy: IntArray

    @classmethod
    def of(cls, cohort: Cohort, rows: IntArray, labels: IntArray) -> NuisanceFit:
        """Prepare the regression from the healthy rows. Raises DataError when nothing is measured."""
        measured = cohort.nuisance()
        healthy = np.asarray(rows)[labels == 0]
        names = tuple(sorted(name for name, values in measured.items() if np.isfinite(values[healthy]).any()))
        if not names or len(healthy) < 2:
            raise DataError(
                "nuisance cannot be regressed out", where="features.residualise",
                expected="measured nuisance and at least 2 healthy training exams",
                found=f"{len(names)} nuisance variables, {len(healthy)} healthy exams",
                hint="run build-dataset again, or set features.residualise to false",
            )  # fmt: skip
        values = np.column_stack([measured[name][healthy] for name in names])
        spread = np.nanstd(values, axis=0)
        scaling = NuisanceScale(names, np.nanmean(values, axis=0), np.where(spread > 0, spread, 1.0))
        design = np.column_stack([scaling.design(cohort, healthy), np.ones(len(healthy))])
        penalty = RIDGE * np.diag([*np.ones(len(names)), 0.0])
        projector = np.asarray(np.linalg.solve(design.T @ design + penalty, design.T), dtype=np.float64)
        return cls(scaling, projector, healthy)

    def coefficients(self, healthy_features: FloatArray) -> FloatArray:
        """Effect of nuisance on features (healthy, p): shape (k, p), the intercept left out."""
        return np.asarray((self.projector @ healthy_features)[:-1])


# --- directions that tell early from late -----------------------------------------------------------------------------

ERASED = {"date": "date_ordinal", "room": "room_celsius"}
"""What can be erased, and the measured variable that tells it."""

QUARTERS = 4
FEWEST_TO_ERASE = 2 * QUARTERS
LEAST_DIRECTION = 1e-9


@dataclass(frozen=True)
class Erasure:
    """Directions of standardised features in which healthy women of different dates (or rooms) differ on average.

    ``mean`` and ``scale`` (p,) of the healthy training exams, ``axes`` (k, p) orthonormal. With the differences of
    the quarters' means gone, no linear function of the features tells a quarter, or an early from a late half, of
    those exams better than chance in squares (Belrose et al. 2023, LEACE). A curved one still may. What
    is removed from a new exam is read from its features: its own date need not be known.
    """

    mean: FloatArray
    scale: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, table: FloatArray, cohort: Cohort, rows: IntArray, labels: IntArray, facts: Sequence[str]) -> Erasure:
        """Learn from the healthy among ``rows``, whose features ``table`` (len(rows), p) holds.

        Raises DataError where a fact is known of fewer than 8 of them.
        """
        measured, healthy = cohort.nuisance(), table[labels == 0]
        spread = healthy.std(axis=0)
        mean, scale = healthy.mean(axis=0), np.where(spread > 0, spread, 1.0)
        standard, apart = (healthy - mean) / scale, [np.zeros((1, table.shape[1]))]
        for fact in facts:
            values = measured.get(ERASED[fact], np.full(len(cohort.exams), np.nan))[np.asarray(rows)[labels == 0]]
            known = np.isfinite(values)
            if known.sum() < FEWEST_TO_ERASE:
                raise DataError(
                    "too few healthy training exams tell what is to be erased", where=f"cohort.erase: {fact}",
                    expected=f"{FEWEST_TO_ERASE} or more", found=int(known.sum()), hint="leave it out of cohort.erase",
                )  # fmt: skip
            bounds = np.quantile(values[known], np.arange(1, QUARTERS) / QUARTERS)
            quarters = np.searchsorted(bounds, values[known])
            middle = standard[known].mean(axis=0)
            apart.append(np.stack([standard[known][quarters == q].mean(axis=0) - middle for q in np.unique(quarters)]))
        _, lengths, axes = np.linalg.svd(np.concatenate(apart), full_matrices=False)
        return cls(mean, scale, axes[lengths > LEAST_DIRECTION])

    def removed_from(self, table: FloatArray) -> FloatArray:
        """Features (n, p) without what lies along the directions."""
        return np.asarray(table - ((table - self.mean) / self.scale) @ self.axes.T @ self.axes * self.scale)

    def arrays(self) -> dict[str, FloatArray]:
        """For a file; ``from_arrays`` reads them."""
        return {"erased_mean": self.mean, "erased_scale": self.scale, "erased_axes": self.axes}

    @classmethod
    def from_arrays(cls, arrays: dict[str, FloatArray]) -> Erasure | None:
        """What ``arrays`` gave, or None where nothing was erased."""
        if "erased_axes" not in arrays:
            return None
        return cls(arrays["erased_mean"], arrays["erased_scale"], arrays["erased_axes"])
