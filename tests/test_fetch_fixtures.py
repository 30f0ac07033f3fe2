"""Every hard case and every fault of the replica, alone and together, against the answer key."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from dmr_replica import Faults, Replica
from dmr_replica_content import Content, fixtures
from fetch_fixtures import SHAPE, Client, check_answer_key

FILES = "bancovl/0002/T0002.1"
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "imagenspaciente": {"block_class": "imagenspaciente"},
    "both classes": {"block_class": "both"},
    "no class at all": {"block_class": ""},
    "no heading": {"heading": "Files"},
    "three list pages": {"rows_a_page": 8},
    "Next is a span": {"rows_a_page": 5, "next_tag": "span"},
    "Portuguese": {"portuguese": True},
    "no charset": {"charset": False},
    "PHP notice": {"notice": True},
    "503 twice": {"unavailable": {f"{FILES}.1.S": 2, "details.php?id=3": 2, "login.php": 1, "diag=D": 2}},
    "503 with Retry-After": {"unavailable": {f"{FILES}.1.S": 1}, "retry_after": "1"},
    "429": {"unavailable": {"details.php?id=2": 1}, "status": 429},
    "stall": {"stall": {f"{FILES}.2.S": 1, "details.php?id=4": 1}, "stall_s": 1.2},
    "cut with length": {"cut": {f"{FILES}.3.S": 1, f"{FILES}.1.D": 2}},
    "cut without length": {"cut": {f"{FILES}.3.S": 2}, "cut_keeps_length": False},
    "cut without length in the last number": {
        "cut": {f"{FILES}.3.S": 2}, "cut_keeps_length": False, "cut_at": 1 - 2 / (48 * 64 * 6),
    },
    "cut without length before the last line end": {
        "cut": {f"{FILES}.3.S": 1}, "cut_keeps_length": False, "cut_at": 1 - 1 / (48 * 64 * 6),
    },
    "session expires into a form": {"expire_after": 5},
    "session expires into login.php": {"expire_after": 5, "expired": "login"},
    "session expires into index.php": {"expire_after": 5, "expired": "index"},
    "protected files": {"protected": True, "expire_after": 9},
    "validators": {"validators": True},
}  # fmt: skip


def fetched(tmp_path: Path, content: Content, faults: Faults, **settings: Any) -> Client:
    with Replica(content, faults).running() as replica:
        client = Client(replica, tmp_path / "study")
        report = client.fetch(**settings)
        assert report.exit_code == 5  # the fixtures hold files that nobody can get
        listed = {"missing": 1, "refused": 11, "failed": 3, "unlabelled": 1}
        assert {name: report.figures[name] for name in listed} == listed
        assert all(each.reason for each in report.failed)
        # what must never be asked for: the hostile links, pictures, other exams
        assert not replica.requests("x.txt")
        assert not replica.requests(".png")
        assert not replica.requests(".jpg")
        assert not replica.requests("0013/T0013.1.2")
    return client


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_fault_alone(tmp_path: Path, fault: dict[str, Any]) -> None:
    content = fixtures(SHAPE)
    faults = Faults(**{name: dict(value) if isinstance(value, dict) else value for name, value in fault.items()})
    client = fetched(tmp_path, content, faults, timeout_s=0.6 if "stall" in fault else 5)
    assert check_answer_key(client, content) == set(content.tree)


@pytest.mark.parametrize("connections", [1, 4])
def test_all_faults_together(tmp_path: Path, connections: int) -> None:
    content = fixtures(SHAPE)
    faults = Faults(
        expire_after=7, expired="index", block_class="both", rows_a_page=6, charset=False, notice=True, portuguese=True,
        unavailable={f"{FILES}.1.S": 2, "details.php?id=3": 2}, retry_after="0", stall={f"{FILES}.2.S": 1}, stall_s=1.2,
        cut={f"{FILES}.3.S": 1, f"{FILES}.1.D": 2}, cut_keeps_length=False, validators=True, protected=True,
    )  # fmt: skip
    client = fetched(tmp_path, content, faults, timeout_s=0.6, connections=connections)
    assert check_answer_key(client, content) == set(content.tree)


def test_the_label_is_that_of_the_visit(tmp_path: Path) -> None:
    content = fixtures(SHAPE)
    client = fetched(tmp_path, content, Faults())
    labels = {each.exam: each.label for each in client.catalog() if each.patient == 137}
    assert labels == {"137_1": "healthy", "137_2": "sick"}
    unknown = next(each for each in client.catalog() if each.exam == "1_2")
    assert (unknown.status, unknown.path, unknown.extra["diagnosis"]) == ("unlabelled", "", "Unknown")


def test_nothing_depends_on_the_era_or_on_connections(tmp_path: Path) -> None:
    first = fetched(tmp_path / "a", fixtures(SHAPE), Faults())
    second = fetched(tmp_path / "b", fixtures(SHAPE), Faults(block_class="both", rows_a_page=4), connections=3)
    assert first.snapshot() == second.snapshot()


def test_redirects_in_a_circle_and_off_the_site_are_listed(tmp_path: Path) -> None:
    content = fixtures(SHAPE)
    faults = Faults(loops=(f"{FILES}.1.S",), redirect_off_site=(f"{FILES}.2.S",))
    with Replica(content, faults).running() as replica:
        client = Client(replica, tmp_path / "study")
        report = client.fetch(patients=[2])
    reasons = {each.item: each.reason for each in report.failed}
    assert reasons["T0002.1.1.S.2013-03-13.00.txt"] == "redirects in a circle"
    assert reasons["T0002.1.2.S.2013-03-13.00.txt"] == "redirected off the site, to http://198.51.100.7"
    assert report.figures["new"] == 25


def test_two_labels_for_one_exam_are_refused(tmp_path: Path) -> None:
    content = fixtures(SHAPE)
    visits = content.patients[137].visits
    visits[1].links.append(dataclasses.replace(visits[0].links[0]))
    with Replica(content).running() as replica:
        client = Client(replica, tmp_path / "study")
        report = client.fetch(patients=[137])
    assert {each.exam for each in client.catalog() if each.status == "ok"} == {"137_2"}
    assert all("exam 137_1 has two labels" in each.reason for each in report.failed)
    assert len(report.failed) == 2


def test_a_page_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    content = fixtures(SHAPE)
    content.patients[2] = dataclasses.replace(content.patients[3], number=3)
    with Replica(content).running() as replica:
        report = Client(replica, tmp_path / "study").fetch(patients=[2, 5])
    assert report.failed[0].item == "patient 2"
    assert report.figures["new"] == 3
