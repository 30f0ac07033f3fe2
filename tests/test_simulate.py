"""``simulate``: the tree, the catalog and the truth it leaves, whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.data.names import parse_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.outcome import StageReport
from thermocancer.phantom import synthetic
from thermocancer.progress import Silent
from thermocancer.stages import simulate
from thermocancer.workspace import VIEWS, Workspace

TINY = {"simulate.patients": 3, "simulate.shape": "48x64", "simulate.frames": 4, "simulate.sick_fraction": 0.5}


def config_for(folder: Path, **settings: Any) -> Config:
    options = {**TINY, **{f"simulate.{name}": value for name, value in settings.items()}}
    return load_config(options=options, workspace=folder)


def run(folder: Path, **settings: Any) -> StageReport:
    return simulate.run(config_for(folder, **settings), Workspace(folder), Silent())


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under raw/."""
    raw = folder / "raw"
    return {
        str(path.relative_to(raw)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(raw.rglob("*"))
        if path.is_file()
    }


def truth_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "raw" / "truth.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    run(folder, missing_views=0.0, missing_frames=0.0, repeated_views=0.0, second_visits=0.3)
    return folder


def test_a_visit_has_every_matrix_under_its_name(made: Path) -> None:
    records = read_catalog(Workspace(made))
    exams = {record.exam for record in records}
    assert len(exams) >= 3
    for exam in exams:
        mine = [record for record in records if record.exam == exam]
        assert sorted(each.view for each in mine if each.protocol == "S") == sorted(VIEWS)
        dynamic = sorted((each.view, each.index) for each in mine if each.protocol == "D")
        assert dynamic == [*(("Frontal", index) for index in range(4)), ("Left", 0), ("Right", 0)]
    for record in records:
        assert record.path == record.name.tree_path(record.label)
        assert parse_name(Path(record.path).name) == record.name
        file = made / "raw" / record.path
        assert (record.sha256, record.bytes) == (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size)
        assert record.source == "simulate"
        assert set(record.extra) == {"camera", "room_celsius"}


def test_matrices_read_back_as_numpy_reads_them(made: Path) -> None:
    for record in read_catalog(Workspace(made))[::7]:
        separator = ";" if record.layout == "semicolon5" else None
        matrix = np.loadtxt(made / "raw" / record.path, delimiter=separator)
        assert matrix.shape == (48, 64)
        assert 17 < matrix.min() < 25 < 30 < matrix.max() < 40


def test_both_cameras_write_their_own_text(tmp_path: Path) -> None:
    run(tmp_path, patients=2, tie="camera", dynamic=False)
    first = {record.label: record for record in read_catalog(Workspace(tmp_path))}
    sick, healthy = first["sick"], first["healthy"]
    assert (sick.layout, healthy.layout) == ("semicolon5", "space2")
    text = (tmp_path / "raw" / sick.path).read_text().splitlines()[0]
    assert all(len(number.split(".")[1]) == 5 for number in text.split(";") if number)
    text = (tmp_path / "raw" / healthy.path).read_text().splitlines()[0]
    assert all(len(number.split(".")[1]) == 2 for number in text.split(" "))


def test_truth_has_a_line_an_exam(made: Path) -> None:
    lines = truth_of(made)
    records = {record.exam: record for record in read_catalog(Workspace(made))}
    assert {f"{line['patient']}_{line['visit']}" for line in lines} == set(records)
    for line in lines:
        record = records[f"{line['patient']}_{line['visit']}"]
        assert (line["label"], line["date"]) == (record.label, record.date)
        assert record.extra == {"camera": line["camera"], "room_celsius": line["room_celsius"]}
        sick = line["label"] == "sick"
        assert (line["tumour"] is not None) == (line["site"] is not None) == bool(line["masks"]) == sick
        assert (line["contrast_celsius"] > 0) == sick
        assert all((made / "raw" / path).is_file() for path in line["masks"])


def test_again_with_nothing_changed_does_nothing(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (made / "raw").rglob("*")}
    report = run(made, missing_views=0.0, missing_frames=0.0, repeated_views=0.0, second_visits=0.3)
    assert report.nothing_to_do
    assert report.figures["patients"] == 3
    assert before == {path: path.stat().st_mtime_ns for path in (made / "raw").rglob("*")}


def test_plan_touches_nothing_and_tells_what_run_does(tmp_path: Path) -> None:
    config, workspace = config_for(tmp_path / "new"), Workspace(tmp_path / "new")
    plan = simulate.plan(config, workspace)
    assert not workspace.root.exists()
    assert simulate.run(config, workspace, Silent()).made == len(plan.todo)
    assert simulate.plan(config, workspace).todo == ()


def test_the_bytes_do_not_depend_on_processes_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "one", processes=1, dynamic=False)
    monkeypatch.setattr(synthetic, "SERIAL_PIXELS", 0)
    run(tmp_path / "two", processes=2, dynamic=False)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    seeded = load_config(options={**TINY, "seed": 5, "simulate.dynamic": False}, workspace=tmp_path / "three")
    simulate.run(seeded, Workspace(tmp_path / "three"), Silent())
    assert content(tmp_path / "three") != content(tmp_path / "one")


def test_an_older_processor_makes_the_same_bytes(tmp_path: Path) -> None:
    """Without vector instructions, and with the oldest kernels of the linear algebra library."""
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    run(tmp_path / "here", patients=2)
    command = [sys.executable, "-m", "thermocancer", "simulate", "-w", str(tmp_path / "there"), "--quiet"]
    for key, value in {**TINY, "simulate.patients": 2}.items():
        command += ["--set", f"{key}={value}"]
    present = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    older = {"OPENBLAS_CORETYPE": "Prescott", "OPENBLAS_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": present}
    subprocess.run(command, env={**os.environ, **older}, check=True)
    assert content(tmp_path / "here") == content(tmp_path / "there")


