"""Which autoencoders a config asks for: one a view, and one inside every outer fold of cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.split import Fold, Split, outer_folds, thesis_leaks
from thermocancer.errors import ConfigError
from thermocancer.kinds import AE
from thermocancer.models.autoencoder import code_shape
from thermocancer.runs.deciding import network_decided_by
from thermocancer.training.autoencoder import files as ae
from thermocancer.workspace import VIEWS, Stamp, Workspace


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
        return Stamp(self.folder / ae.MANIFEST)

    @property
    def title(self) -> str:
        return self.view if self.fold in ae.WHOLE_SPLIT else f"{self.view} fold {self.fold}"


def trainings(config: Config, workspace: Workspace, source: Cohort) -> Iterator[Training]:
    """Every autoencoder that the config asks for, the one of the whole split first in each view."""
    code_shape(config.autoencoder.variant, source.shape)  # refuses a size that cannot be halved often enough
    split = Split.read(workspace.split)
    folds = outer_folds(source.exams, split, config.split, config.seed)
    for view in _views(config, source):
        present = np.flatnonzero(source.present(view)).astype(np.int64)
        for number, (fold, train, validate, leaks) in enumerate(_parts(config, source, split, folds, present)):
            seed = int(np.random.default_rng([config.seed, 41, VIEWS.index(view), number]).integers(2**31))
            if validate is None:
                train, validate = ae.hold_back(source, train, config.autoencoder.validation_fraction, seed)
            folder = ae.folder_of(workspace, config.autoencoder.variant, view, fold)
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
    config: Config, source: Cohort, split: Split, folds: Sequence[Fold], present: IntArray
) -> Iterator[tuple[str, IntArray, IntArray | None, list[str]]]:
    """Fold, training rows, validation rows (None: to be held back from training) and leaks of each training."""
    if config.split.protocol == "thesis":
        fold = folds[0]
        train = present if config.autoencoder.train_on == "all" else np.intersect1d(fold.train, present)
        leaks = [*thesis_leaks(source.exams, folds), "autoencoders are validated on the test part"]
        if config.autoencoder.train_on == "all":
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
    course = ae.course_of(config.autoencoder, len(train))
    return network_decided_by(
        AE, config, [course.epochs, course.batch, course.schedule.peak], view, seed, source.shape, source.kind,
        None if known else source.fingerprint,
        [[source.exams[row].patient, hashes[row]] for row in train],
        [[source.exams[row].patient, hashes[row]] for row in validate],
    )  # fmt: skip
