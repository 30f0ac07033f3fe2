"""Atomic writes, content hashes, locks that notice dead owners, stamps that notice changed content."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from thermocancer.errors import DataError, LockedError, RunError
from thermocancer.files import (
    HashIndex,
    fingerprint,
    hash_file,
    link_or_copy,
    read_json,
    write_json,
    write_text,
    written_aside,
)
from thermocancer.locks import STALE_AFTER_S, stage_lock
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
