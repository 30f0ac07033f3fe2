"""Autoencoders as files: which one belongs to which fold, what it was trained on, and its input.

``models/ae/VARIANT/VIEW/`` holds the model trained on the training part of the split;
``folds/R.F/`` in it the one trained inside an outer fold of cross-validation, which no scored
exam of that fold has touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.config.learning import AutoencoderSection, InputSection
from thermocancer.config.schema import autoencoder_dataset
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.data.split import Fold, Split, outer_folds, thesis_fold, thesis_leaks
from thermocancer.errors import ConfigError, DataError
from thermocancer.kinds import AE
from thermocancer.models.autoencoder import code_shape
from thermocancer.runs.deciding import network_decided_by
from thermocancer.runs.manifest import AutoencoderManifest, read_autoencoder_manifest
from thermocancer.training.fit import Schedule
from thermocancer.workspace import VIEWS, Stamp, Workspace

if TYPE_CHECKING:
    import keras

MODEL, HISTORY, MANIFEST, RECONSTRUCTIONS, LEARNING, CHECKPOINT_FOLDER = (
    "model.keras", "history.jsonl", "manifest.json", "reconstructions.png", "learning.png", "checkpoint"
)  # fmt: skip

WHOLE_SPLIT = ("test", "split", "all")
"""Fold names that stand for the model trained on the training part of the split."""

ORIGINAL_EPOCHS = {"v1": 20, "v2": 40, "v3": 40}
ORIGINAL_RATE, ORIGINAL_BATCH = 1e-3, 32
"""The original study's recipe, taken where the schedule is constant."""

MOST_HELD = 256 * 2**20
"""Bytes of a view's inputs that are held while its models train: reading and colouring again took 2 ms a step."""

COSINE_EPOCHS = {"v1": 3, "v2": 4, "v3": 3}
COSINE_PEAK = {"v1": 5e-3, "v2": 5e-3, "v3": 2e-3}
COSINE_BATCH = 1
"""Warm-up and a cosine, one image a step: a pass over the images costs the same, and learns from each.
It ends below the original's loss in a tenth of its epochs (benchmarks/train_ae.py)."""

LEAST_STEPS = {"v1": 300, "v2": 400, "v3": 200}
"""A small cohort gets more epochs, until the optimizer has had so many steps."""


@dataclass(frozen=True)
class ViewExamples:
    """One view of some exams as training examples: the target is the image itself.

    Reads as it goes; with ``held`` each image once for all that share it.
    """

    source: Cohort
    view: str
    rows: IntArray
    input: InputSection
    weights: FloatArray | None = None
    held: dict[int, Float32Array] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[Float32Array, Float32Array]:
        wanted = self.rows[rows]
        if self.held is None:
            images = network_input(self.source, self.view, wanted, self.input)
        else:
            new = np.array([row for row in dict.fromkeys(wanted.tolist()) if row not in self.held], dtype=np.int64)
            if len(new):
                self.held.update(zip(new.tolist(), network_input(self.source, self.view, new, self.input), strict=True))
            images = np.stack([self.held[row] for row in wanted.tolist()])
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


def load_encoder(
    workspace: Workspace, variant: str, view: str, fold: str, known: dict[bytes, keras.Model] | None = None
) -> keras.Model:
    """The trained encoder for an outer fold: images (n, height, width, channels) to codes.

    ``known`` as in ``load_model``. Raises DataError when it is not there.
    """
    from thermocancer.models.autoencoder import encoder_of
    from thermocancer.training.checkpoint import load_model

    return encoder_of(load_model(_found(workspace, variant, view, fold) / MODEL, known))


def trained_input(workspace: Workspace, variant: str, view: str, fold: str) -> InputSection:
    """What the autoencoder was fed: the same must be fed to it again."""
    return manifest_of(workspace, variant, view, fold).input


def trained_patients(workspace: Workspace, variant: str, view: str, fold: str) -> frozenset[int]:
    """Patients whose thermograms it was trained on or chosen by."""
    return frozenset(manifest_of(workspace, variant, view, fold).patients)


def trained_exams(workspace: Workspace, variant: str, view: str, fold: str) -> frozenset[str] | None:
    """Exams (``PATIENT_VISIT``) whose own file its weights were fitted on; None where an older manifest keeps silent.

    Those that only validated it are not among them.
    """
    kept = manifest_of(workspace, variant, view, fold).trained_exams
    return None if kept is None else frozenset(kept)


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


# --- which autoencoders a config asks for: one a view, and one inside every outer fold ---


@dataclass(frozen=True)
class Training:
    """One autoencoder to train: its view and fold, the rows that train and validate it, its folder."""

    view: str
    fold: str
    train: IntArray
    validate: IntArray
    folder: Path
    seed: int
    leaks: tuple[str, ...]
    made_from: str

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / MANIFEST)

    @property
    def title(self) -> str:
        return self.view if self.fold in WHOLE_SPLIT else f"{self.view} fold {self.fold}"


