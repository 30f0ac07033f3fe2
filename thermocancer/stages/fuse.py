"""``fuse``: one classifier an exam from 1, 3 or 5 views, scored out of sample on the folds of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config import Config
from thermocancer.data.cohort import choose_rows
from thermocancer.data.exams import ExamSource, FloatArray, IntArray
from thermocancer.data.predictions import to_units, write_predictions
from thermocancer.data.split import Fold, Split, outer_folds, thesis_leaks
from thermocancer.data.store import H5ExamSource, open_dataset
from thermocancer.errors import DataError
from thermocancer.features.tables import complete_rows
from thermocancer.files import fingerprint
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.training.classifiers.encoders import Encoders
from thermocancer.training.classifiers.late import read_run
from thermocancer.training.crossval import MODELS, CrossValidation, cross_validate, one_thread, save_whole, write_scores
from thermocancer.training.late_runs import baseline_rows, combine_runs, late_identity
from thermocancer.training.recipe import Recipe
from thermocancer.training.recipes import ENCODED, chosen_views, make_recipe, recipe_identity
from thermocancer.training.thresholds import describe_aim
from thermocancer.workspace import Stamp, Workspace

STAGE = "fuse"
BASELINE = "thermal"


@dataclass(frozen=True)
class Job:
    """One run: the data set, the folds restricted to exams that count, and what identifies the result."""

    config: Config
    workspace: Workspace
    source: H5ExamSource
    views: tuple[str, ...]
    folds: tuple[Fold, ...]
    rows: IntArray
    exam_weights: FloatArray | None
    excluded: tuple[tuple[str, str], ...]
    made_from: str

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.config.fuse.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / "manifest.json")


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    item = f"runs/{config.fuse.name}: {config.fuse.model}"
    if config.fuse.model == "late":
        return _plan_late(config, workspace, item)
    path = workspace.dataset(config.dataset.name)
    if not path.exists():
        return Plan(STAGE, (item,), notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    with open_dataset(path) as source:
        try:
            job = _job(config, workspace, source)
        except DataError as error:  # what an earlier stage of the same pipeline is going to make
            return Plan(STAGE, (item,), notes=(str(error),))
        if job.stamp.is_current(job.made_from):
            return Plan(STAGE, current=1)
        note = f"{len(job.rows)} exams, views {', '.join(job.views)}, {len(job.folds)} folds"
    return Plan(STAGE, (item,), notes=(note,))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Cross-validate (or hold out), fit the model to keep, write the run. Raises DataError on unusable data."""
    if config.fuse.model == "late":
        return _run_late(config, workspace, progress)
    with open_dataset(workspace.dataset(config.dataset.name)) as source:
        job = _job(config, workspace, source)
        if job.stamp.is_current(job.made_from):
            return StageReport(STAGE, current=1, outputs=[str(job.folder)])
        return _work(job, progress)


def _job(config: Config, workspace: Workspace, source: H5ExamSource) -> Job:
    views = chosen_views(config, source)
    split = Split.read(workspace.split)
    rows, weights, excluded = counted_exams(config, source, views)
    # folds of all exams first, so that they are those of the autoencoders whatever the views
    folds = [
        Fold(each.name, np.intersect1d(each.train, rows), np.intersect1d(each.test, rows))
        for each in outer_folds(source.exams, split, config.split, config.seed)
    ]
    made_from = fingerprint(
        STAGE, recipe_identity(config, workspace, config.fuse.model, views, [each.name for each in folds]),
        source.fingerprint, [[each.name, each.train.tolist(), each.test.tolist()] for each in folds],
        config.fuse.baseline, config.fuse.keep_folds, config.dataset.name, weights.tolist(),
    )  # fmt: skip
    matched = weights if config.cohort.match == "weight" else None
    return Job(config, workspace, source, views, tuple(folds), rows, matched, excluded, made_from)


