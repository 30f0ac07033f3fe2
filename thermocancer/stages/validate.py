"""``validate RUN``: a frozen run on another labelled collection, or its recipe taught without each source in turn."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.config.preparation import SplitSection
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import Json, fingerprint, write_for_user, write_json, write_text
from thermocancer.outcome import Plan, Runner, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.runs.run import Run

HINT = "validate RUN --on WORKSPACE, --on FOLDER, or --leave-one-source-out"


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which run would be judged on which data set or folder. Touches nothing."""
    trained, data = _asked(config, workspace)
    if data is None:
        return Plan("validate", (f"teach the recipe of run {trained.name} without each source in turn",))
    if data.is_file():
        return Plan("validate", (f"judge run {trained.name} on {data}",))
    return Plan("validate", (f"judge run {trained.name} on {data}, read as import --dry-run shows it",))


def run(config: Config, workspace: Workspace, progress: Progress, runner: Runner) -> StageReport:
    """Score every exam of the other collection and write ``validations/RUN-on-NAME-KEY.json`` and a page.

    A folder is read by ``import``, which ``runner`` runs, into a workspace that is removed afterwards. Raises
    ConfigError where there is no such run or no data set, DataError where nothing can be judged.
    """
    from thermocancer.evaluation.report.page import render_page

    trained, data = _asked(config, workspace)
    report, title = StageReport("validate", made=1), f"Run {trained.name} on another collection"
    if data is None:
        from thermocancer.evaluation.by_source import by_source, told

        document, name = by_source(trained, config.evaluate, config.seed, progress), f"{trained.name}-by-source"
        report.notes, title = told(document), f"The recipe of run {trained.name} without each source in turn"
    else:
        document = _elsewhere(config, trained, data, report, progress, runner)
        place = (data.parent.parent if data.is_file() else data).resolve()
        name = f"{trained.name}-on-{place.name}-{fingerprint(str(place))[:8]}"  # folders of one name are kept apart
    folder = workspace.root / "validations"
    page = render_page("validation.html", document | {"title": title}, {})
    write_json(folder / f"{name}.json", document)
    report.outputs.append(str(folder / f"{name}.json"))
    if config.evaluate.page:
        write_for_user(Path(config.evaluate.page), page)
        report.outputs.append(config.evaluate.page)
    else:
        write_text(folder / f"{name}.html", page)
        report.outputs.append(str(folder / f"{name}.html"))
    report.figures["validation"] = document
    return report


def _elsewhere(
    config: Config, trained: Run, data: Path, report: StageReport, progress: Progress, runner: Runner
) -> Json:
    """The judgement on a data set, or on a folder that becomes one for as long as this takes."""
    from thermocancer.data.store.reading import StoredCohort
    from thermocancer.evaluation.external import told, validate_run
    from thermocancer.evaluation.prediction.scoring import load_run

    loaded = load_run(trained)
    home, read_as = trained.workspace.dataset(loaded.config.dataset.name), None
    with ExitStack() as stack, progress.task("validate", 1, "collections") as bar:
        if not data.is_file():
            there, aside = (
                _for_folder(config, trained, data),
                Workspace(Path(stack.enter_context(TemporaryDirectory()))),
            )
            report.notes.append(f"{data} is read as import reads it, into a workspace that is removed afterwards")
            coloured = ["convert"] if there.dataset.source != "matrices" else []
            for stage in ("import", *coloured, "filter", "build-dataset"):
                done = runner(stage, there, aside)
                read_as = done.figures.get("read_as", read_as)
                report.notes += done.notes
                report.failed += done.failed
            data = aside.dataset(there.dataset.name)
        other = stack.enter_context(StoredCohort(data))
        own = stack.enter_context(StoredCohort(home)) if home.exists() else None
        document = validate_run(loaded, own, other, config.evaluate, config.seed, config.evaluate.recalibrate)
        bar.advance()
    report.notes += told(document)
    return document | ({} if read_as is None else {"read_as": read_as})


def _for_folder(config: Config, trained: Run, folder: Path) -> Config:
    """The run's own settings, with this folder to import and the run's views to keep."""
    own = trained.required_config()
    changes = {
        "import_": config.import_.model_copy(update={"folder": str(folder)}),
        "filter": own.filter.model_copy(update={"views": trained.manifest.views, "dynamic": False}),
        "dataset": own.dataset.model_copy(update={"views": None, "static": True, "dynamic": False}),
        "split": SplitSection(folds=2, repeats=1, inner_folds=2),  # nothing is taught there
    }
    return own.model_copy(update=changes)


def _asked(config: Config, workspace: Workspace) -> tuple[Run, Path | None]:
    """The run, and the data set or the folder that it is to be judged on; None for the sources of its own."""
    from thermocancer.runs.run import read_run

    if not config.evaluate.run:
        raise ConfigError("which run should be judged?", where="RUN", hint=HINT)
    if (config.evaluate.elsewhere is not None) is config.evaluate.leave_one_source_out:
        raise ConfigError("on which collection?", where="--on", expected="one of the two", hint=HINT)
    trained = read_run(workspace, config.evaluate.run)
    if config.evaluate.elsewhere is None:
        return trained, None
    other = Workspace(Path(config.evaluate.elsewhere))
    data = other.dataset(config.evaluate.elsewhere_dataset)
    if data.is_file():
        return trained, data
    if (other.root / "workspace.json").exists() or not other.root.is_dir():
        raise DataError(
            "there is no data set to judge the run on", where=data, expected="a folder of thermograms, or a workspace "
            "with a labelled data set", found="none", hint="a workspace gets one by: thermocancer import FOLDER "
            "--labels FILE -w OTHER, then filter and build-dataset -w OTHER",
        )  # fmt: skip
    return trained, other.root
