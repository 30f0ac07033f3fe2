"""``fuse``: one classifier an exam from 1, 3 or 5 views, scored out of sample on the folds of the split."""

from __future__ import annotations

from functools import partial

import numpy as np

from thermocancer.classifiers.late.run import late_job, train_late
from thermocancer.classifiers.making import chosen_views
from thermocancer.classifiers.protocol import Asked
from thermocancer.classifiers.run import Job, train
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import MatchWeights, choose_rows, keep_matches_apart
from thermocancer.data.split import Split, outer_folds, restrict
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError
from thermocancer.evaluation.statistics.metrics import auc_figures
from thermocancer.features.tables import complete_rows
from thermocancer.kinds import FUSE as STAGE
from thermocancer.kinds import Reads, kind, trivial_kinds
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    item = f"runs/{config.fuse.name}: {config.fuse.model}"
    combines = kind(config.fuse.model).reads is Reads.RUNS
    path = workspace.dataset(config.dataset.name)
    if not combines and not path.exists():
        return Plan(STAGE, (item,), notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    try:
        if combines:
            done = late_job(config, workspace).is_done()
            note = f"combines {config.fuse.combine_by} of {', '.join(config.fuse.combine)}"
        else:
            with StoredCohort(path) as cohort:
                job = _job(config, workspace, cohort)
                done = job.is_done()
                note = f"{len(job.rows)} exams, views {', '.join(job.asked.views)}, {len(job.folds)} folds"
    except DataError as error:  # what an earlier stage of the same pipeline is going to make
        return Plan(STAGE, (item,), notes=(str(error),))
    return Plan(STAGE, current=1) if done else Plan(STAGE, (item,), notes=(note,))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Cross-validate (or hold out), fit the model to keep, write the run. Raises DataError on unusable data."""
    report = StageReport(STAGE, current=1, outputs=[str(workspace.run(config.fuse.name))])
    if kind(config.fuse.model).reads is Reads.RUNS:
        combined = late_job(config, workspace)
        if not combined.is_done():
            late = train_late(combined, progress)
            report.made, report.current = 1, 0
            report.figures |= {
                "patients": len({row.patient for row in late.scores.rows}),
                **auc_figures(late.scores.rows, config.evaluate, by_exam=combined.runs[0].by_exam),
            }
        return report
    with StoredCohort(workspace.dataset(config.dataset.name)) as cohort:
        job = _job(config, workspace, cohort)
        if job.is_done():
            return report
        trained = train(job, progress)
    report.made, report.current = 1, 0
    figures = partial(auc_figures, settings=config.evaluate, by_exam=config.split.protocol == "thesis")
    report.figures |= {"exams": len(job.rows), "excluded": len(job.excluded), **figures(trained.scores.rows)}
    if trained.baseline is not None:
        report.figures |= figures(trained.baseline.rows, name="baseline_auc")
    return report


def _job(config: Config, workspace: Workspace, cohort: StoredCohort) -> Job:
    fuse, chosen, views = config.fuse, kind(config.fuse.model), chosen_views(config, cohort)
    split = Split.read(workspace.split)
    rows, excluded = counted_exams(config, cohort, views)
    # folds of all exams first, so that they are those of the autoencoders whatever the views
    folds = restrict(outer_folds(cohort.exams, split, config.split, config.seed), rows)
    folds = keep_matches_apart(cohort, folds, config.cohort)
    weights = MatchWeights.of(cohort, config.cohort) if config.cohort.match == "weight" else None
    watched = {each.name: each.test for each in folds} if config.split.protocol == "thesis" else {}
    baseline = trivial_kinds()[0] if fuse.baseline and cohort.kind == "celsius" else None
    compute = config.compute
    if compute.workers == 1 and fuse.processes > 1:
        compute = compute.model_copy(update={"workers": fuse.processes})
    return Job(
        chosen, fuse.name, Asked(config, workspace, views, exam_weights=weights, watched=watched), cohort, rows,
        tuple(folds), excluded, None if baseline == chosen else baseline, fuse.keep_folds, compute,
    )  # fmt: skip


def counted_exams(
    config: Config, cohort: Cohort, views: tuple[str, ...]
) -> tuple[IntArray, tuple[tuple[str, str], ...]]:  # fmt: skip
    """Rows of the exams that are scored, and (exam, reason) of those left out. Raises DataError when none is left."""
    chosen, _ = choose_rows(cohort, config.cohort)
    rows = np.intersect1d(chosen, complete_rows(cohort, views))
    kept, excluded = set(rows.tolist()), []
    present = {view: cohort.present(view) for view in views}
    for row, exam in enumerate(cohort.exams):
        if row not in kept:
            lacking = [view for view in views if not present[view][row]]
            reason = f"no {', '.join(lacking)} view" if lacking else "left out by the settings of cohort"
            excluded.append((exam.key, reason))
    if not kept:
        raise DataError(
            "no exam is left to train on", where=f"views {', '.join(views)}", found=f"{len(excluded)} excluded",
            hint="choose fewer views with fuse.views, or look into the settings of cohort",
        )  # fmt: skip
    return rows, tuple(excluded)
