"""Classifiers on a small table of features: thermal statistics, asymmetry, pixels; and the plain asymmetry index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted, Calibration
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
from thermocancer.classifiers.onnx_graph import Graph
from thermocancer.classifiers.protocol import (
    CLASSIFIER_FILE,
    REGRESSED,
    Asked,
    Classifier,
    Exportable,
    Family,
    Fitted,
    Reader,
    Settings,
    celsius_samples,
    exported_facts,
    no_graph,
)
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import DataError
from thermocancer.features.prepared import OncePerCohort, prepare
from thermocancer.features.residual import Erasure, NuisanceFit, NuisanceScale
from thermocancer.features.tables import Table, feature_names, measured_table
from thermocancer.features.thermal import area_weights
from thermocancer.files import write_json

if TYPE_CHECKING:
    import onnx

THERMAL_C = 0.1
"""Inverse strength of the ridge on thermal statistics: there are nearly as many of them as exams in a fold."""

SUSPICIOUS_CELSIUS = 0.5
"""A difference between the sides from which on clinicians look twice; the asymmetry index's score is 0.5 there."""

# --- tables ---------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureTable:
    """Which table is computed and where it is kept; ``of(cohort, rows)`` gives shape (len(rows), p)."""

    kind: Table
    views: tuple[str, ...]
    pixels: tuple[int, int]
    cache: Path | None = None
    _known: OncePerCohort[FloatArray] = field(default_factory=OncePerCohort, repr=False, compare=False)

    def of(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """The rows' features. Raises DataError when one of the exams lacks a view."""
        table = self._known.of(
            cohort, lambda each: measured_table(each, self.kind, self.views, self.pixels, self.cache)
        )[rows]  # fmt: skip
        lacking = np.flatnonzero(np.isnan(table).any(axis=1))
        if len(lacking):
            raise DataError(
                "an exam lacks a view that the classifier needs",
                where=f"exam {cohort.exams[int(rows[lacking[0]])].key}", expected=", ".join(self.views),
            )  # fmt: skip
        return table

    def describe(self) -> Settings:
        return {"table": str(self.kind), "views": list(self.views), "pixels": list(self.pixels)}


@dataclass(frozen=True)
class Residual:
    """What nuisance adds to each feature: ``effect`` (k, p)."""

    scaling: NuisanceScale
    effect: FloatArray

    def removed_from(self, table: FloatArray, cohort: Cohort, rows: IntArray) -> FloatArray:
        return table - self.scaling.design(cohort, rows) @ self.effect


@dataclass(frozen=True)
class TabularModel(Fitted):
    """A decision function and the table it reads."""

    name: str
    features: FeatureTable
    decision: LinearDecision | KernelDecision
    residual: Residual | None = None
    erasure: Erasure | None = None

    def describe(self) -> Settings:
        return {"kind": "tabular", "name": self.name, **self.features.describe()}

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        table = self.features.of(cohort, rows)
        if self.residual is not None:
            table = self.residual.removed_from(table, cohort, rows)
        if self.erasure is not None:
            table = self.erasure.removed_from(table)
        return self.decision.decide(table)

    def save(self, folder: Path) -> None:
        arrays = arrays_of(self.decision)
        if self.residual is not None:
            arrays |= self.residual.scaling.arrays() | {"nuisance_effect": self.residual.effect}
        if self.erasure is not None:
            arrays |= self.erasure.arrays()
        write_arrays(folder, arrays)

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> TabularModel:
        """Read what ``save`` wrote. Raises DataError when it is damaged."""
        arrays = read_arrays(folder)
        rows, columns = settings["pixels"]
        features = FeatureTable(Table(settings["table"]), tuple(settings["views"]), (rows, columns))
        scaling = NuisanceScale.from_arrays(arrays)
        residual = None if scaling is None else Residual(scaling, arrays["nuisance_effect"])
        return cls(settings["name"], features, decision_from(arrays), residual, Erasure.from_arrays(arrays))


@dataclass(frozen=True)
class TabularClassifier(Classifier):
    """Logistic regression on a table, or with ``components`` an RBF SVM on that many principal components."""

    features: FeatureTable
    C: float
    components: int | None = None
    residualise: bool = False
    exam_weights: ExamWeights | None = None
    erase: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.features.kind)

    @property
    def probabilistic(self) -> bool:  # type: ignore[override]
        return self.components is None

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> TabularModel:
        table, residual, erasure = self.features.of(cohort, rows), None, None
        if self.residualise:
            fit = NuisanceFit.of(cohort, rows, labels)
            residual = Residual(fit.scaling, fit.coefficients(self.features.of(cohort, fit.healthy)))
            table = residual.removed_from(table, cohort, rows)
        if self.erase:
            erasure = Erasure.of(table, cohort, rows, labels, self.erase)
            table = erasure.removed_from(table)
        weights = None if self.exam_weights is None else self.exam_weights[rows]
        if self.components is None:
            ridge = fit_logistic(table, labels, self.C, weights)
            return TabularModel(self.name, self.features, ridge, residual, erasure)
        machine = fit_pca_svm(table, labels, self.components, self.C, weights)
        return TabularModel(self.name, self.features, machine, residual, erasure)


