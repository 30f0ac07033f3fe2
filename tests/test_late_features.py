"""Static and dynamic exams of the same patients in one decision: by features or scores, and for new exams."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from thermocancer.classifiers.late.features import JointClassifier, JointModel, OneExam, TableCohort
from thermocancer.classifiers.late.patients import PatientCohort, open_patients, patient_folds
from thermocancer.classifiers.late.run import late_classifier
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.protocol import logistic, logit
from thermocancer.classifiers.sequence.family import summarise
from thermocancer.config import Config, load_config
from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.data.cohort import ArrayCohort, Exam, FloatArray
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.thermal import reduce_area
from thermocancer.files import read_json, write_json
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions, to_units
from thermocancer.runs.run import read_run
from thermocancer.stages import build_dataset, evaluate, export, fuse, predict, simulate, train_dit
from thermocancer.workspace import Workspace

COHORT: dict[str, Any] = {
    "simulate.patients": 24, "simulate.shape": [48, 64], "simulate.contrast": 5.0, "simulate.vessels": 0,
    "simulate.mottle": 0, "simulate.asymmetry": 0, "simulate.frames": 6, "simulate.processes": 1,
    "simulate.missing_views": 0, "simulate.missing_frames": 0, "simulate.repeated_views": 0,
    "simulate.second_visits": 0, "seed": 1,
    "filter.views": ["Frontal"], "filter.frames": 6, "dataset.dynamic": True, "strategy.backend": "tensorflow",
    "split.folds": 3, "split.repeats": 1, "split.inner_folds": 2, "autoencoder.input.kind": "celsius",
    "autoencoder.variant": "v3", "dit.backbone": "random", "dit.size": [48, 64], "dit.frames": [0, 2, 5],
    "dit.channels": ["asymmetry"], "dit.epochs": 8, "dit.learning_rate": 0.02,
    "evaluate.bootstrap": 50, "evaluate.explain": False,
}  # fmt: skip

ALONE = {"S": (3, 12, 17), "D": (4, 9, 20)}
"""Patients who lack one protocol."""

RUNS: dict[str, dict[str, Any]] = {
    "sit": {"fuse.model": "asymmetry", "fuse.baseline": False},
    "coded": {"fuse.model": "svm", "fuse.untrained": True, "fuse.baseline": False},
    "scores": {"fuse.model": "late", "fuse.combine": ["sit", "dit"]},
    "features": {"fuse.model": "late", "fuse.combine": ["sit", "dit"], "fuse.combine_by": "features"},
    "codes": {"fuse.model": "late", "fuse.combine": ["coded", "dit"], "fuse.combine_by": "features"},
}


def settings(workspace: Workspace, **options: Any) -> Config:
    given = COHORT | {key.replace("__", "."): value for key, value in options.items()}
    return load_config(options=given, workspace=workspace.root, environment={})


def of_run(workspace: Workspace, name: str) -> Config:
    return load_config(options=COHORT | RUNS[name] | {"fuse.name": name}, workspace=workspace.root, environment={})


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A phantom cohort of both protocols with every run made; tests must not change it."""
    workspace = Workspace(tmp_path_factory.mktemp("road"))
    config = settings(workspace)
    simulate.run(config, workspace, Silent())
    known = [each for each in read_catalog(workspace) if each.patient not in ALONE.get(each.protocol, ())]
    write_catalog(workspace, known)
    for stage in (build_dataset, train_dit):
        stage.run(config, workspace, Silent())
    for name in RUNS:
        assert fuse.run(of_run(workspace, name), workspace, Silent()).made == 1
    return workspace


@pytest.fixture
def copied(road: Workspace, tmp_path: Path) -> Workspace:
    """Its runs, to be spoilt."""
    shutil.copytree(road.root / "runs", tmp_path / "runs")
    return Workspace(tmp_path)


def auc(workspace: Workspace, name: str) -> float:
    from sklearn.metrics import roc_auc_score

    units = to_units(read_predictions(workspace.run(name) / "predictions.csv"))
    return float(roc_auc_score([unit.label for unit in units], [unit.score for unit in units]))


