"""The fusion network of the original study: one branch a view on encoder codes, joined to one score.

Frontal, Left and Right, Left45 and Right45 have branches of their own size. The study spells out
the five-view form; three views (Frontal, Left, Right: 400 + 2 x 200 features joined) and fewer are
our reading: the same branches, the same head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from thermocancer.errors import ConfigError
from thermocancer.models.layers import initialise

if TYPE_CHECKING:
    import keras

JOINED = (600, 300, 150, 80, 40, 20, 10)
"""Widths of the dense layers after the views are joined."""

DROPOUT = 0.2

BRANCHES: dict[str, tuple[tuple[int, ...], int]] = {
    "Frontal": ((16, 8, 4), 400),
    "Left": ((8, 4, 2), 200),
    "Right": ((8, 4, 2), 200),
    "Left45": ((3, 1), 200),
    "Right45": ((3, 1), 200),
}
"""Filters of each view's convolutions, with a pooling between two of them, and the width of its dense layer."""


def build_fusion(shapes: Mapping[str, tuple[int, int, int]], *, seed: int = 0) -> keras.Model:
    """An uncompiled Keras model from codes to the probability of sick, (n, 1).

    ``shapes`` gives for each view (height, width, channels) of its code; inputs are named by view
    and come in this order. Raises ConfigError for an unknown view or a code too small to pool.
    """
    import keras
    from keras import layers

    _check(shapes)
    inputs = [keras.Input(shape, name=view) for view, shape in shapes.items()]  # (n, h, w, c) each
    branches = [_branch(code, view) for view, code in zip(shapes, inputs, strict=True)]
    x = layers.Concatenate(name="joined")(branches) if len(branches) > 1 else branches[0]  # (n, 200 to 1200)
    x = layers.Dropout(DROPOUT, seed=seed, name="dropout")(x)
    for number, width in enumerate(JOINED, start=1):
        x = layers.Dense(width, activation="relu", name=f"dense_{number}")(x)
    score = layers.Dense(1, activation="sigmoid", dtype="float32", name="score")(x)  # (n, 1)
    model = keras.Model(inputs, score, name="fusion")
    initialise(model, seed)
    return model


def _branch(code: keras.KerasTensor, view: str) -> keras.KerasTensor:
    from keras import layers

    filters, width = BRANCHES[view]
    x = code
    for number, count in enumerate(filters, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"{view}_pool_{number - 1}")(x)  # half as high and wide
        x = layers.Conv2D(count, 3, padding="same", activation="relu", name=f"{view}_conv_{number}")(x)
    x = layers.Flatten(name=f"{view}_flat")(x)
    return layers.Dense(width, activation="relu", name=f"{view}_dense")(x)  # (n, width)


def _check(shapes: Mapping[str, tuple[int, int, int]]) -> None:
    for view, (height, width, _) in shapes.items():
        if view not in BRANCHES:
            raise ConfigError("the fusion network knows no such view", expected=", ".join(BRANCHES), found=view)
        least = 2 ** (len(BRANCHES[view][0]) - 1)
        if min(height, width) < least:
            raise ConfigError(
                "the codes are too small for the fusion network",
                where=f"view {view}",
                expected=f"at least {least} x {least}",
                found=f"{height} x {width}",
                hint="choose a larger dataset.size, or fuse.model: svm",
            )
    if not shapes:
        raise ConfigError("the fusion network needs a view", expected="1, 3 or 5 views", found="none")
