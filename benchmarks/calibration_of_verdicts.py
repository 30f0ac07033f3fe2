"""Do intervals hold what they say, and verdicts err as seldom as they claim? Simulated studies with a known truth.

    python benchmarks/calibration_of_verdicts.py --studies 100 --out docs/evidence.md   (minutes on two cores)
        --shortcuts rates.json   (with what ``benchmarks/shortcut_rates.py --json rates.json`` counted)
    python benchmarks/calibration_of_verdicts.py --studies 10 --quick        (a look, on the terminal)

A study draws patients with ten numbers, one of which tells by ``shift`` standard deviations; a recipe (ridge
regression, or the best single number) is cross-validated in 5 folds and 5 repeats as the package does, Platt
calibration and threshold (sensitivity .90) chosen on 3 inner folds. The truth is measured on 2,000 new patients of
each class: of the recipe, the mean over all fold models of a cell; of the model that is kept, its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from shortcut_rates import Rate, missed_shortcuts, misses, read_rates, shortcut_table

from thermocancer.classifiers.calibrated import choose_threshold, fit_platt
from thermocancer.evaluation.audit.refits import judge_permuted
from thermocancer.evaluation.statistics.comparison import Paired, auc_difference
from thermocancer.evaluation.statistics.curves import precision_recall_band, roc_band
from thermocancer.evaluation.statistics.intervals import (
    FEW_AT_THRESHOLD,
    FEW_OF_A_CLASS,
    FEW_UNITS,
    Estimate,
    auc_interval,
    decision_shares,
    delong_components,
    few_note,
    pairs_interval,
)
from thermocancer.evaluation.statistics.metrics import confusion_of
from thermocancer.evaluation.statistics.units import Units, units_of
from thermocancer.runs.predictions import Prediction

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Cell = tuple[int, int, float, str]
"""Patients, sick ones, shift and recipe."""

NUMBERS, FOLDS, REPEATS, POPULATION = 10, 5, 5, 2000
SIZES = ((40, 8), (40, 20), (80, 16), (160, 25), (160, 40), (300, 60), (300, 150))
SHIFTS = (0.0, 0.8, 1.6, 2.6)
ALONE = ((8, 192, 0.97), (8, 32, 0.5), (20, 20, 0.8), (53, 2, 0.7), (40, 120, 0.5), (150, 150, 0.9))
"""Sick, healthy and true AUC of a model tested once."""

MATCHED = ((10, 20, 4), (10, 20, 8), (11, 74, 48), (13, 82, 175), (20, 32, 111), (34, 71, 544))
"""Sick, healthy, and how many pairs of them count."""


def ridge(table: Floats, labels: Ints) -> Callable[[Floats], Floats]:
    """Ridge regression on standardised numbers, both classes weighing the same."""
    mean, spread = table.mean(axis=0), table.std(axis=0) + 1e-9
    design = np.c_[(table - mean) / spread, np.ones(len(table))]
    weights = np.where(labels == 1, 0.5 / labels.mean(), 0.5 / (1 - labels.mean()))[:, None]
    found = np.linalg.solve(
        (design * weights).T @ design + np.eye(design.shape[1]), (design * weights).T @ (2 * labels - 1)
    )
    return lambda rows: np.c_[(rows - mean) / spread, np.ones(len(rows))] @ found


def best_number(table: Floats, labels: Ints) -> Callable[[Floats], Floats]:
    """The one number whose class means lie furthest apart."""
    apart = (table[labels == 1].mean(axis=0) - table[labels == 0].mean(axis=0)) / (table.std(axis=0) + 1e-9)
    place = int(np.abs(apart).argmax())
    sign = float(np.sign(apart[place]))
    return lambda rows: sign * rows[:, place]


RECIPES = {"ridge": ridge, "best number": best_number}


def dealt(labels: Ints, parts: int, random: np.random.Generator) -> Ints:
    """A fold for each patient, stratified."""
    order = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in (1, 0)])
    folds = np.empty(len(labels), np.int64)
    folds[order] = np.arange(len(labels)) % parts
    return folds


def fitted(recipe: str, table: Floats, labels: Ints, random: np.random.Generator) -> Callable[[Floats], Floats]:
    """Calibrated scores less the threshold, plus one half: decided at .5."""
    inner, held = dealt(labels, 3, random), np.empty(len(labels))
    for part in range(3):
        held[inner == part] = RECIPES[recipe](table[inner != part], labels[inner != part])(table[inner == part])
    calibration = fit_platt(held, labels)
    threshold = choose_threshold(calibration.scores(held), labels, "sensitivity", 0.9)
    model = RECIPES[recipe](table, labels)
    return lambda rows: np.asarray(calibration.scores(model(rows)) - threshold + 0.5)


@dataclass(frozen=True)
class Study:
    """One study: its units after one and after five repeats, two halves of other folds, and what is true."""

    one: Units
    five: Units
    halves: tuple[Units, Units]
    recipe: tuple[float, ...]
    kept: tuple[float, ...]


def drawn(random: np.random.Generator, sick: int, healthy: int, shift: float) -> tuple[Floats, Ints]:
    labels = np.r_[np.ones(sick), np.zeros(healthy)].astype(np.int64)
    table = random.normal(size=(len(labels), NUMBERS))
    table[:, 0] += shift * labels
    return table, labels


def worth(scores: Floats, labels: Ints) -> list[float]:
    """AUC, sensitivity and specificity on the population, then the points of its ROC curve that bands are given at."""
    called, everybody = scores >= 0.5, units_of(labels, scores)
    shares = float(called[labels == 1].mean()), float((~called[labels == 0]).mean())
    return [delong_components(labels, scores)[0], *shares, *points(everybody).ravel().tolist()]


def points(units: Units, end: str = "") -> Floats:
    """Of both bands (2, 19) the curves themselves, or an ``end`` of the bands.

    Precision stands for the false positive rate there: at a recall, and a share of sick, it is a function of it.
    """
    bands = {"sensitivity": roc_band(units), "precision": precision_recall_band(units)}
    return np.array([[row[end or name] for row in band] for name, band in bands.items()])


def band_held(studied: Study, truth: Floats) -> Floats:
    """Share of each band's points (2,) that hold the truth, of five repeats."""
    low, high = points(studied.five, "low"), points(studied.five, "high")
    share = float(studied.five.labels.mean())
    recall, precision = np.arange(1, 20) / 20, truth[1]
    alarms = recall * (1 - precision) / precision  # the population has as many of each class
    truth = np.array([truth[0], recall * share / (recall * share + alarms * (1 - share))])
    return np.asarray(((low <= truth) & (truth <= high)).mean(axis=1))


