"""Which backend and devices a config gets: decided without any framework."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError
from thermocancer.strategy import describe, is_writer
from thermocancer.strategy.choice import Counted, Seen, choose_backend, choose_kind, find_hosts, first_node

BOTH = Seen(tensorflow=True, jax=True)


def section(**given: Any) -> StrategySection:
    return StrategySection(**given)


@pytest.mark.parametrize(
    ("given", "seen", "backend"),
    [
        ({}, BOTH, "tensorflow"),
        ({}, Seen(tensorflow=False, jax=True), "jax"),
        ({}, Seen(tensorflow=True, jax=True, tpu=True), "jax"),
        ({"kind": "cpu"}, Seen(tensorflow=True, jax=True, tpu=True), "tensorflow"),
        ({"kind": "tpu"}, BOTH, "jax"),
        ({"kind": "tpu", "backend": "tensorflow"}, BOTH, "tensorflow"),
        ({"kind": "mirrored"}, BOTH, "tensorflow"),
        ({"kind": "multi-host"}, BOTH, "jax"),
        ({}, Seen(tensorflow=True, jax=True, asked="jax"), "jax"),
        ({}, Seen(tensorflow=True, jax=True, running="jax"), "jax"),
    ],
)
def test_backend(given: dict[str, Any], seen: Seen, backend: str) -> None:
    choice = choose_backend(section(**given), seen)
    assert choice.value == backend
    assert choice.reason


@pytest.mark.parametrize(
    ("given", "seen", "words"),
    [
        ({"backend": "jax"}, Seen(tensorflow=True, jax=False), "pip install 'jax>="),
        ({"backend": "tensorflow"}, Seen(tensorflow=False, jax=True), "pip install tensorflow"),
        ({"backend": "jax"}, Seen(tensorflow=True, jax=True, running="tensorflow"), "new process"),
        ({"backend": "tensorflow", "kind": "multi-host"}, BOTH, "multi-worker"),
        ({"backend": "tensorflow", "kind": "data-parallel"}, BOTH, "mirrored"),
        ({"backend": "jax", "kind": "mirrored"}, BOTH, "data-parallel"),
        ({}, Seen(tensorflow=True, jax=True, asked="torch"), "tensorflow or jax"),
    ],
)
def test_backend_refused_with_the_reason(given: dict[str, Any], seen: Seen, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_backend(section(**given), seen)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "backend", "counted", "kind"),
    [
        ({}, "tensorflow", Counted(), "cpu"),
        ({}, "tensorflow", Counted(gpus=1), "gpu"),
        ({}, "tensorflow", Counted(gpus=4), "mirrored"),
        ({"devices": 1}, "tensorflow", Counted(gpus=4), "gpu"),
        ({}, "jax", Counted(gpus=2), "data-parallel"),
        ({}, "jax", Counted(tpus=8), "tpu"),
        ({}, "jax", Counted(cpus=4), "data-parallel"),
        ({"kind": "cpu"}, "jax", Counted(gpus=2), "cpu"),
        ({"kind": "mirrored", "devices": 2}, "tensorflow", Counted(gpus=4), "mirrored"),
    ],
)
def test_kind(given: dict[str, Any], backend: str, counted: Counted, kind: str) -> None:
    assert choose_kind(section(**given), backend, counted).value == kind


@pytest.mark.parametrize(
    ("given", "backend", "counted"),
    [
        ({"kind": "gpu"}, "tensorflow", Counted()),
        ({"kind": "tpu"}, "jax", Counted(gpus=1)),
        ({"kind": "mirrored"}, "tensorflow", Counted(gpus=1)),
        ({"kind": "mirrored", "devices": 4}, "tensorflow", Counted(gpus=2)),
        ({"kind": "data-parallel"}, "jax", Counted()),
        ({"kind": "gpu", "devices": 2}, "tensorflow", Counted(gpus=2)),
        ({"kind": "cpu", "devices": 2}, "tensorflow", Counted()),
    ],
)
def test_a_device_that_is_not_there_is_an_error(given: dict[str, Any], backend: str, counted: Counted) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_kind(section(**given), backend, counted)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_hosts_from_the_config_the_environment_and_slurm() -> None:
    own = section(kind="multi-host", coordinator="node1:1234", processes=2, process_index=1)
    found = find_hosts(own, {})
    assert (found.coordinator, found.processes, found.process_index) == ("node1:1234", 2, 1)
    environment = {"JAX_COORDINATOR_ADDRESS": "h:1", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "0"}
    found = find_hosts(section(kind="multi-host"), environment)
    assert (found.coordinator, found.processes, found.process_index) == ("h:1", 3, 0)
    slurm = {
        "SLURM_STEP_NODELIST": "gpu[07-09],x1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2",
        "SLURM_JOB_ID": "5000",
    }  # fmt: skip
    found = find_hosts(section(kind="multi-host"), slurm)
    assert (found.coordinator, found.processes, found.process_index) == (f"gpu07:{61440 + 5000 % 4096}", 4, 2)
    assert "Slurm" in found.reason
    assert not is_writer(own)
    assert is_writer(section())


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"coordinator": "node1:1", "processes": 2},
        {"coordinator": "node1", "processes": 2, "process_index": 0},
        {"coordinator": "node1:1", "processes": 2, "process_index": 2},
    ],
)
def test_hosts_that_are_not_known(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        find_hosts(section(kind="multi-host", **given), {})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("n[3-7]", "n3"), ("gpu[003-007,12],other1", "gpu003"),
     ("a,b[1-2]", "a"), ("r[1,3]s", "r1s")],
)  # fmt: skip
def test_first_node(nodes: str, first: str) -> None:
    assert first_node(nodes) == first


def test_describe_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom thermocancer.config.learning import StrategySection\n"
        "from thermocancer.strategy import describe\n"
        "lines = describe(StrategySection())\nassert any(line.startswith('backend: ') for line in lines), lines\n"
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_describe_says_why_something_is_refused() -> None:
    lines = describe(section(kind="multi-host", backend="tensorflow"))
    assert any("refused" in line and "multi-worker" in line for line in lines)
