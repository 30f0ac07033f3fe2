"""Numbers from bytes in three ways: all of one width, of any width, and line by line.

The first two are NumPy: exact, and many times faster than a text parser. A number with at most 15 digits is an
integer below 2**53 divided by a power of ten below 10**22: both are exact in float64, so that one division gives
bit for bit what ``strtod`` does (Clinger 1990, "How to read floating point numbers accurately", the fast path).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError

if TYPE_CHECKING:
    from thermocancer.thermal.units import Unit

Bytes = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Places = npt.NDArray[np.intp]

NUMBER = re.compile(rb"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
SEPARATORS = {"space": b" ", "semicolon": b";", "comma": b",", "tab": b"\t"}
"""What may stand between numbers, by the name that a layout has of it."""

_SEPARATOR_NAMES = {separator: name for name, separator in SEPARATORS.items()}
BETWEEN = rb"[%b]+" % re.escape(b"".join(SEPARATORS.values()))
"""Separators, as a regular expression."""

_FIRST_LINE = re.compile(rb"( *)(\d{1,4})([.,])(\d{1,9})(%b)\d[^\r\n]*?(\r*\n)" % BETWEEN)
_MOST_DIGITS = 15
_BLOCK_BYTES = 1 << 18
_ZERO, _NINE, _MINUS, _NEWLINE, _SPACE = b"09-\n "


@dataclass(frozen=True)
class Decoded:
    """Numbers as read, (height, width): integers in units of 10**-``decimals`` degrees, or float64 degrees.

    ``layout`` says how they were written: the separator's name and the most decimals that any number has,
    or the format of the file. ``unit`` is what the file itself states, None where it states nothing.
    """

    numbers: Integers | Float64
    layout: str
    decimals: int
    notes: tuple[str, ...] = ()
    unit: Unit | None = None


# --- all of one width: what the cameras write ---------------------------------


@dataclass(frozen=True)
class _Grid:
    """Where everything stands in a matrix whose numbers all have the width of the first one (bytes).

    A line is ``start`` bytes of padding, ``columns`` cells of ``cell`` bytes, and the line end; a cell
    is digits, the decimal ``mark`` at ``point``, digits up to ``width``, and the separator.
    """

    start: int
    point: int
    width: int
    cell: int
    columns: int
    stride: int
    mark: bytes
    separator: bytes
    line_end: bytes
    trailing: bool

    @property
    def digit_runs(self) -> tuple[range, range]:
        return range(self.point), range(self.point + 1, self.width)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = [] if self.line_end == b"\n" else [f"{'CR ' * (len(self.line_end) - 1)}LF line ends"]
        notes += ["decimal commas"] if self.mark == b"," else []
        notes += ["trailing separators"] if self.trailing and self.separator != b" " else []
        return tuple(notes)


def decode_fixed_width(content: bytes) -> Decoded | None:
    """Decode a matrix in which every number has the width of the first one; None when it is not so.

    This is what the cameras write: ``20.52 20.60 ...`` or ``27.14796;27.38332;...``, any line end.
    """
    if (grid := _measure_first_line(content)) is None or grid.width - 1 > _MOST_DIGITS:
        return None
    rows, rest = divmod(len(content), grid.stride)
    if rest:  # drop blank lines at the end, and give the last line its end if it lacks it
        whole, tail = content[: rows * grid.stride], content[rows * grid.stride :].rstrip(b"\r\n")
        content = whole + (tail + grid.line_end if tail else b"")
        if len(content) % grid.stride:
            return None
    if not _is_regular(np.frombuffer(content, np.uint8).reshape(-1, grid.stride), grid):
        return None
    decimals = grid.width - grid.point - 1
    return Decoded(_join(_digit_groups(content, grid)), layout_name(grid.separator, decimals), decimals, grid.notes)


def _measure_first_line(content: bytes) -> _Grid | None:
    first = _FIRST_LINE.match(content, 0, 1 << 16)
    if first is None:
        return None
    padding, whole, mark, fraction, between, line_end = first.groups()
    separator = between.strip(b" ") or b" "
    if len(separator) > 1 or separator == mark:
        return None
    start, point, width = len(padding), len(whole), len(whole) + 1 + len(fraction)
    cell = width + len(between)
    columns, spare = divmod(first.end() - len(line_end) - start, cell)
    if spare not in (0, width):
        return None
    return _Grid(start, point, width, cell, columns + (spare > 0), first.end(), mark, separator, line_end, spare == 0)


def _is_regular(lines: Bytes, grid: _Grid) -> bool:
    """Is there a digit wherever the first line has one, and the same byte everywhere else?

    ``lines`` is (rows, stride). Two passes over whole lines cost less than one over the columns.
    """
    end = grid.start + grid.columns * grid.cell  # past the line's end by a separator if none trails
    lowest, highest = lines[0].copy(), lines[0].copy()
    for place in [place for run in grid.digit_runs for place in run]:
        lowest[grid.start + place : end : grid.cell] = _ZERO
        highest[grid.start + place : end : grid.cell] = _NINE
    between = lines[0, grid.start + grid.width : grid.start + grid.cell]
    last = end if grid.trailing else end - grid.cell
    for bound in (lowest, highest):
        bound[grid.start + grid.point : end : grid.cell] = grid.mark[0]
        for place, byte in enumerate(between, grid.width):
            bound[grid.start + place : last : grid.cell] = byte
    return bool((lines.min(axis=0) >= lowest).all() and (lines.max(axis=0) <= highest).all())


def _digit_groups(content: bytes, grid: _Grid) -> list[tuple[Integers, int]]:
    """The digits of every number, the highest first, in groups of one or two: (values, how many)."""
    shape, strides = (len(content) // grid.stride, grid.columns), (grid.stride, grid.cell)
    groups: list[tuple[Integers, int]] = []
    for run in grid.digit_runs:
        for place in range(grid.start + run.start, grid.start + run.stop - 1, 2):
            pair = np.ndarray(shape, "<u2", content, place, strides).astype(np.uint16)
            pair -= 0x3030  # two characters become two digits: first + 256 * second
            pair *= 10 * 256 + 1  # the high byte becomes 10 * first + second
            pair >>= 8
            groups.append((pair, 2))
        if len(run) % 2:
            digit = np.ndarray(shape, np.uint8, content, grid.start + run.stop - 1, strides)
            groups.append((digit - np.uint8(_ZERO), 1))
    return groups


def _join(groups: list[tuple[Integers, int]]) -> Integers:
    """Join groups of decimal digits, the highest first, into integers (exact: at most 15 digits)."""
    joined: Integers = groups[0][0].astype(np.uint16)
    have = groups[0][1]
    for values, digits in groups[1:]:
        have += digits
        if have > 4:  # up to 9999 in 16 bits, where arithmetic is cheapest
            joined = joined.astype(np.uint32 if have <= 9 else np.int64, copy=False)
        joined *= 10**digits
        joined += values
    return joined


# --- of any width -------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """Some whole lines, decoded: ``numbers`` (cells,) in units of 10**-``decimals``."""

    numbers: Integers
    decimals: int
    columns: int
    trailing: bool


def decode_any_width(body: bytes, separator: bytes, mark: bytes) -> Decoded | None:
    """Decode lines of numbers of any widths, ``separator`` between them, ``mark`` before decimals.

    Spaces around numbers do no harm. Returns None when a cell is not ``[-]digits[mark digits]``, a cell
    is empty, or the lines are of unequal length: the caller then goes through the text line by line and
    says what is wrong.
    """
    if b"\t" in body and separator in b";,":
        return None  # no padding, but a second separator
    blocks: list[_Block] = []
    for text in _cut_at_lines(body):
        block = _decode_block(text, separator, mark)
        if block is None or (blocks and (block.columns, block.trailing) != (blocks[0].columns, blocks[0].trailing)):
            return None
        blocks.append(block)
    decimals = max(block.decimals for block in blocks)
    finer = [10 ** (decimals - block.decimals) for block in blocks]
    parts = [b.numbers if f == 1 else b.numbers.astype(np.int64) * f for b, f in zip(blocks, finer, strict=True)]
    if max(abs(int(part.max())) for part in parts) >= 10**_MOST_DIGITS:
        return None
    numbers, notes = np.concatenate(parts).reshape(-1, blocks[0].columns), ("trailing separators",) * blocks[0].trailing
    return Decoded(numbers, layout_name(separator, decimals), decimals, notes)


def _cut_at_lines(body: bytes) -> Iterator[Bytes]:
    """Cut a text at line ends into pieces whose intermediate arrays stay in the processor's cache."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + _BLOCK_BYTES) + 1 or len(body)
        if body[start:end].strip():
            yield np.frombuffer(body, np.uint8, end - start, start)
        start = end


