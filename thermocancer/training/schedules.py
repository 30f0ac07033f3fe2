"""Learning rate over a training, and the optimizers that follow it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from thermocancer.strategy.running import Running

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

    loss: Any
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = 1e-3
    weight_decay: float | None = None
    ema_momentum: float | None = None
    metrics: tuple[Any, ...] = ()


def compile_model(model: Any, how: Compilation, running: Running) -> None:
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
