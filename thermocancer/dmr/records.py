"""``raw/patients.jsonl``: the clinical fields of each patient's page, as found, with the day they were read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thermocancer.dmr.clinical import Entries
from thermocancer.dmr.pages import PatientPage
from thermocancer.errors import DataError
from thermocancer.files import write_text


def patient_record(patient: int, page: PatientPage, today: str) -> dict[str, Any]:
    """One patient's line. The age is the site's, computed for ``today`` and not for the day of the exam."""
    profile = [list(pair) for _, pairs in page.profile for pair in pairs]
    visits = [
        {
            "visit": visit.number,
            "heading": visit.heading,
            "date": visit.date,
            "diagnosis": visit.diagnosis,
            "fields": _blocks(visit.entries),
        }
        for visit in page.visits
    ]
    return {"patient": patient, "read": today, "profile": profile, "visits": visits}


def _blocks(entries: Entries) -> list[dict[str, Any]]:
    return [{"heading": heading, "entries": [list(pair) for pair in pairs]} for heading, pairs in entries]


def merge_patients(path: Path, fresh: list[dict[str, Any]]) -> bool:
    """Add patients to the file, or replace their lines; returns whether anything had to be written.

    A line whose facts are unchanged keeps the day on which they were first read.
    Raises DataError when the file there is broken.
    """
    known = _read(path)
    merged = dict(known)
    for line in fresh:
        old = known.get(line["patient"])
        if old is None or {**old, "read": ""} != {**line, "read": ""}:
            merged[line["patient"]] = line
    if merged == known:
        return False
    lines = (json.dumps(merged[patient], sort_keys=True, ensure_ascii=False) for patient in sorted(merged))
    write_text(path, "".join(f"{line}\n" for line in lines))
    return True


def _read(path: Path) -> dict[int, dict[str, Any]]:
    if not path.exists():
        return {}
    found = {}
    for number, text in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
            found[int(line["patient"])] = line
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                "a line of the patients' file cannot be read",
                where=f"{path}:{number}",
                found=error,
                hint="remove the file; the next fetch writes it again",
            ) from error
    return found
