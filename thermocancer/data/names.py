"""The DMR-IR file-name grammar: ``T0276.1.3.S.2015-03-13.00.txt``.

``T`` patient ``.`` visit ``.`` view ``.`` protocol ``.`` date ``.`` index ``.txt``; views 1 to 5 are
Frontal, Right45, Right, Left45, Left; protocol S static, D dynamic; index 00 for static files and
00 to 19 for the frontal frames of a dynamic exam.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from thermocancer.workspace import VIEWS

UNKNOWN_DATE = "0000-00-00"
_GRAMMAR = re.compile(r"T(\d{4,9})\.(\d{1,9})\.(\d{1,9})\.([A-Z])\.(\d{4}-\d{2}-\d{2})\.(\d{2,9})\.txt", re.IGNORECASE)
"""Nine digits at most: longer numbers are none of the site's, and would make names that no disk takes."""


@dataclass(frozen=True)
class ThermogramName:
    """What a file name says. ``date`` is None where the name carries none (``0000-00-00``)."""

    patient: int
    visit: int
    view_code: int
    protocol: str
    date: str | None
    index: int

    @property
    def view(self) -> str | None:
        """The view's name, or None for codes outside 1 to 5."""
        return VIEWS[self.view_code - 1] if 1 <= self.view_code <= len(VIEWS) else None

    @property
    def exam(self) -> str:
        """``PATIENT_VISIT``, as in the original study."""
        return f"{self.patient}_{self.visit}"

    @property
    def file_name(self) -> str:
        date = self.date or UNKNOWN_DATE
        return f"T{self.patient:04d}.{self.visit}.{self.view_code}.{self.protocol}.{date}.{self.index:02d}.txt"

    def tree_path(self, label: str) -> str:
        """Where the file stands under ``raw/`` (and, with another suffix, under ``images/``)."""
        if self.protocol == "D":
            return f"Dynamic/{label}/{self.exam}/{self.file_name}"
        return f"Static/{self.view}/{label}/{self.file_name}"


def parse_name(name: str) -> ThermogramName | None:
    """Read a bare file name; None when it is not in the grammar.

    >>> parse_name("T0276.1.3.S.2015-03-13.00.txt").view
    'Right'
    >>> parse_name("M0279.LEFT_MLO.2017-05-04.00.png") is None
    True
    """
    match = _GRAMMAR.fullmatch(name.strip())
    if match is None:
        return None
    patient, visit, view, protocol, date, index = match.groups()
    return ThermogramName(
        int(patient), int(visit), int(view), protocol.upper(), None if date == UNKNOWN_DATE else date, int(index)
    )


def view_code(view: str) -> int:
    """The DMR code of a view's name (1 Frontal ... 5 Left)."""
    return VIEWS.index(view) + 1
