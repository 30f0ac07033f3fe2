"""``predict PATH``: a new exam scored with a trained run, judged, doubted and explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thermocancer.config import Config
from thermocancer.data.cohort import centi_celsius
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import write_text
from thermocancer.kinds import Reads
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.prediction.combined import LateOracle
    from thermocancer.evaluation.prediction.gathering import NewExam
    from thermocancer.evaluation.prediction.novelty import Reference
    from thermocancer.evaluation.prediction.scoring import Oracle
    from thermocancer.runs.run import Run


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which exams would be scored."""
    from thermocancer.evaluation.prediction.gathering import gather_exams
    from thermocancer.runs.run import read_run

    run = read_run(workspace, _run_name(config))
    if run.reads is Reads.IMAGES:
        from thermocancer.evaluation.prediction.of_images import image_files

        return Plan("predict", tuple(f"score image {path.name}" for path in image_files(_path(config))))
    exams = gather_exams(_path(config), run.manifest.views)
    return Plan("predict", tuple(f"score exam {exam.name} ({len(exam.files)} files)" for exam in exams))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Score every exam at ``evaluate.exam`` with the run ``evaluate.run``.

    Exams that cannot be scored are listed with the reason. Raises DataError when none can.
    """
    from thermocancer.evaluation.prediction.gathering import gather_exams
    from thermocancer.evaluation.report.page import ADJUNCT_NOTICE
    from thermocancer.runs.run import read_run

    trained = read_run(workspace, _run_name(config))
    if trained.reads is Reads.IMAGES:
        return _of_images(trained, config, workspace)
    oracle = _oracle(trained, workspace)
    exams = gather_exams(_path(config), oracle.views)
    answers: list[dict[str, Any]] = []
    pictures: dict[str, list[dict[str, Any]]] = {}
    with progress.task("predict", len(exams), "exams") as bar:
        for exam in exams:
            answers.append(_ask(exam, oracle))
            if config.evaluate.page != "":
                pictures[exam.name] = _pictures(exam, answers[-1], oracle, config)
            bar.advance()
    report = _report(answers)
    if config.evaluate.page != "":
        page = _page_path(config, workspace)
        _write_page(page, answers, pictures, trained)
        report.outputs.append(str(page))
    report.figures["notice"] = ADJUNCT_NOTICE
    if report.made == 0:
        first = report.failed[0]
        raise DataError("no exam could be scored", where=first.item, found=first.reason)
    return report


def _of_images(trained: Run, config: Config, workspace: Workspace) -> StageReport:
    """The same for a run of ``train-cnn``, which reads images of any kind, each by itself."""
    from thermocancer.evaluation.prediction.of_images import image_answers, image_page
    from thermocancer.evaluation.report.page import ADJUNCT_NOTICE

    answers, pictures = image_answers(trained, trained.required_config(), _path(config))
    report = _report(answers)
    if config.evaluate.page != "":
        page = _page_path(config, workspace)
        write_text(page, image_page(trained, answers, pictures))
        report.outputs.append(str(page))
    report.figures["notice"] = ADJUNCT_NOTICE
    if report.made == 0:
        first = report.failed[0]
        raise DataError("no image could be scored", where=first.item, found=first.reason)
    return report


def _report(answers: list[dict[str, Any]]) -> StageReport:
    report = StageReport("predict", figures={"exams": answers})
    for each in answers:
        if each["status"] == "refused":
            report.failed.append(Failure(each["exam"], _why(each)))
            continue
        report.made += 1
        said = each["decision"] or "no decision: " + each["reason"]
        said += f"; {each['note']}" if each.get("note") else ""
        report.notes.append(f"{each['exam']}: score {each['score']:.3f}, {said}")
    return report


def _why(refused: dict[str, Any]) -> str:
    bad = [f"{file['file']}: {verdict['reason']}" for file in refused["files"] for verdict in file["verdicts"]]
    return "; ".join([refused["reason"], *bad[:3]])


def _oracle(run: Run, workspace: Workspace) -> Oracle | LateOracle:
    """The run's classifier, with its training exams to compare with where the data set is here."""
    from thermocancer.evaluation.prediction.combined import is_late, load_late_oracle

    if is_late(run):
        return load_late_oracle(run, workspace, lambda each: _plain_oracle(each, workspace))
    return _plain_oracle(run, workspace)


