"""Reading ``datasets/NAME.h5``: exams, matrices and nuisance of one data set.

Layout (version 1): ``/exams/{patient,visit,label,date,layout}`` (n,), ``/exams/formats/VIEW`` (n,) what the source
files were (absent in older data sets); ``/static/VIEW`` (n, H, W) uint16 hundredths of a degree or (n, H, W, 3) uint8
RGB, one chunk a frame; ``/static/present/VIEW`` (n,); ``/hashes`` (n, views); ``/nuisance/NAME`` (n,);
``/static/missing/VIEW`` (n, H, W) and ``/dynamic/missing`` (m, T, H, W) are uint8, 1 where a pixel holds no
temperature, and stand there only where one does. ``/dynamic/frames`` (m, T, H, W) and its own ``/dynamic/exams``,
``/dynamic/hashes``, ``/dynamic/filled``. ``crc32/VIEW`` (n,) or ``crc32/frames`` (m, T) of either part is that of each
frame, its attribute ``tables`` that of all else (absent in older data sets). Written by ``data/store/writing.py``.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from thermocancer.data.cohort import ALIKE, BoolArray, Exam, FloatArray, Frames, IntArray, Kind, degrees
from thermocancer.data.nuisance import RETIRED
from thermocancer.errors import DataError
from thermocancer.files import check_self_contained, hash_file, read_json_as, reading
from thermocancer.workspace import VIEWS

if TYPE_CHECKING:
    import h5py

FORMAT = "thermocancer-dataset"
FORMAT_VERSION = 1
Part = Literal["static", "dynamic"]
STATIC: Part = "static"
DYNAMIC: Part = "dynamic"
DYNAMIC_VIEW = "Frontal"
"""The one view of dynamic exams."""

_REBUILD = "build it again with: thermocancer build-dataset"


class StoredCohort:
    """The static or the dynamic exams of a data set, as a ``Cohort``; opened when first needed, closed by ``with``.

    ``filled`` (n, T) marks frames that were interpolated. Pickles without its handle, so that worker
    processes open their own. Raises DataError when the file is missing, truncated, foreign, of a newer
    version, or lacks the part.
    """

    def __init__(self, path: Path, part: Part = STATIC) -> None:
        self.path, self.part = Path(path), part
        self._handle: h5py.File | None = None
        if part not in self.file:
            hint = f"build it again with --set dataset.{part}=true"
            raise DataError(f"the data set holds no {part} exams", where=self.path, hint=hint)
        try:
            with self._reading():
                self._open()
        except BaseException:
            self.close()
            raise

    def _reading(self) -> AbstractContextManager[None]:
        return reading(self.path, "the data set is damaged", hint=_REBUILD)

    def _open(self) -> None:
        part, group = self.part, self.file[self.part]
        self.name = str(self.file.attrs["name"])
        self.fingerprint = str(group.attrs["fingerprint"])
        self.kind: Kind = "celsius" if str(group.attrs["kind"]) == "celsius" else "rgb"
        if part == STATIC:
            self.views: tuple[str, ...] = tuple(str(view) for view in group.attrs["views"])
            self._length, self._tables, columns = 1, "", self.views
            height, width = group[self.views[0]].shape[1:3]
        else:
            self.views = (DYNAMIC_VIEW,)
            _, self._length, height, width = group["frames"].shape[:4]
            self._tables, columns = "dynamic/", tuple(f"{index:02d}" for index in range(self._length))
        self.shape: tuple[int, int] = (int(height), int(width))
        self.exams = read_exams(self.file[f"{self._tables}exams"], self.file[f"{self._tables}hashes"], columns)
        filled = self.file.get(f"{self._tables}filled", np.zeros((len(self.exams), 1), bool))
        self.filled: BoolArray = filled[:].astype(bool)
        self._check_arrays(columns)

    def _check_arrays(self, columns: tuple[str, ...]) -> None:
        """Raise ValueError where the arrays are not those of the exams, or a table was changed since it was written."""
        count, group = len(self.exams), self.file[self.part]
        shape, dtype = ((*self.shape, 3), "uint8") if self.kind == "rgb" else (self.shape, "uint16")
        names, axes = (self.views, (count,)) if self.part == STATIC else (("frames",), (count, self._length))
        for name in names:
            if group[name].shape != (*axes, *shape) or group[name].dtype != dtype:
                found = f"{group[name].dtype} {group[name].shape}"
                raise ValueError(f"{name} is {found}, where the exams need {dtype} {(*axes, *shape)}")
        masks = self._masks()
        for name in masks:
            if group[name].shape != (*axes, *self.shape) or group[name].dtype != "uint8":
                raise ValueError(f"{name} is {group[name].dtype} {group[name].shape}")
        if any(exam.label not in (0, 1) for exam in self.exams):
            raise ValueError("a label is neither 0 nor 1")
        if any(values.shape != (count,) for values in self.nuisance().values()):
            raise ValueError("a nuisance variable has not one value an exam")
        known = group.attrs.get("tables")
        if known is not None and int(known) != checksum_of_tables(self.file, self._tables):
            raise ValueError("the checksum of the tables is another")
        sums = group.get("crc32")
        self._sums: dict[str, IntArray] = (
            {} if sums is None else {name: sums[name][:].astype(np.int64) for name in (*names, *masks)}
        )
        if any(each.shape != axes for each in self._sums.values()):
            raise ValueError("there is not one checksum a frame")

    def _masks(self) -> tuple[str, ...]:
        """Names of the arrays of missing pixels that are there."""
        names = tuple(f"missing/{view}" for view in self.views) if self.part == STATIC else ("missing",)
        return tuple(name for name in names if name in self.file[self.part])

    def _verified(self, name: str, frames: Frames, rows: IntArray, indices: IntArray | None = None) -> Frames:
        """``frames``, if they are what was stored. Raises DataError where the disk has changed a bit.

        Compressed chunks give other values for one flipped bit in 300 and no error.
        """
        if name in self._sums:
            expected = self._sums[name][np.asarray(rows, dtype=np.int64)]
            expected = expected if indices is None else expected[:, indices]
            flat = frames.reshape(expected.size, *self.shape, *frames.shape[expected.ndim + 2 :])
            for frame, known in zip(flat, expected.ravel(), strict=True):
                if zlib.crc32(np.ascontiguousarray(frame).data) != known:
                    raise DataError(
                        "a frame of the data set is damaged", where=self.path, hint=_REBUILD,
                        expected="the checksum it was stored with",
                    )  # fmt: skip
        return frames

    @property
    def file(self) -> h5py.File:
        if self._handle is None:
            self._handle = open_checked(self.path)
        return self._handle

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_handle": None}

    def __len__(self) -> int:
        return len(self.exams)

    @property
    def labels(self) -> IntArray:
        """0 healthy, 1 sick; (n,)."""
        return np.array([exam.label for exam in self.exams], dtype=np.int64)

    @property
    def dates(self) -> tuple[str | None, ...]:
        """Days of the exams, YYYY-MM-DD where known."""
        return tuple(exam.date for exam in self.exams)

    def celsius(self, view: str, rows: Sequence[int] | IntArray | None = None) -> FloatArray:
        """First frames of one view (of all exams by default) in degC, (n, H, W); see ``cohort.degrees``."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        return degrees(self, view, chosen)

    def length(self, view: str) -> int:
        return int(self._length)

    def present(self, view: str) -> BoolArray:
        self._check_view(view)
        if self.part == DYNAMIC:
            return np.ones(len(self), bool)
        with self._reading():
            present: BoolArray = self.file[f"static/present/{view}"][:].astype(bool)
            return present

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        """See ``Cohort.frames``. Raises IndexError outside the data set, DataError for a frame that cannot be read."""
        self._check_view(view)
        if self.part == STATIC:
            return self._verified(view, read_rows(self.file[f"static/{view}"], rows, self.path), rows)[:, np.newaxis]
        chosen = np.arange(self._length) if indices is None else np.asarray(indices, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < self._length:
            raise IndexError(f"frames {chosen.min()}..{chosen.max()} of a sequence of {self._length}")
        dataset = self.file["dynamic/frames"]
        if len(chosen) == self._length:
            whole = np.arange(self._length)
            return self._verified("frames", read_rows(dataset, rows, self.path), rows, whole)[:, chosen]
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of a data set with {len(self)} sequences")
        found: Frames = np.empty((len(rows), len(chosen), *dataset.shape[2:]), dataset.dtype)
        with reading(self.path, "a frame of the data set cannot be read", hint=_REBUILD):
            for place, row in enumerate(rows):
                for position, index in enumerate(chosen):
                    dataset.read_direct(found, np.s_[int(row), int(index)], np.s_[place, position])
        return self._verified("frames", found, rows, chosen)

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> BoolArray | None:
        """See ``Cohort.masks``. Raises as ``frames`` does."""
        self._check_view(view)
        name = f"missing/{view}" if self.part == STATIC else "missing"
        if name not in self._masks():
            return None
        read = read_rows(self.file[f"{self.part}/{name}"], rows, self.path)
        if self.part == STATIC:
            return self._verified(name, read, rows)[:, np.newaxis].astype(bool)
        whole = self._verified(name, read, rows, np.arange(self._length)).astype(bool)
        return whole if indices is None else whole[:, np.asarray(indices, dtype=np.int64)]

    def nuisance(self) -> dict[str, FloatArray]:
        with self._reading():
            group = self.file[f"{self._tables}nuisance"]
            return {str(name): np.asarray(group[name][:], dtype=np.float64) for name in sorted({*group} - {*RETIRED})}

    def _check_view(self, view: str) -> None:
        if view not in self.views:
            raise DataError(
                f"the data set has no view {view}", where=self.path, expected=f"one of: {', '.join(self.views)}",
                hint="add the view to dataset.views and build the data set again",
            )  # fmt: skip


def has_part(path: Path, part: Part) -> bool:
    """Does the data set hold static, or dynamic, exams? Raises DataError as ``StoredCohort``."""
    with open_checked(path) as handle:
        return part in handle


def open_checked(path: Path) -> h5py.File:
    """Open an HDF5 file for reading after checking that it is whole and ours."""
    import h5py

    if not path.is_file():
        raise DataError("there is no such data set", where=path, hint="make it with: thermocancer build-dataset")
    if not h5py.is_hdf5(path):
        raise DataError("this is not a data set", where=path, expected="an HDF5 file", hint=_REBUILD)
    _check_content(path)
    with reading(path, "the data set is damaged or cut short", hint=_REBUILD):
        handle = h5py.File(path, "r", locking=False)  # HDF5's own locks fail on FUSE mounts
        try:
            written_by = str(handle.attrs.get("format", "none"))
            version = int(handle.attrs.get("version", 0)) if written_by == FORMAT else 0
            if version == FORMAT_VERSION:
                check_self_contained(handle, path)
                return handle
        except BaseException:
            handle.close()
            raise
    handle.close()
    if written_by != FORMAT:
        what, expected = "this HDF5 file was not written by thermocancer", f"the attribute format = {FORMAT}"
        raise DataError(what, where=path, expected=expected, found=written_by, hint=_REBUILD)
    raise DataError(
        f"the data set has format version {version}", where=path,
        expected=f"version {FORMAT_VERSION}", found=f"version {version}",
        hint="update thermocancer" if version > FORMAT_VERSION else _REBUILD,
    )  # fmt: skip


MOST_HASHED_BYTES = 1 << 30
"""Hashing a larger file takes seconds at every command; its frames and tables have checksums of their own."""


def _check_content(path: Path) -> None:
    """Compare a data set with the hash that ``build-dataset`` wrote beside it, if there is one.

    Before HDF5 looks at it: in one of some hundred files with a damaged header its library never came to an end.
    """
    stamp, facts = path.with_suffix(".json"), path.stat()
    if not stamp.is_file() or facts.st_size > MOST_HASHED_BYTES:
        return
    known = read_json_as(stamp, lambda content: content.get("outputs", {}).get(path.name), "this is no manifest")
    if known is not None and known != _hash_of(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns):
        raise DataError(
            "the data set is damaged: it is not the one that was built", where=path, expected=f"SHA-256 {known}",
            hint=_REBUILD,
        )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _hash_of(path: Path, *_unchanged: int) -> str:
    return hash_file(path)


def checksum_of_tables(file: h5py.File, place: str) -> int:
    """CRC-32 of what is known of the exams of one part, below ``place``: all but the frames."""
    import h5py

    found: list[h5py.Dataset] = []
    for name in ("exams", "nuisance", "hashes", "filled"):
        table = file.get(f"{place}{name}")
        if isinstance(table, h5py.Group):
            table.visititems(lambda _, inner: found.append(inner) if isinstance(inner, h5py.Dataset) else None)
        elif table is not None:
            found.append(table)
    total = 0
    for array in sorted(found, key=lambda each: str(each.name)):
        total = zlib.crc32(np.ascontiguousarray(array[:]).tobytes(), zlib.crc32(str(array.name).encode(), total))
    return total


def read_exams(group: h5py.Group, hashes: h5py.Dataset, columns: tuple[str, ...]) -> tuple[Exam, ...]:
    """The exams of a table; ``hashes`` is (n, len(columns)), empty where there is no image."""
    table = (group[name][:].tolist() for name in ("patient", "visit", "label", "date", "layout"))
    named = {str(view): values[:].tolist() for view, values in group.get("formats", {}).items()}
    tied = group[ALIKE][:].astype(str).tolist() if ALIKE in group else []
    exams = []
    for row, (patient, visit, label, date, layout, own) in enumerate(
        zip(*table, hashes[:].astype(str).tolist(), strict=True)
    ):
        known = tuple((name, digest) for name, digest in zip(columns, own, strict=True) if digest)
        known += ((ALIKE, tied[row]),) if tied and tied[row] else ()
        formats = tuple((view, named[view][row].decode()) for view in VIEWS if view in named and named[view][row])
        exams.append(Exam(patient, visit, label, date.decode() or None, layout.decode(), known, formats))
    return tuple(exams)


def read_rows(dataset: h5py.Dataset, rows: IntArray, path: Path) -> Frames:
    """Frames of ``rows``, in the order asked for, each decoded once. IndexError outside the data set."""
    wanted, positions = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
    if wanted.size and not 0 <= wanted[0] <= wanted[-1] < len(dataset):
        raise IndexError(f"rows {wanted[0]}..{wanted[-1]} of a data set with {len(dataset)} exams")
    found: Frames = np.empty((len(wanted), *dataset.shape[1:]), dataset.dtype)
    with reading(path, "a frame of the data set cannot be read", hint=_REBUILD):
        for position, row in enumerate(wanted):
            dataset.read_direct(found, np.s_[int(row)], np.s_[position])
    if len(wanted) == len(positions) and (np.diff(positions) > 0).all():
        return found
    return found[positions]
