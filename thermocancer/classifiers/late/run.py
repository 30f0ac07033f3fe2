"""Late fusion as a run: what decides its result, the scores fold by fold, and the model to keep."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted, describe_aim
from thermocancer.classifiers.crossval import CrossValidation, cross_validate
from thermocancer.classifiers.late.features import KIND, VERSION, JointClassifier, JointModel
from thermocancer.classifiers.late.patients import Block, CombinedRun, PatientCohort, gather_patients, patient_folds
from thermocancer.classifiers.late.scores import ScoresModel, combine, components_of, describe_combination, keep_scores
from thermocancer.classifiers.protocol import Asked, Classifier, Family, Fitted, Settings, Unavailable
from thermocancer.classifiers.run import Trained
from thermocancer.compute import one_thread
from thermocancer.config import Config
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError
from thermocancer.kinds import kind, trivial_kinds
from thermocancer.progress import Progress
from thermocancer.runs.deciding import decided_by, settings_of
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run, read_run
from thermocancer.runs.writing import write_run
from thermocancer.workspace import Stamp, Workspace

BY_FEATURES = "features"


@dataclass(frozen=True)
class LateJob:
    """One combination: the finished runs, and what identifies the result."""

    config: Config
    workspace: Workspace
    runs: tuple[Run, ...]

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.config.fuse.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / MANIFEST)

    def is_done(self) -> bool:
        return self.stamp.is_current(self.made_from)

    @property
    def by_features(self) -> bool:
        return self.config.fuse.combine_by == BY_FEATURES

    @property
    def made_from(self) -> str:
        """Changes with every setting and file that decides the result."""
        content: list[object] = [[run.name, run.scores_content, *components_of([run])] for run in self.runs]
        content.append(self.config.fuse.baseline)
        if self.by_features:
            for run in self.runs:
                own = CombinedRun.of(run)
                content += [VERSION, own.family.content(own.asked, sorted({row.fold for row in run.rows}))]
        return decided_by(kind(self.config.fuse.model), self.config, content)


def late_job(config: Config, workspace: Workspace) -> LateJob:
    """Read the runs to combine. Raises DataError where one is missing, ConfigError where one cannot be combined."""
    hint = "make it first, or correct fuse.combine ({})"
    runs = (read_run(workspace, name, hint=hint.format(name)) for name in config.fuse.combine)
    return LateJob(config, workspace, tuple(runs))


def train_late(job: LateJob, progress: Progress) -> Trained:
    """Combine finished runs by ``fuse.combine_by`` and write the run; what is kept combines what those runs make of
    a new exam. Raises DataError or ConfigError where they do not go together.
    """
    config, chosen = job.config, kind(job.config.fuse.model)
    if job.by_features:
        scores, kept, facts = _by_features(job, progress)
    else:
        fuse = config.fuse
        scores = combine(job.runs, stacking=fuse.stacking, aim=fuse.aim, sensitivity=fuse.aim_sensitivity)
        kept = keep_scores(job.runs, stacking=fuse.stacking, aim=fuse.aim, sensitivity=fuse.aim_sensitivity)
        words = "stacking on inner scores" if fuse.stacking else "mean of logits"
        facts = describe_combination(job.runs, scores, words)
    facts |= {
        "model": config.fuse.model, "seed": config.seed, "settings": settings_of(chosen, config),
        "threshold_source": describe_aim(config.fuse.aim, config.fuse.aim_sensitivity, job.runs[0].manifest.protocol),
    }  # fmt: skip
    write_run(
        job.folder, config, chosen, job.made_from, facts, rows=scores.rows, history=scores.history,
        inner=scores.inner, baseline=baseline_rows(job.runs) if config.fuse.baseline else (),
        save_model=kept.save,
    )  # fmt: skip
    return Trained(scores, None)


Combined = tuple[CrossValidation, CalibratedFitted, dict[str, object]]
"""Out-of-sample scores, the model for new exams, facts for the manifest."""


def _by_features(job: LateJob, progress: Progress) -> Combined:
    config, runs = job.config, job.runs
    with ExitStack() as stack, one_thread():
        combined = [CombinedRun.of(run) for run in runs]
        for run in combined:
            run.check_frozen()
        patients = gather_patients([Block.open(run, stack) for run in combined])
        folds = patient_folds(patients, runs)
        for run in combined:
            run.family.check_unseen(run.asked, patients, folds)
        classifier = late_classifier(config, patients)
        scores = cross_validate(
            classifier, patients, folds, seed=config.seed, progress=progress,
            folder=job.workspace.cache / "folds" / job.made_from[:32], title="late fusion",
        )  # fmt: skip
        words = "features of every run, standardised, in one logistic regression"
        facts = describe_combination(runs, scores, words)
        fold = scores.folds[0].fold
        columns = {run.name: patients.table(block, fold).shape[1] for block, run in enumerate(runs)}
        # for new exams: fitted on every patient, or on the training part of a hold-out
        every = np.arange(len(patients.exams), dtype=np.int64)
        whole = Fold("all", every, every) if len(folds) > 1 else folds[0]
        labels = np.array([patients.exams[row].label for row in whole.train], dtype=np.int64)
        kept = classifier.fit(patients, whole.train, labels, seed=config.seed, fold=whole.name)
        return scores, kept, facts | {"combined_by": BY_FEATURES, "features_by_run": columns}


def late_classifier(config: Config, patients: PatientCohort, *, calibrate: bool = True) -> Calibrated:
    """The ridge on all blocks, with its threshold from inner folds; without ``calibrate`` the threshold is 0.5."""
    erasing = [block.run.scores.name for block in patients.blocks if block.run.config.cohort.erase]
    if erasing:
        raise ConfigError(
            "features are joined as they are, not as cohort.erase leaves them", where=f"fuse.combine: {erasing[0]}",
            expected="runs without cohort.erase", found=", ".join(erasing), hint="use fuse.combine_by: scores",
        )  # fmt: skip
    components = components_of([block.run.scores for block in patients.blocks])
    residualise = tuple(block.run.residualise for block in patients.blocks)
    ridge = JointClassifier(components, config.features.components, residualise)
    inner = config.split.inner_folds if calibrate else 0
    return Calibrated(ridge, FeaturesSection(), inner, config.fuse.aim, config.fuse.aim_sensitivity)


def baseline_rows(runs: Sequence[Run]) -> list[Prediction]:
    """Scores of the thermal baseline on the same folds, as the first of the runs that has them gives them."""
    for run in runs:
        if run.baseline:
            return run.baseline
        if run.kind == trivial_kinds()[0]:
            return run.rows
    return []


# --- late fusion as a family: the model that a late run keeps, read back ------


class LateFamily(Family):
    """Combines finished runs; how it is made stands in ``late.run``, as it needs the runs themselves."""

    def make(self, asked: Asked) -> Classifier:
        """Raises Unavailable: settings alone do not say which finished runs are combined."""
        raise Unavailable("a combination is made of finished runs, by fuse --combine")

    def load(self, folder: Path, settings: Settings) -> Fitted:
        by_features = settings["kind"] == KIND
        model = JointModel.load(folder, settings) if by_features else ScoresModel.load(folder, settings)
        return CalibratedFitted.around(model, settings)
