"""Which exams are complete and sound, and why each other one is not.

Decisions only: records and measured files in, verdicts out. ``filter`` writes them down and
``build-dataset`` reads the same ones.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from thermocancer.config.preparation import FilterSection
from thermocancer.data.catalog import Record
from thermocancer.thermal.quality import Measured, Verdict, judge_measured
from thermocancer.workspace import LABELS, VIEWS


@dataclass(frozen=True)
class ExamVerdict:
    """One exam under one protocol. ``records`` are the files it is made of, in the order of view or frame.

    ``verdicts`` is empty when the exam is kept. Codes: unlabelled, missing_view, extra_view,
    frame_gaps, extra_frame, duplicate, wrong_shape, flat, out_of_range, not_finite, unreadable.
    """

    patient: int
    visit: int
    label: str
    protocol: str
    records: tuple[Record, ...]
    verdicts: tuple[Verdict, ...] = ()

    @property
    def exam(self) -> str:
        return f"{self.patient}_{self.visit}"

    @property
    def kept(self) -> bool:
        return not self.verdicts

    @property
    def code(self) -> str:
        """``complete``, or every code once, joined by ``+``."""
        return "+".join(dict.fromkeys(each.code for each in self.verdicts)) or "complete"

    @property
    def reason(self) -> str:
        return "; ".join(each.reason for each in self.verdicts)


def select_exams(
    records: Iterable[Record], section: FilterSection, measured: Mapping[str, Measured]
) -> list[ExamVerdict]:
    """Decide about every exam in the catalog, static and dynamic by themselves.

    ``measured`` maps the path of each usable record to what its matrix is like (``measure_records``).
    The answer is sorted by protocol (static first), patient and visit.
    """
    chosen = [each for each in records if each.patient > 0]
    static = _decide([each for each in chosen if each.protocol == "S"], section, measured)
    if not section.dynamic:
        return static
    return static + _decide([each for each in chosen if each.protocol == "D"], section, measured)


def _decide(records: Sequence[Record], section: FilterSection, measured: Mapping[str, Measured]) -> list[ExamVerdict]:
    """Decide about the exams of one protocol."""
    exams: defaultdict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        exams[record.patient, record.visit].append(record)
    wanted = {key: [each for each in files if _is_wanted(each, section)] for key, files in exams.items()}
    shape = section.shape or _usual_shape(measured[each.path] for files in wanted.values() for each in files)
    decided = []
    for key in sorted(exams):
        label = _label(exams[key])
        verdicts = [] if label in LABELS else [Verdict("unlabelled", _why_unlabelled(exams[key]))]
        verdicts += _completeness(exams[key], wanted[key], section)
        verdicts += _soundness(wanted[key], section, measured, shape)
        files = sorted(wanted[key], key=lambda each: (VIEWS.index(each.view), each.index, each.path))
        decided.append(ExamVerdict(*key, label, files[0].protocol if files else exams[key][0].protocol, tuple(files)))
        decided[-1] = replace(decided[-1], verdicts=tuple(verdicts))
    return _without_duplicates(decided, measured)


def _is_wanted(record: Record, section: FilterSection) -> bool:
    if record.status != "ok" or not record.path:
        return False
    return record.view == "Frontal" if record.protocol == "D" else record.view in section.views


def _usual_shape(measured: Iterable[Measured]) -> tuple[int, int] | None:
    """The most frequent shape; of two equally frequent ones the larger."""
    counts = Counter(each.shape for each in measured if not each.broken)
    return max(counts, key=lambda shape: (counts[shape], shape)) if counts else None


def _label(records: Sequence[Record]) -> str:
    return next((each.label for each in records if each.label in LABELS), "unknown")


def _why_unlabelled(records: Sequence[Record]) -> str:
    reason = next((each.reason for each in records if each.reason), "")
    return f"no label{f' ({reason})' if reason else ''}"


def _completeness(everything: Sequence[Record], wanted: Sequence[Record], section: FilterSection) -> list[Verdict]:
    """Is each view (or frame) there exactly once?"""
    if everything[0].protocol == "D":
        return _frame_gaps([each.index for each in wanted], section.frames)
    verdicts = []
    counts = Counter(each.view for each in wanted)
    for view in section.views:
        if counts[view] == 0:
            known = next((each for each in everything if each.view == view and each.status != "ok"), None)
            why = f" ({known.status}{f': {known.reason}' if known.reason else ''})" if known else ""
            verdicts.append(Verdict("missing_view", f"no {view}{why}"))
        elif counts[view] > 1:
            verdicts.append(Verdict("extra_view", f"{counts[view]} files of {view}"))
    return verdicts


def _frame_gaps(indices: Sequence[int], frames: int) -> list[Verdict]:
    counts = Counter(indices)
    if not counts:
        return [Verdict("frame_gaps", "no frontal frames")]
    verdicts = []
    gaps = [index for index in range(frames) if index not in counts]
    if gaps:
        verdicts.append(Verdict("frame_gaps", f"{len(gaps)} of {frames} frames missing: {_ranges(gaps)}"))
    beyond = sorted(index for index in counts if index >= frames)
    if beyond:
        verdicts.append(Verdict("extra_frame", f"frames beyond {frames - 1}: {_ranges(beyond)}"))
    twice = sorted(index for index, count in counts.items() if count > 1)
    if twice:
        verdicts.append(Verdict("extra_frame", f"frames that are there more than once: {_ranges(twice)}"))
    return verdicts


def _ranges(numbers: Sequence[int]) -> str:
    """``1 2 3 7`` as ``1-3 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _soundness(
    records: Sequence[Record], section: FilterSection, measured: Mapping[str, Measured], shape: tuple[int, int] | None
) -> list[Verdict]:
    """Judge each file of an exam; of many frames with one fault the first is named and the rest counted."""
    by_code: defaultdict[str, list[str]] = defaultdict(list)
    for record in sorted(records, key=lambda each: (VIEWS.index(each.view), each.index)):
        name = f"frame {record.index}" if record.protocol == "D" else record.view
        for verdict in judge_measured(
            measured[record.path],
            low=section.low,
            high=section.high,
            minimum_spread=section.minimum_spread,
            shape=shape,
        ):
            by_code[verdict.code].append(f"{name}: {verdict.reason}")
    return [
        Verdict(code, reasons[0] if len(reasons) == 1 else f"{reasons[0]} (and {len(reasons) - 1} more)")
        for code, reasons in by_code.items()
    ]


