"""One classifier fitted from several seeds: their mean score, their majority vote, and how far they lie apart."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer.classifiers.protocol import (
    CLASSIFIER_FILE,
    MEMBERS,
    Classifier,
    Family,
    Fitted,
    InnerScores,
    Probabilistic,
)
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.files import Json, write_json
from thermocancer.progress import Progress, Silent
from thermocancer.runs.predictions import Prediction

Scored = tuple[FloatArray, IntArray]
"""Scores in [0, 1], and what each row is called, 0 or 1; both (n,)."""


@dataclass(frozen=True, eq=False)
class SeedsFitted(Probabilistic):
    """What several seeds made of the same training rows; ``members`` by seed, ``threshold`` the mean of theirs.

    A family that does not keep its seeds numbers what it loads from 0.
    """

    members: Mapping[int, Fitted]
    family: Family
    threshold: float
    inner: InnerScores | None = None

    @classmethod
    def of(cls, members: Mapping[int, Fitted], family: Family) -> SeedsFitted:
        threshold = float(np.mean([each.threshold for each in members.values()]))
        return cls(members, family, threshold, _shared_inner([each.inner for each in members.values()]))

    def apart(self, cohort: Cohort, rows: IntArray) -> list[Scored]:
        """What each member says of the rows."""
        return [each.scored(cohort, rows) for each in self.members.values()]

    def together(self, apart: Sequence[Scored]) -> Scored:
        """The members' mean score and majority vote; a tied vote goes by the mean score."""
        scores = np.mean([each for each, _ in apart], axis=0)
        share = np.mean([calls for _, calls in apart], axis=0)
        return scores, np.where(share == 0.5, scores >= self.threshold, share > 0.5).astype(np.int64)

    def scored(self, cohort: Cohort, rows: IntArray) -> Scored:
        return self.together(self.apart(cohort, rows))

    def scores(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        return self.scored(cohort, rows)[0]

    def describe(self) -> Json:
        first = next(iter(self.members.values()))
        return {"kind": first.describe()["kind"], MEMBERS: list(self.members)}

    def save(self, folder: Path) -> None:
        """Write the members as their family keeps several, then ``classifier.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CLASSIFIER_FILE, self.family.save_members(self.members, folder, self.describe()))


def _shared_inner(parts: Sequence[InnerScores | None]) -> InnerScores | None:
    """Mean scores of the rows that every member held back, in the order of the first; None where one held back none."""
    known = [each for each in parts if each is not None]
    if not known or len(known) < len(parts):
        return None
    tables = [dict(zip(each.rows.tolist(), each.scores.tolist(), strict=True)) for each in known]
    shared = np.array([all(row in table for table in tables) for row in known[0].rows.tolist()], dtype=bool)
    rows = known[0].rows[shared]
    scores = np.mean([[table[row] for row in rows.tolist()] for table in tables], axis=0)
    return InnerScores(rows, known[0].labels[shared], scores)


@dataclass(frozen=True, eq=False)
class Seeds(Classifier):
    """Any classifier fitted ``count`` times, from ``seed``, ``seed`` + 1 and so on.

    ``family``, the wrapped classifier's own, tells how several of them share a folder.
    """

    classifier: Classifier
    count: int
    family: Family
    progress: Progress = field(default_factory=Silent, repr=False)

    @property
    def name(self) -> str:
        return f"{self.classifier.name}, {self.count} seeds"

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> SeedsFitted:
        """Fit every member on ``rows``; what the classifier raises passes through."""
        members: dict[int, Fitted] = {}
        with self.progress.task("seeds", self.count, "seeds") as task:
            for member in range(seed, seed + self.count):
                members[member] = self.classifier.fit(cohort, rows, labels, seed=member, fold=fold)
                task.advance()
        return SeedsFitted.of(members, self.family)


# --- how far they lie apart -----------------------------------------------------

Figures = dict[str, float]
"""Of one seed: its number, its threshold, AUC and accuracy on rows held back (``validation``) and on ``test`` rows."""


def seeds_of(first: int, parts: Sequence[tuple[float, Sequence[Prediction], Sequence[Prediction]]]) -> list[Figures]:
    """Figures of each seed, from ``first`` on, by its threshold, its held-back and its test scores."""
    from sklearn.metrics import roc_auc_score

    seeds = []
    for seed, (threshold, validation, test) in enumerate(parts, start=first):
        found: Figures = {"seed": seed, "threshold": threshold}
        for part, rows in (("validation", validation), ("test", test)):
            found[f"{part}_auc"] = float(roc_auc_score([row.label for row in rows], [row.score for row in rows]))
            found[f"{part}_accuracy"] = float(np.mean([row.predicted == row.label for row in rows]))
        seeds.append(found)
    return seeds


def spread_of(seeds: Sequence[Figures]) -> Figures:
    """Mean of the seeds' test figures and, of several seeds, their standard deviation."""
    found = {}
    for name in ("test_auc", "test_accuracy"):
        values = np.array([each[name] for each in seeds])
        found[f"{name}_mean"] = float(values.mean())
        if len(values) > 1:
            found[f"{name}_sd"] = float(values.std(ddof=1))
    return found


def seeds_table(seeds: Sequence[Figures]) -> str:
    """The figures as CSV, one line a seed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(seeds[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(seeds)
    return text.getvalue()
