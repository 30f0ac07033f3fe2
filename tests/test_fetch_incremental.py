"""A second visit to the site: what is asked, what is fetched, what is kept."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from dmr_replica import Faults, Replica
from dmr_replica_content import Content, cohort, static
from dmr_replica_matrices import matrix_text
from fetch_fixtures import SHAPE, TODAY, Client, check_answer_key

from thermocancer.data.catalog import Record, replace_source
from thermocancer.errors import DataError


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Three patients without dynamic exams, on a server that offers validators."""
    with Replica(cohort(3, SHAPE, dynamic_exams=False), Faults(validators=True)).running() as replica:
        yield Client(replica, tmp_path / "study")


def change(content: Content, patient: int, view: int) -> str:
    """Let the site replace one file, and say so on the patient's page. Returns the path in the tree."""
    path = next(each for each in content.tree if f"T{patient:04d}.1.{view}.S" in each)
    label = path.split("/")[2]
    content.tree[path] = lambda: matrix_text(static(patient, view, "2031-01-01"), label, SHAPE, salt=1)
    content.files[f"bancovl/{patient:04d}/{path.split('/')[-1]}"] = [content.tree[path]]
    content.patients[patient].visits[0].complaint = "image replaced"
    return path


def test_unchanged_site_costs_its_pages_and_no_file(client: Client) -> None:
    client.fetch()
    before, stamps = client.snapshot(), stamps_of(client)
    client.replica.forget()
    report = client.fetch()
    assert report.nothing_to_do
    assert report.exit_code == 0
    assert (report.figures["new"], report.figures["unchanged"]) == (0, 15)
    asked = client.replica.requests("prontuario")
    assert sorted(each.partition("prontuario/")[2] for each in asked) == sorted([
        "home.php",
        *(f"index.php?filtro=0&diag={code}&order=1&by=1&pagina=1" for code in ("S", "D", "")),
        *(f"details.php?id={number}" for number in (1, 2, 3)),
    ])  # fmt: skip
    assert not client.replica.requests("bancovl")
    assert client.snapshot() == before
    assert stamps_of(client) == stamps, "nothing is written when nothing is new"


def stamps_of(client: Client) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in client.workspace.raw.iterdir() if path.is_file()}


def test_one_changed_file_and_one_new_patient_are_exactly_what_is_downloaded(client: Client) -> None:
    content = client.replica.content
    client.fetch()
    old = client.tree()
    path = change(content, 2, 3)
    visit = content.visit(content.patient(4, "sick"), "sick", "May 1st, 2019")
    content.add(visit, static(4, 1, "2019-05-01"))
    client.replica.forget()
    report = client.fetch()
    assert (report.figures["new"], report.figures["changed"], report.figures["failed"]) == (1, 1, 0)
    fresh = (path, "Static/Frontal/sick/T0004.1.1.S.2019-05-01.00.txt")
    assert report.figures["bytes"] == sum(len(content.tree[each]()) for each in fresh)
    assert report.figures["new_files"] == ["T0004.1.1.S.2019-05-01.00.txt"]
    check_answer_key(client, content)
    record = next(each for each in client.catalog() if each.path == path)
    (aside,) = record.extra["replaced"]
    assert client.snapshot()[aside] == old[path]
    assert aside.startswith("replaced/Static/")


def test_without_validators_a_changed_file_needs_a_full_recheck(client: Client) -> None:
    client.replica.faults.validators = False
    client.fetch()
    change(client.replica.content, 2, 3)
    client.replica.forget()
    assert client.fetch().figures["changed"] == 0
    assert not client.replica.requests("bancovl")
    assert client.fetch(recheck="always").figures["changed"] == 1
    check_answer_key(client, client.replica.content)


@pytest.mark.parametrize(
    ("recheck", "asked", "changed"), [("page", 0, 0), ("validators", 15, 1), ("always", 15, 1), ("never", 0, 0)]
)
def test_recheck_of_a_change_that_no_page_shows(client: Client, recheck: str, asked: int, changed: int) -> None:
    client.fetch()
    change(client.replica.content, 2, 3)
    client.replica.content.patients[2].visits[0].complaint = client.replica.content.patients[1].visits[0].complaint
    client.replica.forget()
    report = client.fetch(recheck=recheck)
    assert (len(client.replica.requests("bancovl")), report.figures["changed"]) == (asked, changed)


def test_recheck_downloads_nothing_that_is_unchanged(client: Client) -> None:
    client.fetch()
    report = client.fetch(recheck="validators")
    assert report.nothing_to_do
    assert (report.figures["bytes"], report.figures["unchanged"]) == (0, 15)


