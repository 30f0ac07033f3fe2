"""Read one temperature matrix from text, in any of the layouts that cameras and their exports write."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.cleaning import CleanText, clean_text, decode_cell_by_cell, truncated
from thermocancer.thermal.decoding import Decoded, decode_any_width, decode_fixed_width

SEPARATORS = {"space": b" ", "semicolon": b";", "comma": b",", "tab": b"\t"}
_SEPARATOR_NAMES = {separator: name for name, separator in SEPARATORS.items()}
_LINE_END_NAMES = {b"\r\n": "CR LF", b"\r\r\n": "CR CR LF"}
_HIGHEST_CENTI = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class ThermalMatrix:
    """One matrix as the text gives it.

    ``celsius`` is float64 (height, width), bit for bit what ``numpy.loadtxt`` would give. ``layout``
    is the separator's name and the most decimals any number has (``space2``, ``semicolon5``).
    ``notes`` names everything unusual that was understood (line ends, header lines, ...).
    """

    celsius: npt.NDArray[np.float64]
    layout: str
    notes: tuple[str, ...] = ()

    @cached_property
    def centi(self) -> npt.NDArray[np.uint16]:
        """Hundredths of a degree, uint16 (height, width). Raises DataError as ``to_centi`` does."""
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
    matrix = _parse_unusual(content, where) if decoded is None else _parsed(decoded)
    height, width = matrix.celsius.shape
    if height < 2 or width < 2:
        raise DataError(
            "this is no matrix, or it is cut off",
            where=where,
            expected="two or more rows and columns",
            found=f"{height}x{width}",
        )
    return matrix


def _parsed(decoded: Decoded) -> ThermalMatrix:
    notes = [f"{_LINE_END_NAMES.get(decoded.line_end, 'odd')} line ends"] if decoded.line_end != b"\n" else []
    if decoded.trailing_separator and decoded.separator != b" ":
        notes.append("trailing separators")
    return ThermalMatrix(decoded.celsius, f"{_SEPARATOR_NAMES[decoded.separator]}{decoded.decimals}", tuple(notes))


def _parse_unusual(content: bytes, where: str) -> ThermalMatrix:
    """Every layout but the camera's own: clean first, then decode."""
    clean = clean_text(content, where)
    decoded = decode_fixed_width(clean.body) or decode_any_width(clean.body, clean.separator)
    if decoded is None:
        celsius, decimals = decode_cell_by_cell(clean, where)
    else:
        celsius, decimals = decoded.celsius, decoded.decimals
    _refuse_broken_last_number(clean, where)
    return ThermalMatrix(celsius, f"{clean.name}{decimals}", clean.notes)


def _refuse_broken_last_number(clean: CleanText, where: str) -> None:
    """A file without a last line end whose last number alone is shorter than all others was cut off."""
    if clean.whole:
        return
    above, _, last = clean.body[:-1].rpartition(b"\n")
    regular = decode_fixed_width(above + b"\n")
    if regular is None:
        return
    cells = last.split(clean.separator)
    if len(cells[-1].partition(b".")[2]) < regular.decimals:
        place = f"{where}:{clean.line_numbers[regular.celsius.shape[0]]}"
        raise truncated(len(cells), len(cells), place)


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
