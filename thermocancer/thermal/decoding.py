"""Numbers from bytes in the two fast ways: all of one width, and of any width; the slow one is in ``lines``.

Both are NumPy: exact, and many times faster than a text parser. A number with at most 15 digits is an
integer below 2**53 divided by a power of ten below 10**22: both are exact in float64, so that one division gives
bit for bit what ``strtod`` does (Clinger 1990, "How to read floating point numbers accurately", the fast path).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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


def layout_name(separator: bytes, decimals: int) -> str:
    """The separator's name and the most decimals that any number has: ``semicolon5``."""
    return f"{_SEPARATOR_NAMES[separator]}{decimals}"


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
