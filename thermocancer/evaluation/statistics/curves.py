"""What scores say at every threshold, as points to draw: ROC, precision-recall, accuracy, calibration, net benefit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.statistics.intervals import (
    Estimate,
    decision_shares,
    normal_quantile,
    share_along,
    tested_together,
    wilson,
)
from thermocancer.evaluation.statistics.resampling import ECE_BINS, score_bins
from thermocancer.evaluation.statistics.units import Units
from thermocancer.files import Json

# --- thresholds -------------------------------------------------------------------------------------------------------


def roc_points(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """False positive rate and sensitivity at every distinct threshold, from (0, 0) to (1, 1)."""
    _, hits, alarms = _counts_from_above(labels, scores)
    return alarms / alarms[-1], hits / hits[-1]


def precision_recall_points(roc: tuple[FloatArray, FloatArray], share: float) -> tuple[FloatArray, FloatArray]:
    """Recall and precision at the points of a ROC curve that call someone sick, with so large a share of sick."""
    alarms, hits = (each[roc[1] > 0] for each in roc)
    return hits, _precision(hits, alarms, share)


def _precision(recall: FloatArray, alarms: FloatArray, share: float) -> FloatArray:
    """Of a recall and a false positive rate (Davis and Goadrich 2006, ICML)."""
    return np.asarray(recall * share / (recall * share + alarms * (1 - share)))


STEPS = tuple(step / 20 for step in range(1, 20))
"""Shares at which the bands of curves are given."""


def folded_roc(units: Units) -> tuple[FloatArray, FloatArray]:
    """The ROC curve whose area is ``folded_auc``: false positive rates, and the sensitivity there inside folds.

    Folds are averaged at each rate, weighing as many pairs as they tested: a rate is one of the fold's own healthy
    units (Janes and Pepe 2009, Biometrika 96:371). Pooled over folds the curve would be that of no recipe: a sick unit
    of a fold that scores low lies below most healthy ones of others. One model, tested once: the usual curve.
    """
    both = tested_together(units) or [(units.scores, np.ones(len(units), bool))]
    if len(both) == 1:
        return roc_points(units.labels[both[0][1]], both[0][0][both[0][1]])
    rates = np.linspace(0, 1, 201)
    inside = np.clip(rates, 2 * EDGE, 1 - 2 * EDGE)  # at both ends not the middle of what stands upright there
    curves = [_read(inside, *roc_points(units.labels[tested], scores[tested])) for scores, tested in both]
    pairs = [int(units.labels[tested].sum()) * int((1 - units.labels[tested]).sum()) for _, tested in both]
    return np.r_[0.0, rates, 1.0], np.r_[0.0, np.average(curves, axis=0, weights=pairs), 1.0]


def _read(at: npt.ArrayLike, along: FloatArray, values: FloatArray) -> FloatArray:
    """A curve between its points; the middle of where it stands upright, for its top is too high by half a unit."""
    sides = (np.interp(np.asarray(at) + side, along, values) for side in (-EDGE, EDGE))
    return np.asarray(sum(sides) / 2)


def roc_band(units: Units, confidence: float = 0.95) -> list[dict[str, float]]:
    """Sensitivity at false positive rates of .05 to .95, on the lines between points, with pointwise bounds.

    Each point's interval holds by itself (``share_along``); the whole curve leaves the band more often.
    """
    alarms, hits = folded_roc(units)
    found = _read(STEPS, alarms, hits)
    return [
        {"false_positive_rate": step, "sensitivity": float(hit), **_bounds_along(units, hit, 1 - step, 1, confidence)}
        for step, hit in zip(STEPS, found, strict=True)
    ]


def precision_recall_band(units: Units, confidence: float = 0.95) -> list[dict[str, float]]:
    """Precision at recalls of .05 to .95, with pointwise bounds, this sample's share of sick taken as given.

    At a recall precision hangs on the false positive rate alone, whose bounds are those of the ROC curve read sideways.
    """
    alarms, hits = folded_roc(units)
    share, rows = float(units.labels.mean()), []
    for step in STEPS:
        spared = 1 - float(_read(step, hits, alarms))
        ends = {"precision": spared} | _bounds_along(units, spared, step, 0, confidence)
        told = _precision(np.array(step), 1 - np.array(list(ends.values())), share)
        rows.append({"recall": step, **dict(zip(ends, told.tolist(), strict=True))})
    return rows


def _bounds_along(units: Units, own: float, other: float, label: int, confidence: float) -> dict[str, float]:
    """``low`` and ``high`` of the share right, ``own``, of the units of ``label``, at the other class's."""
    many = int((units.labels == label).sum())
    counts = (own * many, many), (other * (len(units) - many), len(units) - many)
    return dict(zip(ENDS, share_along(*counts, repeats=units.repeats, confidence=confidence), strict=True))


