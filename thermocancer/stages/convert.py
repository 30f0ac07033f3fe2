"""``convert``: one image a matrix in ``images/``, and one video a dynamic exam in ``videos/``."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.config.base import Rendering
from thermocancer.config.preparation import ConvertSection
from thermocancer.data.catalog import IMAGE_SUFFIXES, MANIFEST, Conversions, Record, image_name, read_catalog
from thermocancer.data.store.packing import SourceFile, read_verified
from thermocancer.errors import DataError, ThermocancerError
from thermocancer.files import HashIndex, fingerprint, hash_file, write_bytes
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.thermal.rendering import colour_table, levels, levels_of_centi, write_video
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from cv2.typing import MatLike

_MANIFEST_EVERY = 256
"""Files between two writings of the manifest: at most so many are made again after a kill."""


@dataclass(frozen=True)
class _Job:
    """One file to make: ``name`` relative to its folder, from ``files`` (one, or the frames)."""

    name: str
    made_from: str
    raw: str
    files: tuple[SourceFile, ...]


@dataclass
class _Work:
    """What one folder should hold: what is to be made, how much stands, and what must go."""

    conversions: Conversions
    jobs: list[_Job]
    current: int
    to_remove: list[str]
    notes: list[str] = field(default_factory=list)


def plan(config: Config, workspace: Workspace) -> Plan:
    """List the images and videos that are missing or out of date; touches nothing."""
    hashes = workspace.hashes()
    works = [work for work in _survey(config, workspace, hashes) if work is not None]
    todo = [f"make {work.conversions.folder.name}/{job.name}" for work in works for job in work.jobs]
    todo += [f"remove {work.conversions.folder.name}/{name}" for work in works for name in work.to_remove]
    notes = tuple(note for work in works for note in work.notes)
    return Plan("convert", tuple(todo), sum(work.current for work in works), notes)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Make what is missing or out of date, on every core; list what could not be made, and go on.

    Raises DataError when there is no catalog, or when there is something to convert and nothing could be.
    """
    section = config.convert
    colour_table(section.rendering.colormap)  # a wrong name should fail before any work, not once a file
    hashes = workspace.hashes()
    report = StageReport("convert")
    images, videos = _survey(config, workspace, hashes)
    _carry_out(images, lambda job: _make_image(workspace.images, job, section), section, report, progress)
    report.figures["images"] = len(images.conversions.files)
    if videos is not None:
        colour_table(section.video_rendering.colormap)
        _carry_out(videos, lambda job: _make_video(workspace.videos, job, section), section, report, progress)
        report.figures["videos"] = len(videos.conversions.files)
    hashes.save()
    if report.failed and not report.made and not report.current:
        first = report.failed[0]
        raise DataError(
            "none of the matrices could be converted", where=first.item, found=first.reason, hint="see: --json -"
        )
    return report


def _survey(config: Config, workspace: Workspace, hashes: HashIndex) -> tuple[_Work, _Work | None]:
    """Compare what the catalog asks for with what stands: images, and videos if they are asked for."""
    section = config.convert
    records = [each for each in read_catalog(workspace) if each.status == "ok" and each.path]
    still = [each for each in records if each.protocol == "S" or section.dynamic]
    images = _compare(workspace.images, _image_jobs(still, workspace, section), hashes, IMAGE_SUFFIXES)
    if not section.videos:
        return images, None
    frames = [each for each in records if each.protocol == "D" and each.view == "Frontal"]
    if config.filter.rule == "original":
        frames = [each for each in frames if each.visit == 1]
    jobs, notes = _video_jobs(frames, workspace, section, config.filter.frames)
    videos = _compare(workspace.videos, jobs, hashes, (".avi",))
    videos.notes += notes
    return images, videos


def _image_jobs(records: Iterable[Record], workspace: Workspace, section: ConvertSection) -> list[_Job]:
    suffix = f".{section.format}"
    quality = section.jpeg_quality if section.format == "jpg" else None
    settings = [section.rendering.model_dump(), section.format, quality]
    return [
        _Job(image_name(each, suffix), fingerprint(each.sha256, settings), each.sha256, (_file(each, workspace),))
        for each in records
    ]


def _video_jobs(
    frames: Iterable[Record], workspace: Workspace, section: ConvertSection, complete: int
) -> tuple[list[_Job], list[str]]:
    """One job for each exam that has exactly the frames 0 to ``complete`` - 1; the others are noted."""
    exams: defaultdict[str, list[Record]] = defaultdict(list)
    for record in frames:
        exams[f"{record.label}/{record.exam}.avi"].append(record)
    settings = [section.video_rendering.model_dump(), section.video_codec, section.video_fps]
    settings += [] if section.video_jpeg is None else [section.video_jpeg]
    jobs, left_out = [], 0
    for name in sorted(exams):
        ordered = sorted(exams[name], key=lambda each: each.index)
        if [each.index for each in ordered] != list(range(complete)):
            left_out += 1
            continue
        raw = fingerprint([each.sha256 for each in ordered])
        files = tuple(_file(each, workspace) for each in ordered)
        jobs.append(_Job(name, fingerprint(raw, settings), raw, files))
    notes = [f"{left_out} dynamic exams have no video: not exactly {complete} frontal frames"] if left_out else []
    return jobs, notes


