"""One line of the audit: a score that is no model of disease, judged on the model's own units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np

from thermocancer.compute import run_all
from thermocancer.config.learning import ComputeSection
from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.intervals import Estimate, auc_interval
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.progress import Progress
from thermocancer.runs.predictions import Prediction

NUISANCE, CONTROL, BASELINE, INPUT = "nuisance", "control", "baseline", "input"
GROUP_TITLES = {
    BASELINE: "trivial models and the untrained twin",
    NUISANCE: "no breast: nuisance variables",
    INPUT: "part of the picture",
    CONTROL: "checks",
}
"""Groups of controls, in the order of the forest plot."""


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
    difference: Json | None = None
    p: float | None = None
    p_holm: float | None = None
    flag: str = "none"
    note: str = ""

    @property
    def is_clearly_below_the_model(self) -> bool:
        low = None if self.difference is None else self.difference["low"]
        return low is not None and bool(low > 0)

    @property
    def is_shortcut(self) -> bool:
        """Does it predict the label, whether the model is clearly better or not?"""
        return self.flag in ("amber", "red")

    def as_dict(self) -> Json:
        return {**self.__dict__, "auc": self.auc.as_dict()}


@dataclass(frozen=True)
class Permuted(Control):
    """The control of permuted labels: ``auc`` holds their mean and range, ``p`` tests that the mean is above .5.

    ``permutations`` are the AUCs of each, ``own`` that of the true labels by the very same recipe, and ``p_permuted``
    its rank among them, (1 + number at least as high) / (1 + number); None where it would not be that of the recipe.
    """

    permutations: tuple[float, ...] = ()
    own: float | None = None
    p_permuted: float | None = None


@dataclass(frozen=True)
class Judge:
    """How controls are measured: the model's units and the settings of every interval.

    ``rows`` are the model's own predictions; with them a control of some repeats is compared with the model's
    scores of the same repeats: the mean over five ranks better than one, whatever the model. ``by_exam``: what units
    are, of the model and so of every control.
    """

    model: Units
    confidence: float
    bootstrap: int
    seed: int
    rows: tuple[Prediction, ...] = ()
    by_exam: bool = False

    def control(
        self, name: str, title: str, group: str, rows: list[Prediction], *, family: str = "", note: str = ""
    ) -> Control:
        """Measure a control from its out-of-sample rows and compare it with the model on the same units.

        There is no difference where the two have no unit of one of the classes in common.
        """
        units, folds = gather_units(rows, by_exam=self.by_exam), {row.fold for row in rows}
        own = [row for row in self.rows if row.fold in folds]
        model = gather_units(own, by_exam=self.by_exam) if folds <= {row.fold for row in own} else self.model
        common, difference = set(model.keys) & set(units.keys), None
        if len({label for key, label in zip(units.keys, units.labels.tolist(), strict=True) if key in common}) == 2:
            difference = auc_difference(
                pair_units(model, units), confidence=self.confidence, bootstrap=self.bootstrap, seed=self.seed
            )
        return Control(
            name, title, group, auc_interval(units, self.confidence), len(units),
            int(units.labels.sum()), family, difference, mann_whitney_p(units.labels, units.scores), note=note,
        )  # fmt: skip


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
    return replace(control, flag="amber" if control.is_clearly_below_the_model else "red")


def rows_of(
    exams: Sequence[Exam], fold: Fold, scores: FloatArray, labels: IntArray | None = None
) -> list[Prediction]:  # fmt: skip
    """Scores of a fold's test part as prediction rows; decided at 0.5, which no control's AUC depends on.

    ``labels`` (one an exam) stand in for the exams' own.
    """
    return [
        Prediction(
            exams[row].patient, exams[row].visit, fold.name, exams[row].label if labels is None else int(labels[row]),
            float(score), int(score >= 0.5),
        )
        for row, score in zip(fold.test, scores, strict=True)
    ]  # fmt: skip


LeftOut = list[dict[str, str]]
"""``name`` of each control that was not done, and the ``reason``."""

Subject = TypeVar("Subject")
"""What controls are measured on: a run on exams, or on images."""


def measure_controls(
    run: str,
    wanted: Sequence[tuple[str, Callable[[Subject], Control | list[Control]]]],
    subject: Subject,
    progress: Progress,
    compute: ComputeSection | None = None,
) -> tuple[list[Control], LeftOut]:
    """Every control that can be had, and what could not be done with its reason; by the workers of ``compute``."""
    work = _Measuring(subject, dict(wanted))
    found: dict[str, list[Control] | str] = {}
    controls: list[Control] = []
    left_out: LeftOut = []
    with progress.task(f"audit of {run}", len(wanted), "controls") as bar:
        for name, made in run_all(work, list(work.controls), compute, progress.note):
            found[name] = made
            bar.say(name)
            bar.advance()
    for name in work.controls:
        made = found[name]
        if isinstance(made, str):
            left_out.append({"name": name, "reason": made})
        else:
            controls += made
    return controls, left_out


@dataclass(frozen=True)
class _Measuring(Generic[Subject]):
    """The controls of one subject by name; what one of them leaves in the subject's memory serves the others."""

    subject: Subject
    controls: Mapping[str, Callable[[Subject], Control | list[Control]]]

    def run(self, name: str) -> tuple[str, list[Control] | str]:
        """The controls of this name, or the reason why they cannot be had."""
        try:
            made = self.controls[name](self.subject)
        except (DataError, ConfigError) as error:
            return name, error.what
        return name, made if isinstance(made, list) else [made]
