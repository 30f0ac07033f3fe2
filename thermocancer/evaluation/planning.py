"""How many patients a study needs: closed forms that a test holds against simulated studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from thermocancer.data.cohort import Cohort, Exam, FloatArray
from thermocancer.errors import ConfigError
from thermocancer.evaluation.report.figures import MODEL, new_figure, png_bytes
from thermocancer.evaluation.statistics.intervals import newcombe_variance, smallest_detectable_auc
from thermocancer.files import Json

POWERS = (0.8, 0.9)
MOST_SICK = 10**6
GIVEN = "of a model that is given: one that is trained and tested on these very patients needs more"
FEWEST_EXACT = 15
FEW_NOTE = f"fewer than {FEWEST_EXACT} of a class: simulated, an AUC is shown there in .80 to .87 where .80 was asked"
DRAWN = tuple(round(0.55 + 0.01 * step, 2) for step in range(41))
"""AUCs of the picture."""


@dataclass(frozen=True)
class Population:
    """Share of sick among those recruited, and of sick women who have a healthy one like them (1: everybody)."""

    prevalence: float
    overlap: float = 1.0

    def healthy(self, sick: int) -> int:
        return max(1, round(sick * (1 - self.prevalence) / self.prevalence))


def sick_for_auc(auc: float, population: Population, power: float, *, alpha: float = 0.05) -> int:
    """Sick patients with which an AUC is shown to be above .5, all pairs counting: the inverse of
    ``smallest_detectable_auc``.

    ``alpha`` is two-sided. Simulated with normal scores .8 is kept; where ten sick are enough (AUC .85) .86 are shown
    (``FEW_NOTE``). Raises ConfigError where no number is enough.
    """
    return _least(
        lambda sick: auc - smallest_detectable_auc(sick, population.healthy(sick), power=power, alpha=alpha / 2)
    )


def pairs_for_share(share: float, power: float, *, alpha: float = 0.05) -> int:
    """Pairs of a sick woman and one healthy woman like her, with which the share ranked right is shown above .5.

    The pairs are independent, so that this is the test of one proportion.
    """
    chance, hope = _quantiles(power, alpha)
    return _least(lambda n: share - 0.5 - chance * sqrt(0.25 / n) - hope * sqrt(share * (1 - share) / n))


def sick_for_difference(
    first: float, second: float, correlation: float, population: Population, power: float, *, alpha: float = 0.05
) -> int:
    """Sick patients with which two AUCs on the same patients are shown to differ.

    Obuchowski and McClish (1997, Stat Med 16:1529): the variance of a difference is v1 + v2 - 2 r sqrt(v1 v2), with
    Newcombe's variances; ``correlation`` r is that of the two AUCs.
    """

    def variance(one: float, two: float, sick: int) -> float:
        own, other = (newcombe_variance(each, sick, population.healthy(sick)) for each in (one, two))
        return max(own + other - 2 * correlation * sqrt(own * other), 0.0)

    def surplus(sick: int) -> float:
        (chance, hope), middle = _quantiles(power, alpha), (first + second) / 2
        return (
            abs(first - second)
            - chance * sqrt(variance(middle, middle, sick))
            - hope * sqrt(variance(first, second, sick))
        )

    return _least(surplus)


def sick_for_sensitivity(sensitivity: float, above: float, power: float, *, alpha: float = 0.05) -> int:
    """Sick patients with which a sensitivity at a fixed threshold is shown to be above another."""
    chance, hope = _quantiles(power, alpha)
    null, true = (sqrt(each * (1 - each)) for each in (above, sensitivity))
    return _least(lambda n: sensitivity - above - chance * null / sqrt(n) - hope * true / sqrt(n))


def _quantiles(power: float, alpha: float) -> tuple[float, float]:
    return NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)


def _least(surplus: Callable[[int], float]) -> int:
    """The smallest number from 2 on whose surplus is not negative. Raises ConfigError where a million is not enough."""
    low, high = 1, 2
    while surplus(high) < 0:
        low, high = high, 2 * high
        if high > MOST_SICK:
            raise ConfigError(
                "no study could show this", expected="an effect that is larger", found=f"more than {MOST_SICK} sick",
                hint="two figures that are equal cannot be told apart by any number of patients",
            )  # fmt: skip
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if surplus(middle) >= 0 else (middle, high)
    return high


def measured_population(cohort: Cohort, days: float, room_celsius: float) -> Population:
    """Prevalence of a data set, by patient, and how many sick exams have a healthy one near in date and room."""
    exams: list[Exam] = list(cohort.exams)
    labels = {exam.patient: 0 for exam in exams} | {exam.patient: 1 for exam in exams if exam.label}
    measured = cohort.nuisance()
    sick, healthy = (np.array([exam.label == label for exam in exams]) for label in (1, 0))
    match = np.ones((int(sick.sum()), int(healthy.sum())), bool)
    for name, limit in (("date_ordinal", days), ("room_celsius", room_celsius)):
        values: FloatArray = measured.get(name, np.full(len(exams), np.nan))
        if np.isfinite(values).any():
            match &= np.abs(values[sick][:, None] - values[healthy]) <= limit
    overlap = float(match.any(axis=1).mean()) if match.size else 0.0
    return Population(sum(labels.values()) / len(labels), overlap)


def study_plan(
    population: Population, *, auc: float, other_auc: float, correlation: float, sensitivity: float, above: float
) -> list[Json]:
    """A row a goal and power: patients, sick and healthy, a ``note`` where they are few; pairs where women are matched
    one to one.

    Of matched women only those with a match count, so that 1 / overlap times as many are needed.
    """
    rows: list[Json] = []
    for power in POWERS:
        goals = (
            (f"AUC {auc:g} is above .5", sick_for_auc(auc, population, power)),
            (f"AUC {auc:g} differs from {other_auc:g} (correlation {correlation:g})",
             sick_for_difference(auc, other_auc, correlation, population, power)),
            (f"sensitivity {sensitivity:g} is above {above:g}", sick_for_sensitivity(sensitivity, above, power)),
        )  # fmt: skip
        for goal, sick in goals:
            healthy = population.healthy(sick)
            few = min(sick, healthy) < FEWEST_EXACT and goal == goals[0][0]
            rows.append({"goal": goal, "power": power, "matched": False, "patients": sick + healthy, "sick": sick,
                         "healthy": healthy, "note": FEW_NOTE if few else ""})  # fmt: skip
        if population.overlap > 0:
            sick = ceil(pairs_for_share(auc, power) / population.overlap)
            healthy = max(population.healthy(sick), sick)
            rows.append({
                "goal": f"{auc:g} of pairs ranked right, matched one to one", "power": power, "matched": True,
                "patients": sick + healthy, "sick": sick, "healthy": healthy, "note": "",
            })  # fmt: skip
    return rows


def plan_picture(population: Population) -> bytes:
    """Patients needed against the AUC that is to be shown, at 80 and 90 % power."""
    figure, axes = new_figure(6.4, 3.6)
    for power, style in zip(POWERS, ("-", "--"), strict=True):
        counts = [sick_for_auc(auc, population, power) for auc in DRAWN]
        patients = [sick + population.healthy(sick) for sick in counts]
        axes.plot(DRAWN, patients, style, color=MODEL, label=f"{power:.0%} power")
    axes.set_yscale("log")
    axes.set_xlabel("AUC to be shown above .5")
    axes.set_ylabel(f"patients ({population.prevalence:.1%} sick)")
    axes.legend(frameon=False)
    return png_bytes(figure)
