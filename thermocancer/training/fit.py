"""Training that can be killed at any moment and goes on to the same weights, bit for bit on a CPU.

The loop is explicit so that it can stop between any two steps: the order of the data is a
function of (seed, epoch), the learning rate of the step, and everything else that changes is in
the checkpoint.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Literal

import numpy as np

from thermocancer import strategy
from thermocancer.errors import Interrupted, RunError
from thermocancer.files import sweep
from thermocancer.progress import Task, task_around
from thermocancer.runs.history import Row, write_history
from thermocancer.strategy.running import Running
from thermocancer.training.batches import ArrayExamples, Batch, Examples, batches, order_of
from thermocancer.training.checkpoint import Checkpoint, Snapshot, Standing

if TYPE_CHECKING:
    import keras

CHECKPOINT = "checkpoint.npz"
HISTORY = "history.jsonl"
CHECKPOINT_S = 30.0
"""So much work SIGKILL may cost: one after every epoch took a fifth of the time of a small training."""

__all__ = ["ArrayExamples", "Examples", "FitResult", "FitSettings", "evaluate", "fit_resumable", "forget"]


@dataclass(frozen=True)
class FitSettings:
    """How long, in what order, and which weights are kept.

    ``identity`` names the training (a fingerprint of data and settings): a checkpoint of another
    one is not taken up. ``keep`` decides between the weights of the best epoch by ``monitor`` (lower
    is better) and the last ones; without validation it is always the last. ``checkpoint_every`` so many
    epochs, or (None) whenever ``CHECKPOINT_S`` have passed; at the end always.
    """

    epochs: int
    batch: int
    seed: int
    identity: str = ""
    schedule: Schedule | None = None
    monitor: str = "val_loss"
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    checkpoint_every: int | None = None


@dataclass
class FitResult:
    """What came of a training. The weights are those of ``kept_epoch`` (from 1); times are those of this call alone."""

    history: list[Row]
    kept_epoch: int
    resumed_at: tuple[int, int] | None = None
    seconds: float = 0.0
    waited_seconds: float = 0.0
    steps: int = 0


def fit_resumable(
    model: keras.Model,
    examples: Examples,
    *,
    folder: Path,
    settings: FitSettings,
    validation: Examples | None = None,
    running: Running | None = None,
    task: Task | None = None,
) -> FitResult:
    """Train a compiled model in place (see ``compile_model``); the kept weights are in it at the end.

    ``folder`` holds the checkpoint and the history while it lasts; call ``forget`` once the model is
    saved. Starting points: 1. a checkpoint of the same ``identity``, at the very step; 2. the
    model as it is. SIGINT and SIGTERM write a checkpoint and raise Interrupted. Raises RunError
    when the loss is no longer a number.
    """
    here = running or strategy.current()
    return _Fit(model, examples, validation, folder, settings, here, task or task_around()).run()


def forget(folder: Path) -> None:
    """Remove a checkpoint and its history, when the model they led to is saved."""
    for name in (CHECKPOINT, HISTORY):
        (folder / name).unlink(missing_ok=True)
    sweep(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def evaluate(model: keras.Model, examples: Examples, size: int, running: Running) -> dict[str, float]:
    """Mean loss and metrics over all examples, each counted once."""
    sums: dict[str, float] = {}
    for batch, _ in batches(examples, np.arange(len(examples)), size, 0, running):
        logs = running.engine.step(model, (batch.x, batch.y, batch.weights), training=False)
        for name, value in logs.items():
            sums[name] = sums.get(name, 0.0) + value * batch.count
    return {name: total / len(examples) for name, total in sums.items()}


@dataclass
class _Fit:
    """One call of ``fit_resumable``."""

    model: keras.Model
    examples: Examples
    validation: Examples | None
    folder: Path
    settings: FitSettings
    running: Running
    task: Task
    standing: Standing = field(default_factory=Standing)
    best: Snapshot | None = None
    waited: float = 0.0
    steps: int = 0
    written_at: float = field(default_factory=time.monotonic)

    def run(self) -> FitResult:
        started = time.perf_counter()
        with self.running.engine.guard(), Stopping() as stopping:
            resumed = self._resume()
            while not self.standing.finished:
                self._epoch(stopping)
            if self.best is not None:
                self.best.put_into(self.model)
            # with an exponential moving average the averaged weights are the result
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        standing = self.standing
        kept = len(standing.history) if self.best is None else standing.best_epoch + 1
        return FitResult(standing.history, kept, resumed, time.perf_counter() - started, self.waited, self.steps)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.examples) / self.settings.batch)

    def _resume(self) -> tuple[int, int] | None:
        found = Checkpoint.read(self.folder / CHECKPOINT, self.settings.identity)
        if found is None or not found.last.fits(self.model) or not found.last.is_finite():
            self.standing.finished = self.settings.epochs == 0
            return None
        found.last.put_into(self.model)
        self.standing, self.best = found.standing, found.best
        self.task.advance(self.standing.epoch)
        return self.standing.epoch, self.standing.step

    def _epoch(self, stopping: Stopping) -> None:
        standing = self.standing
        order = order_of(len(self.examples), self.settings.seed, standing.epoch)
        for batch, waited in batches(
            self.examples, order, self.settings.batch, standing.epoch, self.running, first=standing.step
        ):
            self._step(batch)
            self.waited += waited
            if stopping.asked:
                self._stop(stopping)
            if self.settings.checkpoint_every is None and time.monotonic() - self.written_at >= CHECKPOINT_S:
                self._write_checkpoint(Snapshot.of(self.model))
        self._close_epoch()
        if stopping.asked and not standing.finished:
            self._stop(stopping)

    def _step(self, batch: Batch) -> None:
        standing = self.standing
        if self.settings.schedule is not None:
            done = standing.epoch * self.steps_per_epoch + standing.step
            self.model.optimizer.learning_rate = self.settings.schedule.at(done, self.steps_per_epoch)
        logs = self.running.engine.step(self.model, (batch.x, batch.y, batch.weights), training=True)
        if not math.isfinite(logs["loss"]):
            raise _diverged(f"epoch {standing.epoch + 1}, step {standing.step + 1}", logs["loss"])
        for name, value in logs.items():
            standing.sums[name] = standing.sums.get(name, 0.0) + value * batch.count
        standing.seen += batch.count
        standing.step += 1
        self.steps += 1

    def _close_epoch(self) -> None:
        standing, settings = self.standing, self.settings
        row: Row = {"epoch": standing.epoch + 1}
        row |= {name: total / standing.seen for name, total in standing.sums.items()}
        if self.validation is not None:
            found = evaluate(self.model, self.validation, settings.batch, self.running)
            row |= {f"val_{name}": value for name, value in found.items()}
        if settings.schedule is not None:
            last = standing.epoch * self.steps_per_epoch + standing.step - 1
            row["learning_rate"] = settings.schedule.at(last, self.steps_per_epoch)
        # the last step's loss is that of the weights before it: what it did to them shows in neither
        odd = next((f"{name} {value}" for name, value in row.items() if not math.isfinite(value)), None)
        now = Snapshot.of(self.model)
        if odd is not None or not now.is_finite():
            raise _diverged(f"after epoch {row['epoch']}", odd or "weights that are no numbers")
        standing.history.append(row)
        self._judge(row, now)
        standing.epoch, standing.step, standing.seen, standing.sums = standing.epoch + 1, 0, 0, {}
        out_of_patience = settings.patience is not None and standing.wait >= settings.patience
        standing.finished = standing.epoch >= settings.epochs or out_of_patience
        if standing.finished or (settings.checkpoint_every and standing.epoch % settings.checkpoint_every == 0):
            self._write_checkpoint(now)
        self.task.advance()
        losses = {"loss": "loss", "val_loss": "validation"}
        said = ", ".join(f"{word} {row[name]:.4g}" for name, word in losses.items() if name in row)
        self.task.say(f"{said}, epoch {standing.epoch} of {settings.epochs}")

    def _judge(self, row: Row, now: Snapshot) -> None:
        standing, value = self.standing, row.get(self.settings.monitor)
        if value is None or standing.best is None or value < standing.best:
            standing.best, standing.best_epoch, standing.wait = value, standing.epoch, 0
            if value is not None and self.settings.keep == "best":
                self.best = now
        else:
            standing.wait += 1

    def _write_checkpoint(self, now: Snapshot) -> None:
        self.written_at = time.monotonic()
        if self.running.is_writer:
            checkpoint = Checkpoint(self.settings.identity, self.standing, now, self.best)
            checkpoint.write(self.folder / CHECKPOINT)
            write_history(self.folder / HISTORY, self.standing.history)

    def _stop(self, stopping: Stopping) -> None:
        self._write_checkpoint(Snapshot.of(self.model))
        raise Interrupted(
            f"training stopped by {stopping.name}",
            where=f"epoch {self.standing.epoch + 1}, step {self.standing.step}",
            hint="the same command goes on from exactly there",
        )


def _diverged(where: str, found: object) -> RunError:
    return RunError("the loss is no longer a number", where=where, found=found, hint="lower the learning rate")


# --- SIGINT and SIGTERM while training: finish the step, write a checkpoint, stop ---------

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], object] | int | None
"""What ``signal`` calls, or a default of the system, or None: a handler that Python did not install."""


class Stopping:
    """Within the block, the first signal only sets ``asked``; a second one interrupts at once.

    An exception thrown into the middle of a step could leave half of the weights updated. In any
    thread but the main one signals cannot be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self.name = ""
        self._previous: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked, self.name = True, signal.Signals(number).name


