"""``fuse``: one classifier an exam from 1, 3 or 5 views, scored out of sample on the folds of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.classifiers.encoders import Encoders
from thermocancer.classifiers.late.run import baseline_rows, combine_runs, late_identity
from thermocancer.classifiers.leaks import fusion_leaks
from thermocancer.classifiers.protocol import Recipe
from thermocancer.classifiers.recipes import ENCODED, chosen_views, make_recipe, recipe_identity
from thermocancer.classifiers.thresholds import describe_aim
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import ExamWeights, MatchWeights, choose_rows, keep_matches_apart
from thermocancer.data.split import Fold, Split, outer_folds
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError
from thermocancer.features.tables import complete_rows
from thermocancer.files import fingerprint
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.runs.predictions import Prediction, write_predictions
from thermocancer.runs.run import Run, read_run
from thermocancer.training.crossval import MODELS, CrossValidation, cross_validate, save_whole, write_scores
from thermocancer.training.distributed import Claim, by_one, claims
from thermocancer.training.workers import one_thread
from thermocancer.workspace import Stamp, Workspace

STAGE = "fuse"
BASELINE = "thermal"


@dataclass(frozen=True)
class Job:
    """One run: the data set, the folds restricted to exams that count, and what identifies the result."""

    config: Config
    workspace: Workspace
    source: StoredCohort
    views: tuple[str, ...]
    folds: tuple[Fold, ...]
    rows: IntArray
    exam_weights: ExamWeights | None
    excluded: tuple[tuple[str, str], ...]
    made_from: str

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.config.fuse.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / "manifest.json")

    def is_done(self) -> bool:
        return self.stamp.is_current(self.made_from)


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    item = f"runs/{config.fuse.name}: {config.fuse.model}"
    if config.fuse.model == "late":
        return _plan_late(config, workspace, item)
    path = workspace.dataset(config.dataset.name)
    if not path.exists():
        return Plan(STAGE, (item,), notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    with StoredCohort(path) as source:
        try:
            job = _job(config, workspace, source)
        except DataError as error:  # what an earlier stage of the same pipeline is going to make
            return Plan(STAGE, (item,), notes=(str(error),))
        if job.is_done():
            return Plan(STAGE, current=1)
        note = f"{len(job.rows)} exams, views {', '.join(job.views)}, {len(job.folds)} folds"
    return Plan(STAGE, (item,), notes=(note,))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Cross-validate (or hold out), fit the model to keep, write the run. Raises DataError on unusable data."""
    if config.fuse.model == "late":
        return _run_late(config, workspace, progress)
    with StoredCohort(workspace.dataset(config.dataset.name)) as source:
        job = _job(config, workspace, source)
        if job.is_done():
            return StageReport(STAGE, current=1, outputs=[str(job.folder)])
        return _work(job, progress)


def _job(config: Config, workspace: Workspace, source: StoredCohort) -> Job:
    views = chosen_views(config, source)
    split = Split.read(workspace.split)
    rows, weights, excluded = counted_exams(config, source, views)
    # folds of all exams first, so that they are those of the autoencoders whatever the views
    folds = [
        Fold(each.name, np.intersect1d(each.train, rows), np.intersect1d(each.test, rows))
        for each in outer_folds(source.exams, split, config.split, config.seed)
    ]
    folds = keep_matches_apart(source, folds, config.cohort)
    matched = MatchWeights.of(source, config.cohort) if config.cohort.match == "weight" else None
    made_from = fingerprint(
        STAGE, recipe_identity(config, workspace, config.fuse.model, views, [each.name for each in folds]),
        source.fingerprint, [[each.name, each.train.tolist(), each.test.tolist()] for each in folds],
        config.fuse.baseline, config.fuse.keep_folds, config.dataset.name, weights.tolist(),
        *([] if matched is None else [matched.identity]),
    )  # fmt: skip
    return Job(config, workspace, source, views, tuple(folds), rows, matched, excluded, made_from)


