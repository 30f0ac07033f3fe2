"""The network that reads a chest and answers with a posterior: is there a source, in which cell, how deep, how large.

A small encoder and decoder on the frontal view and its mirror image; the oblique views come in row by row, as a level
camera sees the same height of the body in the same row. Neural posterior estimation on a grid: the losses
are cross entropies, so that what it gives are probabilities (Cranmer, Brehmer, Louppe 2020, PNAS 117:30055).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.config.judging import LocateSection
from thermocancer.locate import Cells, FloatArray, IntArray
from thermocancer.locate.chest import COLUMNS, ROWS
from thermocancer.locate.solving import joined
from thermocancer.locate.training_set import Exams, Phantoms
from thermocancer.progress import Task
from thermocancer.strategy.running import Running, quietly

if TYPE_CHECKING:
    import keras

DEPTH_EDGES = (14.0, 17.0, 20.0, 22.5, 25.0, 27.5, 30.0, 33.0, 36.0, 41.0)
DIAMETER_EDGES = (13.0, 16.0, 19.0, 23.0)
HEAT_EDGES = (1.4e5, 2.0e5, 3.0e5, 5.0e5)
"""Where the bins of depth and diameter (mm) and heat (W/m3) meet."""

PARTS = tuple(len(each) + 1 for each in (DEPTH_EDGES, DIAMETER_EDGES, HEAT_EDGES))
"""Bins of each."""

HALF = (ROWS // 2, COLUMNS // 2)
"""The grid on which depth, diameter and heat are told; places are told on the whole one."""

LANDMARK_SCALE = np.array([ROWS, COLUMNS, 20.0])
"""Row, column and radius of a breast are learnt as shares of these."""

DROPPED = 0.3
"""Share of the training exams that lack one oblique view; as many lack both."""


def build(width: int) -> keras.Model:
    """Frontal (n, ROWS, COLUMNS, 2), oblique (n, 2, ROWS / 2, COLUMNS / 2, 2), dynamic (n, ROWS, COLUMNS, 2) to logits.

    ``place`` (n, ROWS * COLUMNS), ``kind`` (n, cells of HALF, sum of PARTS), ``present`` (n, 1), ``breasts`` (n, 6).
    A view that is missing is zeros.
    """
    import keras
    from keras import layers, ops

    def convolved(x: keras.KerasTensor, channels: int, *, size: int = 3, stride: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(channels, size, strides=stride, padding="same", use_bias=False)(x)
        return layers.Activation("relu")(layers.BatchNormalization(momentum=0.97)(x))

    frontal = keras.Input((ROWS, COLUMNS, 2), name="frontal")
    oblique = keras.Input((2, *HALF, 2), name="oblique")
    dynamic = keras.Input((ROWS, COLUMNS, 2), name="dynamic")
    seen = ops.concatenate([frontal, dynamic], axis=-1)
    both = ops.concatenate([seen, ops.flip(seen, axis=2)], axis=-1)  # (n, R, C, 8): what is there, and its mirror image
    fine = ops.reshape(both, (-1, HALF[0], 2, HALF[1], 2, 8))
    fine = ops.reshape(ops.transpose(fine, (0, 1, 3, 2, 4, 5)), (-1, *HALF, 32))
    fine = convolved(convolved(fine, width), width)  # (n, R/2, C/2, width)
    middle = convolved(convolved(fine, width * 3 // 2, stride=2), width * 3 // 2)  # (n, R/4, C/4, ..)

    # each oblique view for its own half of the chest: columns of the view to columns of that half
    sides = ops.reshape(oblique, (-1, *HALF, 2))
    sides = convolved(convolved(convolved(sides, width // 2), width, stride=2), width)  # (2n, R/4, C/4, width)
    sides = layers.Dense(COLUMNS // 8, name="across")(ops.transpose(sides, (0, 1, 3, 2)))  # (2n, R/4, width, C/8)
    sides = ops.reshape(ops.transpose(sides, (0, 1, 3, 2)), (-1, 2, ROWS // 4, COLUMNS // 8, width))
    sides = ops.concatenate([sides[:, 0], ops.flip(sides[:, 1], axis=2)], axis=2)  # (n, R/4, C/4, width)
    middle = convolved(ops.concatenate([middle, sides], axis=-1), width * 3 // 2)

    deep = convolved(convolved(convolved(middle, width * 2, stride=2), width * 2), width * 2)  # (n, R/8, C/8, 2w)
    x = convolved(ops.concatenate([layers.UpSampling2D()(deep), middle], axis=-1), width * 3 // 2, size=1)
    x = convolved(convolved(x, width * 3 // 2), width * 3 // 2)
    # narrowed before the wide grid: two thirds of the time would be spent here otherwise
    x = convolved(ops.concatenate([layers.UpSampling2D()(x), fine], axis=-1), width, size=1)
    x = convolved(convolved(x, width), width)  # (n, R/2, C/2, width)
    place = ops.reshape(layers.Conv2D(4, 3, padding="same", name="four_cells")(x), (-1, *HALF, 2, 2))
    place = ops.reshape(ops.transpose(place, (0, 1, 3, 2, 4)), (-1, ROWS * COLUMNS))
    kind = ops.reshape(layers.Conv2D(sum(PARTS), 1, name="bins")(x), (-1, HALF[0] * HALF[1], sum(PARTS)))
    whole = ops.concatenate([ops.mean(deep, axis=(1, 2)), ops.max(deep, axis=(1, 2))], axis=-1)
    present = layers.Dense(1, name="is_there")(layers.Dense(width, activation="relu")(whole))
    seen = layers.Dense(width, activation="relu")(layers.Flatten()(layers.AveragePooling2D(2, padding="same")(deep)))
    breasts = layers.Dense(6, name="landmarks")(seen)
    named = {"place": place, "kind": kind, "present": present, "breasts": breasts}
    out = {name: layers.Activation("linear", dtype="float32", name=name)(each) for name, each in named.items()}
    return keras.Model({"frontal": frontal, "oblique": oblique, "dynamic": dynamic}, out, name="locator")


def _place_loss(true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Cross entropy of the cell; ``true`` (n, 1)."""
    from keras import ops

    chosen = ops.take_along_axis(logits, ops.cast(true, "int32"), axis=1)[:, 0]
    return ops.logsumexp(logits, axis=1) - chosen


