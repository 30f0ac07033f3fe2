"""Is this the same picture as that one, whatever was done to it on the way?

A matrix is averaged to 32 x 32, and what is finer than two of these cells and coarser than two thirds of one is kept:
where vessels and edges are, not how warm a woman is or how bodies look in general. Two pictures are alike where
these details correlate above .98, as they are or mirrored.

``benchmarks/likeness.py WORKSPACE`` measures both sides. Encoded again as JPEG or as 8-bit grey, halved, made square,
on another scale or with .1 degC of noise, 60 real frontals stay within .0001 of a correlation of 1, 60 phantoms
within .0009. Between women the nearest two are .144 apart (300 real frontals, their three identical pairs aside; .094
mirrored), .040 (517 views of 100 phantoms), and .007 in the calm bodies of ``configs/reproduce-phantom.yaml``: there
the median of all pairs decides, see ``alike``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Name = TypeVar("Name", int, str)

SIDE = 32
LEAST_CORRELATION = 0.98
LEAST_DETAIL = 0.35
"""degC, standard deviation. Real frontals have .49 to 1.6, phantoms .79 and more; with less, two smooth
pictures are alike by their smoothness."""

_FINE, _COARSE = 0.7, 2.0  # standard deviations of the two blurs, in cells
_STEPS = 30.0  # a detail of one standard deviation is so many steps of the 127 that a byte has
_BLOCK, _SAMPLE = 1024, 500
_TIMES_CLOSER = 20


def details_of(celsius: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """What is compared of a matrix (height, width) in degC: (32, 32), degC. NaN is filled with the median."""
    import cv2

    known = np.isfinite(celsius)
    whole = np.where(known, celsius, np.median(celsius[known])).astype(np.float32)
    small = cv2.resize(whole, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _FINE) - cv2.GaussianBlur(small, (0, 0), _COARSE), np.float32)


def look_of(celsius: npt.NDArray[np.floating]) -> str:
    """The details of a matrix (height, width) in degC, as text; empty where it has next to none."""
    if not np.isfinite(celsius).any():
        return ""
    details = details_of(celsius)
    spread = float(details.std())
    if spread < LEAST_DETAIL:
        return ""
    steps = np.clip(np.rint(details / spread * _STEPS), -127, 127).astype(np.int8)
    return base64.b64encode(steps.tobytes()).decode()


def alike(
    looks: Sequence[str], kinds: Sequence[str], least: float = LEAST_CORRELATION
) -> Iterator[tuple[int, int, bool]]:  # fmt: skip
    """Pairs of positions in ``looks`` (the lower first) that show one picture, and whether one is mirrored.

    ``kinds`` are the views, ``least`` the correlation from which on two are one. Where all pictures of a view
    resemble each other, as simulated ones may, a pair must be twenty times as close as two usually are.
    """
    places = [place for place, look in enumerate(looks) if look]
    if not places:
        return
    decoded = [np.frombuffer(base64.b64decode(looks[place]), np.int8) for place in places]
    pictures = np.array(decoded, dtype=np.float32).reshape(-1, SIDE, SIDE)
    plain, mirrored = (_unit(each) for each in (pictures, pictures[:, :, ::-1]))
    limits = np.full(len(places), least)
    for kind in set(kinds):
        own = np.array([row for row, place in enumerate(places) if kinds[place] == kind], dtype=np.int64)
        some = plain[own[:: max(1, len(own) // _SAMPLE)]]
        usual = (some @ some.T)[np.triu_indices(len(some), 1)]
        if usual.size:
            limits[own] = np.maximum(least, 1 - (1 - np.median(usual)) / _TIMES_CLOSER)
    for start in range(0, len(places), _BLOCK):
        block = slice(start, start + _BLOCK)
        found = {False: plain[block] @ plain.T, True: plain[block] @ mirrored.T}
        close = np.maximum(found[False], found[True]) > limits[block, np.newaxis]
        for first, second in np.argwhere(close).tolist():
            if start + first < second:
                turned = bool(found[True][first, second] > found[False][first, second])
                yield places[start + first], places[second], turned


def leaders(pairs: Iterable[tuple[Name, Name]]) -> dict[Name, Name]:
    """For each name that is tied to another: the lowest of all that are tied to one another."""
    lowest: dict[Name, Name] = {}

    def lead(name: Name) -> Name:
        while lowest.setdefault(name, name) != name:
            name = lowest[name]
        return name

    for pair in pairs:
        low, high = sorted(map(lead, pair))
        lowest[high] = low
    return {name: lead(name) for name in sorted(lowest)}


def _unit(pictures: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)
