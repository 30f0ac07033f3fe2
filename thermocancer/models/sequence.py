"""The sequence network of the dynamic protocol: features of a few frames in, probability of sick out.

The original form (``lstm``, 24 or 12 units) is batch normalisation, LSTM, dropout 0.2, Dense 8,
dropout 0.2, Dense 4, both linear, Dense 1 sigmoid; trained with AdamW (learning rate 1e-3, weight
decay 0.1, moving average of the weights 0.8) on the mean squared error. The other heads change
what reads the frames and keep the rest.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

Reader = Literal["lstm", "gru", "tcn", "attention"]


def build_head(
    frames: int, features: int, *, reader: Reader, units: int, dropout: float, norm_momentum: float = 0.99
) -> keras.Model:
    """Frame features (n, frames, features) to the probability of sick (n, 1), float32.

    ``norm_momentum`` is that of batch normalisation; with few steps Keras' 0.99 still remembers its start.
    """
    import keras

    inputs = keras.Input((frames, features), name="frame_features")  # (n, T, F)
    x = keras.layers.BatchNormalization(momentum=norm_momentum, name="normalise")(inputs)  # (n, T, F)
    if reader == "lstm":
        x = keras.layers.LSTM(units, name="lstm")(x)  # (n, units)
    elif reader == "gru":
        x = keras.layers.GRU(units, name="gru")(x)  # (n, units)
    else:
        x = _tcn(x, units) if reader == "tcn" else _attention(x, units)  # (n, units)
    x = keras.layers.Dropout(dropout, name="dropout_1")(x)
    x = keras.layers.Dense(8, name="dense_8")(x)  # (n, 8), linear
    x = keras.layers.Dropout(dropout, name="dropout_2")(x)
    x = keras.layers.Dense(4, name="dense_4")(x)  # (n, 4), linear
    x = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="sick")(x)  # (n, 1)
    return keras.Model(inputs, x, name=f"sequence_{reader}")


def _tcn(x: keras.KerasTensor, units: int) -> keras.KerasTensor:
    """Causal convolutions with gaps 1, 2, 4, ... until the last frame sees the first (Bai 2018, arXiv:1803.01271)."""
    import keras

    frames = x.shape[1]
    x = keras.layers.Dense(units, name="tcn_in")(x)  # (n, T, units)
    for level in range(max(1, math.ceil(math.log2(max(2, frames) / 2)))):
        y = keras.layers.Conv1D(
            units, 3, padding="causal", dilation_rate=2**level, activation="relu", name=f"tcn_{level}"
        )(x)
        x = keras.layers.Add(name=f"tcn_add_{level}")([x, y])  # (n, T, units)
    last = keras.layers.Cropping1D((frames - 1, 0), name="tcn_last")(x)  # (n, 1, units)
    return keras.layers.Flatten(name="tcn_out")(last)  # (n, units)


def _attention(x: keras.KerasTensor, units: int) -> keras.KerasTensor:
    """Frames mixed over time (so that each knows its place), self-attention, then their mean."""
    import keras

    frames = x.shape[1]
    x = keras.layers.Dense(units, name="attention_in")(x)  # (n, T, units)
    y = keras.layers.Permute((2, 1), name="attention_by_unit")(x)  # (n, units, T)
    y = keras.layers.Dense(frames, name="attention_place")(y)
    x = keras.layers.Add(name="attention_mixed")([x, keras.layers.Permute((2, 1), name="attention_by_frame")(y)])
    y = keras.layers.MultiHeadAttention(2, max(1, units // 2), name="attention")(x, x)
    x = keras.layers.LayerNormalization(name="attention_norm")(keras.layers.Add(name="attention_add")([x, y]))
    return keras.layers.GlobalAveragePooling1D(name="attention_mean")(x)  # (n, units)


def join_backbone(backbone: keras.Model, head: keras.Model, channels: int = 1) -> keras.Model:
    """Images (n, T, channels, H, W, depth), as ``backbone`` takes them, to the probability of sick (n, 1).

    Time is folded into the batch axis: a time-distributed layer would unroll its static axis and
    trace the backbone once a frame. This model is for training; its two parts are what is saved.
    """
    import keras

    frames, features = head.input_shape[1:]
    shape = tuple(backbone.input_shape[1:])
    inputs = keras.Input((frames, channels, *shape), name="images")  # (n, T, C, H, W, depth)
    folded = keras.ops.reshape(inputs, (-1, *shape))  # (n * T * C, H, W, depth)
    x = keras.ops.reshape(backbone(folded), (-1, frames, features))  # (n, T, C * F)
    return keras.Model(inputs, head(x), name=f"{backbone.name}_{head.name}")