# --- learning rate over a training, and the optimizers that follow it ---------

FLOOR = 0.01
"""A cosine schedule ends at this fraction of its peak."""


@dataclass(frozen=True)
class Schedule:
    """A learning rate as a function of the step, so that a resumed training follows the same curve.

    ``constant``: always ``peak``. ``cosine``: linear warm-up over ``warmup_epochs``, then half a
    cosine down to a hundredth of ``peak`` at the last step (Loshchilov and Hutter 2017).
    """

    kind: Literal["constant", "cosine"]
    peak: float
    epochs: int
    warmup_epochs: int = 0

    def at(self, step: int, steps_per_epoch: int) -> float:
        """The rate for step 0, 1, ... of the whole training."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.peak * (step + 1) / warmup
        if self.kind == "constant":
            return self.peak
        share = (step - warmup) / max(1, self.epochs * steps_per_epoch - warmup)
        return self.peak * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


@dataclass(frozen=True)
class Compilation:
    """How a network is compiled. ``weight_decay`` and ``ema_momentum`` only where not None."""

    loss: str | keras.losses.Loss
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float | None = None
    ema_momentum: float | None = None
    metrics: tuple[str | keras.metrics.Metric, ...] = ()


def compile_model(model: keras.Model, how: Compilation, running: Running) -> None:
    """Compile a Keras model for ``fit_resumable`` and make the optimizer's variables.

    Call it inside ``running.scope()`` together with the building of the model.
    """
    import keras

    averaging = {} if how.ema_momentum is None else {"use_ema": True, "ema_momentum": how.ema_momentum}
    decay = {} if how.weight_decay is None else {"weight_decay": how.weight_decay}
    make = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}[how.optimizer]
    model.compile(
        optimizer=make(learning_rate=how.learning_rate, **decay, **averaging),
        loss=how.loss,
        weighted_metrics=list(how.metrics),
        jit_compile=running.jit_compile,
    )
    model.optimizer.build(model.trainable_variables)
