"""What a stage would take: processor seconds and memory by a small table, measured on two cores of an AMD EPYC.

Measured (2026-11-25) on synthetic cohorts of 16 patients at 120x160, five views, five folds, and of 8 at 480x640, two
views, two folds: the table gives both within a tenth, and 30 minutes for the 26 autoencoders of 162 real exams that
took 36 (docs/results.md). The autoencoder v1 is set against v2 by the study's epochs, v3 taken as v2; other machines,
fusion networks, ``train-dit`` and ``train-cnn`` are not in it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from thermocancer.config import Config
from thermocancer.errors import ThermocancerError
from thermocancer.workspace import Workspace

PARALLEL = 0.75
"""Of a second core, how much the stages make use: seconds are processor seconds over ``cores * PARALLEL``."""

VIEWS_SIMULATED = 5
SLOWER = {"v1": 2.1, "v2": 1.0, "v3": 1.0}
"""Seconds of an epoch, to those of the autoencoder v2."""


@dataclass(frozen=True)
class Estimate:
    """``seconds`` on two free cores of that machine, and ``memory_bytes`` at the most."""

    seconds: float
    memory_bytes: float


@dataclass(frozen=True)
class Size:
    """Of what is worked on: exams, matrices, and megapixels of one matrix and of one that is learnt from."""

    exams: int
    matrices: int
    whole: float
    reduced: float


def size_of(config: Config, workspace: Workspace) -> Size | None:
    """From the catalog, or from what ``simulate`` would make; None where neither says it."""
    from thermocancer.data.catalog import read_catalog

    shape = config.filter.shape or (480, 640)
    if workspace.catalog.exists():
        records = [each for each in read_catalog(workspace) if each.status == "ok" and each.path]
        exams, matrices = len({each.exam for each in records if each.protocol == "S"}), len(records)
        if any(each.source == "simulate" for each in records):
            shape = config.simulate.shape
    elif "simulate" in config.pipeline:
        section, shape = config.simulate, config.simulate.shape
        exams = round(section.patients * (1 + section.second_visits))
        matrices = exams * ((VIEWS_SIMULATED if section.static else 0) + (section.frames + 2 if section.dynamic else 0))
    else:
        return None
    reduced = config.dataset.size or shape
    return Size(exams, matrices, math.prod(shape) / 1e6, math.prod(reduced) / 1e6)


def estimate(stage: str, config: Config, workspace: Workspace) -> Estimate | None:
    """What the stage would take if all of it were to be done; None for what is not in the table."""
    try:
        size = size_of(config, workspace)
    except ThermocancerError:
        return None
    if size is None:
        return None
    pixels, views = size.matrices * size.whole, len(config.fuse.views or config.dataset.views or config.filter.views)
    trainings = views * (
        1 + (config.split.folds * config.split.repeats if config.split.protocol == "grouped-cv" else 0)
    )
    coded = size.exams * trainings * size.reduced  # every exam by every fold's encoder
    taught = round(0.75 * size.exams)
    courses, batch = _course(config, taught)
    learnt = 1.25 * trainings * courses * taught * size.reduced * SLOWER[config.autoencoder.variant]
    audit = config.evaluate.audit
    by_codes = config.fuse.model == "svm"
    table: dict[str, tuple[float, float]] = {  # processor seconds, megabytes
        "simulate": (1 + 0.11 * size.exams + 0.38 * pixels, 90 + 530 * size.whole),
        "convert": (0.5 + 0.005 * size.matrices + 0.03 * pixels, 100 + 50 * size.whole),
        "filter": (0.6 + 0.006 * size.matrices + 0.065 * pixels, 90 + 120 * size.whole),
        "import": (0.6 + 0.006 * size.matrices + 0.065 * pixels, 90 + 120 * size.whole),
        "build-dataset": (0.7 + 0.007 * size.matrices + 0.08 * pixels, 130 + 20 * size.whole),
        "train-ae": (6 + 0.15 * trainings + 0.37 * learnt, 900 + 205 * batch * size.reduced),
        "fuse": (6 + 0.2 * trainings + 0.14 * coded, 850 + 480 * size.reduced),
        "evaluate": (6 + (6 + 0.2 * trainings + 0.62 * coded) * audit, 900 + 1300 * size.reduced * audit),
    }
    if stage not in table or (stage in ("fuse", "evaluate") and not by_codes):
        return None
    seconds, megabytes = table[stage]
    return Estimate(seconds / max(1.0, PARALLEL * min(2, os.cpu_count() or 1)), 1e6 * megabytes)


def _course(config: Config, images: int) -> tuple[int, int]:
    from thermocancer.training.autoencoder import course_of

    course = course_of(config.autoencoder, images)
    return course.epochs, course.batch
