"""``train-cnn`` from a folder of slices to a run: seeds, thresholds, reruns, old weights, reading it back."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_fixtures import CLASSES, draw_slice, make_slices, tiny_config, write_old_weights

from thermocancer import strategy
from thermocancer.classifiers.image.seeds import SeedRun, best_accuracy_threshold, load_image_classifier, mean_and_vote
from thermocancer.config.learning import CnnSection
from thermocancer.errors import ConfigError, DataError
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.runs.run import read_run
from thermocancer.stages import train_cnn
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


def test_a_loaded_run_scores_files(made: Workspace, data: Path, tmp_path: Path) -> None:
    running = strategy.set_up(tiny_config(made, data).strategy, 0)
    classifier = load_image_classifier(made.run("cnn") / "model", running)
    with open(made.run("cnn") / "predictions.csv", encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    found = classifier.score_files([*(data / row["file"] for row in rows), broken])
    np.testing.assert_allclose([each.score for each in found[:-1]], [float(row["score"]) for row in rows], atol=1e-6)
    assert [each.predicted for each in found[:-1]] == [CLASSES[int(row["predicted"])] for row in rows]
    assert (found[-1].score, found[-1].problem) == (None, "the image is empty")


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
    model = load_image_classifier(workspace.run("cnn") / "model", strategy.current()).models[0]
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
    from thermocancer.classifiers.image.pixels import ImageExamples

    pixels = np.stack([draw_slice(number, vessels=False)[..., None] for number in range(4)])
    rows, labels = np.arange(4), np.array([0, 1, 0, 1])
    plain = ImageExamples(pixels, rows, labels)
    np.testing.assert_array_equal(plain.take(np.array([2]), 0)[0][0] * 255, pixels[2])
    one, same, other = (ImageExamples(pixels, rows, labels, seed, True, 0.5) for seed in (1, 1, 2))
    for part, again, different in zip(*(each.take(rows, 3) for each in (one, same, other)), strict=True):
        np.testing.assert_array_equal(part, again)
        assert not np.array_equal(part, different)


def test_mixing_blends_images_and_labels_alike() -> None:
    from thermocancer.classifiers.image.pixels import mixed

    labels = np.arange(6, dtype=np.float32)[:, None]
    inputs, targets = mixed(np.eye(6, dtype=np.float32), labels, 1.0, np.random.default_rng(0))
    np.testing.assert_allclose(inputs @ labels, targets, rtol=1e-5)
    assert ((inputs > 0) & (inputs < 1)).any()


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
    found = best_accuracy_threshold(np.array(scores), np.array(labels))
    assert found == pytest.approx(expected)


def test_seeds_vote() -> None:
    runs = [
        SeedRun(seed, threshold, np.zeros(0), np.array(test), [])
        for seed, (threshold, test) in enumerate([(0.5, [0.9, 0.4]), (0.2, [0.1, 0.3]), (0.6, [0.7, 0.5])])
    ]
    scores, votes = mean_and_vote(runs)
    assert scores == pytest.approx([1.7 / 3, 0.4])
    assert votes.tolist() == [1, 0]


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
    page = (tmp_path / "page.html").read_text()
    assert "Not a diagnosis" in page
    assert "were sick" not in page
