"""What goes into a data set: for each exam, which files; decided from the catalog before anything is read."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thermocancer.data.catalog import Record
from thermocancer.data.exams import Exam
from thermocancer.data.sequences import FrameSeries
from thermocancer.workspace import LABELS, VIEWS, Workspace

Source = Literal["matrices", "images", "videos"]
_IMAGE_SUFFIXES = (".jpg", ".png")


@dataclass(frozen=True)
class SourceFile:
    """One file to read. ``place`` is a view or a frame's number; ``sha256`` what the catalog says, if it does."""

    place: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Item:
    """One exam to store: the files that hold its frames, and the matrix that its nuisance is measured on.

    ``missing`` are the frames of a dynamic exam that are to be interpolated. ``video`` says that the
    one file holds all frames.
    """

    exam: Exam
    files: tuple[SourceFile, ...]
    measured_on: SourceFile
    missing: tuple[int, ...] = ()
    video: bool = False


def static_items(
    records: Iterable[Record], kept: Container[str], views: Sequence[str], source: Source, workspace: Workspace
) -> list[Item]:
    """The static exams that are kept and have at least one of ``views``, by patient and visit.

    Of two files of one view the earlier date, then the lower index counts. Exams without a label
    are left out.
    """
    found: dict[tuple[int, int], dict[str, Record]] = {}
    for record in sorted(records, key=lambda each: (each.date or "9999", each.index, each.path)):
        wanted = record.protocol == "S" and record.status == "ok" and record.label in LABELS and record.view in views
        if wanted and record.exam in kept:
            found.setdefault((record.patient, record.visit), {}).setdefault(record.view, record)
    return [_static_item(found[key], source, workspace) for key in sorted(found)]


def _static_item(members: dict[str, Record], source: Source, workspace: Workspace) -> Item:
    ordered = [members[view] for view in VIEWS if view in members]
    first = ordered[0]
    exam = Exam(first.patient, first.visit, LABELS.index(first.label), first.date, first.layout)
    measured_on = _matrix(first, first.view, workspace)
    if source == "matrices":
        return Item(exam, tuple(_matrix(each, each.view, workspace) for each in ordered), measured_on)
    return Item(exam, tuple(SourceFile(each.view, find_image(each, workspace)) for each in ordered), measured_on)


def _matrix(record: Record, place: str, workspace: Workspace) -> SourceFile:
    return SourceFile(place, workspace.raw / record.path, record.sha256)


def find_image(record: Record, workspace: Workspace) -> Path:
    """Where ``filter`` or ``convert`` has put the image of a matrix; the first place where one stands.

    The last candidate where there is none, so that an error can name it.
    """
    converted = workspace.images / record.path
    candidates = [converted.with_suffix(suffix) for suffix in _IMAGE_SUFFIXES]
    if record.protocol == "S":
        folder = workspace.filtered / "Static" / record.view / record.label
        candidates = [folder / f"image_{record.exam}{suffix}" for suffix in _IMAGE_SUFFIXES] + candidates
    return next((path for path in candidates if path.is_file()), candidates[-2])


def dynamic_items(series: Iterable[FrameSeries], source: Source, workspace: Workspace) -> list[Item]:
    """The dynamic exams as items, in the order given."""
    items = []
    for each in series:
        first = each.records[0]
        measured_on = _matrix(first, f"{first.index:02d}", workspace)
        if source == "videos":
            path = workspace.videos / first.label / f"{first.exam}.avi"
            items.append(Item(each.exam, (SourceFile("video", path),), measured_on, video=True))
            continue
        files = tuple(
            _matrix(record, f"{record.index:02d}", workspace)
            if source == "matrices"
            else SourceFile(f"{record.index:02d}", find_image(record, workspace))
            for record in each.records
        )
        items.append(Item(each.exam, files, measured_on, each.missing))
    return items
