"""Confidence intervals: of proportions, of the area under the ROC curve counted inside folds, percentiles.

Of a model that was tested once on patients it had not seen, an interval is of *this model on new patients*. Of a
cross-validated run it is of *the recipe trained on as many patients*: its folds were trained on other patients each,
and a figure that speaks for all of them varies more than that of given scores. How much more was measured
(``docs/evidence.md``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil, exp, floor, log, sqrt
from statistics import NormalDist

import numpy as np

from thermocancer.data.cohort import BoolArray, FloatArray, IntArray
from thermocancer.evaluation.statistics.units import Units
from thermocancer.files import Json

WILSON = "Wilson score interval"
HELD_OUT = "Newcombe's method 5"
IN_FOLDS = "pairs tested in one fold; Newcombe's method 5, widened for what folds and training sets add"
POOLED = "pairs of all folds, as no fold tested both classes; Newcombe's method 5, widened"
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
    note: str = ""

    def as_dict(self) -> Json:
        """As JSON; ``note`` only where there is something to say."""
        return {key: value for key, value in asdict(self).items() if key != "note" or value}


def normal_quantile(confidence: float) -> float:
    """Two-sided normal quantile: 1.96 for a confidence of 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Estimate:
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


FEW_OF_A_CLASS, FEW_UNITS = 10, 40
"""Below so many the simulated coverage of intervals is not kept everywhere: 8 sick of 40 had .86."""

TRAINING, FOLDING = 0.8, 0.5
"""What other training sets, and other folds, add to the variance of an AUC, as shares of 4 AUC (1 - AUC) of it.

Fitted on simulated studies (n 40 to 300, 8 to 150 sick, AUC .5 to .97, several learners); what they give is measured by
``benchmarks/calibration_of_verdicts.py`` and stands in ``docs/evidence.md``.
"""


FEW_AT_THRESHOLD = 60
"""The same for shares at a threshold chosen on inner data: the kept model's cover .80 to .95 with 25 sick of 160,
.83 to .98 with 40, .96 and more with 60 of 300 (``docs/evidence.md``); nothing between 40 and 60 was measured.
"""


def few_note(sick: int, healthy: int, fewest: int = FEW_OF_A_CLASS) -> str:
    """A warning where the interval cannot be trusted."""
    if min(sick, healthy) >= fewest and sick + healthy >= FEW_UNITS:
        return ""
    return f"{sick} sick and {healthy} healthy: too few for an interval that can be trusted"


@dataclass(frozen=True)
class FoldedAuc:
    """An AUC over pairs tested in one fold, and what each sick (s,) and healthy (h,) unit adds to it above the mean."""

    value: float
    sick: FloatArray
    healthy: FloatArray
    method: str


def tested_together(units: Units) -> list[tuple[FloatArray, BoolArray]]:
    """Of each fold that tested both classes its repeat's scores (n,), and which units it tested (n,)."""
    parts = [
        (s, f == name) for s, f in zip(units.by_repeat, units.folds, strict=True) for name in set(f[f >= 0].tolist())
    ]
    return [(scores, tested) for scores, tested in parts if len(set(units.labels[tested].tolist())) == 2]


def folded_auc(units: Units) -> FoldedAuc:
    """AUC over sick-healthy pairs that one fold tested, every repeat counting alike, ties half.

    Scores of two folds are those of two models: pooled over folds an AUC is .44 to .46 on nothing (each fold is
    calibrated to the share of sick that it was trained on, which is lower where more are tested). All pairs count, by
    mean scores, where no fold tested both classes.
    """
    labels = units.labels
    won, met = np.zeros((2, len(labels)))
    both = tested_together(units)
    for scores, tested in both or [(units.scores, np.ones(len(labels), bool))]:
        _, of_sick, of_healthy = delong_components(labels[tested], scores[tested])
        rows = np.flatnonzero(tested)
        sick, healthy = rows[labels[rows] == 1], rows[labels[rows] == 0]
        won[sick] += of_sick * len(healthy)
        won[healthy] += of_healthy * len(sick)
        met[sick] += len(healthy)
        met[healthy] += len(sick)
    pairs = met[labels == 1].sum()
    value = float(won[labels == 1].sum() / pairs)
    beyond = (won - value * met) / pairs
    method = HELD_OUT if not units.repeats else IN_FOLDS if both else POOLED
    return FoldedAuc(value, beyond[labels == 1], beyond[labels == 0], method)


