"""``train-ae``: one autoencoder a view, and one inside every outer fold of cross-validation.

A view's model is built and compiled once; each training starts it again from its own seed. A
finished training is stamped at once, so that a killed stage goes on with the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from thermocancer import strategy
from thermocancer.compute import run_all, worker_count
from thermocancer.config import Config
from thermocancer.config.schema import autoencoder_dataset
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array, input_channels
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError, RunError
from thermocancer.files import sweep, write_bytes, write_text
from thermocancer.kinds import AE as STAGE
from thermocancer.models.summary import SUFFIX, diagram, layers_of
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Part, Progress, SilentTask, Task
from thermocancer.strategy import Running
from thermocancer.strategy.running import LostHostError
from thermocancer.training import autoencoder as ae
from thermocancer.training.autoencoder import Images, Training, psnr, ssim, trainings
from thermocancer.training.checkpoint import Snapshot, save_model
from thermocancer.training.fit import FitResult, FitSettings, fit_resumable, forget
from thermocancer.workspace import Workspace, output_hashes

if TYPE_CHECKING:
    import keras

MOST_JUDGED = 32
"""PSNR and SSIM are means over at most so many validation images, evenly chosen."""

LAYERS = "layers.svg"
MOST_DRAWN = 6
JUDGED_AT_ONCE = 8
ADDED = ("seconds", "steps", "waited_seconds", "folds")
"""Figures of a view that the trainings of its folds add to."""


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    path = workspace.dataset(autoencoder_dataset(config))
    variant = config.autoencoder.variant
    if not path.exists() or not workspace.split.exists():
        views = config.autoencoder.views or config.dataset.views or config.filter.views
        todo = tuple(f"autoencoder {variant} {view}" for view in views)
        return Plan(STAGE, todo, notes=(f"{path} is not there yet: thermocancer build-dataset makes it",))
    with StoredCohort(path) as source:
        jobs = list(trainings(config, workspace, source))
    missing = [each for each in jobs if not each.stamp.is_current(each.made_from)]
    lines = tuple(
        f"autoencoder {variant} {each.title}: {len(each.train)} images, {_epochs(config, [each])} epochs"
        for each in missing
    )
    return Plan(STAGE, lines, current=len(jobs) - len(missing))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Train what is missing or out of date. Raises DataError when no view can be trained."""
    report = StageReport(STAGE)
    with StoredCohort(workspace.dataset(autoencoder_dataset(config))) as source:
        jobs = list(trainings(config, workspace, source))
        todo = [each for each in jobs if not _is_done(each)]
        report.current = len(jobs) - len(todo)
        if not todo:
            return report
        with progress.task(f"autoencoders {config.autoencoder.variant}", _epochs(config, todo), "epochs") as task:
            if worker_count(config.compute, len(todo)) > 1:
                _train_beside(config, workspace, todo, report, task, progress.note)
            else:
                running = strategy.set_up(config.strategy, config.seed)
                running.engine.barrier("train-ae: every process has seen what is to be done")
                report.notes.append(running.why)
                _train_all(_Work(config, workspace, source, running, report, task), todo)
    report.current = len(jobs) - report.made - len(report.failed)
    if not report.made and not report.current:
        raise DataError("no autoencoder could be trained", found="; ".join(each.reason for each in report.failed[:3]))
    return report


def _epochs(config: Config, jobs: list[Training]) -> int:
    return sum(ae.course_of(config.autoencoder, len(job.train)).epochs for job in jobs)


def _is_done(job: Training) -> bool:
    if not job.stamp.is_current(job.made_from):
        return False
    _forget(job)  # a kill may have come between the stamp and this
    return True


def _forget(job: Training) -> None:
    forget(job.folder / ae.CHECKPOINT_FOLDER)
    sweep(job.folder)


Given = TypeVar("Given")


@dataclass(frozen=True)
class _Work:
    config: Config
    workspace: Workspace
    source: Cohort
    running: Running
    report: StageReport
    task: Task
    held: dict[str, dict[int, Float32Array]] = field(default_factory=dict)

    def examples(self, view: str, rows: IntArray) -> ae.ViewExamples:
        """Some images of a view; where the whole view is small it is held for every fold of it."""
        section = self.config.autoencoder.input
        size = 4 * len(self.source.exams) * math.prod(self.source.shape) * input_channels(section)
        if view not in self.held:
            self.held.clear()
        held = self.held.setdefault(view, {}) if size <= ae.MOST_HELD else None
        return ae.ViewExamples(self.source, view, rows, section, held=held)


