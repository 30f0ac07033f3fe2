"""``fuse`` as a stage: what it writes, when it does nothing, what it refuses, and that a kill changes nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuse_fixtures import built, config_for

from thermocancer.classifiers.making import load_fitted
from thermocancer.config import Config
from thermocancer.data.split import Fold
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import read_json
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.stages import fuse
from thermocancer.workspace import Workspace

THERMAL = {"fuse__model": "thermal", "fuse__name": "thermal"}
UNTRAINED = {"fuse__untrained": True, "fuse__name": "svm", "split__folds": 2}


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A data set of 15 frontal exams; tests must not change it."""
    return built(tmp_path_factory.mktemp("road"), patients=15)


@pytest.fixture
def workspace(road: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it without runs and cache."""
    for name in ("datasets", "split.json"):
        source = road.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return Workspace(tmp_path)


def settings(workspace: Workspace, **options: Any) -> Config:
    return config_for(workspace, filter__views=["Frontal"], **options)


def run(workspace: Workspace, **options: Any) -> StageReport:
    return fuse.run(settings(workspace, **options), workspace, Silent())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_holds_its_scores_config_manifest_and_model(workspace: Workspace) -> None:
    report = run(workspace, **UNTRAINED)
    folder = workspace.run("svm")
    assert (report.made, report.exit_code) == (1, 0)
    assert report.figures["exams"] == 15
    rows = read_predictions(folder / "predictions.csv")
    assert len(rows) == len(read_predictions(folder / "predictions-baseline.csv")) == 15
    manifest = read_json(folder / "manifest.json")
    assert manifest["model"] == "svm"
    assert manifest["kernel"] == "sigmoid"
    assert manifest["untrained"] is True
    assert manifest["leaks"] == []
    assert set(manifest["thresholds"]) == {"1.1", "1.2"}
    assert all(row.predicted == (row.score >= manifest["thresholds"][row.fold]) for row in rows)
    assert manifest["threshold_source"] == "inner folds: sensitivity >= 0.90 at best specificity"
    assert str(workspace.root) not in json.dumps(manifest)
    with StoredCohort(workspace.dataset("cohort")) as source:
        scores = load_fitted(folder / "model", workspace).scores(source, np.arange(15))
    assert ((scores > 0) & (scores < 1)).all()


def test_the_kept_model_decides_at_the_operating_point_of_the_figures(workspace: Workspace) -> None:
    """It is fitted again on all exams: by its own inner scores it would decide elsewhere than report and card say."""
    run(workspace, fuse__name="thermal", fuse__model="thermal")
    manifest = read_json(workspace.run("thermal") / "manifest.json")
    kept = read_json(workspace.run("thermal") / "model" / "classifier.json")
    assert len(set(manifest["thresholds"].values())) > 1
    assert kept["threshold"] == manifest["threshold"] == np.median(list(manifest["thresholds"].values()))


def test_nothing_changed_nothing_done(workspace: Workspace) -> None:
    run(workspace, **THERMAL)
    before = contents(workspace.root)
    config = settings(workspace, **THERMAL, fuse__processes=2, evaluate__bootstrap=10)
    assert fuse.plan(config, workspace).current == 1
    assert fuse.run(config, workspace, Silent()).nothing_to_do
    assert contents(workspace.root) == before
    assert run(workspace, **THERMAL, fuse__aim="youden").made == 1


def test_planning_touches_nothing_and_says_what_is_missing(workspace: Workspace, tmp_path: Path) -> None:
    before = contents(workspace.root)
    plan = fuse.plan(settings(workspace, **THERMAL), workspace)
    assert plan.todo == ("runs/thermal: thermal",)
    assert "15 exams" in plan.notes[0]
    plan = fuse.plan(settings(workspace), workspace)
    assert "train-ae" in plan.notes[0]
    assert contents(workspace.root) == before
    empty = Workspace(tmp_path / "empty")
    assert "build-dataset" in fuse.plan(settings(empty), empty).notes[0]


def test_the_same_bytes_again_with_and_without_the_cache(workspace: Workspace) -> None:
    run(workspace, **UNTRAINED)
    first = contents(workspace.run("svm"))
    shutil.rmtree(workspace.run("svm"))
    run(workspace, **UNTRAINED)
    assert contents(workspace.run("svm")) == first
    shutil.rmtree(workspace.run("svm"))
    shutil.rmtree(workspace.cache)
    run(workspace, **UNTRAINED)
    assert contents(workspace.run("svm")) == first


@pytest.mark.parametrize("seconds", [0.1, 0.6])
def test_a_kill_changes_nothing(workspace: Workspace, seconds: float) -> None:
    options = THERMAL | {"split__repeats": 3}
    run(workspace, **options)
    expected = contents(workspace.run("thermal"))
    shutil.rmtree(workspace.run("thermal"))
    shutil.rmtree(workspace.cache)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nimport sklearn.linear_model, scipy.linalg, cv2\n"
        "from fuse_fixtures import config_for\nfrom thermocancer.progress import Silent\n"
        "from thermocancer.stages import fuse\nfrom thermocancer.workspace import Workspace\n"
        "print('ready', flush=True)\nworkspace = Workspace(Path(sys.argv[2]))\n"
        f"fuse.run(config_for(workspace, filter__views=['Frontal'], **{options!r}), workspace, Silent())\n"
    )
    tests = str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, "-c", code, tests, str(workspace.root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    run(workspace, **options)
    assert contents(workspace.run("thermal")) == expected


def test_exams_without_a_view_and_excluded_ones_are_listed(tmp_path: Path) -> None:
    views = ("Frontal", "Left")
    workspace = built(tmp_path, views=views, patients=14)
    for name in ("T0005.1.5.S.2014-05-06.00.txt",):
        (workspace.raw / "Static" / "Left" / "healthy" / name).unlink(missing_ok=True)
    options = THERMAL | {"filter__views": list(views), "cohort__exclude": ["3"]}
    fuse.run(config_for(workspace, **options), workspace, Silent())
    manifest = read_json(workspace.run("thermal") / "manifest.json")
    assert {"exam": "3_1", "reason": "left out by the settings of cohort"} in manifest["excluded"]
    assert manifest["exams"] == 14 - len(manifest["excluded"])
    scored = {row.patient for row in read_predictions(workspace.run("thermal") / "predictions.csv")}
    assert 3 not in scored


def test_a_holdout_has_one_fold_and_keeps_its_model(workspace: Workspace) -> None:
    run(workspace, **THERMAL, split__protocol="holdout")
    rows = read_predictions(workspace.run("thermal") / "predictions.csv")
    assert {row.fold for row in rows} == {"test"}
    split = read_json(workspace.split)
    assert sorted({row.patient for row in rows}) == split["test"]


def test_the_thesis_protocol_names_its_leaks_and_decides_at_one_half(workspace: Workspace) -> None:
    run(workspace, **UNTRAINED, split__protocol="thesis")
    manifest = read_json(workspace.run("svm") / "manifest.json")
    assert manifest["thresholds"] == {"test": 0.5}
    assert any("split by file" in leak for leak in manifest["leaks"])
    rows = read_predictions(workspace.run("svm") / "predictions.csv")
    assert all(row.predicted == (row.score >= 0.5) for row in rows)


def test_folds_models_are_kept_on_demand(workspace: Workspace) -> None:
    run(workspace, **THERMAL, fuse__keep_folds=True)
    found = sorted(
        path.parent.name for path in (workspace.run("thermal") / "model" / "folds").glob("*/classifier.json")
    )
    assert found == ["1.1", "1.2", "1.3"]


def test_an_encoder_that_has_seen_a_scored_patient_is_refused_or_named(workspace: Workspace) -> None:
    from thermocancer.stages import train_ae

    options = {"split__folds": 2, "autoencoder__epochs": 1, "autoencoder__per_fold": False, "fuse__name": "svm"}
    train_ae.run(settings(workspace, **options), workspace, Silent())
    with pytest.raises(DataError, match=r"no autoencoder .* for fold 1\.1"):
        run(workspace, **options)
    run(workspace, **options, fuse__encoders="split")
    manifest = read_json(workspace.run("svm") / "manifest.json")
    assert any("trained on files of scored patients" in leak for leak in manifest["leaks"])
    run(workspace, **options, split__protocol="holdout")
    assert read_json(workspace.run("svm") / "manifest.json")["leaks"] == []
    stolen = workspace.autoencoder("v2", "Frontal")
    for fold in ("1.1", "1.2"):  # the split's own encoder in the place of the fold's
        (stolen / "folds" / fold).mkdir(parents=True)
        for name in ("model.keras", "manifest.json"):
            shutil.copy(stolen / name, stolen / "folds" / fold / name)
    with pytest.raises(DataError, match="trained on patients whom this fold scores"):
        run(workspace, **options)


def test_views_that_are_not_there_are_a_config_error(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="lacks a view"):
        run(workspace, **THERMAL, fuse__views=["Left"])
    with pytest.raises(DataError, match="no such data set"):
        run(workspace, **THERMAL, dataset__name="nothing")


def test_folds_are_those_of_all_exams_whatever_counts(workspace: Workspace) -> None:
    """So that the autoencoder of a fold has not seen what is scored there, with any choice of views or exams."""
    from thermocancer.data.split import Split, outer_folds

    run(workspace, **THERMAL, cohort__exclude=["3", "4"])
    config = settings(workspace, **THERMAL)
    with StoredCohort(workspace.dataset("cohort")) as source:
        folds: list[Fold] = outer_folds(source.exams, Split.read(workspace.split), config.split, config.seed)
        place = {source.exams[row].patient: fold.name for fold in folds for row in fold.test}
    for row in read_predictions(workspace.run("thermal") / "predictions.csv"):
        assert place[row.patient] == row.fold
