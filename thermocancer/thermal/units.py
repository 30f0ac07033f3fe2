"""The unit of a matrix's numbers: what they look like, and exact conversion to degrees Celsius when it is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import Decoded, Float64

Unit = Literal["C", "K", "F", "cC", "dK", "cK", "mK", "raw"]
Calibration = Callable[[Float64], Float64]
"""From raw counts to degrees Celsius, any shape."""

UNITS: dict[Unit, str] = {
    "C": "degrees Celsius", "K": "kelvin", "F": "degrees Fahrenheit", "cC": "hundredths of a degree Celsius",
    "dK": "tenths of a kelvin", "cK": "hundredths of a kelvin", "mK": "thousandths of a kelvin", "raw": "raw counts",
}  # fmt: skip
"""Units in words."""

STATED = "unit stated: "
"""How the note on a unit begins that the file itself states."""

_PARTS: dict[Unit, int] = {"C": 0, "K": 0, "cC": 2, "dK": 1, "cK": 2, "mK": 3}
"""A unit is so many powers of ten smaller than a degree."""

# where nearly all numbers of a room with a person in it lie (-10 to 65 degC; for Fahrenheit 40 to 115, the warmest
# above 75, which no skin's Celsius reaches, the coldest below 95: nobody's room and skin are all above 35 degC)
_WINDOWS: dict[Unit, tuple[float, float]] = {
    "K": (263, 338), "F": (40, 115), "cC": (1000, 4500), "dK": (2630, 3380), "cK": (26300, 33800),
    "mK": (263000, 338000),
}  # fmt: skip


def to_celsius(decoded: Decoded, unit: Unit | None, calibration: Calibration | None, where: str) -> Decoded:
    """The same numbers in degrees Celsius, by what is said of them: ``unit``, or what the file itself states.

    Where neither says anything they are taken as degrees Celsius, unless they look like something else.
    Conversions of decimal numbers are exact: 304.15 K are 31 degC and not 30.99999999999997. Zeros of another unit
    are fill (0 K, 0 counts), and become NaN.

    Raises DataError for numbers that look like another unit than the file says, for those that are no skin's in the
    unit that was given, and for raw counts without a calibration; ValueError for a unit that does not exist.
    """
    if unit is not None and unit not in get_args(Unit):
        raise ValueError(f"unknown unit {unit!r}; known: {', '.join(get_args(Unit))}")
    said: Unit = unit or decoded.unit or "C"
    if unit is None:
        _refuse_other_units(decoded, said, where)
    if said == "C":
        return decoded
    converted = _converted(decoded, said, calibration, where)
    if unit is not None and said != "raw":
        _refuse_no_skin(decoded, converted, said, where)
    if said == "cC" or (fill := decoded.numbers == 0).all() or not fill.any():
        return converted
    numbers, decimals = converted.numbers, converted.decimals
    degrees = numbers / 10.0**decimals if np.issubdtype(numbers.dtype, np.integer) else numbers
    return replace(converted, numbers=np.where(fill, np.nan, degrees), decimals=0)


def _refuse_no_skin(decoded: Decoded, converted: Decoded, said: Unit, where: str) -> None:
    """Raise DataError where the warmest fiftieth, dead pixels aside, is colder than a room or hotter than any skin."""
    scale = 10.0**converted.decimals if np.issubdtype(converted.numbers.dtype, np.integer) else 1.0
    known = np.isfinite(converted.numbers) & (decoded.numbers != 0)
    high = float(np.percentile(converted.numbers[known], 98)) / scale if known.any() else 20.0
    if not 10 <= high <= 150:
        names = " or ".join(UNITS[each] for each in looks_like(decoded)) or UNITS["C"]
        raise DataError(
            f"these numbers look like {names}, not {UNITS[said]}", where=where, expected=f"numbers in {UNITS[said]}",
            found=f"a warmest part of {high:.1f} degC",
        )  # fmt: skip


def _converted(decoded: Decoded, said: Unit, calibration: Calibration | None, where: str) -> Decoded:
    """The numbers, whatever they are, from the unit ``said`` to degrees Celsius."""
    notes = (*decoded.notes, f"{UNITS[said]} converted to degrees Celsius")
    numbers, decimals = decoded.numbers, decoded.decimals
    degrees = numbers / 10.0**decimals if np.issubdtype(numbers.dtype, np.integer) else numbers.astype(np.float64)
    if said == "raw":
        if calibration is None:
            raise DataError(
                "raw counts are no temperatures",
                where=where,
                expected="a calibration from counts to degrees Celsius",
                found=f"{degrees.min():g} to {degrees.max():g}",
                hint="pass calibration=..., or export temperatures from the camera's own software",
            )
        return replace(decoded, numbers=np.asarray(calibration(degrees), np.float64), decimals=0, notes=notes)
    if not np.issubdtype(numbers.dtype, np.integer) or decimals > 9:
        parts, zero = 10.0 ** _PARTS.get(said, 0), 273.15 if said in ("K", "dK", "cK", "mK") else 0.0
        celsius = (degrees - 32) * 5 / 9 if said == "F" else (degrees - zero * parts) / parts
        return replace(decoded, numbers=celsius, notes=notes)
    whole = numbers.astype(np.int64)
    if said == "F":  # one division of whole numbers: rounded once
        return replace(decoded, numbers=(whole - 32 * 10**decimals) * 5 / (9.0 * 10**decimals), decimals=0, notes=notes)
    finer = max(decimals + _PARTS[said], 2)
    whole *= 10 ** (finer - decimals - _PARTS[said])
    if said != "cC":
        whole -= 27315 * 10 ** (finer - 2)
    return replace(decoded, numbers=whole, decimals=finer, notes=notes)


def option_of(text: str) -> str:
    """``--unit K`` where a reason names the unit that the numbers look like; empty where it names none.

    >>> option_of("these numbers look like kelvin, not degrees Celsius"), option_of("lines of unequal length")
    ('--unit K', '')
    """
    _, _, said = text.partition("look like ")
    named = said.partition(", not ")[0].split(" or ")
    return " or ".join(f"--unit {unit}" for unit, words in UNITS.items() if words in named and unit != "raw")


def looks_like(decoded: Decoded) -> tuple[Unit, ...]:
    """What else than degrees Celsius the numbers could be: those units in which they are a room with a person in it.

    The coldest and the warmest fiftieth are left out (dead pixels). Empty for what could be Celsius and for
    what is plausible in no unit.
    """
    sample = decoded.numbers.ravel()[:: max(1, decoded.numbers.size // 20_000)]
    whole = np.issubdtype(sample.dtype, np.integer) and decoded.decimals == 0
    values = sample / 10.0**decoded.decimals if np.issubdtype(sample.dtype, np.integer) else sample
    values = values[np.isfinite(values) & (values != 0)]  # zeros are fill
    if not values.size:
        return ()
    low, high = np.percentile(values, (2, 98))
    found = [unit for unit, (least, most) in _WINDOWS.items() if least <= low and high <= most]
    if "F" in found and not (high > 75 and low < 95):
        found.remove("F")
    whole = whole or bool((values == np.rint(values)).all())
    if whole and high > 60 and not set(found) & {"K", "cC", "dK", "cK", "mK"}:
        found.append("raw")
    return tuple(found)


def _refuse_other_units(decoded: Decoded, said: Unit, where: str) -> None:
    found = looks_like(decoded)
    if (said == "C" and not found) or said in found or said == "raw":
        return
    scale = 10.0**decoded.decimals if np.issubdtype(decoded.numbers.dtype, np.integer) else 1.0
    low, high = np.nanmin(decoded.numbers) / scale, np.nanmax(decoded.numbers) / scale
    names = " or ".join(UNITS[each] for each in found) or "something else"
    options = [f'unit="{each}"' for each in found if each != "raw"] + ['unit="raw" with a calibration'] * (
        "raw" in found
    )
    raise DataError(
        f"these numbers look like {names}, not {UNITS[said]}",
        where=where,
        expected=f"temperatures in {UNITS[said]}" + (", as the file states" if decoded.unit else ""),
        found=f"{low:g} to {high:g}",
        hint=(f"{' or '.join(options)} converts them; " if options else "") + 'unit="C" takes them as they are',
    )
