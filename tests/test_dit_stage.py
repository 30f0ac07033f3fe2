"""``train-dit`` from a data set to a run: files, folds, reruns, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sequence_fixtures import built, rewarming, tiny_config

from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.data.split import dynamic_folds, make_split, outer_folds
from thermocancer.data.store.reading import DYNAMIC, DYNAMIC_VIEW, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.report.dynamic import draw_curves, skin_curves
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.runs.run import read_run
from thermocancer.stages import train_dit
from thermocancer.workspace import Workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Workspace:
    """A cohort whose run ``dit`` is done."""
    workspace = built(tmp_path_factory.mktemp("dit"), skip={4: {3}})
    report = train_dit.run(tiny_config(workspace), workspace, Silent())
    assert (report.made, report.figures["features_computed"]) == (1, 11)
    return workspace


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_has_its_files(made: Workspace) -> None:
    run = made.run("dit")
    rows = read_predictions(run / "predictions.csv")
    assert sorted(row.patient for row in rows) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]
    assert {row.fold for row in rows} == {"1.1", "1.2"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["leaks"] == []
    assert manifest["dynamic"] is True
    assert manifest["threshold_source"].startswith("inner folds")
    assert set(manifest["outputs"]) == set(files_of(run)) - {"manifest.json"}
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [(row["fold"], row["epoch"]) for row in history] == [(f, e) for f in ("1.1", "1.2") for e in range(1, 13)]


def test_a_run_on_films_records_the_colours_of_the_films_and_names_what_they_lose(tmp_path: Path) -> None:
    from thermocancer.stages import build_dataset, convert

    workspace = built(tmp_path)
    options = {"dataset__source": "matrices", "dataset__dynamic_source": "videos", "convert__videos": True}
    options |= {"convert__video_jpeg": 75, "dit__channels": ["frame"], "dit__epochs": 1, "split__protocol": "thesis"}
    config = tiny_config(workspace, **options)
    for stage in (convert, build_dataset, train_dit):
        stage.run(config, workspace, Silent())
    run = read_run(workspace, "dit")
    kept = run.required_config()
    assert kept.dit.rendering == kept.convert.video_rendering != config.dit.rendering
    assert (run.manifest.settings or {})["dit.rendering"] == {"colormap": "prism", "range": "minmax"}
    said = " | ".join(run.manifest.leaks)
    for words in ("own minimum and maximum", "colours of prism repeat", "DIVX videos instead", "JPEG images instead"):
        assert words in said
    assert train_dit.run(config, workspace, Silent()).nothing_to_do
    later = train_dit.run(tiny_config(workspace, dit__epochs=1, dit__channels=["frame"]), workspace, Silent())
    assert "the frames are colours already: dit.rendering has no effect" in later.notes
    jet = {"dit__rendering": {"colormap": "jet"}, "dit__channels": ["frame"]}
    for source in ("matrices", "images"):  # whatever the command says that the data set holds
        with pytest.raises(ConfigError, match="colours already"):
            train_dit.run(
                tiny_config(workspace, dataset__source=source, dataset__dynamic=False, **jet), workspace, Silent()
            )


def test_it_finds_the_faster_rewarming(made: Workspace) -> None:
    rows = read_predictions(made.run("dit") / "predictions.csv")
    for fold in ("1.1", "1.2"):
        sick, healthy = ([row.score for row in rows if row.fold == fold and row.label == label] for label in (1, 0))
        assert min(sick) > max(healthy)


def test_nothing_changed_nothing_done(made: Workspace) -> None:
    before = files_of(made.root)
    assert train_dit.plan(tiny_config(made), made).current == 1
    assert train_dit.run(tiny_config(made), made, Silent()).nothing_to_do
    assert files_of(made.root) == before


class Breaks(Silent):
    """Progress that stops the work once a fold is done."""

    def task(self, name, total, unit=""):
        from contextlib import contextmanager

        @contextmanager
        def counting():
            class Task:
                def advance(self, steps: float = 1) -> None:
                    if name == "sequence folds" and steps:
                        raise KeyboardInterrupt

                def say(self, text: str) -> None:
                    return None

            yield Task()

        return counting()


def test_killed_between_folds_it_ends_with_the_same_bytes(made: Workspace) -> None:
    expected = files_of(made.run("dit"))
    shutil.rmtree(made.run("dit"))
    shutil.rmtree(made.cache / "folds")
    with pytest.raises(KeyboardInterrupt):
        train_dit.run(tiny_config(made), made, Breaks())
    assert len(list(made.cache.glob("folds/*/*.json"))) == 1
    report = train_dit.run(tiny_config(made), made, Silent())
    assert (report.figures["features_from_cache"], report.figures["features_computed"]) == (11, 0)
    assert files_of(made.run("dit")) == expected


def test_a_changed_setting_is_a_new_run(made: Workspace) -> None:
    plan = train_dit.plan(tiny_config(made, dit__units=12), made)
    assert (len(plan.todo), plan.current) == (1, 0)
    assert train_dit.plan(tiny_config(made, dit__name="other"), made).current == 0


def test_frames_that_are_not_there_are_refused(made: Workspace) -> None:
    with pytest.raises(ConfigError, match="shorter"):
        train_dit.plan(tiny_config(made, dit__frames=[0, 25]), made)


def test_features_of_another_backbone_are_refused(made: Workspace) -> None:
    note = next(made.cache.glob("features/*/about.json"))
    known = note.read_text()
    note.write_text(known.replace('"random"', '"efficientnetb5"'))
    try:
        with pytest.raises(DataError, match="another backbone"):
            train_dit.run(tiny_config(made, dit__units=3), made, Silent())
    finally:
        note.write_text(known)


def test_a_cohort_without_sequences_says_how_to_get_them(tmp_path: Path) -> None:
    workspace = built(tmp_path, patients=6, dataset__dynamic=False)
    with pytest.raises(DataError, match="no dynamic exams") as caught:
        train_dit.plan(tiny_config(workspace, dataset__dynamic=False), workspace)
    assert "dataset.dynamic=true" in str(caught.value.hint)


def test_the_report_has_its_dynamic_figures(made: Workspace) -> None:
    from thermocancer.evaluation.report.dynamic import CURVES, SALIENCY, dynamic_figures

    run = made.run("dit")
    wrong = (run / "predictions.csv").read_text()
    lines = wrong.splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:4], "0.99", "1"])  # patient 1 is healthy
    (run / "predictions.csv").write_text("\n".join(lines) + "\n")
    try:
        figures = dynamic_figures(read_run(made, "dit"))
    finally:
        (run / "predictions.csv").write_text(wrong)
    assert list(figures) == [CURVES, SALIENCY, "Worst false alarm: exam 1_1, healthy, score 0.99"]
    assert all(content.startswith(b"\x89PNG") for content in figures.values())


def test_encoders_of_each_fold_read_the_frames(tmp_path: Path) -> None:
    from thermocancer.stages import train_ae

    options = {"autoencoder__epochs": 1, "autoencoder__variant": "v2", "autoencoder__input__kind": "celsius"}
    options |= {"dit__backbone": "autoencoder", "dit__epochs": 2}
    workspace = built(tmp_path)
    config = tiny_config(workspace, **options)
    train_ae.run(config, workspace, Silent())
    report = train_dit.run(config, workspace, Silent())
    assert report.figures["features_computed"] == 3 * 12  # two folds, and the split
    manifest = workspace.autoencoder("v2", "Frontal") / "folds/1.1/manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"patients": list(range(1, 13))}))
    with pytest.raises(DataError, match="trained on patients whom this fold tests"):
        train_dit.run(config, workspace, Silent())


def exams_of(patients: range, layout: str = "space2") -> list[Exam]:
    return [Exam(patient, 1, int(patient % 3 == 0), layout=layout) for patient in patients]


def test_dynamic_folds_follow_the_static_ones() -> None:
    static, dynamic = exams_of(range(1, 31)), exams_of(range(5, 40))
    config = SplitSection(folds=3, repeats=2)
    split = make_split([*static, *exams_of(range(31, 40))], config, 0)
    known = {fold.name: {static[row].patient for row in fold.test} for fold in outer_folds(static, split, config, 0)}
    folds = dynamic_folds(dynamic, static, split, config, 0)
    assert [fold.name for fold in folds] == list(known)
    for fold in folds:
        tested = {dynamic[row].patient for row in fold.test}
        assert {patient for patient in tested if patient <= 30} == {each for each in known[fold.name] if each >= 5}
        assert not tested & {dynamic[row].patient for row in fold.train}
    for repeat in ("1", "2"):
        tested = np.concatenate([fold.test for fold in folds if fold.name.startswith(repeat)])
        assert sorted(tested.tolist()) == list(range(len(dynamic)))


def test_pixels_without_a_temperature_are_said_and_count_in_no_curve(tmp_path: Path) -> None:
    workspace = built(tmp_path, patients=6, fill=(3,))
    notes = train_dit.plan(tiny_config(workspace), workspace).notes
    assert any(note.startswith("1 of 6 exams lack temperatures") for note in notes), notes
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as source:
        stored = skin_curves(source, np.array([2, 3]))
    frames = [rewarming(patient, int(patient == 3)) for patient in (3, 4)]
    whole = ArrayCohort((Exam(3, 1, 1), Exam(4, 1, 0)), {DYNAMIC_VIEW: np.stack(frames)})
    true = skin_curves(whole, np.arange(2))
    assert stored[1] == pytest.approx(true[1], abs=1e-9)
    assert stored[0] == pytest.approx(true[0], abs=0.05), "the background is 10 degC colder"
    masked = np.zeros((2, *frames[0].shape), bool)
    masked[0, 4] = True
    gone = skin_curves(replace(whole, masked={DYNAMIC_VIEW: masked}), np.arange(2))
    assert np.flatnonzero(np.isnan(gone).any(axis=0)).tolist() == [4]
    assert draw_curves(gone, np.array([1, 0]), "celsius").startswith(b"\x89PNG")
