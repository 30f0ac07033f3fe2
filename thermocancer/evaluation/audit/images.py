"""The audit of a run of ``train-cnn``: its folder read again, and the controls that can be had of single images.

They are cheap on purpose: short trainings for the permuted labels (``evaluate.audit_image_epochs``), one pass over the
images for the untrained twin and one over the files for what tells them apart by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from thermocancer import __version__
from thermocancer.cache import cached_json
from thermocancer.classifiers.logistic import ColumnsClassifier
from thermocancer.classifiers.protocol import Asked, Classifier, Unavailable
from thermocancer.config import Config
from thermocancer.data.cohort import IMAGE, Cohort, FloatArray, IntArray, colours
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import ImageFolder
from thermocancer.data.nuisance import measure_picture
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.controls import (
    BASELINE,
    Control,
    Judge,
    LeftOut,
    Permuted,
    measure_controls,
    rows_of,
)
from thermocancer.evaluation.audit.nuisance import nuisance_controls
from thermocancer.evaluation.audit.refits import FEW_PERMUTATIONS, judge_permuted, judge_untrained, shuffled
from thermocancer.evaluation.audit.scope import Scope, Variable, category
from thermocancer.files import HashIndex, Json, fingerprint
from thermocancer.progress import Progress
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.thermal.pictures import encoding_of
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from thermocancer.classifiers.image.family import ImageFamily

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)

NOT_FOR_IMAGES = (
    ("pairs alike in date and room", "nothing is recorded of when and where image files were made"),
    ("leaky twin", "train-cnn keeps the parts that the folder gives; nothing is divided again"),
    ("torso only, background only, early to late", "image files hold neither degrees to find a body by nor dates"),
)
"""Controls of thermograms that single images do not allow, and why."""


@dataclass(frozen=True)
class ImageRefitting:
    """The folder behind a run, divided as the run divided it, and what controls need besides.

    ``config`` is the run's own; ``train``, ``validation`` and ``test`` are rows of ``cohort``, of the first of
    ``folds`` where patients were tested in turn (``by_fold`` has each).
    """

    run: Run
    config: Config
    workspace: Workspace
    judge: Judge
    epochs: int
    cohort: ImageCohort
    train: IntArray
    validation: IntArray
    test: IntArray
    permutations: int | None = None
    folds: tuple[Fold, ...] = ()

    @property
    def images(self) -> ImageFolder:
        return self.cohort.folder

    @property
    def family(self) -> ImageFamily:
        from thermocancer.classifiers.image.family import ImageFamily

        return ImageFamily(self.run.kind)

    @property
    def asked(self) -> Asked:
        return Asked(self.config, self.workspace, self.cohort.views)

    @property
    def fold(self) -> Fold:
        """Trained or validated on, and tested."""
        name = self.folds[0].name if self.folds else "test"
        return Fold(name, np.sort(np.concatenate([self.train, self.validation])), self.test)

    @cached_property
    def by_fold(self) -> list[ImageRefitting]:
        """The same for each fold by itself."""
        if len(self.folds) < 2:
            return [self]
        cnn, seed = self.config.cnn, self.config.seed
        parts = [
            (fold, *self.images.divided(fold, cnn.validation_fraction, seed, first=cnn.validation == "first"))
            for fold in self.folds
        ]
        return [
            replace(self, train=train, validation=validation, test=fold.test, folds=(fold,))
            for fold, train, validation in parts
        ]

    @property
    def exchanged(self) -> list[IntArray]:
        """Within which rows groups of one class may swap their labels: those that one fold tests, or each part."""
        tested = [fold.test for fold in self.folds]
        return tested if len(tested) > 1 else [self.test, self.validation, self.train]

    def rows(self, scores: FloatArray, labels: IntArray | None = None) -> list[Prediction]:
        """Scores (len(test),) of the test images as prediction rows."""
        return rows_of(self.cohort.exams, self.fold, scores, labels)

    def scores(self, name: str, classifier: Classifier, rows: IntArray, labels: IntArray, *parts: object) -> FloatArray:
        """Scores of the test images by a classifier taught some rows, whose labels are among those of all images.

        They are computed once: an interrupted audit goes on where it stopped.
        """
        own = self.config.cnn.model_dump(mode="json", exclude={"name", "data"})
        seed, made_from = self.config.seed, self.run.manifest.made_from
        where = () if self.fold.name == "test" else (self.fold.name,)
        key = fingerprint(__version__, name, own, self.images.fingerprint, seed, made_from, parts, *where)

        def make() -> FloatArray:
            fitted = classifier.fit(self.cohort, rows, labels[rows], seed=seed, fold=self.fold.name)
            return fitted.scores(self.cohort, self.test)

        return cached_json(
            self.workspace.cache / "audit" / f"{key[:32]}.json", make, encode=lambda made: made.tolist(),
            decode=lambda found: np.array(found, dtype=np.float64).reshape(len(self.test)),
        )  # fmt: skip


def open_images(
    run: Run,
    own: Config | None,
    workspace: Workspace,
    judge: Judge,
    epochs: int,
    permutations: int | None = None,
) -> tuple[ImageRefitting | None, str]:
    """The run's images as they lie there now, or None and why they cannot be audited."""
    if own is None:
        return None, "the run kept no config that this version can read"
    index = HashIndex(workspace.cache / "image_hashes.json")
    try:
        cohort = ImageCohort.of(own.cnn, workspace.cache, index)
        folds = cohort.folder.folds(own.cnn.folds, own.split.folds, own.seed)
        first, fraction = own.cnn.validation == "first", own.cnn.validation_fraction
        parts = (*cohort.folder.divided(folds[0], fraction, own.seed, first=first), folds[0].test)
    except (DataError, ConfigError) as error:
        return None, error.what
    if cohort.folder.fingerprint != run.manifest.dataset.fingerprint:
        return None, "the images have changed since the run was made"
    return ImageRefitting(run, own, workspace, judge, epochs, cohort, *parts, permutations, folds), ""


