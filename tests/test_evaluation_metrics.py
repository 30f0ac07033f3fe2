"""Every figure of ``metrics.json``, recomputed from ``predictions.csv`` by independent code."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from evaluation_fixtures import toy_rows, write_run

from thermocancer.config import load_config
from thermocancer.errors import DataError
from thermocancer.evaluation.statistics.comparison import Paired, auc_difference, exact_binomial, mcnemar, pair_units
from thermocancer.evaluation.statistics.curves import (
    accuracy_by_threshold,
    calibration_line,
    curve_facts,
    decision_curve,
    folded_roc,
    precision_recall_band,
    precision_recall_points,
    predictive_values,
    reference_points,
    reliability,
    roc_band,
    roc_points,
)
from thermocancer.evaluation.statistics.intervals import (
    FOLDING,
    TRAINING,
    Estimate,
    auc_interval,
    delong_components,
    folded_auc,
    pairs_interval,
    smallest_detectable_auc,
    wilson,
)
from thermocancer.evaluation.statistics.metrics import calibration_error, measure
from thermocancer.evaluation.statistics.resampling import (
    auc_of,
    average_precision_of,
    brier_of,
    ece_of,
    f1_of,
    patient_counts,
)
from thermocancer.evaluation.statistics.units import Units, gather_units, units_of
from thermocancer.progress import Silent
from thermocancer.runs.predictions import Prediction
from thermocancer.stages import evaluate
from thermocancer.workspace import Workspace

# metrics.json again, from predictions.csv and the words of the contract, with nothing of ours


Unit = tuple[int, int, int, float, int]
"""Patient, number of the visit (0: all visits together), label, score, decision."""


def units_from_file(path: Path, *, by_exam: bool = False) -> list[Unit]:
    with open(path, newline="") as handle:
        rows = [
            (int(r["patient"]), int(r["visit"]), int(r["label"]), float(r["score"]), int(r["predicted"]))
            for r in csv.DictReader(handle)
        ]
    mixed = {patient for patient, *_ in rows if len({r[2] for r in rows if r[0] == patient}) > 1}
    groups: dict[tuple[int, int], list[tuple[int, float, int]]] = {}
    for patient, visit, label, score, predicted in rows:
        groups.setdefault((patient, visit if by_exam or patient in mixed else 0), []).append((label, score, predicted))
    return [
        (
            *key,
            members[0][0],
            sum(m[1] for m in members) / len(members),
            int(2 * sum(m[2] for m in members) >= len(members)),
        )
        for key, members in sorted(groups.items())
    ]


def columns_of(units: list[Unit]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and decisions."""
    labels, scores, decisions = (np.array(each) for each in list(zip(*units, strict=True))[2:])
    return labels, scores, decisions


def ece_by_hand(labels: np.ndarray, scores: np.ndarray) -> float:
    total = 0.0
    for number in range(10):
        inside = [
            i for i, score in enumerate(scores) if number / 10 <= score < (number + 1) / 10 or score == 1 == number / 9
        ]
        if inside:
            total += len(inside) / len(scores) * abs(float(np.mean(scores[inside])) - float(np.mean(labels[inside])))
    return total


def bootstrapped_functions() -> dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]]:
    from sklearn import metrics as sk

    return {
        "f1": lambda labels, scores, decisions: sk.f1_score(labels, decisions, zero_division=np.nan),
        "auc": lambda labels, scores, decisions: sk.roc_auc_score(labels, scores) if np.ptp(labels) else np.nan,
        "average_precision": lambda labels, scores, decisions: (
            sk.average_precision_score(labels, scores) if labels.any() else np.nan
        ),
        "brier": lambda labels, scores, decisions: float(np.mean((labels - scores) ** 2)),
        "ece": lambda labels, scores, decisions: ece_by_hand(labels, scores),
    }


def resampled(units: list[Unit], replicates: int, seed: int) -> list[list[int]]:
    """Units of each replicate, as copies; patients are drawn, in ascending order of their numbers, by this stream."""
    patients = sorted({unit[0] for unit in units})
    draws = np.random.default_rng([seed, 0xB007, 0]).integers(0, len(patients), size=(replicates, len(patients)))
    own = {patient: [i for i, unit in enumerate(units) if unit[0] == patient] for patient in patients}
    return [[i for place in drawn for i in own[patients[place]]] for drawn in draws.tolist()]


