"""``predict PATH``: a new exam scored with a trained run, judged, doubted and explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import Json, write_for_user, write_text
from thermocancer.kinds import Reads
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.runs.run import Run


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which exams would be scored."""
    from thermocancer.evaluation.prediction.gathering import gather_exams

    run, path = _asked(config, workspace)
    if run.reads is Reads.IMAGES:
        from thermocancer.evaluation.prediction.of_images import image_files

        return Plan("predict", tuple(f"score image {image.name}" for image in image_files(path)))
    exams = gather_exams(path, run.manifest.views)
    return Plan("predict", tuple(f"score exam {exam.name} ({len(exam.files)} files)" for exam in exams))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Score every exam at ``evaluate.exam`` with the run ``evaluate.run``; images each by itself.

    What cannot be scored is listed with the reason. Raises DataError when nothing can.
    """
    from thermocancer.evaluation.prediction.of_images import image_answers
    from thermocancer.evaluation.prediction.page import prediction_page
    from thermocancer.evaluation.report.page import ADJUNCT_NOTICE

    trained, path = _asked(config, workspace)
    images = trained.reads is Reads.IMAGES
    if images:
        answers, pictures = image_answers(trained, trained.required_config(), path)
    else:
        answers, pictures = _exam_answers(trained, path, config, progress)
    report = StageReport("predict", figures={"exams": answers})
    for each in answers:
        if each["status"] == "refused":
            bad = [f"{file['file']}: {verdict['reason']}" for file in each["files"] for verdict in file["verdicts"]]
            report.failed.append(Failure(each["exam"], "; ".join([each["reason"], *bad[:3]])))
            continue
        report.made += 1
        said = each["decision"] or "no decision: " + each["reason"]
        said += f"; {each['note']}" if each.get("note") else ""
        report.notes.append(f"{each['exam']}: score {each['score']:.3f}, {said}")
    if config.evaluate.page != "":
        content = prediction_page(answers, pictures, trained)
        if config.evaluate.page:
            page = Path(config.evaluate.page)
            write_for_user(page, content)
        else:
            page = workspace.root / "predict" / trained.name / f"{path.resolve().stem}.html"
            write_text(page, content)
        report.outputs.append(str(page))
    report.figures["notice"] = ADJUNCT_NOTICE
    if report.made == 0:
        first, what = report.failed[0], "image" if images else "exam"
        raise DataError(f"no {what} could be scored", where=first.item, found=first.reason)
    return report


def _asked(config: Config, workspace: Workspace) -> tuple[Run, Path]:
    """The run that is to answer, and where the exams lie."""
    from thermocancer.runs.run import read_run

    if not config.evaluate.run:
        raise ConfigError("which run should answer?", where="--run", hint="predict PATH --run NAME")
    trained = read_run(workspace, config.evaluate.run)
    if not config.evaluate.exam:
        raise ConfigError("which exam should be scored?", where="PATH", hint="predict PATH --run NAME")
    return trained, Path(config.evaluate.exam)


def _exam_answers(
    trained: Run, path: Path, config: Config, progress: Progress
) -> tuple[list[Json], dict[str, list[Json]]]:
    """What is said of each exam, and the pictures of its page.

    The thermograms; where one run on static views scored them with occlusion maps (``evaluate.explain_views``).
    """
    from thermocancer.evaluation.prediction.gathering import gather_exams
    from thermocancer.evaluation.prediction.page import pictures_of
    from thermocancer.evaluation.prediction.scoring import answer, load_run

    loaded = load_run(trained)
    exams = gather_exams(path, loaded.views)
    answers: list[Json] = []
    pictures: dict[str, list[Json]] = {}
    explained = loaded.views if config.evaluate.explain_views == "all" else loaded.views[:1]
    if not config.evaluate.explain or loaded.dynamic or loaded.parts:
        explained = ()
    with progress.task("predict", len(exams), "exams") as bar:
        for exam in exams:
            said = answer(exam, loaded)
            answers.append(said.as_dict())
            if config.evaluate.page != "":
                pictures[exam.name] = pictures_of(exam, loaded, explained if said.score is not None else ())
            bar.advance()
    return answers, pictures
