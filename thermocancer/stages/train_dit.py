"""``train-dit``: a sequence network on dynamic exams, scored out of sample on the folds of the split."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.calibrated import CalibratedRecipe
from thermocancer.classifiers.leaks import sequence_leaks
from thermocancer.classifiers.sequence.features import check_frames
from thermocancer.classifiers.sequence.input import VERSION as INPUT_VERSION
from thermocancer.classifiers.sequence.network import SequenceMethod, sequence_recipe
from thermocancer.classifiers.sequence.readers import VIEW, FrameReaders
from thermocancer.classifiers.thresholds import describe_aim
from thermocancer.config import Config
from thermocancer.data.cohort import Exam, IntArray
from thermocancer.data.matching import ExamWeights, MatchWeights, choose_rows, keep_matches_apart
from thermocancer.data.split import Fold, Split, dynamic_folds, restrict
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort, has_part
from thermocancer.errors import DataError
from thermocancer.files import fingerprint, hash_file
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.training.crossval import CrossValidation, cross_validate, write_scores
from thermocancer.training.distributed import Claim, by_one, claims, share_out
from thermocancer.workspace import Stamp, Workspace

STAGE = "train-dit"
CLAIMED_AT_ONCE = 8
"""Exams whose features one machine computes before it claims the next ones."""


@dataclass(frozen=True)
class Job:
    """One run: the sequences, the folds of those that count, and what identifies the result."""

    config: Config
    workspace: Workspace
    source: StoredCohort
    rows: IntArray
    exam_weights: ExamWeights | None
    folds: tuple[Fold, ...]
    made_from: str

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.config.dit.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / "manifest.json")


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    dit = config.dit
    item = f"runs/{dit.name}: {dit.backbone}, {dit.head} {dit.units}"
    path = workspace.dataset(config.dataset.name)
    if not path.exists():
        return Plan(STAGE, (item,), notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    with StoredCohort(path, DYNAMIC) as source:
        job = _job(config, workspace, source)
        if job.stamp.is_current(job.made_from):
            return Plan(STAGE, current=1)
        note = f"{len(job.rows)} exams, {len(dit.frames)} of {source.length(VIEW)} frames, {len(job.folds)} folds"
    return Plan(STAGE, (item,), notes=(note,))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Cross-validate (or hold out), fit the network to keep, write the run. Raises DataError on unusable data."""
    with StoredCohort(workspace.dataset(config.dataset.name), DYNAMIC) as source:
        job = _job(config, workspace, source)
        if job.stamp.is_current(job.made_from):
            return StageReport(STAGE, current=1, outputs=[str(job.folder)])
        return _work(job, progress)


def _job(config: Config, workspace: Workspace, source: StoredCohort) -> Job:
    check_frames(source, config.dit.frames)
    rows, weights = choose_rows(source, config.cohort)  # it reads exams and nuisance alone
    matched = MatchWeights.of(source, config.cohort) if config.cohort.match == "weight" else None
    split = Split.read(workspace.split)
    folds = restrict(dynamic_folds(source.exams, _static_exams(source.path), split, config.split, config.seed), rows)
    folds = keep_matches_apart(source, folds, config.cohort)
    made_from = fingerprint(
        STAGE, _identity(config, workspace), source.fingerprint, weights.tolist(),
        [[each.name, each.train.tolist(), each.test.tolist()] for each in folds], config.dataset.name,
        *([] if matched is None else [matched.identity]),
    )  # fmt: skip
    return Job(config, workspace, source, rows, matched, tuple(folds), made_from)


def _static_exams(path: Path) -> Sequence[Exam] | None:
    """The static exams of the same data set, or None when it holds none."""
    if not has_part(path, STATIC):
        return None
    with StoredCohort(path) as static:
        return static.exams


def _identity(config: Config, workspace: Workspace) -> list[Any]:
    """Every setting and file that decides the result, except the exams."""
    dit = config.dit
    identity: list[Any] = [INPUT_VERSION, dit.model_dump(mode="json", exclude={"name", "weights"}), config.seed]
    identity += [config.split.model_dump(mode="json"), config.cohort.model_dump(mode="json")]
    identity += [config.strategy.backend, config.strategy.precision]
    if dit.weights is not None and Path(dit.weights).is_file():
        identity.append(hash_file(Path(dit.weights)))
    if dit.backbone == "autoencoder":
        folder = workspace.autoencoder(config.autoencoder.variant, VIEW)
        identity += [[str(each.relative_to(folder)), hash_file(each)] for each in sorted(folder.rglob("manifest.json"))]
    return identity