def training_variance(auc: float, sick: int, healthy: int, repeats: int) -> float:
    """What folds and training sets add to the variance of a cross-validated AUC; nothing for a model tested once."""
    if not repeats:
        return 0.0
    share = (TRAINING + FOLDING / repeats) * 4 * auc * (1 - auc)
    return share * newcombe_variance(auc, sick, healthy)


OTHER_FOLDS, OTHER_TRAINING = 1.0, 0.4
"""What folds and training sets add to the variance of a *difference*: two runs on the same patients share the latter
in part.
"""


def difference_variance(first: FoldedAuc, second: FoldedAuc, repeats: int, others: int) -> float:
    """Variance of the difference of two AUCs on the same units; ``repeats`` of either (0: one model, tested once)."""
    apart = [first.sick - second.sick, first.healthy - second.healthy]
    variance = sum(float((each**2).sum()) * len(each) / max(len(each) - 1, 1) for each in apart)
    if not variance and first.value == second.value:
        return 0.0  # the same scores
    for auc, times in ((first.value, repeats), (second.value, others)):
        if times:
            share = (OTHER_TRAINING + OTHER_FOLDS / times) * 4 * auc * (1 - auc)
            variance += share * newcombe_variance(auc, len(first.sick), len(first.healthy))
    return variance


def auc_interval(units: Units, confidence: float = 0.95) -> Estimate:
    """AUC of ``folded_auc`` with every true value from which it is no further than chance takes it.

    Chance: Newcombe's variance, and ``training_variance``. Where all scores are equal nothing is known: .5 with the
    interval of an AUC of .5. Raises ZeroDivisionError where a class is empty.
    """
    found = folded_auc(units)
    sick, healthy = len(found.sick), len(found.healthy)

    def variance(auc: float) -> float:
        return newcombe_variance(auc, sick, healthy) + training_variance(auc, sick, healthy, units.repeats)

    low, high = _score_bounds(found.value, variance, confidence)
    return Estimate(found.value, low, high, found.method, few_note(sick, healthy))


def _score_bounds(value: float, variance: Callable[[float], float], confidence: float) -> tuple[float, float]:
    """The least and the greatest true value in [0, 1] that the observed one is no further from than chance takes it."""
    from scipy.optimize import brentq

    z, edge, near = normal_quantile(confidence), 1e-12, 1e-7

    def beyond(truth: float) -> float:
        return abs(value - truth) - z * sqrt(max(variance(truth), 0.0))

    low = float(brentq(beyond, edge, value - near)) if value > 2 * near and beyond(edge) > 0 else 0.0
    high = float(brentq(beyond, value + near, 1 - edge)) if value < 1 - 2 * near and beyond(1 - edge) > 0 else 1.0
    return low, high


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
    width where all pairs are ranked right. What it covers, beside percentiles of a bootstrap, is measured in
    ``docs/evidence.md``. Undefined without pairs.
    """
    if not met.any():
        return Estimate(None, 0.0, 1.0, f"{NEWCOMBE}; undefined, no pairs")
    weights, value = met / met.sum(), float(won.sum() / met.sum())
    same = float((weights**2).sum())
    sick, healthy = (float((weights.sum(axis=axis) ** 2).sum()) - same for axis in (1, 0))
    low, high = _score_bounds(value, lambda auc: pairs_variance(auc, same, sick, healthy), confidence)
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


OTHER_THRESHOLDS = 2.0, 1.0
"""What a threshold chosen anew in every fold adds to the variance of sensitivity and specificity: the own binomial
variance so many times, and the other class's, carried over along the ROC curve, so many times.