def _kind_loss(true: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Cross entropy of depth, diameter and heat in the cell of the truth; ``true`` (n, 4): that cell, then the bins."""
    from keras import ops

    true = ops.cast(true, "int32")
    here = ops.take_along_axis(logits, true[:, :1, None], axis=1)[:, 0]  # (n, bins)
    loss, start = 0.0, 0
    for number, (bins, share) in enumerate(zip(PARTS, (1.0, 0.5, 0.5), strict=True), start=1):
        part = here[:, start : start + bins]
        chosen = ops.take_along_axis(part, true[:, number : number + 1], axis=1)[:, 0]
        loss, start = loss + share * (ops.logsumexp(part, axis=1) - chosen), start + bins
    return loss


# --- from exams to arrays, and training ---------------------------------------


def cell_of(place: FloatArray, *, coarse: int = 1) -> IntArray:
    """Flat cell of places (n, 2) on the grid, or on one ``coarse`` times coarser."""
    rows, columns = ROWS // coarse, COLUMNS // coarse
    row, column = (
        np.clip(np.floor(each / coarse), 0, most - 1) for each, most in zip(place.T, (rows, columns), strict=True)
    )
    return np.asarray(row * columns + column, dtype=np.int64)


def inputs_of(exams: Exams) -> dict[str, Cells]:
    """What the network reads."""
    return {"frontal": exams.frontal, "oblique": exams.oblique, "dynamic": exams.dynamic}


def targets_of(exams: Exams) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """What it is told, and the weight of each exam in each loss: no place where there is no source."""
    bins = [np.digitize(values, edges) for values, edges in (
        (exams.depth, DEPTH_EDGES), (exams.diameter, DIAMETER_EDGES), (exams.heat, HEAT_EDGES))]  # fmt: skip
    there = exams.present.astype(np.float64)
    ones = np.ones(len(there))
    told = {
        "place": cell_of(exams.place).astype(np.float64)[:, None],
        "kind": np.stack([cell_of(exams.place, coarse=2), *bins], axis=1).astype(np.float64),
        "present": there[:, None],
        "breasts": (exams.breasts / LANDMARK_SCALE).reshape(len(ones), -1),
    }
    return told, {"place": there, "kind": there, "present": ones, "breasts": ones}


def fit(section: LocateSection, phantoms: Phantoms, seed: int, running: Running, task: Task) -> keras.Model:
    """A network that has seen ``section.steps`` batches of phantoms, each drawn anew. Deterministic on a CPU."""
    import keras

    rng = np.random.default_rng([seed, 31])
    with running.scope():
        model = build(section.width)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, section.steps, warmup_target=section.learning_rate, warmup_steps=max(1, section.steps // 20)
        )
        model.compile(
            keras.optimizers.AdamW(rate, weight_decay=1e-4, clipnorm=5.0),
            loss={
                "place": _place_loss, "kind": _kind_loss, "breasts": "mean_squared_error",
                "present": keras.losses.BinaryCrossentropy(from_logits=True),
            },
            loss_weights={"place": 1.0, "kind": 1.0, "present": 1.0, "breasts": 10.0},
            jit_compile=running.jit_compile,
        )  # fmt: skip
    size = running.batch(section.batch)
    recent = 0.0
    for step in range(section.steps):
        frames = size // 2  # the others have no recovery
        parts = ((size - frames, False), (frames, True))
        exams = joined([phantoms.exams(rng, n, sick=0.7, tilted=0.5, dynamic=more) for n, more in parts if n])
        lacking = rng.random(size)
        exams.oblique[lacking < DROPPED] = 0.0
        one = np.flatnonzero((lacking >= DROPPED) & (lacking < 2 * DROPPED))
        exams.oblique[one, rng.integers(0, 2, len(one))] = 0.0
        alone = rng.random(size) < 0.5  # of those with a recovery every second has its frames alone
        exams.frontal[alone] = exams.late[alone]
        told, weights = targets_of(exams)
        with quietly() if step == 0 else nullcontext():  # oneDNN speaks of what this processor lacks
            logs = running.engine.step(model, (inputs_of(exams), told, weights), training=True)
        recent += (logs["loss"] - recent) * max(0.02, 1.0 / (step + 1))
        task.say(f"loss {recent:.2f}")
        task.advance()
    return model


@dataclass(frozen=True)
class Outputs:
    """What the network says of n exams: log-probabilities ``place`` (n, cells), ``depth``, ``diameter`` and ``heat``
    (n, cells of HALF, bins); ``present`` (n) log-odds; ``breasts`` (n, 2, 3) in cells."""

    place: Cells
    depth: Cells
    diameter: Cells
    heat: Cells
    present: FloatArray
    breasts: FloatArray


def outputs(model: keras.Model, inputs: dict[str, Cells], batch: int = 64) -> Outputs:
    """The network on exams of any number."""
    made: list[dict[str, Cells]] = []
    total = len(inputs["frontal"])
    for start in range(0, total, batch):
        part = {name: each[start : start + batch] for name, each in inputs.items()}
        short = batch - len(part["frontal"]) if total > batch else 0  # one shape, one trace
        padded = {name: np.pad(each, [(0, short)] + [(0, 0)] * (each.ndim - 1)) for name, each in part.items()}
        said = {name: np.asarray(each) for name, each in model.predict_on_batch(padded).items()}
        made.append({name: each[: len(part["frontal"])] for name, each in said.items()})
    joined = {name: np.concatenate([each[name] for each in made]) for name in made[0]}
    ends = np.cumsum((0, *PARTS))
    depth, diameter, heat = (_log_softmax(joined["kind"][..., a:b]) for a, b in pairwise(ends))
    breasts = joined["breasts"].reshape(-1, 2, 3).astype(np.float64) * LANDMARK_SCALE
    return Outputs(
        _log_softmax(joined["place"]), depth, diameter, heat, joined["present"][:, 0].astype(np.float64), breasts
    )


def _log_softmax(logits: Cells) -> Cells:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dtype=np.float32)
