"""Tiny dynamic cohorts: sick skin rewarms faster, so that a sequence network has something to find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from dataset_fixtures import add_file, body

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import write_catalog
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.progress import Silent
from thermocancer.workspace import Workspace

SHAPE = (24, 32)
FRAMES = 20
TINY: dict[str, Any] = {
    "filter.views": ["Frontal"],
    "dataset.dynamic": True,
    "strategy.backend": "tensorflow",
    "dit.backbone": "random",
    "dit.size": list(SHAPE),
    "dit.frames": [0, 6, 12, 18],
    "dit.channels": ["difference"],
    "dit.epochs": 12,
    "dit.batch": 8,
    "dit.learning_rate": 0.02,
    "split.folds": 2,
    "split.repeats": 1,
    "split.inner_folds": 2,
}


def tiny_config(workspace: Workspace, **options: Any) -> Config:
    """Options as ``section__key=value``."""
    return load_config(
        options=TINY | {key.replace("__", "."): value for key, value in options.items()}, workspace=workspace.root
    )


def rewarming(patient: int, label: int, shape: tuple[int, int] = SHAPE, frames: int = FRAMES) -> np.ndarray:
    """Frames (T, H, W) in hundredths of a degree: the skin warms by 1 degC, in the sick by 3."""
    cool = body(patient, shape, marker=False)
    skin = cool > 2800
    course = (3.0 if label else 1.0) * (1 - np.exp(-np.arange(frames) / 6))
    noise = np.random.default_rng(patient).normal(0, 4, (frames, *shape))
    return np.rint(cool + 100 * course[:, None, None] * skin + noise).astype(np.uint16)


def in_memory(patients: int = 8) -> ArrayCohort:
    """Every other patient is sick."""
    exams = tuple(Exam(patient, 1, patient % 2) for patient in range(1, patients + 1))
    return ArrayCohort(exams, {"Frontal": np.stack([rewarming(exam.patient, exam.label) for exam in exams])})


def built(
    root: Path, *, patients: int = 12, skip: dict[int, set[int]] | None = None, fill: tuple[int, ...] = (),
    **options: Any,
) -> Workspace:  # fmt: skip
    """A workspace with a dynamic data set and a split; ``skip`` leaves out frames of some patients, of those in
    ``fill`` a part of the skin is zero."""
    from thermocancer.stages import build_dataset

    workspace = Workspace(root)
    records = []
    for patient in range(1, patients + 1):
        label = int(patient % 3 == 0)
        frames = rewarming(patient, label)
        frames[:, 12:16, 14:20] *= patient not in fill
        name = ("healthy", "sick")[label]
        records.append(add_file(workspace, frames[-1], patient, label=name))
        for index in sorted(set(range(FRAMES)) - (skip or {}).get(patient, set())):
            records.append(add_file(workspace, frames[index], patient, protocol="D", index=index, label=name))
    write_catalog(workspace, records)
    build_dataset.run(tiny_config(workspace, **options), workspace, Silent())
    return workspace