def _counts_from_above(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Thresholds from the highest, with sick and healthy units at or above each; starts with none."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits = np.r_[0, np.cumsum(labels[order])[ends]].astype(float)
    alarms = np.r_[0, np.cumsum(1 - labels[order])[ends]].astype(float)
    return np.r_[np.inf, scores[order][ends]], hits, alarms


def accuracy_by_threshold(units: Units, confidence: float = 0.95) -> list[dict[str, float | None]]:
    """Accuracy, sensitivity and specificity at thresholds 0.00 to 1.00 in steps of 0.01, with bounds (``NAME_low``)."""
    steps = (percent / 100 for percent in range(101))
    return [{"threshold": at, **_shares_at(units, at), **_bounds_at(units, at, confidence)} for at in steps]


def reference_points(units: Units, confidence: float = 0.95) -> list[Json]:
    """For comparison only: the figures at 0.5 and at Youden's threshold, the latter chosen on the scored units.

    ``NAME_low`` and ``NAME_high`` bound each share as the table's shares are (``decision_shares``); for Youden's
    threshold they leave out that it was chosen for being best.
    """
    thresholds, hits, alarms = _counts_from_above(units.labels, units.scores)
    youden = float(thresholds[1:][np.argmax(hits[1:] / hits[-1] - alarms[1:] / alarms[-1])])
    named = {"0.5, fixed": 0.5, "Youden's, chosen on these very units (optimistic)": youden}
    return [
        {"name": name, "threshold": each, **_shares_at(units, each), **_bounds_at(units, each, confidence)}
        for name, each in named.items()
    ]


def _bounds_at(units: Units, threshold: float, confidence: float) -> dict[str, float | None]:
    sick, called = units.labels == 1, units.scores >= threshold
    counts = (called & sick).sum(), sick.sum(), (~called & ~sick).sum(), (~sick).sum()
    shares = decision_shares(*map(int, counts), repeats=units.repeats, confidence=confidence)
    names = ("accuracy", "sensitivity", "specificity")
    return {f"{name}_{end}": getattr(shares[name], end) for name in names for end in ENDS}


def _shares_at(units: Units, threshold: float) -> dict[str, float]:
    sick, called = units.labels == 1, units.scores >= threshold
    return {
        "accuracy": float(np.mean(called == sick)),
        "sensitivity": float(np.mean(called[sick])),
        "specificity": float(np.mean(~called[~sick])),
    }


# --- probabilities ----------------------------------------------------------------------------------------------------

ENDS = ("low", "high")
EDGE = 1e-6
"""Scores are moved this far inside (0, 1) before the logit is taken."""


def calibration_line(labels: IntArray, scores: FloatArray, confidence: float = 0.95) -> dict[str, float | None]:
    """Slope and intercept of the logistic recalibration, and the calibration in the large.

    Slope 1 and intercept 0 are ideal; a slope below 1 means scores too extreme (Cox 1958; Van Calster 2019,
    BMC Medicine 17:230). ``in_the_large`` is the intercept with the slope held at 1. None where the scores
    separate the classes, because the fit then has no finite answer. ``NAME_low`` and ``NAME_high`` are Wald's bounds,
    of these scores: what other training sets would add is not in them.
    """
    inside = np.clip(scores, EDGE, 1 - EDGE)
    odds = np.log(inside / (1 - inside))
    slope = _logistic_fit(np.column_stack([np.ones_like(odds), odds]), labels, np.zeros(len(odds)))
    large = _logistic_fit(np.ones((len(odds), 1)), labels, odds)
    found: dict[str, float | None] = {}
    for name, fit, place in (("slope", slope, 1), ("intercept", slope, 0), ("in_the_large", large, 0)):
        found |= dict.fromkeys((name, f"{name}_low", f"{name}_high"))
        if fit is not None:
            value, half = float(fit[0][place]), normal_quantile(confidence) * float(np.sqrt(fit[1][place, place]))
            found |= {name: value, f"{name}_low": value - half, f"{name}_high": value + half}
    return found


def _logistic_fit(
    design: FloatArray, labels: IntArray, offset: FloatArray
) -> tuple[FloatArray, FloatArray] | None:  # fmt: skip
    """Weights of an unpenalised logistic regression by Newton's method and their covariance; None where it diverges."""
    weights: FloatArray = np.zeros(design.shape[1])
    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights + offset, -500, 500)))
        curvature = design.T @ (design * (chance * (1 - chance))[:, None])
        if not np.linalg.cond(curvature) < 1e12:
            return None
        step = np.linalg.solve(curvature, design.T @ (labels - chance))
        weights = weights + np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            return weights, np.asarray(np.linalg.inv(curvature), dtype=np.float64)
    return None


