"""Cross-validation: out of sample, resumable, the same whatever the number of processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuse_fixtures import cohort, config_for, labels_of

from thermocancer.classifiers.crossval import cross_validate
from thermocancer.classifiers.making import make_classifier
from thermocancer.classifiers.protocol import Fitted
from thermocancer.config.learning import ComputeSection
from thermocancer.data.split import Fold, make_split, outer_folds
from thermocancer.errors import DataError, RunError
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Counting(Fitted):
    """A recipe that notes each fit in a file, and fails on the folds it is told to."""

    notes: Path
    fails: Sequence[str] = ()
    threshold: float = 0.4
    history: Sequence[Mapping[str, Any]] = ({"epoch": 1, "loss": 0.5},)

    def fit(self, source: Any, rows: np.ndarray, labels: np.ndarray, *, seed: int, fold: str) -> Counting:
        if fold in self.fails:
            raise RunError(f"fold {fold} fails")
        with self.notes.open("a") as handle:
            handle.write(f"{fold}\n")
        return self

    def decisions(self, cohort: Any, rows: np.ndarray) -> np.ndarray:
        return rows / 1.0

    def describe(self) -> dict[str, Any]:
        return {}

    def scores(self, source: Any, rows: np.ndarray) -> np.ndarray:
        return (rows % 10) / 10

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "classifier.json").write_text("{}")


def folds_of(source: Any, workspace: Workspace, **options: Any) -> list[Fold]:
    config = config_for(workspace, **options)
    return outer_folds(source.exams, make_split(source.exams, config.split, 0), config.split, 0)


def test_every_exam_is_scored_once_a_repeat(tmp_path: Path) -> None:
    source = cohort(18)
    folds = folds_of(source, Workspace(tmp_path), split__repeats=2)
    result = cross_validate(Counting(tmp_path / "notes"), source, folds, seed=0)
    assert len(result.rows) == 2 * len(source.exams)
    assert {(row.patient, row.visit, row.fold[0]) for row in result.rows} == {
        (exam.patient, exam.visit, repeat) for exam in source.exams for repeat in "12"
    }
    assert all(row.predicted == (row.score >= 0.4) for row in result.rows)
    assert result.history[0] == {"fold": "1.1", "epoch": 1, "loss": 0.5}
    assert set(result.thresholds) == {fold.name for fold in folds}


def test_finished_folds_are_not_fitted_again(tmp_path: Path) -> None:
    source, notes = cohort(18), tmp_path / "notes"
    folds = folds_of(source, Workspace(tmp_path))
    with pytest.raises(RunError, match=r"fold 1\.3 fails"):
        cross_validate(Counting(notes, fails=["1.3"]), source, folds, seed=0, folder=tmp_path / "folds")
    assert notes.read_text().split() == ["1.1", "1.2"]
    resumed = cross_validate(Counting(notes), source, folds, seed=0, folder=tmp_path / "folds")
    assert notes.read_text().split() == ["1.1", "1.2", "1.3"]
    fresh = cross_validate(Counting(tmp_path / "other"), source, folds, seed=0)
    assert resumed == fresh


@pytest.mark.parametrize("damage", ["cut", "other rows", "other seed"])
def test_a_kept_fold_of_something_else_is_fitted_again(damage: str, tmp_path: Path) -> None:
    source, notes, folder = cohort(18), tmp_path / "notes", tmp_path / "folds"
    folds = folds_of(source, Workspace(tmp_path))
    first = cross_validate(Counting(notes), source, folds, seed=0, folder=folder)
    if damage == "cut":
        (folder / "1.2.json").write_text((folder / "1.2.json").read_text()[:50])
    elif damage == "other rows":
        content = json.loads((folder / "1.2.json").read_text())
        (folder / "1.2.json").write_text(json.dumps(content | {"identity": "another"}))
    again = cross_validate(Counting(notes), source, folds, seed=int(damage == "other seed"), folder=folder)
    assert len(notes.read_text().split()) == (6 if damage == "other seed" else 4)
    assert again == first


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    source, workspace = cohort(18), Workspace(tmp_path)
    config = config_for(workspace)
    folds = folds_of(source, workspace)
    recipe = make_classifier(config, workspace, name="thermal", views=("Frontal",))
    one = cross_validate(recipe, source, folds, seed=0)
    two = cross_validate(recipe, source, folds, seed=0, compute=ComputeSection(workers=2))
    assert one == two
    assert {row.score for row in one.rows} != {0.5}


def test_a_patient_on_both_sides_stops_the_run(tmp_path: Path) -> None:
    source = cohort(18)
    leaky = [Fold("test", np.arange(0, 10, 2), np.arange(1, 10, 2))]  # patients 1 and 2 have two visits
    with pytest.raises(DataError, match="both sides"):
        cross_validate(Counting(tmp_path / "notes"), source, leaky, seed=0)
    assert cross_validate(Counting(tmp_path / "notes"), source, leaky, seed=0, disjoint=False).rows


def test_an_identical_image_on_both_sides_stops_the_run(tmp_path: Path) -> None:
    source = cohort(9, second_visits=0)
    twin = (("Frontal", "same content"),)
    exams = tuple(
        dataclasses.replace(exam, hashes=twin) if row in (0, 5) else exam for row, exam in enumerate(source.exams)
    )
    copies = dataclasses.replace(source, exams=exams)
    with pytest.raises(DataError, match="identical image"):
        cross_validate(Counting(tmp_path / "n"), copies, [Fold("test", np.arange(4), np.arange(4, 9))], seed=0)


def test_a_fold_without_exams_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no exams"):
        cross_validate(Counting(tmp_path / "n"), cohort(6), [Fold("1.1", np.arange(4), np.arange(0))], seed=0)


def test_classifiers_of_folds_are_kept_on_demand(tmp_path: Path) -> None:
    source, folder = cohort(18), tmp_path / "folds"
    folds = folds_of(source, Workspace(tmp_path))
    cross_validate(Counting(tmp_path / "notes"), source, folds, seed=0, folder=folder)
    cross_validate(Counting(tmp_path / "notes"), source, folds, seed=0, folder=folder, keep=True)
    assert sorted(path.parent.name for path in folder.glob("models/*/classifier.json")) == ["1.1", "1.2", "1.3"]
    assert len((tmp_path / "notes").read_text().split()) == 6


def test_inner_scores_are_of_training_exams_only(tmp_path: Path) -> None:
    source, workspace = cohort(18), Workspace(tmp_path)
    folds = folds_of(source, workspace)
    recipe = make_classifier(config_for(workspace), workspace, name="pixels", views=("Frontal",))
    result = cross_validate(recipe, source, folds, seed=0)
    for fold, found in zip(folds, result.folds, strict=True):
        keys = sorted((row.patient, row.visit) for row in found.inner)
        assert keys == sorted((source.exams[row].patient, source.exams[row].visit) for row in fold.train)
        assert {row.label for row in found.inner} == set(labels_of(source)[fold.train].tolist())
