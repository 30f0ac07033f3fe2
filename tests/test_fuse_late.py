"""Late fusion: runs of two protocols become one score a patient, fitted on inner scores alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import manifest_of
from fuse_fixtures import config_for

from thermocancer.classifiers.protocol import logistic, logit
from thermocancer.config import load_config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import read_json, write_json
from thermocancer.progress import Silent
from thermocancer.runs.predictions import Prediction, read_predictions, write_predictions
from thermocancer.stages import fuse
from thermocancer.workspace import Workspace

FOLDS = 3


def write_run(
    workspace: Workspace, name: str, patients: range, *, signal: float, seed: int, folds: int = FOLDS, visit: int = 1
) -> None:
    """A run whose logits are ``signal`` times the label plus noise; inner scores alike."""
    rng = np.random.default_rng(seed)

    def row(patient: int, fold: str) -> Prediction:
        label = int(patient % 4 == 0)
        score = float(logistic(np.array(signal * (label - 0.5) + rng.normal())))
        return Prediction(patient, visit, fold, label, score, int(score >= 0.5))

    rows = [row(patient, f"1.{1 + patient % folds}") for patient in patients]
    inner = [row(patient, f"1.{1 + fold}") for fold in range(folds) for patient in patients if patient % folds != fold]
    folder = workspace.run(name)
    write_predictions(folder / "predictions.csv", rows)
    write_predictions(folder / "inner.csv", inner)
    facts = manifest_of(made_from=name, leaks=["a leak"] if name == "dit" else [])
    write_json(folder / "manifest.json", facts)


def late(workspace: Workspace, **options: object) -> Path:
    settings = {"fuse__model": "late", "fuse__name": "both", "fuse__combine": ["sit", "dit"]} | options
    config = config_for(workspace, **settings)
    report = fuse.run(config, workspace, Silent())
    assert report.made == 1
    assert fuse.run(config, workspace, Silent()).made == 0
    assert fuse.plan(config, workspace).current == 1
    return workspace.run("both")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    write_run(workspace, "sit", range(1, 61), signal=1.0, seed=1)
    write_run(workspace, "dit", range(31, 91), signal=4.0, seed=2)
    return workspace


def test_the_mean_of_logits_with_patients_of_one_protocol_included(workspace: Workspace) -> None:
    folder = late(workspace)
    rows = {row.patient: row for row in read_predictions(folder / "predictions.csv")}
    assert sorted(rows) == list(range(1, 91))
    parts = {
        name: {row.patient: row.score for row in read_predictions(workspace.run(name) / "predictions.csv")}
        for name in ("sit", "dit")
    }
    assert rows[5].score == pytest.approx(parts["sit"][5])
    assert rows[80].score == pytest.approx(parts["dit"][80])
    both = logit(np.array([parts["sit"][40], parts["dit"][40]])).mean()
    assert rows[40].score == pytest.approx(float(logistic(both)))
    manifest = read_json(folder / "manifest.json")
    assert manifest["patients_in_all"] == 30
    assert manifest["patients_by_run"] == {"sit": 60, "dit": 60}
    assert manifest["leaks"] == ["dit: a leak"]
    assert manifest["threshold_source"].startswith("inner folds")


def test_stacking_trusts_the_better_run(workspace: Workspace) -> None:
    from sklearn.metrics import roc_auc_score

    def auc(folder: Path) -> float:
        rows = [row for row in read_predictions(folder / "predictions.csv") if 31 <= row.patient <= 60]
        return float(roc_auc_score([row.label for row in rows], [row.score for row in rows]))

    plain = auc(late(workspace))
    stacked = auc(late(workspace, fuse__stacking=True))
    assert stacked >= plain - 0.01
    assert stacked >= auc(workspace.run("sit"))
    assert read_json(workspace.run("both") / "manifest.json")["combination"] == "stacking on inner scores"


def test_nothing_is_fitted_on_the_scores_that_are_judged(workspace: Workspace) -> None:
    """Labels of one fold's test patients turned round leave the scores of that fold as they were."""
    before = {
        row.patient: row.score for row in read_predictions(late(workspace, fuse__stacking=True) / "predictions.csv")
    }
    for name in ("sit", "dit"):
        path = workspace.run(name) / "predictions.csv"
        turned = [
            Prediction(r.patient, r.visit, r.fold, r.label, 1 - r.score if r.fold == "1.1" else r.score, r.predicted)
            for r in read_predictions(path)
        ]
        write_predictions(path, turned)
    after = {row.patient: row for row in read_predictions(late(workspace, fuse__stacking=True) / "predictions.csv")}
    assert all(before[patient] == row.score for patient, row in after.items() if row.fold != "1.1")


