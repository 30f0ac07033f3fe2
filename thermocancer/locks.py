"""One writer a stage: lock files that survive FUSE mounts and notice dead owners."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from thermocancer.errors import LockedError, RunError
from thermocancer.files import Json

HEARTBEAT_S = 30.0
STALE_AFTER_S = 300.0  # another host's lock without a heartbeat for this long is taken over


@contextlib.contextmanager
def stage_lock(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    Creation with O_EXCL is the only primitive used: ``flock`` is not dependable on FUSE mounts.
    A lock whose owner is dead (same host) or silent for five minutes (another host) is taken over.
    Raises LockedError when somebody else holds it.
    """
    token = _acquire(path)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        heart.join()
        with contextlib.suppress(OSError):
            if path.read_text() == token:
                path.unlink()


def _acquire(path: Path) -> str:
    owner = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
    token = json.dumps(owner)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError("the workspace cannot be written to", where=path.parent, found=error.strerror) from error
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _remove_if_dead(path)
            continue
        except OSError as error:
            raise RunError("the workspace cannot be written to", where=path, found=error.strerror) from error
        with os.fdopen(descriptor, "w") as handle:
            handle.write(token)
        return token
    holder = _read(path)
    raise LockedError(
        f"another process is writing the stage {path.stem!r}",
        where=path,
        found=f"process {holder.get('pid', '?')} on {holder.get('host', '?')}",
        hint="wait for it to end, or remove the lock file if that process is gone",
    )


def _read(path: Path) -> Json:
    try:
        holder = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _remove_if_dead(path: Path) -> None:
    holder = _read(path)
    if holder.get("host") == socket.gethostname() and "pid" in holder:
        dead = not _is_alive(int(holder["pid"]))
    else:
        try:
            dead = time.time() - path.stat().st_mtime > STALE_AFTER_S
        except FileNotFoundError:
            return
    if dead and _read(path) == holder:
        path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)
