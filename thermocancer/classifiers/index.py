"""The asymmetry index: how far the mean temperatures of the two sides differ. Nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.classifiers.calibrated import CLASSIFIER_FILE
from thermocancer.classifiers.platt import logistic
from thermocancer.classifiers.tabular import FeatureTable
from thermocancer.classifiers.thresholds import FIXED
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.features.prepared import prepare

SUSPICIOUS_CELSIUS = 0.5
"""A difference between the sides from which on clinicians look twice; the score is 0.5 there."""


@dataclass(frozen=True)
class AsymmetryIndex:
    """Recipe and classifier in one: score = logistic((|left - right| - 0.5 degC) / 0.5 degC).

    The difference is the mean over what the views offer (the two halves of a frontal view, the
    right and the left lateral view).
    """

    features: FeatureTable
    preparation: FeaturesSection
    threshold: float = FIXED
    history: Sequence[Mapping[str, Any]] = ()

    @property
    def name(self) -> str:
        return "asymmetry-index"

    def fit(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> AsymmetryIndex:
        """Learns nothing."""
        return self

    def scores(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Scores in [0, 1], shape (len(rows),)."""
        table = self.features.of(prepare(source, self.preparation), np.asarray(rows, dtype=np.int64))
        return logistic((table.mean(axis=1) - SUSPICIOUS_CELSIUS) / SUSPICIOUS_CELSIUS)

    def save(self, folder: Path) -> None:
        from thermocancer.files import write_json

        content = {"kind": "index", "name": self.name, **self.features.describe(), "threshold": self.threshold}
        content["preparation"] = {"relative": self.preparation.relative, "torso_only": self.preparation.torso_only}
        write_json(folder / CLASSIFIER_FILE, content)
