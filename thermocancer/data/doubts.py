"""What somebody should look at before a study begins: exams that look alike, exams that look like no other, and those
with pixels that hold no temperature.

They are listed; ``filter.duplicates`` and ``filter.outliers`` drop them. Patients whose pictures look alike stay on one
side of every split, as those with an identical picture do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thermocancer.config import Config
from thermocancer.config.preparation import FilterSection
from thermocancer.data.catalog import Record
from thermocancer.data.novelty import Reference, judge_described
from thermocancer.data.selection import UNREADABLE, ExamVerdict, measure_records, select_exams
from thermocancer.outcome import Failure
from thermocancer.progress import Progress
from thermocancer.thermal.likeness import alike, leaders
from thermocancer.thermal.quality import Measured, Verdict
from thermocancer.workspace import Workspace

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
    tied = leaders((pair.first[0].patient, pair.second[0].patient) for pair in pairs)
    return {patient: f"patient {lowest}" for patient, lowest in tied.items()}


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


def without_temperatures(
    exams: Iterable[ExamVerdict], measured: Mapping[str, Measured]
) -> list[tuple[ExamVerdict, str, float]]:
    """Views of which pixels hold no temperature, with the share of them; of a sequence the frame that lacks most."""
    found: dict[tuple[str, str, str], tuple[ExamVerdict, str, float]] = {}
    for exam in exams:
        for record in exam.records:
            key, share = (exam.exam, exam.protocol, record.view), measured[record.path].missing_share
            if share > (found[key][2] if key in found else 0):
                found[key] = exam, record.view, share
    return list(found.values())


@dataclass(frozen=True)
class Settled:
    """Exams with what ``filter.duplicates`` and ``filter.outliers`` say of them, and everything that is doubtful of
    those that were kept before."""

    exams: list[ExamVerdict]
    alike: list[LookAlikes]
    unlike: list[tuple[ExamVerdict, str, tuple[str, ...]]]
    lacking: list[tuple[ExamVerdict, str, float]]
    section: FilterSection

    def notes(self) -> Iterator[str]:
        """A line for each kind of doubt, with the first three exams of it and what is done about it."""
        dropped = "; dropped by filter.{}"
        if self.alike:
            named = ", ".join(f"{pair.first[0].exam} and {pair.second[0].exam}" for pair in self.alike[:3])
            more = ", ..." * (len(self.alike) > 3)
            kept = "; kept on one side of every split (filter.duplicates=drop drops them)"
            done = dropped.format("duplicates") if self.section.duplicates == "drop" else kept
            yield f"{len(self.alike)} pairs of pictures of two patients look alike: {named}{more}{done}"
        if self.unlike:
            named = "; ".join(f"{exam.exam} {view} ({reasons[0]})" for exam, view, reasons in self.unlike[:3])
            more = "; ..." * (len(self.unlike) > 3)
            done = dropped.format("outliers") if self.section.outliers == "drop" else "; kept (filter.outliers=list)"
            yield f"{len(self.unlike)} views are unlike those of all other exams: {named}{more}{done}"
        if self.lacking:
            worst = sorted(self.lacking, key=lambda each: -each[2])[:3]
            named = ", ".join(f"{exam.exam} {view} {share:.1%}" for exam, view, share in worst)
            more = ", ..." * (len(self.lacking) > 3)
            yield (
                f"{len(self.lacking)} views lack temperatures (fill, NaN) and are masked there: {named}{more}; "
                "networks see the frame's background"
            )

    def doubts(self) -> dict[tuple[str, str], list[str]]:
        """What is doubtful of each exam, by its name and protocol, in words."""
        found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for pair in self.alike:
            for exam, _ in (pair.first, pair.second):
                found[exam.exam, exam.protocol].append(pair.of(exam) or "")
        for exam, view, reasons in self.unlike:
            found[exam.exam, exam.protocol].append(f"{view} is unlike the others: {'; '.join(reasons)}")
        for exam, view, share in self.lacking:
            found[exam.exam, exam.protocol].append(f"{view}: {share:.1%} of the pixels hold no temperature")
        return found

    def figures(self) -> dict[str, int]:
        """How many there are of each kind; nothing where there are none."""
        counts = {
            "look_alike": len(self.alike), "unlike_others": len({exam.exam for exam, *_ in self.unlike}),
            "with_missing_pixels": len({exam.exam for exam, *_ in self.lacking}),
        }  # fmt: skip
        return {name: count for name, count in counts.items() if count}


def settle(exams: Sequence[ExamVerdict], section: FilterSection, measured: Mapping[str, Measured]) -> Settled:
    """Find what is doubtful of the exams that are kept, and drop what the settings say.

    Of look-alikes of one label the first patient's exam stays; where the labels differ none does, as of identical
    pictures. Both tests are made on all exams before any is dropped.
    """
    kept = [exam for exam in exams if exam.kept]
    pairs, unlike = look_alikes(kept, measured), unlike_others(kept, measured)
    verdicts: defaultdict[int, list[Verdict]] = defaultdict(list)
    if section.duplicates == "drop":
        for pair in pairs:
            both = sorted((pair.first[0], pair.second[0]), key=lambda exam: (exam.patient, exam.visit))
            differ = len({exam.label for exam in both}) > 1
            for exam in both if differ else both[1:]:
                verdicts[id(exam)].append(Verdict("look_alike", f"{pair.of(exam)}{', with another label' * differ}"))
    if section.outliers == "drop":
        for exam, view, reasons in unlike:
            reason = f"{view} is unlike the others: {'; '.join(reasons)}"
            verdicts[id(exam)].append(Verdict("outlier", reason))
    decided = [replace(exam, verdicts=(*exam.verdicts, *verdicts[id(exam)])) for exam in exams]
    return Settled(decided, pairs, unlike, without_temperatures(kept, measured), section)


def _looked_at(exam: ExamVerdict) -> list[Record]:
    return [record for record in exam.records if exam.protocol == "S" or record.index == 0]


# --- The exams that a data set takes ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ChosenExams:
    """The exams to take, by protocol, in the order of patient and visit.

    ``dynamic`` also holds exams whose only fault is missing frames, if gaps may be filled.
    ``broken`` are exams dropped because a file could not be read; ``notes`` count the others, and say what is doubtful.
    """

    static: tuple[ExamVerdict, ...]
    dynamic: tuple[ExamVerdict, ...]
    broken: tuple[Failure, ...]
    notes: tuple[str, ...]
    measured: Mapping[str, Measured]


def choose_exams(
    config: Config,
    workspace: Workspace,
    records: Sequence[Record],
    progress: Progress,
    *,
    remember: bool,
    complete: bool = True,
) -> ChosenExams:
    """Decide as ``filter`` does, for the protocols that the data set takes.

    Files that ``filter`` has measured are not read again. ``remember`` False leaves the caches alone; ``complete``
    False takes exams that lack a view too.
    """
    dataset = config.dataset
    protocols = {letter for letter, wanted in (("S", dataset.static), ("D", dataset.dynamic)) if wanted}
    considered = [record for record in records if record.protocol in protocols]
    measured = measure_records(workspace, considered, progress, remember=remember)
    section = config.filter.model_copy(update={"dynamic": dataset.dynamic})
    settled = settle(select_exams(considered, section, measured, complete=complete), section, measured)
    exams = settled.exams
    fillable = config.dit.allow_gaps > 0 and dataset.frames_from == "matrices"
    taken = [exam for exam in exams if exam.kept or (fillable and exam.code == "frame_gaps" and exam.records)]
    dropped = [exam for exam in exams if exam not in taken]
    by_taste = Counter(exam.code for exam in dropped if UNREADABLE not in exam.codes)
    counted = ", ".join(f"{count} {code}" for code, count in sorted(by_taste.items()))
    note = f"{by_taste.total()} exams left out by the rules of filter: {counted} (reasons in filtered/filter.csv)"
    return ChosenExams(
        static=tuple(exam for exam in taken if exam.protocol == "S"),
        dynamic=tuple(exam for exam in taken if exam.protocol == "D"),
        broken=tuple(exam.failure for exam in dropped if UNREADABLE in exam.codes),
        notes=(*((note,) if by_taste else ()), *settled.notes()),
        measured=measured,
    )
