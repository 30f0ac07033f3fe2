"""Convolutional autoencoders of one view: v1 and v2 of the original study, and v3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.errors import ConfigError
from thermocancer.models.layers import initialise

if TYPE_CHECKING:
    import keras

VARIANTS = ("v1", "v2", "v3")
REDUCTION = {"v1": 4, "v2": 8, "v3": 8}
"""How many times smaller the code is than the image, along each axis."""

CODE_CHANNELS = {"v1": 32, "v2": 32, "v3": 16}
V3_WIDTH = 32


def code_shape(variant: str, shape: tuple[int, int]) -> tuple[int, int, int]:
    """Height, width and channels of the code for an image of ``shape`` (rows, columns).

    >>> code_shape("v2", (480, 640))
    (60, 80, 32)
    """
    _check(variant, shape)
    step = REDUCTION[variant]
    return shape[0] // step, shape[1] // step, CODE_CHANNELS[variant]


def build_autoencoder(variant: str, shape: tuple[int, int], channels: int, *, seed: int = 0) -> keras.Model:
    """An uncompiled Keras model from images (n, height, width, channels) in [0, 1] to the same.

    v1 and v2 follow the original study layer for layer: every kernel 3x3, padding same, ReLU
    everywhere, the last layer included. (A bad start can therefore leave an output channel at zero
    for good: a dead ReLU. That is the original's, and is not repaired here.) The last layer computes
    in float32 whatever the precision. Raises ConfigError when the shape cannot be halved often enough.
    """
    import keras

    _check(variant, shape)
    image = keras.Input((*shape, channels), name="image")
    body = {"v1": _v1, "v2": _v2, "v3": _v3}[variant]
    model = keras.Model(image, body(image, channels), name=f"autoencoder_{variant}")
    restart(model, seed)
    return model


def restart(model: keras.Model, seed: int) -> None:
    """Give an autoencoder its first weights again: drawn from ``seed``, and for v3 the cosine basis."""
    initialise(model, seed)
    if model.name != "autoencoder_v3":
        return
    channels = model.output_shape[-1]
    basis = cosine_basis(V3_WIDTH, channels)
    code = CODE_CHANNELS["v3"]
    starts = {
        "read_blocks": basis,  # (8, 8, channels, width)
        "output": basis,  # a transposed convolution with the same kernel is the inverse
        "code": np.eye(V3_WIDTH, code)[None, None],
        "widen": np.eye(code, V3_WIDTH)[None, None],
    }
    for name, kernel in starts.items():
        model.get_layer(name).kernel.assign(kernel.astype(np.float32))


def encoder_of(model: keras.Model) -> keras.Model:
    """The part of an autoencoder from image to code, sharing its weights."""
    import keras

    return keras.Model(model.input, model.get_layer("code").output, name=f"{model.name}_encoder")


def random_encoder(variant: str, shape: tuple[int, int], channels: int, seed: int) -> keras.Model:
    """The untrained twin: the same encoder with random weights, never trained (v3 without its basis)."""
    model = build_autoencoder(variant, shape, channels, seed=seed)
    initialise(model, seed)
    return encoder_of(model)


def _check(variant: str, shape: tuple[int, int]) -> None:
    if variant not in VARIANTS:
        raise ConfigError(f"there is no autoencoder {variant!r}", expected=", ".join(VARIANTS), found=variant)
    step = REDUCTION[variant]
    if min(shape) < step or shape[0] % step or shape[1] % step:
        raise ConfigError(
            f"autoencoder {variant} halves its input until it is {step} times smaller",
            where="dataset.size",
            expected=f"rows and columns divisible by {step}",
            found=f"{shape[0]}x{shape[1]}",
            hint=f"for example --set 'dataset.size=[{_nearest(shape[0], step)},{_nearest(shape[1], step)}]'",
        )


def _nearest(length: int, step: int) -> int:
    return max(step, round(length / step) * step)


def _conv(filters: int, name: str, *, stride: int = 1) -> keras.layers.Layer:
    from keras import layers

    return layers.Conv2D(filters, 3, strides=stride, padding="same", activation="relu", name=name)


def _v1(image: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Shapes for 480x640x3."""
    from keras import layers

    x = _conv(8, "encode_1")(image)  # 480, 640, 8
    x = layers.MaxPooling2D(2, name="pool_1")(x)  # 240, 320, 8
    x = _conv(16, "encode_2")(x)  # 240, 320, 16
    x = layers.MaxPooling2D(2, name="pool_2")(x)  # 120, 160, 16
    x = _conv(32, "code")(x)  # 120, 160, 32
    x = _conv(32, "decode_1")(x)  # 120, 160, 32
    x = layers.UpSampling2D(2, name="up_1")(x)  # 240, 320, 32
    x = _conv(16, "decode_2")(x)  # 240, 320, 16
    x = layers.UpSampling2D(2, name="up_2")(x)  # 480, 640, 16
    return layers.Conv2D(channels, 3, padding="same", activation="relu", dtype="float32", name="output")(x)


def _v2(image: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Shapes for 480x640x3."""
    from keras import layers

    def up(filters: int, name: str, dtype: str | None = None) -> keras.layers.Layer:
        return layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation="relu", dtype=dtype, name=name)

    x = _conv(8, "encode_1", stride=2)(image)  # 240, 320, 8
    x = _conv(16, "encode_2", stride=2)(x)  # 120, 160, 16
    x = _conv(32, "code", stride=2)(x)  # 60, 80, 32
    x = up(32, "decode_1")(x)  # 120, 160, 32
    x = up(16, "decode_2")(x)  # 240, 320, 16
    return up(channels, "output", "float32")(x)  # 480, 640, 3


def _v3(image: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """A learned block code with half of v2's channels. Shapes for 480x640x3.

    The original spends its time where the image is largest, and its strided layers learn slowly to
    tell neighbouring pixels apart. Here one linear layer reads blocks of 8x8 pixels and one writes
    them; in between, residual blocks at an eighth of the size let neighbours talk. It starts as the
    cosine transform of each block (as in JPEG), so that training only has to improve on it.
    """
    from keras import layers

    def residual(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        y = layers.Conv2D(V3_WIDTH, 3, padding="same", activation="silu", name=f"{name}_in")(x)
        # zero at first: the block starts as the identity
        y = layers.Conv2D(V3_WIDTH, 3, padding="same", kernel_initializer="zeros", name=f"{name}_out")(y)
        return layers.Add(name=name)([x, y])

    x = layers.Conv2D(V3_WIDTH, 8, strides=8, name="read_blocks")(image)  # 60, 80, 32
    x = residual(x, "encode")  # 60, 80, 32
    x = layers.Conv2D(CODE_CHANNELS["v3"], 1, name="code")(x)  # 60, 80, 16
    x = layers.Conv2D(V3_WIDTH, 1, name="widen")(x)  # 60, 80, 32
    x = residual(x, "decode")  # 60, 80, 32
    return layers.Conv2DTranspose(channels, 8, strides=8, dtype="float32", name="output")(x)  # 480, 640, 3


def cosine_basis(count: int, channels: int) -> npt.NDArray[np.float64]:
    """The ``count`` smoothest cosine functions on 8x8 blocks, orthonormal, shape (8, 8, channels, count).

    DCT-II (Ahmed, Natarajan and Rao 1974), by ascending frequency; with three channels along grey and
    two opponent colours, the colours counted as two steps less smooth.
    """
    steps = np.arange(8)
    waves = np.sqrt(2 / 8) * np.cos(np.pi * (2 * steps[None] + 1) * steps[:, None] / 16)
    waves[0] /= np.sqrt(2)
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) if channels == 3 else np.ones((1, 1))
    colours = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    ranked = sorted((i + j + 2 * (k > 0), k, i, j) for k in range(len(colours)) for i in range(8) for j in range(8))
    return np.stack([np.outer(waves[i], waves[j])[..., None] * colours[k] for _, k, i, j in ranked[:count]], axis=-1)
