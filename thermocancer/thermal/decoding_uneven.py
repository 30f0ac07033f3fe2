"""Decimal numbers of any widths from bytes with NumPy; exact for the reason given in ``decoding``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.thermal.decoding import MOST_DIGITS, Bytes, Decoded, Integers, join_digits

Places = npt.NDArray[np.intp]

_BLOCK_BYTES = 1 << 18
_ZERO, _MINUS, _NEWLINE, _SPACE = b"0-\n "


def decode_any_width(body: bytes, separator: bytes, mark: bytes) -> Decoded | None:
    """Decode lines of numbers of any widths, ``separator`` between them, ``mark`` before decimals.

    Spaces around numbers and blank lines do no harm. Returns None when a cell is not
    ``[-]digits[mark digits]``, a cell is empty, or the lines are of unequal length: the caller then
    goes through the text line by line and says what is wrong.
    """
    blocks: list[_Block] = []
    for text in _blocks(body):
        block = _decode_block(text, separator, mark)
        if block is None or (blocks and (block.columns, block.trailing) != (blocks[0].columns, blocks[0].trailing)):
            return None
        blocks.append(block)
    decimals = max(block.decimals for block in blocks)
    parts = [block.scaled_to(decimals) for block in blocks]
    if max(abs(int(part.max())) for part in parts) >= 10**MOST_DIGITS:
        return None
    notes = ["blank lines"] if any(block.blank for block in blocks) else []
    notes += ["trailing separators"] if blocks[0].trailing else []
    numbers = np.concatenate(parts).reshape(-1, blocks[0].columns)
    return Decoded(numbers, separator, decimals, tuple(notes))


@dataclass(frozen=True)
class _Block:
    """Some whole lines, decoded: ``numbers`` (cells,) in units of 10**-``decimals``."""

    numbers: Integers
    decimals: int
    columns: int
    trailing: bool
    blank: bool

    def scaled_to(self, decimals: int) -> Integers:
        if decimals == self.decimals:
            return self.numbers
        return self.numbers.astype(np.int64) * 10 ** (decimals - self.decimals)


def _blocks(body: bytes) -> Iterator[Bytes]:
    """Cut a text at line ends into pieces whose intermediate arrays stay in the processor's cache."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + _BLOCK_BYTES) + 1 or len(body)
        if body[start:end].strip():
            yield np.frombuffer(body, np.uint8, end - start, start)
        start = end


def _decode_block(text: Bytes, separator: bytes, mark: bytes) -> _Block | None:
    starts, ends = _words((text > _SPACE) & (text != separator[0]))
    line_ends = np.flatnonzero(text == _NEWLINE)
    widths = np.diff(np.searchsorted(starts, line_ends), prepend=0, append=starts.size)
    blank = bool((widths[:-1] == 0).any())
    widths = widths[widths > 0]
    if widths.size == 0 or (widths != widths[0]).any():
        return None
    trailing = False
    if separator != b" ":
        separators = np.count_nonzero(text == separator[0])
        trailing = separators == starts.size
        if separators not in (starts.size, starts.size - widths.size):
            return None  # an empty cell
    decoded = _words_to_numbers(text, starts, ends, mark)
    return None if decoded is None else _Block(*decoded, int(widths[0]), trailing, blank)


def _words(inside: npt.NDArray[np.bool_]) -> tuple[Places, Places]:
    """Where each run of True begins, and where it has ended."""
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if inside[0]:
        edges = np.concatenate([[0], edges])
    if inside[-1]:
        edges = np.concatenate([edges, [inside.size]])
    return edges[::2], edges[1::2]


def _words_to_numbers(text: Bytes, starts: Places, ends: Places, mark: bytes) -> tuple[Integers, int] | None:
    """The numbers that stand from ``starts`` to ``ends``, and the most decimals any of them has."""
    negative = text[starts] == _MINUS
    starts = starts + negative
    is_mark = text == mark[0]
    points = _points_as_in_first(is_mark, starts, ends)
    if points is None:
        points = _points(np.flatnonzero(is_mark), starts, ends)
    if points is None:
        return None
    before, after = points - starts, np.maximum(ends - points - 1, 0)
    decimals = int(after.max())
    groups = _digits_around(text, points, before, after)
    if groups is None:
        return None
    numbers = join_digits(groups)
    if negative.any():
        numbers = np.where(negative, -numbers.astype(np.int64), numbers.astype(np.int64))
    return numbers, decimals


def _points_as_in_first(is_mark: npt.NDArray[np.bool_], starts: Places, ends: Places) -> Places | None:
    """Where the decimal marks stand if every number has as many decimals as the first; None if not."""
    first = np.flatnonzero(is_mark[starts[0] : ends[0]])
    if first.size != 1:
        return None
    points = ends - (ends[0] - starts[0] - first[0])
    if (points < starts).any() or np.count_nonzero(is_mark) != points.size or not is_mark[points].all():
        return None
    return points


def _points(found: Places, starts: Places, ends: Places) -> Places | None:
    """Where each number's decimal mark stands (its end, if it has none); None when one has two."""
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
    if not (before + after).all() or most_before + most_after > MOST_DIGITS:
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
