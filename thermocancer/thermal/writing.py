"""Write a temperature matrix as the cameras do: exact to the hundredth, by table lookup."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.reading import SEPARATORS

Bytes = npt.NDArray[np.uint8]
_LAYOUT = re.compile(rf"({'|'.join(SEPARATORS)})([2-6])")
_HIGHEST_CENTI = np.iinfo(np.uint16).max


def format_matrix(
    temperatures: npt.NDArray[np.uint16] | npt.NDArray[np.floating],
    layout: str = "space2",
    *,
    line_end: bytes = b"\n",
) -> bytes:
    """Format a matrix (height, width) as text.

    ``temperatures`` are hundredths of a degree where the array holds integers, degrees Celsius where
    it holds floats. ``layout`` is a separator's name and 2 to 6 decimals: ``space2`` is what the older
    camera writes (``20.52 20.60``), ``semicolon5`` the newer one. Reading the text gives back exactly
    the hundredths that went in, or the degrees rounded to the layout's decimals.

    Raises DataError for anything that is no matrix of temperatures from 0 to 655.35 degC, ValueError
    for an unknown layout.
    """
    match = _LAYOUT.fullmatch(layout)
    if match is None:
        raise ValueError(f"unknown layout {layout!r}; known: a separator ({', '.join(SEPARATORS)}) and 2 to 6 decimals")
    separator, decimals = SEPARATORS[match[1]], int(match[2])
    if temperatures.ndim != 2 or temperatures.size == 0:
        raise DataError("only a matrix can be written", expected="height x width", found=temperatures.shape)
    hundredths, rest = _split(temperatures, decimals)
    whole = _take(_table_of_hundredths(), hundredths)  # (height, width, 6), NUL before short numbers
    if hundredths.min() >= 1000 and hundredths.max() <= 9999:
        whole = whole[:, :, 1:]  # all of one width, as the decoder likes it
    end = whole.shape[2]
    text = np.empty((*hundredths.shape, end + decimals - 2 + 1), np.uint8)
    text[:, :, :end] = whole
    if decimals > 2:
        text[:, :, end:-1] = _take(_table_of_decimals(decimals - 2), rest)
    text[:, :, -1] = separator[0]
    return _join_lines(text, line_end)


def _split(
    temperatures: npt.NDArray[np.uint16] | npt.NDArray[np.floating], decimals: int
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
    """Whole hundredths of a degree, and the digits after them as an integer."""
    steps = 10 ** (decimals - 2)
    if np.issubdtype(temperatures.dtype, np.integer):
        scaled = temperatures.astype(np.int64) * steps
    else:
        if not np.isfinite(temperatures).all():
            raise DataError("only finite temperatures can be written", found="NaN or infinity")
        scaled = np.rint(temperatures.astype(np.float64) * 10.0**decimals).astype(np.int64)
    hundredths, rest = np.divmod(scaled, steps) if steps > 1 else (scaled, scaled)
    lowest, highest = int(hundredths.min()), int(hundredths.max())
    if lowest < 0 or highest > _HIGHEST_CENTI:
        raise DataError(
            "these temperatures cannot be written",
            expected="0 to 655.35 degC",
            found=f"{lowest / 100} to {highest / 100}",
        )
    return hundredths, rest


@lru_cache(maxsize=1)
def _table_of_hundredths() -> npt.NDArray[np.void]:
    """All of 0.00 to 655.35 as six characters, NUL in front where there are fewer; shape (65536,)."""
    text = b"".join((b"%d.%02d" % divmod(each, 100)).rjust(6, b"\0") for each in range(_HIGHEST_CENTI + 1))
    return np.frombuffer(text, "V6")


@lru_cache(maxsize=4)
def _table_of_decimals(digits: int) -> npt.NDArray[np.void]:
    """All numbers of so many digits with leading zeros; shape (10**digits,)."""
    return np.frombuffer(b"".join(b"%0*d" % (digits, each) for each in range(10**digits)), f"V{digits}")


def _take(table: npt.NDArray[np.void], index: npt.NDArray[np.integer]) -> Bytes:
    """Look every entry of ``index`` (height, width) up: characters, (height, width, table's width)."""
    return table.take(index).view(np.uint8).reshape(*index.shape, table.itemsize)


def _join_lines(text: Bytes, line_end: bytes) -> bytes:
    """Lines from cells (height, width, cell): the last separator becomes the line end, NUL vanishes."""
    lines = text.reshape(text.shape[0], -1)
    if len(line_end) > 1:
        lines = np.concatenate([lines, np.empty((len(lines), len(line_end) - 1), np.uint8)], axis=1)
    lines[:, -len(line_end) :] = np.frombuffer(line_end, np.uint8)
    return lines.tobytes().replace(b"\0", b"")
