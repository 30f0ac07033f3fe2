"""Faults planted in a run's own files: each is named in the verdict at the top of the report, and in red."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import pixels_config, toy_rows, toy_source, write_dataset, write_run

from thermocancer.config import dump_yaml
from thermocancer.data.cohort import ArrayCohort
from thermocancer.data.split import make_split
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.refits import REFITS
from thermocancer.progress import Silent
from thermocancer.runs.predictions import Prediction
from thermocancer.stages import evaluate, fuse
from thermocancer.workspace import Workspace

NO_REFITS = {"evaluate.audit_skip": [name for name, _ in REFITS], "evaluate.explain": False}


def first_visits(rows: list[Prediction]) -> list[Prediction]:
    return [row for row in rows if row.visit == 1]


def report_of(
    root: Path, rows: list[Prediction], source: ArrayCohort, **options: object
) -> tuple[dict, str]:  # fmt: skip
    """The verdict and the page of a run whose predictions and data set are given."""
    workspace = Workspace(root)
    write_dataset(workspace, source)
    folder = write_run(workspace, "planted", rows, model="pixels")
    config = pixels_config(workspace, **(NO_REFITS | {"fuse.name": "planted"} | options))
    (folder / "config.yaml").write_text(dump_yaml(config))
    evaluate.run(config, workspace, Silent())
    verdict = json.loads((folder / "report.json").read_text())["verdict"]
    return verdict, (folder / "report.html").read_text()


def test_without_a_fault_nothing_is_said(tmp_path: Path) -> None:
    rows = first_visits(toy_rows(60, repeats=1, strength=2.5))
    verdict, page = report_of(tmp_path, rows, toy_source(rows))
    assert verdict["tone"] == "open"
    assert verdict["sentences"][1].startswith("No shortcut is shown, which does not show that there is none")
    assert not any("Leak checks found" in sentence or "leak" in sentence for sentence in verdict["sentences"])
    assert page.count(">holds</span>") == 5
    assert ">found</span>" not in page


def test_a_patient_on_both_sides(tmp_path: Path) -> None:
    rows = [row for row in toy_rows(30, repeats=1) if row.patient != 14]
    moved = [replace(row, fold=f"1.{row.visit}") if row.patient == 7 else row for row in rows]
    verdict, page = report_of(tmp_path, moved, toy_source(moved))
    assert verdict["tone"] == "bad"
    assert "Leak checks found: a patient on both sides of a fold (7)." in verdict["sentences"]
    assert ">found</span> a patient on both sides of a fold: 7" in page


def test_one_image_under_two_names(tmp_path: Path) -> None:
    rows = first_visits(toy_rows(30, repeats=1))
    source = toy_source(rows)
    fold = {row.patient: row.fold for row in rows}
    one, other = 3, next(patient for patient in range(4, 30) if fold[patient] != fold[3])
    places = {exam.patient: place for place, exam in enumerate(source.exams)}
    matrices = source.matrices["Frontal"].copy()
    matrices[places[other]] = matrices[places[one]]
    exams = list(source.exams)
    exams[places[other]] = replace(exams[places[other]], hashes=exams[places[one]].hashes)
    verdict, page = report_of(tmp_path, rows, replace(source, exams=tuple(exams), matrices={"Frontal": matrices}))
    assert verdict["tone"] == "bad"
    named = f"an identical image on both sides of a fold ({one}_1 and {other}_1"
    assert any(named in sentence or f"({other}_1 and {one}_1" in sentence for sentence in verdict["sentences"])
    assert ">found</span> an identical image on both sides of a fold" in page


def test_labels_permuted_in_the_predictions(tmp_path: Path) -> None:
    rows = first_visits(toy_rows(30, repeats=1))
    shuffled = np.random.default_rng(0).permutation([row.label for row in rows]).tolist()
    permuted = [replace(row, label=label) for row, label in zip(rows, shuffled, strict=True)]
    verdict, _ = report_of(tmp_path, permuted, toy_source(rows))
    assert verdict["tone"] == "bad"
    assert any("labels that differ from those of the data set" in sentence for sentence in verdict["sentences"])


def test_labels_permuted_before_training_leave_nothing_to_learn(tmp_path: Path) -> None:
    """The whole road on a cohort whose labels mean nothing: the headline says so, and no control fails."""
    workspace = Workspace(tmp_path)
    source = toy_source(first_visits(toy_rows(40, repeats=1)))
    labels = np.random.default_rng(3).permutation([exam.label for exam in source.exams]).tolist()
    exams = tuple(replace(exam, label=label) for exam, label in zip(source.exams, labels, strict=True))
    source = replace(source, exams=exams)
    write_dataset(workspace, source)
    config = pixels_config(workspace, **NO_REFITS)
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    evaluate.run(config, workspace, Silent())
    document = json.loads((workspace.run("pixels") / "metrics.json").read_text())
    verdict = json.loads((workspace.run("pixels") / "report.json").read_text())["verdict"]
    assert document["auc"]["low"] <= 0.5
    assert "cannot be told from chance" in verdict["headline"] or "worse than chance" in verdict["headline"]
    assert verdict["tone"] != "good"


@pytest.mark.parametrize("torn", [False, True], ids=["sound", "leaky"])
def test_a_metric_of_100_per_cent(tmp_path: Path, torn: bool) -> None:
    rows = [row for row in toy_rows(40, repeats=1) if row.patient != 14]
    perfect = [replace(row, score=0.9 if row.label else 0.1, predicted=row.label) for row in rows]
    if torn:
        perfect = [replace(row, fold=f"1.{row.visit}") if row.patient == 7 else row for row in perfect]
    verdict, page = report_of(tmp_path, perfect, toy_source(perfect))
    first = verdict["sentences"][0]
    assert first.startswith("A result of 99 % or more (accuracy and AUC): look for a leak first.")
    found = "The leak audit found: a patient on both sides of a fold." if torn else "found no patient and no image"
    assert found in first
    assert verdict["tone"] == ("bad" if torn else "caution")
    assert page.index("A result of 99 % or more") < page.index("<h2>Figures</h2>")


@pytest.mark.parametrize("fault", ["patient", "image"])
def test_a_run_that_would_leak_never_starts(tmp_path: Path, fault: str) -> None:
    """Planted before training, where a split was edited by hand: refused with the patients named."""
    workspace = Workspace(tmp_path)
    source = toy_source(first_visits(toy_rows(30, repeats=1)))
    exams = list(source.exams)
    config = pixels_config(workspace, **{"split.protocol": "holdout"})
    split = make_split(source.exams, config.split, 0)
    if fault == "image":
        places = {exam.patient: place for place, exam in enumerate(exams)}
        exams[places[split.test[0]]] = replace(
            exams[places[split.test[0]]], hashes=exams[places[split.train[0]]].hashes
        )
    write_dataset(workspace, replace(source, exams=tuple(exams)))
    split.write(workspace.split)
    if fault == "patient":
        content = json.loads(workspace.split.read_text())
        content["test"].append(content["train"][0])
        workspace.split.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        fuse.run(config, workspace, Silent())
    assert "both" in str(caught.value) or "identical image" in str(caught.value)
    assert not (workspace.run("pixels") / "predictions.csv").exists()
