"""Autoencoders as files: which one belongs to which fold, what it was trained on, and its input.

``models/ae/VARIANT/VIEW/`` holds the model trained on the training part of the split;
``folds/R.F/`` in it the one trained inside an outer fold of cross-validation, which no scored
exam of that fold has touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config.learning import AutoencoderSection, InputSection
from thermocancer.data.exams import ExamSource, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.errors import DataError
from thermocancer.files import read_json
from thermocancer.training.schedules import Schedule
from thermocancer.workspace import Workspace

MODEL, HISTORY, MANIFEST, RECONSTRUCTIONS, CHECKPOINT_FOLDER = (
    "model.keras", "history.jsonl", "manifest.json", "reconstructions.png", "checkpoint"
)  # fmt: skip

WHOLE_SPLIT = ("test", "split", "all")
"""Fold names that stand for the model trained on the training part of the split."""

ORIGINAL_EPOCHS = {"v1": 20, "v2": 40, "v3": 40}
"""With the original's constant learning rate."""

COSINE_EPOCHS = {"v1": 6, "v2": 6, "v3": 6}
"""With warm-up and a cosine: as good as the original's end, in a sixth of the time (benchmarks/train_ae.py)."""

COSINE_PEAK = {"v1": 5e-3, "v2": 5e-3, "v3": 2e-3}
ORIGINAL_RATE = 1e-3
"""Adam's own default, which the original study kept."""


@dataclass(frozen=True)
class ViewExamples:
    """One view of some exams as training examples: the target is the image itself. Reads as it goes."""

    source: ExamSource
    view: str
    rows: IntArray
    input: InputSection
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[Float32Array, Float32Array]:
        images = network_input(self.source, self.view, self.rows[rows], self.input)
        return images, images


def epochs_of(section: AutoencoderSection) -> int:
    """``autoencoder.epochs``, or the variant's own for the schedule."""
    own = COSINE_EPOCHS if section.schedule == "cosine" else ORIGINAL_EPOCHS
    return section.epochs or own[section.variant]


def schedule_of(section: AutoencoderSection) -> Schedule:
    """The learning rate over the training."""
    epochs = epochs_of(section)
    own = COSINE_PEAK[section.variant] if section.schedule == "cosine" else ORIGINAL_RATE
    return Schedule(section.schedule, section.learning_rate or own, epochs, min(section.warmup_epochs, epochs - 1))


def hold_back(source: ExamSource, rows: IntArray, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
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
    return InputSection.model_validate(_manifest(workspace, variant, view, fold)["input"])


def trained_patients(workspace: Workspace, variant: str, view: str, fold: str) -> frozenset[int]:
    """Patients whose thermograms it was trained on or chosen by."""
    return frozenset(int(patient) for patient in _manifest(workspace, variant, view, fold)["patients"])


def trained_leaks(workspace: Workspace, variant: str, view: str, fold: str) -> list[str]:
    """What its training had seen that it should not have, in words; empty when it is sound."""
    return [str(leak) for leak in _manifest(workspace, variant, view, fold)["leaks"]]


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


def _manifest(workspace: Workspace, variant: str, view: str, fold: str) -> dict[str, Any]:
    path = _found(workspace, variant, view, fold) / MANIFEST
    content = read_json(path)
    if not isinstance(content, dict) or not {"input", "patients", "leaks"} <= content.keys():
        raise DataError(
            "this is not the manifest of an autoencoder", where=path, hint="remove its folder and train again"
        )
    return content
