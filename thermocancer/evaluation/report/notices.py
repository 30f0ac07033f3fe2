"""What stands on every output, and words for figures."""

from __future__ import annotations

from typing import Any

ADJUNCT_NOTICE = (
    "Research use only. Thermography is not a substitute for mammography and must not be used on its own to "
    "screen for or diagnose breast cancer (FDA safety communication, 25 February 2019)."
)
PHANTOM_NOTICE = (
    "These exams are synthetic: they come from a simulation of heat in tissue. The figures say that the software "
    "works, nothing about people."
)


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal; a dash where it is undefined.

    >>> percent(0.8754)
    '87.5 %'
    """
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a fixed number of decimals; a dash where it is undefined.

    >>> number(0.91234)
    '0.912'
    """
    return "–" if value is None else f"{value:.{digits}f}"


def with_interval(estimate: dict[str, Any], digits: int = 3) -> str:
    """``0.912 (0.871 to 0.944)``."""
    if estimate["low"] is None:
        return number(estimate["value"], digits)
    return (
        f"{number(estimate['value'], digits)} ({number(estimate['low'], digits)} to {number(estimate['high'], digits)})"
    )


def chance(value: float) -> str:
    """A p-value, two digits and no false precision.

    >>> chance(0.00002), chance(0.034)
    ('< 0.001', '0.034')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