def image_scope(refitting: ImageRefitting) -> Scope:
    """The images as exams, each with its picture's hash, and the folds."""
    exams, grouped, told = refitting.cohort.exams, refitting.images.grouped, image_variables(refitting)
    folds = refitting.folds if len(refitting.folds) > 1 else (refitting.fold,)
    scored = np.unique(np.concatenate([fold.test for fold in folds]))
    return Scope(refitting.run, exams, scored, folds, None, {}, of_files=told, patients_known=grouped)


IN_FILES = {
    "file_bytes": ("size of the file", "file"),
    "width": ("width of the picture", "file"),
    "height": ("height of the picture", "file"),
    "mean_grey": ("brightness of the picture", "grey"),
    "grey_spread": ("contrast of the picture", "grey"),
    "grey_sharpness": ("sharpness of the picture", "grey"),
}
"""What ``measure_picture`` tells: title and family."""

OF_SERIES = {
    "slice_place": ("place of the slice in its volume, 0 to 1", "volume"),
    "slices": ("number of slices of the volume", "volume"),
    "between_slices": ("mm from slice to slice", "volume"),
    "pixel_rows": ("mm from row to row", "volume"),
    "pixel_columns": ("mm from column to column", "volume"),
}
"""What a volume tells of its slices: title and family."""


