"""``evaluate``: metrics, figures and the report of every run that has changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thermocancer import __version__
from thermocancer.config import Config
from thermocancer.errors import DataError, ThermocancerError
from thermocancer.files import Json, fingerprint, hash_file, read_json, write_bytes, write_json, write_text
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Stamp, Workspace


@dataclass(frozen=True)
class Task:
    """One run to judge, and the fingerprint of what its evaluation depends on."""

    name: str
    folder: Path
    made_from: str

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / "evaluation.json")

    @property
    def is_current(self) -> bool:
        return self.stamp.is_current(self.made_from)


def find_tasks(config: Config, workspace: Workspace) -> list[Task]:
    """The runs the config asks for. Raises DataError when there is none.

    An evaluation depends on the run's content, the cohort's verdicts and the settings of evaluation.
    """
    from thermocancer.runs.run import content_of, run_names

    names = [config.evaluate.run] if config.evaluate.run else run_names(workspace)
    if not names:
        raise DataError(
            "there is no run to evaluate", where=workspace.root / "runs", hint="train one with: thermocancer fuse"
        )
    around = [hash_file(path) for path in (workspace.catalog, workspace.filtered / "filter.csv") if path.exists()]
    settings = config.evaluate.model_copy(update={"run": None}).model_dump(mode="json")
    if config.tracking.kind != "none":
        settings |= {"tracking": config.tracking.model_dump(mode="json")}
    shared = (around, settings, config.report.model_dump(mode="json"), config.seed, config.cohort.facts)
    contents = {name: content_of(workspace.run(name)) for name in names}
    return [Task(name, workspace.run(name), fingerprint(__version__, contents[name], *shared)) for name in names]


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which runs would be judged."""
    tasks = find_tasks(config, workspace)
    todo = tuple(f"judge run {task.name}" for task in tasks if not task.is_current)
    return Plan("evaluate", todo=todo, current=len(tasks) - len(todo))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Judge each run whose files or settings changed; a run that cannot be judged is listed."""
    report = StageReport("evaluate")
    tasks = find_tasks(config, workspace)
    todo = [task for task in tasks if not task.is_current]
    report.current = len(tasks) - len(todo)
    with progress.task("evaluate", len(todo), "runs") as bar:
        for task in todo:
            bar.say(task.name)
            try:
                _judge_one(task, config, workspace, report, progress)
            except ThermocancerError as error:
                if len(tasks) == 1:
                    raise
                report.failed.append(Failure(task.name, str(error)))
            bar.advance()
    if report.failed and report.made == 0 and report.current == 0:
        raise DataError("no run could be evaluated", found=f"{report.failed[0].item}: {report.failed[0].reason}")
    report.figures["runs"] = [_told(task) for task in tasks if task.is_current]
    return report


def _told(task: Task) -> Json:
    """What a judged run is worth, in numbers: ``described_run``, and what stands on the report's first screen."""
    from thermocancer.evaluation.between_runs import described_run
    from thermocancer.evaluation.report.contents import at_a_glance

    facts = read_json(task.folder / "report.json")
    metrics, sentences = facts["metrics"], facts["verdict"]["sentences"]
    return described_run(task.folder) | {
        "glance": at_a_glance(facts), "sensitivity": metrics["sensitivity"], "specificity": metrics["specificity"],
        "confidence": metrics["confidence"], "positive": facts["by_class"][1]["name"], "sentences": sentences,
        "caveat": sentences[-1] if facts["phantom"] else "", "report": str(task.folder / "report.html"),
    }  # fmt: skip


def _judge_one(task: Task, config: Config, workspace: Workspace, report: StageReport, progress: Progress) -> None:
    from thermocancer.evaluation.audit.whole import audit_picture, audit_run
    from thermocancer.evaluation.explain.telling_exams import explain_run
    from thermocancer.evaluation.report.cards import dataset_card, model_card
    from thermocancer.evaluation.report.contents import gather_contents, report_page
    from thermocancer.evaluation.report.exams import catalogued_exams
    from thermocancer.evaluation.report.judgement import judge, own_figures
    from thermocancer.evaluation.report.page import Words
    from thermocancer.evaluation.tracking import track
    from thermocancer.runs.run import read_run

    judged = judge(read_run(workspace, task.name), config.evaluate, config.seed)
    exams = catalogued_exams(workspace)
    audit, explained = None, None
    if config.evaluate.audit:
        audit = audit_run(judged, workspace, config, exams, progress)
        judged.pictures["audit"] = audit_picture(audit, judged.document["auc"])
    if config.evaluate.explain:
        explained = explain_run(judged, workspace, progress, first_only=config.evaluate.explain_views == "first")
    pictures, remark = own_figures(judged.run)
    judged.pictures |= pictures
    contents = gather_contents(judged, workspace, config, exams, audit=audit, explained=explained, remark=remark)
    folder, facts, words = task.folder, contents.facts, Words.of(judged.run)
    written = [folder / "figures" / f"{name}.png" for name in judged.pictures]
    for path, picture in zip(written, judged.pictures.values(), strict=True):
        write_bytes(path, picture.png)
    documents = {"metrics.json": judged.document, "report.json": facts}
    if audit is None:
        (folder / "audit.json").unlink(missing_ok=True)
    else:
        documents["audit.json"] = audit
    for name, document in documents.items():
        write_json(folder / name, document)
    texts = {
        "report.html": report_page(contents, judged),
        "model-card.md": model_card(facts, words),
        "data-set-card.md": dataset_card(facts, words),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    report.notes += [f"tracked: {place}"] if (place := track(judged.run, workspace, config)) else []
    task.stamp.write(task.made_from, [*written, *(folder / name for name in (*documents, *texts))])
    report.made += 1
    verdict = facts["verdict"]
    report.notes += [f"{task.name}: {sentence}" for sentence in (verdict["headline"], *verdict["sentences"])]
    report.outputs.append(str(folder / "report.html"))
