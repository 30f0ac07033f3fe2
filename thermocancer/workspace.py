"""Where everything lives in a workspace, and whether a stage's output is still current."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fragments, hash_file, inside, read_json, remove, sweep, write_json
from thermocancer.locks import stage_lock

FORMAT_VERSION = 1
VIEWS = ("Frontal", "Right45", "Right", "Left45", "Left")
"""The five views in the order of their DMR codes 1 to 5."""

LABELS = ("healthy", "sick")
"""The two classes; the position is the class number (0 healthy, 1 sick)."""

FOLDERS = (
    "raw", "images", "videos", "filtered", "datasets", "models", "runs", "cache", "predict", "compare", "reproduce",
)  # fmt: skip
"""What stands in a workspace. Its root may be a folder that holds other things too."""

NAME_PATTERN = r"^\w([\w .+=@,()-]*[\w+=@)-])?$"
"""What a run, a data set or a cohort may be called: it becomes a file's name, and stands in messages."""

LONGEST_NAME = 80
NAME_RULE = f"at most {LONGEST_NAME} letters, digits, spaces and any of . + = @ , ( ) _ -, no path"


def checked_name(name: str, of: str) -> str:
    """``name``, if it can be that of ``of`` (a run, say). Raises ConfigError for one that is a path, empty or odd."""
    if len(name) > LONGEST_NAME or re.fullmatch(NAME_PATTERN, name) is None:
        raise ConfigError(
            f"this cannot be the name of {of}", found=repr(name),
            expected=NAME_RULE,
        )  # fmt: skip
    return name


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
        return self.datasets / f"{checked_name(name, 'a data set')}.h5"

    def autoencoder(self, variant: str, view: str) -> Path:
        return self.root / "models" / "ae" / variant / view

    def run(self, name: str) -> Path:
        """Raises ConfigError where ``name`` is none."""
        return self.root / "runs" / checked_name(name, "a run")

    @contextlib.contextmanager
    def lock(self, stage: str) -> Iterator[None]:
        """One lock a stage that writes. What a killed process left, whose lock stands here, is swept up first.

        Raises LockedError when another process holds it.
        """
        with stage_lock(self.root / "locks" / f"{stage}.lock") as someone_died:
            if someone_died:
                self.sweep()
            yield

    def fragments(self) -> list[Path]:
        """Files and folders that killed writers left half done, here and in the folders that are ours."""
        found = [path for folder in FOLDERS for path in fragments(self.root / folder)]
        return [*fragments(self.root, deep=False), *found]

    def sweep(self) -> int:
        """Remove the fragments, and say how many there were. Nobody's unfinished work is touched."""
        return sweep(self.root, deep=False) + sum(sweep(self.root / folder) for folder in FOLDERS)

    def hashes(self) -> HashIndex:
        """Content hashes of files, remembered in the cache. Call ``save()`` when done."""
        return HashIndex(self.cache / "hashes.json")

    def check_version(self) -> None:
        """Raise DataError when a newer thermocancer has written this workspace."""
        if not self.marker.exists():
            return
        content: object = read_json(self.marker)
        found = content.get("format_version") if isinstance(content, dict) else None
        if not isinstance(found, int) or found > FORMAT_VERSION:
            raise DataError(
                "this workspace was written by a newer thermocancer",
                where=self.marker,
                expected=f"format_version {FORMAT_VERSION} or lower",
                found=found,
                hint="update thermocancer, or choose another folder with --workspace",
            )

    @property
    def marker(self) -> Path:
        return self.root / "workspace.json"

    def mark_version(self) -> None:
        """Write the marker that ``check_version`` reads, if it is not there."""
        if not self.marker.exists():
            write_json(self.marker, {"format_version": FORMAT_VERSION})

    @contextlib.contextmanager
    def left_alone_if(self, *errors: type[Exception]) -> Iterator[None]:
        """A folder that was no workspace is left as it was where a stage finds nothing in it to work with: after such
        an error the marker, the cache and folders without a file are taken back."""
        new, before = not self.marker.exists(), set(self.root.iterdir()) if self.root.is_dir() else None
        try:
            yield
        except errors:
            if new and self.root.is_dir():
                own = [path for path in self.root.iterdir() if path not in (before or ())]
                empty = [path for path in own if path.is_dir() and not any(map(Path.is_file, path.rglob("[!.]*")))]
                for path in {*empty, *({self.cache, self.marker} & {*own})} if len(empty) + 2 >= len(own) else ():
                    remove(path)
                if before is None and not any(self.root.iterdir()):
                    self.root.rmdir()
            raise


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
        kept: object = read_json(self.path)
        if not isinstance(kept, dict) or kept.get("made_from") != made_from:
            return False
        folder = self.path.parent
        outputs = kept.get("outputs")
        return isinstance(outputs, dict) and all(
            inside(folder, name).is_file() and hash_file(folder / name) == digest for name, digest in outputs.items()
        )

    def write(self, made_from: str, outputs: Iterable[Path], **facts: object) -> None:
        """Record finished work; the last thing a stage writes, so its presence means 'whole'."""
        hashes = output_hashes(self.path.parent, outputs)
        write_json(self.path, {"made_from": made_from, "outputs": hashes, **facts})


def output_hashes(folder: Path, outputs: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their paths relative to ``folder``."""
    return {str(path.relative_to(folder)): hash_file(path) for path in outputs}