def test_a_new_diagnosis_moves_the_files_without_fetching_them(client: Client) -> None:
    content = client.replica.content
    client.fetch()
    healthy = next(number for number in content.patients if content.patients[number].rows == ("healthy",))
    content.patients[healthy].visits[0].label = "sick"
    content.tree = {
        path.replace("/healthy/", "/sick/") if f"T{healthy:04d}" in path else path: body
        for path, body in content.tree.items()
    }
    client.replica.forget()
    report = client.fetch(recheck="never", views=["Frontal"])
    assert (report.figures["moved"], report.figures["new"]) == (5, 0)
    assert not client.replica.requests("bancovl")
    check_answer_key(client, content)
    assert not [path for path in client.workspace.raw.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_a_diagnosis_withdrawn_takes_the_files_out_of_the_tree_but_keeps_them(client: Client) -> None:
    content = client.replica.content
    client.fetch()
    old = client.tree()
    content.patients[1].visits[0].label = "unknown"
    client.fetch()
    assert not [path for path in client.tree() if "T0001" in path]
    records = [each for each in client.catalog() if each.patient == 1]
    assert {each.status for each in records} == {"unlabelled"}
    kept = {aside: client.snapshot()[aside] for each in records for aside in each.extra["replaced"]}
    assert sorted(kept.values()) == sorted(body for path, body in old.items() if "T0001" in path)
    client.fetch()
    assert [each for each in client.catalog() if each.patient == 1] == records, "the next run knows the places still"


def test_vanished_files_and_patients_are_marked_and_stay(client: Client) -> None:
    content = client.replica.content
    client.fetch()
    old = client.tree()
    gone = content.patients[1].visits[0].links.pop()
    del content.patients[3]
    report = client.fetch()
    assert report.figures["vanished"] == 6
    assert report.exit_code == 0
    assert client.tree() == old
    marked = {(each.patient, each.status, each.reason) for each in client.catalog() if each.status != "ok"}
    assert marked == {
        (1, "vanished", "no longer on the patient's page"),
        (3, "vanished", "the patient is no longer listed"),
    }
    assert client.fetch().nothing_to_do
    content.patients[1].visits[0].links.append(gone)
    client.replica.forget()
    client.fetch(recheck="never")
    assert {each.status for each in client.catalog() if each.patient == 1} == {"ok"}
    assert not client.replica.requests("bancovl")


def test_a_filtered_walk_marks_nobody_as_vanished(client: Client) -> None:
    client.fetch()
    before = client.snapshot()
    assert client.fetch(patients=[1]).nothing_to_do
    assert client.fetch(diagnoses=["sick"]).nothing_to_do
    assert client.snapshot() == before


def test_an_empty_list_is_an_error_and_changes_nothing(client: Client) -> None:
    from thermocancer.errors import RemoteError

    client.fetch()
    before = client.snapshot()
    client.replica.content.patients.clear()
    with pytest.raises(RemoteError, match="lists no patient"):
        client.fetch()
    assert client.snapshot() == before


def test_a_file_that_was_damaged_here_is_fetched_again(client: Client) -> None:
    client.fetch()
    lost, cut = sorted(path for path in client.tree() if "T0002" in path)[:2]
    (client.workspace.raw / lost).unlink()
    (client.workspace.raw / cut).write_bytes(b"20.00")
    assert client.fetch().figures["new"] == 2
    check_answer_key(client, client.replica.content)


def test_whole_files_without_a_catalog_are_taken_in_not_fetched(client: Client) -> None:
    client.fetch()
    client.workspace.catalog.unlink()
    client.replica.forget()
    report = client.fetch()
    assert not client.replica.requests("bancovl")
    assert report.figures["unchanged"] == 15
    check_answer_key(client, client.replica.content)


def test_files_of_another_source_are_not_touched(client: Client) -> None:
    content = client.replica.content
    theirs = next(path for path in content.tree if "T0001.1.1.S" in path)
    replace_source(client.workspace, "import", [
        Record(theirs, 1, 1, "Frontal", "S", None, 0, theirs.split("/")[2], source="import"),
        Record("Static/Frontal/x.txt", 2, 1, "Frontal", "S", None, 0, flipped(content, 2), source="import"),
    ])  # fmt: skip
    report = client.fetch()
    reasons = {each.reason for each in report.failed}
    assert reasons == {"import has this file already", f"import calls this exam {flipped(content, 2)}"}
    assert report.figures["new"] == 9
    assert len([each for each in client.catalog() if each.source == "import"]) == 2


def flipped(content: Content, patient: int) -> str:
    return "sick" if content.patients[patient].rows == ("healthy",) else "healthy"


def test_limit_goes_on_with_the_next_call(client: Client) -> None:
    content = client.replica.content
    counts = [client.fetch(limit=4).figures["new"] for _ in range(5)]
    assert counts == [4, 4, 4, 3, 0]
    check_answer_key(client, content)


def test_the_cap_on_requests_is_kept_and_the_next_run_goes_on(client: Client) -> None:
    runs = 0
    while True:
        client.replica.forget()
        report = client.fetch(max_requests=12)
        assert len(client.replica.seen) <= 12
        runs += 1
        if report.nothing_to_do and not report.notes:
            break
        assert runs < 12
    check_answer_key(client, client.replica.content)


def test_filters_choose_files(tmp_path: Path) -> None:
    with Replica(cohort(3, SHAPE)).running() as replica:
        client = Client(replica, tmp_path / "study")
        client.fetch(protocols=["D"], views=["Right", "Left"], patients=[1, 2])
        assert {path.split(".")[2] for path in client.tree()} == {"3", "5"}
        assert len(client.tree()) == 4
        years = sorted({each.date[:4] for each in client.catalog() if each.date})
        client.fetch(protocols=["S"], views=["Frontal"], since=f"{int(years[-1]) + 9}-01-01")
        assert len(client.tree()) == 4
        client.fetch(protocols=["S"], views=["Frontal"], diagnoses=["sick"])
        assert {path.split("/")[2] for path in client.tree() if path.startswith("Static")} == {"sick"}


def test_dry_run_touches_nothing_and_says_what_it_would_do(client: Client) -> None:
    plan = client.plan(interval_s=0.001)
    assert len(plan.todo) == 15
    assert "15 files to ask for, about 0.3 MB" in plan.notes[0]
    assert not client.root.exists()
    assert not client.replica.requests("bancovl")
    client.fetch()
    before = stamps_of(client)
    assert (client.plan().todo, client.plan().current) == ((), 15)
    assert stamps_of(client) == before


def test_clinical_fields_are_kept_as_found_with_the_day_they_were_first_read(client: Client) -> None:
    client.fetch()
    lines = clinical(client)
    one = lines[1]
    assert one["read"] == TODAY.isoformat()
    assert ["age", "41 years old"] in one["profile"]
    history = {block["heading"]: dict(block["entries"]) for block in one["visits"][0]["fields"]}
    assert history["Personal history"] == {"Complaints": "Nódulo :: dor", "Symptoms": "-", "Menarche": "12"}
    assert history["Medical history"] == {"Mammography": "Sim", "Radiotherapy": "N?o", "Biopsy": "Faz 10 anos"}
    assert history["Protocol recommendations"]["Smoked"] == "No"
    assert "Voluntària" not in client.snapshot()["patients.jsonl"].decode(), "the hospital's number identifies"
    client.replica.content.patients[1].visits[0].complaint = "none"
    client.fetch(today=TODAY + datetime.timedelta(days=7))
    assert {number: line["read"] for number, line in clinical(client).items()} == {
        1: "2026-01-09", 2: "2026-01-02", 3: "2026-01-02",
    }  # fmt: skip


def clinical(client: Client) -> dict[int, dict]:
    text = client.snapshot()["patients.jsonl"].decode()
    return {line["patient"]: line for line in map(json.loads, text.splitlines())}


def test_clinical_fields_can_be_left_out(client: Client) -> None:
    client.fetch(clinical=False)
    assert "patients.jsonl" not in client.snapshot()


def test_citation_and_terms_are_shown_once_and_written_beside_the_data(client: Client) -> None:
    from dmr_replica import PASSWORD, USER

    from thermocancer.dmr.credentials import Credentials
    from thermocancer.progress import Silent
    from thermocancer.stages import fetch

    account = Credentials.of(USER, PASSWORD)
    first, second = Silent(), Silent()
    fetch.run(client.config(), client.workspace, first, credentials=account)
    fetch.run(client.config(), client.workspace, second, credentials=account)
    said = "\n".join(first.notes)
    assert "Silva, L. F." in said
    assert "not passed on to third parties" in said
    assert second.notes == []
    assert {"CITATION.txt", "TERMS.txt"} <= client.snapshot().keys()


def test_a_broken_catalog_is_an_error_not_a_new_beginning(client: Client) -> None:
    client.fetch()
    client.workspace.catalog.write_text("{broken\n")
    with pytest.raises(DataError, match="catalog line"):
        client.fetch()
