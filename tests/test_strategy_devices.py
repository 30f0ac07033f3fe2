"""The same training on every kind of device gives the same losses: real backends, virtual devices."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermocancer import strategy
from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError
from thermocancer.training.batches import ArrayExamples, batches, order_of, read_batch

JOB = Path(__file__).with_name("training_job.py")


def start(folder: Path, *sections: dict[str, Any], **job: Any) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(JOB), str(folder), json.dumps({"sections": sections, **job})]
    # XLA spends most of its time in optimising these few steps
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert out == ""


def losses(path: Path) -> list[list[float]]:
    history = json.loads(path.read_text())["history"]
    assert len(history) == 3
    return [[row["loss"], row["val_loss"]] for row in history]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every kind's result. The processes run beside one another: most of their time is waiting."""
    folder = tmp_path_factory.mktemp("devices")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = {"kind": "multi-host", "coordinator": f"127.0.0.1:{port}", "processes": 2}
    started = [
        start(folder / "tensorflow", {"backend": "tensorflow", "virtual_cpus": 2, "kind": "cpu"},
              {"kind": "mirrored", "virtual_cpus": 2}),
        start(folder / "jax", {"backend": "jax", "kind": "cpu", "virtual_cpus": 4},
              {"kind": "data-parallel", "devices": 2, "virtual_cpus": 4}, {"kind": "data-parallel", "virtual_cpus": 4}),
        start(folder / "hosts", hosts | {"process_index": 0}),
        start(folder / "hosts", hosts | {"process_index": 1}, late_s=2.0),  # the first does not end without it
    ]  # fmt: skip
    for process in started:
        finish(process)
    return {
        "tensorflow cpu": folder / "tensorflow" / "0.0.json",
        "tensorflow mirrored x 2": folder / "tensorflow" / "1.0.json",
        "jax cpu": folder / "jax" / "0.0.json",
        "jax data-parallel x 2": folder / "jax" / "1.0.json",
        "jax data-parallel x 4": folder / "jax" / "2.0.json",
        "jax two processes, first": folder / "hosts" / "0.0.json",
        "jax two processes, second": folder / "hosts" / "0.1.json",
    }


def test_same_losses_on_every_kind(done: dict[str, Path]) -> None:
    reference = losses(done["tensorflow cpu"])
    for name, path in done.items():
        np.testing.assert_allclose(losses(path), reference, rtol=2e-6, err_msg=name)


def test_two_processes_are_two_devices_bit_for_bit(done: dict[str, Path]) -> None:
    names = ("jax data-parallel x 2", "jax two processes, first", "jax two processes, second")
    assert len({json.loads(done[name].read_text())["digest"] for name in names}) == 1


def test_one_writer(done: dict[str, Path]) -> None:
    assert [json.loads(done[f"jax two processes, {name}"].read_text())["writer"] for name in ("first", "second")] == [
        True,
        False,
    ]


def test_a_model_trained_under_one_backend_predicts_alike_under_the_other(done: dict[str, Path]) -> None:
    from thermocancer.training.checkpoint import load_model

    running = strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    images = np.random.default_rng(0).random((3, 16, 16, 1)).astype(np.float32)
    found = [
        running.engine.predict(load_model(done[name].parent / f"{done[name].name[0]}.keras"), images)
        for name in ("tensorflow cpu", "jax cpu", "jax data-parallel x 4", "tensorflow mirrored x 2")
    ]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-5)


def kill_in_training(folder: Path, section: dict[str, Any]) -> None:
    """Start the same training, slowed down, and kill it when it has checkpoints and is at work on."""
    process = start(folder, section, pause_s=0.3)
    checkpoint = folder / "0" / "checkpoint" / "checkpoint.npz"
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.25)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("tensorflow cpu", {"backend": "tensorflow", "kind": "cpu", "virtual_cpus": 2}),
        ("jax cpu", {"backend": "jax", "kind": "cpu", "virtual_cpus": 4}),
    ],
)
def test_killed_and_resumed_gives_the_same_bits(
    tmp_path: Path, done: dict[str, Path], name: str, section: dict[str, Any]
) -> None:
    kill_in_training(tmp_path, section)
    process = start(tmp_path, section)
    finish(process)
    resumed, whole = (json.loads(path.read_text()) for path in (tmp_path / "0.0.json", done[name]))
    assert resumed["resumed_at"] is not None
    assert resumed["history"] == whole["history"]
    assert resumed["digest"] == whole["digest"]
    assert (tmp_path / "0.keras").read_bytes() == (done[name].parent / "0.keras").read_bytes()