def percentile(values: list[float], share: float) -> float:
    """Linear between the order statistics, written out."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


def proportion_of(right: int, counted: int, confidence: float) -> dict[str, object]:
    from scipy.stats import binomtest

    if counted == 0:
        return {"value": None, "low": 0.0, "high": 1.0, "method": "Wilson score interval; undefined, nothing to count"}
    interval = binomtest(right, counted).proportion_ci(confidence, method="wilson")
    return {"value": right / counted, "low": interval.low, "high": interval.high, "method": "Wilson score interval"}


def means_in_folds(path: Path, *, by_exam: bool) -> dict[tuple[str, str, str, str], float]:
    """Mean score of each unit in each fold: (fold, patient, visit, label)."""
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    mixed = {r["patient"] for r in rows if len({o["label"] for o in rows if o["patient"] == r["patient"]}) > 1}
    scores: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        visit = row["visit"] if by_exam or row["patient"] in mixed else "0"
        scores.setdefault((row["fold"], row["patient"], visit, row["label"]), []).append(float(row["score"]))
    return {key: sum(each) / len(each) for key, each in scores.items()}


def in_folds(path: Path, confidence: float, *, by_exam: bool) -> dict[str, object]:
    """Pairs of units that one fold tested, one by one; bounds by bisection of Newcombe's equation, widened."""
    from scipy.stats import norm

    means = means_in_folds(path, by_exam=by_exam)
    wins = [
        1.0 if means[one] > means[other] else 0.5 if means[one] == means[other] else 0.0
        for one in means for other in means if one[0] == other[0] and (one[3], other[3]) == ("1", "0")
    ]  # fmt: skip
    value = sum(wins) / len(wins)
    sick, healthy = (len({key[1:3] for key in means if key[3] == label}) for label in "10")
    folds = {key[0] for key in means}
    repeats = len({name.split(".")[0] for name in folds}) if len(folds) > 1 else 0
    z, mean = norm.ppf(0.5 + confidence / 2), (sick + healthy) / 2 - 1

    def beyond(truth: float) -> bool:
        kept = truth * (1 - truth) * (1 + mean * (1 - truth) / (2 - truth) + mean * truth / (1 + truth))
        wider = 1 + (TRAINING + FOLDING / repeats) * 4 * truth * (1 - truth) if repeats else 1
        return (value - truth) ** 2 > z * z * kept * wider / (sick * healthy)

    bounds = []
    for outside in (0.0, 1.0):
        inside = value
        for _ in range(70):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
        bounds.append(inside)
    widened = "pairs tested in one fold; Newcombe's method 5, widened for what folds and training sets add"
    found = {"value": value, "low": bounds[0], "high": bounds[1]}
    return found | {"method": widened if repeats else "Newcombe's method 5"} | said_of_few(sick, healthy)


def read(at: object, along: object, values: object) -> np.ndarray:
    """The middle of an upright part, else the line between two points."""
    return np.mean([np.interp(np.asarray(at) + side, along, values) for side in (-1e-6, 1e-6)], axis=0)


def bands(path: Path, confidence: float, *, by_exam: bool) -> dict[str, object]:
    """Both curves, folds averaged by their pairs, with bounds of either share along the curve."""
    from scipy.stats import norm

    means = means_in_folds(path, by_exam=by_exam)
    sick, healthy = (len({key[1:3] for key in means if key[3] == label}) for label in "10")
    rates, total, curve = np.linspace(0, 1, 201), 0, np.zeros(201)
    for fold in {key[0] for key in means}:
        ones, zeros = ([m for k, m in means.items() if k[0] == fold and k[3] == label] for label in "10")
        if ones and zeros:
            cuts = sorted({*ones, *zeros}, reverse=True)
            alarms, hits = ([0.0, *(np.mean([m >= c for m in own]) for c in cuts)] for own in (zeros, ones))
            curve += len(ones) * len(zeros) * read(np.clip(rates, 2e-6, 1 - 2e-6), alarms, hits)
            total += len(ones) * len(zeros)
    curve, rates = np.r_[0.0, curve / total, 1.0], np.r_[0.0, rates, 1.0]

    def bounds(share: float, many: int, other: float, others: int) -> list[float]:
        p, q = (share * many + 1) / (many + 2), (other * others + 1) / (others + 2)
        slope = norm.pdf(norm.ppf(p)) / norm.pdf(norm.ppf(q))
        own = 2.0 if len({key[0] for key in means}) > 1 else 1.0
        n = many / (own + slope**2 * (q * (1 - q) / others) / (p * (1 - p) / many))
        z, ends = norm.ppf(0.5 + confidence / 2), []
        for side, count in ((-1, np.floor(round(share * many, 6))), (1, np.ceil(round(share * many, 6)))):
            x = count / many
            ends.append((x + z * z / 2 / n + side * z * np.sqrt(x * (1 - x) / n + (z / 2 / n) ** 2)) / (1 + z * z / n))
        return ends

    roc, precision_recall, share = [], [], sick / (sick + healthy)
    for number in range(1, 20):
        at = number / 20
        hit, spared = float(read(at, rates, curve)), 1 - float(read(at, curve, rates))
        low, high = bounds(hit, sick, 1 - at, healthy)
        roc.append({"false_positive_rate": at, "sensitivity": hit, "low": low, "high": high})
        ends = (spared, *bounds(spared, healthy, at, sick))
        told = [at * share / (at * share + (1 - each) * (1 - share)) for each in ends]
        precision_recall.append({"recall": at, **dict(zip(("precision", "low", "high"), told, strict=True))})
    return {"roc": roc, "precision_recall": precision_recall}


def said_of_few(sick: int, healthy: int, fewest: int = 10) -> dict[str, object]:
    few = min(sick, healthy) < fewest or sick + healthy < 40
    return {"note": f"{sick} sick and {healthy} healthy: too few for an interval that can be trusted"} if few else {}


