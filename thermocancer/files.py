"""Writing files so that a name never stands for half a file, and knowing them by content.

The workspace may be a FUSE mount (Google Drive): no ``flock``, no atomic append by two writers.
So everything is written aside in the same folder, flushed to disk and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from thermocancer.errors import DataError, RunError, ThermocancerError
from thermocancer.locks import is_alive, machine, started

Json = dict[str, Any]
"""A JSON object as it is read or written: names, and under them numbers, words, lists and further objects."""

if TYPE_CHECKING:
    import h5py

Made = TypeVar("Made")

PARTIAL_SUFFIX = ".partial"
FORGOTTEN_AFTER_S = 86400.0
"""A side file of another machine, whose processes cannot be asked, is a fragment when it has not grown for a day."""


# --- writing: aside and renamed where the name is ours, in place where the user chose it ------------------------------


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
    # a stem may fill the 255 bytes of a name by itself
    stem = os.fsencode(path.stem)[:100].decode("ascii", "replace").replace("\ufffd", "_")
    owner = f"{machine()}-{os.getpid()}-{started(os.getpid()) or 0}"
    return path.with_name(f".{stem}.{owner}{PARTIAL_SUFFIX}{path.suffix}")


@contextlib.contextmanager
def folder_written_aside(folder: Path) -> Iterator[Path]:
    """Yield a name beside ``folder`` for the block to make a folder or file of; it then takes the place of ``folder``.

    So ``folder`` is whole, the old one, or (for the moment between the two) not there.
    """
    side = _side_path(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield side
        remove(folder)
        side.rename(folder)
    finally:
        remove(side)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fragments(folder: Path, *, deep: bool = True) -> list[Path]:
    """What writers that are no more left unfinished in ``folder`` and (``deep``) below it; links are not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            if _FRAGMENT.fullmatch(name) and not _is_being_written(Path(place, name)):
                found.append(Path(place, name))
        if not deep:
            break
    return sorted(found)


_FRAGMENT = re.compile(rf"\..+{re.escape(PARTIAL_SUFFIX)}(\.[^.]+)?", re.DOTALL)


def _is_being_written(side: Path) -> bool:
    owner = re.search(rf"\.([0-9a-f]{{8}})-([0-9]+)-([0-9]+){re.escape(PARTIAL_SUFFIX)}", side.name)
    if owner is None:
        return False
    if owner[1] == machine():
        return is_alive(int(owner[2]), int(owner[3]) or None)
    with contextlib.suppress(OSError):
        return time.time() - side.lstat().st_mtime < FORGOTTEN_AFTER_S
    return True


def sweep(folder: Path, *, deep: bool = True) -> int:
    """Remove the fragments, and say how many there were. Nobody's unfinished work is touched."""
    found = fragments(folder, deep=deep)
    for each in found:
        with contextlib.suppress(OSError):  # gone meanwhile, or not ours to remove
            remove(each)
    return len(found)


def write_for_user(path: Path, content: str) -> None:
    """Write UTF-8 text to a place that the user named: into whatever stands there, be it a device, a pipe or a link.

    Raises RunError when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(content)
    except OSError as error:
        raise RunError(
            "a file could not be written", where=path, found=error.strerror or error,
            hint="name another file, or free some space",
        ) from error  # fmt: skip


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` whole or not at all."""
    with written_aside(path) as side:
        side.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 ``content`` whole or not at all; of a file's name that is no UTF-8 the bytes are spelt out."""
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


# --- reading: damage is a DataError that names the file ---------------------------------------------------------------


@contextlib.contextmanager
def reading(path: object, what: str, *, expected: object = None, hint: str | None = None) -> Iterator[None]:
    """Whatever a damaged file makes its reader raise in the block, as a DataError ``what`` that names ``path``.

    Readers of damaged bytes raise nearly anything (an AttributeError, a RecursionError, a cv2.error): a list of
    what to expect of each had holes for one in six damaged files. So all of it is caught, and only around reading.
    """
    try:
        yield
    except (ThermocancerError, MemoryError):
        raise
    except Exception as error:
        said = getattr(error, "strerror", None) or next(iter(str(error).strip().splitlines()), "")
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        raise DataError(what, where=path, expected=expected, found=f"{kind}{said[:200]}", hint=hint) from error


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises DataError with the file's name when it cannot be read or is no JSON."""
    with reading(path, "this file is not valid JSON", hint="remove it and run the stage again that writes it"):
        return json.loads(path.read_bytes())


def read_json_as(
    path: Path, make: Callable[[Json], Made], what: str, *, expected: object = None, hint: str | None = None
) -> Made:
    """What ``make`` makes of a JSON file's content. Raises DataError ``what``, naming the file, when it cannot."""
    content = read_json(path)
    with reading(path, what, expected=expected, hint=hint):
        return make(content)


def read_json_lines(
    path: Path, make: Callable[[Json], Made], *, what: str = "a line cannot be read", hint: str | None = None
) -> Iterator[Made]:
    """What ``make`` makes of each line of a JSON file of lines; empty ones are skipped.

    Raises DataError with the line that is damaged.
    """
    with reading(path, what, hint=hint):
        lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.strip():
            with reading(f"{path}:{number}", what, hint=hint):
                made = make(json.loads(line))
            yield made


