"""Classifiers of single images: the network of the second original study, and better ones.

All take RGB (or gray) in [0, 1], float32 (n, H, W, C), and give the probability of the positive
class, (n, 1), float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config.learning import CnnSection
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import check_self_contained, reading
from thermocancer.models.layers import start_from

if TYPE_CHECKING:
    import h5py
    import keras


STUDY_PARAMETERS = 109_073
STUDY_FILTERS = (16, 16, 32, 32, 64, 64)
POOLED_FILTERS = (16, 32, 64, 128)
HE_UNIFORM = "dense_64"
"""The one layer that the study does not start as Keras does by default."""

MOMENTUM = 0.8
"""Of batch normalisation: a small folder has few steps, and Keras' 0.99 would still remember its start."""


def build_classifier(config: CnnSection, *, backbone: keras.Model | None = None) -> keras.Model:
    """The network of ``cnn.model`` for images of ``cnn.size``. ``backbone`` is needed for ``backbone`` alone.

    Raises ConfigError when the images are too small for the network.
    """
    depth = 3 if config.color == "rgb" else 1
    if config.model == "study":
        return study_network((*config.size, depth))
    if config.model == "pooled":
        return pooled_network((*config.size, depth))
    if backbone is None:
        raise ConfigError("cnn.model: backbone needs a backbone", where="cnn.backbone")
    return on_backbone(backbone, (*config.size, depth), backbone_head(backbone.output_shape[-1]))


def study_network(shape: tuple[int, int, int] = (331, 331, 3)) -> keras.Model:
    """The original network: 109,073 parameters for 331x331 RGB; six times convolution and pooling, then two layers."""
    import keras

    _check_size(shape)
    inputs = keras.Input(shape, name="image")  # (n, 331, 331, 3)
    x = inputs
    for number, filters in enumerate(STUDY_FILTERS, start=1):
        x = keras.layers.Conv2D(filters, 3, activation="relu", name=f"conv_{number}")(x)  # valid: 2 rows less
        x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)  # 329 -> 164, 81, 39, 18, 8, 3
    x = keras.layers.Flatten(name="flatten")(x)  # (n, 576)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    x = keras.layers.Dense(64, activation="relu", kernel_initializer="he_uniform", name=HE_UNIFORM)(x)
    x = keras.layers.Dense(1, name="logit")(x)
    x = keras.layers.Activation("sigmoid", dtype="float32", name="probability")(x)  # (n, 1)
    return keras.Model(inputs, x, name="study")


def _check_size(shape: tuple[int, int, int]) -> None:
    for length in shape[:2]:
        left = length
        for _ in STUDY_FILTERS:
            left = (left - 2) // 2
        if left < 1:
            raise ConfigError(
                "the images are too small for the study's network", where="cnn.size", expected="190 or more",
                found=f"{shape[0]}x{shape[1]}", hint="set cnn.model: pooled, which takes any size",
            )  # fmt: skip


def pooled_network(shape: tuple[int, int, int]) -> keras.Model:
    """Four strided steps with batch normalisation, then averaged: any size, an eighth of the work."""
    import keras

    inputs = keras.Input(shape, name="image")  # (n, H, W, C)
    x = inputs
    for number, filters in enumerate(POOLED_FILTERS, start=1):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv_{number}")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"norm_{number}")(x)
        x = keras.layers.ReLU(name=f"relu_{number}")(x)  # (n, H/2^k, W/2^k, filters)
    average = keras.layers.GlobalAveragePooling2D(name="average")(x)
    most = keras.layers.GlobalMaxPooling2D(name="most")(x)  # a small bright spot vanishes in an average
    x = keras.layers.Concatenate(name="pooled")([average, most])  # (n, 256)
    return keras.Model(inputs, _decide(x), name="pooled")


def backbone_head(features: int) -> keras.Model:
    """Pooled features of a frozen backbone (n, F) to the probability (n, 1)."""
    import keras

    inputs = keras.Input((features,), name="features")
    x = keras.layers.BatchNormalization(momentum=MOMENTUM, name="normalise")(inputs)
    return keras.Model(inputs, _decide(x), name="backbone_head")


def on_backbone(backbone: keras.Model, shape: tuple[int, int, int], head: keras.Model) -> keras.Model:
    """Image in [0, 1] to probability: what backbones take (raw RGB, 0 to 255), their features, ``head``."""
    import keras

    inputs = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(255.0, name="raw")(inputs)
    if shape[-1] == 1:
        x = keras.layers.Concatenate(name="as_rgb")([x, x, x])
    return keras.Model(inputs, head(backbone(x)), name=f"{backbone.name}_classifier")