Fitted on the same studies. For the recipe the intervals are on the wide side, for the single model that is kept they
are too narrow where few are sick (``docs/evidence.md``).
"""


def decision_shares(
    true_positive: int, sick: int, true_negative: int, healthy: int, *, repeats: int, confidence: float = 0.95
) -> dict[str, Estimate]:  # fmt: skip
    """Sensitivity, specificity, accuracy and precision of decisions; Wilson's interval where the threshold is fixed.

    Cross-validated, thresholds were chosen in every fold: what that adds (``OTHER_THRESHOLDS``) widens an interval on
    the logit scale. The slope between the two shares is that of normal scores; precision is widened as the least sure
    of them.
    """
    counts = {
        "sensitivity": (true_positive, sick), "specificity": (true_negative, healthy),
        "accuracy": (true_positive + true_negative, sick + healthy),
    }  # fmt: skip
    called = (true_positive, true_positive + healthy - true_negative)
    if not repeats or not min(sick, healthy):
        counts["precision"] = called
        return {name: wilson(*count, confidence) for name, count in counts.items()}
    both = counts["sensitivity"], counts["specificity"]
    factors = dict(
        zip(counts, (_factor(*both, *OTHER_THRESHOLDS), _factor(*both[::-1], *OTHER_THRESHOLDS)), strict=False)
    )
    smooth = {name: (count + 1) / (of + 2) for name, (count, of) in counts.items()}
    binomial = {name: smooth[name] * (1 - smooth[name]) / counts[name][1] for name in counts}
    together = sum((counts[name][1] / (sick + healthy)) ** 2 * factors[name] * binomial[name] for name in factors)
    factors["accuracy"] = max(together / binomial["accuracy"], 1.0)
    note = few_note(sick, healthy, FEW_AT_THRESHOLD)
    found = {name: _logit_interval(*counts[name], factors[name], confidence, note) for name in counts}
    precise = wilson(*called, confidence)
    return found | {
        "precision": _logit_interval(*called, max(factors.values()), confidence, note) if called[1] else precise
    }


def _factor(one: tuple[float, int], other: tuple[float, int], own: float, carried: float) -> float:
    """Variance of a share (count, of) at the threshold that gives the other class its share, in binomial variances.

    ``own`` times its binomial one, and ``carried`` times that of the other, along a ROC curve of normal scores.
    """
    normal, (p, q) = NormalDist(), ((count + 1) / (of + 2) for count, of in (one, other))
    slope = normal.pdf(normal.inv_cdf(p)) / normal.pdf(normal.inv_cdf(q))
    return own + carried * slope**2 * q * (1 - q) / other[1] / (p * (1 - p) / one[1])


def share_along(
    one: tuple[float, int], other: tuple[float, int], *, repeats: int, confidence: float = 0.95
) -> tuple[float, float]:  # fmt: skip
    """Pointwise bounds of a class's share right, (count, of), where a curve gives the other class its share.

    The variance of a point of the ROC curve (Hsieh and Turnbull 1996, Annals of Statistics 24:25): the binomial one,
    and the other class's carried over along the curve; cross-validated with ``OTHER_THRESHOLDS``. Wilson's for as many
    fewer units; between two counts the lower bound is that of the smaller and the upper that of the larger.
    """
    factor = _factor(one, other, *(OTHER_THRESHOLDS if repeats else (1.0, 1.0)))
    low, high = (wilson(end(round(one[0], 6)) / factor, one[1] / factor, confidence) for end in (floor, ceil))
    return float(low.low or 0.0), float(1.0 if high.high is None else high.high)


def _logit_interval(count: int, of: int, factor: float, confidence: float, note: str) -> Estimate:
    """A share with ``factor`` times its binomial variance, on the logit scale; up to the edge where nothing differs."""
    share = (count + 0.5) / (of + 1)
    half = normal_quantile(confidence) * sqrt(factor / (of * share * (1 - share)))
    middle = log(share / (1 - share))
    low, high = (1 / (1 + exp(-(middle + side * half))) for side in (-1, 1))
    method = "logit interval, widened for thresholds chosen in every fold"
    return Estimate(count / of, 0.0 if count == 0 else low, 1.0 if count == of else high, method, note)


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
