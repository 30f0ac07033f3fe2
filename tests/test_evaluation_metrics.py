"""Every figure of ``metrics.json``, recomputed from ``predictions.csv`` by independent code."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import toy_rows, write_run

from thermocancer.config import load_config
from thermocancer.data.predictions import Prediction
from thermocancer.errors import DataError
from thermocancer.evaluation.calibration import (
    calibration_line,
    decision_curve,
    predictive_values,
    reliability,
)
from thermocancer.evaluation.comparison import auc_difference, exact_binomial, mcnemar, pair_units
from thermocancer.evaluation.curves import accuracy_by_threshold, precision_recall_points, roc_points
from thermocancer.evaluation.intervals import auc_interval, delong_covariance, wilson
from thermocancer.evaluation.metrics import measure
from thermocancer.evaluation.resampling import (
    auc_of,
    average_precision_of,
    brier_of,
    ece_of,
    f1_of,
    patient_counts,
)
from thermocancer.evaluation.units import gather_units
from thermocancer.progress import Silent
from thermocancer.stages import evaluate
from thermocancer.workspace import Workspace


def units_from_file(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and decisions a unit, by the words of the contract and nothing of ours."""
    with open(path, newline="") as handle:
        rows = [
            (int(r["patient"]), int(r["visit"]), int(r["label"]), float(r["score"]), int(r["predicted"]))
            for r in csv.DictReader(handle)
        ]
    mixed = {patient for patient, *_ in rows if len({r[2] for r in rows if r[0] == patient}) > 1}
    groups: dict[tuple[int, int], list[tuple[int, float, int]]] = {}
    for patient, visit, label, score, predicted in rows:
        groups.setdefault((patient, visit if patient in mixed else 0), []).append((label, score, predicted))
    labels = np.array([members[0][0] for members in groups.values()])
    scores = np.array([np.mean([m[1] for m in members]) for members in groups.values()])
    decisions = np.array([int(np.mean([m[2] for m in members]) >= 0.5) for members in groups.values()])
    return labels, scores, decisions


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("judged"))
    folder = write_run(workspace, "toy", toy_rows(), thresholds={"1.1": 0.42, "1.2": 0.44, "1.3": 0.48})
    config = load_config(workspace=workspace.root, options={"evaluate.audit": False, "evaluate.run": "toy"})
    evaluate.run(config, workspace, Silent())
    return folder


