"""The stages of the road, one module a command: plan, work, commit; and the one way to let one work."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

from thermocancer.config import Config
from thermocancer.errors import ConfigError, DataError, check_installed
from thermocancer.kinds import AE, CNN, DIT, FUSE
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

SOURCES = ("fetch", "import", "simulate")
"""They write one catalog, so they share one lock."""


def stage_module(name: str) -> ModuleType:
    """The module of a stage, imported only when it is needed."""
    suffix = "import_folder" if name == "import" else name.replace("-", "_")
    return importlib.import_module(f"thermocancer.stages.{suffix}")


def plan_stage(name: str, config: Config, workspace: Workspace) -> Plan:
    """What the stage would do. Touches nothing. Raises DataError where a newer version wrote the workspace, and what
    ``run`` would raise for want of a package or a device."""
    workspace.check_version()
    check_needs(name, config, devices=True)
    plan: Plan = stage_module(name).plan(config, workspace)
    return plan


def check_needs(name: str, config: Config, *, devices: bool = False) -> None:
    """Raise ConfigError where the stage would miss a package, or ``devices`` that the strategy asks for by name."""
    if name == "evaluate" and config.tracking.kind == "mlflow":
        check_installed("mlflow", "tracking.kind: mlflow needs MLflow", extra="tracking", where="tracking.kind")
    if name == FUSE and config.sweep.trials:
        from thermocancer.classifiers.making import check_search

        check_search()
    if name not in (AE, FUSE, DIT, CNN):
        return
    if config.compute.engine == "dask":
        from thermocancer.compute.on_dask import check_dask

        check_dask(config.compute)
    if devices and config.strategy.kind not in ("auto", "cpu", "multi-host"):
        from thermocancer import strategy

        strategy.set_up(config.strategy, config.seed)


def run_stage(name: str, config: Config, workspace: Workspace, progress: Progress, **brought: object) -> StageReport:
    """Let the stage work under its lock: what every command and the Python API call.

    ``brought`` is handed on to it. Raises LockedError where another process writes, and the stage's own errors.
    """
    workspace.check_version()
    with _writers_lock(name, config, workspace):
        report: StageReport = stage_module(name).run(config, workspace, progress, **brought)
    return report


@contextlib.contextmanager
def _writers_lock(name: str, config: Config, workspace: Workspace) -> Iterator[None]:
    """The stage's lock, for the one process of a job that writes; the others only compute."""
    from thermocancer.strategy import is_writer

    if not is_writer(config.strategy):
        yield
        return
    if name == "predict":  # writes a page, if anything: nobody is in its way, and the workspace may be read-only
        yield
        return
    raw = "raw" if name in SOURCES else name
    with workspace.left_alone_if(ConfigError, DataError), workspace.lock(raw):  # a mistyped -w leaves nothing behind
        workspace.mark_version()
        yield
