"""One decision from the features of several runs: blocks of equal weight, a ridge on top.

Each block is standardised and reduced to principal components on the training patients who have
it, and all blocks are given the same total variance, so that one with a thousand columns does not
drown one with ten. A patient who lacks a block (no dynamic exam, say) gets the training patients'
mean for it, which is zero after standardising: the other blocks and the intercept decide.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer.classifiers.decisions import LinearDecision, arrays_of, fit_logistic, read_arrays, write_arrays
from thermocancer.classifiers.protocol import Classifier, Fitted, Settings
from thermocancer.classifiers.tabular import Residual
from thermocancer.data.cohort import BoolArray, Cohort, Exam, FloatArray, Frames, IntArray, Kind
from thermocancer.errors import DataError
from thermocancer.features.residual import NuisanceFit, NuisanceScale
from thermocancer.files import fingerprint

KIND, NAME = "late-features", "late by features"
VERSION = 1
"""Raise it when the same features give another decision."""

JOINT_C = 0.1
"""Inverse strength of the ridge on columns of variance 1 on average, as for the thermal statistics."""

FEWEST = 3
"""Training patients that a block needs to be standardised on."""


class _NoPictures:
    """Patients (or visits) as a cohort without pictures."""

    views: tuple[str, ...] = ()
    shape: tuple[int, int] = (0, 0)
    kind: Kind = "celsius"
    exams: tuple[Exam, ...]

    @property
    def fingerprint(self) -> str:
        """Empty: nothing made of it is kept."""
        return ""

    def length(self, view: str) -> int:
        return 0

    def present(self, view: str) -> BoolArray:
        return np.zeros(len(self.exams), bool)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        raise DataError("patients of several runs are read by their features, not by their pictures", found=view)

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> None:
        """Where there is no picture there is no mask."""

    def nuisance(self) -> dict[str, FloatArray]:
        return {}


class TableCohort(_NoPictures, ABC):
    """One that holds one table of features a block."""

    @abstractmethod
    def table(self, block: int, fold: str) -> FloatArray:
        """Features (n, p) by the frozen parts of one outer fold; NaN rows for units that lack the block."""

    @abstractmethod
    def nuisance_of(self, block: int) -> Mapping[str, FloatArray]:
        """What can be measured without the breast, each (n,)."""


def tables_of(cohort: Cohort) -> TableCohort:
    """The cohort as one of tables. Raises TypeError for any other: the caller has mixed up classifiers."""
    if not isinstance(cohort, TableCohort):
        raise TypeError(f"late fusion by features reads tables, not {type(cohort).__name__}")
    return cohort


@dataclass(frozen=True)
class OneExam(TableCohort):
    """A single exam: one row of features a block, (p,), or None where the exam lacks it."""

    exams: tuple[Exam, ...]
    features: tuple[FloatArray | None, ...]
    measured: tuple[Mapping[str, FloatArray], ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint("one exam", [each.key for each in self.exams])

    def table(self, block: int, fold: str) -> FloatArray:
        found = self.features[block]
        return np.full((1, 1), np.nan) if found is None else found[None]

    def nuisance_of(self, block: int) -> Mapping[str, FloatArray]:
        return self.measured[block] if self.measured else {}


@dataclass(frozen=True)
class _Nuisance(_NoPictures):
    """One block's nuisance as ``NuisanceFit`` and ``Residual`` read it."""

    values: Mapping[str, FloatArray]

    def nuisance(self) -> dict[str, FloatArray]:
        return dict(self.values)


