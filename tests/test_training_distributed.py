"""Sharing out work between machines: nothing twice, nothing lost, whoever dies."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path

from thermocancer.locks import stage_lock
from thermocancer.training.workers import share_out


def test_two_workers_do_each_piece_once(tmp_path: Path) -> None:
    done: dict[str, list[str]] = {}
    guard = threading.Lock()
    pieces = [f"piece{number}" for number in range(12)]

    def claim(piece: str) -> AbstractContextManager[None]:
        return stage_lock(tmp_path / f"{piece}.lock")

    def work(name: str) -> None:
        for piece in share_out(pieces, claim, lambda each: each in done, wait_s=0.01):
            with guard:
                done.setdefault(piece, []).append(name)

    workers = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert sorted(done) == sorted(pieces)
    assert all(len(names) == 1 for names in done.values())
    assert not list(tmp_path.glob("*.lock"))


def test_a_dead_workers_claim_is_taken_over(tmp_path: Path) -> None:
    import json
    import socket

    (tmp_path / "a.lock").write_text(json.dumps({"pid": 2**22 - 3, "host": socket.gethostname(), "since": 0}))
    mine = share_out(["a"], lambda each: stage_lock(tmp_path / f"{each}.lock"), lambda each: False, wait_s=0.01)
    assert list(mine) == ["a"]


def test_a_piece_that_fails_is_not_tried_for_ever(tmp_path: Path) -> None:
    tried = list(share_out(["a", "b"], lambda each: stage_lock(tmp_path / f"{each}.lock"), lambda each: False))
    assert tried == ["a", "b"]