def widened_shares(tp: int, sick: int, tn: int, healthy: int, confidence: float) -> dict[str, dict[str, object]]:
    """Shares decided by thresholds of their own folds: twice the binomial variance, and the other class's once."""
    from scipy.stats import norm

    p, q = (tp + 1) / (sick + 2), (tn + 1) / (healthy + 2)
    slope = norm.pdf(norm.ppf(p)) / norm.pdf(norm.ppf(q))
    of_sick, of_healthy = p * (1 - p) / sick, q * (1 - q) / healthy
    variances = {
        "sensitivity": (tp, sick, (2 * of_sick + slope**2 * of_healthy) / of_sick),
        "specificity": (tn, healthy, (2 * of_healthy + of_sick / slope**2) / of_healthy),
    }
    n = sick + healthy
    whole = (sick / n) ** 2 * variances["sensitivity"][2] * of_sick
    whole += (healthy / n) ** 2 * variances["specificity"][2] * of_healthy
    accuracy = (tp + tn + 1) / (n + 2)
    variances["accuracy"] = (tp + tn, n, max(1.0, whole / (accuracy * (1 - accuracy) / n)))
    found: dict[str, dict[str, object]] = {}
    if called := tp + healthy - tn:
        variances["precision"] = (tp, called, max(factor for _, _, factor in variances.values()))
    for name, (count, of, factor) in variances.items():
        share = (count + 0.5) / (of + 1)
        half = norm.ppf(0.5 + confidence / 2) * np.sqrt(factor / (of * share * (1 - share)))
        middle = np.log(share / (1 - share))
        found[name] = {
            "value": count / of, "low": 0.0 if count == 0 else 1 / (1 + np.exp(half - middle)),
            "high": 1.0 if count == of else 1 / (1 + np.exp(-half - middle)),
            "method": "logit interval, widened for thresholds chosen in every fold",
        } | said_of_few(sick, healthy, 40)  # fmt: skip
    return found


def reflected(value: float, drawn: list[float], scores: np.ndarray, replicates: int, seed: int, tail: float) -> dict:
    """The calibration error's own interval, from resampled errors and from those of a calibrated model."""
    low, high = percentile(drawn, tail), percentile(drawn, 1 - tail)
    chances = np.random.default_rng([seed, 0xCA1B]).random((replicates, len(scores)))
    sound = [ece_by_hand((row < scores).astype(float), scores) for row in chances]
    return {
        "value": value,
        "low": 0.0 if value <= percentile(sound, 1 - tail) else max(0.0, min(value, value - (high - value))),
        "high": min(1.0, max(value, value + (value - low))),
        "method": "patient bootstrap, reflected; down to 0 where sampling alone gives as much "
        f"({replicates} replicates)",
    }


def recomputed(folder: Path, *, confidence: float, replicates: int, seed: int) -> dict[str, object]:
    """Every value of ``metrics.json``, in its own shape."""
    manifest = json.loads((folder / "manifest.json").read_text())
    by_exam = manifest["protocol"] == "thesis"  # the original study counted files
    units = units_from_file(folder / "predictions.csv", by_exam=by_exam)
    labels, scores, decisions = columns_of(units)
    pairs = list(zip(labels.tolist(), decisions.tolist(), strict=True))
    tn, fp, fn, tp = (pairs.count(pair) for pair in ((0, 0), (0, 1), (1, 0), (1, 1)))
    counted = {
        "precision": (tp, tp + fp), "sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp),
        "accuracy": (tp + tn, len(units)),
    }  # fmt: skip
    document: dict[str, object] = {name: proportion_of(*each, confidence) for name, each in counted.items()}
    with open(folder / "predictions.csv", newline="") as handle:
        cross_validated_run = len({row["fold"] for row in csv.DictReader(handle)}) > 1
    if cross_validated_run:
        document |= widened_shares(tp, tp + fn, tn, tn + fp, confidence)
    copies = resampled(units, replicates, seed)
    for name, function in bootstrapped_functions().items():
        drawn = [function(labels[rows], scores[rows], decisions[rows]) for rows in copies]
        kept = [value for value in drawn if np.isfinite(value)]
        tail = (1 - confidence) / 2
        document["auc_bootstrap" if name == "auc" else name] = {
            "value": function(labels, scores, decisions),
            "low": percentile(kept, tail), "high": percentile(kept, 1 - tail),
            "method": f"patient bootstrap, percentiles ({replicates} replicates)",
        }  # fmt: skip
        if name == "ece":
            value = function(labels, scores, decisions)
            document["ece"] = reflected(value, kept, scores, replicates, seed, tail)
    alone = sum(unit[1] > 0 for unit in units)
    thresholds = sorted(manifest["thresholds"].values())
    middle = (thresholds[(len(thresholds) - 1) // 2] + thresholds[len(thresholds) // 2]) / 2
    return (
        document
        | bands(folder / "predictions.csv", confidence, by_exam=by_exam)
        | {
            "auc": in_folds(folder / "predictions.csv", confidence, by_exam=by_exam),
            "auc_pooled": {
                "value": bootstrapped_functions()["auc"](labels, scores, decisions),
                "low": None,
                "high": None,
                "method": "all pairs, by mean scores over folds",
            },
            "n": len(units),
            "positives": sum(unit[2] for unit in units),
            "patients": len({unit[0] for unit in units}),
            "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
            "units_by_visit": alone,
            "unit": "exam" if alone == len(units) else "patient",
            "threshold": middle,
            "threshold_source": f"0.5, fixed; median of {len(thresholds)} folds "
            f"({thresholds[0]:.3g} to {thresholds[-1]:.3g})",
            "decision_rule": WORDS_OF_THE_RULE,
            "protocol": manifest["protocol"],
            "leaks": manifest["leaks"],
            "confidence": confidence,
        }
    )


WORDS_OF_THE_RULE = (
    "a unit's score is the mean over its rows of predictions.csv; it is called sick when at least half of its rows "
    "have predicted = 1, each row having been decided by the threshold of its own fold"
)


def leaves(value: object, place: str = "") -> dict[str, object]:
    """Every number, text and empty container of a JSON document, by its path."""
    inside: list[tuple[object, object]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    if not inside:
        return {place: value}
    return {path: leaf for key, each in inside for path, leaf in leaves(each, f"{place}/{key}").items()}


def unexplained(document: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Places where the two differ, or that only one of them has."""
    found, wanted = leaves(document), leaves(expected)
    wrong = sorted(set(found) ^ set(wanted))
    for place in sorted(set(found) & set(wanted)):
        one, other = found[place], wanted[place]
        number = isinstance(one, (int, float)) and isinstance(other, (int, float)) and not isinstance(one, bool)
        if not (one == pytest.approx(other, abs=1e-9) if number else one == other):
            wrong.append(f"{place}: {one!r} instead of {other!r}")
    return wrong


RUNS: dict[str, dict[str, object]] = {
    "repeated": {"rows": toy_rows(), "leaks": []},
    "one-fold": {"rows": [row for row in toy_rows(40, repeats=1, seed=3) if row.patient != 14],
                 "protocol": "thesis", "leaks": ["split by file", "threshold fixed"]},
    "never-sick": {"rows": [replace(row, predicted=0) for row in toy_rows(30, seed=5)], "leaks": []},
    "by-visit": {"rows": [replace(row, label=(row.patient + row.visit) % 2, visit=row.visit)
                          for base in toy_rows(24, repeats=1, seed=7) if base.visit == 1
                          for row in (base, replace(base, visit=2, score=1 - base.score))], "leaks": []},
}  # fmt: skip
CONFIDENCE, REPLICATES, SEED = 0.9, 120, 4


@pytest.fixture(scope="module")
def judged_runs(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("judged_runs"))
    for name, facts in RUNS.items():
        write_run(workspace, name, thresholds={"1.1": 0.42, "1.2": 0.44, "1.3": 0.48, "1.4": 0.5}, **facts)
    options = {"evaluate.audit": False, "evaluate.explain": False, "evaluate.bootstrap": REPLICATES}
    options |= {"evaluate.confidence": CONFIDENCE, "seed": SEED}
    report = evaluate.run(load_config(workspace=workspace.root, options=options, environment={}), workspace, Silent())
    assert report.made == len(RUNS)
    return workspace


def test_the_curve_of_a_cross_validated_run_has_the_area_of_its_auc() -> None:
    """Pooled over folds it would be lower: each fold's scores are shifted as its own calibration shifts them."""
    units = gather_units([replace(row, score=row.score / 2 + 0.1 * int(row.fold[2])) for row in toy_rows()])
    alarms, hits = folded_roc(units)
    area = float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1]) / 2))
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    assert area == pytest.approx(folded_auc(units).value, abs=2e-3)
    pooled = roc_points(units.labels, units.by_repeat[0])
    assert np.sum(np.diff(pooled[0]) * (pooled[1][1:] + pooled[1][:-1]) / 2) < area - 0.03


