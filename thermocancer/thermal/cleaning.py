"""From any accepted layout to the plain one: one separator, decimal points, LF, no header.

Nothing is guessed silently: every repair leaves a note, and what could mean two things is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError

_MARKS = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_NUMBER = re.compile(rb"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
_CELLS = re.compile(rb"[;,\t ]+")
_MOST_HEADER_LINES = 100
_MORE_LINES_THAN_ANY_FILE = 1 << 40


@dataclass(frozen=True)
class CleanText:
    """``body``: lines of numbers with ``separator`` between them, each line ended by LF.

    ``name`` is the separator as the file has it; ``line_numbers[row]`` the line of the file (from 1).
    ``whole`` is False when the file's last line has no line end.
    """

    body: bytes
    separator: bytes
    name: str
    line_numbers: Sequence[int]
    notes: tuple[str, ...]
    whole: bool


def clean_text(content: bytes, where: str) -> CleanText:
    """Bring a file's bytes into the plain layout.

    Raises DataError for an empty file, a web page, binary content, text without numbers, and commas
    that could be separators as well as decimal marks.
    """
    notes: list[str] = []
    text = _unix_lines(_plain_ascii(content, where, notes), notes)
    whole = text.endswith(b"\n")
    text = text if whole else text + b"\n"
    header = _header_lines(text, where)
    body, line_numbers = _without_header(text, header, notes)
    body, line_numbers = _without_blank_lines(body, line_numbers, notes)
    body, separator, name = _one_separator(body, f"{where}:{line_numbers[0]}", notes)
    body = _without_trailing_separators(body, separator, notes)
    if separator != b"," and b"," in body:
        body = body.replace(b",", b".")
        notes.append("decimal commas")
    return CleanText(body, separator, name, line_numbers, tuple(notes), whole)


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
            found=_shown(start),
            hint="the site may have asked for a login; fetch the file again",
        )
    if b"\0" in content:
        raise DataError("this is a binary file, not text", where=where, expected=expected, found=_shown(start))
    return content


def _shown(text: bytes) -> str:
    """The beginning of a text, fit for an error message."""
    short = text[:40].decode("ascii", errors="replace")
    return repr(short + ("..." if len(text) > 40 else ""))


def _unix_lines(text: bytes, notes: list[str]) -> bytes:
    for end, name in ((b"\r\r\n", "CR CR LF"), (b"\r\n", "CR LF"), (b"\r", "CR")):
        if end in text:
            text = text.replace(end, b"\n")
            notes.append(f"{name} line ends")
    return text


def _header_lines(text: bytes, where: str) -> int:
    """How many lines stand before the numbers."""
    lines = text.split(b"\n", _MOST_HEADER_LINES + 1)[: _MOST_HEADER_LINES + 1]
    filled = [number for number, line in enumerate(lines) if line.strip()]
    for number, below in zip(filled, [*filled[1:], None], strict=True):
        cells = _CELLS.split(lines[number].strip(b" ;,\t"))
        width_below = 0 if below is None else len(_CELLS.split(lines[below].strip(b" ;,\t")))
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
        found=_shown(text.strip()),
    )


def _without_header(text: bytes, header: int, notes: list[str]) -> tuple[bytes, Sequence[int]]:
    if not header:
        return text, range(1, _MORE_LINES_THAN_ANY_FILE)
    skipped = text.split(b"\n", header)
    if any(line.strip() for line in skipped[:-1]):
        notes.append(f"{header} header line{'s' * (header > 1)}")
    return skipped[-1], range(header + 1, _MORE_LINES_THAN_ANY_FILE)


def _without_blank_lines(body: bytes, line_numbers: Sequence[int], notes: list[str]) -> tuple[bytes, Sequence[int]]:
    body = body.rstrip() + b"\n"
    if b"\n\n" not in body:
        return body, line_numbers
    notes.append("blank lines")
    filled = [(number, line) for number, line in zip(line_numbers, body.split(b"\n"), strict=False) if line.strip()]
    return b"".join(line + b"\n" for _, line in filled), [number for number, _ in filled]


def _one_separator(body: bytes, where: str, notes: list[str]) -> tuple[bytes, bytes, str]:
    """The body with one separator byte between numbers, that byte, and the separator's name."""
    line = body[: body.index(b"\n")].strip()
    if b";" in line:
        return _without_padding(body, b";"), b";", "semicolon"
    if b"\t" in line:
        return _without_padding(body, b"\t"), b"\t", "tab"
    if b" " in line:
        cells = line.split()
        if all(cell.endswith(b",") for cell in cells[:-1]):  # "20,5, 20,6": the comma before a space separates
            return _without_padding(_collapsed(body).replace(b", ", b";"), b";"), b";", "comma"
        return _without_padding(_collapsed(body), b" "), b" ", "space"
    if b"," in line and b"." in body:
        return body, b",", "comma"
    if b"," in line:
        raise DataError(
            "commas could be separators or decimal marks here",
            where=where,
            expected="decimal points, or another separator beside decimal commas",
            found=_shown(line),
            hint="write ';' between the numbers",
        )
    raise DataError("only one number in a line", where=where, expected="a matrix", found=_shown(line))


