"""A replica of the DMR-IR site on the loopback interface, with every fault that a client must survive.

For the tests, and as a demonstration without an account (replica-user / replica-pass):

    python tests/dmr_replica.py --patients 12 --port 8425
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import dmr_replica_pages as pages
from dmr_replica_content import Content, cohort, fixtures

USER, PASSWORD = "replica-user", "replica-pass"
BASE = "/dmi/"
LAST_MODIFIED = "Wed, 13 Nov 2019 12:00:00 GMT"


@dataclass
class Faults:
    """Switches. Counts say how often a fault strikes before things go well."""

    login_failure: str = "alert"  # a warning box alone; login: the form at login.php; home: back to the start
    expire_after: int | None = None  # the session ends after so many pages, again and again
    expired: str = "form"  # form, login or index
    block_class: str = "patient_images"  # or imagenspaciente, both, "" (neither)
    heading: str = "Thermal matrices"
    rows_a_page: int | None = None
    next_tag: str = "a"
    portuguese: bool = False
    charset: bool = True
    notice: bool = False  # the stray PHP line that a client without Accept-Language gets
    validators: bool = False
    protected: bool = False
    unavailable: dict[str, int] = field(default_factory=dict)  # part of a path -> 503 so many times
    status: int = 503
    retry_after: str | None = None
    stall: dict[str, int] = field(default_factory=dict)
    stall_s: float = 2.0
    cut: dict[str, int] = field(default_factory=dict)
    cut_keeps_length: bool = True
    cut_at: float = 0.5
    loops: tuple[str, ...] = ()
    redirect_off_site: tuple[str, ...] = ()
    delay_s: float = 0.0
    raw: dict[str, Callable[[], Iterable[bytes]]] = field(
        default_factory=dict
    )  # part of a path -> put on the wire as is


@dataclass(frozen=True)
class Seen:
    """One request as the server saw it."""

    method: str
    path: str
    at: float
    headers: dict[str, str]


class Replica:
    """The running site. ``seen`` lists the requests; ``content`` and ``faults`` may be changed while it runs."""

    def __init__(
        self,
        content: Content,
        faults: Faults | None = None,
        *,
        tls: tuple[Path, Path] | None = None,
        port: int = 0,
    ) -> None:
        self.content, self.faults = content, faults or Faults()
        self.seen: list[Seen] = []
        self.sessions: dict[str, int] = {}
        self.served: dict[str, int] = {}
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"replica": self})
        self.server = _Server(("127.0.0.1", port), handler)
        self.scheme = "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            self.scheme = "https"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server.server_address[1]}{BASE}"

    @contextmanager
    def running(self) -> Iterator[Replica]:
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def forget(self) -> None:
        self.seen.clear()

    def requests(self, part: str = "") -> list[str]:
        """Paths asked for (with queries) that contain ``part``."""
        return [each.path for each in self.seen if part in each.path]

    def strikes(self, table: dict[str, int], path: str) -> bool:
        """Use up one strike of a fault, if one is left for this path."""
        with self.lock:
            for part, left in table.items():
                if part in path and left > 0:
                    table[part] = left - 1
                    return True
        return False

    def next_body(self, path: str) -> bytes | None:
        """The body of this request: the first bodies once each, the last for ever."""
        bodies = self.content.files.get(path)
        if bodies is None:
            return None
        with self.lock:
            count = self.served.get(path, 0)
            self.served[path] = count + 1
        return bodies[min(count, len(bodies) - 1)]()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed or has hung up is no error of the server's."""
        if not isinstance(sys.exception(), ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    replica: Replica
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: Any) -> None:
        return None

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        replica, faults = self.replica, self.replica.faults
        length = int(self.headers.get("Content-Length") or 0)
        self.form = {key: values[0] for key, values in parse_qs(self.rfile.read(length).decode()).items()}
        replica.seen.append(
            Seen(self.command, self.path, time.monotonic(), {k.lower(): v for k, v in self.headers.items()})
        )
        try:
            if faults.delay_s:
                time.sleep(faults.delay_s)
            if replica.strikes(faults.stall, self.path):
                time.sleep(faults.stall_s)
            if replica.strikes(faults.unavailable, self.path):
                wait = {"Retry-After": faults.retry_after} if faults.retry_after else {}
                self._send(faults.status, b"busy", "text/plain", **wait)
            elif any(part in self.path for part in faults.raw):
                self.close_connection = True
                for piece in next(pieces for part, pieces in faults.raw.items() if part in self.path)():
                    self.wfile.write(piece)
            elif any(part in self.path for part in faults.loops):
                self._redirect(self.path)
            elif any(part in self.path for part in faults.redirect_off_site):
                self._redirect("http://198.51.100.7/elsewhere.txt")
            else:
                self._route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        if path in (BASE, f"{BASE}index.php"):
            self._page(pages.login_page())
        elif path == f"{BASE}login.php":
            self._log_in()
        elif path.startswith(f"{BASE}prontuario/"):
            if not self._session_is_good():
                self._expired()
            elif path.endswith("/home.php"):
                self._page(pages.home_page())
            elif path.endswith("/index.php"):
                self._list(query)
            elif path.endswith("/details.php"):
                self._details(query)
            else:
                self._send(404, b"not found", "text/plain")
        elif self.replica.faults.protected and not self._session_is_good(count=False):
            self._expired()
        else:
            self._file(path.removeprefix(BASE))

    def _log_in(self) -> None:
        if self.form == {"usuario": USER, "password": PASSWORD}:
            token = secrets.token_hex(8)
            self.replica.sessions[token] = 0
            self._redirect(f"{BASE}prontuario/home.php", **{"Set-Cookie": f"PHPSESSID={token}; path=/"})
            return
        style = self.replica.faults.login_failure
        if style == "alert":
            self._page(pages.alert_page())
        elif style == "home":
            self._redirect(f"{BASE}index.php")
        else:
            self._page(pages.login_page())

    def _token(self) -> str:
        cookie = SimpleCookie(self.headers.get("Cookie", ""))
        return cookie["PHPSESSID"].value if "PHPSESSID" in cookie else ""

    def _session_is_good(self, *, count: bool = True) -> bool:
        sessions, limit = self.replica.sessions, self.replica.faults.expire_after
        token = self._token()
        if token not in sessions:
            return False
        if limit is not None and sessions[token] >= limit:
            del sessions[token]
            return False
        sessions[token] += count
        return True

    def _expired(self) -> None:
        style = self.replica.faults.expired
        if style == "form":
            self._page(pages.login_page())
        else:
            self._redirect(f"{BASE}login.php" if style == "login" else f"{BASE}index.php")

    def _list(self, query: dict[str, str]) -> None:
        faults = self.replica.faults
        number = int(query.get("pagina") or 1)
        diagnosis = query.get("diag", "")
        self._page(pages.list_page(self.replica.content, diagnosis, number, faults.rows_a_page, faults.next_tag))

    def _details(self, query: dict[str, str]) -> None:
        content = self.replica.content
        patient = content.patients.get(int(query.get("id") or 0))
        if patient is None:
            self._page(pages.page("<p>No record.</p>"))
            return
        html = pages.details_page(content, patient, self.replica.faults.block_class, self.replica.faults.heading)
        self._page(html, latin1=patient.latin1)

    def _page(self, html: str, *, latin1: bool = False) -> None:
        language = self.headers.get("Accept-Language")
        if language is None or self.replica.faults.notice:
            html = pages.NOTICE + html
        if self.replica.faults.portuguese or (language or "").startswith("pt"):
            html = pages.translated(html)
        charset = "; charset=ISO-8859-1" if latin1 else "; charset=utf-8"
        body = html.encode("latin-1", "replace") if latin1 else html.encode()
        self._send(200, body, "text/html" + (charset if self.replica.faults.charset else ""))

    def _file(self, path: str) -> None:
        replica, faults = self.replica, self.replica.faults
        body = replica.next_body(path)
        if body is None:
            self._send(404, b"<html><body>Not Found</body></html>", "text/html")
            return
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        more = {"ETag": etag, "Last-Modified": LAST_MODIFIED} if faults.validators else {}
        if faults.validators and self.headers.get("If-None-Match") == etag:
            self._send(304, b"", "text/plain", **more)
        elif replica.strikes(faults.cut, self.path):
            self._send_cut(body)
        else:
            self._send(200, body, "text/plain", **more)

    def _send_cut(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        if self.replica.faults.cut_keeps_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body[: int(len(body) * self.replica.faults.cut_at)])
        self.close_connection = True

    def _redirect(self, target: str, **headers: str) -> None:
        self._send(302, b"", "text/html", Location=target, **headers)

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=12, help="a plain cohort of so many patients")
    parser.add_argument("--fixtures", action="store_true", help="the hard cases instead of a cohort")
    parser.add_argument("--shape", default="48x64", help="rows x columns of a matrix (the real site: 480x640)")
    parser.add_argument("--static-only", action="store_true", help="no dynamic exams")
    parser.add_argument("--variety", type=int, default=0, help="so many different matrices only (for measuring)")
    parser.add_argument("--port", type=int, default=8425, help="0 chooses a free one")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    chosen = parser.parse_args()
    height, width = (int(part) for part in chosen.shape.split("x"))
    content = (
        fixtures((height, width))
        if chosen.fixtures
        else cohort(chosen.patients, (height, width), dynamic_exams=not chosen.static_only, variety=chosen.variety)
    )
    replica = Replica(content, Faults(validators=True, delay_s=chosen.delay), port=chosen.port)
    with replica.running():
        print(f"{replica.url}  account: {USER} / {PASSWORD}  (end with Ctrl-C)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("ended")


if __name__ == "__main__":
    main()
