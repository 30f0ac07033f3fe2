"""Outages, and answers without end: what they cost is an hour, never a file."""

from __future__ import annotations

import gzip
import itertools
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from dmr_replica import PASSWORD, Faults, Replica
from dmr_replica_content import Link, cohort
from fetch_fixtures import SHAPE, Client, check_answer_key

from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.dmr.transport import LONGEST_ANSWER
from thermocancer.errors import RemoteError

Raw = Callable[[], Iterable[bytes]]
MAINTENANCE = b"<html><body>Maintenance until Monday</body></html>"
FILES = "bancovl/"


def answer(status: int, body: bytes = b"", kind: str = "text/html", **headers: str) -> Raw:
    """A whole answer, as it goes over the wire."""
    head = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return lambda: [f"HTTP/1.1 {status} Answer\r\n{lines}\r\n".encode("latin-1") + body]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Four patients with five files each, on a server that offers validators."""
    with Replica(cohort(4, SHAPE, dynamic_exams=False), Faults(validators=True)).running() as replica:
        yield Client(replica, tmp_path / "study")


def files_asked(client: Client) -> list[str]:
    return client.replica.requests(FILES)


# --- an outage is a fact about the hour ------------------------------------------------------------------------------

OUTAGES: dict[str, tuple[Raw, str]] = {
    "forbidden": (answer(403, b"no"), "the site answered 403"),
    "unauthorized": (answer(401, b"no"), "the site answered 401"),
    "a part": (answer(206, b"20.00 21.00\n", "text/plain", Content_Range="bytes 0-11/12"), "the site answered 206"),
    "nothing changed, though nobody asked": (answer(304), "the site answered 304"),
    "teapot": (answer(418), "the site answered 418"),
    "maintenance": (answer(200, MAINTENANCE), "an HTML page came instead of a matrix"),
    "redirect to nowhere": (answer(302, Location="http://[::1/"), "redirected to something that is no address"),
    "portal of a network": (answer(302, Location="http://198.51.100.7/login"), "redirected off the site"),
    "cut": (answer(200, b"20.00", "text/plain", Content_Length="999"), "the connection was cut"),
    "another packing": (answer(200, b"x", "text/plain", Content_Encoding="br"), "packed as 'br'"),
    "server error": (answer(500, b"no"), "the site answered 500"),
}


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize(("raw", "reason"), OUTAGES.values(), ids=OUTAGES.keys())
def test_an_outage_ends_the_run_and_is_forgotten(client: Client, raw: Raw, reason: str, connections: int) -> None:
    client.replica.faults.raw = {FILES: raw}
    with pytest.raises(RemoteError, match="5 files in a row") as caught:
        client.fetch(retries=0, connections=connections)
    assert caught.value.exit_code == 4
    assert str(caught.value.found).startswith("of 5 files: 5 times ")
    assert reason in str(caught.value.found)
    assert len(set(files_asked(client))) <= 5 + 2 * connections, "the rest of the files is left alone"
    client.replica.faults.raw = {}
    assert client.fetch(connections=connections).figures["new"] == 20
    check_answer_key(client, client.replica.content)
    assert client.fetch().nothing_to_do


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (answer(404, b"no"), "missing"),
        (answer(410, b"no"), "missing"),
        (answer(200, b"Back on Monday.", "text/plain"), "failed"),
        (answer(200, b"", "text/plain"), "failed"),
    ],
    ids=["404", "410", "words", "nothing"],
)
def test_what_all_files_meet_is_no_fact_about_any(client: Client, raw: Raw, status: str) -> None:
    client.replica.faults.raw = {FILES: raw}
    report = client.fetch()
    assert (report.exit_code, report.figures[status]) == (5, 20)
    client.replica.faults.raw = {}
    assert client.fetch().figures["new"] == 20
    check_answer_key(client, client.replica.content)


def test_most_files_is_an_outage_too_and_says_how_many_met_what(client: Client) -> None:
    client.replica.faults.raw = {f".1.{view}.S": answer(403) for view in (1, 3)}
    client.replica.faults.raw[".1.5.S"] = answer(200, MAINTENANCE)
    with pytest.raises(RemoteError, match="most files") as caught:
        client.fetch()
    told = "of 20 files: 8 times the site answered 403, 4 times an HTML page came instead of a matrix"
    assert caught.value.found == told
    assert len(client.tree()) == 8
    client.replica.faults.raw = {}
    assert client.fetch().figures["new"] == 12
    check_answer_key(client, client.replica.content)


def test_a_few_blocked_files_are_listed_and_asked_for_at_every_run(client: Client) -> None:
    client.replica.faults.raw = {"T0002.1.2.S": answer(403), "T0003.1.4.S": answer(200, MAINTENANCE)}
    for _ in range(2):
        client.replica.forget()
        report = client.fetch(recheck="never")
        assert report.exit_code == 5
        assert sorted(each.reason for each in report.failed) == [
            "an HTML page came instead of a matrix", "the site answered 403",
        ]  # fmt: skip
        assert client.replica.requests("T0002.1.2.S")
    client.replica.faults.raw = {}
    assert client.fetch(recheck="never").figures["new"] == 2
    check_answer_key(client, client.replica.content)


def test_a_patient_whose_files_are_all_forbidden_does_not_stop_the_others(client: Client) -> None:
    client.replica.faults.raw = {"T0001": answer(403)}
    assert (client.fetch().figures["new"], len(client.tree())) == (15, 15)
    report = client.fetch()
    assert (report.exit_code, len(report.failed)) == (5, 5), "asked again, and not taken for an outage"


def test_a_fact_about_a_file_is_remembered_and_said(client: Client) -> None:
    client.replica.faults.raw = {"T0002.1.2.S": answer(404), "T0003.1.4.S": answer(200, b"1 2\n3\n", "text/plain")}
    assert client.fetch().exit_code == 5
    client.replica.forget()
    report = client.fetch()
    assert not files_asked(client)
    assert report.nothing_to_do
    assert report.notes[0].startswith("2 problems known from earlier runs; --recheck validators asks again")
    client.replica.faults.raw = {}
    assert client.fetch(recheck="validators").figures["new"] == 2
    check_answer_key(client, client.replica.content)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_an_outage_while_asking_for_changes_leaves_everything_as_it_was(client: Client, status: int) -> None:
    client.fetch()
    before = client.snapshot()
    client.replica.faults.raw = {FILES: answer(status)}
    if status == 404:
        assert client.fetch(recheck="validators").figures["vanished"] == 0
    else:
        with pytest.raises(RemoteError, match="5 files in a row"):
            client.fetch(recheck="validators", retries=0)
    assert client.snapshot() == before
    client.replica.faults.raw = {}
    assert client.fetch(recheck="validators").nothing_to_do


def test_what_an_earlier_version_remembered_of_an_outage_is_asked_for_again(client: Client) -> None:
    client.replica.faults.raw = {"T0002.1.2.S": answer(403)}
    client.fetch()
    records = read_catalog(client.workspace)
    assert not any(each.extra.get("settled") for each in records)
    write_catalog(client.workspace, records)
    client.replica.faults.raw = {}
    assert client.fetch().figures["new"] == 1


@pytest.mark.parametrize("page", [answer(200, MAINTENANCE), answer(403, MAINTENANCE)], ids=["200", "403"])
def test_a_page_about_maintenance_takes_no_file_away(client: Client, page: Raw) -> None:
    client.fetch()
    before = client.snapshot()
    client.replica.faults.raw = {"details.php?id=2": page}
    report = client.fetch()
    assert ([each.item for each in report.failed], report.figures["vanished"]) == (["patient 2"], 0)
    client.replica.faults.raw = {"details.php": page}
    with pytest.raises(RemoteError, match="3 patient pages in a row"):
        client.fetch()
    assert client.snapshot() == before


def test_a_site_that_lists_nobody_is_an_error_from_the_first_day(client: Client) -> None:
    client.replica.content.patients.clear()
    with pytest.raises(RemoteError, match="lists no patient at all"):
        client.fetch()


# --- answers without end ---------------------------------------------------------------------------------------------


def endless() -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    yield from itertools.repeat(b"<p>more</p>" * 6000)


def bomb(packed: bytes, packing: str, kind: str = "text/html") -> Raw:
    return answer(200, packed, kind, Content_Encoding=packing)


ZEROS = gzip.compress(bytes(100 * 2**20))
"""A hundred kilobytes that unpack to a hundred megabytes."""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (endless, "longer than 8 MiB"),
        (bomb(ZEROS, "gzip"), "longer than 8 MiB"),
        (bomb(gzip.compress(ZEROS), "gzip, gzip"), "packed as 'gzip, gzip'"),
        (bomb(b"no gzip", "gzip"), "not packed as it says"),
        (answer(200, b"<p>" * 150_000), "more than 100000 tags"),
        (answer(200, b"<table><tr><td>" * 5000), "deeper nesting"),
        (answer(302, endless.__doc__ or b"", Location="http://[::1/"), "no address"),
        (answer(302, Location="http://127.0.0.1:99999/dmi/"), ""),
        (answer(302, Location="//"), ""),
        (answer(302, Location="\xff\xfe://\xff"), ""),
        (answer(302, Location="javascript:void(0)"), ""),
    ],
)  # fmt: skip
def test_an_impossible_page_is_one_failure_and_on_a_list_a_clear_end(client: Client, raw: Raw, reason: str) -> None:
    client.replica.faults.raw = {"details.php?id=2": raw}
    report = client.fetch()
    assert [each.item for each in report.failed] == ["patient 2"]
    assert reason in report.failed[0].reason
    assert report.figures["new"] == 15
    client.replica.faults.raw = {"pagina=": raw}
    with pytest.raises(RemoteError) as caught:
        client.fetch()
    assert reason in str(caught.value)


def test_a_redirect_with_a_body_without_end_is_not_read_to_its_end(client: Client) -> None:
    def raw() -> Iterable[bytes]:
        yield b"HTTP/1.1 302 Found\r\nLocation: home.php\r\nConnection: close\r\n\r\n"
        yield from itertools.repeat(bytes(2**16))

    client.replica.faults.raw = {"T0002.1.2.S": raw, "details.php?id=3": raw}
    report = client.fetch()
    assert {each.reason for each in report.failed} == {"longer than 8 MiB"}
    assert report.figures["new"] == 14


def test_a_busy_answer_without_end_is_not_read_before_the_next_try(client: Client) -> None:
    def raw() -> Iterable[bytes]:
        yield b"HTTP/1.1 503 Busy\r\nContent-Type: text/html\r\n\r\n"
        yield from itertools.repeat(bytes(2**16))

    client.replica.faults.raw = {"details.php?id=2": raw, "T0003.1.2.S": raw}
    report = client.fetch(retries=2)
    assert [each.reason for each in report.failed] == ["longer than 8 MiB", "the site answered 503"]
    assert len(client.replica.requests("T0003.1.2.S")) == 3


def test_a_file_that_unpacks_without_end_is_refused_and_an_honest_one_is_taken(client: Client) -> None:
    content = client.replica.content
    path = next(each for each in content.files if "T0001.1.1.S" in each)
    client.replica.faults.raw = {
        "T0001.1.1.S": bomb(gzip.compress(content.files[path][0]()), "gzip", "text/plain"),
        "T0001.1.2.S": bomb(ZEROS, "gzip", "text/plain"),
        "details.php?id=3": answer(200, MAINTENANCE),
    }
    report = client.fetch()
    reasons = {each.item: each.reason for each in report.failed}
    assert reasons.pop("patient 3") == "the page says nothing of the patient"
    assert list(reasons.values()) == ["longer than 64 MiB"]
    assert client.tree()[next(each for each in content.tree if "T0001.1.1.S" in each)] == content.files[path][0]()


def drip(head: bytes) -> Raw:
    def raw() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n" + head
        while True:
            time.sleep(0.02)
            yield b"2"

    return raw


@pytest.mark.parametrize(
    "head", [b"\r\n", b"X-Slow: ", b"Transfer-Encoding: chunked\r\n\r\n"], ids=["body", "header", "length of a chunk"]
)
@pytest.mark.parametrize("part", ["details.php?id=2", "T0002.1.2.S"], ids=["page", "file"])
def test_one_byte_after_the_other_comes_to_an_end(client: Client, part: str, head: bytes) -> None:
    client.replica.faults.raw = {part: drip(head)}
    started = time.monotonic()
    report = client.fetch(timeout_s=0.1)
    assert [each.reason for each in report.failed] == [f"the answer took longer than {LONGEST_ANSWER * 0.1:g} s"]
    assert time.monotonic() - started < 30


# --- what must not leave the machine, or be read on it ----------------------------------------------------------------


@pytest.mark.parametrize("method", ['method="get"', 'method="GET "', ""])
def test_a_login_form_that_would_put_the_password_into_the_address_gets_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    import dmr_replica_pages

    form = dmr_replica_pages.login_page().replace('method="post"', method)
    monkeypatch.setattr(dmr_replica_pages, "login_page", lambda: form)
    with pytest.raises(RemoteError, match="would put the password into the address"):
        client.fetch()
    assert [each.method for each in client.replica.seen] == ["GET"]
    assert not client.replica.requests(PASSWORD)


def test_only_the_owner_reads_the_clinical_fields(client: Client) -> None:
    path = client.workspace.raw / "patients.jsonl"

    def mode() -> int:
        return stat.S_IMODE(path.stat().st_mode)

    client.fetch()
    assert mode() == 0o600
    client.replica.content.patients[1].visits[0].complaint = "none"
    client.fetch()
    assert mode() == 0o600
    path.chmod(0o644)
    assert client.fetch().nothing_to_do
    assert mode() == 0o600, "a file that an earlier version wrote is closed too"


@pytest.mark.parametrize(
    "name",
    [
        f"T0002.{'9' * 300}.1.S.2015-03-13.00.txt",
        f"T0002.{'9' * 5000}.1.S.2015-03-13.00.txt",
        f"T{'1' * 25}.1.1.S.2015-03-13.00.txt",
        f"T{'1' * 5000}.1.1.S.2015-03-13.00.txt",
        f"T0002.1.{'1' * 5000}.S.2015-03-13.00.txt",
        f"T0002.1.1.S.2015-03-13.{'1' * 300}.txt",
    ],
    ids=["visit of 300 digits", "of 5000", "patient of 25", "of 5000", "view", "index"],
)
def test_a_name_with_endless_numbers_is_listed_and_nothing_more(client: Client, name: str) -> None:
    client.replica.content.patients[2].visits[0].links.append(Link(f"../bancovl/0002/{name}", name))
    report = client.fetch()
    assert [each.reason for each in report.failed] == ["the name is not that of a thermogram"]
    assert report.figures["new"] == 20
    assert client.fetch().nothing_to_do


def test_a_list_row_with_an_endless_number_is_listed_and_the_others_are_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dmr_replica_pages

    number, write = "7" * 25, dmr_replica_pages.list_page
    row = f'<tr><td>{number}</td><td><a href="details.php?id={number}">details</a></td></tr></table>'
    monkeypatch.setattr(dmr_replica_pages, "list_page", lambda *how: write(*how).replace("</table>", row))
    report = client.fetch()
    assert [(each.item, each.reason) for each in report.failed] == [
        (f"the patient list's link 'details.php?id={number}'", "the number is not that of a patient")
    ]
    assert report.figures["new"] == 20
    assert not client.replica.requests("id=777")
