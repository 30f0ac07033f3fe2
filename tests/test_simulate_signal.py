"""What can be learnt from a cohort: everything where the tumour is plain, nothing where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.cohort import draw_cohort
from thermocancer.phantom.exam import make_scene, matrices

CALM = SimulateSection(
    patients=24, sick_fraction=0.5, shape=(48, 64), dynamic=False, mottle=0.0, vessels=0.0, asymmetry=0.0,
    framing=0.0, missing_views=0.0, repeated_views=0.0, second_visits=0.0,
)  # fmt: skip


def frontals(settings: SimulateSection, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Frontal matrices in degC (n, height, width) and who is sick (n)."""
    visits = draw_cohort(settings, seed)
    pictures = [
        next(each.centi for each in matrices(make_scene(settings, seed, visit)) if each.view == "Frontal")
        for visit in visits
    ]
    return np.array(pictures) / 100.0, np.array([visit.label == "sick" for visit in visits])


def asymmetry(pictures: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strongest difference between a breast and the other one, after smoothing."""
    difference = pictures - pictures[:, :, ::-1]
    region = difference[:, 12:38, 10:54]
    return np.array([np.abs(gaussian_filter(each, 1.5)).max() for each in region])


def auc_with_interval(scores: NDArray[np.float64], sick: NDArray[np.bool_]) -> tuple[float, float, float]:
    def auc(rows: NDArray[np.int64]) -> float:
        a, b = scores[rows][sick[rows]], scores[rows][~sick[rows]]
        difference = a[:, None] - b[None, :]
        return float((difference > 0).mean() + (difference == 0).mean() / 2)

    rng = np.random.default_rng(0)
    everyone = np.arange(len(sick))
    draws = []
    while len(draws) < 400:
        rows = rng.integers(0, len(sick), len(sick))
        if 0 < sick[rows].sum() < len(sick):
            draws.append(auc(rows))
    low, high = np.percentile(draws, [2.5, 97.5])
    return auc(everyone), float(low), float(high)


@pytest.mark.parametrize("contrast", [0.5, 1.0])
def test_a_plain_tumour_is_found(contrast: float) -> None:
    pictures, sick = frontals(CALM.model_copy(update={"contrast": contrast}))
    assert auc_with_interval(asymmetry(pictures), sick)[0] >= 0.99


@pytest.mark.parametrize("contrast", [0.0, 0.002])
def test_a_tumour_far_below_the_noise_is_not(contrast: float) -> None:
    pictures, sick = frontals(CALM.model_copy(update={"contrast": contrast}))
    _, low, high = auc_with_interval(asymmetry(pictures), sick)
    assert low <= 0.5 <= high


def test_recovery_is_that_of_real_exams() -> None:
    """Real healthy exams warm by .47 degC on average from the first to the last frame."""
    settings = SimulateSection(
        patients=24, sick_fraction=0.25, shape=(48, 64), static=False, missing_frames=0.0, second_visits=0.0
    )
    gains: dict[str, list[float]] = {"healthy": [], "sick": []}
    for visit in draw_cohort(settings, 1):
        frames = [each.centi / 100.0 for each in matrices(make_scene(settings, 1, visit)) if each.view == "Frontal"]
        body = frames[-1] > 27
        gains[visit.label].append(float(frames[-1][body].mean() - frames[0][body].mean()))
        middle = float(frames[10][body].mean() - frames[0][body].mean())
        # fast at first, slower later
        assert middle > 0.55 * gains[visit.label][-1]
    assert 0.37 < np.mean(gains["healthy"]) < 0.57
    assert abs(np.mean(gains["sick"]) - np.mean(gains["healthy"])) < 0.2
    assert min(gains["healthy"]) > 0.05
