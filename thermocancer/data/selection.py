"""Why was this exam dropped? Which exams are complete and sound, and why each other one is not.

``filter`` writes these decisions down, and ``build-dataset`` takes exams by the very same ones. Every raw
matrix is measured once; what was found is remembered by the file's SHA-256.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from thermocancer.config.preparation import FilterSection
from thermocancer.data.catalog import Record
from thermocancer.data.novelty import describe
from thermocancer.data.store.sequences import listed_runs
from thermocancer.errors import DataError, RunError
from thermocancer.files import Json, read_json_as, write_json
from thermocancer.outcome import Failure
from thermocancer.progress import Progress
from thermocancer.thermal.likeness import look_of
from thermocancer.thermal.quality import Measured, Verdict, judge_measured, measure_matrix
from thermocancer.thermal.reading import read_matrix
from thermocancer.workspace import LABELS, VIEWS, Workspace

_READERS = 4  # NumPy and the disk both let go of the interpreter; more threads gain nothing
_CACHE_FORMAT = 3
UNREADABLE = "unreadable"
"""The verdict by which an exam is a failed item, not a matter of taste."""


@dataclass(frozen=True)
class ExamVerdict:
    """One exam under one protocol. ``records`` are the files it is made of, in the order of view or frame.

    ``verdicts`` is empty when the exam is kept. Codes: unlabelled, missing_view, extra_view, frame_gaps,
    extra_frame, later_visit, duplicate, look_alike, outlier, wrong_shape, flat, out_of_range, not_finite, fill,
    unreadable.
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
    def codes(self) -> tuple[str, ...]:
        """What is wrong, each code once."""
        return tuple(dict.fromkeys(each.code for each in self.verdicts))

    @property
    def code(self) -> str:
        """``complete``, or every code once, joined by ``+``."""
        return "+".join(self.codes) or "complete"

    @property
    def reason(self) -> str:
        return "; ".join(each.reason for each in self.verdicts)

    @property
    def failure(self) -> Failure:
        """The exam as a failed item of a report."""
        return Failure(f"exam {self.exam} ({self.protocol})", self.reason)


def select_exams(
    records: Iterable[Record], section: FilterSection, measured: Mapping[str, Measured], *, complete: bool = True
) -> list[ExamVerdict]:
    """Decide about every exam in the catalog, static and dynamic by themselves.

    ``measured`` maps the path of each usable record to what its matrix is like (``measure_records``).
    The answer is sorted by protocol (static first), patient and visit. ``filter.rule: original`` decides as the
    original study, and with ``complete`` False keeps every exam that has one of the views.
    """
    chosen = [each for each in records if each.patient > 0]
    static = _decide([each for each in chosen if each.protocol == "S"], section, measured, complete)
    if not section.dynamic:
        return static
    return static + _decide([each for each in chosen if each.protocol == "D"], section, measured)


def _decide(
    records: Sequence[Record], section: FilterSection, measured: Mapping[str, Measured], complete: bool = True
) -> list[ExamVerdict]:
    """Decide about the exams of one protocol."""
    exams: defaultdict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in records:
        exams[record.patient, record.visit].append(record)

    def is_wanted(record: Record) -> bool:
        if record.status != "ok" or not record.path:
            return False
        return record.view == "Frontal" if record.protocol == "D" else record.view in section.views

    wanted = {
        key: sorted(filter(is_wanted, files), key=lambda each: (VIEWS.index(each.view), each.index, each.path))
        for key, files in exams.items()
    }
    shape = section.shape
    if shape is None:  # the most frequent one; of two equally frequent ones the larger
        shapes = Counter(
            measured[each.path].shape for files in wanted.values() for each in files if not measured[each.path].broken
        )
        shape = max(shapes, key=lambda shape: (shapes[shape], shape)) if shapes else None
    decided = []
    for key, everything in sorted(exams.items()):
        label = next((each.label for each in everything if each.label in LABELS), "unknown")
        verdicts = []
        if label == "unknown":
            reason = next((each.reason for each in everything if each.reason), "")
            verdicts.append(Verdict("unlabelled", f"no label{f' ({reason})' if reason else ''}"))
        own = wanted[key]
        if everything[0].protocol == "D":
            verdicts += _frame_gaps([each.index for each in own], section.frames)
            if section.rule == "original" and key[1] != 1:
                verdicts.append(Verdict("later_visit", f"visit {key[1]}: the original study took first visits alone"))
        elif section.rule == "original":
            own = _one_file_a_view(own, section, measured, shape)
            readable = [each for each in own if not _soundness([each], section, measured, shape)]
            own = own if complete or not readable else readable
            verdicts += _missing_views(everything, own, section) if complete or not own else []
        else:
            verdicts += _missing_views(everything, own, section)
        verdicts += _soundness(own, section, measured, shape)
        decided.append(ExamVerdict(*key, label, everything[0].protocol, tuple(own), tuple(verdicts)))
    return decided if section.rule == "original" else _without_duplicates(decided, measured)


def _one_file_a_view(
    records: Sequence[Record], section: FilterSection, measured: Mapping[str, Measured], shape: tuple[int, int] | None
) -> list[Record]:
    """The file that stands for each view in the original study's folders, a readable one where there is any.

    Of several the last by name: each copy overwrites ``image_ID.jpg`` of the one before.
    """
    faulty = {each.path: bool(_soundness([each], section, measured, shape)) for each in records}
    chosen = {each.view: each for each in sorted(records, key=lambda each: not faulty[each.path])}
    return sorted(chosen.values(), key=lambda each: VIEWS.index(each.view))


# --- Is everything there, exactly once? -------------------------------------------------------------------------------


