"""Does ``raw/`` hold what its catalog says? ``doctor`` asks; ``doctor --fix`` puts it right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from thermocancer.data.catalog import Record, read_catalog, write_catalog
from thermocancer.dmr.mirror import JOURNAL, Mirror
from thermocancer.files import PARTIAL_SUFFIX
from thermocancer.workspace import Workspace

TREE = ("Static", "Dynamic")
DAMAGED = "damaged"


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
    found = {path.relative_to(workspace.raw).as_posix() for path in _files(workspace.raw, *TREE)}
    fragments = {path.relative_to(workspace.raw).as_posix() for path in workspace.raw.rglob(f".*{PARTIAL_SUFFIX}*")}
    hashes = workspace.hashes()
    damaged = [
        record
        for path, record in expected.items()
        if path in found and hashes.of(workspace.raw / path) != record.sha256
    ]
    return RawState(
        missing=tuple(record for path, record in expected.items() if not (workspace.raw / path).is_file()),
        damaged=tuple(damaged),
        strays=tuple(sorted(found - expected.keys() - fragments)),
        fragments=tuple(sorted(fragments)),
        unfinished=(workspace.raw / JOURNAL).exists(),
    )


def _files(raw: Path, *folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((raw / folder).rglob("*")) if path.is_file()]


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