def _without_duplicates(exams: Sequence[ExamVerdict], measured: Mapping[str, Measured]) -> list[ExamVerdict]:
    """Mark exams that share a picture with another exam, or show one picture as two views.

    Of exams with one label the first sound one is kept: it is the same picture under other names. Where
    the labels differ nobody can say which is right, and none is kept.
    """
    holders: defaultdict[str, list[ExamVerdict]] = defaultdict(list)
    for exam in exams:
        for content in {measured[each.path].content for each in exam.records} - {""}:
            holders[content].append(exam)
    marked = []
    for exam in exams:
        verdict = _same_view_twice(exam, measured) or _shared_with(exam, holders, measured)
        marked.append(replace(exam, verdicts=(*exam.verdicts, verdict)) if verdict else exam)
    return marked


def _same_view_twice(exam: ExamVerdict, measured: Mapping[str, Measured]) -> Verdict | None:
    if exam.protocol == "D":  # a camera may well repeat a frame
        return None
    first: dict[str, Record] = {}
    for record in exam.records:
        content = measured[record.path].content
        if content and content in first:
            names = f"{first[content].name.file_name} and {record.name.file_name}"
            return Verdict("duplicate", f"one picture under two names: {names}")
        first[content] = record
    return None


def _shared_with(
    exam: ExamVerdict, holders: Mapping[str, Sequence[ExamVerdict]], measured: Mapping[str, Measured]
) -> Verdict | None:
    for record in exam.records:
        others = [each for each in holders.get(measured[record.path].content, ()) if each.exam != exam.exam]
        if not others:
            continue
        sound = next((each for each in sorted([exam, *others], key=_order) if each.kept), None)
        labels = {each.label for each in (exam, *others)}
        if len(labels) == 1 and sound is exam:
            continue
        names = ", ".join(each.exam for each in others)
        why = f"{record.view} is the same picture as in exam {names}"
        return Verdict("duplicate", why if len(labels) == 1 else f"{why}, with another label")
    return None


def _order(exam: ExamVerdict) -> tuple[int, int]:
    return exam.patient, exam.visit
