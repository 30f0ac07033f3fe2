"""``docs/architecture.md`` is true: its tree, its files, and its recipes, followed in a copy of the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dataset_fixtures import body
from fuse_fixtures import config_for, hot_spot

from thermocancer.config import dump_yaml
from thermocancer.files import read_json
from thermocancer.workspace import Workspace

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^### (.*)\n((?:(?!^##).*\n?)*)", PAGE, re.MULTILINE))
CHANGE = re.compile(
    r"^(?:New file|In) `(?P<file>[^`]+)`(?:, (?P<where>at the end|(?:above|below|instead of) `[^`]+`))?:\n\n"
    r"```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Change:
    """One block of a recipe: code for a new ``file``, or for a place in one that is there."""

    file: str
    where: str | None
    code: str

    def make(self, root: Path) -> None:
        path = root / self.file
        if self.where is None:
            assert not path.exists(), f"{self.file} is not new"
            path.write_text(self.code, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if self.where == "at the end":
            lines += ["\n\n", self.code]
        else:
            place, anchor = self.where.split(" `")[0], self.where.split("`")[1]
            found = [number for number, line in enumerate(lines) if anchor in line]
            assert len(found) == 1, f"{self.file} has {len(found)} lines with {anchor!r}"
            start = found[0] + (place == "below")
            lines[start : start + (place == "instead of")] = [self.code]
        path.write_text("".join(lines), encoding="utf-8")


def changes(recipe: str) -> Iterator[Change]:
    for found in CHANGE.finditer(recipe):
        yield Change(found["file"], found["where"], found["code"])


def test_the_tree_names_every_room() -> None:
    tree = re.search(r"```\n(.*?)```", PAGE, re.DOTALL)
    assert tree is not None
    rooms = {path.name for path in (ROOT / "thermocancer").iterdir() if (path / "__init__.py").exists()}
    assert {line.split("/")[0] for line in tree[1].splitlines()} == rooms


@pytest.mark.parametrize("file", sorted(set(re.findall(r"`((?:thermocancer|tests)/[\w/.]+)`", PAGE))))
def test_the_files_it_names_are_there(file: str) -> None:
    assert (ROOT / file).exists() or file in {change.file for recipe in RECIPES.values() for change in changes(recipe)}


def test_ten_questions() -> None:
    assert PAGE.count("? | `thermocancer/") == 10


@pytest.mark.parametrize("name", [name for name in RECIPES if "backbone" not in name])
def test_a_recipe_needs_one_or_two_files(name: str) -> None:
    assert 1 <= len({change.file for change in changes(RECIPES[name])}) <= 2


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with every recipe followed, and a road made with it from matrices in the new layout."""
    root = tmp_path_factory.mktemp("recipes")
    shutil.copytree(ROOT / "thermocancer", root / "thermocancer", ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in RECIPES.values():
        for change in changes(recipe):
            change.make(root)
    scans, workspace = root / "scans", Workspace(root / "w")
    scans.mkdir()
    labels = ["id,label"]
    for patient in range(1, 16):
        image, sick = body(patient, (32, 48)), patient % 3 == 0
        centi = hot_spot(image, 3.0) if sick else image
        rows = ("|".join(f"{value / 100:.2f}" for value in row) for row in centi.tolist())
        (scans / f"{patient}.txt").write_text("\n".join(rows) + "\n")
        labels.append(f"{patient},{'sick' if sick else 'healthy'}")
    (root / "labels.csv").write_text("\n".join(labels) + "\n")
    options = {"filter__views": ["Frontal"], "fuse__model": "thermal", "fuse__name": "thermal"}
    (root / "road.yaml").write_text(dump_yaml(config_for(workspace, **options, evaluate__bootstrap=100)))
    type_in(root, "import", "scans", "--labels", "labels.csv", "--view", "Frontal")
    for command in ("filter", "build-dataset", "fuse", "evaluate"):
        type_in(root, command, "-c", "road.yaml")
    return root


def type_in(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "thermocancer", *arguments, "-w", "w"],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_layout_is_read(followed: Path) -> None:
    catalog = (followed / "w" / "raw" / "catalog.jsonl").read_text()
    assert catalog.count('"layout": "pipe2"') == 15


def test_the_stage_is_a_command(followed: Path) -> None:
    assert "15 files" in type_in(followed, "count")


def test_the_metric_is_reported_with_its_interval(followed: Path) -> None:
    metric = read_json(followed / "w" / "runs" / "thermal" / "metrics.json")["prevalence"]
    assert metric["value"] == pytest.approx(5 / 15)
    assert metric["low"] < 5 / 15 < metric["high"]
    assert "prevalence" in (followed / "w" / "runs" / "thermal" / "report.html").read_text()


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("upper_half", "the upper half of the frame alone"),
        ("corner_celsius", "temperature of the upper left corner"),
    ],
)
def test_the_control_and_the_variable_stand_in_the_audit(followed: Path, name: str, title: str) -> None:
    controls = defaultdict(list)
    for each in read_json(followed / "w" / "runs" / "thermal" / "audit.json")["controls"]:
        controls[each["name"]].append(each)
    (control,) = controls[name]
    assert control["title"] == title
    assert 0 <= control["auc"]["value"] <= 1
