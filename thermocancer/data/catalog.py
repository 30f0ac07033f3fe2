"""``raw/catalog.jsonl``: one line a file, what it is and where it came from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thermocancer.data.names import ThermogramName, view_code
from thermocancer.errors import DataError
from thermocancer.files import fingerprint, write_text
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Record:
    """One file of ``raw/``.

    ``path`` is relative to ``raw/`` (empty for a file that is known but not there). ``label`` is
    healthy, sick or unknown. ``layout`` is the text layout found (separator and decimals, such as
    ``space2`` or ``semicolon5``). ``status`` is ``ok``, or why the file is not used: ``missing``,
    ``refused``, ``failed``, ``vanished``, ``unlabelled``; ``reason`` says more. ``extra`` holds what
    a source wants to keep (validators of a download, the original name, a frame's own range).
    """

    path: str
    patient: int
    visit: int
    view: str
    protocol: str
    date: str | None
    index: int
    label: str
    sha256: str = ""
    bytes: int = 0
    layout: str = ""
    source: str = ""
    status: str = "ok"
    reason: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exam(self) -> str:
        return f"{self.patient}_{self.visit}"

    @property
    def name(self) -> ThermogramName:
        return ThermogramName(self.patient, self.visit, view_code(self.view), self.protocol, self.date, self.index)


def read_catalog(workspace: Workspace) -> list[Record]:
    """Every record, in the order of the file. Raises DataError when there is none or a line is broken."""
    path = workspace.catalog
    if not path.exists():
        raise DataError(
            "this workspace has no thermograms yet",
            where=path,
            hint="fill it with: thermocancer fetch, import DIR or simulate",
        )
    return [_parse(line, path, number) for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if line]


def _parse(line: str, path: Path, number: int) -> Record:
    try:
        return Record(**json.loads(line))
    except (json.JSONDecodeError, TypeError) as error:
        raise DataError("a catalog line cannot be read", where=f"{path}:{number}", found=error) from error


def write_catalog(workspace: Workspace, records: Iterable[Record]) -> None:
    """Write the whole catalog, sorted by path, or nothing."""
    ordered = sorted(
        records, key=lambda each: (each.path, each.patient, each.visit, each.view, each.index, each.source)
    )
    lines = (json.dumps(asdict(each), sort_keys=True, ensure_ascii=False) for each in ordered)
    write_text(workspace.catalog, "".join(f"{line}\n" for line in lines))


def replace_source(workspace: Workspace, source: str, records: Iterable[Record]) -> None:
    """Replace the records of one source (fetch, import, simulate) and keep those of the others.

    Raises DataError when the same exam would carry two labels, or two sources claim one path.
    """
    kept = [each for each in read_catalog(workspace) if each.source != source] if workspace.catalog.exists() else []
    merged = [*kept, *records]
    check_labels(merged)
    write_catalog(workspace, merged)


def check_labels(records: Iterable[Record]) -> None:
    """Raise DataError when one exam (patient and visit) carries two labels."""
    first: dict[str, Record] = {}
    for record in records:
        if record.status != "ok":
            continue
        known = first.setdefault(record.exam, record)
        if known.label != record.label:
            raise DataError(
                f"exam {record.exam} has two labels",
                where=record.path,
                expected=f"{known.label} as in {known.path}",
                found=record.label,
                hint="correct the labels file, or import the two exams as two visits",
            )


def catalog_fingerprint(records: Iterable[Record]) -> str:
    """Changes whenever a usable file's content, place or label changes; the order does not matter."""
    return fingerprint(
        sorted([each.path, each.sha256, each.label, each.date] for each in records if each.status == "ok")
    )
