"""Read one temperature matrix from text, in any of the layouts that cameras and their exports write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import Decoded, decode_fixed_width
from thermocancer.thermal.decoding_uneven import decode_any_width
from thermocancer.thermal.layouts import MatrixText, decode_line_by_line, find_numbers, find_separator, truncated

SEPARATORS = {"space": b" ", "semicolon": b";", "comma": b",", "tab": b"\t"}
_SEPARATOR_NAMES = {separator: name for name, separator in SEPARATORS.items()}
_HIGHEST_CENTI = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class ThermalMatrix:
    """One matrix as the text gives it; ``celsius`` and ``centi`` are formed when they are asked for.

    ``numbers`` (height, width) are integers in units of 10**-``decimals`` degrees, or degrees where the
    text has exponents or NaN. ``layout`` is the separator's name and the most decimals any number has
    (``space2``, ``semicolon5``). ``notes`` names everything unusual that was understood (line ends, ...).
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
    def centi(self) -> npt.NDArray[np.uint16]:
        """Hundredths of a degree, uint16 (height, width). Raises DataError as ``to_centi`` does."""
        if self.decimals == 2 and self.numbers.dtype == np.uint16:
            return self.numbers.astype(np.uint16, copy=False)
        return to_centi(self.celsius)


def read_matrix(path: Path) -> ThermalMatrix:
    """Read a file. Raises DataError naming file and line when it holds no whole matrix."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError("this matrix cannot be read", where=path, found=error.strerror or error) from error
    return parse_matrix(content, where=str(path))


def parse_matrix(content: bytes, *, where: str = "") -> ThermalMatrix:
    """Parse a file's bytes; ``where`` is the name that errors carry.

    Understands space, tab, ``;`` and ``,`` as separators, decimal commas, LF, CR LF, CR CR LF and CR
    line ends, byte-order marks, trailing separators, header lines and blank lines. Numbers that no
    skin can have (NaN, 99) are read as they are: judging them is the part of ``thermal.quality``.

    Raises DataError (file and line, what was expected, what was found) for an empty file, a web page,
    binary content, a truncated or ragged matrix, a cell that is no number, and commas that could be
    separators as well as decimal marks.
    """
    decoded = decode_fixed_width(content)
    if decoded is None:
        text = find_numbers(content, where)
        decoded = _decode_unusual(text, maybe_regular=text.body is not content)
    height, width = decoded.numbers.shape
    if height < 2 or width < 2:
        raise DataError(
            "this is no matrix, or it is cut off",
            where=where,
            expected="two or more rows and columns",
            found=f"{height}x{width}",
        )
    layout = f"{_SEPARATOR_NAMES[decoded.separator]}{decoded.decimals}"
    return ThermalMatrix(decoded.numbers, decoded.decimals, layout, decoded.notes)


def _decode_unusual(text: MatrixText, *, maybe_regular: bool) -> Decoded:
    """Decode what does not look like a camera's own file from the first byte on."""
    below_header = decode_fixed_width(text.body) if maybe_regular else None
    if below_header is not None:
        return replace(below_header, notes=(*text.notes, *below_header.notes))
    separator, mark = find_separator(text)
    notes = [*text.notes]
    if b"\r" in text.body:
        notes.append("CR CR LF line ends" if b"\r\r\n" in text.body else "CR LF line ends")
    notes += ["decimal commas"] if mark == b"," else []
    decoded = decode_any_width(text.body, separator, mark)
    if decoded is None:
        celsius, decimals = decode_line_by_line(text, separator, mark)
        decoded = Decoded(celsius, separator, decimals)
    _refuse_broken_last_number(text)
    return replace(decoded, notes=(*notes, *decoded.notes))


def _refuse_broken_last_number(text: MatrixText) -> None:
    """A file without a last line end whose last number alone is shorter than all others was cut off."""
    last = text.body[text.body.rfind(b"\n") + 1 :]
    regular = decode_fixed_width(text.body.removesuffix(last)) if last.strip() else None
    if regular is None:
        return
    cells = last.strip().split(regular.separator)
    decimals = len(cells[-1].strip()) - 1 - max(cells[-1].find(b"."), cells[-1].find(b","))
    if decimals < regular.decimals:
        line = text.first_line + text.body.count(b"\n")
        raise truncated(len(cells), len(cells), f"{text.where}:{line}")


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