def _work(job: Job, progress: Progress) -> StageReport:
    config = job.config
    running = strategy.set_up(config.strategy, config.seed)
    progress.note(running.why)
    method = SequenceMethod(config, job.workspace, FrameReaders(config, job.workspace), job.exam_weights)
    recipe = sequence_recipe(method)
    _check_encoders(job, method)
    claim = claims(job.workspace, f"{STAGE}-{job.made_from[:16]}") if config.strategy.shared else None
    _read_features(job, method, progress, claim)
    result = cross_validate(
        recipe, job.source, job.folds, seed=config.seed, progress=progress,
        folder=job.workspace.cache / "folds" / job.made_from[:32],
        disjoint=config.split.protocol != "thesis", claim=claim, title="sequence folds",
    )  # fmt: skip
    report = StageReport(STAGE, current=1, outputs=[str(job.folder)])
    for _ in by_one(claim, "whole", lambda: job.stamp.is_current(job.made_from)):
        outputs = write_scores(job.folder, config, result) + _keep_model(job, recipe)
        job.stamp.write(job.made_from, outputs, **_facts(job, result))
        report.made, report.current = 1, 0
    report.figures |= {"exams": len(job.rows), "folds": len(job.folds), "auc": result.auc, **method.counts}
    return report


def _check_encoders(job: Job, method: SequenceMethod) -> None:
    """Raise DataError when an encoder has seen thermograms of a patient whom its fold tests."""
    if job.config.split.protocol == "thesis":
        return
    for fold in job.folds:
        with strategy.current().scope():
            seen = method.readers.of(fold.name).seen
        both = sorted(seen & {job.source.exams[row].patient for row in fold.test})
        if both:
            raise DataError(
                "the autoencoder was trained on patients whom this fold tests",
                where=f"fold {fold.name}", found=f"{len(both)} patients, such as {both[0]}",
                hint="train it again with autoencoder.per_fold: true, or set dit.backbone: efficientnet_lite0",
            )  # fmt: skip


def _read_features(job: Job, method: SequenceMethod, progress: Progress, claim: Claim | None) -> None:
    """Features of every exam by every reader, with a progress bar of their own: this is the long part."""
    own_readers = job.config.dit.backbone == "autoencoder"
    for fold in job.folds if own_readers else job.folds[:1]:
        if claim is not None:
            _read_share(job, method, fold.name, claim)
        method.read_ahead(job.source, job.rows, fold.name, progress)


def _read_share(job: Job, method: SequenceMethod, fold: str, claim: Claim) -> None:
    """This machine's part of the features. None is known to be done: what another has read is in the cache."""
    parts = np.array_split(job.rows, -(-len(job.rows) // CLAIMED_AT_ONCE))
    for part in share_out(range(len(parts)), lambda part: claim(f"features-{fold}-{part}"), lambda part: False):
        method.read_ahead(job.source, parts[part], fold)


def _keep_model(job: Job, recipe: CalibratedRecipe) -> list[Path]:
    """Fit the network that ``predict`` uses: on every exam, or on the training part of a hold-out."""
    fold = Fold("all", job.rows, job.rows) if len(job.folds) > 1 else job.folds[0]
    labels = np.array([job.source.exams[row].label for row in fold.train], dtype=np.int64)
    side, final = job.folder / ".model.partial", job.folder / "model"
    shutil.rmtree(side, ignore_errors=True)
    recipe.fit(job.source, fold.train, labels, seed=job.config.seed, fold=fold.name).save(side)
    shutil.rmtree(final, ignore_errors=True)
    side.rename(final)
    return sorted(path for path in final.rglob("*") if path.is_file())


def _facts(job: Job, result: CrossValidation) -> dict[str, Any]:
    config, exams = job.config, [job.source.exams[row] for row in job.rows]
    filled = {job.source.exams[row].key: int(job.source.filled[row].sum()) for row in job.rows}
    return {
        "stage": STAGE,
        "model": f"{config.dit.backbone} + {config.dit.head} {config.dit.units}",
        "views": [VIEW],
        "dynamic": True,
        "protocol": config.split.protocol,
        "dataset": {"name": job.source.name, "fingerprint": job.source.fingerprint},
        "thresholds": result.thresholds,
        "threshold": float(np.median(list(result.thresholds.values()))),
        "threshold_source": describe_aim(
            config.fuse.model_copy(update={"aim": config.dit.aim, "aim_sensitivity": config.dit.aim_sensitivity}),
            config.split.protocol,
        ),
        "leaks": sequence_leaks(config, job.source.exams, job.folds),
        "exams": len(exams),
        "patients": len({exam.patient for exam in exams}),
        "sick": sum(exam.label for exam in exams),
        "filled_frames": {key: count for key, count in sorted(filled.items()) if count},
        "seed": config.seed,
    }
