"""In what a row made again differs from the row that was printed: backbone, sizes, epochs, everything a config sets.

The original's figures are those of its text (2024): autoencoders v1 20 and v2 40 epochs, batch 32, Adam; fusion
network 40 epochs, batch 8; sequence network on EfficientNetB5 at 456x456, AdamW, moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thermocancer.config import Config
from thermocancer.config.base import Rendering
from thermocancer.evaluation.replication.published import PublishedRow

Difference = tuple[str, Any, Any]
"""What it is called, ours, and the original's."""

ORIGINAL_SHAPE = (480, 640)
ORIGINAL_BACKBONE, ORIGINAL_SIZE, ORIGINAL_MOMENTUM = "efficientnetb5", (456, 456), 0.99
PRINTED_BACKBONE = "EfficientNetB5, ImageNet weights"


def made_with(row: PublishedRow, config: Config) -> str:
    """The model of a row as it was made here, in words."""
    if row.model == "sequence":
        dit = config.dit
        return f"{dit.backbone} at {_size(dit.size)} + {dit.head} {dit.units}"
    last = "SVM" if row.model == "svm" else "network"
    return f"autoencoder {row.variant} + {last} on {', '.join(row.views)}"


def deviations(row: PublishedRow, config: Config, shape: tuple[int, int], exams: int) -> list[str]:
    """One line a difference between the settings that made a row and the original's.

    ``shape`` (height, width) and ``exams`` are those of the data set. What makes the two protocols differ
    (who is tested, where the threshold comes from) is not listed: the column says it.
    """
    found = [("matrices", _size(shape), _size(ORIGINAL_SHAPE)), *_of_split(config)]
    if row.model == "sequence":
        found += [*_of_sequences(config)]
    else:
        found += [*_of_autoencoder(row, config, exams), *_of_classifier(row, config)]
    lines = [f"{name} {_words(ours)} (original {_words(theirs)})" for name, ours, theirs in found if ours != theirs]
    return lines + _remarks(row, config)


def _of_split(config: Config) -> Iterator[Difference]:
    if config.split.protocol == "thesis":
        yield "test share", config.split.test_fraction, 0.3
        yield "seed", config.seed, 1


def _of_autoencoder(row: PublishedRow, config: Config, exams: int) -> Iterator[Difference]:
    from thermocancer.training.autoencoder.files import ORIGINAL_BATCH, ORIGINAL_EPOCHS, ORIGINAL_RATE, course_of

    section = config.autoencoder.model_copy(update={"variant": row.variant})
    course = course_of(section, exams)
    yield "autoencoder epochs", course.epochs, ORIGINAL_EPOCHS[section.variant]
    yield "autoencoder batch", course.batch, ORIGINAL_BATCH
    yield "autoencoder learning rate", course.schedule.peak, ORIGINAL_RATE
    yield "autoencoder schedule", section.schedule, "constant"
    yield "autoencoder optimizer", section.optimizer, "adam"
    yield "autoencoder patience", section.patience, None
    yield "colours", _rendering(section.input.rendering), "viridis, minmax"
    jpeg = config.dataset.source == "images" and config.convert.format == "jpg"
    yield "images", "JPEG" if jpeg else "coloured without JPEG", "JPEG"


def _of_classifier(row: PublishedRow, config: Config) -> Iterator[Difference]:
    fuse = config.fuse
    if row.model == "svm":
        yield "features limited to", fuse.clip, None
        return
    yield "network epochs", fuse.epochs, 40
    yield "network batch", fuse.batch, 8
    yield "network learning rate", fuse.learning_rate, 1e-3


def _of_sequences(config: Config) -> Iterator[Difference]:
    dit = config.dit
    yield "backbone", dit.backbone, PRINTED_BACKBONE if dit.backbone != ORIGINAL_BACKBONE else ORIGINAL_BACKBONE
    yield "frames of", _size(dit.size), _size(ORIGINAL_SIZE)
    yield "colours", _rendering(dit.rendering), "prism, minmax"
    yield "channels", ", ".join(dit.channels), "frame"
    original = {
        "dropout": 0.2, "norm_momentum": ORIGINAL_MOMENTUM, "optimizer": "adamw", "learning_rate": 1e-3,
        "weight_decay": 0.1, "ema_momentum": 0.8, "loss": "mse", "class_weights": False, "epochs": 20, "batch": 16,
        "patience": None, "augment": 0, "finetune": False,
    }  # fmt: skip
    for name, theirs in original.items():
        yield name.replace("_", " "), getattr(dit, name), theirs


def _remarks(row: PublishedRow, config: Config) -> list[str]:
    """What differs whatever the settings are."""
    remarks = []
    if len(row.views) == 3:
        remarks.append(f"three views taken to be {', '.join(row.views)} (the original does not name them)")
    if row.model == "sequence":
        remarks.append("frames in their order, resized, never JPEG (original: directory order, resize lost, JPEG)")
        if config.dit.weights is not None:
            remarks.append(f"backbone weights from the file {Path(config.dit.weights).name}")
    if config.strategy.precision != "float32":
        remarks.append(f"computed in {config.strategy.precision}")
    return remarks


def grouped_lines(lines: Sequence[dict[str, Any]], protocols: Sequence[str]) -> list[str]:
    """For the terminal: each set of differences once, with the rows that it holds for."""
    said: dict[tuple[str, str], list[str]] = {}
    for protocol in protocols:
        for line in lines:
            ours = line["ours"].get(protocol, {})
            for each in ours.get("deviations", ()):
                said.setdefault((protocol, each), []).append(line["row"])
    return [f"{protocol}, {', '.join(rows)}: {each}" for (protocol, each), rows in said.items()]


def _rendering(rendering: Rendering) -> str:
    scale = rendering.range
    return f"{rendering.colormap}, " + (scale if isinstance(scale, str) else f"{scale.low:g} to {scale.high:g} degC")


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _words(value: Any) -> str:
    return {None: "none", True: "on", False: "off"}[value] if value is None or isinstance(value, bool) else str(value)
