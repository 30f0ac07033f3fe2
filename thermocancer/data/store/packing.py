"""Reading one exam's files, measuring its nuisance and compressing its frames: work for one thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from thermocancer.config.preparation import DatasetSection
from thermocancer.data.cohort import Exam
from thermocancer.data.nuisance import exam_facts, measure_matrix
from thermocancer.data.store.items import Item, SourceFile
from thermocancer.data.store.sequences import fill_gaps
from thermocancer.data.store.writing import Packed, PackedExam, hash_array, pack, resize_centi, resize_rgb
from thermocancer.errors import DataError
from thermocancer.thermal.reading import ThermalMatrix, parse_matrix
from thermocancer.thermal.rendering import read_video

Task = TypeVar("Task")
Result = TypeVar("Result")


def compression_of(config: DatasetSection) -> str:
    """``gzip``, ``lzf`` or ``none``: what ``auto`` stands for."""
    if config.compression != "auto":
        return config.compression
    return "gzip" if config.source == "matrices" else "none"


def pack_static(item: Item, config: DatasetSection) -> PackedExam:
    """Read, check, measure and compress one static exam. Raises DataError naming the file that is wrong."""
    if config.source == "matrices":
        matrices = {file.place: read_verified(file) for file in item.files}
        frames = {place: _pack_matrix(matrix.centi, config) for place, matrix in matrices.items()}
        first = matrices[item.measured_on.place]
        exam, measured = _describe(item, first)
    else:
        frames = {file.place: _pack_image(read_image(file), config) for file in item.files}
        exam, measured = _describe(item, None)
    return PackedExam(_with_hashes(exam, frames), frames, measured)


def pack_dynamic(item: Item, config: DatasetSection, length: int) -> PackedExam:
    """Read, check, fill and compress one sequence of ``length`` frames. Raises DataError as ``pack_static``."""
    filled = np.zeros(length, bool)
    first: ThermalMatrix | None = None
    if config.source == "matrices":
        packed = []
        matrices = {int(file.place): read_verified(file) for file in item.files}
        first = matrices[min(matrices)]
        centi, filled = fill_gaps({index: _sized_like(each, first) for index, each in matrices.items()}, length)
        packed = [_pack_matrix(each, config) for each in centi]
    elif item.video:
        packed = [_pack_image(frame, config) for frame in read_video(Path(item.files[0].path or ""), frames=length)]
    else:
        packed = [_pack_image(read_image(file), config) for file in item.files]
    exam, measured = _describe(item, first)
    frames = {f"{index:02d}": frame for index, frame in enumerate(packed)}
    known = {place: frame for place, frame in frames.items() if not filled[int(place)]}
    return PackedExam(_with_hashes(exam, known), frames, measured, filled)


def read_verified(file: SourceFile) -> ThermalMatrix:
    """Read a matrix. Raises DataError when it is broken, or is not the file that the catalog describes."""
    content = _read_bytes(file)
    if file.sha256 and hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataError(
            "this matrix has changed since it was taken into the catalog",
            where=file.path,
            hint="run fetch, import or simulate again",
        )
    return parse_matrix(content, where=str(file.path))


def read_image(file: SourceFile) -> npt.NDArray[np.uint8]:
    """Read a colour image as RGB uint8 (H, W, 3). Raises DataError when it is missing or broken."""
    import cv2

    content = np.frombuffer(_read_bytes(file), np.uint8)
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if image is None:
        raise DataError("this image cannot be read", where=file.path, hint="make it again with: thermocancer convert")
    return image.astype(np.uint8, copy=False)


def _read_bytes(file: SourceFile) -> bytes:
    if file.path is None:
        raise DataError(
            "convert has made no image of this matrix", where=file.name, hint="make it with: thermocancer convert"
        )
    try:
        return file.path.read_bytes()
    except OSError as error:
        raise DataError("this file cannot be read", where=file.path, found=error.strerror or error) from error


def _pack_matrix(centi: npt.NDArray[np.uint16], config: DatasetSection) -> Packed:
    resized = resize_centi(centi, config.size)
    return pack(resized, compression_of(config), None if resized is centi else hash_array(centi))


def _pack_image(image: npt.NDArray[np.uint8], config: DatasetSection) -> Packed:
    resized = resize_rgb(image, config.size)
    return pack(resized, compression_of(config), None if resized is image else hash_array(image))


def _sized_like(matrix: ThermalMatrix, first: ThermalMatrix) -> npt.NDArray[np.uint16]:
    if matrix.celsius.shape != first.celsius.shape:
        raise DataError("the frames differ in shape", expected=first.celsius.shape, found=matrix.celsius.shape)
    return matrix.centi


def _describe(item: Item, matrix: ThermalMatrix | None) -> tuple[Exam, dict[str, float]]:
    """The exam with the layout that was found, and its nuisance (measured where there is a matrix)."""
    file = item.measured_on
    there = file.path is not None and file.path.is_file()
    if matrix is None and there:
        matrix = read_verified(file)
    size = file.path.stat().st_size if there and file.path else 0
    facts = exam_facts(item.exam, size) | (measure_matrix(matrix.celsius) if matrix else {})
    return (replace(item.exam, layout=matrix.layout) if matrix else item.exam), facts


def _with_hashes(exam: Exam, frames: dict[str, Packed]) -> Exam:
    return replace(exam, hashes=tuple((place, frame.content) for place, frame in frames.items()))


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

    def take() -> tuple[Task, Callable[[], Result]]:
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
