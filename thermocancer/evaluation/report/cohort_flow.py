"""How many exams were found, converted, rejected (and why) and used: the flow STARD asks for."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thermocancer.data.catalog import Record, read_catalog
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import LABELS, Workspace


def cohort_flow(workspace: Workspace, rows: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Steps from files to scored units; a step whose files are gone is left out.

    Each step: ``step``, ``exams``, ``patients``, ``healthy``, ``sick`` (exams) and ``losses`` (reason, exams).
    """
    steps = []
    if workspace.catalog.exists():
        steps.append(_found(read_catalog(workspace)))
    verdicts = workspace.filtered / "filter.csv"
    if verdicts.exists():
        steps.append(_filtered(verdicts))
    exams = {(row.patient, row.visit): row.label for row in rows}
    steps.append(
        {
            "step": "scored out of sample",
            "exams": len(exams),
            "patients": len({patient for patient, _ in exams}),
            **_by_label(LABELS[label] for label in exams.values()),
            "losses": [],
        }
    )
    return steps


def _found(records: Sequence[Record]) -> dict[str, Any]:
    sound = [record for record in records if record.status == "ok"]
    exams = {record.exam: record.label for record in sound}
    lost = Counter(record.status for record in records if record.status != "ok")
    return {
        "step": "found",
        "files": len(sound),
        "exams": len(exams),
        "patients": len({record.patient for record in sound}),
        **_by_label(exams.values()),
        "losses": [{"reason": f"file {reason}", "count": count} for reason, count in sorted(lost.items())],
    }


def _filtered(path: Path) -> dict[str, Any]:
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    kept = [row for row in rows if row["kept"].strip().lower() in ("1", "true", "yes")]
    exams = {row["exam"]: row["label"] for row in kept}
    lost = Counter(f"{row['protocol']}: {row['verdict']}" for row in rows if row not in kept)
    return {
        "step": "complete and sound",
        "exams": len(exams),
        "patients": len({row["patient"] for row in kept}),
        **_by_label(exams.values()),
        "losses": [{"reason": reason, "count": count} for reason, count in sorted(lost.items())],
    }


def _by_label(labels: Any) -> dict[str, int]:
    counts = Counter(labels)
    return {name: counts.get(name, 0) for name in LABELS}


def sources_of(workspace: Workspace, rows: Sequence[Prediction]) -> list[str]:
    """Where the scored exams came from (fetch, import, simulate); empty where the catalog does not know them."""
    if not workspace.catalog.exists():
        return []
    scored = {(row.patient, row.visit) for row in rows}
    return sorted({record.source for record in read_catalog(workspace) if (record.patient, record.visit) in scored})


def is_phantom(sources: Sequence[str]) -> bool:
    """True where every scored exam came from the simulator."""
    return list(sources) == ["simulate"]
