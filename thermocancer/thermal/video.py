"""Videos of dynamic exams: written frame by frame, read back frame by frame, never half of one.

``DIVX`` is the original study's codec (lossy); ``FFV1`` gives back every pixel exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError, RunError
from thermocancer.files import written_aside

if TYPE_CHECKING:
    import cv2

RgbFrame = npt.NDArray[np.uint8]


def write_video(path: Path, frames: Iterable[RgbFrame], fps: float = 5.0, codec: str = "DIVX") -> int:
    """Write RGB frames, each uint8 (H, W, 3), as an AVI; whole or not at all. Returns the number of frames.

    Raises ValueError for frames of different shapes, DataError for no frames, RunError when this
    OpenCV lacks the codec or the file does not read back with every frame.
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
                _check_open(writer, codec, path)
            if frame.dtype != np.uint8 or frame.shape != (size[1], size[0], 3):
                raise ValueError(f"frame {count} is {frame.dtype} {frame.shape}, not uint8 {(size[1], size[0], 3)}")
            writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
            count += 1
        if writer is None:
            raise DataError("a video needs at least one frame", where=path)
        writer.release()
        _check_written(side, count, path)
    return count


def _check_open(writer: cv2.VideoWriter, codec: str, path: Path) -> None:
    if not writer.isOpened():
        raise RunError(
            f"this OpenCV cannot write {codec} videos",
            where=path,
            hint="set convert.video_codec to the other of DIVX and FFV1, or reinstall opencv-python from PyPI",
        )


def _check_written(side: Path, count: int, path: Path) -> None:
    import cv2

    capture = cv2.VideoCapture(str(side))
    found = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    capture.release()
    if found != count:
        raise RunError("a video was not written whole", where=path, expected=f"{count} frames", found=found)


def read_video(path: Path, *, frames: int | None = None, size: tuple[int, int] | None = None) -> Iterator[RgbFrame]:
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
