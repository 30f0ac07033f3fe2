"""One line of the audit: a score that is no model of disease, judged on the model's own units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.intervals import Estimate, auc_interval
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.runs.predictions import Prediction

NUISANCE, CONTROL, BASELINE, INPUT = "nuisance", "control", "baseline", "input"
"""Groups: shortcuts; checks that must behave; trivial models; the model on part of the picture."""


@dataclass(frozen=True)
class Control:
    """An AUC with its interval beside the model's. ``difference`` is the model's AUC minus this one's.

    ``p`` tests, one-sided, that the score ranks sick above healthy; ``p_holm`` is corrected for the number of
    nuisance variables tried. ``flag``: ``none``, ``amber`` (interval above .5), ``red`` (and not clearly
    below the model), ``leaky`` (optimistic on purpose), ``failed`` (a check that must hold does not).
    """

    name: str
    title: str
    group: str
    auc: Estimate
    n: int
    positives: int
    family: str = ""
    difference: dict[str, Any] | None = None
    p: float | None = None
    p_holm: float | None = None
    flag: str = "none"
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "auc": self.auc.as_dict()}

    def with_(self, **changes: Any) -> Control:
        return replace(self, **changes)


@dataclass(frozen=True)
class Judge:
    """How controls are measured: the model's units and the settings of every interval.

    ``rows`` are the model's own predictions; with them a control of some repeats is compared with the model's
    scores of the same repeats: the mean over five ranks better than one, whatever the model.
    """

    model: Units
    confidence: float
    bootstrap: int
    seed: int
    rows: tuple[Prediction, ...] = ()

    def control(self, name: str, title: str, group: str, rows: list[Prediction], **more: Any) -> Control:
        """Measure a control from its out-of-sample rows and compare it with the model on the same units."""
        units = gather_units(rows)
        auc = auc_interval(units.labels, units.scores, self.confidence)
        chance = mann_whitney_p(units.labels, units.scores)
        return Control(
            name, title, group, auc, len(units), int(units.labels.sum()), difference=self._difference(rows, units),
            p=chance, **more,
        )  # fmt: skip

    def _difference(self, rows: list[Prediction], units: Units) -> dict[str, Any] | None:
        """The model's AUC minus the control's; None where they have no unit of one of the classes in common."""
        model = self._on_folds({row.fold for row in rows})
        common = set(model.keys) & set(units.keys)
        if len({label for key, label in zip(units.keys, units.labels.tolist(), strict=True) if key in common}) < 2:
            return None
        return auc_difference(
            pair_units(model, units), confidence=self.confidence, bootstrap=self.bootstrap, seed=self.seed
        )

    def _on_folds(self, folds: set[str]) -> Units:
        """The model on the folds that a control was scored on; on all of them where it has other folds."""
        own = [row for row in self.rows if row.fold in folds]
        return gather_units(own) if folds <= {row.fold for row in own} else self.model


MOST_EXACT = 2500
"""Up to so many pairs the exact distribution is cheap; the normal one is too cautious in its far tail."""


def mann_whitney_p(labels: IntArray, scores: FloatArray) -> float:
    """One-sided p of the rank-sum test that sick scores are higher; exact for small samples without ties.

    Its distribution is that of no association at all, so that it holds where every pair is ranked right.
    """
    from scipy.stats import mannwhitneyu

    if np.ptp(scores) == 0:
        return 1.0
    sick, healthy = scores[labels == 1], scores[labels == 0]
    exact = len(sick) * len(healthy) <= MOST_EXACT and len(np.unique(scores)) == len(scores)
    method = "exact" if exact else "asymptotic"
    return float(mannwhitneyu(sick, healthy, alternative="greater", use_continuity=False, method=method).pvalue)


def flag_shortcut(control: Control) -> Control:
    """Amber where the interval lies above .5; red where the model is not clearly better besides."""
    if control.auc.low is None or control.auc.low <= 0.5:
        return control
    worse = control.difference is not None and control.difference["low"] is not None and control.difference["low"] > 0
    return control.with_(flag="amber" if worse else "red")


def rows_of(exams: tuple[Exam, ...], fold: Fold, scores: FloatArray) -> list[Prediction]:
    """Scores of a fold's test part as prediction rows; decided at 0.5, which no control's AUC depends on."""
    return [
        Prediction(exams[row].patient, exams[row].visit, fold.name, exams[row].label, float(score), int(score >= 0.5))
        for row, score in zip(fold.test, scores, strict=True)
    ]
