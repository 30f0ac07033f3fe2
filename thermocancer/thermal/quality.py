"""Is this matrix a thermogram at all? One verdict for each thing that is wrong, with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.reading import to_centi

_WARM = 10.0  # degC


@dataclass(frozen=True)
class Verdict:
    """``code``: wrong_shape, not_finite, out_of_range, flat (or unreadable). ``reason`` is for people."""

    code: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """What judging a matrix needs to know of it: small enough to remember for every file.

    ``lowest`` and ``highest`` are degrees Celsius over the finite values; ``content`` is the SHA-256 of
    the hundredths of a degree, so that one picture written in two layouts is recognised; ``look`` survives more
    than that (``thermal.likeness``), and ``described`` is what ``data.novelty`` compares (None: not a number).
    ``broken`` says why there is no matrix at all,
    ``fill`` how many pixels are exactly 0 degC.
    """

    shape: tuple[int, int] = (0, 0)
    lowest: float = 0.0
    highest: float = 0.0
    not_finite: int = 0
    content: str = ""
    layout: str = ""
    broken: str = ""
    fill: int = 0
    look: str = ""
    described: Mapping[str, float | None] = field(default_factory=dict)


def missing_pixels(celsius: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """Where a matrix (height, width) in degC holds no temperature: NaN, infinity, and exactly 0 beside warm skin.

    Crops of a region are filled up with zeros. No room is at 0.00 degC while the frame reaches 10 degC and more.
    """
    missing: npt.NDArray[np.bool_] = ~np.isfinite(celsius)
    if celsius[~missing].size and celsius[~missing].max() > _WARM:
        missing |= celsius == 0
    return missing


def measure_matrix(celsius: npt.NDArray[np.floating], layout: str = "") -> Measured:
    """Measure a matrix in degrees Celsius, (height, width)."""
    height, width = celsius.shape
    lowest, highest = float(celsius.min()), float(celsius.max())  # NaN if there is one
    not_finite = 0
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        finite = celsius[np.isfinite(celsius)]
        not_finite = celsius.size - finite.size
        lowest, highest = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    fill = int(missing_pixels(celsius).sum()) - not_finite if lowest == 0 else 0
    return Measured((height, width), lowest, highest, not_finite, hash_content(celsius), layout, fill=fill)


def hash_content(celsius: npt.NDArray[np.floating]) -> str:
    """SHA-256 of a matrix's shape and hundredths of a degree, whatever the text looked like."""
    try:
        content: npt.NDArray[np.generic] = to_centi(np.asarray(celsius, np.float64))
    except DataError:  # NaN and the like have no hundredths; such a matrix is still equal to its own copy
        content = np.asarray(celsius, np.float64)
    digest = hashlib.sha256(repr((celsius.shape, content.dtype.str)).encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


def judge_measured(
    measured: Measured, *, low: float, high: float, minimum_spread: float, shape: tuple[int, int] | None = None
) -> tuple[Verdict, ...]:
    """Judge a measured matrix; an empty answer means it is sound. The settings are those of ``judge_matrix``."""
    if measured.broken:
        return (Verdict("unreadable", measured.broken),)
    verdicts: list[Verdict] = []
    if shape is not None and measured.shape != tuple(shape):
        found, expected = "x".join(map(str, measured.shape)), "x".join(map(str, shape))
        verdicts.append(Verdict("wrong_shape", f"{found} instead of {expected}"))
    lowest, highest = measured.lowest, measured.highest
    if measured.not_finite:
        values = measured.shape[0] * measured.shape[1]
        verdicts.append(Verdict("not_finite", f"{measured.not_finite} of {values} values are not finite"))
    if lowest < low or highest > high:
        reason = f"{lowest:.2f} to {highest:.2f} degC reaches outside {low:g} to {high:g}"
        if measured.fill:
            share = measured.fill / (measured.shape[0] * measured.shape[1])
            reason += f": {measured.fill} pixels ({share:.1%}) are exactly 0, which is fill and no temperature"
        verdicts.append(Verdict("out_of_range", reason))
    if highest - lowest < minimum_spread or highest == lowest:
        reason = f"all values within {highest - lowest:.2f} degC of each other, less than {minimum_spread:g}"
        verdicts.append(Verdict("flat", reason))
    return tuple(verdicts)


def judge_matrix(
    celsius: npt.NDArray[np.floating],
    *,
    low: float,
    high: float,
    minimum_spread: float,
    shape: tuple[int, int] | None = None,
) -> tuple[Verdict, ...]:
    """Judge a matrix in degrees Celsius, (height, width). An empty answer means it is sound.

    ``low`` and ``high`` bound plausible temperatures; a matrix whose warmest and coldest value are
    less than ``minimum_spread`` degrees apart is flat (a camera's test image, a covered lens);
    ``shape`` is what it should measure, None for anything.
    """
    return judge_measured(measure_matrix(celsius), low=low, high=high, minimum_spread=minimum_spread, shape=shape)