@pytest.mark.parametrize("sick", [20, 120])
def test_the_bands_of_one_models_curves_hold_the_truth_at_each_point(sick: int) -> None:
    """Normal scores, AUC .84: sensitivity at a false positive rate is a normal tail, and so the rest."""
    from scipy.stats import norm

    random, healthy, at = np.random.default_rng(sick), 80, np.arange(1, 20) / 20
    sensitivity, alarms = norm.sf(norm.isf(at) - 1.4), norm.sf(norm.isf(at) + 1.4)
    share = sick / (sick + healthy)
    truths = {"roc": sensitivity, "precision": at * share / (at * share + alarms * (1 - share))}
    held = {name: np.zeros(19) for name in truths}
    for _ in range(150):
        labels = np.r_[np.ones(sick, int), np.zeros(healthy, int)]
        units = units_of(labels, random.normal(1.4 * labels))
        for (name, truth), rows in zip(truths.items(), (roc_band(units), precision_recall_band(units)), strict=True):
            held[name] += [row["low"] <= value <= row["high"] for row, value in zip(rows, truth, strict=True)]
    for counts in held.values():
        assert 0.93 <= counts.mean() / 150 <= 0.99
        assert (counts / 150).min() >= 0.85  # counts of 20 are coarse


@pytest.mark.parametrize("name", list(RUNS))
def test_every_value_of_metrics_json_is_recomputed(judged_runs: Workspace, name: str) -> None:
    """Walks the whole document: a value that this file does not recompute fails, whatever its name."""
    document = json.loads((judged_runs.run(name) / "metrics.json").read_text())
    del document["folds"]  # test_report.py recomputes them
    expected = recomputed(judged_runs.run(name), confidence=CONFIDENCE, replicates=REPLICATES, seed=SEED)
    assert unexplained(document, expected) == []
    assert len(leaves(document)) >= 40 + 13
    if name == "by-visit":
        assert document["unit"] == "exam"


