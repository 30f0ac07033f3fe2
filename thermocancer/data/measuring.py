"""Measure every raw matrix once: shape, range and content, remembered by the file's SHA-256."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from thermocancer.data.catalog import Record
from thermocancer.errors import DataError
from thermocancer.files import HashIndex, read_json, write_json
from thermocancer.progress import Progress
from thermocancer.thermal.quality import Measured, measure_matrix
from thermocancer.thermal.reading import read_matrix
from thermocancer.workspace import Workspace

_READERS = 4  # NumPy and the disk both let go of the interpreter; more threads gain nothing
_CACHE_FORMAT = 1


class MeasuredFiles:
    """What is known of raw files, by SHA-256. ``cache_file`` may be deleted at any time."""

    def __init__(self, cache_file: Path) -> None:
        self._cache_file = cache_file
        self._known: dict[str, Measured] = {}
        self._changed = False
        if cache_file.exists():
            with contextlib.suppress(DataError, KeyError, TypeError, ValueError):  # a broken cache is an empty one
                content = read_json(cache_file)
                if content["format"] == _CACHE_FORMAT:
                    self._known = {key: _from_json(value) for key, value in content["measured"].items()}

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._known

    def __getitem__(self, sha256: str) -> Measured:
        return self._known[sha256]

    def put(self, sha256: str, measured: Measured) -> None:
        self._known[sha256] = measured
        self._changed = True

    def save(self) -> None:
        if self._changed:
            measured = {key: asdict(value) for key, value in self._known.items()}
            write_json(self._cache_file, {"format": _CACHE_FORMAT, "measured": measured})
            self._changed = False


def _from_json(value: Mapping[str, object]) -> Measured:
    known = json.loads(json.dumps(value))
    return Measured(**{**known, "shape": tuple(known["shape"])})


def quality_cache(workspace: Workspace) -> Path:
    return workspace.cache / "quality.json"


def measure_records(
    workspace: Workspace, records: Iterable[Record], progress: Progress, *, remember: bool = True
) -> dict[str, Measured]:
    """Measure the files of ``records`` that are there; the answer maps each record's path to what was found.

    A file that cannot be read, has vanished, or is not what the catalog says has ``broken`` set.
    ``remember`` False leaves the cache as it is (for a plan, which touches nothing).
    """
    usable = [record for record in records if record.status == "ok" and record.path]
    hashes, known = workspace.hashes(), MeasuredFiles(quality_cache(workspace))
    found: dict[str, Measured] = {}
    unknown: list[Record] = []
    for record in usable:
        problem = _problem_with(workspace.raw / record.path, record, hashes)
        if problem:
            found[record.path] = Measured(broken=problem)
        elif record.sha256 in known:
            found[record.path] = known[record.sha256]
        else:
            unknown.append(record)
    if unknown:
        with progress.task("measuring", len(unknown), "files") as task, ThreadPoolExecutor(_READERS) as pool:
            for record, measured in zip(
                unknown, pool.map(lambda each: _measure(workspace.raw / each.path), unknown), strict=True
            ):
                found[record.path] = measured
                known.put(record.sha256, measured)
                task.advance()
    if remember:
        known.save()
        hashes.save()
    return found


def _problem_with(path: Path, record: Record, hashes: HashIndex) -> str:
    try:
        changed = hashes.of(path) != record.sha256
    except OSError:
        return "the file has vanished from raw/"
    return "the file is not the one that was catalogued (its content has changed)" if changed else ""


def _measure(path: Path) -> Measured:
    try:
        matrix = read_matrix(path)
    except DataError as error:
        line = (error.where or "").removeprefix(str(path)).strip(":")
        found = f", found {error.found}" if error.found else ""
        return Measured(broken=f"{error.what}{f' (line {line})' if line else ''}{found}")
    return measure_matrix(matrix.celsius, matrix.layout)
