"""One run of a classifier, the same for every kind: check, score fold by fold, fit what is kept, write it down.

``Job`` is everything decided before any work; ``train`` is the work as a list of named steps.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thermocancer.classifiers.calibrated import CalibratedFitted, describe_aim
from thermocancer.classifiers.crossval import MODELS, CrossValidation, cross_validate
from thermocancer.classifiers.making import make_classifier
from thermocancer.classifiers.protocol import CLASSIFIER_FILE, Asked, Classifier, Family
from thermocancer.compute import one_thread
from thermocancer.config.learning import ComputeSection
from thermocancer.config.schema import shown_rendering
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import MatchWeights
from thermocancer.data.split import Fold, thesis_leaks
from thermocancer.data.store.reading import StoredCohort
from thermocancer.kinds import Kind, Reads
from thermocancer.progress import Progress
from thermocancer.runs.deciding import decided_by, settings_of
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.writing import write_run
from thermocancer.workspace import Stamp

FEWEST_KEPT = 3
"""Models of fewer folds say nothing of how far they disagree."""


@dataclass(frozen=True)
class Job:
    """One run: who decides, on which exams and folds, beside which baseline.

    ``rows`` are the exams that count, ``excluded`` the others with the reason; ``kept_folds``: the folds'
    classifiers are kept too, or (None) only where there are three or more and they are small (``fuse.fold_bytes``).
    """

    kind: Kind
    name: str
    asked: Asked
    cohort: StoredCohort
    rows: IntArray
    folds: tuple[Fold, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    baseline: Kind | None = None
    kept_folds: bool | None = None
    compute: ComputeSection | None = None

    @property
    def folder(self) -> Path:
        return self.asked.workspace.run(self.name)

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.folder / MANIFEST)

    @property
    def family(self) -> Family:
        family: Family = self.kind.family()
        return family

    def is_done(self) -> bool:
        return self.stamp.is_current(self.made_from)

    @property
    def made_from(self) -> str:
        """Changes with everything that decides what stands in the run's folder."""
        folds = [[each.name, each.train.tolist(), each.test.tolist()] for each in self.folds]
        baseline = None if self.baseline is None else self.scores_from(self.baseline)
        return decided_by(
            self.kind, self.asked.config, self.scores_from(self.kind), folds, baseline, bool(self.kept_folds),
            self.asked.config.dataset.name,
        )  # fmt: skip

    def scores_from(self, kind: Kind) -> str:
        """What a kind's scores of single folds are made from; runs that differ in nothing else share them."""
        weights = self.asked.exam_weights
        content = kind.family().content(self.asked, [each.name for each in self.folds])
        matched = weights.identity if isinstance(weights, MatchWeights) else None
        return decided_by(kind, self.asked.config, self.asked.views, content, self.cohort.fingerprint, matched)

    def fold_folder(self, kind: Kind) -> Path:
        """Where finished folds wait for the others."""
        return self.asked.workspace.cache / "folds" / self.scores_from(kind)[:32]

    @property
    def keeps_folds(self) -> bool:
        """Are the folds' classifiers to be kept, if they are small enough?"""
        return len(self.folds) >= FEWEST_KEPT if self.kept_folds is None else self.kept_folds

    def classifier(self, kind: Kind) -> Classifier:
        asked = self.asked
        return make_classifier(
            asked.config, asked.workspace, name=kind.name, views=asked.views, exam_weights=asked.exam_weights,
            watched=asked.watched,
        )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """What a job gave: the scores of its kind and of the baseline."""

    scores: CrossValidation
    baseline: CrossValidation | None


def train(job: Job, progress: Progress, classifier: Classifier | None = None) -> Trained:
    """Do the work of a job. ``classifier`` is its own, where the caller has prepared it."""
    asked, thesis = job.asked, job.asked.config.split.protocol == "thesis"
    for key, reason in job.excluded:
        progress.note(f"exam {key} is not used: {reason}")
    if not thesis:
        job.family.check_unseen(asked, job.cohort, job.folds)
    job.family.ready(asked, progress)
    classifier = classifier or job.classifier(job.kind)
    scores = _score_folds(job, job.kind, classifier, progress)
    baseline = None
    if job.baseline is not None:
        baseline = _score_folds(job, job.baseline, job.classifier(job.baseline), progress)

    def save_model(folder: Path) -> None:
        """Fit the classifier that ``predict`` uses: on every exam, or on the training part of a hold-out."""
        fold = Fold("all", job.rows, job.rows) if len(job.folds) > 1 else job.folds[0]
        labels = np.array([job.cohort.exams[row].label for row in fold.train], dtype=np.int64)
        with one_thread():
            fitted = classifier.fit(job.cohort, fold.train, labels, seed=asked.config.seed, fold=fold.name)
        if isinstance(fitted, CalibratedFitted):  # one operating point: that of the figures, here and in predict
            fitted = replace(fitted, threshold=float(np.median(list(scores.thresholds.values()))))
        fitted.save(folder)
        kept = [job.fold_folder(job.kind) / MODELS / fold.name for fold in job.folds]
        if job.keeps_folds and all((each / CLASSIFIER_FILE).is_file() for each in kept):
            for each in kept:
                shutil.copytree(each, folder / "folds" / each.name)

    write_run(
        job.folder, asked.config, job.kind, job.made_from, _facts(job, scores), rows=scores.rows,
        history=scores.history, inner=scores.inner, baseline=() if baseline is None else baseline.rows,
        save_model=save_model,
    )  # fmt: skip
    return Trained(scores, baseline)


