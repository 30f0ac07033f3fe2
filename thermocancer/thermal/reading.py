"""Read one temperature matrix from a file: text in any layout, images, arrays and videos' stills with temperatures.

Nothing is guessed in silence: whatever is unusual leaves a note, and what could mean two things is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import Decoded
from thermocancer.thermal.formats import MOST_FILE_BYTES, read_binary
from thermocancer.thermal.layouts import read_text
from thermocancer.thermal.regions import filled, missing_pixels
from thermocancer.thermal.units import Calibration, Unit, to_celsius

_HIGHEST_CENTI = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class ThermalMatrix:
    """One matrix as the file gives it; what is made of its numbers is formed when it is asked for.

    ``numbers`` (height, width) are integers in units of 10**-``decimals`` degrees Celsius, or degrees where
    a text has exponents or NaN and where the file is no text. ``layout`` is the separator's name and the
    most decimals any number has (``space2``, ``semicolon5``), or the format (``tiff-float32``, ``flir``).
    ``notes`` names everything unusual that was understood (line ends, header, row numbers, unit, ...).
    """

    numbers: npt.NDArray[np.integer] | npt.NDArray[np.float64]
    decimals: int
    layout: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        height, width = self.numbers.shape
        return height, width

    @cached_property
    def celsius(self) -> npt.NDArray[np.float64]:
        """Degrees, float64 (height, width): bit for bit what ``numpy.loadtxt`` gives."""
        if np.issubdtype(self.numbers.dtype, np.integer):
            return self.numbers / 10.0**self.decimals
        return self.numbers.astype(np.float64, copy=False)

    @cached_property
    def missing(self) -> npt.NDArray[np.bool_] | None:
        """Where there is no temperature (NaN, infinity, zeros that are fill), (height, width); None: nowhere."""
        if np.issubdtype(self.numbers.dtype, np.integer) and self.numbers.min() > 0:
            return None
        missing = missing_pixels(self.celsius)
        return missing if missing.any() else None

    @cached_property
    def degrees(self) -> npt.NDArray[np.float64]:
        """Degrees, float64 (height, width), NaN where there is no temperature."""
        return self.celsius if self.missing is None else np.where(self.missing, np.nan, self.celsius)

    @cached_property
    def centi(self) -> npt.NDArray[np.uint16]:
        """Hundredths of a degree, uint16 (height, width), the frame's own background where there is no temperature.

        Raises DataError as ``to_centi`` does.
        """
        if self.missing is not None:
            return fill_centi(self.degrees)
        if self.decimals == 2 and self.numbers.dtype == np.uint16:
            return self.numbers.astype(np.uint16, copy=False)
        return to_centi(self.celsius)


def read_matrix(
    path: Path,
    *,
    frame: int | None = None,
    unit: Unit | None = None,
    calibration: Calibration | None = None,
    shape: tuple[int, int] | None = None,
) -> ThermalMatrix:
    """Read a file as ``parse_matrix`` does. Raises DataError naming file and line when it holds no whole matrix."""
    return parse_matrix(
        _content_of(path), where=str(path), frame=frame, unit=unit, calibration=calibration, shape=shape
    )


def read_frames(
    path: Path,
    *,
    unit: Unit | None = None,
    calibration: Calibration | None = None,
    shape: tuple[int, int] | None = None,
    part: str | None = None,
) -> tuple[ThermalMatrix, ...]:
    """Every frame of a file in order, all of one shape; a file with one matrix has one. Raises as ``read_matrix``.

    ``part`` chooses one of a file with several: a variable by its name, a page or frame by its number from 0.
    """
    content = _content_of(path)
    return parse_frames(content, where=str(path), unit=unit, calibration=calibration, shape=shape, part=part)


def parse_matrix(
    content: bytes,
    *,
    where: str = "",
    frame: int | None = None,
    unit: Unit | None = None,
    calibration: Calibration | None = None,
    shape: tuple[int, int] | None = None,
) -> ThermalMatrix:
    """Parse a file's bytes; ``where`` is the name that errors carry.

    Understands the text layouts of ``layouts.read_text`` and the formats of ``formats.read_binary``.
    ``frame`` (from 0) chooses one of a file with several; ``unit`` says what the numbers are, and they
    are converted exactly (raw counts by ``calibration``); None takes what the file states, or degrees
    Celsius if they can be that. ``shape`` (rows, columns) chooses where a text can be read in two ways; it does
    not check any other file. Numbers that no skin can have (NaN, 99) are read as they are: judging
    them is the part of ``thermal.quality``.

    Raises DataError (file and line, what was expected, what was found, what to do) for a file with
    several frames when none is chosen, for numbers that look like another unit, for an empty, truncated
    or ragged file, a cell that is no number, and everything that could be read in two ways.
    """
    frames = _all_frames(content, where, shape)
    if frame is None and len(frames) > 1:
        raise DataError(
            "this file holds several frames, not one matrix",
            where=where,
            expected="one matrix",
            found=_count(frames),
            hint=f"choose one with frame=0 to frame={len(frames) - 1}, or take all of them with read_frames",
        )
    if frame is not None and not 0 <= frame < len(frames):
        raise DataError("there is no such frame", where=where, expected=_count(frames), found=f"frame={frame}")
    return _finish(frames[frame or 0], unit, calibration, where)


def parse_frames(
    content: bytes,
    *,
    where: str = "",
    unit: Unit | None = None,
    calibration: Calibration | None = None,
    shape: tuple[int, int] | None = None,
    part: str | None = None,
) -> tuple[ThermalMatrix, ...]:
    """Every frame of a file's bytes in order; ``part`` as in ``read_frames``. Raises DataError as ``parse_matrix``."""
    frames = _all_frames(content, where, shape, part)
    if part is not None and part.isdecimal() and len(frames) > 1:
        if int(part) >= len(frames):
            raise DataError("there is no such frame", where=where, expected=_count(frames), found=f"import.part={part}")
        frames = [frames[int(part)]]
    return tuple(_finish(each, unit, calibration, where) for each in frames)


