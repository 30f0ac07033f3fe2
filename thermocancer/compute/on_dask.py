"""Pieces on the workers of a Dask cluster: one that runs already, one that a batch system starts, or one started here.

The workspace must be a folder that every worker sees under the same path. A lost worker's piece is done again by
the scheduler; one that has lost several workers ends the command.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from thermocancer.compute import MOST_DEATHS, Piece, Result, died, run_piece
from thermocancer.config.learning import ClusterSection, ComputeSection
from thermocancer.errors import RunError, check_installed

if TYPE_CHECKING:
    import distributed

FIND_S = 10
"""How long a scheduler is looked for."""

SAME_VERSIONS = ("thermocancer", "distributed", "numpy", "scipy", "scikit-learn", "keras", "tensorflow", "jax")
"""Packages that decide results, and the engine itself: a worker with another one is refused by ``doctor``."""

KINDS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "lsf": "LSFCluster", "sge": "SGECluster"}


def run_on_cluster(
    packed: bytes, pieces: Sequence[Piece], section: ComputeSection, count: int, tell: Callable[[str], None] | None
) -> Iterator[Result]:
    """Yield the result of every piece as it is finished. Raises RunError when the cluster loses its workers."""
    client = connect(section, count)
    if tell is not None:
        tell(where_to_watch(client))
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    futures = [client.submit(run_piece, packed, piece, pure=False) for piece in pieces]
    try:
        for done in as_completed(futures, loop=client.loop):
            try:
                yield done.result()
            except KilledWorker as error:
                raise died(error) from error
    finally:
        client.cancel(futures)


def check_dask(section: ComputeSection) -> None:
    """Raise ConfigError where a section asks for what is not installed."""
    check_installed(
        "distributed", "compute.engine: dask needs Dask", extra="cluster", where="compute.engine",
        otherwise="set compute.engine to local",
    )  # fmt: skip
    if section.cluster is not None:
        check_installed(
            "dask_jobqueue", "compute.cluster needs dask-jobqueue", extra="cluster", where="compute.cluster"
        )  # fmt: skip


@functools.cache
def connect(section: ComputeSection, count: int) -> distributed.Client:
    """The client of a section, made once a process. Raises ConfigError without Dask, RunError without a scheduler."""
    check_dask(section)
    import dask
    import distributed

    dask.config.set({"distributed.scheduler.allowed-failures": MOST_DEATHS})
    try:
        if section.address is not None:
            return distributed.Client(section.address, timeout=FIND_S, set_as_default=False)
        if section.cluster is not None:
            started: distributed.SpecCluster = batch_cluster(section.cluster, section.memory_gb)
            started.scale(count)
        else:
            started = distributed.LocalCluster(
                n_workers=count, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0",
            )  # fmt: skip
        return distributed.Client(started, set_as_default=False)
    except (OSError, TimeoutError, RuntimeError) as error:
        raise RunError(
            "the Dask cluster cannot be reached", where=section.address or "compute.cluster", found=error,
            hint="is the scheduler running, and of the same version of distributed as here?",
        ) from error  # fmt: skip


def where_to_watch(client: distributed.Client) -> str:
    """The dashboard's address, in words."""
    return f"Dask's dashboard: {client.dashboard_link}"


def check_cluster(section: ComputeSection) -> str:
    """What ``doctor`` says of a scheduler that runs already. Raises RunError where it cannot be used, with why."""
    client, own = connect(section, 1), versions()
    try:
        asked: Any = client.run(versions)  # by the address of each worker
        for worker, found in asked.items():
            for name in own:
                if found[name] != own[name]:
                    raise RunError(
                        f"{name} is not the same on a Dask worker", where=worker, expected=own[name], found=found[name],
                        hint="install the same versions everywhere: results depend on them",
                    )  # fmt: skip
        return f"{section.address}: {len(asked)} workers, the same versions as here. {where_to_watch(client)}"
    finally:
        client.close()
        connect.cache_clear()


def versions() -> dict[str, str | None]:
    """What decides results, as it is installed where this runs."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in SAME_VERSIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return dict.fromkeys(SAME_VERSIONS) | found


def batch_cluster(section: ClusterSection, memory_gb: float) -> distributed.SpecCluster:
    """Workers as jobs of a batch system, one thread each; nothing is submitted before it is scaled."""
    import dask_jobqueue

    made: distributed.SpecCluster = getattr(dask_jobqueue, KINDS[section.kind])(
        queue=section.queue, cores=1, processes=1, memory=f"{memory_gb:g}GB", walltime=section.walltime,
        job_extra_directives=list(section.directives),
    )  # fmt: skip
    return made
