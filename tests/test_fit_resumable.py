"""Training: what it keeps, how it stops, and that it goes on as if nothing had happened."""

from __future__ import annotations

import json
import math
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thermocancer import strategy
from thermocancer.config.learning import StrategySection
from thermocancer.errors import DataError, Interrupted, RunError
from thermocancer.models.layers import initialise
from thermocancer.runs.history import read_history
from thermocancer.training import fit
from thermocancer.training.batches import ArrayExamples, order_of, predict
from thermocancer.training.checkpoint import Snapshot, load_model, save_model
from thermocancer.training.fit import (
    Compilation,
    FitResult,
    FitSettings,
    Schedule,
    compile_model,
    evaluate,
    fit_resumable,
    forget,
)


@pytest.fixture(autouse=True)
def running() -> strategy.Running:
    return strategy.set_up(StrategySection(backend="tensorflow"), seed=0)


def network(running: strategy.Running, **how: Any) -> Any:
    """Dropout and batch normalisation, so that random state and moving averages matter."""
    import keras

    inputs = keras.Input((6,), name="x")
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(inputs)
    hidden = keras.layers.BatchNormalization(name="norm")(hidden)
    hidden = keras.layers.Dropout(0.4, seed=11, name="drop")(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="out")(hidden), name="toy")
    initialise(model, 3)
    compile_model(model, Compilation("binary_crossentropy", **how), running)
    return model


def examples(count: int = 22, seed: int = 1) -> ArrayExamples:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    return ArrayExamples(x, (x[:, :1] + 0.3 * rng.normal(size=(count, 1)) > 0).astype(np.float32))


class Stopped:
    """Examples that send this process a signal when batch number ``at`` is read."""

    weights = None

    def __init__(self, base: ArrayExamples, at: int, number: signal.Signals) -> None:
        self.base, self.countdown, self.number = base, at, number

    def __len__(self) -> int:
        return len(self.base)

    def take(self, rows: np.ndarray, epoch: int) -> Any:
        self.countdown -= 1
        if self.countdown == 0:
            os.kill(os.getpid(), self.number)
        return self.base.take(rows, epoch)


SETTINGS = FitSettings(5, 4, seed=2, identity="toy", schedule=Schedule("cosine", 0.02, 5, 1))
HOW: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.1}


def bits(model: Any) -> list[bytes]:
    return [each.tobytes() for each in Snapshot.of(model).weights]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[float | None, tuple[Any, FitResult, Path]]:
    """The whole training, with and without a moving average of the weights."""
    here = strategy.set_up(StrategySection(backend="tensorflow"), seed=0)
    made = {}
    for ema in (None, 0.8):
        model, folder = network(here, ema_momentum=ema, **HOW), tmp_path_factory.mktemp("whole")
        made[ema] = (
            model,
            fit_resumable(model, examples(), validation=examples(9, 5), folder=folder, settings=SETTINGS),
            folder,
        )
    return made


