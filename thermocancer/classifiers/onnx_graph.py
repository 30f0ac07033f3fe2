"""A classifier as one ONNX graph, from temperatures (or a table) to its score; read back by any ONNX runtime.

A kernel machine or a ridge is no Keras model, and its preprocessing none either; the layers of the encoders and of
the fusion network are few. They are written here one by one, which needs ``onnx`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange
from thermocancer.config.learning import InputSection
from thermocancer.errors import RunError
from thermocancer.thermal.rendering import colour_table

if TYPE_CHECKING:
    import keras
    import onnx

    from thermocancer.classifiers.calibrated import Calibration

OPSET, IR_VERSION = 17, 8
"""Of 2022: runtimes of every later year read them."""


@dataclass
class Graph:
    """Nodes and constants so far; every method gives the name of what it has made."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def input(self, name: str, shape: Sequence[int]) -> str:
        """A float32 input of any number of exams."""
        from onnx import TensorProto, helper

        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["exams", *shape]))
        return name

    def constant(self, value: npt.ArrayLike, kind: npt.DTypeLike = np.float32) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(np.asarray(value, kind)), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: int | list[int] | str) -> str:
        from onnx import helper

        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                kind, list(inputs), [name], name=name, doc_string=None, domain=None, overload=None, **attributes
            )
        )
        return name

    def cast(self, value: str, kind: npt.DTypeLike) -> str:
        from onnx import helper

        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))

    def finish(self, output: str, name: str) -> onnx.ModelProto:
        """The whole, checked; its one output (exams, 1) is called ``score``."""
        import onnx
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Reshape", [output, self.constant([-1, 1], np.int64)], ["score"]))
        result = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["exams", 1])
        graph = helper.make_graph(self.nodes, name, self.inputs, [result], self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="thermocancer")
        onnx.checker.check_model(model)
        return model

    # --- from temperatures to what a network sees ---

    def seen(self, celsius: str, how: InputSection) -> str:
        """Degrees (n, H, W) as ``network_input`` gives them, float32 (n, H, W, channels) in [0, 1]."""
        exact = self.op("Round", self.op("Mul", self.cast(celsius, np.float64), self.constant(100.0, np.float64)))
        exact = self.op("Div", exact, self.constant(100.0, np.float64))  # to the hundredth, as they are stored
        rendering = how.rendering
        if isinstance(rendering.range, CelsiusRange):
            low = self.constant(rendering.range.low, np.float64)
            span = self.constant(rendering.range.high - rendering.range.low, np.float64)
        else:
            low = self.op("ReduceMin", exact, axes=[1, 2], keepdims=1)
            span = self.op("Sub", self.op("ReduceMax", exact, axes=[1, 2], keepdims=1), low)
            span = self.op("Max", span, self.constant(0.01, np.float64))
        scaled = self.op("Div", self.op("Sub", exact, low), span)
        if how.kind == "celsius":
            ends = self.constant(0.0, np.float64), self.constant(1.0, np.float64)
            return self.op(
                "Unsqueeze", self.cast(self.op("Clip", scaled, *ends), np.float32), self.constant([3], np.int64)
            )
        table = colour_table(rendering.colormap).astype(np.float32) / np.float32(255)
        level = self.op("Mul", scaled, self.constant(float(len(table)), np.float64))
        level = self.op("Clip", level, self.constant(0.0, np.float64), self.constant(len(table) - 1.0, np.float64))
        return self.op("Gather", self.constant(table), self.cast(level, np.int64), axis=0)

    # --- Keras' layers ---

    def network(self, model: keras.Model, given: Mapping[str, str]) -> str:
        """A functional model on values by the names of its inputs, (n, H, W, C) each. Raises RunError for a layer
        that is not known here."""
        known = {id(each): self.op("Transpose", given[each.name], perm=[0, 3, 1, 2]) for each in model.inputs}
        for layer in model.layers:
            if type(layer).__name__ == "InputLayer":
                continue
            sources = layer.input if isinstance(layer.input, list) else [layer.input]
            known[id(layer.output)] = self._layer(layer, [known[id(each)] for each in sources])
        output = model.outputs[0]
        found = known[id(output)]
        return self.op("Transpose", found, perm=[0, 2, 3, 1]) if len(output.shape) == 4 else found

    def _layer(self, layer: keras.layers.Layer, given: list[str]) -> str:
        kind = type(layer).__name__
        padding = {"auto_pad": "SAME_UPPER" if getattr(layer, "padding", "") == "same" else "VALID"}
        if kind == "Conv2D":
            kernel = self.constant(np.asarray(layer.kernel).transpose(3, 2, 0, 1))
            made = self.op("Conv", given[0], kernel, self.constant(layer.bias), strides=list(layer.strides), **padding)
        elif kind == "MaxPooling2D":
            made = self.op(
                "MaxPool", given[0], kernel_shape=list(layer.pool_size), strides=list(layer.strides), **padding
            )
        elif kind == "Dense":
            made = self.op("Add", self.op("MatMul", given[0], self.constant(layer.kernel)), self.constant(layer.bias))
        elif kind == "Flatten":
            made = self.op("Flatten", self.op("Transpose", given[0], perm=[0, 2, 3, 1]))
        elif kind in ("Add", "Concatenate"):
            made = self.op("Concat", *given, axis=1) if kind == "Concatenate" else self.op("Add", *given)
        elif kind == "Dropout":
            made = given[0]
        else:
            raise RunError("a layer cannot be written as ONNX", where=layer.name, found=kind)
        return self._activated(made, getattr(getattr(layer, "activation", None), "__name__", "linear"))

    def _activated(self, value: str, name: str) -> str:
        if name == "linear":
            return value
        if name in ("silu", "swish"):
            return self.op("Mul", value, self.op("Sigmoid", value))
        if name in ("relu", "sigmoid"):
            return self.op({"relu": "Relu", "sigmoid": "Sigmoid"}[name], value)
        raise RunError("an activation cannot be written as ONNX", found=name)

    # --- decisions ---

    def standardised(self, table: str, mean: npt.ArrayLike, scale: npt.ArrayLike, clip: float | None = None) -> str:
        made = self.op("Div", self.op("Sub", table, self.constant(mean)), self.constant(scale))
        return made if clip is None else self.op("Clip", made, self.constant(-clip), self.constant(clip))

    def kernel(self, name: str, gamma: float, products: str, squares: str, of_vectors: npt.ArrayLike) -> str:
        """``kernel_values``: inner products (n, s), the exams' own squares (n, 1) and those of the vectors (s,)."""
        if name == "linear":
            return products
        if name == "sigmoid":
            return self.op("Tanh", self.op("Mul", products, self.constant(gamma)))
        apart = self.op("Add", squares, self.constant(np.asarray(of_vectors)[None]))
        apart = self.op("Sub", apart, self.op("Mul", products, self.constant(2.0)))
        return self.op("Exp", self.op("Mul", self.op("Relu", apart), self.constant(-gamma)))

    def score(self, features: str, weights: npt.ArrayLike, intercept: float, calibration: Calibration) -> str:
        """logistic(slope * (features . weights + intercept) + intercept of the calibration)."""
        decision = self.op("MatMul", features, self.constant(np.asarray(weights)[:, None]))
        decision = self.op("Add", decision, self.constant(intercept))
        decision = self.op("Mul", decision, self.constant(calibration.slope))
        return self.op("Sigmoid", self.op("Add", decision, self.constant(calibration.intercept)))


Build = Callable[[], "onnx.ModelProto"]
"""Makes the graph when it is needed: constants may be large."""
