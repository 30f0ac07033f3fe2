"""Is this matrix a thermogram at all? One verdict for each thing that is wrong, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Verdict:
    """``code``: wrong_shape, not_finite, out_of_range or flat. ``reason`` is for people."""

    code: str
    reason: str


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
    verdicts: list[Verdict] = []
    if shape is not None and celsius.shape != tuple(shape):
        found, expected = "x".join(map(str, celsius.shape)), "x".join(map(str, shape))
        verdicts.append(Verdict("wrong_shape", f"{found} instead of {expected}"))
    lowest, highest = float(celsius.min()), float(celsius.max())  # NaN if there is one
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        bad = int(np.count_nonzero(~np.isfinite(celsius)))
        return (*verdicts, Verdict("not_finite", f"{bad} of {celsius.size} values are not finite"))
    if lowest < low or highest > high:
        bad = int(np.count_nonzero((celsius < low) | (celsius > high)))
        reason = f"{bad} of {celsius.size} values outside {low:g} to {high:g} degC ({lowest:.2f} to {highest:.2f})"
        verdicts.append(Verdict("out_of_range", reason))
    if highest - lowest < minimum_spread or highest == lowest:
        reason = f"all values within {highest - lowest:.2f} degC (from {lowest:.2f}), less than {minimum_spread:g}"
        verdicts.append(Verdict("flat", reason))
    return tuple(verdicts)
