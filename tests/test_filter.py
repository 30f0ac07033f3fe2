"""filter keeps complete and sound exams, names the fault of every other one, and reruns change nothing."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from dataset_fixtures import add_file, body
from thermal_fixtures import SHAPE, make_centi, make_workspace, put_matrix, tree_of

from thermocancer import strategy
from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.data.cohort import ALIKE
from thermocancer.data.split import group_patients
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError
from thermocancer.progress import Silent
from thermocancer.stages import build_dataset, convert, simulate
from thermocancer.stages import filter as stage
from thermocancer.stages.doctor import check_up
from thermocancer.thermal.likeness import alike, look_of
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import VIEWS, Workspace


def config_for(workspace: Workspace, **options: object) -> Config:
    keyed = {f"filter.{name}": value for name, value in options.items()}
    return load_config(options={"convert.rendering.colormap": "gray", **keyed}, workspace=workspace.root)


def table_of(workspace: Workspace) -> dict[tuple[str, str], dict[str, str]]:
    with open(workspace.filtered / "filter.csv", encoding="utf-8", newline="") as handle:
        return {(row["exam"], row["protocol"]): row for row in csv.DictReader(handle)}


def run(workspace: Workspace, **options: object) -> dict[tuple[str, str], dict[str, str]]:
    stage.run(config_for(workspace, **options), workspace, Silent())
    return table_of(workspace)


def flat(patient: int) -> bytes:
    return format_matrix(np.full(SHAPE, 2787 + patient, np.uint16))


def spoiled(value: bytes) -> bytes:
    text = format_matrix(make_centi(99))
    return value + text[5:]


def mostly(fill: str) -> bytes:
    rows = [line.split() for line in format_matrix(make_centi(99)).decode().splitlines()]
    return "".join(" ".join([fill] * 60 + row[60:]) + "\n" for row in rows).encode()


Change = Callable[[Workspace, list[Record]], list[Record]]


def with_file(**changes: object) -> Change:
    """Replace the Frontal file of patient 2 (sick)."""

    def change(workspace: Workspace, records: list[Record]) -> list[Record]:
        kept = [each for each in records if not (each.patient == 2 and each.view == "Frontal")]
        return [*kept, put_matrix(workspace, 2, label="sick", **changes)]  # type: ignore[arg-type]

    return change


def without_view(workspace: Workspace, records: list[Record]) -> list[Record]:
    return [each for each in records if not (each.patient == 2 and each.view == "Left45")]


def with_missing_link(workspace: Workspace, records: list[Record]) -> list[Record]:
    return [
        replace(each, path="", sha256="", status="missing", reason="empty link")
        if each.patient == 2 and each.view == "Left45"
        else each
        for each in records
    ]


def with_two_of_a_view(workspace: Workspace, records: list[Record]) -> list[Record]:
    return [*records, put_matrix(workspace, 2, label="sick", index=1)]


def unlabelled(workspace: Workspace, records: list[Record]) -> list[Record]:
    return [
        replace(each, path="", label="unknown", status="unlabelled", reason="its label is blank")
        if each.patient == 2
        else each
        for each in records
    ]


def copied_from_another_label(workspace: Workspace, records: list[Record]) -> list[Record]:
    content = (workspace.raw / next(r.path for r in records if r.patient == 1 and r.view == "Frontal")).read_bytes()
    return with_file(content=content)(workspace, records)


def copied_within_the_exam(workspace: Workspace, records: list[Record]) -> list[Record]:
    content = (workspace.raw / next(r.path for r in records if r.patient == 2 and r.view == "Left")).read_bytes()
    return with_file(content=content)(workspace, records)


def changed_on_disk(workspace: Workspace, records: list[Record]) -> list[Record]:
    path = workspace.raw / next(r.path for r in records if r.patient == 2 and r.view == "Left")
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    return records


def vanished(workspace: Workspace, records: list[Record]) -> list[Record]:
    (workspace.raw / next(r.path for r in records if r.patient == 2 and r.view == "Left")).unlink()
    return records


FAULTS: dict[str, tuple[Change, str, str]] = {
    "missing view": (without_view, "missing_view", "no Left45"),
    "view missing on the site": (with_missing_link, "missing_view", "no Left45 (missing: empty link)"),
    "two files of a view": (with_two_of_a_view, "extra_view", "2 files of Frontal"),
    "wrong shape": (with_file(content=format_matrix(make_centi(1, shape=(40, 64)))), "wrong_shape", "40x64"),
    "flat": (with_file(content=flat(1)), "flat", "within 0.00 degC"),
    "too cold": (with_file(content=spoiled(b"04.99")), "out_of_range", "4.99 to"),
    "too hot": (with_file(content=spoiled(b"45.01")), "out_of_range", "to 45.01"),
    "not finite": (with_file(content=mostly("NaN")), "not_finite", "2880 of 3072 values (93.8%)"),
    "fill": (with_file(content=mostly("0.00")), "fill", "2880 of 3072 values (93.8%)"),
    "unlabelled": (unlabelled, "unlabelled", "its label is blank"),
    "picture of another label": (copied_from_another_label, "duplicate", "exam 1_1, with another label"),
    "one picture as two views": (copied_within_the_exam, "duplicate", "under two names"),
    "changed on disk": (changed_on_disk, "unreadable", "not the one that was catalogued"),
    "vanished": (vanished, "unreadable", "vanished"),
    "truncated": (with_file(content=format_matrix(make_centi(1))[:-40]), "unreadable", "cut off (line 48)"),
}


@pytest.mark.parametrize(("change", "code", "reason"), FAULTS.values(), ids=FAULTS)
def test_fault_is_named_and_the_rest_is_kept(change: Change, code: str, reason: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_catalog(workspace, change(workspace, read_catalog(workspace)))
    table = run(workspace)
    assert table["2_1", "S"]["kept"] == "no"
    assert code in table["2_1", "S"]["verdict"].split("+")
    assert reason in table["2_1", "S"]["reason"]
    assert table["3_1", "S"]["kept"] == "yes"
    names = [Path(name).stem for name in tree_of(workspace.filtered) if name.startswith("Static")]
    assert "image_2_1" not in names
    assert names.count("image_3_1") == len(VIEWS)


def test_kept_files_have_the_names_of_the_original_study(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, frames=20)
    table = run(workspace)
    assert {row["verdict"] for row in table.values()} == {"complete"}
    names = set(tree_of(workspace.filtered)) - {"filter.csv"}
    assert {f"Static/{view}/healthy/image_1_1.txt" for view in VIEWS} <= names
    assert {f"Dynamic/sick/2_1/T0002.1.1.D.2015-03-13.{index:02d}.txt" for index in range(20)} <= names
    assert len(names) == 2 * (len(VIEWS) + 20)
    raw = workspace.raw / "Static/Frontal/healthy/T0001.1.1.S.2015-03-13.00.txt"
    assert os.path.samefile(raw, workspace.filtered / "Static/Frontal/healthy/image_1_1.txt")


@pytest.mark.parametrize("views", [("Frontal",), ("Frontal", "Left", "Right")], ids=["one", "three"])
def test_only_required_views_count(views: tuple[str, ...], tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, views=("Frontal", "Right", "Left"))
    with pytest.raises(DataError, match="no exam can be kept") as caught:
        run(workspace)
    assert str(caught.value.hint) == "set filter.views to what most exams have: --views Frontal,Right,Left"
    assert set(table_of(workspace)["1_1", "S"]["verdict"].split("+")) == {"missing_view"}
    assert all(row["kept"] == "yes" for row in run(workspace, views=views).values())
    assert {name.split("/")[1] for name in tree_of(workspace.filtered) if "/" in name} == set(views)


@pytest.mark.parametrize(
    ("indices", "verdict", "reason"),
    [
        ([*range(20)], "complete", ""),
        ([1, 3, 6, *range(9, 15)], "frame_gaps", "11 of 20 frames missing: 0 2 4-5 7-8 15-19"),
        ([*range(1, 21)], "frame_gaps+extra_frame", "frames beyond 19: 20"),
        ([], "frame_gaps", "no frontal frames"),
    ],
    ids=["complete", "gaps", "shifted", "only lateral"],
)
def test_frame_gaps_are_listed(indices: list[int], verdict: str, reason: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=1)
    frames = [put_matrix(workspace, 1, protocol="D", index=index) for index in indices]
    frames.append(put_matrix(workspace, 1, "Left", protocol="D", index=0))
    write_catalog(workspace, [*read_catalog(workspace), *frames])
    row = run(workspace)["1_1", "D"]
    assert row["verdict"] == verdict
    assert reason in row["reason"]


def test_bad_frame_is_named_and_the_others_counted(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, frames=20)
    records = [each for each in read_catalog(workspace) if (each.patient, each.protocol) != (2, "D")]
    frames = [
        put_matrix(workspace, 2, label="sick", protocol="D", index=i, content=flat(i) if i > 17 else None)
        for i in range(20)
    ]
    write_catalog(workspace, [*records, *frames])
    row = run(workspace)["2_1", "D"]
    assert row["verdict"] == "flat"
    assert row["reason"].startswith("frame 18: ")
    assert row["reason"].endswith("(and 1 more)")


def test_of_copies_under_one_label_the_first_sound_exam_stays(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=1, views=("Frontal",))
    text = (workspace.raw / read_catalog(workspace)[0].path).read_bytes()
    copies = [put_matrix(workspace, patient, content=text.replace(b" ", b";")) for patient in (5, 7)]
    write_catalog(workspace, [*read_catalog(workspace), *copies])
    table = run(workspace, views=("Frontal",))
    assert [table[f"{patient}_1", "S"]["verdict"] for patient in (1, 5, 7)] == ["complete", "duplicate", "duplicate"]
    assert "1_1, 7_1" in table["5_1", "S"]["reason"]


def test_images_are_linked_once_converted(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, views=("Frontal",))
    config = config_for(workspace, views=("Frontal",))
    stage.run(config, workspace, Silent())
    convert.run(config, workspace, Silent())
    report = stage.run(config, workspace, Silent())
    assert report.made == 2
    assert set(tree_of(workspace.filtered)) == {
        "filter.csv",
        "Static/Frontal/healthy/image_1_1.jpg",
        "Static/Frontal/sick/image_2_1.jpg",
    }
    image = workspace.images / "Static/Frontal/sick/T0002.1.1.S.2015-03-13.00.jpg"
    assert os.path.samefile(image, workspace.filtered / "Static/Frontal/sick/image_2_1.jpg")
    assert stage.run(config, workspace, Silent()).nothing_to_do


def test_rerun_does_nothing_and_repairs_what_was_damaged(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, frames=20)
    config = config_for(workspace)
    stage.run(config, workspace, Silent())
    before = tree_of(workspace.filtered)
    again = stage.run(config, workspace, Silent())
    assert again.nothing_to_do
    assert again.current == 3 * 25
    (workspace.filtered / "Static/Left/healthy/image_1_1.txt").unlink()
    (workspace.filtered / "Static/Left/healthy/stray.txt").write_text("left by a killed run")
    (workspace.filtered / "filter.csv").write_text("half")
    (workspace.cache / "quality.json").write_text("{broken")
    assert stage.plan(config, workspace).todo
    stage.run(config, workspace, Silent())
    assert tree_of(workspace.filtered) == before


def test_matrices_are_measured_once(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, patients=2, views=("Frontal",))
    config = config_for(workspace, views=("Frontal",))
    stage.run(config, workspace, Silent())
    assert (workspace.cache / "quality.json").exists()
    changed = config_for(workspace, views=("Frontal",), low=22.0)
    with pytest.raises(DataError, match="no exam can be kept"):
        stage.run(changed, workspace, Silent())
    assert {row["verdict"] for row in table_of(workspace).values()} == {"out_of_range"}


def test_plan_touches_nothing(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    before = tree_of(tmp_path)
    plan = stage.plan(config_for(workspace), workspace)
    assert len(plan.todo) == 3 * len(VIEWS)
    assert "3 of 3 exams are kept" in plan.notes
    assert tree_of(tmp_path) == before


def test_workspace_without_catalog(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(DataError, match="no thermograms yet"):
        stage.run(config_for(workspace), workspace, Silent())


def test_the_original_rule_drops_what_cannot_be_read_and_nothing_else(tmp_path: Path) -> None:
    """Identical and implausible pictures stay, of two files of a view the last by name counts, first visits alone."""
    from thermocancer.config.preparation import FilterSection
    from thermocancer.data.selection import measure_records, select_exams

    workspace = make_workspace(tmp_path, patients=6, views=("Frontal", "Left"), frames=4)
    records = [each for each in read_catalog(workspace) if (each.patient, each.view) != (6, "Left")]
    first = next(each for each in records if each.patient == 1 and each.view == "Frontal" and each.protocol == "S")
    twin = (workspace.raw / first.path).read_bytes()
    changed = {2: twin, 3: format_matrix(np.rint(make_centi(3) / 10).astype(np.uint16)), 4: b"no matrix", 5: flat(5)}
    for patient, content in changed.items():
        records = [each for each in records if (each.patient, each.view, each.protocol) != (patient, "Frontal", "S")]
        label = next(each.label for each in records if each.patient == patient)
        records.append(put_matrix(workspace, patient, label=label, content=content))
    again = put_matrix(workspace, 1, label=first.label, index=1, content=format_matrix(make_centi(77)))
    later = [
        put_matrix(
            workspace,
            1,
            visit=2,
            label=first.label,
            protocol="D",
            index=index,
            content=format_matrix(make_centi(index)),
        )
        for index in range(4)
    ]
    write_catalog(workspace, [*records, again, *later])
    section = FilterSection(rule="original", views=("Frontal", "Left"), frames=4)
    everything = read_catalog(workspace)
    measured = measure_records(workspace, everything, Silent())

    def decided(complete: bool) -> dict[tuple[str, str], str]:
        exams = select_exams(everything, section, measured, complete=complete)
        assert {each.path for each in exams[0].records} >= {again.path}
        assert len(exams[0].records) == 2
        return {(each.exam, each.protocol): each.code for each in exams}

    whole = decided(complete=True)
    static = {exam: code for (exam, protocol), code in whole.items() if protocol == "S"}
    assert static == {"1_1": "complete", "2_1": "complete", "3_1": "complete", "4_1": "unreadable", "5_1": "flat",
                      "6_1": "missing_view"}  # fmt: skip
    assert whole["1_2", "D"] == "later_visit"
    assert whole["1_1", "D"] == "complete"
    assert all(code == "complete" for (_, protocol), code in decided(complete=False).items() if protocol == "S")


# --- doubts: alike, and unlike all others -----------------------------------------------------------------------------


def frontal(seed: int, shape: tuple[int, int] = (96, 128)) -> np.ndarray:
    """A body with warm and cool patches of its own, hundredths of a degree."""
    return body(seed, shape)


def as_jpeg(centi: np.ndarray) -> np.ndarray:
    grey = np.clip((centi / 100.0 - 15) / 25 * 255, 0, 255).round().astype(np.uint8)
    again = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_GRAYSCALE)
    return np.rint((again / 255.0 * 25 + 15) * 100).astype(np.uint16)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "encoded again": as_jpeg,
    "mirrored": lambda centi: np.ascontiguousarray(centi[:, ::-1]),
    "mirrored and encoded again": lambda centi: as_jpeg(centi)[:, ::-1].copy(),
    "warmer": lambda centi: centi + np.uint16(150),
    "rounded to half a degree": lambda centi: (np.rint(centi / 50) * 50).astype(np.uint16),
    "noisy": lambda centi: np.rint(centi + np.random.default_rng(1).normal(0, 10, centi.shape)).astype(np.uint16),
}


def cohort_with(root: Path, pictures: dict[int, np.ndarray], patients: int = 24) -> Workspace:
    """Frontals of women who look like themselves; ``pictures`` replace those of some."""
    workspace = Workspace(root)
    records = [
        add_file(workspace, pictures.get(each, frontal(each)), each, label="sick" if each % 2 else "healthy")
        for each in range(1, patients + 1)
    ]
    write_catalog(workspace, records)
    return workspace


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_one_picture_of_two_women_is_named_and_stays_on_one_side(
    change: Callable[[np.ndarray], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy, "describe", lambda *_, **__: [])  # devices are not what is asked about
    workspace = cohort_with(tmp_path, {9: change(frontal(2))})
    config = config_for(workspace, views=["Frontal"])
    report = stage.run(config, workspace, Silent())
    assert (report.figures["look_alike"], report.figures["kept"]) == (1, 24)
    named = {exam for (exam, _), row in table_of(workspace).items() if "of exam" in row["doubts"]}
    assert named == {"2_1", "9_1"}
    assert any("2_1 and 9_1" in note for note in report.notes)
    assert any("2_1 and 9_1" in each.text for each in check_up(config, workspace) if each.name == "exams")
    build_dataset.run(config, workspace, Silent())
    with StoredCohort(workspace.dataset("cohort")) as cohort:
        groups = [group.patients for group in group_patients(cohort.exams)]
    assert sorted(map(len, groups)) == [1] * 22 + [2]
    assert (2, 9) in groups
    split = json.loads(workspace.split.read_text())
    assert ({2, 9} <= set(split["train"])) or ({2, 9} <= set(split["test"]))


def test_halved_pictures_are_alike_though_their_shape_is_another() -> None:
    looks = [look_of(frontal(seed, (192, 256)) / 100) for seed in range(12)]
    halved = cv2.resize(frontal(5, (192, 256)).astype(np.float32), (128, 96), interpolation=cv2.INTER_AREA) / 100
    assert list(alike([*looks, look_of(halved)], ["Frontal"] * 13)) == [(5, 12, False)]


def test_women_of_a_phantom_cohort_are_never_called_the_same(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    options = {"simulate.patients": 10, "simulate.shape": [60, 80], "simulate.dynamic": False}
    simulate.run(load_config(options=options, workspace=tmp_path), workspace, Silent())
    report = stage.run(config_for(workspace, dynamic=False), workspace, Silent())
    assert "look_alike" not in report.figures


def test_pictures_that_all_resemble_each_other_are_no_copies(tmp_path: Path) -> None:
    workspace = cohort_with(tmp_path, {each: frontal(1) + np.uint16(each) for each in range(1, 25)})
    noisy = np.random.default_rng(0)
    records = [
        add_file(workspace, np.rint(frontal(1) + noisy.normal(0, 5, (96, 128))).astype(np.uint16), each)
        for each in range(1, 25)
    ]
    write_catalog(workspace, records)
    assert "look_alike" not in stage.run(config_for(workspace, views=["Frontal"]), workspace, Silent()).figures


@pytest.mark.parametrize("fault", ["out of focus", "another view"])
def test_a_picture_unlike_all_others_is_named_and_not_dropped(fault: str, tmp_path: Path) -> None:
    odd = cv2.GaussianBlur(frontal(3), (0, 0), 4) if fault == "out of focus" else np.roll(frontal(3), 40, axis=1)
    workspace = cohort_with(tmp_path, {3: odd}, 30)
    table = run(workspace, views=["Frontal"])
    dropping = stage.run(config_for(workspace, views=["Frontal"], outliers="drop"), workspace, Silent())
    unlike = {exam for (exam, _), row in table.items() if "unlike the others" in row["doubts"]}
    assert dropping.figures["dropped_outlier"] == len(unlike) == dropping.figures["dropped"]
    assert any("dropped by filter.outliers" in note for note in dropping.notes)
    assert {exam for (exam, _), row in table_of(workspace).items() if row["verdict"] == "outlier"} == unlike
    build_dataset.run(config_for(workspace, views=["Frontal"], outliers="drop"), workspace, Silent())
    with StoredCohort(workspace.dataset("cohort")) as cohort:
        assert {exam.key for exam in cohort.exams} == {exam for exam, _ in table} - unlike
    assert "unlike the others" in table["3_1", "S"]["doubts"]
    assert table["3_1", "S"]["kept"] == "yes"
    assert sum(bool(row["doubts"]) for row in table.values()) <= 6


@pytest.mark.parametrize(("other", "dropped"), [(8, {"8_1"}), (9, {"2_1", "9_1"})], ids=["one label", "two labels"])
def test_nearly_the_same_pictures_are_dropped_on_request(other: int, dropped: set[str], tmp_path: Path) -> None:
    workspace = cohort_with(tmp_path, {other: as_jpeg(frontal(2))[:, ::-1].copy()})
    config = config_for(workspace, views=["Frontal"], duplicates="drop")
    report = stage.run(config, workspace, Silent())
    assert {exam for (exam, _), row in table_of(workspace).items() if row["verdict"] == "look_alike"} == dropped
    assert report.figures["dropped_look_alike"] == len(dropped)
    assert any("dropped by filter.duplicates" in note for note in report.notes)
    build_dataset.run(config, workspace, Silent())
    with StoredCohort(workspace.dataset("cohort")) as cohort:
        assert not {exam.key for exam in cohort.exams} & dropped
        assert not any(name == ALIKE for exam in cohort.exams for name, _ in exam.hashes)
