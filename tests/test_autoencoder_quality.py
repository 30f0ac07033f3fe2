"""How well autoencoders reconstruct: the measures, the figure, and that v3 beats v2 with the smaller code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import body

from thermocancer import strategy
from thermocancer.config.learning import AutoencoderSection, InputSection, StrategySection
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.errors import DataError
from thermocancer.evaluation.report.figures import draw_reconstructions
from thermocancer.models.autoencoder import build_autoencoder, code_shape, cosine_basis, random_encoder
from thermocancer.training.autoencoder import ViewExamples, course_of, hold_back, psnr, ssim
from thermocancer.training.fit import Compilation, FitSettings, compile_model, fit_resumable


def images(seed: int = 0, shape: tuple[int, ...] = (2, 24, 32, 3)) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((3, 8, 8, 1), np.float32)
    found = truth + np.array([0.1, 0.01, 0.0], np.float32).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(psnr(truth, found), [20, 40, np.inf], rtol=1e-5)


def test_ssim_of_flat_images_is_its_light_term() -> None:
    a, b = np.full((1, 16, 16, 1), 0.4, np.float32), np.full((1, 16, 16, 1), 0.6, np.float32)
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-5)


def test_ssim_is_one_for_equal_symmetric_and_falls_with_noise() -> None:
    truth = images()
    noise = images(1) - 0.5
    np.testing.assert_allclose(ssim(truth, truth), 1)
    np.testing.assert_allclose(ssim(truth, truth + noise), ssim(truth + noise, truth))
    falling = [ssim(truth, truth + share * noise).mean() for share in (0.1, 0.3, 1.0)]
    assert falling == sorted(falling, reverse=True)


def test_the_cosine_basis_is_orthonormal() -> None:
    for channels in (1, 3):
        basis = cosine_basis(32, channels).reshape(-1, 32)
        np.testing.assert_allclose(basis.T @ basis, np.eye(32), atol=1e-12)


def cohort(count: int = 30) -> ArrayCohort:
    exams = tuple(Exam(patient, 1, patient % 2) for patient in range(count))
    return ArrayCohort(exams, {"Frontal": np.stack([body(seed) for seed in range(count)])})


@pytest.mark.parametrize("kind", ["celsius", "rgb"])
def test_v3_reconstructs_better_than_v2_from_a_smaller_code(tmp_path: Path, kind: str) -> None:
    running = strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    source, section = cohort(), InputSection(kind=kind)
    train, validate = hold_back(source, np.arange(30), 0.3, seed=1)
    losses = {}
    for variant in ("v2", "v3"):
        course = course_of(AutoencoderSection(variant=variant, epochs=4), len(train))
        model = build_autoencoder(variant, source.shape, 1 if kind == "celsius" else 3, seed=1)
        compile_model(model, Compilation("mse"), running)
        result = fit_resumable(
            model, ViewExamples(source, "Frontal", train, section), folder=tmp_path / variant,
            validation=ViewExamples(source, "Frontal", validate, section), running=running,
            settings=FitSettings(course.epochs, course.batch, 1, schedule=course.schedule),
        )  # fmt: skip
        losses[variant] = min(row["val_loss"] for row in result.history)
    assert losses["v3"] < losses["v2"] / 3
    assert np.prod(code_shape("v3", source.shape)) * 2 == np.prod(code_shape("v2", source.shape))


def test_the_untrained_twin_of_v3_is_random() -> None:
    strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    trained_start = build_autoencoder("v3", (16, 16), 1, seed=1).get_layer("read_blocks").kernel
    twin = random_encoder("v3", (16, 16), 1, seed=1).get_layer("read_blocks").kernel
    assert not np.allclose(np.asarray(trained_start), np.asarray(twin))


def test_held_back_patients_do_not_train() -> None:
    exams = tuple(Exam(row // 3, row % 3, 0) for row in range(30))
    source = ArrayCohort(exams, {"Frontal": np.zeros((30, 8, 8), np.uint16)})
    train, validate = hold_back(source, np.arange(30), 0.15, seed=3)
    assert sorted([*train, *validate]) == list(range(30))
    assert {row // 3 for row in validate} & {row // 3 for row in train} == set()
    assert len(validate) == 6
    with pytest.raises(DataError, match="too few patients"):
        hold_back(source, np.arange(3), 0.15, seed=3)


@pytest.mark.parametrize(
    ("given", "images", "epochs", "batch"),
    [
        ({}, 1000, 4, 1),
        ({}, 50, 8, 1),
        ({}, 2, 40, 1),
        ({"variant": "v1"}, 1000, 3, 1),
        ({"schedule": "constant"}, 50, 40, 32),
        ({"schedule": "constant", "variant": "v1"}, 50, 20, 32),
        ({"epochs": 7, "batch": 5}, 50, 7, 5),
    ],
)
def test_the_course_of_a_training(given: dict[str, object], images: int, epochs: int, batch: int) -> None:
    course = course_of(AutoencoderSection(**given), images)  # type: ignore[arg-type]
    assert (course.epochs, course.batch) == (epochs, batch)


def test_the_figure_is_a_function_of_its_arrays(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_reconstructions(tmp_path / f"{name}.png", images(0), images(1), ["exam 1_1", "exam 2_1"], "two")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
