"""``train-dit``: a sequence network on dynamic exams, scored out of sample on the folds of the split."""

from __future__ import annotations

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.protocol import Asked
from thermocancer.classifiers.run import Job, train
from thermocancer.classifiers.sequence.family import SequenceFamily
from thermocancer.classifiers.sequence.network import SequenceClassifier
from thermocancer.classifiers.sequence.readers import FrameReaders, check_frames
from thermocancer.config import Config
from thermocancer.config.base import Rendering
from thermocancer.config.schema import shown_rendering
from thermocancer.data.matching import MatchWeights, choose_rows, keep_matches_apart
from thermocancer.data.nuisance import MISSING_SHARE
from thermocancer.data.split import Split, dynamic_folds, restrict
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort, has_part
from thermocancer.errors import ConfigError
from thermocancer.evaluation.statistics.metrics import auc_figures
from thermocancer.kinds import DIT as STAGE
from thermocancer.kinds import backbone, only_kind_of
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    dit = config.dit
    item = f"runs/{dit.name}: {dit.backbone}, {dit.head} {dit.units}"
    path = workspace.dataset(config.dataset.name)
    if not path.exists():
        return Plan(STAGE, (item,), notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    with StoredCohort(path, DYNAMIC) as cohort:
        job = _job(config, workspace, cohort)
        if job.is_done():
            return Plan(STAGE, current=1)
        length = cohort.length(cohort.views[0])
        note = f"{len(job.rows)} exams, {len(dit.frames)} of {length} frames, {len(job.folds)} folds"
        return Plan(STAGE, (item,), notes=(note, *_without_temperatures(job)))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Cross-validate (or hold out), fit the network to keep, write the run. Raises DataError on unusable data."""
    report = StageReport(STAGE, current=1, outputs=[str(workspace.run(config.dit.name))])
    with StoredCohort(workspace.dataset(config.dataset.name), DYNAMIC) as cohort:
        job = _job(config, workspace, cohort)
        if job.is_done():
            return report
        running = strategy.set_up(config.strategy, config.seed)
        progress.note(running.why)
        if cohort.kind == "rgb" and shown_rendering(config) is None:
            report.notes.append("the frames are colours already: dit.rendering has no effect")
        report.notes += _without_temperatures(job)
        family = SequenceFamily(job.kind)
        network = family.network(job.asked, FrameReaders(job.asked.config, workspace))
        if config.split.protocol != "thesis":
            job.family.check_unseen(job.asked, cohort, job.folds)
        _read_features(job, network, progress)
        trained = train(job, progress, family.calibrated(network, job.asked))
    report.made, report.current = 1, 0
    report.figures |= {"exams": len(job.rows), "folds": len(job.folds)}
    by_exam = config.split.protocol == "thesis"
    report.figures |= auc_figures(trained.scores.rows, config.evaluate, by_exam=by_exam) | network.counts
    return report


def _job(config: Config, workspace: Workspace, cohort: StoredCohort) -> Job:
    config = with_shown_rendering(config, coloured=cohort.kind == "rgb")
    check_frames(cohort, config.dit.frames)
    rows, _ = choose_rows(cohort, config.cohort)
    weights = MatchWeights.of(cohort, config.cohort) if config.cohort.match == "weight" else None
    static = None
    if has_part(cohort.path, STATIC):
        with StoredCohort(cohort.path) as beside:
            static = beside.exams
    split = Split.read(workspace.split)
    folds = restrict(dynamic_folds(cohort.exams, static, split, config.split, config.seed), rows)
    folds = keep_matches_apart(cohort, folds, config.cohort)
    asked = Asked(config, workspace, cohort.views, exam_weights=weights)
    return Job(only_kind_of(STAGE), config.dit.name, asked, cohort, rows, tuple(folds))


def _without_temperatures(job: Job) -> list[str]:
    """A line where exams have pixels without a temperature, for no network reads the mask."""
    share = job.cohort.nuisance().get(MISSING_SHARE)
    count = 0 if share is None else int(np.count_nonzero(share[job.rows]))
    said = f"{count} of {len(job.rows)} exams lack temperatures in places (fill, NaN): the network sees the frame's own"
    return [f"{said} background there, and could tell exams by its outline"] * bool(count)


def with_shown_rendering(config: Config, *, coloured: bool) -> Config:
    """The settings with the colours of the pictures, where the data set holds pictures: what a run then records.

    Raises ConfigError where others are asked for: no picture is coloured twice.
    """
    shown = shown_rendering(config) if coloured else None
    if coloured and config.dit.rendering not in (Rendering(), shown):
        raise ConfigError(
            "the frames of this data set are colours already", where="dit.rendering",
            expected="nothing, or the colours that convert gave them, with the data set's own dataset settings",
            found=config.dit.rendering.colormap, hint="leave dit.rendering out",
        )  # fmt: skip
    if shown is None or config.dit.rendering == shown:
        return config
    return config.model_copy(update={"dit": config.dit.model_copy(update={"rendering": shown})})


def _read_features(job: Job, network: SequenceClassifier, progress: Progress) -> None:
    """Features of every exam by every reader, with a progress bar of their own: this is the long part."""
    own_readers = backbone(job.asked.config.dit.backbone).own
    for fold in job.folds if own_readers else job.folds[:1]:
        network.read_ahead(job.cohort, job.rows, fold.name, progress)
