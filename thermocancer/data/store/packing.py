"""What goes into a data set: for each exam which files, decided from the catalog before anything is read; then
reading them, measuring their nuisance and compressing their frames, which is work for one thread an exam."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import DatasetSection
from thermocancer.data.catalog import Conversions, Record
from thermocancer.data.cohort import Exam
from thermocancer.data.nuisance import MISSING_SHARE, catalog_measures, measure_matrix
from thermocancer.data.selection import ExamVerdict
from thermocancer.data.store.sequences import FrameSeries, fill_gaps, fill_masks
from thermocancer.data.store.writing import Packed, PackedExam, hash_array, pack, resize_centi, resize_rgb
from thermocancer.errors import DataError
from thermocancer.files import reading
from thermocancer.thermal.reading import ThermalMatrix, parse_matrix
from thermocancer.thermal.regions import resize_missing
from thermocancer.thermal.rendering import decode_image, read_video
from thermocancer.workspace import LABELS, VIEWS, Workspace

Source = Literal["matrices", "images", "videos"]
Task = TypeVar("Task")
Result = TypeVar("Result")


# --- Which files ------------------------------------------------------------------------------------------------------


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
    one file holds all frames. ``source_bytes`` is the size of the first source file, ``assigned`` as in the catalog.
    """

    exam: Exam
    files: tuple[SourceFile, ...]
    measured_on: SourceFile
    missing: tuple[int, ...] = ()
    video: bool = False
    source_bytes: int = 0
    assigned: frozenset[str] = frozenset()


class ItemMaker:
    """Turns exams into items; knows where a record's file is: the matrix, or the image that ``convert`` has made."""

    def __init__(self, source: Source, workspace: Workspace) -> None:
        self._source, self._workspace = source, workspace
        self._images = None if source == "matrices" else Conversions.read(workspace.images)

    def static(self, exams: Iterable[ExamVerdict], views: Sequence[str]) -> list[Item]:
        """The static exams that have one of ``views``; the first of the views is measured."""
        items = []
        for verdict in exams:
            records = [each for view in VIEWS for each in verdict.records if each.view == view and view in views]
            if not records:
                continue
            first = records[0]
            exam = Exam(
                first.patient, first.visit, LABELS.index(first.label), first.date, first.layout,
                formats=tuple((each.view, each.format) for each in records),
            )  # fmt: skip
            files, measured_on = tuple(self._file(each, each.view) for each in records), self._matrix(first, first.view)
            items.append(Item(exam, files, measured_on, source_bytes=first.source_bytes, assigned=first.assigned))
        return items

    def dynamic(self, series: Iterable[FrameSeries]) -> list[Item]:
        """The dynamic exams, in the order given; their first frame is measured."""
        items = []
        for each in series:
            first = each.records[0]
            measured_on = self._matrix(first, f"{first.index:02d}")
            kinds = " or ".join(sorted({record.format for record in each.records}))
            exam = replace(each.exam, formats=((first.view, kinds),))
            own = Item(exam, (), measured_on, source_bytes=first.source_bytes, assigned=first.assigned)
            if self._source == "videos":
                path = self._workspace.videos / first.label / f"{first.exam}.avi"
                items.append(replace(own, files=(SourceFile("video", path, first.exam),), video=True))
                continue
            files = tuple(self._file(record, f"{record.index:02d}") for record in each.records)
            items.append(replace(own, files=files, missing=each.missing))
        return items

    def _matrix(self, record: Record, place: str) -> SourceFile:
        return SourceFile(place, self._workspace.raw / record.path, record.path, record.sha256)

    def _file(self, record: Record, place: str) -> SourceFile:
        if self._images is None:
            return self._matrix(record, place)
        return SourceFile(place, self._images.image_of(record), record.path)


# --- Reading and packing them -----------------------------------------------------------------------------------------


def compression_of(config: DatasetSection) -> str:
    """``gzip``, ``lzf`` or ``none``: what ``auto`` stands for."""
    if config.compression != "auto":
        return config.compression
    return "gzip" if config.source == "matrices" else "none"


def pack_static(item: Item, config: DatasetSection) -> PackedExam:
    """Read, check, measure and compress one static exam. Raises DataError naming the file that is wrong."""
    size, first, share = config.size, None, 0.0
    if config.source == "matrices":
        matrices = {file.place: read_verified(file) for file in item.files}
        frames = {
            place: _packed(each.centi, resize_centi(each.centi, size), config, each.missing)
            for place, each in matrices.items()
        }
        first, share = matrices[item.measured_on.place], missing_share(each.missing for each in matrices.values())
    else:
        images = {file.place: _read_image(file, config.decoder) for file in item.files}
        frames = {place: _packed(image, resize_rgb(image, size), config) for place, image in images.items()}
    return _described(item, first, frames, frames, share)


