"""filter keeps complete and sound exams, names the fault of every other one, and reruns change nothing."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from thermal_fixtures import SHAPE, make_centi, make_workspace, put_matrix, tree_of

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.errors import DataError
from thermocancer.progress import Silent
from thermocancer.stages import convert
from thermocancer.stages import filter as stage
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
    "not finite": (with_file(content=spoiled(b"NaN")), "not_finite", "1 of 3072 values"),
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
    assert "filter.views" in str(caught.value.hint)
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
