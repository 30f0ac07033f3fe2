"""Support vector machine on encoder features, trained and applied through Gram matrices.

The decisions are those of scikit-learn's ``StandardScaler`` and ``SVC`` on the concatenated
features of all views, without those features ever being held together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.classifiers.grams import Grams
from thermocancer.classifiers.support import WIDE_BYTES, SupportVectors, ViewVectors
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.features.gram import Gram, KernelName, Part


@dataclass(frozen=True)
class SvmMethod:
    """An SVM on the codes of some views; see ``classifiers.calibrated.Method``."""

    grams: Grams
    kernel: KernelName
    C: float
    exam_weights: ExamWeights | None = None

    @property
    def name(self) -> str:
        return "svm-untrained" if self.grams.encoders.untrained else "svm"

    @property
    def probabilistic(self) -> bool:
        return False

    def describe(self) -> dict[str, Any]:
        encoders = self.grams.encoders
        return {
            "kind": "svm", "name": self.name, "views": list(self.grams.views), "kernel": self.kernel, "C": self.C,
            "clip": self.grams.clip, "autoencoder": encoders.variant, "batch": encoders.batch,
        }  # fmt: skip

    def announce(self, source: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        self.grams.prepare(source, fold, [self.grams.part(source, *each) for each in parts])

    def train(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> SvmModel:
        """libsvm's optimiser draws nothing, so ``seed`` is not used."""
        from sklearn.svm import SVC

        part = self.grams.part(source, rows, labels)
        gram = self.grams.of(source, fold, part)
        weights = None if self.exam_weights is None else self.exam_weights[rows]
        machine = SVC(C=self.C, kernel="precomputed").fit(gram.kernel(self.kernel, rows, rows), labels, weights)
        support = rows[machine.support_]
        return SvmModel(
            self, source, fold, part, gram, support, machine.dual_coef_[0], float(machine.intercept_[0])
        )  # fmt: skip


@dataclass(frozen=True)
class SvmModel:
    """A trained SVM that still has its training source: ``support`` (s,) rows, ``dual`` (s,)."""

    method: SvmMethod
    source: Cohort
    fold: str
    part: Part
    gram: Gram
    support: IntArray
    dual: FloatArray
    intercept: float
    _stored: list[SupportVectors] = field(default_factory=list, repr=False, compare=False)

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """From the Gram matrix for exams of the training source, from the support vectors for others."""
        if source is not self.source and source.fingerprint != self.source.fingerprint:
            return self.stored().decisions(source, rows)
        kernel = self.gram.kernel(self.method.kernel, rows, self.support)
        return np.asarray(kernel @ self.dual + self.intercept)

    def stored(self) -> SupportVectors:
        """The form that needs no training source (computed once)."""
        if not self._stored:
            grams = self.method.grams
            views = tuple(self._view(grams, view) for view in grams.views)
            squares = np.diagonal(self.gram.products)[self.support]
            scaling = None if self.part.nuisance is None else self.part.nuisance.scaling
            kept = SupportVectors(
                views, self.method.kernel, self.gram.gamma, squares, self.dual, self.intercept, scaling
            )  # fmt: skip
            self._stored.append(kept)
        return self._stored[0]

    def _view(self, grams: Grams, view: str) -> ViewVectors:
        encoder = grams.encoders.load(self.source, view, self.fold)
        wide = 2 * len(grams.views) * len(self.support) * encoder.size <= WIDE_BYTES
        shared = grams.encoders.shared
        return ViewVectors.of(
            encoder, self.source, view, self.part, self.support, grams.cache, shared=shared, wide=wide
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        self.stored().save(folder)
