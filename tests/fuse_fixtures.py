"""Small cohorts in memory and on disk for the tests of features, recipes, cross-validation and fuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dataset_fixtures import body, make_raw

from thermocancer.config import Config, load_config
from thermocancer.data.cohort import ArrayCohort, Exam
from thermocancer.progress import Silent
from thermocancer.workspace import Workspace

SHAPE = (48, 64)


def hot_spot(centi: np.ndarray, degrees: float) -> np.ndarray:
    """A warm patch on one side of the body."""
    rows, columns = np.mgrid[: centi.shape[0], : centi.shape[1]] / np.array(centi.shape)[:, None, None]
    warm = degrees * np.exp(-(((rows - 0.55) / 0.1) ** 2 + ((columns - 0.35) / 0.08) ** 2))
    return np.rint(centi + 100 * warm).astype(np.uint16)


def cohort(
    patients: int = 18,
    views: Sequence[str] = ("Frontal",),
    *,
    degrees: float = 3.0,
    shape: tuple[int, int] = SHAPE,
    second_visits: int = 2,
    nuisance: bool = False,
) -> ArrayCohort:
    """Every third patient is sick and has a hot spot; the first few have a second visit."""
    exams, matrices = [], {view: [] for view in views}
    for patient in range(1, patients + 1):
        for visit in range(1, 2 + (patient <= second_visits)):
            sick = int(patient % 3 == 0)
            exams.append(Exam(patient, visit, sick, "2014-01-01", "space2"))
            for number, view in enumerate(views):
                image = body(100 * patient + 10 * visit + number, shape)
                matrices[view].append(hot_spot(image, degrees) if sick else image)
    room = np.array([20 + 0.1 * exam.patient for exam in exams])
    measured = {"room_celsius": room, "unknown": np.full(len(exams), np.nan)} if nuisance else {}
    return ArrayCohort(tuple(exams), {view: np.stack(each) for view, each in matrices.items()}, measured=measured)


def labels_of(source: ArrayCohort) -> np.ndarray:
    """Labels of every exam, (n,)."""
    return np.array([exam.label for exam in source.exams], dtype=np.int64)


def config_for(workspace: Workspace, **options: Any) -> Config:
    """Few folds, a celsius input; options as ``section__key=value``."""
    given: dict[str, Any] = {
        "split.folds": 3, "split.repeats": 1, "split.inner_folds": 2, "autoencoder.input.kind": "celsius",
        "features.pixels": [6, 8], "features.components": 5,
    }  # fmt: skip
    given |= {key.replace("__", "."): value for key, value in options.items()}
    return load_config(options=given, workspace=workspace.root, environment={})


def built(root: Path, views: Sequence[str] = ("Frontal",), patients: int = 12, **options: Any) -> Workspace:
    """A workspace with a data set and a split."""
    from thermocancer.stages import build_dataset

    workspace = make_raw(root, patients=range(1, patients + 1), shape=(32, 48), views=views)
    build_dataset.run(config_for(workspace, filter__views=list(views), **options), workspace, Silent())
    return workspace
