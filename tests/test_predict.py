"""A new exam: grouped, judged, scored, doubted, explained; never diagnosed."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_fixtures import pixels_config, toy_matrix, toy_rows, toy_source, write_dataset
from typer.testing import CliRunner

from thermocancer.cli import register
from thermocancer.config import Config
from thermocancer.config.sources import ImportSection
from thermocancer.data.cohort import ArrayCohort
from thermocancer.data.names import view_in_name
from thermocancer.data.novelty import distance_to, judge_novelty, make_reference
from thermocancer.data.split import make_split
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.prediction.gathering import NewExam, gather_exams
from thermocancer.evaluation.prediction.input import cohort_of, gap_problem, read_files, whole_frames
from thermocancer.evaluation.report.page import ADJUNCT_NOTICE
from thermocancer.progress import Silent
from thermocancer.stages import fuse, predict
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one trained run that kept the models of its folds."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    source = toy_source(toy_rows(30, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(workspace, **{"fuse.keep_folds": True})
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    return workspace


def asking(workspace: Workspace, path: Path, **options: object) -> Config:
    asked = {"evaluate.exam": str(path), "evaluate.run": "pixels", "evaluate.page": ""}
    return pixels_config(workspace, **{**asked, **options})


def new_matrix(*, sick: bool, seed: int = 3, room: float = 21.0, shape: tuple[int, int] = (48, 64)) -> np.ndarray:
    return toy_matrix(np.random.default_rng(seed), sick=sick, room=room, shape=shape)


def test_scores_one_file_as_json(workspace: Workspace, tmp_path: Path) -> None:
    scores = {}
    for sick in (False, True):
        path = tmp_path / f"frontal_{sick}.txt"
        path.write_bytes(format_matrix(new_matrix(sick=sick), "space2"))
        report = predict.run(asking(workspace, path), workspace, Silent())
        answer = report.figures["exams"][0]
        assert answer["status"] == "scored"
        assert answer["views"] == ["Frontal"]
        assert answer["interval"]["low"] <= answer["interval"]["high"]
        assert "3 models of folds" in answer["interval"]["method"]
        assert answer["like_scores"]["n"] >= 1
        assert report.figures["notice"] == ADJUNCT_NOTICE
        assert json.dumps(report.as_dict(), allow_nan=False)
        scores[sick] = answer["score"]
        decision = "at or above" if answer["score"] >= answer["threshold"] else "below"
        assert answer["decision"] == f"{decision} the operating point"
    assert scores[True] > scores[False]


def test_a_page_with_a_heat_map(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "T0900.1.1.S.2019-05-02.00.txt").write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    page = tmp_path / "out" / "page.html"
    report = predict.run(asking(workspace, tmp_path, **{"evaluate.page": str(page)}), workspace, Silent())
    text = page.read_text()
    assert report.outputs == [str(page)]
    assert "Not a diagnosis." in text
    assert ADJUNCT_NOTICE in text
    assert "900_1" in text
    assert 'alt="Thermogram, Frontal, occlusion"' in text
    assert "data:image/webp;base64," in text


def test_unlike_the_training_exams_means_no_decision(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "frontal.txt"
    path.write_bytes(format_matrix(new_matrix(sick=False, room=31.0) - 600, "space2"))
    answer = predict.run(asking(workspace, path), workspace, Silent()).figures["exams"][0]
    assert answer["status"] == "abstained"
    assert answer["decision"] is None
    assert any("outside" in reason for reason in answer["out_of_distribution"]["reasons"])
    other = tmp_path / "frontal2.txt"
    other.write_bytes(format_matrix(new_matrix(sick=False), "semicolon5"))
    answer = predict.run(asking(workspace, other), workspace, Silent()).figures["exams"][0]
    assert any("acquisition format semicolon5" in reason for reason in answer["out_of_distribution"]["reasons"])


def test_many_exams_and_those_unfit_are_listed(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("anna", "berta"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "frontal.txt").write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    for name, content in {
        "empty": b"",
        "html": b"<html>login</html>",
        "flat": format_matrix(np.full((48, 64), 2787, np.uint16), "space2"),
        "small": format_matrix(new_matrix(sick=True, shape=(24, 32)), "space2"),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "frontal.txt").write_bytes(content)
    (tmp_path / "lateral").mkdir()
    (tmp_path / "lateral" / "left.txt").write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    report = predict.run(asking(workspace, tmp_path), workspace, Silent())
    status = {each["exam"]: each["status"] for each in report.figures["exams"]}
    assert status == {
        "anna": "scored", "berta": "scored", "empty": "refused", "html": "refused", "flat": "refused",
        "small": "refused", "lateral": "refused",
    }  # fmt: skip
    assert report.exit_code == 5
    reasons = {failure.item: failure.reason for failure in report.failed}
    assert "missing or unfit: Frontal" in reasons["lateral"]
    assert "24x32 instead of 48x64" in reasons["small"]


def test_nothing_that_can_be_scored(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        predict.run(asking(workspace, tmp_path / "nowhere"), workspace, Silent())
    with pytest.raises(DataError, match="no matrix here"):
        predict.run(asking(workspace, tmp_path), workspace, Silent())
    (tmp_path / "frontal.txt").write_text("")
    with pytest.raises(DataError, match="no exam could be scored"):
        predict.run(asking(workspace, tmp_path), workspace, Silent())
    with pytest.raises(DataError, match="no run 'x'"):
        predict.run(asking(workspace, tmp_path, **{"evaluate.run": "x"}), workspace, Silent())
    with pytest.raises(ConfigError, match="which run"):
        predict.run(pixels_config(workspace, **{"evaluate.exam": "x"}), workspace, Silent())


def test_without_its_data_set_a_run_still_answers(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "frontal.txt"
    path.write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    dataset = workspace.dataset("cohort")
    hidden = dataset.with_suffix(".away")
    dataset.rename(hidden)
    try:
        answer = predict.run(asking(workspace, path), workspace, Silent()).figures["exams"][0]
    finally:
        hidden.rename(dataset)
    assert answer["status"] == "scored"
    assert "not here" in answer["out_of_distribution"]["note"]


def test_the_plan_touches_nothing(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "frontal.txt").write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    plan = predict.plan(asking(workspace, tmp_path), workspace)
    assert plan.todo == (f"score exam {tmp_path.name} (1 files)",)
    assert not (workspace.root / "predict").exists()


def test_a_workspace_that_cannot_be_written_to_answers_all_the_same(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frontal.txt").write_bytes(format_matrix(new_matrix(sick=True), "space2"))

    def guarded(real: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            if writes(*rest, **named) and str(path).startswith(str(workspace.root)):
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return real(path, *rest, **named)

        return call

    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda *rest, **named: True))
    monkeypatch.setattr(os, "open", guarded(os.open, lambda flags, *rest, **named: bool(flags & os.O_ACCMODE)))
    monkeypatch.setattr(io, "open", guarded(io.open, lambda mode="r", *rest, **named: not {*mode} <= {*"rbt"}))
    with pytest.raises(OSError, match="Read-only"):
        (workspace.root / "anything").write_text("")
    done = CliRunner().invoke(
        register(),
        ["predict", str(tmp_path / "frontal.txt"), "-w", str(workspace.root), "--run", "pixels", "--json", "-"],
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["figures"]["exams"][0]["status"] == "scored"


# which file is which


def gathered(path: Path, *views: str, **section: object) -> list[NewExam]:
    return gather_exams([path], views, ImportSection.model_validate(section)).exams


def sequence_of(exam: NewExam, config: Config) -> ArrayCohort:
    return cohort_of(exam, whole_frames(exam, config), (48, 64), dynamic=True)


@pytest.mark.parametrize(
    ("stem", "view"),
    [
        ("Frontal", "Frontal"), ("p3-right45", "Right45"), ("LEFT_45", "Left45"), ("left", "Left"),
        ("exam right", "Right"), ("upright", None), ("leftover", None), ("17", None),
    ],
)  # fmt: skip
def test_view_from_a_free_name(stem: str, view: str | None) -> None:
    assert view_in_name(stem) == view


def test_files_are_grouped_into_exams(tmp_path: Path) -> None:
    names = [
        "T0007.1.1.S.2015-03-13.00.txt", "T0007.1.3.S.2015-03-13.00.txt", "T0007.2.1.S.2015-09-13.00.txt",
        "T0007.1.1.D.2015-03-13.04.txt", "other/frontal.txt", "other/left45.csv", "notes.pdf", ".hidden.txt",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    exams = {exam.name: exam for exam in gathered(tmp_path, "Frontal")}
    assert sorted(exams) == ["7_1", "7_2", "other"]
    assert (exams["7_2"].patient, exams["7_2"].visit) == (7, 2)
    assert {(file.view, file.frame) for file in exams["7_1"].files} == {
        ("Frontal", None),
        ("Right", None),
        ("Frontal", 4),
    }
    assert {file.view for file in exams["other"].files} == {"Frontal", "Left45"}


def test_one_nameless_file_is_taken_for_the_only_view(tmp_path: Path) -> None:
    (tmp_path / "scan.txt").touch()
    one = gathered(tmp_path / "scan.txt", "Frontal")[0].files[0]
    assert one.view == "Frontal"
    assert "taken for Frontal" in one.notes[0]
    assert gathered(tmp_path / "scan.txt", "Frontal", "Left")[0].files[0].view is None


# likeness


def test_training_exams_are_like_themselves() -> None:
    source = toy_source(toy_rows(30, repeats=1))
    reference = make_reference(source.matrices["Frontal"] / 100.0, ["space2"])
    for celsius in source.matrices["Frontal"] / 100.0:
        assert not judge_novelty(reference, celsius, "space2")["flag"]
    distance, limit = distance_to(reference.values, reference.values.mean(axis=0))
    assert distance < limit


def test_an_unknown_variable_does_not_make_an_exam_strange() -> None:
    source = toy_source(toy_rows(20, repeats=1))
    reference = make_reference(source.matrices["Frontal"] / 100.0, ["space2"])
    unknown = replace(reference, values=np.where(np.arange(len(reference.names)) == 0, np.nan, reference.values))
    celsius = source.matrices["Frontal"][0] / 100.0
    assert not judge_novelty(unknown, celsius, "space2")["flag"]


# from Python


def test_an_array_is_answered_as_its_file_and_a_run_is_judged_as_the_command_does(
    workspace: Workspace, tmp_path: Path
) -> None:
    """``thermocancer.api``: the same score, decision and doubt; the same metrics.json."""
    import thermocancer as tc
    from thermocancer.api import Study
    from thermocancer.files import read_json

    settings = ("evaluate.bootstrap=300", "evaluate.audit=false", "evaluate.explain=false")
    study = tc.open_workspace(workspace.root, *settings)
    assert isinstance(study, Study)
    trained, path = study.run("pixels"), tmp_path / "frontal.txt"
    path.write_bytes(format_matrix(new_matrix(sick=True), "space2"))
    of_file, of_array = trained.predict(path)[0], trained.score(new_matrix(sick=True) / 100.0)
    for key in ("status", "score", "interval", "decision", "threshold", "out_of_distribution"):
        assert of_array[key] == of_file[key], key
    assert trained.score(new_matrix(sick=True) / 10.0)["status"] == "refused"
    study.do("evaluate")
    assert trained.metrics == read_json(trained.run.folder / "metrics.json")
    assert trained.report["verdict"]["headline"] == study.runs()[0]["headline"]
    page = trained._repr_html_()
    assert "AUC" in page
    assert "data:image/png;base64," in page


@pytest.mark.parametrize(
    ("labels", "scores"), [([0, 1], [0.2, 1.5]), ([0, 1], [0.2]), ([0, 2], [0.1, 0.2]), ([1, 1], [0.1, 0.2])]
)
def test_scores_that_cannot_be_judged_are_refused(labels: list[int], scores: list[float]) -> None:
    import thermocancer as tc

    with pytest.raises(DataError):
        tc.evaluate(labels, scores)


def test_a_patient_counts_once_whatever_its_exams() -> None:
    import thermocancer as tc

    labels, scores = [0, 0, 1, 1, 1], [0.1, 0.3, 0.7, 0.9, 0.2]
    alone, together = tc.evaluate(labels, scores), tc.evaluate(labels, scores, patients=[1, 1, 2, 2, 3])
    assert (alone.metrics["n"], together.metrics["n"]) == (5, 3)
    assert alone.metrics["auc"]["value"] == pytest.approx(5 / 6)
    assert together.metrics["auc"]["value"] == 0.75, "means .2 of a healthy patient, .8 and .2 of two sick ones"


# dynamic exams


def test_frames_become_the_sequence_that_was_trained_on(workspace: Workspace, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrices = [toy_matrix(random, sick=False, room=21.0) for _ in range(5)]
    for number, matrix in enumerate(matrices):
        name = f"T0005.1.1.D.2013-05-22.{number:02d}.txt"
        (tmp_path / name).write_bytes(format_matrix(matrix, "space2"))
    (tmp_path / "T0005.1.3.D.2013-05-22.00.txt").write_bytes(format_matrix(matrices[0], "space2"))
    (tmp_path / "T0005.1.1.S.2013-05-22.00.txt").write_bytes(format_matrix(matrices[0], "space2"))
    config = pixels_config(workspace, **{"filter.frames": 5, "dit.allow_gaps": 1})
    exam = gathered(tmp_path, "Frontal")[0]
    read_files(exam, config.filter, (48, 64), dynamic=True)
    assert list(exam.frame_files()) == [0, 1, 2, 3, 4]
    assert gap_problem(exam, config) is None
    sequence = sequence_of(exam, config)
    np.testing.assert_array_equal(sequence.frames("Frontal", np.array([0]), [3])[0, 0], matrices[3])
    assert (sequence.length("Frontal"), sequence.shape, len(sequence.exams)) == (5, (48, 64), 1)
    del exam.files[[file.frame for file in exam.files].index(2)]
    assert gap_problem(exam, config) is None
    filled = sequence_of(exam, config).frames("Frontal", np.array([0]))[0]
    middle = (matrices[1].astype(float) + matrices[3]) / 2
    assert np.abs(filled[2] - middle).max() <= 0.5, "the missing frame lies between its neighbours"
    assert "2 of 5 missing" in str(gap_problem(exam, pixels_config(workspace, **{"filter.frames": 5})))
    assert "frames of a dynamic exam" in str(gap_problem(gathered(tmp_path, "Frontal")[0], config))


def test_a_run_with_nuisance_regressed_out_scores_a_new_exam_as_its_own(tmp_path: Path) -> None:
    """An exam of the data set, given back as a file, gets the very score that the kept model gives it there."""
    from thermocancer.classifiers.making import load_fitted
    from thermocancer.data.nuisance import catalog_measures
    from thermocancer.data.store.reading import StoredCohort

    workspace, source = Workspace(tmp_path / "w"), toy_source(toy_rows(60, repeats=1))
    texts = [format_matrix(matrix, "space2") for matrix in source.matrices["Frontal"]]
    facts = [catalog_measures(exam, len(text)) for exam, text in zip(source.exams, texts, strict=True)]
    columns = {name: np.array([each[name] for each in facts]) for name in facts[0]}
    other_format = {"layout_semicolon5": np.zeros(len(texts))}
    write_dataset(workspace, replace(source, measured=source.measured | columns | other_format))
    config = pixels_config(workspace, **{"features.residualise": True, "cohort.erase": "date"})
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    with StoredCohort(workspace.dataset("cohort")) as known:
        expected = load_fitted(workspace.run("pixels") / "model", workspace).scores(known, np.arange(3))
    for row, exam in enumerate(source.exams[:3]):
        path = tmp_path / f"T{exam.patient:04d}.{exam.visit}.1.S.{exam.date}.00.txt"
        path.write_bytes(texts[row])
        (answer,) = predict.run(asking(workspace, path), workspace, Silent()).figures["exams"]
        assert answer["score"] == pytest.approx(expected[row], abs=1e-9)
    free = tmp_path / "frontal.txt"
    free.write_bytes(texts[0])
    (answer,) = predict.run(asking(workspace, free), workspace, Silent()).figures["exams"]
    assert 0 <= answer["score"] <= 1
