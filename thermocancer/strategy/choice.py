"""Which backend and which kind of device a config gets, and why. Pure: nothing heavy is imported here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError, install_hint

NEEDS_JAX = ("data-parallel", "multi-host")
NEEDS_TENSORFLOW = ("mirrored",)
SHARING = (*NEEDS_JAX, *NEEDS_TENSORFLOW)
"""Kinds in which several devices share each batch."""


@dataclass(frozen=True)
class Seen:
    """What this process can see before it imports a framework.

    ``running`` is the backend of a Keras that is already imported; ``asked`` is ``KERAS_BACKEND``.
    """

    tensorflow: bool
    jax: bool
    tpu: bool = False
    running: str | None = None
    asked: str | None = None


@dataclass(frozen=True)
class Counted:
    """Devices that the chosen framework sees (over all hosts, for multi-host)."""

    cpus: int = 1
    gpus: int = 0
    tpus: int = 0


@dataclass(frozen=True)
class Choice:
    """A decision and the reason for it, in words that ``doctor`` prints."""

    value: str
    reason: str


def choose_backend(section: StrategySection, seen: Seen) -> Choice:
    """TensorFlow unless the config, the kind of device or the installation says otherwise.

    Raises ConfigError when the backend is not installed, cannot do the kind, or comes too late
    because Keras already runs on the other one.
    """
    choice = wanted_backend(section, seen)
    if choice.value not in ("tensorflow", "jax"):
        raise ConfigError(
            f"Keras runs on {choice.value}, which thermocancer does not support",
            where="KERAS_BACKEND",
            expected="tensorflow or jax",
        )
    if not (seen.tensorflow if choice.value == "tensorflow" else seen.jax):
        raise ConfigError(
            f"the backend {choice.value} is not installed",
            where="strategy.backend",
            expected=choice.reason,
            hint=install_hint("jax") if choice.value == "jax" else "pip install tensorflow",
        )
    if seen.running and seen.running != choice.value:
        raise ConfigError(
            f"Keras already runs on {seen.running} in this process",
            where="strategy.backend",
            expected=choice.value,
            hint="start a new process: a backend is chosen before Keras is first imported",
        )
    if choice.value == "tensorflow" and section.kind in NEEDS_JAX:
        raise ConfigError(
            f"strategy.kind: {section.kind} cannot run on TensorFlow",
            where="strategy.backend",
            expected="jax: Keras 3 fails in training on TensorFlow's multi-worker strategy",
            found="tensorflow",
            hint="set strategy.backend: jax; for several GPUs of one host on TensorFlow: strategy.kind: mirrored",
        )
    if choice.value == "jax" and section.kind in NEEDS_TENSORFLOW:
        raise ConfigError(
            f"strategy.kind: {section.kind} is TensorFlow's; JAX spreads a batch with data-parallel",
            where="strategy.kind",
            expected="data-parallel",
            found=section.kind,
        )
    return choice


def wanted_backend(section: StrategySection, seen: Seen) -> Choice:
    """The backend and who decided it.

    In this order: what the config says; what the kind can only be; what already runs or is asked for by the
    environment; JAX where there is a TPU; TensorFlow; JAX.
    """
    if section.backend != "auto":
        return Choice(section.backend, f"strategy.backend: {section.backend}")
    if section.kind in NEEDS_JAX or (section.kind == "tpu" and seen.jax):
        return Choice("jax", f"strategy.kind: {section.kind} runs on JAX")
    if section.kind in NEEDS_TENSORFLOW:
        return Choice("tensorflow", f"strategy.kind: {section.kind} runs on TensorFlow")
    if seen.running:
        return Choice(seen.running, f"Keras already runs on {seen.running} in this process")
    if seen.asked:
        return Choice(seen.asked, f"KERAS_BACKEND is {seen.asked}")
    if seen.tpu and seen.jax and section.kind == "auto":
        return Choice("jax", "there is a TPU, and JAX drives it best")
    if seen.tensorflow or not seen.jax:
        return Choice("tensorflow", "TensorFlow is installed")
    return Choice("jax", "TensorFlow is not installed, JAX is")


def choose_kind(section: StrategySection, backend: str, counted: Counted) -> Choice:
    """What ``auto`` becomes. Raises ConfigError for a device that is asked for and not there."""
    if section.kind == "auto":
        choice = _automatic(backend, counted, section.devices)
    else:
        choice = Choice(section.kind, f"strategy.kind: {section.kind}")
    there = available(choice.value, counted)
    least = {"cpu": 1, "gpu": 1, "tpu": 1, "mirrored": 2, "data-parallel": 2, "multi-host": 1}[choice.value]
    wanted = section.devices or least
    if choice.value in ("cpu", "gpu") and section.devices not in (None, 1):
        raise ConfigError(
            f"strategy.kind: {choice.value} is one device",
            where="strategy.devices",
            expected="1",
            found=section.devices,
            hint="for several devices use mirrored (TensorFlow) or data-parallel (JAX)",
        )
    if there < max(wanted, least):
        raise ConfigError(
            f"strategy.kind: {choice.value} needs {max(wanted, least)} device{_s(max(wanted, least))}, {there} found",
            where="strategy.devices" if section.devices else "strategy.kind",
            expected=f"{max(wanted, least)} device(s)",
            found=f"{counted.gpus} GPU(s), {counted.tpus} TPU(s), {counted.cpus} CPU device(s)",
            hint="strategy.kind: auto takes what is there; strategy.virtual_cpus rehearses on the CPU",
        )
    return choice


def _automatic(backend: str, counted: Counted, devices: int | None) -> Choice:
    several = "mirrored" if backend == "tensorflow" else "data-parallel"
    if counted.tpus and backend == "jax":
        return Choice("tpu", f"{counted.tpus} TPU device{_s(counted.tpus)} found")
    if counted.gpus > 1 and devices != 1:
        return Choice(several, f"{counted.gpus} GPUs found")
    if counted.gpus:
        return Choice("gpu", f"{counted.gpus} GPU{_s(counted.gpus)} found")
    if counted.cpus > 1:
        return Choice(several, f"{counted.cpus} virtual CPU devices (strategy.virtual_cpus)")
    return Choice("cpu", "no GPU and no TPU found")


def available(kind: str, counted: Counted) -> int:
    """How many devices a kind can use; several CPU devices exist only where they are virtual."""
    if kind == "gpu":
        return counted.gpus
    if kind == "tpu":
        return counted.tpus
    if kind == "cpu":
        return 1
    return counted.tpus or counted.gpus or counted.cpus


def _s(count: int) -> str:
    return "" if count == 1 else "s"


# --- where the other hosts of a job are: from the config, the environment or Slurm ---


@dataclass(frozen=True)
class Hosts:
    """One job's processes: the first one's address, how many there are, and which one this is."""

    coordinator: str
    processes: int
    process_index: int
    reason: str


def find_hosts(section: StrategySection, environment: Mapping[str, str]) -> Hosts:
    """The hosts of a multi-host job.

    1. ``strategy.coordinator``, ``.processes`` and ``.process_index`` (file, ``--set`` or
    ``THERMOCANCER_STRATEGY__...``); 2. ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``,
    ``JAX_PROCESS_ID``; 3. the variables of a Slurm step. Raises ConfigError naming what is missing.
    """
    slurm = _from_slurm(environment)
    coordinator = section.coordinator or environment.get("JAX_COORDINATOR_ADDRESS") or slurm.get("coordinator")
    processes = section.processes or _number("JAX_NUM_PROCESSES", environment) or slurm.get("processes")
    index = section.process_index
    if index is None:
        index = _number("JAX_PROCESS_ID", environment)
    if index is None:
        index = slurm.get("index")  # type: ignore[assignment]
    known = {"coordinator": coordinator, "processes": processes, "process_index": index}
    missing = [name for name, value in known.items() if value is None]
    if missing:
        raise ConfigError(
            f"strategy.kind: multi-host does not know its {' and '.join(missing)}",
            where=f"strategy.{missing[0]}",
            expected="coordinator HOST:PORT, processes and process_index, or a Slurm step",
            hint="for example --set strategy.coordinator=node1:1234 --set strategy.processes=2 "
            "and on each host its own --set strategy.process_index=0, 1, ...",
        )
    coordinator, processes, index = str(coordinator), int(str(processes)), int(str(index))
    if not re.fullmatch(r"\S+:\d+", coordinator):
        raise ConfigError(
            "the coordinator is not an address",
            where="strategy.coordinator",
            expected="HOST:PORT of the first process",
            found=coordinator,
        )
    if not 0 <= index < processes:
        raise ConfigError(
            "this process is not one of the job's",
            where="strategy.process_index",
            expected=f"0 to {processes - 1} (strategy.processes: {processes})",
            found=index,
        )
    place = "a Slurm step" if slurm and not section.coordinator else "the config or the environment"
    return Hosts(coordinator, processes, index, f"process {index + 1} of {processes}, from {place}")


def _number(name: str, environment: Mapping[str, str]) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise ConfigError("a process number is not a number", where=name, expected="0, 1, 2, ...", found=text)
    return int(text)


def _from_slurm(environment: Mapping[str, str]) -> dict[str, object]:
    """Coordinator, processes and index of a Slurm step (``srun``), or nothing outside one."""
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST")
    processes = _number("SLURM_STEP_NUM_TASKS", environment) or _number("SLURM_NTASKS", environment)
    index = _number("SLURM_PROCID", environment)
    if nodes is None or processes is None or index is None:
        return {}
    # a port that every process of the job derives alike and other jobs rarely share
    port = 61440 + int(environment.get("SLURM_JOB_ID", "0")) % 4096
    return {"coordinator": f"{first_node(nodes)}:{port}", "processes": processes, "index": index}


def first_node(nodes: str) -> str:
    """The first host name of a Slurm node list.

    >>> first_node("gpu[003-007,12],other1")
    'gpu003'
    """
    bracket = re.match(r"([^,\[]*)\[([^\]]*)\]([^,]*)", nodes)
    if bracket is None or "," in bracket.group(1):
        return nodes.split(",")[0]
    return bracket.group(1) + re.split(r"[-,]", bracket.group(2))[0] + bracket.group(3)
