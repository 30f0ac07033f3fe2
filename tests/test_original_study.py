"""The original study, setting by setting and file by file, beside an independent transcription of its recipe.

The table below is the study's own (its text, 2024), typed here and not taken from the package. The transcription uses
what the study used: ``plt.imsave``, Keras' ``image_dataset_from_directory``, OpenCV's video writer, scikit-learn.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dataset_fixtures import add_file, body

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.evaluation.replication.published import ROWS, PublishedRow, chosen_rows
from thermocancer.evaluation.replication.remaking import steps_of
from thermocancer.progress import Silent
from thermocancer.runs.predictions import read_predictions
from thermocancer.runs.run import read_run
from thermocancer.stages import build_dataset, convert, fuse, train_ae
from thermocancer.stages import filter as filter_stage
from thermocancer.thermal.reading import read_matrix
from thermocancer.training import autoencoder as ae
from thermocancer.training.checkpoint import load_model
from thermocancer.workspace import Workspace

THESIS = Path(__file__).parents[1] / "configs" / "thesis.yaml"
VIEWS = ("Frontal", "Right45", "Right", "Left45", "Left")

# --- every setting, as the study's text has it ------------------------------------------------------------------------

EVERY_ROW: dict[str, Any] = {
    "convert.rendering.colormap": "viridis", "convert.rendering.range": "minmax", "convert.format": "jpg",
    "convert.jpeg_quality": 75, "dataset.decoder": "tensorflow", "filter.rule": "original",
    "dataset.source": "images", "dataset.size": None,
    "split.protocol": "thesis", "split.test_fraction": 0.3, "seed": 1, "cohort.match": "none",
    "features.relative": False, "features.residualise": False, "features.torso_only": False,
}  # fmt: skip
AUTOENCODERS: dict[str, Any] = {
    "autoencoder.input.kind": "rgb", "autoencoder.input.rendering.colormap": "viridis",
    "autoencoder.input.rendering.range": "minmax", "autoencoder.batch": 32, "autoencoder.optimizer": "adam",
    "autoencoder.learning_rate": 1e-3, "autoencoder.schedule": "constant", "autoencoder.patience": None,
    "autoencoder.per_fold": False, "fuse.aim": "fixed", "fuse.untrained": False,
}  # fmt: skip
SVM_ROWS: dict[str, Any] = {"fuse.model": "svm", "fuse.kernel": "sigmoid", "fuse.C": 1.0, "fuse.clip": None}
NETWORK_ROWS: dict[str, Any] = {
    "fuse.model": "network", "fuse.epochs": 40, "fuse.batch": 8, "fuse.learning_rate": 1e-3,
}  # fmt: skip
FILMS: dict[str, Any] = {
    "convert.videos": True, "convert.video_rendering.colormap": "prism", "convert.video_rendering.range": "minmax",
    "convert.video_codec": "DIVX", "convert.video_fps": 5.0, "convert.video_jpeg": 75, "filter.frames": 20,
    "dataset.dynamic": True, "dataset.dynamic_source": "videos", "dit.rendering.colormap": "prism",
    "dit.rendering.range": "minmax", "dit.frames": tuple(range(0, 20, 2)), "dit.channels": ("frame",),
    "dit.head": "lstm", "dit.units": 24, "dit.dropout": 0.2, "dit.optimizer": "adamw", "dit.learning_rate": 1e-3,
    "dit.weight_decay": 0.1, "dit.ema_momentum": 0.8, "dit.loss": "mse", "dit.batch": 16, "dit.epochs": 20,
    "dit.aim": "fixed", "dit.augment": 0, "dit.finetune": False, "dit.class_weights": False, "dit.patience": None,
    "dit.backbone": "efficientnetb5", "dit.size": (456, 456), "dit.norm_momentum": 0.99,
}  # fmt: skip
OF_ROW: dict[str, dict[str, Any]] = {
    "T3": {"fuse.views": ("Frontal",), "filter.views": ("Frontal",), "split.order": "unfiltered"},
    "3": {"fuse.views": ("Frontal", "Right", "Left"), "filter.views": VIEWS, "split.order": "filtered"},
    "5": {"fuse.views": VIEWS, "filter.views": VIEWS, "split.order": "filtered"},
}
EPOCHS = {"v1": 20, "v2": 40}


def settings_of_the_study(row: PublishedRow) -> dict[str, Any]:
    if row.name == "T8":
        return EVERY_ROW | FILMS
    own = OF_ROW["T3"] if row.table == 3 else OF_ROW[row.name[-1]]
    last = SVM_ROWS if row.table <= 5 else NETWORK_ROWS
    variant = {3: row.name[-2:], 4: "v1", 5: "v2", 6: "v1", 7: "v2"}[row.table]
    trained = {} if row.table == 3 else {"autoencoder.train_on": "unfiltered"}  # one view: the same folder either way
    return EVERY_ROW | AUTOENCODERS | last | own | trained | {"autoencoder.variant": variant}


def looked_up(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("by", ["configs/thesis.yaml", "the command alone"])
def test_every_setting_of_every_row_is_the_studys(tmp_path: Path, row: PublishedRow, by: str) -> None:
    if by == "configs/thesis.yaml":
        config = load_config([THESIS], workspace=tmp_path, environment={})
    else:  # the backbone's weights come in no package; everything else is the study's without being asked for
        options = {"seed": 1, "dit.backbone": "efficientnetb5"}
        config = load_config(options=options, workspace=tmp_path, environment={})
    made = steps_of(row, "thesis", config)[-1].config
    wanted = settings_of_the_study(row)
    found = {key: looked_up(made, key) for key in wanted}
    assert found == wanted
    if row.name != "T8":
        assert ae.course_of(made.autoencoder, 210).epochs == EPOCHS[wanted["autoencoder.variant"]]
        assert ae.course_of(made.autoencoder, 210).schedule.peak == 1e-3


def test_the_config_file_by_itself_is_rows_t4_5_and_t8(tmp_path: Path) -> None:
    config = load_config([THESIS], workspace=tmp_path, environment={})
    both = EVERY_ROW | AUTOENCODERS | SVM_ROWS | FILMS | {"filter.views": VIEWS, "split.order": "filtered"}
    both |= {"autoencoder.train_on": "unfiltered", "autoencoder.variant": "v1", "fuse.epochs": 40, "fuse.batch": 8}
    assert {key: looked_up(config, key) for key in both} == both
    assert config.pipeline == (
        "fetch",
        "convert",
        "filter",
        "build-dataset",
        "train-ae",
        "fuse",
        "train-dit",
        "evaluate",
    )


# --- file by file, on a folder with every irregularity ----------------------------------------------------------------

SHAPE = (32, 48)
SICK = (4, 17, 30, 103, 205, 212, 276)
PATIENTS = (1, 4, 9, 12, 17, 23, 30, 55, 71, 103, 123, 140, 188, 205, 212, 276, 300)
"""Numbers of one, two and three digits, so that T0012 and image_12 are sorted differently."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """Matrices in a workspace, and the study's own folders beside it: ``unfiltered/VIEW/CLASS``, ``filtered/...``."""
    root = tmp_path_factory.mktemp("study")
    workspace, records = Workspace(root / "ours"), list[Record]()
    for number, patient in enumerate(PATIENTS):
        for visit in (1, 2) if number % 5 == 1 else (1,):
            for view in VIEWS:
                if (patient, view) in ((9, "Left"), (140, "Right45"), (212, "Frontal")):
                    continue
                image = body(10 * (1 if patient == 4 else patient) + VIEWS.index(view) + 1000 * visit, SHAPE)
                if patient == 4:
                    image = image[:, ::-1]
                if patient == 23:
                    image = image - np.uint16(2000)  # implausibly cold; the study asked for nothing but a matrix
                kind = {"label": "sick" if patient in SICK else "healthy", "date": f"2014-0{1 + number % 9}-11"}
                records.append(add_file(workspace, image, patient, visit=visit, view=view, **kind))
    twin = next(each for each in records if each.patient == 188 and each.view == "Frontal")
    copied = read_matrix(workspace.raw / twin.path).centi
    records = [each for each in records if (each.patient, each.view) != (300, "Frontal")]
    records.append(add_file(workspace, copied, 300, date="2014-08-11"))  # one picture under two numbers stays
    write_catalog(workspace, records)
    write_folders_as_the_study(workspace, records, root)
    return workspace, root


