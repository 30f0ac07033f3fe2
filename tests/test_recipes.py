"""Every recipe: scores in [0, 1], the same again after saving, nothing learnt outside its training rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuse_fixtures import cohort, config_for, labels_of

from thermocancer.classifiers.calibrated import MINIMUM_SLOPE, CalibratedFitted, choose_threshold, fit_platt
from thermocancer.classifiers.making import load_fitted, make_classifier
from thermocancer.classifiers.protocol import logistic, logit
from thermocancer.compute import one_thread
from thermocancer.errors import ConfigError, DataError
from thermocancer.workspace import Workspace

VIEWS = ("Frontal", "Right", "Left")
UNTRAINED = {"fuse__untrained": True, "autoencoder__variant": "v2"}
CASES = {
    "thermal": {},
    "asymmetry": {},
    "asymmetry-index": {},
    "pixels": {},
    "svm": UNTRAINED,
    "svm rbf": UNTRAINED | {"fuse__kernel": "rbf"},
    "svm linear": UNTRAINED | {"fuse__kernel": "linear"},
    "svm clipped": UNTRAINED | {"fuse__kernel": "rbf", "fuse__clip": 2.0},
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_saved_classifier_gives_the_same_scores(case: str, tmp_path: Path) -> None:
    source = cohort(16, VIEWS)
    workspace = Workspace(tmp_path)
    config = config_for(workspace, **CASES[case])
    rows = np.arange(14)
    recipe = make_classifier(config, workspace, name=case.split()[0], views=VIEWS)
    with one_thread():
        fitted = recipe.fit(source, rows, labels_of(source)[rows], seed=1, fold="1.1")
        scores = fitted.scores(source, np.arange(len(source.exams)))
    assert ((scores >= 0) & (scores <= 1)).all()
    fitted.save(tmp_path / "model")
    loaded = load_fitted(tmp_path / "model", workspace)
    again = loaded.scores(source, np.arange(len(source.exams)))
    assert again == pytest.approx(scores, abs=2e-4 if "svm" in case else 1e-12)
    assert loaded.threshold == fitted.threshold
    assert not any(path.suffix in (".pkl", ".pickle", ".joblib") for path in (tmp_path / "model").iterdir())


@pytest.mark.parametrize("kind", ["thermal", "pixels", "svm"])
def test_labels_of_other_exams_do_not_matter(kind: str, tmp_path: Path) -> None:
    source, workspace = cohort(16), Workspace(tmp_path)
    recipe = make_classifier(config_for(workspace, **UNTRAINED), workspace, name=kind, views=("Frontal",))
    rows, labels = np.arange(14), labels_of(source)[:14]
    first = recipe.fit(source, rows, labels, seed=1, fold="1.1").scores(source, np.array([15, 16]))
    brighter = {"Frontal": source.matrices["Frontal"].copy()}
    brighter["Frontal"][14] += 900
    other = type(source)(source.exams, brighter)
    second = make_classifier(config_for(workspace, **UNTRAINED), workspace, name=kind, views=("Frontal",))
    assert second.fit(other, rows, labels, seed=1, fold="1.1").scores(other, np.array([15, 16])) == pytest.approx(first)


@pytest.mark.parametrize("kind", ["thermal", "pixels", "svm"])
def test_a_strong_contrast_is_learnt(kind: str, tmp_path: Path) -> None:
    source, workspace = cohort(30, degrees=4.0), Workspace(tmp_path)
    config = config_for(workspace, **UNTRAINED)
    recipe = make_classifier(config, workspace, name=kind, views=("Frontal",), calibrate=False)
    labels, rows = labels_of(source), np.arange(20)
    rest = np.arange(20, 32)
    fitted = recipe.fit(source, rows, labels[rows], seed=1, fold="1.1")
    assert fitted.threshold == 0.5
    scores = fitted.scores(source, rest)
    assert scores[labels[rest] == 1].mean() > scores[labels[rest] == 0].mean()


def test_the_dense_pipeline_of_the_original_decides_alike(tmp_path: Path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    from thermocancer.classifiers.encoders import Encoders
    from thermocancer.features.encoded import all_codes

    source, workspace = cohort(24, VIEWS), Workspace(tmp_path)
    config = config_for(workspace, **UNTRAINED, split__protocol="thesis")
    encoders, labels = Encoders.of(config, workspace), labels_of(source)
    parts = []
    for view in VIEWS:
        with all_codes(encoders.load(source, view, "test"), source, view, tmp_path, keep=False) as codes:
            parts.append(codes.astype(np.float64))
    dense, train, test = np.concatenate(parts, axis=1), np.arange(18), np.arange(18, 26)
    decisions = make_pipeline(StandardScaler(), SVC(kernel="sigmoid")).fit(dense[train], labels[train])
    fitted = make_classifier(config, workspace, name="svm", views=VIEWS).fit(
        source, train, labels[train], seed=0, fold="test"
    )
    scores = fitted.scores(source, test)
    assert np.array_equal(scores >= fitted.threshold, decisions.predict(dense[test]) == 1)
    assert logit(scores) == pytest.approx(decisions.decision_function(dense[test]), abs=2e-3)


def test_nuisance_can_be_regressed_out_of_codes_and_saved(tmp_path: Path) -> None:
    source, workspace = cohort(16, nuisance=True), Workspace(tmp_path)
    for kind in ("svm", "thermal"):
        config = config_for(workspace, **UNTRAINED, features__residualise=True)
        recipe = make_classifier(config, workspace, name=kind, views=("Frontal",))
        fitted = recipe.fit(source, np.arange(14), labels_of(source)[:14], seed=1, fold="1.1")
        fitted.save(tmp_path / kind)
        rows = np.arange(12, 18)
        loaded = load_fitted(tmp_path / kind, workspace)
        assert loaded.scores(source, rows) == pytest.approx(fitted.scores(source, rows), abs=2e-4)
    with pytest.raises(ConfigError, match="reads codes as they are"):
        config_for(workspace, fuse__model="network", features__residualise=True)


def test_preparation_travels_with_the_classifier(tmp_path: Path) -> None:
    source, workspace = cohort(16), Workspace(tmp_path)
    config = config_for(workspace, features__relative=True)
    fitted = make_classifier(config, workspace, name="pixels", views=("Frontal",)).fit(
        source, np.arange(14), labels_of(source)[:14], seed=1, fold="1.1"
    )
    fitted.save(tmp_path / "model")
    warmer = type(source)(source.exams, {"Frontal": source.matrices["Frontal"] + np.uint16(150)})
    loaded = load_fitted(tmp_path / "model", workspace)
    rows = np.arange(len(source.exams))
    assert loaded.scores(warmer, rows) == pytest.approx(fitted.scores(source, rows))


def test_what_cannot_be_trained_or_scored_is_a_clear_error(tmp_path: Path) -> None:
    source, workspace = cohort(10, VIEWS), Workspace(tmp_path)
    config = config_for(workspace)
    recipe = make_classifier(config, workspace, name="thermal", views=VIEWS)
    with pytest.raises(DataError, match="one class only"):
        recipe.fit(source, np.array([0, 1]), np.array([0, 0]), seed=0, fold="1.1")
    with pytest.raises(ConfigError, match="no classifier"):
        make_classifier(config, workspace, name="magic", views=VIEWS)
    source.missing["Left"] = np.arange(len(source.exams)) == 3
    with pytest.raises(DataError, match="lacks a view"):
        recipe.fit(source, np.arange(8), labels_of(source)[:8], seed=0, fold="1.1")
    with pytest.raises(DataError, match="there is no autoencoder"):
        make_classifier(config, workspace, name="svm", views=VIEWS).fit(
            source, np.arange(8), labels_of(source)[:8], seed=0, fold="1.1"
        )


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_model_is_refused(damage: str, tmp_path: Path) -> None:
    source, workspace = cohort(12), Workspace(tmp_path)
    recipe = make_classifier(config_for(workspace), workspace, name="thermal", views=("Frontal",))
    recipe.fit(source, np.arange(12), labels_of(source)[:12], seed=0, fold="all").save(tmp_path / "model")
    arrays = tmp_path / "model" / "arrays.npz"
    if damage == "missing":
        arrays.unlink()
    elif damage == "cut":
        arrays.write_bytes(arrays.read_bytes()[:40])
    else:
        (tmp_path / "model" / "classifier.json").write_text('{"kind": "other"}')
    with pytest.raises(DataError, match="cannot be read"):
        load_fitted(tmp_path / "model", workspace)
    with pytest.raises(DataError, match="no fitted classifier"):
        load_fitted(tmp_path / "nowhere", workspace)


def test_platt_scaling_recovers_the_logistic_curve() -> None:
    rng = np.random.default_rng(0)
    decisions = rng.normal(size=4000)
    labels = (rng.random(4000) < logistic(2.0 * decisions - 0.5)).astype(np.int64)
    found = fit_platt(decisions, labels)
    assert found.slope == pytest.approx(2.0, abs=0.2)
    assert found.intercept == pytest.approx(-0.5, abs=0.15)


@pytest.mark.parametrize("direction", [1.0, -1.0, 0.0])
def test_platt_scaling_stays_finite_and_keeps_the_order(direction: float) -> None:
    decisions = direction * np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
    found = fit_platt(decisions, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite([found.slope, found.intercept]).all()
    assert found.slope >= MINIMUM_SLOPE
    assert (np.diff(found.scores(np.array([-2.0, 0.0, 5.0]))) > 0).all()


def test_logistic_and_its_inverse() -> None:
    values = np.array([-800.0, -2.0, 0.0, 3.0, 800.0])
    scores = logistic(values)
    assert scores[2] == 0.5
    assert ((scores >= 0) & (scores <= 1)).all()
    assert logit(scores)[1:4] == pytest.approx(values[1:4])


@pytest.mark.parametrize("aim", ["sensitivity", "youden", "fixed"])
def test_thresholds_meet_their_aim(aim: str) -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random(200) < 0.4).astype(np.int64)
    scores = logistic(rng.normal(size=200) + 1.5 * labels - 0.7)
    threshold = choose_threshold(scores, labels, aim, 0.9)
    grid = np.linspace(0, 1, 2001)
    sensitivity = np.array([(scores[labels == 1] >= each).mean() for each in grid])
    specificity = np.array([(scores[labels == 0] < each).mean() for each in grid])
    own = (scores[labels == 1] >= threshold).mean(), (scores[labels == 0] < threshold).mean()
    if aim == "sensitivity":
        assert own[0] >= 0.9
        assert own[1] >= specificity[sensitivity >= 0.9].max() - 1e-12
    elif aim == "youden":
        assert sum(own) >= (sensitivity + specificity).max() - 1e-12
    else:
        assert threshold == 0.5


def test_a_threshold_needs_both_classes() -> None:
    assert choose_threshold(np.array([0.2, 0.9]), np.array([0, 0]), "youden") == 0.5
    assert choose_threshold(np.array([]), np.array([], dtype=np.int64), "sensitivity") == 0.5


def test_threshold_and_calibration_come_from_inner_scores_alone(tmp_path: Path) -> None:
    source, workspace = cohort(20), Workspace(tmp_path)
    config = config_for(workspace, fuse__aim="youden")
    recipe = make_classifier(config, workspace, name="pixels", views=("Frontal",))
    rows, labels = np.arange(16), labels_of(source)[:16]
    fitted = recipe.fit(source, rows, labels, seed=1, fold="1.1")
    assert isinstance(fitted, CalibratedFitted)
    assert fitted.inner is not None
    assert sorted(fitted.inner.rows.tolist()) == rows.tolist()
    assert choose_threshold(fitted.inner.scores, fitted.inner.labels, "youden") == fitted.threshold


def test_inner_folds_count_what_stays_together() -> None:
    """Two sick patients share an image, and healthy patients become sick: fewer folds, not an error."""
    from dataclasses import replace

    from thermocancer.classifiers.calibrated import inner_parts

    plain = cohort(12, second_visits=0)
    twins = tuple(
        replace(exam, hashes=(("Frontal", "same"),)) if exam.patient in (3, 6) else exam for exam in plain.exams
    )
    rows, labels = np.arange(12), labels_of(plain)
    assert labels.sum() == 4
    assert len(inner_parts(plain, rows, labels, 4, 0)) == 4
    assert len(inner_parts(replace(plain, exams=twins), rows, labels, 4, 0)) == 3
    visits = cohort(12, second_visits=12)
    later = np.array([int(exam.visit == 2 or exam.patient > 5) for exam in visits.exams])
    later[[row for row, exam in enumerate(visits.exams) if exam.patient in (1, 2)]] = 0
    assert len(inner_parts(visits, np.arange(24), later, 4, 0)) == 2


def test_a_run_that_learns_no_threshold_says_so(tmp_path: Path) -> None:
    from fuse_fixtures import built

    from thermocancer.files import read_json
    from thermocancer.progress import Silent
    from thermocancer.stages import fuse

    workspace = built(tmp_path)
    config = config_for(workspace, filter__views=["Frontal"], fuse__model="asymmetry-index", fuse__baseline=False)
    fuse.run(config, workspace, Silent())
    manifest = read_json(workspace.run("fuse") / "manifest.json")
    assert set(manifest["thresholds"].values()) == {0.5}
    assert manifest["threshold_source"] == "fixed at 0.5"


def test_inner_scores_of_a_matched_cohort_do_not_turn_around() -> None:
    """Pictures that show the date alone, labels that mean nothing, healthy and sick paired by date."""
    from dataclasses import replace

    from thermocancer.classifiers.calibrated import Calibrated
    from thermocancer.classifiers.tabular import FeatureTable, TabularClassifier
    from thermocancer.config.preparation import CohortSection, FeaturesSection
    from thermocancer.data.cohort import ArrayCohort, Exam
    from thermocancer.data.matching import choose_rows
    from thermocancer.evaluation.statistics.resampling import auc_of
    from thermocancer.features.tables import Table

    cohort_of, found = CohortSection(match="choose", match_days=60), {True: [], False: []}
    for seed in range(8):
        days = np.random.default_rng(seed).uniform(0, 3000, 110).round()
        exams = tuple(Exam(row + 1, 1, int(row < 33)) for row in range(110))
        # the date as four waves, so that a machine on their components can follow it closely
        waves = 3000 + 500 * np.sin(days[:, None] / np.array([100.0, 160.0, 250.0, 400.0]))
        matrices = {"Frontal": np.repeat(waves[:, None, :], 2, axis=1).astype(np.uint16)}
        source = ArrayCohort(exams, matrices, measured={"date_ordinal": days, "room_celsius": np.full(110, 20.0)})
        rows, _ = choose_rows(source, cohort_of)
        labels = labels_of(source)[rows]
        method = TabularClassifier(FeatureTable(Table.PIXELS, ("Frontal",), (1, 4)), 10.0, 4)
        recipe = Calibrated(method, FeaturesSection(), 5, cohort=cohort_of)
        for apart in found:
            own = recipe if apart else replace(recipe, cohort=CohortSection())
            inner = own.fit(source, rows, labels, seed=seed, fold="1.1").inner
            assert inner is not None
            assert sorted(inner.rows.tolist()) == rows.tolist()
            found[apart].append(auc_of(np.ones((1, len(rows))), inner.labels, inner.scores)[0])
    assert np.mean(found[False]) < 0.35
    assert abs(np.mean(found[True]) - 0.5) < 0.08