def _missing_views(everything: Sequence[Record], wanted: Sequence[Record], section: FilterSection) -> list[Verdict]:
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
    gaps = [index for index in range(frames) if index not in counts]
    beyond = sorted(index for index in counts if index >= frames)
    twice = sorted(index for index, count in counts.items() if count > 1)
    faults = (
        ("frame_gaps", gaps, f"{len(gaps)} of {frames} frames missing"),
        ("extra_frame", beyond, f"frames beyond {frames - 1}"),
        ("extra_frame", twice, "frames that are there more than once"),
    )
    return [Verdict(code, f"{what}: {listed_runs(indices, ' ')}") for code, indices, what in faults if indices]


# --- Is it a thermogram, and one of its own? --------------------------------------------------------------------------


def views_there(records: Iterable[Record]) -> str:
    """The option for the views that most static exams have: ``--views Frontal,Left45``."""
    views: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.protocol == "S" and record.status == "ok":
            views[record.exam].add(record.view)
    (usual, _), *_ = Counter(map(frozenset, views.values())).most_common(1) or [(frozenset(("Frontal",)), 0)]
    return f"--views {','.join(view for view in VIEWS if view in usual)}"


def _soundness(
    records: Sequence[Record], section: FilterSection, measured: Mapping[str, Measured], shape: tuple[int, int] | None
) -> list[Verdict]:
    """Judge each file of an exam; of many frames with one fault the first is named and the rest counted."""
    limits = section.model_dump(include={"low", "high", "minimum_spread", "missing"})
    if section.rule == "original":  # whatever can be stretched between its own minimum and maximum
        limits = {"low": -math.inf, "high": math.inf, "minimum_spread": 0.0, "missing": 0.0}
    by_code: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        name = f"frame {record.index}" if record.protocol == "D" else record.view
        for verdict in judge_measured(measured[record.path], **limits, shape=shape):
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
        in_order = sorted([exam, *others], key=lambda each: (each.patient, each.visit))
        labels = {each.label for each in in_order}
        if len(labels) == 1 and next((each for each in in_order if each.kept), None) is exam:
            continue
        why = f"{record.view} is the same picture as in exam {', '.join(each.exam for each in others)}"
        return Verdict("duplicate", why if len(labels) == 1 else f"{why}, with another label")
    return None


# --- Measuring every file once ----------------------------------------------------------------------------------------


def measure_records(
    workspace: Workspace, records: Iterable[Record], progress: Progress, *, remember: bool = True
) -> dict[str, Measured]:
    """Measure the files of ``records`` that are there; the answer maps each record's path to what was found.

    A file that cannot be read, has vanished, or is not what the catalog says has ``broken`` set.
    ``remember`` False leaves the cache as it is (for a plan, which touches nothing).
    """
    hashes, cache = workspace.hashes(), workspace.cache / "quality.json"
    known = _read_cache(cache)
    found: dict[str, Measured] = {}
    unknown: list[Record] = []
    for record in records:
        if record.status != "ok" or not record.path:
            continue
        try:
            changed = hashes.of(workspace.raw / record.path) != record.sha256
        except OSError:
            found[record.path] = Measured(broken="the file has vanished from raw/")
            continue
        if changed:
            what = "the file is not the one that was catalogued (its content has changed)"
            found[record.path] = Measured(broken=what)
        elif record.sha256 in known:
            found[record.path] = known[record.sha256]
        else:
            unknown.append(record)
    if unknown:
        with progress.task("measuring", len(unknown), "files") as task, ThreadPoolExecutor(_READERS) as pool:
            for record, measured in zip(
                unknown, pool.map(functools.partial(_measure, workspace.raw), unknown), strict=True
            ):
                found[record.path] = known[record.sha256] = measured
                task.advance()
    if remember and unknown:
        found_so_far = {key: asdict(each) for key, each in known.items()}
        with contextlib.suppress(RunError):  # works without the cache
            write_json(cache, {"format": _CACHE_FORMAT, "measured": found_so_far})
    if remember:
        hashes.save()
    return found


def known_measures(workspace: Workspace, records: Iterable[Record]) -> dict[str, Measured]:
    """What ``measure_records`` has found of these records before; no file is read."""
    known = _read_cache(workspace.cache / "quality.json")
    return {each.path: known[each.sha256] for each in records if each.status == "ok" and each.sha256 in known}


def _read_cache(cache: Path) -> dict[str, Measured]:
    """What is known of raw files, by SHA-256. The file may be deleted at any time; a broken one says nothing."""

    def known(content: Json) -> dict[str, Measured]:
        measured = content["measured"].items() if content["format"] == _CACHE_FORMAT else ()
        return {key: _measures().validate_python(value) for key, value in measured}

    with contextlib.suppress(DataError):
        return read_json_as(cache, known, "these are no measures")
    return {}


@functools.cache
def _measures() -> TypeAdapter[Measured]:
    return TypeAdapter(Measured)


def _measure(raw: Path, record: Record) -> Measured:
    path = raw / record.path
    try:
        matrix = read_matrix(path)
    except DataError as error:
        line = (error.where or "").removeprefix(str(path)).strip(":")
        found = f", found {error.found}" if error.found else ""
        return Measured(broken=f"{error.what}{f' (line {line})' if line else ''}{found}")
    measured = measure_matrix(matrix.celsius, matrix.layout)
    if measured.missing_share == 1 or (record.protocol == "D" and record.index):  # of a sequence the first tells all
        return measured
    described = {name: value if math.isfinite(value) else None for name, value in describe(matrix.degrees).items()}
    return replace(measured, look=look_of(matrix.degrees), described=described)
