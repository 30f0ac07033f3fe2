"""A strategy that has been set up: what training code needs to know and to ask of it."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.errors import RunError

if TYPE_CHECKING:
    import keras


class LostHostError(RunError):
    """Another process of a multi-host job is gone, and with it this job; the same command resumes it."""


Arrays = Any
"""One array, or a tuple, list or dict of arrays with the same first axis."""


class Engine(Protocol):
    """How one step runs on the devices. One implementation a distribution."""

    def scope(self) -> AbstractContextManager[object]:
        """Where models and optimizers must be built."""

    def step(self, model: keras.Model, batch: tuple[Arrays, Arrays, Arrays], *, training: bool) -> dict[str, float]:
        """Train or test on one batch (x, y, sample weights); the logs of this batch alone."""

    def predict(self, model: keras.Model, x: Arrays) -> npt.NDArray[np.float32]:
        """The model's output for one batch."""

    def barrier(self, name: str) -> None:
        """Wait until every process of the job is here."""

    def guard(self) -> AbstractContextManager[None]:
        """Wraps work on the devices: the loss of another host becomes an error a user can act on."""


@dataclass(frozen=True)
class OneProgram:
    """The whole batch goes to Keras: one device, or JAX, which splits it by itself."""

    def scope(self) -> AbstractContextManager[object]:
        return nullcontext()

    def step(self, model: keras.Model, batch: tuple[Arrays, Arrays, Arrays], *, training: bool) -> dict[str, float]:
        x, y, weights = batch
        call = model.train_on_batch if training else model.test_on_batch
        logs = call(x, y, sample_weight=weights, return_dict=True)
        return {name: float(value) for name, value in logs.items()}

    def predict(self, model: keras.Model, x: Arrays) -> npt.NDArray[np.float32]:
        return np.asarray(model.predict_on_batch(x))

    def barrier(self, name: str) -> None:
        return None

    def guard(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Running:
    """What ``set_up`` has made of the strategy section.

    ``devices`` names each device that shares a batch; ``processes`` is 1 except on several hosts.
    """

    backend: str
    kind: str
    devices: tuple[str, ...]
    precision: str
    deterministic: bool
    reasons: tuple[str, ...]
    engine: Engine
    jit_compile: bool | str
    processes: int = 1
    process_index: int = 0

    @property
    def why(self) -> str:
        """The choice and its reasons, one sentence."""
        on = f"{len(self.devices)} x {self.kind}" if len(self.devices) > 1 else self.kind
        return f"{self.backend} on {on}, {self.precision}: {'; '.join(self.reasons)}"

    @property
    def is_writer(self) -> bool:
        """One process of a job writes; the others only compute."""
        return self.process_index == 0

    def scope(self) -> AbstractContextManager[object]:
        """The context in which a model must be built and compiled."""
        return self.engine.scope()

    def batch(self, count: int) -> int:
        """How many rows a batch of ``count`` examples has on the devices: a multiple of their number."""
        return -(-count // len(self.devices)) * len(self.devices)

    def share(self, rows: int) -> slice:
        """The part of a padded batch of ``rows`` that this process reads."""
        part = rows // self.processes
        return slice(self.process_index * part, (self.process_index + 1) * part)


# --- imports that write to standard error from C++, before any log level is read ---


@contextmanager
def quietly(*descriptors: int) -> Iterator[None]:
    """Hold back what is written to file descriptors (2, standard error, if none is named).

    It is shown after all when the block raises. TensorFlow 2.21 announces oneDNN and missing CUDA
    drivers whatever ``TF_CPP_MIN_LOG_LEVEL`` says, and Gloo its peers; a cron job or ``--json -`` must
    stay silent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    held = {each: os.dup(each) for each in descriptors or (2,)}
    with tempfile.TemporaryFile() as aside:
        for each in held:
            os.dup2(aside.fileno(), each)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(held.get(2, next(iter(held.values()))), aside.read())
            raise
        finally:
            for each, kept in held.items():
                os.dup2(kept, each)
                os.close(kept)


def import_quietly(name: str, without: Sequence[str] = ()) -> None:
    """Import a module whose import talks; ``without`` others that it would bring in if they are installed."""
    if name in sys.modules:
        return
    hidden: dict[str, Any] = {each: None for each in without if each not in sys.modules}
    sys.modules.update(hidden)  # None there: as if it were not installed
    try:
        with quietly():
            importlib.import_module(name)
    finally:
        for each in hidden:
            del sys.modules[each]
