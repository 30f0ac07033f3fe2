"""How often the audit names a shortcut: where there is none, and where there is one of a known strength.

Studies are drawn as tables (no pictures): patients with a date, a number that follows it, the figures that the
audit measures outside the breast, a site and the formats of two views. ``none`` ties nothing to the label. A tie is
given by its strength, the AUC of the best score that could be made of it (.5 is nothing, 1 is all):

- ``calendar``: the date rises with the label; ``middle third``: sick exams lie in the middle of the dates;
- ``site``: a category; ``blur``: the sharpness of the outline falls; ``second format``: the file format of one view.

The audit is the toolkit's own, from the variables to the shortcuts that the verdict names: goals are false
"shortcut" in at most 5 %, and a shortcut of AUC .8 missed in at most 5 % (at 40 patients or more with 8 or more of
each class). A cell that misses its goal is marked.

    python benchmarks/shortcut_rates.py --studies 100
    python benchmarks/shortcut_rates.py --patients 40 160 --prevalence .5 --auc .8 .9 --studies 40 --json rates.json
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import cast

import numpy as np

from thermocancer.data.cohort import ArrayCohort, Exam, FloatArray, IntArray
from thermocancer.data.split import Fold
from thermocancer.evaluation.audit.controls import Judge
from thermocancer.evaluation.audit.findings import hidden_shortcuts, named_shortcuts
from thermocancer.evaluation.audit.nuisance import PICTURE, association, nuisance_controls
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.evaluation.report.exams import ExamFacts
from thermocancer.evaluation.statistics.intervals import wilson
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run

TIES = {
    "calendar": "calendar", "middle third": "calendar", "site": "column", "blur": "camera", "second format": "camera",
}  # fmt: skip
"""Each tie with the family that must be named."""

NONE = "none"
FIRST_DAY = datetime.date(2013, 1, 1).toordinal()


@dataclass(frozen=True)
class Rate:
    """What was found in ``studies`` studies of one cell: how many named ``right``ly, and how many anything ``else``.

    ``named`` counts studies in which the verdict speaks of any shortcut.
    """

    tie: str
    auc: float
    patients: int
    prevalence: float
    studies: int
    named: int
    right: int

    @property
    def wrong(self) -> int:
        """Studies that missed their goal: named where there is none, or the tie not named."""
        return self.named if self.tie == NONE else self.studies - self.right

    @property
    def meets_the_goal(self) -> bool | None:
        """Is at most one in twenty wrong? None where nothing was promised: ties weaker than .8, or few patients."""
        small = self.patients < 40 or self.patients * min(self.prevalence, 1 - self.prevalence) < 8
        return None if small or (self.tie != NONE and self.auc < 0.8) else self.wrong <= 0.05 * self.studies

    def line(self) -> str:
        share = wilson(self.wrong, self.studies)
        goal = {True: "met", False: "NOT MET", None: "-"}[self.meets_the_goal]
        what = "false" if self.tie == NONE else "missed"
        return (
            f"| {self.tie} | {self.auc:.2f} | {self.patients} | {self.prevalence:.2f} | {what} "
            f"{self.wrong / self.studies:.3f} [{share.low:.3f}, {share.high:.3f}] | {self.studies} | {goal} |"
        )


def draw_scope(tie: str, auc: float, patients: int, prevalence: float, seed: int) -> Scope:
    """One study, with stratified folds for five repeats of cross-validation's first."""
    random = np.random.default_rng([seed, patients, round(100 * prevalence)])
    labels = np.zeros(patients, dtype=np.int64)
    labels[random.permutation(patients)[: round(prevalence * patients)]] = 1
    place = random.random(patients)
    if tie == "calendar":
        place = _apart(labels, auc, random)
    if tie == "middle third":
        far = -_apart(labels, auc, random)  # the sick are near the middle
        place = random.choice((-1.0, 1.0), patients) * (np.argsort(np.argsort(far)) + 0.5)
    order = np.argsort(np.argsort(place))
    days = FIRST_DAY + np.sort(random.integers(0, 2700, patients))[order]
    measured = {name: random.normal(size=patients) for name in PICTURE}
    if tie == "blur":
        measured["edge_sharpness"] = -_apart(labels, auc, random)
    sites = _kinds(labels, auc if tie == "site" else 0.5, random)
    second = _kinds(labels, auc if tie == "second format" else 0.5, random)
    exams, facts = [], {}
    for row in range(patients):
        day = datetime.date.fromordinal(int(days[row])).isoformat()
        formats = (("Frontal", "space2"), ("Right", ("space2", "grey8")[second[row]]))
        exam = Exam(int(order[row]) + 1, 1, int(labels[row]), day, "space2", (), formats)
        sizes = {"Frontal": int(random.integers(150_000, 155_000))}
        facts[exam.patient, 1] = ExamFacts(
            day, "space2", {"Frontal": "a", "Right": "b"}, age=int(random.integers(30, 80)), sizes=sizes,
            columns={"site": ("north", "south")[sites[row]]},
        )  # fmt: skip
        exams.append(exam)
    fold = np.zeros(patients, dtype=np.int64)
    for label in (0, 1):
        rows = random.permutation(np.flatnonzero(labels == label))
        fold[rows] = np.arange(len(rows)) % 5
    folds = tuple(
        Fold(f"1.{part + 1}", np.flatnonzero(fold != part), np.flatnonzero(fold == part)) for part in range(5)
    )
    cohort = ArrayCohort(tuple(exams), {"Frontal": np.zeros((patients, 2, 2), np.uint16)}, measured=measured)
    nobody = cast(Run, None)  # the nuisance variables do not ask the run
    return Scope(nobody, tuple(exams), np.arange(patients), folds, cohort, facts, wanted=("site",))


