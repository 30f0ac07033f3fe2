"""JAX: one device, several of one host, or several hosts, by ``keras.distribution.DataParallel``."""

from __future__ import annotations

import atexit
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError, RunError
from thermocancer.strategy.choice import Counted, Hosts
from thermocancer.strategy.running import Engine, LostHostError, OneProgram, quietly

CONNECT_TIMEOUT_S = 120
PARTING_S = 30
"""How long a host that ends waits for the others to end too."""

SIGNS_OF_LOSS = ("gloo", "nccl", "unavailable", "deadline_exceeded", "heartbeat", "connection", "coordination service")
"""What the runtime's errors about a lost peer contain; it raises them as whatever it was doing."""


@dataclass(frozen=True)
class ManyHosts(OneProgram):
    """Several processes run one program; a dead one ends the job with a message that says so."""

    hosts: Hosts

    def barrier(self, name: str) -> None:
        from jax.experimental import multihost_utils

        with self.guard():
            multihost_utils.sync_global_devices(name)

    def guard(self) -> AbstractContextManager[None]:
        return _guarded(self.hosts)


@contextmanager
def _guarded(hosts: Hosts) -> Iterator[None]:
    """Any operation may be the first to notice that a peer is gone: even setting a variable talks to it."""
    import jax

    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not any(word in str(error).lower() for word in SIGNS_OF_LOSS):
            raise
        atexit.unregister(_part)  # nobody is waited for any more
        raise LostHostError(
            "this job lost one of its hosts, or the network between them",
            where=f"process {hosts.process_index + 1} of {hosts.processes}, coordinator {hosts.coordinator}",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            hint="start the same command again on every host: it goes on from the last checkpoint",
        ) from error


def prepare(section: StrategySection, hosts: Hosts | None) -> Counted:
    """Import JAX, join the other hosts, make virtual devices, and count what is there."""
    import jax

    if section.virtual_cpus:
        # refused once JAX has started; whether that matters shows in the count below
        with contextlib.suppress(RuntimeError):
            _configure("jax_num_cpu_devices", section.virtual_cpus)
    if hosts is not None and not jax.distributed.is_initialized():
        _configure("jax_cpu_collectives_implementation", "gloo")
        # a process that outlives another then ends by itself; else JAX waits for the dead and aborts
        _configure("jax_enable_recoverability", True)
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


def _configure(name: str, value: object) -> None:
    import jax

    update: Callable[[str, object], None] = jax.config.update  # which JAX leaves without types
    update(name, value)


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
    atexit.register(_part, hosts)  # before JAX's own leaving, which was registered earlier


def _part(hosts: Hosts) -> None:
    """At the end the hosts wait for one another, and the first, which holds the service they talk to, leaves last.

    The runtime aborts a host whose service goes away: the second, where the first had ended eight seconds before it.
    """
    from jax._src.distributed import global_state

    with contextlib.suppress(RuntimeError, ValueError):  # one of them is not coming
        if global_state.client is not None:
            global_state.client.wait_at_barrier("the hosts part", PARTING_S * 1000)
        if hosts.process_index == 0:
            time.sleep(1)


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
        _configure("jax_default_device", chosen[0])
    if hosts is None:
        return OneProgram(), names, True
    everyone = ManyHosts(hosts)
    with quietly(1, 2):  # Gloo tells its peers on standard output when they first meet
        everyone.barrier("the hosts have met")
    return everyone, names, True