def write_folders_as_the_study(workspace: Workspace, records: Iterable[Record], root: Path) -> None:
    import matplotlib.pyplot as plt

    ids: dict[str, set[str]] = {view: set() for view in VIEWS}
    written: list[tuple[Path, str, str, str]] = []
    for each in records:
        target = root / "unfiltered" / each.view / each.label / Path(each.path).with_suffix(".jpg").name
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = (workspace.raw / each.path).read_text().splitlines()
        plt.imsave(target, np.array([[float(cell) for cell in line.split()] for line in lines]), cmap="viridis")
        patient, visit = target.name.split(".")[:2]
        identity = f"{int(patient[1:])}_{visit}"
        ids[each.view].add(identity)
        written.append((target, each.view, each.label, identity))
    for source, view, label, identity in written:
        if all(identity in known for known in ids.values()):
            target = root / "filtered" / view / label / f"image_{identity}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def keras_parts(folder: Path) -> tuple[list[str], list[str], dict[str, np.ndarray]]:
    """Files of the training and the test part as Keras divides a folder of classes, and the pixels it reads."""
    import keras

    parts = keras.utils.image_dataset_from_directory(
        folder,
        validation_split=0.3,
        subset="both",
        seed=1,
        image_size=SHAPE,
        batch_size=16,
        shuffle=False,
        verbose=False,
    )
    drawn = keras.utils.image_dataset_from_directory(
        folder, validation_split=0.3, subset="both", seed=1, image_size=SHAPE, batch_size=16, verbose=False
    )
    pixels: dict[str, np.ndarray] = {}
    for part in parts:  # not shuffled, so that pixels and names keep together
        images = np.concatenate([batch.numpy() for batch, _ in part])
        pixels |= {identity(path): image for path, image in zip(part.file_paths, images, strict=True)}
    train, test = ([identity(path) for path in part.file_paths] for part in drawn)
    return train, test, pixels