def patients_of(workspace: Workspace, name: str) -> set[int]:
    return {row.patient for row in read_predictions(workspace.run(name) / "predictions.csv")}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_features_of_both_protocols_tell_sick_from_healthy(road: Workspace) -> None:
    assert auc(road, "features") >= 0.9
    static, dynamic = patients_of(road, "sit"), patients_of(road, "dit")
    assert (static - dynamic, dynamic - static) == (set(ALONE["D"]), set(ALONE["S"]))
    assert patients_of(road, "features") == patients_of(road, "scores") == static | dynamic
    manifest = read_json(road.run("features") / "manifest.json")
    assert manifest["features_by_run"] == {"sit": 6, "dit": 128}
    assert manifest["patients_in_all"] == len(static & dynamic)
    assert manifest["threshold_source"].startswith("inner folds")


def test_again_it_does_nothing_and_anew_it_gives_the_same_bytes(road: Workspace, tmp_path: Path) -> None:
    config = of_run(road, "features")
    before = files_of(road.root)
    assert fuse.plan(config, road).current == 1
    assert fuse.run(config, road, Silent()).nothing_to_do
    assert files_of(road.root) == before
    fewer = {"fuse.name": "features", "features.components": 3}
    other = load_config(options=COHORT | RUNS["features"] | fewer, workspace=road.root, environment={})
    assert fuse.plan(other, road).current == 0
    anew = Workspace(tmp_path)
    shutil.copytree(road.root, anew.root, ignore=shutil.ignore_patterns("raw", "cache", "features"), dirs_exist_ok=True)
    fuse.run(of_run(anew, "features"), anew, Silent())
    same = files_of(road.run("features"))
    found = files_of(anew.run("features"))
    assert {name for name in same if name not in ("config.yaml", "manifest.json")} <= set(found)
    assert all(found[name] == same[name] for name in ("predictions.csv", "inner.csv", "model/arrays.npz"))


@dataclass
class Changed(TableCohort):
    """Patients of whom one has other features; everything else passes through."""

    patients: PatientCohort
    row: int

    def __post_init__(self) -> None:
        self.exams = self.patients.exams

    def nuisance_of(self, block: int) -> Mapping[str, FloatArray]:
        return self.patients.nuisance_of(block)

    def table(self, block: int, fold: str) -> np.ndarray:
        table = self.patients.table(block, fold).copy()
        table[self.row] = 40.0 - 7.0 * table[self.row]
        return table


def test_nothing_is_fitted_on_a_test_patient(road: Workspace) -> None:
    with ExitStack() as stack:
        patients = open_patients(["sit", "dit"], road, stack)
        fold = patient_folds(patients, [read_run(road, name) for name in ("sit", "dit")])[0]
        recipe = late_classifier(of_run(road, "features"), patients)
        labels = np.array([exam.label for exam in patients.exams])

        def fitted(source: Any) -> tuple[float, np.ndarray]:
            found = recipe.fit(source, fold.train, labels[fold.train], seed=1, fold=fold.name)
            return found.threshold, found.scores(source, fold.test[1:])

        threshold, scores = fitted(patients)
        for row, alike in ((fold.test[0], True), (fold.train[0], False)):
            other_threshold, other_scores = fitted(Changed(patients, int(row)))
            assert (other_threshold == threshold and np.array_equal(other_scores, scores)) == alike


def test_in_a_hold_out_only_the_training_part_is_learnt_from(road: Workspace, tmp_path: Path) -> None:
    for name in ("datasets", "split.json"):
        (tmp_path / name).symlink_to(road.root / name)
    workspace, held = Workspace(tmp_path), {"split.protocol": "holdout", "fuse.baseline": False}
    for model in ("thermal", "asymmetry"):
        own = held | {"fuse.model": model, "fuse.name": model}
        fuse.run(load_config(options=COHORT | own, workspace=tmp_path, environment={}), workspace, Silent())
    late = held | RUNS["features"] | {"fuse.combine": ["thermal", "asymmetry"], "fuse.name": "late"}
    fuse.run(load_config(options=COHORT | late, workspace=tmp_path, environment={}), workspace, Silent())
    split = read_json(workspace.split)
    dynamic_alone = set(ALONE["S"])
    assert patients_of(workspace, "late") == set(split["test"]) - dynamic_alone
    inner = {row.patient for row in read_predictions(workspace.run("late") / "inner.csv")}
    assert inner == set(split["train"]) - dynamic_alone
    model: Any = load_fitted(workspace.run("late") / "model", workspace)
    with ExitStack() as stack:
        patients = open_patients(["thermal", "asymmetry"], workspace, stack)
        scores = dict(zip((unit[0] for unit in patients.units), model.scores(patients, np.arange(len(patients.units))),
                          strict=True))  # fmt: skip
    for row in read_predictions(workspace.run("late") / "predictions.csv"):
        assert scores[row.patient] == pytest.approx(row.score)


