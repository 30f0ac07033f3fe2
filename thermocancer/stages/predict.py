"""``predict INPUT...``: new exams scored with a trained run, judged, doubted and explained."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.config.sources import ImportSection
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import Json, write_for_user, write_text
from thermocancer.kinds import Reads
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.prediction.gathering import Gathered
    from thermocancer.evaluation.prediction.scoring import LoadedRun
    from thermocancer.runs.run import Run


def plan(config: Config, workspace: Workspace) -> Plan:
    """How the files are read, and which exams would be scored. Reads the files and touches nothing."""
    with _asked(config, workspace) as (run, paths):
        return _plan(run, paths, config)


def _plan(run: Run, paths: list[Path], config: Config) -> Plan:
    from thermocancer.evaluation.prediction.scoring import load_run

    if run.reads is Reads.IMAGES:
        from thermocancer.data.series import is_nifti
        from thermocancer.evaluation.prediction.of_images import image_files

        return Plan(
            "predict",
            tuple(
                f"score {'series' if each.members or is_nifti(each.path) else 'image'} {name}"
                for name, each in image_files(paths).items()
            ),
        )
    found = _gathered(load_run(run), paths, config)
    todo = tuple(f"score exam {exam.name} ({len(exam.files)} files)" for exam in found.exams)
    return Plan("predict", todo, notes=tuple(found.lines()), figures=_read_as(found))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Score every exam at ``evaluate.exam`` with the run ``evaluate.run``; images each by itself.

    The run's own worth and how the files were read come first. What cannot be scored is listed with the reason.
    Raises DataError when nothing can.
    """
    with _asked(config, workspace) as (trained, paths):
        return _score(trained, paths, config, progress)


def _score(trained: Run, paths: list[Path], config: Config, progress: Progress) -> StageReport:
    from thermocancer.evaluation.prediction.of_images import image_answers
    from thermocancer.evaluation.prediction.page import overview
    from thermocancer.evaluation.prediction.worth import worth_of
    from thermocancer.evaluation.report.page import Words

    worth = worth_of(trained, config.evaluate, config.seed)
    report, images = StageReport("predict"), trained.reads is Reads.IMAGES
    lines: list[str] = []
    if images:
        own = trained.required_config()
        answers, pictures = image_answers(trained, own, paths, pictured=config.evaluate.page != "")
    else:
        answers, pictures, found = _exam_answers(trained, paths, config, progress)
        lines = found.lines()
        report.figures |= _read_as(found)
    report.figures |= {"exams": answers, "run": worth, "overview": overview(answers)}
    report.notes += [
        f"run {trained.name}: {worth['headline']}",
        *([worth["caveat"]] if worth["caveat"] else []),
        *lines,
    ]
    for each in answers:
        if each["status"] == "refused":
            bad = [f"{file['file']}: {verdict['reason']}" for file in each["files"] for verdict in file["verdicts"]]
            report.failed.append(Failure(each["exam"], "; ".join([each["reason"], *bad[:3]])))
            continue
        report.made += 1
        report.notes.append(_said(each, bool(worth["caveat"])))
    if any("bids_ce" in each for each in answers):
        report.notes.append("bids_ce: gadolinium is the agent of T1 MRI; the pixels do not say which one it was")
    if config.evaluate.page != "":
        _write_page(answers, pictures, trained, worth, lines, paths, config, report)
    report.figures["notice"] = Words.of(trained).notice
    report.notes.append(Words.of(trained).notice)
    if report.made == 0:
        first, what = report.failed[0], "image" if images else "exam"
        raise DataError(f"no {what} could be scored", where=first.item, found=first.reason)
    return report


def _said(answer: Json, doubtful: bool) -> str:
    """One answer as a line for the terminal."""
    interval, met = answer["interval"], answer["in_training"]
    said = f"{answer['exam']}: score {answer['score']:.3f}"
    said += "" if interval["low"] is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"
    said += f", {answer['decision'] or 'no decision: ' + answer['reason']}"
    said += f"; {answer['note']}" if answer.get("note") else ""
    said += f"; {met['words']}" if met["words"] else ""
    return said + ("; do not rely on it (see above)" if doubtful else "")


