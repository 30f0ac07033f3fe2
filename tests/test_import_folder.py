"""import brings any folder into raw/: names, labels, dates, images, videos; contradictions are refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from thermal_fixtures import SHAPE, make_centi, put_matrix, tree_of

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.errors import ConfigError, DataError
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.stages import import_folder as stage
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace


class Desk:
    """A folder to import, its labels file and a workspace."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.workspace = root, root / "scans", Workspace(root / "workspace")
        self.folder.mkdir()

    def put(self, name: str, *key: int, content: bytes | None = None) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(format_matrix(make_centi(*(key or (1,)))) if content is None else content)
        return path

    def labels(self, text: str, name: str = "labels.csv") -> str:
        path = self.root / name
        path.write_bytes(text.replace("\n", "\r\n").encode())
        return str(path)

    def config(self, **options: object) -> Config:
        keyed = {f"import.{name}": value for name, value in {"folder": str(self.folder), **options}.items()}
        return load_config(options=keyed, workspace=self.workspace.root)

    def run(self, **options: object) -> StageReport:
        return stage.run(self.config(**options), self.workspace, Silent())

    def records(self) -> list[Record]:
        return read_catalog(self.workspace)

    def paths(self) -> list[str]:
        return [each.path for each in self.records() if each.path]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


TWO = "ID,Diagnosis\n138,Healthy\n312,Sick\n"


def put_two(desk: Desk) -> None:
    desk.put("T0138.txt", 138, content=format_matrix(make_centi(138), line_end=b"\r\r\n"))
    desk.put("T0312.txt", 312, content=format_matrix(make_centi(312), "semicolon5"))


def test_folder_of_matrices_becomes_the_tree(desk: Desk) -> None:
    put_two(desk)
    report = desk.run(labels=desk.labels(TWO), view="Frontal")
    assert (report.made, report.exit_code) == (2, 0)
    assert desk.paths() == [
        "Static/Frontal/healthy/T0138.1.1.S.0000-00-00.00.txt",
        "Static/Frontal/sick/T0312.1.1.S.0000-00-00.00.txt",
    ]
    first, second = desk.records()
    assert (first.layout, second.layout) == ("space2", "semicolon5")
    assert first.extra["notes"] == ["CR CR LF line ends"]
    assert first.extra["original"] == "T0138.txt"
    assert first.date is None
    raw = desk.workspace.raw / first.path
    assert os.path.samefile(raw, desk.folder / "T0138.txt")
    assert first.bytes == raw.stat().st_size


def test_rerun_does_nothing_and_repairs(desk: Desk) -> None:
    put_two(desk)
    options = {"labels": desk.labels(TWO), "view": "Frontal"}
    desk.run(**options)
    before = tree_of(desk.workspace.raw)
    again = desk.run(**options)
    assert again.nothing_to_do
    assert again.current == 2
    assert tree_of(desk.workspace.raw) == before
    (desk.workspace.raw / desk.paths()[0]).unlink()
    assert desk.run(**options).made == 1
    assert tree_of(desk.workspace.raw) == before
    desk.workspace.catalog.unlink()
    desk.run(**options)
    assert tree_of(desk.workspace.raw) == before


def test_corrected_label_and_changed_file_move(desk: Desk) -> None:
    put_two(desk)
    desk.run(labels=desk.labels(TWO), view="Frontal")
    desk.put("T0312.txt", 7)
    report = desk.run(labels=desk.labels("ID,Diagnosis\n138,sick\n312,sick\n"), view="Frontal")
    assert report.made == 2
    assert desk.paths() == [
        "Static/Frontal/sick/T0138.1.1.S.0000-00-00.00.txt",
        "Static/Frontal/sick/T0312.1.1.S.0000-00-00.00.txt",
    ]
    assert {name for name in tree_of(desk.workspace.raw) if name.endswith(".txt")} == set(desk.paths())
    assert np.array_equal(read_matrix(desk.workspace.raw / desk.paths()[1]).centi, make_centi(7))


