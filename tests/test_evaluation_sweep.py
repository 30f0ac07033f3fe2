"""Hyper-parameter search: inside the training part only, resumable, shared through one journal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import pixels_config, toy_rows, toy_source

from thermocancer.classifiers.making import Swept, make_classifier, run_study, with_settings
from thermocancer.config import load_config
from thermocancer.config.judging import Range
from thermocancer.errors import ConfigError, DataError, RunError
from thermocancer.workspace import Workspace

SPACE = {"fuse.C": Range(low=0.01, high=10.0, log=True), "features.components": (2, 4)}


def judged(settings: dict) -> float:
    return -abs(np.log10(settings["fuse.C"])) + 0.1 * settings["features.components"]


def test_the_search_climbs(tmp_path: Path) -> None:
    found, score = run_study(tmp_path / "journal.log", "one", SPACE, 25, 0, judged)
    assert found["features.components"] == 4
    assert 0.1 < found["fuse.C"] < 10
    assert score == pytest.approx(judged(found))


def test_a_killed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = run_study(tmp_path / "whole.log", "one", SPACE, 8, 3, judged)
    calls = 0

    def breaks(settings: dict) -> float:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return judged(settings)

    with pytest.raises(KeyboardInterrupt):
        run_study(tmp_path / "torn.log", "one", SPACE, 8, 3, breaks)
    assert run_study(tmp_path / "torn.log", "one", SPACE, 8, 3, judged) == whole


def test_a_second_machine_finds_the_work_done(tmp_path: Path) -> None:
    first = run_study(tmp_path / "journal.log", "one", SPACE, 5, 0, judged)

    def never(settings: dict) -> float:
        raise AssertionError("nothing was left to judge")

    assert run_study(tmp_path / "journal.log", "one", SPACE, 5, 0, never) == first


def test_only_training_rows_are_looked_at(tmp_path: Path) -> None:
    rows = toy_rows(30, repeats=1)
    source = toy_source(rows)
    options = {"sweep.trials": 3, "sweep.space": {"features.components": [2, 5]}}
    config = pixels_config(Workspace(tmp_path), **options)
    recipe = make_classifier(config, Workspace(tmp_path), views=("Frontal",))
    assert isinstance(recipe, Swept)
    labels = np.array([exam.label for exam in source.exams])
    train = np.array([i for i, exam in enumerate(source.exams) if exam.patient % 3])
    test = np.setdiff1d(np.arange(len(labels)), train)
    fitted = recipe.fit(source, train, labels[train], seed=0, fold="1.1")
    scores = fitted.scores(source, test)
    turned = labels.copy()
    turned[test] = 1 - turned[test]  # what is scored must not matter
    other = toy_source(rows)
    again = make_classifier(config, Workspace(tmp_path / "b"), views=("Frontal",)).fit(
        other, train, turned[train], seed=0, fold="1.1"
    )
    np.testing.assert_array_equal(again.scores(other, test), scores)
    note = next(entry for entry in fitted.history if "sweep" in entry)
    assert note["sweep"]["features.components"] in (2, 5)
    assert 0 <= note["inner_auc"] <= 1


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.space"):
        load_config(options={"sweep.space": {"fetch.url": ["a", "b"]}}, environment={})
    nested = load_config(options={"sweep.space": {"fuse": {"C": {"low": 0.1, "high": 1}}}}, environment={})
    assert nested.sweep.space == {"fuse.C": Range(low=0.1, high=1)}
    with pytest.raises(ConfigError, match="not allowed"):
        with_settings(nested, {"fuse.C": -1})
    assert with_settings(nested, {"fuse.C": 0.5}).fuse.C == 0.5


def test_a_journal_that_was_cut_off_goes_on_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    journal = tmp_path / "journal.log"
    whole = run_study(tmp_path / "whole.log", "one", SPACE, 8, 3, judged)
    run_study(journal, "one", SPACE, 8, 3, judged)
    journal.write_bytes(journal.read_bytes()[:-40])
    assert run_study(journal, "one", SPACE, 8, 3, judged) == whole
    journal.write_bytes(b"{not a journal}\n" + journal.read_bytes())
    with pytest.raises(DataError, match=r"journal\.log"):
        run_study(journal, "one", SPACE, 9, 3, judged)


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        run_study(tmp_path / "file" / "journal.log", "one", SPACE, 2, 0, judged)
