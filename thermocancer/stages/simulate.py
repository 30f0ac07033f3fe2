"""``simulate``: a synthetic cohort, written as the DMR-IR site would deliver it, with its truth beside it."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.data.catalog import Record, read_catalog, replace_source
from thermocancer.errors import DataError
from thermocancer.files import (
    Json,
    fingerprint,
    read_json,
    read_json_as,
    read_json_lines,
    reading,
    sweep,
    write_json,
    write_text,
    written_aside,
)
from thermocancer.outcome import Plan, StageReport
from thermocancer.phantom.synthetic import SOURCE, Making, VisitFiles, make_visits, matrices_a_visit
from thermocancer.progress import Progress
from thermocancer.workspace import Stamp, Workspace

if TYPE_CHECKING:
    from thermocancer.phantom.cohort import Visit

RECIPE = 3
"""Raise it when the same settings give other bytes, so that old cohorts are made anew."""

DETECTABILITY = "detectability/manifest.json"


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which visits would be made, or that the table of what can be seen would be."""
    if config.locate.truth:
        parts, stand = _truth_parts(config, workspace)
        notes = ("bodies and sources are solved first, once a workspace",)
        return Plan(SOURCE, tuple(path.name for path, _ in parts), stand, notes)
    if config.simulate.detectability:
        current = Stamp(workspace.root / DETECTABILITY).is_current(_made_from(config))
        return Plan(SOURCE, current=1) if current else Plan(SOURCE, ("detectability/",))
    made_from = _made_from(config)
    visits = _visits(config)
    done = _finished(workspace, made_from)
    todo = tuple(f"{each.key} ({each.label}, {each.date})" for each in visits if each.key not in done)
    return Plan(
        SOURCE,
        todo,
        len(visits) - len(todo),
        (f"about {matrices_a_visit(config.simulate) * len(visits)} matrices in all",),
    )


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Make the visits that are missing, then the catalog, ``raw/truth.jsonl`` and the manifest.

    Raises DataError when real thermograms of this workspace carry the same patient numbers.
    With ``simulate.detectability`` it makes that table and figure instead, with ``locate.truth`` arrays, and no cohort.
    """
    if config.locate.truth:
        return _run_truth(config, workspace, progress)
    if config.simulate.detectability:
        return _run_detectability(config, workspace, progress)
    visits = _visits(config)
    made_from = _made_from(config)
    journal = _journals(workspace) / made_from[:16]
    exams = {each.key for each in visits}
    for record in read_catalog(workspace) if workspace.catalog.exists() else ():
        if record.source != SOURCE and record.exam in exams:
            raise DataError(
                "this workspace already holds other thermograms under the numbers of the synthetic patients",
                where=record.path, found=f"exam {record.exam} from {record.source}",
                hint="simulate into a folder of its own with --workspace",
            )  # fmt: skip
    done = _finished(workspace, made_from)
    todo = [each for each in visits if each.key not in done]
    report = StageReport(SOURCE, made=len(todo), current=len(visits) - len(todo))
    if todo or not _committed(workspace, made_from):
        making = Making(str(workspace.root), str(journal), config.simulate, config.seed)
        write_json(journal / "begun.json", {"made_from": made_from})
        with progress.task("simulate", len(todo), "visits") as bar:
            for key, files in make_visits(making, todo, config.compute):
                done[key] = files
                bar.say(key)
                bar.advance()
        _commit(workspace, made_from, [done[each.key] for each in visits])
        report.made = max(report.made, 1)
    made = [done[each.key] for each in visits]
    peaks = [files.truth["contrast_celsius"] for files in made if files.truth["label"] == "sick"]
    report.figures = {
        "patients": len({files.truth["patient"] for files in made}),
        "exams": len(made),
        "exams_sick": len(peaks),
        "matrices": sum(len(files.records) for files in made),
        "bytes": sum(record.bytes for files in made for record in files.records),
        "contrast_celsius_median": sorted(peaks)[len(peaks) // 2] if peaks else None,
    }
    report.outputs = [str(workspace.catalog), str(_truth(workspace))]
    return report


def _run_detectability(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    from thermocancer.phantom.detectability import table, write

    stamp, made_from = Stamp(workspace.root / DETECTABILITY), _made_from(config)
    if stamp.is_current(made_from):
        return StageReport(SOURCE, current=1)
    rows = []
    with progress.task("detectability", None, "tumours") as bar:
        for row in table(config.simulate):
            rows.append(row)
            bar.advance()
    files = write(rows, config.simulate.noise_celsius, stamp.path.parent)
    stamp.write(made_from, files, tissue=config.simulate.tissue)
    outputs = [str(path) for path in files]
    return StageReport(SOURCE, made=1, figures={"tumours": len(rows)}, outputs=outputs)


PART = 500
"""Exams a file of arrays."""


def _truth_parts(config: Config, workspace: Workspace) -> tuple[list[tuple[Path, int]], int]:
    """Files of arrays that are missing, with how many exams each holds, and how many stand."""
    from thermocancer.locate.training_set import RECIPE as PHANTOMS

    section, count = config.locate, config.locate.truth or 0
    made_from = fingerprint(PHANTOMS, section.seed, section.tissues, section.bodies, section.sources)[:12]
    parts = [
        (workspace.root / "truth" / f"phantoms-{made_from}-{start:06d}.npz", min(PART, count - start))
        for start in range(0, count, PART)
    ]
    todo = [(path, size) for path, size in parts if not path.is_file() or _exams_in(path) != size]
    return todo, len(parts) - len(todo)


def _exams_in(path: Path) -> int:
    import numpy as np

    with (
        contextlib.suppress(DataError),  # of a damaged one nothing, so that it is made again
        reading(path, "a part of a training set cannot be read"),
        path.open("rb") as handle,
        np.load(handle, allow_pickle=False) as content,
    ):
        return len(content["present"])
    return 0


def _run_truth(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """``truth/phantoms-KEY-START.npz``: the arrays of ``locate.training_set.Exams``, each part by its own seed."""
    import numpy as np

    from thermocancer.locate.training_set import phantoms

    todo, done = _truth_parts(config, workspace)
    report = StageReport(SOURCE, made=len(todo), current=done, figures={"exams": config.locate.truth})
    if todo:
        solved = phantoms(config.locate, config.locate.seed, workspace.cache, progress, taught=True)
        with progress.task("truth", sum(size for _, size in todo), "exams") as bar:
            for path, size in todo:
                start = int(path.stem.rsplit("-", 1)[1])
                exams = solved.exams(np.random.default_rng([config.locate.seed, 33, start]), size)
                with written_aside(path) as side:
                    np.savez(side, allow_pickle=False, **vars(exams))
                bar.advance(size)
    report.outputs = [str(path.relative_to(workspace.root)) for path, _ in todo]
    return report


def _visits(config: Config) -> list[Visit]:
    from thermocancer.phantom.cohort import draw_cohort

    return draw_cohort(config.simulate, config.seed)


def _made_from(config: Config) -> str:
    return fingerprint(SOURCE, RECIPE, config.seed, config.simulate.model_dump(exclude={"processes"}))


def _journals(workspace: Workspace) -> Path:
    return workspace.cache / SOURCE


def _manifest(workspace: Workspace) -> Path:
    return workspace.raw / "simulate.json"


def _truth(workspace: Workspace) -> Path:
    return workspace.raw / "truth.jsonl"


def _committed(workspace: Workspace, made_from: str) -> bool:
    """Do the manifest, the catalog and the truth stand and belong together?"""
    if not all(each.exists() for each in (_manifest(workspace), workspace.catalog, _truth(workspace))):
        return False
    kept: object = read_json(_manifest(workspace))
    mine = [each for each in read_catalog(workspace) if each.source == SOURCE]
    return (
        isinstance(kept, dict)
        and kept.get("made_from") == made_from
        and kept.get("catalog") == fingerprint([asdict(each) for each in mine])
        and kept.get("truth") == fingerprint(_truth(workspace).read_text("utf-8", "replace"))
    )


def _finished(workspace: Workspace, made_from: str) -> dict[str, VisitFiles]:
    """Visits whose every file stands with the right content, known from the manifest or from the journal."""
    known: dict[str, VisitFiles] = {}
    if _committed(workspace, made_from):
        records: dict[str, list[Record]] = {}
        for record in read_catalog(workspace):
            if record.source == SOURCE:
                records.setdefault(record.exam, []).append(record)
        for each in _truths(workspace):
            key = f"{each['patient']}_{each['visit']}"
            known[key] = VisitFiles(tuple(records.get(key, ())), each, dict(each["masks"]))
    for path in sorted((_journals(workspace) / made_from[:16]).glob("*_*.json")):
        with contextlib.suppress(DataError):  # a damaged entry: the visit is made again
            known.setdefault(path.stem, _journalled(path))
    index = workspace.hashes()
    return {key: files for key, files in known.items() if files.stand(workspace, index)}


def _journalled(path: Path) -> VisitFiles:
    return read_json_as(path, VisitFiles.from_json, "this is no finished visit")


def _truths(workspace: Workspace) -> list[Json]:
    """The lines of ``truth``. Raises DataError where one is damaged, or its masks would lie outside ``raw/``."""

    def line(content: Json) -> Json:
        VisitFiles.from_json({"records": [], "truth": content, "masks": content["masks"]})
        return {**content, "patient": int(content["patient"]), "visit": int(content["visit"])}

    hint = "remove the file and run simulate again"
    return list(read_json_lines(_truth(workspace), line, what="a line of the truth cannot be read", hint=hint))


def _commit(workspace: Workspace, made_from: str, visits: list[VisitFiles]) -> None:
    """Remove what an earlier cohort left, then write truth, catalog and, last, the manifest."""
    paths = {path for files in visits for path in files.hashes()}
    left: set[str] = set()  # under raw/, by an earlier or interrupted cohort of other settings
    if workspace.catalog.exists():
        left = {each.path for each in read_catalog(workspace) if each.source == SOURCE}
    if _truth(workspace).exists():
        left |= {path for each in _truths(workspace) for path in each["masks"]}
    for folder in _journals(workspace).glob("*"):
        for path in folder.glob("*_*.json") if folder.name != made_from[:16] else ():
            with contextlib.suppress(DataError):
                left |= set(_journalled(path).hashes())
    for stale in left - paths:
        (workspace.raw / stale).unlink(missing_ok=True)
    truth = "".join(json.dumps(files.truth, sort_keys=True) + "\n" for files in visits)
    write_text(_truth(workspace), truth)
    replace_source(workspace, SOURCE, [record for files in visits for record in files.records])
    mine = [each for each in read_catalog(workspace) if each.source == SOURCE]
    write_json(
        _manifest(workspace),
        {
            "made_from": made_from,
            "recipe": RECIPE,
            "catalog": fingerprint([asdict(each) for each in mine]),
            "truth": fingerprint(truth),
        },
    )
    sweep(workspace.raw)
    index = workspace.hashes()
    for written in sorted(paths):
        index.of(workspace.raw / written)
    index.save()
    shutil.rmtree(_journals(workspace), ignore_errors=True)
