"""One file: from the wire to a side file, checked, then given its name."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import requests
from bs4 import BeautifulSoup
from urllib3.exceptions import HTTPError

from thermocancer.dmr.pages import has_login_form
from thermocancer.dmr.session import PARSER, Site
from thermocancer.dmr.transport import RequestRefused, check_long_pause, explain
from thermocancer.errors import DataError, RemoteError
from thermocancer.files import written_aside

FETCH_AGAIN = 2
"""A corrupt body is asked for twice more; some are good the second time, a few never are."""

MOST_BYTES = 64 * 2**20
CHUNK_BYTES = 2**18

Verify = Callable[[bytes, str], str]
"""(body, file name) -> the text layout found; raises DataError when it is no whole matrix."""


@dataclass(frozen=True)
class Received:
    """A body that passed its check: what a catalog keeps of it."""

    sha256: str
    bytes: int
    layout: str
    validators: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """A file to fetch. With ``validators`` (etag, last_modified) the request is conditional.

    A body whose hash is ``known_sha256`` counts as unchanged and is not written. ``seen_sha256``
    is what an earlier try brought.
    """

    url: str
    target: Path
    validators: Mapping[str, str] = field(default_factory=dict)
    known_sha256: str = ""
    seen_sha256: str = ""


@dataclass(frozen=True)
class Transfer:
    """How one file ended: new, unchanged, missing, corrupt, denied, refused or unreachable.

    Only ``unreachable`` is worth trying again soon.
    """

    kind: str
    reason: str = ""
    received: Received | None = None


class _Corrupt(Exception):
    """The body is not the matrix it should be, or came only in part."""


class _LoggedOut(Exception):
    """A login form came instead of the file."""


class _Unconfirmed(_Corrupt):
    """The body looks whole, but nothing says that it is: only the same body once more does."""

    def __init__(self, sha256: str) -> None:
        super().__init__("the file differs from one try to the next")
        self.sha256 = sha256


class _Same(Exception):
    """The body is the one that is already here."""


@dataclass(frozen=True)
class Downloader:
    """Fetches files of one site; safe to share between threads.

    ``before_rename`` is told of every wish that is about to get its final name, and of what was received.
    """

    site: Site
    verify: Verify
    before_rename: Callable[[Wish, Received], None]

    def fetch(self, wish: Wish) -> Transfer:
        """Bring one file. What the network or the file does wrong is told in the Transfer.

        What ends the whole run is raised: RequestCapReached, ConfigError, RemoteError (a refused
        login), RunError (a full disk).
        """
        transfer = Transfer("corrupt")
        for number in range(1 + FETCH_AGAIN):
            if number:
                self._pause(number)
            try:
                return self._with_login(wish)
            except _Corrupt as error:
                transfer = Transfer("corrupt", str(error))
                if isinstance(error, _Unconfirmed):
                    wish = replace(wish, seen_sha256=error.sha256)
            except RequestRefused as error:
                return Transfer("refused", str(error))
            except requests.exceptions.TooManyRedirects as error:
                return Transfer("denied", explain(error, self.site.manners.timeout_s))
            except requests.RequestException as error:
                # the transport has tried this several times already
                return Transfer("unreachable", explain(error, self.site.manners.timeout_s))
        return transfer

    def _pause(self, number: int) -> None:
        seconds = self.site.manners.backoff_s * number
        time.sleep(seconds)
        self.site.meter.add(paused_s=seconds)

    def _with_login(self, wish: Wish) -> Transfer:
        logins = self.site.logins
        try:
            return self._try_once(wish)
        except _LoggedOut:
            self.site.renew_login(logins)
        try:
            return self._try_once(wish)
        except _LoggedOut:
            raise RemoteError("the site asks for the login again right after one", where=wish.url) from None

    def _try_once(self, wish: Wish) -> Transfer:
        with contextlib.closing(self.site.open_file(wish.url, wish.validators)) as response:
            ended = _by_status(response)
            if ended is not None:
                return ended
            try:
                with _no_empty_folder(wish.target.parent), written_aside(wish.target) as side:
                    received = self._receive(wish, response, side)
                    self.before_rename(wish, received)
            except _Same:
                return Transfer("unchanged", received=received_before(wish, response))
        return Transfer("new", received=received)

    def _receive(self, wish: Wish, response: requests.Response, side: Path) -> Received:
        """Write the body to the side file and judge it. Raises _Corrupt, _LoggedOut or _Same."""
        chunks: list[bytes] = []
        size = 0
        with open(side, "wb") as handle:
            for chunk in self._chunks(response):
                handle.write(chunk)
                chunks.append(chunk)
                size += len(chunk)
                if size > MOST_BYTES:
                    raise _Corrupt(f"longer than {MOST_BYTES // 2**20} MiB")
        content = b"".join(chunks)
        digest = hashlib.sha256(content).hexdigest()
        if digest == wish.known_sha256:
            raise _Same
        layout = _judge(content, wish.target.name, self.verify)
        if not (_has_known_length(response) or content.endswith(b"\n") or digest == wish.seen_sha256):
            raise _Unconfirmed(digest)
        return Received(digest, len(content), layout, validators_of(response))

    def _chunks(self, response: requests.Response) -> Iterator[bytes]:
        """The body in pieces, the waiting measured. Raises _Corrupt when it breaks off."""
        pieces = response.iter_content(CHUNK_BYTES)
        while True:
            started = time.monotonic()
            try:
                chunk = next(pieces, b"")
            except (requests.RequestException, HTTPError) as error:
                # no OSError from here on: a broken transfer must not look like a full disk
                raise _Corrupt(explain(error, self.site.manners.timeout_s)) from None
            finally:
                self.site.meter.add(waited_s=time.monotonic() - started)
            if not chunk:
                return
            self.site.meter.add(received=len(chunk))
            yield chunk


def _by_status(response: requests.Response) -> Transfer | None:
    """What a status other than 200 means; None for 200."""
    status = response.status_code
    if status == 200:
        return None
    if status == 304:
        return Transfer("unchanged")
    if status in (404, 410):
        return Transfer("missing", f"the site answered {status}")
    check_long_pause(response)
    is_overload = status >= 500 or status == 429
    return Transfer("unreachable" if is_overload else "denied", f"the site answered {status}")


def _has_known_length(response: requests.Response) -> bool:
    """Would a body that was cut off have been noticed? Without a length, the end of the connection is the end."""
    return "Content-Length" in response.headers or "chunked" in response.headers.get("Transfer-Encoding", "")


def _judge(content: bytes, name: str, verify: Verify) -> str:
    """The layout of a whole matrix. Raises _Corrupt with the reason, or _LoggedOut."""
    if not content or content.isspace():
        raise _Corrupt("the file is empty")
    if content[:64].lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        if has_login_form(BeautifulSoup(content, PARSER)):
            raise _LoggedOut
        raise _Corrupt("an HTML page came instead of a matrix")
    try:
        return verify(content, name)
    except DataError as error:
        details = (error.what, f"expected {error.expected}", f"found {error.found}")
        wanted = (True, error.expected is not None, error.found is not None)
        raise _Corrupt(", ".join(text for text, is_known in zip(details, wanted, strict=True) if is_known)) from None


def validators_of(response: requests.Response) -> dict[str, str]:
    """What the server offers for asking 'has it changed?' later."""
    names = {"etag": "ETag", "last_modified": "Last-Modified"}
    return {key: response.headers[header] for key, header in names.items() if header in response.headers}


def received_before(wish: Wish, response: requests.Response) -> Received:
    """An unchanged body: the hash is the old one, the validators may be newer."""
    return Received(wish.known_sha256, 0, "", validators_of(response))


@contextlib.contextmanager
def _no_empty_folder(folder: Path) -> Iterator[None]:
    """A body that is refused leaves no empty folder behind."""
    was_there = folder.is_dir()
    try:
        yield
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
