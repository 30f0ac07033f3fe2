"""The same work on many pieces: here, or in other processes; with one numeric thread in each."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from thermocancer.errors import LockedError, RunError
from thermocancer.workspace import Workspace


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


# --- one command on several machines: they share a workspace and share out its pieces ---

Piece = TypeVar("Piece")
LOOK_AGAIN_S = 2.0
"""How often a worker with nothing left to claim looks whether the others have finished, or died."""


def share_out(
    pieces: Sequence[Piece],
    claim: Callable[[Piece], AbstractContextManager[None]],
    is_done: Callable[[Piece], bool],
    *,
    wait_s: float | None = None,
) -> Iterator[Piece]:
    """Yield the pieces that fall to this worker, each while its claim is held; ends when all are done.

    ``claim`` raises LockedError when another worker holds the piece. A piece that was yielded is not
    yielded again, whether or not the work on it succeeded.
    """
    waiting = list(pieces)
    while waiting:
        held_by_others = []
        for piece in waiting:
            try:
                with claim(piece):
                    if not is_done(piece):
                        yield piece
            except LockedError:
                held_by_others.append(piece)
        waiting = [piece for piece in held_by_others if not is_done(piece)]
        if waiting:
            time.sleep(LOOK_AGAIN_S if wait_s is None else wait_s)


Claim = Callable[[str], AbstractContextManager[None]]
"""Holds the lock of a piece of work by its name; raises LockedError while another machine does."""


def claims(workspace: Workspace, work: str) -> Claim:
    """Claims on the pieces of one work: locks in the workspace, named after both."""
    return lambda piece: workspace.lock(f"{work}-{piece}")


def by_one(claim: Claim | None, piece: str, is_done: Callable[[], bool]) -> Iterator[None]:
    """Yield once to the machine that is to do ``piece``; not at all when another one has done it meanwhile.

    Without ``claim`` there is no other machine. It waits while another one is at it.
    """
    if claim is None:
        yield
        return
    for _ in share_out([piece], claim, lambda _: is_done()):
        yield
