"""The second half of a fetch: each file from the wire into memory, verified, written aside, renamed and recorded."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal
from urllib.parse import urljoin

import requests
from bs4 import BeautifulSoup
from urllib3.exceptions import HTTPError

from thermocancer.data.catalog import Record
from thermocancer.dmr.mirror import Mirror
from thermocancer.dmr.pages import has_login_form
from thermocancer.dmr.plan import SETTLED, Step, record_for
from thermocancer.dmr.session import PARSER, Site
from thermocancer.dmr.transport import (
    LONGEST_ANSWER,
    MOST_PAGE_TAGS,
    VALIDATORS,
    RequestCapReached,
    RequestRefused,
    check_long_pause,
    explain,
    read_body,
)
from thermocancer.errors import DataError, RemoteError
from thermocancer.files import written_aside
from thermocancer.progress import Progress
from thermocancer.thermal.reading import parse_matrix

FETCH_AGAIN = 2
"""A corrupt body is asked for twice more; some are good the second time, a few never are."""

SILENT_FILES = 5
"""So many files in a row without a word about them mean the site, not the files."""

MOST_BYTES = 64 * 2**20

Kind = Literal["new", "adopted", "unchanged", "missing", "corrupt", "blocked", "unreachable"]
SAYS_NOTHING = ("blocked", "unreachable")


@dataclass(frozen=True)
class Transfer:
    """How one file ended, and for a body what a catalog keeps of it.

    ``missing`` (404, 410) and ``corrupt`` (whole, but no matrix) are about the file. ``unreachable`` (no answer,
    a broken one, an overload) and ``blocked`` (any other answer: forbidden, a part, a page, a redirect) are about
    the hour: they say nothing about the file. ``layout`` is that of the text; ``validators`` (etag,
    last_modified) make a later request conditional.
    """

    kind: Kind
    reason: str = ""
    sha256: str = ""
    bytes: int = 0
    layout: str = ""
    validators: dict[str, str] = field(default_factory=dict)

    @property
    def says_nothing(self) -> bool:
        return self.kind in SAYS_NOTHING


class _AskAgain(Exception):
    """An answer that may be better at the next try, and how the file ends if it is not.

    With a ``sha256`` the body looks whole, but nothing says that it is: only the same body once more does.
    """

    def __init__(self, kind: Kind, reason: str, sha256: str = "") -> None:
        super().__init__(reason)
        self.transfer = Transfer(kind, reason, sha256)


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
        self._ended: list[tuple[Step, Transfer]] = []
        self.brought = Brought()

    # --- all files ----------------------------------------------------------------------------------------------------

    def carry(self, steps: list[Step], progress: Progress) -> None:
        """Bring every file. Raises RemoteError when it is the site that fails; ends quietly at the request cap.

        ``brought`` and the mirror are right even when this raises.
        """
        if not steps:
            return
        in_a_row = 0
        with progress.task("fetching files", len(steps), "files") as task:
            try:
                for step, transfer in self._transfers(steps):
                    self._ended.append((step, transfer))
                    self._record(step, transfer)
                    task.advance()
                    task.say(f"{self._site.meter.bytes / 1e6:.1f} MB")
                    in_a_row = in_a_row + 1 if transfer.says_nothing else 0
                    if in_a_row == SILENT_FILES:
                        in_a_row = 0
                        last = [each.kind for _, each in self._ended[-SILENT_FILES:]]
                        if "blocked" not in last or not self._site_is_well(steps):
                            raise self._out_of_order(f"{SILENT_FILES} files in a row could not be fetched")
            except RequestCapReached:
                done = {step.offer.key for step, _ in self._ended}
                self.brought.left = [step for step in steps if step.offer.key not in done]
        self._conclude(steps)

    def _conclude(self, steps: list[Step]) -> None:
        """Settle what is about the files, unless it may be the site. Raises RemoteError when it is."""
        asked = [(step, each) for step, each in self._ended if each.kind != "adopted"]
        silent = [step for step, each in asked if each.says_nothing]
        facts = [(step, each) for step, each in asked if each.kind in ("missing", "corrupt")]
        bad = len(silent) + len(facts)
        most_are_silent = 2 * len(silent) > len(asked)
        if most_are_silent or (bad >= SILENT_FILES and 2 * bad > len(asked)):
            is_well = self._site_is_well(steps)
            # files that said nothing last time either may never do; where that is new for many, something is out
            is_news = len(silent) >= SILENT_FILES and any(
                step.old is None or step.old.status != "failed" for step in silent
            )
            if most_are_silent and (is_news or not is_well):
                raise self._out_of_order("most files could not be fetched")
            if not is_well:
                return
        for step, transfer in facts:
            here = self._mirror.whole(step.offer.key)
            if here is not None and transfer.kind == "missing":
                self._mirror.put(replace(here, status="vanished", reason=transfer.reason))
                self.brought.vanished += 1
            elif here is None:
                record = self._mirror.records[step.offer.key]
                self._mirror.put(replace(record, extra={**record.extra, SETTLED: True}))

    def _out_of_order(self, what: str) -> RemoteError:
        """What to raise when it is the site: says how many files met what."""
        met = Counter(each.reason for _, each in self._ended if each.says_nothing)
        told = ", ".join(f"{count} times {reason}" for reason, count in met.most_common())
        return RemoteError(
            what,
            where=self._site.address.base,
            found=f"of {len(self._ended)} files: {told}",
            hint="what was fetched is kept, and nothing of this is held against a file; "
            "the same command goes on where this one stopped",
        )

    def _site_is_well(self, steps: list[Step]) -> bool:
        """Does the site give whole matrices elsewhere: files that are here already, or the last of the list?"""
        here = (
            record for record in self._mirror.records.values() if record.status == "ok" and self._mirror.holds(record)
        )
        urls = [
            (urljoin(self._site.address.base, str(each.extra["href"])), each.name.file_name) for each in islice(here, 2)
        ]
        urls += [(steps[-1].offer.url, steps[-1].offer.key)]
        for url, name in urls:
            with contextlib.suppress(_AskAgain, RequestCapReached, RemoteError):
                if self._ask(url, name, {})[0].kind == "new":
                    return True
        return False

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
        """Tell the mirror and the report how a file ended. A file that is here stays what it is when asking failed."""
        brought, old = self.brought, step.old
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
        elif self._mirror.whole(step.offer.key) is None:
            status = "missing" if transfer.kind == "missing" else "failed"
            record = record_for(step.offer, status, step.page, reason=transfer.reason)
            brought.problems.append(record)
            self._mirror.put(record)
        elif transfer.kind != "missing":  # a missing one has vanished, if the site is well
            brought.problems.append(record_for(step.offer, "failed", step.page, reason=transfer.reason))

    # --- one file; called from several threads ------------------------------------------------------------------------

    def _bring(self, step: Step) -> Transfer:
        """Bring one file. What the network or the file does wrong is told in the Transfer.

        What ends the whole run is raised: RequestCapReached, ConfigError, RemoteError (a refused
        login), RunError (a full disk).
        """
        adopted = self._adopt(step)
        if adopted is not None:
            return adopted
        backoff_s = self._site.settings.backoff_s
        known = step.old.sha256 if step.old is not None and self._mirror.holds(step.old) else ""
        transfer, seen = Transfer("corrupt"), ""
        for number in range(1 + FETCH_AGAIN):
            if number:
                time.sleep(backoff_s * number)
                self._site.meter.add(paused_s=backoff_s * number)
            try:
                transfer, content = self._ask(step.offer.url, step.offer.key, step.validators, known, seen)
            except _AskAgain as again:
                transfer, seen = again.transfer, again.transfer.sha256 or seen
                continue
            if transfer.kind == "new":
                self._store(step, transfer, content)
            break
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

    def _store(self, step: Step, received: Transfer, content: bytes) -> None:
        with written_aside(self._mirror.workspace.raw / step.offer.path) as side:
            side.write_bytes(content)
            # the old file is kept and the journal written before the new one gets its name
            old = step.old
            aside = list(old.extra.get("replaced", ())) if old is not None else []
            aside += [self._mirror.keep_aside(old)] if old is not None and self._mirror.holds(old) else []
            self._mirror.announce(_file_record(step, received, aside), durably=bool(aside))

    def _ask(
        self, url: str, name: str, validators: Mapping[str, str], known: str = "", seen: str = "",
        *, logged_in_again: bool = False,
    ) -> tuple[Transfer, bytes]:  # fmt: skip
        """One request, and once more where the login form comes instead; ``new`` comes with its content.

        ``known`` is the hash of what is here, ``seen`` of what an unconfirmed try brought. Raises _AskAgain.
        """
        timeout_s, logins = self._site.settings.timeout_s, self._site.logins
        try:
            with contextlib.closing(self._site.open_file(url, validators)) as response:
                ended = _by_status(response, validators)
                content = self._body(response) if ended is None else b""
            return ended or self._judge(content, name, response.headers, known, seen), content
        except _LoggedOut:
            if logged_in_again:
                raise RemoteError("the site asks for the login again right after one", where=url) from None
        except (RequestRefused, requests.exceptions.TooManyRedirects) as error:
            return Transfer("blocked", explain(error, timeout_s)), b""
        except (requests.RequestException, HTTPError, ValueError) as error:
            # the transport has tried this several times already
            return Transfer("unreachable", explain(error, timeout_s)), b""
        self._site.renew_login(logins)
        return self._ask(url, name, validators, known, seen, logged_in_again=True)

    def _body(self, response: requests.Response) -> bytes:
        """The whole body, the waiting measured. Raises _AskAgain when it breaks off, AnswerRefused beyond limits."""
        started = time.monotonic()
        timeout_s = self._site.settings.timeout_s
        try:
            content = read_body(response, MOST_BYTES, LONGEST_ANSWER * timeout_s)
        except (requests.RequestException, HTTPError) as error:
            raise _AskAgain("unreachable", explain(error, timeout_s)) from None
        finally:
            self._site.meter.add(waited_s=time.monotonic() - started)
        self._site.meter.add(received=len(content))
        return content

    def _judge(self, content: bytes, name: str, headers: Mapping[str, str], known: str, seen: str) -> Transfer:
        """What a body is worth. Raises _AskAgain with the reason, or _LoggedOut."""
        digest = hashlib.sha256(content).hexdigest()
        offered = {name: headers[given] for name, (given, _) in VALIDATORS.items() if given in headers}
        if digest == known:
            return Transfer("unchanged", validators=offered)
        if not content or content.isspace():
            raise _AskAgain("corrupt", "the file is empty")
        if content[:64].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
            if content.count(b"<") <= MOST_PAGE_TAGS and has_login_form(BeautifulSoup(content, PARSER)):
                raise _LoggedOut
            raise _AskAgain("blocked", "an HTML page came instead of a matrix")
        try:
            layout = self._verify(content, name)
        except DataError as error:
            told = {part: text for part, text in error.fields().items() if part in ("what", "expected", "found")}
            reason = ", ".join(text if part == "what" else f"{part} {text}" for part, text in told.items())
            raise _AskAgain("corrupt", reason) from None
        # without a length, the end of the connection is the end, and a body that was cut off looks whole
        has_length = "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "")
        if not (has_length or content.endswith(b"\n") or digest == seen):
            raise _AskAgain("unreachable", "the file differs from one try to the next", digest)
        return Transfer("new", "", digest, len(content), layout, offered)

    def _verify(self, content: bytes, name: str) -> str:
        """The layout found; raises DataError for anything but a whole matrix of the expected shape."""
        matrix = parse_matrix(content, where=name)
        if matrix.shape != self._site.settings.shape:
            expected, found = ("x".join(map(str, shape)) for shape in (self._site.settings.shape, matrix.shape))
            raise DataError("the matrix has another shape", expected=expected, found=found)
        return matrix.layout


def _by_status(response: requests.Response, validators: Mapping[str, str]) -> Transfer | None:
    """What a status other than 200 means; None for 200."""
    status = response.status_code
    if status == 200:
        return None
    if status == 304 and validators:
        return Transfer("unchanged")
    reason = f"the site answered {status}"
    if status in (404, 410):
        return Transfer("missing", reason)
    check_long_pause(response)
    return Transfer("unreachable" if status >= 500 or status == 429 else "blocked", reason)


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