def _decode_block(text: Bytes, separator: bytes, mark: bytes) -> _Block | None:
    inside = (text > _SPACE) & (text != separator[0])
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    line_ends = np.flatnonzero(text == _NEWLINE)
    widths = np.diff(np.searchsorted(starts, line_ends), prepend=0)
    columns = int(widths[0])
    if columns == 0 or (widths != columns).any():
        return None
    trailing = False
    if separator != b" ":
        separators = np.flatnonzero(text == separator[0])
        trailing = separators.size == starts.size
        if separators.size != starts.size - (0 if trailing else widths.size):
            return None  # an empty cell
        # each behind its number and before the next one or the line's end: no empty cell made up for elsewhere
        nexts = np.append(starts[1:], 0).reshape(-1, columns)
        nexts[:, -1] = line_ends
        inner = slice(columns if trailing else columns - 1)
        behind, before = ends.reshape(-1, columns)[:, inner].ravel(), nexts[:, inner].ravel()
        if (separators < behind).any() or (separators >= before).any():
            return None
    negative = text[starts] == _MINUS
    starts = starts + negative
    if (points := _find_marks(text == mark[0], starts, ends)) is None:
        return None
    before, after = points - starts, np.maximum(ends - points - 1, 0)
    if (groups := _digits_around(text, points, before, after)) is None:
        return None
    numbers = _join(groups)
    if negative.any():
        numbers = np.where(negative, -numbers.astype(np.int64), numbers.astype(np.int64))
    return _Block(numbers, int(after.max()), columns, trailing)


