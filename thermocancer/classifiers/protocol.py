"""What a classifier is to cross-validation, audit and prediction: ``Classifier`` fits, ``Fitted`` scores.

Classifiers compose as in scikit-learn: ``Calibrated``, ``Seeds`` and ``Swept`` wrap any of them and are
classifiers themselves. A ``Family`` is the code of a kind: how it is made from a config, loaded from a run's
folder, given an untrained twin, taken elsewhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.kinds import Kind
from thermocancer.progress import Progress
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    import keras

    from thermocancer.classifiers.onnx_graph import Build
    from thermocancer.data.store.reading import StoredCohort

CLASSIFIER_FILE = "classifier.json"
"""In the folder of a fitted classifier: what ``Family.load`` needs besides arrays and networks."""

MEMBERS = "members"
"""In ``classifier.json``: seeds of the fitted classifiers that share a folder, each in a folder of its own."""

FIXED = 0.5
"""The threshold where none is chosen: the sign of the decision value decides."""

Settings = dict[str, Any]
"""What ``classifier.json`` holds."""

Row = Mapping[str, Any]
"""One entry of a training's history."""


def logistic(values: FloatArray) -> FloatArray:
    """1 / (1 + exp(-x)), without overflow; >= 0.5 exactly where x >= 0."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, dtype=np.float64)))


def logit(scores: FloatArray, margin: float = 1e-6) -> FloatArray:
    """The inverse of ``logistic``; scores are kept ``margin`` away from 0 and 1."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), margin, 1.0 - margin)
    return np.log(inside) - np.log1p(-inside)


@dataclass(frozen=True)
class InnerScores:
    """Scores of training exams by models that had not seen them: rows, labels and scores, each (n,)."""

    rows: IntArray
    labels: IntArray
    scores: FloatArray


class Fitted(Protocol):
    """A classifier that has seen its training rows. Subclasses define ``decisions``, ``describe`` and ``save``."""

    threshold: float = FIXED
    """A score at or above it means sick; chosen on inner data of the training rows only."""

    history: Sequence[Row] = ()
    """One entry an epoch; empty where nothing is trained by epochs."""

    inner: InnerScores | None = None
    """What was learnt of the training rows by models that had not seen them; None where nothing was held out."""

    held: IntArray | None = None
    """Training rows that were not taught but chose the epoch: a calibration may be fitted on them."""

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """One decision value a row of any cohort (not only the training one), (len(rows),); positive means sick."""

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Probability of sick in [0, 1] for each row, (len(rows),)."""
        return logistic(self.decisions(cohort, rows))

    def scored(self, cohort: Cohort, rows: IntArray) -> tuple[FloatArray, IntArray]:
        """Scores, and what each row is called, 0 or 1; both (len(rows),)."""
        scores = self.scores(cohort, rows)
        return scores, (scores >= self.threshold).astype(np.int64)

    def describe(self) -> Settings:
        """What loading needs; ``kind`` tells which family loads it."""

    def save(self, folder: Path) -> None:
        """Write arrays and networks into an existing folder, without pickle."""


class Probabilistic(Fitted, Protocol):
    """One that gives probabilities by itself: their log-odds are its decision values."""

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Probability of sick in [0, 1] for each row, (len(rows),)."""

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        return logit(self.scores(cohort, rows))


