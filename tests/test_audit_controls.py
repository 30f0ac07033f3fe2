"""Controls of the audit that must say what they did: hold-out runs, comparisons like with like, words that fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import pixels_config, toy_rows, toy_source, write_run

from thermocancer.classifiers.protocol import Unavailable
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.data.split import make_split
from thermocancer.evaluation.audit.controls import BASELINE, INPUT, NUISANCE, Control, Judge
from thermocancer.evaluation.audit.findings import NAMED_BELOW, audit_verdict
from thermocancer.evaluation.audit.refits import (
    REFITS,
    leaky_folds,
    leaky_twin,
    permutations_of,
    permute_by_patient,
    permuted_labels,
    time_fold,
)
from thermocancer.evaluation.audit.scope import Refitting, make_scope
from thermocancer.evaluation.report.cards import why_no_shortcut
from thermocancer.evaluation.statistics.intervals import Estimate, smallest_detectable_auc
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import read_run
from thermocancer.workspace import Workspace


def held_out(root: Path, patients: int = 40, seed: int = 0) -> Refitting:
    """The bench of a hold-out run: only its test part has predictions."""
    workspace, rows = Workspace(root), toy_rows(patients, repeats=1)
    source = toy_source(rows)
    config = pixels_config(workspace, **{"split.protocol": "holdout"})
    split = make_split(source.exams, config.split, seed)
    scored = [replace(row, fold="test") for row in rows if row.patient in split.test]
    write_run(workspace, "toy", scored, model="pixels", protocol="holdout")
    scope = make_scope(read_run(workspace, "toy"), source, {})
    return Refitting(scope, source, config, workspace, Judge(gather_units(scored), 0.95, 200, 0), 1)


def test_a_hold_out_is_taught_permuted_labels_and_not_the_truth(tmp_path: Path) -> None:
    scope = held_out(tmp_path).scope
    labels, (fold,) = permute_by_patient(scope, 0), scope.folds
    for part in (fold.train, fold.test):
        assert (labels[part] != scope.labels[part]).sum() >= len(part) / 5
        patients = {scope.exams[row].patient for row in part}
        given = {
            patient: {int(labels[row]) for row in part if scope.exams[row].patient == patient} for patient in patients
        }
        assert all(len(each) == 1 for each in given.values())


@pytest.mark.parametrize(("patients", "seed"), [(16, 1), (30, 1), (40, 0)])
def test_the_leaky_twin_of_a_hold_out_is_as_large_and_always_a_number(tmp_path: Path, patients: int, seed: int) -> None:
    bench = held_out(tmp_path, patients, seed)
    (fold,), (own,) = leaky_folds(bench.folds, 0), bench.folds
    assert (len(fold.train), len(fold.test)) == (len(own.train), len(own.test))
    try:
        control = leaky_twin(bench)
    except Unavailable:
        return
    assert json.dumps(control.as_dict(), allow_nan=False)


def repeated(random: np.random.Generator, labels: np.ndarray, hidden: np.ndarray, repeats: range) -> list[Prediction]:
    """Scores of a recipe whose repeats differ by luck alone."""
    rows = []
    for repeat in repeats:
        scores = 1 / (1 + np.exp(-hidden - random.normal(size=len(labels))))
        rows += [
            Prediction(place + 1, 1, f"{repeat}.{1 + place % 5}", int(label), float(score), 1)
            for place, (label, score) in enumerate(zip(labels, scores, strict=True))
        ]
    return rows


def test_a_control_of_one_repeat_is_no_worse_for_it() -> None:
    """The mean over five repeats ranks better than one repeat of the very same recipe: scores are never averaged."""
    labels = (np.arange(120) < 45).astype(int)
    alike, apart = [], []
    for seed in range(12):
        random = np.random.default_rng(seed)
        hidden = 0.9 * (labels - 0.5) + random.normal(size=len(labels))
        model, twin = repeated(random, labels, hidden, range(1, 6)), repeated(random, labels, hidden, range(1, 2))
        for rows, found in ((tuple(model), alike), ((), apart)):
            judge = Judge(gather_units(model), 0.95, 100, 0, rows)
            difference = judge.control("untrained", "twin", BASELINE, twin).difference
            assert difference is not None
            found.append(difference["value"])
    assert abs(np.mean(alike)) < 0.02
    assert abs(np.mean(apart)) < 0.02


def test_a_control_that_shares_one_class_with_the_model_is_not_compared() -> None:
    model = [Prediction(patient, 1, "test", patient % 2, 0.1 * patient, 1) for patient in range(1, 7)]
    other = [replace(model[0], patient=1), replace(model[1], patient=20), replace(model[2], patient=3)]
    control = Judge(gather_units(model), 0.95, 50, 0).control("leaky", "leaky", BASELINE, other)
    assert control.difference is None
    assert control.auc.value is not None


def estimated(name: str, group: str, auc: tuple[float, float, float], p: float, flag: str, gain: float) -> Control:
    difference = {"value": gain, "low": gain - 0.1, "high": gain + 0.1}
    value, low, high = auc
    corrected = p if group == NUISANCE and name == "room_celsius" else None
    return Control(
        name, name, group, Estimate(value, low, high, "test"), 100, 40, "room", difference, p, corrected, flag
    )


MODEL = {"value": 0.95, "low": 0.90, "high": 0.98}


def verdict_of(
    *controls: Control, matched: tuple[float, float, float] | None = None, by_date: bool = True
) -> dict:  # fmt: skip
    pairs = []
    if matched is not None:
        auc = dict(zip(("value", "low", "high"), matched, strict=True))
        counted = {"pairs": 200, "sick": 30, "healthy": 30, "few": False}
        pairs = [counted | {"matching": "dates and rooms", "by_date": by_date, "by_room": True, "auc": auc}]
    return audit_verdict(controls, pairs, [], MODEL, lambda one, other: 0.0)


def test_a_model_far_above_an_unsure_control_is_said_to_be_above_it() -> None:
    room = estimated("room_celsius", NUISANCE, (0.7, 0.6, 0.8), 0.001, "amber", 0.25)
    together = estimated("no_breast", NUISANCE, (0.5, 0.4, 0.6), 0.5, "none", 0.45)
    assert "with 0.950 the model is clearly above that" in verdict_of(room, together)["sentences"][0]
    close = estimated("no_breast", NUISANCE, (0.93, 0.88, 0.97), 0.0001, "red", 0.02)
    assert "with 0.950 the model is not clearly above that" in verdict_of(room, close)["sentences"][0]


@pytest.mark.parametrize("name", ["no_breast", "outside_the_breast", "background_only"])
def test_what_tells_without_a_breast_is_named_though_no_variable_does_alone(name: str) -> None:
    weak = estimated("room_celsius", NUISANCE, (0.55, 0.45, 0.65), 0.3, "none", 0.4)
    group = INPUT if name == "background_only" else NUISANCE
    found = verdict_of(weak, estimated(name, group, (0.93, 0.88, 0.97), 1e-9, "red", 0.02))
    assert found["tone"] == "bad"
    assert found["absence"] is None
    assert f"the label can be read without looking at a breast: AUC of {name} 0.930" in found["sentences"][0]
    assert "none found" not in why_no_shortcut({"verdict": found, "controls": [{"group": NUISANCE}]})
    chance = verdict_of(weak, estimated(name, group, (0.58, 0.51, 0.65), 0.02, "amber", 0.3))
    assert chance["tone"] == "open"
    assert chance["sentences"][0].startswith("No shortcut is shown, which does not show that there is none:")


def test_matched_pairs_ranked_the_wrong_way_are_not_called_chance() -> None:
    room = estimated("room_celsius", NUISANCE, (0.7, 0.6, 0.8), 0.001, "amber", 0.25)
    for matched, words in (((0.2, 0.1, 0.35), "worse than chance"), ((0.4, 0.2, 0.6), "cannot be told from chance")):
        assert verdict_of(room, matched=matched)["sentences"][1].endswith(f"{words}.")


def test_what_remains_is_said_only_of_pairs_alike_in_date() -> None:
    room = estimated("room_celsius", NUISANCE, (0.7, 0.6, 0.8), 0.001, "amber", 0.25)
    dated, undated = (
        verdict_of(room, matched=(0.8, 0.7, 0.9), by_date=by_date)["sentences"][1] for by_date in (True, False)
    )
    assert dated.endswith("ranks 0.800 (0.700 to 0.900) right, better than chance.")
    assert undated.startswith("What remains cannot be said")
    assert "better than chance" not in undated


@pytest.mark.parametrize(
    ("sick", "healthy", "together", "said", "tone"),
    [
        (16, 24, (0.45, 0.28, 0.63), "No shortcut is shown", "open"),
        (200, 200, (0.5, 0.44, 0.56), "Shortcuts are shown absent", "good"),
        (None, None, (0.5, 0.44, 0.56), "No nuisance variable is known", "open"),
    ],
)
def test_silence_says_what_it_is_worth(
    sick: int | None, healthy: int | None, together: tuple[float, float, float], said: str, tone: str
) -> None:
    controls = []
    if sick is not None and healthy is not None:
        weak = estimated("room_celsius", NUISANCE, (0.5, 0.4, 0.6), 0.4, "none", 0.4)
        blind = estimated("no_breast", NUISANCE, together, 0.5, "none", 0.4)
        controls = [replace(each, n=sick + healthy, positives=sick) for each in (weak, blind)]
    found = verdict_of(*controls)
    assert found["sentences"][0].startswith(said)
    assert found["tone"] == tone
    if sick is not None and healthy is not None:
        detectable = smallest_detectable_auc(sick, healthy, power=0.8, alpha=NAMED_BELOW / 2)
        assert f"AUC {detectable:.2f}" in found["sentences"][0]


def test_equal_seeds_give_equal_permutations_and_leave_strangers_alone(tmp_path: Path) -> None:
    scope = held_out(tmp_path).scope
    stranger = Exam(999, 1, 1, None, "space2")
    wider = replace(scope, exams=(*scope.exams, stranger))
    assert permute_by_patient(wider, 0)[:-1].tolist() == permute_by_patient(scope, 0).tolist()
    assert permute_by_patient(wider, 0)[-1] == 1
    assert isinstance(scope.cohort, ArrayCohort)


def test_the_twin_of_a_run_on_its_own_encoder_is_that_encoder_untrained(tmp_path: Path) -> None:
    from sequence_fixtures import built, tiny_config

    from thermocancer.classifiers.sequence.readers import FrameReaders, UntrainedReaders
    from thermocancer.progress import Silent
    from thermocancer.stages import train_ae

    options = {"autoencoder__epochs": 1, "autoencoder__input__kind": "celsius", "autoencoder__per_fold": False}
    workspace = built(tmp_path)
    config = tiny_config(workspace, dit__backbone="autoencoder", dit__finetune=True, dit__cache=False, **options)
    train_ae.run(config, workspace, Silent())
    rows = [Prediction(patient, 1, f"1.{1 + patient % 2}", patient % 2, 0.5, 1) for patient in range(1, 13)]
    write_run(workspace, "dit", rows, stage="train-dit", model="autoencoder + lstm 24")
    scope = make_scope(read_run(workspace, "dit"), None, {})
    bench = Refitting(scope, toy_source(rows), config, workspace, Judge(gather_units(rows), 0.95, 50, 0), 1)
    twin_of_run, note = bench.twin()
    assert note == ""
    method = twin_of_run.classifier
    assert not method.config.dit.finetune
    assert isinstance(method.readers, UntrainedReaders)
    trained, twin = FrameReaders(config, workspace).of("test"), method.readers.of("test")
    assert twin.input == trained.input
    assert [each.shape for each in twin.model.weights] == [each.shape for each in trained.model.weights]
    kernels = [place for place, each in enumerate(twin.model.weights) if each.name == "kernel"]
    assert kernels
    for place in kernels:
        assert not np.array_equal(twin.model.get_weights()[place], trained.model.get_weights()[place])
    assert twin.seen == frozenset()
    assert trained.seen


def test_predictions_edited_after_the_run_are_noticed(tmp_path: Path) -> None:
    from evaluation_fixtures import write_dataset

    from thermocancer.progress import Silent
    from thermocancer.stages import evaluate, fuse

    workspace, source = Workspace(tmp_path), toy_source(toy_rows(24, repeats=1))
    write_dataset(workspace, source)
    skipped = {"evaluate.audit_skip": [name for name, _ in REFITS], "evaluate.explain": False}
    config = pixels_config(workspace, **skipped)
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    folder = workspace.run("pixels")
    evaluate.run(config, workspace, Silent())
    checks = {each["name"]: each for each in json.loads((folder / "audit.json").read_text())["leak_checks"]}
    assert checks["the predictions are as the run wrote them"]["passed"]
    header, *lines = (folder / "predictions.csv").read_text().splitlines()
    kinder = [line.rsplit(",", 2)[0] + (",0.9,1" if line.split(",")[3] == "1" else ",0.1,0") for line in lines]
    (folder / "predictions.csv").write_text("\n".join([header, *kinder]) + "\n")
    evaluate.run(config, workspace, Silent())
    verdict = json.loads((folder / "report.json").read_text())["verdict"]
    assert verdict["tone"] == "bad"
    assert any(
        "predictions changed after the run wrote them (predictions.csv)" in each for each in verdict["sentences"]
    )


@pytest.mark.parametrize("match", ["choose", "weight"])
def test_a_matched_run_and_its_audit_train_without_what_the_tested_exams_tell(tmp_path: Path, match: str) -> None:
    from evaluation_fixtures import write_dataset

    from thermocancer.data.matching import MatchWeights, keep_matches_apart
    from thermocancer.data.nuisance import catalog_measures
    from thermocancer.data.store.reading import StoredCohort
    from thermocancer.progress import Silent
    from thermocancer.stages import evaluate, fuse

    workspace, source = Workspace(tmp_path), toy_source([row for row in toy_rows(50, repeats=1) if row.visit == 1])
    days = {"date_ordinal": np.array([catalog_measures(exam, 0)["date_ordinal"] for exam in source.exams])}
    write_dataset(workspace, replace(source, measured=source.measured | days))
    skipped = {"evaluate.audit_skip": [name for name, _ in REFITS if name != "permuted labels"]}
    config = pixels_config(workspace, **skipped, **{"cohort.match": match, "evaluate.explain": False})
    make_split(source.exams, config.split, 0).write(workspace.split)
    with StoredCohort(workspace.dataset("cohort")) as known:
        job = fuse._job(config, workspace, known)
        assert isinstance(job.asked.exam_weights, MatchWeights) == (match == "weight")
        again = keep_matches_apart(known, job.folds, config.cohort)
        assert [fold.train.tolist() for fold in again] == [fold.train.tolist() for fold in job.folds]
        whole = {len(fold.train) + len(fold.test) for fold in job.folds}
        assert (max(whole) < len(job.rows)) == (match == "choose")
    fuse.run(config, workspace, Silent())
    evaluate.run(config, workspace, Silent())
    audit = json.loads((workspace.run("pixels") / "audit.json").read_text())
    assert "permuted" in {control["name"] for control in audit["controls"]}
    assert fuse.run(config, workspace, Silent()).made == 0


def test_a_hold_out_is_divided_by_time_as_a_whole(tmp_path: Path) -> None:
    scope = held_out(tmp_path).scope
    fold, (own,) = time_fold(scope), scope.folds
    assert len(fold.train) + len(fold.test) == len(own.train) + len(own.test)
    assert np.nanmax(scope.dates()[fold.train]) <= np.nanmax(scope.dates()[fold.test])


def test_controls_of_a_swept_run_search_anew_and_its_twin_says_that_it_does_not(tmp_path: Path) -> None:
    bench = held_out(tmp_path, 24)
    asked = {"sweep.trials": 2, "sweep.space": {"features.components": [2, 5]}, "fuse.model": "svm"}
    swept = replace(bench, config=pixels_config(bench.workspace, **asked | {"fuse.model": "pixels"}), permutations=2)
    assert swept.classifier().name.endswith("swept")
    assert permutations_of(replace(swept, permutations=None))[0] == 5
    labels = bench.scope.labels
    (fold,) = swept.folds
    fitted = swept.classifier().fit(bench.cohort, fold.train, labels[fold.train], seed=0, fold="test")
    assert "sweep" in fitted.history[-1]
    assert len(permuted_labels(swept).permutations) == 2
    on_codes = bench.scope.run.manifest.model_copy(update={"kind": "svm"})
    run = replace(bench.scope.run, manifest=on_codes)
    twin, note = replace(
        swept, scope=replace(bench.scope, run=run), config=pixels_config(bench.workspace, **asked)
    ).twin()
    assert not twin.name.endswith("swept")
    assert "not searched for anew" in note
