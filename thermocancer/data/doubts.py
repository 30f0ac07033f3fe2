"""What somebody should look at before a study begins: exams that look alike, and exams that look like no other.

Nothing is dropped for it. Patients whose pictures look alike stay on one side of every split, as those with an
identical picture do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thermocancer.data.catalog import Record
from thermocancer.data.novelty import Reference, judge_described
from thermocancer.data.selection import ExamVerdict
from thermocancer.thermal.likeness import alike
from thermocancer.thermal.quality import Measured

LEAST_EXAMS = 20
"""With fewer exams beside it, one that is outside their range is nothing special."""


@dataclass(frozen=True)
class LookAlikes:
    """Exams of two patients that show one picture; ``mirrored``: one of them left for right."""

    first: tuple[ExamVerdict, Record]
    second: tuple[ExamVerdict, Record]
    mirrored: bool

    def of(self, exam: ExamVerdict) -> str | None:
        """What it means for one of the two, in words; None for any other exam."""
        for (own, record), (other, theirs) in ((self.first, self.second), (self.second, self.first)):
            if own is exam:
                how = "a mirror image of" if self.mirrored else "the same picture as"
                return f"{record.view} is nearly {how} {theirs.view} of exam {other.exam}"
        return None


def look_alikes(exams: Iterable[ExamVerdict], measured: Mapping[str, Measured]) -> list[LookAlikes]:
    """Every pair of pictures of two patients that look alike, among static views and first frames."""
    taken = [(exam, record) for exam in exams for record in _looked_at(exam)]
    looks = [measured[record.path].look for _, record in taken]
    return [
        LookAlikes(taken[first], taken[second], mirrored)
        for first, second, mirrored in alike(looks, [record.view for _, record in taken])
        if taken[first][0].patient != taken[second][0].patient
    ]


def tied_patients(pairs: Iterable[LookAlikes]) -> dict[int, str]:
    """For each patient whose pictures look like another's: a name that all who are tied to one another share."""
    lowest: dict[int, int] = {}

    def lead(patient: int) -> int:
        while lowest.setdefault(patient, patient) != patient:
            patient = lowest[patient]
        return patient

    for pair in pairs:
        low, high = sorted((lead(pair.first[0].patient), lead(pair.second[0].patient)))
        lowest[high] = low
    return {patient: f"patient {lead(patient)}" for patient in sorted(lowest)}


def unlike_others(
    exams: Sequence[ExamVerdict], measured: Mapping[str, Measured]
) -> list[tuple[ExamVerdict, str, tuple[str, ...]]]:
    """Exams of which a view is unlike that view of all others, by the test that ``predict`` makes; with the reasons."""
    by_view: defaultdict[tuple[str, str], list[tuple[ExamVerdict, dict[str, float]]]] = defaultdict(list)
    for exam in exams:
        for record in _looked_at(exam):
            if described := measured[record.path].described:
                values = {name: np.nan if value is None else value for name, value in described.items()}
                by_view[exam.protocol, record.view].append((exam, values))
    found = []
    for (_, view), own in sorted(by_view.items()):
        if len(own) <= LEAST_EXAMS:
            continue
        names = tuple(sorted(own[0][1]))
        table = np.array([[values[name] for name in names] for _, values in own])
        for row, (exam, values) in enumerate(own):
            doubt = judge_described(Reference(names, np.delete(table, row, axis=0), ()), values)
            if doubt["flag"]:
                found.append((exam, view, tuple(each.replace("training", "other") for each in doubt["reasons"])))
    return found


def said_of(
    alike_ones: Sequence[LookAlikes], unlike: Sequence[tuple[ExamVerdict, str, tuple[str, ...]]]
) -> Iterator[str]:
    """A line for either kind of doubt, with the first three exams of it."""
    if alike_ones:
        named = ", ".join(f"{pair.first[0].exam} and {pair.second[0].exam}" for pair in alike_ones[:3])
        more = ", ..." * (len(alike_ones) > 3)
        yield f"{len(alike_ones)} pairs of pictures of two patients look alike: {named}{more}"
    if unlike:
        named = "; ".join(f"{exam.exam} {view} ({reasons[0]})" for exam, view, reasons in unlike[:3])
        yield f"{len(unlike)} views are unlike those of all other exams: {named}{'; ...' * (len(unlike) > 3)}"


def _looked_at(exam: ExamVerdict) -> list[Record]:
    return [record for record in exam.records if exam.protocol == "S" or record.index == 0]