def _compiled(work: _Work) -> tuple[keras.Model, Snapshot]:
    """The model and its first state. All have one architecture: one is compiled and started again for each."""
    from thermocancer.models.autoencoder import build_autoencoder
    from thermocancer.training.fit import Compilation, compile_model

    section = work.config.autoencoder
    with work.running.scope():
        model = build_autoencoder(section.variant, work.source.shape, input_channels(section.input))
        how = Compilation("mse", optimizer=section.optimizer)  # the schedule sets the rate of every step
        compile_model(model, how, work.running)
    return model, Snapshot.of(model)


def _train_all(work: _Work, jobs: list[Training]) -> None:
    """Train every model; one that cannot be trained is listed and the others go on."""
    model, start = _compiled(work)
    commits = []
    with ThreadPoolExecutor(1) as beside:  # figures and files of one model are made while the next one trains
        for job in jobs:
            commit = _try(work, job, partial(_train, work, model, start, job))
            if commit is not None:
                commits.append(beside.submit(_try, work, job, commit))
    for each in commits:
        each.result()


def _try(work: _Work, job: Training, part: Callable[[], Given]) -> Given | None:
    try:
        return part()
    except LostHostError:
        raise
    except (DataError, RunError) as error:
        work.report.failed.append(Failure(job.title, str(error)))
    return None


@dataclass(frozen=True)
class _Beside:
    """The trainings of a config in a worker, which compiles one model for all that it is given."""

    config: Config
    workspace: Workspace
    _ready: list[tuple[_Work, keras.Model, Snapshot]] = field(default_factory=list, repr=False, compare=False)

    def run(self, job: Training) -> tuple[Training, StageReport]:
        """Train one and write its folder; gives the part of the stage's report that tells of it."""
        report, task = StageReport(STAGE), SilentTask()
        if not self._ready:
            running = strategy.set_up(self.config.strategy, self.config.seed)
            source: Cohort = StoredCohort(self.workspace.dataset(autoencoder_dataset(self.config)))
            work = _Work(self.config, self.workspace, source, running, report, task)
            self._ready.append((work, *_compiled(work)))
        work, model, start = self._ready[0]
        report.notes.append(work.running.why)
        work = replace(work, report=report)
        commit = _try(work, job, partial(_train, work, model, start, job))
        if commit is not None:
            _try(work, job, commit)
        return job, report


