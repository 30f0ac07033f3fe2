"""``validate RUN --on WORKSPACE``: a frozen run on another labelled collection."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.config import Config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import write_for_user, write_json, write_text
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.runs.run import Run


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which run would be judged on which data set. Touches nothing."""
    trained, data = _asked(config, workspace)
    return Plan("validate", (f"judge run {trained.name} on {data}",))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Score every exam of the other collection and write ``validations/RUN-on-NAME.json`` and a page.

    Raises ConfigError where there is no such run or no data set, DataError where nothing can be judged.
    """
    from thermocancer.data.store.reading import StoredCohort
    from thermocancer.evaluation.external import told, validate_run
    from thermocancer.evaluation.prediction.scoring import load_run
    from thermocancer.evaluation.report.page import render_page

    trained, data = _asked(config, workspace)
    loaded = load_run(trained)
    home = trained.workspace.dataset(loaded.config.dataset.name)
    with ExitStack() as stack, progress.task("validate", 1, "collections") as bar:
        other = stack.enter_context(StoredCohort(data))
        own = stack.enter_context(StoredCohort(home)) if home.exists() else None
        document = validate_run(loaded, own, other, config.evaluate, config.seed, config.evaluate.recalibrate)
        bar.advance()
    name = f"{trained.name}-on-{data.parent.parent.resolve().name}"
    folder = workspace.root / "validations"
    page = render_page("validation.html", document | {"title": f"Run {trained.name} on another collection"}, {})
    write_json(folder / f"{name}.json", document)
    report = StageReport("validate", made=1, outputs=[str(folder / f"{name}.json")])
    if config.evaluate.page:
        write_for_user(Path(config.evaluate.page), page)
        report.outputs.append(config.evaluate.page)
    else:
        write_text(folder / f"{name}.html", page)
        report.outputs.append(str(folder / f"{name}.html"))
    report.notes += told(document)
    report.figures["validation"] = document
    return report


def _asked(config: Config, workspace: Workspace) -> tuple[Run, Path]:
    """The run, and the data set that it is to be judged on."""
    from thermocancer.runs.run import read_run

    if not config.evaluate.run:
        raise ConfigError("which run should be judged?", where="RUN", hint="validate RUN --on WORKSPACE")
    if not config.evaluate.elsewhere:
        raise ConfigError("on which collection?", where="--on", hint="validate RUN --on WORKSPACE")
    data = Workspace(Path(config.evaluate.elsewhere)).dataset(config.evaluate.elsewhere_dataset)
    if not data.is_file():
        raise DataError(
            "there is no data set to judge the run on", where=data, expected="a workspace with a labelled data set",
            found="none", hint="make one: thermocancer import FOLDER --labels FILE -w OTHER, then filter and "
            "build-dataset -w OTHER",
        )  # fmt: skip
    return read_run(workspace, config.evaluate.run), data
