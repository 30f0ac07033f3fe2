"""``locate INPUT...``: where a heat source would be, how deep, how sure, by a network that has seen phantoms alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.config.judging import LocateSection
from thermocancer.errors import DataError
from thermocancer.files import Json, write_for_user, write_text
from thermocancer.locate.chest import shown
from thermocancer.locate.locator import how_long, make_locator, stands
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.prediction.located import Views

MOST_PICTURES = 60
"""Exams beyond that are told in words alone, so that a page stays small."""

PAGE_BYTES = 3_000_000


def plan(config: Config, workspace: Workspace) -> Plan:
    """What would be located, and whether the network must be made first. Touches nothing."""
    todo = () if stands(config, workspace) else (f"make the network: {how_long(config.locate)}",)
    asked = ", ".join(config.locate.exam) or f"every exam of {workspace.dataset(config.dataset.name)}"
    return Plan("locate", (*todo, f"locate in {asked}"))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Make or read the network of this workspace, then answer for every exam that was asked for, or of the data set.

    Raises DataError, before anything is made, when none has a frontal view.
    """
    from thermocancer.evaluation.prediction.located import answer, page_facts, picture_of, refused
    from thermocancer.evaluation.report.page import ADJUNCT_NOTICE, render_page

    exams, read_as, name = _asked(config, workspace)
    looked_at: list[Views] = []
    for exam in exams:
        looked_at.append(exam)
        if "Frontal" in exam.celsius:
            break
    else:
        raise DataError("no exam could be read", where=looked_at[0].name if looked_at else name,
                        found=refused(looked_at[0])["reason"] if looked_at else "no exams")  # fmt: skip
    locator = make_locator(config, workspace, progress)
    report, answers = StageReport("locate"), list[Json]()
    pictures: dict[str, bytes] = {}
    for exam in chain(looked_at, exams):
        if "Frontal" not in exam.celsius:
            answers.append(refused(exam))
            report.failed.append(Failure(exam.name, answers[-1]["reason"]))
            continue
        (found,) = locator.locate([shown(exam.celsius, exam.frames)])
        answers.append(answer(exam, found, config.locate.region))
        report.made += 1
        report.notes.append(f"{exam.name}: any source {found.probability:.2f}. {answers[-1]['words']}")
        if config.locate.page != "" and len(pictures) < MOST_PICTURES:
            pictures[exam.name] = picture_of(exam, found, PAGE_BYTES // MOST_PICTURES)
    section = config.locate
    made = (
        f"By a network that learnt from {section.bodies} phantom bodies ({', '.join(section.tissues)}) in "
        f"{section.steps} steps and from no person: what it says of people has been checked against no truth."
    )
    usual = LocateSection().steps
    if section.steps < usual / 2:
        made += f" {usual} steps are usual: after so few it knows little, and its regions are large."
    report.figures = {"exams": answers, "learnt_from": made, "notice": ADJUNCT_NOTICE}
    if config.locate.page != "":
        content = render_page("locate.html", page_facts(answers, pictures, read_as, made), {})
        page = Path(config.locate.page) if config.locate.page else workspace.root / "locate" / f"{name}.html"
        (write_for_user if config.locate.page else write_text)(page, content)
        report.outputs.append(str(page))
        if report.made > len(pictures):
            report.notes.append(f"the page shows pictures of the first {len(pictures)} exams, words of all")
    return report


def _asked(config: Config, workspace: Workspace) -> tuple[Iterator[Views], list[str], str]:
    """The exams, how their files were read, and what the page is called."""
    from thermocancer.evaluation.prediction.located import exams_at, exams_of_data_set
    from thermocancer.runs.run import read_run

    data_set = workspace.dataset(config.dataset.name)
    paths = [Path(each) for each in config.locate.exam]
    if not paths:
        return exams_of_data_set(data_set, None), [], data_set.stem
    if len(paths) == 1 and not paths[0].exists() and len(paths[0].parts) == 1:  # the name of a run: what it scored
        scored = read_run(workspace, paths[0].name, hint="locate PATH, or locate RUN -w WORKSPACE")
        own = scored.required_config()
        keys = {f"{row.patient}_{row.visit}" for row in scored.rows}
        return exams_of_data_set(workspace.dataset(own.dataset.name), keys), [], scored.name
    found, exams = exams_at(paths, config)
    return exams, found.lines(), paths[0].resolve().stem
