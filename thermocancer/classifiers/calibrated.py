"""From decision values to a classifier that decides: calibration and threshold, chosen on inner data alone.

``Calibrated`` wraps any classifier. It fits it on inner grouped folds of the training rows (or takes the rows
that the classifier itself held back), and on all of them; Platt's scaling and the threshold come from the
inner decisions alone, never from the scores that are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from thermocancer.classifiers.protocol import (
    CLASSIFIER_FILE,
    FIXED,
    Asked,
    Classifier,
    Fitted,
    InnerScores,
    Row,
    Settings,
    logistic,
)
from thermocancer.config.preparation import CohortSection, FeaturesSection
from thermocancer.data.cohort import BoolArray, Cohort, FloatArray, IntArray
from thermocancer.data.matching import keep_matches_apart
from thermocancer.data.split import Fold
from thermocancer.errors import DataError
from thermocancer.features.prepared import OncePerCohort, prepare
from thermocancer.files import write_json

# --- Platt's scaling ------------------------------------------------------------

MINIMUM_SLOPE = 1e-2
"""Decision values that say nothing (or the opposite) on inner data still keep their order."""


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


# --- the operating point --------------------------------------------------------


def choose_threshold(scores: FloatArray, labels: IntArray, aim: str, sensitivity: float = 0.9) -> float:
    """The threshold for an aim, from scores in [0, 1] and labels, both (n,).

    ``sensitivity``: the best specificity among thresholds with at least that sensitivity;
    ``youden``: the greatest sensitivity + specificity; ``fixed``: 0.5; with one class only these give 0.5.
    ``accuracy``: see ``best_accuracy_threshold``.
    """
    if aim == "accuracy":
        return best_accuracy_threshold(scores, labels)
    if aim == "fixed" or len(set(labels.tolist())) < 2:
        return FIXED
    candidates, sensitivities, specificities = _operating_points(scores, labels)
    if aim == "sensitivity":
        # thresholds ascend, so the last one that is sensitive enough is the most specific
        return float(candidates[np.flatnonzero(sensitivities >= sensitivity - 1e-12)[-1]])
    sums = sensitivities + specificities
    best = np.flatnonzero(sums >= sums.max() - 1e-12)
    return float(candidates[best[np.argmin(np.abs(candidates[best] - FIXED))]])


def best_accuracy_threshold(scores: FloatArray, labels: IntArray) -> float:
    """The threshold with the most right decisions; of several as good the one in the widest gap between scores.

    The second original study reads it off a grid of 0.00 to 0.99 on its test set; here it comes from held-back scores.
    """
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    candidates = (levels[:-1] + levels[1:]) / 2
    right = [int(((scores >= each) == labels).sum()) for each in candidates]
    gaps = np.diff(levels)
    best = max(range(len(candidates)), key=lambda place: (right[place], gaps[place], -abs(candidates[place] - 0.5)))
    return float(candidates[best])


def _operating_points(scores: FloatArray, labels: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds in ascending order, and the sensitivity and specificity at each."""
    levels = np.unique(np.concatenate([[0.0, 1.0], scores]))
    candidates = np.concatenate([[0.0], (levels[:-1] + levels[1:]) / 2.0])
    sick, healthy = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    sensitivities = 1.0 - np.searchsorted(sick, candidates, side="left") / len(sick)
    specificities = np.searchsorted(healthy, candidates, side="left") / len(healthy)
    return candidates, sensitivities, specificities


def describe_aim(aim: str, sensitivity: float, protocol: str) -> str:
    """Where the threshold of a run comes from, in words for the report."""
    if protocol == "thesis":
        return "fixed at 0.5 (thesis protocol)"
    if aim == "fixed":
        return "fixed at 0.5"
    words = "Youden's index" if aim == "youden" else f"sensitivity >= {sensitivity:.2f} at best specificity"
    return f"inner folds: {words}"


# --- the classifier ------------------------------------------------------------


