"""Exams and where their thermograms come from: the one interface every model and audit reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.workspace import VIEWS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
CentiCelsius = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Exam:
    """One visit of one patient. ``label`` is 0 healthy or 1 sick.

    ``hashes`` maps a view to the SHA-256 of its matrix's content: equal hashes, identical image.
    """

    patient: int
    visit: int
    label: int
    date: str | None = None
    layout: str = ""
    hashes: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """``PATIENT_VISIT``, as in the original study."""
        return f"{self.patient}_{self.visit}"


class ExamSource(Protocol):
    """A data set that models, cross-validation, audit and ``predict`` read alike.

    Rows are positions in ``exams``. An HDF5 file and arrays in memory both implement it.
    """

    @property
    def exams(self) -> Sequence[Exam]: ...

    @property
    def views(self) -> tuple[str, ...]: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of every matrix."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any content changes."""

    @property
    def kind(self) -> str:
        """``celsius`` (exact hundredths of a degree) or ``rgb`` (colour images, no degrees)."""

    def present(self, view: str) -> npt.NDArray[np.bool_]:
        """For each exam, is this view there? Shape (n,)."""

    def centi_celsius(self, view: str, rows: IntArray) -> CentiCelsius:
        """Matrices of one view in hundredths of a degree, shape (len(rows), height, width)."""

    def rgb(self, view: str, rows: IntArray) -> npt.NDArray[np.uint8]:
        """Colour images of one view, shape (len(rows), height, width, 3); only where kind is rgb."""

    def nuisance(self) -> dict[str, FloatArray]:
        """What can be measured without the breast, each (n,), NaN where unknown."""


@dataclass(frozen=True)
class ArrayExamSource:
    """Exams held in memory: one exam to predict, a masked copy for the audit, a test's toy cohort.

    ``matrices`` maps a view to hundredths of a degree, shape (n, height, width).
    """

    exams: tuple[Exam, ...]
    matrices: dict[str, CentiCelsius]
    name: str = "memory"
    measured: dict[str, FloatArray] = field(default_factory=dict)
    missing: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(view for view in VIEWS if view in self.matrices)

    @property
    def shape(self) -> tuple[int, int]:
        _, height, width = next(iter(self.matrices.values())).shape
        return height, width

    @property
    def fingerprint(self) -> str:
        import hashlib

        digest = hashlib.sha256(repr(self.exams).encode())
        for view in self.views:
            digest.update(view.encode())
            digest.update(np.ascontiguousarray(self.matrices[view]).tobytes())
        return digest.hexdigest()

    @property
    def kind(self) -> str:
        return "celsius"

    def present(self, view: str) -> npt.NDArray[np.bool_]:
        missing = self.missing.get(view)
        return np.ones(len(self.exams), bool) if missing is None else ~missing

    def centi_celsius(self, view: str, rows: IntArray) -> CentiCelsius:
        return self.matrices[view][rows]

    def rgb(self, view: str, rows: IntArray) -> npt.NDArray[np.uint8]:
        raise TypeError("exams in memory hold temperatures, not colour images")

    def nuisance(self) -> dict[str, FloatArray]:
        return self.measured


class SeenThrough:
    """A data set with something changed on the way: what a subclass does not define passes through.

    Only ``fingerprint`` has no default, so that a changed data set never goes by the name of its original.
    """

    def __init__(self, source: ExamSource) -> None:
        self.source = source

    @property
    def exams(self) -> Sequence[Exam]:
        return self.source.exams

    @property
    def views(self) -> tuple[str, ...]:
        return self.source.views

    @property
    def shape(self) -> tuple[int, int]:
        return self.source.shape

    @property
    def kind(self) -> str:
        return self.source.kind

    def present(self, view: str) -> npt.NDArray[np.bool_]:
        return self.source.present(view)

    def centi_celsius(self, view: str, rows: IntArray) -> CentiCelsius:
        return self.source.centi_celsius(view, rows)

    def rgb(self, view: str, rows: IntArray) -> npt.NDArray[np.uint8]:
        return self.source.rgb(view, rows)

    def nuisance(self) -> dict[str, FloatArray]:
        return self.source.nuisance()


def all_alike(source: ExamSource, view: str) -> bool:
    """Do all exams share one matrix of this view, so that what is computed from it need be computed once?

    Only a source in memory can say so: one exam many times over, of which another view is varied (its
    matrices then are one, broadcast). What sees it through a change changes all of them alike.
    """
    while isinstance(source, SeenThrough):
        source = source.source
    if not isinstance(source, ArrayExamSource) or view not in source.matrices or len(source.exams) < 2:
        return False
    return source.matrices[view].strides[0] == 0