def study(cell: Cell, seed: int) -> Study:
    n, sick, shift, recipe = cell
    random = np.random.default_rng([seed, n, sick, int(10 * shift), len(recipe)])
    table, labels = drawn(random, sick, n - sick, shift)
    population, truth = drawn(random, POPULATION, POPULATION, shift)
    scores, folds, found = np.empty((REPEATS, n)), np.empty((REPEATS, n), np.int64), []
    for repeat in range(REPEATS):
        folds[repeat] = dealt(labels, FOLDS, random)
        for part in range(FOLDS):
            train, test = folds[repeat] != part, folds[repeat] == part
            model = fitted(recipe, table[train], labels[train], random)
            scores[repeat, test] = model(table[test])
            if repeat == 0:
                found.append(worth(model(population), truth))
    kept = worth(fitted(recipe, table, labels, random)(population), truth)
    some = partial(repeated, labels, scores, folds)
    recipe_worth = tuple(np.mean(found, axis=0).tolist())
    return Study(some(slice(1)), some(slice(5)), (some(slice(2)), some(slice(2, 4))), recipe_worth, kept)


def repeated(labels: Ints, scores: Floats, folds: Ints, part: slice) -> Units:
    """The units after some of the repeats."""
    own, numbers = scores[part], np.arange(len(labels))
    called = (2 * (own >= 0.5).sum(axis=0) >= len(own)).astype(np.int64)
    return Units(numbers, np.zeros_like(numbers), labels, own.mean(axis=0), called, own, folds[part])


