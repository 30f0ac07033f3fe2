"""``build-dataset``: one HDF5 file of the exams that ``filter`` keeps, and the patient-wise split."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer import strategy
from thermocancer.config import Config
from thermocancer.config.schema import autoencoder_dataset
from thermocancer.data.catalog import read_catalog
from thermocancer.data.cohort import ALIKE, Cohort, Exam
from thermocancer.data.doubts import ChosenExams, choose_exams, look_alikes, tied_patients
from thermocancer.data.selection import views_there
from thermocancer.data.split import Split, make_split
from thermocancer.data.store import packing
from thermocancer.data.store.packing import Item, SourceFile
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.data.store.sequences import gather_series
from thermocancer.errors import DataError
from thermocancer.files import HashIndex, Json, fingerprint, read_json, sweep, write_bytes, written_aside
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import LABELS, VIEWS, Stamp, Workspace

if TYPE_CHECKING:
    import numpy.typing as npt

    from thermocancer.data.store.writing import DatasetWriter

STAGE = "build-dataset"
RECIPE = 2
"""Raise it when the same files and settings give other bytes, so that old data sets are made anew."""


@dataclass(frozen=True)
class _Work:
    """What goes into the data set, and the fingerprint of it all."""

    static: list[Item]
    dynamic: list[Item]
    left_out: list[Failure]
    made_from: str
    chosen: ChosenExams


def plan(config: Config, workspace: Workspace) -> Plan:
    """What would be written; reads the catalog and hashes files that have changed."""
    todo: list[str] = []
    notes: list[str] = []
    current = 0
    for each, complete in _data_sets(config, workspace):
        work = _decide(each, workspace, Silent(), remember=False, complete=complete)
        path = workspace.dataset(each.dataset.name)
        parts = {"static": len(work.static), "dynamic": len(work.dynamic)}
        summary = ", ".join(f"{number} {name} exams" for name, number in parts.items() if number)
        is_current = _stamp(path).is_current(work.made_from)
        todo += [] if is_current else [f"datasets/{path.name}: {summary} from {each.dataset.source}"]
        notes += [note for note in work.chosen.notes if note not in notes]
        notes += [f"{each.item} left out: {each.reason}" for each in work.left_out]
        current += is_current
    if not workspace.split.exists():
        todo.append("split.json")
    return Plan(STAGE, tuple(todo), current, tuple(notes))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Write the data set, that of the autoencoders where it is another, and the split, where they are out of date.

    Raises DataError when no exam can be used, or when there are too few patients for a split.
    """
    sweep(workspace.root, deep=False)
    sweep(workspace.datasets)
    report = StageReport(STAGE)
    if config.dataset.decoder == "tensorflow" and config.strategy.kind != "multi-host":
        strategy.set_up(config.strategy, config.seed)  # or TensorFlow would start with devices of its own choice
    for each, complete in _data_sets(config, workspace):
        work = _decide(each, workspace, progress, remember=True, complete=complete)
        path = workspace.dataset(each.dataset.name)
        stamp = _stamp(path)
        report.notes += [note for note in work.chosen.notes if note not in report.notes]
        if stamp.is_current(work.made_from):
            report.current += 1
        else:
            _build(each, workspace, work, stamp, progress)
            report.made += 1
            report.outputs += [str(stamp.path.parent / each) for each in read_json(stamp.path)["outputs"]]
        facts = read_json(stamp.path)
        report.failed += [*work.chosen.broken, *(Failure(one["item"], one["reason"]) for one in facts["failed"])]
        report.notes += [f"{one.item} left out: {one.reason}" for one in work.left_out]
        if each is config:
            for part in ("static", "dynamic"):
                report.figures |= {f"{part}_{name}": number for name, number in facts[part].items()}
            report.figures["bytes"] = path.stat().st_size
            _update_split(config, workspace, path, facts, report)
        files = Counter(view for exam in facts["exams"]["static"] for view in exam["files"])
        listed = ", ".join(f"{view} {files[view]}" for view in VIEWS if files[view])
        report.notes += [f"{path.stem}, files by view: {listed}"] if listed else []
    return report


def _data_sets(config: Config, workspace: Workspace) -> list[tuple[Config, bool]]:
    """The data set of ``config``, and that of the autoencoders where they learn from other files; are exams complete
    in it?"""
    name = autoencoder_dataset(config)
    if name == config.dataset.name or all(record.protocol == "D" for record in read_catalog(workspace)):
        return [(config, True)]
    other = config.dataset.model_copy(update={"name": name, "static": True, "dynamic": False})
    return [(config, True), (config.model_copy(update={"dataset": other}), False)]


def _stamp(path: Path) -> Stamp:
    return Stamp(path.with_suffix(".json"))


