"""Exported networks answer as the run's own does, on the exams of the data set."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoencoder_fixtures import tiny_config
from dataset_fixtures import make_raw

from thermocancer.config import Config
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.stages import build_dataset, export, fuse, train_ae, train_dit
from thermocancer.workspace import Workspace

HAS_TF2ONNX = importlib.util.find_spec("tf2onnx") is not None
OPTIONS: dict[str, Any] = {
    "autoencoder__epochs": 1, "autoencoder__variant": "v3", "dataset__dynamic": True, "filter__frames": 6,
    "split__protocol": "holdout", "fuse__epochs": 1, "fuse__model": "network", "fuse__name": "network",
    "dit__frames": [0, 2, 4], "dit__epochs": 1, "dit__units": 3, "dit__name": "sequence", "dit__head": "gru",
}  # fmt: skip


def settings(workspace: Workspace, **more: Any) -> Config:
    return tiny_config(workspace, **(OPTIONS | more))


KINDS: dict[str, dict[str, Any]] = {
    "svm": {"fuse__model": "svm"},
    "linear": {"fuse__model": "svm", "fuse__kernel": "linear", "fuse__clip": 3.0, "features__relative": True},
    "thermal": {"fuse__model": "thermal"},
    "pixels": {"fuse__model": "pixels", "features__pixels": [6, 10], "features__components": 4},
    "asymmetry-index": {"fuse__model": "asymmetry-index"},
    "residual": {"fuse__model": "thermal", "features__residualise": True},
}
"""Classifiers that are no network."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A fusion network, a sequence network and a classifier that is no network."""
    workspace = make_raw(tmp_path_factory.mktemp("export"), patients=range(1, 13), shape=(32, 48), frames=6)
    config = settings(workspace)
    build_dataset.run(config, workspace, Silent())
    train_ae.run(config, workspace, Silent())
    fuse.run(config, workspace, Silent())
    for name, more in KINDS.items():
        fuse.run(settings(workspace, fuse__name=name, fuse__baseline=False, **more), workspace, Silent())
    train_dit.run(config, workspace, Silent())
    return workspace


def exported(workspace: Workspace, run: str, **more: Any) -> StageReport:
    return export.run(settings(workspace, evaluate__run=run, **more), workspace, Silent())


@pytest.mark.parametrize("run", ["network", "sequence"])
def test_parity_latency_and_size(trained: Workspace, run: str) -> None:
    report = exported(trained, run)
    formats = {"saved_model", "litert"} | ({"onnx"} if run == "network" or HAS_TF2ONNX else set())
    assert report.failed == []
    assert report.made == len(formats) + 1, "and the zip"
    for name in formats:
        figures = report.figures[name]
        assert figures["parity"] <= 1e-4
        assert figures["latency_ms"] > 0
        assert figures["bytes"] > 1000
        assert (trained.run(run) / "export" / export.NAMES[name]).exists()
    assert len(report.notes) == 3, "a line a format; one that is left out is named, with what to install"
    facts = json.loads((trained.run(run) / "export" / "export.json").read_text())
    assert facts["calibration"].keys() == {"slope", "intercept"}
    again = exported(trained, run)
    assert (again.made, again.current) == (0, len(formats) + 1)


def test_the_file_gives_the_score_of_the_run(trained: Workspace) -> None:
    """From the exported file and export.json alone to the score that the run's own classifier gives."""
    import tensorflow as tf

    from thermocancer.classifiers.calibrated import Calibration
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.classifiers.protocol import logit
    from thermocancer.config.learning import InputSection
    from thermocancer.data.inputs import network_input

    exported(trained, "network")
    folder = trained.run("network") / "export"
    facts = json.loads((folder / "export.json").read_text())
    rows = np.arange(5)
    with StoredCohort(trained.dataset("cohort")) as source:
        images = network_input(source, "Frontal", rows, InputSection.model_validate(facts["input"]["Frontal"]))
        expected = load_fitted(trained.run("network") / "model", trained).scores(source, rows)
    loaded = tf.saved_model.load(str(folder / "saved_model"))  # held: a call needs its variables alive
    served = np.asarray(loaded.serve(images))[:, 0]
    np.testing.assert_allclose(Calibration(**facts["calibration"]).scores(logit(served)), expected, atol=1e-5)


def test_two_clean_exports_hold_the_same(trained: Workspace, tmp_path: Path) -> None:
    """In processes of their own. A SavedModel's bytes are TensorFlow's affair, what it holds is not; other weights
    are other content.
    """
    said = []
    for name in ("one", "two"):
        shutil.copytree(trained.root, tmp_path / name, ignore=shutil.ignore_patterns("export"))
        command = ["thermocancer", "export", "network", "-w", ".", "--set=evaluate.formats=[saved_model, litert]"]
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path / name, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / name / "runs" / "network" / "export" / "export.json").read_text())
        for path in [path for path in facts["outputs"] if path.split("/")[0] in facts["other_bytes_each_time"]]:
            del facts["outputs"][path]
        said.append(facts)
    assert said[0] == said[1]
    assert said[0]["outputs"].keys() == {"model.tflite"}
    exported(trained, "sequence", evaluate__formats=["saved_model"])
    other = json.loads((trained.run("sequence") / "export" / "export.json").read_text())
    assert other["formats"]["saved_model"]["content"] != said[0]["formats"]["saved_model"]["content"]


