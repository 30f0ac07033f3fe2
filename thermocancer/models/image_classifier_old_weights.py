"""Weights of Keras 2 HDF5 files, put into a network of Keras 3 layer by layer.

Such a file holds, a layer, a group with its arrays; the network's own description may name layers
that Keras 3 refuses to build (a ``TFOpLambda`` sigmoid). So the description is not read: the arrays
are taken in the order of their layers and must fit the network's, shape by shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError

if TYPE_CHECKING:
    import h5py
    import keras


@dataclass(frozen=True)
class OldLayer:
    """One layer that has weights: its name and arrays in the file's order."""

    name: str
    arrays: tuple[npt.NDArray[Any], ...]


def read_old_weights(path: Path) -> list[OldLayer]:
    """The layers with weights of a Keras 1 or 2 HDF5 file (a whole model or weights alone), in order.

    Raises DataError when the file is missing, damaged, or is no such file.
    """
    import h5py

    if not path.is_file():
        raise DataError("the weights file is not there", where=path, hint="correct cnn.init")
    try:
        with h5py.File(path, "r", locking=False) as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise DataError("this is not a Keras 2 weights file", where=path, expected="the attribute layer_names",
                                found=", ".join(sorted(file)[:6]))  # fmt: skip
            return [layer for name in _texts(group, "layer_names") for layer in _layers(group[name])]
    except (OSError, KeyError) as error:
        raise DataError("the weights file is damaged or no HDF5 file", where=path, found=error) from error


def _layers(group: h5py.Group) -> list[OldLayer]:
    """The layers of one group: several when it stands for a model inside the model, none without weights."""
    arrays: dict[str, list[npt.NDArray[Any]]] = {}
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
    problems = _misfits(found, wanted)
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


def _misfits(found: list[OldLayer], wanted: list[Any]) -> list[str]:
    problems = []
    if len(found) != len(wanted):
        problems.append(f"{len(found)} layers with weights ({', '.join(layer.name for layer in found)})")
    for old, layer in zip(found, wanted, strict=False):
        expected = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in old.arrays] != expected:
            problems.append(f"{old.name} has {_shapes(old.arrays)} where {layer.name} needs {expected}")
    return problems


def _shapes(arrays: tuple[npt.NDArray[Any], ...]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays]