def image_variables(refitting: ImageRefitting) -> tuple[Variable, ...]:
    """What tells image files apart without a place in the picture: numbers in names, encoders, sizes, grey levels.

    The files are read as they lie there, once.
    """
    images, kept = refitting.images, refitting.workspace.cache / "audit"

    def measure() -> list[Json]:
        found = []
        for image, picture in zip(images.images, images.pictures(refitting.cohort.drawing), strict=True):
            series = images.series.get(image.series)
            path = series.files[0] if series else images.root / image.path
            content = path.read_bytes()
            encoding = "" if series else encoding_of(content) or path.suffix.lower()
            found.append({"encoding": encoding, **measure_picture(content, picture)})
        return found

    def decode(rows: list[Json]) -> list[Json]:
        if len(rows) != len(images.images) or any(row.keys() != {"encoding", *IN_FILES} for row in rows):
            raise ValueError("facts of other images")
        return rows

    files = [images.series[i.series].files[0] if i.series else images.root / i.path for i in images.images]
    sizes = [path.stat().st_size for path in files]  # the fingerprint is of pixels
    key = fingerprint(__version__, "facts of image files", images.fingerprint, sizes, *_scaling(refitting))
    rows = cached_json(kept / f"{key[:32]}.json", measure, encode=list, decode=decode)
    found = [
        Variable("name_order", "number in the file's name", "names", _written([i.path for i in images.images]), False)
    ]
    if images.grouped:
        order = _written([image.group for image in images.images])
        found.append(Variable("group_order", "number of the group, as its name has it", "names", order, False))
    found.append(category("encoding", "format and encoder of the file", "file", [row["encoding"] for row in rows]))
    for name, (title, family) in IN_FILES.items():
        values = np.array([[row[name]] for row in rows], dtype=np.float64)
        found.append(Variable(name, title, family, values, family == "grey"))
    return (*found, *_of_series(images))


def _scaling(refitting: ImageRefitting) -> list[object]:
    """What the grey levels of slices depend on besides their voxels."""
    return [refitting.cohort.drawing.percentiles] if refitting.images.series else []


def _of_series(images: ImageFolder) -> list[Variable]:
    """What volumes tell: places and spacing of slices, what a DICOM header says of the scanner, a table's columns."""
    known = [images.series.get(image.series) for image in images.images]
    found = []
    if images.series:
        rows = [
            (image.place / max(each.depth - 1, 1), each.depth, *each.spacing) if each else (np.nan,) * len(OF_SERIES)
            for image, each in zip(images.images, known, strict=True)
        ]
        values = np.array(rows, dtype=np.float64)
        found = [
            Variable(name, title, family, values[:, [place]], False)
            for place, (name, (title, family)) in enumerate(OF_SERIES.items())
        ]
    headers = [dict(each.scanner) if each else {} for each in known]
    tables = [images.columns.get(image.series or image.path, {}) for image in images.images]
    for source, of_all in (("header", headers), ("table", tables)):
        for name in dict.fromkeys(name for each in of_all for name in each):
            title = f"{name} of the {source}"
            found.append(category(f"{source}_{name}", title, source, [each.get(name, "") for each in of_all]))
    return found


def _written(names: Sequence[str]) -> FloatArray:
    """The place of each name by the numbers in its last part, (n, 1); NaN for names without one."""
    numbers = [tuple(map(int, re.findall(r"\d+", PurePosixPath(name).stem))) for name in names]
    places = {each: place for place, each in enumerate(sorted(set(numbers)))}
    return np.array([[float(places[each]) if each else np.nan] for each in numbers])


def image_controls(
    refitting: ImageRefitting, scope: Scope, skip: tuple[str, ...], progress: Progress
) -> tuple[list[Control], LeftOut]:
    """Every control that single images allow, and what was not done with its reason. ``scope``: ``image_scope``."""

    def skipped(refitting: ImageRefitting) -> Control:
        raise Unavailable("skipped by evaluate.audit_skip")

    wanted = [(name, skipped if name in skip else control) for name, control in IMAGE_REFITS]
    controls, left_out = measure_controls(refitting.run.name, wanted, refitting, progress)
    nuisance = nuisance_controls(scope, refitting.judge)
    return nuisance + controls, [{"name": name, "reason": reason} for name, reason in NOT_FOR_IMAGES] + left_out


