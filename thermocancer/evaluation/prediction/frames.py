"""The frames of a new dynamic exam as a sequence that a trained sequence network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem
from thermocancer.evaluation.prediction.gathering import NewExam
from thermocancer.files import fingerprint


@dataclass(frozen=True, eq=False)
class NewSequence:
    """One dynamic exam in memory; reads like ``data.store.sequences.SequenceSource`` with one row.

    ``matrices`` uint16 (frames, height, width) in hundredths of a degree, ``filled`` bool (1, frames).
    """

    exams: tuple[Exam, ...]
    matrices: npt.NDArray[np.uint16]
    filled: npt.NDArray[np.bool_]
    kind: str = "celsius"

    @property
    def length(self) -> int:
        return len(self.matrices)

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrices.shape[1], self.matrices.shape[2]

    @property
    def fingerprint(self) -> str:
        return fingerprint("new sequence", self.matrices.shape, self.matrices.tobytes().hex())

    def __len__(self) -> int:
        return 1

    def frames(self, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> npt.NDArray[np.generic]:
        """Frames (len(rows), len(indices), height, width); every row is the one exam."""
        chosen = np.arange(self.length) if indices is None else np.asarray(indices, dtype=np.int64)
        return np.repeat(self.matrices[chosen][None], len(rows), axis=0)

    def nuisance(self) -> dict[str, FloatArray]:
        return {}


def gap_problem(exam: NewExam, config: Config) -> str | None:
    """Why the frames make no sequence that the run can read; None when they do."""
    found = list(exam.frame_files())
    if not found:
        return "the run reads the frames of a dynamic exam, and there is none that is fit"
    problem = find_gap_problem(found, config.filter.frames, config.dit.allow_gaps)
    if problem is None and config.dataset.source != "matrices":
        return "the run was trained on rendered frames; only runs on matrices score a new dynamic exam"
    return problem


def sequence_of(exam: NewExam, config: Config, shape: tuple[int, int] | None) -> NewSequence:
    """The exam's frames, gaps filled as in training, at the size that the run was trained on."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.frame_files()
    centi = {number: resize_centi(to_centi(np.asarray(file.celsius)), shape) for number, file in files.items()}
    whole, filled = fill_gaps(centi, config.filter.frames)
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    return NewSequence((described,), np.stack(whole), filled[None])
