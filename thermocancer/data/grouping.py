"""Which exams belong together, and what a split keeps in balance.

A group is what may never be divided: all exams of a patient, and all patients who share an
identical image (the same content under two names). A stratum is a group's class and its
acquisition layout; a group counts as sick when any of its exams is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from thermocancer.data.cohort import Exam, IntArray
from thermocancer.errors import DataError
from thermocancer.workspace import LABELS


@dataclass(frozen=True)
class Group:
    """Patients who stay together: their numbers, class (0 healthy, 1 any exam sick) and layout."""

    patients: tuple[int, ...]
    label: int
    layout: str


def group_patients(exams: Iterable[Exam]) -> list[Group]:
    """The groups of all patients, in the order of their lowest patient number.

    The layout of a group is the most frequent one of its exams (the first by name on a tie).
    """
    members: dict[int, list[Exam]] = {}
    owner: dict[str, int] = {}
    leader: dict[int, int] = {}
    for exam in sorted(exams, key=lambda each: (each.patient, each.visit)):
        members.setdefault(exam.patient, []).append(exam)
        leader.setdefault(exam.patient, exam.patient)
        for _, digest in exam.hashes:
            other = owner.setdefault(digest, exam.patient)
            _join(leader, exam.patient, other)
    gathered: dict[int, list[int]] = {}
    for patient in sorted(members):
        gathered.setdefault(_leader(leader, patient), []).append(patient)
    return [_describe(patients, members) for _, patients in sorted(gathered.items())]


def _leader(leader: dict[int, int], patient: int) -> int:
    while leader[patient] != patient:
        patient = leader[patient]
    return patient


def _join(leader: dict[int, int], one: int, other: int) -> None:
    low, high = sorted((_leader(leader, one), _leader(leader, other)))
    leader[high] = low


def _describe(patients: list[int], members: dict[int, list[Exam]]) -> Group:
    exams = [exam for patient in patients for exam in members[patient]]
    layouts = Counter(exam.layout for exam in exams)
    layout = min(layouts, key=lambda name: (-layouts[name], name))
    return Group(tuple(patients), max(exam.label for exam in exams), layout)


def group_numbers(exams: Sequence[Exam], groups: Sequence[Group]) -> IntArray:
    """For each exam the position of its group, shape (n,)."""
    number = {patient: position for position, group in enumerate(groups) for patient in group.patients}
    return np.array([number[exam.patient] for exam in exams], dtype=np.int64)


def strata(groups: Sequence[Group], minimum: int = 1) -> list[tuple[int, str]]:
    """For each group its (label, layout); a layout with fewer than ``minimum`` groups joins the class's largest."""
    counts = Counter((group.label, group.layout) for group in groups)
    largest = {
        label: min((key for key in counts if key[0] == label), key=lambda key: (-counts[key], key[1]))
        for label in {group.label for group in groups}
    }
    keys = ((group.label, group.layout) for group in groups)
    return [key if counts[key] >= minimum else largest[key[0]] for key in keys]


def check_enough(groups: Sequence[Group], needed: int, purpose: str, hint: str) -> None:
    """Raise DataError when either class has fewer than ``needed`` groups."""
    counts = Counter(group.label for group in groups)
    if all(counts[label] >= needed for label in range(len(LABELS))):
        return
    scarce = min(range(len(LABELS)), key=lambda label: counts[label])
    found = ", ".join(f"{counts[label]} {name}" for label, name in enumerate(LABELS))
    raise DataError(
        f"too few {LABELS[scarce]} patients for {purpose}",
        expected=f"at least {needed} patients of each class (patients with an identical image count once)",
        found=found,
        hint=hint,
    )


def shared_between(exams: Sequence[Exam], train: IntArray, test: IntArray) -> tuple[list[int], list[tuple[str, str]]]:
    """What stands on both sides: patients, and pairs of exams with an identical image."""
    both = {exams[row].patient for row in train} & {exams[row].patient for row in test}
    seen = {digest: exams[row].key for row in train for _, digest in exams[row].hashes}
    twins = {
        (seen[digest], exams[row].key)
        for row in test
        for _, digest in exams[row].hashes
        if digest in seen and seen[digest] != exams[row].key
    }
    return sorted(both), sorted(twins)
