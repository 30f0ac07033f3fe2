"""The road end to end on a small phantom: every figure recomputed, nothing done twice, kills survived."""

from __future__ import annotations

import csv
import json
import random
import shutil
from pathlib import Path
from statistics import mean

import pytest
from kill_road import SMALL_ROAD, differences, kill_after, run_to_end, tree

RUN = Path("runs") / "svm3"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "road.yaml"
    path.write_text(SMALL_ROAD)
    return path


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Path:
    workspace = tmp_path_factory.mktemp("road") / "workspace"
    run_to_end("run", config, workspace)
    return workspace


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def units_of(path: Path) -> dict[str, tuple[int, float, float]]:
    """Label, mean score and share of positive decisions of each unit, by code of this test's own."""
    rows = rows_of(path)
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row["patient"], set()).add(row["label"])
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        key = row["patient"] if len(labels[row["patient"]]) == 1 else f"{row['patient']}/{row['visit']}"
        groups.setdefault(key, []).append(row)
    return {
        key: (int(group[0]["label"]), mean(float(r["score"]) for r in group), mean(int(r["predicted"]) for r in group))
        for key, group in groups.items()
    }


def test_the_report_stands_and_its_figures_can_be_recomputed(road: Path) -> None:
    metrics = json.loads((road / RUN / "metrics.json").read_text())
    units = units_of(road / RUN / "predictions.csv")
    said = [(label, share >= 0.5) for label, _, share in units.values()]
    tp, fn = said.count((1, True)), said.count((1, False))
    fp, tn = said.count((0, True)), said.count((0, False))
    assert metrics["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    assert (metrics["n"], metrics["positives"]) == (len(units), tp + fn)
    assert metrics["sensitivity"]["value"] == pytest.approx(tp / (tp + fn))
    assert metrics["specificity"]["value"] == pytest.approx(tn / (tn + fp))
    assert metrics["accuracy"]["value"] == pytest.approx((tp + tn) / len(units))
    sick = [score for label, score, _ in units.values() if label == 1]
    well = [score for label, score, _ in units.values() if label == 0]
    ranked = mean(float(s > w) + 0.5 * (s == w) for s in sick for w in well)
    assert metrics["auc_pooled"]["value"] == pytest.approx(ranked)
    rows = rows_of(road / RUN / "predictions.csv")
    scores: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        scores.setdefault((row["fold"], row["patient"], row["label"]), []).append(float(row["score"]))
    means = {key: mean(own) for key, own in scores.items()}
    met = [
        float(means[one] > means[other]) + 0.5 * (means[one] == means[other])
        for one in means for other in means if one[0] == other[0] and (one[2], other[2]) == ("1", "0")
    ]  # fmt: skip
    assert metrics["auc"]["value"] == pytest.approx(mean(met))
    brier = mean((score - label) ** 2 for label, score, _ in units.values())
    assert metrics["brier"]["value"] == pytest.approx(brier)
    assert metrics["protocol"] == "grouped-cv"
    assert metrics["leaks"] == []
    report = (road / RUN / "report.html").read_text()
    assert "not a substitute for mammography" in report
    assert "data:image/png;base64," in report
    assert 'src="http' not in report


def test_no_patient_stands_on_both_sides(road: Path) -> None:
    split = json.loads((road / "split.json").read_text())
    assert not set(split["train"]) & set(split["test"])
    rows = rows_of(road / RUN / "predictions.csv")
    folds: dict[str, set[str]] = {}
    for row in rows:
        repeat = row["fold"].split(".")[0]
        folds.setdefault(f"{repeat}/{row['patient']}", set()).add(row["fold"])
    assert all(len(found) == 1 for found in folds.values())


def test_a_second_run_changes_no_byte(road: Path, config: Path) -> None:
    before = tree(road)
    stamps = {path: path.stat().st_mtime_ns for path in road.rglob("*") if path.is_file() and "locks" not in path.parts}
    run_to_end("run", config, road)
    assert differences(before, tree(road)) == []
    rewritten = [
        path
        for path, stamp in stamps.items()
        if path.relative_to(road).parts[0] != "cache" and path.stat().st_mtime_ns != stamp
    ]
    assert rewritten == []


def test_the_road_survives_kills_byte_for_byte(road: Path, config: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    draw = random.Random(11)
    for _ in range(4):
        kill_after(draw.uniform(1.5, 14), "run", config, workspace)
    run_to_end("run", config, workspace)
    assert differences(tree(road), tree(workspace)) == []


def test_one_changed_matrix_changes_what_depends_on_it(road: Path, config: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(road, workspace)
    image = next((workspace / "images" / "Static" / "Frontal").rglob("*.jpg"))
    content = image.read_bytes()
    image.unlink()
    run_to_end("convert", config, workspace)
    assert image.read_bytes() == content