def test_a_value_that_nobody_recomputes_is_noticed(judged_runs: Workspace) -> None:
    folder = judged_runs.run("repeated")
    document = json.loads((folder / "metrics.json").read_text())
    del document["folds"]
    expected = recomputed(folder, confidence=CONFIDENCE, replicates=REPLICATES, seed=SEED)
    assert unexplained(document | {"kappa": 0.6}, expected) == ["/kappa"]
    nested = document | {"confusion": document["confusion"] | {"unknown": 0}}
    assert unexplained(nested, expected) == ["/confusion/unknown"]
    gone = {key: value for key, value in document.items() if key != "brier"}
    assert unexplained(gone, expected) == ["/brier/high", "/brier/low", "/brier/method", "/brier/value"]
    moved = document | {"auc": document["auc"] | {"high": document["auc"]["high"] - 1e-6}}
    assert len(unexplained(moved, expected)) == 1


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("judged"))
    folder = write_run(workspace, "toy", toy_rows(), thresholds={"1.1": 0.42, "1.2": 0.44, "1.3": 0.48})
    config = load_config(workspace=workspace.root, options={"evaluate.audit": False, "evaluate.run": "toy"})
    evaluate.run(config, workspace, Silent())
    return folder


def test_bootstrap_intervals_agree_with_resampled_copies(judged: Path) -> None:
    from sklearn.metrics import roc_auc_score

    labels, scores, _ = columns_of(units_from_file(judged / "predictions.csv"))
    random = np.random.default_rng(5)
    draws = [
        roc_auc_score(labels[rows], scores[rows])
        for rows in (random.integers(0, len(labels), len(labels)) for _ in range(1500))
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    document = json.loads((judged / "metrics.json").read_text())
    assert document["auc_bootstrap"]["low"] == pytest.approx(low, abs=0.02)
    assert document["auc_bootstrap"]["high"] == pytest.approx(high, abs=0.02)
    assert "2000 replicates" in document["auc_bootstrap"]["method"]


def test_weighted_metrics_equal_those_of_copied_units() -> None:
    from sklearn import metrics as sk

    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 40)
    scores = np.round(random.random(40), 1)  # many ties
    decisions = (scores >= 0.5).astype(np.int64)
    weights = random.integers(0, 3, (1, 40)).astype(float)
    copies = np.repeat(np.arange(40), weights[0].astype(int))
    assert auc_of(weights, labels, scores)[0] == pytest.approx(sk.roc_auc_score(labels[copies], scores[copies]))
    assert average_precision_of(weights, labels, scores)[0] == pytest.approx(
        sk.average_precision_score(labels[copies], scores[copies])
    )
    assert f1_of(weights, labels, decisions)[0] == pytest.approx(sk.f1_score(labels[copies], decisions[copies]))
    assert brier_of(weights, labels, scores)[0] == pytest.approx(np.mean((scores - labels)[copies] ** 2))
    assert ece_of(np.ones((1, 2)), np.array([0, 1]), np.array([0.95, 1.0]))[0] == pytest.approx(0.475)


def test_patient_counts_keep_visits_together() -> None:
    counts = patient_counts(np.array([7, 7, 9, 3]), 500, seed=1)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 1:].sum(axis=1) == 3).all()  # three patients, three draws
    assert not np.array_equal(counts, patient_counts(np.array([7, 7, 9, 3]), 500, seed=2))


def test_paired_delong_against_the_definition() -> None:
    random = np.random.default_rng(3)
    labels = np.r_[np.ones(18), np.zeros(25)].astype(int)
    scores = [labels * 0.8 + random.normal(size=43), labels * 0.5 + random.normal(size=43)]
    wins = [
        (s[labels == 1][:, None] > s[labels == 0]) + 0.5 * (s[labels == 1][:, None] == s[labels == 0]) for s in scores
    ]
    apart = wins[0] - wins[1]
    expected = np.var(apart.mean(1), ddof=1) / 18 + np.var(apart.mean(0), ddof=1) / 25
    found = auc_difference(Paired(*(units_of(labels, s) for s in scores)), confidence=0.95, bootstrap=20, seed=0)
    assert found["value"] == pytest.approx(apart.mean())
    assert found["high"] - found["low"] == pytest.approx(2 * 1.959963984540054 * np.sqrt(expected))