def _find_marks(is_mark: npt.NDArray[np.bool_], starts: Places, ends: Places) -> Places | None:
    """Where each number's decimal mark stands (its end, if it has none); None when one has two."""
    first = np.flatnonzero(is_mark[starts[0] : ends[0]])
    if first.size == 1:  # the usual case, and the cheap one: as many decimals everywhere
        points: Places = ends - (ends[0] - starts[0] - first[0])
        if (points >= starts).all() and np.count_nonzero(is_mark) == points.size and is_mark[points].all():
            return points
    found = np.flatnonzero(is_mark)
    if found.size == ends.size and (found < ends).all() and (found >= starts).all():
        return found
    points = ends.copy()
    owners = np.searchsorted(ends, found)
    if owners.size and ((np.diff(owners) == 0).any() or owners[-1] >= ends.size):
        return None
    points[owners] = found
    return None if (points < starts).any() else points


def _digits_around(text: Bytes, points: Places, before: Places, after: Places) -> list[tuple[Integers, int]] | None:
    """Digits around each decimal mark, zero where a number has none there; None if one is no digit."""
    most_before, most_after = int(before.max()), int(after.max())
    if not (before + after).all() or most_before + most_after > _MOST_DIGITS:
        return None
    digits_before, digits_after = before.astype(np.uint8), after.astype(np.uint8)
    groups: list[tuple[Integers, int]] = []
    for place in [*range(-most_before, 0), *range(1, most_after + 1)]:
        digit = text.take(points + place, mode="clip") - np.uint8(_ZERO)
        digit *= (digits_before >= -place) if place < 0 else (digits_after >= place)
        if digit.max() > 9:  # anything but a digit wraps to above 9
            return None
        groups.append((digit, 1))
    return groups


# --- line by line: exponents, signs, NaN, and what is wrong -------------------


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


def layout_name(separator: bytes, decimals: int) -> str:
    """The separator's name and the most decimals that any number has: ``semicolon5``."""
    return f"{_SEPARATOR_NAMES[separator]}{decimals}"


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
                    found=f"{width}: {shown(text.lines[0])}", hint="if these are no temperatures, take the line out",
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
    if re.fullmatch(rb"[<>][+-]?\d+([.,]\d+)?", cell):
        return "a temperature, or nan for a pixel beyond the camera's range"
    if re.fullmatch(rb"[-*_.?/]+|n/?a|na|null|none", cell, re.I):
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
