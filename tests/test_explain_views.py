"""Heat maps of trained runs on the phantom: every view, Grad-CAM of the fusion network, sides, checks of trust."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from thermocancer.classifiers.making import load_fitted
from thermocancer.config import Config, load_config
from thermocancer.data.cohort import ArrayCohort, all_alike, centi_celsius
from thermocancer.data.store.reading import StoredCohort
from thermocancer.evaluation.explain import occlusion as heatmap
from thermocancer.evaluation.explain.gradcam import codes_of, explain_at_random, explain_exam, network_inside
from thermocancer.evaluation.explain.occlusion import occlude, stretched
from thermocancer.evaluation.explain.telling_exams import explain_run
from thermocancer.evaluation.report.judgement import judge
from thermocancer.features.prepared import prepare
from thermocancer.progress import Silent
from thermocancer.runs.run import read_run
from thermocancer.stages import build_dataset, evaluate, fuse, predict, simulate
from thermocancer.stages import filter as filter_stage
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace

VIEWS = ("Frontal", "Right", "Left")


def config_of(workspace: Workspace, name: str, model: str, **options: object) -> Config:
    chosen: dict[str, object] = {
        "strategy.backend": "tensorflow", "simulate.patients": 12, "simulate.shape": "64x96",
        "simulate.dynamic": False, "simulate.missing_views": 0.0, "simulate.sick_fraction": 0.5,
        "filter.views": list(VIEWS), "filter.dynamic": False, "split.protocol": "thesis",
        "fuse.name": name, "fuse.model": model, "fuse.untrained": True, "fuse.epochs": 20, "fuse.batch": 4,
        "fuse.baseline": False, "split.folds": 2, "split.repeats": 1, "split.inner_folds": 2,
        "evaluate.bootstrap": 100, "evaluate.audit": False, "evaluate.run": name,
    }  # fmt: skip
    return load_config(options=chosen | options, workspace=workspace.root, environment={})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The phantom from three sides, with a fusion network and an SVM trained on the codes of random encoders."""
    workspace = Workspace(tmp_path_factory.mktemp("explained"))
    config = config_of(workspace, "network", "network")
    for stage in (simulate, filter_stage, build_dataset, fuse):
        stage.run(config, workspace, Silent())
    fuse.run(config_of(workspace, "svm", "svm"), workspace, Silent())
    fuse.run(config_of(workspace, "thermal", "thermal"), workspace, Silent())
    return workspace


def fitted_of(workspace: Workspace, name: str):
    return load_fitted(workspace.run(name) / "model", workspace)


# Grad-CAM of a trained fusion run


def test_grad_cam_of_a_trained_fusion_run(workspace: Workspace) -> None:
    fitted = fitted_of(workspace, "network")
    assert network_inside(fitted) is not None
    with StoredCohort(workspace.dataset("cohort")) as source:
        cams = [explain_exam(fitted, source, row, view) for view in VIEWS for row in range(4)]
        shape = source.shape
        codes = codes_of(fitted, source, 0)
    assert codes["Left"].shape == (1, 8, 12, 32)  # v2: an eighth of 64 x 96
    for cam in cams:
        assert cam.shape == (2, 3)  # two poolings before the last convolution
        assert np.isfinite(cam).all()
        assert np.abs(cam).max() in (0.0, pytest.approx(1.0))
        full = stretched(cam, shape)
        assert full.shape == shape
        if cam.any():  # the place of the peak is the same in the map and on the thermogram
            peak = np.array(np.unravel_index(np.abs(full).argmax(), full.shape)) / shape * cam.shape
            assert abs(cam[tuple(peak.astype(int))]) == pytest.approx(1.0)
    assert any(cam.any() for cam in cams)


def test_grad_cam_reads_what_the_network_reads(workspace: Workspace) -> None:
    """With ``features.relative`` the network never sees absolute degrees; neither may its map."""
    fitted = fitted_of(workspace, "network")
    relative = replace(fitted, preparation=fitted.preparation.model_copy(update={"relative": True}))
    with StoredCohort(workspace.dataset("cohort")) as source:
        seen = prepare(source, relative.preparation)
        np.testing.assert_array_equal(
            codes_of(relative, source, 2)["Left"], codes_of(fitted, seen, 2)["Left"]
        )  # fmt: skip
        assert not np.allclose(codes_of(relative, source, 2)["Left"], codes_of(fitted, source, 2)["Left"])


def test_a_random_network_leaves_the_trained_one_as_it_was(workspace: Workspace) -> None:
    fitted = fitted_of(workspace, "network")
    with StoredCohort(workspace.dataset("cohort")) as source:
        before = explain_exam(fitted, source, 1, "Frontal")
        other = explain_at_random(fitted, source, 1, "Frontal", seed=3)
        assert other.shape == before.shape
        np.testing.assert_array_equal(explain_at_random(fitted, source, 1, "Frontal", seed=3), other)
        assert not np.array_equal(explain_at_random(fitted, source, 1, "Frontal", seed=4), other)
        np.testing.assert_array_equal(explain_exam(fitted, source, 1, "Frontal"), before)


def test_the_report_of_a_fusion_network_shows_both_maps_of_every_view(workspace: Workspace) -> None:
    config = config_of(workspace, "network", "network")
    evaluate.run(config, workspace, Silent())
    facts = json.loads((workspace.run("network") / "report.json").read_text())["explanation"]
    assert facts["methods"] == ["occlusion", "Grad-CAM"]
    assert facts["views"] == list(VIEWS)
    for name in ("sanity", "sanity_grad_cam"):
        assert facts[name]["exams"] > 0
        assert -1 <= facts[name]["mean_rank_correlation"] <= 1
    assert facts["pointing"]["exams"] > len(VIEWS)
    assert "Grad-CAM against the same network with random weights" in facts["note"]
    page = (workspace.run("network") / "report.html").read_text()
    shown = {
        (method, view): len(re.findall(f'alt="{method} map of exam [^"]*, {view} view"', page))
        for method in ("Occlusion", "Grad-CAM")
        for view in VIEWS
    }
    assert len(set(shown.values())) == 1
    assert shown["Grad-CAM", "Left"] >= 2