def new_exam(road: Workspace, folder: Path, patient: int, protocols: str) -> Path:
    """The raw files of a patient's first visit, as a folder that somebody else has."""
    folder.mkdir()
    for path in sorted(road.raw.rglob(f"T{patient:04d}.1.*.txt")):
        if path.name.split(".")[3] in protocols:
            shutil.copy(path, folder / path.name)
    return folder


def ask(workspace: Workspace, run: str, path: Path, page: str = "") -> tuple[StageReport, dict[str, Any]]:
    config = settings(workspace, evaluate__run=run, evaluate__exam=str(path), evaluate__page=page)
    report = predict.run(config, workspace, Silent())
    return report, report.figures["exams"][0]


@pytest.mark.parametrize("name", ["features", "codes"])
def test_a_new_exam_is_read_as_the_training_exams_were(road: Workspace, tmp_path: Path, name: str) -> None:
    static, dynamic = patients_of(road, "sit"), patients_of(road, "dit")
    chosen = {"SD": min(static & dynamic), "S": min(static - dynamic), "D": min(dynamic - static)}
    model: Any = load_fitted(road.run(name) / "model", road)
    with ExitStack() as stack:
        patients = open_patients(RUNS[name]["fuse.combine"], road, stack)
        known = dict(zip((unit[0] for unit in patients.units), model.scores(patients, np.arange(len(patients.units))),
                         strict=True))  # fmt: skip
    for protocols, patient in chosen.items():
        _, answer = ask(road, name, new_exam(road, tmp_path / protocols, patient, protocols))
        assert answer["score"] == pytest.approx(known[patient], abs=1e-5)
        missing = {"SD": "", "S": "without dit", "D": f"without {RUNS[name]['fuse.combine'][0]}"}[protocols]
        assert answer["note"].startswith(missing)
        assert ("the training patients' mean stands for it" in answer["note"]) == bool(missing)
        added = {part["run"]: part["adds_log_odds"] for part in answer["parts"]}
        assert {run for run, each in added.items() if each == 0} == {
            part["run"] for part in answer["parts"] if part["score"] is None
        }
        assert sum(added.values()) + model.model.intercept == pytest.approx(float(logit(np.array(answer["score"]))))
        assert answer["interval"] == {"low": None, "high": None, "method": answer["interval"]["method"]}
        assert "not available" in answer["interval"]["method"]


def test_scores_of_a_new_exam_are_combined(road: Workspace, tmp_path: Path) -> None:
    patient = min(patients_of(road, "sit") & patients_of(road, "dit"))
    folder = new_exam(road, tmp_path / "both", patient, "SD")
    page = tmp_path / "page.html"
    report, answer = ask(road, "scores", folder, page=str(page))
    parts = {part["run"]: part["score"] for part in answer["parts"]}
    assert list(parts) == ["sit", "dit"]
    mean = logit(np.array(list(parts.values()))).mean()
    assert answer["score"] == pytest.approx(float(logistic(np.array(mean))))
    assert report.outputs == [str(page)]
    assert "combined runs" in page.read_text()
    alone = new_exam(road, tmp_path / "static", patient, "S")
    report, answer = ask(road, "scores", alone)
    assert answer["score"] == pytest.approx(parts["sit"])
    assert "without dit (the others decide): the run reads the frames" in "\n".join(report.notes)
    lateral = tmp_path / "lateral"
    lateral.mkdir()
    shutil.copy(next(path for path in sorted(alone.glob("*.txt")) if path.name.split(".")[2] != "1"), lateral)
    with pytest.raises(DataError, match="no exam could be scored"):
        ask(road, "scores", lateral)


