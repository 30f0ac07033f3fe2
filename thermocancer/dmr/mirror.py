"""What ``raw/`` holds: fetch's part of the catalog, kept true through kills by a journal, and repaired.

The catalog is written whole at the end of a run. While a run is under way, a journal beside it gets
one line a file *before* the file gets its final name; a run that was killed is taken up from there.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from thermocancer.data.catalog import Record, check_labels, read_catalog, replace_source, write_catalog
from thermocancer.errors import DataError
from thermocancer.files import fragments, hash_file, link_or_copy, reading, sweep, write_text
from thermocancer.workspace import Workspace

SOURCE = "fetch"
JOURNAL = ".fetch-journal.jsonl"
REPLACED = "replaced"
"""Folder under ``raw/`` for files that the site has replaced; the label folders below stay as they were."""

DAMAGED = "damaged"
"""Folder under ``raw/`` for files whose content is not what the catalog says."""


def key_of(record: Record) -> str:
    """What identifies a file from one run to the next (see ``plan.Offer.key``)."""
    if record.status == "refused":
        return f"{record.patient} {record.extra.get('href', '')}"
    return record.name.file_name


@dataclass
class Mirror:
    """Records by key, and what other sources hold. Reading touches nothing; ``begin`` and later calls do."""

    workspace: Workspace
    records: dict[str, Record] = field(default_factory=dict)
    other_labels: dict[str, Record] = field(default_factory=dict)
    other_paths: dict[str, Record] = field(default_factory=dict)
    _as_loaded: dict[str, Record] = field(default_factory=dict)
    _announced: dict[str, Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, workspace: Workspace) -> Mirror:
        """Catalog and journal together. Raises DataError when the catalog cannot be read."""
        mirror = cls(workspace)
        for record in read_catalog(workspace) if workspace.catalog.exists() else []:
            if record.source == SOURCE:
                mirror.records[key_of(record)] = record
            elif record.status == "ok":
                mirror.other_labels[record.exam] = record
                mirror.other_paths[record.path] = record
        mirror._as_loaded = dict(mirror.records)
        announced: list[Record] = []
        for line in mirror._journal.read_bytes().splitlines() if mirror._journal.exists() else ():
            with contextlib.suppress(DataError), reading(mirror._journal, "no record"):  # the last may be half a line
                announced.append(Record.of(json.loads(line)))
        mirror._take_up(announced)
        return mirror

    def _take_up(self, announced: Iterable[Record]) -> None:
        """Of files that were about to get their names, believe those that have them."""
        for record in announced:
            path = self.file(record)
            if path.is_file() and path.stat().st_size == record.bytes and hash_file(path) == record.sha256:
                self.records[key_of(record)] = record

    @property
    def _journal(self) -> Path:
        return self.workspace.raw / JOURNAL

    def file(self, record: Record) -> Path:
        return self.workspace.raw / record.path

    def holds(self, record: Record | None) -> bool:
        """Does the record's file stand there, as long as it should be?"""
        with contextlib.suppress(OSError):
            return record is not None and record.path != "" and self.file(record).stat().st_size == record.bytes
        return False

    def whole(self, key: str) -> Record | None:
        """The record of that key, if its file stands there."""
        record = self.records.get(key)
        return record if self.holds(record) else None

    def begin(self) -> None:
        """Take up what a killed run left: its files are in the catalog afterwards, its fragments gone."""
        if self._journal.exists():
            sweep(self.workspace.raw)
            self._write_catalog()
        self.workspace.raw.mkdir(parents=True, exist_ok=True)
        self._journal.write_bytes(b"")

    def announce(self, record: Record, *, durably: bool = False) -> None:
        """Write down what is about to get its final name. Safe to call from several threads.

        ``durably`` survives a power cut as well as a kill. A new file does without: should its line
        be lost, the file is found and taken in. One that replaces another of the same length is not.
        """
        line = json.dumps(asdict(record), sort_keys=True, ensure_ascii=False) + "\n"
        with self._lock, open(self._journal, "ab") as handle:
            handle.write(line.encode("utf-8"))
            if durably:
                handle.flush()
                os.fsync(handle.fileno())
            self._announced[key_of(record)] = record

    def put_announced(self, key: str) -> None:
        """The file that was announced has its name now."""
        self.put(self._announced.pop(key))

    def put(self, record: Record) -> None:
        self.records[key_of(record)] = record

    def move(self, record: Record, label: str) -> None:
        """Give a file its place under another label; nothing is fetched for that."""
        moved = replace(record, path=record.name.tree_path(label), label=label)
        self.announce(moved, durably=True)
        target = self.file(moved)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.file(record), target)
        _remove_empty(self.file(record).parent)
        self.put_announced(key_of(moved))

    def keep_aside(self, record: Record) -> str:
        """Keep the file under ``raw/replaced`` as well; returns its path there. Doing it twice changes nothing."""
        place = Path(record.path)
        aside = f"{REPLACED}/{place.parent.as_posix()}/{place.stem}.{record.sha256[:12]}{place.suffix}"
        if not (self.workspace.raw / aside).exists():
            link_or_copy(self.file(record), self.workspace.raw / aside)
        return aside

    def take_out(self, record: Record) -> str:
        """Move a file out of the tree, to ``raw/replaced``."""
        aside = self.keep_aside(record)
        self.file(record).unlink(missing_ok=True)
        _remove_empty(self.file(record).parent)
        return aside

    def commit(self) -> bool:
        """Write the catalog if anything changed, and end the journal. Returns whether it was written.

        Raises DataError when an exam would carry two labels.
        """
        # after an interruption, some files may have got their names without anybody saying so
        self._take_up(self._announced.values())
        self._announced.clear()
        changed = self.records != self._as_loaded
        if changed:
            self._write_catalog()
        self._journal.unlink(missing_ok=True)
        return changed

    def _write_catalog(self) -> None:
        ordered = [self.records[key] for key in sorted(self.records)]
        check_labels(ordered)
        replace_source(self.workspace, SOURCE, ordered)
        self._as_loaded = dict(self.records)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