def _content_of(path: Path) -> bytes:
    try:
        size = Path(path).stat().st_size
        if size > MOST_FILE_BYTES:
            raise DataError(
                "this file is too large to be read at once",
                where=path,
                expected=f"{MOST_FILE_BYTES >> 20} MB or less",
                found=f"{size >> 20} MB",
            )
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError("this matrix cannot be read", where=path, found=error.strerror or error) from error


def _all_frames(content: bytes, where: str, shape: tuple[int, int] | None, part: str | None = None) -> list[Decoded]:
    frames = read_binary(content, where, part)
    if frames is None:
        frames = read_text(content, where, shape)
    height, width = frames[0].numbers.shape
    if height < 2 or width < 2:
        raise DataError(
            "this is no matrix, or it is cut off",
            where=where,
            expected="two or more rows and columns",
            found=f"{height}x{width}",
        )
    return frames


def _count(frames: list[Decoded]) -> str:
    height, width = frames[0].numbers.shape
    return f"{len(frames)} frame{'s' * (len(frames) > 1)} of {height}x{width}"


def _finish(frame: Decoded, unit: Unit | None, calibration: Calibration | None, where: str) -> ThermalMatrix:
    celsius = to_celsius(frame, unit, calibration, where)
    return ThermalMatrix(celsius.numbers, celsius.decimals, celsius.layout, celsius.notes)


def fill_centi(degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """A matrix (height, width) in degC, NaN where nothing is known, as hundredths with its own background there.

    Raises DataError as ``to_centi`` does, and where nothing at all is known.
    """
    return to_centi(degrees if np.isnan(degrees).all() else filled(degrees))


def to_centi(celsius: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Round to hundredths of a degree, halves to even as the decimal text has them; any shape.

    27.625 becomes 2762 and 27.635 becomes 2764, although neither 27.635 nor its hundredfold is a
    binary number: millionths of a degree are formed first, which undoes the binary error.
    Raises DataError for NaN, infinity and temperatures outside 0 to 655.35.
    """
    scaled = celsius * 1e6
    np.rint(scaled, out=scaled)
    lowest, highest = scaled.min(), scaled.max()  # NaN if there is one
    if not (lowest >= 0 and highest <= _HIGHEST_CENTI * 1e4):
        raise DataError(
            "these temperatures cannot be kept as hundredths of a degree",
            expected="0 to 655.35 degC",
            found=f"{lowest / 1e6:g} to {highest / 1e6:g}",
        )
    scaled /= 1e4  # correctly rounded, so that a decimal half is a binary half again
    return np.rint(scaled, out=scaled).astype(np.uint16)