def test_visits_with_different_labels_stay_apart(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "sit", range(1, 31), signal=1.0, seed=1)
    write_run(workspace, "dit", range(1, 31), signal=1.0, seed=2, visit=2)
    path = workspace.run("dit") / "predictions.csv"
    rows = [Prediction(r.patient, r.visit, r.fold, 1 - r.label if r.patient == 7 else r.label, r.score, r.predicted)
            for r in read_predictions(path)]  # fmt: skip
    write_predictions(path, rows)
    found = read_predictions(late(workspace) / "predictions.csv")
    assert [(row.visit, row.label) for row in found if row.patient == 7] == [(1, 0), (2, 1)]
    assert [(row.visit, row.label) for row in found if row.patient == 8] == [(1, 1)]


def test_runs_on_other_folds_are_refused(workspace: Workspace) -> None:
    write_run(workspace, "dit", range(31, 91), signal=1.0, seed=2, folds=4)
    with pytest.raises(DataError, match="different folds"):
        late(workspace)


def test_a_missing_or_old_run_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="there is no run 'nobody'"):
        late(workspace, fuse__combine=["sit", "nobody"])
    (workspace.run("dit") / "inner.csv").unlink()
    with pytest.raises(DataError, match="no inner scores"):
        late(workspace)
    with pytest.raises(ConfigError, match="two or more"):
        load_config(options={"fuse.model": "late", "fuse.combine": ["sit"]}, environment={})


def test_stacking_needs_patients_to_learn_from(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "sit", range(1, 31), signal=1.0, seed=1)
    write_run(workspace, "dit", range(25, 61), signal=1.0, seed=2)
    with pytest.raises(DataError, match="too few patients"):
        late(workspace, fuse__stacking=True)


@pytest.mark.parametrize("leaks", [False, True])
def test_what_weighs_scores_is_taught_permuted_labels(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, leaks: bool
) -> None:
    """Planted: weights that are learnt from the very patients who are scored."""
    from thermocancer.classifiers.late import scores
    from thermocancer.data.cohort import ArrayCohort, Exam
    from thermocancer.evaluation.audit.controls import Judge
    from thermocancer.evaluation.audit.refits import permuted_labels
    from thermocancer.evaluation.audit.scope import Refitting, make_scope
    from thermocancer.evaluation.statistics.units import gather_units
    from thermocancer.runs.run import read_run

    for name, seed in (("sit", 3), ("dit", 4), ("weak", 5)):
        write_run(workspace, name, range(1, 121), signal=0.4, seed=seed)
    options = {"fuse__combine": ["sit", "dit", "weak"], "fuse__stacking": True}
    late(workspace, **options)
    if leaks:
        honest = scores.combined_scores
        monkeypatch.setattr(scores, "combined_scores", lambda known, tables, **how: honest(tables[0], tables, **how))
        write_predictions(
            workspace.run("both") / "predictions.csv",
            scores.combine(
                [read_run(workspace, name) for name in options["fuse__combine"]],
                stacking=True,
                aim="fixed",
                sensitivity=0.9,
            ).rows,
        )
    run = read_run(workspace, "both")
    exams = tuple(Exam(row.patient, row.visit, row.label) for row in sorted(run.rows, key=lambda row: row.patient))
    source = ArrayCohort(exams, {"Frontal": np.zeros((len(exams), 2, 2), np.uint16)})
    config = config_for(workspace, fuse__model="late", fuse__name="both", **options)
    judge = Judge(gather_units(run.rows), 0.95, 100, 0)
    found = permuted_labels(Refitting(make_scope(run, source, {}), source, config, workspace, judge, 1))
    assert len(found.permutations) == 30
    assert found.flag == ("failed" if leaks else "none")
    assert found.p_permuted is None
    assert leaks or abs(found.auc.value - 0.5) < 0.06
