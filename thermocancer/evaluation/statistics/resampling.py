"""Metrics under weights: the patient bootstrap as counts instead of copies.

A replicate of the bootstrap draws patients with replacement; here it is a row of counts, how often each
unit was drawn. Every metric takes such rows (B, n) and gives B values in a few array operations. A row of
ones is the sample itself, so the point estimate and its replicates come from one function.
"""

from __future__ import annotations

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray

ECE_BINS = 10


def patient_counts(patients: IntArray, replicates: int, seed: int, *, key: int = 0) -> FloatArray:
    """How often each unit is drawn in each replicate. Shape (replicates, n).

    Patients are drawn, not units: the visits of one patient come and go together.
    """
    names, place = np.unique(patients, return_inverse=True)
    random = np.random.default_rng([seed, 0xB007, key])
    draws = random.integers(0, len(names), size=(replicates, len(names)))
    offsets = np.arange(replicates)[:, None] * len(names)
    counts = np.bincount((draws + offsets).ravel(), minlength=replicates * len(names))
    return counts.reshape(replicates, len(names))[:, place].astype(float)


def auc_of(weights: FloatArray, labels: IntArray, scores: FloatArray) -> FloatArray:
    """Weighted AUC of each row of ``weights`` (B, n); NaN where a class was not drawn."""
    sick, healthy = _by_score(weights, labels, scores)
    below = np.cumsum(healthy, axis=1) - healthy / 2
    pairs = sick.sum(axis=1) * healthy.sum(axis=1)
    return _ratio((sick * below).sum(axis=1), pairs)


def average_precision_of(weights: FloatArray, labels: IntArray, scores: FloatArray) -> FloatArray:
    """Weighted average precision: sum over thresholds of precision times the step in recall."""
    sick, healthy = _by_score(weights, labels, -scores)
    hits, calls = np.cumsum(sick, axis=1), np.cumsum(sick + healthy, axis=1)
    precision = np.divide(hits, calls, out=np.zeros_like(hits), where=calls > 0)
    return _ratio((precision * sick).sum(axis=1), sick.sum(axis=1))


def f1_of(weights: FloatArray, labels: IntArray, decisions: IntArray) -> FloatArray:
    """Weighted F1 of the decisions."""
    hits = weights @ (labels * decisions).astype(float)
    return _ratio(2 * hits, weights @ (labels + decisions).astype(float))


def brier_of(weights: FloatArray, labels: IntArray, scores: FloatArray) -> FloatArray:
    """Weighted mean squared distance of score and label (Brier 1950)."""
    return _ratio(weights @ (scores - labels) ** 2, weights.sum(axis=1))


def ece_of(weights: FloatArray, labels: IntArray, scores: FloatArray) -> FloatArray:
    """Weighted expected calibration error over ten bins of equal width (Guo 2017)."""
    member = (score_bins(scores)[:, None] == np.arange(ECE_BINS)).astype(float)
    gaps = np.abs((weights * (scores - labels)) @ member)
    return _ratio(gaps.sum(axis=1), weights.sum(axis=1))


def ece_by_chance(scores: FloatArray, replicates: int, seed: int) -> FloatArray:
    """Calibration error that sampling alone gives: of labels drawn with the scores as chances. Shape (replicates,).

    Consistency resampling (Broecker and Smith 2007, Weather and Forecasting 22:651).
    """
    random = np.random.default_rng([seed, 0xCA1B])
    labels = random.random((replicates, len(scores))) < scores
    member = (score_bins(scores)[:, None] == np.arange(ECE_BINS)).astype(float)
    errors: FloatArray = np.abs((scores - labels) @ member).sum(axis=1) / len(scores)
    return errors


def score_bins(scores: FloatArray) -> IntArray:
    """The bin (0 to 9) of each score; a score of 1 belongs to the last."""
    bins: IntArray = np.minimum((scores * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    return bins


def _by_score(weights: FloatArray, labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weight of sick and of healthy at each distinct score, rising. Two arrays (B, distinct)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    drawn = weights[:, order]
    sick = np.add.reduceat(drawn * labels[order], starts, axis=1)
    healthy = np.add.reduceat(drawn * (1 - labels[order]), starts, axis=1)
    return sick, healthy


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    result: FloatArray = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return result
