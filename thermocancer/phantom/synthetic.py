"""Synthetic visits on disk: made on every core, each with a journal entry that survives a kill."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermocancer.config.sources import SimulateSection
from thermocancer.data.catalog import Record
from thermocancer.files import HashIndex, inside, write_bytes, write_json
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.phantom.cohort import Visit

Json = dict[str, Any]
SOURCE = "simulate"

SERIAL_PIXELS = 30_000_000
"""Below this many pixels one process is done before others have started."""


@dataclass(frozen=True)
class VisitFiles:
    """One finished visit: its catalog records, the line of truth, and the masks' hashes (path under raw/)."""

    records: tuple[Record, ...]
    truth: Json
    masks: dict[str, str]

    def hashes(self) -> dict[str, str]:
        return {**{each.path: each.sha256 for each in self.records}, **self.masks}

    def as_json(self) -> Json:
        return {"records": [asdict(each) for each in self.records], "truth": self.truth, "masks": self.masks}

    def stand(self, workspace: Workspace, index: HashIndex) -> bool:
        """Is every file there, with the content it was written with?"""
        return all(
            (workspace.raw / path).is_file() and index.of(workspace.raw / path) == digest
            for path, digest in self.hashes().items()
        )

    @staticmethod
    def from_json(content: Json) -> VisitFiles:
        """Raises DataError, or what reading a foreign object leads to."""
        masks = {str(path): str(digest) for path, digest in content["masks"].items()}
        for path in masks:
            inside(Path("raw"), path)
        return VisitFiles(tuple(map(Record.of, content["records"])), dict(content["truth"]), masks)


@dataclass(frozen=True)
class Task:
    """One visit to make; travels to a worker process."""

    workspace: str
    journal: str
    settings: SimulateSection
    seed: int
    visit: Visit


def matrices_a_visit(settings: SimulateSection) -> int:
    """Matrices of a visit from which nothing is missing."""
    return 5 * settings.static + (settings.frames + 2) * settings.dynamic


def make_visits(tasks: list[Task]) -> Iterator[tuple[str, VisitFiles]]:
    """Make visits on all cores, in whatever order they finish; the result does not depend on it."""
    pixels = sum(math.prod(each.settings.shape) * matrices_a_visit(each.settings) for each in tasks)
    wanted = tasks[0].settings.processes if tasks else 1
    processes = min(wanted or os.cpu_count() or 1, len(tasks))
    if processes <= 1 or pixels < SERIAL_PIXELS:
        for task in tasks:
            yield task.visit.key, make_visit(task)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_enter_worker) as pool:
        waiting = {pool.submit(make_visit, task): task.visit.key for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _enter_worker() -> None:
    """Leave Ctrl-C to the parent, and die with it should it be killed."""
    import multiprocessing
    import signal
    import threading
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            wait([parent.sentinel])
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


def make_visit(task: Task) -> VisitFiles:
    """Solve, render and write one visit; its journal entry comes last."""
    import hashlib

    from thermocancer.data.names import ThermogramName, view_code
    from thermocancer.phantom.exam import footprint_masks, make_scene, matrices, truth_line
    from thermocancer.thermal.writing import format_matrix

    workspace, visit = Workspace(Path(task.workspace)), task.visit
    scene = make_scene(task.settings, task.seed, visit)
    records = []
    for matrix in matrices(scene):
        name = ThermogramName(
            visit.patient, visit.visit, view_code(matrix.view), matrix.protocol, visit.date, matrix.index
        )
        path = name.tree_path(visit.listed)
        content = format_matrix(matrix.temperatures, matrix.layout)
        write_bytes(workspace.raw / path, content)
        records.append(
            Record(
                path, visit.patient, visit.visit, matrix.view, matrix.protocol, visit.date, matrix.index, visit.listed,
                hashlib.sha256(content).hexdigest(), len(content), matrix.layout, SOURCE,
                extra={"camera": visit.camera, "room_celsius": visit.room_celsius},
            )
        )  # fmt: skip
    masks = {}
    for view, png in footprint_masks(scene):
        path = f"truth/{visit.key}/{view}.png"
        write_bytes(workspace.raw / path, png)
        masks[path] = hashlib.sha256(png).hexdigest()
    files = VisitFiles(tuple(records), {**truth_line(scene), "masks": masks}, masks)
    write_json(Path(task.journal) / f"{visit.key}.json", files.as_json())
    return VisitFiles.from_json(json.loads(json.dumps(files.as_json())))