def _decide(config: Config, workspace: Workspace, progress: Progress, *, remember: bool, complete: bool) -> _Work:
    """Choose exams and files as ``filter`` does, and fingerprint them (``remember`` lets the caches grow).

    ``complete`` False takes exams that lack a view too.
    """
    dataset = config.dataset
    records = read_catalog(workspace)
    chosen = choose_exams(config, workspace, records, progress, remember=remember, complete=complete)
    views = tuple(view for view in VIEWS if view in (dataset.views or config.filter.views))
    records = [record for exam in chosen.dynamic for record in exam.records]
    series, refused = gather_series(records, config.filter.frames, config.dit.allow_gaps)
    static = packing.ItemMaker(dataset.source, workspace).static(chosen.static, views)
    dynamic = packing.ItemMaker(dataset.frames_from, workspace).dynamic(series)
    if not static and not dynamic:
        found = [*chosen.notes, *(f"{each.item}: {each.reason}" for each in chosen.broken[:1])]
        raise DataError(
            "no exam can go into the data set", where=workspace.catalog,
            expected=f"complete and sound exams with the views {', '.join(views)}",
            found="; ".join(found) or "no exams of the wanted protocol in the catalog",
            hint=f"name the views that most exams have, as for filter: {views_there(read_catalog(workspace))}; "
            "filtered/filter.csv has the reasons",
        )  # fmt: skip
    pairs = look_alikes([*chosen.static, *chosen.dynamic], chosen.measured)
    static, dynamic = (_tie(items, tied_patients(pairs)) for items in (static, dynamic))
    hashes = workspace.hashes()
    settings = dataset.model_dump(mode="json", exclude={"threads"})
    content = [_content_of(item, workspace, hashes) for item in (*static, *dynamic)]
    taken = [record.path for exam in (*chosen.static, *chosen.dynamic) for record in exam.records]
    masked = [path for path in taken if chosen.measured[path].missing_share]  # once dropped, or stored as 0 degC
    made_from = fingerprint(
        STAGE, RECIPE, settings, views, config.filter.frames, content, sorted(refused.items()),
        *([masked] if masked else []),
    )  # fmt: skip
    if remember:
        hashes.save()
    left_out = [Failure(f"dynamic exam {exam}", reason) for exam, reason in refused.items()]
    return _Work(static, dynamic, left_out, made_from, chosen)


def _tie(items: Sequence[Item], tied: Mapping[int, str]) -> list[Item]:
    """The items, with the name that patients whose pictures look alike share."""
    return [
        replace(item, exam=replace(item.exam, hashes=((ALIKE, tied[item.exam.patient]),)))
        if item.exam.patient in tied
        else item
        for item in items
    ]


def _content_of(item: Item, workspace: Workspace, hashes: HashIndex) -> list[object]:
    """An exam as the fingerprint sees it: who, which files, and what is in them now."""

    def hash_of(file: SourceFile) -> str:
        try:
            return hashes.of(file.path) if file.path else "not there"
        except OSError:
            return "not there"

    files = [
        [each.place, _place_of(each, workspace), each.sha256, hash_of(each)] for each in (*item.files, item.measured_on)
    ]
    exam = item.exam
    facts = [exam.layout, exam.formats, item.source_bytes, sorted(item.assigned)]
    tied = [list(exam.hashes)] if exam.hashes else []
    return [exam.patient, exam.visit, exam.label, exam.date, facts, list(item.missing), item.video, files, *tied]


def _place_of(file: SourceFile, workspace: Workspace) -> str:
    """Where a file stands in the workspace; the matrix's name where there is no image of it."""
    return file.path.relative_to(workspace.root).as_posix() if file.path else file.name


def _build(config: Config, workspace: Workspace, work: _Work, stamp: Stamp, progress: Progress) -> None:
    """Stream every exam into the HDF5 file, rename it, then write the manifest beside it."""
    from thermocancer.data.store.writing import DatasetWriter

    path = workspace.dataset(config.dataset.name)
    compression = packing.compression_of(config.dataset)
    with (
        written_aside(path) as side,
        DatasetWriter(side, path.stem, compression, len(work.static), len(work.dynamic)) as writer,
    ):
        failed = _store_exams(config, work, writer, progress)
        static, dynamic = (
            "celsius" if source == "matrices" else "rgb"
            for source in (config.dataset.source, config.dataset.frames_from)
        )
        marks = writer.finish(static, dynamic)
        stored = {part: {exam.key: exam for exam in exams} for part, exams in writer.stored.items()}
        if not marks:
            raise DataError(
                "no exam could be read", where=failed[0].item,
                found=failed[0].reason + (f", and {len(failed) - 1} more" if len(failed) > 1 else ""),
                hint="run filter; it drops exams that cannot be read",
            )  # fmt: skip
    entries = {
        part: [
            {
                "exam": item.exam.key,
                "label": LABELS[item.exam.label],
                "date": item.exam.date,
                "files": {each.place: _place_of(each, workspace) for each in item.files},
                **({"filled": list(item.missing)} if item.missing else {}),
            }
            for item in items
            if item.exam.key in stored[part]
        ]
        for part, items in (("static", work.static), ("dynamic", work.dynamic))
    }
    facts = {  # what the manifest says: what went in, from where, under which settings
        "stage": STAGE,
        "name": config.dataset.name,
        "config": config.dataset.model_dump(mode="json", exclude={"threads"}),
        "left_out_by_filter": list(work.chosen.notes),
        "fingerprints": marks,
        "static": _count(stored["static"].values()),
        "dynamic": _count(stored["dynamic"].values()),
        "exams": entries,
        "failed": [{"item": each.item, "reason": each.reason.replace(f"{workspace.root}/", "")} for each in failed],
        "left_out": [{"item": each.item, "reason": each.reason} for each in work.left_out],
    }
    outputs = [path]
    stamp.path.unlink(missing_ok=True)  # an earlier build's, with which this file would be called damaged
    if stored["static"]:
        with StoredCohort(path) as cohort:
            outputs.append(path.with_suffix(".png"))
            write_bytes(outputs[-1], contact_sheet(cohort))
    stamp.write(work.made_from, outputs, **facts)


