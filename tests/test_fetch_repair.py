"""A catalog that no longer tells the truth, and how it is put right."""

from __future__ import annotations

from pathlib import Path

from dmr_replica import Faults, Replica
from dmr_replica_content import cohort
from fetch_fixtures import SHAPE, Client, check_answer_key, kill_fetch
from typer.testing import CliRunner

from thermocancer.cli import register
from thermocancer.dmr.mirror import check_raw, repair_raw


def test_every_kind_of_damage_is_found_and_mended(tmp_path: Path) -> None:
    content = cohort(2, SHAPE, dynamic_exams=False)
    with Replica(content).running() as replica:
        client = Client(replica, tmp_path / "study")
        assert check_raw(client.workspace).is_sound
        client.fetch()
        assert check_raw(client.workspace).is_sound
        assert repair_raw(client.workspace) == []
        gone, changed = sorted(content.tree)[:2]
        raw = client.workspace.raw
        (raw / gone).unlink()
        body = (raw / changed).read_bytes()
        (raw / changed).write_bytes(body.replace(b"3", b"2", 1))
        (raw / "Static" / "Frontal" / "healthy").mkdir(parents=True, exist_ok=True)
        (raw / "Static" / "Frontal" / "healthy" / "note.txt").write_text("mine")
        (raw / "Static" / "Frontal" / ".half.123.partial.txt").write_text("20.")
        state = check_raw(client.workspace)
        assert [each.path for each in state.missing] == [gone]
        assert [each.path for each in state.damaged] == [changed]
        assert state.strays == ("Static/Frontal/healthy/note.txt",)
        assert state.fragments == ("Static/Frontal/.half.123.partial.txt",)
        assert len(repair_raw(client.workspace)) == 3
        assert (raw / "damaged" / changed).exists()
        assert (raw / "Static" / "Frontal" / "healthy" / "note.txt").exists(), "a stray may be somebody's data"
        (raw / "Static" / "Frontal" / "healthy" / "note.txt").unlink()
        assert client.fetch().figures["new"] == 2
        check_answer_key(client, content)
        assert check_raw(client.workspace).is_sound


def test_a_killed_fetch_is_taken_up(tmp_path: Path) -> None:
    with Replica(cohort(2, SHAPE, dynamic_exams=False), Faults(delay_s=0.002)).running() as replica:
        client = Client(replica, tmp_path / "study")
        assert kill_fetch(client, after_requests=13, then_s=0.0)
        whole = set(client.tree())
        assert check_raw(client.workspace).unfinished
        assert "took up a fetch that was killed" in repair_raw(client.workspace)
        assert {each.path for each in client.catalog()} == {path for path in whole if "/." not in path}
        assert check_raw(client.workspace).is_sound


def test_doctor_finds_it_and_fixes_it(tmp_path: Path) -> None:
    with Replica(cohort(2, SHAPE, dynamic_exams=False)).running() as replica:
        client = Client(replica, tmp_path / "study")
        client.fetch()
    path = sorted(client.tree())[0]
    (client.workspace.raw / path).write_bytes(b"20.00")
    runner = CliRunner()
    found = runner.invoke(register(), ["doctor", "-w", str(client.root)])
    assert found.exit_code == 1
    assert f"1 files have changed since, first {path}" in found.stdout
    mended = runner.invoke(register(), ["doctor", "--fix", "-w", str(client.root)])
    assert mended.exit_code == 0
    assert f"fixed  set the damaged {path} aside" in mended.stdout
    assert len(client.catalog()) == 9