def test_second_folder_is_added(desk: Desk, tmp_path: Path) -> None:
    put_two(desk)
    labels = desk.labels(TWO)
    desk.run(labels=labels, view="Frontal")
    other = tmp_path / "more"
    other.mkdir()
    (other / "T0138.txt").write_bytes(format_matrix(make_centi(5)))
    desk.run(folder=str(other), labels=labels, view="Right")
    assert len(desk.paths()) == 3
    (other / "again_138.txt").write_bytes(format_matrix(make_centi(6)))
    (other / "T0138.txt").unlink()
    with pytest.raises(DataError, match="has a Frontal image already") as caught:
        desk.run(folder=str(other), labels=labels, view="Frontal")
    assert "--visit" in str(caught.value.hint)


def test_names_in_the_grammar_say_everything(desk: Desk) -> None:
    desk.put("Static/Left/T0276.2.5.S.2015-03-13.00.txt", 1)
    for index in (3, 1):
        desk.put(f"Dynamic/276_2/T0276.2.1.D.2015-03-13.0{index}.txt", 2, index)
    desk.run(labels=desk.labels("patient;class\nT0276;positive\n"))
    assert desk.paths() == [
        "Dynamic/sick/276_2/T0276.2.1.D.2015-03-13.01.txt",
        "Dynamic/sick/276_2/T0276.2.1.D.2015-03-13.03.txt",
        "Static/Left/sick/T0276.2.5.S.2015-03-13.00.txt",
    ]
    assert {each.date for each in desk.records()} == {"2015-03-13"}


def test_names_outside_the_grammar_are_read_by_their_words(desk: Desk) -> None:
    desk.put("healthy/355_img_Static-Frontal_2019-09-25.txt", 1)
    desk.put("sick/2012-10-08 patient 41 left45.csv", 2)
    desk.put("sick/right/image_42_3.txt", 3)
    desk.run()
    assert desk.paths() == [
        "Static/Frontal/healthy/T0355.1.1.S.2019-09-25.00.txt",
        "Static/Left45/sick/T0041.1.4.S.2012-10-08.00.txt",
        "Static/Right/sick/T0042.3.3.S.0000-00-00.00.txt",
    ]


def test_several_files_of_a_view_are_numbered_in_natural_order(desk: Desk) -> None:
    for number in (2, 10, 1):
        desk.put(f"138/shot{number}.txt", number)
    desk.run(labels=desk.labels(TWO), view="Frontal", id_pattern=r"^(\d+)/", visit=2)
    assert [(each.index, each.extra["original"]) for each in desk.records()] == [
        (0, "138/shot1.txt"),
        (1, "138/shot2.txt"),
        (2, "138/shot10.txt"),
    ]
    assert {each.exam for each in desk.records()} == {"138_2"}


def test_ids_that_are_no_numbers_get_stable_ones(desk: Desk) -> None:
    desk.put("BRA-x.txt", 1)
    desk.put("BRA-7.txt", 2)
    options = {"id_pattern": r"(BRA-\w+)", "view": "Frontal"}
    desk.run(labels=desk.labels("ID,Diagnosis\nBRA-x,0\nBRA-7,1\n"), **options)
    numbers = {each.extra["original_id"]: each.patient for each in desk.records()}
    assert numbers == {"bra-7": 7, "bra-x": 8}
    desk.put("BRA-8.txt", 3)
    desk.run(labels=desk.labels("ID,Diagnosis\nBRA-x,0\nBRA-7,1\nBRA-8,1\n"), **options)
    assert {each.extra["original_id"]: each.patient for each in desk.records()} == numbers | {"bra-8": 9}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Case;Result\n138;negative\n312;positive\n", {}),
        ("number,finding\n138,Normal\n312,Cancer\n", {}),
        ("\ufeffID\tage\tDiagnosis\nT0138\t50\t0\nT0312\t61\t1\n", {}),
        (
            "a,b,c\nx,138,N\ny,312,M\n",
            {"id_column": "b", "label_column": "c", "healthy_values": ["N"], "sick_values": ["M"]},
        ),
        ("a,b,c,d\nx,138,yes,0\ny,312,no,1\n", {"id_column": "b", "label_column": "d"}),
    ],
    ids=["known names", "two columns", "mark and tabs", "named columns", "chosen among two"],
)
def test_columns_are_found_or_named(text: str, options: dict[str, object], desk: Desk) -> None:
    put_two(desk)
    desk.run(labels=desk.labels(text), view="Frontal", **options)
    assert [(each.patient, each.label) for each in desk.records()] == [(138, "healthy"), (312, "sick")]


