"""The autoencoders, layer for layer."""

from __future__ import annotations

import numpy as np
import pytest

from thermocancer import strategy
from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError
from thermocancer.models.autoencoder import build_autoencoder, code_shape, encoder_of, random_encoder
from thermocancer.models.layers import initialise


@pytest.fixture(autouse=True)
def running() -> strategy.Running:
    return strategy.set_up(StrategySection(backend="tensorflow"), seed=0)


def convolution(inputs: int, filters: int) -> int:
    return 9 * inputs * filters + filters


ENCODER = convolution(3, 8) + convolution(8, 16) + convolution(16, 32)
DECODER = {"v1": convolution(32, 32) + convolution(32, 16) + convolution(16, 3)}
DECODER["v2"] = DECODER["v1"]  # a transposed convolution has as many weights


@pytest.mark.parametrize("variant", ["v1", "v2"])
def test_parameters_of_the_original(variant: str) -> None:
    model = build_autoencoder(variant, (480, 640), 3)
    assert model.count_params() == ENCODER + DECODER[variant] == 20_339
    assert encoder_of(model).count_params() == ENCODER == 6_032


@pytest.mark.parametrize(
    ("variant", "layers"),
    [
        (
            "v1",
            [
                ("Conv2D", (480, 640, 8)), ("MaxPooling2D", (240, 320, 8)), ("Conv2D", (240, 320, 16)),
                ("MaxPooling2D", (120, 160, 16)), ("Conv2D", (120, 160, 32)), ("Conv2D", (120, 160, 32)),
                ("UpSampling2D", (240, 320, 32)), ("Conv2D", (240, 320, 16)), ("UpSampling2D", (480, 640, 16)),
                ("Conv2D", (480, 640, 3)),
            ],
        ),
        (
            "v2",
            [
                ("Conv2D", (240, 320, 8)), ("Conv2D", (120, 160, 16)), ("Conv2D", (60, 80, 32)),
                ("Conv2DTranspose", (120, 160, 32)), ("Conv2DTranspose", (240, 320, 16)),
                ("Conv2DTranspose", (480, 640, 3)),
            ],
        ),
    ],
    ids=["v1", "v2"],
)  # fmt: skip
def test_layers_of_the_original(variant: str, layers: list[tuple[str, tuple[int, ...]]]) -> None:
    import keras

    model = build_autoencoder(variant, (480, 640), 3)
    assert [(type(each).__name__, each.output.shape[1:]) for each in model.layers[1:]] == layers
    for layer in model.layers[1:]:
        if "Conv" in type(layer).__name__:
            assert layer.kernel_size == (3, 3)
            assert layer.padding == "same"
            assert layer.activation is keras.activations.relu


@pytest.mark.parametrize("variant", ["v1", "v2", "v3"])
@pytest.mark.parametrize(("shape", "channels"), [((48, 64), 3), ((40, 24), 1)])
def test_image_in_image_out(variant: str, shape: tuple[int, int], channels: int) -> None:
    model = build_autoencoder(variant, shape, channels)
    assert model.output_shape == model.input_shape == (None, *shape, channels)
    assert encoder_of(model).output_shape[1:] == code_shape(variant, shape)


def test_the_better_variant_has_the_smaller_code() -> None:
    sizes = {variant: np.prod(code_shape(variant, (480, 640))) for variant in ("v1", "v2", "v3")}
    assert sizes["v3"] <= sizes["v2"] == 153_600 < sizes["v1"] == 614_400


@pytest.mark.parametrize(("variant", "shape"), [("v2", (60, 80)), ("v1", (42, 64)), ("v3", (4, 8)), ("v9", (8, 8))])
def test_shapes_that_do_not_fit_are_refused(variant: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        build_autoencoder(variant, shape, 1)


def test_a_seed_is_a_network() -> None:
    one, same, other = (random_encoder("v2", (16, 16), 1, seed) for seed in (1, 1, 2))
    for a, b in zip(one.weights, same.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert not np.array_equal(np.asarray(one.weights[0]), np.asarray(other.weights[0]))


def test_first_weights_follow_their_distribution() -> None:
    import keras

    model = keras.Sequential([keras.Input((5, 40)), keras.layers.LSTM(30), keras.layers.Dense(50)])
    initialise(model, 4)
    lstm, dense = model.layers
    kernel = np.asarray(dense.kernel)
    limit = np.sqrt(6 / 80)
    assert abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    recurrent = np.asarray(lstm.cell.recurrent_kernel)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(30), atol=1e-5)
    assert np.asarray(lstm.cell.bias)[30:60].tolist() == [1.0] * 30, "the forget gate starts open"
