"""``train-cnn``: a binary classifier on a folder of class images (the second original study)."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.calibrated import CalibratedFitted
from thermocancer.classifiers.crossval import MODELS, CrossValidation, cross_validate
from thermocancer.classifiers.image.family import ImageFamily
from thermocancer.classifiers.protocol import Asked, Fitted
from thermocancer.classifiers.seeds import Figures, SeedsFitted, seeds_of, seeds_table, spread_of
from thermocancer.config import Config
from thermocancer.data.cohort import IntArray
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import ImageFolder
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError
from thermocancer.evaluation.statistics.intervals import Estimate, auc_interval, percentile_interval
from thermocancer.evaluation.statistics.resampling import auc_of, patient_counts
from thermocancer.evaluation.statistics.units import units_of
from thermocancer.files import HashIndex
from thermocancer.kinds import CNN as STAGE
from thermocancer.kinds import only_kind_of
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.runs.deciding import decided_by, settings_of
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.predictions import Prediction, predictions_text, to_units
from thermocancer.runs.run import VALIDATION, read_run
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

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """Trained on and tested: the folder's parts, or patients in turn."""
        config = self.asked.config
        return self.cohort.folder.folds(config.cnn.folds, config.split.folds, config.seed)

    @cached_property
    def divided(self) -> list[tuple[IntArray, IntArray]]:
        """Of each fold, rows to train on and to validate on."""
        cnn, seed = self.asked.config.cnn, self.asked.config.seed
        first, divide = cnn.validation == "first", self.cohort.folder.divided
        return [divide(fold, cnn.validation_fraction, seed, first=first) for fold in self.folds]

    @property
    def parts(self) -> dict[str, int]:
        """Images to train on, to validate on and to test; of several folds the mean, but all that are tested."""
        parts = [np.mean([len(each[side]) for each in self.divided]) for side in (0, 1)]
        tested = sum(len(fold.test) for fold in self.folds)
        return {"train": round(float(parts[0])), "validation": round(float(parts[1])), "test": tested}

    @property
    def made_from(self) -> str:
        """Changes with everything that decides the result."""
        images, content = self.cohort.folder, self.family.content(self.asked, ())
        groups = [image.group for image in images.images]
        folds = [[each.name, each.test.tolist()] for each in self.folds] if len(self.folds) > 1 else []
        return decided_by(self.family.kind, self.asked.config, content, images.fingerprint, groups, *folds)

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
    _ = job.divided  # raises where a class is too small, before anything is decoded
    images, cohort, family, made_from = job.cohort.folder, job.cohort, job.family, job.made_from
    report = StageReport(STAGE, failed=list(images.rejected), outputs=[str(job.folder)], notes=[*images.notes])
    report.notes += _junk(images)
    if job.is_done():
        report.current = 1
        return report
    progress.note(strategy.set_up(config.strategy, config.seed).why)
    cohort.decode()
    folds, network = job.folds, family.network(job.asked, progress)
    classifier, kept = family.seeds(network, job.asked), workspace.cache / "folds" / made_from[:32]
    scores = cross_validate(
        classifier, cohort, folds, seed=config.seed, progress=progress, folder=kept, keep=len(folds) == 1,
        disjoint=config.cnn.copies == "refuse",
    )  # fmt: skip
    seeds = seeds_of(config.seed, _by_seed(scores))
    validation = [row if len(folds) > 1 else replace(row, fold="validation") for row in scores.inner]
    tested, validated = (
        [images.images[row].path for part in parts for row in part]
        for parts in ([fold.test for fold in folds], [held for _, held in job.divided])
    )

    def save_model(folder: Path) -> None:
        """The fold's own classifier, or of several folds one more, fitted on every image."""
        if len(folds) == 1:
            shutil.move(kept / MODELS / folds[0].name, folder)
        else:
            everything = np.arange(len(images.images))
            fitted = classifier.fit(cohort, everything, images.labels, seed=config.seed, fold="all")
            points = {each["seed"]: each["threshold"] for each in seeds}  # those of the figures
            members: dict[int, Fitted] = {
                seed: replace(each, threshold=points[seed])
                for seed, each in fitted.members.items()
                if isinstance(each, CalibratedFitted)
            }
            SeedsFitted.of(members, family).save(folder)

    tables = {VALIDATION: predictions_text(validation, validated), "seeds.csv": seeds_table(seeds)}
    if images.series:
        tables |= _of_series(scores, tested, config)
    write_run(
        job.folder, config, family.kind, made_from, _facts(job, scores, seeds), rows=scores.rows, files=tested,
        history=scores.history, tables=tables, save_model=save_model,
    )  # fmt: skip
    shutil.rmtree(kept)
    report.made = 1
    report.figures |= {"images": len(images.images), "parameters": network.trainer(cohort).whole.count_params()}
    report.figures |= spread_of(seeds)
    if len({row.label for row in scores.rows}) == 2:
        _say(report, config, workspace)
    return report


def _say(report: StageReport, config: Config, workspace: Workspace) -> None:
    """Figures with bounds and the verdict's words, as ``evaluate`` finds them before its audit."""
    from thermocancer.evaluation.report.judgement import judge
    from thermocancer.evaluation.report.page import Words
    from thermocancer.evaluation.report.verdict import verdict_of

    settings = config.evaluate.model_copy(update={"bootstrap": 100})  # which none of these figures comes from
    judged = judge(read_run(workspace, config.cnn.name), settings, config.seed, drawn=False)
    for name in ("accuracy", "auc", "sensitivity", "specificity"):
        found = judged.document[name]
        report.figures |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    told = verdict_of(judged.document, baseline_auc=None, audit=None, phantom=False, words=Words.of(judged.run))
    report.notes += [told["headline"], *told["sentences"]]