@contextlib.contextmanager
def _asked(config: Config, workspace: Workspace) -> Iterator[tuple[Run, list[Path]]]:
    """The run that is to answer, of the workspace or of a zip, and where the exams lie."""
    from thermocancer.runs.package import unpacked
    from thermocancer.runs.run import read_run

    section = config.evaluate
    if not section.run and not section.package:
        raise ConfigError("which run should answer?", where="--run", hint="predict PATH --run NAME")
    with contextlib.ExitStack() as stack:
        if section.package:
            trained = stack.enter_context(unpacked(Path(section.package)))
        else:
            trained = read_run(workspace, section.run or "")
        if not section.exam:
            raise ConfigError("which exam should be scored?", where="PATH", hint="predict PATH --run NAME")
        yield trained, [Path(each) for each in section.exam]


def _section(loaded: LoadedRun, config: Config) -> ImportSection:
    """How files are read: as ``import`` is told to; names of a run on frames that do not tell are dynamic."""
    update: dict[str, object] = {"protocol": "D"} if loaded.dynamic else {}
    own = loaded.run.config()
    if config.import_.range is None and own is not None and own.import_.range is not None:
        update["range"] = own.import_.range
    return config.import_.model_copy(update=update)


def _gathered(loaded: LoadedRun, paths: list[Path], config: Config) -> Gathered:
    from thermocancer.evaluation.prediction.gathering import gather_exams

    return gather_exams(paths, loaded.views, _section(loaded, config), loaded.wanted)


def _read_as(found: Gathered) -> dict[str, object]:
    return {"read_as": [each.as_dict() for each in found.plans]}


def _exam_answers(
    trained: Run, paths: list[Path], config: Config, progress: Progress
) -> tuple[list[Json], dict[str, list[Json]], Gathered]:
    """What is said of each exam, the pictures of its page, and how the files were read.

    The thermograms; where one run on static views scored them with occlusion maps (``evaluate.explain_views``).
    """
    from thermocancer.evaluation.prediction.page import MOST_PICTURES, budget_of, pictures_of
    from thermocancer.evaluation.prediction.scoring import answer, load_run

    loaded = load_run(trained)
    found, section = _gathered(loaded, paths, config), _section(loaded, config)
    answers: list[Json] = []
    pictures: dict[str, list[Json]] = {}
    explained = loaded.views if config.evaluate.explain_views == "all" else loaded.views[:1]
    if not config.evaluate.explain or loaded.dynamic or loaded.parts:
        explained = ()
    total = len(found.exams) * max(1, len(loaded.views))
    first_only = total > MOST_PICTURES
    with progress.task("predict", len(found.exams), "exams") as bar:
        for exam in found.exams:
            said = answer(exam, loaded, section)
            answers.append(said.as_dict())
            if config.evaluate.page != "" and len(pictures) < MOST_PICTURES:
                most = budget_of(min(len(found.exams), MOST_PICTURES) if first_only else total)
                shown = explained[:1] if first_only else explained
                drawn = pictures_of(exam, loaded, shown if said.score is not None else (), most)
                pictures[exam.name] = drawn[:1] if first_only else drawn
            for file in exam.files:  # one exam at a time in memory
                file.celsius = file.pixels = None
            bar.advance()
    return answers, pictures, found


def _write_page(
    answers: list[Json], pictures: dict[str, list[Json]], trained: Run, worth: Json, lines: list[str],
    paths: list[Path], config: Config, report: StageReport,
) -> None:  # fmt: skip
    """The page; in the workspace with its overview as a table beside it."""
    from thermocancer.evaluation.prediction.page import overview, overview_csv, prediction_page

    content = prediction_page(answers, pictures, trained, worth, lines)
    if config.evaluate.page:
        page = Path(config.evaluate.page)
        write_for_user(page, content)
    else:
        root = Path() if config.evaluate.package else trained.workspace.root
        page = root / "predict" / trained.name / f"{paths[0].resolve().stem}.html"
        write_text(page, content)
        write_text(page.with_suffix(".csv"), overview_csv(overview(answers)))
        report.outputs.append(str(page.with_suffix(".csv")))
    report.outputs.insert(0, str(page))