def shares(units: Units) -> dict[str, Estimate]:
    tn, fp, fn, tp = confusion_of(units).values()
    return decision_shares(tp, tp + fn, tn, tn + fp, repeats=units.repeats)


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.low is not None and estimate.high is not None and bool(estimate.low <= truth <= estimate.high)


def of_cell(cell: Cell, studies: int, first: int = 0) -> list[float]:
    """Rates of one cell, in the order of ``COLUMNS``, over the studies of so many seeds from ``first`` on."""
    made = [study(cell, seed) for seed in range(first, first + studies)]
    truth = np.mean([each.recipe for each in made], axis=0)
    aucs = [(auc_interval(each.one), auc_interval(each.five)) for each in made]
    decided, voted = ([shares(units) for units in each] for each in zip(*((s.one, s.five) for s in made), strict=True))
    differ = [auc_difference(Paired(*each.halves), confidence=0.95, bootstrap=20, seed=0) for each in made]
    rates = [
        [holds(one, truth[0]) for one, _ in aucs],
        [holds(five, truth[0]) for _, five in aucs],
        [holds(each["sensitivity"], truth[1]) for each in decided],
        [holds(each["specificity"], truth[2]) for each in decided],
        [holds(each["sensitivity"], own.kept[1]) for each, own in zip(voted, made, strict=True)],
        [holds(each["specificity"], own.kept[2]) for each, own in zip(voted, made, strict=True)],
        [one.low is not None and one.low > 0.5 for one, _ in aucs],
        [five.low is not None and five.low > 0.5 for _, five in aucs],
        [each["low"] > 0 or each["high"] < 0 for each in differ],
        *zip(*(band_held(each, truth[3:].reshape(2, -1)) for each in made), strict=True),
    ]
    pooled = np.mean([delong_components(each.one.labels, each.one.scores)[0] for each in made])
    return [float(truth[0]), *(float(np.mean(each)) for each in rates), float(pooled)]


COLUMNS = (
    "true AUC", "AUC, 1 repeat", "AUC, 5 repeats", "sensitivity", "specificity", "sensitivity of the kept model",
    "specificity of the kept model", "above .5, 1 repeat", "above .5, 5 repeats", "same recipe \"different\"",
    "ROC band", "precision-recall band", "pooled AUC, mean",
)  # fmt: skip


def covered_and_above(found: Sequence[Estimate], truth: float) -> tuple[float, float]:
    """Shares of intervals that hold the truth, and that lie above .5."""
    above = [(each.low or 0) > 0.5 for each in found]
    return float(np.mean([holds(each, truth) for each in found])), float(np.mean(above))


def one_model(sick: int, healthy: int, truth: float, studies: int) -> tuple[float, float, float]:
    """Coverage of a single model's AUC, how often it is above .5, and the share of points that its ROC band holds."""
    random, normal = np.random.default_rng([sick, healthy, int(100 * truth)]), NormalDist()
    labels = np.r_[np.ones(sick), np.zeros(healthy)].astype(np.int64)
    apart = normal.inv_cdf(truth) * 2**0.5
    curve = [normal.cdf(normal.inv_cdf(step / 20) + apart) for step in range(1, 20)]
    made = [units_of(labels, random.normal(labels * apart)) for _ in range(studies)]
    held = [row["low"] <= at <= row["high"] for each in made for row, at in zip(roc_band(each), curve, strict=True)]
    return *covered_and_above([auc_interval(each) for each in made], truth), float(np.mean(held))


