"""build-dataset: exact matrices in, the same bytes every time, nothing lost and nothing half done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import SHAPE, add_file, body, make_raw, settings

from thermocancer.config.base import Rendering
from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.data.cohort import centi_celsius, colours
from thermocancer.data.split import Split
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.errors import DataError
from thermocancer.files import hash_file, read_json
from thermocancer.progress import Silent
from thermocancer.stages.build_dataset import plan, run
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.rendering import render_centi
from thermocancer.workspace import Workspace


def contents(workspace: Workspace) -> dict[str, str]:
    paths = [*workspace.datasets.rglob("*"), workspace.split]
    return {str(path.relative_to(workspace.root)): hash_file(path) for path in paths}


def test_matrices_are_stored_exactly_with_what_is_known_of_them(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, views=("Frontal", "Left"))
    report = run(settings(workspace, filter__views=["Frontal", "Left"]), workspace, Silent())
    assert (report.made, report.failed, report.exit_code) == (2, [], 0)
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert (len(source), source.views, source.shape, source.kind) == (12, ("Frontal", "Left"), SHAPE, "celsius")
        assert [exam.key for exam in source.exams] == [f"{patient}_1" for patient in range(1, 13)]
        for record in read_catalog(workspace):
            row = record.patient - 1
            matrix = read_matrix(workspace.raw / record.path)
            assert np.array_equal(centi_celsius(source, record.view, np.array([row]))[0], matrix.centi)
            exam = source.exams[row]
            assert (exam.label, exam.date, exam.layout) == (record.label == "sick", record.date, matrix.layout)
            assert dict(exam.hashes).keys() == {"Frontal", "Left"}
        nuisance = source.nuisance()
        assert nuisance["room_celsius"] == pytest.approx([22 + 0.1 * (10 * p) % 2 for p in range(1, 13)], abs=0.1)
        assert nuisance["layout_semicolon5"].tolist() == [float(p % 4 == 0) for p in range(1, 13)]
        assert nuisance["file_bytes"][0] == read_catalog(workspace)[0].bytes
        assert source.present("Left").all()


def test_running_again_does_nothing_and_a_new_build_gives_the_same_bytes(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, frames=3)
    config = settings(workspace, dataset__dynamic=True, filter__frames=3)
    assert plan(config, workspace).todo == (
        "datasets/cohort.h5: 12 static exams, 12 dynamic exams from matrices",
        "split.json",
    )
    run(config, workspace, Silent())
    before = contents(workspace)
    again = run(config, workspace, Silent())
    assert (again.made, again.current) == (0, 2)
    assert plan(config, workspace).todo == ()
    for path in [*workspace.datasets.iterdir(), workspace.split]:
        path.unlink()
    run(settings(workspace, dataset__dynamic=True, filter__frames=3, dataset__threads=3), workspace, Silent())
    assert contents(workspace) == before


def test_a_plan_touches_nothing(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    plan(settings(workspace), workspace)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_build_that_was_killed_leaves_no_trace_in_the_next(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    run(settings(workspace), workspace, Silent())
    before = contents(workspace)
    (workspace.datasets / "cohort.json").unlink()
    leftovers = [workspace.datasets / ".cohort.4242.partial.h5", workspace.root / ".split.4242.partial.json"]
    for leftover in leftovers:
        leftover.write_bytes(b"half")
    assert run(settings(workspace), workspace, Silent()).made == 1
    assert contents(workspace) == before
    assert not any(leftover.exists() for leftover in leftovers)


def test_changed_content_is_noticed_whatever_its_date(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    run(settings(workspace), workspace, Silent())
    records = read_catalog(workspace)
    records[0] = add_file(workspace, body(999), 1, date=records[0].date)
    write_catalog(workspace, records)
    assert plan(settings(workspace), workspace).todo
    assert run(settings(workspace), workspace, Silent()).made == 1
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert np.array_equal(centi_celsius(source, "Frontal", np.array([0]))[0], body(999))


def test_size_averages_areas_in_degrees(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    run(settings(workspace, dataset__size=(24, 32)), workspace, Silent())
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert source.shape == (24, 32)
        averaged = body(10).astype(float).reshape(24, 2, 32, 2).mean(axis=(1, 3))
        assert np.abs(centi_celsius(source, "Frontal", np.array([0]))[0] - averaged).max() <= 0.5


def test_files_that_are_broken_or_changed_fail_and_the_rest_is_done(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    paths = {record.patient: workspace.raw / record.path for record in read_catalog(workspace)}
    paths[2].write_text(paths[2].read_text()[:1000])
    paths[4].unlink()
    report = run(settings(workspace), workspace, Silent())
    assert report.exit_code == 5
    assert [each.item for each in report.failed] == ["exam 2_1 (S)", "exam 4_1 (S)"]
    assert "changed" in report.failed[0].reason
    assert "vanished" in report.failed[1].reason
    assert str(tmp_path) not in (workspace.datasets / "cohort.json").read_text()
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert [exam.patient for exam in source.exams] == [1, 3, *range(5, 13)]
        assert np.array_equal(centi_celsius(source, "Frontal", np.array([1]))[0], body(30))
    again = run(settings(workspace), workspace, Silent())
    assert (again.made, len(again.failed)) == (0, 2)


def test_a_matrix_of_another_shape_is_listed(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    records = read_catalog(workspace)
    records[5] = add_file(workspace, body(7, (24, 32)), records[5].patient, label=records[5].label)
    write_catalog(workspace, records)
    report = run(settings(workspace), workspace, Silent())
    assert any("1 wrong_shape" in note for note in report.notes)
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert len(source) == 11


def test_nothing_usable_is_bad_input_data(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    for record in read_catalog(workspace):
        (workspace.raw / record.path).write_text("<html>")
    with pytest.raises(DataError, match="no exam can go"):
        run(settings(workspace), workspace, Silent())
    assert not workspace.dataset("cohort").exists()
    with pytest.raises(DataError, match="no exam can go"):
        run(settings(workspace, filter__views=["Frontal", "Left"]), workspace, Silent())
    with pytest.raises(DataError, match="no thermograms yet"):
        run(settings(workspace), Workspace(tmp_path / "empty"), Silent())


def test_the_split_is_made_once_and_only_grows(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, patients=range(1, 13))
    run(settings(workspace), workspace, Silent())
    first = Split.read(workspace.split)
    old = read_catalog(workspace)
    make_raw(tmp_path, patients=range(13, 31))
    write_catalog(workspace, [*old, *read_catalog(workspace)])
    report = run(settings(workspace, seed=9), workspace, Silent())
    second = Split.read(workspace.split)
    assert set(first.train) <= set(second.train)
    assert set(first.test) <= set(second.test)
    assert len(second.train) + len(second.test) == 30
    assert "split.json: 18 new patients added, none moved" in report.notes
    assert any("seed 0" in note for note in report.notes)


def test_the_manifest_says_what_went_in_and_from_where(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    run(settings(workspace), workspace, Silent())
    manifest = json.loads((workspace.datasets / "cohort.json").read_text())
    assert manifest["static"]["exams"] == 12
    assert manifest["config"]["source"] == "matrices"
    assert manifest["exams"]["static"][2] == {
        "exam": "3_1",
        "label": "sick",
        "date": "2014-05-04",
        "files": {"Frontal": "raw/Static/Frontal/sick/T0003.1.1.S.2014-05-04.00.txt"},
    }
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert manifest["fingerprints"] == {"static": source.fingerprint}


def test_sequences_are_ordered_by_index_complete_and_exact(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, frames=12)
    records = [r for r in read_catalog(workspace) if not (r.patient == 2 and r.protocol == "D" and r.index in (3, 4))]
    write_catalog(workspace, records)
    report = run(settings(workspace, dataset__dynamic=True, filter__frames=12), workspace, Silent())
    assert report.exit_code == 0
    assert any("1 frame_gaps" in note for note in report.notes)
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as source:
        assert [exam.patient for exam in source.exams] == [1, *range(3, 13)]
        frames = source.frames("Frontal", np.array([1]))
        assert frames.shape == (1, 12, *SHAPE)
        assert all(np.array_equal(frames[0, index], body(35) + 3 * index) for index in range(12))


def test_short_gaps_are_filled_by_interpolation_in_time_and_recorded(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, frames=6)
    dropped = {2: (2, 3), 4: (0,), 5: (1, 2, 3)}
    records = [r for r in read_catalog(workspace) if r.protocol == "S" or r.index not in dropped.get(r.patient, ())]
    write_catalog(workspace, records)
    config = settings(workspace, dataset__dynamic=True, filter__frames=6, dit__allow_gaps=2)
    run(config, workspace, Silent())
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as source:
        patients = [exam.patient for exam in source.exams]
        assert patients == [1, 2, 3, *range(6, 13)]
        assert np.flatnonzero(source.filled[1]).tolist() == [2, 3]
        assert source.filled.sum() == 2
        frames = source.frames("Frontal", np.array([1]))[0]
        assert all(np.array_equal(frames[index], body(25) + 3 * index) for index in range(6))
        assert [place for place, _ in source.exams[1].hashes] == ["00", "01", "04", "05"]
    listed = json.loads((workspace.datasets / "cohort.json").read_text())["exams"]["dynamic"]
    assert listed[1]["filled"] == [2, 3]


def test_images_and_videos_give_the_original_recipe(tmp_path: Path) -> None:
    from thermocancer.stages import convert
    from thermocancer.thermal.rendering import render_centi

    workspace = make_raw(tmp_path, frames=4)
    options = {"dataset__source": "videos", "dataset__dynamic": True, "filter__frames": 4}
    options |= {"convert__format": "png", "convert__videos": True, "convert__video_codec": "FFV1"}
    config = settings(workspace, **options)
    convert.run(config, workspace, Silent())
    report = run(config, workspace, Silent())
    assert (report.exit_code, report.failed) == (0, [])
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert source.kind == "rgb"
        assert np.array_equal(
            colours(source, "Frontal", np.array([4]))[0], render_centi(body(50), config.convert.rendering)
        )
        assert np.isfinite(source.nuisance()["room_celsius"]).all(), "nuisance is measured on the matrices"
        with pytest.raises(DataError, match="no degrees"):
            centi_celsius(source, "Frontal", np.array([0]))
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as sequences:
        assert sequences.kind == "rgb"
        frames = sequences.frames("Frontal", np.array([2, 0]), [3, 1])
        expected = [
            render_centi(body(s) + np.uint16(3 * i), config.convert.video_rendering) for s, i in ((35, 3), (15, 1))
        ]
        assert np.array_equal(frames[0, 0], expected[0])
        assert np.array_equal(frames[1, 1], expected[1])


def test_a_truncated_video_is_a_listed_failure(tmp_path: Path) -> None:
    from thermocancer.stages import convert

    workspace = make_raw(tmp_path, frames=4)
    config = settings(
        workspace, dataset__source="videos", dataset__dynamic=True, filter__frames=4, convert__videos=True
    )
    convert.run(config, workspace, Silent())
    cut = workspace.videos / "healthy" / "2_1.avi"
    cut.write_bytes(cut.read_bytes()[:3000])
    report = run(config, workspace, Silent())
    assert [each.item for each in report.failed] == ["dynamic exam 2_1"]
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as sequences:
        assert len(sequences) == 11


def test_a_missing_image_is_a_listed_failure(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    with pytest.raises(DataError, match="no exam could be read") as caught:
        run(settings(workspace, dataset__source="images"), workspace, Silent())
    assert "convert" in str(caught.value)


def test_a_picture_under_two_names_goes_in_once(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path)
    records = read_catalog(workspace)
    for patient in (1, 2):
        place = next(number for number, record in enumerate(records) if record.patient == patient)
        records[place] = add_file(workspace, body(77), patient, layout=("space2", "semicolon5")[patient - 1])
    write_catalog(workspace, records)
    report = run(settings(workspace), workspace, Silent())
    assert any("1 duplicate" in note for note in report.notes)
    with StoredCohort(workspace.dataset("cohort")) as source:
        assert [exam.patient for exam in source.exams] == [1, *range(3, 13)]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    import subprocess
    import sys

    make_raw(tmp_path)
    code = (
        "import resource, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from dataset_fixtures import settings\nfrom thermocancer.errors import RunError\n"
        "from thermocancer.progress import Silent\nfrom thermocancer.stages.build_dataset import run\n"
        "from thermocancer.workspace import Workspace\n"
        "workspace = Workspace(Path(sys.argv[1]))\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n    run(settings(workspace), workspace, Silent())\nexcept RunError as error:\n    print(error.what)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "a file could not be written", done.stderr
    assert not list((tmp_path / "datasets").iterdir())


def test_options_of_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from thermocancer.cli import register

    make_raw(tmp_path)
    common = ["build-dataset", "-w", str(tmp_path), "--set", "filter.views=[Frontal]"]
    done = CliRunner().invoke(register(), [*common, "--name", "small", "--size", "24x32"])
    assert done.exit_code == 0, done.output
    with StoredCohort(tmp_path / "datasets" / "small.h5") as source:
        assert (source.name, source.shape) == ("small", (24, 32))
    for wrong in (["--name", "../up"], ["--size", "24xten"], ["--source", "dreams"]):
        assert CliRunner().invoke(register(), [*common, *wrong]).exit_code == 2


def test_the_contact_sheet_shows_exams_of_both_classes_view_by_view(tmp_path: Path) -> None:
    import cv2

    workspace = make_raw(tmp_path, views=("Frontal", "Left"))
    config = settings(workspace, filter__views=["Frontal", "Left"])
    first = run(settings(workspace, filter__views=["Frontal"]), workspace, Silent())
    made = ("datasets/cohort.h5", "datasets/cohort.png", "split.json")
    assert first.outputs == [str(workspace.root / each) for each in made]
    assert run(config, workspace, Silent()).outputs == first.outputs[:2], "the split is as it was"
    path = workspace.dataset("cohort")
    assert path.with_suffix(".png").name in read_json(path.with_suffix(".json"))["outputs"]
    sheet = cv2.imread(str(path.with_suffix(".png")))[:, :, ::-1]
    with StoredCohort(path) as cohort:
        labels = [exam.label for exam in cohort.exams]
        shown = [row for label in (0, 1) for row in np.flatnonzero(np.array(labels) == label)[:3]]
        high = 14 + 160 * cohort.shape[0] // cohort.shape[1]
        assert sheet.shape[:2] == (high * len(shown), 160 * len(cohort.views))
        for line, row in enumerate(shown):
            for column, view in enumerate(cohort.views):
                own = render_centi(centi_celsius(cohort, view, np.array([row]))[0], Rendering())
                cell = sheet[line * high + 14 : (line + 1) * high, column * 160 : (column + 1) * 160]
                assert np.array_equal(cell, cv2.resize(own, cell.shape[1::-1], interpolation=cv2.INTER_AREA))