def _score_folds(job: Job, kind: Kind, classifier: Classifier, progress: Progress) -> CrossValidation:
    return cross_validate(
        classifier, job.cohort, job.folds, seed=job.asked.config.seed, progress=progress, folder=job.fold_folder(kind),
        disjoint=job.asked.config.split.protocol != "thesis", compute=job.compute,
        keep=job.keeps_folds and kind is job.kind,
        most_bytes=None if job.kept_folds else job.asked.config.fuse.fold_bytes,
        title=f"{kind.name} folds",
    )  # fmt: skip


def _facts(job: Job, scores: CrossValidation) -> dict[str, object]:
    """What the manifest says of the run."""
    config, exams = job.asked.config, [job.cohort.exams[row] for row in job.rows]
    aim, sensitivity = job.family.aim(job.asked)
    facts: dict[str, object] = {
        "model": job.family.title(job.asked),
        "views": list(job.asked.views),
        "protocol": config.split.protocol,
        "dataset": {"name": job.cohort.name, "fingerprint": job.cohort.fingerprint},
        **threshold_facts(scores),
        "threshold_source": describe_aim(aim, sensitivity, config.split.protocol),
        "leaks": leaks_of(job.kind, job.asked, job.cohort, job.folds),
        "exams": len(exams),
        "patients": len({exam.patient for exam in exams}),
        "sick": sum(exam.label for exam in exams),
        "seed": config.seed,
        "settings": settings_of(job.kind, config),
    }
    return facts | job.family.facts(job.asked, job.cohort, job.rows, job.excluded)


def threshold_facts(scores: CrossValidation) -> dict[str, object]:
    """The thresholds of the folds, and their median."""
    return {"thresholds": scores.thresholds, "threshold": float(np.median(list(scores.thresholds.values())))}


# --- what a run's scores had to do with its training: named in the manifest, never hidden ---


CHOSEN_ON_TEST = "threshold fixed at 0.5, models chosen on the test part"


def leaks_of(kind: Kind, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
    """What the scored exams of a run, or its choice of model and threshold, had to do with training."""
    found = []
    if asked.config.split.protocol == "thesis":
        found = [*thesis_leaks(cohort.exams, folds), CHOSEN_ON_TEST, *_lost_in_rendering(kind, asked, cohort)]
    found += kind.family().leaks(asked, cohort, folds)
    return list(dict.fromkeys(found))


def _lost_in_rendering(kind: Kind, asked: Asked, cohort: Cohort) -> list[str]:
    """Defects of the original recipe's pictures, as far as this run shares them."""
    config, coloured = asked.config, cohort.kind == "rgb"
    convert = config.convert
    if kind.reads is Reads.FRAMES:
        rendering = shown_rendering(config) if coloured else config.dit.rendering
        films = coloured and config.dataset.frames_from == "videos"
        compressed = [f"{convert.video_codec} videos"] if films and convert.video_codec == "DIVX" else []
        compressed += ["JPEG images"] if films and convert.video_jpeg is not None else []
    else:
        rendering = convert.rendering if coloured else config.autoencoder.input.rendering
        films, compressed = False, []
    compressed += ["JPEG images"] if coloured and not films and convert.format == "jpg" else []
    sees_colours = coloured or kind.reads in (Reads.CODES, Reads.FRAMES)
    found = []
    if rendering is not None and sees_colours and rendering.range == "minmax":
        found.append("each image scaled by its own minimum and maximum: absolute temperature lost, noise stretched")
    if rendering is not None and sees_colours and rendering.colormap in REPEATS_COLOURS:
        found.append(f"the colours of {rendering.colormap} repeat: different temperatures, same colour")
    return found + [f"{each} instead of temperatures" for each in compressed]


REPEATS_COLOURS = ("prism", "flag")
"""Colour maps that go through the same colours several times."""
