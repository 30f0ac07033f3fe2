"""From the temperatures of a dynamic exam to what a backbone takes: channels, size, colour, augmentation.

Channels are images of their own, one a frame: ``frame`` is the temperature, ``difference`` its rise
since the exam's first frame, ``rate`` its rise since the chosen frame before, in degC a frame, and
``asymmetry`` how much warmer the torso is than the same place of its other side. The middle two are
the physics of rewarming: vessels and tumours warm faster than what surrounds them, and the room's
own temperature cancels out, as it does between the two sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import DitSection, InputSection
from thermocancer.data.cohort import Frames
from thermocancer.errors import ConfigError
from thermocancer.thermal.regions import midline, torso_mask

Channel = Literal["frame", "difference", "rate", "asymmetry"]
Pixels = npt.NDArray[np.float32]
Celsius = npt.NDArray[np.float32]

SHIFT, TURN_DEGREES, ZOOM = 0.04, 5.0, 0.05
"""Augmented copies move by at most this share of the width, turn and grow by at most this much."""

MIRROR_SEARCH = 20
"""The mirror of a body is looked for within this fraction of the width around its midline."""


@dataclass(frozen=True)
class FrameInput:
    """How frames become a backbone's input; part of the key of its cached features.

    ``size`` is (rows, columns). ``top`` is the value of white: 255 for networks that take raw RGB, 1
    for autoencoders. ``ranges`` maps each channel to the degrees it spans, None for min-max per image.
    """

    size: tuple[int, int]
    kind: Literal["celsius", "rgb"]
    colormap: str
    top: float
    channels: tuple[Channel, ...]
    ranges: tuple[CelsiusRange | None, ...]

    @property
    def depth(self) -> int:
        return 1 if self.kind == "celsius" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and depth of one image."""
        return (*self.size, self.depth)

    def of_temperatures(self, centi: Frames, first: Frames, indices: npt.ArrayLike) -> Pixels:
        """Images of one exam, float32 (frames, channels, rows, columns, depth), from hundredths of a degree.

        ``centi`` is (frames, H, W), ``first`` the exam's first frame (H, W), ``indices`` the frames'
        places in the sequence.
        """
        celsius = _resized(centi.astype(np.float32) / np.float32(100), self.size)  # (T, h, w)
        start = _resized(first[np.newaxis].astype(np.float32) / np.float32(100), self.size)[0]

        def rate() -> Celsius:
            """In degC a frame; the first frame takes the next one's."""
            if len(celsius) < 2:
                return np.zeros_like(celsius)
            apart = np.diff(np.asarray(indices)).astype(np.float32)
            steps = np.diff(celsius, axis=0) / apart[:, np.newaxis, np.newaxis]
            return np.concatenate([steps[:1], steps])

        make: dict[Channel, Callable[[], Celsius]] = {
            "frame": lambda: celsius,
            "difference": lambda: celsius - start,
            "rate": rate,
            "asymmetry": lambda: _asymmetry(celsius),
        }
        images = [self._image(make[name](), span) for name, span in zip(self.channels, self.ranges, strict=True)]
        return np.stack(images, axis=1)  # (T, C, h, w, depth)

    def of_colours(self, rgb: Frames) -> Pixels:
        """Images of one exam whose frames (frames, H, W, 3) are colours already, as in the original recipe.

        Raises ConfigError when degrees, or channels other than ``frame``, are asked for.
        """
        if self.channels != ("frame",) or self.kind == "celsius":
            raise ConfigError(
                "a data set of videos has no degrees",
                where="dit.channels", expected="[frame], and a backbone that takes colours",
                found=f"{list(self.channels)}, {self.kind}",
                hint="build the data set with dataset.source: matrices",
            )  # fmt: skip
        images = _resized(rgb.astype(np.float32), self.size)  # (T, h, w, 3)
        return (images * np.float32(self.top / 255))[:, np.newaxis]

    def _image(self, celsius: Celsius, span: CelsiusRange | None) -> Pixels:
        """One channel (T, h, w) in degC to (T, h, w, depth) between 0 and ``top``; without ``span`` by each image's own
        range.
        """
        if self.kind == "celsius":
            low: Celsius | np.float32
            width: Celsius | np.float32
            if span is None:
                low = celsius.min(axis=(1, 2), keepdims=True)
                width = np.maximum(celsius.max(axis=(1, 2), keepdims=True) - low, 0.01)
            else:
                low, width = np.float32(span.low), np.float32(span.high - span.low)
            return np.asarray(np.clip((celsius - low) / width, 0, 1)[..., np.newaxis] * np.float32(self.top))
        from thermocancer.thermal.rendering import render

        rendering = Rendering(colormap=self.colormap, range="minmax" if span is None else span)
        coloured = np.stack([render(frame, rendering) for frame in celsius]).astype(np.float32)
        return coloured * np.float32(self.top / 255)


