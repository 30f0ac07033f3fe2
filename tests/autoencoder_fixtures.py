"""A tiny built data set for the tests of autoencoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_fixtures import make_raw

from thermocancer.config import Config, load_config
from thermocancer.progress import Silent
from thermocancer.workspace import Workspace

TINY: dict[str, Any] = {
    "filter.views": ["Frontal"],
    "autoencoder.epochs": 2,
    "autoencoder.batch": 4,
    "autoencoder.input.kind": "celsius",
    "split.folds": 2,
    "split.repeats": 1,
}


def tiny_config(workspace: Workspace, **options: Any) -> Config:
    """Options as ``section__key=value``."""
    given = TINY | {key.replace("__", "."): value for key, value in options.items()}
    return load_config(options=given, workspace=workspace.root)


def built(root: Path, *, patients: int = 12, shape: tuple[int, int] = (32, 48), **options: Any) -> Workspace:
    """A workspace with raw matrices, a data set and a split."""
    from thermocancer.stages import build_dataset

    views = options.get("filter__views", TINY["filter.views"])
    workspace = make_raw(root, patients=range(1, patients + 1), shape=shape, views=views)
    build_dataset.run(tiny_config(workspace, **options), workspace, Silent())
    return workspace
