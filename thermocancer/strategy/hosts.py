"""Where the other hosts of a job are: from the config, the environment or Slurm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError


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
    return _checked(str(coordinator), int(str(processes)), int(str(index)), bool(slurm) and not section.coordinator)


def _checked(coordinator: str, processes: int, index: int, by_slurm: bool) -> Hosts:
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
    place = "a Slurm step" if by_slurm else "the config or the environment"
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