# --- what the site asks of those who use its data --------------------------------------------------------------------

CITATION = """\
Work that uses thermograms of DMR-IR must cite the database:

Silva, L. F.; Saade, D. C. M.; Sequeiros, G. O.; Silva, A. C.; Paiva, A. C.; Bravo, R. S.; Conci, A.:
A New Database for Breast Research with Infrared Image.
Journal of Medical Imaging and Health Informatics, 4(1):92-100, 2014.
(Sources disagree on the DOI; look it up by the title.)
"""

TERMS = """\
Terms of use of the DMR-IR site, in short; the text shown at registration is what binds you:

- research use only;
- cite at least one paper of the group that made the database;
- the account is personal and is not shared;
- the material is not sold and not passed on to third parties.

These files are therefore for you alone: do not commit, upload or forward them, nor pictures made from them.
"""


def write_terms(workspace: Workspace) -> str:
    """Let the citation and the terms stand beside the data; returns what to show, empty when nothing was new."""
    shown = ""
    for name, text in (("CITATION.txt", CITATION), ("TERMS.txt", TERMS)):
        path = workspace.raw / name
        if not path.exists() or path.read_text("utf-8") != text:
            write_text(path, text)
            shown = f"{CITATION}\n{TERMS}"
    return shown


# --- does ``raw/`` hold what its catalog says? ``doctor`` asks, ``doctor --fix`` puts it right ------------------------


@dataclass(frozen=True)
class RawState:
    """``missing`` and ``damaged`` are catalog lines whose file is gone or has another content.

    ``strays`` are files of the tree that no line names, ``fragments`` half-written files of a process
    that was killed; ``unfinished`` says that a fetch was.
    """

    missing: tuple[Record, ...] = ()
    damaged: tuple[Record, ...] = ()
    strays: tuple[str, ...] = ()
    fragments: tuple[str, ...] = ()
    unfinished: bool = False

    @property
    def is_sound(self) -> bool:
        return not (self.missing or self.damaged or self.strays or self.fragments or self.unfinished)


def check_raw(workspace: Workspace) -> RawState:
    """Compare the catalog with the tree by content. Touches nothing; hashes known to the cache are believed.

    Raises DataError when the catalog is broken.
    """
    records = read_catalog(workspace) if workspace.catalog.exists() else []
    expected = {each.path: each for each in records if each.path and each.sha256}
    raw, hashes = workspace.raw, workspace.hashes()
    found = {
        path.relative_to(raw).as_posix()
        for folder in ("Static", "Dynamic")
        for path in (raw / folder).rglob("*")
        if path.is_file()
    }
    left = {path.relative_to(raw).as_posix() for path in fragments(raw)}
    return RawState(
        missing=tuple(record for path, record in expected.items() if not (raw / path).is_file()),
        damaged=tuple(
            record for path, record in expected.items() if path in found and hashes.of(raw / path) != record.sha256
        ),
        strays=tuple(sorted(found - expected.keys() - left)),
        fragments=tuple(sorted(left)),
        unfinished=(raw / JOURNAL).exists(),
    )


def repair_raw(workspace: Workspace) -> list[str]:
    """Make the catalog true again; returns one line for each thing done. Nothing that might be data is deleted.

    Files of a killed fetch are taken into the catalog, fragments removed, damaged files set aside under
    ``raw/damaged``, and lines without a whole file taken out, so that their source brings the file again.
    Strays are left where they are. Call it under the lock ``raw``.
    """
    done = []
    if (workspace.raw / JOURNAL).exists():
        mirror = Mirror.load(workspace)
        mirror.begin()
        mirror.commit()
        done.append("took up a fetch that was killed")
    state = check_raw(workspace)
    for fragment in state.fragments:
        (workspace.raw / fragment).unlink(missing_ok=True)
        done.append(f"removed the fragment {fragment}")
    for record in state.damaged:
        aside = workspace.raw / DAMAGED / record.path
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(workspace.raw / record.path, aside)
        done.append(f"set the damaged {record.path} aside, under {DAMAGED}/; next: thermocancer {record.source}")
    done += [
        f"took {each.path} out of the catalog: not there; next: thermocancer {each.source}" for each in state.missing
    ]
    gone = {each.path for each in (*state.missing, *state.damaged)}
    if gone:
        write_catalog(workspace, [each for each in read_catalog(workspace) if each.path not in gone])
    return done