class Classifier(Protocol):
    """How something is fitted. Everything fitted (encoder, scaler, components) is fitted inside ``fit``."""

    probabilistic: bool = False
    """True when decision values are logits of a probability already: no calibration is fitted."""

    @property
    def name(self) -> str: ...

    def announce(self, cohort: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        """These (rows, labels) are going to be fitted on: what they share may be computed at once."""
        return None

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Fitted:
        """Fit on ``rows`` with ``labels`` (shape (len(rows),), which an audit may have permuted).

        ``fold`` names the outer fold (``1.3``, ``test``, ``all``) so that encoders trained for it can be found.
        """


class Unavailable(DataError):
    """Something that this data set or model does not allow, and why."""


class Reader(Protocol):
    """Features of exams by the frozen parts of a classifier, one row each."""

    def of(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Shape (len(rows), p). Raises DataError when an exam lacks what is read."""


@dataclass(frozen=True)
class Exportable:
    """What a run can be written as, and real inputs (n, ...) by the names of what goes in.

    The Keras ``model``'s output (n, 1) is the network's own probability; ``facts`` holds what turns it into the
    run's score and decision: score = logistic(slope * logit(probability) + intercept). Without a model the ONNX
    ``graph`` gives the score itself, which is to be ``expected`` (n,) of the samples.
    """

    model: keras.Model | None
    samples: dict[str, npt.NDArray[np.float32]]
    facts: Settings
    graph: Build | None = None
    expected: FloatArray | None = None


@dataclass(frozen=True)
class Asked:
    """What a classifier is made for: the settings, the views, and what its training is told besides.

    ``exam_weights`` weigh the exams of the cohort in training; ``watched`` rows of a fold give a network's
    validation curve under the thesis protocol. Without ``calibrate`` no inner folds are used: scores keep
    their order, which is all that an audit of the ranking needs, at a fraction of the time.
    """

    config: Config
    workspace: Workspace
    views: tuple[str, ...]
    calibrate: bool = True
    exam_weights: ExamWeights | None = None
    watched: Mapping[str, IntArray] = field(default_factory=dict)

    @property
    def inner_folds(self) -> int:
        """Inner folds that calibration and threshold are chosen on; 0 where the sign of the decision decides."""
        return self.config.split.inner_folds if self.calibrate and self.config.split.protocol != "thesis" else 0

    def with_settings(self, section: str, **values: object) -> Asked:
        """The same with some settings of one section replaced."""
        changed = getattr(self.config, section).model_copy(update=values)
        config = self.config.model_copy(update={section: changed})
        return Asked(config, self.workspace, self.views, self.calibrate, self.exam_weights, self.watched)


def member_folder(folder: Path, seed: int) -> Path:
    """Where one of several fitted classifiers lies in the folder that they share."""
    return folder / f"seed-{seed}"


class Family(ABC):
    """The code of one kind. A family defines ``make`` and ``load``; the rest has an answer that holds for most."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    @abstractmethod
    def make(self, asked: Asked) -> Classifier:
        """The classifier that the settings ask for."""

    @abstractmethod
    def load(self, folder: Path, settings: Settings) -> Fitted:
        """What a run saved under ``runs/NAME/model``. Raises DataError when it is damaged."""

    def save_members(self, members: Mapping[int, Fitted], folder: Path, settings: Settings) -> Settings:
        """Write what several seeds made into one folder: each into a folder of its own. Returns ``settings`` as
        ``classifier.json`` is to hold them.
        """
        for seed, each in members.items():
            own = member_folder(folder, seed)
            own.mkdir(parents=True, exist_ok=True)
            each.save(own)
        return settings

    def title(self, asked: Asked) -> str:
        """The model's name in manifest and report."""
        return self.kind.name

    def aim(self, asked: Asked) -> tuple[str, float]:
        """What the threshold is chosen for, and the sensitivity where that is aimed at."""
        fuse = asked.config.fuse
        return (fuse.aim if self.kind.learns else "fixed"), fuse.aim_sensitivity

    def facts(
        self, asked: Asked, cohort: Cohort, rows: IntArray, excluded: Sequence[tuple[str, str]]
    ) -> Settings:  # fmt: skip
        """What a run's manifest says besides what all runs have: exams left out, settings that are repeated there."""
        found: Settings = {"excluded": [{"exam": key, "reason": reason} for key, reason in excluded]}
        for key in self.kind.recorded:
            section, _, name = key.partition(".")
            found[name] = getattr(getattr(asked.config, section), name)
        return found

    def ready(self, asked: Asked, progress: Progress) -> None:
        """Make what every fold shares and is made but once, where a user can see how far it is."""
        return None

    def content(self, asked: Asked, folds: Sequence[str]) -> list[object]:
        """What decides a result on some folds besides settings and exams: the weights that are read."""
        return []

    def check_unseen(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> None:
        """Raise DataError when something that is read was trained on a patient whom its fold scores."""
        return None  # most read nothing that was trained elsewhere

    def leaks(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
        """What the scored exams had to do with training, in words; those of the split itself are not among them."""
        return []

    def shown(self, asked: Asked, cohort: Cohort, fold: Fold) -> set[int]:
        """Patients of a fold's test part whose pictures (without labels) something that is read was trained on."""
        return set()

    def twin(self, asked: Asked) -> tuple[Classifier, str]:
        """The same with random weights, never trained, and a remark on it. Raises Unavailable where there is none."""
        raise Unavailable("the model has no trained network, or is the untrained twin itself")

    def shared_reader(self, asked: Asked) -> bool:
        """Does one reader serve every fold, because nothing that it reads through is trained inside the folds?"""
        return True

    def why_not_frozen(self, asked: Asked) -> str:
        """Why features of single folds cannot be had again, in words; empty where they can."""
        return ""

    def reader(self, asked: Asked, cohort: Cohort, fold: str) -> Reader:
        """What the frozen parts of an outer fold make of an exam. Raises ConfigError where there is nothing."""
        raise ConfigError("this run has no features to combine", where="fuse.combine", found=f"kind {self.kind.name}")

    def kept_reader(self, fitted: Fitted, cache: Path | None = None) -> Reader:
        """The same by the frozen parts that a run keeps; what it learnt to decide is left aside."""
        raise ConfigError("this run has no features to combine", where="fuse.combine", found=f"kind {self.kind.name}")

    exports: tuple[str, ...] = ()
    """Formats that one file of it can be written in: of ``onnx`` (written here), ``tf2onnx``, ``saved_model`` and
    ``litert``. A zip for ``predict`` holds any run."""

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """The classifier as one graph. Raises ConfigError, with the reason, where it is none."""
        raise no_graph(folder, f"kind {settings.get('kind')}")


def no_graph(folder: Path, why: str) -> ConfigError:
    """The refusal to write a run as one graph of numbers."""
    hint = "thermocancer export RUN --formats zip: predict takes it anywhere"
    return ConfigError("this run is no single graph", where=folder / CLASSIFIER_FILE, found=why, hint=hint)


REGRESSED = "it regresses out what is measured beside the pictures"


def exported_facts(settings: Settings, dataset: str) -> Settings:
    """What turns an exported network's probability into the run's score and decision."""
    return {
        "classes": ["healthy", "sick"], "calibration": settings["calibration"], "threshold": settings["threshold"],
        "preparation": settings["preparation"], "dataset": dataset,
    }  # fmt: skip


MOST_SAMPLES = 8
"""Exams on which an exported file is compared with its run."""


def celsius_samples(
    asked: Asked, settings: Settings, views: tuple[str, ...]
) -> tuple[dict[str, npt.NDArray[np.float32]], IntArray, StoredCohort]:
    """Degrees (n, H, W) of each view of some exams, prepared as the run prepares them, the exams and their cohort.

    Raises ConfigError where the data set holds colours.
    """
    from thermocancer.config.preparation import FeaturesSection
    from thermocancer.data.cohort import degrees
    from thermocancer.data.store.reading import StoredCohort
    from thermocancer.features.prepared import prepare

    cohort = StoredCohort(asked.workspace.dataset(asked.config.dataset.name))
    if cohort.kind != "celsius":
        cohort.close()
        raise no_graph(asked.workspace.root, "it reads colours, no degrees")
    prepared = prepare(cohort, FeaturesSection(**settings["preparation"]))
    complete = np.logical_and.reduce([cohort.present(view) for view in views])
    rows = np.flatnonzero(complete)[:MOST_SAMPLES].astype(np.int64)
    return {view: degrees(prepared, view, rows).astype(np.float32) for view in views}, rows, cohort