def test_killed_under_one_backend_goes_on_under_the_other(tmp_path: Path, done: dict[str, Path]) -> None:
    kill_in_training(tmp_path, {"backend": "tensorflow"})
    process = start(tmp_path, {"backend": "jax"})
    finish(process)
    assert json.loads((tmp_path / "0.0.json").read_text())["resumed_at"] is not None
    np.testing.assert_allclose(losses(tmp_path / "0.0.json"), losses(done["jax cpu"]), rtol=1e-5)


def test_a_host_that_dies_ends_the_job_with_a_message(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hosts = {"kind": "multi-host", "coordinator": f"127.0.0.1:{port}", "processes": 2}
    first, second = (start(tmp_path, hosts | {"process_index": index}, pause_s=0.3, epochs=50) for index in (0, 1))
    deadline = time.monotonic() + 120
    while not (tmp_path / "0" / "checkpoint" / "checkpoint.npz").exists():
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second.send_signal(signal.SIGKILL)
    _, said = first.communicate(timeout=180)
    second.communicate()
    assert first.returncode not in (0, None)
    assert "lost one of its hosts" in said
    assert "last checkpoint" in said


class FourDevices(strategy.Running):
    """Only the counting of rows."""


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_padding_loses_no_example_and_counts_none_twice(count: int, processes: int) -> None:
    examples = ArrayExamples(np.arange(count)[:, None], np.arange(count)[:, None])
    mass = np.zeros(count)
    for index in range(processes):
        running = FourDevices(
            "jax", "data-parallel", ("0", "1", "2", "3"), "float32", True, (), strategy.running.OneProgram(), True,
            processes, index,
        )  # fmt: skip
        for batch, _ in batches(examples, order_of(count, 1, 2), 6, 0, running):
            assert running.batch(batch.count) % 4 == 0
            assert len(batch.weights) == running.batch(batch.count) // processes
            # a batch's weights, over every process, average to one: the loss is the mean over its examples
            for row, weight in zip(batch.x[:, 0], batch.weights, strict=True):
                mass[row] += weight * batch.count / running.batch(batch.count)
    np.testing.assert_allclose(mass, 1, rtol=1e-6)


def test_own_weights_are_kept() -> None:
    running = strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    examples = ArrayExamples(np.zeros((3, 2)), np.zeros((3, 1)), np.array([1.0, 2.0, 4.0]))
    batch = read_batch(examples, np.array([2, 0]), 0, running)
    assert batch.weights.tolist() == [4.0, 1.0]


def test_a_second_backend_in_one_process_is_refused() -> None:
    strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    with pytest.raises(ConfigError, match="already runs on tensorflow"):
        strategy.set_up(StrategySection(backend="jax"), seed=0)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="needs 1 device, 0 found"):
        strategy.set_up(StrategySection(backend="tensorflow", kind="gpu"), seed=0)


def test_seeds_are_set_again_by_every_stage() -> None:
    import keras

    draws = []
    for _ in range(2):
        strategy.set_up(StrategySection(backend="tensorflow"), seed=9)
        draws.append(np.asarray(keras.random.normal((3,))).tolist())
    assert draws[0] == draws[1]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_keeps_a_float32_output(precision: str) -> None:
    from thermocancer.models.autoencoder import build_autoencoder

    try:
        strategy.set_up(StrategySection(backend="tensorflow", precision=precision), seed=0)
        model = build_autoencoder("v2", (16, 16), 1)
        assert model.get_layer("code").compute_dtype == precision.removeprefix("mixed_")
        assert model.output.dtype == "float32"
    finally:
        strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
