"""Grad-CAM of the fusion network: which parts of a view's code its score hangs on.

Selvaraju et al. 2017 (ICCV): the last convolution's maps, weighted by the mean gradient of the score.
Gradients come from whichever backend Keras runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.protocol import Fitted
from thermocancer.data.cohort import Cohort, FloatArray
from thermocancer.errors import ConfigError

if TYPE_CHECKING:
    import keras

    from thermocancer.classifiers.fusion_network import NetworkModel

Inputs = dict[str, npt.NDArray[np.float32]]
"""What a network is given of one exam, (1, ...) by the name of the input."""


def network_inside(fitted: Fitted) -> NetworkModel | None:
    """The fitted fusion network (its Keras model, its encoders), or None for any other classifier."""
    from thermocancer.classifiers.fusion_network import NetworkModel

    inner = getattr(fitted, "model", None)
    return inner if isinstance(inner, NetworkModel) else None


def explain_exam(fitted: Fitted, cohort: Cohort, row: int, view: str) -> FloatArray:
    """Grad-CAM map of one exam's view, (height, width) of the last convolution, from -1 to 1.

    Raises ConfigError for a classifier without a convolutional network.
    """
    network, codes = _network_of(fitted), codes_of(fitted, cohort, row)
    network.model.set_weights(network.weights)
    return grad_cam(network.model, codes, last_convolution(network.model, view))


def explain_at_random(fitted: Fitted, cohort: Cohort, row: int, view: str, seed: int) -> FloatArray:
    """The same map of the same network with random weights: what it shows without having learnt anything."""
    from thermocancer.models.layers import initialise

    network, codes = _network_of(fitted), codes_of(fitted, cohort, row)
    initialise(network.model, seed)
    try:
        return grad_cam(network.model, codes, last_convolution(network.model, view))
    finally:
        network.model.set_weights(network.weights)


def _network_of(fitted: Fitted) -> NetworkModel:
    network = network_inside(fitted)
    if network is None:
        raise ConfigError("Grad-CAM needs a network", expected="a run with fuse.model: network", hint="use occlusion")
    return network


def codes_of(fitted: Fitted, cohort: Cohort, row: int) -> Inputs:
    """What the network is given of one exam: codes (1, height, width, channels) by view."""
    from thermocancer.classifiers.calibrated import CalibratedFitted
    from thermocancer.classifiers.fusion_network import code_shape
    from thermocancer.features.prepared import prepare

    prepared = prepare(cohort, fitted.preparation) if isinstance(fitted, CalibratedFitted) else cohort
    codes = {}
    for view, encoder in _network_of(fitted).encoders.items():
        _, code = next(iter(encoder.codes(prepared, view, np.array([row], dtype=np.int64))))
        codes[view] = code.reshape(1, *code_shape(encoder))
    return codes


def last_convolution(model: keras.Model, view: str) -> str:
    """Name of the last convolution in a view's branch. Raises ConfigError where the view has none."""
    names = [str(layer.name) for layer in model.layers if layer.name.startswith(f"{view}_conv_")]
    if not names:
        raise ConfigError("the network does not look at this view", expected="a view of the run", found=view)
    return max(names, key=lambda name: int(name.rpartition("_")[2]))


def grad_cam(model: keras.Model, inputs: Inputs, layer: str) -> FloatArray:
    """Grad-CAM of a functional Keras model with one sigmoid output, for inputs (1, ...) by name.

    Returns (height, width), the strongest 1 or -1. Positive speaks for sick; what the original method cuts off
    as negative speaks for healthy (its "counterfactual" map), and one output has no other class to show it for.
    """
    import keras

    ordered = [np.asarray(inputs[each.name], dtype=np.float32) for each in model.inputs]
    maps = np.asarray(keras.Model(model.inputs, model.get_layer(layer).output)(ordered, training=False))
    weights = log_odds_gradient(model, layer, maps, ordered)[0].mean(axis=(0, 1))
    cam: FloatArray = np.asarray(maps[0], dtype=np.float64) @ weights
    peak = float(np.abs(cam).max())
    return cam / peak if peak > 0 else cam


def log_odds_gradient(
    model: keras.Model, layer: str, maps: npt.NDArray[np.float32], inputs: list[npt.NDArray[np.float32]]
) -> FloatArray:
    """Gradient of the log-odds with respect to a layer's maps, the other inputs held. Shape of ``maps``.

    Taken below the sigmoid: a sure network's probability is 1 to the last bit, and flat there. Which input reaches
    the layer is told by its view's name, as the branches are named.
    """
    import keras

    others, kept = [], []
    for tensor, value in zip(model.inputs, inputs, strict=True):
        if len(model.inputs) > 1 and not layer.startswith(f"{tensor.name}_"):
            others.append(tensor)
            kept.append(keras.ops.convert_to_tensor(value))
    last = model.layers[-1]
    below = keras.Model([model.get_layer(layer).output, *others], last.input)
    kernel = keras.ops.convert_to_numpy(last.kernel)[:, 0]
    if keras.backend.backend() == "jax":
        import jax

        trainable = [variable.value for variable in below.trainable_variables]
        fixed = [variable.value for variable in below.non_trainable_variables]

        def log_odds(values: jax.Array) -> jax.Array:
            output, _ = below.stateless_call(trainable, fixed, [values, *kept], training=False)
            return jax.numpy.sum(output * kernel)

        return np.asarray(jax.grad(log_odds)(maps), dtype=np.float64)
    import tensorflow as tf

    variable = tf.convert_to_tensor(maps)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        total = tf.reduce_sum(below([variable, *kept], training=False) * kernel)
    return np.asarray(tape.gradient(total, variable), dtype=np.float64)
