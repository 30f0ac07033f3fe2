"""import says how it reads a folder: patients, views, labels and dates are never guessed in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from thermal_fixtures import make_centi, tree_of

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog
from thermocancer.errors import ConfigError, DataError, ThermocancerError
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.stages import build_dataset
from thermocancer.stages import filter as filter_stage
from thermocancer.stages import import_folder as stage
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.regions import missing_pixels
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace

WOMEN = range(1, 9)


def diagnosis(woman: int) -> str:
    return "sick" if woman > 4 else "healthy"


class Desk:
    """A workspace, and folders to bring into it."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, Workspace(root / "workspace")

    def put(self, names: Iterable[str], folder: str = "scans") -> None:
        for number, name in enumerate(names):
            path = self.root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(format_matrix(make_centi(len(folder), number)))

    def by_label(self, name: Callable[[int], str]) -> None:
        """One file a woman, in folders named healthy and sick."""
        self.put(f"{diagnosis(woman)}/{name(woman)}.csv" for woman in WOMEN)

    def table(self, text: str | bytes, name: str = "labels.csv") -> str:
        path = self.root / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    def config(self, folder: str = "scans", **options: object) -> Config:
        keyed = {f"import.{name}": value for name, value in {"folder": str(self.root / folder), **options}.items()}
        return load_config(options=keyed, workspace=self.workspace.root)

    def run(self, folder: str = "scans", **options: object) -> StageReport:
        return stage.run(self.config(folder, **options), self.workspace, Silent())

    def records(self) -> list[Record]:
        return [each for each in read_catalog(self.workspace) if each.status == "ok"]

    def patients(self) -> dict[str, int]:
        return {str(each.extra["original"]): each.patient for each in self.records()}

    def labels(self) -> dict[int, str]:
        return {each.patient: each.label for each in self.records()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


TABLE = "id,diagnosis\n" + "".join(f"{woman},{diagnosis(woman)}\n" for woman in WOMEN)
RIGHT = {woman: diagnosis(woman) for woman in WOMEN}

# --- the patient ------------------------------------------------------------------------------------------------------

NAMES: dict[str, Callable[[int], str]] = {
    "a number": lambda woman: f"{woman}",
    "behind a date": lambda woman: f"2021030{1 + woman % 2}_{woman}",
    "behind a date and an hour": lambda woman: f"2021-03-04_10-2{woman}-33_p{woman}",
    "behind a date and six digits": lambda woman: f"20210304_10220{woman}_{woman:03d}",
    "behind a time stamp": lambda woman: f"2019051110220{woman}_{woman:02d}",
    "behind a camera's model": lambda woman: f"{'E60' if woman > 4 else 'T540'}_{woman}",
    "called a patient": lambda woman: f"{'E60' if woman > 4 else 'T540'}_pat{woman}",
    "of a site": lambda woman: f"S{1 + woman // 5}_P{woman}",
    "in the folder": lambda woman: f"Patient {woman}/IR_0001",
    "in the folder, bare": lambda woman: f"{woman:03d}/FLIR{120 + woman:04d}",
    "before an age": lambda woman: f"{woman:03d}_age{40 + woman}",
    "before a size": lambda woman: f"{woman}_640x480",
    "behind a view and its angle": lambda woman: f"Right45_{woman:03d}",
    "before a view and its angle": lambda woman: f"{woman:03d}_Right-45",
    "in Portuguese": lambda woman: f"Paciente {woman}/frente",
    "a BIDS name": lambda woman: f"sub-{woman:02d}/ses-01/sub-{woman:02d}_ses-01_frontal",
    "a constant behind it": lambda woman: f"{woman:02d}_1",
    "before an age and a sex": lambda woman: f"{woman:03d}_{45 + woman}y_F",
    "beside a copy's number": lambda woman: f"Subject{woman:03d} (2)",
    "before a year": lambda woman: f"P-{woman:03d}-2019",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_number_that_is_the_patient_is_found_and_said(name: Callable[[int], str], desk: Desk) -> None:
    desk.by_label(name)
    report = desk.run(view="Frontal")
    assert desk.labels() == RIGHT
    assert any(note.startswith("patient: ") and "-> " in note for note in report.notes)


REFUSED: dict[str, tuple[list[str], str]] = {
    "number, patient and age": ([f"{n}_x_{20 + n // 2:03d}_{50 + n // 2 % 3}" for n in WOMEN], "3 numbers can be it"),
    "a camera's counter": ([f"FLIR{n:04d}" for n in WOMEN], "counts pictures, visits or cameras"),
    "a counter behind a date": ([f"IR_2019-05-11_{40 + n:04d}" for n in WOMEN], "counts pictures"),
    "a view and perhaps a visit": ([f"TLL45_V{n}" for n in WOMEN], "counts pictures, visits"),
    "picture and folder": ([f"{p}/{n}" for p in (3, 4) for n in (1, 2, 3)], "2 numbers can be it"),
    "one number at two sites": ([f"S{s}_P{n}" for s in (1, 2) for n in (1, 2, 3)], "under several sites"),
    "one number with two letters": ([f"{letter}{n}" for letter in "AB" for n in (7, 8)], "A7 and B7 would be one"),
    "one number before two letters": ([f"{n}{letter}" for letter in "AB" for n in (7, 8)], "7a and 7b would be one"),
    "a messenger's counter": ([f"IMG-20190511-WA000{n}" for n in WOMEN], "counts pictures"),
    "one name in two folders": ([f"{year}/{n}" for year in (2019, 2021) for n in (1, 2, 3)], "or of two"),
}


@pytest.mark.parametrize(("names", "why"), REFUSED.values(), ids=REFUSED)
def test_two_readings_are_shown_with_the_option_that_chooses(names: list[str], why: str, desk: Desk) -> None:
    desk.put(f"healthy/{name}.csv" for name in names)
    with pytest.raises(ConfigError, match="which number of these names") as caught:
        desk.run(view="Frontal")
    assert why.casefold() in str(caught.value.found).casefold()
    assert "--id-pattern '" in str(caught.value.found)
    assert not desk.workspace.catalog.exists()


@pytest.mark.parametrize("coded", [lambda n: f"{n * 7919:08x}", lambda n: f"{n}f1e4567-e89b-12d3-a456-42661417400{n}"])
def test_a_code_is_no_number_and_an_id_where_a_table_has_it(coded: Callable[[int], str], desk: Desk) -> None:
    desk.by_label(coded)
    with pytest.raises(DataError, match="not one file") as caught:
        desk.run(view="Frontal")
    assert "a code of letters and digits" in str(caught.value.found)
    table = "id,diagnosis\n" + "".join(f"{coded(n)},{diagnosis(n)}\n" for n in WOMEN)
    desk.run(view="Frontal", labels=desk.table(table))
    assert {str(each.extra["original_id"]): each.label for each in desk.records()} == {
        coded(n): diagnosis(n) for n in WOMEN
    }


def test_the_patterns_of_a_refusal_read_what_they_say(desk: Desk) -> None:
    names = [f"healthy/{n}_x_{20 + n // 2:03d}_{50 + n % 3}.csv" for n in WOMEN]
    desk.put(names)
    with pytest.raises(ConfigError) as caught:
        desk.run(view="Frontal")
    patterns = [part.split("'")[0] for part in str(caught.value.found).split("--id-pattern '")[1:]]
    desk.run(view="Frontal", id_pattern=patterns[1])
    assert desk.patients() == {name: 20 + n // 2 for n, name in zip(WOMEN, names, strict=True)}


def test_ids_of_the_labels_table_decide_between_numbers(desk: Desk) -> None:
    desk.put(f"{100 + n}_x_{n:03d}_{59 + n % 4}.csv" for n in WOMEN)
    report = desk.run(labels=desk.table(TABLE), view="Frontal")
    assert desk.labels() == RIGHT
    assert any("the second number in the file's name" in note for note in report.notes)


def test_a_camera_counter_is_the_patient_where_the_table_says_so(desk: Desk) -> None:
    desk.put(f"FLIR{n:04d}.csv" for n in WOMEN)
    text = "{};diagnosis\n" + "".join(f"FLIR{n:04d}.jpg;{diagnosis(n)}\n" for n in WOMEN)
    with pytest.raises(ConfigError, match="which number"):  # a table of files says nothing of patients
        desk.run(labels=desk.table(text.format("Image")), view="Frontal")
    desk.run(labels=desk.table(text.format("Patient")), view="Frontal")
    assert desk.labels() == RIGHT


def test_a_table_with_a_line_a_file_labels_files_and_makes_no_patients(desk: Desk) -> None:
    names = [f"p{n}_{view}" for n in WOMEN for view in ("front", "left")]
    desk.put(f"{name}.csv" for name in names)
    lines = "".join(f"scans/{name}.csv,{diagnosis(int(name[1]))}\n" for name in names)
    desk.run(labels=desk.table(f"filename,label\n{lines}"))
    assert desk.labels() == RIGHT
    assert len(desk.records()) == 16
    both = "filename,patient,label\n" + "".join(f"{name}.csv,{name[1]},{diagnosis(int(name[1]))}\n" for name in names)
    assert desk.run(labels=desk.table(both)).nothing_to_do is False
    assert desk.labels() == RIGHT


def test_ids_of_words_are_found_in_names_and_get_numbers_that_are_marked(desk: Desk) -> None:
    desk.put(["anna_frontal.csv", "berta_frontal.csv"])
    report = desk.run(labels=desk.table("name,diagnosis\nAnna,sick\nBerta,healthy\n"))
    found = {each.extra["original_id"]: (each.label, each.extra["patient_made_up"]) for each in desk.records()}
    assert found == {"anna": ("sick", True), "berta": ("healthy", True)}
    assert report.figures["read_as"]["made_up_numbers"] == 2


def test_number_0_is_a_patient_too(desk: Desk) -> None:
    desk.put(f"{diagnosis(n)}/{n - 1:03d}.csv" for n in WOMEN)
    desk.run(view="Frontal")
    assert desk.patients()["healthy/000.csv"] == 8
    assert len(desk.labels()) == 8


def test_a_visit_in_the_name_is_a_visit(desk: Desk) -> None:
    desk.put(f"healthy/P{n:02d}_V{visit}.csv" for n in (1, 2) for visit in (1, 2))
    desk.run(view="Frontal")
    assert {each.exam for each in desk.records()} == {"1_1", "1_2", "2_1", "2_2"}


# --- views ------------------------------------------------------------------------------------------------------------

FIVE = ("Frontal", "Right45", "Right", "Left45", "Left")
VIEWS = {
    "underscores": ("Frontal", "Right_45", "Right_90", "Left_45", "Left_90"),
    "spaces": ("Frontal", "right 45", "right", "left 45", "left"),
    "letters": ("F", "R45", "R90", "L45", "L90"),
    "codes": ("TF", "TRO", "TRL", "TLO", "TLL"),
    "codes with angles": ("TF", "TRL45", "TRL90", "TLL45", "TLL90"),
    "Portuguese": ("Frente", "Direita 45", "Lateral Direita", "Esquerda 45", "Lateral Esquerda"),
    "Spanish": ("frontal", "oblicua_derecha", "derecha", "oblicua_izquierda", "izquierda"),
    "of radiologists": ("anterior", "oblright", "lat_right", "oblleft", "lat_left"),
    "angles with their word": ("0deg", "45deg right", "right 90 degrees", "left_45deg", "90\u00ba left"),
    "German": ("vorne", "rechts 45", "rechts", "links 45", "links"),
    "French": ("face", "oblique droit", "profil droit", "oblique gauche", "profil gauche"),
    "short words as one": ("Front", "RtObl", "RtLat", "LtObl", "LtLat"),
    "as one word": ("FrontView", "RightOblique", "LateralRight", "LeftOblique", "LateralLeft"),
    "anterior oblique": (
        "anterior",
        "right anterior oblique",
        "right lateral",
        "left anterior oblique",
        "left lateral",
    ),
}


@pytest.mark.parametrize("words", VIEWS.values(), ids=VIEWS)
def test_views_are_understood_in_many_words(words: tuple[str, ...], desk: Desk) -> None:
    desk.put(f"{diagnosis(n)}/{n:03d}_{word}.csv" for n in (1, 2, 7, 8) for word in words)
    desk.run()
    expected = {f"{n:03d}_{word}": view for n in (1, 2, 7, 8) for word, view in zip(words, FIVE, strict=True)}
    assert {Path(str(each.extra["original"])).stem: each.view for each in desk.records()} == expected
    assert desk.labels() == {1: "healthy", 2: "healthy", 7: "sick", 8: "sick"}


@pytest.mark.parametrize(
    ("word", "reason"),
    [("Right-60", "60 degrees"), ("back", "behind"), ("left_right", "left and right"), ("lateral", "neither left")],
)
def test_a_view_that_is_not_understood_is_listed_and_filed_nowhere(word: str, reason: str, desk: Desk) -> None:
    desk.put([f"healthy/1_{word}.csv", "healthy/1_frontal.csv", f"sick/7_{word}.csv", "sick/7_frontal.csv"])
    report = desk.run(view="Frontal")
    assert [each.view for each in desk.records()] == ["Frontal", "Frontal"]
    assert all(reason in each.reason and "--view-map" in each.reason for each in report.failed)
    assert len(report.failed) == 2


def test_a_view_map_names_words_and_leaves_files_out(desk: Desk) -> None:
    desk.put(f"{diagnosis(n)}/{n}_{word}.csv" for n in (1, 7) for word in ("Right-60", "back", "costado", "frontal"))
    own = desk.table("word,view\ncostado,Left\n", "map.csv")
    report = desk.run(view_map=["right-60=Right45,back=none", own])
    assert sorted(each.view for each in desk.records()) == ["Frontal", "Frontal", "Left", "Left", "Right45", "Right45"]
    assert report.exit_code == 0
    assert any(note.startswith("not taken, the view map leaves it out: 2") for note in report.notes)
    with pytest.raises(ConfigError, match="no such view"):
        desk.run(view_map=["back=Rear"])


def test_several_files_of_one_view_are_named(desk: Desk) -> None:
    desk.put(f"{diagnosis(n)}/{n:03d}_{word}_frontal.csv" for n in (1, 7) for word in ("before", "after"))
    report = desk.run()
    assert any("several files of one view" in note and "2 (1_1 Frontal, 7_1 Frontal)" in note for note in report.notes)
    assert not any("several files" in note for note in desk.run(view_map=["after=none"]).notes)
    assert [Path(str(each.extra["original"])).stem for each in desk.records()] == [
        "001_before_frontal", "007_before_frontal",
    ]  # fmt: skip


def test_numbers_behind_a_side_are_no_angles_where_they_go_on(desk: Desk) -> None:
    desk.put(f"{diagnosis(n - 42)}/Left_{n}.csv" for n in range(43, 51))
    desk.run()
    assert {each.view for each in desk.records()} == {"Left"}
    assert sorted(desk.labels()) == list(range(43, 51))


# --- labels -----------------------------------------------------------------------------------------------------------

SAID = {
    "malignant, benign": ("diagnosis", "Malignant", "Benign"),
    "positive, negative": ("result", "Positive", "Negative"),
    "Portuguese": ("diagnóstico", "Doente", "Saudável"),
    "Portuguese, of tumours": ("patologia", "maligno", "benigno"),
    "Spanish": ("resultado", "enferma", "sana"),
    "French": ("diagnostic", "malin", "bénin"),
    "French answers": ("cancer", "oui", "non"),
    "German": ("Befund", "krank", "gesund"),
    "German, of tumours": ("Diagnose", "bösartig", "gutartig"),
    "Italian": ("diagnosi", "malata", "sana"),
    "Polish": ("rozpoznanie", "chora", "zdrowa"),
    "Dutch": ("diagnose", "ziek", "gezond"),
    "floats": ("class", "1.0", "0.0"),
    "letters of pathologists": ("pathology", "M", "B"),
    "1 is healthy": ("healthy", "0", "1"),
    "1 is benign": ("Benign", "0", "1"),
    "nothing found": ("No Finding", "0", "1"),
    "yes is normal": ("normal", "no", "yes"),
    "no cancer": ("no_cancer", "False", "True"),
    "abnormal": ("abnormal", "yes", "no"),
    "words in a cell": ("histology", "invasive carcinoma", "no malignancy"),
}


@pytest.mark.parametrize(("column", "sick", "healthy"), SAID.values(), ids=SAID)
def test_a_column_is_understood_and_its_meaning_said(column: str, sick: str, healthy: str, desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    lines = "".join(f"{n},{40 + n},{sick if n > 4 else healthy},{n % 2}\n" for n in WOMEN)
    report = desk.run(labels=desk.table(f"id,age,{column},menopause\n{lines}"), view="Frontal")
    assert desk.labels() == RIGHT
    assert f"label from column `{column}`: sick = {sick} 4, healthy = {healthy} 4" in report.notes


@pytest.mark.parametrize(
    ("columns", "lines", "named"),
    [
        ("id,status,biopsy", [f"{n},{n % 2},{diagnosis(n)}" for n in WOMEN], ("`status`", "`biopsy`")),
        ("id,diagnosis,label", [f"{n},{diagnosis(n)},{n % 2}" for n in WOMEN], ("`diagnosis`", "`label`")),
        ("id,healthy,sick", [f"{n},{n % 2},{n % 3 % 2}" for n in WOMEN], ("`healthy`", "`sick`")),
        ("id,BI-RADS,diagnosis", [f"{n},{n % 5 + 1},{diagnosis(n)}" for n in WOMEN], ("`BI-RADS`", "`diagnosis`")),
        ("id,smoker", [f"{n},{'yes' if n % 2 else 'no'}" for n in WOMEN], ("`smoker`",)),
        ("id,smoker,menopause", [f"{n},{n % 2},{n % 3 % 2}" for n in WOMEN], ("`smoker`", "`menopause`")),
    ],
    ids=["status and biopsy", "two names", "two answers", "BI-RADS too", "another question", "two questions"],
)
def test_no_column_is_guessed(columns: str, lines: list[str], named: tuple[str, ...], desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    with pytest.raises(ConfigError, match="the label") as caught:
        desk.run(labels=desk.table("\n".join([columns, *lines])), view="Frontal")
    assert all(name in str(caught.value.found) for name in named)
    assert "--label-column" in str(caught.value.hint)
    assert "--sick-values" in str(caught.value.hint)
    assert not desk.workspace.catalog.exists()


def test_columns_that_say_the_same_of_everybody_are_no_guess(desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    lines = "".join(f"{n},{int(n < 5)},{int(n > 4)}\n" for n in WOMEN)
    report = desk.run(labels=desk.table(f"id,healthy,sick\n{lines}"), view="Frontal")
    assert desk.labels() == RIGHT
    assert any("healthy = 1 4 (`sick`: the same in every line)" in note for note in report.notes)


@pytest.mark.parametrize("values", [("2", "1"), ("PM", "N"), ("patient", "control"), ("alpha", "beta")])
def test_values_of_which_one_class_is_understood_are_refused_with_their_counts(
    values: tuple[str, str], desk: Desk
) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    labels = desk.table("id,diagnosis\n" + "".join(f"{n},{values[0] if n > 4 else values[1]}\n" for n in WOMEN))
    with pytest.raises(ConfigError) as caught:
        desk.run(labels=labels, view="Frontal")
    assert all(f"{value} 4" in str(caught.value.found) for value in values)
    desk.run(labels=labels, view="Frontal", label_column="diagnosis", sick_values=values[:1], healthy_values=values[1:])
    assert desk.labels() == RIGHT


SITES: dict[str, tuple[str, list[str], str]] = {
    "columns of breasts": (
        "id,Left,Right\n" + "".join(f"{n},{'PM' if n > 4 else 'PB'},N\n" for n in WOMEN), ["Left", "Right"], "obl{}",
    ),
    "a column of breasts": (
        "id,breast,diagnosis\n" + "".join(f"{n},L,{'PM' if n > 4 else 'PB'}\n{n},R,N\n" for n in WOMEN),
        ["breast"], "obl{}",
    ),
    "columns of regions and sides": (
        "id,region,side,diagnosis\n"
        + "".join(f"{n},Sacrum,left,{'PM' if n > 4 else 'N'}\n{n},Sacrum,right,N\n" for n in WOMEN),
        ["region", "side"], "sacrum-{}",
    ),
    "a column of regions": (
        "id,region,diagnosis\n"
        + "".join(f"{n},left Sacrum,{'PM' if n > 4 else 'N'}\n{n},Right sacrum,N\n{n},knee,PM\n" for n in WOMEN),
        ["region"], "Sacrum-{}",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("table", "columns", "named"), SITES.values(), ids=SITES)
def test_breasts_and_regions_with_labels_of_their_own_are_exams_of_one_patient(
    table: str, columns: list[str], named: str, desk: Desk
) -> None:
    sides = [named.format(side) for side in ("left", "right")]
    desk.put(f"{n}_{word}.csv" for n in WOMEN for word in (*sides, "anterior"))
    options = {"labels": desk.table(table), "view_map": [f"{word}=Frontal" for word in sides]}
    with pytest.raises(ThermocancerError) as caught:
        desk.run(**options)
    assert "--si" in str(caught.value.hint)
    options |= {"site_columns": columns, "sick_values": "PM", "healthy_values": ["N", "PB"]}
    report = desk.run(**options)
    left = {each.patient: each.label for each in desk.records() if "left" in str(each.extra["original"])}
    right = {each.label for each in desk.records() if "right" in str(each.extra["original"])}
    assert (left, right) == (RIGHT, {"healthy"})
    assert any(note.startswith("not taken, it shows no single one of") and ": 8 (" in note for note in report.notes)
    assert desk.run(**options).made == 0
    config = load_config(options={"filter.views": ["Frontal"]}, workspace=desk.workspace.root)
    filter_stage.run(config, desk.workspace, Silent())
    built = build_dataset.run(config, desk.workspace, Silent()).figures
    assert (built["static_exams"], built["static_patients"]) == (16, 8)
    split = json.loads((desk.workspace.root / "split.json").read_text())
    assert sorted([*split["train"], *split["test"]]) == list(WOMEN)  # each woman once, with both exams


@pytest.mark.parametrize(
    ("column", "high", "low"),
    [("diagnosis", "BI-RADS 4A", "BI-RADS 2"), ("BI-RADS category", "IV", "II"), ("acr", "ACR 5", "ACR 1"),
     ("birads", "4b", "2")],
)  # fmt: skip
def test_birads_needs_a_limit(column: str, high: str, low: str, desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    labels = desk.table(f"id,{column}\n" + "".join(f"{n},{high if n > 4 else low}\n" for n in WOMEN))
    with pytest.raises(ConfigError, match="from which one on") as caught:
        desk.run(labels=labels, view="Frontal")
    assert f"{low} 4" in str(caught.value.found)
    report = desk.run(labels=labels, view="Frontal", birads_sick_from=4)
    assert desk.labels() == RIGHT
    assert any("sick from BI-RADS 4 on" in note for note in report.notes)


def test_folders_that_say_the_other_label_are_named(desk: Desk) -> None:
    desk.by_label(str)
    text = TABLE.replace("8,sick", "8,healthy")
    report = desk.run(labels=desk.table(text), view="Frontal")
    assert any(note == "in folders named for the other label: 1 (sick/8.csv)" for note in report.notes)


FOLDERS = {
    "negated": ("cancer", "no_cancer"),
    "below a common name": ("Breast cancer/malignant", "Breast cancer/normal"),
    "Portuguese": ("Doente", "Saudável"),
    "answers": ("yes", "no"),
}


@pytest.mark.parametrize(("sick", "healthy"), FOLDERS.values(), ids=FOLDERS)
def test_folders_name_the_label_in_many_words(sick: str, healthy: str, desk: Desk) -> None:
    desk.put(f"{sick if n > 4 else healthy}/{n}.csv" for n in WOMEN)
    desk.run(view="Frontal")
    assert desk.labels() == RIGHT


# --- tables -----------------------------------------------------------------------------------------------------------


def dressed(separator: str, head: str = "", encoding: str = "utf-8", extra: str = "40") -> bytes:
    rows = [("id", "age", "diagnosis"), *((str(n), extra, diagnosis(n)) for n in WOMEN)]
    return (head + "".join(separator.join(row) + "\r\n" for row in rows)).encode(encoding)


TABLED = [("id", "age", "diagnosis"), *((str(n), "40", diagnosis(n)) for n in WOMEN)]
DRESSES = {
    "sep line": dressed(";", "sep=;\r\n"),
    "UTF-16": dressed("\t", "\ufeff", "utf-16-le"),
    "UTF-16 without its mark": dressed(";", "", "utf-16-le"),
    "bars": dressed("|"),
    "title": dressed(";", "Study of 2021;;\r\n;;\r\n"),
    "cp1252": dressed(";", "", "cp1252", "m\u00e1s tarde\u2026"),
    "mark": dressed(",", "\ufeff"),
    "separators within cells": dressed(";", "", "utf-8", "a, b, c"),
    "ids with a point": ("id,diagnosis\n" + "".join(f"{n}.0,{diagnosis(n)}\u00a0\n" for n in WOMEN)).encode(),
    "blanks between columns": dressed(" "),
    "columns in line": "".join(f"{a:<8}{b:<8}{c}\n" for a, b, c in TABLED).encode(),
    "an index of its own": (",id,diagnosis\n" + "".join(f"{n - 1},{n},{diagnosis(n)}\n" for n in WOMEN)).encode(),
    "two columns of ids": ("record,id,diagnosis\n" + "".join(f"{n + 90},{n},{diagnosis(n)}\n" for n in WOMEN)).encode(),
}


@pytest.mark.parametrize("content", DRESSES.values(), ids=DRESSES)
def test_tables_are_read_in_every_dress(content: bytes, desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    desk.run(labels=desk.table(content), view="Frontal")
    assert desk.labels() == RIGHT


WRONG = {
    "no header": ("1,healthy\n2,sick\n3,healthy\n", DataError, "no header", "1, healthy"),
    "no ids": ("diagnosis\nsick\nhealthy\n", ConfigError, "can name the patient", "the columns diagnosis"),
    "an old workbook": ("\xd0\xcf\x11\xe0", DataError, "old kind", "None"),
    "longer lines": ("id,note,diagnosis\n1,a, b,sick\n2,x,sick\n3,a, b,sick\n", DataError, "more cells", "2, 4"),
    "several problems": (
        "id,visit,diagnosis\n1,1,sick\n1,1,healthy\n2,x,sick\n3,1,sick\n3,1,healthy\n", DataError,
        "contradicts itself in 3 lines", "patient 1 has two labels (labels.csv:3); a visit must be a whole number",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "what", "found"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_table_is_said_at_once(
    text: str, kind: type[ThermocancerError], what: str, found: str, desk: Desk
) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    options = {"visit_column": "visit"} if "visit" in text else {}
    with pytest.raises(kind, match=what) as caught:
        desk.run(labels=desk.table(text.encode("latin-1")), view="Frontal", **options)
    assert found in str(caught.value.found)


@pytest.mark.parametrize(("sheets", "code"), [(1, ""), (2, "Patients, More")])
def test_the_sheet_that_holds_a_table_is_read_and_two_are_asked_about(sheets: int, code: str, desk: Desk) -> None:
    import openpyxl

    desk.put(f"{n}.csv" for n in WOMEN)
    book = openpyxl.Workbook()
    book.active.append(["see the next sheet"])
    for name in ("Patients", "More")[:sheets]:
        sheet = book.create_sheet(name)
        for row in TABLED:
            sheet.append(row)
    book.save(desk.root / "labels.xlsm")
    if code:
        with pytest.raises(DataError, match="several sheets") as caught:
            desk.run(labels=str(desk.root / "labels.xlsm"), view="Frontal")
        assert caught.value.found == code
    else:
        desk.run(labels=str(desk.root / "labels.xlsm"), view="Frontal")
        assert desk.labels() == RIGHT


def test_the_shape_chooses_between_two_readings_and_is_remembered(desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    scans = desk.root / "scans"
    right = {n: read_matrix(scans / f"{n}.csv").celsius for n in WOMEN}
    height, width = right[1].shape
    for n in WOMEN:
        text = "".join(",".join(f"{v:.2f}".replace(".", ",") for v in row) + "\n" for row in right[n])
        (scans / f"{n}.csv").write_text(text)
    asked = {"labels": desk.table(TABLE), "view": "Frontal"}
    with pytest.raises(DataError) as caught:
        desk.run(**asked)
    assert f"{height}x{width} with decimal commas, {height}x{2 * width} without" in str(caught.value.found)
    assert "--shape" in str(caught.value.hint)
    desk.run(**asked, shape=f"{height}x{width}")
    for each in desk.records():
        assert np.array_equal(read_matrix(desk.workspace.raw / each.path).celsius, right[each.patient])
    assert desk.run(**asked, shape=f"{height}x{width}").made == 0


def test_other_columns_are_kept_or_chosen(desk: Desk) -> None:
    desk.put(["1.csv", "7.csv"])
    labels = desk.table("id,diagnosis,age,city\n1,healthy,40,Rio\n7,sick,50,\n")
    desk.run(labels=labels, view="Frontal")
    assert [each.extra.get("columns") for each in desk.records()] == [{"age": "40", "city": "Rio"}, {"age": "50"}]
    desk.run(labels=labels, view="Frontal", keep_columns=["city"])
    assert [each.extra.get("columns") for each in desk.records()] == [{"city": "Rio"}, None]


# --- dates ------------------------------------------------------------------------------------------------------------

WRITTEN = {
    "day first": (lambda n: f"{n + 12}/03/2014", "2014-03-{:02d}"),
    "month first": (lambda n: f"03/{n + 12}/2014", "2014-03-{:02d}"),
    "points and short years": (lambda n: f"{n + 12}.03.14", "2014-03-{:02d}"),
    "ISO with an hour": (lambda n: f"2014-03-{n + 12} 10:22:00", "2014-03-{:02d}"),
    "spelt": (lambda n: f"{n + 12} de março de 2014", "2014-03-{:02d}"),
}


@pytest.mark.parametrize(("written", "expected"), WRITTEN.values(), ids=WRITTEN)
def test_a_column_of_dates_shows_its_order(written: Callable[[int], str], expected: str, desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    lines = "".join(f"{n},{diagnosis(n)},{written(n)}\n" for n in WOMEN)
    report = desk.run(labels=desk.table(f"id,diagnosis,exam date\n{lines}"), view="Frontal")
    assert {each.patient: each.date for each in desk.records()} == {n: expected.format(n + 12) for n in WOMEN}
    assert any(note.startswith("dates: from column `exam date`") for note in report.notes)
    assert "dated 8 of 8" in report.notes


def test_dates_with_two_readings_are_refused_and_chosen(desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    lines = "".join(f"{n},{diagnosis(n)},0{n}/11/2019\n" for n in WOMEN)
    labels, dates = desk.table(f"id,diagnosis\n{lines}".replace("diagnosis\n", "diagnosis,date\n")), ""
    for options in ({"labels": labels}, {"labels": desk.table(TABLE, "l.csv"), "dates": dates or labels}):
        with pytest.raises(ConfigError, match="can be read in two ways") as caught:
            desk.run(view="Frontal", **options)
        assert "01/11/2019 is 2019-11-01 if the day comes first, 2019-01-11" in str(caught.value.found)
        assert "--date-format DMY" in str(caught.value.hint)
    desk.run(labels=labels, view="Frontal", date_format="DMY")
    assert desk.records()[0].date == "2019-11-01"
    desk.run(labels=labels, view="Frontal", date_format="%m/%d/%Y")
    assert desk.records()[0].date == "2019-01-11"


def test_cells_that_contradict_each_other_are_refused(desk: Desk) -> None:
    desk.put(["1.csv", "7.csv"])
    labels = desk.table("id,diagnosis,date\n1,healthy,13/05/2019\n7,sick,05/13/2019\n")
    with pytest.raises(ConfigError, match="some dates of column `date` are day first and others month first"):
        desk.run(labels=labels, view="Frontal")


def test_days_that_do_not_exist_are_listed_and_never_stored(desk: Desk) -> None:
    desk.put(["healthy/T0001.1.1.S.2015-99-99.00.txt", "sick/T0007.1.1.S.2015-03-09.00.txt"])
    report = desk.run()
    assert [each.date for each in desk.records()] == [None, "2015-03-09"]
    assert any(note.startswith("dates that do not exist: 1 (2015-99-99") for note in report.notes)
    assert "dated 1 of 2" in report.notes


def test_dates_of_names_are_read_together(desk: Desk) -> None:
    desk.by_label(lambda n: f"{n:03d}_{n + 12}-05-2019")
    desk.run(view="Frontal")
    assert desk.records()[0].date == "2019-05-13"


@pytest.mark.parametrize("cell", ["4358{n}", "2019-0{n}", "201{n}", "1{n}/05/2562", "spring"])
def test_a_column_of_dates_that_are_none_is_named(cell: str, desk: Desk) -> None:
    desk.put(f"{n}.csv" for n in WOMEN)
    lines = "".join(f"{n},{diagnosis(n)},{cell.format(n=n)}\n" for n in WOMEN)
    labels = desk.table(f"id,diagnosis,date\n{lines}")
    report = desk.run(labels=labels, view="Frontal")
    (line,) = [note for note in report.notes if note.startswith("dates: not from `date`")]
    assert cell.format(n=1) in line
    assert "--date-format" in line
    if "-0" in cell:
        desk.run(labels=labels, view="Frontal", date_format="%Y-%m")
        assert desk.records()[0].date == "2019-01-01"


def test_several_columns_of_dates_are_named_and_none_is_taken(desk: Desk) -> None:
    desk.put(["1.csv", "7.csv"])
    text = "id,diagnosis,born,surgery\n1,healthy,1960-01-02,2015-01-02\n7,sick,1961-01-02,2016-01-02\n"
    report = desk.run(labels=desk.table(text), view="Frontal")
    assert "dated 0 of 2" in report.notes
    assert any("`born`, `surgery`" in note and "import.date_column" in note for note in report.notes)


# --- folders and cohorts ----------------------------------------------------------------------------------------------


def two_years(desk: Desk) -> dict[str, str]:
    labels = {}
    for year, turn in (("y2019", 0), ("y2021", 1)):
        desk.put((f"{n}.csv" for n in (1, 2, 3)), year)
        lines = "".join(f"{n},{'sick' if (n + turn) % 2 else 'healthy'}\n" for n in (1, 2, 3))
        labels[year] = desk.table(f"id,diagnosis\n{lines}", f"{year}.csv")
    return labels


def test_a_second_folder_never_replaces_the_first(desk: Desk) -> None:
    labels = two_years(desk)
    desk.run("y2019", labels=labels["y2019"], view="Frontal")
    before = tree_of(desk.workspace.raw)
    with pytest.raises(ConfigError, match="the catalog has patients of these numbers already") as caught:
        desk.run("y2021", labels=labels["y2021"], view="Frontal")
    assert "--source y2019" in str(caught.value.hint)
    assert "--source y2021" in str(caught.value.hint)
    assert tree_of(desk.workspace.raw) == before


def test_a_second_cohort_gets_numbers_of_its_own_and_keeps_them(desk: Desk) -> None:
    labels = two_years(desk)
    desk.run("y2019", labels=labels["y2019"], view="Frontal")
    desk.run("y2021", labels=labels["y2021"], view="Frontal", source="y2021")
    assert desk.labels() == {
        1: "sick", 2: "healthy", 3: "sick", 4: "healthy", 5: "sick", 6: "healthy",
    }  # fmt: skip
    made_up = {each.patient: each.extra["original_id"] for each in desk.records() if "patient_made_up" in each.extra}
    assert made_up == {4: "1", 5: "2", 6: "3"}
    for year in labels:
        assert desk.run(year, labels=labels[year], view="Frontal").nothing_to_do
    desk.put((f"{n}.csv" for n in (1, 2, 3, 4)), "y2019")
    Path(labels["y2019"]).write_text("id,diagnosis\n1,sick\n2,healthy\n3,sick\n4,sick\n")
    desk.run("y2019", labels=labels["y2019"], view="Frontal")
    assert len(desk.records()) == 7
    assert {each.patient for each in desk.records() if each.extra["cohort"] == "y2021"} == {4, 5, 6}
    new = next(each for each in desk.records() if each.extra["original"] == "4.csv")
    assert (new.patient, new.extra["original_id"]) == (7, "4"), "4 is a number that the tool has given away"


def test_the_same_women_in_a_second_folder_are_joined_when_that_is_said(desk: Desk) -> None:
    labels = two_years(desk)
    desk.run("y2019", labels=labels["y2019"], view="Frontal")
    desk.run("y2021", labels=labels["y2019"], view="Right")  # one table for both folders: the same women
    desk.put(["1.csv"], "more")
    desk.run("more", labels=desk.table("id,diagnosis\n1,sick\n"), view="Left", source="y2019")
    assert sorted((each.patient, each.view) for each in desk.records() if each.patient == 1) == [
        (1, "Frontal"), (1, "Left"), (1, "Right"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="has a Frontal image already, with other content"):
        desk.run("more", labels=desk.table("id,diagnosis\n1,sick\n"), view="Frontal", source="y2019")


def test_what_is_not_taken_is_counted_and_named(desk: Desk) -> None:
    desk.by_label(str)
    folder = desk.root / "scans"
    for name in (
        "healthy/.ipynb_checkpoints/1-checkpoint.csv", "sick/@eaDir/5.csv", "Thumbs.db", "healthy/._1.csv",
        "__MACOSX/1.csv", "sick/~$labels.xlsx", "9.pkl", "10.h5", "11.mp4", "notes.docx",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    report = desk.run(view="Frontal")
    not_taken = report.figures["read_as"]["not_taken"]
    assert len(desk.records()) == 8
    assert len(not_taken["left by an editor, a file manager or a download"]) == 6
    assert not_taken["format .pkl is not read"] == ["9.pkl"]
    assert {"format .h5 is not read", "format .mp4 is not read", "format .docx is not read"} <= set(not_taken)


def test_odd_names_are_shown_safely(desk: Desk) -> None:
    desk.put(["2_[red]x[bold].csv", "3_new\nline.csv", "4_\x1b[31m.csv"])
    name = os.fsencode(str(desk.root / "scans")) + b"/1_caf\xe9.csv"
    with open(name, "wb") as file:
        file.write(format_matrix(make_centi(9)))
    labels = desk.table(TABLE)
    report = desk.run(labels=labels, view="Frontal")
    originals = set(desk.patients())
    assert originals == {"1_caf\\xe9.csv", "2_[red]x[bold].csv", "3_new\\x0aline.csv", "4_\\x1b[31m.csv"}
    assert all(text.isprintable() for text in (*report.notes, *originals))
    assert any("3 names hold bytes that are no text" in note for note in report.notes)
    assert desk.run(labels=labels, view="Frontal").nothing_to_do


def test_folders_behind_links_are_followed_once_and_said(desk: Desk) -> None:
    desk.put((f"{n}.csv" for n in (5, 6)), "elsewhere")
    desk.put(f"healthy/{n}.csv" for n in (1, 2))
    (desk.root / "scans" / "sick").symlink_to(desk.root / "elsewhere")
    (desk.root / "scans" / "healthy" / "again").symlink_to(desk.root / "scans")
    report = desk.run(view="Frontal")
    assert desk.labels() == {1: "healthy", 2: "healthy", 5: "sick", 6: "sick"}
    assert any("links to elsewhere and were followed" in note and "sick" in note for note in report.notes)


@pytest.mark.parametrize(
    ("unit", "scale", "zero"), [("K", 1, 273.15), ("cK", 100, 273.15), ("cC", 100, 0), ("F", 0, 0)]
)
def test_numbers_in_another_unit_are_converted_where_it_is_said(
    unit: str, scale: float, zero: float, desk: Desk
) -> None:
    celsius = make_centi(3) / 100
    written = celsius * 9 / 5 + 32 if unit == "F" else (celsius + zero) * scale
    for name in ("healthy/1.csv", "sick/7.csv"):
        path = desk.root / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, written, fmt="%.3f")
    report = desk.run(view="Frontal", unit=unit)
    found = read_matrix(desk.workspace.raw / desk.records()[0].path).celsius
    assert np.abs(found - celsius).max() <= 0.006
    assert not any("nothing says otherwise" in note for note in report.notes)


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_reading_is_said_before_anything_is_written_and_kept_afterwards(desk: Desk) -> None:
    desk.by_label(lambda n: f"{n:03d}_frontal")
    desk.put(["sick/copy_of_9_frontal.csv"])
    plan = stage.plan(desk.config(), desk.workspace)
    assert not desk.workspace.raw.exists()
    report = desk.run()
    assert plan.figures["read_as"] == report.figures["read_as"]
    assert set(plan.notes) >= set(report.notes)
    kept = json.loads((desk.workspace.raw / "read-as-scans.json").read_text())
    assert kept == json.loads(json.dumps(report.figures["read_as"]))
    assert kept["view"] == {"Frontal": 9}
    assert kept["layouts"] == {"Frontal": {"space2": 9}}
    assert str(desk.root) not in json.dumps(kept), "what is kept must not hold this machine's paths"
    assert kept["alike"] == [["healthy/001_frontal.csv", "sick/copy_of_9_frontal.csv"]]


def test_a_tilde_is_the_home_folder_in_a_config_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "study.yaml"
    file.write_text(
        "workspace: ~/study\nimport: {folder: ~/scans, labels: ~/labels.csv, dates: [~/dates.csv]}\ncnn: {data: ~/x}\n"
    )
    config = load_config([file])
    assert config.workspace == str(tmp_path / "study")
    assert config.import_.folder == str(tmp_path / "scans")
    assert config.import_.labels == str(tmp_path / "labels.csv")
    assert config.import_.dates == (str(tmp_path / "dates.csv"),)
    assert config.cnn.data == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("files", "code"),
    [({"1.csv": "", "7.csv": ""}, 0), ({"1.csv": "", "7.csv": "21;x"}, 5), ({"1.csv": "21;x", "7.csv": "21;x"}, 3)],
    ids=["all", "some", "none"],
)
def test_a_dry_run_ends_as_the_import_itself_would(files: dict[str, str], code: int, desk: Desk) -> None:
    from typer.testing import CliRunner

    from thermocancer.cli import register

    desk.put(files)
    for name, text in files.items():
        if text:
            (desk.root / "scans" / name).write_text(f"{text}\n22;23\n")
    call = ["import", str(desk.root / "scans"), "--labels", desk.table(TABLE), "--view", "Frontal"]
    call += ["-w", str(desk.workspace.root)]
    dry = CliRunner().invoke(register(), [*call, "--dry-run"])
    assert not desk.workspace.raw.exists()
    real = CliRunner().invoke(register(), call)
    assert (dry.exit_code, real.exit_code) == (code, code)
    if code == 3:
        assert dry.stderr == real.stderr.replace("reading: 2/2 files\nimport: 0/0 files\n", "")


# --- formats, units, frames -------------------------------------------------------------------------------------------


def celsius_of(record: Record, desk: Desk) -> np.ndarray:
    return read_matrix(desk.workspace.raw / record.path).celsius


@pytest.mark.parametrize(
    ("suffix", "unit"), [("npy", None), ("tiff", None), ("tiff", "cK"), ("csv", "K"), ("csv", "F")]
)
def test_numbers_arrive_as_the_degrees_that_they_are(desk: Desk, suffix: str, unit: str | None) -> None:
    import cv2

    (desk.root / "scans").mkdir()
    exact = {woman: make_centi(9, woman) / 100 for woman in WOMEN}
    for woman, celsius in exact.items():
        path = desk.root / "scans" / f"{woman}.{suffix}"
        numbers = {"K": celsius + 273.15, "F": celsius * 9 / 5 + 32, "cK": (celsius + 273.15) * 100}.get(unit, celsius)
        if suffix == "csv":
            np.savetxt(path, numbers, fmt="%.4f", delimiter=";")
        elif suffix == "npy":
            np.save(path, numbers)
        else:
            typed = np.rint(numbers).astype(np.uint16) if unit else numbers.astype(np.float32)
            assert cv2.imwrite(str(path), typed)
    report = desk.run(labels=desk.table(TABLE), view="Frontal", **({"unit": unit} if unit else {}))
    assert not report.failed
    records = desk.records()
    for record in records:
        np.testing.assert_allclose(celsius_of(record, desk), exact[record.patient], atol=0.0051)
    assert len(records) == len(WOMEN)


def test_numbers_in_an_unstated_unit_are_refused(desk: Desk) -> None:
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        np.savetxt(desk.root / "scans" / f"{woman}.csv", make_centi(9, woman) / 100 + 273.15, fmt="%.2f", delimiter=";")
    with pytest.raises(DataError, match=r"unit|[Kk]elvin") as caught:
        desk.run(labels=desk.table(TABLE), view="Frontal")
    assert str(caught.value.found).startswith(f"{len(WOMEN)} of {len(WOMEN)} files"), "one fault, whatever its numbers"
    assert "--unit K," in str(caught.value.hint)


@pytest.mark.parametrize(("unit", "scale", "zero"), [("cK", 100, 273.15), ("dK", 10, 273.15), ("cC", 100, 0)])
def test_images_in_another_unit_ask_for_it_and_not_for_a_range(unit: str, scale: int, zero: float, desk: Desk) -> None:
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        counts = np.rint((make_centi(9, woman) / 100 + zero) * scale).astype(np.uint16)
        cv2.imwrite(str(desk.root / "scans" / f"{woman}.tiff"), counts)
    with pytest.raises(ConfigError, match="another unit") as caught:
        desk.run(labels=desk.table(TABLE), view="Frontal")
    assert f"--unit {unit}" in str(caught.value.hint)
    assert not desk.run(labels=desk.table(TABLE), view="Frontal", unit=unit).failed


@pytest.mark.parametrize(("scale", "zero", "unit"), [(100, 273.15, "cK"), (10, 273.15, "dK"), (100, 0, "cC")])
def test_a_range_over_numbers_of_another_unit_is_refused(scale: int, zero: float, unit: str, desk: Desk) -> None:
    """Read as levels of 65536, 14.00 degC in hundredths of a kelvin became 24.95."""
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        counts = np.rint((make_centi(9, woman) / 100 + zero) * scale).astype(np.uint16)
        cv2.imwrite(str(desk.root / "scans" / f"{woman}.tiff"), counts)
    asked = {"labels": desk.table(TABLE), "view": "Frontal", "range": {"low": 14, "high": 39}}
    with pytest.raises(DataError, match="not one file") as caught:
        desk.run(**asked)
    assert f"--unit {unit}" in str(caught.value.hint)
    report = desk.run(**asked, unit=unit)
    np.testing.assert_allclose(celsius_of(desk.records()[0], desk), make_centi(9, 1) / 100, atol=0.051)
    assert "temperatures: from " in " ".join(report.notes)


def test_counts_of_a_camera_are_no_levels_of_a_range(desk: Desk) -> None:
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        cv2.imwrite(str(desk.root / "scans" / f"{woman}.tiff"), (make_centi(9, woman) // 3 + 13000).astype(np.uint16))
    with pytest.raises(DataError) as caught:
        desk.run(labels=desk.table(TABLE), view="Frontal", range={"low": 14, "high": 39})
    assert "look like a camera's counts" in str(caught.value.found)


@pytest.mark.parametrize("given", [True, False])
def test_two_labels_of_an_exam_say_where_they_were_read(given: bool, desk: Desk) -> None:
    desk.put(["healthy/p1_frontal.csv", "sick/p1_left.csv", "sick/p2_left.csv"])
    table = desk.table("id,where,diagnosis\n1,healthy,healthy\n1,sick,sick\n2,sick,sick\n")
    options = {"labels": table, "match_columns": "where", "label_column": "diagnosis"} if given else {}
    with pytest.raises((DataError, ConfigError)) as caught:
        desk.run(**options, id_pattern=r"p(\d+)")
    hint = str(caught.value.hint)
    assert ("labels.csv" in hint) == given
    assert ("folders and files" in hint) != given


@pytest.mark.parametrize(("unit", "looks"), [("K", "Celsius"), ("cK", "Celsius"), ("F", "Celsius"), ("cC", "Celsius")])
def test_a_unit_that_makes_no_skin_of_the_numbers_is_refused(unit: str, looks: str, desk: Desk) -> None:
    desk.by_label(str)
    with pytest.raises(DataError, match="not one file") as caught:
        desk.run(view="Frontal", unit=unit)
    assert f"look like degrees {looks}, not" in str(caught.value.found)
    assert "leave --unit out" in str(caught.value.hint)


def several(kind: str, woman: int, path: Path) -> None:
    """A file that holds a matrix, and others beside it."""
    import scipy.io

    celsius = make_centi(9, woman) / 100
    if kind in ("mat", "npz"):
        save = scipy.io.savemat if kind == "mat" else lambda file, arrays: np.savez(file, **arrays)
        save(path.with_suffix(f".{kind}"), {"left": celsius + 1, "frontal": celsius, "mask": celsius > 25})
    else:
        other = {
            "thumbnail": celsius[::2, ::2],
            "mask": celsius > 25,
            "preview": np.zeros((*celsius.shape, 3), np.uint8),
        }
        second = other[kind].astype(np.uint8 if kind == "preview" else np.float32)
        cv2.imwritemulti(str(path.with_suffix(".tif")), [celsius.astype(np.float32), second])


@pytest.mark.parametrize("kind", ["mat", "npz", "thumbnail", "mask", "preview"])
def test_one_of_several_matrices_in_a_file_is_asked_for_and_chosen(kind: str, desk: Desk) -> None:
    for woman in WOMEN:
        path = desk.root / "scans" / diagnosis(woman) / str(woman)
        path.parent.mkdir(parents=True, exist_ok=True)
        several(kind, woman, path)
    with pytest.raises(DataError) as caught:
        desk.run(view="Frontal")
    assert "import.part=" in str(caught.value.hint)
    part = "frontal" if kind in ("mat", "npz") else "0"
    desk.run(view="Frontal", part=part)
    for record in desk.records():
        np.testing.assert_allclose(celsius_of(record, desk), make_centi(9, record.patient) / 100, atol=0.0051)
    assert desk.run(view="Frontal", part=part).nothing_to_do
    with pytest.raises(DataError):
        desk.run(view="Frontal", part="7")


def test_several_frames_are_a_dynamic_exam_and_no_static_one(desk: Desk) -> None:
    (desk.root / "scans").mkdir()
    frames = {woman: np.stack([make_centi(9, 10 * woman + each) / 100 for each in range(3)]) for woman in WOMEN}
    for woman, exam in frames.items():
        np.save(desk.root / "scans" / f"{woman}.npy", exam)
    labels = desk.table(TABLE)
    with pytest.raises(DataError, match="--protocol D"):
        desk.run(labels=labels, view="Frontal")
    desk.run(labels=labels, view="Frontal", protocol="D")
    records = desk.records()
    assert len(records) == 3 * len(WOMEN)
    for record in records:
        frame = frames[record.patient][record.index]
        np.testing.assert_allclose(celsius_of(record, desk), frame, atol=0.0051)
    assert desk.run(labels=labels, view="Frontal", protocol="D").nothing_to_do


@pytest.mark.parametrize(
    ("header", "unit", "said"),
    [
        ("", None, "degrees Celsius, as nothing says otherwise"),
        ("Unit: K\n", None, "kelvin, as 8 files state"),
        ("", "K", "kelvin, by --unit"),
    ],
)
def test_the_plan_says_the_unit_and_who_stated_it(desk: Desk, header: str, unit: str | None, said: str) -> None:
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        numbers = make_centi(9, woman) / 100 + (273.15 if "kelvin" in said else 0)
        rows = "\n".join(";".join(f"{number:.2f}" for number in row) for row in numbers)
        (desk.root / "scans" / f"{woman}.csv").write_text(f"{header}{rows}\n")
    report = desk.run(labels=desk.table(TABLE), view="Frontal", **({"unit": unit} if unit else {}))
    assert report.figures["read_as"]["unit"] == said


def test_two_files_of_frames_of_one_woman_are_two_visits(desk: Desk) -> None:
    (desk.root / "scans").mkdir()
    for woman in WOMEN:
        for part in "ab":
            frames = np.stack([make_centi(9, 10 * woman + each) / 100 + (part == "b") for each in range(3)])
            np.save(desk.root / "scans" / f"{woman}_{part}.npy", frames)
    report = desk.run(labels=desk.table(TABLE), view="Frontal", protocol="D", id_pattern=r"(?P<patient>\d+)_")
    assert not report.failed
    found = [(each.patient, each.visit, each.index) for each in desk.records()]
    assert sorted(found) == [(woman, visit, index) for woman in WOMEN for visit in (1, 2) for index in range(3)]


def crop_in(fill: float, share: int) -> np.ndarray:
    celsius = make_centi(4, 4) / 100
    celsius[:, : celsius.shape[1] // share] = fill
    return celsius


@pytest.mark.parametrize(("fill", "form"), [(0.0, "%.2f"), (np.nan, "%.2f"), (0.0, "npy"), (np.nan, "npy")])
def test_pixels_without_a_temperature_are_counted_and_never_degrees(fill: float, form: str, desk: Desk) -> None:
    desk.by_label(lambda n: f"{n:03d}_frontal")
    path = desk.root / "scans" / "sick" / "009_frontal"
    if form == "npy":
        np.save(path.with_suffix(".npy"), crop_in(fill, 4))
    else:
        np.savetxt(path.with_suffix(".csv"), crop_in(fill, 4), fmt=form)
    report = desk.run()
    (line,) = [note for note in report.notes if "lack pixels" in note]
    assert "1 files" in line
    assert "25.0%" in line
    (record,) = [each for each in desk.records() if each.patient == 9]
    assert record.extra["low"] > 10, "the lowest temperature is that of the room"
    assert [note for note in desk.run().notes if "lack pixels" in note] == [line], "read from the catalog"
    filtering = filter_stage.run(
        load_config(options={"filter.views": ["Frontal"]}, workspace=desk.workspace.root), desk.workspace, Silent()
    )
    assert (filtering.figures["kept"], filtering.figures["with_missing_pixels"]) == (len(WOMEN) + 1, 1)
    assert any("9_1 Frontal 25.0%" in note for note in filtering.notes)
    assert "25.0% of the pixels hold no temperature" in (desk.workspace.filtered / "filter.csv").read_text()
    matrix = read_matrix(desk.workspace.raw / record.path)
    assert matrix.missing is not None
    assert matrix.missing.mean() == 0.25
    assert matrix.centi.min() > 1900, "nowhere 0 degC"


def test_a_room_at_zero_is_no_fill() -> None:
    assert not missing_pixels(np.array([[0.0, 1.0], [2.0, 3.0]])).any()
    assert missing_pixels(np.array([[0.0, 21.0], [np.nan, 33.0]])).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("stretched", [True, False])
def test_greys_that_were_stretched_one_by_one_are_named(stretched: bool, desk: Desk) -> None:
    for woman in WOMEN:
        path = desk.root / "scans" / diagnosis(woman) / f"{woman}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        celsius = make_centi(woman) / 100
        low, high = (celsius.min(), celsius.max()) if stretched else (15, 40)
        cv2.imwrite(str(path), np.rint((celsius - low) / (high - low) * 255).astype(np.uint8))
    report = desk.run(view="Frontal", range={"low": 15, "high": 40})
    assert any("stretched" in note for note in report.notes) == stretched
    assert "unit: grey levels from 15 to 40 degC, by import.range" in report.notes
