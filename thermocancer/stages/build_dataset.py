"""``build-dataset``: one HDF5 file of the exams that ``filter`` keeps, and the patient-wise split."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thermocancer.config import Config
from thermocancer.data.catalog import read_catalog
from thermocancer.data.cohort import Exam
from thermocancer.data.kept import Kept, kept_exams
from thermocancer.data.split import Split, make_split
from thermocancer.data.store.items import Item, SourceFile, dynamic_items, static_items
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.data.store.sequences import gather_series
from thermocancer.errors import DataError
from thermocancer.files import PARTIAL_SUFFIX, HashIndex, fingerprint, read_json, written_aside
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import LABELS, VIEWS, Stamp, Workspace

STAGE = "build-dataset"
RECIPE = 1
"""Raise it when the same files and settings give other bytes, so that old data sets are made anew."""


@dataclass(frozen=True)
class Work:
    """What goes into the data set, and the fingerprint of it all."""

    static: tuple[Item, ...]
    dynamic: tuple[Item, ...]
    left_out: tuple[Failure, ...]
    made_from: str
    kept: Kept

    @property
    def summary(self) -> str:
        parts = {"static": len(self.static), "dynamic": len(self.dynamic)}
        return ", ".join(f"{number} {name} exams" for name, number in parts.items() if number)


def plan(config: Config, workspace: Workspace) -> Plan:
    """What would be written; reads the catalog and hashes files that have changed."""
    work = _decide(config, workspace, Silent(), remember=False)
    path = workspace.dataset(config.dataset.name)
    current = _stamp(path).is_current(work.made_from)
    todo = () if current else (f"datasets/{path.name}: {work.summary} from {config.dataset.source}",)
    if not workspace.split.exists():
        todo = (*todo, "split.json")
    notes = (*work.kept.notes, *(f"{each.item} left out: {each.reason}" for each in work.left_out))
    return Plan(STAGE, todo, int(current), notes)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Write the data set and the split where they are out of date.

    Raises DataError when no exam can be used, or when there are too few patients for a split.
    """
    work = _decide(config, workspace, progress, remember=True)
    path = workspace.dataset(config.dataset.name)
    stamp = _stamp(path)
    _remove_leftovers((path, stamp.path, workspace.split))
    report = StageReport(STAGE, notes=list(work.kept.notes), outputs=[f"datasets/{path.name}", "split.json"])
    if stamp.is_current(work.made_from):
        report.current += 1
    else:
        _build(config, workspace, work, stamp, progress)
        report.made += 1
    facts = read_json(stamp.path)
    report.failed += [*work.kept.broken, *(Failure(each["item"], each["reason"]) for each in facts["failed"])]
    report.notes += [f"{each.item} left out: {each.reason}" for each in work.left_out]
    for part in ("static", "dynamic"):
        report.figures |= {f"{part}_{name}": number for name, number in facts[part].items()}
    report.figures["bytes"] = path.stat().st_size
    _update_split(config, workspace, path, facts, report)
    return report


def _remove_leftovers(paths: Iterable[Path]) -> None:
    """Delete side files that a killed run has left (the stage's lock is held: they are nobody's)."""
    for path in paths:
        for leftover in path.parent.glob(f".{path.stem}.*{PARTIAL_SUFFIX}{path.suffix}"):
            leftover.unlink(missing_ok=True)


def _stamp(path: Path) -> Stamp:
    return Stamp(path.with_suffix(".json"))


def _decide(config: Config, workspace: Workspace, progress: Progress, *, remember: bool) -> Work:
    """Choose exams and files as ``filter`` does, and fingerprint them (``remember`` lets the caches grow)."""
    dataset = config.dataset
    kept = kept_exams(config, workspace, read_catalog(workspace), progress, remember=remember)
    views = tuple(view for view in VIEWS if view in (dataset.views or config.filter.views))
    static = static_items(kept.static, views, dataset.source, workspace)
    records = [record for exam in kept.dynamic for record in exam.records]
    series, refused = gather_series(records, config.filter.frames, config.dit.allow_gaps)
    dynamic = dynamic_items(series, dataset.source, workspace)
    if not static and not dynamic:
        raise _nothing_to_store(kept, views, workspace)
    hashes = workspace.hashes()
    settings = dataset.model_dump(mode="json", exclude={"threads"})
    content = [_content_of(item, workspace, hashes) for item in (*static, *dynamic)]
    made_from = fingerprint(STAGE, RECIPE, settings, views, config.filter.frames, content, sorted(refused.items()))
    if remember:
        hashes.save()
    left_out = tuple(Failure(f"dynamic exam {exam}", reason) for exam, reason in refused.items())
    return Work(tuple(static), tuple(dynamic), left_out, made_from, kept)


def _nothing_to_store(kept: Kept, views: Sequence[str], workspace: Workspace) -> DataError:
    found = [*kept.notes, *(f"{each.item}: {each.reason}" for each in kept.broken[:1])]
    return DataError(
        "no exam can go into the data set",
        where=workspace.catalog,
        expected=f"complete and sound exams with the views {', '.join(views)}",
        found="; ".join(found) or "no exams of the wanted protocol in the catalog",
        hint="name the views you have, as for filter (--views Frontal); filtered/filter.csv has the reasons",
    )


