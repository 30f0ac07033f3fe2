"""Confidence intervals: Wilson for proportions, DeLong for the area under the ROC curve, percentiles."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.files import Json

WILSON = "Wilson score interval"
DELONG = "DeLong on the logit scale"
NEWCOMBE = "Newcombe's method 5 for the pairs that count"
BOOTSTRAP = "patient bootstrap, percentiles"
REFLECTED = "patient bootstrap, reflected; down to 0 where sampling alone gives as much"


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and how the interval was found. ``value`` is None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    method: str

    def as_dict(self) -> Json:
        return asdict(self)


def normal_quantile(confidence: float) -> float:
    """Two-sided normal quantile: 1.96 for a confidence of 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: float, trials: int, confidence: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927, JASA 22:209).

    ``successes`` may be a fraction (a mean rank). With no trials the proportion is undefined: value None and
    interval [0, 1].

    >>> estimate = wilson(100, 100)
    >>> round(estimate.low, 3), estimate.high
    (0.963, 1.0)
    """
    if trials == 0:
        return Estimate(None, 0.0, 1.0, f"{WILSON}; undefined, nothing to count")
    z = normal_quantile(confidence)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, float(centre - half))
    high = 1.0 if successes == trials else min(1.0, float(centre + half))
    return Estimate(share, low, high, WILSON)


def midranks(values: FloatArray) -> FloatArray:
    """Ranks from 1, ties sharing their mean rank. Shape (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks


def delong_components(labels: IntArray, scores: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """AUC and the structural components of each sick and each healthy unit.

    Fast form by midranks (Sun and Xu 2014, IEEE Signal Processing Letters 21:1389) of DeLong,
    DeLong and Clarke-Pearson 1988 (Biometrics 44:837). Returns (auc, V10 (sick,), V01 (healthy,)).
    """
    sick, healthy = scores[labels == 1], scores[labels == 0]
    together = midranks(np.concatenate([sick, healthy]))
    among_sick = (together[: len(sick)] - midranks(sick)) / len(healthy)
    among_healthy = 1.0 - (together[len(sick) :] - midranks(healthy)) / len(sick)
    return float(among_sick.mean()), among_sick, among_healthy


def delong_covariance(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """AUCs of several scores on the same units and their covariance.

    ``scores`` has shape (k, n); returns (aucs (k,), covariance (k, k)). A class of one unit adds no variance.
    """
    parts = [delong_components(labels, row) for row in scores]
    aucs = np.array([part[0] for part in parts])
    covariance = np.zeros((len(parts), len(parts)))
    for components in (np.array([part[1] for part in parts]), np.array([part[2] for part in parts])):
        count = components.shape[1]
        if count > 1:
            centred = components - components.mean(axis=1, keepdims=True)
            covariance += centred @ centred.T / (count - 1) / count
    return aucs, covariance


def auc_interval(labels: IntArray, scores: FloatArray, confidence: float = 0.95) -> Estimate:
    """AUC with DeLong's interval on the logit scale, so that its bounds stay inside [0, 1].

    Where every pair is ranked right (or every one wrong) DeLong's variance is zero and says nothing, and where
    a class has one unit it knows nothing of how such units vary; the interval is then Wilson's for the smaller
    class. Equal scores for all give 0.5 and no width.
    """
    auc, covariance = delong_covariance(labels, scores[None, :])
    value, variance = float(auc[0]), float(covariance[0, 0])
    smaller = int(min(np.sum(labels == 1), np.sum(labels == 0)))
    if value in (0.0, 1.0) or (smaller == 1 and np.ptp(scores) > 0):
        bound = wilson(value * smaller, smaller, confidence)
        why = "no pair ranked otherwise" if value in (0.0, 1.0) else "a single unit"
        return Estimate(value, bound.low, bound.high, f"{WILSON} of the smaller class ({why})")
    logit = np.log(value / (1 - value))
    half = normal_quantile(confidence) * np.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-(logit + side * half))) for side in (-1, 1))
    return Estimate(value, float(low), float(high), DELONG)


def pairs_variance(auc: float, same: float, same_sick: float, same_healthy: float) -> float:
    """Variance that a share of sick-healthy pairs ranked right has where this is its true value.

    Of the pairs' weights, which add up to 1, these are the sums of products over two draws of one pair, over two
    pairs of one sick unit, and over two of one healthy unit. Hanley and McNeil's (1982, Radiology 143:29) chances for
    such pairs, with both classes at their mean so that neither side of .5 is favoured (Newcombe 2006, Stat Med
    25:559, method 5); for all pairs of two classes it is theirs.
    """
    kept = auc * (1 - auc)
    return kept * (same + (same_sick + same_healthy) / 2 * ((1 - auc) / (2 - auc) + auc / (1 + auc)))