def check_self_contained(group: h5py.Group, path: object, depth: int = 0) -> None:
    """Raise DataError when an HDF5 group leads out of its file: by a link, external storage or a virtual data set.

    HDF5 follows all three by itself: ``/etc/passwd`` once came back as pixels.
    """
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        child = group.get(name) if isinstance(link, h5py.HardLink) and depth < DEEPEST_GROUP else None
        if isinstance(child, h5py.Group):
            check_self_contained(child, path, depth + 1)
        elif child is None or (isinstance(child, h5py.Dataset) and (child.external or child.is_virtual)):
            raise DataError(
                "this HDF5 file leads to another place", where=f"{path}: {group.name.rstrip('/')}/{name}",
                expected="arrays that lie in the file itself", found="a link or external storage",
            )  # fmt: skip


DEEPEST_GROUP = 30
"""Networks nest a dozen; a group that holds itself has no end."""


def inside(folder: Path, relative: object) -> Path:
    """The place of ``relative`` under ``folder``: for every path that a file gives. Nothing on disk is asked.

    Raises DataError when it leads out of the folder, or is no path at all.

    >>> inside(Path("raw"), "Static/a.txt").as_posix()
    'raw/Static/a.txt'
    """
    text = relative if isinstance(relative, str) else ""
    parts = PurePosixPath(text.replace("\\", "/")).parts
    if not parts or text.startswith(("/", "\\")) or ".." in parts or re.search(r"[\x00-\x1f\x7f]", text):
        raise DataError(
            "a path leads out of its folder", where=folder, expected="a relative path below the folder", found=relative
        )
    return folder / text


# --- knowing files by content -----------------------------------------------------------------------------------------


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(*parts: object) -> str:
    """SHA-256 of JSON-serialisable parts: equal parts, equal fingerprint, on any machine."""
    text = json.dumps(parts, sort_keys=True, default=str, allow_nan=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def link_or_copy(source: Path, target: Path) -> str:
    """Hard-link ``source`` as ``target``, or copy where links are not possible. Of a symbolic link, what it leads to.

    Returns ``"link"`` or ``"copy"``. An existing ``target`` is replaced atomically. A link is not flushed:
    its content is on disk already, and a read-only source could not be opened for it.
    """
    side = _side_path(target)
    try:
        # a link linked would lead nowhere from another folder, or when its source has moved
        source = source.resolve(strict=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        side.unlink(missing_ok=True)
        os.link(source, side)
        os.replace(side, target)
    except (OSError, RuntimeError):  # of a loop of links, before Python 3.13
        side.unlink(missing_ok=True)  # a link that could not be renamed is the source itself: a copy would empty it
        _copy(source, target)
        return "copy"
    finally:  # renaming a file onto its own other name does nothing, and leaves both
        with contextlib.suppress(OSError):
            side.unlink(missing_ok=True)
    return "link"


def clone_or_link(source: Path, target: Path) -> str:
    """``target`` with the content of somebody else's ``source``: blocks shared where the disk can, else linked.

    Returns ``"clone"``, ``"link"`` or ``"copy"``. A hard link follows an edit of the source in place: who uses it
    compares the content with the hash that is known. What a symbolic link leads to is copied.
    """
    with contextlib.suppress(OSError, RunError, ImportError):
        with written_aside(target) as side, open(source, "rb") as given, open(side, "wb") as taken:
            import fcntl

            fcntl.ioctl(taken.fileno(), FICLONE, given.fileno())
        return "clone"
    if not source.is_symlink():
        return link_or_copy(source, target)
    _copy(source, target)
    return "copy"


FICLONE = 0x40049409
"""Linux's request for a file that shares its blocks with another (btrfs, xfs), until one of the two is written to."""


def _copy(source: Path, target: Path) -> None:
    try:
        given = open(source, "rb")  # noqa: SIM115 - closed below; a missing source is not the disk's fault
    except OSError as error:
        raise DataError(
            "this file cannot be read", where=source, found=error.strerror or error,
            hint="if it is a link whose content is not here, bring it (git annex get, datalad get)",
        ) from error  # fmt: skip
    with given, written_aside(target) as side, open(side, "wb") as taken:
        shutil.copyfileobj(given, taken, 2**20)


class HashIndex:
    """SHA-256 of files, remembered while size and the times of change stay what they were.

    The modification time alone does not tell: rsync, tar and zip restore it, and all matrices of a camera have one
    size. The time of change (of the inode) nobody can set.

    Content decides whether a stage is up to date; this only saves reading unchanged files again.
    ``cache_file`` may be deleted at any time; as of every file of the cache, one that cannot be used is not
    there, and one that cannot be written stops no work (``thermocancer.cache``).
    """

    def __init__(self, cache_file: Path) -> None:
        self._cache_file = cache_file
        self._known: dict[str, list[object]] = {}
        self._changed = False
        with contextlib.suppress(DataError):
            self._known = read_json_as(cache_file, _entries, "these are no hashes")

    def of(self, path: Path, hasher: Callable[[Path], str] = hash_file, kept_as: str = "") -> str:
        """Return the file's SHA-256, or what ``hasher`` makes of it; several of them are ``kept_as`` several things."""
        key = f"{path}#{kept_as}" if kept_as else str(path)
        facts = path.stat()
        stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
        entry = self._known.get(key)
        if entry is None or entry[:-1] != stamp:
            entry = [*stamp, hasher(path)]
            self._known[key] = entry
            self._changed = True
        return str(entry[-1])

    def save(self) -> None:
        if self._changed:
            with contextlib.suppress(RunError):
                write_json(self._cache_file, self._known)
            self._changed = False


def _entries(known: dict[str, list[object]]) -> dict[str, list[object]]:
    return {path: [size, changed, own, str(digest)] for path, (size, changed, own, digest) in known.items()}
