"""JAX: one device, several of one host, or several hosts, by ``keras.distribution.DataParallel``."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError, RunError
from thermocancer.strategy.choice import Counted
from thermocancer.strategy.hosts import Hosts
from thermocancer.strategy.quiet import quietly
from thermocancer.strategy.running import Arrays, Engine, OneProgram

CONNECT_TIMEOUT_S = 120


@dataclass(frozen=True)
class ManyHosts:
    """Several processes run one program; a dead one ends the job with a message that says so."""

    hosts: Hosts
    inner: OneProgram = field(default_factory=OneProgram)

    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def step(self, model: Any, batch: tuple[Arrays, Arrays, Arrays], *, training: bool) -> dict[str, float]:
        with _explaining(self.hosts):
            return self.inner.step(model, batch, training=training)

    def predict(self, model: Any, x: Arrays) -> npt.NDArray[np.float32]:
        with _explaining(self.hosts):
            return self.inner.predict(model, x)

    def barrier(self, name: str) -> None:
        from jax.experimental import multihost_utils

        with _explaining(self.hosts):
            multihost_utils.sync_global_devices(name)


class _explaining:  # noqa: N801  a context manager reads as a verb
    """Turn the runtime's error about a lost peer into one a user can act on."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None or "JaxRuntimeError" not in [each.__name__ for each in kind.__mro__]:
            return
        raise RunError(
            "this job lost one of its hosts, or the network between them",
            where=f"process {self._hosts.process_index + 1} of {self._hosts.processes}, {self._hosts.coordinator}",
            found=str(error).splitlines()[0] if str(error) else kind.__name__,
            hint="start the same command again on every host: it goes on from the last checkpoint",
        ) from error


def prepare(section: StrategySection, hosts: Hosts | None) -> Counted:
    """Import JAX, join the other hosts, make virtual devices, and count what is there."""
    import jax

    if section.virtual_cpus:
        # refused once JAX has started; whether that matters shows in the count below
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", section.virtual_cpus)
    if hosts is not None and not jax.distributed.is_initialized():
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        _join(hosts)
    found = _platforms()
    if section.virtual_cpus and found.cpus < section.virtual_cpus:
        raise ConfigError(
            "JAX already runs with other devices in this process",
            where="strategy.virtual_cpus",
            expected=section.virtual_cpus,
            found=found.cpus,
            hint="start a new process: devices are chosen before the first computation",
        )
    return found


def _platforms() -> Counted:
    import jax

    families = [device.platform for device in jax.devices()]
    gpus = sum(family in ("gpu", "cuda", "rocm") for family in families)
    tpus = families.count("tpu")
    return Counted(cpus=max(1, families.count("cpu")), gpus=gpus, tpus=tpus)


def _join(hosts: Hosts) -> None:
    import jax

    try:
        jax.distributed.initialize(
            hosts.coordinator, hosts.processes, hosts.process_index, initialization_timeout=CONNECT_TIMEOUT_S
        )
    except RuntimeError as error:
        raise RunError(
            "the hosts of this job did not find one another",
            where=hosts.coordinator,
            expected=f"{hosts.processes} processes within {CONNECT_TIMEOUT_S} s",
            found=str(error).splitlines()[0] if str(error) else "no answer",
            hint="start the same command on every host, each with its own strategy.process_index",
        ) from error


def start(section: StrategySection, kind: str, hosts: Hosts | None) -> tuple[Engine, tuple[str, ...], bool | str]:
    """The engine, the devices' names and ``jit_compile`` for a kind."""
    import jax
    import keras

    everywhere = jax.devices("cpu") if kind == "cpu" else jax.devices()
    count = 1 if kind in ("cpu", "gpu") else (section.devices or len(everywhere))
    chosen = everywhere[:count]
    names = tuple(f"{device.platform}:{device.id}" for device in chosen)
    if count > 1 or hosts is not None:
        layout = keras.distribution.DataParallel(devices=list(names), auto_shard_dataset=False)
        keras.distribution.set_distribution(layout)
    else:
        keras.distribution.set_distribution(None)
        jax.config.update("jax_default_device", chosen[0])
    if hosts is None:
        return OneProgram(), names, True
    everyone = ManyHosts(hosts)
    with quietly(1, 2):  # Gloo tells its peers on standard output when they first meet
        everyone.barrier("the hosts have met")
    return everyone, names, True