def _compare(folder: Path, jobs: Sequence[_Job], hashes: HashIndex, suffixes: tuple[str, ...]) -> _Work:
    conversions = Conversions.read(folder)
    to_make = [job for job in jobs if not conversions.is_current(job.name, job.made_from, hashes)]
    names = {job.name for job in jobs}
    standing = set(conversions.files) | {
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix in suffixes
    }
    return _Work(conversions, to_make, len(jobs) - len(to_make), sorted(standing - names - {MANIFEST}))


def _carry_out(
    work: _Work, make: Callable[[_Job], str], section: ConvertSection, report: StageReport, progress: Progress
) -> None:
    """Remove what must go, make the jobs in threads (NumPy and OpenCV release the interpreter), note each result."""
    conversions = work.conversions
    report.current += work.current
    report.notes += work.notes
    for name in work.to_remove:
        conversions.files.pop(name, None)
        (conversions.folder / name).unlink(missing_ok=True)
    if work.to_remove:
        report.figures["removed"] = report.figures.get("removed", 0) + len(work.to_remove)
    if not work.jobs:
        if work.to_remove:
            conversions.write()
            report.made += len(work.to_remove)
        return

    def attempt(job: _Job) -> str | ThermocancerError:
        try:
            return make(job)
        except DataError as error:
            return error

    made = 0
    # the cores this process may use (a container often has fewer than the machine)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(section.processes or cores)
    with progress.task(conversions.folder.name, len(work.jobs), "files") as task:
        try:
            for job, outcome in zip(work.jobs, pool.map(attempt, work.jobs), strict=True):
                task.advance()
                if isinstance(outcome, ThermocancerError):
                    conversions.files.pop(job.name, None)
                    (conversions.folder / job.name).unlink(missing_ok=True)
                    item = str(job.files[0].path) if len(job.files) == 1 else job.name
                    report.failed.append(Failure(item, _reason(outcome)))
                    continue
                conversions.put(job.name, job.made_from, outcome, job.raw)
                made += 1
                if made % _MANIFEST_EVERY == 0:
                    conversions.write()
        finally:  # an interruption keeps what is finished
            pool.shutdown(wait=True, cancel_futures=True)
            conversions.write()
    report.made += made
    report.outputs.append(str(conversions.folder))


def _make_image(folder: Path, job: _Job, section: ConvertSection) -> str:
    """Read, colour, encode and write one image; returns its SHA-256."""
    import hashlib

    content = encode_image(_levels(job.files[0], section.rendering), section)
    write_bytes(folder / job.name, content)
    return hashlib.sha256(content).hexdigest()


def encode_image(chosen: npt.NDArray[np.uint8], section: ConvertSection) -> bytes:
    """Encode a picture as JPEG or PNG; ``chosen`` says which of the 256 colours each pixel has.

    ``chosen`` is uint8 (height, width). The map ``gray`` gives an image of one channel.
    """
    import cv2

    pixels: MatLike = chosen
    if section.rendering.colormap != "gray":
        table = colour_table(section.rendering.colormap)[:, None, ::-1]  # OpenCV's order: blue, green, red
        pixels = cv2.applyColorMap(chosen, np.ascontiguousarray(table))
    options = [cv2.IMWRITE_JPEG_QUALITY, section.jpeg_quality] if section.format == "jpg" else []
    return cv2.imencode(f".{section.format}", pixels, options)[1].tobytes()


def _make_video(folder: Path, job: _Job, section: ConvertSection) -> str:
    path = folder / job.name
    table = colour_table(section.video_rendering.colormap)
    frames = (table.take(_levels(frame, section.video_rendering), axis=0) for frame in job.files)
    if section.video_jpeg is not None:
        frames = (_through_jpeg(frame, section.video_jpeg) for frame in frames)
    write_video(path, frames, section.video_fps, section.video_codec)
    return hash_file(path)


def _through_jpeg(rgb: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """A picture (height, width, 3) as it comes back from a JPEG file."""
    import cv2

    content = cv2.imencode(".jpg", np.ascontiguousarray(rgb[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR_RGB), np.uint8)


def _file(record: Record, workspace: Workspace) -> SourceFile:
    return SourceFile(record.view, workspace.raw / record.path, record.path, record.sha256)


def _levels(file: SourceFile, rendering: Rendering) -> npt.NDArray[np.uint8]:
    """Read one matrix, which must be the catalogued one: which of the 256 colours each pixel gets, (height, width)."""
    matrix = read_verified(file)
    try:
        if matrix.missing is not None or (matrix.decimals == 2 and matrix.numbers.dtype == np.uint16):
            # the usual case, and the cheap one; where temperatures are missing their place has the background's colour
            return levels_of_centi(matrix.centi, rendering)
        return levels(matrix.celsius, rendering)
    except DataError as error:
        raise DataError(error.what, where=file.path, expected=error.expected, found=error.found) from error


def _reason(error: ThermocancerError) -> str:
    found = f" (found {error.found})" if error.found else ""
    line = f", {error.where}" if error.where and ":" in error.where else ""
    return f"{error.what}{found}{line}"