@pytest.mark.parametrize(
    "content", ['{"138": "healthy", "T0312": "sick"}', '[{"id": 138, "label": 0}, {"id": 312, "label": 1}]']
)
def test_labels_may_be_json(content: str, desk: Desk) -> None:
    put_two(desk)
    desk.run(labels=desk.labels(content, "labels.json"), view="Frontal")
    assert [each.label for each in desk.records()] == ["healthy", "sick"]


def test_labels_may_be_a_workbook(desk: Desk) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    put_two(desk)
    book = openpyxl.Workbook()
    for row in (("ID", "Diagnosis"), (138.0, 0), (312, 1)):
        book.active.append(row)
    book.save(desk.root / "labels.xlsx")
    desk.run(labels=str(desk.root / "labels.xlsx"), view="Frontal")
    assert [each.label for each in desk.records()] == ["healthy", "sick"]


WRONG = {
    "no folder": ({"folder": "nowhere"}, ConfigError, "no such folder", "nowhere"),
    "no labels file": ({"labels": "nowhere.csv"}, ConfigError, "no such file", "nowhere.csv"),
    "no dates file": ({"dates": "nowhere.json"}, ConfigError, "no such file", "nowhere.json"),
    "no such column": ({"id_column": "Patient"}, ConfigError, "no column 'Patient'", "ID, Diagnosis"),
    "other shape": ({"shape": "480x640"}, DataError, "not one file", "480x640"),
    "no view": ({"view": None}, DataError, "not one file", "--view"),
    "pattern that fits nothing": ({"id_pattern": "(PATIENT)"}, DataError, "not one file", "finds no patient"),
}


@pytest.mark.parametrize(("options", "kind", "what", "more"), WRONG.values(), ids=WRONG)
def test_wrong_call_says_what_and_touches_nothing(
    options: dict[str, object], kind: type[Exception], what: str, more: str, desk: Desk
) -> None:
    put_two(desk)
    with pytest.raises(kind, match=what) as caught:
        desk.run(**{"labels": desk.labels(TWO), "view": "Frontal", **options})
    assert more in str(caught.value)
    assert not desk.workspace.catalog.exists()


def test_ambiguous_columns_are_named(desk: Desk) -> None:
    put_two(desk)
    with pytest.raises(ConfigError, match="2 columns of the labels file could be the label") as caught:
        desk.run(labels=desk.labels("a,b,c\n138,0,1\n312,1,0\n"), view="Frontal")
    assert caught.value.exit_code == 2
    assert caught.value.expected == "one of: a, b, c"
    assert "`b` (0 1, 1 1); `c` (1 1, 0 1)" in str(caught.value.found)
    assert "--label-column" in str(caught.value.hint)


@pytest.mark.parametrize("pattern", ["(", "T\\d+"], ids=["broken", "no group"])
def test_id_pattern_is_checked_with_the_config(pattern: str, desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"import\.id_pattern"):
        desk.config(id_pattern=pattern)


def test_one_patient_with_two_labels_is_refused(desk: Desk) -> None:
    put_two(desk)
    with pytest.raises(DataError, match="two labels") as caught:
        desk.run(labels=desk.labels(TWO + "T0138,Sick\n"), view="Frontal")
    assert str(caught.value.where).endswith("labels.csv:4")
    assert "labels.csv:2" in str(caught.value.expected)
    assert not desk.workspace.catalog.exists()


def test_ids_with_one_number_and_other_letters_are_two_patients(desk: Desk) -> None:
    desk.put("A7.txt", 1)
    desk.put("B7.txt", 2)
    desk.run(labels=desk.labels("ID,Diagnosis\nA7,0\nB7,1\n"), view="Frontal")
    assert {each.extra["original_id"]: each.label for each in desk.records()} == {"a7": "healthy", "b7": "sick"}
    assert len({each.patient for each in desk.records()}) == 2
    assert all(each.extra["patient_made_up"] for each in desk.records())


