"""Exported networks answer as the run's own does, on the exams of the data set."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
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

HAS_ONNX = all(importlib.util.find_spec(name) for name in export.NEEDS["onnx"])
OPTIONS: dict[str, Any] = {
    "autoencoder__epochs": 1, "autoencoder__variant": "v3", "dataset__dynamic": True, "filter__frames": 6,
    "split__protocol": "holdout", "fuse__epochs": 1, "fuse__model": "network", "fuse__name": "network",
    "dit__frames": [0, 2, 4], "dit__epochs": 1, "dit__units": 3, "dit__name": "sequence", "dit__head": "gru",
}  # fmt: skip


def settings(workspace: Workspace, **more: Any) -> Config:
    return tiny_config(workspace, **(OPTIONS | more))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A fusion network, a sequence network and a classifier that is no network."""
    workspace = make_raw(tmp_path_factory.mktemp("export"), patients=range(1, 13), shape=(32, 48), frames=6)
    config = settings(workspace)
    build_dataset.run(config, workspace, Silent())
    train_ae.run(config, workspace, Silent())
    fuse.run(config, workspace, Silent())
    fuse.run(settings(workspace, fuse__model="thermal", fuse__name="thermal"), workspace, Silent())
    train_dit.run(config, workspace, Silent())
    return workspace


def exported(workspace: Workspace, run: str, **more: Any) -> StageReport:
    return export.run(settings(workspace, evaluate__run=run, **more), workspace, Silent())


@pytest.mark.parametrize("run", ["network", "sequence"])
def test_parity_latency_and_size(trained: Workspace, run: str) -> None:
    report = exported(trained, run)
    formats = {"saved_model", "litert"} | ({"onnx"} if HAS_ONNX else set())
    assert report.failed == []
    assert report.made == len(formats)
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
    assert (again.made, again.current) == (0, len(formats))


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


def test_what_is_no_network_is_refused(trained: Workspace) -> None:
    with pytest.raises(ConfigError, match="statistics is not a network") as caught:
        exported(trained, "thermal")
    assert caught.value.exit_code == 2
    assert not (trained.run("thermal") / "export").exists()


def test_no_run_named(trained: Workspace) -> None:
    with pytest.raises(ConfigError, match="which run"):
        export.plan(settings(trained), trained)


@pytest.mark.skipif(HAS_ONNX, reason="the ONNX converter is installed")
def test_a_format_without_its_converter_is_refused_with_the_cure(trained: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"thermocancer\[export\]"):
        exported(trained, "network", evaluate__formats=["onnx"])


def test_a_file_that_disagrees_is_not_let_through(trained: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    folder = trained.run("sequence") / "export"
    before = sorted(path for path in folder.rglob("*")) if folder.exists() else []
    with pytest.raises(Exception, match="no format could be written"):
        exported(trained, "sequence", evaluate__formats=["litert"])
    assert sorted(path for path in folder.rglob("*")) == before


def test_plan_touches_nothing(trained: Workspace, tmp_path: Path) -> None:
    plan = export.plan(settings(trained, evaluate__run="thermal"), trained)
    assert any("saved_model" in line for line in plan.todo)
    assert not (trained.run("thermal") / "export").exists()
