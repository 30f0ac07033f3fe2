"""Features of a folder's images by a frozen backbone, computed once and kept in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.cache import cached_array
from thermocancer.classifiers.image.pixels import augmented, mixed, to_unit
from thermocancer.config.learning import CnnSection
from thermocancer.data.cohort import IntArray
from thermocancer.files import fingerprint
from thermocancer.progress import Progress
from thermocancer.strategy import Running
from thermocancer.training.batches import ArrayExamples

AUGMENTED_COPIES = 3
BATCH = 32
Features = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """``values`` are (1 + copies, n, F): each image as it is, and augmented copies."""

    backbone: Any
    values: Features

    @property
    def width(self) -> int:
        return int(self.values.shape[-1])

    def examples(
        self, rows: IntArray, labels: IntArray, seed: int, *, training: bool, mixup: float
    ) -> ArrayExamples | MixedFeatures:
        """Training sees every copy, validation the images as they are."""
        copies = self.values if training else self.values[:1]
        x = np.concatenate([copy[rows] for copy in copies])
        y = np.tile(labels[rows], len(copies)).astype(np.float32)[:, np.newaxis]
        return MixedFeatures(x, y, mixup, seed) if mixup > 0 else ArrayExamples(x, y)


@dataclass(frozen=True, eq=False)
class MixedFeatures:
    """Features and labels blended in pairs (see ``batches.Examples``)."""

    x: Features
    y: Features
    alpha: float
    seed: int
    weights: None = None

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: IntArray, epoch: int) -> tuple[Features, Features]:
        rng = np.random.default_rng([self.seed, 6002, epoch, *rows.tolist()])
        return mixed(self.x[rows], self.y[rows], self.alpha, rng)


def image_features(
    config: CnnSection, pixels: npt.NDArray[np.uint8], content: str, cache: Path, running: Running, seed: int,
    progress: Progress,
) -> ImageFeatures:  # fmt: skip
    """Build ``cnn.backbone`` and read its features, from the cache where they are known."""
    from thermocancer.models.backbones import build_backbone, weights_identity

    weights = None if config.weights is None else Path(config.weights)
    with running.scope():
        backbone = build_backbone(
            config.backbone, config.size, weights=weights, sha256=config.weights_sha256, seed=seed
        )
    copies = 1 + (AUGMENTED_COPIES if config.augment else 0)
    shape = (copies, len(pixels), int(backbone.output_shape[-1]))
    about = [content, config.size, config.color, weights_identity(backbone), seed if copies > 1 else 0]
    key = fingerprint("image features", about, shape, running.backend, running.precision)[:32]
    values = cached_array(
        cache / "images" / f"{key}.features.npy", shape, np.float32,
        lambda: np.stack([_read(backbone, pixels, copy, seed, running, progress) for copy in range(copies)]),
    )  # fmt: skip
    return ImageFeatures(backbone, values)


def _read(
    backbone: Any, pixels: npt.NDArray[np.uint8], copy: int, seed: int, running: Running, progress: Progress
) -> Features:
    found = []
    with progress.task("image features", len(pixels), "images") as task:
        for start in range(0, len(pixels), BATCH):
            images = to_unit(pixels[start : start + BATCH])
            if copy:
                places = range(start, start + len(images))
                generators = [np.random.default_rng([seed, 6004, copy, place]) for place in places]
                images = np.stack([augmented(image, rng) for image, rng in zip(images, generators, strict=True)])
            raw = np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
            padding = running.batch(len(raw)) - len(raw)
            raw = np.concatenate([raw, np.repeat(raw[-1:], padding, axis=0)]) * np.float32(255)
            found.append(np.asarray(running.engine.predict(backbone, raw), np.float32)[: len(images)])
            task.advance(len(images))
    return np.concatenate(found)