@dataclass(frozen=True)
class AsymmetryIndex(Classifier, Fitted):
    """How far the mean temperatures of the two sides differ: classifier and fitted in one, as nothing is fitted.

    score = logistic((|left - right| - 0.5 degC) / 0.5 degC); the difference is the mean over what the views
    offer (the two halves of a frontal view, the right and the left lateral view).
    """

    features: FeatureTable
    preparation: FeaturesSection

    @property
    def name(self) -> str:
        return str(self.features.kind)

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> AsymmetryIndex:
        """Learns nothing."""
        return self

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        table = self.features.of(prepare(cohort, self.preparation), np.asarray(rows, dtype=np.int64))
        return np.asarray((table.mean(axis=1) - SUSPICIOUS_CELSIUS) / SUSPICIOUS_CELSIUS)

    def describe(self) -> Settings:
        preparation = {"relative": self.preparation.relative, "torso_only": self.preparation.torso_only}
        known = {"kind": "index", "name": self.name, **self.features.describe()}
        return known | {"threshold": self.threshold, "preparation": preparation}

    def save(self, folder: Path) -> None:
        write_json(folder / CLASSIFIER_FILE, self.describe())


def _graph(
    model: TabularModel | AsymmetryIndex, calibration: Calibration, samples: Mapping[str, Float32Array]
) -> onnx.ModelProto:  # fmt: skip
    graph = Graph()
    tables = []
    for name, each in samples.items():
        table = graph.input(name, each.shape[1:])
        if each.ndim == 3:  # a view: means of its blocks
            down, across = (area_weights(*ends) for ends in zip(each.shape[1:], model.features.pixels, strict=True))
            blocks = graph.op("MatMul", graph.constant(down), table)
            table = graph.op("Flatten", graph.op("MatMul", blocks, graph.constant(across.T)))
        tables.append(table)
    table = graph.op("Concat", *tables, axis=1)
    if isinstance(model, AsymmetryIndex):
        table, weights = graph.op("ReduceMean", table, axes=[1], keepdims=1), np.array([1 / SUSPICIOUS_CELSIUS])
        return graph.finish(graph.score(table, weights, -1.0, calibration), "asymmetry_index")
    if (erased := model.erasure) is not None:
        along = graph.op("MatMul", graph.standardised(table, erased.mean, erased.scale), graph.constant(erased.axes.T))
        along = graph.op("MatMul", along, graph.constant(erased.axes * erased.scale))
        table = graph.op("Sub", table, along)
    decision = model.decision
    table = graph.standardised(table, decision.mean, decision.scale)
    if isinstance(decision, LinearDecision):
        return graph.finish(graph.score(table, decision.weights, float(decision.intercept), calibration), "ridge")
    table = graph.op("MatMul", table, graph.constant(decision.axes.T))
    products = graph.op("MatMul", table, graph.constant(decision.vectors.T))
    squares, own = graph.op("ReduceSumSquare", table, axes=[1], keepdims=1), (decision.vectors**2).sum(axis=1)
    kernel = graph.kernel("rbf", float(decision.gamma), products, squares, own)
    return graph.finish(graph.score(kernel, decision.dual, float(decision.intercept), calibration), "kernel_machine")