def matched_pairs(sick: int, healthy: int, pairs: int, truth: float, studies: int) -> tuple[float, float, float]:
    """Coverage of the share of matched pairs ranked right, pairs being neighbours in time; how often it is above .5;
    and what percentiles of a bootstrap over patients cover (a tenth as many studies).
    """
    random = np.random.default_rng([sick, healthy, pairs, int(100 * truth)])
    apart, found, drawn = NormalDist().inv_cdf(truth) * 2**0.5, [], []
    for number in range(studies):
        near = np.abs(random.random((sick, 1)) - random.random(healthy))
        met = (near <= np.sort(near, axis=None)[pairs - 1]).astype(float)
        won = met * (random.normal(apart, 1, (sick, 1)) > random.normal(0, 1, healthy))
        found.append(pairs_interval(won, met))
        if number % 10 == 0:
            times = [random.multinomial(many, np.full(many, 1 / many), 400) for many in (sick, healthy)]
            counted, right = (np.einsum("bs,sh,bh->b", times[0], each, times[1]) for each in (met, won))
            low, high = np.percentile(right[counted > 0] / counted[counted > 0], [2.5, 97.5])
            drawn.append(low <= truth <= high)
    return *covered_and_above(found, truth), float(np.mean(drawn))


GOALS: tuple[tuple[str, slice, bool, str, str], ...] = (
    ("AUC covered, lowest row, 1 and 5 repeats", slice(1, 3), False, "min", ">= .93"),
    ("AUC covered, mean", slice(1, 3), False, "mean", ".93 to .97"),
    ("sensitivity and specificity of the recipe covered, lowest row", slice(3, 5), False, "min", ">= .93"),
    ("sensitivity and specificity of the kept model covered, lowest row", slice(5, 7), False, "min", ">= .93"),
    ("sensitivity and specificity of the kept model covered, mean", slice(5, 7), False, "mean", ".93 to .97"),
    ("better than chance on nothing, highest row, 1 and 5 repeats", slice(7, 9), True, "max", "<= .03"),
    ("better than chance on nothing, mean", slice(7, 9), True, "mean", "<= .03"),
    ("same recipe with other folds called different, highest row", slice(9, 10), False, "max", "<= .05"),
    (
        "points of the ROC and precision-recall bands covered, 5 repeats, lowest row",
        slice(10, 12),
        False,
        "min",
        ">= .93",
    ),
    (
        "points of the ROC and precision-recall bands covered, 5 repeats, mean",
        slice(10, 12),
        False,
        "mean",
        ".93 to .97",
    ),
)
"""Goal, columns, whether of the rows on nothing alone, what of them, and what is asked."""


def goals(cells: Sequence[Cell], rates: Sequence[Sequence[float]]) -> list[str]:
    """The table of what was to be reached."""
    table, nothing = np.array(rates), np.array([cell[2] == 0 for cell in cells])
    lines = ["", "| goal | seen | asked |", "|---|---|---|"]
    for name, columns, of_nothing, what, asked in GOALS:
        rows = table[nothing] if of_nothing else table
        if len(rows):
            seen = getattr(rows[:, columns], what)(axis=0)
            lines.append(f"| {name} | {', '.join(f'{each:.3f}' for each in seen)} | {asked} |")
    return lines


# --- what misses its goal ---------------------------------------------------------------------------------------------

ASKED = {
    **dict.fromkeys((1, 2), (0.93, 1.0, FEW_OF_A_CLASS)),
    **dict.fromkeys(range(3, 7), (0.93, 1.0, FEW_AT_THRESHOLD)),
    **dict.fromkeys((7, 8), (0.0, 0.03, FEW_OF_A_CLASS)),
    9: (0.0, 0.05, FEW_OF_A_CLASS),
    **dict.fromkeys((10, 11), (0.93, 1.0, FEW_OF_A_CLASS)),
}
"""Place of a rate in ``COLUMNS``: the lowest and highest that its goal allows, and below how many of a class the report
warns of that figure.
"""


