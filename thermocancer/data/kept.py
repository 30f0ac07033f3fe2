"""Which exams a data set takes: the verdicts of ``filter``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thermocancer.config import Config
from thermocancer.data.catalog import Record
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Kept:
    """Keys (``PATIENT_VISIT``) of the static and dynamic exams to take, and who chose them."""

    static: frozenset[str]
    dynamic: frozenset[str]
    chosen_by: str
    notes: tuple[str, ...] = ()


def kept_exams(config: Config, workspace: Workspace, records: Sequence[Record]) -> Kept:
    """Exams whose required views are all there (placeholder rule until ``filter`` has spoken)."""
    views: dict[str, set[str]] = {}
    dynamic: set[str] = set()
    for record in records:
        if record.status != "ok":
            continue
        if record.protocol == "S":
            views.setdefault(record.exam, set()).add(record.view)
        else:
            dynamic.add(record.exam)
    static = {exam for exam, seen in views.items() if set(config.filter.views) <= seen}
    return Kept(frozenset(static), frozenset(dynamic), "catalog")
