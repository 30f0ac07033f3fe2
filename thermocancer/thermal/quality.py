"""Is this matrix a thermogram at all? One verdict for each thing that is wrong, with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.reading import to_centi
from thermocancer.thermal.regions import missing_pixels


@dataclass(frozen=True)
class Verdict:
    """``code``: wrong_shape, not_finite, fill, out_of_range, flat (or unreadable). ``reason`` is for people."""

    code: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """What judging a matrix needs to know of it: small enough to remember for every file.

    ``lowest`` and ``highest`` are degrees Celsius over the pixels that have one; ``content`` is the SHA-256 of
    the hundredths of a degree, so that one picture written in two layouts is recognised; ``look`` survives more
    than that (``thermal.likeness``), and ``described`` is what ``data.novelty`` compares (None: not a number).
    ``broken`` says why there is no matrix at all, ``fill`` how many pixels are zeros that are fill.
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

    @property
    def missing_share(self) -> float:
        """Share of the frame without a temperature."""
        return (self.not_finite + self.fill) / max(self.shape[0] * self.shape[1], 1)


def measure_matrix(celsius: npt.NDArray[np.floating], layout: str = "") -> Measured:
    """Measure a matrix in degrees Celsius, (height, width)."""
    height, width = celsius.shape
    lowest, highest = float(celsius.min()), float(celsius.max())  # NaN if there is one
    not_finite = fill = 0
    if not (np.isfinite(lowest) and np.isfinite(highest) and lowest > 0):
        missing = missing_pixels(celsius)
        known, not_finite = celsius[~missing], int(np.count_nonzero(~np.isfinite(celsius)))
        fill = int(missing.sum()) - not_finite
        lowest, highest = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
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
    measured: Measured, *, low: float, high: float, minimum_spread: float, shape: tuple[int, int] | None = None,
    missing: float = 0.0,
) -> tuple[Verdict, ...]:  # fmt: skip
    """Judge a measured matrix; an empty answer means it is sound. The settings are those of ``judge_matrix``."""
    if measured.broken:
        return (Verdict("unreadable", measured.broken),)
    verdicts: list[Verdict] = []
    if shape is not None and measured.shape != tuple(shape):
        found, expected = "x".join(map(str, measured.shape)), "x".join(map(str, shape))
        verdicts.append(Verdict("wrong_shape", f"{found} instead of {expected}"))
    lowest, highest = measured.lowest, measured.highest
    if measured.missing_share > missing:
        values = measured.shape[0] * measured.shape[1]
        for code, count, what in (
            ("not_finite", measured.not_finite, "not finite"),
            ("fill", measured.fill, "exactly 0, which is fill and no temperature"),
        ):
            if count:
                verdicts.append(Verdict(code, f"{count} of {values} values ({count / values:.1%}) are {what}"))
    if lowest < low or highest > high:
        reason = f"{lowest:.2f} to {highest:.2f} degC reaches outside {low:g} to {high:g}"
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
    missing: float = 0.0,
) -> tuple[Verdict, ...]:
    """Judge a matrix in degrees Celsius, (height, width). An empty answer means it is sound.

    ``low`` and ``high`` bound plausible temperatures; a matrix whose warmest and coldest value are
    less than ``minimum_spread`` degrees apart is flat (a camera's test image, a covered lens);
    ``shape`` is what it should measure, None for anything; at most the share ``missing`` of its pixels may be without
    a temperature, and the others alone are judged.
    """
    limits = {"low": low, "high": high, "minimum_spread": minimum_spread, "missing": missing}
    return judge_measured(measure_matrix(celsius), shape=shape, **limits)