def pack_dynamic(item: Item, config: DatasetSection, length: int) -> PackedExam:
    """Read, check, fill and compress one sequence of ``length`` frames. Raises DataError as ``pack_static``."""
    size, first, filled, share = config.size, None, np.zeros(length, bool), 0.0
    if config.frames_from == "matrices":
        matrices = {int(file.place): read_verified(file) for file in item.files}
        first = matrices[min(matrices)]
        for each in matrices.values():
            if each.celsius.shape != first.celsius.shape:
                raise DataError("the frames differ in shape", expected=first.celsius.shape, found=each.celsius.shape)
        centi, filled = fill_gaps({index: each.centi for index, each in matrices.items()}, length)
        masks = fill_masks({index: each.missing for index, each in matrices.items()}, length)
        packed = [
            _packed(each, resize_centi(each, size), config, mask) for each, mask in zip(centi, masks, strict=True)
        ]
        share = missing_share(each.missing for each in matrices.values())
    else:
        images: Iterable[npt.NDArray[np.uint8]] = (_read_image(file, config.decoder) for file in item.files)
        if item.video:
            images = read_video(Path(item.files[0].path or ""), frames=length)
        packed = [_packed(image, resize_rgb(image, size), config) for image in images]
    frames = {f"{index:02d}": frame for index, frame in enumerate(packed)}
    seen = {place: frame for place, frame in frames.items() if not filled[int(place)]}
    return replace(_described(item, first, frames, seen, share), filled=filled)


def missing_share(masks: Iterable[npt.NDArray[np.bool_] | None]) -> float:
    """Mean share of an exam's frames without a temperature."""
    return float(np.mean([0.0 if each is None else each.mean() for each in masks]))


def read_verified(file: SourceFile) -> ThermalMatrix:
    """Read a matrix. Raises DataError when it is broken, or is not the file that the catalog describes."""
    content = _read_bytes(file)
    if file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256:
        hint = "run fetch, import or simulate again"
        raise DataError("this matrix has changed since it was taken into the catalog", where=file.path, hint=hint)
    return parse_matrix(content, where=str(file.path))


def _read_image(file: SourceFile, decoder: Literal["opencv", "tensorflow"]) -> npt.NDArray[np.uint8]:
    """Read a colour image as RGB uint8 (H, W, 3). Raises DataError when it is missing or broken."""
    what, hint = "this image cannot be read", "make it again with: thermocancer convert"
    with reading(file.path, what, hint=hint):
        image = decode_image(_read_bytes(file), decoder)
    if image is None:
        raise DataError(what, where=file.path, hint=hint)
    return image


def _read_bytes(file: SourceFile) -> bytes:
    if file.path is None:
        hint = "make it with: thermocancer convert"
        raise DataError("convert has made no image of this matrix", where=file.name, hint=hint)
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise DataError("this file cannot be read", where=file.path, found=error.strerror or error) from error


def _packed(
    frame: npt.NDArray[np.generic], resized: npt.NDArray[np.generic], config: DatasetSection,
    missing: npt.NDArray[np.bool_] | None = None,
) -> Packed:  # fmt: skip
    if missing is not None and resized is not frame:
        missing = resize_missing(missing, (resized.shape[0], resized.shape[1]))
    return pack(resized, compression_of(config), None if resized is frame else hash_array(frame), missing)


def _described(
    item: Item, matrix: ThermalMatrix | None, frames: dict[str, Packed], seen: dict[str, Packed], share: float
) -> PackedExam:
    """The packed exam with the hashes of what was ``seen`` (not filled), its nuisance (measured where there is a
    matrix), and the layout of its source file: that of the matrix only where the catalog does not know it."""
    file = item.measured_on
    there = file.path is not None and file.path.is_file()
    if matrix is None and there:
        matrix = read_verified(file)
        share = missing_share([matrix.missing])
    size = item.source_bytes or (file.path.stat().st_size if there and file.path else 0)
    measured = catalog_measures(item.exam, size, item.assigned)
    hashes = (*((place, frame.content) for place, frame in seen.items()), *item.exam.hashes)
    exam = replace(item.exam, hashes=hashes)
    if matrix is not None:
        exam = replace(exam, layout=exam.layout or matrix.layout)
        measured |= measure_matrix(matrix.degrees)
    measured |= {MISSING_SHARE: share} if share else {}
    return PackedExam(exam, frames, measured)


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], threads: int
) -> Iterator[tuple[Task, Callable[[], Result]]]:
    """Do ``work`` on several threads, a few tasks ahead of whoever takes the results, in the tasks' order.

    Yields each task with a function that returns its result, or raises what ``work`` has raised.
    """
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Task, Future[Result]]] = deque()

    def take() -> tuple[Task, Callable[[], Result]]:  # and hold on to nothing: a result is a whole exam
        task, future = waiting.popleft()
        return task, future.result

    try:
        for task in tasks:
            waiting.append((task, pool.submit(work, task)))
            if len(waiting) > threads + 1:
                yield take()
        while waiting:
            yield take()
    finally:
        pool.shutdown(cancel_futures=True)