AGAIN = 4  # times as many other studies count a miss again of which the report does not warn: a few are chance


def missed_cells(cells: Sequence[Cell], rates: Sequence[Sequence[float]], studies: int) -> list[str]:
    """A line for each figure of a cell that misses its goal, with what the report says there."""
    lines = []
    for (n, sick, shift, recipe), row in zip(cells, rates, strict=True):
        for place, (lowest, highest, fewest) in ASKED.items():
            counts = place not in (7, 8) or not shift  # those two are rates of errors on nothing alone
            if counts and (seen := misses(row[place], studies, lowest, highest)):
                asked = f">= {lowest:.2f}" if lowest else f"<= {highest:.2f}"
                warned = few_note(sick, n - sick, fewest)
                said = f'the report warns there: "{warned}"'
                if not warned:
                    other = of_cell((n, sick, shift, recipe), AGAIN * studies, first=studies)[place]
                    still = misses(other, AGAIN * studies, lowest, highest)
                    said = (
                        f"**the report does not warn of so few there** (it says of {1 - row[8]:.0%} of these studies "
                        f"that the model cannot be told from chance); on {AGAIN * studies} other studies "
                        + (f"still missed, {still}" if still else f"{other:.3f}, which may be what is asked")
                    )
                lines.append(
                    f"- {n} ({sick}), shift {shift:g}, {recipe}: {COLUMNS[place]} {seen}, asked {asked}; {said}"
                )
    return lines


# --- the permutation null ---------------------------------------------------------------------------------------------

PERMUTED, NULLS = 19, ((40, 8), (40, 20), (80, 16))
"""Permutations a study (ranks are then twentieths), and patients with how many sick."""


def permuted_rank(size: tuple[int, int], seed: int) -> tuple[float, bool]:
    """The audit's p of ridge on nothing among labels permuted inside folds, and whether it called a leak."""
    n, sick = size
    random = np.random.default_rng([seed, n, sick, 5])
    table, labels = drawn(random, sick, n - sick, 0.0)
    folds = dealt(labels, FOLDS, random)

    def taught(given: Ints) -> list[Prediction]:
        scores = np.empty(n)
        for part in range(FOLDS):
            scores[folds == part] = ridge(table[folds != part], given[folds != part])(table[folds == part])
        return [Prediction(row, 1, f"1.{folds[row] + 1}", int(given[row]), float(scores[row]), 0) for row in range(n)]

    def shuffled() -> Ints:
        given = labels.copy()
        for part in range(FOLDS):
            given[folds == part] = random.permutation(labels[folds == part])
        return given

    found = judge_permuted(taught(labels), [taught(shuffled()) for _ in range(PERMUTED)])
    return float(found.p_permuted or 0), found.flag == "failed"


def null_table(studies: int) -> list[str]:
    """Where every rank is as likely, p <= .05 comes in one of twenty studies."""
    lines = [
        "", "## Permuted labels, on nothing", "",
        f"The model's rank among {PERMUTED} models of permuted labels (p of the report's first sentence), ridge on",
        f"meaningless numbers, {studies} studies a row.", "",
        "| patients (sick) | p <= .05 | p <= .25 | p <= .50 | mean p (.525) | called a leak |", "|---" * 6 + "|",
    ]  # fmt: skip
    for n, sick in NULLS:
        found = [permuted_rank((n, sick), seed) for seed in range(studies)]
        ranks = np.array([p for p, _ in found])
        shares = " | ".join(f"{np.mean(ranks <= level + 1e-9):.3f}" for level in (0.05, 0.25, 0.5))
        leaks = float(np.mean([leak for _, leak in found]))
        lines.append(f"| {n} ({sick}) | {shares} | {ranks.mean():.3f} | {leaks:.3f} |")
    return lines


