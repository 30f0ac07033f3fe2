"""Read one temperature matrix from text, in any of the layouts that cameras and their exports write.

Nothing is guessed silently: whatever is unusual leaves a note, and what could mean two things is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import (
    BETWEEN,
    NUMBER,
    SEPARATORS,
    Decoded,
    MatrixText,
    decode_any_width,
    decode_fixed_width,
    decode_line_by_line,
    shown,
    truncated,
)

_SEPARATOR_NAMES = {separator: name for name, separator in SEPARATORS.items()}
_HIGHEST_CENTI = np.iinfo(np.uint16).max
_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_CELLS = re.compile(BETWEEN)
_PADDING = b"".join(SEPARATORS.values()) + b"\r"
_MOST_HEADER_LINES = 100


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
    # a file without a last line end whose last number alone is shorter than all others was cut off
    last = text.body[text.body.rfind(b"\n") + 1 :]
    regular = decode_fixed_width(text.body.removesuffix(last)) if last.strip() else None
    if regular is not None:
        cells = last.strip().split(regular.separator)
        if len(cells[-1].strip()) - 1 - max(cells[-1].find(b"."), cells[-1].find(b",")) < regular.decimals:
            line = text.first_line + text.body.count(b"\n")
            raise truncated(len(cells), len(cells), f"{text.where}:{line}")
    return replace(decoded, notes=(*notes, *decoded.notes))


# --- the layout: where the numbers begin, and what stands between them ------


def find_numbers(content: bytes, where: str) -> MatrixText:
    """Skip a byte-order mark and header lines, and end every line with LF (or CR LF, CR CR LF).

    Raises DataError for an empty file, a web page, binary content and text without numbers.
    """
    notes: list[str] = []
    text = content
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            notes.append(f"{encoding.upper()} byte-order mark")
            text = content[len(mark) :]
            if encoding != "utf-8":
                text = text.decode(encoding, errors="replace").encode("ascii", errors="replace")
            break
    start, expected = text[:4096].strip(), "lines of temperatures"
    if not start and not text.strip():
        raise DataError("this file is empty", where=where, expected=expected, found=f"{len(text)} bytes")
    if start.startswith(b"<"):
        raise DataError(
            "this is a web page, not a temperature matrix",
            where=f"{where}:1",
            expected=expected,
            found=shown(start),
            hint="the site may have asked for a login; fetch the file again",
        )
    if b"\0" in text:
        raise DataError("this is a binary file, not text", where=where, expected=expected, found=shown(start))
    if b"\n" not in text and b"\r" in text:
        text = text.replace(b"\r", b"\n")
        notes.append("CR line ends")
    header = _header_lines(text, where)
    if header:
        *skipped, text = text.split(b"\n", header)
        if any(line.strip() for line in skipped):
            notes.append(f"{header} header line{'s' * (header > 1)}")
    return MatrixText(text, header + 1, where, tuple(notes))


def _header_lines(text: bytes, where: str) -> int:
    """How many lines stand before the numbers."""
    lines = text.split(b"\n", _MOST_HEADER_LINES + 1)[: _MOST_HEADER_LINES + 1]
    filled = [number for number, line in enumerate(lines) if line.strip()]
    for number, below in zip(filled, [*filled[1:], None], strict=True):
        cells = _CELLS.split(lines[number].strip(_PADDING))
        width_below = 0 if below is None else len(_CELLS.split(lines[below].strip(_PADDING)))
        numbers = sum(NUMBER.fullmatch(cell) is not None for cell in cells)
        if numbers == len(cells):
            if len(cells) == 2 and width_below > 2 and all(cell.isdigit() for cell in cells):
                continue  # "480 640": the size, not a line of the matrix
            return number
        if 2 * numbers > len(cells) and len(cells) == width_below:
            return number  # a line of the matrix with a broken cell, which the decoder will name
    raise DataError(
        "no line of numbers in this file",
        where=f"{where}:1",
        expected="lines of temperatures",
        found=shown(text.strip()),
    )


def find_separator(text: MatrixText) -> tuple[bytes, bytes]:
    """The byte between numbers and the decimal mark, from the first line of numbers.

    Raises DataError for commas that could be separators as well as decimal marks, and for a single column.
    """
    body, place = text.body, f"{text.where}:{text.first_line}"
    line = body[: body.find(b"\n")].strip(b" \r") if b"\n" in body else body.strip(b" \r")
    for separator in (each for each in SEPARATORS.values() if each not in b" ,"):
        if separator in line:
            return separator, b"," if b"," in body else b"."
    cells = line.split()
    listed = len(cells) > 1 and all(cell.endswith(b",") for cell in cells[:-1])  # "20, 21" rather than "20,5 21,0"
    if len(cells) > 1 and not listed:
        return b" ", b"," if b"," in body else b"."
    if b"," in line and (b"." in body or (listed and not any(b"," in cell[:-1] for cell in cells))):
        return b",", b"."
    if b"," in line:
        raise DataError(
            "commas could be separators or decimal marks here",
            where=place,
            expected="decimal points, or another separator beside decimal commas",
            found=shown(line),
            hint="write ';' between the numbers",
        )
    raise DataError("only one number in a line", where=place, expected="a matrix", found=shown(line))


# --- hundredths of a degree -----------------------------------------------------


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
