"""From decision values to a classifier: inner folds give the calibration and the threshold.

A *method* knows how to train a *model* that gives one decision value an exam. ``CalibratedRecipe``
wraps a method into a ``Recipe``: it trains the method on inner grouped folds of the training rows,
and on all of them; calibration and threshold come from the inner out-of-fold decisions alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thermocancer.classifiers.platt import RAW, Calibration, fit_platt
from thermocancer.classifiers.thresholds import FIXED, choose_threshold
from thermocancer.config.preparation import CohortSection, FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import keep_matches_apart
from thermocancer.data.split import Fold
from thermocancer.errors import DataError
from thermocancer.features.prepared import OncePerCohort, prepare
from thermocancer.files import write_json

CLASSIFIER_FILE = "classifier.json"


class Model(Protocol):
    """A trained decision function."""

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """One decision value an exam, shape (len(rows),); positive means sick."""

    def save(self, folder: Path) -> None:
        """Write its arrays into an existing folder."""


class Method(Protocol):
    """How a model is trained, and what identifies it in ``classifier.json``."""

    @property
    def name(self) -> str: ...

    @property
    def probabilistic(self) -> bool:
        """True when decision values are logits of a probability already: no calibration is fitted."""

    def describe(self) -> dict[str, Any]:
        """JSON settings that loading needs; ``kind`` tells which class loads them."""

    def announce(self, source: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        """These (rows, labels) are going to be trained on: what they share may be computed at once."""

    def train(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Model: ...


@dataclass(frozen=True)
class InnerScores:
    """Scores of training exams by models that had not seen them: rows, labels and scores, each (n,)."""

    rows: IntArray
    labels: IntArray
    scores: FloatArray


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier (see ``classifiers.protocol.Fitted``)."""

    model: Model
    settings: dict[str, Any]
    preparation: FeaturesSection
    calibration: Calibration = RAW
    threshold: float = FIXED
    history: Sequence[Mapping[str, Any]] = ()
    inner: InnerScores | None = None
    _prepared: OncePerCohort[Cohort] = field(default_factory=OncePerCohort, repr=False, compare=False)

    def scores(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Probability of sick in [0, 1] for each row, shape (len(rows),)."""
        prepared = self._prepared.of(source, lambda each: prepare(each, self.preparation))
        return self.calibration.scores(self.model.decisions(prepared, np.asarray(rows, dtype=np.int64)))

    def save(self, folder: Path) -> None:
        """Write arrays, then ``classifier.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder)
        content = {
            **self.settings,
            "preparation": {"relative": self.preparation.relative, "torso_only": self.preparation.torso_only},
            "calibration": {"slope": self.calibration.slope, "intercept": self.calibration.intercept},
            "threshold": self.threshold,
        }
        write_json(folder / CLASSIFIER_FILE, content)


@dataclass(frozen=True)
class CalibratedRecipe:
    """A method with its calibration and threshold (see ``classifiers.protocol.Recipe``).

    ``inner_folds`` 0 means none: the sign of the decision value decides (threshold 0.5), as in the
    original study. ``cohort`` says which exams were matched, so that inner folds keep matches apart too.
    """

    method: Method
    preparation: FeaturesSection
    inner_folds: int
    aim: str = "sensitivity"
    aim_sensitivity: float = 0.9
    cohort: CohortSection = field(default_factory=CohortSection)
    _prepared: OncePerCohort[Cohort] = field(default_factory=OncePerCohort, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.method.name

    def fit(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Classifier:
        """Fit on ``rows``. Raises DataError when they hold one class only."""
        rows, labels = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int64)
        check_two_classes(labels, fold)
        prepared = self._prepared.of(source, lambda each: prepare(each, self.preparation))
        inner = unmatched_parts(prepared, rows, labels, self.inner_folds, seed, self.cohort)
        parts = [(rows, labels)] + [(each.train, _labels_of(each.train, rows, labels)) for each in inner]
        self.method.announce(prepared, fold, parts)
        calibration, threshold, scores = self._operating_point(prepared, rows, labels, inner, seed, fold)
        model = self.method.train(prepared, rows, labels, seed=seed, fold=fold)
        return Classifier(
            model, self.method.describe(), self.preparation, calibration, threshold,
            tuple(getattr(model, "history", ())), scores, self._prepared,
        )  # fmt: skip

    def _operating_point(
        self, source: Cohort, rows: IntArray, labels: IntArray, inner: Sequence[Fold], seed: int, fold: str
    ) -> tuple[Calibration, float, InnerScores | None]:
        if not inner:
            return RAW, FIXED, None
        held_out = [
            self.method.train(
                source, each.train, _labels_of(each.train, rows, labels), seed=seed, fold=fold
            ).decisions(source, each.test)
            for each in inner
        ]  # fmt: skip
        tested = np.concatenate([each.test for each in inner])
        truth, decisions = _labels_of(tested, rows, labels), np.concatenate(held_out)
        calibration = RAW if self.method.probabilistic else fit_platt(decisions, truth)
        scores = calibration.scores(decisions)
        threshold = choose_threshold(scores, truth, self.aim, self.aim_sensitivity)
        return calibration, threshold, InnerScores(tested, truth, scores)


def check_two_classes(labels: IntArray, fold: str) -> None:
    """Raise DataError when the training part of a fold has one class only."""
    if len(set(labels.tolist())) < 2:
        raise DataError(
            "a fold's training part has one class only",
            where=f"fold {fold}",
            expected="healthy and sick exams",
            found=f"{len(labels)} exams of class {labels[0] if len(labels) else '-'}",
        )


def inner_parts(source: Cohort, rows: IntArray, labels: IntArray, n: int, seed: int) -> list[Fold]:
    """Inner grouped folds of the training rows, stratified by the labels as given (they may be permuted).

    As many folds as the smaller class has groups that stay together (patients, or several who share an
    image; sick when any of their exams is), at most ``n``; none when that is below two.
    """
    from thermocancer.data.split import group_patients, inner_folds

    exams = list(source.exams)
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        exams[row] = replace(exams[row], label=label)
    classes = [group.label for group in group_patients([exams[row] for row in rows.tolist()])]
    n = min(n, classes.count(0), classes.count(1))
    return inner_folds(exams, rows, n, seed) if n >= 2 else []


def unmatched_parts(
    source: Cohort, rows: IntArray, labels: IntArray, n: int, seed: int, cohort: CohortSection
) -> list[Fold]:
    """``inner_parts`` whose training exams are not matched to a tested one; without those left with one class."""
    parts = keep_matches_apart(source, inner_parts(source, rows, labels, n, seed), cohort)
    return [each for each in parts if len(set(_labels_of(each.train, rows, labels).tolist())) == 2]


def _labels_of(wanted: IntArray, rows: IntArray, labels: IntArray) -> IntArray:
    place = {row: position for position, row in enumerate(rows.tolist())}
    return labels[[place[row] for row in wanted.tolist()]]