@dataclass(frozen=True)
class CalibratedFitted(Fitted):
    """A fitted classifier with its calibration and threshold; the one that runs keep."""

    model: Fitted
    settings: Settings
    preparation: FeaturesSection
    calibration: Calibration = RAW
    threshold: float = FIXED
    history: Sequence[Row] = ()
    inner: InnerScores | None = None
    _prepared: OncePerCohort[Cohort] = field(default_factory=OncePerCohort, repr=False, compare=False)

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        return self.model.decisions(self._prepare(cohort), np.asarray(rows, dtype=np.int64))

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        if self.calibration == RAW:  # the model's own, to the last bit
            return self.model.scores(self._prepare(cohort), np.asarray(rows, dtype=np.int64))
        return self.calibration.scores(self.decisions(cohort, rows))

    def _prepare(self, cohort: Cohort) -> Cohort:
        return self._prepared.of(cohort, lambda each: prepare(each, self.preparation))

    def describe(self) -> Settings:
        return {
            **self.settings,
            "preparation": {"relative": self.preparation.relative, "torso_only": self.preparation.torso_only},
            "calibration": {"slope": self.calibration.slope, "intercept": self.calibration.intercept},
            "threshold": self.threshold,
        }

    def save(self, folder: Path) -> None:
        """Write arrays, then ``classifier.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder)
        write_json(folder / CLASSIFIER_FILE, self.describe())

    @classmethod
    def around(cls, model: Fitted, settings: Settings) -> CalibratedFitted:
        """The classifier around a model that was read back, from what ``classifier.json`` says of both."""
        own = {key: value for key, value in settings.items() if key not in ("preparation", "calibration", "threshold")}
        preparation, calibration = FeaturesSection(**settings["preparation"]), Calibration(**settings["calibration"])
        return cls(model, own, preparation, calibration, float(settings["threshold"]))


@dataclass(frozen=True)
class Calibrated(Classifier):
    """Any classifier with calibration and threshold.

    ``inner_folds`` 0 means none: then the rows that the classifier itself held back choose, and where there
    are none the sign of the decision value decides (threshold 0.5), as in the original study. ``cohort`` says
    which exams were matched, so that inner folds keep matches apart too.
    """

    classifier: Classifier
    preparation: FeaturesSection
    inner_folds: int
    aim: str = "sensitivity"
    aim_sensitivity: float = 0.9
    cohort: CohortSection = field(default_factory=CohortSection)
    _prepared: OncePerCohort[Cohort] = field(default_factory=OncePerCohort, repr=False, compare=False)

    @classmethod
    def of(cls, classifier: Classifier, asked: Asked, *, inner_folds: int | None = None) -> Calibrated:
        """As the settings of ``fuse`` ask for it."""
        config, fuse = asked.config, asked.config.fuse
        inner = asked.inner_folds if inner_folds is None else inner_folds
        return cls(classifier, config.features, inner, fuse.aim, fuse.aim_sensitivity, config.cohort)

    @property
    def name(self) -> str:
        return self.classifier.name

    def announce(self, cohort: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        prepared = self._prepared.of(cohort, lambda each: prepare(each, self.preparation))
        self.classifier.announce(prepared, fold, parts)

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> CalibratedFitted:
        """Fit on ``rows``. Raises DataError when they hold one class only."""
        rows, labels = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int64)
        check_two_classes(labels, fold)
        prepared = self._prepared.of(cohort, lambda each: prepare(each, self.preparation))
        inner = unmatched_parts(prepared, rows, labels, self.inner_folds, seed, self.cohort) if self.inner_folds else []
        parts = [(rows, labels)] + [(each.train, labels_of(each.train, rows, labels)) for each in inner]
        self.classifier.announce(prepared, fold, parts)
        probabilistic = self.classifier.probabilistic

        def said(fitted: Fitted, of: IntArray) -> FloatArray:
            return fitted.scores(prepared, of) if probabilistic else fitted.decisions(prepared, of)

        held_out = [
            said(self.classifier.fit(prepared, *part, seed=seed, fold=fold), each.test)
            for part, each in zip(parts[1:], inner, strict=True)
        ]
        model = self.classifier.fit(prepared, rows, labels, seed=seed, fold=fold)
        tested = np.concatenate([each.test for each in inner]) if inner else model.held
        fitted = CalibratedFitted(
            model, model.describe(), self.preparation, history=tuple(model.history), _prepared=self._prepared
        )
        if tested is None or not len(tested):
            return fitted
        truth = labels_of(tested, rows, labels)
        found = np.concatenate(held_out) if inner else said(model, tested)
        calibration = RAW if probabilistic else fit_platt(found, truth)
        scores = found if probabilistic else calibration.scores(found)
        threshold = choose_threshold(scores, truth, self.aim, self.aim_sensitivity)
        return replace(fitted, calibration=calibration, threshold=threshold, inner=InnerScores(tested, truth, scores))


# --- inner folds ---------------------------------------------------------------


def check_two_classes(labels: IntArray, fold: str) -> None:
    """Raise DataError when the training part of a fold has one class only."""
    if len(set(labels.tolist())) < 2:
        raise DataError(
            "a fold's training part has one class only", where=f"fold {fold}", expected="healthy and sick exams",
            found=f"{len(labels)} exams of class {labels[0] if len(labels) else '-'}",
        )  # fmt: skip


def inner_parts(cohort: Cohort, rows: IntArray, labels: IntArray, n: int, seed: int) -> list[Fold]:
    """Inner grouped folds of the training rows, stratified by the labels as given (they may be permuted).

    As many folds as the smaller class has groups that stay together (patients, or several who share an
    image; sick when any of their exams is), at most ``n``; none when that is below two.
    """
    from thermocancer.data.split import group_patients, inner_folds

    exams = list(cohort.exams)
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        exams[row] = replace(exams[row], label=label)
    classes = [group.label for group in group_patients([exams[row] for row in rows.tolist()])]
    n = min(n, classes.count(0), classes.count(1))
    return inner_folds(exams, rows, n, seed) if n >= 2 else []


def unmatched_parts(
    cohort: Cohort, rows: IntArray, labels: IntArray, n: int, seed: int, matching: CohortSection
) -> list[Fold]:
    """``inner_parts`` whose training exams are not matched to a tested one; without those left with one class."""
    parts = keep_matches_apart(cohort, inner_parts(cohort, rows, labels, n, seed), matching)
    return [each for each in parts if len(set(labels_of(each.train, rows, labels).tolist())) == 2]


def held_back(
    cohort: Cohort, rows: IntArray, labels: IntArray, n: int, seed: int, matching: CohortSection
) -> tuple[BoolArray, BoolArray]:
    """Which of ``rows`` teach and which are held back to choose the epoch, both (len(rows),): the first inner fold.

    A match of an exam that is held back is in neither part. Without inner folds every row teaches.
    """
    parts = unmatched_parts(cohort, rows, labels, n, seed, matching) if n else []
    if not parts:
        return np.ones(len(rows), bool), np.zeros(len(rows), bool)
    return np.isin(rows, parts[0].train), np.isin(rows, parts[0].test)


def labels_of(wanted: IntArray, rows: IntArray, labels: IntArray) -> IntArray:
    """The labels of some of ``rows``, in the order wanted."""
    place = {row: position for position, row in enumerate(rows.tolist())}
    return labels[[place[row] for row in wanted.tolist()]]
