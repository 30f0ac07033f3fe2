"""Several seeds of any classifier: mean, vote, one folder, and what each of them gives in a fold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fuse_fixtures import cohort, config_for, labels_of

from thermocancer.classifiers.calibrated import best_accuracy_threshold, choose_threshold
from thermocancer.classifiers.crossval import cross_validate
from thermocancer.classifiers.making import asked_for, load_fitted
from thermocancer.classifiers.protocol import Fitted, InnerScores
from thermocancer.classifiers.seeds import Seeds, SeedsFitted
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.kinds import kind
from thermocancer.workspace import Workspace

TRAIN, TEST = np.arange(14), np.arange(14, 18)


class Fixed(Fitted):
    """Gives the scores it was told."""

    def __init__(self, threshold: float, scores: list[float], inner: InnerScores | None = None) -> None:
        self.threshold, self.known, self.inner = threshold, np.array(scores), inner

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        return self.known[rows]


def together(*members: Fixed) -> SeedsFitted:
    return SeedsFitted.of(dict(enumerate(members)), kind("thermal").family())


def test_the_majority_calls_and_a_tie_goes_by_the_mean_score() -> None:
    source = cohort(2)
    three = together(Fixed(0.5, [0.9, 0.4]), Fixed(0.2, [0.1, 0.3]), Fixed(0.6, [0.7, 0.5]))
    scores, calls = three.scored(source, np.arange(2))
    assert scores == pytest.approx([1.7 / 3, 0.4])
    assert calls.tolist() == [1, 0]
    assert three.threshold == pytest.approx(1.3 / 3)
    tied = together(Fixed(0.5, [0.9, 0.6, 0.1]), Fixed(0.7, [0.6, 0.2, 0.8]))
    assert tied.scored(source, np.arange(3))[1].tolist() == [1, 0, 0]


def test_inner_scores_are_means_of_rows_that_every_seed_held_back() -> None:
    def held(rows: list[int], scores: list[float]) -> InnerScores:
        return InnerScores(np.array(rows), np.array(rows) % 2, np.array(scores))

    inner = together(Fixed(0.5, [], held([4, 2, 7], [0.1, 0.2, 0.3])), Fixed(0.5, [], held([7, 4], [0.5, 0.7]))).inner
    assert inner is not None
    assert (inner.rows.tolist(), inner.labels.tolist()) == ([4, 7], [0, 1])
    assert inner.scores == pytest.approx([0.4, 0.4])
    assert together(Fixed(0.5, [], inner), Fixed(0.5, [])).inner is None


def seeds_of(workspace: Workspace, name: str = "pixels", count: int = 3) -> Seeds:
    family = kind(name).family()
    asked = asked_for(config_for(workspace, split__inner_folds=3), workspace, ("Frontal",))
    return Seeds(family.make(asked), count, family)


@pytest.mark.parametrize("name", ["pixels", "thermal"])
def test_any_classifier_can_be_fitted_from_several_seeds_and_read_back(name: str, tmp_path: Path) -> None:
    source, workspace = cohort(16), Workspace(tmp_path)
    seeds = seeds_of(workspace, name)
    labels = labels_of(source)[TRAIN]
    fitted = seeds.fit(source, TRAIN, labels, seed=5, fold="test")
    assert list(fitted.members) == [5, 6, 7]
    alone = [seeds.classifier.fit(source, TRAIN, labels, seed=seed, fold="test") for seed in (5, 6, 7)]
    assert len({each.threshold for each in alone}) > 1, "inner folds should depend on the seed"
    assert fitted.threshold == np.mean([each.threshold for each in alone])
    assert fitted.scores(source, TEST) == pytest.approx(np.mean([each.scores(source, TEST) for each in alone], axis=0))
    assert fitted.inner is not None
    assert sorted(fitted.inner.rows.tolist()) == TRAIN.tolist()
    fitted.save(tmp_path / "model")
    assert json.loads((tmp_path / "model/classifier.json").read_text())["members"] == [5, 6, 7]
    loaded = load_fitted(tmp_path / "model", workspace)
    assert isinstance(loaded, SeedsFitted)
    assert list(loaded.members) == [5, 6, 7]
    assert loaded.threshold == fitted.threshold
    for one, other in zip(loaded.scored(source, TEST), fitted.scored(source, TEST), strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_a_fold_tells_what_each_seed_gives_and_is_kept_so(tmp_path: Path) -> None:
    source, workspace = cohort(16), Workspace(tmp_path)
    fold, folder = Fold("test", TRAIN, TEST), tmp_path / "folds"
    seeds = seeds_of(workspace, count=2)
    result = cross_validate(seeds, source, (fold,), seed=1, folder=folder, keep=True).folds[0]
    assert [each.fold for each in result.members] == ["seed 1", "seed 2"]
    assert [row.score for row in result.rows] == pytest.approx(
        np.mean([[row.score for row in each.rows] for each in result.members], axis=0)
    )
    assert {row.fold for each in result.members for row in (*each.rows, *each.inner)} == {"test"}
    assert isinstance(load_fitted(folder / "models/test", workspace), SeedsFitted)
    again = cross_validate(seeds, source, (fold,), seed=1, folder=folder, keep=True).folds[0]
    assert again == result


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.5),
        ([0.1, 0.7, 0.6, 0.95], [0, 0, 1, 1], 0.35),
        ([0.3, 0.3], [0, 0], 0.65),
    ],
    ids=["apart", "one wrong", "one class"],
)
def test_the_threshold_with_the_most_right_decisions(scores, labels, expected) -> None:
    assert best_accuracy_threshold(np.array(scores), np.array(labels)) == pytest.approx(expected)
    assert choose_threshold(np.array(scores), np.array(labels), "accuracy") == pytest.approx(expected)
