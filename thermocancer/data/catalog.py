"""What stands in ``raw/`` (``catalog.jsonl``: one line a file, what it is and where it came from), and the
images and videos that were made of it (``images/manifest.json``)."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from thermocancer.data.names import ThermogramName, view_code
from thermocancer.errors import DataError
from thermocancer.files import (
    HashIndex,
    Json,
    fingerprint,
    inside,
    read_json_as,
    read_json_lines,
    write_json,
    write_text,
)
from thermocancer.workspace import LABELS, VIEWS, Workspace

Number = Annotated[int, Field(ge=0, lt=2**63)]
"""Of a patient, a visit, a frame: what a data set can store."""


@dataclass(frozen=True)
class Record:
    """One file of ``raw/``.

    ``path`` is relative to ``raw/`` (empty for a file that is known but not there). ``label`` is
    healthy, sick or unknown. ``layout`` is the text layout found (separator and decimals, such as
    ``space2`` or ``semicolon5``). ``status`` is ``ok``, or why the file is not used: ``missing``,
    ``refused``, ``failed``, ``vanished``, ``unlabelled``; ``reason`` says more. ``extra`` holds what
    a source wants to keep (validators of a download, the original name, a frame's own range).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    patient: Number
    visit: Number
    view: str
    protocol: str
    date: str | None
    index: Number
    label: str
    sha256: str = ""
    bytes: Number = 0
    layout: str = ""
    source: str = ""
    status: str = "ok"
    reason: str = ""
    extra: Json = field(default_factory=dict)

    @classmethod
    def of(cls, content: object) -> Record:
        """A line of the catalog that was read. Raises ValueError or DataError where it is none, or leads outside."""
        record = _records().validate_python(content)
        if record.path:
            inside(Path("raw"), record.path)
        protocols = ("S", "D") if record.status == "ok" else (record.protocol,)
        for word, known in (
            (record.view, (*VIEWS, "")), (record.label, (*LABELS, "unknown")), (record.protocol, protocols),
        ):  # fmt: skip
            if word not in known:
                raise ValueError(f"{word!r} is none of {', '.join(filter(None, known))}")
        if record.date is not None:
            date.fromisoformat(record.date)
        return record

    @property
    def exam(self) -> str:
        return f"{self.patient}_{self.visit}"

    @property
    def format(self) -> str:
        """What the source file was, before ``import`` wrote it anew: layout, encoder and what was unusual about it.

        Figures in the notes are left out: they tell files apart, not kinds of files.
        """
        notes = (re.sub(r"\d+", "#", str(note)) for note in self.extra.get("notes", ()))
        return ", ".join(filter(None, (self.layout, str(self.extra.get("encoding", "")), *notes)))

    @property
    def source_bytes(self) -> int:
        """Size of the source file."""
        return int(self.extra.get("original_bytes", self.bytes))

    @property
    def assigned(self) -> frozenset[str]:
        """Which of ``patient`` and ``visit`` are numbers that ``import`` made up."""
        numbers = {"patient": ("patient_made_up", "original_id"), "visit": ("visit_made_up",)}
        return frozenset(name for name, marks in numbers.items() if any(self.extra.get(mark) for mark in marks))

    @property
    def name(self) -> ThermogramName:
        return ThermogramName(self.patient, self.visit, view_code(self.view), self.protocol, self.date, self.index)


@functools.cache
def _records() -> TypeAdapter[Record]:
    return TypeAdapter(Record)


def read_catalog(workspace: Workspace) -> list[Record]:
    """Every record, in the order of the file. Raises DataError when there is none or a line is broken."""
    path = workspace.catalog
    if not path.exists():
        raise DataError(
            "this workspace has no thermograms yet", where=path,
            hint="fill it with: thermocancer fetch, import DIR or simulate",
        )  # fmt: skip
    return list(
        read_json_lines(
            path, Record.of, what="a catalog line cannot be read",
            hint="remove raw/catalog.jsonl and bring the files again, with the same command",
        )
    )  # fmt: skip


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
    others = [each for each in read_catalog(workspace) if each.source != source] if workspace.catalog.exists() else []
    merged = [*others, *records]
    check_labels(merged)
    write_catalog(workspace, merged)


def check_labels(records: Iterable[Record], labelled: str = "") -> None:
    """Raise DataError when one exam (patient and visit) carries two labels; ``labelled``: where those were read."""
    first: dict[str, Record] = {}
    for record in records:
        if record.status != "ok":
            continue
        known = first.setdefault(record.exam, record)
        if known.label != record.label:
            one, other = (str(each.extra.get("original", each.path)) for each in (known, record))
            raise DataError(
                f"exam {record.exam} has two labels", where=other,
                expected=f"{known.label} as of {one}", found=record.label,
                hint=f"correct the label {labelled or 'where it was given'}, or import the two exams as two visits",
            )  # fmt: skip


def catalog_fingerprint(records: Iterable[Record]) -> str:
    """Changes whenever a usable file's content, place or label changes; the order does not matter."""
    return fingerprint(
        sorted([each.path, each.sha256, each.label, each.date] for each in records if each.status == "ok")
    )


# --- Images and videos made of the matrices ---------------------------------------------------------------------------

MANIFEST = "manifest.json"
IMAGE_SUFFIXES = (".jpg", ".png")


@dataclass
class Conversions:
    """What stands in ``images/`` (or ``videos/``): for each file what it was made from, and its SHA-256.

    Written as often as one likes while work goes on: an entry is there only when its file is whole.
    """

    folder: Path
    files: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Conversions:
        """Read the manifest of a folder; an absent or broken one means that nothing is known."""
        path = folder / MANIFEST
        with contextlib.suppress(DataError):
            return cls(folder, read_json_as(path, lambda content: _entries(folder, content), "no manifest"))
        return cls(folder)

    def is_current(self, name: str, made_from: str, hashes: HashIndex) -> bool:
        """Was ``name`` made from exactly this, and is it still what was made?"""
        entry, path = self.files.get(name, {}), self.folder / name
        return entry.get("made_from") == made_from and path.is_file() and hashes.of(path) == entry.get("sha256")

    def put(self, name: str, made_from: str, sha256: str, raw: str) -> None:
        """Note a finished file; ``raw`` is the SHA-256 of what it shows."""
        self.files[name] = {"made_from": made_from, "sha256": sha256, "raw": raw}

    def image_of(self, record: Record) -> Path | None:
        """The image that ``convert`` has made of exactly this file, or None."""
        for suffix in IMAGE_SUFFIXES:
            name = image_name(record, suffix)
            entry = self.files.get(name)
            if entry is not None and entry.get("raw") == record.sha256 and (self.folder / name).is_file():
                return self.folder / name
        return None

    def write(self) -> None:
        write_json(self.folder / MANIFEST, {"files": self.files})


def _entries(folder: Path, content: Json) -> dict[str, dict[str, str]]:
    """The files of a manifest, each inside its folder, with what is known of each."""
    entries = {}
    for name, entry in content["files"].items():
        inside(folder, name)
        entries[name] = {key: str(entry[key]) for key in ("made_from", "sha256", "raw")}
    return entries


def image_name(record: Record, suffix: str) -> str:
    """Where a record's image stands under ``images/``: the tree of ``raw/``, another suffix."""
    return str(Path(record.path).with_suffix(suffix))
