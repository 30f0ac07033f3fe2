"""Dynamic exams: which frames make a sequence, how short gaps are filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.data.catalog import Record
from thermocancer.data.cohort import Exam
from thermocancer.workspace import LABELS


@dataclass(frozen=True)
class FrameSeries:
    """The frontal frames of one visit in order of their index; ``missing`` are the gaps to be filled."""

    exam: Exam
    records: tuple[Record, ...]
    missing: tuple[int, ...]


def gather_series(
    records: Iterable[Record], frames: int, allow_gaps: int = 0
) -> tuple[list[FrameSeries], dict[str, str]]:
    """Sort dynamic frontal frames into sequences by index, never by directory order.

    A sequence is complete when its indices are exactly 0 to ``frames - 1``; runs of up to
    ``allow_gaps`` missing frames between two present ones may be filled. Returns the usable
    sequences by patient and visit, and the reason for each other exam by its key. Of two dates or layouts
    an exam has the more frequent, then the earlier.
    """
    found: dict[tuple[int, int], list[Record]] = {}
    for record in records:
        if record.protocol == "D" and record.view == "Frontal" and record.status == "ok" and record.label in LABELS:
            found.setdefault((record.patient, record.visit), []).append(record)
    series, refused = [], {}
    for (patient, visit), members in sorted(found.items()):
        members.sort(key=lambda each: (each.index, each.path))
        problem = find_gap_problem([each.index for each in members], frames, allow_gaps)
        if problem:
            refused[f"{patient}_{visit}"] = problem
            continue
        missing = tuple(sorted(set(range(frames)) - {each.index for each in members}))
        dates = Counter(each.date for each in members if each.date)
        date = min(dates, key=lambda each: (-dates[each], each)) if dates else None
        layouts = Counter(each.layout for each in members)
        layout = min(layouts, key=lambda each: (-layouts[each], each))
        exam = Exam(patient, visit, LABELS.index(members[0].label), date, layout)
        series.append(FrameSeries(exam, tuple(members), missing))
    return series, refused


def find_gap_problem(indices: Sequence[int], frames: int, allow_gaps: int = 0) -> str | None:
    """Why these frame indices make no sequence of ``frames``, with the gaps by number; None when they do."""
    twice = sorted(index for index, times in Counter(indices).items() if times > 1)
    if twice:
        return f"frame gaps: index {listed_runs(twice)} stands twice"
    beyond = sorted(index for index in indices if not 0 <= index < frames)
    if beyond:
        return f"frame gaps: index {listed_runs(beyond)} beyond {frames} frames"
    missing = sorted(set(range(frames)) - set(indices))
    if not missing:
        return None
    text = f"frame gaps: {listed_runs(missing)} of {frames} missing"
    if missing[0] == 0 or missing[-1] == frames - 1:
        return f"{text} (a gap at the start or end cannot be filled)" if allow_gaps else text
    longest = max(len(run) for run in _runs(missing))
    return None if longest <= allow_gaps else text


def _runs(numbers: Sequence[int]) -> list[list[int]]:
    """Neighbouring numbers together: [3, 4, 9] becomes [[3, 4], [9]]."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def listed_runs(numbers: Sequence[int], separator: str = ", ") -> str:
    """Numbers for people: 1 2 3 7 as ``1-3, 7``."""
    return separator.join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in _runs(numbers))


def fill_gaps(
    frames: Mapping[int, npt.NDArray[np.uint16]], length: int
) -> tuple[list[npt.NDArray[np.uint16]], npt.NDArray[np.bool_]]:
    """A whole sequence from the frames that are there (index to hundredths of a degree, each (H, W)).

    Missing ones are interpolated linearly in time and rounded to hundredths. Returns the frames and
    which of them were filled, bool (length,). Raises ValueError when the first or last is missing.
    """
    filled = np.array([index not in frames for index in range(length)])
    if filled[0] or filled[-1]:
        raise ValueError("a gap at the start or end cannot be interpolated")
    known = sorted(frames)
    whole = []
    for index in range(length):
        if index in frames:
            whole.append(frames[index])
            continue
        before, after = max(each for each in known if each < index), min(each for each in known if each > index)
        share = (index - before) / (after - before)
        blend = (1 - share) * frames[before].astype(np.float64) + share * frames[after].astype(np.float64)
        whole.append(np.rint(blend).astype(np.uint16))
    return whole, filled


def fill_masks(masks: Mapping[int, npt.NDArray[np.bool_] | None], length: int) -> list[npt.NDArray[np.bool_] | None]:
    """Where each frame of a whole sequence lacks temperatures; an interpolated one where either neighbour does."""
    known, whole = sorted(masks), list[npt.NDArray[np.bool_] | None]()
    for index in range(length):
        around = {max(each for each in known if each <= index), min(each for each in known if each >= index)}
        own = [mask for each in around if (mask := masks[each]) is not None]
        whole.append(np.logical_or.reduce(own) if own else None)
    return whole