@pytest.mark.parametrize(("at", "ema"), [(1, None), (9, 0.8), (17, None), (30, 0.8)])
def test_stopped_at_any_step_and_resumed_gives_the_same_bits(
    tmp_path: Path, running: strategy.Running, uninterrupted: Any, at: int, ema: float | None
) -> None:
    whole, expected, folder = uninterrupted[ema]
    model, data = network(running, ema_momentum=ema, **HOW), examples()
    stopped = Stopped(data, at, signal.SIGTERM if at == 9 else signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        fit_resumable(model, stopped, validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    assert caught.value.exit_code == 130
    fresh = network(running, ema_momentum=ema, **HOW)
    found = fit_resumable(fresh, data, validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    assert found.resumed_at is not None
    assert found.steps < 30
    assert found.history == expected.history
    assert found.kept_epoch == expected.kept_epoch
    assert bits(fresh) == bits(whole)
    assert (tmp_path / "history.jsonl").read_bytes() == (folder / "history.jsonl").read_bytes()


@pytest.mark.parametrize(("seconds", "stands"), [(0.0, (2, 5)), (1e9, None)], ids=["due each step", "never due"])
def test_checkpoints_are_written_by_time_and_resumed_at_that_step(
    tmp_path: Path, running: strategy.Running, uninterrupted: Any, monkeypatch: pytest.MonkeyPatch,
    seconds: float, stands: tuple[int, int] | None,
) -> None:  # fmt: skip
    """The process dies in the sixth step of the third epoch, without a chance to write anything."""
    monkeypatch.setattr(fit, "CHECKPOINT_S", seconds)
    whole, expected, _ = uninterrupted[None]

    class Dies(Stopped):
        def take(self, rows: np.ndarray, epoch: int) -> Any:
            self.countdown -= 1
            if self.countdown == 0:
                raise SystemExit("killed")
            return self.base.take(rows, epoch)

    with pytest.raises(SystemExit):
        fit_resumable(
            network(running, **HOW), Dies(examples(), 18, signal.SIGKILL), validation=examples(9, 5), folder=tmp_path,
            settings=SETTINGS,
        )  # fmt: skip
    fresh = network(running, **HOW)
    found = fit_resumable(fresh, examples(), validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    assert (found.resumed_at, found.history, bits(fresh)) == (stands, expected.history, bits(whole))


def test_a_finished_training_is_not_done_again(tmp_path: Path, running: strategy.Running) -> None:
    first, again = network(running), network(running)
    fit_resumable(first, examples(), validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    found = fit_resumable(again, examples(), validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    assert found.steps == 0
    assert bits(again) == bits(first)
    forget(tmp_path)
    assert not tmp_path.exists()


@pytest.mark.parametrize("damage", ["another identity", "truncated", "another shape"])
def test_a_checkpoint_that_does_not_belong_is_left(tmp_path: Path, running: strategy.Running, damage: str) -> None:
    import keras

    model = network(running)
    fit_resumable(model, examples(), folder=tmp_path, settings=SETTINGS)
    path = tmp_path / "checkpoint.npz"
    settings, fresh = SETTINGS, network(running)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "another identity":
        settings = FitSettings(5, 4, seed=2, identity="other", schedule=SETTINGS.schedule)
    else:
        fresh = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
        compile_model(fresh, Compilation("mse"), running)
    found = fit_resumable(fresh, examples(), folder=tmp_path, settings=settings)
    assert found.resumed_at is None
    assert found.steps == 30


def test_best_and_patience(tmp_path: Path, running: strategy.Running) -> None:
    """Validation labels are inverted, so every epoch makes it worse."""
    wrong = ArrayExamples(examples(9, 5).x, 1 - examples(9, 5).y)
    settings = FitSettings(9, 4, seed=2, schedule=Schedule("constant", 0.05, 9), patience=2)
    model = network(running)
    result = fit_resumable(model, examples(60), validation=wrong, folder=tmp_path, settings=settings)
    losses = [row["val_loss"] for row in result.history]
    assert len(losses) < 9
    assert result.kept_epoch == int(np.argmin(losses)) + 1 < len(losses) - 1
    assert evaluate(model, wrong, 4, running)["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_keep_last(tmp_path: Path, running: strategy.Running) -> None:
    wrong = ArrayExamples(examples(9, 5).x, 1 - examples(9, 5).y)
    model = network(running)
    settings = FitSettings(4, 4, seed=2, keep="last", schedule=Schedule("constant", 0.05, 4))
    result = fit_resumable(model, examples(60), validation=wrong, folder=tmp_path, settings=settings)
    assert result.kept_epoch == 4
    assert evaluate(model, wrong, 4, running)["loss"] == pytest.approx(result.history[-1]["val_loss"], rel=1e-6)


def test_losses_are_means_over_examples(running: strategy.Running) -> None:
    """9 examples in batches of 4: the last one, alone, counts once."""
    model, data = network(running), examples(9, 5)
    found = evaluate(model, data, 4, running)["loss"]
    score = np.concatenate([output for _, _, output in predict(model, data, 4, running)])
    expected = -np.mean(data.y * np.log(score) + (1 - data.y) * np.log(1 - score))
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path, running: strategy.Running) -> None:
    data = ArrayExamples(np.zeros((8, 6), np.float32), np.full((8, 1), np.nan, np.float32))
    with pytest.raises(RunError, match="no longer a number"):
        fit_resumable(network(running), data, folder=tmp_path, settings=SETTINGS)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    assert order_of(9, 1, 0).tolist() == order_of(9, 1, 0).tolist() != order_of(9, 1, 1).tolist()
    assert sorted(order_of(9, 1, 2).tolist()) == list(range(9))


def test_schedules() -> None:
    cosine = Schedule("cosine", 1.0, 4, 1)
    rates = [cosine.at(step, 10) for step in range(41)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == max(rates) == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[40] == pytest.approx(0.01)
    assert {Schedule("constant", 0.5, 4).at(step, 10) for step in range(40)} == {0.5}


def test_history_holds_no_times(tmp_path: Path, running: strategy.Running) -> None:
    fit_resumable(network(running), examples(), validation=examples(9, 5), folder=tmp_path, settings=SETTINGS)
    rows = read_history(tmp_path / "history.jsonl")
    assert [set(row) for row in rows] == [{"epoch", "loss", "val_loss", "learning_rate"}] * 5
    (tmp_path / "history.jsonl").write_text(json.dumps(rows[0]) + "\n{broken\n")
    with pytest.raises(DataError, match=r"history\.jsonl:2"):
        read_history(tmp_path / "history.jsonl")


def test_equal_models_have_equal_bytes_and_load_safely(tmp_path: Path, running: strategy.Running) -> None:
    for name in ("one", "two"):
        save_model(network(running), tmp_path / f"{name}.keras")
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "two.keras").read_bytes()
    model, loaded = network(running), load_model(tmp_path / "one.keras")
    x = examples().x
    np.testing.assert_array_equal(running.engine.predict(loaded, x), running.engine.predict(model, x))


@pytest.mark.parametrize("damage", ["missing", "truncated", "no archive"])
def test_a_broken_model_file_is_a_data_error(tmp_path: Path, running: strategy.Running, damage: str) -> None:
    path = tmp_path / "model.keras"
    save_model(network(running), path)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"hello")
    with pytest.raises(DataError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def test_waiting_is_measured(tmp_path: Path, running: strategy.Running) -> None:
    result = fit_resumable(network(running), examples(), folder=tmp_path, settings=SETTINGS)
    assert 0 <= result.waited_seconds < result.seconds
    assert math.isfinite(result.seconds)


def test_a_network_that_diverged_in_the_last_step_is_an_error_each_time(
    tmp_path: Path, running: strategy.Running
) -> None:
    """The loss of the only step is that of the weights before it, and finite."""
    settings = FitSettings(1, 64, seed=2, identity="diverges", schedule=Schedule("constant", 3e38, 1))
    for _ in range(2):
        with pytest.raises(RunError, match="no longer a number"):
            fit_resumable(
                network(running, learning_rate=3e38), examples(40), folder=tmp_path, settings=settings,
                validation=examples(9, 5),
            )  # fmt: skip
        assert not (tmp_path / "history.jsonl").exists()
