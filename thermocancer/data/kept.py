"""Which exams a data set takes: those that ``filter`` keeps, by the very same decisions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thermocancer.config import Config
from thermocancer.data.catalog import Record
from thermocancer.data.measuring import measure_records
from thermocancer.data.selection import ExamVerdict, select_exams
from thermocancer.outcome import Failure
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

_FAULTS = {"unreadable"}  # an exam dropped for one of these is a failed item, not a matter of taste


@dataclass(frozen=True)
class Kept:
    """The exams to take, by protocol, in the order of patient and visit.

    ``dynamic`` also holds exams whose only fault is missing frames, if gaps may be filled.
    ``broken`` are exams dropped because a file could not be read; ``notes`` count the others.
    """

    static: tuple[ExamVerdict, ...]
    dynamic: tuple[ExamVerdict, ...]
    broken: tuple[Failure, ...]
    notes: tuple[str, ...]


def kept_exams(
    config: Config, workspace: Workspace, records: Sequence[Record], progress: Progress, *, remember: bool
) -> Kept:
    """Decide as ``filter`` does, for the protocols that the data set takes.

    Files that ``filter`` has measured are not read again. ``remember`` False leaves the caches alone.
    """
    dataset = config.dataset
    protocols = {letter for letter, wanted in (("S", dataset.static), ("D", dataset.dynamic)) if wanted}
    chosen = [record for record in records if record.protocol in protocols]
    measured = measure_records(workspace, chosen, progress, remember=remember)
    rules = config.filter.model_copy(update={"dynamic": dataset.dynamic})
    exams = select_exams(chosen, rules, measured)
    fillable = config.dit.allow_gaps > 0 and dataset.source == "matrices"
    taken = [exam for exam in exams if exam.kept or (fillable and exam.code == "frame_gaps" and exam.records)]
    dropped = [exam for exam in exams if exam not in taken]
    broken = [exam for exam in dropped if _FAULTS & {each.code for each in exam.verdicts}]
    return Kept(
        static=tuple(exam for exam in taken if exam.protocol == "S"),
        dynamic=tuple(exam for exam in taken if exam.protocol == "D"),
        broken=tuple(Failure(f"exam {exam.exam} ({exam.protocol})", exam.reason) for exam in broken),
        notes=_count_dropped([exam for exam in dropped if exam not in broken]),
    )


def _count_dropped(dropped: Sequence[ExamVerdict]) -> tuple[str, ...]:
    if not dropped:
        return ()
    codes = Counter(exam.code for exam in dropped)
    listed = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    return (f"{len(dropped)} exams left out by the rules of filter: {listed} (reasons in filtered/filter.csv)",)
