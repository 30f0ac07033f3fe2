"""Which exams count, and matching healthy with sick exams."""

from __future__ import annotations

import numpy as np
import pytest

from thermocancer.config.preparation import CohortSection
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.data.matching import MatchWeights, choose_rows, keep_matches_apart
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError


def source(labels: list[int], days: list[float], rooms: list[float]) -> ArrayCohort:
    exams = tuple(Exam(row + 1, 1, label, layout="space2" if row % 2 else "tab2") for row, label in enumerate(labels))
    measured = {"date_ordinal": np.array(days, float), "room_celsius": np.array(rooms, float)}
    return ArrayCohort(exams, {"Frontal": np.zeros((len(labels), 2, 2), np.uint16)}, measured=measured)


def test_by_default_every_exam_counts_once() -> None:
    rows, weights = choose_rows(source([0, 1, 0], [0, 0, 0], [0, 0, 0]), CohortSection())
    assert rows.tolist() == [0, 1, 2]
    assert weights.tolist() == [1, 1, 1]


def test_layouts_and_exclusions() -> None:
    data = source([0, 1, 0, 1], [0] * 4, [0] * 4)
    assert choose_rows(data, CohortSection(layouts=("space2",)))[0].tolist() == [1, 3]
    assert choose_rows(data, CohortSection(exclude=("1", "4_1")))[0].tolist() == [1, 2]
    with pytest.raises(ConfigError, match=r"exclude names an exam[^$]*found: 99$"):
        choose_rows(data, CohortSection(exclude=("99", "1")))
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
    data = ArrayCohort((Exam(1, 1, 0), Exam(2, 1, 1)), {"Frontal": np.zeros((2, 2, 2), np.uint16)})
    with pytest.raises(DataError, match="cannot be matched"):
        choose_rows(data, CohortSection(match="choose"))


def test_what_is_matched_to_a_tested_exam_does_not_teach() -> None:
    data = source([0, 0, 0, 1, 1, 1], [0, 1000, 2000, 10, 1010, 2010], [20] * 6)
    fold = Fold("1.1", np.array([0, 1, 3, 4, 5]), np.array([2]))
    (apart,) = keep_matches_apart(data, [fold], CohortSection(match="choose"))
    assert apart.train.tolist() == [0, 1, 3, 4]  # 5 is the match of 2
    assert apart.test.tolist() == [2]
    for match in ("none", "weight"):
        assert keep_matches_apart(data, [fold], CohortSection(match=match)) == [fold]


def test_weights_know_the_training_part_alone() -> None:
    rng = np.random.default_rng(1)
    labels, days = np.array([0] * 30 + [1] * 10), rng.normal(0, 300, 40)
    config, part = CohortSection(match="weight", match_days=60), np.arange(0, 40, 2)
    weights = MatchWeights.of(source(labels.tolist(), days.tolist(), [20] * 40), config)
    moved = days.copy()
    moved[1::2] += 5000  # whoever is not in the part
    others = MatchWeights.of(source((labels * 1).tolist(), moved.tolist(), [20] * 40), config)
    assert weights[part].tolist() == others[part].tolist()
    assert weights[np.tile(part, 2)].tolist() == np.tile(weights[part], 2).tolist()
    assert weights[part[::-1]].tolist() == weights[part][::-1].tolist()
    assert weights[part].min() > 0
    later = days[:, None] + 150 * labels[:, None]
    fitted = MatchWeights.of(source(labels.tolist(), later[:, 0].tolist(), [20] * 40), config)[part]
    healthy, sick = (labels[part] == side for side in (0, 1))
    apart = np.average(later[part][healthy], axis=0, weights=fitted[healthy]) - later[part][sick].mean()
    assert abs(apart) < 0.5 * abs(later[part][healthy].mean() - later[part][sick].mean())
    alone = MatchWeights.of(source([0, 0, 1], [0, 0, 9000], [20] * 3), config)
    assert alone[np.arange(3)].tolist() == [1, 1, 1]
    assert weights.identity != others.identity


def auc_of_dates(match: str, *, apart: bool, samples: int = 15) -> float:
    """Mean AUC of a support vector machine on dates that have nothing to do with the labels."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.svm import SVC

    from thermocancer.evaluation.statistics.resampling import auc_of

    config, found = CohortSection(match=match, match_days=60), []
    for seed in range(samples):
        labels = (np.arange(110) < 33).astype(int)
        days = np.random.default_rng(seed).uniform(0, 3000, 110)
        data = source(labels.tolist(), days.tolist(), [20] * 110)
        rows, fixed = choose_rows(data, config)
        folds = [
            Fold("", rows[train], rows[test])
            for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(rows, labels[rows])
        ]
        by_all = np.ones(110)
        by_all[rows] = fixed
        weights = MatchWeights.of(data, config) if apart and match == "weight" else by_all
        scores, table = np.zeros(110), days[:, None] / 100
        for fold in keep_matches_apart(data, folds, config) if apart else folds:
            machine = SVC(gamma=0.5).fit(table[fold.train], labels[fold.train], weights[fold.train])
            scores[fold.test] = machine.decision_function(table[fold.test])
        found.append(auc_of(np.ones((1, len(rows))), labels[rows], scores[rows])[0])
    return float(np.mean(found))


def test_matching_does_not_turn_meaningless_dates_around() -> None:
    assert auc_of_dates("choose", apart=False) < 0.25
    assert abs(auc_of_dates("choose", apart=True) - 0.5) < 0.06
    assert auc_of_dates("weight", apart=False) < 0.35
    assert abs(auc_of_dates("weight", apart=True) - 0.5) < 0.1