def identity(path: str) -> str:
    """``276_1`` of either kind of name."""
    name = Path(path).name
    if name.startswith("image_"):
        return name.removeprefix("image_").removesuffix(".jpg")
    patient, visit = name.split(".")[:2]
    return f"{int(patient[1:])}_{visit}"


def ours(workspace: Workspace, **options: Any) -> Config:
    given = {"autoencoder.epochs": 1, "dataset.dynamic": False, "convert.videos": False, "fuse.name": "svm"}
    given |= {key.replace("__", "."): value for key, value in options.items()}
    return load_config([THESIS], options=given, workspace=workspace.root, environment={})


@pytest.fixture(scope="module")
def five_views(study: tuple[Workspace, Path]) -> tuple[Workspace, Path, Config]:
    """Row T4-5 by our own stages."""
    workspace, root = study
    config = ours(workspace)
    for stage in (convert, filter_stage, build_dataset, train_ae, fuse):
        report = stage.run(config, workspace, Silent())
        assert not report.failed
    return workspace, root, config


def test_the_same_pixels_as_imsave_and_keras(five_views: tuple[Workspace, Path, Config]) -> None:
    workspace, root, _ = five_views
    for name, folder in (("cohort-unfiltered", "unfiltered"), ("cohort", "filtered")):
        with StoredCohort(workspace.dataset(name)) as cohort:
            for view in VIEWS:
                *_, pixels = keras_parts(root / folder / view)
                rows = np.flatnonzero(cohort.present(view))
                assert {cohort.exams[row].key for row in rows} == set(pixels)
                for row in rows:
                    stored = cohort.frames(view, np.array([row]))[0, 0]
                    assert np.array_equal(stored, pixels[cohort.exams[row].key]), (view, cohort.exams[row].key)


def test_the_same_files_train_and_validate_each_autoencoder(five_views: tuple[Workspace, Path, Config]) -> None:
    workspace, root, _ = five_views
    for view in VIEWS:
        train, test, pixels = keras_parts(root / "unfiltered" / view)
        manifest = ae.manifest_of(workspace, "v1", view, "test")
        assert sorted(manifest.trained_exams or ()) == sorted(train)
        assert manifest.images.validation == len(test)
        held_back = np.stack([pixels[each] for each in test]) / np.float32(255)
        rebuilt = np.asarray(
            load_model(ae.folder_of(workspace, "v1", view, "test") / ae.MODEL).predict(held_back, verbose=0)
        )
        assert manifest.val_loss == pytest.approx(np.mean((rebuilt - held_back) ** 2), rel=1e-4)  # MSE of pixels / 255