def test_every_figure_follows_from_the_predictions(judged: Path) -> None:
    from scipy.stats import binomtest
    from sklearn import metrics as sk

    labels, scores, decisions = units_from_file(judged / "predictions.csv")
    document = json.loads((judged / "metrics.json").read_text())
    tn, fp, fn, tp = sk.confusion_matrix(labels, decisions).ravel()
    assert document["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    assert (document["n"], document["positives"]) == (len(labels), labels.sum())
    bins = np.clip((scores * 10).astype(int), 0, 9)
    ece = sum(abs(scores[bins == b].sum() - labels[bins == b].sum()) for b in range(10)) / len(labels)
    expected = {
        "precision": sk.precision_score(labels, decisions),
        "sensitivity": sk.recall_score(labels, decisions),
        "specificity": sk.recall_score(labels, decisions, pos_label=0),
        "accuracy": sk.accuracy_score(labels, decisions),
        "f1": sk.f1_score(labels, decisions),
        "auc": sk.roc_auc_score(labels, scores),
        "average_precision": sk.average_precision_score(labels, scores),
        "brier": sk.brier_score_loss(labels, scores),
        "ece": ece,
    }
    for name, value in expected.items():
        assert document[name]["value"] == pytest.approx(value, abs=1e-12), name
        assert document[name]["low"] <= value <= document[name]["high"], name
    counts = {
        "precision": (tp, tp + fp),
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "accuracy": (tp + tn, len(labels)),
    }
    for name, (k, n) in counts.items():
        interval = binomtest(int(k), int(n)).proportion_ci(0.95, method="wilson")
        assert document[name]["low"] == pytest.approx(interval.low, abs=1e-12)
        assert document[name]["high"] == pytest.approx(interval.high, abs=1e-12)
    assert document["threshold"] == 0.44
    assert "median of 3 folds" in document["threshold_source"]
    assert document["protocol"] == "grouped-cv"
    assert document["unit"] == "patient"
    assert document["leaks"] == []


def test_auc_interval_against_delong_written_out_pair_by_pair(judged: Path) -> None:
    labels, scores, _ = units_from_file(judged / "predictions.csv")
    sick, healthy = scores[labels == 1], scores[labels == 0]
    wins = (sick[:, None] > healthy) + 0.5 * (sick[:, None] == healthy)
    auc = wins.mean()
    variance = wins.mean(axis=1).var(ddof=1) / len(sick) + wins.mean(axis=0).var(ddof=1) / len(healthy)
    logit, half = np.log(auc / (1 - auc)), 1.959963984540054 * np.sqrt(variance) / (auc * (1 - auc))
    document = json.loads((judged / "metrics.json").read_text())
    assert document["auc"]["low"] == pytest.approx(1 / (1 + np.exp(-(logit - half))), abs=1e-12)
    assert document["auc"]["high"] == pytest.approx(1 / (1 + np.exp(-(logit + half))), abs=1e-12)


def test_bootstrap_intervals_agree_with_resampled_copies(judged: Path) -> None:
    from sklearn.metrics import roc_auc_score

    labels, scores, _ = units_from_file(judged / "predictions.csv")
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
    scores = np.stack([labels * 0.8 + random.normal(size=43), labels * 0.5 + random.normal(size=43)])
    aucs, covariance = delong_covariance(labels, scores)
    for i in range(2):
        for j in range(2):
            wins = [
                (s[labels == 1][:, None] > s[labels == 0]) + 0.5 * (s[labels == 1][:, None] == s[labels == 0])
                for s in (scores[i], scores[j])
            ]
            assert aucs[i] == pytest.approx(wins[0].mean())
            expected = np.cov(wins[0].mean(1), wins[1].mean(1))[0, 1] / 18
            expected += np.cov(wins[0].mean(0), wins[1].mean(0))[0, 1] / 25
            assert covariance[i, j] == pytest.approx(expected)


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
    perfect = auc_interval(labels, labels * 1.0)
    assert (perfect.value, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(wilson(20, 20).low)
    constant = auc_interval(labels, np.full(50, 0.3))
    assert (constant.value, constant.low, constant.high) == (0.5, 0.5, 0.5)
    assert wilson(0, 0).value is None
    only_sick = gather_units([Prediction(p, 1, "1.1", 1, 0.7, 1) for p in range(5)])
    with pytest.raises(DataError, match="only one class"):
        measure(only_sick, confidence=0.95, bootstrap=10, seed=0)
    nothing_called = gather_units([Prediction(p, 1, "1.1", p % 2, 0.1 + 0.01 * p, 0) for p in range(12)])
    estimates = measure(nothing_called, confidence=0.95, bootstrap=50, seed=0)
    assert estimates["precision"].value is None
    assert estimates["f1"].value == 0.0


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
    assert sum(row["n"] for row in reliability(labels, chance)) == 400


def test_decision_curve_and_predictive_values() -> None:
    labels, scores = np.array([1, 1, 0, 0]), np.array([0.9, 0.15, 0.12, 0.0])
    row = next(row for row in decision_curve(labels, scores) if row["threshold"] == 0.1)
    assert row["model"] == pytest.approx((2 - 1 * 0.1 / 0.9) / 4)
    assert row["everyone"] == pytest.approx((2 - 2 * 0.1 / 0.9) / 4)
    # sensitivity .9, specificity .8 at 1 %: 9 of 1000 found among 9 + 198 called
    values = predictive_values(0.9, 0.8, [0.01])[0]
    assert values["ppv"] == pytest.approx(9 / 207)
    assert values["npv"] == pytest.approx(792 / 793)


def test_curves_agree_with_scikit_learn() -> None:
    from sklearn import metrics as sk

    units = gather_units(toy_rows())
    alarms, hits = roc_points(units.labels, units.scores)
    expected = sk.roc_curve(units.labels, units.scores, drop_intermediate=False)
    np.testing.assert_allclose(alarms, expected[0])
    np.testing.assert_allclose(hits, expected[1])
    recall, precision = precision_recall_points(units.labels, units.scores)
    their_precision, their_recall, _ = sk.precision_recall_curve(units.labels, units.scores)
    np.testing.assert_allclose(precision, their_precision[:-1][::-1])
    np.testing.assert_allclose(recall, their_recall[:-1][::-1])
    rows = accuracy_by_threshold(units)
    assert rows[30]["accuracy"] == np.mean((units.scores >= 0.3) == units.labels)
