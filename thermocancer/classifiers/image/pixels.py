"""Pixels of an image folder at one size, and batches of them for training.

Images are decoded once and kept in ``cache/images/KEY.npy``, one uint8 array that is mapped, not
read: memory does not grow with the folder, and every epoch and seed finds the pixels ready.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.cache import mapped_array
from thermocancer.config.learning import CnnSection
from thermocancer.data.class_images import ImageFolder, read_image
from thermocancer.data.cohort import IntArray
from thermocancer.files import fingerprint
from thermocancer.progress import Progress

Batch = npt.NDArray[np.float32]
SHIFT, TURN_DEGREES, ZOOM, BRIGHTNESS = 0.05, 8.0, 0.08, 0.1
"""How far an augmented image may move (share of its size), turn, grow and lighten."""


def load_pixels(folder: ImageFolder, config: CnnSection, cache: Path, progress: Progress) -> npt.NDArray[np.uint8]:
    """All images at ``cnn.size``, uint8 (n, H, W, C), in the order of ``folder.images``, mapped from the cache."""
    depth = 3 if config.color == "rgb" else 1
    shape = (len(folder.images), *config.size, depth)

    def fill(pixels: npt.NDArray[np.uint8]) -> None:
        with progress.task("decode images", shape[0], "images") as task:
            for row, image in enumerate(folder.images):
                pixels[row] = read_image(folder.root / image.path, colour=config.color, size=config.size)
                task.advance()

    return mapped_array(cache / "images" / f"{fingerprint(folder.fingerprint, shape)[:32]}.npy", shape, np.uint8, fill)


@dataclass(frozen=True, eq=False)
class ImageExamples:
    """Images to train or validate on (see ``batches.Examples``): float32 (n, H, W, C) in [0, 1], labels (n, 1).

    Augmentation is a function of (seed, epoch, image) alone, mixing of the batch too.
    """

    pixels: npt.NDArray[np.uint8]
    rows: IntArray
    labels: IntArray
    seed: int = 0
    augment: bool = False
    mixup: float = 0.0
    weights: None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[Batch, Batch]:
        """Images and labels of ``rows``, positions among these examples."""
        images = to_unit(self.pixels[self.rows[rows]])
        targets = self.labels[rows].astype(np.float32)[:, np.newaxis]
        if self.augment:
            generators = (np.random.default_rng([self.seed, 6001, epoch, int(row)]) for row in rows)
            images = np.stack([augmented(image, rng) for image, rng in zip(images, generators, strict=True)])
        if self.mixup > 0:
            return mixed(images, targets, self.mixup, np.random.default_rng([self.seed, 6002, epoch, *rows.tolist()]))
        return images, targets


def to_unit(pixels: npt.NDArray[np.uint8]) -> Batch:
    """0..255 to float32 0..1."""
    return pixels.astype(np.float32) / np.float32(255)


def mixed(inputs: Batch, targets: Batch, alpha: float, rng: np.random.Generator) -> tuple[Batch, Batch]:
    """Blend each image (or its features) and its label with another's (mixup, Zhang 2018, arXiv:1710.09412)."""
    share = rng.beta(alpha, alpha, len(inputs)).astype(np.float32)
    partner = rng.permutation(len(inputs))
    own = share.reshape(-1, *[1] * (inputs.ndim - 1))
    column = share[:, np.newaxis]
    return own * inputs + (1 - own) * inputs[partner], column * targets + (1 - column) * targets[partner]


def augmented(image: Batch, rng: np.random.Generator) -> Batch:
    """One image (H, W, C), moved, turned, zoomed, lightened and perhaps mirrored."""
    import cv2

    height, width, depth = image.shape
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), rng.uniform(-TURN_DEGREES, TURN_DEGREES), 1 + rng.uniform(-ZOOM, ZOOM)
    )
    matrix[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * np.array([width, height])
    moved: Any = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = np.clip(moved.reshape(height, width, depth) * (1 + rng.uniform(-BRIGHTNESS, BRIGHTNESS)), 0, 1)
    return moved[:, ::-1] if rng.random() < 0.5 else moved


def views_of(images: Batch) -> list[Batch]:
    """The copies that test-time augmentation averages over: as it is, mirrored, and both a little brighter."""
    brighter = np.clip(images * np.float32(1.05), 0, 1)
    return [images, images[:, :, ::-1], brighter, brighter[:, :, ::-1]]
