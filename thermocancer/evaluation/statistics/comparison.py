"""Scores of several runs on the same units: paired DeLong, exact McNemar, paired patient bootstrap, Holm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb
from statistics import NormalDist

import numpy as np

from thermocancer.errors import DataError
from thermocancer.evaluation.statistics.intervals import (
    difference_variance,
    folded_auc,
    normal_quantile,
    percentile_interval,
)
from thermocancer.evaluation.statistics.resampling import auc_of, patient_counts
from thermocancer.evaluation.statistics.units import Units
from thermocancer.files import Json

NOTHING_SHARED = "these runs have no patient in common"
PAIRED_BOOTSTRAP = "paired patient bootstrap, percentiles"

# --- two runs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paired:
    """Two runs' units, row by row the same patient (or visit) with the same label."""

    first: Units
    second: Units


def pair_units(first: Units, second: Units) -> Paired:
    """The units that both have, in one order.

    Raises DataError when there are none, or when a common unit carries two labels.
    """
    places = {key: row for row, key in enumerate(second.keys)}
    rows = [(row, places[key]) for row, key in enumerate(first.keys) if key in places]
    if not rows:
        raise DataError(
            NOTHING_SHARED, expected="runs on the same data set",
            found=f"{len(first)} and {len(second)} units, none shared",
            hint="compare runs that were trained on the same exams",
        )  # fmt: skip
    left, right = (np.array(side, dtype=np.int64) for side in zip(*rows, strict=True))
    paired = Paired(first.at(left), second.at(right))
    contradictions = paired.first.patients[paired.first.labels != paired.second.labels]
    if contradictions.size:
        raise DataError(
            "the runs disagree about labels",
            found=f"patients {', '.join(str(each) for each in contradictions[:5])}",
            hint="train both runs on the same data set",
        )
    return paired


def auc_difference(paired: Paired, *, confidence: float, bootstrap: int, seed: int) -> Json:
    """AUC of the first minus AUC of the second, each counted over pairs tested in one fold.

    ``low``, ``high`` and ``p`` are of DeLong's paired variance (1988, Biometrics 44:837) and, where runs are
    cross-validated, of what other folds and training sets add to a difference (``difference_variance``); where all of
    that is zero the patient bootstrap's, of mean scores, which stands beside as ``bootstrap``.
    """
    labels = paired.first.labels
    first, second = folded_auc(paired.first), folded_auc(paired.second)
    value = first.value - second.value
    variance = difference_variance(first, second, paired.first.repeats, paired.second.repeats)
    counts = patient_counts(paired.first.patients, bootstrap, seed)
    draws = auc_of(counts, labels, paired.first.scores) - auc_of(counts, labels, paired.second.scores)
    drawn = percentile_interval(draws, value, confidence, PAIRED_BOOTSTRAP)
    result: Json = {"value": value, "bootstrap": drawn.as_dict()}
    if variance > 1e-12:
        error = float(np.sqrt(variance))
        half = normal_quantile(confidence) * error
        widened = ", widened for folds and training sets" if paired.first.repeats or paired.second.repeats else ""
        result |= {"low": value - half, "high": value + half, "method": f"paired DeLong{widened}"}
        result["p"] = 2 * NormalDist().cdf(-abs(value / error))
    else:
        result |= {"low": drawn.low, "high": drawn.high, "method": drawn.method, "p": 1.0 if value == 0 else None}
    return result


def mcnemar(paired: Paired) -> Json:
    """Exact McNemar test on right and wrong decisions (two-sided binomial on the discordant units)."""
    labels = paired.first.labels
    first, second = paired.first.decisions == labels, paired.second.decisions == labels
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    return {
        "both_right": int(np.sum(first & second)),
        "only_first_right": only_first,
        "only_second_right": only_second,
        "both_wrong": int(np.sum(~first & ~second)),
        "p": exact_binomial(only_first, only_first + only_second),
    }


def exact_binomial(successes: int, trials: int) -> float:
    """Two-sided exact binomial test of a chance of one half.

    >>> exact_binomial(1, 9)
    0.0390625
    """
    fewer = min(successes, trials - successes)
    tail = sum(comb(trials, count) for count in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**trials))


def share_differences(paired: Paired, *, confidence: float, bootstrap: int, seed: int) -> dict[str, Json]:
    """Differences (first minus second) of accuracy, sensitivity and specificity with paired patient bootstrap."""
    labels = paired.first.labels
    counts = patient_counts(paired.first.patients, bootstrap, seed, key=1)
    gain = ((paired.first.decisions == labels).astype(float) - (paired.second.decisions == labels)).astype(float)
    results = {}
    for name, kept in (("accuracy", labels >= 0), ("sensitivity", labels == 1), ("specificity", labels == 0)):
        below = counts @ kept.astype(float)
        draws = np.divide(counts @ (gain * kept), below, out=np.full(len(counts), np.nan), where=below > 0)
        value = float(gain[kept].mean()) if kept.any() else None
        results[name] = percentile_interval(draws, value, confidence, PAIRED_BOOTSTRAP).as_dict()
    return results


# --- several runs, two by two -----------------------------------------------------------------------------------------


def shared_units(runs: Mapping[str, Units]) -> dict[str, Units]:
    """Each run's units, restricted to those that all runs have. Raises DataError when there are none."""
    keys = set.intersection(*(set(each.keys) for each in runs.values()))
    if not keys:
        counts = ", ".join(f"{name} {len(each)}" for name, each in runs.items())
        raise DataError(
            NOTHING_SHARED, expected="runs on the same data set", found=f"units: {counts}; none in all of them",
            hint="compare runs that were trained on the same exams",
        )  # fmt: skip
    return {
        name: each.at(np.array([row for row, key in enumerate(each.keys) if key in keys], dtype=np.int64))
        for name, each in runs.items()
    }


def compare_pairs(runs: Mapping[str, Units], *, confidence: float, bootstrap: int, seed: int) -> list[Json]:
    """Every pair of runs tested; ``p_holm`` of their AUCs is corrected for the number of pairs."""
    pairs: list[Json] = []
    for first, second in combinations(runs, 2):
        paired = pair_units(runs[first], runs[second])
        auc = auc_difference(paired, confidence=confidence, bootstrap=bootstrap, seed=seed)
        shares = share_differences(paired, confidence=confidence, bootstrap=bootstrap, seed=seed)
        pairs.append({"first": first, "second": second, "auc": auc, "shares": shares, "mcnemar": mcnemar(paired)})
    corrected = holm([1.0 if pair["auc"]["p"] is None else pair["auc"]["p"] for pair in pairs])
    for pair, chance in zip(pairs, corrected, strict=True):
        pair["auc"]["p_holm"] = chance
    return pairs


def holm(chances: list[float]) -> list[float]:
    """Holm's step-down correction (1979): the p of each, corrected for trying all of them.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    corrected, worst = [0.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(chances) - rank) * chances[place]))
        corrected[place] = worst
    return corrected