@dataclass(frozen=True)
class JointModel(Fitted):
    """Linear in every block: ``parts`` hold mean, scale and weights (p,) of each, ``intercept`` is their sum's.

    ``fold`` is the outer fold whose frozen parts make the features.
    """

    parts: tuple[LinearDecision, ...]
    residuals: tuple[Residual | None, ...]
    intercept: float
    fold: str
    about: tuple[dict[str, str], ...] = ()

    def describe(self) -> Settings:
        return {"kind": KIND, "name": NAME, "components": list(self.about)}

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of sick, (len(rows),)."""
        return np.asarray(self.contributions(tables_of(source), rows).sum(axis=1) + self.intercept)

    def contributions(self, source: TableCohort, rows: IntArray) -> FloatArray:
        """What each block adds to the log-odds, (len(rows), blocks); 0 where a unit lacks the block.

        Raises DataError when a unit has no block at all.
        """
        found, known = np.zeros((len(rows), len(self.parts))), np.zeros(len(rows), bool)
        for block, (part, residual) in enumerate(zip(self.parts, self.residuals, strict=True)):
            table = source.table(block, self.fold)
            there = ~np.isnan(table[rows]).any(axis=1)
            known |= there
            own = np.asarray(rows)[there]
            found[there, block] = part.decide(_cleaned(table, residual, source, block, own))
        if not known.all():
            raise DataError(
                "an exam has nothing that any of the combined runs reads",
                where=f"exam {source.exams[int(np.asarray(rows)[~known][0])].key}",
            )
        return found

    def save(self, folder: Path) -> None:
        arrays: dict[str, FloatArray] = {"intercept": np.asarray(self.intercept), "fold": np.array(self.fold)}
        for block, (part, residual) in enumerate(zip(self.parts, self.residuals, strict=True)):
            own = arrays_of(part)
            if residual is not None:
                own |= residual.scaling.arrays() | {"nuisance_effect": residual.effect}
            arrays |= {f"{block}-{name}": value for name, value in own.items()}
        write_arrays(folder, arrays)

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> JointModel:
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        arrays = read_arrays(folder)
        parts, residuals = [], []
        for block in range(len(settings["components"])):
            start = f"{block}-"
            own = {name.removeprefix(start): each for name, each in arrays.items() if name.startswith(start)}
            parts.append(LinearDecision(**{name: own[name] for name in LinearDecision.__dataclass_fields__}))
            scaling = NuisanceScale.from_arrays(own)
            residuals.append(None if scaling is None else Residual(scaling, own["nuisance_effect"]))
        about = tuple(settings["components"])
        return cls(tuple(parts), tuple(residuals), float(arrays["intercept"]), str(arrays["fold"]), about)


@dataclass(frozen=True)
class JointClassifier(Classifier):
    """A ridge logistic regression on the blocks of several runs (see ``calibrated.Method``).

    ``about`` names the runs for ``classifier.json``; ``components`` is the most principal components a
    block keeps; ``residualise`` says for each block whether nuisance is regressed out of it, fitted on
    the healthy among the training patients.
    """

    about: tuple[dict[str, str], ...]
    components: int
    residualise: tuple[bool, ...]
    probabilistic: bool = True

    @property
    def name(self) -> str:
        return NAME

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> JointModel:
        """Everything is fitted on ``rows`` alone. Raises DataError when a block has too few of them."""
        blocks = [self._block(tables_of(cohort), block, rows, labels, fold) for block in range(len(self.about))]
        columns = float(np.mean([len(each.axes) for each in blocks]))
        weighted = [each.reduced * np.sqrt(columns / each.variance) for each in blocks]
        ridge = fit_logistic(np.concatenate(weighted, axis=1), labels, JOINT_C, standardise=False)
        parts, start = [], 0
        for each in blocks:
            own = ridge.weights[start : start + len(each.axes)] * np.sqrt(columns / each.variance)
            parts.append(LinearDecision(each.mean, each.scale, own @ each.axes, np.asarray(0.0)))
            start += len(each.axes)
        return JointModel(
            tuple(parts), tuple(each.residual for each in blocks), float(ridge.intercept), fold, self.about
        )

    def _block(self, source: TableCohort, block: int, rows: IntArray, labels: IntArray, fold: str) -> _Block:
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        table = source.table(block, fold)
        there = ~np.isnan(table[rows]).any(axis=1)
        own = np.asarray(rows)[there]
        if len(own) < FEWEST:
            raise DataError(
                f"too few training patients have what run {self.about[block]['run']} reads",
                where=f"fold {fold}", expected=f"{FEWEST} or more", found=len(own),
                hint="combine scores instead (fuse.combine_by: scores), or use fewer folds",
            )  # fmt: skip
        residual = None
        if self.residualise[block]:
            fit = NuisanceFit.of(_Nuisance(source.nuisance_of(block)), own, labels[there])
            residual = Residual(fit.scaling, fit.coefficients(table[fit.healthy]))
        known = _cleaned(table, residual, source, block, own)
        scaler = StandardScaler().fit(known)
        standard = scaler.transform(known)
        pca = PCA(min(self.components, len(own) - 1, known.shape[1]), svd_solver="full").fit(standard)
        reduced = np.zeros((len(rows), len(pca.components_)))
        reduced[there] = standard @ pca.components_.T
        variance = max(float(pca.explained_variance_.sum()), 1e-12)
        return _Block(scaler.mean_, scaler.scale_, pca.components_, reduced, variance, residual)


@dataclass(frozen=True)
class _Block:
    """One block of a training part: standardisation (p,), axes (k, p), the rows' components (n, k), their variance."""

    mean: FloatArray
    scale: FloatArray
    axes: FloatArray
    reduced: FloatArray
    variance: float
    residual: Residual | None


def _cleaned(
    table: FloatArray, residual: Residual | None, source: TableCohort, block: int, rows: IntArray
) -> FloatArray:
    if residual is None:
        return table[rows]
    return residual.removed_from(table[rows], _Nuisance(source.nuisance_of(block)), rows)
