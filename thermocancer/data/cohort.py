"""Exams as one table: the one interface that every model, audit and prediction reads.

A view is a named picture of each exam over time: a static view has one frame (T = 1), a dynamic exam
is a view with all its frames (T = 20), the image of a class folder is a view too. An HDF5 file, arrays
in memory and a folder of images all are cohorts; so is a cohort with something changed on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.workspace import VIEWS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
CentiCelsius = npt.NDArray[np.uint16]
Rgb = npt.NDArray[np.uint8]
Frames = npt.NDArray[np.uint16 | np.uint8]
"""Frames of one view: uint16 hundredths of a degree (n, T, H, W), or uint8 colours (n, T, H, W, channels)."""

Kind = Literal["celsius", "rgb"]
"""Exact hundredths of a degree, or colour images without degrees."""

IMAGE = "image"
"""The one view of a folder of class images."""

ALIKE = "alike"
"""Among an exam's hashes: what ties patients whose pictures look alike."""


@dataclass(frozen=True)
class Exam:
    """One visit of one patient. ``label`` is 0 healthy or 1 sick.

    ``hashes`` maps a view to the SHA-256 of its matrix's content: equal hashes, identical image; ``ALIKE`` to a name
    that patients with nearly identical images share. ``layout`` is the
    first file's; ``formats`` maps every view to what its source files were (``Record.format``).
    """

    patient: int
    visit: int
    label: int
    date: str | None = None
    layout: str = ""
    hashes: tuple[tuple[str, str], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """``PATIENT_VISIT``, as in the original study."""
        return f"{self.patient}_{self.visit}"


class Cohort(Protocol):
    """Exams and what was seen of them. Rows are positions in ``exams``; they may come in any order and repeat."""

    @property
    def exams(self) -> Sequence[Exam]: ...

    @property
    def views(self) -> tuple[str, ...]: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of every frame."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any content changes."""

    @property
    def kind(self) -> Kind: ...

    def length(self, view: str) -> int:
        """Frames of this view, T: 1 for a static view."""

    def present(self, view: str) -> BoolArray:
        """For each exam, is this view there? Shape (n,)."""

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        """Frames ``indices`` (all by default) of one view, (len(rows), len(indices), H, W[, channels])."""

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> BoolArray | None:
        """Where those frames hold no temperature, (len(rows), len(indices), H, W); None where nothing is missing.

        The frames hold their own background there (``thermal.regions.background_of``).
        """

    def nuisance(self) -> dict[str, FloatArray]:
        """What can be measured without the breast, each (n,), NaN where unknown."""


def centi_celsius(cohort: Cohort, view: str, rows: IntArray) -> CentiCelsius:
    """The first frame of one view in hundredths of a degree, (len(rows), H, W). Raises DataError for colours."""
    _check_celsius(cohort)
    return np.asarray(cohort.frames(view, rows, (0,))[:, 0], dtype=np.uint16)


def _check_celsius(cohort: Cohort) -> None:
    if cohort.kind != "celsius":
        raise DataError("this data set holds colour images, no degrees", hint="build it with dataset.source: matrices")


def degrees(cohort: Cohort, view: str, rows: IntArray) -> FloatArray:
    """The same in degC, NaN where a pixel holds no temperature, (len(rows), H, W): what features are measured on."""
    return degrees_of_frames(cohort, view, rows, (0,))[:, 0]


def degrees_of_frames(cohort: Cohort, view: str, rows: IntArray, indices: Sequence[int] | None = None) -> FloatArray:
    """The same of frames ``indices`` (all by default), (len(rows), len(indices), H, W)."""
    _check_celsius(cohort)
    celsius = cohort.frames(view, rows, indices) / 100.0
    if (masks := cohort.masks(view, rows, indices)) is not None:
        celsius[masks] = np.nan
    return celsius


def colours(cohort: Cohort, view: str, rows: IntArray) -> Rgb:
    """The first frame of one view as colours, (len(rows), H, W, channels). Raises DataError where there are degrees."""
    if cohort.kind != "rgb":
        hint = "build it with dataset.source: images"
        raise DataError("this data set holds temperatures, not colour images", hint=hint)
    return np.asarray(cohort.frames(view, rows, (0,))[:, 0], dtype=np.uint8)


@dataclass(frozen=True)
class ArrayCohort:
    """Exams held in memory: one exam to predict, many copies of it for a heat map, a test's toy cohort.

    ``matrices`` maps a view to hundredths of a degree, uint16 (n, H, W) or (n, T, H, W), or to colours, uint8
    (n, T, H, W, channels). ``missing`` marks exams that lack a view, ``masked`` (shapes of ``matrices``) the pixels
    without a temperature.
    """

    exams: tuple[Exam, ...]
    matrices: Mapping[str, Frames]
    name: str = "memory"
    measured: dict[str, FloatArray] = field(default_factory=dict)
    missing: dict[str, BoolArray] = field(default_factory=dict)
    masked: Mapping[str, BoolArray] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        known = tuple(view for view in VIEWS if view in self.matrices)
        return known + tuple(view for view in self.matrices if view not in VIEWS)

    @property
    def shape(self) -> tuple[int, int]:
        first = next(iter(self.matrices.values()))
        height, width = first.shape[2:4] if first.ndim > 3 else first.shape[1:3]
        return height, width

    @property
    def fingerprint(self) -> str:
        import hashlib

        digest = hashlib.sha256(repr(self.exams).encode())
        for view in self.views:
            digest.update(view.encode())
            digest.update(np.ascontiguousarray(self.matrices[view]).tobytes())
            if view in self.masked:
                digest.update(np.ascontiguousarray(self.masked[view]).tobytes())
        return digest.hexdigest()

    @property
    def kind(self) -> Kind:
        return "rgb" if any(each.dtype == np.uint8 for each in self.matrices.values()) else "celsius"

    def length(self, view: str) -> int:
        return self.matrices[view].shape[1] if self.matrices[view].ndim > 3 else 1

    def present(self, view: str) -> BoolArray:
        missing = self.missing.get(view)
        return np.ones(len(self.exams), bool) if missing is None else ~missing

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        if self.matrices[view].ndim == 3:
            return self.matrices[view][rows][:, np.newaxis]
        chosen = self.matrices[view][rows]
        return chosen if indices is None else chosen[:, np.asarray(indices, dtype=np.int64)]

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> BoolArray | None:
        if view not in self.masked:
            return None
        chosen = self.masked[view][rows]
        if chosen.ndim == 3:
            return chosen[:, np.newaxis]
        return chosen if indices is None else chosen[:, np.asarray(indices, dtype=np.int64)]

    def nuisance(self) -> dict[str, FloatArray]:
        return self.measured


class ChangedCohort:
    """A cohort with something changed on the way: what a subclass does not define passes through.

    Only ``fingerprint`` has no default, so that a changed cohort never goes by the name of its original.
    """

    def __init__(self, cohort: Cohort) -> None:
        self.original = cohort

    @property
    def exams(self) -> Sequence[Exam]:
        return self.original.exams

    @property
    def views(self) -> tuple[str, ...]:
        return self.original.views

    @property
    def shape(self) -> tuple[int, int]:
        return self.original.shape

    @property
    def kind(self) -> Kind:
        return self.original.kind

    def length(self, view: str) -> int:
        return self.original.length(view)

    def present(self, view: str) -> BoolArray:
        return self.original.present(view)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        return self.original.frames(view, rows, indices)

    def masks(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> BoolArray | None:
        return self.original.masks(view, rows, indices)

    def nuisance(self) -> dict[str, FloatArray]:
        return self.original.nuisance()


def all_alike(cohort: Cohort, view: str) -> bool:
    """Do all exams share one matrix of this view, so that what is computed from it need be computed once?

    Only a cohort in memory can say so: one exam many times over, of which another view is varied (its
    matrices then are one, broadcast). What sees it through a change changes all of them alike.
    """
    while isinstance(cohort, ChangedCohort):
        cohort = cohort.original
    if not isinstance(cohort, ArrayCohort) or view not in cohort.matrices or len(cohort.exams) < 2:
        return False
    return cohort.matrices[view].strides[0] == 0


def check_present(cohort: Cohort, view: str, rows: IntArray) -> None:
    """Raise DataError when one of the exams lacks a view."""
    lacking = rows[~cohort.present(view)[rows]] if view in cohort.views else rows
    if len(lacking):
        raise DataError(
            "an exam lacks a view that the classifier needs",
            where=f"exam {cohort.exams[int(lacking[0])].key}",
            expected=view,
        )