def trainings(config: Config, workspace: Workspace, source: Cohort) -> Iterator[Training]:
    """Every autoencoder that the config asks for, the one of the whole split first in each view."""
    code_shape(config.autoencoder.variant, source.shape)  # refuses a size that cannot be halved often enough
    split = Split.read(workspace.split)
    folds = outer_folds(source.exams, split, config.split, config.seed)
    for view in _views(config, source):
        present = np.flatnonzero(source.present(view)).astype(np.int64)
        for number, (fold, train, validate, leaks) in enumerate(_parts(config, source, split, folds, view, present)):
            seed = int(np.random.default_rng([config.seed, 41, VIEWS.index(view), number]).integers(2**31))
            if validate is None:
                train, validate = hold_back(source, train, config.autoencoder.validation_fraction, seed)
            folder = folder_of(workspace, config.autoencoder.variant, view, fold)
            made_from = _made_from(config, source, view, train, validate, seed)
            yield Training(view, fold, train, validate, folder, seed, tuple(leaks), made_from)


def _views(config: Config, source: Cohort) -> tuple[str, ...]:
    wanted = config.autoencoder.views or source.views
    missing = [view for view in wanted if view not in source.views]
    if missing:
        raise ConfigError(
            "the data set lacks a view that train-ae needs",
            where="autoencoder.views",
            expected=f"some of: {', '.join(source.views)}",
            found=", ".join(missing),
        )
    return tuple(view for view in source.views if view in wanted)


def _parts(
    config: Config, source: Cohort, split: Split, folds: Sequence[Fold], view: str, present: IntArray
) -> Iterator[tuple[str, IntArray, IntArray | None, list[str]]]:
    """Fold, training rows, validation rows (None: to be held back from training) and leaks of each training."""
    if config.split.protocol == "thesis":
        fold, leaks = folds[0], [*thesis_leaks(source.exams, folds), "autoencoders are validated on the test part"]
        if autoencoder_dataset(config) != config.dataset.name:  # the view's own folder and its own shuffle
            drawn = thesis_fold([source.exams[row] for row in present], config.split.test_fraction, "unfiltered", view)
            fold = Fold(drawn.name, present[drawn.train], present[drawn.test])
            leaks = ["autoencoders are trained and validated on the split of the unfiltered files"]
        train = np.intersect1d(fold.train, present)
        if config.autoencoder.train_on == "all":
            train = present
            leaks.append("autoencoders are trained on all files, test exams included")
        yield "test", train, np.intersect1d(fold.test, present), leaks
        return
    yield "test", np.intersect1d(split.rows(source.exams, "train"), present), None, []
    if config.split.protocol == "grouped-cv" and config.autoencoder.per_fold:
        for fold in folds:
            yield fold.name, np.intersect1d(fold.train, present), None, []


def _made_from(config: Config, source: Cohort, view: str, train: IntArray, validate: IntArray, seed: int) -> str:
    """Settings, what was resolved, and content: everything that decides the weights."""
    hashes = [dict(exam.hashes).get(view) for exam in source.exams]
    known = all(hashes)
    course = course_of(config.autoencoder, len(train))
    return network_decided_by(
        AE, config, [course.epochs, course.batch, course.schedule.peak], view, seed, source.shape, source.kind,
        None if known else source.fingerprint,
        [[source.exams[row].patient, hashes[row]] for row in train],
        [[source.exams[row].patient, hashes[row]] for row in validate],
    )  # fmt: skip


# --- how well an image is reconstructed: PSNR and SSIM. Arrays in, numbers out ---

Images = npt.NDArray[np.float32]
K1, K2 = 0.01, 0.03
"""Stabilising constants of SSIM, for a data range of 1."""

SIGMA, RADIUS = 1.5, 5
"""The Gaussian window of SSIM: 11 x 11 pixels."""


def psnr(truth: Images, found: Images) -> FloatArray:
    """Peak signal-to-noise ratio of each image in decibels, shape (n,), for values in [0, 1].

    Inf where the two are equal.
    """
    error = np.mean((truth.astype(np.float64) - found) ** 2, axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(-10.0 * np.log10(error))


def ssim(truth: Images, found: Images) -> FloatArray:
    """Structural similarity of each image, shape (n,), mean over pixels and channels, at most 1.

    Wang, Bovik, Sheikh and Simoncelli 2004, equation 13, with its Gaussian window; data range 1.
    Images are (n, height, width, channels).
    """
    a, b = truth.astype(np.float64), found.astype(np.float64)
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    contrast = (2 * covariance + K2**2) / (variance_a + variance_b + K2**2)
    return np.asarray(np.mean(light * contrast, axis=(1, 2, 3)))


def _blur(images: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter1d

    for axis in (1, 2):
        images = gaussian_filter1d(images, SIGMA, axis=axis, truncate=RADIUS / SIGMA)
    return images