def _plain_oracle(run: Run, workspace: Workspace) -> Oracle:
    from thermocancer.evaluation.prediction.scoring import load_oracle

    own = run.config()
    reference, shape = (None, None) if own is None else _reference(own, workspace, run)
    return load_oracle(run, workspace, reference, shape)


def _ask(exam: NewExam, oracle: Oracle | LateOracle) -> dict[str, Any]:
    """Read and judge the exam's files, and answer."""
    from thermocancer.evaluation.prediction.combined import answer_late
    from thermocancer.evaluation.prediction.gathering import read_files
    from thermocancer.evaluation.prediction.scoring import Oracle, answer

    if not isinstance(oracle, Oracle):
        return answer_late(exam, oracle)
    own = oracle.config
    expected = own.filter.shape or (None if own.dataset.size else oracle.shape)
    read_files(exam, own.filter, expected, dynamic=oracle.dynamic)
    return answer(exam, oracle)


def _reference(own: Config, workspace: Workspace, run: Run) -> tuple[Reference | None, tuple[int, int] | None]:
    """What the training exams look like, remembered in the cache; None where the data set is gone."""
    from thermocancer.cache import cached_json
    from thermocancer.evaluation.prediction.novelty import Reference
    from thermocancer.files import fingerprint

    path = workspace.dataset(own.dataset.name)
    if not path.exists():
        return None, None
    with StoredCohort(path, DYNAMIC if run.reads is Reads.FRAMES else STATIC) as source:
        if source.kind != "celsius":
            return None, source.shape
        view = run.manifest.views[0]
        memory = workspace.cache / "likeness" / f"{fingerprint(source.fingerprint, view)[:32]}.json"
        made = cached_json(memory, lambda: _measure(source, view), encode=Reference.as_json, decode=Reference.from_json)
        return made, source.shape


def _measure(source: StoredCohort, view: str) -> Reference:
    import numpy as np

    from thermocancer.evaluation.prediction.novelty import evenly, make_reference

    present = np.flatnonzero(source.present(view))
    rows = present[evenly(len(present))]
    matrices = (centi_celsius(source, view, np.array([row]))[0] / 100.0 for row in rows)
    return make_reference(matrices, [source.exams[row].layout for row in present])


def _pictures(
    exam: NewExam, said: dict[str, Any], oracle: Oracle | LateOracle, config: Config
) -> list[dict[str, Any]]:  # fmt: skip
    """The thermograms; where one run on static views scored them with occlusion maps (``evaluate.explain_views``)."""
    from thermocancer.evaluation.prediction.page import occlusions, pictures_of
    from thermocancer.evaluation.prediction.scoring import Oracle

    if not isinstance(oracle, Oracle) or oracle.dynamic or said["status"] == "refused" or not config.evaluate.explain:
        return pictures_of(exam, [])
    views = oracle.views if config.evaluate.explain_views == "all" else oracle.views[:1]
    return pictures_of(exam, occlusions(exam, oracle, views))


def _write_page(page: Path, answers: list[dict[str, Any]], pictures: dict[str, list[dict[str, Any]]], run: Run) -> None:
    from thermocancer.evaluation.prediction.page import prediction_page

    write_text(page, prediction_page(answers, pictures, run))


def _page_path(config: Config, workspace: Workspace) -> Path:
    if config.evaluate.page:
        return Path(config.evaluate.page)
    return workspace.root / "predict" / _run_name(config) / f"{_path(config).resolve().stem}.html"


def _run_name(config: Config) -> str:
    if not config.evaluate.run:
        raise ConfigError("which run should answer?", where="--run", hint="predict PATH --run NAME")
    return config.evaluate.run


def _path(config: Config) -> Path:
    if not config.evaluate.exam:
        raise ConfigError("which exam should be scored?", where="PATH", hint="predict PATH --run NAME")
    return Path(config.evaluate.exam)
