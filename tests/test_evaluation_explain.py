"""Heat maps: they find what the score hangs on, and the checks tell good maps from bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluation_fixtures import HOT_SPOT, pixels_config, toy_rows, toy_source, write_dataset

from thermocancer.data.cohort import centi_celsius
from thermocancer.data.split import make_split
from thermocancer.errors import ConfigError
from thermocancer.evaluation.explain.gradcam import explain_exam, grad_cam, last_convolution, log_odds_gradient
from thermocancer.evaluation.explain.occlusion import draw_heatmap, occlude, patches
from thermocancer.evaluation.explain.telling_exams import chance_to_hit, judge_pointing, map_similarity, points_at
from thermocancer.progress import Silent
from thermocancer.stages import evaluate, fuse
from thermocancer.workspace import Workspace


class HotSpot:
    """A classifier whose score is the warmth around one pixel: what its map must show is known."""

    def scores(self, source, rows):
        row, column = HOT_SPOT
        patch = centi_celsius(source, "Frontal", rows)[:, row - 3 : row + 4, column - 3 : column + 4] / 100.0
        return 1 / (1 + np.exp(-(patch.mean(axis=(1, 2)) - 32.5)))

    def save(self, folder):
        raise NotADirectoryError(folder)


def test_occlusion_finds_the_place_that_counts() -> None:
    rows = toy_rows(12, repeats=1)
    source = toy_source(rows)
    row = next(i for i, exam in enumerate(source.exams) if exam.label == 1)
    found = occlude(HotSpot(), source, row, "Frontal", grid=(6, 8), batch=5)
    assert found.score == pytest.approx(float(HotSpot().scores(source, np.array([row]))[0]))
    peak = found.peak(source.shape)
    assert np.hypot(peak[0] - HOT_SPOT[0], peak[1] - HOT_SPOT[1]) <= 8
    assert found.effect.shape == (6, 8)
    assert found.effect[0, 0] == 0.0  # a corner of the room is not occluded
    assert np.count_nonzero(np.abs(found.effect) > 1e-9) <= 4  # only patches that touch the place


def test_patches_cover_the_frame_once() -> None:
    covered = np.zeros((50, 63), int)
    for box in patches((50, 63), (6, 8)):
        covered[box] += 1
    assert (covered == 1).all()


def test_pictures_are_the_same_bytes_every_time() -> None:
    source = toy_source(toy_rows(4, repeats=1))
    celsius = source.matrices["Frontal"][0] / 100.0
    effect = np.linspace(-1, 1, celsius.size).reshape(celsius.shape)
    first, second = (draw_heatmap(celsius, effect, "Frontal", unit="x") for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_map_similarity_and_pointing() -> None:
    random = np.random.default_rng(0)
    one = random.random((6, 8))
    assert map_similarity(one, np.exp(3 * one)) == pytest.approx(1.0)
    assert abs(map_similarity(one, random.random((6, 8)))) < 0.4
    assert map_similarity(one, np.zeros((6, 8))) == 0.0
    mask = np.zeros((100, 100), bool)
    mask[40:50, 40:50] = True
    assert points_at((45, 45), mask)
    assert points_at((53, 45), mask)  # within five pixels
    assert not points_at((60, 45), mask)
    torso = np.ones((100, 100), bool)
    assert chance_to_hit(mask, torso) == pytest.approx((400 - 4 * 25 + np.pi * 25) / 10000, rel=0.08)
    judged = judge_pointing([True, False, True, True], [0.1, 0.2, 0.1, 0.2])
    assert (judged["hits"], judged["by_chance"]) == (3, pytest.approx(0.15))
    assert judge_pointing([], [])["share"]["value"] is None


@pytest.fixture(scope="module")
def network():
    from thermocancer.models.fusion import build_fusion

    return build_fusion({"Frontal": (8, 8, 3), "Left": (8, 8, 3)}, seed=3)


def test_gradients_against_finite_differences(network) -> None:
    import keras

    random = np.random.default_rng(2)
    inputs = [random.random((1, 8, 8, 3)).astype("float32") for _ in range(2)]
    layer = last_convolution(network, "Left")
    assert layer == "Left_conv_3"
    both = keras.Model(network.inputs, [network.get_layer(layer).output, network.output])
    maps = np.asarray(both(inputs, training=False)[0])
    gradient = log_odds_gradient(network, layer, maps, inputs)
    assert gradient.shape == maps.shape
    head = keras.Model([network.get_layer(layer).output, network.inputs[0]], network.output)

    def log_odds(values: np.ndarray) -> float:
        chance = float(np.asarray(head([values, inputs[0]], training=False), dtype=np.float64)[0, 0])
        return float(np.log(chance / (1 - chance)))

    for place in [(0, 0, 0, 0), (0, 1, 1, 1)]:
        step = np.zeros_like(maps)
        step[place] = 0.002
        assert gradient[place] == pytest.approx(
            (log_odds(maps + step) - log_odds(maps - step)) / 0.004, rel=0.1, abs=3e-4
        )


def test_a_sure_network_is_not_flat(network) -> None:
    """A probability of 1 to the last bit has no gradient; its log-odds have."""
    random = np.random.default_rng(4)
    inputs = {view: random.random((1, 8, 8, 3)).astype("float32") for view in ("Frontal", "Left")}
    last = network.get_layer("score")
    try:
        before = grad_cam(network, inputs, "Frontal_conv_3")
        last.bias.assign([100.0])
        assert float(np.asarray(network([inputs["Frontal"], inputs["Left"]], training=False))[0, 0]) == 1.0
        np.testing.assert_allclose(grad_cam(network, inputs, "Frontal_conv_3"), before, atol=1e-6)
        assert np.abs(before).max() == pytest.approx(1.0)
    finally:
        last.bias.assign([0.0])  # as it starts


def test_grad_cam_is_a_map_from_minus_1_to_1(network) -> None:
    random = np.random.default_rng(4)
    inputs = {view: random.random((1, 8, 8, 3)).astype("float32") for view in ("Frontal", "Left")}
    cam = grad_cam(network, inputs, "Frontal_conv_3")
    assert cam.shape == (2, 2)
    assert np.abs(cam).max() == pytest.approx(1.0)
    with pytest.raises(ConfigError, match="does not look at this view"):
        last_convolution(network, "Right")
    with pytest.raises(ConfigError, match="needs a network"):
        explain_exam(HotSpot(), toy_source(toy_rows(4, repeats=1)), 0, "Frontal")


def test_the_survey_of_a_run_points_at_the_simulated_tumour(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    source = toy_source(toy_rows(30, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(workspace, **{"evaluate.audit": False})
    make_split(source.exams, config.split, 0).write(workspace.split)
    for exam in source.exams:
        if exam.label == 1:
            mask = np.zeros(source.shape, np.uint8)
            cv2.circle(mask, HOT_SPOT[::-1], 4, 255, -1)
            path = workspace.raw / "truth" / exam.key / "Frontal.png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), mask)
    fuse.run(config, workspace, Silent())
    evaluate.run(config, workspace, Silent())
    facts = json.loads((workspace.run("pixels") / "report.json").read_text())["explanation"]
    assert facts["methods"] == ["occlusion"]
    assert facts["views"] == ["Frontal"]
    assert facts["pointing"]["exams"] > 5
    assert facts["pointing"]["share"]["value"] > 2 * facts["pointing"]["by_chance"]
    assert facts["sanity"]["exams"] == 3
    assert "Pointing score" in (workspace.run("pixels") / "report.html").read_text()
