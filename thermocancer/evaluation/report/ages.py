"""Age at the exam, where the source knows it: from the site's profiles or the phantom's truth."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from thermocancer.errors import DataError
from thermocancer.workspace import Workspace

ExamKey = tuple[int, int]
PLAUSIBLE = range(10, 111)
BANDS = (
    (0, 40, "39 or under"),
    (40, 50, "40 to 49"),
    (50, 60, "50 to 59"),
    (60, 70, "60 to 69"),
    (70, 200, "70 and over"),
)


def ages(workspace: Workspace, dates: dict[ExamKey, str | None]) -> dict[ExamKey, int]:
    """Years of age at each exam that is dated and whose patient's age is known.

    The site shows an age as of the day it is read; it is reckoned back to the day of the exam.
    """
    found: dict[ExamKey, int] = {}
    for line in _lines(workspace.raw / "truth.jsonl"):
        if isinstance(line.get("age"), int):
            found[int(line["patient"]), int(line["visit"])] = line["age"]
    profiles = {int(line["patient"]): line for line in _lines(workspace.raw / "patients.jsonl") if "patient" in line}
    for key, day in dates.items():
        age = None if day is None or key[0] not in profiles else age_on(profiles[key[0]], day)
        if age is not None:
            found[key] = age
    return {key: age for key, age in found.items() if age in PLAUSIBLE}


def age_on(profile: dict[str, Any], day: str) -> int | None:
    """Age on a day from a line of ``patients.jsonl``; None where it does not tell.

    >>> age_on({"read": "2026-05-01", "profile": [["age", "75 years old"]]}, "2013-06-01")
    62
    """
    words = next((value for key, value in profile.get("profile", ()) if key == "age"), "")
    number = re.match(r"\s*(\d+)", str(words))
    try:
        passed = (date.fromisoformat(str(profile["read"])[:10]) - date.fromisoformat(day)).days / 365.25
    except (KeyError, ValueError):
        return None
    return None if number is None else round(int(number.group(1)) - passed)


def age_band(age: int | None) -> str:
    """The decade that subgroups are made of."""
    return "unknown" if age is None else next(name for low, high, name in BANDS if low <= age < high)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        return [dict(json.loads(text)) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise DataError("a file of facts about patients cannot be read", where=path, found=error) from error
