"""Every request goes through here: paced, counted, kept on the site, tried again when that can help."""

from __future__ import annotations

import contextlib
import ipaddress
import random
import ssl
import threading
import time
import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.__version__ import __version__ as requests_version
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InsecureRequestWarning, InvalidHeader, MaxRetryError, ResponseError
from urllib3.exceptions import SSLError as TransportSSLError
from urllib3.util.retry import Retry

from thermocancer import __version__
from thermocancer.config.sources import FetchSection
from thermocancer.dmr.address import SiteAddress
from thermocancer.errors import ConfigError, RemoteError

if TYPE_CHECKING:
    from types import TracebackType

    from urllib3.connectionpool import ConnectionPool
    from urllib3.response import BaseHTTPResponse

USER_AGENT = f"thermocancer/{__version__} (polite mirror for research; python-requests/{requests_version})"
LONGEST_RETRY_AFTER_S = 600.0
"""A site that asks for more is obeyed by stopping: a cron job comes back by itself."""

TRY_AGAIN_ON = (429, 500, 502, 503, 504)
MOST_REDIRECTS = 5
VALIDATORS = {"etag": ("ETag", "If-None-Match"), "last_modified": ("Last-Modified", "If-Modified-Since")}
"""By the catalog's names: the header a server may give with a file, and the one that asks 'has it changed?' by it."""


class RequestCapReached(Exception):
    """The run has used up the requests it was allowed; not a failure."""


class RequestRefused(Exception):
    """A request that this client does not send: off the site, or a password without protection."""


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
            return super().send(request, stream, timeout, verify, cert, proxies)
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
    if "IncompleteRead" in text or isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut in the middle of the file"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection to the site"
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
