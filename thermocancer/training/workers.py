"""The same work on many pieces: here, or in other processes; with one numeric thread in each."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from thermocancer.errors import RunError


class Work(Protocol):
    """What is to be done with each piece. Results do not depend on the process they come from."""

    def run(self, piece: Any) -> Any: ...


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS and OpenMP thread: many threads on busy cores wait for one another, and sums depend on their number."""
    import scipy.linalg  # noqa: F401  loaded first, so that its own BLAS is limited too
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def run_all(work: Work, pieces: Sequence[Any], processes: int) -> Iterator[Any]:
    """Yield the result of every piece as it is finished; with ``processes`` above 1 the work must pickle.

    Raises RunError when a process dies.
    """
    if processes <= 1 or len(pieces) <= 1:
        for piece in pieces:
            yield work.run(piece)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    # spawn, not fork: a forked TensorFlow hangs
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(processes, len(pieces)), spawn, _start_worker, (work,))
    with pool:
        try:
            for each in as_completed([pool.submit(_run_in_worker, piece) for piece in pieces]):
                yield each.result()
        except BrokenProcessPool as error:
            raise RunError(
                "a process that fitted a fold died",
                expected="enough memory for all of them",
                found=error,
                hint="lower fuse.processes; folds that were finished are kept",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_in_worker: list[Work] = []
"""The work of this worker process: unpickled once, so that what it remembers serves all its pieces."""


def _start_worker(work: Work) -> None:
    _in_worker.append(work)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent tells nobody: its workers would wait for ever."""
    import multiprocessing
    from multiprocessing.connection import wait

    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run_in_worker(piece: Any) -> Any:
    return _in_worker[0].run(piece)
