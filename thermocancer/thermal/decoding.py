"""Decimal numbers from bytes with NumPy: exact, and many times faster than a text parser.

A number with at most 15 digits is an integer below 2**53 divided by a power of ten below 10**22:
both are exact in float64, so the one division rounds correctly and the result is bit for bit what
``strtod`` (and with it ``numpy.loadtxt``) gives (Clinger 1990, "How to read floating point numbers
accurately", the fast path).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]

MOST_DIGITS = 15
_ZERO, _NINE = b"09"
_FIRST_LINE = re.compile(rb"( *)(\d{1,4})([.,])(\d{1,9})([ ;,\t]+)\d[^\r\n]*?(\r*\n)")


@dataclass(frozen=True)
class Decoded:
    """Numbers as read, (height, width): integers in units of 10**-``decimals`` degrees, or float64 degrees.

    ``decimals`` is the most that any number in the text has.
    """

    numbers: Integers | Float64
    separator: bytes
    decimals: int
    notes: tuple[str, ...] = ()


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
    grid = _measure_first_line(content)
    if grid is None or grid.width - 1 > MOST_DIGITS:
        return None
    whole = _whole_lines(content, grid)
    if whole is None or not _is_regular(np.frombuffer(whole, np.uint8).reshape(-1, grid.stride), grid):
        return None
    decimals = grid.width - grid.point - 1
    return Decoded(join_digits(_digit_groups(whole, grid)), grid.separator, decimals, grid.notes)


def _measure_first_line(content: bytes) -> _Grid | None:
    first = _FIRST_LINE.match(content, 0, 1 << 16)
    if first is None:
        return None
    padding, whole, mark, fraction, between, line_end = first.groups()
    separator = between.strip(b" ") or b" "
    if len(separator) > 1 or separator == mark:
        return None
    width = len(whole) + 1 + len(fraction)
    cell = width + len(between)
    columns, spare = divmod(first.end() - len(line_end) - len(padding), cell)
    if spare not in (0, width):
        return None
    trailing = spare == 0
    return _Grid(
        len(padding),
        len(whole),
        width,
        cell,
        columns + (not trailing),
        first.end(),
        mark,
        separator,
        line_end,
        trailing,
    )


def _whole_lines(content: bytes, grid: _Grid) -> bytes | None:
    """Whole lines only: drop blank ones at the end, and give the last line its end if it lacks it."""
    rows, rest = divmod(len(content), grid.stride)
    if not rest:
        return content
    tail = content[rows * grid.stride :]
    if not tail.strip(b"\r\n"):
        return content[: rows * grid.stride]
    tail = tail.rstrip(b"\r\n") + grid.line_end
    return content[: rows * grid.stride] + tail if len(tail) == grid.stride else None


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


def join_digits(groups: list[tuple[Integers, int]]) -> Integers:
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
