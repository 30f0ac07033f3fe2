"""One command on several machines: they share a workspace and share out its pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from thermocancer.errors import LockedError
from thermocancer.workspace import Workspace

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
