"""Numbers from lines: whichever of the fast ways can, else cell by cell, which says what is wrong and where."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import NUMBER, Decoded, decode_any_width, decode_fixed_width, layout_name


@dataclass(frozen=True)
class NumberLines:
    """Lines without their ends, their numbers (from 1) in the file ``where``; ``open_end``: the last had no end."""

    lines: tuple[bytes, ...]
    numbers: tuple[int, ...]
    where: str
    open_end: bool = False

    def place(self, row: int, column: int | None = None) -> str:
        """Where a line, and a value in it, stand in the file; both from 0."""
        return f"{self.where}:{self.numbers[row]}" + ("" if column is None else f" (value {column + 1})")


def split_cells(line: bytes, separator: bytes) -> list[bytes]:
    """The cells of a line; blanks are separators as a run, any other separator counts one by one."""
    return line.split() if separator == b" " else [cell.strip(b" ") for cell in line.split(separator)]


def decode_lines(text: NumberLines, separator: bytes, mark: bytes) -> Decoded:
    """Decode lines of numbers in whichever way is the fastest that can.

    Raises DataError naming line and value of the first cell that is no number, the first line that has
    another number of values than the first, and a last number in which the file breaks off.
    """
    body = b"\n".join(text.lines) + b"\n"
    decoded = decode_fixed_width(body)
    if decoded is not None:  # then a last line without its end is as long as all others
        return decoded
    decoded = decode_any_width(body, separator, mark) or _decode_line_by_line(text, separator, mark)
    if text.open_end and len(text.lines) > 1:
        _refuse_broken_last_number(text, separator, mark)
    return replace(decoded, notes=(*(("decimal commas",) if mark == b"," else ()), *decoded.notes))


def _decode_line_by_line(text: NumberLines, separator: bytes, mark: bytes) -> Decoded:
    """The slow way: exponents, signs, NaN, and what is wrong."""
    other = b"." if mark == b"," else b","
    ends = [separator != b" " and line.endswith(separator) for line in text.lines]
    trailing = all(ends[: -1 if text.open_end else None])
    if trailing and len(ends) > 1 and not ends[-1]:
        first, last = (len(split_cells(line, separator)) for line in (text.lines[0], text.lines[-1]))
        raise truncated(first - 1, last, text.place(len(ends) - 1))
    rows: list[list[float]] = []
    for row, line in enumerate(text.lines):
        cells = split_cells(line, separator)[: -1 if trailing else None]
        width = len(rows[0]) if rows else len(cells)
        wrong = [column for column, cell in enumerate(cells) if NUMBER.fullmatch(cell) is None or other in cell]
        may_be_cut = text.open_end and row == len(text.lines) - 1
        if may_be_cut and (len(cells) < width or wrong == [len(cells) - 1]):
            raise truncated(width, len(cells), text.place(row))
        if wrong:
            cell = cells[wrong[0]]
            raise DataError(
                "this cell is not a number" if cell else "this cell is empty",
                where=text.place(row, wrong[0]),
                expected=_instead_of(cell, other in cell),
                found=shown(cell),
            )
        if len(cells) != width:
            below = {len(split_cells(line, separator)) for line in text.lines[1:]}
            if row == 1 and len(text.lines) > 2 and len(below) == 1:  # all agree but the first: settings, a torn line
                raise DataError(
                    "lines of unequal length", where=text.place(0), expected=f"{len(cells)} values as in the others",
                    found=f"{width}: {shown(text.lines[0])}",
                    hint="if these are no temperatures, say the shape (--shape), or take the line out",
                )  # fmt: skip
            raise DataError(
                "lines of unequal length", where=text.place(row), expected=f"{width} values as in the first",
                found=len(cells),
            )  # fmt: skip
        rows.append([float(cell.replace(mark, b".")) for cell in cells])
    decimals = max(_written(cell, mark)[1] for line in text.lines[:64] for cell in split_cells(line, separator))
    return Decoded(np.array(rows), layout_name(separator, decimals), decimals, ("trailing separators",) * trailing)


def _instead_of(cell: bytes, is_other_mark: bool) -> str:
    """What is expected where ``cell`` stands."""
    if is_other_mark and NUMBER.fullmatch(cell) is not None:
        return "a temperature, with the decimal mark of the others"
    if re.fullmatch(rb"[-*_.?/]+|na|none", cell, re.I):
        return "a temperature, or nan for a pixel that has none"
    return "a temperature"


def _written(cell: bytes, mark: bytes) -> tuple[int, int, int]:
    """How many digits a number has before its decimal mark, behind it, and in its exponent."""
    mantissa, _, exponent = cell.lower().partition(b"e")
    whole, _, fraction = mantissa.partition(mark)
    return len(whole.strip(b"+-")), len(fraction), len(exponent.strip(b"+-"))


def _refuse_broken_last_number(text: NumberLines, separator: bytes, mark: bytes) -> None:
    """A file without a last line end whose last number alone is shorter than all others was cut off in it."""
    *others, last = [cell for line in text.lines for cell in split_cells(line, separator) if cell]
    shortest = [min(parts) for parts in zip(*(_written(cell, mark) for cell in others), strict=True)]
    digits, decimals, exponent = _written(last, mark)
    shorter = decimals < shortest[1] or exponent < shortest[2] or (decimals == 0 and digits < shortest[0])
    if last.endswith(mark) or shorter:
        width = len(split_cells(text.lines[-1], separator))
        raise truncated(width, width, text.place(len(text.lines) - 1))


def truncated(expected: int, found: int, place: str) -> DataError:
    """The error for a file that breaks off in its last line."""
    return DataError(
        "this matrix is cut off",
        where=place,
        expected=f"{expected} whole values",
        found=f"{found}, the last one broken" if found == expected else found,
        hint="get the file again from its source",
    )


def shown(text: bytes) -> str:
    """The beginning of a text, fit for an error message."""
    short = text[:40].decode("ascii", errors="replace")
    return repr(short + ("..." if len(text) > 40 else ""))
