"""First weights drawn with NumPy, so that a seed means the same network on every backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

CONSTANT_STARTS = {"bias": 0.0, "beta": 0.0, "gamma": 1.0, "moving_mean": 0.0, "moving_variance": 1.0}


def initialise(model: keras.Model, seed: int) -> None:
    """Give every layer of a Keras model its first weights, as drawn from ``seed``.

    Kernels: Glorot uniform (Glorot and Bengio 2010), Keras' own default; recurrent kernels:
    orthogonal. Biases and normalisation start at their constants, and so does a kernel whose own
    initializer is zero. Frozen layers are left alone, and so is any other weight. Keras draws from
    its backend's generator, which differs from backend to backend; this does not.
    """
    leaves = [layer for layer in model._flatten_layers(include_self=False) if not list(layer._layers)]
    for position, layer in enumerate(leaves):
        at_zero = type(getattr(layer, "kernel_initializer", None)).__name__ == "Zeros"
        # an LSTM's bias starts at one for its forget gate; Keras has set it already
        recurrent = any(variable.name == "recurrent_kernel" for variable in layer.weights)
        for variable in layer.weights:
            if not layer.trainable:
                continue
            if variable.name == "kernel" and at_zero:
                variable.assign(np.zeros(variable.shape, "float32"))
            elif variable.name == "kernel":
                variable.assign(_glorot_uniform(variable.shape, seed, position))
            elif variable.name == "recurrent_kernel":
                variable.assign(_orthogonal(variable.shape, seed, position))
            elif variable.name in CONSTANT_STARTS and not recurrent:
                variable.assign(np.full(variable.shape, CONSTANT_STARTS[variable.name], "float32"))


def start_from(model: keras.Model, seed: int) -> None:
    """First weights and dropout of a model as drawn from ``seed``, the same on every backend."""
    initialise(model, seed)
    for number, variable in enumerate(each for each in model.variables if each.name == "seed_generator_state"):
        variable.assign(np.array([seed % 2**32, number], dtype="uint32"))


def _glorot_uniform(shape: tuple[int, ...], seed: int, position: int) -> npt.NDArray[np.float32]:
    *receptive, inputs, outputs = shape
    size = math.prod(receptive)
    limit = math.sqrt(6.0 / (size * (inputs + outputs)))
    draw = np.random.default_rng([seed, position, 1]).uniform(-limit, limit, shape)
    return draw.astype(np.float32)


def _orthogonal(shape: tuple[int, ...], seed: int, position: int) -> npt.NDArray[np.float32]:
    rows, columns = shape
    normal = np.random.default_rng([seed, position, 2]).standard_normal((max(shape), min(shape)))
    basis, upper = np.linalg.qr(normal)
    basis *= np.sign(np.diag(upper))
    return (basis if rows >= columns else basis.T).astype(np.float32)
