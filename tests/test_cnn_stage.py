"""``train-cnn`` from a folder of slices to a run: seeds, thresholds, reruns, old weights, reading it back."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_fixtures import CLASSES, draw_slice, make_slices, tiny_config, write_old_weights

import thermocancer as tc
from thermocancer import strategy
from thermocancer.classifiers.calibrated import choose_threshold
from thermocancer.classifiers.image.examples import ImageExamples
from thermocancer.classifiers.image.family import ImageFamily
from thermocancer.classifiers.image.network import ImageModel, ImageTrainer
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.protocol import Asked
from thermocancer.classifiers.seeds import SeedsFitted
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import read_image
from thermocancer.data.cohort import IMAGE, ArrayCohort, Exam
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import read_image_folder
from thermocancer.errors import ConfigError, DataError, RunError
from thermocancer.kinds import CNN, only_kind_of
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.runs.run import read_run
from thermocancer.stages import evaluate, train_cnn
from thermocancer.strategy.choice import Seen
from thermocancer.training.batches import MixedExamples, mixed
from thermocancer.workspace import Workspace


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_slices(tmp_path_factory.mktemp("data") / "slices")


@pytest.fixture(scope="module")
def made(tmp_path_factory, data: Path) -> Workspace:
    """A run of two seeds, and one broken image in its folder."""
    workspace = Workspace(tmp_path_factory.mktemp("cnn"))
    (data / "Train/no_gad/broken.png").write_bytes(b"\x89PNG")
    report = train_cnn.run(tiny_config(workspace, data, cnn__seeds=2), workspace, Silent())
    assert (report.made, report.exit_code, [each.item for each in report.failed]) == (
        1, 5, ["Train/no_gad/broken.png"],
    )  # fmt: skip
    return workspace


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_studys_division_resizing_and_copies_are_a_leak_with_a_name(tmp_path: Path) -> None:
    data = make_slices(tmp_path / "slices", train=10, test=4)
    shutil.copy(min((data / "Train/no_gad").iterdir()), data / "Test/no_gad/again.png")
    workspace = Workspace(tmp_path / "w")
    own = {"cnn__validation": "first", "cnn__interpolation": "nearest", "cnn__epochs": 1}
    with pytest.raises(DataError, match=r"in Train and in Test[\s\S]*cnn.copies: keep"):
        train_cnn.run(tiny_config(workspace, data, **own), workspace, Silent())
    train_cnn.run(tiny_config(workspace, data, **own, cnn__copies="keep"), workspace, Silent())
    run = read_run(workspace, "cnn")
    assert "1 test pictures are in Train too (cnn.copies: keep)" in run.manifest.leaks
    kept = load_fitted(run.model_folder, workspace)
    assert isinstance(kept, SeedsFitted)
    settings = json.loads((run.model_folder / "classifier.json").read_text())
    assert settings["interpolation"] == "nearest"
    with pytest.raises(ConfigError, match="choose one of the two"):
        tiny_config(workspace, data, cnn__validation="first", cnn__group=r"^(\w+)_")


def test_bright_vessels_are_found(made: Workspace) -> None:
    manifest = json.loads((made.run("cnn") / "manifest.json").read_text())
    assert manifest["spread"]["test_auc_mean"] >= 0.99
    assert len(manifest["seeds"]) == 2
    assert manifest["seeds"][0]["threshold"] != manifest["seeds"][1]["threshold"]


def test_a_run_has_its_files(made: Workspace) -> None:
    run = made.run("cnn")
    rows = read_predictions(run / "predictions.csv")
    assert len(rows) == 20
    assert {row.fold for row in rows} == {"test"}
    with open(run / "predictions.csv", encoding="utf-8", newline="") as handle:
        files = {row["file"]: int(row["label"]) for row in csv.DictReader(handle)}
    assert all(Path(name).parts[:2] == ("Test", CLASSES[label]) for name, label in files.items())
    assert {row.fold for row in read_predictions(run / "validation.csv")} == {"validation"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest["outputs"]) == set(files_of(run)) - {"manifest.json"}
    assert manifest["threshold_source"] == "validation images: accuracy"
    assert manifest["decision"] == "majority vote of 2 seeds"
    assert "cnn.group is not set" in manifest["leaks"][0]
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(history[0])
    assert [row["fold"] for row in history] == ["seed 0"] * 16 + ["seed 1"] * 16


def test_the_terminal_has_bounds_and_the_verdicts_first_sentence(data: Path, tmp_path: Path) -> None:
    """The words are those of ``evaluate`` without an audit: nothing is green that has no baseline beside it."""
    workspace = Workspace(tmp_path)
    config = tiny_config(workspace, data, cnn__epochs=1, evaluate__audit=False, evaluate__explain=False)
    report = train_cnn.run(config, workspace, Silent())
    evaluate.run(config, workspace, Silent())
    found = json.loads((workspace.run("cnn") / "report.json").read_text())
    assert found["verdict"]["headline"] in report.notes
    assert any("No trivial baseline" in note for note in report.notes)
    assert any("shortcuts were not looked for" in note for note in report.notes)
    for name in ("accuracy", "auc"):
        told = [report.figures[name + end] for end in ("", "_low", "_high")]
        assert told == [found["metrics"][name][end] for end in ("value", "low", "high")]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_network_that_diverges_leaves_no_run_and_does_so_each_time(seeds: int, data: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    config = tiny_config(workspace, data, cnn__learning_rate=3e38, cnn__epochs=1, cnn__batch=64, cnn__seeds=seeds)
    for _ in range(2):
        with pytest.raises(RunError, match="no longer a number"):
            train_cnn.run(config, workspace, Silent())
        assert not (workspace.run("cnn") / "manifest.json").exists()


def test_nothing_changed_nothing_done(made: Workspace, data: Path) -> None:
    config, before = tiny_config(made, data, cnn__seeds=2), files_of(made.root)
    assert train_cnn.plan(config, made).current == 1
    report = train_cnn.run(config, made, Silent())
    assert (report.made, report.current) == (0, 1)
    assert files_of(made.root) == before


def test_a_rerun_gives_the_same_weights_bit_for_bit(made: Workspace, data: Path) -> None:
    expected = files_of(made.run("cnn"))
    shutil.rmtree(made.run("cnn"))
    train_cnn.run(tiny_config(made, data, cnn__seeds=2), made, Silent())
    assert files_of(made.run("cnn")) == expected


def test_a_run_stopped_after_its_training_is_written_without_another(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    config = tiny_config(workspace, data, cnn__seeds=2, cnn__epochs=2, cnn__keep="last")

    def stopped(*parts: object, **named: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(train_cnn, "write_run", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_cnn.run(config, workspace, Silent())
    with monkeypatch.context() as changed:
        changed.setattr(ImageTrainer, "train", stopped)
        assert train_cnn.run(config, workspace, Silent()).made == 1
    kept = files_of(workspace.run("cnn"))
    assert not list((workspace.cache / "folds").iterdir()), "nothing of a written run waits in the cache"
    shutil.rmtree(workspace.run("cnn"))
    train_cnn.run(config, workspace, Silent())
    assert files_of(workspace.run("cnn")) == kept


def test_a_loaded_run_gives_its_scores_again(made: Workspace, data: Path) -> None:
    fitted = load_fitted(made.run("cnn") / "model", made)
    assert isinstance(fitted, SeedsFitted)
    assert len(fitted.members) == 2
    with open(made.run("cnn") / "predictions.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    pixels = np.stack([read_image(data / row["file"], colour="gray", size=(48, 48))[np.newaxis] for row in rows])
    alone = ArrayCohort(tuple(Exam(number, 1, 0) for number in range(len(rows))), {IMAGE: pixels})
    scores, calls = fitted.scored(alone, np.arange(len(rows)))
    np.testing.assert_allclose(scores, [float(row["score"]) for row in rows], atol=1e-6)
    assert calls.tolist() == [int(row["predicted"]) for row in rows]
    assert fitted.threshold == json.loads((made.run("cnn") / "manifest.json").read_text())["threshold"]


def study_weights() -> list[tuple[str, list[np.ndarray]]]:
    from thermocancer.models.image_classifier import study_network

    rng = np.random.default_rng(0)
    layers = [layer for layer in study_network((190, 190, 3)).layers if layer.weights]
    return [(layer.name, [rng.normal(0, 0.1, weight.shape) for weight in layer.weights]) for layer in layers]


def test_old_weights_are_judged_as_they_are(data: Path, tmp_path: Path) -> None:
    workspace, weights = Workspace(tmp_path), study_weights()
    write_old_weights(tmp_path / "old.h5", weights)
    options = {"cnn__model": "study", "cnn__size": [190, 190], "cnn__color": "rgb", "cnn__train": False}
    config = tiny_config(workspace, data, cnn__init=str(tmp_path / "old.h5"), cnn__seeds=3, **options)
    progress = Silent()
    report = train_cnn.run(config, workspace, progress)
    assert report.made == 1
    assert any(note.startswith("conv_1 -> conv_1") for note in progress.notes)
    (member,) = load_fitted(workspace.run("cnn") / "model", workspace).members.values()
    assert isinstance(member.model, ImageModel)
    model = member.model.network()
    for found, (_, arrays) in zip([layer for layer in model.layers if layer.weights], weights, strict=True):
        assert all(
            np.array_equal(one, np.float32(other)) for one, other in zip(found.get_weights(), arrays, strict=True)
        )
    assert (workspace.run("cnn") / "history.jsonl").read_text() == ""


def test_a_frozen_backbone_reads_each_image_once(data: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    options = {"cnn__model": "backbone", "cnn__backbone": "random", "cnn__augment": True, "cnn__mixup": 0.2}
    config = tiny_config(workspace, data, cnn__group=r"^(\w+)_", cnn__patience=2, **options)
    train_cnn.run(config, workspace, Silent())
    kept = list((workspace.cache / "images").glob("*.features.npy"))
    assert len(kept) == 1
    assert np.load(kept[0]).shape == (4, 68, 64)
    manifest = json.loads((workspace.run("cnn") / "manifest.json").read_text())
    assert manifest["leaks"] == []
    assert manifest["model"] == "random + dense"


def test_augmentation_and_mixing_are_functions_of_the_seed() -> None:
    pixels = np.stack([draw_slice(number, vessels=False)[None, ..., None] for number in range(4)])
    cohort = ArrayCohort(tuple(Exam(number, 1, number % 2) for number in range(4)), {IMAGE: pixels})
    rows, labels = np.arange(4), np.array([0, 1, 0, 1])
    plain = ImageExamples(cohort, rows, labels)
    np.testing.assert_array_equal(plain.take(np.array([2]), 0)[0][0] * 255, pixels[2, 0])
    one, same, other = (
        MixedExamples(ImageExamples(cohort, rows, labels, seed, augment=True), 0.5, seed) for seed in (1, 1, 2)
    )
    for part, again, different in zip(*(each.take(rows, 3) for each in (one, same, other)), strict=True):
        np.testing.assert_array_equal(part, again)
        assert not np.array_equal(part, different)


def test_mixing_blends_inputs_and_labels_alike() -> None:
    labels = np.arange(6, dtype=np.float32)[:, None]
    inputs, targets = mixed(np.eye(6, dtype=np.float32), labels, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(inputs @ labels, targets, rtol=1e-5)
    assert ((inputs > 0) & (inputs < 1)).any()


def test_a_backend_that_resolves_otherwise_is_another_run(
    made: Workspace, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(made, data, cnn__seeds=2, strategy__backend="auto")
    here = Seen(tensorflow=True, jax=True, tpu=False, running=None, asked=None)
    monkeypatch.setattr(strategy, "look", lambda: here)
    assert train_cnn.plan(config, made).current == 1, "resolves to TensorFlow, which made the run"
    monkeypatch.setattr(strategy, "look", lambda: replace(here, tensorflow=False))
    assert strategy.resolved(config.strategy)["backend"] == "jax"
    assert train_cnn.plan(config, made).current == 0


def test_what_is_held_back_depends_on_neither_seed_nor_the_labels_given(data: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    config = tiny_config(workspace, data, cnn__group=r"^(\w+)_", cnn__epochs=1)
    folder = read_image_folder(data, group=config.cnn.group)
    cohort = ImageCohort(folder, config.cnn.size, "gray", workspace.cache)
    family = ImageFamily(only_kind_of(CNN))
    classifier = family.network(Asked(config, workspace, cohort.views))
    train, validation, _ = folder.parts(config.cnn.validation_fraction, config.seed)
    rows, labels = folder.rows("Train"), folder.labels[folder.rows("Train")]
    for seed, given in ((0, labels), (5, 1 - labels)):
        fitted = classifier.fit(cohort, rows, given, seed=seed, fold="test")
        assert fitted.held is not None
        np.testing.assert_array_equal(fitted.held, validation)
    assert {folder.images[row].group for row in train}.isdisjoint(folder.images[row].group for row in validation)
    seeds = family.make(Asked(config, workspace, cohort.views)).fit(cohort, rows, labels, seed=0, fold="test")
    assert seeds.inner is not None
    np.testing.assert_array_equal(seeds.inner.rows, validation)
    (member,) = seeds.members.values()
    assert member.threshold == choose_threshold(seeds.inner.scores, seeds.inner.labels, "accuracy")


def test_settings_that_cannot_work_are_refused(tmp_path: Path, data: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(ConfigError, match=r"cnn\.init"):
        train_cnn.plan(tiny_config(workspace, data, cnn__train=False), workspace)
    with pytest.raises(DataError, match="not there"):
        train_cnn.plan(tiny_config(workspace, tmp_path / "none"), workspace)
    assert CnnSection().data is None


def test_the_report_has_the_study_s_figures(made: Workspace, data: Path) -> None:
    from thermocancer.evaluation.report import image_figures as figures

    run = made.run("cnn")
    kept = (run / "predictions.csv").read_text()
    first = kept.splitlines()[1].split(",")
    first[5] = str(1 - int(first[5]))
    (run / "predictions.csv").write_text("\n".join([kept.splitlines()[0], ",".join(first), *kept.splitlines()[2:]]))
    try:
        found = figures.image_figures(read_run(made, "cnn"))
    finally:
        (run / "predictions.csv").write_text(kept)
    assert list(found)[:4] == [figures.CURVES, figures.ROC, figures.CONFUSION, figures.THRESHOLD]
    assert list(found)[4].startswith("Misclassified test images, ")
    assert all(content.startswith(b"\x89PNG") for content in found.values())
    part = figures.read_scored(run / "predictions.csv", "test")
    assert part.accuracy_at(np.array([0.0])).tolist() == [0.5]


def test_predict_answers_for_new_images(made: Workspace, data: Path, tmp_path: Path) -> None:
    from thermocancer.stages import predict

    new = tmp_path / "new"
    shutil.copytree(data / "Test/with_gad", new)
    (new / "broken.png").write_bytes(b"\x89PNG")
    options = {"evaluate__run": "cnn", "evaluate__exam": str(new), "evaluate__page": str(tmp_path / "page.html")}
    config = tiny_config(made, data, **options)
    assert len(predict.plan(config, made).todo) == 11
    report = predict.run(config, made, Silent())
    assert (report.made, [each.item for each in report.failed]) == (10, ["broken.png"])
    scored = [each for each in report.figures["exams"] if each["status"] == "scored"]
    assert all(each["interval"]["low"] <= each["score"] <= each["interval"]["high"] for each in scored)
    assert {each["decision"].split(": ")[1] for each in scored} <= set(CLASSES)
    first = new / scored[0]["exam"]
    of_array = tc.open_workspace(made.root).run("cnn").score(read_image(first))
    assert of_array["score"] == scored[0]["score"]
    page = (tmp_path / "page.html").read_text()
    assert "Not a diagnosis" in page
    assert "were sick" not in page
