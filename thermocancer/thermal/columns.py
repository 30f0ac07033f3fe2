"""From a block of lines to a matrix: column numbers, row numbers and tables of places are told from temperatures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import NUMBER, Decoded
from thermocancer.thermal.lines import NumberLines, decode_lines, shown, split_cells

_COUNT = re.compile(rb"\d{1,6}([.,]0*)?")
_AXES = {"x": (b"x", b"col", b"column", b"j", b"px"), "y": (b"y", b"row", b"line", b"i", b"py")}


def cells_of(line: bytes, separator: bytes) -> list[bytes]:
    """The cells of a line, without the empty one behind a trailing separator."""
    cells = split_cells(line, separator)
    return cells[:-1] if len(cells) > 1 and not cells[-1] else cells


def is_number(cell: bytes) -> bool:
    return NUMBER.fullmatch(cell) is not None


_LISTED = re.compile(rb"(?:\d+,)+\d+,?")
_SINGLE = re.compile(rb"[+-]?\d+(?:[.,]\d+)?")


def by_shape(text: bytes, shape: tuple[int, int], notes: list[str]) -> bytes:
    """The text with the one reading that gives ``shape`` (rows, columns) written out; unchanged where it has one only.

    Five dresses can be two things: whole numbers with commas between them or numbers with decimal commas, one number
    a line, tables of places whose columns have no names, columns in front that hold one number each (a frame's
    number, its time), and up to four shorter lines of numbers on top (settings, or torn lines).
    """
    height, width = shape
    lines = [stripped for line in text.split(b"\n") if (stripped := line.strip(b" \r"))]
    if len(lines) == height and all(map(_LISTED.fullmatch, lines)):
        tokens = [[token.strip() for token in line.rstrip(b",").split(b",")] for line in lines]
        counts = {len(each) for each in tokens}
        if counts == {2 * width}:
            notes.append("commas before decimals, by the shape given")
            pairs = [zip(each[::2], each[1::2], strict=True) for each in tokens]
            return b"".join(b";".join(b"%b.%b" % pair for pair in each) + b"\n" for each in pairs)
        if counts == {width}:
            notes.append("commas between whole numbers, by the shape given")
            return b"".join(b";".join(each) + b"\n" for each in tokens)
    if len(lines) == height * width and all(map(_SINGLE.fullmatch, lines)):
        notes.append("one number a line, row by row, by the shape given")
        rows = [lines[start : start + width] for start in range(0, len(lines), width)]
        return b"".join(b";".join(row) + b"\n" for row in rows)
    separator = next((each for each in (b";", b"\t", b",") if lines and each in lines[-1]), b" ")
    above = [cells_of(line, separator) for line in lines[:-height]]
    if 0 < len(above) <= 4 and all(len(cells) < width and all(map(is_number, cells)) for cells in above):
        notes.append(f"{len(above)} lines of other numbers on top left out, by the shape given")
        return b"\n".join(lines[-height:]) + b"\n"
    more = len(cells_of(lines[0], separator)) - width if len(lines) == height > 2 else 0
    if 0 < more < width and (separator != b"," or b"." in lines[0]):
        cells = [cells_of(line, separator) for line in lines]
        if {(len(each), *each[:more]) for each in cells} == {(width + more, *cells[0][:more])}:
            notes.append(f"{more} columns of one number each left out, by the shape given")
            return b"".join(separator.join(each[more:]) + b"\n" for each in cells)
    if len(lines) == height * width and height != width:
        cells = [split_cells(line, separator) for line in lines]
        if all(len(each) == 3 and all(map(is_number, each)) for each in cells):
            first, second = (len({each[column] for each in cells}) for column in (0, 1))
            named = {(width, height): b"x%by%bT\n", (height, width): b"y%bx%bT\n"}.get((first, second))
            if named is not None:
                notes.append("the first column is " + named[:1].decode() + ", by the shape given")
                return named % (separator, separator) + text
    return text


def decode_block(text: NumberLines, separator: bytes, mark: bytes, names: bytes) -> Decoded:
    """Decode lines, and take off column numbers and row numbers; ``names`` is the line of words above, or empty.

    Raises DataError as ``layouts.read_text`` does.
    """
    notes, numbered = [], False
    if len(text.lines) > 2:
        top, below = (cells_of(line, separator) for line in text.lines[:2])
        corner = len(top) > 2 and not is_number(top[0])
        counts = top[1:] if corner else top
        if _count_up(counts) and _whole(counts[0]) in (0, 1) and not (_count_up(below) and len(below) == len(top)):
            text = replace(text, lines=text.lines[1:], numbers=text.numbers[1:])
            numbered = len(below) == len(counts) + 1
            notes.append("a line of column numbers")
    decoded = decode_lines(text, separator, mark)
    height, width = decoded.numbers.shape
    if width < 2:
        return decoded  # no matrix, as the caller will find
    if width == 3 and height >= 4:
        table = _as_table(decoded, names, separator, text)
        if table is not None:
            return table
    column, next_column = decoded.numbers[:, :2].T.astype(np.float64) / _scale(decoded)
    first = column[0]
    steps = np.array_equal(column, first + np.arange(height)) and first == np.rint(first)
    if height >= 3 and width >= 3 and steps and not (np.diff(next_column) == 1).all():
        if not numbered and first not in (0, 1):
            raise DataError(
                "the first column counts upwards", where=text.place(0),
                expected="temperatures, or row numbers from 0 or 1 on",
                found=f"{first:g} to {first + height - 1:g}: row numbers of a matrix of {height}x{width - 1}, "
                f"or the first of {width} columns of temperatures",
            )  # fmt: skip
        notes.append(f"a column of row numbers ({first:g} to {first + height - 1:g})")
        decoded = replace(decoded, numbers=decoded.numbers[:, 1:].copy())
    elif numbered:
        raise DataError(
            "the line of column numbers leaves the first column without one, and that is no column of row numbers",
            where=text.place(0), expected="whole numbers one apart", found=shown(text.lines[0]),
        )  # fmt: skip
    refuse_strange_columns(decoded, text.place(0))
    return replace(decoded, notes=(*notes, *decoded.notes))


def _whole(cell: bytes) -> int:
    return int(cell.replace(b",", b".").partition(b".")[0])


def _count_up(cells: Sequence[bytes]) -> bool:
    """Five or more whole numbers, each one more than the one before."""
    if len(cells) < 5 or not all(_COUNT.fullmatch(cell) for cell in cells):
        return False
    numbers = [_whole(cell) for cell in cells]
    return numbers == [*range(numbers[0], numbers[0] + len(numbers))]


def _scale(decoded: Decoded) -> float:
    """By what the numbers as decoded are to be divided."""
    return 10.0**decoded.decimals if np.issubdtype(decoded.numbers.dtype, np.integer) else 1.0


def _as_table(decoded: Decoded, names: bytes, separator: bytes, text: NumberLines) -> Decoded | None:
    """The matrix of a table of x, y and temperature; None where the three columns are no such table.

    Raises DataError for a table whose columns have no names, and for one with holes.
    """
    titles = [cell.strip(b'"#[]() ').lower() for cell in cells_of(names, separator)] if names else []
    axes = {axis: [titles.index(each) for each in known if each in titles] for axis, known in _AXES.items()}
    named = len(titles) == 3 and all(len(places) == 1 for places in axes.values())
    columns = [axes["x"][0], axes["y"][0]] if named else [0, 1]
    (xs, across), (ys, down) = (np.unique(decoded.numbers[:, each], return_inverse=True) for each in columns)
    whole = len(np.unique(down * len(xs) + across)) == len(xs) * len(ys) == len(decoded.numbers)
    if not named:
        step = int(_scale(decoded))
        counts = not (decoded.numbers[:, :2] % step).any() and len(decoded.numbers) > 2 * max(len(xs), len(ys))
        if min(len(xs), len(ys)) < 2 or not (whole or counts):
            return None
        raise DataError(
            "this looks like a table of places and temperatures whose columns have no names", where=text.place(0),
            expected="a first line with the names of the columns, such as x,y,temperature",
            found=f"{len(ys)}x{len(xs)} if the first column is x, {len(xs)}x{len(ys)} if it is y",
            hint="choose with the shape (--shape)" if len(xs) != len(ys) else None,
        )  # fmt: skip
    if not whole:
        raise DataError(
            "this table of places and temperatures has holes or doubles", where=text.place(0),
            expected=f"{len(ys)}x{len(xs)} places, each once", found=f"{len(decoded.numbers)} lines",
        )  # fmt: skip
    matrix = decoded.numbers[np.lexsort((across, down)), 3 - sum(columns)].reshape(len(ys), len(xs))
    note = (
        f"a table with the columns {', '.join(each.decode('ascii', 'replace') for each in cells_of(names, separator))}"
    )
    return replace(decoded, numbers=matrix, notes=(note, *decoded.notes))


def refuse_strange_columns(decoded: Decoded, where: str) -> None:
    """Refuse a first column that is one number far from all others: a frame's number or time, not temperatures."""
    numbers = decoded.numbers
    if numbers.shape[0] < 3 or numbers.shape[1] < 5 or not (numbers[:, 0] == numbers[0, 0]).all():
        return
    if not numbers[:, :2].any():  # two columns of zeros are fill
        return
    scale = _scale(decoded)
    low, high = np.nanpercentile(numbers[:, 1:], (10, 90)) / scale
    first = numbers[0, 0] / scale
    margin = (high - low) / 2
    if high > low and not low - margin <= first <= high + margin:
        raise DataError(
            "the first column holds one number, far from all others", where=where,
            expected="temperatures only", found=f"{first:g} in every line, beside {low:g} to {high:g}",
            hint="if it is the number or the time of a frame, give the shape without it (--shape), or take it out",
        )  # fmt: skip
