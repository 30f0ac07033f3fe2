"""Small matrices, catalogs and folders for the tests of import, convert and filter."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName, view_code
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import VIEWS, Workspace

SHAPE = (48, 64)


def make_centi(*key: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A warm bump on a cool background; every key another picture."""
    random = np.random.default_rng(key)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / shape[0]
    celsius = 21 + 12 * np.exp(-((rows - 0.5) ** 2 + (columns - 0.6) ** 2) * 4) + random.normal(0, 0.05, shape)
    return np.rint(celsius * 100).astype(np.uint16)


def put_matrix(
    workspace: Workspace,
    patient: int,
    view: str = "Frontal",
    *,
    visit: int = 1,
    label: str = "healthy",
    protocol: str = "S",
    index: int = 0,
    content: bytes | None = None,
) -> Record:
    """Write one file of ``raw/`` and return its record."""
    name = ThermogramName(patient, visit, view_code(view), protocol, "2015-03-13", index)
    path = workspace.raw / name.tree_path(label)
    if content is None:
        content = format_matrix(make_centi(patient, visit, view_code(view), index, ord(protocol)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return Record(
        name.tree_path(label), patient, visit, view, protocol, name.date, index, label, sha256, len(content), "space2"
    )


def make_workspace(root: Path, patients: int = 3, views: tuple[str, ...] = VIEWS, frames: int = 0) -> Workspace:
    """A workspace whose exams are all complete: odd patients healthy, even ones sick."""
    workspace = Workspace(root)
    records = []
    for patient in range(1, patients + 1):
        label = "healthy" if patient % 2 else "sick"
        records += [put_matrix(workspace, patient, view, label=label) for view in views]
        records += [put_matrix(workspace, patient, label=label, protocol="D", index=each) for each in range(frames)]
    write_catalog(workspace, records)
    return workspace


def tree_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
