"""Which exams count, and matching healthy with sick exams."""

from __future__ import annotations

import numpy as np
import pytest

from thermocancer.config.preparation import CohortSection
from thermocancer.data.cohort import choose_rows
from thermocancer.data.exams import ArrayExamSource, Exam
from thermocancer.errors import ConfigError, DataError


def source(labels: list[int], days: list[float], rooms: list[float]) -> ArrayExamSource:
    exams = tuple(Exam(row + 1, 1, label, layout="space2" if row % 2 else "tab2") for row, label in enumerate(labels))
    measured = {"date_ordinal": np.array(days, float), "room_celsius": np.array(rooms, float)}
    return ArrayExamSource(exams, {"Frontal": np.zeros((len(labels), 2, 2), np.uint16)}, measured=measured)


def test_by_default_every_exam_counts_once() -> None:
    rows, weights = choose_rows(source([0, 1, 0], [0, 0, 0], [0, 0, 0]), CohortSection())
    assert rows.tolist() == [0, 1, 2]
    assert weights.tolist() == [1, 1, 1]


def test_layouts_and_exclusions() -> None:
    data = source([0, 1, 0, 1], [0] * 4, [0] * 4)
    assert choose_rows(data, CohortSection(layouts=("space2",)))[0].tolist() == [1, 3]
    assert choose_rows(data, CohortSection(exclude=("1", "4_1")))[0].tolist() == [1, 2]
    with pytest.raises(ConfigError, match="exclude names an exam"):
        choose_rows(data, CohortSection(exclude=("99",)))
    with pytest.raises(DataError, match="no exam is left") as caught:
        choose_rows(data, CohortSection(layouts=("comma2",)))
    assert "space2, tab2" in str(caught.value)


def test_choose_finds_the_largest_set_of_near_pairs() -> None:
    # healthy 0 is near both sick, healthy 1 near the first only: a greedy choice would lose a pair
    data = source([0, 0, 1, 1, 0], [100, 0, 90, 300, 5000], [20, 20, 20, 20.5, 20])
    rows, weights = choose_rows(data, CohortSection(match="choose"))
    assert rows.tolist() == [0, 1, 2, 3]
    assert weights.tolist() == [1, 1, 1, 1]


def test_choose_prefers_the_nearer_of_two() -> None:
    data = source([0, 0, 1], [0, 200, 190], [20, 20, 20])
    assert choose_rows(data, CohortSection(match="choose"))[0].tolist() == [1, 2]


def test_both_date_and_room_must_agree_and_be_known() -> None:
    data = source([0, 0, 0, 1], [0, 0, float("nan"), 0], [20, 23, 20, 20.7])
    assert choose_rows(data, CohortSection(match="choose"))[0].tolist() == [0, 3]
    with pytest.raises(DataError, match="can be matched") as caught:
        choose_rows(data, CohortSection(match="choose", match_room_celsius=0.1))
    assert "match_room_celsius" in str(caught.value)


def test_weights_give_healthy_the_dates_of_the_sick() -> None:
    rng = np.random.default_rng(0)
    labels = [0] * 300 + [1] * 100
    days = np.concatenate([rng.normal(0, 200, 300), rng.normal(150, 150, 100)])
    data = source(labels, days.tolist(), [20.0] * 400)
    rows, weights = choose_rows(data, CohortSection(match="weight", match_days=60))
    label = np.array(labels)[rows]
    means = [np.average(days[rows][label == side], weights=weights[label == side]) for side in (0, 1)]
    assert abs(means[0] - means[1]) < 15
    assert abs(days[:300].mean() - days[300:].mean()) > 100
    assert [weights[label == side].mean() for side in (0, 1)] == pytest.approx([1, 1])
    assert (np.diff(rows) > 0).all()


def test_matching_needs_measured_nuisance() -> None:
    data = ArrayExamSource((Exam(1, 1, 0), Exam(2, 1, 1)), {"Frontal": np.zeros((2, 2, 2), np.uint16)})
    with pytest.raises(DataError, match="cannot be matched"):
        choose_rows(data, CohortSection(match="choose"))