def start_classifier(model: keras.Model, seed: int) -> None:
    """First weights and dropout as drawn from ``seed``: Keras' own kinds of start, and the study's for one layer."""
    start_from(model, seed)
    kernel = model.get_layer(HE_UNIFORM).kernel
    limit = np.sqrt(6.0 / kernel.shape[0])
    kernel.assign(np.random.default_rng([seed, 6003]).uniform(-limit, limit, kernel.shape).astype(np.float32))


def without_dense_layers(model: keras.Model) -> keras.Model:
    """From image to what the dense layers are given, (n, F)."""
    import keras

    return keras.Model(model.input, model.get_layer(HE_UNIFORM).input)


def _decide(x: keras.KerasTensor) -> keras.KerasTensor:
    import keras

    x = keras.layers.Dropout(0.2, name="dropout")(x)
    x = keras.layers.Dense(64, activation="relu", kernel_initializer="he_uniform", name=HE_UNIFORM)(x)
    x = keras.layers.Dense(1, name="logit")(x)
    return keras.layers.Activation("sigmoid", dtype="float32", name="probability")(x)


# --- weights of Keras 2 HDF5 files, put into a network of Keras 3 layer by layer ---


@dataclass(frozen=True)
class OldLayer:
    """One layer that has weights: its name and arrays in the file's order."""

    name: str
    arrays: tuple[npt.NDArray[np.generic], ...]


def read_old_weights(path: Path) -> list[OldLayer]:
    """The layers with weights of a Keras 1 or 2 HDF5 file (a whole model or weights alone), in order.

    Raises DataError when the file is missing, damaged, or is no such file.
    """
    import h5py

    if not path.is_file():
        raise DataError("the weights file is not there", where=path, hint="correct cnn.init")
    with (
        reading(path, "the weights file is damaged or no HDF5 file"),
        h5py.File(path, "r", locking=False) as file,
    ):
        check_self_contained(file, path)
        group = file.get("model_weights", file)
        if "layer_names" not in group.attrs:
            raise DataError("this is not a Keras 2 weights file", where=path, expected="the attribute layer_names",
                            found=", ".join(sorted(file)[:6]))  # fmt: skip
        return [layer for name in _texts(group, "layer_names") for layer in _layers(group[name])]


def _layers(group: h5py.Group) -> list[OldLayer]:
    """The layers of one group: several when it stands for a model inside the model, none without weights."""
    arrays: dict[str, list[npt.NDArray[np.generic]]] = {}
    for name in _texts(group, "weight_names"):  # conv2d/kernel:0
        arrays.setdefault(name.rpartition("/")[0], []).append(np.asarray(group[name]))
    return [OldLayer(name, tuple(each)) for name, each in arrays.items()]


def _texts(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; Keras cuts lists that do not fit an attribute into ``name0``, ``name1``, ..."""
    values = list(group.attrs[attribute]) if attribute in group.attrs else []
    number = 0
    while f"{attribute}{number}" in group.attrs:
        values += list(group.attrs[f"{attribute}{number}"])
        number += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def load_old_weights(model: keras.Model, path: Path) -> list[str]:
    """Fill ``model`` with the file's weights; returns one line a layer, ``file layer -> model layer, shapes``.

    Raises DataError that lists every layer that does not fit; ``model`` is then unchanged.
    """
    found = read_old_weights(path)
    wanted = [layer for layer in model.layers if layer.weights]
    problems = []
    if len(found) != len(wanted):
        problems.append(f"{len(found)} layers with weights ({', '.join(layer.name for layer in found)})")
    for old, layer in zip(found, wanted, strict=False):
        expected = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in old.arrays] != expected:
            problems.append(f"{old.name} has {_shapes(old.arrays)} where {layer.name} needs {expected}")
    if problems:
        raise DataError(
            "the old weights do not fit this network", where=path,
            expected=f"{len(wanted)} layers with weights, {model.count_params():,} parameters",
            found="; ".join(problems),
            hint="set cnn.model, cnn.size and cnn.color to those the weights were made with",
        )  # fmt: skip
    for layer, old in zip(wanted, found, strict=True):
        layer.set_weights(list(old.arrays))
    return [f"{old.name} -> {layer.name}, {_shapes(old.arrays)}" for layer, old in zip(wanted, found, strict=True)]


def _shapes(arrays: tuple[npt.NDArray[np.generic], ...]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]
