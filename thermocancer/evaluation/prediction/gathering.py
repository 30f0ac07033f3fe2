"""From a path to exams: which file is which view of which exam, and whether it is fit to be scored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import FilterSection
from thermocancer.data.names import parse_name
from thermocancer.errors import DataError
from thermocancer.workspace import VIEWS

SUFFIXES = (".txt", ".csv", ".tsv", ".dat")
"""Files that may hold a temperature matrix; others are left alone."""

_VIEW_WORDS = {
    "Right45": ("right45", "right_45", "right-45", "r45"),
    "Left45": ("left45", "left_45", "left-45", "l45"),
    "Frontal": ("frontal", "front"),
    "Right": ("right",),
    "Left": ("left",),
}


@dataclass
class NewFile:
    """One file: its view (None where unknown), what was found wrong, and its matrix (None when unfit).

    ``frame`` is the number of a frame of a dynamic exam, None for a static thermogram.
    """

    path: Path
    view: str | None
    frame: int | None = None
    verdicts: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layout: str = ""
    celsius: npt.NDArray[np.float64] | None = None

    def as_dict(self) -> dict[str, Any]:
        found = None if self.celsius is None else [float(np.min(self.celsius)), float(np.max(self.celsius))]
        return {
            "file": self.path.name,
            "view": self.view,
            "frame": self.frame,
            "layout": self.layout,
            "range_celsius": found,
            "verdicts": self.verdicts,
            "notes": self.notes,
        }


@dataclass
class NewExam:
    """One exam to score. ``patient`` and ``visit`` are 0 where the names do not tell."""

    name: str
    files: list[NewFile]
    patient: int = 0
    visit: int = 0

    def matrix_files(self) -> dict[str, NewFile]:
        """The fit file of each view, in the order of the DMR codes."""
        static = [file for file in self.files if file.frame is None and file.celsius is not None]
        fit = {file.view: file for file in reversed(static) if file.view}
        return {view: fit[view] for view in VIEWS if view in fit}

    def frame_files(self) -> dict[int, NewFile]:
        """The fit frontal frames of a dynamic exam by number, in order."""
        fit = {file.frame: file for file in self.files if file.frame is not None and file.celsius is not None}
        return {number: fit[number] for number in sorted(fit)}


def gather_exams(path: Path, run_views: Sequence[str]) -> list[NewExam]:
    """The exams at ``path``: one file, the files of one exam, or a folder of many.

    Files named by the DMR grammar are grouped by patient and visit, others by their folder. Raises
    DataError when there is nothing to read.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", where=path, hint="predict FILE or FOLDER --run NAME")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and _may_be_matrix(p))
    if not files:
        raise DataError("there is no matrix here", where=path, expected=f"files ending in {', '.join(SUFFIXES)}")
    exams: dict[str, NewExam] = {}
    for file in files:
        name, patient, visit, found = _place(file, path, run_views, alone=len(files) == 1)
        exams.setdefault(name, NewExam(name, [], patient, visit)).files.append(found)
    return [exams[name] for name in sorted(exams)]


def _may_be_matrix(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _place(file: Path, root: Path, run_views: Sequence[str], *, alone: bool) -> tuple[str, int, int, NewFile]:
    """Exam name, patient, visit and what the name says of a file."""
    parsed = parse_name(file.name)
    if parsed is not None:
        frame = parsed.index if parsed.protocol == "D" else None
        return parsed.exam, parsed.patient, parsed.visit, NewFile(file, parsed.view, frame)
    name = file.stem if root.is_file() else _folder_name(file, root)
    view = view_in_name(file.stem)
    if view is None and alone and len(run_views) == 1:
        notes = [f"the name does not tell the view; taken for {run_views[0]}"]
        return name, 0, 0, NewFile(file, run_views[0], notes=notes)
    return name, 0, 0, NewFile(file, view, notes=[] if view else ["the name does not tell the view"])


def _folder_name(file: Path, root: Path) -> str:
    folder = file.parent.relative_to(root)
    return folder.as_posix() if folder != Path() else root.resolve().name


def view_in_name(stem: str) -> str | None:
    """The view that a free file name speaks of.

    >>> view_in_name("exam7_left45"), view_in_name("Frontal-2"), view_in_name("scan")
    ('Left45', 'Frontal', None)
    """
    text = stem.lower()
    for view, words in _VIEW_WORDS.items():
        if any(re.search(rf"(?<![a-z]){word}(?![a-z0-9])", text) for word in words):
            return view
    return None


def read_files(exam: NewExam, checks: FilterSection, shape: tuple[int, int] | None, *, dynamic: bool = False) -> None:
    """Read and judge every file that the run can use: afterwards fit ones have a matrix, others a verdict.

    A run on static views leaves the frames of dynamic exams alone, and the other way round.
    """
    seen: dict[str, str] = {}
    for file in exam.files:
        if (file.frame is not None) != dynamic:
            file.notes.append("not used: " + ("a static thermogram" if dynamic else "a frame of a dynamic exam"))
        elif dynamic and file.view != "Frontal":
            file.notes.append("not used: no frontal frame")
        elif file.view is None:
            file.verdicts.append({"code": "unknown_view", "reason": "; ".join(file.notes) or "no such view"})
        else:
            _read_file(file, seen, checks, shape)


def _read_file(file: NewFile, seen: dict[str, str], checks: FilterSection, shape: tuple[int, int] | None) -> None:
    from thermocancer.thermal.quality import judge_matrix
    from thermocancer.thermal.reading import read_matrix

    place = str(file.view if file.frame is None else file.frame)
    if place in seen:
        file.verdicts.append({"code": "extra_view", "reason": f"{seen[place]} is the same view"})
        return
    try:
        matrix = read_matrix(file.path)
    except DataError as error:
        file.verdicts.append({"code": "unreadable", "reason": error.what})
        return
    file.layout = matrix.layout
    file.notes += [str(note) for note in matrix.notes]
    found = judge_matrix(
        matrix.celsius, low=checks.low, high=checks.high, minimum_spread=checks.minimum_spread, shape=shape
    )
    file.verdicts += [{"code": verdict.code, "reason": verdict.reason} for verdict in found]
    if not found:
        file.celsius = matrix.celsius
        seen[place] = file.path.name