def test_the_first_view_alone_where_that_is_asked_for(workspace: Workspace) -> None:
    run = read_run(workspace, "svm")
    judged = judge(run, config_of(workspace, "svm", "svm").evaluate, 0)
    one, every = (explain_run(judged, workspace, Silent(), first_only=first) for first in (True, False))
    assert one.facts["views"] == ["Frontal"]
    assert len(every.pictures) == 3 * len(one.pictures) > 0
    assert {picture["caption"].rpartition("; ")[2] for picture in every.pictures} == set(VIEWS)


# left and right


@pytest.mark.parametrize(
    ("view", "sides"), [("Frontal", "both"), ("Right45", "both"), ("Right", "one"), ("Left", "one")]
)
def test_maps_are_marked_left_and_right(view: str, sides: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    celsius, effect = 30 + random.random((96, 128)), random.normal(size=(96, 128))
    marked = decoded(heatmap.draw_heatmap(celsius, effect, view, unit="x"))
    monkeypatch.setattr(heatmap, "mark_sides", lambda axes, view: None)
    plain = decoded(heatmap.draw_heatmap(celsius, effect, view, unit="x"))
    changed = np.flatnonzero((marked != plain).any(axis=(0, 2))) / plain.shape[1]
    left, right = bool((changed < 0.4).any()), bool((changed > 0.6).any())
    assert not ((changed > 0.4) & (changed < 0.6)).any()
    if sides == "both":
        assert left
        assert right
    else:
        assert left != right


def decoded(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR).astype(int)


# one exam many times over: what does not vary is computed once


@pytest.mark.parametrize("name", ["svm", "network", "thermal"])
def test_unvaried_views_are_computed_once_and_give_the_same_scores(workspace: Workspace, name: str) -> None:
    fitted = fitted_of(workspace, name)
    with StoredCohort(workspace.dataset("cohort")) as source:
        exam = {view: centi_celsius(source, view, np.array([3]))[0] for view in VIEWS}
        described = source.exams[3]
    varied = np.stack([exam["Frontal"], exam["Frontal"] + 40, exam["Frontal"][::-1]])
    count = len(varied)
    broadcast = {view: np.broadcast_to(each, (count, *each.shape)) for view, each in exam.items()}
    lean = ArrayCohort((described,) * count, broadcast | {"Frontal": varied})
    full = ArrayCohort((described,) * count, {view: np.array(each) for view, each in lean.matrices.items()})
    assert [all_alike(lean, view) for view in VIEWS] == [False, True, True]
    assert not any(all_alike(full, view) for view in VIEWS)
    rows = np.arange(count)
    np.testing.assert_allclose(fitted.scores(lean, rows), fitted.scores(full, rows), rtol=1e-5, atol=1e-7)
    assert len(np.unique(fitted.scores(full, rows))) == count


def test_occlusion_asks_for_copies_of_one_view_alone(workspace: Workspace) -> None:
    asked: list[dict[str, bool]] = []

    class Watching:
        def scores(self, source, rows):
            asked.append({view: all_alike(source, view) for view in source.views})
            return np.full(len(rows), 0.5)

        def save(self, folder):
            raise NotADirectoryError(folder)

    with StoredCohort(workspace.dataset("cohort")) as source:
        occlude(Watching(), source, 0, "Left", batch=8)
    assert len(asked) > 1
    assert all(each == {"Frontal": True, "Right": True, "Left": False} for each in asked[:-1])


# predict


@pytest.fixture(scope="module")
def new_exam(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new") / "visit"
    folder.mkdir()
    with StoredCohort(workspace.dataset("cohort")) as source:
        for view in VIEWS:
            centi = centi_celsius(source, view, np.array([0]))[0]
            (folder / f"{view}.txt").write_bytes(format_matrix(centi, "space2"))
    return folder


@pytest.mark.parametrize(("asked", "explained"), [("all", VIEWS), ("first", ("Frontal",))])
def test_predict_explains_the_views_that_are_asked_for(
    workspace: Workspace, new_exam: Path, tmp_path: Path, asked: str, explained: tuple[str, ...]
) -> None:
    page = tmp_path / "page.html"
    options = {"evaluate.exam": str(new_exam), "evaluate.page": str(page), "evaluate.explain_views": asked}
    predict.run(config_of(workspace, "svm", "svm", **options), workspace, Silent())
    text = page.read_text()
    for view in VIEWS:
        assert (f'alt="Thermogram, {view}, occlusion"' in text) == (view in explained)
        assert f"Thermogram, {view}, " in text


def test_the_command_offers_the_choice(workspace: Workspace, new_exam: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from thermocancer.cli import register

    page = tmp_path / "page.html"
    command = ["predict", str(new_exam), "--run", "thermal", "-w", str(workspace.root), "--html", str(page)]
    assert CliRunner().invoke(register(), command).exit_code == 0
    assert page.read_text().count(', occlusion"') == 3
    assert CliRunner().invoke(register(), [*command, "--explain-views", "first"]).exit_code == 0
    assert page.read_text().count(', occlusion"') == 1
    refused = CliRunner().invoke(register(), [*command, "--explain-views", "some"])
    assert refused.exit_code == 2