def counted_exams(
    config: Config, source: Cohort, views: tuple[str, ...]
) -> tuple[IntArray, FloatArray, tuple[tuple[str, str], ...]]:
    """Rows of the exams that are scored, a weight for every exam (n,), and (exam, reason) of those left out.

    Raises DataError when no exam is left.
    """
    chosen, own_weights = choose_rows(source, config.cohort)
    weights = np.zeros(len(source.exams))
    weights[chosen] = own_weights
    rows = np.intersect1d(chosen, complete_rows(source, views))
    kept, excluded = set(rows.tolist()), []
    present = {view: source.present(view) for view in views}
    for row, exam in enumerate(source.exams):
        if row not in kept:
            lacking = [view for view in views if not present[view][row]]
            reason = f"no {', '.join(lacking)} view" if lacking else "left out by the settings of cohort"
            excluded.append((exam.key, reason))
    if not kept:
        raise DataError(
            "no exam is left to train on", where=f"views {', '.join(views)}", found=f"{len(excluded)} excluded",
            hint="choose fewer views with fuse.views, or look into the settings of cohort",
        )  # fmt: skip
    return rows, weights, tuple(excluded)


def _work(job: Job, progress: Progress) -> StageReport:
    config, folder = job.config, job.folder
    for key, reason in job.excluded:
        progress.note(f"exam {key} is not used: {reason}")
    if config.fuse.model in ENCODED and config.split.protocol != "thesis" and config.fuse.encoders == "fold":
        Encoders.of(config, job.workspace).check_unseen(job.source, job.views, job.folds)
    result = _scores(job, config.fuse.model, progress, keep=config.fuse.keep_folds)
    baseline = _scores(job, BASELINE, progress) if _has_baseline(job) else None
    report = StageReport(STAGE, current=1, outputs=[str(folder)])
    report.figures |= {"exams": len(job.rows), "excluded": len(job.excluded), "auc": result.auc}
    if baseline is not None:
        report.figures["baseline_auc"] = baseline.auc
    for _ in by_one(_claim(config, job.workspace, job.made_from), "whole", job.is_done):
        outputs = (
            write_scores(folder, config, result)
            + _write_baseline(folder, baseline.rows if baseline else [])
            + _keep_model(job)
        )
        job.stamp.write(job.made_from, outputs, **_facts(job, result))
        report.made, report.current = 1, 0
    return report


def _claim(config: Config, workspace: Workspace, work: str) -> Claim | None:
    """Claims on the parts of one work where several machines share it."""
    return claims(workspace, f"{STAGE}-{work[:16]}") if config.strategy.shared else None


def _recipe(job: Job, kind: str) -> Recipe:
    watched = {each.name: each.test for each in job.folds} if job.config.split.protocol == "thesis" else None
    return make_recipe(
        job.config, job.workspace, kind=kind, views=job.views, exam_weights=job.exam_weights, watched=watched
    )


def _folds_folder(job: Job, kind: str) -> Path:
    """Where finished folds wait for the others; runs that differ in nothing that matters share them."""
    identity = recipe_identity(job.config, job.workspace, kind, job.views, [each.name for each in job.folds])
    weights = job.exam_weights.identity if isinstance(job.exam_weights, MatchWeights) else None
    return job.workspace.cache / "folds" / fingerprint(identity, job.source.fingerprint, weights)[:32]


def _scores(job: Job, kind: str, progress: Progress, *, keep: bool = False) -> CrossValidation:
    folder = _folds_folder(job, kind)
    return cross_validate(
        _recipe(job, kind), job.source, job.folds,
        seed=job.config.seed, progress=progress, folder=folder, disjoint=job.config.split.protocol != "thesis",
        processes=job.config.fuse.processes, keep=keep, claim=_claim(job.config, job.workspace, folder.name),
        title=kind,
    )  # fmt: skip


def _has_baseline(job: Job) -> bool:
    return job.config.fuse.baseline and job.config.fuse.model != BASELINE and job.source.kind == "celsius"


def _write_baseline(folder: Path, rows: Sequence[Prediction]) -> list[Path]:
    path = folder / "predictions-baseline.csv"
    if not rows:
        path.unlink(missing_ok=True)
        return []
    write_predictions(path, rows)
    return [path]


