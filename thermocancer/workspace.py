"""Where everything lives in a workspace, and whether a stage's output is still current."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from thermocancer.errors import DataError
from thermocancer.files import HashIndex, hash_file, read_json, write_json
from thermocancer.locks import stage_lock

FORMAT_VERSION = 1
VIEWS = ("Frontal", "Right45", "Right", "Left45", "Left")
"""The five views in the order of their DMR codes 1 to 5."""

LABELS = ("healthy", "sick")
"""The two classes; the position is the class number (0 healthy, 1 sick)."""


@dataclass(frozen=True)
class Workspace:
    """The folders that the stages read and write, from raw files to runs. Nothing is created by asking."""

    root: Path

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def catalog(self) -> Path:
        return self.raw / "catalog.jsonl"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def videos(self) -> Path:
        return self.root / "videos"

    @property
    def filtered(self) -> Path:
        return self.root / "filtered"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def split(self) -> Path:
        return self.root / "split.json"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def dataset(self, name: str) -> Path:
        return self.datasets / f"{name}.h5"

    def autoencoder(self, variant: str, view: str) -> Path:
        return self.root / "models" / "ae" / variant / view

    def run(self, name: str) -> Path:
        return self.root / "runs" / name

    def lock(self, stage: str) -> AbstractContextManager[None]:
        """One lock a stage that writes. Raises LockedError when another process holds it."""
        return stage_lock(self.root / "locks" / f"{stage}.lock")

    def hashes(self) -> HashIndex:
        """Content hashes of files, remembered in the cache. Call ``save()`` when done."""
        return HashIndex(self.cache / "hashes.json")

    def check_version(self) -> None:
        """Raise DataError when a newer thermocancer has written this workspace."""
        marker = self.root / "workspace.json"
        if not marker.exists():
            return
        found = read_json(marker).get("format_version")
        if not isinstance(found, int) or found > FORMAT_VERSION:
            raise DataError(
                "this workspace was written by a newer thermocancer",
                where=marker,
                expected=f"format_version {FORMAT_VERSION} or lower",
                found=found,
                hint="update thermocancer, or choose another folder with --workspace",
            )

    def mark_version(self) -> None:
        """Write the marker that ``check_version`` reads, if it is not there."""
        marker = self.root / "workspace.json"
        if not marker.exists():
            write_json(marker, {"format_version": FORMAT_VERSION})


@dataclass(frozen=True)
class Stamp:
    """What a finished piece of work was made from and made: kept as a ``manifest.json`` beside it.

    ``made_from`` is the fingerprint of the inputs' content and of the settings that matter;
    ``outputs`` maps each file (relative to the manifest's folder) to its SHA-256.
    """

    path: Path

    def is_current(self, made_from: str) -> bool:
        """True when the same inputs and settings gave the outputs that still stand there."""
        if not self.path.exists():
            return False
        kept = read_json(self.path)
        if not isinstance(kept, dict) or kept.get("made_from") != made_from:
            return False
        folder = self.path.parent
        return all(
            (folder / name).is_file() and hash_file(folder / name) == digest
            for name, digest in kept.get("outputs", {}).items()
        )

    def write(self, made_from: str, outputs: Iterable[Path], **facts: object) -> None:
        """Record finished work; the last thing a stage writes, so its presence means 'whole'."""
        hashes = output_hashes(self.path.parent, outputs)
        write_json(self.path, {"made_from": made_from, "outputs": hashes, **facts})


def output_hashes(folder: Path, outputs: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their paths relative to ``folder``."""
    return {str(path.relative_to(folder)): hash_file(path) for path in outputs}