def _train_beside(
    config: Config, workspace: Workspace, jobs: list[Training], report: StageReport, task: Task,
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """The same on the workers of ``compute``; the report tells of them in the order in which they were asked for."""
    found: dict[str, StageReport] = {}
    for job, part in run_all(_Beside(config, workspace), jobs, config.compute, tell):
        found[job.title] = part
        task.advance(_epochs(config, [job]))
        task.say(job.title)
    for part in (found[job.title] for job in jobs):
        report.made += part.made
        report.failed += part.failed
        report.notes += [note for note in part.notes if note not in report.notes]
        report.outputs += part.outputs
        for view, own in part.figures.items():
            known = report.figures.setdefault(view, dict.fromkeys(ADDED, 0))
            added = {name: round(known[name] + own[name], 3) for name in ADDED}
            known |= own | added


def _train(work: _Work, model: keras.Model, start: Snapshot, job: Training) -> Callable[[], None]:
    """Train one and save the model, which the next training changes; gives what is left to do for it to count."""
    from thermocancer.models.autoencoder import restart

    section = work.config.autoencoder
    if len(job.train) == 0 or len(job.validate) == 0:
        raise DataError(
            "no image to train or validate with", where=job.title, found=f"{len(job.train)} training images"
        )
    start.put_into(model)
    restart(model, job.seed)
    course = ae.course_of(section, len(job.train))
    settings = FitSettings(
        epochs=course.epochs, batch=course.batch, seed=job.seed, identity=job.made_from,
        schedule=course.schedule, patience=section.patience, checkpoint_every=section.checkpoint_every,
        keep="last" if work.config.split.protocol == "thesis" else "best",
    )  # fmt: skip
    result = fit_resumable(
        model,
        work.examples(job.view, job.train), validation=work.examples(job.view, job.validate),
        folder=job.folder / ae.CHECKPOINT_FOLDER, settings=settings, running=work.running,
        task=Part(work.task, job.title, counts=True),
    )  # fmt: skip
    judged = _judge(work, model, job) if job.fold in ae.WHOLE_SPLIT else None
    if work.running.is_writer:
        save_model(model, job.folder / ae.MODEL)
        write_text(job.folder / LAYERS, diagram(model.name, layers_of(model)))
    return partial(_commit, work, job, result, judged)


def _commit(work: _Work, job: Training, result: FitResult, judged: _Judged | None) -> None:
    """Write history and figures, then the manifest that makes them and the model count."""
    from thermocancer.runs.history import write_history
    from thermocancer.runs.manifest import AutoencoderManifest

    facts = {"val_loss": result.history[result.kept_epoch - 1]["val_loss"], "epochs": len(result.history)}
    outputs = [job.folder / name for name in (ae.MODEL, ae.HISTORY, Path(ae.MODEL).with_suffix(SUFFIX), LAYERS)]
    if judged is not None:
        facts |= {"psnr": float(judged.psnr.mean()), "ssim": float(judged.ssim.mean())}
    if work.running.is_writer:
        write_history(outputs[1], result.history)
        if judged is not None:
            from thermocancer.evaluation.report.figures import draw_history, draw_reconstructions

            curves = draw_history(result.history)
            if curves is not None:
                outputs.append(job.folder / ae.LEARNING)
                write_bytes(outputs[-1], curves)
            outputs.append(job.folder / ae.RECONSTRUCTIONS)
            titles = [f"exam {work.source.exams[row].key}" for row in judged.rows]
            headline = (
                f"{work.config.autoencoder.variant} {job.view}, validation images: MSE {facts['val_loss']:.5f}, "
                f"PSNR {facts['psnr']:.1f} dB, SSIM {facts['ssim']:.3f}"
            )
            draw_reconstructions(outputs[-1], judged.truth, judged.found, titles, headline)
        section = work.config.autoencoder
        manifest = facts | {
            "stage": STAGE,
            "variant": section.variant,
            "view": job.view,
            "fold": job.fold,
            "input": section.input.model_dump(mode="json"),
            "shape": list(work.source.shape),
            "protocol": work.config.split.protocol,
            "leaks": list(job.leaks),
            "patients": sorted({work.source.exams[row].patient for row in np.concatenate([job.train, job.validate])}),
            "images": {"train": len(job.train), "validation": len(job.validate)},
            "best_epoch": result.kept_epoch,
            "trained_exams": [work.source.exams[row].key for row in job.train],
            "dataset": {"name": autoencoder_dataset(work.config)},
            "seed": job.seed,
            "made_from": job.made_from,
        }
        manifest["outputs"] = output_hashes(job.folder, outputs)
        AutoencoderManifest.model_validate(manifest).write(job.stamp.path)
        _forget(job)
    _tell(work.report, job, result, facts)
    work.report.made += 1


@dataclass(frozen=True)
class _Judged:
    """Reconstructions of validation images and their quality; the first few images are kept to be drawn."""

    psnr: FloatArray
    ssim: FloatArray
    truth: Images
    found: Images
    rows: IntArray


def _judge(work: _Work, model: keras.Model, job: Training) -> _Judged:
    from thermocancer.training.batches import predict

    count = min(MOST_JUDGED, len(job.validate))
    rows = job.validate[np.linspace(0, len(job.validate) - 1, count).astype(int)]
    examples = work.examples(job.view, rows)
    psnrs, ssims, truths, founds = [], [], [], []
    drawn = 0
    for _, truth, found in predict(model, examples, JUDGED_AT_ONCE, work.running):
        psnrs.append(psnr(truth, found))
        ssims.append(ssim(truth, found))
        if drawn < MOST_DRAWN:
            truths.append(truth[: MOST_DRAWN - drawn])
            founds.append(found[: MOST_DRAWN - drawn])
            drawn += len(truths[-1])
    return _Judged(
        np.concatenate(psnrs), np.concatenate(ssims), np.concatenate(truths), np.concatenate(founds), rows[:drawn]
    )


def _tell(report: StageReport, job: Training, result: FitResult, facts: dict[str, float]) -> None:
    """Figures of the view's main model; the folds only add to its time."""
    own = report.figures.setdefault(job.view, {"seconds": 0.0, "steps": 0, "waited_seconds": 0.0, "folds": 0})
    own["seconds"] = round(own["seconds"] + result.seconds, 3)
    own["waited_seconds"] = round(own["waited_seconds"] + result.waited_seconds, 3)
    own["steps"] += result.steps
    if job.fold in ae.WHOLE_SPLIT:
        own |= {name: round(value, 6) for name, value in facts.items()}
        own["best_epoch"] = result.kept_epoch
        report.notes.append(
            f"{job.view}: validation MSE {facts['val_loss']:.3g}, PSNR {facts['psnr']:.1f} dB, "
            f"SSIM {facts['ssim']:.3f}, weights of epoch {result.kept_epoch} of {facts['epochs']}"
        )
        report.outputs.append(str(job.folder))
    else:
        own["folds"] += 1
