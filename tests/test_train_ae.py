"""The stage train-ae on a tiny built data set: what it makes, from whom, and what a kill leaves."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from autoencoder_fixtures import TINY, built, tiny_config
from dataset_fixtures import make_raw

from thermocancer.classifiers.encoders import Encoders
from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.data.split import Split, outer_folds
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError, DataError, Interrupted
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.runs.history import read_history
from thermocancer.stages import build_dataset, train_ae
from thermocancer.training import autoencoder as ae
from thermocancer.training.autoencoder import trainings
from thermocancer.workspace import Workspace


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A built data set, nothing trained yet. Copy it before training."""
    return built(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def trained(prepared: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, StageReport]:
    workspace = copy_of(prepared, tmp_path_factory.mktemp("trained"))
    return workspace, train_ae.run(tiny_config(workspace), workspace, Silent())


def copy_of(workspace: Workspace, folder: Path) -> Workspace:
    shutil.copytree(workspace.root, folder, dirs_exist_ok=True)
    return Workspace(folder)


def tree(workspace: Workspace) -> dict[str, str]:
    folder = workspace.root / "models"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_plan_touches_nothing(prepared: Workspace) -> None:
    plan = train_ae.plan(tiny_config(prepared), prepared)
    assert [line.split(":")[0] for line in plan.todo] == [
        "autoencoder v2 Frontal", "autoencoder v2 Frontal fold 1.1", "autoencoder v2 Frontal fold 1.2",
    ]  # fmt: skip
    assert not (prepared.root / "models").exists()


def test_plan_before_there_is_a_data_set(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    plan = train_ae.plan(tiny_config(workspace), workspace)
    assert plan.todo == ("autoencoder v2 Frontal",)
    assert "build-dataset" in plan.notes[0]


def test_what_it_makes(trained: tuple[Workspace, StageReport]) -> None:
    workspace, report = trained
    assert (report.made, report.failed) == (3, [])
    figures = report.figures["Frontal"]
    assert {"val_loss", "psnr", "ssim", "seconds", "best_epoch"} <= figures.keys()
    assert figures["folds"] == 2
    assert figures["psnr"] > 0
    assert set(tree(workspace)) == {
        f"ae/v2/Frontal/{name}"
        for name in (
            "model.keras",
            "model.layers.csv",
            "layers.svg",
            "history.jsonl",
            "manifest.json",
            "reconstructions.png",
            "learning.png",
        )
    } | {
        f"ae/v2/Frontal/folds/1.{n}/{name}"
        for n in (1, 2)
        for name in ("model.keras", "model.layers.csv", "layers.svg", "history.jsonl", "manifest.json")
    }
    for name in ("reconstructions.png", "learning.png"):
        assert (workspace.autoencoder("v2", "Frontal") / name).read_bytes().startswith(b"\x89PNG")


def test_again_does_nothing(trained: tuple[Workspace, StageReport]) -> None:
    workspace, _ = trained
    before = tree(workspace)
    report = train_ae.run(tiny_config(workspace), workspace, Silent())
    assert (report.made, report.current, report.nothing_to_do) == (0, 3, True)
    assert train_ae.plan(tiny_config(workspace), workspace).todo == ()
    assert tree(workspace) == before


def test_a_changed_setting_trains_again_and_an_unrelated_one_does_not(trained: tuple[Workspace, StageReport]) -> None:
    workspace, _ = trained
    assert train_ae.plan(tiny_config(workspace, fuse__C=3), workspace).todo == ()
    other = train_ae.plan(tiny_config(workspace, strategy__backend="jax"), workspace)
    assert len(other.todo) == 3, "another backend sums in another order: its weights are others"
    assert len(train_ae.plan(tiny_config(workspace, autoencoder__epochs=3), workspace).todo) == 3
    assert len(train_ae.plan(tiny_config(workspace, seed=8), workspace).todo) == 3


def test_no_fold_has_seen_its_test_patients(trained: tuple[Workspace, StageReport]) -> None:
    workspace, _ = trained
    config = tiny_config(workspace)
    split = Split.read(workspace.split)
    with StoredCohort(workspace.dataset("cohort")) as source:
        for fold in outer_folds(source.exams, split, config.split, config.seed):
            tested = {source.exams[row].patient for row in fold.test}
            assert not tested & ae.trained_patients(workspace, "v2", "Frontal", fold.name)
        for job in trainings(config, workspace, source):
            patients = [{source.exams[row].patient for row in rows} for rows in (job.train, job.validate)]
            assert not patients[0] & patients[1]
    assert ae.trained_patients(workspace, "v2", "Frontal", "test") <= set(split.train)
    assert ae.trained_leaks(workspace, "v2", "Frontal", "1.1") == []


def test_encoders_by_fold(trained: tuple[Workspace, StageReport]) -> None:
    workspace, _ = trained
    whole, fold = (ae.load_encoder(workspace, "v2", "Frontal", name) for name in ("all", "1.2"))
    assert whole.output_shape == (None, 4, 6, 32)
    assert not np.array_equal(np.asarray(whole.weights[0]), np.asarray(fold.weights[0]))
    assert ae.trained_input(workspace, "v2", "Frontal", "1.2").kind == "celsius"
    with pytest.raises(DataError, match="fold 7"):
        ae.load_encoder(workspace, "v2", "Frontal", "7.1")
    with pytest.raises(DataError, match="train-ae"):
        ae.load_encoder(workspace, "v1", "Frontal", "test")


def test_a_lost_model_alone_is_made_again_with_the_same_bytes(
    trained: tuple[Workspace, StageReport], tmp_path: Path
) -> None:
    workspace = copy_of(trained[0], tmp_path)
    before = tree(workspace)
    (workspace.autoencoder("v2", "Frontal") / "folds" / "1.2" / "model.keras").unlink()
    report = train_ae.run(tiny_config(workspace), workspace, Silent())
    assert (report.made, report.current) == (1, 2)
    assert tree(workspace) == before


def test_thesis_names_its_leaks(prepared: Workspace, tmp_path: Path) -> None:
    workspace = copy_of(prepared, tmp_path)
    config = tiny_config(
        workspace, split__protocol="thesis", autoencoder__train_on="all", autoencoder__schedule="constant",
        autoencoder__epochs=4, autoencoder__batch=2, autoencoder__learning_rate=0.05,
    )  # fmt: skip
    report = train_ae.run(config, workspace, Silent())
    assert report.made == 1
    losses = [row["val_loss"] for row in read_history(workspace.autoencoder("v2", "Frontal") / ae.HISTORY)]
    manifest = ae.manifest_of(workspace, "v2", "Frontal", "test")
    assert manifest.best_epoch == len(losses) == 4, "the study kept the last weights"
    assert manifest.val_loss == losses[-1] > min(losses), "and this is what they give"
    leaks = ae.trained_leaks(workspace, "v2", "Frontal", "test")
    assert any("split by file" in leak for leak in leaks)
    assert any("validated on the test part" in leak for leak in leaks)
    assert any("all files" in leak for leak in leaks)
    assert len(ae.trained_patients(workspace, "v2", "Frontal", "test")) == 12


def test_the_studys_autoencoders_learn_from_each_views_own_unfiltered_files(tmp_path: Path) -> None:
    """Exams that lack another view are among them; whoever only validated is not counted as seen."""
    workspace = make_raw(tmp_path, patients=range(1, 29), shape=(32, 48), views=("Frontal", "Right"))
    kept = [each for each in read_catalog(workspace) if each.view == "Frontal" or each.patient % 4]
    write_catalog(workspace, kept)
    config = tiny_config(
        workspace, filter__views=["Frontal", "Right"], filter__rule="original", split__protocol="thesis",
        autoencoder__train_on="unfiltered", autoencoder__epochs=1, autoencoder__batch=8,
    )  # fmt: skip
    made = build_dataset.run(config, workspace, Silent())
    assert "cohort-unfiltered, files by view: Frontal 28, Right 21" in made.notes
    assert "cohort, files by view: Frontal 21, Right 21" in made.notes
    train_ae.run(config, workspace, Silent())
    encoders = Encoders.of(config, workspace)
    for view, code in (("Frontal", 1), ("Right", 3)):
        names = sorted(
            (each.label, each.name.file_name, each.exam) for each in kept if each.view == view
        )  # as Keras lists them: class by class, by name
        assert all(f".{code}.S." in name for _, name, _ in names)
        np.random.RandomState(1).shuffle(names)
        held_out = int(0.3 * len(names))
        manifest = ae.manifest_of(workspace, "v2", view, "test")
        assert set(manifest.trained_exams or ()) == {exam for *_, exam in names[:-held_out]}
        assert (manifest.images.train, manifest.images.validation) == (len(names) - held_out, held_out)
        with StoredCohort(workspace.dataset("cohort")) as cohort:
            (fold,) = outer_folds(cohort.exams, Split.read(workspace.split), config.split, config.seed)
            tested = {cohort.exams[row].key for row in fold.test}
            seen = tested & {exam for *_, exam in names[:-held_out]}
            assert 0 < len(seen) < len(tested) == len({key for key in tested if int(key[:-2]) in manifest.patients})
            said = f"autoencoders were trained on files of scored patients: {len(seen)} patients, {len(seen)} scored"
            assert any(leak.startswith(said) for leak in encoders.leaks(cohort, (view,), [fold]))


def test_a_view_that_is_not_there_is_refused(prepared: Workspace) -> None:
    with pytest.raises(ConfigError, match="lacks a view"):
        train_ae.run(tiny_config(prepared, autoencoder__views=["Left"]), prepared, Silent())


def test_a_size_that_does_not_halve_is_refused_before_anything(tmp_path: Path) -> None:
    workspace = built(tmp_path, shape=(36, 48))
    with pytest.raises(ConfigError, match="halves its input"):
        train_ae.run(tiny_config(workspace), workspace, Silent())
    assert not (workspace.root / "models").exists()


def test_stopped_and_resumed(trained: tuple[Workspace, StageReport], prepared: Workspace, tmp_path: Path) -> None:
    """SIGTERM in the second training: the first is kept, the second goes on."""

    class StopsLate(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.epochs = 0

        def task(self, name: str, total: float | None, unit: str = "") -> object:  # type: ignore[override]
            return self

        def __enter__(self) -> StopsLate:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def say(self, text: str) -> None:
            return None

        def advance(self, steps: float = 1) -> None:
            self.epochs += 1
            if self.epochs == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    workspace = copy_of(prepared, tmp_path)
    with pytest.raises(Interrupted):
        train_ae.run(tiny_config(workspace), workspace, StopsLate())
    assert (workspace.autoencoder("v2", "Frontal") / "manifest.json").exists()
    assert (workspace.autoencoder("v2", "Frontal") / "folds" / "1.1" / "checkpoint" / "checkpoint.npz").exists()
    report = train_ae.run(tiny_config(workspace), workspace, Silent())
    assert (report.made, report.current) == (2, 1)
    assert tree(workspace) == tree(trained[0])


def test_killed_and_started_again_gives_the_same_bytes(
    trained: tuple[Workspace, StageReport], prepared: Workspace, tmp_path: Path
) -> None:
    workspace = copy_of(prepared, tmp_path)
    settings = [f"--set={key}={value}" for key, value in TINY.items() if key != "filter.views"]
    command = [sys.executable, "-m", "thermocancer", "train-ae", "-w", str(tmp_path), "--set=filter.views=[Frontal]"]
    command.append("--set=autoencoder.checkpoint_every=1")
    process = subprocess.Popen([*command, *settings], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (workspace.autoencoder("v2", "Frontal") / "checkpoint" / "checkpoint.npz").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    report = train_ae.run(tiny_config(workspace), workspace, Silent())
    assert report.failed == []
    assert tree(workspace) == tree(trained[0])


ROAD = (
    "filter.views=[Frontal]", "strategy.threads=1", "pipeline=[train-ae, fuse, evaluate]", "fuse.model=svm",
    "fuse.name=svm", "evaluate.bootstrap=20", "evaluate.audit_permutations=2", "evaluate.explain=false",
)  # fmt: skip


def road(workspace: Workspace, *more: str) -> subprocess.Popen[str]:
    """Autoencoders, classifier and audit of a tiny data set, in a process of its own."""
    settings = [f"{key}={value}" for key, value in TINY.items() if key != "filter.views"]
    command = [sys.executable, "-m", "thermocancer", "run", "-w", str(workspace.root), "--quiet"]
    command += [f"--set={each}" for each in (*settings, *ROAD, *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(workspace: Workspace) -> dict[str, str]:
    """All that was computed, without what quotes the settings."""
    quoting = {"config.yaml", "runs/svm/manifest.json", "evaluation.json"}  # or hold its hash
    found = {}
    for path in sorted(each for part in ("models", "runs") for each in (workspace.root / part).rglob("*.*")):
        name = str(path.relative_to(workspace.root))
        if path.is_file() and not {path.name, name} & quoting:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_workers_and_one_process_give_the_same_bytes(prepared: Workspace, tmp_path: Path) -> None:
    """By one process, by two of this machine, and by a Dask cluster of two of which one is killed on the way.

    The number of numeric threads belongs to the recipe; who computes does not.
    """
    how = {
        "alone": (), "dask": ("compute.workers=2", "compute.engine=dask"),
        "local": ("compute.workers=2", "pipeline=[train-ae]"),
    }  # fmt: skip
    spaces = {name: copy_of(prepared, tmp_path / name) for name in how}
    processes = {name: road(spaces[name], *how[name]) for name in how}
    first = spaces["dask"].autoencoder("v2", "Frontal") / "layers.svg"
    while not first.exists():  # the first model is made: both workers are at work
        assert processes["dask"].poll() is None, processes["dask"].communicate()
        time.sleep(0.05)
    workers = [each for each in psutil.Process(processes["dask"].pid).children() if "spawn_main" in str(each.cmdline())]
    workers[0].kill()
    for process in processes.values():
        out, err = process.communicate(timeout=250)
        assert (process.returncode, out) == (0, ""), err
    assert tree(spaces["local"]) == tree(spaces["alone"]) != {}
    alone, dask = results(spaces["alone"]), results(spaces["dask"])
    assert alone == dask
    assert {"runs/svm/predictions.csv", "runs/svm/metrics.json", "runs/svm/report.html"} <= alone.keys()
