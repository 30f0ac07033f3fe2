"""Grad-CAM of the fusion network: which parts of a view's code its score hangs on.

Selvaraju et al. 2017 (ICCV): the last convolution's maps, weighted by the mean gradient of the score.
Gradients come from whichever backend Keras runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from thermocancer.data.cohort import Cohort, FloatArray
from thermocancer.errors import ConfigError

if TYPE_CHECKING:
    from thermocancer.classifiers.fusion_network import NetworkModel


def network_inside(fitted: Any) -> NetworkModel | None:
    """The fitted fusion network (its Keras model, its encoders), or None for any other classifier."""
    from thermocancer.classifiers.fusion_network import NetworkModel

    inner = getattr(fitted, "model", None)
    return inner if isinstance(inner, NetworkModel) else None


def explain_exam(fitted: Any, source: Cohort, row: int, view: str) -> FloatArray:
    """Grad-CAM map of one exam's view, (height, width) of the last convolution, from -1 to 1.

    Raises ConfigError for a classifier without a convolutional network.
    """
    network = _network_of(fitted)
    codes = codes_of(fitted, source, row)
    network.model.set_weights(network.weights)
    return grad_cam(network.model, codes, last_convolution(network.model, view))


def explain_at_random(fitted: Any, source: Cohort, row: int, view: str, seed: int) -> FloatArray:
    """The same map of the same network with random weights: what it shows without having learnt anything."""
    from thermocancer.models.layers import initialise

    network = _network_of(fitted)
    codes = codes_of(fitted, source, row)
    initialise(network.model, seed)
    try:
        return grad_cam(network.model, codes, last_convolution(network.model, view))
    finally:
        network.model.set_weights(network.weights)


def _network_of(fitted: Any) -> NetworkModel:
    network = network_inside(fitted)
    if network is None:
        raise ConfigError("Grad-CAM needs a network", expected="a run with fuse.model: network", hint="use occlusion")
    return network


def codes_of(fitted: Any, source: Cohort, row: int) -> dict[str, Any]:
    """What the network is given of one exam: codes (1, height, width, channels) by view."""
    from thermocancer.classifiers.fusion_network import code_shape
    from thermocancer.features.prepared import prepare

    prepared, codes = prepare(source, fitted.preparation), {}
    for view, encoder in _network_of(fitted).encoders.items():
        _, code = next(iter(encoder.codes(prepared, view, np.array([row], dtype=np.int64))))
        codes[view] = code.reshape(1, *code_shape(encoder))
    return codes


def last_convolution(model: Any, view: str) -> str:
    """Name of the last convolution in a view's branch. Raises ConfigError where the view has none."""
    names = [layer.name for layer in model.layers if layer.name.startswith(f"{view}_conv_")]
    if not names:
        raise ConfigError("the network does not look at this view", expected="a view of the run", found=view)
    return max(names, key=lambda name: int(name.rpartition("_")[2]))


def grad_cam(model: Any, inputs: dict[str, Any], layer: str) -> FloatArray:
    """Grad-CAM of a functional Keras model with one sigmoid output, for inputs (1, ...) by name.

    Returns (height, width), the strongest 1 or -1. Positive speaks for sick; what the original method cuts off
    as negative speaks for healthy (its "counterfactual" map), and one output has no other class to show it for.
    """
    import keras

    ordered = [np.asarray(inputs[each.name], dtype=np.float32) for each in model.inputs]
    maps = np.asarray(keras.Model(model.inputs, model.get_layer(layer).output)(ordered, training=False))
    weights = log_odds_gradient(model, layer, maps, ordered)[0].mean(axis=(0, 1))
    cam = np.asarray(maps[0], dtype=np.float64) @ weights
    peak = float(np.abs(cam).max())
    return cam / peak if peak > 0 else cam


def log_odds_gradient(model: Any, layer: str, maps: Any, inputs: list[Any]) -> FloatArray:
    """Gradient of the log-odds with respect to a layer's maps, the other inputs held. Shape of ``maps``.

    Taken below the sigmoid: a sure network's probability is 1 to the last bit, and flat there.
    """
    import keras

    others = [tensor for tensor in model.inputs if not _feeds(model, tensor, layer)]
    pairs = zip(model.inputs, inputs, strict=True)
    kept = [keras.ops.convert_to_tensor(value) for tensor, value in pairs if any(tensor is each for each in others)]
    last = model.layers[-1]
    below = keras.Model([model.get_layer(layer).output, *others], last.input)
    kernel = keras.ops.convert_to_numpy(last.kernel)[:, 0]
    if keras.backend.backend() == "jax":
        return _gradient_jax(below, kernel, maps, kept)
    return _gradient_tensorflow(below, kernel, maps, kept)


def _feeds(model: Any, tensor: Any, layer: str) -> bool:
    """Does this input reach the layer? By its view's name, as the branches are named."""
    return str(layer).startswith(f"{tensor.name}_") or len(model.inputs) == 1


def _gradient_tensorflow(below: Any, kernel: Any, maps: Any, kept: list[Any]) -> FloatArray:
    import tensorflow as tf

    variable = tf.convert_to_tensor(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        log_odds = tf.reduce_sum(below([variable, *kept], training=False) * kernel)
    return np.asarray(tape.gradient(log_odds, variable), dtype=np.float64)


def _gradient_jax(below: Any, kernel: Any, maps: Any, kept: list[Any]) -> FloatArray:
    import jax

    trainable = [variable.value for variable in below.trainable_variables]
    fixed = [variable.value for variable in below.non_trainable_variables]

    def log_odds(values: Any) -> Any:
        output, _ = below.stateless_call(trainable, fixed, [values, *kept], training=False)
        return (output * kernel).sum()

    return np.asarray(jax.grad(log_odds)(maps), dtype=np.float64)