def _collapsed(body: bytes) -> bytes:
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    return body


def _without_padding(body: bytes, separator: bytes) -> bytes:
    """Remove the spaces around separators and at both ends of a line."""
    if b" " not in body:
        return body
    body = _collapsed(body)
    sides = (b"\n",) if separator == b" " else (b"\n", separator)
    for mark in sides:
        body = body.replace(b" " + mark, mark).replace(mark + b" ", mark)
    return body.lstrip(b" ")


def _without_trailing_separators(body: bytes, separator: bytes, notes: list[str]) -> bytes:
    if separator != b" " and body.count(separator + b"\n") == body.count(b"\n"):
        notes.append("trailing separators")
        return body.replace(separator + b"\n", b"\n")
    return body


def decode_cell_by_cell(clean: CleanText, where: str) -> tuple[npt.NDArray[np.float64], int]:
    """Decode the slow way: exponents, signs, NaN. Returns celsius (height, width) and the decimals.

    Raises DataError naming line and column of the first cell that is no number, or the first line
    that has another number of values than the first.
    """
    lines = clean.body.split(b"\n")[:-1]
    width = lines[0].count(clean.separator) + 1
    celsius = np.empty((len(lines), width))
    for row, line in enumerate(lines):
        cells = line.split(clean.separator)
        try:
            if b"_" in line or len(cells) != width:  # Python reads 1_000 as a number; nobody else does
                raise ValueError
            celsius[row] = [float(cell) for cell in cells]
        except ValueError:
            is_last = row == len(lines) - 1 and not clean.whole
            raise _explain_line(cells, width, f"{where}:{clean.line_numbers[row]}", is_last) from None
    return celsius, _most_decimals(clean.body)


def _explain_line(cells: list[bytes], width: int, place: str, may_be_cut: bool) -> DataError:
    """Why a line of the matrix is no line of ``width`` numbers."""
    wrong = [column for column, cell in enumerate(cells) if _NUMBER.fullmatch(cell) is None]
    if len(cells) < width and may_be_cut and wrong in ([], [len(cells) - 1]):
        return truncated(width, len(cells), place)
    if wrong:
        cell = cells[wrong[0]]
        return DataError(
            "this cell is not a number" if cell else "this cell is empty",
            where=f"{place} (value {wrong[0] + 1})",
            expected="a temperature in degrees Celsius",
            found=_shown(cell),
        )
    return DataError(
        "lines of unequal length", where=place, expected=f"{width} values as in the first", found=len(cells)
    )


def _most_decimals(body: bytes) -> int:
    text = np.frombuffer(body, np.uint8)
    digits = (text >= ord("0")) & (text <= ord("9"))
    dots, others = np.flatnonzero(text == ord(".")), np.flatnonzero(~digits)
    after = others[np.searchsorted(others, dots, side="right")]
    return int(np.max(after - dots - 1, initial=0))


def truncated(expected: int, found: int, place: str) -> DataError:
    """The error for a file that breaks off in its last line."""
    return DataError(
        "this matrix is cut off",
        where=place,
        expected=f"{expected} whole values",
        found=f"{found}, the last one perhaps broken" if found == expected else found,
        hint="get the file again from its source",
    )
