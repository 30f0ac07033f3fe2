"""Write a temperature matrix as the cameras do: exact to the hundredth, by table lookup."""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import SEPARATORS

Temperatures = npt.NDArray[np.uint16] | npt.NDArray[np.floating]
Counts = npt.NDArray[np.intp]
Bytes = npt.NDArray[np.uint8]
_LAYOUT = re.compile(rf"({'|'.join(SEPARATORS)})([2-5])")
_HIGHEST_CENTI = np.iinfo(np.uint16).max


def format_matrix(temperatures: Temperatures, layout: str = "space2", *, line_end: bytes = b"\n") -> bytes:
    """Format a matrix (height, width) as text.

    ``temperatures`` are hundredths of a degree where the array holds integers, degrees Celsius where
    it holds floats. ``layout`` is a separator's name and 2 to 5 decimals: ``space2`` is what the older
    camera writes (``20.52 20.60``), ``semicolon5`` the newer one. Reading the text gives back exactly
    the hundredths that went in, or the degrees rounded to the layout's decimals.

    Raises DataError for anything that is no matrix of temperatures from 0 to 655.35 degC, ValueError
    for an unknown layout.
    """
    match = _LAYOUT.fullmatch(layout)
    if match is None:
        raise ValueError(f"unknown layout {layout!r}; known: a separator ({', '.join(SEPARATORS)}) and 2 to 5 decimals")
    separator, decimals = SEPARATORS[match[1]], int(match[2])
    if temperatures.ndim != 2 or temperatures.size == 0:
        raise DataError("only a matrix can be written", expected="height x width", found=temperatures.shape)
    hundredths, rest = _split(temperatures, decimals)
    if hundredths.min() >= 1000 and hundredths.max() <= 9999:
        return _join_lines(_even_cells(hundredths, rest, decimals, separator), line_end)
    return _join_lines(_uneven_cells(hundredths, rest, decimals, separator), line_end).replace(b"\0", b"")


def _split(temperatures: Temperatures, decimals: int) -> tuple[Counts, Counts | None]:
    """Whole hundredths of a degree, and the decimals after them as an integer (None: all zero)."""
    are_hundredths = np.issubdtype(temperatures.dtype, np.integer)
    scaled = temperatures if are_hundredths else np.rint(temperatures.astype(np.float64) * 10.0**decimals)
    steps = 10.0 ** (decimals - 2)
    hundredths = scaled if are_hundredths else np.floor(scaled / steps)
    lowest, highest = float(hundredths.min()), float(hundredths.max())
    if not (lowest >= 0 and highest <= _HIGHEST_CENTI):  # false for NaN too
        raise DataError(
            "these temperatures cannot be written",
            expected="0 to 655.35 degC",
            found=f"{lowest / 100:g} to {highest / 100:g}",
        )
    if are_hundredths or decimals == 2:
        return hundredths.astype(np.intp), None
    return hundredths.astype(np.intp), (scaled - hundredths * steps).astype(np.intp)  # far below 2**53: exact


def _even_cells(hundredths: Counts, rest: Counts | None, decimals: int, separator: bytes) -> Bytes:
    """Characters (height, width, decimals + 4) of numbers from 10 to 99.99...: all of one width.

    Eight characters are one machine word: words from two tables are joined by OR, not letter by letter.
    """
    width = decimals + 3
    words = _words_of_hundredths().take(hundredths)
    words |= _words_of_decimals(decimals - 2).take(rest) if rest is not None else _words_of_decimals(decimals - 2)[0]
    text = np.empty((*hundredths.shape, width + 1), np.uint8)
    if width == 8:
        strides = (text.strides[0], text.strides[1])
        np.ndarray(hundredths.shape, "<u8", text.data, 0, strides)[...] = words
    else:
        text[:, :, :width] = words.view(np.uint8).reshape(*hundredths.shape, 8)[:, :, :width]
    text[:, :, width] = separator[0]
    return text


def _uneven_cells(hundredths: Counts, rest: Counts | None, decimals: int, separator: bytes) -> Bytes:
    """Characters (height, width, decimals + 5) of any numbers, NUL before short ones."""
    text = np.empty((*hundredths.shape, decimals + 5), np.uint8)
    text[:, :, :6] = _letters_of_hundredths().take(hundredths, axis=0)
    text[:, :, 6:-1] = ord("0") if rest is None else _letters_of_decimals(decimals - 2).take(rest, axis=0)
    text[:, :, -1] = separator[0]
    return text


@lru_cache(maxsize=1)
def _letters_of_hundredths() -> Bytes:
    """0.00 to 655.35 as six characters each, NUL in front where there are fewer; (65536, 6)."""
    text = b"".join((b"%d.%02d" % divmod(each, 100)).rjust(6, b"\0") for each in range(_HIGHEST_CENTI + 1))
    return np.frombuffer(text, np.uint8).reshape(-1, 6)


@lru_cache(maxsize=4)
def _letters_of_decimals(digits: int) -> Bytes:
    """All numbers of so many digits with leading zeros; (10**digits, digits)."""
    text = b"".join(b"%0*d" % (digits, each) for each in range(10**digits)) if digits else b""
    return np.frombuffer(text, np.uint8).reshape(10**digits, digits)


@lru_cache(maxsize=1)
def _words_of_hundredths() -> npt.NDArray[np.uint64]:
    """The five characters of 10.00 to 99.99 as the low bytes of a word; (10000,), nothing below 1000."""
    letters = np.zeros((10_000, 8), np.uint8)
    letters[1000:, :5] = _letters_of_hundredths()[1000:10_000, 1:]
    return letters.view("<u8").ravel().astype(np.uint64)


@lru_cache(maxsize=4)
def _words_of_decimals(digits: int) -> npt.NDArray[np.uint64]:
    """Further decimals as the bytes of a word that follow the first five; (10**digits,)."""
    letters = np.zeros((10**digits, 8), np.uint8)
    letters[:, 5 : 5 + digits] = _letters_of_decimals(digits)
    return letters.view("<u8").ravel().astype(np.uint64)


def _join_lines(text: Bytes, line_end: bytes) -> bytes:
    """Lines from cells (height, width, cell): the last separator becomes the line end."""
    lines = text.reshape(text.shape[0], -1)
    if len(line_end) > 1:
        lines = np.concatenate([lines, np.empty((len(lines), len(line_end) - 1), np.uint8)], axis=1)
    lines[:, -len(line_end) :] = np.frombuffer(line_end, np.uint8)
    return lines.tobytes()