def page(studies: int, cells: Sequence[Cell], workers: int, counted: Sequence[Rate] = ()) -> str:
    """The whole page, in Markdown; ``counted`` are the cells of ``shortcut_rates.py``."""
    with ProcessPoolExecutor(workers) as pool:
        rates = list(pool.map(partial(of_cell, studies=studies), cells))
    missed = missed_cells(cells, rates, studies) + missed_shortcuts(counted)
    error = 1.96 * (0.95 * 0.05 / studies) ** 0.5
    lines = [
        "# What intervals and verdicts hold", "",
        f"Made by `python benchmarks/calibration_of_verdicts.py --studies {studies} "
        f"{'--shortcuts rates.json ' if counted else ''}--out docs/evidence.md`; not typed by hand.",
        f"{studies} simulated studies a row. A coverage of .95 is seen within {error:.3f} in 95 of 100 rows.", "",
        "## What misses its goal", "",
        "Cells whose 95 % Wilson interval over studies excludes the goal (coverage at least .93, better than chance on",
        "nothing at most .03, `different` and shortcuts at most .05). What covers more than .97 is not listed.", "",
        *(missed or ["None."]), "",
        "## What an interval is of", "",
        "An interval of a cross-validated run is *of the recipe trained on as many patients*; of a model tested once,",
        "*of this model on new patients*. The model that is kept for `predict` is a single one: its sensitivity varies",
        f"with its own threshold too. Where a class has fewer than {FEW_AT_THRESHOLD} units the report says of",
        f"sensitivity and specificity, and with fewer than {FEW_OF_A_CLASS} (or {FEW_UNITS} units in all) of the AUC,",
        "that the interval cannot be trusted. A band of a ROC or precision-recall curve holds at each point by itself:",
        "its column is the share of points, at false positive rates or recalls of .05 to .95, that hold the truth.",
        "In the list above a study counts as one point, so rows a little below .93 are not named there.",
        "",
        "## Cross-validated recipes", "",
        "| patients (sick) | shift | recipe | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 3) + "|",
    ]  # fmt: skip
    for (n, sick, shift, recipe), row in zip(cells, rates, strict=True):
        told = [
            f"{value:.3f}" if shift == 0 or name[:8] not in ("above .5", "pooled A") else ""
            for name, value in zip(COLUMNS, row, strict=True)
        ]
        lines.append(f"| {n} ({sick}) | {shift:g} | {recipe} | " + " | ".join(told) + " |")
    lines += [*goals(cells, rates), "", "## One model, tested once", ""]
    lines += ["| sick, healthy | true AUC | covered | above .5 | ROC band |", "|---" * 5 + "|"]
    for sick, healthy, truth in ALONE:
        told = " | ".join(f"{each:.3f}" for each in one_model(sick, healthy, truth, 10 * studies))
        lines.append(f"| {sick}, {healthy} | {truth:g} | {told} |")
    lines += ["", "## Matched pairs", ""]
    lines += ["| sick, healthy | pairs | true share | covered | above .5 | by a bootstrap |", "|---" * 6 + "|"]
    for (sick, healthy, pairs), truth in product(MATCHED, (0.5, 0.8, 0.9)):
        seen = " | ".join(f"{each:.3f}" for each in matched_pairs(sick, healthy, pairs, truth, 10 * studies))
        lines.append(f"| {sick}, {healthy} | {pairs} | {truth:g} | {seen} |")
    lines += null_table(studies) + (shortcut_table(counted) if counted else [])
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two kinds of studies instead of all")
    parser.add_argument("--out", type=Path, help="the page; by default the terminal")
    parser.add_argument("--shortcuts", type=Path, nargs="+", default=[], help="files of shortcut_rates.py --json")
    given = parser.parse_args()
    cells = [(n, sick, shift, recipe) for (n, sick), shift, recipe in product(SIZES, SHIFTS, RECIPES)]
    counted = [each for path in given.shortcuts for each in read_rates(path)]
    text = page(given.studies, cells[:2] if given.quick else cells, given.workers, counted)
    if given.out is None:
        print(text)
    else:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
