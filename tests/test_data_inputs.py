"""What networks are fed: scaled temperatures and colours."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import ArrayCohort, Exam, centi_celsius
from thermocancer.data.inputs import input_channels, network_input
from thermocancer.errors import ConfigError
from thermocancer.thermal.rendering import render_centi

CELSIUS = InputSection(kind="celsius", rendering=Rendering(range=CelsiusRange(low=20, high=30)))


def source(n: int = 10) -> ArrayCohort:
    centi = np.random.default_rng(0).integers(1800, 3500, (n, 6, 8)).astype(np.uint16)
    centi[:, 0, 0] = 100 * np.arange(n) + 2000  # one pixel that tells the row: 20 degC, 21 degC, ...
    exams = tuple(Exam(row, 1, row % 2) for row in range(n))
    return ArrayCohort(exams, {"Frontal": centi, "Left": centi + np.uint16(100)})


def test_fixed_range_is_linear_in_degrees_and_clipped() -> None:
    data = source()
    found = network_input(data, "Frontal", np.array([3, 9]), CELSIUS)
    centi = data.matrices["Frontal"][[3, 9]].astype(float)
    assert found.shape == (2, 6, 8, 1)
    assert found.dtype == np.float32
    assert np.allclose(found[..., 0], np.clip((centi / 100 - 20) / 10, 0, 1), atol=1e-6)
    assert input_channels(CELSIUS) == 1


def test_minmax_uses_each_images_own_range() -> None:
    found = network_input(
        source(), "Frontal", np.arange(10), InputSection(kind="celsius", rendering=Rendering(range="minmax"))
    )
    assert np.allclose(found.min(axis=(1, 2, 3)), 0)
    assert np.allclose(found.max(axis=(1, 2, 3)), 1)


@pytest.mark.parametrize("colormap", ["viridis", "gray"])
def test_rgb_is_the_rendering_over_255(colormap: str) -> None:
    config = InputSection(kind="rgb", rendering=Rendering(colormap=colormap))
    data, rows = source(), np.array([2, 1])
    found = network_input(data, "Left", rows, config)
    expected = render_centi(centi_celsius(data, "Left", rows), config.rendering)
    assert found.dtype == np.float32
    assert np.array_equal(np.rint(found * 255).astype(np.uint8), expected)
    assert found.shape[-1] == input_channels(config) == 3


def test_degrees_of_a_data_set_of_images_are_refused() -> None:
    data = ArrayCohort((Exam(1, 1, 0),), {"Frontal": np.full((1, 1, 6, 8, 3), 51, np.uint8)})
    assert np.allclose(network_input(data, "Frontal", np.array([0, 0]), InputSection()), 0.2)
    with pytest.raises(ConfigError, match="no degrees"):
        network_input(data, "Frontal", np.array([0]), CELSIUS)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys\nimport thermocancer.data.inputs, thermocancer.data.store.reading, thermocancer.data.split\n"
        "import thermocancer.thermal.regions, thermocancer.data.store.sequences, thermocancer.stages.build_dataset\n"
        "print([name for name in ('keras', 'tensorflow', 'h5py', 'sklearn', 'scipy', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
