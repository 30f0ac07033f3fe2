"""Scores of nuisance variables by themselves: by rank, by nearest values, and all together in one machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thermocancer.classifiers.logistic import ridge_logistic
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.audit.controls import rows_of
from thermocancer.evaluation.audit.scope import Tested
from thermocancer.runs.predictions import Prediction


def score_alone(scope: Tested, columns: FloatArray) -> list[Prediction]:
    """Out-of-fold scores of one variable: its rank among the training exams, direction learnt there."""
    rows: list[Prediction] = []
    for fold in scope.folds:
        known = columns[fold.train]
        weights = ridge_logistic(ranked(known, known), scope.labels[fold.train])
        odds = np.column_stack([np.ones(len(fold.test)), ranked(known, columns[fold.test])]) @ weights
        rows += rows_of(scope.exams, fold, 1 / (1 + np.exp(-odds)))
    return rows


LEAST_NEIGHBOURS = 5
PERMUTATIONS, MOST_PAIRS = 500, 2e9
"""Fewer are drawn (but 100) where they would have more pairs of exams together."""


def score_neighbours(scope: Tested, columns: FloatArray) -> list[Prediction]:
    """Out-of-fold scores of one variable: the labels of the training exams with the nearest values."""
    rows: list[Prediction] = []
    for fold in scope.folds:
        near = nearest(columns[fold.train], columns[fold.test])
        rows += rows_of(scope.exams, fold, _sick_share(near, scope.labels[fold.train][:, None])[:, 0])
    return rows


def nearest(known: FloatArray, asked: FloatArray) -> FloatArray:
    """Which known values are nearest to each of those asked, by rank: 1 or 0, (asked, known).

    As many as the square root of the known ones, and whoever is as near as the last of them.
    """
    train, test = ranked(known, known), ranked(known, asked)
    apart = np.abs(test[:, None, :] - train[None, :, :]).sum(axis=2)
    count = min(max(LEAST_NEIGHBOURS, round(np.sqrt(len(known)))), len(known))
    last = np.partition(apart, count - 1, axis=1)[:, count - 1 : count]
    return np.asarray(apart <= last + 1e-9, dtype=np.float64)


def alike(known: FloatArray, asked: FloatArray) -> FloatArray:
    """How alike each known exam and each of those asked are, 0 to 1, by the machine's own kernel: (asked, known)."""
    train, test = _standardised(known, asked)
    apart = (test**2).sum(axis=1)[:, None] + (train**2).sum(axis=1) - 2 * test @ train.T
    return np.asarray(np.exp(-apart / max(float(train.var()) * train.shape[1], 1e-12)))


def _sick_share(near: FloatArray, labels: IntArray) -> FloatArray:
    """Share of sick among neighbours, by weight, for each column of labels (known, b): (asked, b).

    Classes weigh the same, so that a fold with fewer sick in training does not score everyone lower.
    """
    sick, total = labels.sum(axis=0), near.sum(axis=1, keepdims=True)
    found = near @ labels
    of_sick = (found + 0.5) / (sick + 1)
    return np.asarray(of_sick / (of_sick + (total - found + 0.5) / (len(labels) - sick + 1)))


Weights = Callable[[FloatArray, FloatArray], FloatArray]
"""How much known exams (n, k) count for those asked (m, k): (m, n)."""


def shuffled_p(scope: Tested, columns: FloatArray, weights: Weights) -> float:
    """One-sided p that labels follow those of exams near them better than labels shuffled among patients do.

    Neighbours vote for one another, so that the rank-sum test of their votes is below .05 in 7 to 10 % of cohorts where
    nothing is tied, and that of a support vector machine on all variables in 12 to 14 %. The first repeat's folds; the
    tail by Pearson's type III, from mean, variance and skewness of the shuffled (Winkler et al. 2016, NeuroImage
    141:502).
    """
    from scipy.stats import pearson3, rankdata, skew

    folds = [fold for fold in scope.folds if fold.name.split(".")[0] == scope.folds[0].name.split(".")[0]]
    patients, visits = (np.array([getattr(exam, name) for exam in scope.exams]) for name in ("patient", "visit"))
    mixed = np.isin(patients, np.intersect1d(patients[scope.labels == 0], patients[scope.labels == 1]))
    units = patients * (visits.max() + 1) + visits * mixed  # of a patient with both labels the visits are shuffled
    _, first, place = np.unique(units, return_index=True, return_inverse=True)
    random = np.random.default_rng(len(first))
    count = int(np.clip(MOST_PAIRS / len(patients) ** 2, 100, PERMUTATIONS))
    shuffled = np.stack([random.permutation(scope.labels[first])[place] for _ in range(count)], axis=1)
    labels = np.concatenate([scope.labels[:, None], shuffled], axis=1)
    tested = np.concatenate([fold.test for fold in folds])
    shares = [_sick_share(weights(columns[f.train], columns[f.test]), labels[f.train]) for f in folds]
    sick = labels[tested]
    pairs = sick.sum(axis=0) * (len(tested) - sick.sum(axis=0))
    above = (rankdata(np.concatenate(shares), axis=0) * sick).sum(axis=0) - sick.sum(axis=0) * (
        sick.sum(axis=0) + 1
    ) / 2
    auc = above[pairs > 0] / pairs[pairs > 0]
    spread = float(auc[1:].std())
    if not spread or not pairs[0]:
        return 1.0
    return float(pearson3.sf((auc[0] - auc[1:].mean()) / spread, skew=float(skew(auc[1:]))))


def ranked(reference: FloatArray, values: FloatArray) -> FloatArray:
    """Each column's share of known reference values below (-0.5 to 0.5), and an indicator of being unknown."""
    parts = []
    for column, known in zip(values.T, reference.T, strict=True):
        sound = np.sort(known[np.isfinite(known)])
        share = (np.searchsorted(sound, column, "left") + np.searchsorted(sound, column, "right")) / 2
        rank = share / max(len(sound), 1) - 0.5
        missing = ~np.isfinite(column)
        parts += [np.where(missing, 0.0, rank), missing.astype(float)]
    return np.column_stack(parts)


def score_together(scope: Tested, columns: FloatArray) -> list[Prediction]:
    """Out-of-fold scores of an RBF support vector machine on all variables, standardised in training."""
    from sklearn.svm import SVC

    rows: list[Prediction] = []
    for fold in scope.folds:
        train, test = _standardised(columns[fold.train], columns[fold.test])
        machine = SVC(kernel="rbf", class_weight="balanced").fit(train, scope.labels[fold.train])
        rows += rows_of(scope.exams, fold, 1 / (1 + np.exp(-machine.decision_function(test))))
    return rows


def _standardised(known: FloatArray, asked: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both in units of the known, unknown values filled."""
    middle = np.array([np.median(each[np.isfinite(each)]) if np.isfinite(each).any() else 0.0 for each in known.T])
    train, test = _filled(known, middle), _filled(asked, middle)
    spread = train.std(axis=0)
    mean, spread = train.mean(axis=0), np.where(spread > 0, spread, 1.0)
    return (train - mean) / spread, (test - mean) / spread


def _filled(values: FloatArray, middle: FloatArray) -> FloatArray:
    """Unknown values become the training median, with an indicator beside them."""
    missing = ~np.isfinite(values)
    return np.hstack([np.where(missing, middle, values), missing.astype(float)])