def test_exam_labelled_otherwise_by_another_source_is_refused(desk: Desk) -> None:
    write_catalog(desk.workspace, [put_matrix(desk.workspace, 138, "Left", label="sick")])
    put_two(desk)
    before = tree_of(desk.workspace.root)
    with pytest.raises(DataError, match="exam 138_1 has two labels"):
        desk.run(labels=desk.labels(TWO), view="Frontal")
    assert tree_of(desk.workspace.root) == before


def test_visits_with_different_labels_are_told_apart(desk: Desk) -> None:
    desk.put("T0138.1.1.S.2014-01-01.00.txt", 1)
    desk.put("T0138.2.1.S.2015-01-01.00.txt", 2)
    desk.run(labels=desk.labels("ID,visit,Diagnosis\n138,1,healthy\n138,2,sick\n"), visit_column="visit")
    assert [(each.exam, each.label) for each in desk.records()] == [("138_1", "healthy"), ("138_2", "sick")]


BAD_FILES = {
    "empty 4.txt": (b"", "empty"),
    "page 5.txt": (b"<html><body>please log in</body></html>", "web page"),
    "cut 6.txt": (format_matrix(make_centi(1))[:-30], "cut off"),
    "ragged 7.txt": (b"20.1 20.2\n20.1\n20.1 20.2\n", "unequal length"),
    "words 8.csv": (b"name,age\nsomebody,50\n", "no line of numbers"),
    "commas 9.csv": (b"20,1,20,2\n20,1,20,2\n", "commas"),
    "nameless.txt": (format_matrix(make_centi(1)), "no patient number"),
    "T0010.1.7.S.2015-03-13.00.txt": (format_matrix(make_centi(1)), "view 7"),
    "unknown 11.txt": (format_matrix(make_centi(11)), "no line for patient 11"),
    "blank 12.txt": (format_matrix(make_centi(12)), "its label is blank"),
    "maybe 13.txt": (format_matrix(make_centi(13)), "label 'maybe' is neither"),
}


def test_what_cannot_be_placed_is_listed_and_the_rest_is_imported(desk: Desk) -> None:
    put_two(desk)
    for name, (content, _) in BAD_FILES.items():
        desk.put(name, content=content)
    labels = desk.labels(TWO + "".join(f"{number},1\n" for number in range(4, 11)) + "12,\n13,maybe\n99,0\n")
    report = desk.run(labels=labels, view="Frontal")
    assert report.exit_code == 5
    assert report.made == 2
    reasons = {each.item: each.reason for each in report.failed}
    assert set(reasons) == set(BAD_FILES)
    for name, (_, reason) in BAD_FILES.items():
        assert reason in reasons[name], name
        assert str(desk.root) not in reasons[name], "a catalog must not hold this machine's paths"
    assert "label values that are neither healthy nor sick: maybe 1" in report.notes
    assert "1 patients of the labels file have no file here" not in report.notes  # 5 to 10 have broken ones
    statuses = {each.extra["original"]: each.status for each in desk.records()}
    assert statuses["cut 6.txt"] == "failed"
    assert statuses["blank 12.txt"] == statuses["unknown 11.txt"] == "unlabelled"
    again = desk.run(labels=labels, view="Frontal")
    assert again.made == 0
    assert len(again.failed) == len(BAD_FILES)


def test_duplicate_content_is_kept_under_both_names_and_a_file_found_twice_once(desk: Desk) -> None:
    desk.put("T0138.txt", 1)
    desk.put("T0312.txt", 1)
    desk.put("a/T0138.1.2.S.2015-03-13.00.txt", 2)
    desk.put("b/T0138.1.2.S.2015-03-13.00.txt", 2)
    desk.put("c/T0138.1.3.S.2015-03-13.00.txt", 3)
    desk.put("d/T0138.1.3.S.2015-03-13.00.txt", 4)
    report = desk.run(labels=desk.labels(TWO), view="Frontal")
    assert len(desk.paths()) == 4
    assert [each.item for each in report.failed] == ["d/T0138.1.3.S.2015-03-13.00.txt"]
    assert "same place with other content" in report.failed[0].reason


