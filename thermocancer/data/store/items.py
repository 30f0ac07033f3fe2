"""What goes into a data set: for each exam, which files; decided from the catalog before anything is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from thermocancer.data.catalog import Record
from thermocancer.data.cohort import Exam
from thermocancer.data.converted import ConvertedImages
from thermocancer.data.selection import ExamVerdict
from thermocancer.data.store.sequences import FrameSeries
from thermocancer.workspace import LABELS, VIEWS, Workspace

Source = Literal["matrices", "images", "videos"]


@dataclass(frozen=True)
class SourceFile:
    """One file to read. ``place`` is a view or a frame's number; ``sha256`` what the catalog says, if it does.

    ``path`` is None where ``convert`` has made no image of the matrix ``name``.
    """

    place: str
    path: Path | None
    name: str
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
    exams: Iterable[ExamVerdict], views: Sequence[str], source: Source, workspace: Workspace
) -> list[Item]:
    """The static exams that have one of ``views``, as items; the first of the views is measured."""
    reader = _Reader(source, workspace)
    items = []
    for verdict in exams:
        records = [each for view in VIEWS for each in verdict.records if each.view == view and view in views]
        if not records:
            continue
        first = records[0]
        exam = Exam(first.patient, first.visit, LABELS.index(first.label), first.date, first.layout)
        files = tuple(reader.file(each, each.view) for each in records)
        items.append(Item(exam, files, reader.matrix(first, first.view)))
    return items


def dynamic_items(series: Iterable[FrameSeries], source: Source, workspace: Workspace) -> list[Item]:
    """The dynamic exams as items, in the order given; their first frame is measured."""
    reader = _Reader(source, workspace)
    items = []
    for each in series:
        first = each.records[0]
        measured_on = reader.matrix(first, f"{first.index:02d}")
        if source == "videos":
            path = workspace.videos / first.label / f"{first.exam}.avi"
            items.append(Item(each.exam, (SourceFile("video", path, first.exam),), measured_on, video=True))
            continue
        files = tuple(reader.file(record, f"{record.index:02d}") for record in each.records)
        items.append(Item(each.exam, files, measured_on, each.missing))
    return items


class _Reader:
    """Knows where the file of a record is: the matrix, or the image that ``convert`` has made of it."""

    def __init__(self, source: Source, workspace: Workspace) -> None:
        self._raw = workspace.raw
        self._images = None if source == "matrices" else ConvertedImages(workspace)

    def matrix(self, record: Record, place: str) -> SourceFile:
        return SourceFile(place, self._raw / record.path, record.path, record.sha256)

    def file(self, record: Record, place: str) -> SourceFile:
        if self._images is None:
            return self.matrix(record, place)
        return SourceFile(place, self._images.of(record), record.path)
