"""Every request goes through here: paced, counted, kept on the site, tried again when that can help."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
import ssl
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.__version__ import __version__ as requests_version
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InsecureRequestWarning, InvalidHeader, MaxRetryError, ProtocolError, ResponseError
from urllib3.exceptions import SSLError as TransportSSLError
from urllib3.util.retry import Retry

from thermocancer import __version__
from thermocancer.config.sources import FetchSection
from thermocancer.dmr.address import SiteAddress
from thermocancer.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from types import TracebackType

    from urllib3.connectionpool import ConnectionPool
    from urllib3.response import BaseHTTPResponse, HTTPResponse

USER_AGENT = f"thermocancer/{__version__} (polite mirror for research; python-requests/{requests_version})"
LONGEST_RETRY_AFTER_S = 600.0
"""A site that asks for more is obeyed by stopping: a cron job comes back by itself."""

TRY_AGAIN_ON = (429, 500, 502, 503, 504)
MOST_REDIRECTS = 5
VALIDATORS = {"etag": ("ETag", "If-None-Match"), "last_modified": ("Last-Modified", "If-Modified-Since")}
"""By the catalog's names: the header a server may give with a file, and the one that asks 'has it changed?' by it."""


MOST_PAGE_BYTES = 8 * 2**20
MOST_PAGE_TAGS = 100_000
"""Pages with a few hundred links are known; these are limits of memory and of time, a hundred times above them."""

LONGEST_ANSWER = 20
"""An answer may take so many times ``fetch.timeout_s`` in all (ten minutes), however steadily its bytes drip."""

CHUNK_BYTES = 2**16


class RequestCapReached(Exception):
    """The run has used up the requests it was allowed; not a failure."""


class RequestRefused(Exception):
    """A request that this client does not send: off the site, or a password without protection."""


class AnswerRefused(RequestRefused):
    """An answer that this client does not sit through: too long, too slow, or packed in a way it did not ask for."""


class Meter:
    """Counts requests and body bytes, and the seconds spent waiting and pausing; safe in threads."""

    def __init__(self, max_requests: int | None = None) -> None:
        self.requests = 0
        self.bytes = 0
        self.waited_s = 0.0
        self.paused_s = 0.0
        self._most = max_requests
        self._lock = threading.Lock()

    def left(self) -> float:
        """How many requests may still be made."""
        return float("inf") if self._most is None else self._most - self.requests

    def count_request(self) -> None:
        """Raises RequestCapReached instead of counting beyond the cap."""
        with self._lock:
            if self._most is not None and self.requests >= self._most:
                raise RequestCapReached
            self.requests += 1

    def add(self, *, received: int = 0, waited_s: float = 0.0, paused_s: float = 0.0) -> None:
        with self._lock:
            self.bytes += received
            self.waited_s += waited_s
            self.paused_s += paused_s


class PoliteRetry(Retry):
    """urllib3's Retry that counts each try, does not insist on a bad certificate or a very long wait."""

    meter: Meter

    @classmethod
    def build(cls, settings: FetchSection, meter: Meter) -> PoliteRetry:
        retry = cls(
            total=settings.retries,
            redirect=0,
            allowed_methods=None,  # the only POST is the login, and sending it twice does no harm
            status_forcelist=TRY_AGAIN_ON,
            backoff_factor=settings.backoff_s,
            backoff_jitter=settings.backoff_s / 2,
            raise_on_status=False,
            raise_on_redirect=False,
        )
        retry.meter = meter
        return retry

    def new(self, **changes: object) -> PoliteRetry:
        fresh = super().new(**changes)
        fresh.meter = self.meter
        return fresh

    def increment(
        self, method: str | None = None, url: str | None = None, response: BaseHTTPResponse | None = None,
        error: Exception | None = None, _pool: ConnectionPool | None = None, _stacktrace: TracebackType | None = None,
    ) -> PoliteRetry:  # fmt: skip
        hopeless: Exception | None = error if isinstance(error, (TransportSSLError, ssl.SSLError)) else None
        if response is not None and (self.get_retry_after(response) or 0) > LONGEST_RETRY_AFTER_S:
            hopeless = ResponseError("the site asks for a long pause")
        if hopeless is not None and _pool is not None:
            raise MaxRetryError(_pool, url or "", hopeless) from error
        fresh = super().increment(method, url, response, error, _pool, _stacktrace)
        self.meter.count_request()
        return fresh

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        started = time.monotonic()
        super().sleep(response)
        paused = time.monotonic() - started
        # the adapter counts the whole call as waiting; this part was a pause
        self.meter.add(paused_s=paused, waited_s=-paused)


