"""Small raw/ trees for the tests of build-dataset and what reads its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName, view_code
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import VIEWS, Workspace

SHAPE = (48, 64)


def body(seed: int, shape: tuple[int, int] = SHAPE, marker: bool = True) -> np.ndarray:
    """A warm ellipse in a cool room with a cold square low in its middle: hundredths of a degree, (H, W).

    Every seed has warm and cool patches of its own: bodies that differ in a phase alone are one picture to ``filter``.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    inside = ((columns - 0.5) / 0.33) ** 2 + ((rows - 0.6) / 0.75) ** 2 < 1
    celsius = np.where(inside, 33 + np.sin(6 * columns + seed), 22 + 0.1 * seed % 2)
    patches = np.random.default_rng([seed, 1]).normal(0, 0.6, (9, 12))
    celsius += inside * cv2.resize(patches, shape[::-1], interpolation=cv2.INTER_CUBIC)
    if marker:
        celsius[(abs(rows - 0.8) < 0.06) & (abs(columns - 0.5) < 0.045)] = 27
    return np.rint(100 * (celsius + rng.normal(0, 0.05, shape))).astype(np.uint16)


def add_file(
    workspace: Workspace, centi: np.ndarray, patient: int, *, visit: int = 1, view: str = "Frontal",
    label: str = "healthy", protocol: str = "S", index: int = 0, layout: str = "space2",
    date: str | None = "2014-05-06",
) -> Record:  # fmt: skip
    """Write one matrix into ``raw/`` and describe it."""
    name = ThermogramName(patient, visit, view_code(view), protocol, date, index)
    path = workspace.raw / name.tree_path(label)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = format_matrix(centi, layout)
    path.write_bytes(content)
    return Record(
        path=name.tree_path(label), patient=patient, visit=visit, view=view, protocol=protocol, date=date, index=index,
        label=label, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), layout=layout, source="import",
    )  # fmt: skip


def make_raw(
    root: Path, *, patients: Iterable[int] = range(1, 13), views: Sequence[str] = ("Frontal",), frames: int = 0,
    shape: tuple[int, int] = SHAPE,
) -> Workspace:  # fmt: skip
    """Two healthy for each sick patient; every fourth from the newer camera; ``frames`` dynamic frames each."""
    workspace = Workspace(root)
    records = []
    for patient in patients:
        kind = {"label": "sick" if patient % 3 == 0 else "healthy", "layout": "space2" if patient % 4 else "semicolon5"}
        kind["date"] = f"2014-05-{1 + patient % 28:02d}"
        for view in views:
            image = body(10 * patient + VIEWS.index(view), shape)
            records.append(add_file(workspace, image, patient, view=view, **kind))
        for index in range(frames):
            image = body(10 * patient + 5, shape) + np.uint16(3 * index)
            records.append(add_file(workspace, image, patient, protocol="D", index=index, **kind))
    write_catalog(workspace, records)
    return workspace


def settings(workspace: Workspace, **options: object) -> Config:
    """A config for a frontal cohort; options as ``section__key=value``."""
    given = {"filter.views": ["Frontal"]} | {key.replace("__", "."): value for key, value in options.items()}
    return load_config(options=given, workspace=workspace.root)
