"""Reading ``datasets/NAME.h5``: exams, matrices and nuisance of one data set.

Layout (version 1): ``/exams/{patient,visit,label,date,layout}`` (n,); ``/static/VIEW`` (n, H, W)
uint16 hundredths of a degree or (n, H, W, 3) uint8 RGB, one chunk a frame; ``/static/present/VIEW``
(n,); ``/hashes`` (n, views); ``/nuisance/NAME`` (n,); ``/dynamic/frames`` (m, T, H, W) and its own
``/dynamic/exams``, ``/dynamic/hashes``, ``/dynamic/filled``. Written by ``data/store/writing.py``.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import CentiCelsius, Exam, FloatArray, IntArray
from thermocancer.errors import DataError

if TYPE_CHECKING:
    import h5py

FORMAT = "thermocancer-dataset"
FORMAT_VERSION = 1
_REBUILD = "build it again with: thermocancer build-dataset"


class H5File:
    """A checked HDF5 data set, opened when first needed and closed by ``close`` or ``with``.

    Pickles without its handle, so that worker processes open their own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: h5py.File | None = None

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

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_handle": None}


class H5ExamSource(H5File):
    """The static exams of a data set; implements ``ExamSource``. Rows may come in any order and repeat."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        group = require(self.file, "static", path, "dataset.static")
        self.name = str(self.file.attrs["name"])
        self.fingerprint = str(group.attrs["fingerprint"])
        self.kind = str(group.attrs["kind"])
        self.views: tuple[str, ...] = tuple(str(view) for view in group.attrs["views"])
        first = group[self.views[0]].shape
        self.shape: tuple[int, int] = (int(first[1]), int(first[2]))
        self.exams = read_exams(self.file["exams"], self.file["hashes"], self.views)

    def __len__(self) -> int:
        return len(self.exams)

    def present(self, view: str) -> npt.NDArray[np.bool_]:
        present: npt.NDArray[np.bool_] = self._view(view, "static/present")[:].astype(bool)
        return present

    def centi_celsius(self, view: str, rows: IntArray) -> CentiCelsius:
        if self.kind != "celsius":
            raise DataError(
                "this data set holds colour images, no degrees",
                where=self.path,
                hint="build it with dataset.source: matrices",
            )
        return read_rows(self._view(view), rows, self.path)

    def rgb(self, view: str, rows: IntArray) -> npt.NDArray[np.uint8]:
        if self.kind != "rgb":
            raise DataError(
                "this data set holds temperatures, not colour images",
                where=self.path,
                hint="build it with dataset.source: images",
            )
        return read_rows(self._view(view), rows, self.path)

    def nuisance(self) -> dict[str, FloatArray]:
        group = self.file["nuisance"]
        return {str(name): np.asarray(group[name][:], dtype=np.float64) for name in sorted(group)}

    def _view(self, view: str, folder: str = "static") -> h5py.Dataset:
        if view not in self.views:
            raise DataError(
                f"the data set has no view {view}",
                where=self.path,
                expected=f"one of: {', '.join(self.views)}",
                hint="add the view to dataset.views and build the data set again",
            )
        return self.file[f"{folder}/{view}"]


def open_dataset(path: Path) -> H5ExamSource:
    """Open the static part of a data set.

    Raises DataError when the file is missing, truncated, foreign, of a newer version, or has no
    static exams.
    """
    return H5ExamSource(Path(path))


def open_checked(path: Path) -> h5py.File:
    """Open an HDF5 file for reading after checking that it is whole and ours."""
    import h5py

    if not path.is_file():
        raise DataError("there is no such data set", where=path, hint="make it with: thermocancer build-dataset")
    if not h5py.is_hdf5(path):
        raise DataError("this is not a data set", where=path, expected="an HDF5 file", hint=_REBUILD)
    try:
        handle = h5py.File(path, "r", locking=False)  # HDF5's own locks fail on FUSE mounts
        attributes = dict(handle.attrs)
    except OSError as error:
        raise DataError("the data set is damaged or cut short", where=path, found=error, hint=_REBUILD) from error
    try:
        _check_format(attributes, path)
    except DataError:
        handle.close()
        raise
    return handle


def _check_format(attributes: dict[str, Any], path: Path) -> None:
    if attributes.get("format") != FORMAT:
        raise DataError(
            "this HDF5 file was not written by thermocancer",
            where=path,
            expected=f"the attribute format = {FORMAT}",
            found=attributes.get("format", "none"),
            hint=_REBUILD,
        )
    version = int(attributes.get("version", 0))
    if version != FORMAT_VERSION:
        raise DataError(
            f"the data set has format version {version}",
            where=path,
            expected=f"version {FORMAT_VERSION}",
            found=f"version {version}",
            hint="update thermocancer" if version > FORMAT_VERSION else _REBUILD,
        )


def require(handle: h5py.File, group: str, path: Path, setting: str) -> h5py.Group:
    """The group ``static`` or ``dynamic``, or a DataError that says how to get one."""
    if group not in handle:
        raise DataError(
            f"the data set holds no {group} exams", where=path, hint=f"build it again with --set {setting}=true"
        )
    return handle[group]


def read_exams(group: h5py.Group, hashes: h5py.Dataset, columns: tuple[str, ...]) -> tuple[Exam, ...]:
    """The exams of a table; ``hashes`` is (n, len(columns)), empty where there is no image."""
    table = {name: group[name][:] for name in ("patient", "visit", "label", "date", "layout")}
    digests = hashes[:].astype(str)
    return tuple(
        Exam(
            patient=int(table["patient"][row]),
            visit=int(table["visit"][row]),
            label=int(table["label"][row]),
            date=table["date"][row].decode() or None,
            layout=table["layout"][row].decode(),
            hashes=tuple((name, str(each)) for name, each in zip(columns, digests[row], strict=True) if each),
        )
        for row in range(len(table["patient"]))
    )


def read_rows(dataset: h5py.Dataset, rows: IntArray, path: Path) -> Any:
    """Frames of ``rows``, in the order asked for, each decoded once. IndexError outside the data set."""
    wanted, positions = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
    if wanted.size and not 0 <= wanted[0] <= wanted[-1] < len(dataset):
        raise IndexError(f"rows {wanted[0]}..{wanted[-1]} of a data set with {len(dataset)} exams")
    found = np.empty((len(wanted), *dataset.shape[1:]), dataset.dtype)
    try:
        for position, row in enumerate(wanted):
            dataset.read_direct(found, np.s_[int(row)], np.s_[position])
    except OSError as error:
        raise DataError("a frame of the data set cannot be read", where=path, found=error, hint=_REBUILD) from error
    if len(wanted) == len(positions) and (np.diff(positions) > 0).all():
        return found
    return found[positions]