def _facts(job: Job, scores: CrossValidation, seeds: Sequence[Figures]) -> dict[str, object]:
    """What the manifest says of the run."""
    thresholds, images, family, config = scores.thresholds, job.cohort.folder, job.family, job.asked.config
    several, left_out = len(job.folds) > 1, [(each.item, each.reason) for each in images.rejected]
    return {
        "model": family.title(job.asked), "views": [], "protocol": "grouped-cv" if several else "holdout",
        "threshold": float(np.median(list(thresholds.values()))),
        **({"thresholds": thresholds} if several else {}),
        "dataset": {"name": job.cohort.name, "fingerprint": images.fingerprint}, "images": job.parts,
        "thresholds_of_seeds": {str(each["seed"]): each["threshold"] for each in seeds},
        "threshold_source": "fixed at 0.5" if config.cnn.aim == "fixed" else f"validation images: {config.cnn.aim}",
        "seeds": seeds, "spread": spread_of(seeds), "leaks": family.leaks(job.asked, job.cohort, job.folds),
        "seed": config.seed, "settings": settings_of(family.kind, config),
        **family.facts(job.asked, job.cohort, job.folds[0].test, left_out),
    }  # fmt: skip


def _of_series(scores: CrossValidation, files: Sequence[str], config: Config) -> dict[str, str]:
    """Tables by series and by patient."""
    judged = config.evaluate.confidence, config.evaluate.bootstrap, config.seed
    return {"series.csv": series_table(scores.rows, files), "patients.csv": patients_table(scores.rows, *judged)}


def _junk(images: ImageFolder) -> list[str]:
    count, names = len(images.junk), ", ".join(images.junk[:3]) + (", ..." if len(images.junk) > 3 else "")
    return [f"{count} files are no pictures, or left by an editor or file manager: not taken ({names})"] * bool(count)


def _by_seed(scores: CrossValidation) -> list[tuple[float, list[Prediction], list[Prediction]]]:
    """Of each seed, over all folds: its threshold (their median), its scores of held-back and of tested images."""
    found = []
    for own in zip(*(fold.members for fold in scores.folds), strict=True):
        threshold = float(np.median([each.threshold for each in own]))
        found.append((threshold, [r for each in own for r in each.inner], [r for each in own for r in each.rows]))
    return found


def series_table(rows: Sequence[Prediction], files: Sequence[str]) -> str:
    """One line a series as CSV: its slices' mean score, and the majority of their decisions."""
    found: dict[str, list[Prediction]] = {}
    for row, file in zip(rows, files, strict=True):
        found.setdefault(file.partition("#")[0], []).append(row)
    lines: list[tuple[str, ...]] = [("series", "patient", "fold", "label", "slices", "score", "predicted")]
    for series, own in sorted(found.items()):
        (unit,) = to_units(own, by_exam=True)
        known = (series, unit.patient, own[0].fold, unit.label, len(own), repr(float(unit.score)), unit.predicted)
        lines.append(tuple(map(str, known)))
    return _csv(lines)


def patients_table(rows: Sequence[Prediction], confidence: float, bootstrap: int, seed: int) -> str:
    """AUC by slice of every patient with slices of both classes, and of all of them together, as CSV.

    Slices of one volume are alike: a patient's interval is of their slices alone and says nothing of other patients;
    that of all, pooled, is a bootstrap of whole patients, which with a handful of them is too narrow.
    """
    lines: list[tuple[str, ...]] = [("patient", "slices", "positive", "score", "auc", "low", "high")]
    names = ("patient", "label", "score")
    patients, labels, scores = (np.array([getattr(row, name) for row in rows]) for name in names)
    for patient in ["all", *np.unique(patients).tolist()]:
        own = np.ones(len(rows), bool) if patient == "all" else patients == patient
        found = Estimate(None, None, None, "one class")
        if patient == "all":
            value = float(auc_of(np.ones((1, len(rows))), labels, scores)[0])
            replicates = auc_of(patient_counts(patients, bootstrap, seed), labels, scores)
            found = percentile_interval(replicates, value, confidence, "whole patients drawn")
        elif len(set(labels[own].tolist())) == 2:
            found = auc_interval(units_of(labels[own], scores[own]), confidence)
        figures = (float(scores[own].mean()), found.value, found.low, found.high)
        known = (patient, own.sum(), labels[own].sum(), *figures)
        lines.append(tuple("" if each is None else str(each) for each in known))
    return _csv(lines)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def _job(config: Config, workspace: Workspace, index: HashIndex, progress: Progress) -> Job:
    cnn = config.cnn
    if cnn.data is None:
        raise ConfigError("no image folder is named", where="cnn.data", hint="thermocancer train-cnn --data DIR")
    if not cnn.train and cnn.init is None:
        raise ConfigError("cnn.train: false judges the weights of cnn.init, which is not set", where="cnn.init")
    cohort = ImageCohort.of(cnn, workspace.cache, index, progress)
    return Job(Asked(config, workspace, cohort.views), cohort)
