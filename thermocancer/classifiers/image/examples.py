"""Single images as a network takes them: augmented on the way, or read once by a frozen backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.cache import cached_array
from thermocancer.config.learning import CnnSection
from thermocancer.data.cohort import IMAGE, Cohort, IntArray, Rgb, colours
from thermocancer.files import fingerprint
from thermocancer.progress import Progress
from thermocancer.strategy import Running

if TYPE_CHECKING:
    import keras

Batch = npt.NDArray[np.float32]
SHIFT, TURN_DEGREES, ZOOM, BRIGHTNESS = 0.05, 8.0, 0.08, 0.1
"""How far an augmented image may move (share of its size), turn, grow and lighten."""

AUGMENTED_COPIES = 3
"""Of each image, read by a frozen backbone beside the image as it is."""

READ_AT_ONCE = 32

# --- images ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """Images to train or validate on (see ``batches.Examples``): float32 (n, H, W, C) in [0, 1], labels (n, 1).

    ``rows`` of the cohort and their ``labels``, both (n,). Augmentation is a function of (seed, epoch, image) alone.
    """

    cohort: Cohort
    rows: IntArray
    labels: IntArray
    seed: int = 0
    augment: bool = False
    weights: None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[Batch, Batch]:
        """Images and labels of ``rows``, positions among these examples."""
        images = to_unit(colours(self.cohort, IMAGE, self.rows[rows]))
        if self.augment:
            generators = (np.random.default_rng([self.seed, 6001, epoch, row]) for row in rows.tolist())
            images = np.stack([augmented(image, rng) for image, rng in zip(images, generators, strict=True)])
        return images, self.labels[rows].astype(np.float32)[:, np.newaxis]


def to_unit(pixels: Rgb) -> Batch:
    """0..255 to float32 0..1."""
    return pixels.astype(np.float32) / np.float32(255)


def augmented(image: Batch, rng: np.random.Generator) -> Batch:
    """One image (H, W, C), moved, turned, zoomed, lightened and perhaps mirrored."""
    import cv2

    height, width, depth = image.shape
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(-TURN_DEGREES, TURN_DEGREES), 1 + rng.uniform(-ZOOM, ZOOM)
    )
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * np.array([width, height])
    turned = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = np.asarray(turned, np.float32).reshape(height, width, depth) * (1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS))
    moved = np.asarray(np.clip(moved, 0, 1), np.float32)
    return moved[:, ::-1] if rng.random() < 0.5 else moved


def views_of(images: Batch) -> list[Batch]:
    """The copies that test-time augmentation averages over: as it is, mirrored, and both a little brighter."""
    brighter = np.clip(images * np.float32(1.05), 0, 1)
    return [images, images[:, :, ::-1], brighter, brighter[:, :, ::-1]]


def outputs_of(
    model: keras.Model, cohort: Cohort, rows: IntArray, running: Running, *, size: int,
    seen: Callable[[Batch, IntArray], Sequence[Batch]],
) -> Iterator[Batch]:  # fmt: skip
    """A model's outputs (b, k), batch by batch of at most ``size``: each the mean over what it is shown of a batch.

    ``seen`` makes that of images (b, H, W, C) and their rows; every device gets a whole part of it.
    """
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        padding = running.batch(len(part)) - len(part)
        shown = seen(to_unit(colours(cohort, IMAGE, part)), part)
        filled = (np.concatenate([copy, np.repeat(copy[-1:], padding, axis=0)]) for copy in shown)
        found = [np.asarray(running.engine.predict(model, copy), np.float32) for copy in filled]
        yield np.mean(found, axis=0)[: len(part)]


# --- features by a frozen backbone ----------------------------------------------


def image_features(
    config: CnnSection, cohort: Cohort, cache: Path, running: Running, seed: int, progress: Progress
) -> tuple[keras.Model, Batch]:
    """``cnn.backbone``, and what it makes of every image, from the cache where that is known.

    Features are (1 + copies, n, F): of each image as it is, and of augmented copies.
    """
    from thermocancer.models.backbones import build_backbone, weights_identity

    weights = None if config.weights is None else Path(config.weights)
    with running.scope():
        backbone = build_backbone(
            config.backbone, config.size, weights=weights, sha256=config.weights_sha256, seed=seed
        )
    copies, rows = 1 + (AUGMENTED_COPIES if config.augment else 0), np.arange(len(cohort.exams))

    def read(copy: int) -> Batch:
        def raw(images: Batch, places: IntArray) -> list[Batch]:
            if copy:
                generators = (np.random.default_rng([seed, 6004, copy, place]) for place in places.tolist())
                images = np.stack([augmented(image, rng) for image, rng in zip(images, generators, strict=True)])
            return [(np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images) * np.float32(255)]

        found = []
        with progress.task("image features", len(rows), "images") as task:
            for part in outputs_of(backbone, cohort, rows, running, size=READ_AT_ONCE, seen=raw):
                found.append(part)
                task.advance(len(part))
        return np.concatenate(found)

    shape = (copies, len(rows), int(backbone.output_shape[-1]))
    about = [cohort.fingerprint, config.size, config.color, weights_identity(backbone), seed if copies > 1 else 0]
    key = fingerprint("image features", about, shape, running.backend, running.precision)[:32]
    features = cached_array(
        cache / "images" / f"{key}.features.npy", shape, np.float32,
        lambda: np.stack([read(copy) for copy in range(copies)]),
    )  # fmt: skip
    return backbone, features
