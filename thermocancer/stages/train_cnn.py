"""``train-cnn``: a binary classifier on a folder of class images (the second original study)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.crossval import MODELS, cross_validate
from thermocancer.classifiers.image.family import ImageFamily
from thermocancer.classifiers.protocol import Asked
from thermocancer.classifiers.seeds import seeds_of, seeds_table, spread_of
from thermocancer.config import Config
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import ImageFolder
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError
from thermocancer.files import HashIndex
from thermocancer.kinds import CNN as STAGE
from thermocancer.kinds import only_kind_of
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.runs.deciding import decided_by, settings_of
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.predictions import predictions_text
from thermocancer.runs.run import VALIDATION
from thermocancer.runs.writing import write_run
from thermocancer.workspace import Stamp, Workspace


@dataclass(frozen=True)
class Job:
    """One run: the images as they lie there now, and what is asked for."""

    asked: Asked
    cohort: ImageCohort

    @property
    def folder(self) -> Path:
        return self.asked.workspace.run(self.asked.config.cnn.name)

    @property
    def family(self) -> ImageFamily:
        return ImageFamily(only_kind_of(STAGE))

    @property
    def parts(self) -> dict[str, int]:
        """Images to train on, to validate on and to test."""
        cnn = self.asked.config.cnn
        first = cnn.validation == "first"
        rows = self.cohort.folder.parts(cnn.validation_fraction, self.asked.config.seed, first=first)
        return dict(zip(("train", "validation", "test"), (len(part) for part in rows), strict=True))

    @property
    def made_from(self) -> str:
        """Changes with everything that decides the result."""
        images, content = self.cohort.folder, self.family.content(self.asked, ())
        groups = [image.group for image in images.images]
        return decided_by(self.family.kind, self.asked.config, content, images.fingerprint, groups)

    def is_done(self) -> bool:
        return Stamp(self.folder / MANIFEST).is_current(self.made_from)


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would do. Touches nothing."""
    job = _job(config, workspace, HashIndex(workspace.cache / "image_hashes.json"), Silent())
    parts, images = job.parts, job.cohort.folder
    if job.is_done():
        return Plan(STAGE, current=1)
    counts = f"{parts['train']} to train, {parts['validation']} to validate, {parts['test']} to test"
    notes = (
        f"{' and '.join(images.classes)}: {counts}",
        *images.notes,
        *_junk(images),
        f"{len(images.rejected)} left out",
    )
    return Plan(STAGE, (f"runs/{config.cnn.name}: {config.cnn.model}, {config.cnn.seeds} seeds",), notes=notes)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Train every seed, choose thresholds on validation images, score the test images, write the run.

    Raises DataError when the folder cannot be used; images that cannot are listed as failed.
    """
    index = HashIndex(workspace.cache / "image_hashes.json")
    job = _job(config, workspace, index, progress)
    index.save()
    parts, images, cohort, family, made_from = job.parts, job.cohort.folder, job.cohort, job.family, job.made_from
    report = StageReport(STAGE, failed=list(images.rejected), outputs=[str(job.folder)], notes=[*images.notes])
    report.notes += _junk(images)
    if job.is_done():
        report.current = 1
        return report
    progress.note(strategy.set_up(config.strategy, config.seed).why)
    cohort.decode()
    fold, network = Fold("test", images.rows("Train"), images.rows("Test")), family.network(job.asked, progress)
    classifier, kept = family.seeds(network, job.asked), workspace.cache / "folds" / made_from[:32]
    scores = cross_validate(
        classifier, cohort, (fold,), seed=config.seed, folder=kept, keep=True, disjoint=config.cnn.copies == "refuse"
    )
    (whole,) = scores.folds
    seeds = seeds_of(config.seed, [(each.threshold, each.inner, each.rows) for each in whole.members])
    validation, paths = [replace(row, fold="validation") for row in whole.inner], images.paths
    tested, validated = ([paths[row.patient, row.visit] for row in rows] for rows in (whole.rows, validation))
    facts = {
        "model": family.title(job.asked), "views": [], "protocol": "holdout", "threshold": whole.threshold,
        "dataset": {"name": cohort.name, "fingerprint": images.fingerprint}, "images": parts,
        "thresholds_of_seeds": {str(each["seed"]): each["threshold"] for each in seeds},
        "threshold_source": "fixed at 0.5" if config.cnn.aim == "fixed" else f"validation images: {config.cnn.aim}",
        "seeds": seeds, "spread": spread_of(seeds), "leaks": family.leaks(job.asked, cohort, (fold,)),
        "seed": config.seed, "settings": settings_of(family.kind, config),
        **family.facts(job.asked, cohort, fold.test, [(each.item, each.reason) for each in images.rejected]),
    }  # fmt: skip
    write_run(
        job.folder, config, family.kind, made_from, facts, rows=whole.rows, files=tested, history=scores.history,
        tables={VALIDATION: predictions_text(validation, validated), "seeds.csv": seeds_table(seeds)},
        save_model=lambda folder: shutil.move(kept / MODELS / fold.name, folder),
    )  # fmt: skip
    shutil.rmtree(kept)
    report.made = 1
    report.figures |= {"images": len(images.images), "parameters": network.trainer(cohort).whole.count_params()}
    report.figures |= spread_of(seeds)
    report.figures["accuracy"] = float(np.mean([row.predicted == row.label for row in whole.rows]))
    return report


def _junk(images: ImageFolder) -> list[str]:
    count, names = len(images.junk), ", ".join(images.junk[:3]) + (", ..." if len(images.junk) > 3 else "")
    return [f"{count} files are no pictures, or left by an editor or file manager: not taken ({names})"] * bool(count)


def _job(config: Config, workspace: Workspace, index: HashIndex, progress: Progress) -> Job:
    cnn = config.cnn
    if cnn.data is None:
        raise ConfigError("no image folder is named", where="cnn.data", hint="thermocancer train-cnn --data DIR")
    if not cnn.train and cnn.init is None:
        raise ConfigError("cnn.train: false judges the weights of cnn.init, which is not set", where="cnn.init")
    cohort = ImageCohort.of(cnn, workspace.cache, index, progress)
    return Job(Asked(config, workspace, cohort.views), cohort)
