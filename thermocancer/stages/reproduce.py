"""``reproduce``: the original study's rows, made again and put beside the published figures."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermocancer import __version__
from thermocancer.config import Config
from thermocancer.data.catalog import catalog_fingerprint, read_catalog
from thermocancer.errors import DataError, Interrupted, RunError, ThermocancerError
from thermocancer.files import fingerprint, read_json, write_json, write_text
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Stamp, Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.replication.published import PublishedRow
    from thermocancer.evaluation.replication.settings import Protocol

Runner = Callable[[str, Config, Workspace], StageReport]
"""Runs one stage by name. Stages never import one another, so the caller brings it."""

DECIDES = (
    "seed",
    "filter",
    "dataset",
    "split",
    "cohort",
    "features",
    "autoencoder",
    "fuse",
    "dit",
    "convert",
    "strategy",
)
"""Sections that a row's figures depend on."""

KEPT = ("metrics.json", "recipe.json")
"""What is kept of a row: its figures, and what it was made with."""


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which rows would be made, and which stand."""
    jobs = _jobs(config, workspace)
    todo = tuple(f"row {row.name}, {protocol}" for row, protocol, stamp, made in jobs if not stamp.is_current(made))
    return Plan("reproduce", todo=todo, current=len(jobs) - len(todo))


def run(config: Config, workspace: Workspace, progress: Progress, runner: Runner) -> StageReport:
    """Make the missing rows one by one, then the table.

    A row that cannot be made is listed and the others go on, also where a bug of this program stopped it: its
    traceback is kept in ``reproduce/rows/ROW-PROTOCOL/traceback.txt``. When no row could be made the table still
    lists why; then raises DataError, or RunError where a bug was the reason.
    """
    report = StageReport("reproduce")
    results: dict[tuple[str, str], dict[str, Any]] = {}
    jobs = _jobs(config, workspace)
    with progress.task("reproduce", len(jobs), "rows") as bar:
        for row, protocol, stamp, made_from in jobs:
            bar.say(f"{row.name}, {protocol}")
            if stamp.is_current(made_from):
                report.current += 1
            else:
                _make_row(row, protocol, config, workspace, stamp, made_from, runner, report)
            results[row.name, protocol] = _result(stamp, made_from, report, f"{row.name}, {protocol}")
            bar.advance()
    _write_table(config, workspace, results, report)
    if all("failed" in each for each in results.values()):
        first = report.failed[0]
        kind = RunError if any(log.exists() for log in (_log_of(job[2]) for job in jobs)) else DataError
        raise kind("no row could be made", where=first.item, found=first.reason)
    return report


def _jobs(config: Config, workspace: Workspace) -> list[tuple[PublishedRow, Protocol, Stamp, str]]:
    from thermocancer.evaluation.replication.settings import PROTOCOLS, chosen_rows, steps_of

    records = catalog_fingerprint(read_catalog(workspace))
    jobs = []
    for row in chosen_rows(config.evaluate.rows):
        for protocol in PROTOCOLS:
            settings = steps_of(row, protocol, config)[-1].config.model_dump(mode="json", include=set(DECIDES))
            made_from = fingerprint(__version__, KEPT, records, row.name, protocol, settings)
            stamp = Stamp(workspace.root / "reproduce" / "rows" / f"{row.name}-{protocol}" / "manifest.json")
            jobs.append((row, protocol, stamp, made_from))
    return jobs


def _make_row(
    row: PublishedRow, protocol: Protocol, config: Config, workspace: Workspace, stamp: Stamp, made_from: str,
    runner: Runner, report: StageReport,
) -> None:  # fmt: skip
    item, log = f"{row.name}, {protocol}", _log_of(stamp)
    log.unlink(missing_ok=True)
    try:
        _run_steps(row, protocol, config, workspace, stamp, made_from, runner)
        report.made += 1
    except Interrupted:
        raise
    except ThermocancerError as error:
        report.failed.append(Failure(item, str(error)))
    except Exception as error:  # a bug: this row is lost, but neither the others nor the traceback
        write_text(log, traceback.format_exc())
        where = log.relative_to(workspace.root).as_posix()
        report.failed.append(Failure(item, f"unexpected {type(error).__name__}: {error}; traceback in {where}"))


def _run_steps(
    row: PublishedRow, protocol: Protocol, config: Config, workspace: Workspace, stamp: Stamp, made_from: str,
    runner: Runner,
) -> None:  # fmt: skip
    """Every stage of a row; then keep its figures and how it was made."""
    from thermocancer.evaluation.replication.settings import branch_of, steps_of

    branch = branch_of(workspace, protocol, row)
    steps = steps_of(row, protocol, config)
    for step in steps:
        done = runner(step.stage, step.config, branch)
        if done.failed and step.stage != "filter" and not done.made and not done.current:
            raise DataError(f"{step.stage} failed", found=done.failed[0].reason)
    figures, recipe = (stamp.path.parent / name for name in KEPT)
    write_json(figures, read_json(branch.run(row.name) / "metrics.json"))
    write_json(recipe, _recipe(row, steps[-1].config, branch))
    stamp.write(made_from, [figures, recipe])


def _recipe(row: PublishedRow, config: Config, branch: Workspace) -> dict[str, Any]:
    """What made the row, and in what that differs from the original."""
    from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
    from thermocancer.evaluation.replication.deviations import deviations, made_with

    part = DYNAMIC if row.model == "sequence" else STATIC
    with StoredCohort(branch.dataset(config.dataset.name), part) as source:
        height, width = source.shape
        exams = len(source.exams)
    return {"made_with": made_with(row, config), "deviations": deviations(row, config, (height, width), exams)}


def _log_of(stamp: Stamp) -> Path:
    return stamp.path.parent / "traceback.txt"


def _result(stamp: Stamp, made_from: str, report: StageReport, item: str) -> dict[str, Any]:
    failed = next((each.reason for each in report.failed if each.item == item), None)
    if failed is not None or not stamp.is_current(made_from):
        return {"failed": failed or "was not made"}
    figures, recipe = (read_json(stamp.path.parent / name) for name in KEPT)
    return dict(figures) | dict(recipe)


def _write_table(
    config: Config, workspace: Workspace, results: dict[tuple[str, str], dict[str, Any]], report: StageReport
) -> None:
    from thermocancer.evaluation.replication.settings import chosen_rows
    from thermocancer.evaluation.replication.table import table_of, terminal_lines
    from thermocancer.evaluation.report.exams import is_phantom
    from thermocancer.evaluation.report.page import render_page

    sources = sorted({record.source for record in read_catalog(workspace) if record.status == "ok"})
    table = table_of(chosen_rows(config.evaluate.rows), results, phantom=is_phantom(sources))
    folder: Path = workspace.root / "reproduce"
    write_json(folder / "reproduce.json", table)
    whose = "phantom" if table["phantom"] else "ours"
    page = render_page("reproduce.html", table | {"title": "The published rows, made again", "whose": whose}, {})
    write_text(folder / "report.html", page)
    report.notes += [table["verdict"]["headline"], *terminal_lines(table)]
    report.figures["rows"] = table["rows"]
    report.outputs.append(str(folder / "report.html"))
