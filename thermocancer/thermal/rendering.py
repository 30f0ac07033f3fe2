"""From temperatures to colours by table lookup, and from colours to the videos of dynamic exams and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.errors import ConfigError, DataError, RunError
from thermocancer.files import written_aside
from thermocancer.strategy.running import import_quietly

if TYPE_CHECKING:
    import cv2

Colours = npt.NDArray[np.uint8]
COLOURS = 256


@lru_cache(maxsize=32)
def colour_table(name: str) -> Colours:
    """The 256 colours of a matplotlib colour map, uint8 RGB (256, 3); ``gray`` needs no matplotlib.

    Raises ConfigError with the nearest names for a map that matplotlib does not have.
    """
    if name == "gray":
        table = np.repeat(np.arange(COLOURS, dtype=np.uint8)[:, None], 3, axis=1)
    else:
        import matplotlib

        if name not in matplotlib.colormaps:
            import difflib

            close = difflib.get_close_matches(name, list(matplotlib.colormaps))
            raise ConfigError(
                f"there is no colour map {name!r}",
                where="rendering.colormap",
                expected="the name of a matplotlib colour map",
                hint=f"did you mean {close[0]!r}?" if close else "viridis, prism, jet and gray are usual",
            )
        # the middle of each 256th of [0, 1]: exact for maps of 256 colours, and right for shorter ones
        middles = (np.arange(COLOURS) + 0.5) / COLOURS
        table = matplotlib.colormaps[name](middles, bytes=True)[:, :3].copy()
    table.setflags(write=False)
    return table


def render(celsius: npt.NDArray[np.floating], rendering: Rendering) -> Colours:
    """Colour a matrix in degrees Celsius: (height, width) to uint8 RGB (height, width, 3).

    The pixels are those of ``matplotlib``'s map on ``(celsius - low) / (high - low)``; below and above
    a fixed range the first and last colour. Raises DataError for values that are not finite, and for
    a flat matrix under ``minmax`` (its range would be zero).
    """
    return colour_table(rendering.colormap).take(levels(celsius, rendering), axis=0)


def levels(celsius: npt.NDArray[np.floating], rendering: Rendering) -> npt.NDArray[np.uint8]:
    """Which of the 256 colours each temperature gets: any shape to uint8. Raises as ``render`` does."""
    low, high = float(celsius.min()), float(celsius.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("a matrix with values that are not finite cannot be coloured", found=f"{low}, {high}")
    if isinstance(rendering.range, CelsiusRange):
        low, high = rendering.range.low, rendering.range.high
    elif high <= low:
        raise DataError(
            "a flat matrix has no range to stretch",
            expected="at least two temperatures",
            found=f"{low:g} degC everywhere",
            hint="filter drops such exams; a fixed range can show it",
        )
    scaled = (celsius - low) / (high - low)  # divided first, then multiplied: matplotlib's own rounding at the edges
    scaled *= COLOURS
    np.clip(scaled, 0, COLOURS - 1, out=scaled)
    return scaled.astype(np.uint8)


def levels_of_centi(centi: npt.NDArray[np.uint16], rendering: Rendering) -> npt.NDArray[np.uint8]:
    """``levels`` of one matrix in hundredths of a degree, each temperature that occurs computed once."""
    lowest, highest = int(centi.min()), int(centi.max())
    if highest == lowest:
        return levels(centi / 100.0, rendering)
    possible = np.arange(lowest, highest + 1) / 100.0
    return levels(possible, rendering).take(centi - np.uint16(lowest))


def render_centi(centi: npt.NDArray[np.uint16], rendering: Rendering) -> Colours:
    """Colour hundredths of a degree: (height, width) or (n, height, width) to uint8 RGB (..., 3).

    ``minmax`` is taken of each matrix by itself. Raises DataError as ``render`` does.
    """
    table = colour_table(rendering.colormap)
    if centi.ndim == 2:
        return table.take(levels_of_centi(centi, rendering), axis=0)
    coloured = np.empty((*centi.shape, 3), np.uint8)
    for each, matrix in zip(coloured, centi, strict=True):
        table.take(levels_of_centi(matrix, rendering), axis=0, out=each)
    return coloured


# --- images: read back ------------------------------------------------------------------------------------------------


def decode_image(content: bytes, decoder: Literal["opencv", "tensorflow"] = "opencv") -> Colours | None:
    """A JPEG or PNG file as RGB uint8 (H, W, 3); None where it is none.

    ``tensorflow`` decodes as Keras' ``image_dataset_from_directory`` does, with the fast inverse transform: up to 4
    grey levels off OpenCV's exact one, 1.0 to 1.1 on average. Set the strategy up before.
    """
    if not content:
        return None
    if decoder == "opencv":
        import cv2

        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
        return None if image is None else image.astype(np.uint8, copy=False)
    _leave_devices_alone()
    import tensorflow as tf

    try:
        with tf.device("CPU:0"):
            return np.asarray(tf.io.decode_image(content, channels=3, expand_animations=False), np.uint8)
    except tf.errors.InvalidArgumentError:
        return None


@lru_cache(maxsize=1)
def _leave_devices_alone() -> None:
    """Where another backend computes, TensorFlow takes no memory of the GPU to decode a file."""
    if os.environ.get("KERAS_BACKEND") == "tensorflow":
        return
    import_quietly("tensorflow")
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # it runs already
        tf.config.set_visible_devices([], "GPU")


# --- videos: written and read frame by frame, never half of one ----------------


def write_video(path: Path, frames: Iterable[Colours], fps: float = 5.0, codec: str = "DIVX") -> int:
    """Write RGB frames, each uint8 (H, W, 3), as an AVI; whole or not at all. Returns the number of frames.

    ``DIVX`` is the original study's codec (lossy); ``FFV1`` gives back every pixel exactly. Raises
    ValueError for frames of different shapes, DataError for no frames, RunError when this OpenCV lacks the codec
    or the file does not read back with every frame.
    """
    import cv2

    count, size = 0, (0, 0)
    with written_aside(Path(path)) as side, contextlib.ExitStack() as stack:
        writer: cv2.VideoWriter | None = None
        for frame in frames:
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(side), cv2.VideoWriter.fourcc(*codec), fps, size)
                stack.callback(writer.release)
                if not writer.isOpened():
                    raise RunError(
                        f"this OpenCV cannot write {codec} videos",
                        where=path,
                        hint="set convert.video_codec to the other of DIVX and FFV1, "
                        "or reinstall opencv-python from PyPI",
                    )
            if frame.dtype != np.uint8 or frame.shape != (size[1], size[0], 3):
                raise ValueError(f"frame {count} is {frame.dtype} {frame.shape}, not uint8 {(size[1], size[0], 3)}")
            writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
            count += 1
        if writer is None:
            raise DataError("a video needs at least one frame", where=path)
        writer.release()
        capture = cv2.VideoCapture(str(side))
        found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if found != count:
            raise RunError("a video was not written whole", where=path, expected=f"{count} frames", found=found)
    return count


def read_video(path: Path, *, frames: int | None = None, size: tuple[int, int] | None = None) -> Iterator[Colours]:
    """Yield the frames of a video in order, RGB uint8 (H, W, 3), one at a time.

    ``frames`` and ``size`` (rows, columns) are what the caller needs. Raises DataError when the file
    is no video, is cut short (fewer frames than it announces), or has another size or frame count.
    """
    import cv2

    if not Path(path).is_file():
        raise DataError("there is no such video", where=path, hint="make it with: thermocancer convert")
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DataError("this is not a video that can be read", where=path, hint="make it again with convert")
        announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if frames is not None and announced != frames:
            raise DataError("the video has the wrong number of frames", where=path, expected=frames, found=announced)
        count = 0
        while True:
            whole, frame = capture.read()
            if not whole:
                break
            if size is not None and frame.shape[:2] != tuple(size):
                raise DataError(
                    "the video has the wrong size", where=path, expected=f"{size[0]}x{size[1]} (rows x columns)",
                    found=f"{frame.shape[0]}x{frame.shape[1]}",
                )  # fmt: skip
            count += 1
            yield np.ascontiguousarray(frame[:, :, ::-1])
        if count < max(announced, 1):
            raise DataError(
                "the video is cut short", where=path, expected=f"{announced} frames", found=count,
                hint="make it again with: thermocancer convert",
            )  # fmt: skip
    finally:
        capture.release()