# --- families ------------------------------------------------------------------


class TableFamily(Family):
    """Classifiers on one table; subclasses say which, and what is fitted on it."""

    table: Table
    exports = ("onnx",)

    def features(self, asked: Asked, cache: Path | None = None) -> FeatureTable:
        return FeatureTable(self.table, asked.views, asked.config.features.pixels, cache or asked.workspace.cache)

    def load(self, folder: Path, settings: Settings) -> Fitted:
        return CalibratedFitted.around(TabularModel.load(folder, settings), settings)

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """From degrees (pixels) or the named columns of the table to the run's score."""
        fitted = self.load(folder, settings)
        model = fitted.model if isinstance(fitted, CalibratedFitted) else fitted
        if isinstance(model, TabularModel) and model.residual is not None:
            raise no_graph(folder, REGRESSED)
        assert isinstance(model, (TabularModel, AsymmetryIndex))
        samples, rows, cohort = celsius_samples(asked, settings, model.features.views)
        with cohort:
            expected = fitted.scores(cohort, rows)
            facts = exported_facts(
                {"calibration": {"slope": 1.0, "intercept": 0.0}} | settings, asked.config.dataset.name
            )
            if model.features.kind is Table.PIXELS:
                facts |= {"input": "degrees Celsius"}
            else:
                prepared = prepare(cohort, FeaturesSection(**settings["preparation"]))
                samples = {"features": model.features.of(prepared, rows).astype(np.float32)}
                facts |= {"input": list(feature_names(model.features.kind, model.features.views))}
        calibration = fitted.calibration if isinstance(fitted, CalibratedFitted) else Calibration()
        return Exportable(None, samples, facts, lambda: _graph(model, calibration, samples), expected)

    def reader(self, asked: Asked, cohort: Cohort, fold: str) -> Reader:
        return self.features(asked)

    def kept_reader(self, fitted: Fitted, cache: Path | None = None) -> Reader:
        model = fitted.model if isinstance(fitted, CalibratedFitted) else fitted
        if not isinstance(model, (TabularModel, AsymmetryIndex)):
            return super().kept_reader(fitted, cache)
        return replace(model.features, cache=cache)


class ThermalFamily(TableFamily):
    """A ridge on temperature statistics and left-right differences."""

    table: Table = Table.THERMAL

    def make(self, asked: Asked) -> Classifier:
        ridge = TabularClassifier(
            self.features(asked), THERMAL_C, None, asked.config.features.residualise, asked.exam_weights,
            asked.config.cohort.erase,
        )  # fmt: skip
        return Calibrated.of(ridge, asked)


class AsymmetryFamily(ThermalFamily):
    """A ridge on left-right differences alone."""

    table: Table = Table.ASYMMETRY


class PixelsFamily(TableFamily):
    """An RBF support vector machine on principal components of coarse pixels."""

    table: Table = Table.PIXELS

    def make(self, asked: Asked) -> Classifier:
        features = asked.config.features
        machine = TabularClassifier(
            self.features(asked), asked.config.fuse.C, features.components, features.residualise, asked.exam_weights,
            asked.config.cohort.erase,
        )  # fmt: skip
        return Calibrated.of(machine, asked)


class AsymmetryIndexFamily(TableFamily):
    """The plain asymmetry index."""

    table: Table = Table.INDEX

    def make(self, asked: Asked) -> Classifier:
        return AsymmetryIndex(self.features(asked), asked.config.features)

    def load(self, folder: Path, settings: Settings) -> Fitted:
        rows, columns = settings["pixels"]
        table = FeatureTable(Table(settings["table"]), tuple(settings["views"]), (rows, columns))
        return AsymmetryIndex(table, FeaturesSection(**settings["preparation"]))