def _apart(labels: IntArray, auc: float, random: np.random.Generator) -> FloatArray:
    """Normal scores (n,) that rank a sick above a healthy exam with chance ``auc``."""
    shift = np.sqrt(2) * NormalDist().inv_cdf(min(auc, 0.9999))
    return np.asarray(random.normal(size=len(labels)) + shift * labels)


def _kinds(labels: IntArray, auc: float, random: np.random.Generator) -> IntArray:
    """One of two kinds (n,), the second for a share ``auc`` of the sick and of 1 - ``auc`` of the healthy."""
    return np.asarray((random.random(len(labels)) < np.where(labels == 1, auc, 1 - auc)).astype(np.int64))


def families_named(scope: Scope, seed: int, bootstrap: int = 200) -> tuple[set[str], bool]:
    """Families that the verdict names, and whether it speaks of any shortcut, beside a model that knows nothing."""
    random = np.random.default_rng([seed, 77])
    rows = [
        Prediction(scope.exams[row].patient, 1, fold.name, scope.exams[row].label, float(random.random()), 0)
        for fold in scope.folds
        for row in fold.test
    ]
    controls = nuisance_controls(scope, Judge(gather_units(rows), 0.95, bootstrap, seed, tuple(rows)))
    named = {each["family"] for each in named_shortcuts(controls, partial(association, scope))}
    return named, bool(named) or bool(hidden_shortcuts(controls))


def rate_of(tie: str, auc: float, patients: int, prevalence: float, studies: int) -> Rate:
    """Draw and audit the studies of one cell."""
    found = [families_named(draw_scope(tie, auc, patients, prevalence, seed), seed) for seed in range(studies)]
    right = sum(TIES.get(tie) in named for named, _ in found)
    return Rate(tie, auc, patients, prevalence, studies, sum(spoken for _, spoken in found), right)


def rates(
    patients: Sequence[int], prevalences: Sequence[float], aucs: Sequence[float], studies: int,
    ties: Sequence[str] = (NONE, *TIES),
) -> Iterator[Rate]:  # fmt: skip
    """Every cell, as it is done."""
    for tie in ties:
        for auc in (0.5,) if tie == NONE else aucs:
            for count in patients:
                for prevalence in prevalences:
                    yield rate_of(tie, auc, count, prevalence, studies)


# --- for the page of evidence -----------------------------------------------------------------------------------------


def read_rates(path: Path) -> list[Rate]:
    """What ``--json`` wrote."""
    names = [each.name for each in fields(Rate)]
    return [Rate(**{name: row[name] for name in names}) for row in json.loads(path.read_text(encoding="utf-8"))]


def misses(rate: float, studies: int, lowest: float, highest: float) -> str:
    """The Wilson interval over studies of a rate, where it excludes the goal; else nothing."""
    seen = wilson(round(rate * studies), studies)
    if seen.low is None or seen.high is None or (seen.high >= lowest and seen.low <= highest):
        return ""
    return f"{rate:.3f} [{seen.low:.3f}, {seen.high:.3f}]"


def missed_shortcuts(counted: Sequence[Rate]) -> list[str]:
    """A line for each cell whose interval over studies excludes the goal."""
    lines = []
    for each in counted:
        seen = misses(each.wrong / each.studies, each.studies, 0.0, 0.05)
        if seen and each.meets_the_goal is not None:
            what = "false" if each.tie == NONE else f"AUC {each.auc:g} missed"
            lines.append(
                f"- shortcuts, {each.tie}, {each.patients} patients, {each.prevalence:.0%} sick: {what} "
                f'{seen}, asked <= 0.05; the report says there "not shown" where it cannot say "shown absent", and '
                "below what AUC no shortcut can be counted on to be named"
            )
    return lines


def command_of(counted: Sequence[Rate]) -> str:
    """What to type for just these cells."""
    asked = {"patients": "patients", "prevalence": "prevalence", "auc": "auc", "tie": "ties"}
    options = [
        f"--{option} " + " ".join(dict.fromkeys(f"'{value}'" if " " in str(value) else str(value) for value in values))
        for name, option in asked.items()
        if (values := [getattr(each, name) for each in counted])
    ]
    return f"python benchmarks/shortcut_rates.py {' '.join(options)} --studies {counted[0].studies}"


def shortcut_table(counted: Sequence[Rate]) -> list[str]:
    """The cells, and what to type for those of as many studies."""
    sizes = sorted({each.studies for each in counted})
    return [
        "", "## Shortcuts", "",
        *(f"Counted by `{command_of([each for each in counted if each.studies == size])}`." for size in sizes),
        "A tie has the AUC of the best score that could be made of it; it is missed where its family is not named, and",
        "false is any word of a shortcut where there is none.", "", HEAD, *(each.line() for each in counted),
    ]  # fmt: skip


HEAD = """| tie | AUC | patients | sick | share of studies with the wrong verdict | studies | goal |
|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[40, 80, 160, 300])
    parser.add_argument("--prevalence", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--auc", type=float, nargs="+", default=[0.7, 0.8, 0.9, 1.0])
    parser.add_argument("--ties", nargs="+", choices=(NONE, *TIES), default=(NONE, *TIES))
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--json", type=Path, help="also write the counts here")
    asked = parser.parse_args()
    done = []
    print(HEAD)
    for rate in rates(asked.patients, asked.prevalence, asked.auc, asked.studies, asked.ties):
        print(rate.line(), flush=True)
        done.append({**asdict(rate), "wrong": rate.wrong, "meets_the_goal": rate.meets_the_goal})
    if asked.json is not None:
        asked.json.write_text(json.dumps(done, indent=2) + "\n")


if __name__ == "__main__":
    main()
