"""The fusion network as a recipe: trained in each fold on codes that are computed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.calibrated import Classifier, InnerScores, check_two_classes, inner_parts
from thermocancer.classifiers.encoders import Encoders, ensure_running
from thermocancer.classifiers.network_model import CodeExamples, CodeShelf, NetworkModel, Shape, code_shape
from thermocancer.classifiers.platt import fit_platt
from thermocancer.classifiers.thresholds import choose_threshold
from thermocancer.config.learning import FuseSection
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.features.prepared import OncePerCohort, prepare
from thermocancer.files import fingerprint

CHECKPOINT_EVERY = 5
"""Epochs: a checkpoint of the five-view network is 70 MB, an epoch takes seconds."""


@dataclass(frozen=True, eq=False)
class Slot:
    """One compiled network that every fold trains anew: compiling takes longer than a small training."""

    model: Any
    start: Any

    @classmethod
    def build(cls, shapes: Mapping[str, Shape], learning_rate: float) -> Slot:
        """Build and compile: Adam, binary cross-entropy, accuracy at 0.5."""
        from thermocancer.models.fusion import build_fusion
        from thermocancer.training.checkpoint import Snapshot
        from thermocancer.training.schedules import Compilation, compile_model

        running = ensure_running()
        how = Compilation("binary_crossentropy", learning_rate=learning_rate, metrics=("accuracy",))
        with running.scope():
            model = build_fusion(shapes)
            compile_model(model, how, running)
        return cls(model, Snapshot.of(model))

    def fresh(self, seed: int) -> Any:
        """New weights, a new optimizer state and new dropout, all from ``seed``."""
        from thermocancer.classifiers.sequence.heads import start_from

        self.start.put_into(self.model)
        start_from(self.model, seed)
        return self.model


@dataclass(frozen=True)
class Training:
    """What one training sees: training and validation examples; ``chosen`` when validation chooses the epoch."""

    examples: CodeExamples
    validation: CodeExamples
    chosen: bool
    identity: str


@dataclass(frozen=True, eq=False)
class NetworkRecipe:
    """Trains the fusion network (see ``classifiers.protocol.Recipe``).

    One inner grouped fold of the training part is held out: the epoch is chosen on it, and so are
    calibration and threshold. Without ``inner_folds`` (thesis protocol) the network learns from all
    training rows, keeps its last epoch and decides at 0.5; the ``watched`` rows of a fold (the
    original's test part) then only give the validation curve.
    """

    encoders: Encoders
    views: tuple[str, ...]
    fuse: FuseSection
    preparation: FeaturesSection
    cache: Path
    inner_folds: int
    watched: Mapping[str, IntArray] = field(default_factory=dict)
    exam_weights: ExamWeights | None = None
    _slots: dict[str, Slot] = field(default_factory=dict, repr=False)
    _shelves: list[CodeShelf] = field(default_factory=list, repr=False)
    _prepared: OncePerCohort[Cohort] = field(default_factory=OncePerCohort, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_slots": {}, "_shelves": []}

    @property
    def name(self) -> str:
        return "network-untrained" if self.encoders.untrained else "network"

    def fit(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Classifier:
        """Fit on ``rows``. Raises DataError when they hold one class only, Interrupted on SIGINT."""
        rows, labels = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int64)
        check_two_classes(labels, fold)
        source = self._prepared.of(source, lambda each: prepare(each, self.preparation))
        held = self._held_out(source, rows, labels, seed)
        model = self._train(source, rows, labels, held, seed, fold)
        classifier = Classifier(
            model, self._settings(), self.preparation, history=model.history, _prepared=self._prepared
        )  # fmt: skip
        if not held.any():
            return classifier
        decisions = model.decisions(source, rows[held])
        calibration = fit_platt(decisions, labels[held])
        scores = calibration.scores(decisions)
        threshold = choose_threshold(scores, labels[held], self.fuse.aim, self.fuse.aim_sensitivity)
        inner = InnerScores(rows[held], labels[held], scores)
        return replace(classifier, calibration=calibration, threshold=threshold, inner=inner)

    def _settings(self) -> dict[str, Any]:
        return {
            "kind": "network", "name": self.name, "views": list(self.views), "autoencoder": self.encoders.variant,
            "batch": self.fuse.batch, "block": self.encoders.batch,
        }  # fmt: skip

    def _held_out(self, source: Cohort, rows: IntArray, labels: IntArray, seed: int) -> npt.NDArray[np.bool_]:
        folds = inner_parts(source, rows, labels, self.inner_folds, seed) if self.inner_folds else []
        return np.isin(rows, folds[0].test) if folds else np.zeros(len(rows), bool)

    def _train(
        self, source: Cohort, rows: IntArray, labels: IntArray, held: npt.NDArray[np.bool_], seed: int, fold: str
    ) -> NetworkModel:
        from thermocancer.training.fit import FitSettings, fit_resumable, forget

        shelf = self._shelf()
        training = self._training(source, shelf, rows, labels, held, seed, fold)
        slot = self._slot(training.examples.shapes)
        folder = self.cache / "fits" / training.identity[:32]
        settings = FitSettings(
            self.fuse.epochs, self.fuse.batch, seed, training.identity, keep="best" if training.chosen else "last",
            checkpoint_every=CHECKPOINT_EVERY,
        )  # fmt: skip
        model = slot.fresh(seed)
        validation = training.validation if len(training.validation) else None
        result = fit_resumable(model, training.examples, folder=folder, settings=settings, validation=validation)
        forget(folder)
        weights = [np.array(each) for each in model.get_weights()]
        encoders = dict(shelf.of(source, fold)[1])
        return NetworkModel(
            model, weights, encoders, self.fuse.batch, (shelf, source, fold), tuple(result.history)
        )  # fmt: skip

    def _training(
        self, source: Cohort, shelf: CodeShelf, rows: IntArray, labels: IntArray, held: npt.NDArray[np.bool_],
        seed: int, fold: str,
    ) -> Training:  # fmt: skip
        codes, encoders = shelf.of(source, fold)
        shapes = {view: code_shape(encoder) for view, encoder in encoders.items()}
        train, seen = (rows[~held], labels[~held]), (rows[held], labels[held])
        if not held.any():
            watched = self.watched.get(fold, np.zeros(0, np.int64))
            seen = (watched, np.array([source.exams[row].label for row in watched], dtype=np.int64))
        weights = None if self.exam_weights is None else self.exam_weights[train[0]]
        identity = fingerprint(
            "fusion", [encoders[view].identity for view in self.views], source.fingerprint, seed, fold,
            [each.tolist() for each in (*train, *seen)], None if weights is None else weights.tolist(),
            self.fuse.epochs, self.fuse.batch, self.fuse.learning_rate, bool(held.any()),
        )  # fmt: skip
        return Training(
            CodeExamples(codes, *train, shapes, weights), CodeExamples(codes, *seen, shapes), bool(held.any()), identity
        )

    def _shelf(self) -> CodeShelf:
        if not self._shelves:
            self._shelves.append(CodeShelf(self.encoders, self.views, self.cache))
        return self._shelves[0]

    def _slot(self, shapes: Mapping[str, Shape]) -> Slot:
        key = repr(shapes)
        if key not in self._slots:
            self._slots[key] = Slot.build(shapes, self.fuse.learning_rate)
        return self._slots[key]
