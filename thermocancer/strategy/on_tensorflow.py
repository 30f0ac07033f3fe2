"""TensorFlow: one CPU or GPU, several by ``MirroredStrategy``, a TPU (experimental)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError
from thermocancer.strategy.choice import Counted
from thermocancer.strategy.running import Arrays, Engine, OneProgram, import_quietly, quietly

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


NOT_NEEDED = ("jax", "pandas", "matplotlib.pyplot")
"""TensorFlow and Keras import these where they are installed, for converters and notebooks: 1.1 of 4.3 seconds."""


@dataclass(frozen=True)
class Replicas:
    """A ``tf.distribute`` strategy on one host: each replica gets its equal part of the batch."""

    strategy: tf.distribute.Strategy

    def scope(self) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self.strategy.scope()
        return context

    def step(self, model: keras.Model, batch: tuple[Arrays, Arrays, Arrays], *, training: bool) -> dict[str, float]:
        with self.scope():
            if training:
                model.make_train_function()
            else:
                model.make_test_function()
            model.reset_metrics()
            function = model.train_function if training else model.test_function
            logs = function(iter([self._split(batch)]))
        return {name: float(value) for name, value in logs.items()}

    def predict(self, model: keras.Model, x: Arrays) -> npt.NDArray[np.float32]:
        # not worth spreading: on_batch of Keras would give every replica the whole batch
        return np.asarray(model(x, training=False))

    def barrier(self, name: str) -> None:
        return None

    def guard(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _split(self, batch: tuple[Arrays, Arrays, Arrays]) -> object:
        import keras
        import tensorflow as tf

        replicas = self.strategy.num_replicas_in_sync

        def parts(array: npt.NDArray[np.generic]) -> object:
            pieces = np.split(np.asarray(array), replicas)
            return self.strategy.experimental_distribute_values_from_function(
                lambda context: tf.convert_to_tensor(pieces[context.replica_id_in_sync_group])
            )

        return keras.tree.map_structure(parts, batch)


def prepare(section: StrategySection) -> Counted:
    """Import TensorFlow quietly, make virtual devices, and count what is there."""
    import_quietly("tensorflow", NOT_NEEDED)
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of retracing where the last batch is shorter
    with quietly():  # a missing CUDA driver is told as an error on every machine without a GPU
        cpus = tf.config.list_physical_devices("CPU")
        gpus = tf.config.list_physical_devices("GPU")
    if section.virtual_cpus and section.virtual_cpus > 1:
        pieces = [tf.config.LogicalDeviceConfiguration()] * section.virtual_cpus
        if tf.config.get_logical_device_configuration(cpus[0]) != pieces:
            _early(lambda: tf.config.set_logical_device_configuration(cpus[0], pieces))
    if section.threads is not None:
        _early(partial(tf.config.threading.set_intra_op_parallelism_threads, section.threads))
    for gpu in gpus:
        _early(partial(tf.config.experimental.set_memory_growth, gpu, True))
    tpus = len(tf.config.list_physical_devices("TPU")) if section.kind == "tpu" else 0
    return Counted(cpus=section.virtual_cpus or 1, gpus=len(gpus), tpus=tpus)


def start(section: StrategySection, kind: str, counted: Counted) -> tuple[Engine, tuple[str, ...], bool | str]:
    """The engine, the devices' names and ``jit_compile`` for a kind."""
    import tensorflow as tf

    if kind == "tpu":
        return _start_tpu()
    if kind == "mirrored":
        family = "GPU" if counted.gpus else "CPU"
        count = section.devices or (counted.gpus or counted.cpus)
        names = tuple(f"{family}:{index}" for index in range(count))
        # hierarchical copy sums in one fixed order; NCCL is not there on a CPU
        cross = tf.distribute.HierarchicalCopyAllReduce() if family == "CPU" else None
        # XLA under MirroredStrategy fails in Keras 3
        return Replicas(tf.distribute.MirroredStrategy(names, cross_device_ops=cross)), names, False
    if kind == "cpu":
        if counted.gpus:
            _early(lambda: tf.config.set_visible_devices([], "GPU"))
        # XLA is 2 to 4 times slower than oneDNN on a CPU (measured on the autoencoders)
        return OneProgram(), ("CPU:0",), False
    return OneProgram(), ("GPU:0",), "auto"


def _start_tpu() -> tuple[Engine, tuple[str, ...], bool | str]:
    """``TPUStrategy`` as in the original study; experimental with Keras 3."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    strategy = tf.distribute.TPUStrategy(resolver)
    names = tuple(f"TPU:{index}" for index in range(strategy.num_replicas_in_sync))
    return Replicas(strategy), names, "auto"


def make_deterministic() -> None:
    """Every op gives the same bits each time; an op that cannot raises."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _early(change: Callable[[], object]) -> None:
    try:
        change()
    except RuntimeError as error:
        raise ConfigError(
            "TensorFlow already runs with other devices in this process",
            where="strategy",
            found=error,
            hint="start a new process: devices are chosen before the first computation",
        ) from error