def test_the_same_exams_are_tested_and_the_same_decisions_made(five_views: tuple[Workspace, Path, Config]) -> None:
    """Encoders by the package, everything after them by scikit-learn as the study's text has it."""
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    workspace, root, _ = five_views
    features = []
    for view in VIEWS:
        train, test, pixels = keras_parts(root / "filtered" / view)
        encoder = ae.load_encoder(workspace, "v1", view, "test")
        images = np.stack([pixels[each] for each in (*train, *test)]) / np.float32(255)
        features.append(np.asarray(encoder.predict(images, verbose=0)).reshape(len(images), -1))
    labels = np.array([int(each.partition("_")[0]) in SICK for each in (*train, *test)], dtype=int)
    joined = np.concatenate(features, axis=1).astype(np.float64)
    scaling = StandardScaler().fit(joined[: len(train)])
    svm = SVC(kernel="sigmoid").fit(scaling.transform(joined[: len(train)]), labels[: len(train)])
    tested = scaling.transform(joined[len(train) :])
    decided = dict(zip(test, svm.predict(tested).tolist(), strict=True))
    values = dict(zip(test, svm.decision_function(tested).tolist(), strict=True))
    rows = read_predictions(workspace.run("svm") / "predictions.csv")
    assert read_run(workspace, "svm").manifest.threshold == 0.5
    assert {f"{row.patient}_{row.visit}": row.predicted for row in rows} == decided
    for row in rows:  # on the whole line too, where decisions are few and rough
        assert row.score == pytest.approx(1 / (1 + np.exp(-values[f"{row.patient}_{row.visit}"])), abs=1e-4)
    assert len(decided) == int(0.3 * (len(train) + len(test)))


def test_table_3_is_divided_as_keras_divides_the_unfiltered_folder(
    study: tuple[Workspace, Path], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path)
    shutil.copytree(study[0].raw, workspace.raw)
    config = steps_of(chosen_rows(("T3-v1",))[0], "thesis", ours(workspace))[-1].config
    config = config.model_copy(update={"workspace": str(tmp_path)})
    config = config.model_copy(update={"fuse": config.fuse.model_copy(update={"untrained": True})})
    for stage in (convert, filter_stage, build_dataset, fuse):
        stage.run(config, workspace, Silent())
    _, test, pixels = keras_parts(study[1] / "unfiltered" / "Frontal")
    rows = read_predictions(workspace.run("T3-v1") / "predictions.csv")
    assert sorted(f"{row.patient}_{row.visit}" for row in rows) == sorted(test)
    assert len(test) == int(0.3 * len(pixels))
    *_, filtered = keras_parts(study[1] / "filtered" / "Frontal")
    assert set(test) & set(filtered) != set(keras_parts(study[1] / "filtered" / "Frontal")[1]), "another shuffle"


def test_films_are_the_studys_frame_by_frame(tmp_path: Path) -> None:
    """Prism JPEG files at quality 75 written as DIVX; complete first visits alone."""
    import matplotlib.pyplot as plt

    workspace, records = Workspace(tmp_path / "ours"), list[Record]()
    for patient, visit, frames in ((1, 1, 20), (2, 1, 19), (3, 1, 20), (3, 2, 20), (4, 1, 20), (5, 1, 20), (6, 1, 20)):
        for index in range(frames):
            image = body(patient, SHAPE) + np.uint16(4 * index)
            kind = {"label": "sick" if patient % 2 else "healthy", "protocol": "D", "index": index}
            records.append(add_file(workspace, image, patient, visit=visit, **kind))
    write_catalog(workspace, records)
    config = ours(workspace, dataset__dynamic=True, dataset__static=False, convert__videos=True)
    for stage in (convert, build_dataset):
        stage.run(config, workspace, Silent())
    complete = [1, 3, 4, 5, 6]
    assert sorted(path.stem for path in workspace.videos.rglob("*.avi")) == [f"{patient}_1" for patient in complete]
    with StoredCohort(workspace.dataset("cohort"), DYNAMIC) as cohort:
        assert [exam.key for exam in cohort.exams] == [f"{patient}_1" for patient in complete]
        for row, exam in enumerate(cohort.exams):
            own = [each for each in read_catalog(workspace) if each.exam == exam.key]
            film = tmp_path / "film.avi"
            writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"DIVX"), 5, SHAPE[::-1])
            for each in sorted(own, key=lambda each: each.index):
                matrix = np.loadtxt(workspace.raw / each.path)
                plt.imsave(tmp_path / "frame.jpg", matrix, cmap="prism")
                writer.write(cv2.imread(str(tmp_path / "frame.jpg")))
            writer.release()
            capture = cv2.VideoCapture(str(film))
            expected = np.stack([capture.read()[1][:, :, ::-1] for _ in range(20)])
            capture.release()
            assert np.array_equal(cohort.frames("Frontal", np.array([row]))[0], expected)
