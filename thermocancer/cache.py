"""One rule for whatever is kept under ``cache/``: what cannot be used is not there, and is made again.

A path carries the fingerprint of everything that its content depends on. So a file is right, or it is nothing:
missing, empty, cut short, of another shape or type, of another program, a folder, not for us to read - all the
same. Anything may be deleted at any time. Files are written aside and renamed (``files.written_aside``).

A cache that cannot be written to (full disk, read-only folder) stops no work whose result is in memory: the
result is handed out and made again next time. Only ``mapped_array``, which needs the disk as its memory, raises.

``thermocancer doctor`` says what the cache holds, in the words of ``FAMILIES``, and empties it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError, RunError
from thermocancer.files import write_json, written_aside

Content = TypeVar("Content")
Number = TypeVar("Number", bound=np.generic)
Shape = tuple[int, ...]
Arrays = dict[str, npt.NDArray[np.generic]]

FAMILIES = {
    "audit": "scores of an audit's controls: an interrupted audit goes on with them",
    "features": "what encoders, backbones and measures made of each exam",
    "fits": "where trainings stood: interrupted ones go on from there",
    "folds": "finished folds: interrupted runs go on with them",
    "gram": "inner products of exams for support vector machines",
    "images": "pixels of image folders, and what backbones made of them",
    "locate": "phantoms that locate's network learnt from, and that network: without them it is made anew",
    "likeness": "what training exams look like, for predict",
    "masked": "thermograms without the body, or the body alone, for audits",
    "simulate": "finished visits of a simulation under way",
    "sweep": "trials of searches: without them a sweep begins anew",
}
"""The folders under ``cache/``, and what each holds in words."""

LOOSE = "hashes and measures of files; where the last fetch ended"
"""What the single files in ``cache/`` itself hold."""


# --- arrays and JSON: found, or made and kept ---------------------------------


def content_hash(array: npt.NDArray[np.generic]) -> str:
    """SHA-256 of an array: the same temperatures, the same hash, whatever file they stood in."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def cached_array(
    path: Path | None, shape: Shape, dtype: type[Number], make: Callable[[], npt.NDArray[Number]]
) -> npt.NDArray[Number]:
    """The array of this shape and type at ``path`` (``.npy``), or what ``make`` gives, kept there for next time.

    Without a path nothing is kept. Raises DataError when ``make`` gives another shape.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "features" / "squares.npy"
    ...     first = cached_array(path, (3,), np.float64, lambda: np.arange(3.0) ** 2)
    ...     again = cached_array(path, (3,), np.float64, lambda: np.zeros(3))
    ...     _ = path.write_bytes(b"")
    ...     other = cached_array(path, (3,), np.float64, lambda: np.ones(3))
    >>> first.tolist(), again.tolist(), other.tolist()
    ([0.0, 1.0, 4.0], [0.0, 1.0, 4.0], [1.0, 1.0, 1.0])
    """
    found = None if path is None else _usable(lambda: _fitting(np.load(path, allow_pickle=False), shape, dtype))
    if found is not None:
        return found
    made = np.ascontiguousarray(make(), dtype=dtype)
    if made.shape != shape:
        raise DataError("an array of an unexpected shape was computed", where=path, expected=shape, found=made.shape)
    if path is not None:
        _keep(path, lambda side: np.save(side, made, allow_pickle=False))
    return made


def mapped_array(
    path: Path, shape: Shape, dtype: type[Number], fill: Callable[[npt.NDArray[Number]], None]
) -> npt.NDArray[Number]:
    """The same for arrays larger than memory: mapped from ``path``, read-only; ``fill`` is given zeros on disk.

    The disk is asked for all of the room first. Raises RunError when it has none, or the folder is read-only.

    >>> from tempfile import TemporaryDirectory
    >>> def count(rows: npt.NDArray[np.uint16]) -> None:
    ...     rows[1:] = 7
    >>> with TemporaryDirectory() as folder:
    ...     kept = mapped_array(Path(folder) / "kept.npy", (2, 2), np.uint16, count)
    ...     print(type(kept).__name__, kept.tolist(), kept.flags.writeable)
    memmap [[0, 0], [7, 7]] False
    """

    def known() -> npt.NDArray[Number]:
        return _fitting(np.load(path, mmap_mode="r", allow_pickle=False), shape, dtype)

    found = _usable(known)
    if found is not None:
        return found
    filled = None
    try:
        with written_aside(path) as side:
            room = np.lib.format.open_memmap(side, "w+", dtype, shape)
            with side.open("rb+") as handle:
                _take_the_room(handle.fileno())
            fill(room)
            room.flush()
            filled = room
    except RunError:
        if filled is None:
            raise
    found = _usable(known)
    if found is None and filled is not None:  # the name is taken, by a folder say: the file lives on without one
        filled.flags.writeable = False
        found = filled
    assert found is not None
    return found


@contextlib.contextmanager
def scratch_array(folder: Path, shape: Shape, dtype: type[Number], in_memory: int) -> Iterator[npt.NDArray[Number]]:
    """Zeros that nobody needs once the block ends: on the disk of ``folder`` where larger than ``in_memory`` bytes.

    Raises RunError as ``mapped_array`` does.
    """
    if math.prod(shape) * np.dtype(dtype).itemsize <= in_memory:
        yield np.zeros(shape, dtype)
        return
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # unnamed: the system removes it even when the process is killed; unbuffered: what failed is not tried again
            file = stack.enter_context(tempfile.TemporaryFile(buffering=0, dir=folder))
            room = np.memmap(file, dtype, "w+", shape=shape)
            _take_the_room(file.fileno())
        except OSError as error:
            raise RunError(
                "a temporary file could not be written",
                where=folder,
                found=error.strerror or error,
                hint="free some space or choose a folder you may write to with --workspace",
            ) from error
        yield room