EXAMS_SHOWN, SHEET_WIDTH = 3, 160
"""Exams of each class on the contact sheet, and the width of each of its pictures."""


def contact_sheet(cohort: Cohort) -> bytes:
    """The first exams of each class as PNG, a row an exam a column a view, with names; grey where one is missing.

    Hundredths of a degree are coloured on the fixed scale, so that exams can be compared.
    """
    import cv2
    import numpy as np

    from thermocancer.config.base import Rendering
    from thermocancer.thermal.rendering import render_centi

    labels = np.array([exam.label for exam in cohort.exams])
    chosen = [int(row) for label in (0, 1) for row in np.flatnonzero(labels == label)[:EXAMS_SHOWN]]
    height = max(1, SHEET_WIDTH * cohort.shape[0] // cohort.shape[1])
    lines = []
    for row in chosen:
        exam, cells = cohort.exams[row], []
        for view in cohort.views:
            cell: npt.NDArray[np.uint8] = np.full((height, SHEET_WIDTH, 3), 210, np.uint8)
            if cohort.present(view)[row]:
                frame = cohort.frames(view, np.array([row]))[0, 0]
                frame = render_centi(frame, Rendering()) if cohort.kind == "celsius" else frame
                cell = np.asarray(cv2.resize(frame, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
            name = np.full((14, SHEET_WIDTH, 3), 255, np.uint8)
            words = f"{exam.key} {LABELS[exam.label]} {view}"
            cv2.putText(name, words, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (31, 41, 51), 1, cv2.LINE_AA)
            cells.append(np.concatenate([name, cell]))
        lines.append(np.concatenate(cells, axis=1))
    return bytes(cv2.imencode(".png", np.concatenate(lines)[:, :, ::-1])[1].tobytes())


def _store_exams(config: Config, work: _Work, writer: DatasetWriter, progress: Progress) -> list[Failure]:
    """Read and pack exams on several threads, store them in order. Returns what could not be read."""
    threads = config.dataset.threads or min(os.cpu_count() or 1, 8)
    static = functools.partial(packing.pack_static, config=config.dataset)
    dynamic = functools.partial(packing.pack_dynamic, config=config.dataset, length=config.filter.frames)
    parts = (
        ("exam", packing.in_order(static, work.static, threads), writer.add),
        ("dynamic exam", packing.in_order(dynamic, work.dynamic, threads), writer.add_sequence),
    )
    failed = []
    with progress.task(STAGE, len(work.static) + len(work.dynamic), "exams") as bar:
        for kind, results, store in parts:
            for item, packed in results:
                bar.say(item.exam.key)
                try:
                    store(packed())
                except DataError as error:
                    failed.append(Failure(f"{kind} {item.exam.key}", str(error)))
                bar.advance()
    return failed


def _count(exams: Collection[Exam]) -> dict[str, object]:
    """How many exams and patients of each class and layout; empty where there are none."""
    if not exams:
        return {}
    labels = Counter(LABELS[exam.label] for exam in exams)
    layouts = Counter(exam.layout for exam in exams)
    return {"exams": len(exams), "patients": len({exam.patient for exam in exams}), **labels, "layouts": dict(layouts)}


def _update_split(config: Config, workspace: Workspace, path: Path, facts: Json, report: StageReport) -> None:
    """Make ``split.json`` if there is none; add patients it does not know; never move one."""
    exams: list[Exam] = []
    if facts["static"]:
        with StoredCohort(path) as source:
            exams += source.exams
    if facts["dynamic"]:
        with StoredCohort(path, DYNAMIC) as sequences:
            exams += sequences.exams
    known = Split.read(workspace.split) if workspace.split.exists() else None
    split = make_split(exams, config.split, config.seed, known)
    report.figures["split"] = {"train": len(split.train), "test": len(split.test)}
    if split != known:
        split.write(workspace.split)
        report.made += 1
        report.outputs.append(str(workspace.split))
    else:
        report.current += 1
    if known is not None and split != known:
        added = len(split.train) + len(split.test) - len(known.train) - len(known.test)
        report.notes.append(f"split.json: {added} new patients added, none moved")
    if known is not None and known.seed != config.seed:
        report.notes.append(f"split.json was made with seed {known.seed} and is kept; delete it for a new split")