def test_lost_broken_and_uncatalogued_files_are_made_again(tmp_path: Path) -> None:
    run(tmp_path)
    whole = content(tmp_path)
    paths = sorted((tmp_path / "raw" / "Static").rglob("*.txt"))
    paths[0].unlink()
    paths[-1].write_text("20.00 20.00\n")
    (tmp_path / "raw" / "truth.jsonl").write_text("")
    assert run(tmp_path).made >= 1
    assert content(tmp_path) == whole
    shutil.rmtree(tmp_path / "cache")
    assert run(tmp_path).nothing_to_do
    (tmp_path / "raw" / "catalog.jsonl").unlink()
    run(tmp_path)
    assert content(tmp_path) == whole


def test_other_settings_leave_nothing_of_the_old_cohort(tmp_path: Path) -> None:
    run(tmp_path / "changed", patients=4)
    run(tmp_path / "changed", dynamic=False)
    run(tmp_path / "fresh", dynamic=False)
    assert content(tmp_path / "changed") == content(tmp_path / "fresh")


def test_killed_on_the_way_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "thermocancer", "simulate", "-w", str(tmp_path / "killed"), "--quiet"]
    for key, value in TINY.items():
        command += ["--set", f"{key}={value}"]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    # killed in the middle of the second visit: one is finished, one half written
    while not list((tmp_path / "killed" / "raw" / "Dynamic").rglob("*_*/T0002*.txt")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(tmp_path / "killed")
    run(tmp_path / "whole")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert not (tmp_path / "killed" / "cache" / "simulate").exists()


def test_an_interrupted_cohort_of_other_settings_is_cleared_away(tmp_path: Path) -> None:
    config, workspace = config_for(tmp_path, patients=3, dynamic=False), Workspace(tmp_path)
    visits = simulate._visits(config)
    journal = workspace.cache / "simulate" / simulate._made_from(config)[:16]
    making = synthetic.Making(str(tmp_path), str(journal), config.simulate, config.seed)
    synthetic.make_visit(making, visits[-1])
    assert content(tmp_path)
    run(tmp_path, patients=2, dynamic=False)
    run(tmp_path / "fresh", patients=2, dynamic=False)
    assert content(tmp_path) == content(tmp_path / "fresh")


def test_real_thermograms_are_never_mixed_in(tmp_path: Path) -> None:
    theirs = Record("Static/Frontal/healthy/T0002.1.1.S.2013-01-01.00.txt", 2, 1, "Frontal", "S", None, 0, "healthy")
    write_catalog(Workspace(tmp_path), [theirs])
    with pytest.raises(DataError, match="already holds other thermograms"):
        run(tmp_path)
    assert [record.path for record in read_catalog(Workspace(tmp_path))] == [theirs.path]


def test_missing_repeated_and_misfiled_exams_are_recorded(tmp_path: Path) -> None:
    run(tmp_path, missing_views=1.0, missing_frames=1.0, repeated_views=1.0, wrong_labels=1.0)
    records = read_catalog(Workspace(tmp_path))
    for line in truth_of(tmp_path):
        mine = [record for record in records if record.exam == f"{line['patient']}_{line['visit']}"]
        static = [each for each in mine if each.protocol == "S"]
        assert {each.view for each in static} == set(VIEWS) - set(line["missing_views"])
        repeats = [each for each in static if each.index == 1]
        assert [each.view for each in repeats] == [line["repeated_view"]] * (
            line["repeated_view"] not in line["missing_views"]
        )
        frames = {each.index for each in mine if each.protocol == "D" and each.view == "Frontal"}
        assert frames == set(range(4)) - set(line["missing_frames"])
        assert {each.label for each in mine} == {line["listed"]} != {line["label"]}


def test_detectability_is_a_table_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thermocancer.phantom import detectability

    monkeypatch.setattr(detectability, "DIAMETERS_MM", (10.0, 20.0))
    monkeypatch.setattr(detectability, "DEPTHS_MM", (10.0, 15.0, 30.0, 45.0))
    report = run(tmp_path, detectability=True)
    table = np.genfromtxt(
        tmp_path / "detectability" / "detectability.csv", delimiter=",", names=True, dtype=None, encoding="utf-8"
    )
    assert report.figures["tumours"] == len(table) == 14
    assert (tmp_path / "detectability" / "detectability.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "raw").exists()
    for name in ("contrast_celsius", "auc_pixel_1", "auc_skin_1", "auc_skin_20"):
        for row in (table[table["law"] == "gautherie"], table[table["law"] == "calibrated-low"]):
            for diameter in (10, 20):
                assert np.all(np.diff(row[row["diameter_mm"] == diameter][name]) <= 0)
    assert np.all(table["auc_skin_20"] >= table["auc_skin_1"])
    assert np.all(table["auc_camera_1"] >= table["auc_skin_1"])
    invisible = table[(table["law"] == "gautherie") & (table["depth_mm"] == 45)]
    assert np.all(invisible["auc_skin_20"] < 0.53)
    assert run(tmp_path, detectability=True).nothing_to_do


def test_detectability_needs_a_breast(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too thin"):
        run(tmp_path, detectability=True, tissue="layers-B")


def test_command_line_takes_shape_patients_and_seed(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "thermocancer", "simulate", "-w", str(tmp_path), "--patients", "2", "--seed", "3",
        "--shape", "48x64", "--set", "simulate.dynamic=false", "--json", "-",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["figures"]["patients"] == 2
    assert report["exit_code"] == 0