def frame_input(config: DitSection) -> FrameInput:
    """What backbones that take raw RGB are fed under this config."""
    return _with_channels(config, config.size, "rgb", config.rendering, 255.0)


def encoder_input(config: DitSection, size: tuple[int, int], trained_on: InputSection) -> FrameInput:
    """What an autoencoder's encoder is fed: the input it was trained on, at its own size."""
    return _with_channels(config, size, trained_on.kind, trained_on.rendering, 1.0)


def _with_channels(
    config: DitSection, size: tuple[int, int], kind: Literal["celsius", "rgb"], rendering: Rendering, top: float
) -> FrameInput:
    absolute = None if rendering.range == "minmax" else rendering.range
    spans = {
        "frame": absolute, "difference": config.difference_range, "rate": config.rate_range,
        "asymmetry": config.asymmetry_range,
    }  # fmt: skip
    ranges = tuple(spans[channel] for channel in config.channels)
    return FrameInput(tuple(size), kind, rendering.colormap, top, config.channels, ranges)  # type: ignore[arg-type]


VERSION = 2
"""Raise it when the same settings give other pixels: cached features of the old ones are then left alone."""


def input_to_json(given: FrameInput) -> dict[str, object]:
    """JSON types only; ``input_from_json`` reads it back."""
    return {
        "version": VERSION,
        "size": list(given.size),
        "kind": given.kind,
        "colormap": given.colormap,
        "top": given.top,
        "channels": list(given.channels),
        "ranges": [None if each is None else [each.low, each.high] for each in given.ranges],
    }


def input_from_json(found: Mapping[str, Any]) -> FrameInput:
    """The inverse of ``input_to_json``."""
    rows, columns = found["size"]
    ranges = tuple(None if each is None else CelsiusRange(low=each[0], high=each[1]) for each in found["ranges"])
    return FrameInput(
        (rows, columns), found["kind"], found["colormap"], float(found["top"]), tuple(found["channels"]), ranges
    )


def _asymmetry(celsius: Celsius) -> Celsius:
    """The torso less its mirror image, 0 where either side is not torso.

    The mirror stands, to half a column, where the mean frame is most like its image: a body a little
    aside of its midline would otherwise show its outlines as differences.
    """
    mean = celsius.mean(axis=0).astype(np.float64)
    torso = torso_mask(mean)
    centre = 2 * midline(mean, torso) - 1  # column c faces column centre - c
    reach = max(1, celsius.shape[2] // MIRROR_SEARCH)
    places = range(centre - reach, centre + reach + 1)
    best = min(places, key=lambda place: (_unlikeness(mean, torso, place), abs(place - centre)))
    columns, inside = _facing(best, celsius.shape[2])
    both = torso & torso[:, columns] & inside
    return np.where(both, celsius - celsius[:, :, columns], np.float32(0))


def _facing(place: int, width: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """For each column the one that faces it, and whether that is inside the frame."""
    columns = place - np.arange(width)
    return np.clip(columns, 0, width - 1), (columns >= 0) & (columns < width)


def _unlikeness(mean: npt.NDArray[np.float64], torso: npt.NDArray[np.bool_], place: int) -> float:
    """Median difference of the torso and its mirror image, degC; torso that faces none counts as one degree."""
    columns, inside = _facing(place, mean.shape[1])
    both = torso & torso[:, columns] & inside
    alone = 1 - both.sum() / torso.sum()
    return float(np.median(np.abs(mean - mean[:, columns])[both]) + alone) if both.any() else float("inf")


def _resized(images: Celsius, size: tuple[int, int]) -> Celsius:
    """Images (T, H, W) or (T, H, W, 3) at another size: averaged when they shrink, interpolated when they grow."""
    if images.shape[1:3] == size:
        return images
    import cv2

    rows, columns = size
    method = cv2.INTER_AREA if rows < images.shape[1] else cv2.INTER_LINEAR
    return np.stack([cv2.resize(image, (columns, rows), interpolation=method) for image in images])


def augmented(frames: Frames, rng: np.random.Generator) -> Frames:
    """One exam's frames (T, H, W) or (T, H, W, 3), all moved, turned, zoomed and perhaps mirrored alike."""
    import cv2

    height, width = frames.shape[1:3]
    mirrored = rng.random() < 0.5
    turn, zoom = rng.uniform(-TURN_DEGREES, TURN_DEGREES), 1 + rng.uniform(-ZOOM, ZOOM)
    shift = rng.uniform(-SHIFT, SHIFT, 2) * width
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, zoom)
    matrix[:, 2] += shift
    moved = [
        cv2.warpAffine(frame, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for frame in frames
    ]
    result = np.asarray(np.stack(moved), dtype=frames.dtype)
    return result[:, :, ::-1] if mirrored else result
