"""The compiled sequence head that all folds share, and the end-to-end model made of it and a backbone.

Building and tracing a network takes longer than training it on cached features; so one head is
compiled and every fold starts from fresh weights in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.classifiers.sequence.readers import FrameReader
from thermocancer.config.learning import DitSection
from thermocancer.data.cohort import FloatArray
from thermocancer.training.checkpoint import Snapshot
from thermocancer.training.schedules import Compilation, compile_model

PREDICT_BATCH = 256
Weights = list[npt.NDArray[Any]]


@dataclass(eq=False)
class HeadSlot:
    """One head; ``start`` is its state before any training, None for a loaded one."""

    model: Any
    start: Snapshot | None = None

    @classmethod
    def build(cls, config: DitSection, frames: int, features: int) -> HeadSlot:
        """Build and compile. Call it inside the strategy's scope."""
        from thermocancer.models.sequence import build_head

        model = build_head(frames, features, **head_settings(config))
        compile_model(model, compilation(config), strategy.current())
        return cls(model, Snapshot.of(model))

    def fresh(self, seed: int) -> Any:
        """The compiled model with new weights, a new optimizer state and new dropout, all from ``seed``."""
        if self.start is not None:
            self.start.put_into(self.model)
        start_from(self.model, seed)
        return self.model

    def holding(self, weights: Weights) -> Any:
        """The model with these weights."""
        self.model.set_weights(weights)
        return self.model

    def weights_of(self, model: Any) -> Weights:
        return [np.array(each) for each in model.get_weights()]

    def predict(self, weights: Weights, features: npt.NDArray[np.float32]) -> FloatArray:
        """Probabilities (n,) for features (n, frames, features), in batches of one size."""
        model, running = self.holding(weights), strategy.current()
        found = []
        for start in range(0, len(features), PREDICT_BATCH):
            part = features[start : start + PREDICT_BATCH]
            padded = np.concatenate([part, np.repeat(part[-1:], running.batch(len(part)) - len(part), axis=0)])
            found.append(np.asarray(running.engine.predict(model, padded))[: len(part), 0])
        return np.concatenate(found).astype(np.float64) if found else np.zeros(0)


def start_from(model: Any, seed: int) -> None:
    """First weights and dropout of a model as drawn from ``seed``, the same on every backend."""
    from thermocancer.models.layers import initialise

    initialise(model, seed)
    for number, variable in enumerate(each for each in model.variables if each.name == "seed_generator_state"):
        variable.assign(np.array([seed % 2**32, number], dtype="uint32"))


def head_settings(config: DitSection) -> dict[str, Any]:
    """The config's part of ``build_head``."""
    return {
        "reader": config.head, "units": config.units, "dropout": config.dropout,
        "norm_momentum": config.norm_momentum,
    }  # fmt: skip


def compilation(config: DitSection) -> Compilation:
    """Optimiser and loss of the config; by default the original study's optimiser."""
    return Compilation(
        loss="binary_crossentropy" if config.loss == "bce" else "mean_squared_error",
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay if config.optimizer == "adamw" else None,
        ema_momentum=config.ema_momentum,
    )


def compile_end_to_end(reader: FrameReader, slot: HeadSlot, config: DitSection, seed: int) -> tuple[Any, Any]:
    """Backbone and head as one compiled model, and the backbone in it.

    With ``finetune`` the backbone is a copy whose last blocks learn; otherwise it is the reader's own.
    """
    import keras

    from thermocancer.models.backbones import unfreeze_last_blocks
    from thermocancer.models.sequence import build_head, join_backbone

    frames, features = slot.model.input_shape[1:]
    head = build_head(frames, features, **head_settings(config))
    start_from(head, seed)
    backbone = reader.model
    if config.finetune:
        backbone = keras.models.clone_model(reader.model)
        backbone.set_weights(reader.model.get_weights())
        unfreeze_last_blocks(backbone, config.finetune_blocks)
    model = join_backbone(backbone, head, len(reader.input.channels))
    compile_model(model, compilation(config), strategy.current())
    return model, backbone