@pytest.mark.parametrize(
    ("k", "n", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)]
)
def test_wilson_gives_the_published_worked_examples(k: int, n: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    estimate = wilson(k, n)
    assert estimate.low == pytest.approx(low, abs=1e-4)
    assert estimate.high == pytest.approx(high, abs=1e-4)


def test_degenerate_samples() -> None:
    labels = np.array([0] * 30 + [1] * 20)
    perfect = auc_interval(units_of(labels, labels * 1.0))
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert 0.85 < perfect.low < 0.97
    constant = auc_interval(units_of(labels, np.full(50, 0.3)))
    assert constant.value == 0.5
    assert constant.low < 0.4 < 0.6 < constant.high
    assert wilson(0, 0).value is None
    only_sick = gather_units([Prediction(p, 1, "1.1", 1, 0.7, 1) for p in range(5)])
    with pytest.raises(DataError, match="only one class"):
        measure(only_sick, confidence=0.95, bootstrap=10, seed=0)
    nothing_called = gather_units([Prediction(p, 1, "1.1", p % 2, 0.1 + 0.01 * p, 0) for p in range(12)])
    estimates = measure(nothing_called, confidence=0.95, bootstrap=50, seed=0)
    assert estimates["precision"].value is None
    assert estimates["f1"].value == 0.0


@pytest.mark.parametrize(("sick", "healthy", "warned"), [(8, 32, True), (16, 64, False), (64, 16, False)])
def test_an_auc_warns_where_simulated_coverage_was_not_kept(sick: int, healthy: int, warned: bool) -> None:
    """8 sick of 40 had a row of .86 in docs/evidence.md and no word on its interval."""
    labels = np.r_[np.ones(sick), np.zeros(healthy)].astype(np.int64)
    estimate = auc_interval(units_of(labels, np.random.default_rng(1).normal(labels, 1)))
    assert ("too few" in estimate.note) is warned


def test_shares_at_reference_thresholds_have_bounds_as_the_table_has() -> None:
    labels = np.repeat([1, 0], 30)
    units = units_of(labels, np.clip(np.random.default_rng(2).normal(0.4 + 0.2 * labels, 0.15), 0, 1))
    for row in reference_points(units):
        right = int((units.scores[:30] >= row["threshold"]).sum())
        expected = wilson(right, 30)
        assert row["sensitivity"] == pytest.approx(right / 30)
        assert (row["sensitivity_low"], row["sensitivity_high"]) == pytest.approx((expected.low, expected.high))
    narrow, wide = (reference_points(each)[0] for each in (units, replace(units, folds=(np.arange(60) % 5)[None])))
    assert wide["specificity_low"] < narrow["specificity_low"], "of a recipe, thresholds and training sets vary too"


def test_one_sick_patient_leaves_the_auc_wide_open() -> None:
    """DeLong's variance of a class of one is nothing: it called .98 (.92 to 1.00) of a single patient sure."""
    labels = np.array([1] + [0] * 100)
    scores = np.r_[0.9, np.linspace(0, 0.91, 100)]
    estimate = auc_interval(units_of(labels, scores))
    assert estimate.value == pytest.approx(0.98, abs=0.015)
    assert estimate.low is not None
    assert estimate.low < 0.5
    assert estimate.note == "1 sick and 100 healthy: too few for an interval that can be trusted"
    upside_down = auc_interval(units_of(1 - labels, scores))
    assert upside_down.high is not None
    assert upside_down.high > 0.5
    assert not auc_interval(units_of(np.tile([0, 1], 20), np.linspace(0, 1, 40))).note


@pytest.mark.parametrize(("sick", "healthy", "truth"), [(8, 192, 0.97), (8, 32, 0.5), (20, 20, 0.8), (40, 120, 0.9)])
def test_the_interval_of_one_model_covers_with_few_of_a_class(sick: int, healthy: int, truth: float) -> None:
    """DeLong's on the logit scale held .97 in .84 of studies with 8 of 200 sick."""
    random, labels = np.random.default_rng(sick), np.r_[np.ones(sick), np.zeros(healthy)].astype(np.int64)
    apart = NormalDist().inv_cdf(truth) * 2**0.5
    found = [auc_interval(units_of(labels, random.normal(labels * apart, 1))) for _ in range(800)]
    assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.93
    assert truth > 0.5 or np.mean([each.low > 0.5 for each in found]) <= 0.045


def cross_validated(random: np.random.Generator, sick: int, healthy: int, apart: float, repeats: int) -> Units:
    """A ridge regression on four normal numbers, one of which tells, in 5 folds; cut at the share of sick."""
    labels = np.r_[np.ones(sick), np.zeros(healthy)].astype(np.int64)
    table = random.normal(size=(len(labels), 4))
    table[:, 0] += labels * apart
    table = np.c_[table, np.ones(len(labels))]
    rows = []
    for repeat in range(repeats):
        order = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in (1, 0)])
        fold = np.empty(len(labels), np.int64)
        fold[order] = np.arange(len(labels)) % 5
        for number in range(5):
            train, test = table[fold != number], np.flatnonzero(fold == number)
            weights = np.linalg.solve(train.T @ train + np.eye(5), train.T @ labels[fold != number])
            for row in test.tolist():
                score = float(table[row] @ weights)
                called = int(score >= labels[fold != number].mean())
                rows.append(Prediction(row, 1, f"{repeat + 1}.{number + 1}", int(labels[row]), score, called))
    return gather_units(rows)


@pytest.mark.parametrize(("sick", "healthy", "repeats"), [(10, 30, 1), (20, 20, 5)])
def test_on_nothing_the_auc_of_folds_is_half_and_seldom_better(sick: int, healthy: int, repeats: int) -> None:
    random = np.random.default_rng(repeats)
    studies = [cross_validated(random, sick, healthy, 0.0, repeats) for _ in range(120)]
    found = [auc_interval(each) for each in studies]
    values = np.array([each.value for each in found])
    assert abs(values.mean() - 0.5) < 3 * values.std() / np.sqrt(len(values))
    assert np.mean([each.low > 0.5 for each in found]) <= 0.05
    assert np.mean([each.low <= 0.5 <= each.high for each in found]) >= 0.93
    pooled = [delong_components(each.labels, each.scores)[0] for each in studies]
    assert repeats > 1 or np.mean(pooled) < values.mean() - 0.01  # what the count inside folds mends


def test_the_same_recipe_with_other_folds_is_seldom_another(tmp_path: Path) -> None:
    different = 0
    for seed in range(60):
        runs = []
        for half in range(2):
            data, folds = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2, half])
            units = cross_validated(_Mixed(data, folds), 15, 45, 1.2, 5)
            runs.append(units)
        difference = auc_difference(pair_units(*runs), confidence=0.95, bootstrap=20, seed=0)
        different += difference["low"] > 0 or difference["high"] < 0
    assert different <= 3


class _Mixed:
    """Numbers from one generator, permutations from another: the same patients in other folds."""

    def __init__(self, data: np.random.Generator, folds: np.random.Generator) -> None:
        self.normal, self.permutation = data.normal, folds.permutation


