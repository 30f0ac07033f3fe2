"""Which images and videos exist already, and what each was made from: ``images/manifest.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thermocancer.data.catalog import Record
from thermocancer.errors import DataError
from thermocancer.files import HashIndex, read_json, write_json
from thermocancer.workspace import Workspace

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
        try:
            content = read_json(path) if path.exists() else {}
        except DataError:
            content = {}
        files = content.get("files") if isinstance(content, dict) else None
        return cls(folder, dict(files) if isinstance(files, dict) else {})

    def is_current(self, name: str, made_from: str, hashes: HashIndex) -> bool:
        """Was ``name`` made from exactly this, and is it still what was made?"""
        entry: Mapping[str, Any] = self.files.get(name, {})
        path = self.folder / name
        return entry.get("made_from") == made_from and path.is_file() and hashes.of(path) == entry.get("sha256")

    def put(self, name: str, made_from: str, sha256: str, raw: str) -> None:
        """Note a finished file; ``raw`` is the SHA-256 of what it shows."""
        self.files[name] = {"made_from": made_from, "sha256": sha256, "raw": raw}

    def write(self) -> None:
        write_json(self.folder / MANIFEST, {"files": self.files})


def image_name(record: Record, suffix: str) -> str:
    """Where a record's image stands under ``images/``: the tree of ``raw/``, another suffix."""
    return str(Path(record.path).with_suffix(suffix))


class ConvertedImages:
    """The images that ``convert`` has made, as they stood when this was asked for."""

    def __init__(self, workspace: Workspace) -> None:
        self._images = Conversions.read(workspace.images)

    def of(self, record: Record) -> Path | None:
        """The image made of exactly this file, or None."""
        for suffix in IMAGE_SUFFIXES:
            name = image_name(record, suffix)
            entry = self._images.files.get(name)
            if entry is not None and entry.get("raw") == record.sha256 and (self._images.folder / name).is_file():
                return self._images.folder / name
        return None
