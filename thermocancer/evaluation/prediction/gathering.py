"""From a path to exams: which file is which view of which exam, whether it is fit, and what a run reads of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from thermocancer.config import Config
from thermocancer.config.preparation import ConvertSection, FilterSection
from thermocancer.data.cohort import (
    ArrayCohort,
    ChangedCohort,
    Cohort,
    Exam,
    FloatArray,
    Frames,
    IntArray,
    centi_celsius,
)
from thermocancer.data.names import parse_name, view_in_name
from thermocancer.data.nuisance import catalog_measures, measure_matrix, nuisance_columns
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem
from thermocancer.errors import DataError
from thermocancer.files import Json, fingerprint
from thermocancer.workspace import VIEWS

SUFFIXES = (".txt", ".csv", ".tsv", ".dat")
"""Files that may hold a temperature matrix; others are left alone."""


@dataclass
class NewFile:
    """One file: its view (None where unknown), what was found wrong, and its matrix (None when unfit).

    ``frame`` is the number of a frame of a dynamic exam, None for a static thermogram.
    """

    path: Path
    view: str | None
    frame: int | None = None
    verdicts: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layout: str = ""
    celsius: FloatArray | None = None

    def as_dict(self) -> Json:
        found = None if self.celsius is None else [float(np.min(self.celsius)), float(np.max(self.celsius))]
        return {
            "file": self.path.name, "view": self.view, "frame": self.frame, "layout": self.layout,
            "range_celsius": found, "verdicts": self.verdicts, "notes": self.notes,
        }  # fmt: skip

    def not_used(self) -> str:
        """The note on a file of the other protocol than the one that a run reads."""
        return "not used: " + ("a static thermogram" if self.frame is None else "a frame of a dynamic exam")

    def reject(self, code: str, reason: str) -> None:
        self.verdicts.append({"code": code, "reason": reason})


@dataclass
class NewExam:
    """One exam to score. ``patient`` and ``visit`` are 0 where the names do not tell."""

    name: str
    files: list[NewFile]
    patient: int = 0
    visit: int = 0

    def matrix_files(self) -> dict[str, NewFile]:
        """The fit file of each view, in the order of the DMR codes."""
        static = [file for file in self.files if file.frame is None and file.celsius is not None]
        fit = {file.view: file for file in reversed(static) if file.view}
        return {view: fit[view] for view in VIEWS if view in fit}

    def frame_files(self) -> dict[int, NewFile]:
        """The fit frontal frames of a dynamic exam by number, in order."""
        fit = {file.frame: file for file in self.files if file.frame is not None and file.celsius is not None}
        return {number: fit[number] for number in sorted(fit)}


def gather_exams(path: Path, run_views: Sequence[str]) -> list[NewExam]:
    """The exams at ``path``: one file, the files of one exam, or a folder of many.

    Files named by the DMR grammar are grouped by patient and visit, others by their folder. Raises
    DataError when there is nothing to read.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", where=path, hint="predict FILE or FOLDER --run NAME")
    files = [path]
    if not path.is_file():
        every = (each for each in path.rglob("*") if each.is_file() and not each.name.startswith("."))
        files = sorted(each for each in every if each.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError("there is no matrix here", where=path, expected=f"files ending in {', '.join(SUFFIXES)}")
    exams: dict[str, NewExam] = {}
    for file in files:
        parsed = parse_name(file.name)
        if parsed is not None:
            name, patient, visit = parsed.exam, parsed.patient, parsed.visit
            found = NewFile(file, parsed.view, parsed.index if parsed.protocol == "D" else None)
        else:
            patient, visit, view = 0, 0, view_in_name(file.stem)
            folder = file.parent.relative_to(path) if path.is_dir() else Path()
            name = file.stem if path.is_file() else folder.as_posix() if folder != Path() else path.resolve().name
            found = NewFile(file, view, notes=[] if view else ["the name does not tell the view"])
            if view is None and len(files) == len(run_views) == 1:
                notes = [f"the name does not tell the view; taken for {run_views[0]}"]
                found = NewFile(file, run_views[0], notes=notes)
        exams.setdefault(name, NewExam(name, [], patient, visit)).files.append(found)
    return [exams[name] for name in sorted(exams)]


def read_files(exam: NewExam, checks: FilterSection, shape: tuple[int, int] | None, *, dynamic: bool = False) -> None:
    """Read and judge every file that the run can use: afterwards fit ones have a matrix, others a verdict.

    A run on static views leaves the frames of dynamic exams alone, and the other way round.
    """
    from thermocancer.thermal.quality import judge_matrix
    from thermocancer.thermal.reading import read_matrix

    seen: dict[str, str] = {}
    for file in exam.files:
        place = str(file.view if file.frame is None else file.frame)
        if (file.frame is not None) != dynamic:
            file.notes.append(file.not_used())
        elif dynamic and file.view != "Frontal":
            file.notes.append("not used: no frontal frame")
        elif file.view is None:
            file.reject("unknown_view", "; ".join(file.notes) or "no such view")
        elif place in seen:
            file.reject("extra_view", f"{seen[place]} is the same view")
        else:
            try:
                matrix = read_matrix(file.path)
            except DataError as error:
                file.reject("unreadable", error.what)
                continue
            file.layout = matrix.layout
            file.notes += [str(note) for note in matrix.notes]
            found = judge_matrix(
                matrix.celsius, low=checks.low, high=checks.high, minimum_spread=checks.minimum_spread, shape=shape
            )
            for verdict in found:
                file.reject(verdict.code, verdict.reason)
            if not found:
                file.celsius, seen[place] = matrix.celsius, file.path.name


# --- an exam as the cohort of one that a run's classifier reads -------------------------------------------------------

Shape = tuple[int, int]
"""Height and width of the frames that a run was trained on."""


def views_of(exam: NewExam, shape: Shape | None) -> ArrayCohort:
    """The exam's static views in degrees, with its nuisance as far as names and files tell it; NaN where not."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.matrix_files()
    matrices = {view: resize_centi(to_centi(np.asarray(file.celsius)), shape)[None] for view, file in files.items()}
    first = next(iter(files.values()))
    described, name = Exam(exam.patient, exam.visit, 0, None, first.layout), parse_name(first.path.name)
    dated = Exam(exam.patient, exam.visit, 0, None if name is None else name.date)
    facts = measure_matrix(np.asarray(first.celsius)) | catalog_measures(dated, first.path.stat().st_size)
    if name is None:
        facts |= {"patient": float("nan"), "visit": float("nan")}
    return ArrayCohort((described,), matrices, name=exam.name, measured=nuisance_columns([described], [facts]))


def as_trained(cohort: ArrayCohort, config: Config) -> Cohort:
    """What the run's classifier reads of static views: the degrees themselves, or their colours."""
    if config.dataset.source != "images":
        return cohort
    return ColouredCohort(cohort, config.convert, config.dataset.decoder)


class ColouredCohort(ChangedCohort):
    """``cohort`` (degrees) coloured as ``convert`` does it, JPEG loss included."""

    def __init__(
        self, cohort: Cohort, settings: ConvertSection, decoder: Literal["opencv", "tensorflow"] = "opencv"
    ) -> None:
        super().__init__(cohort)
        self._settings, self._decoder = settings, decoder

    @property
    def kind(self) -> Literal["rgb"]:
        return "rgb"

    @property
    def fingerprint(self) -> str:
        settings = self._settings.model_dump(mode="json")
        return fingerprint("coloured", self.original.fingerprint, settings, self._decoder)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        import cv2

        from thermocancer.thermal.rendering import decode_image, render_centi

        coloured = render_centi(centi_celsius(self.original, view, rows), self._settings.rendering)
        for image in coloured if self._settings.format == "jpg" else ():
            quality = [cv2.IMWRITE_JPEG_QUALITY, self._settings.jpeg_quality]
            written, content = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), quality)
            decoded = decode_image(content.tobytes(), self._decoder) if written else None
            if decoded is None:
                raise DataError("an image could not be written as JPEG")
            image[:] = decoded
        return coloured[:, np.newaxis]


def gap_problem(exam: NewExam, config: Config) -> str | None:
    """Why the frames make no sequence that the run can read; None when they do."""
    found = list(exam.frame_files())
    if not found:
        return "the run reads the frames of a dynamic exam, and there is none that is fit"
    problem = find_gap_problem(found, config.filter.frames, config.dit.allow_gaps)
    if problem is None and config.dataset.frames_from != "matrices":
        return "the run was trained on rendered frames; only runs on matrices score a new dynamic exam"
    return problem


def sequence_of(exam: NewExam, config: Config, shape: Shape | None) -> ArrayCohort:
    """The exam's frames as a cohort of one, gaps filled as in training, at the size that the run was trained on."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.frame_files()
    centi = {number: resize_centi(to_centi(np.asarray(file.celsius)), shape) for number, file in files.items()}
    whole, _ = fill_gaps(centi, config.filter.frames)
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    return ArrayCohort((described,), {DYNAMIC_VIEW: np.stack(whole)[np.newaxis]}, name=exam.name)