@pytest.mark.parametrize(("power", "truth"), [(1.0, 0.0), (1.4, 0.083), (3.0, 0.25)])
def test_the_interval_of_the_calibration_error_holds_the_truth(power: float, truth: float) -> None:
    """Percentiles of the bootstrap held it in 0, 57 and 96 of 100 samples, and left out their own value in 11."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng([seed, 6])
        scores = random.random(120)
        labels = (random.random(120) < scores**power).astype(np.int64)
        units = units_of(labels, scores)
        estimate = calibration_error(units, patient_counts(units.patients, 200, seed), 0.95, seed)
        assert estimate.low <= estimate.value <= estimate.high
        held += estimate.low <= truth + 1e-3 <= estimate.high + 1e-3
    assert held >= 0.8 * 60


def test_mcnemar_and_binomial_against_scipy() -> None:
    from scipy.stats import binomtest

    first, second = gather_units(toy_rows()), gather_units(toy_rows(strength=0.2, seed=0))
    result = mcnemar(pair_units(first, second))
    discordant = result["only_first_right"] + result["only_second_right"]
    assert result["p"] == pytest.approx(binomtest(result["only_first_right"], discordant, 0.5).pvalue)
    assert exact_binomial(0, 0) == 1.0
    assert exact_binomial(59, 101 + 59) == pytest.approx(binomtest(59, 160).pvalue)


def test_difference_of_equal_scores_is_nothing() -> None:
    units = gather_units(toy_rows())
    difference = auc_difference(pair_units(units, units), confidence=0.95, bootstrap=100, seed=0)
    assert (difference["value"], difference["low"], difference["high"], difference["p"]) == (0.0, 0.0, 0.0, 1.0)


def test_calibration_against_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(2)
    chance = random.uniform(0.05, 0.95, 400)
    labels = (random.random(400) < 1 / (1 + np.exp(-(0.3 + 0.6 * np.log(chance / (1 - chance)))))).astype(int)
    line = calibration_line(labels, chance)
    odds = np.log(chance / (1 - chance))[:, None]
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds, labels)
    assert line["slope"] == pytest.approx(model.coef_[0, 0], abs=1e-4)
    assert line["intercept"] == pytest.approx(model.intercept_[0], abs=1e-4)
    assert calibration_line(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]))["slope"] is None
    rows = reliability(labels, chance)
    assert sum(row["n"] for row in rows) == 400
    assert all(row["share_low"] < row["share_sick"] < row["share_high"] for row in rows)


def test_every_bound_of_the_curves_is_as_sure_as_was_asked() -> None:
    """Two bounds a figure: at 80 % they lie closer to it than at 99 %."""
    units = gather_units(toy_rows())
    shares = {name: Estimate(0.8, 0.7, 0.9, "") for name in ("sensitivity", "specificity")}
    sure, unsure = (curve_facts(units, shares, [0.1], confidence) for confidence in (0.99, 0.8))
    ends = {
        "reliability": ("share_low", "share_high"), "decision_curve": ("model_low", "model_high"),
        "reference_points": ("sensitivity_low", "sensitivity_high"),
    }  # fmt: skip
    pairs = [(each, near, *ends[name]) for name in ends for each, near in zip(sure[name], unsure[name], strict=True)]
    pairs.append((sure["calibration"], unsure["calibration"], "slope_low", "slope_high"))
    assert all(wide[high] - wide[low] > near[high] - near[low] for wide, near, low, high in pairs)


def test_the_bounds_of_calibration_and_net_benefit_hold_the_truth() -> None:
    """150 studies of 200 whose log-odds are .3 + .6 times those that the scores say."""
    random, held = np.random.default_rng(11), {"slope": 0, "intercept": 0, "benefit": 0}
    for _ in range(150):
        chance = random.uniform(0.02, 0.98, 200)
        truth = 1 / (1 + np.exp(-(0.3 + 0.6 * np.log(chance / (1 - chance)))))
        labels = (random.random(200) < truth).astype(int)
        line = calibration_line(labels, chance)
        held["slope"] += line["slope_low"] <= 0.6 <= line["slope_high"]
        held["intercept"] += line["intercept_low"] <= 0.3 <= line["intercept_high"]
        at = decision_curve(labels, chance)[19]
        scores = np.linspace(0.02, 0.98, 20001)
        real = 1 / (1 + np.exp(-(0.3 + 0.6 * np.log(scores / (1 - scores)))))
        benefit = np.mean((scores >= 0.2) * (real - (1 - real) * 0.25))
        held["benefit"] += at["model_low"] <= benefit <= at["model_high"]
    assert all(0.9 <= count / 150 <= 0.99 for count in held.values()), held


def test_decision_curve_and_predictive_values() -> None:
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.15, 0.12, 0.0])
    row = next(row for row in decision_curve(labels, scores) if row["threshold"] == 0.1)
    assert row["model"] == pytest.approx((2 - 1 * 0.1 / 0.9) / 4)
    assert row["everyone"] == pytest.approx((2 - 2 * 0.1 / 0.9) / 4)
    # sensitivity .9, specificity .8 at 1 %: 9 of 1000 found among 9 + 198 called
    told = [Estimate(value, value - 0.1, value + 0.05, "") for value in (0.9, 0.8)]
    values = predictive_values(*told, [0.01])[0]
    assert values["ppv"] == pytest.approx(9 / 207)
    assert values["npv"] == pytest.approx(792 / 793)
    assert (values["ppv_low"], values["ppv_high"]) == pytest.approx((8 / 305, 9.5 / 158))
    assert (values["npv_low"], values["npv_high"]) == pytest.approx((693 / 695, 841.5 / 842))
    assert predictive_values(Estimate(None, 0.0, 1.0, ""), told[1], [0.01])[0]["ppv"] is None


def test_curves_agree_with_scikit_learn() -> None:
    from sklearn import metrics as sk

    units = gather_units(toy_rows())
    alarms, hits = roc_points(units.labels, units.scores)
    expected = sk.roc_curve(units.labels, units.scores, drop_intermediate=False)
    np.testing.assert_allclose(alarms, expected[0])
    np.testing.assert_allclose(hits, expected[1])
    recall, precision = precision_recall_points((alarms, hits), float(units.labels.mean()))
    their_precision, their_recall, _ = sk.precision_recall_curve(units.labels, units.scores)
    np.testing.assert_allclose(precision, their_precision[:-1][::-1])
    np.testing.assert_allclose(recall, their_recall[:-1][::-1])
    rows = accuracy_by_threshold(units)
    assert rows[30]["accuracy"] == np.mean((units.scores >= 0.3) == units.labels)


@pytest.mark.parametrize(("sick", "healthy"), [(8, 32), (20, 20), (10, 190), (120, 60)])
def test_the_smallest_detectable_auc_is_shown_four_times_in_five(sick: int, healthy: int) -> None:
    """Rank-sum tests of SciPy on normal scores of that AUC; a useless one is shown in 1 of 40."""
    from scipy.stats import mannwhitneyu, norm

    random = np.random.default_rng([sick, healthy])
    shown = {}
    for auc in (smallest_detectable_auc(sick, healthy), 0.5):
        warm = random.normal(np.sqrt(2) * norm.ppf(auc), 1, (2000, sick))
        tests = mannwhitneyu(
            warm, random.normal(size=(2000, healthy)), axis=1, alternative="greater", method="asymptotic",
            use_continuity=False,
        )  # fmt: skip
        shown[auc] = float(np.mean(tests.pvalue <= 0.025))
    assert shown[0.5] == pytest.approx(0.025, abs=0.012)
    assert shown[smallest_detectable_auc(sick, healthy)] == pytest.approx(0.8, abs=0.035)


def test_what_can_be_detected_follows_power_level_and_size() -> None:
    plain = smallest_detectable_auc(20, 32)
    assert smallest_detectable_auc(20, 32, power=0.5) < plain < smallest_detectable_auc(20, 32, alpha=0.005)
    assert smallest_detectable_auc(80, 128) < plain < smallest_detectable_auc(5, 47)
    assert smallest_detectable_auc(2, 2) == 1.0
    with pytest.raises(ValueError, match="both classes"):
        smallest_detectable_auc(0, 20)


# pairs that count


def test_the_interval_of_all_pairs_is_newcombes() -> None:
    """Method 5 solved by bisection from the formula as printed (Newcombe 2006), 12 sick and 30 healthy."""
    random = np.random.default_rng(4)
    sick, healthy = random.normal(1, 1, 12), random.normal(0, 1, 30)
    won = (sick[:, None] > healthy).astype(float)
    found = pairs_interval(won, np.ones_like(won))
    value, mean = won.mean(), (12 + 30) / 2 - 1

    def beyond(auc: float) -> bool:
        kept = auc * (1 - auc) * (1 + mean * (1 - auc) / (2 - auc) + mean * auc / (1 + auc))
        return (value - auc) ** 2 > 1.959964**2 * kept / (12 * 30)

    for bound, outside in ((found.low, 0.0), (found.high, 1.0)):
        assert bound is not None
        inside = value
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle) else (middle, outside)
        assert bound == pytest.approx(inside, abs=1e-5)


@pytest.mark.parametrize(("pairs", "truth"), [(6, 0.5), (6, 0.9), (40, 0.5), (40, 0.8), (300, 0.65), (300, 0.9)])
def test_the_interval_of_a_few_matched_pairs_covers(pairs: int, truth: float) -> None:
    random, covered, above = np.random.default_rng(pairs), 0, 0
    apart = NormalDist().inv_cdf(truth) * 2**0.5
    for _ in range(300):
        near = random.random((14, 1)) - random.random(40)  # neighbours in time, as exams are matched
        met = (np.abs(near) <= np.sort(np.abs(near), axis=None)[pairs - 1]).astype(float)
        won = met * (random.normal(apart, 1, (14, 1)) > random.normal(0, 1, 40))
        interval = pairs_interval(won, met)
        covered += interval.low <= truth <= interval.high
        above += interval.low > 0.5
    assert covered / 300 >= 0.92
    assert truth > 0.5 or above / 300 <= 0.05


def test_pairs_that_are_all_ranked_right_have_a_width_and_none_have_no_value() -> None:
    one = pairs_interval(np.ones((3, 3)), np.ones((3, 3)))
    assert one.value == one.high == 1.0
    assert 0.3 < one.low < 0.7
    zero = pairs_interval(np.zeros((3, 3)), np.ones((3, 3)))
    assert (zero.low, zero.high) == pytest.approx((0.0, 1 - one.low))
    assert pairs_interval(np.zeros((2, 2)), np.zeros((2, 2))).value is None
