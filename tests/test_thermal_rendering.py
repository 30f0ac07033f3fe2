"""Colours are those of matplotlib, and a matrix that is no thermogram is told from one that is."""

from __future__ import annotations

import numpy as np
import pytest

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.errors import ConfigError, DataError
from thermocancer.thermal.quality import judge_matrix, measure_matrix
from thermocancer.thermal.reading import to_centi
from thermocancer.thermal.rendering import colour_table, render, render_centi

CELSIUS = np.round(np.random.default_rng(1).uniform(17, 39, (48, 64)), 2)
FIXED = CelsiusRange(low=18, high=38)
SETTINGS = {"low": 5.0, "high": 45.0, "minimum_spread": 0.5}


@pytest.mark.parametrize("name", ["viridis", "prism", "jet", "hsv", "turbo", "Blues", "tab10"])
@pytest.mark.parametrize("limits", ["minmax", FIXED], ids=["minmax", "fixed"])
def test_pixels_are_those_of_matplotlib(name: str, limits: object) -> None:
    import matplotlib

    rendering = Rendering(colormap=name, range=limits)
    low, high = (CELSIUS.min(), CELSIUS.max()) if limits == "minmax" else (18, 38)
    position = np.clip((CELSIUS - low) / (high - low), 0, 1)
    expected = matplotlib.colormaps[name](position, bytes=True)[:, :, :3]
    coloured = render(CELSIUS, rendering)
    assert coloured.shape == (48, 64, 3)
    assert coloured.dtype == np.uint8
    # a colour may be the neighbour's where the position falls on a border to within rounding
    near = [matplotlib.colormaps[name](np.clip(position + d, 0, 1), bytes=True)[:, :, :3] for d in (-1 / 256, 1 / 256)]
    same = (coloured == expected).all(-1)
    assert same.mean() > 0.97
    assert (same | (coloured == near[0]).all(-1) | (coloured == near[1]).all(-1)).all()
    if name != "tab10":
        assert same.all()


@pytest.mark.parametrize(("lowest", "highest"), [(1680, 3776), (1607, 3603), (2360, 3472), (2496, 3178), (1978, 3476)])
def test_every_temperature_of_a_range_gets_matplotlibs_colour_at_the_edges_of_bins_too(lowest, highest) -> None:
    """Multiplying by 256 / range instead puts 1 or 2 temperatures of each of these ranges into the next bin."""
    import io

    import matplotlib.pyplot as plt

    centi = np.arange(lowest, highest + 1, dtype=np.uint16)[np.newaxis]
    file = io.BytesIO()
    plt.imsave(file, centi / 100.0, cmap="viridis", format="png")
    expected = (plt.imread(io.BytesIO(file.getvalue())) * 255).round().astype(np.uint8)[:, :, :3]
    assert np.array_equal(render_centi(centi, Rendering(range="minmax")), expected)
    assert np.array_equal(render(centi / 100.0, Rendering(range="minmax")), expected)


def test_gray_is_linear_and_loads_no_matplotlib() -> None:
    assert colour_table("gray").tolist() == [[level] * 3 for level in range(256)]


@pytest.mark.parametrize("limits", ["minmax", FIXED], ids=["minmax", "fixed"])
def test_hundredths_give_the_same_colours(limits: object) -> None:
    rendering = Rendering(colormap="jet", range=limits)
    centi = to_centi(CELSIUS)
    assert np.array_equal(render_centi(centi, rendering), render(CELSIUS, rendering))
    stack = np.stack([centi, centi[::-1] // 2 + 1000])
    each = np.stack([render_centi(matrix, rendering) for matrix in stack])
    assert np.array_equal(render_centi(stack, rendering), each)


def test_flat_matrix_has_no_minmax_range() -> None:
    flat = np.full((48, 64), 27.87)
    with pytest.raises(DataError, match="flat"):
        render(flat, Rendering(range="minmax"))
    with pytest.raises(DataError, match="flat"):
        render_centi(to_centi(flat), Rendering(range="minmax"))
    assert len(np.unique(render_centi(to_centi(flat), Rendering(range=FIXED)).reshape(-1, 3), axis=0)) == 1


def test_values_that_are_not_finite_cannot_be_coloured() -> None:
    with pytest.raises(DataError, match="not finite"):
        render(np.where(CELSIUS < 18, np.nan, CELSIUS), Rendering())


def test_unknown_colour_map_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="virids") as caught:
        colour_table("virids")
    assert "viridis" in str(caught.value.hint)


JUDGED = {
    "sound": (CELSIUS, ()),
    "flat": (np.full((48, 64), 27.87), ("flat",)),
    "nearly flat": (27 + 0.01 * np.sign(CELSIUS - 30), ("flat",)),
    "too cold": (np.where(CELSIUS < 17.5, 4.9, CELSIUS), ("out_of_range",)),
    "too hot": (np.where(CELSIUS > 38.5, 45.1, CELSIUS), ("out_of_range",)),
    "NaN": (np.where(CELSIUS < 17.5, np.nan, CELSIUS), ("not_finite",)),
    "infinite": (np.where(CELSIUS < 17.5, np.inf, CELSIUS), ("not_finite",)),
    "all NaN": (np.full((48, 64), np.nan), ("not_finite", "out_of_range", "flat")),
    "wrong shape": (CELSIUS[:40], ("wrong_shape",)),
    "several faults": (np.full((4, 4), 60.0), ("wrong_shape", "out_of_range", "flat")),
}


@pytest.mark.parametrize(("celsius", "codes"), JUDGED.values(), ids=JUDGED)
def test_quality_verdicts(celsius: np.ndarray, codes: tuple[str, ...]) -> None:
    verdicts = judge_matrix(celsius, **SETTINGS, shape=(48, 64))
    assert tuple(each.code for each in verdicts) == codes
    assert all(each.reason for each in verdicts)


def test_content_hash_ignores_the_layout_and_nothing_else() -> None:
    first = measure_matrix(CELSIUS).content
    assert measure_matrix(np.round(CELSIUS + 0.002, 5)).content == first
    assert measure_matrix(CELSIUS + 0.01).content != first
    assert measure_matrix(CELSIUS.reshape(64, 48)).content != first
