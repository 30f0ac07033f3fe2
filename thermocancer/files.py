"""Writing files so that a name never stands for half a file, and knowing them by content.

The workspace may be a FUSE mount (Google Drive): no ``flock``, no atomic append by two writers.
So everything is written aside in the same folder, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from thermocancer.errors import DataError, RunError

Json = dict[str, Any]
"""A JSON object as it is read or written: names, and under them numbers, words, lists and further objects."""

PARTIAL_SUFFIX = ".partial"
_OWN = secrets.token_hex(4)
"""Of this process and its forks: machines that share a workspace may have equal process numbers."""


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a side path in the folder of ``path``; rename it to ``path`` when the block succeeds.

    The side file keeps the suffix of ``path`` (writers such as OpenCV go by it) and is removed
    when the block raises. Raises RunError when the disk is full or the folder is read-only.
    """
    side = _side_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield side
        _flush_to_disk(side)
        os.replace(side, path)
    except OSError as error:
        raise RunError(
            "a file could not be written",
            where=path,
            found=error.strerror or error,
            hint="free some space or choose a folder you may write to with --workspace",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            side.unlink(missing_ok=True)


def _side_path(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}-{_OWN}{PARTIAL_SUFFIX}{path.suffix}")


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with written_aside(path) as side:
        side.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 ``content`` whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError with the file's name when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "this file is not valid JSON",
            where=path,
            found=error,
            hint="remove it and run the stage again that writes it",
        ) from error


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """SHA-256 of JSON-serialisable parts: equal parts, equal fingerprint, on any machine."""
    text = json.dumps(parts, sort_keys=True, default=str, allow_nan=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def link_or_copy(source: Path, target: Path) -> str:
    """Hard-link ``source`` as ``target``, or copy where links are not possible.

    Returns ``"link"`` or ``"copy"``. An existing ``target`` is replaced atomically. A link is not flushed:
    its content is on disk already, and a read-only source could not be opened for it.
    """
    import shutil

    side = _side_path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        side.unlink(missing_ok=True)
        os.link(source, side)
        os.replace(side, target)
    except OSError:
        with written_aside(target) as copy:
            shutil.copyfile(source, copy)
        return "copy"
    finally:  # renaming a file onto its own other name does nothing, and leaves both
        with contextlib.suppress(OSError):
            side.unlink(missing_ok=True)
    return "link"


class HashIndex:
    """SHA-256 of files, remembered while size and modification time stay what they were.

    Content decides whether a stage is up to date; this only saves reading unchanged files again.
    ``cache_file`` may be deleted at any time; as of every file of the cache, one that cannot be used is not
    there, and one that cannot be written stops no work (``thermocancer.cache``).
    """

    def __init__(self, cache_file: Path) -> None:
        self._cache_file = cache_file
        self._known: dict[str, list[object]] = {}
        self._changed = False
        with contextlib.suppress(DataError, OSError, AttributeError, TypeError, ValueError):
            known = read_json(cache_file).items()
            self._known = {path: [size, changed, str(digest)] for path, (size, changed, digest) in known}

    def of(self, path: Path, hasher: Callable[[Path], str] = hash_file) -> str:
        """Return the file's SHA-256."""
        facts = path.stat()
        stamp = [facts.st_size, facts.st_mtime_ns]
        entry = self._known.get(str(path))
        if entry is None or entry[:2] != stamp:
            entry = [*stamp, hasher(path)]
            self._known[str(path)] = entry
            self._changed = True
        return str(entry[2])

    def save(self) -> None:
        if self._changed:
            with contextlib.suppress(RunError):
                write_json(self._cache_file, self._known)
            self._changed = False
