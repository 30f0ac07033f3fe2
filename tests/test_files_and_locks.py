"""Atomic writes, content hashes, locks that notice dead owners, stamps that notice changed content."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import attack
import pytest

from thermocancer.errors import ConfigError, DataError, LockedError, RunError, visible
from thermocancer.files import (
    HashIndex,
    clone_or_link,
    fingerprint,
    folder_written_aside,
    hash_file,
    inside,
    link_or_copy,
    read_json,
    write_for_user,
    write_json,
    write_text,
    written_aside,
)
from thermocancer.locks import STALE_AFTER_S, UNSIGNED_AFTER_S, stage_lock, started
from thermocancer.workspace import FORMAT_VERSION, Stamp, Workspace


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), written_aside(target) as side:
        side.write_text(f"half {1 // 0}")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_a_run_error_that_says_where(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught, written_aside(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "No space" in str(caught.value)
    assert caught.value.where == str(tmp_path / "a.txt")


def test_a_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_a_broken_json_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.where == str(tmp_path / "a.json")


def test_fingerprints_depend_on_content_only() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_links_share_content_and_replace(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "b", "two")
    assert link_or_copy(tmp_path / "a", tmp_path / "b") in ("link", "copy")
    assert (tmp_path / "b").read_text() == "one"


def test_a_link_that_cannot_be_renamed_costs_its_source_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, replace = tmp_path / "source", os.replace
    source.write_text("the only one")
    strikes = iter([OSError(errno.ENOSPC, "No space left on device")])

    def full_once(*given: Path) -> None:
        for strike in strikes:
            raise strike
        replace(*given)

    monkeypatch.setattr(os, "replace", full_once)
    assert link_or_copy(source, tmp_path / "target") == "copy"
    assert source.read_text() == (tmp_path / "target").read_text() == "the only one"


def test_the_hash_index_notices_changes_and_survives_a_broken_cache(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache.json"
    write_text(data, "one")
    index = HashIndex(cache)
    first = index.of(data)
    index.save()
    assert first == hash_file(data)
    assert HashIndex(cache).of(data, hasher=lambda path: "not called") == first
    write_text(data, "two, longer")
    assert HashIndex(cache).of(data) == hash_file(data) != first
    cache.write_text("{ broken")
    assert HashIndex(cache).of(data) == hash_file(data)


def test_a_held_lock_refuses_a_second_writer(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "convert.lock"
    with stage_lock(path):
        with pytest.raises(LockedError) as caught, stage_lock(path):
            pytest.fail("two writers")
        assert str(os.getpid()) in str(caught.value)
    assert not path.exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "fuse.lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom thermocancer.locks import stage_lock\n"
        "with stage_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockedError), stage_lock(path):
            pytest.fail("two writers")
        child.send_signal(signal.SIGKILL)
        child.wait()
    with stage_lock(path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(("age_s", "free"), [(10, False), (STALE_AFTER_S + 10, True)], ids=["beating", "silent"])
def test_another_hosts_lock_is_judged_by_its_heartbeat(tmp_path: Path, age_s: float, free: bool) -> None:
    path = tmp_path / "fetch.lock"
    path.write_text(json.dumps({"pid": 1, "host": "some-other-host", "since": 0}))
    then = time.time() - age_s
    os.utime(path, (then, then))
    if free:
        with stage_lock(path):
            assert path.exists()
    else:
        with pytest.raises(LockedError, match="some-other-host"), stage_lock(path):
            pytest.fail("two writers")


def test_a_stamp_is_current_until_inputs_or_outputs_change(tmp_path: Path) -> None:
    stamp, output = Stamp(tmp_path / "manifest.json"), tmp_path / "out.bin"
    assert not stamp.is_current("a")
    write_text(output, "made")
    stamp.write("a", [output], stage="demo")
    assert stamp.is_current("a")
    assert not stamp.is_current("b")
    assert read_json(stamp.path)["stage"] == "demo"
    os.utime(output, (0, 0))
    assert stamp.is_current("a"), "a date is not content"
    write_text(output, "changed")
    assert not stamp.is_current("a")
    output.unlink()
    assert not stamp.is_current("a")


def test_a_workspace_from_the_future_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.check_version()
    workspace.mark_version()
    workspace.check_version()
    write_json(tmp_path / "workspace.json", {"format_version": FORMAT_VERSION + 1})
    with pytest.raises(DataError, match="newer"):
        workspace.check_version()


# --- what the user names, and what files name -------------------------------------------------------------------------


def test_what_the_user_names_is_written_into_and_not_replaced(tmp_path: Path) -> None:
    real, link, pipe = tmp_path / "real.json", tmp_path / "link.json", tmp_path / "pipe"
    real.write_text("old")
    link.symlink_to(real)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (link, pipe, Path("/dev/null")):
        write_for_user(path, "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert pipe.is_fifo()
    assert Path("/dev/null").is_char_device()
    with pytest.raises(RunError, match="No space"):
        write_for_user(Path("/dev/full"), "new")
    assert Path("/dev/full").is_char_device()


OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "", "a\x1bb", "a\nb", "..\\x", "\\x", None, 3, "."]
NO_NAMES = ["../x", "/x", "", ".", "..", "a/b", "a\\b", "a\x1b[2J", "a\n", " a", "a ", "-a", "a" * 81]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_of_a_file_stays_inside_its_folder(tmp_path: Path, path: object) -> None:
    with pytest.raises(DataError, match="leads out"):
        inside(tmp_path, path)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    for place in (Workspace(tmp_path).run, Workspace(tmp_path).dataset):
        with pytest.raises(ConfigError, match="cannot be the name"):
            place(name)


@pytest.mark.parametrize("name", ["svm5", "T3-v1", "my run", "été_2", "a.b", "lr=1e-3"])
def test_usual_names_are_names(tmp_path: Path, name: str) -> None:
    assert Workspace(tmp_path).run(name) == tmp_path / "runs" / name


def test_nothing_that_moves_a_cursor_is_shown() -> None:
    assert visible("a\x1b[2J\r\nerror: none \u202e\udce9 é") == "a\\x1b[2J\\r\\nerror: none \\u202e\\udce9 é"


@pytest.mark.parametrize("take", [link_or_copy, clone_or_link])
def test_what_a_link_leads_to_is_taken_and_survives_the_move_of_its_source(tmp_path: Path, take: attack.Taker) -> None:
    annex = tmp_path / "annex" / "object"
    write_text(annex, "temperatures")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "relative").symlink_to("../annex/object")
    (folder / "absolute").symlink_to(annex)
    for name in ("relative", "absolute"):
        take(folder / name, tmp_path / "raw" / name)
    annex.unlink()
    for name in ("relative", "absolute"):
        assert not (tmp_path / "raw" / name).is_symlink()
        assert (tmp_path / "raw" / name).read_text() == "temperatures"
    with pytest.raises(DataError, match="cannot be read"):
        take(folder / "relative", tmp_path / "raw" / "gone")
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == ["absolute", "relative"]


def test_content_that_was_swapped_under_an_old_date_is_noticed(tmp_path: Path) -> None:
    data, index = tmp_path / "data", HashIndex(tmp_path / "cache.json")
    write_text(data, "one")
    os.utime(data, (1_600_000_000, 1_600_000_000))
    first = index.of(data)
    data.unlink()
    write_text(data, "two")
    os.utime(data, (1_600_000_000, 1_600_000_000))
    assert index.of(data) == hash_file(data) != first


@pytest.mark.parametrize("content", [b"\xff{}", b"[" * 100_000, b"9" * 5000, b"", b'{"a": '], ids=repr)
def test_damage_of_any_kind_is_a_data_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DataError, match=r"b\.json"):
        read_json(tmp_path / "b.json")


# --- locks and fragments ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "age_s", "free"),
    [
        ({"pid": os.getpid(), "host": True}, 7 * 86400, True),
        ({"pid": 1, "host": True, "since": 1.0}, 0, True),
        ({"pid": 2**22 + 1, "host": True}, 0, True),
        ({"pid": os.getpid(), "host": True, "since": time.time()}, 0, False),
        ({"pid": os.getpid(), "machine": True, "began": 1}, 0, True),
        ({"pid": os.getpid(), "machine": True, "began": started(os.getpid())}, 7 * 86400, False),
        (None, UNSIGNED_AFTER_S + 1, True),
        (None, 0, False),
        ({"pid": "x"}, UNSIGNED_AFTER_S + 1, True),
    ],
    ids=[
        "reused number",
        "before the boot",
        "an earlier version's, gone",
        "an earlier version's, at work",
        "another of this number",
        "stopped",
        "unsigned",
        "being signed",
        "foreign",
    ],
)
def test_whose_lock_is_dead(tmp_path: Path, owner: dict[str, object] | None, age_s: float, free: bool) -> None:
    from thermocancer.locks import machine

    known = {"host": socket.gethostname(), "machine": machine()}
    path = tmp_path / "fuse.lock"
    owner = {key: known[key] if value is True else value for key, value in (owner or {}).items()}
    path.write_text(json.dumps(owner) if owner else "")
    then = time.time() - age_s
    os.utime(path, (then, then))
    if free:
        with stage_lock(path) as someone_died:
            assert someone_died
    else:
        with pytest.raises(LockedError), stage_lock(path):
            pytest.fail("two writers")


def test_the_heart_beats_while_the_lock_is_held_and_stops_when_it_is_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thermocancer.locks.HEARTBEAT_S", 0.02)
    path = tmp_path / "fuse.lock"

    def beats() -> bool:
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and path.stat().st_mtime == 1:
            time.sleep(0.01)
        return path.stat().st_mtime != 1

    with stage_lock(path):
        assert beats()
        path.write_text("another's")
        time.sleep(0.05)
        assert not beats()
    assert path.read_text() == "another's"


def test_a_lock_that_is_given_back_meanwhile_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "other.lock").symlink_to("gone")
    with stage_lock(tmp_path / "fuse.lock") as someone_died:
        assert not someone_died


def test_a_full_disk_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fdopen = os.fdopen

    def full(descriptor: int, mode: str) -> object:
        os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        return fdopen(descriptor, mode)

    monkeypatch.setattr("thermocancer.locks.os.fdopen", full)
    with pytest.raises(RunError, match="No space"), stage_lock(tmp_path / "fuse.lock"):
        pytest.fail("held")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom thermocancer.files import folder_written_aside, written_aside\n"
        "from thermocancer.workspace import Workspace\nroot = Path(sys.argv[1])\n"
        "with Workspace(root).lock('fuse'), written_aside(root / 'raw' / ('x' * 240 + '.txt')) as side:\n"
        "    side.write_text('half')\n"
        "    with folder_written_aside(root / 'runs' / 'a' / 'model') as folder:\n"
        "        folder.mkdir()\n        (folder / 'b').write_text('half')\n        os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    (tmp_path / "mine.partial.txt").write_text("the user's own")
    with folder_written_aside(tmp_path / "runs" / "b" / "model") as living:
        living.mkdir()
        assert len(workspace.fragments()) == 2
        with workspace.lock("convert"):
            assert not workspace.fragments()
            assert living.is_dir()
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["mine.partial.txt"]


def test_damaged_files_of_every_kind_races_at_a_dead_lock_and_hostile_servers(tmp_path: Path) -> None:
    """The benchmark that counts a hundred thousand, reduced."""
    counts = attack.Counts()
    attack.attack_files(attack.small_road(tmp_path), 600, 1, counts)
    attack.attack_locks(12, counts)
    attack.attack_servers(16, counts)
    assert counts.bad == 0, counts.examples
    assert len({kind for kind, _ in counts.outcomes}) > 15