def kept_arrays(path: Path, wanted: Mapping[str, tuple[Shape, npt.DTypeLike]]) -> Arrays | None:
    """The named arrays at ``path`` (``.npz``) if all are there in these shapes and types, else None.

    For what is computed many at a time; ``keep_arrays`` puts them there.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     path, wanted = Path(folder) / "gram.npz", {"products": ((2, 2), np.float32), "variance": ((), np.float64)}
    ...     print(kept_arrays(path, wanted))
    ...     keep_arrays(path, products=np.eye(2, dtype=np.float32), variance=np.float64(3))
    ...     print(sorted(kept_arrays(path, wanted)), kept_arrays(path, {"products": ((9, 9), np.float32)}))
    None
    ['products', 'variance'] None
    """

    def read() -> Arrays:
        # opened here: numpy leaves a damaged archive open that it opens itself
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as content:
            return {name: _fitting(content[name], shape, dtype) for name, (shape, dtype) in wanted.items()}

    return _usable(read)


def keep_arrays(path: Path, **arrays: npt.ArrayLike) -> None:
    """Keep named arrays for ``kept_arrays``; where the disk does not let us, nothing is kept."""
    _keep(path, lambda side: np.savez(side, allow_pickle=False, **arrays))


def cached_json(
    path: Path, make: Callable[[], Content], *, encode: Callable[[Content], object], decode: Callable[[Any], Content]
) -> Content:
    """What ``decode`` reads in the JSON file ``path``, or what ``make`` gives, kept there for next time.

    ``decode`` raises whatever it likes when the content is not what it should be: the file is then made again.
    What was just made goes through both too, so that the first answer is the same as any later one.

    >>> from tempfile import TemporaryDirectory
    >>> def pair(numbers: list[int]) -> tuple[int, int]:
    ...     first, second = numbers
    ...     return first, second
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "pair.json"
    ...     _ = path.write_text("[1, 2, 3]")
    ...     print([cached_json(path, lambda: made, encode=list, decode=pair) for made in ((4, 5), (6, 7))])
    [(4, 5), (4, 5)]
    """
    found = _usable(lambda: decode(json.loads(path.read_text(encoding="utf-8"))))
    if found is not None:
        return found
    content = encode(make())
    with contextlib.suppress(RunError):  # works without the cache
        write_json(path, content)
    return decode(content)


def _usable(read: Callable[[], Content]) -> Content | None:
    """What ``read`` gives, or None. Damaged bytes make readers raise nearly anything: all of it means absent."""
    try:
        return read()
    except Exception:
        return None


def _fitting(found: npt.NDArray[Number], shape: Shape, dtype: npt.DTypeLike) -> npt.NDArray[Number]:
    if found.shape != shape or found.dtype != np.dtype(dtype):
        raise ValueError("another array")
    return found


def _keep(path: Path, write: Callable[[Path], None]) -> None:
    with contextlib.suppress(RunError), written_aside(path) as side:  # works without the cache
        write(side)


def _take_the_room(file: int) -> None:
    """Have the disk give every block now: a mapped file that finds it full later kills the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, os.fstat(file).st_size)


# --- the cache as a whole: what it holds, emptying it -------------------------


@dataclass(frozen=True)
class Holding:
    """One folder of the cache (or its loose files, with no name): what it holds, how many files, bytes."""

    name: str
    what: str
    files: int
    size: int

    def __str__(self) -> str:
        files = "1 file" if self.files == 1 else f"{self.files} files"
        return f"{self.name or 'loose files'}: {files}, {self.size / 1e6:.1f} MB ({self.what})"


def holdings(cache: Path) -> list[Holding]:
    """What stands under ``cache``, folder by folder. Links are counted, never followed."""
    found: dict[str, list[int]] = {}
    for folder, links_and_folders, names in os.walk(cache, followlinks=False):
        inside = Path(folder).relative_to(cache).parts
        sizes = found.setdefault(inside[0] if inside else "", [])
        names += [each for each in links_and_folders if Path(folder, each).is_symlink()]
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                sizes.append(Path(folder, name).lstat().st_size)
    words = FAMILIES | {"": LOOSE}
    return [
        Holding(name, words.get(name, "nothing that this version knows"), len(sizes), sum(sizes))
        for name, sizes in sorted(found.items())
        if sizes
    ]


def empty_cache(cache: Path) -> None:
    """Remove all that stands under ``cache``. Links are removed, what they lead to is left alone.

    Raises RunError when ``cache`` is itself a link, or something cannot be removed.
    """
    if cache.is_symlink():
        raise RunError(
            "the cache is a link to another folder, which is left alone",
            where=cache, found=os.readlink(cache), hint="empty that folder yourself, or remove the link",
        )  # fmt: skip
    for each in cache.iterdir() if cache.is_dir() else ():
        try:
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            else:
                each.unlink()
        except OSError as error:
            raise RunError("the cache could not be emptied", where=each, found=error.strerror or error) from error
