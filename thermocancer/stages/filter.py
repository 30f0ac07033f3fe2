"""``filter``: keep complete and sound exams in ``filtered/``; ``filter.csv`` says why each other one was dropped."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from thermocancer.config import Config
from thermocancer.data.catalog import Conversions, Record, read_catalog
from thermocancer.data.doubts import settle
from thermocancer.data.selection import UNREADABLE, ExamVerdict, measure_records, select_exams, views_there
from thermocancer.errors import DataError
from thermocancer.files import link_or_copy, write_text
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import LABELS, Workspace

COLUMNS = ("exam", "patient", "visit", "label", "protocol", "kept", "verdict", "reason", "doubts")


@dataclass(frozen=True)
class _Work:
    """What ``filtered/`` should hold (target: source, and the table), and what of it is missing or too much."""

    exams: list[ExamVerdict]
    wanted: dict[Path, Path]
    to_link: list[Path]
    to_remove: list[Path]
    table: str
    table_differs: bool
    notes: list[str]
    doubted: dict[str, int]


def plan(config: Config, workspace: Workspace) -> Plan:
    """Decide about every exam and list what would change; touches nothing."""
    work = _decide(config, workspace, Silent(), remember=False)
    root = workspace.filtered
    todo = [f"link {target.relative_to(root)}" for target in work.to_link]
    todo += [f"remove {path.relative_to(root)}" for path in work.to_remove]
    if not todo and work.table_differs:
        todo = [f"write {_table_path(workspace).name}"]
    kept = sum(exam.kept for exam in work.exams)
    notes = (f"{kept} of {len(work.exams)} exams are kept", *work.notes)
    return Plan("filter", tuple(todo), len(work.wanted) - len(work.to_link), notes)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Link the files of every kept exam and write ``filter.csv``.

    Raises DataError when there is no catalog, or when no exam at all can be kept.
    """
    work = _decide(config, workspace, progress, remember=True)
    for path in work.to_remove:
        path.unlink(missing_ok=True)
    for folder in sorted(_inside(workspace.filtered), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    with progress.task("filter", len(work.to_link), "files") as task:
        for target in work.to_link:
            link_or_copy(work.wanted[target], target)
            task.advance()
    table = _table_path(workspace)
    if work.table_differs:
        write_text(table, work.table)
    kept = [exam for exam in work.exams if exam.kept]
    codes = Counter(code for exam in work.exams for code in exam.codes)
    if not kept:
        found = ", ".join(f"{count} x {code}" for code, count in codes.most_common(5)) or "no exams in the catalog"
        views = codes and codes.most_common(1)[0][0] == "missing_view" and views_there(read_catalog(workspace))
        raise DataError(
            "no exam can be kept", where=table, expected="at least one complete and sound exam", found=found,
            hint=f"set filter.views to what most exams have: {views}" if views else None,
        )  # fmt: skip
    report = StageReport("filter", current=len(work.wanted) - len(work.to_link), notes=list(work.notes))
    report.made = len(work.to_link) or len(work.to_remove) or int(work.table_differs)
    report.figures = {"exams": len(work.exams), "kept": len(kept), "dropped": len(work.exams) - len(kept)}
    if work.to_remove:
        report.figures["removed"] = len(work.to_remove)
    report.figures |= {f"dropped_{code}": codes[code] for code in sorted(codes)}
    report.figures |= work.doubted
    report.figures |= {f"kept_{label}": sum(each.label == label for each in kept) for label in LABELS}
    report.failed = [exam.failure for exam in work.exams if UNREADABLE in exam.codes]
    if report.made:
        report.outputs = [str(table)]
    return report


def _decide(config: Config, workspace: Workspace, progress: Progress, *, remember: bool) -> _Work:
    """Everything that can be known without writing (``remember`` lets the caches grow)."""
    records = read_catalog(workspace)
    measured = measure_records(workspace, records, progress, remember=remember)
    settled = settle(select_exams(records, config.filter, measured), config.filter, measured)
    exams, doubts = settled.exams, settled.doubts()
    hashes, images = workspace.hashes(), Conversions.read(workspace.images)
    wanted: dict[Path, Path] = {}
    unconverted = 0
    for exam in exams:
        for record in exam.records if exam.kept else ():
            image = images.image_of(record)
            unconverted += image is None
            source = image or workspace.raw / record.path
            wanted[workspace.filtered / _target_path(record, source.suffix)] = source

    def stands(target: Path, source: Path) -> bool:
        """As a link to it, or as a copy of it."""
        if not target.is_file():
            return False
        return os.path.samefile(target, source) or hashes.of(target) == hashes.of(source)

    to_link = [target for target, source in wanted.items() if not stands(target, source)]
    to_remove = sorted(path for path in _inside(workspace.filtered) if path.is_file() and path not in wanted)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for exam in exams:
        kept, own = "yes" if exam.kept else "no", "; ".join(doubts[exam.exam, exam.protocol])
        who = (exam.exam, exam.patient, exam.visit, exam.label, exam.protocol)
        writer.writerow((*who, kept, exam.code, exam.reason, own))
    table, path = text.getvalue(), _table_path(workspace)
    table_differs = not path.exists() or path.read_text(encoding="utf-8") != table
    notes = [*settled.notes()]
    if unconverted:
        notes.append(f"{unconverted} of {len(wanted)} files are matrices: convert has not made images of them")
    if remember:
        hashes.save()
    return _Work(exams, wanted, to_link, to_remove, table, table_differs, notes, settled.figures())


def _target_path(record: Record, suffix: str) -> str:
    """Where a kept file stands under ``filtered/``; static files are named as in the original study."""
    if record.protocol == "D":
        return str(Path("Dynamic", record.label, record.exam, Path(record.path).stem + suffix))
    return str(Path("Static", record.view, record.label, f"image_{record.exam}{suffix}"))


def _inside(filtered: Path) -> list[Path]:
    """Files and folders that are ours: everything below Static and Dynamic."""
    return [path for part in ("Static", "Dynamic") for path in (filtered / part).rglob("*")]


def _table_path(workspace: Workspace) -> Path:
    return workspace.filtered / "filter.csv"
