"""The same work on many pieces: in this process, in processes beside it, or on the workers of a Dask cluster.

Results do not depend on which of them, on their number, or on the order in which pieces end: each piece is a
function of the work and of itself, and for a network of ``strategy.threads``, without which a config with several
workers is refused. Workers start clean (a forked TensorFlow hangs), stay warm between the stages of one ``run``, and
give their results to the process that was started. A piece whose worker died is done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from thermocancer.config.learning import ComputeSection
from thermocancer.errors import RunError

if TYPE_CHECKING:
    from concurrent.futures import Future

MOST_DEATHS = 3
"""So often pieces are handed to new workers after some died; a piece that kills its worker would never end."""

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1"
)
"""The environment of a worker: many threads of many workers would wait for one another."""

IDLE_S = 300
"""Workers without work end after so long."""


Piece = TypeVar("Piece")
Result = TypeVar("Result")
_In = TypeVar("_In", contravariant=True)
_Out = TypeVar("_Out", covariant=True)


class Work(Protocol[_In, _Out]):
    """What is to be done with each piece; it and the pieces pickle. ``run`` gives what pickles too."""

    def run(self, piece: _In) -> _Out: ...


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS and OpenMP thread: many threads on busy cores wait for one another, and sums depend on their number."""
    import scipy.linalg  # noqa: F401  loaded first, so that its own BLAS is limited too
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def run_all(
    work: Work[Piece, Result], pieces: Sequence[Piece], section: ComputeSection | None = None,
    tell: Callable[[str], None] | None = None,
) -> Iterator[Result]:  # fmt: skip
    """Yield the result of every piece as it is finished; in this process and in order where one worker is enough.

    ``tell`` is given a sentence on the cluster that does it, and where it can be watched.
    Raises what the work raises, and RunError when workers die again and again.
    """
    count = worker_count(section, len(pieces))
    if section is None or count <= 1:
        for piece in pieces:
            yield work.run(piece)
        return
    packed = pickle.dumps(work)
    if section.engine == "dask":
        from thermocancer.compute.on_dask import run_on_cluster

        yield from run_on_cluster(packed, pieces, section, count, tell)
    else:
        yield from _run_beside(packed, pieces, count)


# --- how many ---------------------------------------------------------------------------------------------------------


def worker_count(section: ComputeSection | None, pieces: int) -> int:
    """How many workers so many pieces get: as asked for; ``auto`` as many as cores and free memory allow.

    1 means this process. In a worker always: its pieces are not shared out once more.
    """
    if section is None or _inside or pieces <= 1:
        return 1
    if section.workers != "auto":
        return int(section.workers)
    if section.address is not None or section.cluster is not None:
        return 2  # another machine's: what its scheduler has decides
    from joblib.externals.loky import cpu_count

    free = free_memory_bytes()
    cores = int(cpu_count())
    fitting = cores if free is None else int(free / (section.memory_gb * 1e9))
    return max(1, min(cores, fitting))


def free_memory_bytes() -> int | None:
    """Memory that may be taken here, by the system and by the container's limit; None where neither tells."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup")
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(limit - used)
    return max(0, min(found)) if found else None


# --- processes of this machine ----------------------------------------------------------------------------------------


def _run_beside(packed: bytes, pieces: Sequence[Piece], count: int) -> Iterator[Result]:
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky import get_reusable_executor

    parent, left, deaths = os.getpid(), list(range(len(pieces))), 0
    while left:
        executor = get_reusable_executor(
            max_workers=count, timeout=IDLE_S, initializer=start_worker, initargs=(parent,), env=ONE_THREAD
        )
        waiting: dict[Future[Result], int] = {}
        try:
            for number in left:
                waiting[executor.submit(run_piece, packed, pieces[number])] = number
            while waiting:
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    result = done.result()
                    left.remove(waiting.pop(done))
                    yield result
        except BrokenProcessPool as error:
            deaths += 1
            if deaths >= MOST_DEATHS:
                raise died(error) from error
        except BaseException:
            for each in waiting:
                each.cancel()
            executor.shutdown(wait=True, kill_workers=True)
            raise


def died(error: object) -> RunError:
    """Workers died again and again."""
    return RunError(
        "worker processes died again and again",
        expected="enough memory for all of them",
        found=str(error).splitlines()[0] if str(error) else type(error).__name__,
        hint="lower compute.workers; pieces that were finished are kept",
    )


# --- inside a worker --------------------------------------------------------------------------------------------------

_inside: list[int] = []
"""Not empty in a worker."""

_works: dict[str, Work[object, object]] = {}
"""The work of this worker: unpickled once, so that what it remembers (a compiled model) serves all its pieces."""


def start_worker(parent: int) -> None:
    """Ctrl-C is the parent's to judge; and a killed parent tells nobody: its workers would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def run_piece(packed: bytes, piece: Piece) -> object:
    """Do one piece of the work that was pickled to ``packed``."""
    if not _inside:
        _inside.append(1)
        for name, count in ONE_THREAD.items():
            os.environ.setdefault(name, count)
    key = hashlib.sha256(packed).hexdigest()
    if key not in _works:
        _works.clear()
        _works[key] = pickle.loads(packed)
    return _works[key].run(piece)