class PoliteAdapter(HTTPAdapter):
    """Sends one request, redirects included: on the site only, no secret in the clear, paced and counted.

    Raises ConfigError when it is made with a CA bundle that cannot be used.
    """

    def __init__(self, address: SiteAddress, settings: FetchSection, meter: Meter) -> None:
        self._address, self._settings, self._meter = address, settings, meter
        self._next, self._lock = 0.0, threading.Lock()
        if settings.insecure:
            # the user asked for it by name; one warning a request would drown everything else
            warnings.simplefilter("ignore", InsecureRequestWarning)
        elif settings.ca_bundle is not None:
            try:
                ssl.create_default_context(cafile=settings.ca_bundle)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    "the CA bundle cannot be used",
                    where=f"fetch.ca_bundle: {settings.ca_bundle}",
                    expected="a readable file of PEM certificates",
                    found=error.strerror or error,
                ) from error
        super().__init__(
            pool_connections=2,
            pool_maxsize=settings.connections,
            pool_block=True,
            max_retries=PoliteRetry.build(settings, meter),
        )
        self.poolmanager.pool_classes_by_scheme = {"http": _PatientPool, "https": _PatientSecurePool}

    def send(
        self, request: requests.PreparedRequest, stream: bool = False,
        timeout: float | tuple[float | None, float | None] | None = None, verify: bool | str = True,
        cert: str | tuple[str, str] | None = None, proxies: dict[str, str] | None = None,
    ) -> requests.Response:  # fmt: skip
        url = request.url or ""
        if not self._address.holds(url):
            raise RequestRefused(f"redirected off the site, to {urlsplit(url).scheme}://{urlsplit(url).hostname}")
        if request.method == "POST":
            check_password_is_safe(url, self._settings)
        self._keep_distance()
        self._meter.count_request()
        if self._settings.insecure or self._settings.ca_bundle is not None:
            # else REQUESTS_CA_BUNDLE would overrule what the user asked for
            verify = False if self._settings.insecure else str(self._settings.ca_bundle)
        timeout = self._settings.timeout_s if timeout is None else timeout
        started = time.monotonic()
        try:
            response = super().send(request, True, timeout, verify, cert, proxies)
            if not stream or response.is_redirect:  # else requests would read it, to any length
                response._content = read_body(response, MOST_PAGE_BYTES, LONGEST_ANSWER * self._settings.timeout_s)
                if response._content.count(b"<") > MOST_PAGE_TAGS:
                    raise AnswerRefused(f"the page has more than {MOST_PAGE_TAGS} tags")
            return response
        finally:
            self._meter.add(waited_s=time.monotonic() - started)

    def _keep_distance(self) -> None:
        """Keep requests ``interval_s`` apart, a little irregularly, whichever thread asks."""
        interval_s = self._settings.interval_s
        if interval_s <= 0:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            # never less than the interval: jitter only ever adds to it
            self._next = start + interval_s * random.uniform(1.0, 1.2)
        if start > now:
            time.sleep(start - now)
            self._meter.add(paused_s=start - now)


# --- answers that would not end --------------------------------------------------------------------------------------


class _PatientConnection(HTTPConnection):
    """Does not wait for ever for headers that come byte by byte."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        return _begun_in_time(self, super().getresponse)


class _PatientSecureConnection(HTTPSConnection):
    """The same over TLS."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own
        return _begun_in_time(self, super().getresponse)


class _PatientPool(HTTPConnectionPool):
    ConnectionCls = _PatientConnection


class _PatientSecurePool(HTTPSConnectionPool):
    ConnectionCls = _PatientSecureConnection


def _begun_in_time(connection: HTTPConnection, get_response: Callable[[], HTTPResponse]) -> HTTPResponse:
    """The answer without its body, which is not read to its end either when the request is tried again."""
    longest_s = LONGEST_ANSWER * (connection.timeout or 0.0)
    with _hung_up_after(longest_s, lambda: connection.sock.shutdown(socket.SHUT_RDWR)):
        response = get_response()

    def let_go() -> None:
        response.close()
        response.release_conn()

    response.drain_conn = let_go  # type: ignore[method-assign]
    return response


