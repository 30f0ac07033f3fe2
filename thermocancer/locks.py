"""One writer a stage: lock files that survive FUSE mounts, notice dead owners, and know a process from its number."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from thermocancer.errors import LockedError, RunError

HEARTBEAT_S = 30.0
STALE_AFTER_S = 300.0
"""The lock of a process that cannot be asked (another host's, say) is dead without a heartbeat for this long."""

UNSIGNED_AFTER_S = 10.0
"""A lock file without an owner: its writer was killed, or found the disk full, between making and signing it."""

Owner = dict[str, object]


# --- processes --------------------------------------------------------------------------------------------------------


@functools.cache
def machine() -> str:
    """Eight digits for this machine since it was started, and this container: in it, process numbers mean one thing.

    Two machines that share a workspace may have equal process numbers; so may one before and after a restart.
    """
    known = [socket.gethostname()]
    with contextlib.suppress(OSError):  # no Linux
        known += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:8]


def started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the machine did; None where the system does not say."""
    state = _state(pid)
    return int(state[19]) if len(state) > 19 else None


def is_alive(pid: int, began: int | None = None) -> bool:
    """Is there a process of this number at work, and is it the one that ``began`` then?"""
    try:
        with contextlib.suppress(PermissionError):  # somebody else's, but there
            os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    state = _state(pid)
    if state and state[0] in "ZX":  # killed, and not yet buried by its parent
        return False
    return began is None or len(state) <= 19 or int(state[19]) == began


def _state(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the third on; none where there is no such file."""
    with contextlib.suppress(OSError):
        # the name in parentheses may hold spaces and parentheses itself
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


# --- locks ------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stage_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file ``path`` while the block runs; yields whether a dead lock stood in its folder.

    Creation with O_EXCL is the primitive: ``flock`` is not dependable on FUSE mounts, and only keeps the
    processes of one host from taking a dead lock over at the same moment. A lock is dead when its owner is: by
    number and start of the process on this machine, by five minutes without heartbeat elsewhere.
    Raises LockedError when somebody else holds it, RunError when it cannot be written.
    """
    token, someone_died = _acquire(path)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, token, stop), daemon=True)
    heart.start()
    try:
        yield someone_died
    finally:
        stop.set()
        heart.join()
        with contextlib.suppress(OSError), _one_at_a_time(path.parent):
            if path.read_text() == token:
                path.unlink()


def _acquire(path: Path) -> tuple[str, bool]:
    pid = os.getpid()
    owner = {"pid": pid, "host": socket.gethostname(), "machine": machine(), "began": started(pid)}
    token = json.dumps(owner | {"since": time.time()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(path.parent):
            dead = [each for each in path.parent.glob("*.lock") if _is_dead(each)]
            for each in dead:
                each.unlink(missing_ok=True)
            with contextlib.suppress(FileExistsError):
                _sign(path, token)
                return token, bool(dead)
    except OSError as error:
        raise RunError(
            "the workspace cannot be written to", where=path, found=error.strerror,
            hint="free some space or choose a folder you may write to with --workspace",
        ) from error  # fmt: skip
    holder = _read(path)
    raise LockedError(
        f"another process is writing the stage {path.stem!r}",
        where=path,
        found=f"process {holder.get('pid', '?')} on {holder.get('host', '?')}",
        hint="wait for it to end, or remove the lock file if that process is gone",
    )


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Of the processes of this host, one at a time in the block, where the file system lets us see to it.

    Four takers of a dead lock otherwise got one double hold in 250 rounds: the last to judge it removed the
    lock of the first to take it.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):  # no such thing on this mount: O_EXCL alone decides
            import fcntl

            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _sign(path: Path, token: str) -> None:
    """Make the lock file and write its owner into it. Raises OSError, and then leaves none."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(token)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path) -> Owner:
    try:
        holder = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_dead(path: Path) -> bool:
    holder = _read(path)
    try:
        silent_s = time.time() - path.stat().st_mtime
    except OSError:
        return False  # given back meanwhile
    pid, began, since = holder.get("pid"), holder.get("began"), holder.get("since")
    if not isinstance(pid, int) or pid < 1:
        return silent_s > UNSIGNED_AFTER_S
    if holder.get("machine") == machine():  # it can be asked: a stopped process holds its lock without a heartbeat
        return not is_alive(pid, began if isinstance(began, int) else None)
    if holder.get("host") == socket.gethostname() and "machine" not in holder and not is_alive(pid):
        return True  # signed by an earlier version, which knew the number alone
    if holder.get("host") == socket.gethostname() and isinstance(since, (int, float)) and _is_before_boot(since):
        return True
    return silent_s > STALE_AFTER_S


def _is_before_boot(since: float) -> bool:
    """Was that before this machine was started? Then nobody of that time is left."""
    with contextlib.suppress(OSError, ValueError):
        return since < time.time() - float(Path("/proc/uptime").read_text().split()[0]) - 1
    return False


def _beat(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            if path.read_text() != token:  # somebody removed it, and it is another's now
                return
            os.utime(path)