def counted_exams(
    config: Config, source: ExamSource, views: tuple[str, ...]
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
    outputs = write_scores(folder, config, result)
    report = StageReport(STAGE, made=1, outputs=[str(folder)])
    report.figures |= {"exams": len(job.rows), "excluded": len(job.excluded), "auc": _auc(result)}
    outputs += _write_baseline(job, progress, report)
    outputs += _keep_model(job)
    job.stamp.write(job.made_from, outputs, **_facts(job, result))
    return report


def _recipe(job: Job, kind: str) -> Recipe:
    watched = {each.name: each.test for each in job.folds} if job.config.split.protocol == "thesis" else None
    return make_recipe(
        job.config, job.workspace, kind=kind, views=job.views, exam_weights=job.exam_weights, watched=watched
    )


def _folds_folder(job: Job, kind: str) -> Path:
    """Where finished folds wait for the others; runs that differ in nothing that matters share them."""
    identity = recipe_identity(job.config, job.workspace, kind, job.views, [each.name for each in job.folds])
    weights = None if job.exam_weights is None else job.exam_weights.tolist()
    return job.workspace.cache / "folds" / fingerprint(identity, job.source.fingerprint, weights)[:32]


def _scores(job: Job, kind: str, progress: Progress, *, keep: bool = False) -> CrossValidation:
    return cross_validate(
        _recipe(job, kind),
        job.source,
        job.folds,
        seed=job.config.seed,
        progress=progress,
        folder=_folds_folder(job, kind),
        disjoint=job.config.split.protocol != "thesis",
        processes=job.config.fuse.processes,
        keep=keep,
        title=kind,
    )


def _write_baseline(job: Job, progress: Progress, report: StageReport) -> list[Path]:
    path = job.folder / "predictions-baseline.csv"
    if not job.config.fuse.baseline or job.config.fuse.model == BASELINE or job.source.kind != "celsius":
        path.unlink(missing_ok=True)
        return []
    result = _scores(job, BASELINE, progress)
    write_predictions(path, result.rows)
    report.figures["baseline_auc"] = _auc(result)
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
    config = job.config
    labels = [job.source.exams[row].label for row in job.rows]
    facts: dict[str, Any] = {
        "stage": STAGE,
        "model": config.fuse.model,
        "views": list(job.views),
        "protocol": config.split.protocol,
        "dataset": {"name": job.source.name, "fingerprint": job.source.fingerprint},
        "thresholds": result.thresholds,
        "threshold": float(np.median(list(result.thresholds.values()))),
        "threshold_source": describe_aim(config.fuse, config.split.protocol),
        "leaks": _leaks(job),
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


def _leaks(job: Job) -> list[str]:
    """What the scored exams, or the choice of model and threshold, had to do with training."""
    found = []
    if job.config.split.protocol == "thesis":
        found = [*thesis_leaks(job.source.exams, job.folds), "threshold fixed at 0.5, models chosen on the test part"]
        found += _lost_in_rendering(job)
    if job.config.fuse.model in ENCODED:
        encoders = Encoders.of(job.config, job.workspace)
        found += encoders.leaks(job.source, job.views, job.folds)
    return list(dict.fromkeys(found))


def _lost_in_rendering(job: Job) -> list[str]:
    """Defects of the original recipe's pictures, as far as this run shares them."""
    config, found = job.config, []
    images = job.source.kind == "rgb"
    rendering = config.convert.rendering if images else config.autoencoder.input.rendering
    if rendering.range == "minmax" and (images or config.fuse.model in ENCODED):
        found.append("each image scaled by its own minimum and maximum: absolute temperature lost, noise stretched")
    if images and config.convert.format == "jpg":
        found.append("JPEG images instead of temperatures")
    return found


def _auc(result: CrossValidation) -> float | None:
    """Area under the ROC curve over units, for the summary; None with one class."""
    from sklearn.metrics import roc_auc_score

    units = to_units(result.rows)
    labels: Sequence[int] = [unit.label for unit in units]
    if len(set(labels)) < 2:
        return None
    return round(float(roc_auc_score(labels, [unit.score for unit in units])), 4)


def _plan_late(config: Config, workspace: Workspace, item: str) -> Plan:
    try:
        made_from = late_identity(config, workspace, [read_run(workspace, name) for name in config.fuse.combine])
    except DataError as error:
        return Plan(STAGE, (item,), notes=(str(error),))
    if Stamp(workspace.run(config.fuse.name) / "manifest.json").is_current(made_from):
        return Plan(STAGE, current=1)
    return Plan(STAGE, (item,), notes=(f"combines {config.fuse.combine_by} of {', '.join(config.fuse.combine)}",))


def _run_late(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Combine finished runs; what is kept combines what those runs make of a new exam."""
    runs = [read_run(workspace, name) for name in config.fuse.combine]
    folder, made_from = workspace.run(config.fuse.name), late_identity(config, workspace, runs)
    stamp = Stamp(folder / "manifest.json")
    if stamp.is_current(made_from):
        return StageReport(STAGE, current=1, outputs=[str(folder)])
    late = combine_runs(config, workspace, runs, progress)
    outputs = write_scores(folder, config, late.scores)
    save_whole(late.kept, folder / "model")
    outputs += sorted(path for path in (folder / "model").iterdir())
    baseline, rows = folder / "predictions-baseline.csv", baseline_rows(workspace, runs)
    baseline.unlink(missing_ok=True)
    if rows and config.fuse.baseline:
        write_predictions(baseline, rows)
        outputs.append(baseline)
    source = describe_aim(config.fuse, str(runs[0].manifest["protocol"]))
    stamp.write(made_from, outputs, stage=STAGE, model="late", seed=config.seed, threshold_source=source, **late.facts)
    report = StageReport(STAGE, made=1, outputs=[str(folder)])
    report.figures |= {"patients": len({row.patient for row in late.scores.rows}), "auc": _auc(late.scores)}
    return report