def test_a_stack_says_what_it_has_no_weights_for(road: Workspace, tmp_path: Path) -> None:
    from thermocancer.classifiers.late.scores import keep_scores

    runs = [read_run(road, name) for name in ("sit", "dit")]
    kept = keep_scores(runs, stacking=True, aim="sensitivity", sensitivity=0.9)
    kept.save(tmp_path / "model")
    model: Any = load_fitted(tmp_path / "model", road)
    exams = (Exam(1, 1, 0),)

    def score(*logits: float | None) -> float:
        features = tuple(None if each is None else np.array([each]) for each in logits)
        return float(model.scores(OneExam(exams, features), np.array([0]))[0])

    assert score(3.0, 3.0) > score(-3.0, -3.0)
    assert score(3.0, None) > score(-3.0, None)
    assert score(None, 3.0) > score(None, -3.0)
    del model.model.stack["01"]
    with pytest.raises(DataError, match="too few patients") as caught:
        score(None, 3.0)
    assert "scores by dit" in str(caught.value.found)


def test_a_combined_run_that_changed_or_vanished_is_an_error(
    copied: Workspace, road: Workspace, tmp_path: Path
) -> None:
    folder = new_exam(road, tmp_path / "exam", min(patients_of(road, "sit")), "S")
    path = copied.run("dit") / "manifest.json"
    write_json(path, read_json(path) | {"made_from": "something else"})
    for name in ("scores", "features"):
        with pytest.raises(DataError, match="dit has changed since"):
            ask(copied, name, folder)
    shutil.rmtree(copied.run("dit"))
    with pytest.raises(DataError, match="dit is gone"):
        ask(copied, "scores", folder)


def test_both_ways_are_evaluated_and_say_which_controls_they_lack(copied: Workspace, road: Workspace) -> None:
    for name in ("datasets", "raw"):
        (copied.root / name).symlink_to(road.root / name)
    for name in ("features", "scores"):
        config = settings(copied, evaluate__run=name)
        assert evaluate.run(config, copied, Silent()).made == 1
        audit = read_json(copied.run(name) / "audit.json")
        controls = {control["name"]: control for control in audit["controls"]}
        reasons = {each["name"]: each["reason"] for each in audit["unavailable"]}
        assert "permuted" in controls
        assert "permuted labels" not in reasons
        assert "sit, dit" in reasons["untrained twin"]
        assert "room_celsius" in controls
        assert all(check["passed"] in (True, None) for check in audit["leak_checks"])
    export.run(settings(copied, evaluate__run="features"), copied, Silent())
    assert {each.name for each in (copied.run("features") / "export").iterdir()} == {"export.json", "run.zip"}


def test_what_cannot_be_combined_by_features_is_refused(copied: Workspace, road: Workspace) -> None:
    with pytest.raises(ConfigError, match=r"fuse\.stacking weighs scores"):
        settings(copied, fuse__combine_by="features", fuse__stacking=True)
    (copied.root / "datasets").symlink_to(road.root / "datasets")
    other = {"fuse.name": "other"}
    config = load_config(options=COHORT | RUNS["features"] | other, workspace=copied.root, environment={})
    nested = config.model_copy(update={"fuse": config.fuse.model_copy(update={"combine": ("sit", "scores")})})
    with pytest.raises(ConfigError, match="features of run scores cannot be combined"):
        fuse.run(nested, copied, Silent())
    settings_of_dit = copied.run("dit") / "config.yaml"
    plain = settings_of_dit.read_text()
    settings_of_dit.write_text(plain.replace("match: none", "match: choose"))
    with pytest.raises(ConfigError, match="its cohort is matched"):
        fuse.run(config, copied, Silent())
    settings_of_dit.write_text(plain)
    path = copied.run("dit") / "manifest.json"
    known = read_json(path)
    write_json(path, known | {"protocol": "thesis"})
    with pytest.raises(ConfigError, match="features of run dit cannot be combined"):
        fuse.run(config, copied, Silent())
    write_json(path, known | {"dataset": {"name": "cohort", "fingerprint": "another"}})
    with pytest.raises(DataError, match="data set has changed since run dit"):
        fuse.run(config, copied, Silent())


# the model by itself


@dataclass
class Made(TableCohort):
    """Units with made features: block 0 is small and tells, block 1 is wide noise that a few lack."""

    exams: tuple[Exam, ...]
    tables: tuple[np.ndarray, ...]
    room: np.ndarray

    def table(self, block: int, fold: str) -> np.ndarray:
        return self.tables[block]

    def nuisance_of(self, block: int) -> Mapping[str, np.ndarray]:
        return {"room_celsius": self.room}


