"""Late fusion as a run: what decides its result, the scores fold by fold, and the model to keep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from thermocancer.classifiers.calibrated import CalibratedRecipe, Classifier
from thermocancer.classifiers.late.blocks import Block, CombinedRun
from thermocancer.classifiers.late.features import VERSION, JointMethod
from thermocancer.classifiers.late.kept import components_of, keep_scores
from thermocancer.classifiers.late.patients import PatientCohort, gather_patients, patient_folds
from thermocancer.classifiers.late.scores import combine, describe_combination
from thermocancer.config import Config
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.split import Fold
from thermocancer.files import fingerprint
from thermocancer.progress import Progress
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.training.crossval import CrossValidation, cross_validate
from thermocancer.training.workers import one_thread
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class LateRun:
    """What combining gave: out-of-sample scores, the model for new exams, facts for the manifest."""

    scores: CrossValidation
    kept: Classifier
    facts: dict[str, Any]


def late_identity(config: Config, workspace: Workspace, runs: Sequence[Run]) -> str:
    """Fingerprint of every setting and file that decides the result."""
    fuse = config.fuse
    identity: list[Any] = [fuse.combine, fuse.combine_by, fuse.stacking, fuse.aim, fuse.aim_sensitivity, fuse.baseline]
    identity += [[run.name, run.scores_content, *components_of([run])] for run in runs]
    if fuse.combine_by == "features":
        identity += [VERSION, config.features.components, config.split.inner_folds, config.seed]
        identity += [CombinedRun.of(run).identity(_folds(run)) for run in runs]
    return fingerprint("late", identity)


def _folds(run: Run) -> list[str]:
    return sorted({row.fold for row in run.rows})


def combine_runs(config: Config, workspace: Workspace, runs: Sequence[Run], progress: Progress) -> LateRun:
    """Combine finished runs by ``fuse.combine_by``. Raises DataError or ConfigError where they do not go together."""
    fuse = config.fuse
    if fuse.combine_by == "features":
        with ExitStack() as stack, one_thread():
            return _by_features(config, workspace, runs, progress, stack)
    how: dict[str, Any] = {"stacking": fuse.stacking, "aim": fuse.aim, "sensitivity": fuse.aim_sensitivity}
    scores = combine(runs, **how)
    words = "stacking on inner scores" if fuse.stacking else "mean of logits"
    return LateRun(scores, keep_scores(runs, **how), describe_combination(runs, scores, words))


def _by_features(
    config: Config, workspace: Workspace, runs: Sequence[Run], progress: Progress, stack: ExitStack
) -> LateRun:
    combined = [CombinedRun.of(run) for run in runs]
    for run in combined:
        run.check_frozen()
    patients = gather_patients([Block.open(run, stack) for run in combined])
    folds = patient_folds(patients, runs)
    for run in combined:
        run.check_unseen(patients, folds)
    recipe = late_recipe(config, patients)
    scores = cross_validate(
        recipe, patients, folds, seed=config.seed, progress=progress,
        folder=workspace.cache / "folds" / late_identity(config, workspace, runs)[:32], title="late fusion",
    )  # fmt: skip
    facts = describe_combination(runs, scores, "features of every run, standardised, in one logistic regression")
    fold = scores.folds[0].fold
    columns = {run.name: patients.table(block, fold).shape[1] for block, run in enumerate(runs)}
    kept = _fit_all(recipe, patients, folds, config.seed)
    return LateRun(scores, kept, facts | {"combined_by": "features", "features_by_run": columns})


def late_recipe(config: Config, patients: PatientCohort, *, calibrate: bool = True) -> CalibratedRecipe:
    """The ridge on all blocks, with its threshold from inner folds; without ``calibrate`` the threshold is 0.5."""
    components = components_of([block.run.scores for block in patients.blocks])
    residualise = tuple(block.run.residualise for block in patients.blocks)
    method = JointMethod(components, config.features.components, residualise)
    inner = config.split.inner_folds if calibrate else 0
    return CalibratedRecipe(method, FeaturesSection(), inner, config.fuse.aim, config.fuse.aim_sensitivity)


def baseline_rows(runs: Sequence[Run]) -> list[Prediction]:
    """Scores of the thermal baseline on the same folds, as the first of the runs that has them gives them."""
    for run in runs:
        if run.baseline:
            return run.baseline
        if run.manifest.kind == "thermal":
            return run.rows
    return []


def _fit_all(recipe: CalibratedRecipe, patients: PatientCohort, folds: Sequence[Fold], seed: int) -> Classifier:
    """The model for new exams: on every patient, or on the training part of a hold-out."""
    every = np.arange(len(patients.exams), dtype=np.int64)
    fold = Fold("all", every, every) if len(folds) > 1 else folds[0]
    labels = np.array([patients.exams[row].label for row in fold.train], dtype=np.int64)
    return recipe.fit(patients, fold.train, labels, seed=seed, fold=fold.name)
