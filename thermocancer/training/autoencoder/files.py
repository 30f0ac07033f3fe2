"""Autoencoders as files: which one belongs to which fold, what it was trained on, and its input.

``models/ae/VARIANT/VIEW/`` holds the model trained on the training part of the split;
``folds/R.F/`` in it the one trained inside an outer fold of cross-validation, which no scored
exam of that fold has touched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config.learning import AutoencoderSection, InputSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.errors import DataError
from thermocancer.runs.manifest import AutoencoderManifest, read_autoencoder_manifest
from thermocancer.training.schedules import Schedule
from thermocancer.workspace import Workspace

MODEL, HISTORY, MANIFEST, RECONSTRUCTIONS, CHECKPOINT_FOLDER = (
    "model.keras", "history.jsonl", "manifest.json", "reconstructions.png", "checkpoint"
)  # fmt: skip

WHOLE_SPLIT = ("test", "split", "all")
"""Fold names that stand for the model trained on the training part of the split."""

ORIGINAL_EPOCHS = {"v1": 20, "v2": 40, "v3": 40}
ORIGINAL_RATE, ORIGINAL_BATCH = 1e-3, 32
"""The original study's recipe, taken where the schedule is constant."""

COSINE_EPOCHS = {"v1": 3, "v2": 4, "v3": 3}
COSINE_PEAK = {"v1": 5e-3, "v2": 5e-3, "v3": 2e-3}
COSINE_BATCH = 1
"""Warm-up and a cosine, one image a step: a pass over the images costs the same, and learns from each.
It ends below the original's loss in a tenth of its epochs (benchmarks/train_ae.py)."""

LEAST_STEPS = {"v1": 300, "v2": 400, "v3": 200}
"""A small cohort gets more epochs, until the optimizer has had so many steps."""


@dataclass(frozen=True)
class ViewExamples:
    """One view of some exams as training examples: the target is the image itself. Reads as it goes."""

    source: Cohort
    view: str
    rows: IntArray
    input: InputSection
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[Float32Array, Float32Array]:
        images = network_input(self.source, self.view, self.rows[rows], self.input)
        return images, images


@dataclass(frozen=True)
class Course:
    """How long, in what portions and how fast one autoencoder learns, every default filled in."""

    epochs: int
    batch: int
    schedule: Schedule


def course_of(section: AutoencoderSection, images: int) -> Course:
    """The config's own values; where it has none, the original's or the faster ones, by ``schedule``."""
    cosine = section.schedule == "cosine"
    batch = section.batch or (COSINE_BATCH if cosine else ORIGINAL_BATCH)
    own = ORIGINAL_EPOCHS[section.variant]
    if cosine:
        least = math.ceil(LEAST_STEPS[section.variant] * batch / max(1, images))
        own = min(max(COSINE_EPOCHS[section.variant], least), own)
    epochs = section.epochs or own
    peak = section.learning_rate or (COSINE_PEAK[section.variant] if cosine else ORIGINAL_RATE)
    return Course(epochs, batch, Schedule(section.schedule, peak, epochs, min(section.warmup_epochs, epochs - 1)))


def hold_back(source: Cohort, rows: IntArray, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Divide ``rows`` by patient into training and validation; about ``fraction`` of the patients validate.

    Raises DataError when there are fewer than two patients.
    """
    patients = np.array([source.exams[row].patient for row in rows])
    each = np.unique(patients)
    if len(each) < 2:
        raise DataError("too few patients to train an autoencoder", expected="two or more", found=len(each))
    count = min(max(1, round(fraction * len(each))), len(each) - 1)
    chosen = np.random.default_rng([seed, 17]).permutation(each)[:count]
    held = np.isin(patients, chosen)
    return rows[~held], rows[held]


def folder_of(workspace: Workspace, variant: str, view: str, fold: str) -> Path:
    """Where the autoencoder for an outer fold lives."""
    folder = workspace.autoencoder(variant, view)
    return folder if fold in WHOLE_SPLIT else folder / "folds" / fold


def load_autoencoder(workspace: Workspace, variant: str, view: str, fold: str) -> Any:
    """The trained autoencoder for an outer fold. Raises DataError when it is not there."""
    from thermocancer.training.checkpoint import load_model

    return load_model(_found(workspace, variant, view, fold) / MODEL)


def load_encoder(workspace: Workspace, variant: str, view: str, fold: str) -> Any:
    """Its encoder: images (n, height, width, channels) to codes. Raises DataError when it is not there."""
    from thermocancer.models.autoencoder import encoder_of

    return encoder_of(load_autoencoder(workspace, variant, view, fold))


def trained_input(workspace: Workspace, variant: str, view: str, fold: str) -> InputSection:
    """What the autoencoder was fed: the same must be fed to it again."""
    return manifest_of(workspace, variant, view, fold).input


def trained_patients(workspace: Workspace, variant: str, view: str, fold: str) -> frozenset[int]:
    """Patients whose thermograms it was trained on or chosen by."""
    return frozenset(manifest_of(workspace, variant, view, fold).patients)


def trained_leaks(workspace: Workspace, variant: str, view: str, fold: str) -> list[str]:
    """What its training had seen that it should not have, in words; empty when it is sound."""
    return list(manifest_of(workspace, variant, view, fold).leaks)


def _found(workspace: Workspace, variant: str, view: str, fold: str) -> Path:
    folder = folder_of(workspace, variant, view, fold)
    if not (folder / MANIFEST).exists():
        per_fold = fold not in WHOLE_SPLIT and workspace.autoencoder(variant, view).exists()
        raise DataError(
            f"there is no autoencoder {variant} of the view {view}" + (f" for fold {fold}" if per_fold else ""),
            where=folder,
            hint="train it with: thermocancer train-ae --set autoencoder.variant="
            + variant
            + (" --set autoencoder.per_fold=true" if per_fold else ""),
        )
    return folder


def manifest_of(workspace: Workspace, variant: str, view: str, fold: str) -> AutoencoderManifest:
    """What ``train-ae`` wrote of it. Raises DataError when it is not there or damaged."""
    return read_autoencoder_manifest(_found(workspace, variant, view, fold) / MANIFEST)