def _content_of(item: Item, workspace: Workspace, hashes: HashIndex) -> list[Any]:
    """An exam as the fingerprint sees it: who, which files, and what is in them now."""
    files = [
        [each.place, _place_of(each, workspace), each.sha256, _hash_of(each, hashes)]
        for each in (*item.files, item.measured_on)
    ]
    exam = item.exam
    return [exam.patient, exam.visit, exam.label, exam.date, exam.layout, list(item.missing), item.video, files]


def _place_of(file: SourceFile, workspace: Workspace) -> str:
    """Where a file stands in the workspace; the matrix's name where there is no image of it."""
    return file.path.relative_to(workspace.root).as_posix() if file.path else file.name


def _hash_of(file: SourceFile, hashes: HashIndex) -> str:
    try:
        return hashes.of(file.path) if file.path else "not there"
    except OSError:
        return "not there"


def _build(config: Config, workspace: Workspace, work: Work, stamp: Stamp, progress: Progress) -> None:
    """Stream every exam into the HDF5 file, rename it, then write the manifest beside it."""
    from thermocancer.data.store.packing import compression_of
    from thermocancer.data.store.writing import DatasetWriter

    path = workspace.dataset(config.dataset.name)
    failed: list[Failure] = []
    compression = compression_of(config.dataset)
    with (
        written_aside(path) as side,
        DatasetWriter(side, path.stem, compression, len(work.static), len(work.dynamic)) as writer,
    ):
        _store_exams(config, work, writer, failed, progress)
        kinds = ["celsius" if config.dataset.source == "matrices" else "rgb"] * 2
        marks = writer.finish(*kinds)
        stored = writer.stored
        if not marks:
            raise DataError(
                "no exam could be read",
                where=failed[0].item,
                found=failed[0].reason + (f", and {len(failed) - 1} more" if len(failed) > 1 else ""),
                hint="run filter; it drops exams that cannot be read",
            )
    stamp.write(work.made_from, [path], **_facts(config, workspace, work, stored, marks, failed))


def _store_exams(config: Config, work: Work, writer: Any, failed: list[Failure], progress: Progress) -> None:
    """Read and pack exams on several threads, store them in order; what cannot be read goes to ``failed``."""
    import os

    from thermocancer.data.store.packing import in_order, pack_dynamic, pack_static

    threads = config.dataset.threads or min(os.cpu_count() or 1, 8)
    static = functools.partial(pack_static, config=config.dataset)
    dynamic = functools.partial(pack_dynamic, config=config.dataset, length=config.filter.frames)
    parts = (
        ("exam", in_order(static, work.static, threads), writer.add),
        ("dynamic exam", in_order(dynamic, work.dynamic, threads), writer.add_sequence),
    )
    with progress.task(STAGE, len(work.static) + len(work.dynamic), "exams") as bar:
        for kind, results, store in parts:
            for item, packed in results:
                bar.say(item.exam.key)
                try:
                    store(packed())
                except DataError as error:
                    failed.append(Failure(f"{kind} {item.exam.key}", str(error)))
                bar.advance()


def _facts(
    config: Config, workspace: Workspace, work: Work, stored: Mapping[str, Sequence[Exam]], marks: Any, failed: Any
) -> dict[str, Any]:
    """What the manifest says: what went in, from where, under which settings."""
    places = {"static": work.static, "dynamic": work.dynamic}
    return {
        "stage": STAGE,
        "name": config.dataset.name,
        "config": config.dataset.model_dump(mode="json", exclude={"threads"}),
        "left_out_by_filter": list(work.kept.notes),
        "fingerprints": marks,
        "static": _count(stored["static"]),
        "dynamic": _count(stored["dynamic"]),
        "exams": {
            part: _listing(items, {exam.key for exam in stored[part]}, workspace) for part, items in places.items()
        },
        "failed": [{"item": each.item, "reason": each.reason.replace(f"{workspace.root}/", "")} for each in failed],
        "left_out": [{"item": each.item, "reason": each.reason} for each in work.left_out],
    }


def _count(exams: Sequence[Exam]) -> dict[str, Any]:
    """How many exams and patients of each class and layout; empty where there are none."""
    if not exams:
        return {}
    labels = Counter(LABELS[exam.label] for exam in exams)
    layouts = Counter(exam.layout for exam in exams)
    return {"exams": len(exams), "patients": len({exam.patient for exam in exams}), **labels, "layouts": dict(layouts)}


def _listing(items: Sequence[Item], stored: set[str], workspace: Workspace) -> list[dict[str, Any]]:
    return [
        {
            "exam": item.exam.key,
            "label": LABELS[item.exam.label],
            "date": item.exam.date,
            "files": {each.place: _place_of(each, workspace) for each in item.files},
            **({"filled": list(item.missing)} if item.missing else {}),
        }
        for item in items
        if item.exam.key in stored
    ]


def _update_split(config: Config, workspace: Workspace, path: Path, facts: dict[str, Any], report: StageReport) -> None:
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
    if known is None:
        split.write(workspace.split)
        report.made += 1
        return
    report.current += 1
    if split != known:
        added = len(split.train) + len(split.test) - len(known.train) - len(known.test)
        split.write(workspace.split)
        report.made += 1
        report.current -= 1
        report.notes.append(f"split.json: {added} new patients added, none moved")
    if known.seed != config.seed:
        report.notes.append(f"split.json was made with seed {known.seed} and is kept; delete it for a new split")
