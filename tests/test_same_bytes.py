"""The golden comparison sees every kind of difference, and overlooks only what its table declares."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import same_bytes

ROAD = "static"
CSV = "patient,score\n1,0.25\n2,0.75\n"
NOTE = 99 * "a" + "\n"
MANIFEST = {"made_from": "a1", "note": NOTE, "outputs": {"predictions.csv": "b1"}, "patients": 17, "views": ["Frontal"]}


def archive(weights: bytes, date: int = 1) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        file.writestr(zipfile.ZipInfo("weights.h5", (2020, 1, date, 0, 0, 0)), weights)
    return held.getvalue()


def as_json(**changed: Any) -> bytes:
    return json.dumps(MANIFEST | changed).encode()


FILES = {
    "w/runs/svm/manifest.json": as_json(),
    "w/runs/svm/predictions.csv": CSV.encode(),
    "w/runs/svm/model/network.keras": archive(b"one"),
    "w/datasets/cohort.h5": b"\x89HDF\0\1\2\3",
    "w/raw/patients.jsonl": b'{"patient": 1, "read": "2026-01-02"}\n',
    "w/cache/folds/a1.json": b"{}",
    "said/01.json": b'{"made": 1, "notes": ["parity 0.1, 0.23 ms an exam"], "seconds": 2.5}',
    "said/01.txt": b"fixed  one file\n",
}


def side(out: Path, **changed: bytes | None) -> Path:
    """A road's folder as ``FILES`` says, with other content or, where it is None, without the file."""
    for name, content in (FILES | changed).items():
        if content is not None:
            path = out / ROAD / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return out


def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str], **changed: bytes | None) -> tuple[int, str]:
    code = same_bytes.compare(side(tmp_path / "first"), side(tmp_path / "second", **changed), [ROAD])
    return code, capsys.readouterr().out


def test_equal_sides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(tmp_path, capsys) == (0, f"{len(FILES) - 1} files of 1 roads compared, 0 differ\n")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("w/runs/svm/manifest.json", as_json(patients=18), "patients: 17 | 18"),
        ("w/runs/svm/manifest.json", as_json(patients=17.0), "patients: 17 | 17.0"),
        ("w/runs/svm/manifest.json", as_json(views=["Left"]), "views[0]: Frontal | Left"),
        ("w/runs/svm/manifest.json", as_json(views=["Frontal", "Left"]), "views: 1 | 2 entries"),
        ("w/runs/svm/manifest.json", as_json(note=NOTE + "b"), "note: ...aaaa"),
        ("w/runs/svm/manifest.json", as_json(note="b" + NOTE), "note: aaaa"),
        ("w/runs/svm/manifest.json", as_json(note=99 * "a" + "b"), "a\\n | ..." + 20 * "a" + "b"),
        ("w/runs/svm/manifest.json", as_json(leaks=[]), "leaks on the second side only"),
        ("w/runs/svm/manifest.json", as_json(outputs={"scores.csv": "b1"}), "outputs: scores.csv on one side only"),
        ("w/runs/svm/manifest.json", b"{", "no JSON"),
        ("w/runs/svm/predictions.csv", CSV.replace("0.75", "0.76").encode(), "line 3: 2,0.75 | 2,0.76"),
        ("w/runs/svm/predictions.csv", CSV.replace("\n", "\r\n").encode(), "line 1"),
        ("w/runs/svm/predictions.csv", CSV.encode() + b"3,0.5\n", "line 4"),
        ("w/runs/svm/model/network.keras", archive(b"two"), "in the archive: weights.h5"),
        ("w/runs/svm/model/network.keras", archive(b"one", date=2), "an archive of equal members"),
        ("w/datasets/cohort.h5", b"\x89HDF\0\1\2\4", "8 and 8 bytes, other from byte 7 on"),
        ("w/datasets/cohort.h5", None, "on the first side only"),
        ("w/runs/svm/notes.md", b"new", "on the second side only"),
        ("w/raw/patients.jsonl", b'{"patient": 2, "read": "2026-01-02"}\n', "[0].patient: 1 | 2"),
        ("said/01.json", FILES["said/01.json"].replace(b"1,", b"0,", 1), "made: 1 | 0"),
        ("said/01.json", FILES["said/01.json"].replace(b"y 0.1", b"y 0.2"), "notes[0]: parity 0.1"),
        ("said/01.txt", b"fixed  two files\n", "line 1"),
    ],
)
def test_a_difference_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, told: str
) -> None:
    code, out = compared(tmp_path, capsys, **{name: content})
    line, count = out.splitlines()
    assert (code, line.partition(": ")[0]) == (1, f"{ROAD}/{name}")
    assert told in line
    assert count.endswith("1 differ")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w/runs/svm/manifest.json", as_json(made_from="a2", outputs={"predictions.csv": "b2"})),
        ("w/cache/folds/a1.json", b"[]"),
        ("w/raw/patients.jsonl", b'{"patient": 1, "read": "2026-01-03"}\n'),
        ("said/01.json", FILES["said/01.json"].replace(b"2.5", b"2.75")),
        ("said/01.json", b'{"made": 1, "notes": ["parity 0.1, 0.24 ms an exam"], "seconds": 2.5}'),
        ("said/01.txt", b"E0000 00:00:1.5  77 util.cc:131] oneDNN\nfixed  one file\n"),
    ],
)
def test_what_may_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes) -> None:
    assert compared(tmp_path, capsys, **{name: content})[0] == 0


def test_declared_keys_may_be_new_but_not_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(same_bytes, "DECLARED", ("leaks",))
    one, other = side(tmp_path / "old"), side(tmp_path / "new", **{"w/runs/svm/manifest.json": as_json(leaks=[])})
    assert same_bytes.compare(one, other, [ROAD]) == 0
    assert same_bytes.compare(other, one, [ROAD]) == 1
    assert "leaks on the first side only" in capsys.readouterr().out


def test_nothing_compared_is_no_success(tmp_path: Path) -> None:
    assert same_bytes.compare(side(tmp_path / "first"), tmp_path / "second", [ROAD]) == 1


def test_a_folder_that_is_no_road_is_left_alone(tmp_path: Path) -> None:
    kept = tmp_path / ROAD / "thesis.docx"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(SystemExit, match="no road of this script's"):
        same_bytes.make(Path(__file__).parents[1], tmp_path, [ROAD], 1)
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(("name", "code"), [("cache", 0), ("python", 1)])
def test_only_declared_entries_of_a_list_may_be_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    said = json.dumps({"made": 1, "notes": ["parity 0.1, 0.23 ms an exam"], "seconds": 2.5, "checks": [{"name": name}]})
    first = {"said/01.json": said.replace(json.dumps({"name": name}), "").encode()}
    second = {"said/01.json": said.encode()}
    sides = side(tmp_path / "first", **first), side(tmp_path / "second", **second)
    assert same_bytes.compare(*sides, [ROAD]) == code, capsys.readouterr().out
