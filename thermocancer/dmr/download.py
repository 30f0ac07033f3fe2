"""The second half of a fetch: each file from the wire into memory, verified, written aside, renamed and recorded."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

import requests
from bs4 import BeautifulSoup
from urllib3.exceptions import HTTPError

from thermocancer.data.catalog import Record
from thermocancer.dmr.mirror import Mirror
from thermocancer.dmr.pages import has_login_form
from thermocancer.dmr.plan import Step, record_for
from thermocancer.dmr.session import PARSER, Site
from thermocancer.dmr.transport import VALIDATORS, RequestCapReached, RequestRefused, check_long_pause, explain
from thermocancer.errors import DataError, RemoteError
from thermocancer.files import written_aside
from thermocancer.progress import Progress
from thermocancer.thermal.reading import parse_matrix

FETCH_AGAIN = 2
"""A corrupt body is asked for twice more; some are good the second time, a few never are."""

SILENT_FILES = 5
"""So many files in a row without an answer mean the site, not the files."""

MOST_BYTES = 64 * 2**20
CHUNK_BYTES = 2**18

Kind = Literal["new", "adopted", "unchanged", "missing", "corrupt", "denied", "refused", "unreachable"]


@dataclass(frozen=True)
class Transfer:
    """How one file ended, and for a body what a catalog keeps of it; only ``unreachable`` is worth trying again soon.

    ``layout`` is that of the text; ``validators`` (etag, last_modified) make a later request conditional.
    """

    kind: Kind
    reason: str = ""
    sha256: str = ""
    bytes: int = 0
    layout: str = ""
    validators: dict[str, str] = field(default_factory=dict)


class _Corrupt(Exception):
    """The body is not the matrix it should be, or came only in part.

    With a ``sha256`` it looks whole, but nothing says that it is: only the same body once more does.
    """

    def __init__(self, reason: str, sha256: str = "") -> None:
        super().__init__(reason)
        self.sha256 = sha256


class _LoggedOut(Exception):
    """A login form came instead of the file."""


@dataclass
class Brought:
    """What came of the steps: file names by outcome, records of what could not be had, steps not taken."""

    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    vanished: int = 0
    problems: list[Record] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)


class Carrier:
    """Carries out steps, one after the other or on a few connections, and keeps the mirror's records true."""

    def __init__(self, site: Site, mirror: Mirror) -> None:
        self._site, self._mirror = site, mirror
        self._silent = 0
        self.brought = Brought()

    # --- all files ----------------------------------------------------------------------------------------------------

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
        connections = self._site.settings.connections
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

    def _record(self, step: Step, transfer: Transfer) -> None:
        """Tell the mirror and the report how a file ended. Raises RemoteError when the site has fallen silent."""
        brought, old = self.brought, step.old
        self._silent = self._silent + 1 if transfer.kind == "unreachable" else 0
        if self._silent == SILENT_FILES:
            raise RemoteError(
                f"{SILENT_FILES} files in a row could not be fetched",
                where=self._site.address.base,
                found=transfer.reason,
                hint="what was fetched is kept; the same command goes on where this one stopped",
            )
        is_here = self._mirror.holds(old)
        if transfer.kind == "new":
            # asked before the put: afterwards the record is that of the new file
            changed = old is not None and old.path != ""
            self._mirror.put_announced(step.offer.key)
            (brought.changed if changed else brought.new).append(step.offer.key)
        elif transfer.kind == "adopted":
            self._mirror.put(_file_record(step, transfer))
            brought.unchanged += 1
        elif transfer.kind == "unchanged" and old is not None:
            # the file is the same; the page and the validators may be newer
            extra = {**old.extra, "page": step.page, **transfer.validators}
            self._mirror.put(replace(old, status="ok", reason="", extra=extra))
            brought.unchanged += 1
        elif transfer.kind == "missing" and old is not None and is_here:
            self._mirror.put(replace(old, status="vanished", reason=transfer.reason))
            brought.vanished += 1
        else:
            status = "missing" if transfer.kind == "missing" else "failed"
            more = {"again": True} if transfer.kind == "unreachable" else {}
            record = record_for(step.offer, status, step.page, reason=transfer.reason, more=more)
            brought.problems.append(record)
            if not is_here:  # a whole file that is here stays what it is, whatever became of asking for it
                self._mirror.put(record)

    # --- one file; called from several threads ------------------------------------------------------------------------

    def _bring(self, step: Step) -> Transfer:
        """Bring one file. What the network or the file does wrong is told in the Transfer.

        What ends the whole run is raised: RequestCapReached, ConfigError, RemoteError (a refused
        login), RunError (a full disk).
        """
        settings = self._site.settings
        adopted = self._adopt(step)
        if adopted is not None:
            return adopted
        transfer, seen_sha256 = Transfer("corrupt"), ""
        for number in range(1 + FETCH_AGAIN):
            if number:
                time.sleep(settings.backoff_s * number)
                self._site.meter.add(paused_s=settings.backoff_s * number)
            logins = self._site.logins
            try:
                try:
                    return self._try_once(step, seen_sha256)
                except _LoggedOut:
                    self._site.renew_login(logins)
                return self._try_once(step, seen_sha256)
            except _LoggedOut:
                raise RemoteError("the site asks for the login again right after one", where=step.offer.url) from None
            except _Corrupt as error:
                transfer = Transfer("corrupt", str(error))
                seen_sha256 = error.sha256 or seen_sha256
            except RequestRefused as error:
                return Transfer("refused", str(error))
            except requests.exceptions.TooManyRedirects as error:
                return Transfer("denied", explain(error, settings.timeout_s))
            except requests.RequestException as error:
                # the transport has tried this several times already
                return Transfer("unreachable", explain(error, settings.timeout_s))
        return transfer

    def _adopt(self, step: Step) -> Transfer | None:
        """A whole file under its final name that no catalog knows (a lost one) is not fetched again."""
        target = self._mirror.workspace.raw / step.offer.path
        if step.old is not None or step.damaged or not target.is_file():
            return None
        content = target.read_bytes()
        try:
            layout = self._verify(content, target.name)
        except DataError:
            return None
        return Transfer("adopted", "", hashlib.sha256(content).hexdigest(), len(content), layout)

    def _try_once(self, step: Step, seen_sha256: str) -> Transfer:
        """One request. Raises _Corrupt and _LoggedOut; ``seen_sha256`` is what an unconfirmed try brought."""
        old = step.old if self._mirror.holds(step.old) else None
        with contextlib.closing(self._site.open_file(step.offer.url, step.validators)) as response:
            status = response.status_code
            if status == 304:
                return Transfer("unchanged")
            if status in (404, 410):
                return Transfer("missing", f"the site answered {status}")
            if status != 200:
                check_long_pause(response)
                is_overload = status >= 500 or status == 429
                return Transfer("unreachable" if is_overload else "denied", f"the site answered {status}")
            content = self._body(response)
        digest = hashlib.sha256(content).hexdigest()
        headers = response.headers
        offered = {name: headers[given] for name, (given, _) in VALIDATORS.items() if given in headers}
        if old is not None and digest == old.sha256:
            return Transfer("unchanged", validators=offered)
        layout = self._judge(content, step.offer.path.rpartition("/")[2])
        # without a length, the end of the connection is the end, and a body that was cut off looks whole
        has_length = "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "")
        if not (has_length or content.endswith(b"\n") or digest == seen_sha256):
            raise _Corrupt("the file differs from one try to the next", digest)
        received = Transfer("new", "", digest, len(content), layout, offered)
        with written_aside(self._mirror.workspace.raw / step.offer.path) as side:
            side.write_bytes(content)
            # the old file is kept and the journal written before the new one gets its name
            aside = list(step.old.extra.get("replaced", ())) if step.old is not None else []
            aside += [self._mirror.keep_aside(old)] if old is not None else []
            self._mirror.announce(_file_record(step, received, aside), durably=bool(aside))
        return received

    def _body(self, response: requests.Response) -> bytes:
        """The whole body, the waiting measured. Raises _Corrupt when it breaks off or does not end."""
        content = bytearray()
        pieces = response.iter_content(CHUNK_BYTES)
        while True:
            started = time.monotonic()
            try:
                chunk = next(pieces, b"")
            except (requests.RequestException, HTTPError) as error:
                raise _Corrupt(explain(error, self._site.settings.timeout_s)) from None
            finally:
                self._site.meter.add(waited_s=time.monotonic() - started)
            if not chunk:
                return bytes(content)
            self._site.meter.add(received=len(chunk))
            content += chunk
            if len(content) > MOST_BYTES:
                raise _Corrupt(f"longer than {MOST_BYTES // 2**20} MiB")

    def _judge(self, content: bytes, name: str) -> str:
        """The layout of a whole matrix. Raises _Corrupt with the reason, or _LoggedOut."""
        if not content or content.isspace():
            raise _Corrupt("the file is empty")
        if content[:64].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            if has_login_form(BeautifulSoup(content, PARSER)):
                raise _LoggedOut
            raise _Corrupt("an HTML page came instead of a matrix")
        try:
            return self._verify(content, name)
        except DataError as error:
            told = {part: text for part, text in error.fields().items() if part in ("what", "expected", "found")}
            reason = ", ".join(text if part == "what" else f"{part} {text}" for part, text in told.items())
            raise _Corrupt(reason) from None

    def _verify(self, content: bytes, name: str) -> str:
        """The layout found; raises DataError for anything but a whole matrix of the expected shape."""
        matrix = parse_matrix(content, where=name)
        if matrix.shape != self._site.settings.shape:
            expected, found = ("x".join(map(str, shape)) for shape in (self._site.settings.shape, matrix.shape))
            raise DataError("the matrix has another shape", expected=expected, found=found)
        return matrix.layout


def _file_record(step: Step, received: Transfer, aside: list[str] | None = None) -> Record:
    """The catalog line of a file that is here; ``aside`` are the places of its former contents."""
    more = {**received.validators, **({"replaced": sorted(set(aside))} if aside else {})}
    return replace(
        record_for(step.offer, "ok", step.page, more=more),
        path=step.offer.path,
        sha256=received.sha256,
        bytes=received.bytes,
        layout=received.layout,
    )