@pytest.mark.parametrize("run", [each for each in KINDS if each != "residual"])
def test_a_classifier_that_is_no_network_is_one_onnx_graph(trained: Workspace, run: str) -> None:
    """From degrees, or named columns, to the run's score, by a runtime that knows nothing of the run."""
    import onnxruntime

    report = exported(trained, run)
    assert (report.failed, report.made) == ([], 2), report.notes
    folder = trained.run(run) / "export"
    facts = json.loads((folder / "export.json").read_text())
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert {each.name for each in session.get_inputs()} == set(facts["inputs"])
    rows = np.arange(8, 12)  # not the exams that export itself looked at
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.config.preparation import FeaturesSection
    from thermocancer.data.cohort import degrees
    from thermocancer.features.prepared import prepare

    fitted = load_fitted(trained.run(run) / "model", trained)
    with StoredCohort(trained.dataset("cohort")) as cohort:
        expected = fitted.scores(cohort, rows)
        prepared = prepare(cohort, FeaturesSection(**facts["preparation"]))
        if "features" in facts["inputs"]:
            table = fitted.model.features if hasattr(fitted, "model") else fitted.features
            fed = {"features": table.of(prepared, rows).astype(np.float32)}
            assert len(facts["input"]) == facts["inputs"]["features"][0]
        else:
            fed = {view: degrees(prepared, view, rows).astype(np.float32) for view in facts["inputs"]}
    (found,) = session.run(None, fed)
    assert np.ptp(expected) > 0
    spread = max(float(np.ptp(expected)), 1e-3)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-3 * spread)


def test_what_no_graph_holds_goes_as_a_zip(trained: Workspace) -> None:
    report = exported(trained, "residual")
    assert report.made == 1
    assert "regresses out" in report.notes[0]
    for name, wanted, said in (("residual", "onnx", "no single graph"), ("thermal", "litert", "cannot be written as")):
        with pytest.raises(ConfigError, match=said) as caught:
            exported(trained, name, evaluate__formats=[wanted])
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("run", ["residual", "svm", "sequence"])
def test_predict_takes_the_zip_anywhere(trained: Workspace, tmp_path: Path, run: str) -> None:
    """In a folder without a workspace: the answers of the run at home, and who was in training."""
    exported(trained, run, evaluate__formats=["zip"])
    shutil.copy(trained.run(run) / "export" / "run.zip", tmp_path / "elsewhere.zip")
    exam = trained.raw / ("Dynamic" if run == "sequence" else "Static")
    said = []
    for name, where in ((run, ["-w", str(trained.root)]), (str(tmp_path / "elsewhere.zip"), [])):
        command = ["predict", name, str(exam), *where, "--json", "-", "--no-explain"]
        done = subprocess.run(
            [sys.executable, "-m", "thermocancer", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, 5), done.stderr
        said.append(json.loads(done.stdout)["figures"])
    home, away = said
    assert [each.get("score") for each in home["exams"]] == [each.get("score") for each in away["exams"]]
    assert home["run"]["auc"] == away["run"]["auc"]
    met, again = ([each.get("in_training", {}).get("status") for each in figures["exams"]] for figures in said)
    assert met == again
    assert "exam" in met, "a hold-out's test part was not trained on"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["elsewhere.zip"]


@pytest.mark.parametrize("content", [b"no zip", "outside"], ids=["damaged", "a path that leads out"])
def test_a_zip_that_is_no_run_is_refused(tmp_path: Path, content: bytes | str) -> None:
    from thermocancer.errors import DataError
    from thermocancer.runs.package import unpacked

    path = tmp_path / "in" / "a.zip"
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../outside.txt", "x")
    with pytest.raises(DataError), unpacked(path):
        pass
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_ten_lines_of_the_docs_use_the_file_with_nothing_of_ours(trained: Workspace, tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    lines = page.split("<!-- ten lines -->\n```python\n")[1].split("```")[0]
    assert len(lines.splitlines()) <= 10
    exported(trained, "svm")
    shutil.copytree(trained.run("svm") / "export", tmp_path / "export")
    views = json.loads((tmp_path / "export" / "export.json").read_text())["inputs"]
    records = [json.loads(line) for line in trained.catalog.read_text().splitlines()]
    for each in records:
        if (each["patient"], each["protocol"]) == (3, "S") and each["view"] in views:
            shutil.copy(trained.raw / each["path"], tmp_path / f"{each['view']}.txt")
    block = "import sys; sys.modules['thermocancer'] = sys.modules['tensorflow'] = None\n"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", block + lines], cwd=tmp_path, capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stderr
    from thermocancer.classifiers.making import load_fitted

    with StoredCohort(trained.dataset("cohort")) as cohort:
        row = np.array([each.patient for each in cohort.exams]).searchsorted(3)
        expected = load_fitted(trained.run("svm") / "model", trained).scores(cohort, np.array([row]))[0]
    assert float(done.stdout.split()[0]) == pytest.approx(expected, abs=1e-3)


def test_no_run_named(trained: Workspace) -> None:
    with pytest.raises(ConfigError, match="which run"):
        export.plan(settings(trained), trained)


def test_a_format_without_its_converter_is_refused_with_the_cure(
    trained: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export.NEEDS, "tf2onnx", ("no_such_converter",))
    with pytest.raises(ConfigError, match="no_such_converter"):
        exported(trained, "sequence", evaluate__formats=["onnx"])


def test_a_file_that_disagrees_is_not_let_through(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    folder = trained.run("sequence") / "export"
    before = sorted(path for path in folder.rglob("*")) if folder.exists() else []
    with pytest.raises(Exception, match="no format could be written"):
        exported(trained, "sequence", evaluate__formats=["litert"])
    assert sorted(path for path in folder.rglob("*")) == before


def test_plan_touches_nothing(trained: Workspace) -> None:
    before = sorted(trained.run("pixels").rglob("*"))
    plan = export.plan(settings(trained, evaluate__run="pixels", evaluate__formats=["onnx"]), trained)
    assert any("model.onnx" in line for line in plan.todo)
    assert sorted(trained.run("pixels").rglob("*")) == before
