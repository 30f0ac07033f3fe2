"""``fetch``: mirror the DMR-IR site's matrices into ``raw/``. Plan (read pages), work (files), commit (catalog)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.config.sources import FetchSection
from thermocancer.data.catalog import Record
from thermocancer.dmr.credentials import Credentials, find_credentials
from thermocancer.dmr.mirror import Mirror, key_of, write_terms
from thermocancer.errors import DataError
from thermocancer.files import read_json_as, write_json
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.dmr.download import Brought
    from thermocancer.dmr.session import Site
    from thermocancer.dmr.walk import Survey

STAGE = "fetch"
BYTES_A_VALUE = 6
"""``20.52 ``: what a value takes in the site's usual layout."""

PROBLEMS = ("missing", "refused", "failed")


def plan(config: Config, workspace: Workspace, *, credentials: Credentials | None = None) -> Plan:
    """Log in and read the pages, as ``run`` would; fetch no file and touch nothing on disk."""
    from thermocancer.dmr.walk import survey_site

    section = config.fetch
    mirror = Mirror.load(workspace)
    with open_site(section, credentials) as site:
        survey = survey_site(site, mirror, Silent(), today="", first=_first_patient(config, workspace))
    seconds_each = max(section.interval_s, site.meter.waited_s / max(site.meter.requests, 1))
    # bytes of a file: the mean of those here, else what the usual layout takes
    sizes = [record.bytes for record in mirror.records.values() if record.path]
    typical_bytes = sum(sizes) / len(sizes) if sizes else section.shape[0] * section.shape[1] * BYTES_A_VALUE
    megabytes = survey.downloads * typical_bytes / 1e6
    notes = [
        f"{len(survey.steps)} files to ask for, about {megabytes:.1f} MB, "
        f"about {len(survey.steps) * seconds_each / 60:.1f} minutes at {seconds_each:.2g} s a request",
        f"{site.meter.requests} requests made for this plan, {survey.patients} patients read",
    ]
    notes += [f"{survey.moves} files to move, because the label of their visit changed"] if survey.moves else []
    notes += survey.notes
    notes += [f"could not be read: {each.item}: {each.reason}" for each in survey.failures]
    notes += [f"refused: {_item(record)}: {record.reason}" for page in survey.pages for record in page.new_problems]
    todo = tuple(
        step.offer.path + (" (has it changed?)" if step.old and step.old.path else "") for step in survey.steps
    )
    return Plan(STAGE, todo=todo, current=survey.kept, notes=tuple(notes))


def run(
    config: Config,
    workspace: Workspace,
    progress: Progress,
    *,
    credentials: Credentials | None = None,
    today: date | None = None,
) -> StageReport:
    """Bring ``raw/`` up to date with the site.

    ``credentials`` default to the environment (or the command line's prompt); ``today`` is the day
    noted in ``patients.jsonl``. Raises ConfigError without an account, RemoteError when the site,
    the login or the network fails; whatever was fetched until then is kept and in the catalog.
    """
    from thermocancer.dmr.clinical import merge_patients
    from thermocancer.dmr.download import Carrier
    from thermocancer.dmr.plan import apply_decisions
    from thermocancer.dmr.walk import survey_site

    started = time.monotonic()
    mirror = Mirror.load(workspace)
    with open_site(config.fetch, credentials) as site:
        mirror.begin()
        terms = write_terms(workspace)
        if terms:
            for line in terms.splitlines():  # a note is one line, whatever it holds
                progress.note(line)
        carrier = Carrier(site, mirror)
        try:
            day = (today or date.today()).isoformat()
            survey = survey_site(site, mirror, progress, today=day, first=_first_patient(config, workspace))
            for decisions in (*survey.pages, survey.gone):
                apply_decisions(decisions, mirror)
            if config.fetch.clinical:
                merge_patients(workspace.raw / "patients.jsonl", survey.clinical)
            carrier.carry(survey.steps, progress)
        finally:
            written = mirror.commit()
    _remember_where(config, workspace, survey, carrier.brought)
    report = _report(survey, carrier.brought, mirror, site)
    report.outputs = [str(workspace.catalog)] if written else []
    report.figures["seconds"] = round(time.monotonic() - started, 3)
    return report


@contextlib.contextmanager
def open_site(section: FetchSection, credentials: Credentials | None = None) -> Iterator[Site]:
    """A logged-in site. Raises ConfigError without an account, RemoteError when the login fails."""
    from thermocancer.dmr.address import SiteAddress
    from thermocancer.dmr.session import Site

    with Site(SiteAddress.parse(section.url), section, credentials or find_credentials()) as site:
        site.log_in()
        yield site


def _place_file(workspace: Workspace) -> Path:
    return workspace.cache / "fetch.json"


def _first_patient(config: Config, workspace: Workspace) -> int | None:
    """Where a run that ended at a limit or the cap left off; None to begin at the beginning."""
    path = _place_file(workspace)
    if config.fetch.patients or not path.exists():
        return None
    with contextlib.suppress(DataError):  # a cache may be broken; beginning at the beginning is always right
        return read_json_as(path, lambda kept: int(kept["next_patient"]), "no patient's number")
    return None


def _remember_where(config: Config, workspace: Workspace, survey: Survey, brought: Brought) -> None:
    if config.fetch.patients:
        return
    place = brought.left[0].offer.patient if brought.left else survey.next_patient
    path = _place_file(workspace)
    if place is None:
        path.unlink(missing_ok=True)
    elif place != _first_patient(config, workspace):
        write_json(path, {"next_patient": place})


def _report(survey: Survey, brought: Brought, mirror: Mirror, site: Site) -> StageReport:
    problems = {status: [each for each in mirror.records.values() if each.status == status] for status in PROBLEMS}
    vanished = brought.vanished + sum(page.vanished for page in (*survey.pages, survey.gone))
    unchanged = survey.kept + brought.unchanged
    just_found = [record for page in survey.pages for record in page.new_problems] + brought.problems
    report = StageReport(
        STAGE, made=len(brought.new) + len(brought.changed) + survey.moves + vanished, current=unchanged
    )
    report.failed = [*survey.failures, *(Failure(_item(record), record.reason) for record in just_found)]
    report.notes = list(survey.notes)
    if brought.left:
        report.notes.append(
            f"the cap on requests was reached with {len(brought.left)} files left; the next run goes on"
        )
    known = {key_of(each) for found in problems.values() for each in found} - {key_of(each) for each in just_found}
    if known:
        report.notes.append(
            f"{len(known)} problems known from earlier runs; --recheck validators asks again for the files"
        )
    report.figures = {
        "new": len(brought.new), "changed": len(brought.changed), "unchanged": unchanged, "moved": survey.moves,
        "vanished": vanished, **{status: len(found) for status, found in problems.items()},
        "unlabelled": sum(each.status == "unlabelled" for each in mirror.records.values()),
        "patients": survey.patients, "patients_without_exam": survey.without_exam,
        "requests": site.meter.requests, "bytes": site.meter.bytes,
        "waiting_seconds": round(site.meter.waited_s, 3), "pausing_seconds": round(site.meter.paused_s, 3),
        "new_files": sorted(brought.new), "changed_files": sorted(brought.changed),
        "reasons": {status: [{"item": _item(each), "reason": each.reason} for each in found]
                    for status, found in problems.items()},
    }  # fmt: skip
    return report


def _item(record: Record) -> str:
    """How a problem is called: the file's name, or whose link it was."""
    if record.status == "refused":
        return f"patient {record.patient}, visit {record.visit}, link {record.extra.get('href', '')!r}"
    return record.name.file_name
