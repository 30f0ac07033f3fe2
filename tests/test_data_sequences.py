"""Which frames make a sequence, and how gaps are named and filled."""

from __future__ import annotations

import numpy as np
import pytest

from thermocancer.data.catalog import Record
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem, gather_series


@pytest.mark.parametrize(
    ("indices", "allowed", "problem"),
    [
        (range(20), 0, None),
        ([0, 1, 2, *range(4, 20)], 0, "frame gaps: 3 of 20 missing"),
        ([0, 1, 2, *range(4, 20)], 1, None),
        ([*range(9), *range(15, 20)], 2, "frame gaps: 9-14 of 20 missing"),
        ([*range(9), *range(15, 20)], 6, None),
        (range(1, 20), 3, "frame gaps: 0 of 20 missing (a gap at the start or end cannot be filled)"),
        (range(19), 0, "frame gaps: 19 of 20 missing"),
        ([*range(20), 20], 5, "frame gaps: index 20 beyond 20 frames"),
        ([*range(20), 4], 5, "frame gaps: index 4 stands twice"),
        ([], 0, "frame gaps: 0-19 of 20 missing"),
    ],
    ids=["whole", "gap", "gap allowed", "long gap", "long gap allowed", "start", "end", "beyond", "twice", "none"],
)
def test_gaps_are_named(indices: list[int], allowed: int, problem: str | None) -> None:
    assert find_gap_problem(list(indices), 20, allowed) == problem


def record(patient: int, index: int, date: str = "2014-01-02", view: str = "Frontal", protocol: str = "D") -> Record:
    return Record(f"{patient}/{index}", patient, 1, view, protocol, date, index, "sick", layout="space2")


def test_frames_are_ordered_by_index_and_lateral_and_static_files_left_out() -> None:
    records = [record(7, index) for index in (2, 0, 1)]
    records += [record(7, 0, view="Left"), record(7, 0, protocol="S"), record(8, 0)]
    (series,), refused = gather_series(records, 3)
    assert [each.index for each in series.records] == [0, 1, 2]
    assert (series.exam.key, series.exam.label, series.missing) == ("7_1", 1, ())
    assert refused == {"8_1": "frame gaps: 1-2 of 3 missing"}


def test_of_two_dates_the_more_frequent_counts() -> None:
    records = [record(7, 0, "2014-01-01"), record(7, 1), record(7, 2)]
    assert gather_series(records, 3)[0][0].exam.date == "2014-01-02"


def test_gaps_are_filled_linearly_in_time_to_the_hundredth() -> None:
    start = np.full((2, 3), 3000, np.uint16)
    frames, filled = fill_gaps({0: start, 3: start + np.uint16(100), 4: start}, 5)
    assert [int(frame[0, 0]) for frame in frames] == [3000, 3033, 3067, 3100, 3000]
    assert filled.tolist() == [False, True, True, False, False]
    assert all(frame.dtype == np.uint16 for frame in frames)


def test_falling_temperatures_do_not_wrap_around() -> None:
    frames, _ = fill_gaps({0: np.full((1, 1), 10, np.uint16), 2: np.zeros((1, 1), np.uint16)}, 3)
    assert int(frames[1][0, 0]) == 5


def test_ends_cannot_be_filled() -> None:
    with pytest.raises(ValueError, match="start or end"):
        fill_gaps({1: np.zeros((1, 1), np.uint16)}, 2)
