"""Decimal numbers from bytes with NumPy: exact, and many times faster than a text parser.

A number with at most 15 digits is an integer below 2**53 divided by a power of ten below 10**22:
both are exact in float64, so the one division rounds correctly and the result is bit for bit what
``strtod`` (and with it ``numpy.loadtxt``) gives (Clinger 1990, "How to read floating point numbers
accurately", section 4).
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
_ZERO, _NINE, _DOT, _MINUS, _NEWLINE = b"09.-\n"
_FIRST_LINE = re.compile(rb"(\d{1,4})\.(\d{1,9})([ ;,\t])\d[^\r\n]*?(\r*\n)")


@dataclass(frozen=True)
class Decoded:
    """Numbers as read: ``celsius`` float64 (height, width); ``decimals`` is the most any number has."""

    celsius: Float64
    separator: bytes
    decimals: int
    line_end: bytes = b"\n"
    trailing_separator: bool = False


@dataclass(frozen=True)
class _Grid:
    """Where everything stands in a matrix whose numbers all have the width of the first one (bytes)."""

    point: int
    cell: int
    columns: int
    stride: int
    separator: bytes
    line_end: bytes
    trailing_separator: bool

    @property
    def digit_runs(self) -> tuple[range, range]:
        return range(self.point), range(self.point + 1, self.cell - 1)


def decode_fixed_width(content: bytes) -> Decoded | None:
    """Decode a matrix in which every number has the width of the first one; None when it is not so.

    This is what the cameras write: ``20.52 20.60 ...`` or ``27.14796;27.38332;...``, any line end.
    """
    grid = _measure_first_line(content)
    if grid is None or grid.cell - 2 > MOST_DIGITS:
        return None
    whole = _whole_lines(content, grid)
    if whole is None or not _is_regular(np.frombuffer(whole, np.uint8).reshape(-1, grid.stride), grid):
        return None
    decimals = grid.cell - grid.point - 2
    celsius = _join(_digit_groups(whole, grid)) / 10.0**decimals
    return Decoded(celsius, grid.separator, decimals, grid.line_end, grid.trailing_separator)


def _measure_first_line(content: bytes) -> _Grid | None:
    first = _FIRST_LINE.match(content, 0, 1 << 16)
    if first is None:
        return None
    whole, fraction, separator, line_end = first.groups()
    cell = len(whole) + len(fraction) + 2
    columns, spare = divmod(first.end() - len(line_end), cell)
    if spare not in (0, cell - 1):
        return None
    trailing = spare == 0
    return _Grid(len(whole), cell, columns + (not trailing), first.end(), separator, line_end, trailing)


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
    end = grid.columns * grid.cell
    lowest, highest = lines[0].copy(), lines[0].copy()
    for place in [place for run in grid.digit_runs for place in run]:
        lowest[place : end : grid.cell], highest[place : end : grid.cell] = _ZERO, _NINE
    last = end if grid.trailing_separator else end - grid.cell
    for bound in (lowest, highest):
        bound[grid.point : end : grid.cell] = _DOT
        bound[grid.cell - 1 : last : grid.cell] = grid.separator[0]
    return bool((lines.min(axis=0) >= lowest).all() and (lines.max(axis=0) <= highest).all())


def _digit_groups(content: bytes, grid: _Grid) -> list[tuple[Integers, int]]:
    """The digits of every number, the highest first, in groups of one or two: (values, how many)."""
    shape, strides = (len(content) // grid.stride, grid.columns), (grid.stride, grid.cell)
    groups: list[tuple[Integers, int]] = []
    for run in grid.digit_runs:
        for place in range(run.start, run.stop - 1, 2):
            pair = np.ndarray(shape, "<u2", content, place, strides).astype(np.uint16)
            pair -= 0x3030  # two characters become two digits: first + 256 * second
            pair *= 10 * 256 + 1  # the high byte becomes 10 * first + second
            pair >>= 8
            groups.append((pair, 2))
        if len(run) % 2:
            digit = np.ndarray(shape, np.uint8, content, run.stop - 1, strides)
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


def decode_any_width(body: bytes, separator: bytes) -> Decoded | None:
    """Decode a clean matrix (one ``separator`` between numbers, lines end in LF) of any number widths.

    Returns None when a cell is not ``[-]digits[.digits]`` or the lines are of unequal length:
    the caller then goes through the text line by line and says what is wrong.
    """
    text = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero((text == separator[0]) | (text == _NEWLINE))
    breaks = np.flatnonzero(text[ends] == _NEWLINE)
    columns = int(breaks[0]) + 1
    if (np.diff(breaks) != columns).any():
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    negative = text[starts] == _MINUS
    starts += negative
    dots = _dots(text, ends)
    if dots is None or (dots < starts).any():
        return None
    groups = _digits_around(text, dots, dots - starts, np.maximum(ends - dots - 1, 0))
    if groups is None:
        return None
    decimals = int(np.max(ends - dots - 1, initial=0))
    celsius = _join(groups) / 10.0**decimals
    np.negative(celsius, out=celsius, where=negative)
    return Decoded(celsius.reshape(-1, columns), separator, decimals)


def _dots(text: Bytes, ends: npt.NDArray[np.intp]) -> npt.NDArray[np.intp] | None:
    """Where each number's decimal point stands (its end, if it has none); None when one has two."""
    found = np.flatnonzero(text == _DOT)
    if found.size == ends.size and (found < ends).all() and (found[1:] > ends[:-1]).all():
        return found
    dots = ends.copy()
    owners = np.searchsorted(ends, found)
    if (np.diff(owners) == 0).any():
        return None
    dots[owners] = found
    return dots


def _digits_around(
    text: Bytes, dots: npt.NDArray[np.intp], before: npt.NDArray[np.intp], after: npt.NDArray[np.intp]
) -> list[tuple[Integers, int]] | None:
    """Digits around each decimal point, zero where a number has none there; None if one is no digit."""
    most_before, most_after = int(before.max()), int(after.max())
    if not (before + after).all() or most_before + most_after > MOST_DIGITS:
        return None
    before, after = before.astype(np.uint8), after.astype(np.uint8)
    groups: list[tuple[Integers, int]] = []
    for place in [*range(-most_before, 0), *range(1, most_after + 1)]:
        digit = text.take(dots + place, mode="clip") - np.uint8(_ZERO)
        digit *= (before >= -place) if place < 0 else (after >= place)
        if digit.max() > 9:  # anything but a digit wraps to above 9
            return None
        groups.append((digit, 1))
    return groups
