"""``reproduce``: the original study's rows, made again and put beside the published figures."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer import __version__
from thermocancer.config import Config
from thermocancer.data.catalog import catalog_fingerprint, read_catalog
from thermocancer.errors import DataError, Interrupted, RunError, ThermocancerError
from thermocancer.files import Json, fingerprint, read_json, write_json, write_text
from thermocancer.kinds import SEQUENCE
from thermocancer.outcome import Failure, Plan, Runner, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Stamp, Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.replication.published import Protocol, PublishedRow

DECIDES = (
    "seed", "filter", "dataset", "split", "cohort", "features", "autoencoder", "fuse", "dit", "convert", "strategy",
)  # fmt: skip
"""Sections that a row's figures depend on."""

KEPT = ("metrics.json", "recipe.json")
"""What is kept of a row: its figures, and what it was made with."""


@dataclass(frozen=True)
class Job:
    """One row to make under one protocol, and the fingerprint of what it depends on."""

    row: PublishedRow
    protocol: Protocol
    folder: Path
    made_from: str

    @property
    def name(self) -> str:
        return f"{self.row.name}, {self.protocol}"

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / "manifest.json")

    @property
    def is_current(self) -> bool:
        return self.stamp.is_current(self.made_from)

    @property
    def log(self) -> Path:
        """Where the traceback of a bug that stopped this row is kept."""
        return self.folder / "traceback.txt"


def find_jobs(config: Config, workspace: Workspace) -> list[Job]:
    """The rows asked for, each under both protocols. Raises ConfigError for a name that is no row's."""
    from thermocancer.evaluation.replication.published import PROTOCOLS, chosen_rows
    from thermocancer.evaluation.replication.remaking import steps_of

    records = catalog_fingerprint(read_catalog(workspace))
    jobs = []
    for row in chosen_rows(config.evaluate.rows):
        for protocol in PROTOCOLS:
            settings = steps_of(row, protocol, config)[-1].config.model_dump(mode="json", include=set(DECIDES))
            made_from = fingerprint(__version__, KEPT, records, row.name, protocol, settings)
            jobs.append(Job(row, protocol, workspace.root / "reproduce/rows" / f"{row.name}-{protocol}", made_from))
    return jobs


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which rows would be made, and which stand."""
    jobs = find_jobs(config, workspace)
    todo = tuple(f"row {job.name}" for job in jobs if not job.is_current)
    return Plan("reproduce", todo=todo, current=len(jobs) - len(todo))


def run(config: Config, workspace: Workspace, progress: Progress, runner: Runner) -> StageReport:
    """Make the missing rows one by one, then the table.

    A row that cannot be made is listed and the others go on, also where a bug of this program stopped it: its
    traceback is kept in ``reproduce/rows/ROW-PROTOCOL/traceback.txt``. When no row could be made the table still
    lists why; then raises DataError, or RunError where a bug was the reason.
    """
    from thermocancer.evaluation.replication.published import chosen_rows, table_of, terminal_lines
    from thermocancer.evaluation.report.exams import is_phantom
    from thermocancer.evaluation.report.page import render_page

    report = StageReport("reproduce")
    results: dict[tuple[str, str], Json] = {}
    jobs = find_jobs(config, workspace)
    with progress.task("reproduce", len(jobs), "rows") as bar:
        for job in jobs:
            bar.say(job.name)
            stands = job.is_current
            failure = None if stands else _make_row(job, config, workspace, runner)
            if failure is None:
                report.current += stands
                report.made += not stands
                figures, recipe = (read_json(job.folder / name) for name in KEPT)
                results[job.row.name, job.protocol] = figures | recipe
            else:
                report.failed.append(Failure(job.name, failure))
                results[job.row.name, job.protocol] = {"failed": failure}
            bar.advance()
    sources = sorted({record.source for record in read_catalog(workspace) if record.status == "ok"})
    table = table_of(chosen_rows(config.evaluate.rows), results, phantom=is_phantom(sources))
    folder = workspace.root / "reproduce"
    write_json(folder / "reproduce.json", table)
    whose = "phantom" if table["phantom"] else "ours"
    page = render_page("reproduce.html", table | {"title": "The published rows, made again", "whose": whose}, {})
    write_text(folder / "report.html", page)
    report.notes += [table["verdict"]["headline"], *terminal_lines(table)]
    report.figures["rows"] = table["rows"]
    report.outputs.append(str(folder / "report.html"))
    if all("failed" in each for each in results.values()):
        first = report.failed[0]
        kind = RunError if any(job.log.exists() for job in jobs) else DataError
        raise kind("no row could be made", where=first.item, found=first.reason)
    return report


def _make_row(job: Job, config: Config, workspace: Workspace, runner: Runner) -> str | None:
    """Run every stage of a row, then keep its figures and how it was made. Returns why it failed, if it did."""
    job.log.unlink(missing_ok=True)
    try:
        _run_stages(job, config, workspace, runner)
    except Interrupted:
        raise
    except ThermocancerError as error:
        return str(error)
    except Exception as error:  # a bug: this row is lost, but neither the others nor the traceback
        write_text(job.log, traceback.format_exc())
        where = job.log.relative_to(workspace.root).as_posix()
        return f"unexpected {type(error).__name__}: {error}; traceback in {where}"
    return None


def _run_stages(job: Job, config: Config, workspace: Workspace, runner: Runner) -> None:
    from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
    from thermocancer.evaluation.replication.remaking import branch_of, deviations, made_with, steps_of

    row, branch = job.row, branch_of(workspace, job.protocol, job.row)
    steps = steps_of(row, job.protocol, config)
    for step in steps:
        done = runner(step.stage, step.config, branch)
        if done.failed and step.stage != "filter" and not done.made and not done.current:
            raise DataError(f"{step.stage} failed", found=done.failed[0].reason)
    used = steps[-1].config
    part = DYNAMIC if row.model == SEQUENCE else STATIC
    with StoredCohort(branch.dataset(used.dataset.name), part) as source:
        differences = deviations(row, used, source.shape, len(source.exams))
    figures, recipe = (job.folder / name for name in KEPT)
    write_json(figures, read_json(branch.run(row.name) / "metrics.json"))
    write_json(recipe, {"made_with": made_with(row, used), "deviations": differences})
    job.stamp.write(job.made_from, [figures, recipe])
