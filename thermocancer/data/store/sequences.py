"""Dynamic exams: which frames make a sequence, how short gaps are filled, and reading them from HDF5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.data.catalog import Record
from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.store.reading import H5File, read_exams, read_rows, require
from thermocancer.errors import DataError
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
    sequences by patient and visit, and the reason for each other exam by its key.
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
        series.append(FrameSeries(_exam_of(members), tuple(members), missing))
    return series, refused


def _exam_of(members: Sequence[Record]) -> Exam:
    """One exam from its frames; of two dates or layouts the more frequent, then the earlier."""
    dates = Counter(each.date for each in members if each.date)
    layouts = Counter(each.layout for each in members)
    first = members[0]
    return Exam(
        patient=first.patient,
        visit=first.visit,
        label=LABELS.index(first.label),
        date=min(dates, key=lambda each: (-dates[each], each)) if dates else None,
        layout=min(layouts, key=lambda each: (-layouts[each], each)),
    )


def find_gap_problem(indices: Sequence[int], frames: int, allow_gaps: int = 0) -> str | None:
    """Why these frame indices make no sequence of ``frames``, with the gaps by number; None when they do."""
    twice = sorted(index for index, times in Counter(indices).items() if times > 1)
    if twice:
        return f"frame gaps: index {_listed(twice)} stands twice"
    beyond = sorted(index for index in indices if not 0 <= index < frames)
    if beyond:
        return f"frame gaps: index {_listed(beyond)} beyond {frames} frames"
    missing = sorted(set(range(frames)) - set(indices))
    if not missing:
        return None
    text = f"frame gaps: {_listed(missing)} of {frames} missing"
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


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in _runs(numbers))


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


class SequenceSource(H5File):
    """The dynamic exams of a data set. ``shape`` is (rows, columns), ``length`` the frames of each exam.

    ``filled`` is bool (n, length): frames that were interpolated. ``kind`` is ``celsius`` or ``rgb``.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        group = require(self.file, "dynamic", path, "dataset.dynamic")
        self.name = str(self.file.attrs["name"])
        self.fingerprint = str(group.attrs["fingerprint"])
        self.kind = str(group.attrs["kind"])
        _, length, height, width = group["frames"].shape[:4]
        self.length, self.shape = int(length), (int(height), int(width))
        self.filled: npt.NDArray[np.bool_] = group["filled"][:].astype(bool)
        columns = tuple(f"{index:02d}" for index in range(self.length))
        self.exams = read_exams(group["exams"], group["hashes"], columns)

    def __len__(self) -> int:
        return len(self.exams)

    def frames(self, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> npt.NDArray[np.generic]:
        """Frames ``indices`` (all by default) of some exams.

        uint16 hundredths of a degree (len(rows), len(indices), H, W), or uint8 (..., H, W, 3) where
        ``kind`` is ``rgb``. Rows and indices may come in any order and repeat.
        """
        chosen = np.arange(self.length) if indices is None else np.asarray(indices, dtype=np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < self.length:
            raise IndexError(f"frames {chosen.min()}..{chosen.max()} of a sequence of {self.length}")
        if len(chosen) == self.length:
            whole: npt.NDArray[np.generic] = read_rows(self.file["dynamic/frames"], rows, self.path)
            return whole[:, chosen]
        dataset = self.file["dynamic/frames"]
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()}..{rows.max()} of a data set with {len(self)} sequences")
        found = np.empty((len(rows), len(chosen), *dataset.shape[2:]), dataset.dtype)
        try:
            for place, row in enumerate(rows):
                for position, index in enumerate(chosen):
                    dataset.read_direct(found, np.s_[int(row), int(index)], np.s_[place, position])
        except OSError as error:
            raise DataError("a frame of the data set cannot be read", where=self.path, found=error) from error
        return found

    def nuisance(self) -> dict[str, FloatArray]:
        """What can be measured without the breast in each exam's first frame, each (n,), NaN where unknown."""
        group = self.file["dynamic/nuisance"]
        return {str(name): np.asarray(group[name][:], dtype=np.float64) for name in sorted(group)}


def open_sequences(path: Path) -> SequenceSource:
    """Open the dynamic part of a data set. Raises DataError as ``open_dataset`` does."""
    return SequenceSource(Path(path))