def limites(*entries: tuple[int, str, np.ndarray]) -> str:
    return json.dumps(
        {
            f"{patient}_img_Static-Frontal_{date}.txt": {
                "min": float(centi.min()) / 100,
                "max": float(centi.max()) / 100,
            }
            for patient, date, centi in entries
        }
    )


def test_dates_are_matched_by_patient_and_range(desk: Desk) -> None:
    put_two(desk)
    folder = desk.root / "dates"
    healthy = [
        (138, "2013-05-05", make_centi(138)),
        (138, "2014-11-11", make_centi(2)),
        (5, "2013-01-01", make_centi(5)),
    ]
    for label, entries in {"healthy": healthy, "sick": [(312, "2017-02-02", make_centi(3))]}.items():
        (folder / label).mkdir(parents=True)
        (folder / label / "limites.json").write_text(limites(*entries))
    desk.run(labels=desk.labels(TWO), view="Frontal", dates=str(folder))
    assert [each.date for each in desk.records()] == ["2013-05-05", None]
    assert desk.paths()[0].endswith("T0138.1.1.S.2013-05-05.00.txt")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("dates.csv", "ID,date\n138,2013-05-05\n312,2017-02-30\n", ["2013-05-05", None]),
        ("dates.csv", "ID,date\n138,2013-05-05\n138,2014-05-05\n312,2017-02-03\n", [None, "2017-02-03"]),
        ("dates.csv", "ID,visit,date\n138,1,2013-05-05\n138,2,2014-05-05\n", ["2013-05-05", None]),
        ("dates.json", '{"T0138": "2013-05-05", "312": "2017-02-03"}', ["2013-05-05", "2017-02-03"]),
    ],
    ids=["an impossible date", "two dates", "by visit", "json"],
)
def test_dates_of_patients(name: str, text: str, expected: list[str | None], desk: Desk) -> None:
    put_two(desk)
    desk.run(labels=desk.labels(TWO), view="Frontal", dates=desk.labels(text, name))
    assert [each.date for each in desk.records()] == expected


def test_dates_from_a_column_of_the_labels(desk: Desk) -> None:
    put_two(desk)
    labels = desk.labels("ID,Diagnosis,when\n138,0,2013-05-05\n312,1,\n")
    desk.run(labels=labels, view="Frontal", date_column="when")
    assert [each.date for each in desk.records()] == ["2013-05-05", None]


