"""What layout a matrix text has: where its numbers begin, what separates them, and what is refused.

Nothing is guessed silently: whatever is unusual leaves a note, and what could mean two things is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_NUMBER = re.compile(rb"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_CELLS = re.compile(rb"[;,\t ]+")
_PADDING = b" ;,\t\r"
_MOST_HEADER_LINES = 100


@dataclass(frozen=True)
class MatrixText:
    """``body``: the lines of numbers, the first of them being line ``first_line`` (from 1) of the file.

    ``where`` is the file's name, for errors; ``notes`` says what was unusual before the numbers.
    """

    body: bytes
    first_line: int
    where: str
    notes: tuple[str, ...]


def find_numbers(content: bytes, where: str) -> MatrixText:
    """Skip a byte-order mark and header lines, and end every line with LF (or CR LF, CR CR LF).

    Raises DataError for an empty file, a web page, binary content and text without numbers.
    """
    notes: list[str] = []
    text = _plain_ascii(content, where, notes)
    if b"\n" not in text and b"\r" in text:
        text = text.replace(b"\r", b"\n")
        notes.append("CR line ends")
    header = _header_lines(text, where)
    if header:
        *skipped, text = text.split(b"\n", header)
        if any(line.strip() for line in skipped):
            notes.append(f"{header} header line{'s' * (header > 1)}")
    return MatrixText(text, header + 1, where, tuple(notes))


def _plain_ascii(content: bytes, where: str, notes: list[str]) -> bytes:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            notes.append(f"{encoding.upper()} byte-order mark")
            content = content[len(mark) :]
            if encoding != "utf-8":
                content = content.decode(encoding, errors="replace").encode("ascii", errors="replace")
            break
    start = content[:4096].strip()
    expected = "lines of temperatures"
    if not start and not content.strip():
        raise DataError("this file is empty", where=where, expected=expected, found=f"{len(content)} bytes")
    if start.startswith(b"<"):
        raise DataError(
            "this is a web page, not a temperature matrix",
            where=f"{where}:1",
            expected=expected,
            found=shown(start),
            hint="the site may have asked for a login; fetch the file again",
        )
    if b"\0" in content:
        raise DataError("this is a binary file, not text", where=where, expected=expected, found=shown(start))
    return content


def shown(text: bytes) -> str:
    """The beginning of a text, fit for an error message."""
    short = text[:40].decode("ascii", errors="replace")
    return repr(short + ("..." if len(text) > 40 else ""))


def _header_lines(text: bytes, where: str) -> int:
    """How many lines stand before the numbers."""
    lines = text.split(b"\n", _MOST_HEADER_LINES + 1)[: _MOST_HEADER_LINES + 1]
    filled = [number for number, line in enumerate(lines) if line.strip()]
    for number, below in zip(filled, [*filled[1:], None], strict=True):
        cells = _CELLS.split(lines[number].strip(_PADDING))
        width_below = 0 if below is None else len(_CELLS.split(lines[below].strip(_PADDING)))
        numbers = sum(_NUMBER.fullmatch(cell) is not None for cell in cells)
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
    for separator in (b";", b"\t"):
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


def decode_line_by_line(text: MatrixText, separator: bytes, mark: bytes) -> tuple[npt.NDArray[np.float64], int]:
    """Decode the slow way: exponents, signs, NaN. Returns celsius (height, width) and the most decimals.

    Raises DataError naming line and value of the first cell that is no number, or the first line
    that has another number of values than the first.
    """
    body = text.body if mark == b"." else text.body.replace(mark, b".")
    lines = [(number, line.strip(b" \r")) for number, line in enumerate(body.split(b"\n"), text.first_line)]
    lines = [(number, line) for number, line in lines if line]
    trailing = separator != b" " and all(line.endswith(separator) for _, line in lines)
    rows: list[list[float]] = []
    for number, line in lines:
        cells = line.split() if separator == b" " else line.split(separator)[: -1 if trailing else None]
        width = len(rows[0]) if rows else len(cells)
        try:
            if b"_" in line or len(cells) != width:  # Python reads 1_000 as a number; nobody else does
                raise ValueError
            rows.append([float(cell) for cell in cells])
        except ValueError:
            may_be_cut = number == lines[-1][0] and not body.endswith(b"\n")
            raise _explain_line(cells, width, f"{text.where}:{number}", may_be_cut) from None
    return np.array(rows), _most_decimals(body)


def _most_decimals(body: bytes) -> int:
    text = np.frombuffer(body[: 1 << 16] + b"\n", np.uint8)  # the first lines tell
    points = np.flatnonzero(text == ord("."))
    others = np.flatnonzero((text < ord("0")) | (text > ord("9")))
    after = others[np.searchsorted(others, points, side="right")]
    return int(np.max(after - points - 1, initial=0))


def _explain_line(cells: list[bytes], width: int, place: str, may_be_cut: bool) -> DataError:
    """Why a line of the matrix is no line of ``width`` numbers."""
    cells = [cell.strip() for cell in cells]
    wrong = [column for column, cell in enumerate(cells) if _NUMBER.fullmatch(cell) is None]
    if may_be_cut and (wrong == [len(cells) - 1] or (not wrong and len(cells) < width)):
        return truncated(width, len(cells), place)
    if wrong:
        cell = cells[wrong[0]]
        return DataError(
            "this cell is not a number" if cell else "this cell is empty",
            where=f"{place} (value {wrong[0] + 1})",
            expected="a temperature in degrees Celsius",
            found=shown(cell),
        )
    return DataError(
        "lines of unequal length", where=place, expected=f"{width} values as in the first", found=len(cells)
    )


def truncated(expected: int, found: int, place: str) -> DataError:
    """The error for a file that breaks off in its last line."""
    return DataError(
        "this matrix is cut off",
        where=place,
        expected=f"{expected} whole values",
        found=f"{found}, the last one broken" if found == expected else found,
        hint="get the file again from its source",
    )
