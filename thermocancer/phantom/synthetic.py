"""Synthetic visits on disk: made on every core, each with a journal entry that survives a kill."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermocancer.compute import run_all
from thermocancer.config.learning import ComputeSection
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


def matrices_a_visit(settings: SimulateSection) -> int:
    """Matrices of a visit from which nothing is missing."""
    return 5 * settings.static + (settings.frames + 2) * settings.dynamic


def make_visits(making: Making, visits: Sequence[Visit], compute: ComputeSection) -> Iterator[tuple[str, VisitFiles]]:
    """Make visits, in whatever order they finish; the result does not depend on it, or on who makes them.

    By the workers of ``compute``; where it asks for none, on every core or on ``simulate.processes``.
    """
    settings = making.settings
    if compute.workers == 1:
        pixels = len(visits) * math.prod(settings.shape) * matrices_a_visit(settings)
        count = min(settings.processes or os.cpu_count() or 1, max(1, len(visits)))
        compute = ComputeSection(workers=count if pixels >= SERIAL_PIXELS else 1)
    yield from run_all(making, visits, compute)


@dataclass(frozen=True)
class Making:
    """What is the same for all visits of a cohort; ``run`` makes one of them, in this process or in a worker."""

    workspace: str
    journal: str
    settings: SimulateSection
    seed: int

    def run(self, visit: Visit) -> tuple[str, VisitFiles]:
        """Key and files of one visit."""
        return visit.key, make_visit(self, visit)


def make_visit(making: Making, visit: Visit) -> VisitFiles:
    """Solve, render and write one visit; its journal entry comes last."""
    import hashlib

    from thermocancer.data.names import ThermogramName, view_code
    from thermocancer.phantom.exam import footprint_masks, make_scene, matrices, truth_line
    from thermocancer.thermal.writing import format_matrix

    workspace = Workspace(Path(making.workspace))
    scene = make_scene(making.settings, making.seed, visit)
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
    write_json(Path(making.journal) / f"{visit.key}.json", files.as_json())
    return VisitFiles.from_json(json.loads(json.dumps(files.as_json())))
