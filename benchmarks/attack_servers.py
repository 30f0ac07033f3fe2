"""Hostile servers on the loopback interface, and what becomes of ``fetch`` and of the mirror (``attack.py``)."""

from __future__ import annotations

import gzip
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from attack_files import Counts
from dmr_replica import PASSWORD, Faults, Replica
from dmr_replica_content import cohort
from fetch_fixtures import SHAPE, Client

from thermocancer.errors import ThermocancerError
from thermocancer.files import fragments

Raw = Callable[[], Iterable[bytes]]
LONGEST_S = 60


def answer(body: bytes = b"", status: str = "200 OK", *lines: str, length: int | None = None) -> Raw:
    """A whole answer, as it goes over the wire."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    return lambda: ["\r\n".join([*head, *(lines or ["Content-Type: text/html"]), "", ""]).encode("latin-1") + body]


def endless(head: bytes, piece: bytes, pause_s: float = 0.0) -> Raw:
    """Pieces without end."""

    def raw() -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + head
        for _ in itertools.count():
            time.sleep(pause_s)
            yield piece

    return raw


def _sent(content: bytes) -> Raw:
    return lambda: [content]


ZEROS = gzip.compress(bytes(80 * 2**20))
NUMBERS = b"20.11 21.12\n" * 40
ANSWERS: dict[str, Raw] = {
    "page without end": endless(b"Content-Type: text/html\r\n\r\n", b"<p>more</p>" * 6000),
    "numbers without end": endless(b"Content-Type: text/plain\r\n\r\n", b"20.11 " * 10_000),
    "one byte after the other": endless(b"Content-Type: text/html\r\n\r\n", b"2", 0.02),
    "a header's bytes one after the other": endless(b"X-Slow: ", b"a", 0.02),
    "headers without end": endless(b"", b"X-A: " + b"a" * 900 + b"\r\n"),
    "chunks without end": endless(b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", 0.005),
    "a chunk of no size": _sent(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a chunk of a negative size": _sent(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n"),
    "a bomb": answer(ZEROS, "200 OK", "Content-Encoding: gzip", "Content-Type: text/html"),
    "a bomb in a bomb": answer(gzip.compress(ZEROS), "200 OK", "Content-Encoding: gzip, gzip"),
    "no such packing": answer(b"x", "200 OK", "Content-Encoding: br"),
    "not packed": answer(b"x", "200 OK", "Content-Encoding: gzip"),
    "deep tables": answer(b"<table><tr><td>" * 5000),
    "many tags": answer(b"<p>" * 150_000),
    "broken tags": answer(b"<a href='" * 3000 + b"\x00\xff<!--<![CDATA["),
    "an entity without end": answer(b"<!DOCTYPE a [<!ENTITY b 'cc'><!ENTITY d '&b;&b;'>]><a>" + b"&d;" * 5000),
    "another charset": answer(b"\xff\xfe<\x00p\x00>", "200 OK", "Content-Type: text/html; charset=utf-16"),
    "no such charset": answer(b"<p>", "200 OK", "Content-Type: text/html; charset=no-such\xff"),
    "a false length": answer(b"20.11", length=999),
    "a short length": answer(NUMBERS * 20, length=3),
    "a negative length": answer(b"20.11", length=-5),
    "a length that is no number": _sent(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc"),
    "a length beyond all": answer(b"20.11", length=10**30),
    "other numbers": answer(NUMBERS, "200 OK", "Content-Type: text/plain"),
    "nothing": answer(),
    "no answer at all": _sent(b""),
    "no HTTP": _sent(b"\x00\xff" * 300),
    "a status that is no number": _sent(b"HTTP/1.1 abc OK\r\n\r\n"),
    "a status of ten digits": _sent(b"HTTP/1.1 2000000000 OK\r\n\r\n"),
    "informational for ever": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", 5000),
    "redirect off the site": answer(b"", "302 Found", "Location: http://198.51.100.7/dmi/"),
    "redirect by a protocol": answer(b"", "302 Found", "Location: //198.51.100.7/x"),
    "redirect to a file": answer(b"", "302 Found", "Location: file:///etc/passwd"),
    "redirect to no address": answer(b"", "302 Found", "Location: http://[::1/"),
    "redirect to no port": answer(b"", "302 Found", "Location: http://127.0.0.1:99999/dmi/"),
    "redirect to bytes": answer(b"", "302 Found", "Location: \xff\xfe://\xff"),
    "redirect to a script": answer(b"", "302 Found", "Location: javascript:void(0)"),
    "redirect to itself": answer(b"", "307 Again", "Location: ?"),
    "redirect to nothing": answer(b"", "302 Found", "Location: "),
    "a redirect with lines": answer(b"", "302 Found", "Location: /dmi/\rSet-Cookie: a=b"),
    "cookies without end": answer(b"<p>", "200 OK", *[f"Set-Cookie: a{each}={'b' * 3000}" for each in range(60)]),
    "a cookie for another": answer(b"<p>", "200 OK", "Set-Cookie: a=b; Domain=example.org; Path=/"),
    "busy for ever": answer(b"", "503 Busy", "Retry-After: 99999999999999999999"),
    "busy till no date": answer(b"", "429 Busy", "Retry-After: Fri, 99 Foo 9999"),
    "asks for another account": answer(b"", "401 No", 'WWW-Authenticate: Basic realm="x"'),
    "asks for a proxy's account": answer(b"", "407 No", 'Proxy-Authenticate: Basic realm="x"'),
    "form by GET": answer(
        b'<form method="get" action="home.php"><input name="username"><input type="password" name="p">'
    ),
    "form to another site": answer(
        b'<form method="post" action="http://198.51.100.7/"><input name="username"><input type="password" name="p">'
    ),
    "names that are paths": answer(
        b"<h3>Thermal matrices</h3><div class=patient_images><a href='../../../etc/passwd'>x</a>"
        b"<a href='T0002.1.1.S.2015-99-99.00.txt'>y</a><a href='%2e%2e/%2e%2e/x.txt'>z</a></div>"
    ),
}
"""What is put on the wire."""

PARTS = {
    "first page": "home.php",
    "login": "login",
    "list": "pagina=",
    "patient": "details.php?id=2",
    "file": "T0002.1.2.S",
}
"""What it answers, by a part of the path."""


def attack_servers(number: int, counts: Counts) -> None:
    """``fetch`` from so many hostile servers, in an order of their own, and then from each when it is honest."""
    kinds = [(part, name) for name in ANSWERS for part in PARTS]
    random.Random(0).shuffle(kinds)
    for part, name in itertools.islice(itertools.cycle(kinds), number):
        content = cohort(3, SHAPE, dynamic_exams=False)
        with (
            tempfile.TemporaryDirectory() as folder,
            Replica(content, Faults(validators=True, raw={PARTS[part]: ANSWERS[name]})).running() as replica,
        ):
            client, said, started = Client(replica, Path(folder) / "mirror"), "", time.monotonic()
            try:
                report = client.fetch(timeout_s=0.1, retries=1)
                outcome, said = "read", " ".join(each.reason for each in report.failed)
            except ThermocancerError as error:
                outcome, said = "refused", str(error)
            except Exception as error:
                outcome, said = "untyped", f"{type(error).__name__}: {error}"
            lasted = time.monotonic() - started
            detail = f"{name} as {part}: {said[:200]}"
            if outcome != "untyped":
                outcome = _judged(client, said, lasted) or outcome
            counts.note(f"hostile servers, {part}", outcome, detail)


def _judged(client: Client, said: str, lasted_s: float) -> str:
    """What is wrong after the attack, and once the server is honest again; nothing if nothing is."""
    written = [path.read_bytes() for path in client.root.parent.rglob("*") if path.is_file()]
    asked = " ".join(client.replica.requests())
    if PASSWORD in said + asked or any(PASSWORD.encode() in each for each in written) or lasted_s > LONGEST_S:
        return "wrong"
    if fragments(client.root) or any((client.root / "locks").glob("*")):
        return "left"
    honest = {path: body() for path, body in client.replica.content.tree.items()}
    client.replica.faults.raw = {}
    client.fetch()
    return "" if client.tree() == honest else "wrong"