def _keep_model(job: Job) -> list[Path]:
    """Fit the classifier that ``predict`` uses: on every exam, or on the training part of a hold-out."""
    import shutil

    config = job.config
    fold = Fold("all", job.rows, job.rows) if len(job.folds) > 1 else job.folds[0]
    labels = np.array([job.source.exams[row].label for row in fold.train], dtype=np.int64)
    with one_thread():
        fitted = _recipe(job, config.fuse.model).fit(job.source, fold.train, labels, seed=config.seed, fold=fold.name)
        save_whole(fitted, job.folder / "model")
    if config.fuse.keep_folds:
        shutil.copytree(_folds_folder(job, config.fuse.model) / MODELS, job.folder / "model" / "folds")
    return sorted(path for path in (job.folder / "model").rglob("*") if path.is_file())


def _facts(job: Job, result: CrossValidation) -> dict[str, Any]:
    config, fuse = job.config, job.config.fuse
    if fuse.model == "asymmetry-index":  # it learns nothing, not even a threshold
        fuse = fuse.model_copy(update={"aim": "fixed"})
    labels = [job.source.exams[row].label for row in job.rows]
    facts: dict[str, Any] = {
        "stage": STAGE,
        "model": config.fuse.model,
        "views": list(job.views),
        "protocol": config.split.protocol,
        "dataset": {"name": job.source.name, "fingerprint": job.source.fingerprint},
        "thresholds": result.thresholds,
        "threshold": float(np.median(list(result.thresholds.values()))),
        "threshold_source": describe_aim(fuse, config.split.protocol),
        "leaks": fusion_leaks(config, job.workspace, job.source, job.views, job.folds),
        "exams": len(labels),
        "patients": len({job.source.exams[row].patient for row in job.rows}),
        "sick": int(sum(labels)),
        "excluded": [{"exam": key, "reason": reason} for key, reason in job.excluded],
        "seed": config.seed,
    }
    if config.fuse.model in ENCODED:
        facts |= {
            "autoencoder": config.fuse.autoencoder or config.autoencoder.variant,
            "untrained": config.fuse.untrained,
        }
    if config.fuse.model == "svm":
        facts |= {"kernel": config.fuse.kernel, "C": config.fuse.C, "clip": config.fuse.clip}
    return facts


def _combined(config: Config, workspace: Workspace) -> list[Run]:
    hint = "make it first, or correct fuse.combine ({})"
    return [read_run(workspace, name, hint=hint.format(name)) for name in config.fuse.combine]


def _plan_late(config: Config, workspace: Workspace, item: str) -> Plan:
    try:
        made_from = late_identity(config, workspace, _combined(config, workspace))
    except DataError as error:
        return Plan(STAGE, (item,), notes=(str(error),))
    if Stamp(workspace.run(config.fuse.name) / "manifest.json").is_current(made_from):
        return Plan(STAGE, current=1)
    return Plan(STAGE, (item,), notes=(f"combines {config.fuse.combine_by} of {', '.join(config.fuse.combine)}",))


def _run_late(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Combine finished runs; what is kept combines what those runs make of a new exam."""
    runs = _combined(config, workspace)
    folder, made_from = workspace.run(config.fuse.name), late_identity(config, workspace, runs)
    stamp = Stamp(folder / "manifest.json")
    if stamp.is_current(made_from):
        return StageReport(STAGE, current=1, outputs=[str(folder)])
    report = StageReport(STAGE, current=1, outputs=[str(folder)])
    for _ in by_one(_claim(config, workspace, made_from), "whole", lambda: stamp.is_current(made_from)):
        late = combine_runs(config, workspace, runs, progress)
        save_whole(late.kept, folder / "model")
        rows = baseline_rows(runs) if config.fuse.baseline else []
        outputs = write_scores(folder, config, late.scores) + sorted((folder / "model").iterdir())
        outputs += _write_baseline(folder, rows)
        source = describe_aim(config.fuse, runs[0].manifest.protocol)
        stamp.write(
            made_from, outputs, stage=STAGE, model="late", seed=config.seed, threshold_source=source, **late.facts
        )
        report.made, report.current = 1, 0
        report.figures |= {"patients": len({row.patient for row in late.scores.rows}), "auc": late.scores.auc}
    return report
