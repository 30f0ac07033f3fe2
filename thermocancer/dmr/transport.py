"""Every request goes through here: paced, counted, kept on the site, tried again when that can help."""

from __future__ import annotations

import ipaddress
import random
import ssl
import threading
import time
import warnings
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InsecureRequestWarning, InvalidHeader, MaxRetryError, ResponseError
from urllib3.exceptions import SSLError as TransportSSLError
from urllib3.util.retry import Retry

from thermocancer import __version__
from thermocancer.dmr.address import SiteAddress
from thermocancer.errors import ConfigError, RemoteError

USER_AGENT = f"thermocancer/{__version__} (polite mirror for research; python-requests/{requests.__version__})"
LONGEST_RETRY_AFTER_S = 600.0
"""A site that asks for more is obeyed by stopping: a cron job comes back by itself."""

TRY_AGAIN_ON = (429, 500, 502, 503, 504)
MOST_REDIRECTS = 5


@dataclass(frozen=True)
class Manners:
    """How politely to ask: seconds between requests, tries, limits (config section ``fetch``)."""

    interval_s: float = 1.0
    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 2.0
    max_requests: int | None = None
    connections: int = 1
    ca_bundle: str | None = None
    insecure: bool = False
    insecure_password: bool = False


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


class Pacer:
    """Keeps requests ``interval_s`` apart, a little irregularly, whichever thread asks."""

    def __init__(self, interval_s: float, meter: Meter) -> None:
        self._interval_s, self._meter = interval_s, meter
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        if self._interval_s <= 0:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            # never less than the interval: jitter only ever adds to it
            self._next = start + self._interval_s * random.uniform(1.0, 1.2)
        if start > now:
            time.sleep(start - now)
            self._meter.add(paused_s=start - now)


class PoliteRetry(Retry):
    """urllib3's Retry that counts each try, does not insist on a bad certificate or a very long wait."""

    meter: Meter

    @classmethod
    def build(cls, manners: Manners, meter: Meter) -> PoliteRetry:
        retry = cls(
            total=manners.retries,
            redirect=0,
            allowed_methods=None,  # the only POST is the login, and sending it twice does no harm
            status_forcelist=TRY_AGAIN_ON,
            backoff_factor=manners.backoff_s,
            backoff_jitter=manners.backoff_s / 2,
            raise_on_status=False,
            raise_on_redirect=False,
        )
        retry.meter = meter
        return retry

    def new(self, **changes: Any) -> PoliteRetry:
        fresh = super().new(**changes)
        fresh.meter = self.meter
        return fresh

    def increment(
        self, method: Any = None, url: Any = None, response: Any = None, error: Any = None,
        _pool: Any = None, _stacktrace: Any = None,
    ) -> PoliteRetry:  # fmt: skip
        if isinstance(error, (TransportSSLError, ssl.SSLError)):
            raise MaxRetryError(_pool, url, error) from error
        if response is not None and (self.get_retry_after(response) or 0) > LONGEST_RETRY_AFTER_S:
            raise MaxRetryError(_pool, url, ResponseError("the site asks for a long pause"))
        fresh = super().increment(method, url, response, error, _pool, _stacktrace)
        self.meter.count_request()
        return fresh

    def sleep(self, response: Any = None) -> None:
        started = time.monotonic()
        super().sleep(response)
        paused = time.monotonic() - started
        # the adapter counts the whole call as waiting; this part was a pause
        self.meter.add(paused_s=paused, waited_s=-paused)


class PoliteAdapter(HTTPAdapter):
    """Sends one request, redirects included: on the site only, no secret in the clear, paced and counted."""

    def __init__(self, address: SiteAddress, manners: Manners, meter: Meter) -> None:
        self._address, self._manners, self._meter = address, manners, meter
        self._pacer = Pacer(manners.interval_s, meter)
        self._verify = _verification(manners)
        super().__init__(
            pool_connections=2,
            pool_maxsize=manners.connections,
            pool_block=True,
            max_retries=PoliteRetry.build(manners, meter),
        )

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        url = request.url or ""
        if not self._address.holds(url):
            raise RequestRefused(f"redirected off the site, to {urlsplit(url).scheme}://{urlsplit(url).hostname}")
        if request.method == "POST":
            check_password_is_safe(url, self._manners)
        self._pacer.wait()
        self._meter.count_request()
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self._manners.timeout_s
        if self._verify is not True:  # else REQUESTS_CA_BUNDLE would overrule what the user asked for
            kwargs["verify"] = self._verify
        started = time.monotonic()
        try:
            return super().send(request, *args, **kwargs)
        finally:
            self._meter.add(waited_s=time.monotonic() - started)


def check_password_is_safe(url: str, manners: Manners) -> None:
    """Raise ConfigError when a password sent to ``url`` could be read or stolen on the way.

    ``--insecure`` (or an http address) alone is not consent: the password has its own confirmation.
    The loopback interface is safe by itself.
    """
    if manners.insecure_password:
        return
    parts = urlsplit(url)
    if parts.scheme == "https" and not manners.insecure:
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


def prepare_session(address: SiteAddress, manners: Manners, meter: Meter) -> requests.Session:
    """A requests session whose every request obeys ``manners``. Raises ConfigError for a bad CA bundle."""
    session = requests.Session()
    adapter = PoliteAdapter(address, manners, meter)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["User-Agent"] = USER_AGENT
    session.headers["Accept-Language"] = "en"
    session.max_redirects = MOST_REDIRECTS
    session.auth = _no_netrc
    session.trust_env = not is_loopback(urlsplit(address.base).hostname)
    return session


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authentication that adds nothing: without one, requests would send what ~/.netrc holds."""
    return request


def _verification(manners: Manners) -> bool | str:
    if manners.insecure:
        # the user asked for it by name; one warning a request would drown everything else
        warnings.simplefilter("ignore", InsecureRequestWarning)
        return False
    if manners.ca_bundle is None:
        return True
    try:
        ssl.create_default_context(cafile=manners.ca_bundle)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "the CA bundle cannot be used",
            where=f"fetch.ca_bundle: {manners.ca_bundle}",
            expected="a readable file of PEM certificates",
            found=error.strerror or error,
        ) from error
    return manners.ca_bundle


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
    asked = response.headers.get("Retry-After")
    if response.status_code not in TRY_AGAIN_ON or asked is None:
        return
    try:
        seconds = Retry().parse_retry_after(asked)
    except InvalidHeader:
        return
    if seconds > LONGEST_RETRY_AFTER_S:
        raise RemoteError(
            "the site asks for a long pause",
            where=urlsplit(response.url).hostname,
            found=f"Retry-After: {seconds:.0f} s",
            hint="run the same command again after that; it goes on where it stopped",
        )