def newcombe_variance(auc: float, sick: int, healthy: int) -> float:
    """``pairs_variance`` where every pair counts; at .5 it is the rank-sum test's, (sick + healthy + 1) / (12 sick
    healthy).
    """
    same = 1 / (sick * healthy)
    return pairs_variance(auc, same, 1 / sick - same, 1 / healthy - same)


def pairs_interval(won: FloatArray, met: FloatArray, confidence: float = 0.95) -> Estimate:
    """Share of some sick-healthy pairs that are ranked right, with Newcombe's interval for just those pairs.

    ``met`` (sick, healthy) says how often each pair of patients counts, ``won`` how often the sick one is higher. The
    interval holds every true value from which the observed share is no further than chance takes it, so that it has a
    width where all pairs are ranked right. Simulated with normal scores it covers .94 to .975 from 4 to 1,100 pairs
    and true shares of .5 to .9, where percentiles of a bootstrap cover .25 to .99. Undefined without pairs.
    """
    from scipy.optimize import brentq

    if not met.any():
        return Estimate(None, 0.0, 1.0, f"{NEWCOMBE}; undefined, no pairs")
    weights, value = met / met.sum(), float(won.sum() / met.sum())
    same = float((weights**2).sum())
    sick, healthy = (float((weights.sum(axis=axis) ** 2).sum()) - same for axis in (1, 0))
    z, edge = normal_quantile(confidence), 1e-12

    def beyond(auc: float) -> float:
        return abs(value - auc) - z * sqrt(max(pairs_variance(auc, same, sick, healthy), 0.0))

    low = float(brentq(beyond, edge, value - 1e-7)) if value > 1e-6 and beyond(edge) > 0 else 0.0
    high = float(brentq(beyond, value + 1e-7, 1 - edge)) if value < 1 - 1e-6 and beyond(1 - edge) > 0 else 1.0
    return Estimate(value, low, high, NEWCOMBE)


def smallest_detectable_auc(sick: int, healthy: int, *, power: float = 0.8, alpha: float = 0.025) -> float:
    """The smallest true AUC that so many units show to be above .5, with the given power, at level ``alpha``.

    It solves A - .5 = z(alpha) sd(.5) + z(power) sd(A), with ``newcombe_variance``; ``alpha`` is one-sided, .025 for
    a 95 % interval. Simulated with normal scores (8 to 150 sick, 32 to 190 healthy) such an AUC is shown in .79 to
    .82; with 3 or 4 sick in .82 to .84. It is of *given* scores: one that is fitted in folds needs more. 1.0 where
    even a perfect ranking would not be enough. Raises ValueError where a class is empty.

    >>> round(smallest_detectable_auc(8, 32), 2)
    0.8
    """
    from scipy.optimize import brentq

    if min(sick, healthy) < 1:
        raise ValueError(f"an AUC needs units of both classes, not {sick} sick and {healthy} healthy")
    needed = NormalDist().inv_cdf(1 - alpha) * sqrt(newcombe_variance(0.5, sick, healthy))
    more = NormalDist().inv_cdf(power)

    def surplus(auc: float) -> float:
        return auc - 0.5 - needed - more * sqrt(newcombe_variance(auc, sick, healthy))

    return float(brentq(surplus, 0.5, 1.0)) if surplus(1.0) > 0 else 1.0


def percentile_interval(replicates: FloatArray, value: float | None, confidence: float, method: str) -> Estimate:
    """The value with the percentiles of its bootstrap replicates; those that are undefined are left out."""
    kept = replicates[np.isfinite(replicates)]
    if value is None or kept.size == 0:
        return Estimate(value, None, None, f"{method}; undefined")
    tail = 50 * (1 - confidence)
    low, high = np.percentile(kept, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), method)


def reflected_interval(
    replicates: FloatArray, by_chance: FloatArray, value: float, confidence: float, method: str
) -> Estimate:
    """For an error that resampling can only make larger: the replicates' percentiles reflected at the value.

    Its percentiles themselves lie too high, and often leave out the value. ``by_chance`` are such errors of a
    sample without any; where the value does not stand out of them the interval reaches down to 0.
    """
    tail = 50 * (1 - confidence)
    low, high = np.percentile(replicates, [tail, 100 - tail])
    floor = 0.0 if value <= np.percentile(by_chance, 100 - tail) else max(0.0, float(min(value, 2 * value - high)))
    return Estimate(value, floor, min(1.0, float(max(value, 2 * value - low))), method)
