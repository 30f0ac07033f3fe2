"""The second half of a fetch: bring the files, each recorded as it gets its name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from thermocancer.data.catalog import Record
from thermocancer.dmr.download import Downloader, Received, Transfer, Verify, Wish
from thermocancer.dmr.mirror import Mirror
from thermocancer.dmr.mirroring import Step, record_for
from thermocancer.dmr.session import Site
from thermocancer.dmr.transport import RequestCapReached
from thermocancer.errors import DataError, RemoteError
from thermocancer.progress import Progress

SILENT_FILES = 5
"""So many files in a row without an answer mean the site, not the files."""


@dataclass
class Brought:
    """What came of the steps: file names by outcome, records of what could not be had, steps not taken."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    adopted: int = 0
    vanished: int = 0
    problems: list[Record] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)


class Carrier:
    """Carries out steps, one after the other or on a few connections, and keeps the mirror's records true."""

    def __init__(self, site: Site, mirror: Mirror, verify: Verify) -> None:
        self._site, self._mirror, self._verify = site, mirror, verify
        self._downloader = Downloader(site, verify, self._announce)
        self._coming: dict[Path, Step] = {}
        self._silent = 0
        self.brought = Brought()

    def carry(self, steps: list[Step], progress: Progress) -> None:
        """Bring every file. Raises RemoteError when the site falls silent; ends quietly at the request cap.

        ``brought`` and the mirror are right even when this raises.
        """
        if not steps:
            return
        done: set[str] = set()
        with progress.task("fetching files", len(steps), "files") as task:
            try:
                for step, transfer in self._transfers(steps):
                    self._record(step, transfer)
                    done.add(step.offer.key)
                    task.advance()
                    task.say(f"{self._site.meter.bytes / 1e6:.1f} MB")
            except RequestCapReached:
                self.brought.left = [step for step in steps if step.offer.key not in done]

    def _transfers(self, steps: list[Step]) -> Iterator[tuple[Step, Transfer]]:
        connections = self._site.manners.connections
        if connections == 1:
            for step in steps:
                yield step, self._bring(step)
            return
        pool = ThreadPoolExecutor(connections)
        waiting = iter(steps)
        try:
            running: dict[Future[Transfer], Step] = {}
            while True:
                for step in islice(waiting, 2 * connections - len(running)):
                    running[pool.submit(self._bring, step)] = step
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _bring(self, step: Step) -> Transfer:
        target = self._mirror.workspace.raw / step.path
        own = self._adopt(step, target)
        if own is not None:
            return Transfer("adopted", received=own)
        here = step.old is not None and self._mirror.holds(step.old)
        self._coming[target] = step
        known = step.old.sha256 if step.old is not None and here else ""
        return self._downloader.fetch(Wish(step.offer.url, target, step.validators, known))

    def _adopt(self, step: Step, target: Path) -> Received | None:
        """A whole file under its final name that no catalog knows (a lost one) is not fetched again."""
        if step.old is not None or step.damaged or not target.is_file():
            return None
        content = target.read_bytes()
        try:
            layout = self._verify(content, target.name)
        except DataError:
            return None
        return Received(hashlib.sha256(content).hexdigest(), len(content), layout)

    def _announce(self, wish: Wish, received: Received) -> None:
        """Called when a body is verified and about to get its name: keep the old one, write the journal."""
        step = self._coming[wish.target]
        aside: list[str] = list(step.old.extra.get("replaced", ())) if step.old is not None else []
        if step.old is not None and self._mirror.holds(step.old):
            aside.append(self._mirror.keep_aside(step.old))
        more: dict[str, Any] = {"replaced": sorted(set(aside))} if aside else {}
        self._mirror.announce(_file_record(step, received, **more), durably=bool(aside))

    def _record(self, step: Step, transfer: Transfer) -> None:
        brought, old = self.brought, step.old
        here = old is not None and self._mirror.holds(old)
        self._count_silence(transfer)
        if transfer.kind == "new":
            # asked before the put: afterwards the record is that of the new file
            changed = old is not None and old.path != ""
            self._mirror.put_announced(step.offer.key)
            (brought.changed if changed else brought.new).append(step.offer.key)
        elif transfer.kind == "adopted" and transfer.received is not None:
            self._mirror.put(_file_record(step, transfer.received))
            brought.adopted += 1
        elif transfer.kind == "unchanged" and old is not None:
            self._mirror.put(_still_good(old, step, transfer))
            brought.unchanged += 1
        elif transfer.kind == "missing" and old is not None and here:
            self._mirror.put(replace(old, status="vanished", reason=transfer.reason))
            brought.vanished += 1
        else:
            self._record_problem(step, transfer, here)

    def _record_problem(self, step: Step, transfer: Transfer, here: bool) -> None:
        status = "missing" if transfer.kind == "missing" else "failed"
        more = {"again": True} if transfer.kind == "unreachable" else {}
        record = record_for(step.offer, status, step.page, reason=transfer.reason, **more)
        self.brought.problems.append(record)
        if not here:  # a whole file that is here stays what it is, whatever became of asking for it
            self._mirror.put(record)

    def _count_silence(self, transfer: Transfer) -> None:
        self._silent = self._silent + 1 if transfer.kind == "unreachable" else 0
        if self._silent == SILENT_FILES:
            raise RemoteError(
                f"{SILENT_FILES} files in a row could not be fetched",
                where=self._site.address.base,
                found=transfer.reason,
                hint="what was fetched is kept; the same command goes on where this one stopped",
            )


def _file_record(step: Step, received: Received, **more: Any) -> Record:
    blank = record_for(step.offer, "ok", step.page, **received.validators, **more)
    return replace(blank, path=step.path, sha256=received.sha256, bytes=received.bytes, layout=received.layout)


def _still_good(old: Record, step: Step, transfer: Transfer) -> Record:
    """The file is the same; the page and the validators may be newer."""
    newer = transfer.received.validators if transfer.received is not None else {}
    return replace(old, status="ok", reason="", extra={**old.extra, "page": step.page, **newer})