@contextlib.contextmanager
def _hung_up_after(longest_s: float, hang_up: Callable[[], None]) -> Iterator[threading.Event]:
    """Call ``hang_up`` when the block takes longer, and raise AnswerRefused then; yields whether that has happened.

    A timeout of the socket does not help: every byte that drips in begins it anew.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
            hang_up()

    watch = threading.Timer(longest_s, end)
    watch.daemon = True
    watch.start()
    try:
        yield is_over
    finally:
        watch.cancel()
        if is_over.is_set():
            raise AnswerRefused(f"the answer took longer than {longest_s:g} s")


def read_body(response: requests.Response, most_bytes: int, longest_s: float) -> bytes:
    """The whole body of a streamed answer, unpacked; its connection is given back.

    ``most_bytes`` counts before and after unpacking. Raises AnswerRefused beyond the limits, urllib3's
    HTTPError when the connection breaks off.
    """
    packing = response.headers.get("Content-Encoding", "").strip().lower()
    content, received = bytearray(), 0
    # closed at the end: a connection whose answer was read whole stays open for the next request all the same
    with contextlib.closing(response), _hung_up_after(longest_s, response.raw.shutdown) as is_over:
        if packing not in ("", "identity", "gzip", "x-gzip"):
            raise AnswerRefused(f"the answer is packed as {packing[:40]!r}, which was not asked for")
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS) if "gzip" in packing else None
        while not is_over.is_set() and (chunk := response.raw.read1(CHUNK_BYTES, decode_content=False)):
            received += len(chunk)
            try:
                # one byte above the limit is enough to know; a few kilobytes may unpack to gigabytes
                content += chunk if unpacker is None else unpacker.decompress(chunk, most_bytes + 1 - len(content))
            except zlib.error:
                raise AnswerRefused(f"the answer is not packed as it says ({packing})") from None
            if max(received, len(content)) > most_bytes:
                raise AnswerRefused(f"longer than {most_bytes // 2**20} MiB")
        if unpacker is not None and received and not unpacker.eof:
            raise ProtocolError("the packed body ends too early")
        if unpacker is not None and unpacker.unused_data:
            raise AnswerRefused("the answer goes on after its packed body")
    return bytes(content)


# --- where a password may go -----------------------------------------------------------------------------------------


def check_password_is_safe(url: str, settings: FetchSection) -> None:
    """Raise ConfigError when a password sent to ``url`` could be read or stolen on the way.

    ``--insecure`` (or an http address) alone is not consent: the password has its own confirmation.
    The loopback interface is safe by itself.
    """
    if settings.insecure_password:
        return
    parts = urlsplit(url)
    if parts.scheme == "https" and not settings.insecure:
        return
    if parts.scheme == "http" and is_loopback(parts.hostname):
        return
    why = "an unencrypted connection" if parts.scheme == "http" else "a connection that is not verified"
    raise ConfigError(
        f"refusing to send the password over {why}",
        where="fetch.url" if parts.scheme == "http" else "fetch.insecure",
        expected="https with a certificate that can be verified (--ca-bundle FILE helps with an incomplete chain)",
        found=f"{parts.scheme}://{parts.hostname}",
        hint="if you accept that others may read the password, add --insecure-password",
    )


def is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:  # a name, even one that begins like a loopback address
        return False


def prepare_session(address: SiteAddress, settings: FetchSection, meter: Meter) -> requests.Session:
    """A requests session whose every request obeys ``settings``. Raises ConfigError for a bad CA bundle."""
    session = requests.Session()
    adapter = PoliteAdapter(address, settings, meter)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["User-Agent"] = USER_AGENT
    session.headers["Accept-Language"] = "en"
    session.headers["Accept-Encoding"] = "gzip"
    session.max_redirects = MOST_REDIRECTS
    # authentication that adds nothing: without one, requests would send what ~/.netrc holds
    session.auth = lambda request: request
    session.trust_env = not is_loopback(urlsplit(address.base).hostname)
    return session


def explain(error: BaseException, timeout_s: float) -> str:
    """One short line for a failed transfer, without addresses and object reprs."""
    text = f"{error!r} {error.__cause__!r}"
    if isinstance(error, RequestRefused):
        return str(error)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return "redirects in a circle"
    if isinstance(error, requests.exceptions.SSLError):
        return "the certificate cannot be verified"
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in text.lower():
        return f"no answer within {timeout_s:g} s"
    if "IncompleteRead" in text or isinstance(error, (requests.exceptions.ChunkedEncodingError, ProtocolError)):
        return "the connection was cut in the middle of the file"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection to the site"
    if isinstance(error, ValueError):  # what requests raises for any address it cannot use
        return "redirected to something that is no address"
    return type(error).__name__


def check_long_pause(response: requests.Response) -> None:
    """Raise RemoteError when an overloaded site asks for a longer pause than a run should sit out."""
    seconds = 0.0
    if response.status_code in TRY_AGAIN_ON and "Retry-After" in response.headers:
        with contextlib.suppress(InvalidHeader):
            seconds = Retry().parse_retry_after(response.headers["Retry-After"])
    if seconds > LONGEST_RETRY_AFTER_S:
        raise RemoteError(
            "the site asks for a long pause",
            where=urlsplit(response.url).hostname,
            found=f"Retry-After: {seconds:.0f} s",
            hint="run the same command again after that; it goes on where it stopped",
        )