def reliability(labels: IntArray, scores: FloatArray, confidence: float = 0.95) -> list[Json]:
    """For each of ten bins that holds a score: its units, mean score and share of sick with Wilson's bounds."""
    bins, rows = score_bins(scores), list[Json]()
    for number in sorted(set(bins.tolist())):
        inside = bins == number
        share = wilson(int(labels[inside].sum()), int(inside.sum()), confidence)
        rows.append({
            "from": number / ECE_BINS, "to": (number + 1) / ECE_BINS, "n": int(inside.sum()),
            "mean_score": float(scores[inside].mean()), "share_sick": share.value, "share_low": share.low,
            "share_high": share.high,
        })  # fmt: skip
    return rows


def decision_curve(labels: IntArray, scores: FloatArray, confidence: float = 0.95) -> list[dict[str, float]]:
    """Net benefit at threshold probabilities of 1 to 20 % (Vickers and Elkin 2006), beside calling everyone sick.

    The sample's own prevalence is used, which is far above that of screening. ``model_low`` and ``model_high`` are the
    bounds of the mean over units of what each adds.
    """
    count, sick, z = len(labels), int(labels.sum()), normal_quantile(confidence)
    rows = []
    for percent in range(1, 21):
        chance = percent / 100
        odds = chance / (1 - chance)
        called = scores >= chance
        hits, alarms = int(np.sum(called & (labels == 1))), int(np.sum(called & (labels == 0)))
        everyone = (sick - (count - sick) * odds) / count
        model = (hits - alarms * odds) / count
        half = z * float(np.std(called * np.where(labels == 1, 1.0, -odds))) / count**0.5
        row = {"threshold": chance, "model": model, "everyone": everyone, "nobody": 0.0}
        spread = z * float(np.std(np.where(labels == 1, 1.0, -odds))) / count**0.5
        rows.append(row | {
            "model_low": model - half, "model_high": model + half, "everyone_low": everyone - spread,
            "everyone_high": everyone + spread,
        })  # fmt: skip
    return rows


def predictive_values(
    sensitivity: Estimate, specificity: Estimate, prevalences: Sequence[float]
) -> list[dict[str, float | None]]:  # fmt: skip
    """PPV and NPV by Bayes' rule at each prevalence.

    Their bounds are those at both lower and both upper bounds of sensitivity and specificity: on the wide side.
    """
    rows: list[dict[str, float | None]] = []
    for prevalence in prevalences:
        row: dict[str, float | None] = {"prevalence": float(prevalence)}
        for end, name in (("value", ""), ("low", "_low"), ("high", "_high")):
            positive, negative = _by_bayes(getattr(sensitivity, end), getattr(specificity, end), prevalence)
            row |= {f"ppv{name}": positive, f"npv{name}": negative}
        rows.append(row)
    return rows


def _by_bayes(
    sensitivity: float | None, specificity: float | None, prevalence: float
) -> tuple[float | None, float | None]:  # fmt: skip
    if sensitivity is None or specificity is None:
        return None, None
    called = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    cleared = specificity * (1 - prevalence) + (1 - sensitivity) * prevalence
    positive = sensitivity * prevalence / called if called else None
    return positive, specificity * (1 - prevalence) / cleared if cleared else None


# --- all of them ------------------------------------------------------------------------------------------------------


def curve_facts(
    units: Units, estimates: Mapping[str, Estimate], prevalences: Sequence[float], confidence: float
) -> Json:
    """What ``report.json`` says of every threshold; predictive values also at the sample's own share of sick."""
    sensitivity, specificity = estimates["sensitivity"], estimates["specificity"]
    return {
        "calibration": calibration_line(units.labels, units.scores, confidence),
        "reliability": reliability(units.labels, units.scores, confidence),
        "decision_curve": decision_curve(units.labels, units.scores, confidence),
        "accuracy_by_threshold": accuracy_by_threshold(units, confidence),
        "reference_points": reference_points(units, confidence),
        "predictive_values": predictive_values(sensitivity, specificity, (*prevalences, float(units.labels.mean()))),
    }