def made(n: int = 60, *, tied: bool = False) -> Made:
    rng = np.random.default_rng(5)
    labels = np.arange(n) % 2
    room = rng.normal(21, 1, n)
    small = rng.normal(0, 1, (n, 3)) + 2.0 * labels[:, None] + (5.0 * (room[:, None] - 21) if tied else 0)
    wide = rng.normal(0, 50, (n, 800))
    wide[:5] = np.nan
    return Made(tuple(Exam(row, 1, int(labels[row])) for row in range(n)), (small, wide), room)


def test_features_of_a_run_that_erases_are_not_joined() -> None:
    erasing = load_config(options={"cohort.erase": "date", "fuse.model": "thermal"}, environment={})
    run = SimpleNamespace(scores=SimpleNamespace(name="dated"), config=erasing)
    with pytest.raises(ConfigError, match=r"cohort\.erase") as caught:
        late_classifier(Config(), SimpleNamespace(blocks=[SimpleNamespace(run=run)]))  # type: ignore[arg-type]
    assert "dated" in str(caught.value.where)


def trained(source: Made, *, residualise: bool = False) -> tuple[JointModel, np.ndarray, np.ndarray]:
    about = ({"run": "small", "identity": "1"}, {"run": "wide", "identity": "2"})
    rows = np.arange(40)
    labels = np.array([exam.label for exam in source.exams])
    model = JointClassifier(about, 10, (residualise, False)).fit(source, rows, labels[rows], seed=0, fold="1.1")
    return model, np.arange(40, 60), labels


def test_a_wide_block_does_not_drown_a_small_one() -> None:
    from sklearn.metrics import roc_auc_score

    source = made()
    model, test, labels = trained(source)
    assert roc_auc_score(labels[test], model.decisions(source, test)) > 0.9
    contributions = model.contributions(source, np.arange(40))
    assert not contributions[:5, 1].any()  # the mean of those who have it
    assert np.abs(contributions[5:, 1]).min() > 0
    np.testing.assert_allclose(contributions[5:, 1].mean(), 0, atol=1e-9)
    with pytest.raises(DataError, match="nothing that any of the combined runs reads"):
        model.decisions(OneExam((Exam(1, 1, 0),), (None, None)), np.array([0]))
    source.tables[1][2:40] = np.nan
    with pytest.raises(DataError, match="too few training patients have what run wide reads"):
        trained(source)


def test_nuisance_is_regressed_out_and_kept_with_the_model(tmp_path: Path) -> None:
    from sklearn.metrics import roc_auc_score

    source = made(tied=True)
    plain, test, labels = trained(source)
    model, _, _ = trained(source, residualise=True)
    assert roc_auc_score(labels[test], plain.decisions(source, test)) < 0.8
    assert roc_auc_score(labels[test], model.decisions(source, test)) > 0.9
    model.save(tmp_path)
    again = JointModel.load(tmp_path, {"components": [{"run": "small"}, {"run": "wide"}]})
    np.testing.assert_array_equal(again.decisions(source, test), model.decisions(source, test))
    assert again.fold == "1.1"


def test_frames_are_summarised_by_mean_and_course() -> None:
    frames = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_array_equal(summarise(frames), [[4, 5, 6, 7, 8, 8, 8, 8]])


def test_pooled_codes_are_the_codes_averaged_over_a_grid(tmp_path: Path) -> None:
    from thermocancer.classifiers.encoders import Encoders
    from thermocancer.features.encoded import POOLED_GRID, pooled_codes

    matrices = np.random.default_rng(0).integers(2000, 3500, (3, 48, 64)).astype(np.uint16)
    source = ArrayCohort(tuple(Exam(row, 1, 0) for row in range(3)), {"Frontal": matrices})
    workspace = Workspace(tmp_path)
    encoder = Encoders.of(settings(workspace, fuse__untrained=True), workspace).load(source, "Frontal", "all")
    rows = np.array([2, 0])
    found = pooled_codes(encoder, source, "Frontal", rows)
    codes = np.concatenate([each for _, each in encoder.codes(source, "Frontal", rows)])
    images = codes.reshape(2, *encoder.model.output_shape[1:])
    expected = np.stack([reduce_area(images[..., each], POOLED_GRID) for each in range(images.shape[-1])], axis=-1)
    np.testing.assert_allclose(found, expected.reshape(2, -1), rtol=1e-4, atol=1e-6)
    for _ in range(2):  # made, then read from the cache
        np.testing.assert_allclose(
            pooled_codes(encoder, source, "Frontal", rows, tmp_path), found, rtol=1e-4, atol=1e-6
        )
