"""Grad-CAM of the fusion network: which parts of a view's code its score hangs on.

Selvaraju et al. 2017 (ICCV): the last convolution's maps, weighted by the mean gradient of the score.
Gradients come from whichever backend Keras runs on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from thermocancer.data.exams import ExamSource, FloatArray
from thermocancer.errors import ConfigError


def network_inside(fitted: Any) -> Any | None:
    """The fitted fusion network (its Keras model, its encoders), or None for any other classifier."""
    inner = getattr(fitted, "model", None)
    return inner if hasattr(inner, "encoders") and hasattr(inner, "shapes") else None


def explain_exam(fitted: Any, source: ExamSource, row: int, view: str) -> FloatArray:
    """Grad-CAM map of one exam's view, (height, width) of the last convolution, from 0 to 1.

    Raises ConfigError for a classifier without a convolutional network.
    """
    network = network_inside(fitted)
    if network is None:
        raise ConfigError("Grad-CAM needs a network", expected="a run with fuse.model: network", hint="use occlusion")
    codes = {}
    for name, encoder in network.encoders.items():
        _, code = next(iter(encoder.codes(source, name, np.array([row], dtype=np.int64))))
        codes[name] = code.reshape(1, *network.shapes[name])
    network.model.set_weights(network.weights)
    return grad_cam(network.model, codes, last_convolution(network.model, view))


def last_convolution(model: Any, view: str) -> str:
    """Name of the last convolution in a view's branch. Raises ConfigError where the view has none."""
    names = [layer.name for layer in model.layers if layer.name.startswith(f"{view}_conv_")]
    if not names:
        raise ConfigError("the network does not look at this view", expected="a view of the run", found=view)
    return max(names, key=lambda name: int(name.rpartition("_")[2]))


def grad_cam(model: Any, inputs: dict[str, Any], layer: str) -> FloatArray:
    """Grad-CAM of a functional Keras model with one sigmoid output, for inputs (1, ...) by name.

    The gradient is that of the log-odds, so that a sure score is not flat. Returns (height, width), largest 1.
    """
    import keras

    features = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    ordered = [np.asarray(inputs[each.name], dtype=np.float32) for each in model.inputs]
    maps, score = (np.asarray(each) for each in features(ordered, training=False))
    gradient = output_gradient(model, layer, maps, ordered)
    chance = float(np.clip(score.ravel()[0], 1e-6, 1 - 1e-6))
    weights = gradient[0].mean(axis=(0, 1)) / (chance * (1 - chance))  # d log-odds = d score / (p (1 - p))
    cam = np.maximum(np.asarray(maps[0], dtype=np.float64) @ weights, 0.0)
    peak = float(cam.max())
    return cam / peak if peak > 0 else cam


def output_gradient(model: Any, layer: str, maps: Any, inputs: list[Any]) -> FloatArray:
    """Gradient of the output with respect to a layer's maps, the other inputs held. Shape of ``maps``."""
    import keras

    others = [tensor for tensor in model.inputs if not _feeds(model, tensor, layer)]
    pairs = zip(model.inputs, inputs, strict=True)
    kept = [keras.ops.convert_to_tensor(value) for tensor, value in pairs if any(tensor is each for each in others)]
    head = keras.Model([model.get_layer(layer).output, *others], model.output)
    if keras.backend.backend() == "jax":
        return _gradient_jax(head, maps, kept)
    return _gradient_tensorflow(head, maps, kept)


def _feeds(model: Any, tensor: Any, layer: str) -> bool:
    """Does this input reach the layer? By its view's name, as the branches are named."""
    return str(layer).startswith(f"{tensor.name}_") or len(model.inputs) == 1


def _gradient_tensorflow(head: Any, maps: Any, kept: list[Any]) -> FloatArray:
    import tensorflow as tf

    variable = tf.convert_to_tensor(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        output = head([variable, *kept], training=False)
    return np.asarray(tape.gradient(output, variable), dtype=np.float64)


def _gradient_jax(head: Any, maps: Any, kept: list[Any]) -> FloatArray:
    import jax

    trainable = [variable.value for variable in head.trainable_variables]
    fixed = [variable.value for variable in head.non_trainable_variables]

    def score(values: Any) -> Any:
        output, _ = head.stateless_call(trainable, fixed, [values, *kept], training=False)
        return output.sum()

    return np.asarray(jax.grad(score)(maps), dtype=np.float64)