def test_dates_file_without_dates(desk: Desk) -> None:
    put_two(desk)
    with pytest.raises(DataError, match="holds no dates"):
        desk.run(labels=desk.labels(TWO), view="Frontal", dates=desk.labels("ID,date\n138,soon\n", "dates.csv"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_with_a_range(kind: type, channels: int, desk: Desk) -> None:
    grey = np.random.default_rng(1).integers(0, np.iinfo(kind).max, SHAPE, dtype=kind, endpoint=True)
    cv2.imwrite(str(desk.folder / "T0138.png"), grey if channels == 1 else np.dstack([grey] * 3))
    desk.put("T0312.txt", 312)
    labels = desk.labels(TWO)
    first = desk.run(labels=labels, view="Frontal")
    assert any("no import.range" in note for note in first.notes)
    options = {"labels": labels, "view": "Frontal", "range": {"low": 18, "high": 38}}
    assert desk.run(**options).made == 1
    record = desk.records()[0]
    assert record.layout == ("grey8" if kind is np.uint8 else "grey16")
    celsius = read_matrix(desk.workspace.raw / record.path).celsius
    assert np.abs(celsius - (grey / np.iinfo(kind).max * 20 + 18)).max() <= 0.005 + 1e-9
    assert desk.run(**options).nothing_to_do
    assert desk.run(**{**options, "range": {"low": 20, "high": 38}}).made == 1
    assert read_matrix(desk.workspace.raw / record.path).celsius.min() >= 20


def test_images_need_a_range_and_grey(desk: Desk) -> None:
    cv2.imwrite(str(desk.folder / "T0138.png"), np.random.default_rng(1).integers(0, 255, (*SHAPE, 3), dtype=np.uint8))
    with pytest.raises(ConfigError, match="grey images need"):
        desk.run(labels=desk.labels(TWO), view="Frontal")
    with pytest.raises(DataError, match="not one file") as caught:
        desk.run(labels=desk.labels(TWO), view="Frontal", range={"low": 18, "high": 38})
    assert "picture of colours" in str(caught.value.found)


def test_a_cut_photograph_with_an_end_mark_is_no_thermogram(desk: Desk) -> None:
    """A decoder fills what lacks with grey, and grey would become temperatures."""
    grey = np.random.default_rng(2).integers(0, 255, (240, 320), dtype=np.uint8)
    for number, keep in ((138, 1.0), (312, 0.5)):
        content = cv2.imencode(".jpg", grey)[1].tobytes()
        end = b"" if keep == 1 else b"\xff\xd9"
        (desk.folder / f"T{number:04d}.jpg").write_bytes(content[: int(keep * len(content))] + end)
    report = desk.run(labels=desk.labels(TWO), view="Frontal", range={"low": 18, "high": 38})
    assert report.made == 1
    assert [record.patient for record in desk.records() if record.status == "ok"] == [138]
    assert any("cut" in failure.reason for failure in report.failed if "T0312" in failure.item)


def put_video(desk: Desk, name: str, frames: int = 30, ranges: int | None = None) -> list[np.ndarray]:
    """A lossless grey video whose frames cool down, with the table of their ranges beside it."""
    path = desk.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 6, SHAPE[::-1])
    lines, celsius = ["Min,Max"], []
    for number in range(frames):
        grey = np.random.default_rng([len(name), number]).integers(0, 255, SHAPE, dtype=np.uint8, endpoint=True)
        low, high = 20 + number / 100, 35 + number / 50
        writer.write(np.dstack([grey] * 3))
        lines.append(f"{low:.3f},{high:.3f}")
        celsius.append(grey / 255 * (high - low) + low)
    writer.release()
    path.with_name(path.stem + "_temp.csv").write_text(
        "\n".join(lines[: None if ranges is None else ranges + 1]) + "\n"
    )
    return celsius


VIDEO_LABELS = "ID,Region,Side,Label\nIM01,Knee,left,0\nIM01,Knee,right,1\nIM02,Back,left,\n"
VIDEO = {
    "protocol": "D",
    "match_columns": ["Region", "Side"],
    "id_pattern": r"(IM\d+)C2",
    "frame_step": 5,
    "frames": 4,
}


def test_radiometric_videos_become_dynamic_exams(desk: Desk) -> None:
    celsius = put_video(desk, "IM01C2/Knee/left.avi")
    put_video(desk, "IM01C2/Knee/right.avi")
    put_video(desk, "IM02C2/Back/left.avi")
    desk.put("IM01C2/Knee/right.csv", 1)
    report = desk.run(labels=desk.labels(VIDEO_LABELS), **VIDEO)
    assert report.made == 8
    assert [each.item for each in report.failed] == ["IM02C2/Back/left.avi"]
    assert "1 files beside the radiometric videos were left out" in report.notes
    exams = {(each.exam, each.label) for each in desk.records() if each.path}
    assert exams == {("1_1", "healthy"), ("1_2", "sick")}
    for number in range(4):
        path = desk.workspace.raw / f"Dynamic/healthy/1_1/T0001.1.1.D.0000-00-00.{number:02d}.txt"
        assert np.abs(read_matrix(path).celsius - celsius[5 * number]).max() <= 0.005 + 1e-9
    again = desk.run(labels=desk.labels(VIDEO_LABELS), **VIDEO)
    assert (again.made, again.current) == (0, 8)
    assert desk.run(labels=desk.labels(VIDEO_LABELS), **{**VIDEO, "frames": 3}).made == 6
    assert len(desk.paths()) == 6
    assert len(list(desk.workspace.raw.rglob("*.txt"))) == 6


def test_broken_videos_are_listed(desk: Desk) -> None:
    put_video(desk, "IM01C2/Knee/left.avi")
    put_video(desk, "IM01C2/Knee/right.avi", ranges=7)
    (desk.folder / "IM02C2/Back").mkdir(parents=True)
    (desk.folder / "IM02C2/Back/left.avi").write_bytes(b"RIFF")
    (desk.folder / "IM02C2/Back/left_temp.csv").write_text("Min,Max\n20,30\n")
    report = desk.run(labels=desk.labels(VIDEO_LABELS), **VIDEO)
    assert report.made == 4
    reasons = {each.item: each.reason for each in report.failed}
    assert "does not belong to this video" in reasons["IM01C2/Knee/right.avi"]
    assert "cannot be read" in reasons["IM02C2/Back/left.avi"]


def test_workspace_inside_the_folder_is_left_out(desk: Desk) -> None:
    put_two(desk)
    inside = Workspace(desk.folder / "study")
    config = desk.config(labels=desk.labels(TWO), view="Frontal")
    assert stage.run(config, inside, Silent()).made == 2
    assert stage.run(config, inside, Silent()).nothing_to_do


def test_plan_touches_nothing(desk: Desk) -> None:
    put_two(desk)
    config = desk.config(labels=desk.labels(TWO), view="Frontal")
    before = tree_of(desk.root)
    plan = stage.plan(config, desk.workspace)
    assert plan.todo[0] == "T0138.txt -> Static/Frontal/healthy/T0138.1.1.S.0000-00-00.00.txt"
    assert tree_of(desk.root) == before


def test_empty_folder(desk: Desk) -> None:
    (desk.folder / "readme.txt").write_text("nothing")
    with pytest.raises(DataError, match="nothing to import"):
        desk.run()


def test_one_view_on_two_days_is_two_visits_and_two_views_on_two_days_are_one(desk: Desk) -> None:
    for number, name in enumerate(
        ("healthy/7/17.11.2018 front.txt", "healthy/7/03.04.2018 front.txt", "healthy/7/03.04.2018 left45.txt",
         "sick/8/03.04.2018 front.txt", "sick/8/04.04.2018 left45.txt")
    ):  # fmt: skip
        desk.put(name, 300 + number)
    report = desk.run()
    found = {each.extra["original"]: each.visit for each in desk.records()}
    assert found == {
        "healthy/7/17.11.2018 front.txt": 2, "healthy/7/03.04.2018 front.txt": 1, "healthy/7/03.04.2018 left45.txt": 1,
        "sick/8/03.04.2018 front.txt": 1, "sick/8/04.04.2018 left45.txt": 1,
    }  # fmt: skip
    assert any(note.endswith("; of 1 patients by the days in the names") for note in report.notes), report.notes


def test_what_the_source_files_were_is_kept_and_numbers_that_the_tool_gave_are_marked(desk: Desk) -> None:
    grey = np.random.default_rng(1).integers(0, 255, SHAPE, dtype=np.uint8)
    files = {"sick/P01.png": [], "sick/P02.png": [cv2.IMWRITE_PNG_COMPRESSION, 9], "healthy/N01.jpg": []}
    for shift, (name, options) in enumerate(files.items()):
        (desk.folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(desk.folder / name), np.roll(grey, shift), options)
    desk.put("healthy/N02.txt", 312)
    options = {"view": "Frontal", "range": {"low": 18, "high": 38}, "id_pattern": r"([A-Z]\d+)\."}
    report = desk.run(**options)
    found = {each.extra["original"]: each for each in desk.records()}
    assert len({each.format for each in found.values()}) == 4
    assert found["sick/P01.png"].format.startswith("grey8, PNG 8 bits grey level")
    assert found["healthy/N01.jpg"].format.startswith("grey8, JPEG c0 sampling 11 tables ")
    assert all(each.source_bytes == (desk.folder / name).stat().st_size for name, each in found.items())
    assert all(each.assigned == {"patient", "visit"} for each in found.values())
    assert report.figures["read_as"]["made_up_visits"] == 4
    assert "visit: 4 exams were numbered by the tool, as nothing says which visit" in report.notes
    assert desk.run(**options).nothing_to_do
    older = [replace(each, extra={k: v for k, v in each.extra.items() if k != "encoding"}) for each in found.values()]
    write_catalog(desk.workspace, older)
    desk.run(**options)
    assert {each.extra["original"]: each for each in desk.records()} == found