def permuted_labels(refitting: ImageRefitting) -> Permuted:
    """The run's own network taught permuted labels several times and the true ones once, all as briefly."""
    if not refitting.config.cnn.train:
        raise Unavailable("the run judges weights as they are and trains nothing")
    epochs = min(refitting.config.cnn.epochs, refitting.epochs)
    count = refitting.permutations or FEW_PERMUTATIONS
    network = refitting.family.network(refitting.asked.with_settings("cnn", epochs=epochs))
    found = []
    for labels in (refitting.images.labels, *(permute_by_group(refitting, number) for number in range(count))):
        rows = []
        for one in refitting.by_fold:
            parts = (one.train, one.validation, *([one.test] if len(refitting.folds) < 2 else []))
            if any(len(set(labels[part].tolist())) < 2 for part in parts):
                raise Unavailable("too few images to permute their labels")
            rows += one.rows(one.scores("permuted", network, one.fold.train, labels, epochs, labels.tolist()), labels)
        found.append(rows)
    how = f"each trains a network, {epochs} of {refitting.config.cnn.epochs} epochs (evaluate.audit_image_epochs)"
    return judge_permuted(found[0], found[1:], how)


def permute_by_group(refitting: ImageRefitting, number: int) -> IntArray:
    """Labels (n,) shuffled: groups of one class swap theirs within ``exchanged``, images or series within others."""
    images = refitting.images.images
    random = np.random.default_rng([refitting.config.seed, 0xA0D1, number])
    labels, groups = refitting.images.labels.copy(), np.array([image.patient for image in images])
    both = set(groups[labels == 0].tolist()) & set(groups[labels == 1].tolist())
    given: dict[int, int] = {}
    for part in refitting.exchanged:
        own = {images[row].patient: images[row].label for row in reversed(part.tolist())}
        given |= shuffled({group: own[group] for group in own if group not in given and group not in both}, random)
        for group in sorted(both & set(groups[part].tolist())):
            own_rows = part[groups[part] == group]
            of_visit = {images[row].visit: int(labels[row]) for row in own_rows.tolist()}
            swapped = dict(zip(of_visit, random.permutation(list(of_visit.values())).tolist(), strict=True))
            labels[own_rows] = [swapped[images[row].visit] for row in own_rows.tolist()]
    return np.array([given.get(group, labels[row]) for row, group in enumerate(groups.tolist())], dtype=np.int64)


def untrained_twin(refitting: ImageRefitting) -> Control:
    """A logistic regression on what the network's convolutions give with random weights."""
    twin, note = refitting.family.twin(refitting.asked)
    return judge_untrained(refitting.judge, _in_turn(refitting, "untrained", twin), note)


def brightness(refitting: ImageRefitting) -> Control:
    """What the grey levels alone tell: their mean, spread and percentiles, without any place."""
    rows = _in_turn(refitting, "brightness", ColumnsClassifier("brightness", grey_levels))
    return refitting.judge.control("brightness", "global brightness statistics", BASELINE, rows)


def _in_turn(refitting: ImageRefitting, name: str, classifier: Classifier) -> list[Prediction]:
    """Rows of every fold by a classifier taught the fold's training images alone."""
    labels = refitting.images.labels
    return [row for one in refitting.by_fold for row in one.rows(one.scores(name, classifier, one.train, labels))]


def grey_levels(cohort: Cohort) -> FloatArray:
    """Mean, spread and percentiles of each image's grey levels, (n, k)."""
    found = []
    for row in range(len(cohort.exams)):
        grey = colours(cohort, IMAGE, np.array([row]))[0].astype(np.float64).mean(axis=-1)
        found.append([grey.mean(), grey.std(), *np.percentile(grey, PERCENTILES)])
    return np.array(found)


IMAGE_REFITS: tuple[tuple[str, Callable[[ImageRefitting], Control]], ...] = (
    ("permuted labels", permuted_labels),
    ("untrained twin", untrained_twin),
    ("trivial baselines", brightness),
)
"""By the names that ``evaluate.audit_skip`` knows."""
