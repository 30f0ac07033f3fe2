"""What ``fetch`` has in ``raw/``: its part of the catalog, kept true through kills by a journal.

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

from thermocancer.data.catalog import Record, check_labels, read_catalog, replace_source
from thermocancer.files import PARTIAL_SUFFIX, hash_file, link_or_copy
from thermocancer.workspace import Workspace

SOURCE = "fetch"
JOURNAL = ".fetch-journal.jsonl"
REPLACED = "replaced"
"""Folder under ``raw/`` for files that the site has replaced; the label folders below stay as they were."""


def key_of(record: Record) -> str:
    """What identifies a file from one run to the next (see ``dmr.plan.Offer.key``)."""
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
        mirror._take_up(mirror._journalled())
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

    def _journalled(self) -> Iterable[Record]:
        if not self._journal.exists():
            return
        for line in self._journal.read_text("utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError, TypeError):  # the last line may be half a line
                yield Record(**json.loads(line))

    def file(self, record: Record) -> Path:
        return self.workspace.raw / record.path

    def holds(self, record: Record | None) -> bool:
        """Does the record's file stand there, as long as it should be?"""
        if record is None or not record.path:
            return False
        try:
            return self.file(record).stat().st_size == record.bytes
        except OSError:
            return False

    def begin(self) -> None:
        """Take up what a killed run left: its files are in the catalog afterwards, its fragments gone."""
        if self._journal.exists():
            for fragment in self.workspace.raw.rglob(f".*{PARTIAL_SUFFIX}*"):
                fragment.unlink(missing_ok=True)
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

    def drop(self, key: str) -> None:
        self.records.pop(key, None)

    def move(self, record: Record, label: str) -> Record:
        """Give a file its place under another label; nothing is fetched for that."""
        moved = replace(record, path=record.name.tree_path(label), label=label)
        self.announce(moved, durably=True)
        target = self.file(moved)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.file(record), target)
        self._remove_empty(self.file(record).parent)
        self.put_announced(key_of(moved))
        return moved

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
        self._remove_empty(self.file(record).parent)
        return aside

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            folder.rmdir()

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
