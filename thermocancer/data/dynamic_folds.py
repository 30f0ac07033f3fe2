"""Folds of dynamic exams that agree with those of the static exams of the same patients.

The encoders that read dynamic frames are trained inside the folds of the static exams, and late
fusion combines scores of both: a patient must be held out in the same fold of both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import Exam, IntArray
from thermocancer.data.split import Fold, Split, outer_folds


def dynamic_folds(
    exams: Sequence[Exam], static: Sequence[Exam] | None, split: Split, config: SplitSection, seed: int
) -> list[Fold]:
    """The folds of dynamic ``exams``; in cross-validation every patient stands where their static exams do.

    Patients without static exams fill up the folds, each class by itself. Without static exams at
    all, and for other protocols, these are ``outer_folds``.
    """
    if static is None or config.protocol != "grouped-cv":
        return outer_folds(exams, split, config, seed)
    folds = []
    for known in _by_repeat(outer_folds(static, split, config, seed)):
        place = {static[row].patient: number for number, fold in enumerate(known) for row in fold.test}
        place |= _place_new(exams, place, len(known))
        numbers = np.array([place[exam.patient] for exam in exams])
        folds += [
            Fold(fold.name, np.flatnonzero(numbers != number), np.flatnonzero(numbers == number))
            for number, fold in enumerate(known)
        ]
    return folds


def _by_repeat(folds: Sequence[Fold]) -> list[list[Fold]]:
    repeats: dict[str, list[Fold]] = {}
    for fold in folds:
        repeats.setdefault(fold.name.partition(".")[0], []).append(fold)
    return list(repeats.values())


def _place_new(exams: Sequence[Exam], place: dict[int, int], folds: int) -> dict[int, int]:
    """Each patient without static exams joins the fold with the fewest dynamic patients of their class."""
    label: dict[int, int] = {}
    for exam in exams:
        label[exam.patient] = max(exam.label, label.get(exam.patient, 0))
    counts = Counter((place[patient], each) for patient, each in label.items() if patient in place)
    placed = {}
    for patient in sorted(set(label) - set(place)):
        number = min(range(folds), key=lambda fold: (counts[fold, label[patient]], fold))
        placed[patient] = number
        counts[number, label[patient]] += 1
    return placed


def restrict(folds: Sequence[Fold], rows: IntArray) -> list[Fold]:
    """The same folds with some exams only."""
    return [Fold(fold.name, np.intersect1d(fold.train, rows), np.intersect1d(fold.test, rows)) for fold in folds]
