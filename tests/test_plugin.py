"""A sixth kind of classifier and a backbone from another package: two modules get the whole treatment.

``tests/plugin`` stands for an installed package: its entry points name a ``Kind`` and a ``Backbone``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import sequence_fixtures
from fuse_fixtures import built, config_for

from thermocancer.config import dump_yaml
from thermocancer.files import read_json
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.stages import fuse
from thermocancer.workspace import Workspace

PLUGIN = Path(__file__).parent / "plugin"
REPOSITORY = Path(__file__).parents[1]
TINY = {
    "filter__views": ["Frontal"], "split__folds": 2, "autoencoder__variant": "v3", "autoencoder__epochs": 1,
    "strategy__backend": "tensorflow", "evaluate__bootstrap": 100, "evaluate__audit_repeats": 2,
}  # fmt: skip


def said(folder: Path, *arguments: str, code: int = 0, plugged: bool = True) -> str:
    """What ``python ARGUMENTS`` says in ``folder``, with or without the other package installed."""
    path = os.pathsep.join(map(str, (REPOSITORY, PLUGIN) if plugged else (REPOSITORY,)))
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


@dataclass(frozen=True)
class Road:
    """A workspace ``w`` with an autoencoder, the run ``ours`` of the kind from outside, and ``same`` of our own."""

    folder: Path

    def type(self, *arguments: str, code: int = 0, plugged: bool = True) -> str:
        """A command of the program typed beside ``w``."""
        road = ("-m", "thermocancer", *arguments, "-w", "w")
        return said(self.folder, *road, code=code, plugged=plugged)

    def run(self, name: str) -> Path:
        return Workspace(self.folder / "w").run(name)


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Road:
    folder = tmp_path_factory.mktemp("plugin")
    workspace = built(folder / "w", patients=12, split__folds=2)
    (folder / "road.yaml").write_text(dump_yaml(config_for(workspace, **TINY)))
    made = Road(folder)
    common = ("-c", "road.yaml", "--quiet")
    made.type("train-ae", *common)
    made.type("fuse", *common, "--model", "linear-svm", "--name", "ours", "--set", "fuse.options.softness=2")
    ours = config_for(workspace, **TINY, fuse__kernel="linear", fuse__C=0.5, fuse__name="same")
    fuse.run(ours, workspace, Silent())
    return made


def test_is_a_choice_of_the_command_and_of_the_docs(road: Road) -> None:
    assert "linear-svm: support vector machine with a linear kernel" in road_help(road, plugged=True)
    assert "linear-svm" not in road_help(road, plugged=False)
    pages = "import sys; sys.path.insert(0, 'docs'); import reference; print(reference.commands_page())"
    page = said(REPOSITORY, "-c", pages)
    assert "linear-svm" in page
    assert "coarse_means" in page


def road_help(road: Road, *, plugged: bool) -> str:
    return said(road.folder, "-m", "thermocancer", "fuse", "--help", plugged=plugged)


def test_is_refused_by_name_where_it_is_not_installed(road: Road) -> None:
    refusal = road.type("fuse", "-c", "road.yaml", "--model", "linear-svm", code=2, plugged=False)
    assert "fuse.model" in refusal
    assert "linear-svm" in refusal
    assert "network" in refusal


@pytest.mark.parametrize(("option", "reason"), [("hard=1", "hard"), ("softness=abc", "softness")])
def test_its_own_options_are_checked_before_anything_is_made(road: Road, option: str, reason: str) -> None:
    arguments = ("--model", "linear-svm", "--name", "wrong", "--set", f"fuse.options.{option}")
    assert f"fuse.options.{reason}" in road.type("fuse", "-c", "road.yaml", *arguments, code=2)
    assert not road.run("wrong").exists()


def test_scores_as_the_same_mathematics_of_our_own_kind(road: Road) -> None:
    ours, same = (read_predictions(road.run(name) / "predictions.csv") for name in ("ours", "same"))
    assert ours == same
    assert "no run can be told from another" in road.type("compare", "ours", "same")


def test_the_manifest_holds_its_kind_and_what_decides_it(road: Road) -> None:
    manifest = read_json(road.run("ours") / "manifest.json")
    assert (manifest["kind"], manifest["model"], manifest["C"]) == ("linear-svm", "linear-svm", 1.0)
    assert manifest["settings"]["fuse.options"] == {"softness": 2}
    assert manifest["settings"]["fuse.C"] == 1.0
    assert "kernel" not in manifest


def test_what_it_declares_decides_whether_there_is_something_to_do(road: Road) -> None:
    again = ("fuse", "-c", "road.yaml", "--model", "linear-svm", "--name", "ours", "--dry-run")
    assert "0 to do" in road.type(*again, "--set", "fuse.options.softness=2", "--set", "fuse.kernel=rbf")
    assert "1 to do" in road.type(*again, "--set", "fuse.options.softness=3")


def test_is_audited_beside_its_untrained_twin_and_judged(road: Road) -> None:
    road.type("evaluate", "-c", "road.yaml", "--run", "ours")
    audit = json.loads((road.run("ours") / "audit.json").read_text())
    (twin,) = (each for each in audit["controls"] if each["name"] == "untrained")
    assert twin["n"] == 12
    assert 0 <= twin["auc"]["value"] <= 1
    assert "untrained" not in str(audit["unavailable"])
    assert {"thermal", "asymmetry", "asymmetry_index"} <= {each["name"] for each in audit["controls"]}


def test_predicts_on_new_files(road: Road) -> None:
    assert "score" in road.type("predict", "w/raw", "--run", "ours", "--no-explain", "--html", "page.html")
    assert (road.folder / "page.html").is_file()


def test_its_backbone_reads_dynamic_exams(tmp_path: Path) -> None:
    workspace = sequence_fixtures.built(tmp_path / "w")
    options = {"dit__size": [24, 32], "dit__epochs": 2}
    (tmp_path / "dynamic.yaml").write_text(dump_yaml(sequence_fixtures.tiny_config(workspace, **options)))
    Road(tmp_path).type("train-dit", "-c", "dynamic.yaml", "--quiet", "--backbone", "coarse_means", "--name", "coarse")
    manifest = read_json(workspace.run("coarse") / "manifest.json")
    assert manifest["settings"]["dit.backbone"] == "coarse_means"
    assert len(read_predictions(workspace.run("coarse") / "predictions.csv")) == 12


def test_needs_two_modules() -> None:
    assert len(list(PLUGIN.rglob("*.py"))) == 2
