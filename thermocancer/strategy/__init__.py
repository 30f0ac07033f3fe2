"""CPU, GPU, TPU, several devices, several hosts; precision; seeds.

``set_up`` is called by a stage before anything imports Keras. It chooses, says why, and hands
back a ``Running``: the scope in which models are built, and how one step runs on the devices.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError, RunError
from thermocancer.strategy.choice import (
    SHARING,
    Choice,
    Hosts,
    Seen,
    choose_backend,
    choose_kind,
    find_hosts,
    wanted_backend,
)
from thermocancer.strategy.running import Running, quietly

__all__ = ["Running", "current", "describe", "is_writer", "resolved", "set_up"]

_state: dict[str, tuple[StrategySection, Running]] = {}
"""The one set-up of this process, under "now"."""


def set_up(section: StrategySection, seed: int) -> Running:
    """Choose backend and devices, start them, set precision and seeds.

    Called again with the same section it only sets the seeds again, so that every stage of one
    process starts from the same random state. Raises ConfigError for what cannot work or is not
    there, RunError when the hosts of a job do not find one another.
    """
    known = _state.get("now")
    if known is None or known[0] != section:
        _state["now"] = (section, _start(section))
    import keras

    with quietly():  # under JAX too, Keras imports TensorFlow here if it is installed
        keras.utils.set_random_seed(seed)
    if section.deterministic and keras.config.backend() == "tensorflow":
        from thermocancer.strategy import on_tensorflow

        on_tensorflow.make_deterministic()
    return _state["now"][1]


def current() -> Running:
    """The set-up of this process. Raises RunError when there is none yet."""
    if "now" not in _state:
        raise RunError("no strategy has been set up", expected="strategy.set_up(...) before anything imports Keras")
    return _state["now"][1]


def resolved(section: StrategySection) -> dict[str, str | int]:
    """What of the strategy decides the numbers that a network gives, as it stands here; imports no framework.

    The backend and the precision always do. Devices do where several share each batch, as it is then padded and
    summed by parts; a single accelerator differs from a CPU in the last bits only, as two CPUs do.
    """
    found: dict[str, str | int] = {"backend": wanted_backend(section, look()).value, "precision": section.precision}
    if section.threads is not None:  # sums depend on their number; left alone it is the machine's, as before
        found["threads"] = section.threads
    asked = {"devices": section.devices or section.virtual_cpus, "processes": section.processes}
    several = {name: count for name, count in asked.items() if count is not None and count > 1}
    if several or section.kind in SHARING:
        found |= {"kind": section.kind, **several}
    return found


def is_writer(section: StrategySection) -> bool:
    """False in every process of a multi-host job but the first; needs no framework."""
    return section.kind != "multi-host" or find_hosts(section, os.environ).process_index == 0


def _start(section: StrategySection) -> Running:
    backend = choose_backend(section, look())
    hosts = find_hosts(section, os.environ) if section.kind == "multi-host" else None
    os.environ["KERAS_BACKEND"] = backend.value
    # for TensorFlow's makers: it counts oneDNN's "falling back" as an error; real ones are raised as well
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if backend.value == "tensorflow":
        from thermocancer.strategy import on_tensorflow

        counted = on_tensorflow.prepare(section)
        kind = choose_kind(section, backend.value, counted)
        engine, devices, jit_compile = on_tensorflow.start(section, kind.value, counted)
    else:
        if section.kind == "cpu":
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
        from thermocancer.strategy import on_jax

        counted = on_jax.prepare(section, hosts)
        kind = choose_kind(section, backend.value, counted)
        engine, devices, jit_compile = on_jax.start(section, kind.value, hosts)
    import keras

    keras.config.set_dtype_policy(section.precision)
    return Running(
        backend.value, kind.value, devices, section.precision, section.deterministic,
        reasons(backend, kind, hosts), engine, jit_compile,
        hosts.processes if hosts else 1, hosts.process_index if hosts else 0,
    )  # fmt: skip


def reasons(backend: Choice, kind: Choice, hosts: Hosts | None) -> tuple[str, ...]:
    """Why this backend and this kind, in order."""
    said: tuple[str, ...] = (backend.reason,) if kind.reason in backend.reason else (backend.reason, kind.reason)
    said += (hosts.reason,) if hosts else ()
    if backend.value == "tensorflow" and kind.value == "tpu":
        said += ("TPUStrategy with Keras 3 is experimental; JAX is the sound way to a TPU",)
    return said


def look() -> Seen:
    """What this process can see without importing a framework."""
    running = str(sys.modules["keras"].config.backend()) if "keras" in sys.modules else None
    # a TPU shows as an accelerator device file and needs its own library
    chip = any(Path("/dev").glob("accel[0-9]*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return Seen(
        tensorflow=importlib.util.find_spec("tensorflow") is not None,
        jax=importlib.util.find_spec("jax") is not None,
        tpu=chip and importlib.util.find_spec("libtpu") is not None,
        running=running,
        asked=os.environ.get("KERAS_BACKEND"),
    )


def describe(section: StrategySection, *, probe: bool = False) -> list[str]:
    """What ``doctor`` says of the devices: one fact a line.

    Without ``probe`` nothing heavy is imported: versions, device files and the backend that would
    be taken. With it the devices are started and counted, and the reason is given.
    """
    lines = [f"{name} {_version(name)}" for name in ("keras", "tensorflow", "jax")]
    patterns = ("nvidia[0-9]*", "accel[0-9]*", "kfd")
    files = sorted(str(path) for pattern in patterns for path in Path("/dev").glob(pattern))
    lines.append(f"accelerators: {', '.join(files) or 'no device file of a GPU or TPU'}")
    try:
        backend = choose_backend(section, look())
        lines.append(f"backend: {backend.value} ({backend.reason})")
        if probe:
            lines.append(f"strategy: {set_up(section, 0).why}")
    except (ConfigError, RunError) as error:
        lines.append(f"strategy: refused, {error}")
    return lines


def _version(package: str) -> str:
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "is not installed"
