"""The frames of a new dynamic exam as a sequence that a trained sequence network reads."""

from __future__ import annotations

import numpy as np

from thermocancer.config import Config
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem
from thermocancer.evaluation.prediction.gathering import NewExam


def gap_problem(exam: NewExam, config: Config) -> str | None:
    """Why the frames make no sequence that the run can read; None when they do."""
    found = list(exam.frame_files())
    if not found:
        return "the run reads the frames of a dynamic exam, and there is none that is fit"
    problem = find_gap_problem(found, config.filter.frames, config.dit.allow_gaps)
    if problem is None and config.dataset.source != "matrices":
        return "the run was trained on rendered frames; only runs on matrices score a new dynamic exam"
    return problem


def sequence_of(exam: NewExam, config: Config, shape: tuple[int, int] | None) -> ArrayCohort:
    """The exam's frames as a cohort of one, gaps filled as in training, at the size that the run was trained on."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.frame_files()
    centi = {number: resize_centi(to_centi(np.asarray(file.celsius)), shape) for number, file in files.items()}
    whole, _ = fill_gaps(centi, config.filter.frames)
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    return ArrayCohort((described,), {DYNAMIC_VIEW: np.stack(whole)[np.newaxis]}, name=exam.name)
