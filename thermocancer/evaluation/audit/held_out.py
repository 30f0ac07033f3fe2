"""What features of somebody's model hold of a fact: a ridge on them that is not taught one of its values, or taught it.

The features are those of any frozen model, a row for each row of the table of scores. Nothing is trained but ridges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist

import numpy as np

from thermocancer.data.cohort import BoolArray, FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.score_tables import Scored
from thermocancer.evaluation.report.page import with_interval
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.intervals import percentile_interval
from thermocancer.evaluation.statistics.resampling import auc_of, patient_counts
from thermocancer.files import Json

MATERIAL = 0.05
"""A smaller loss of AUC is not named: the band of a decline on outside data in Yu et al. 2022 (Radiol AI 4:e210064)."""

LEAST = 8
"""Units of each kind without which nothing is judged."""

NAMED_BELOW = 0.05
FOLDS, SHUFFLES, DRAWS, MOST_DRAWN = 5, 100, 500, int(2e6)


def read_features(path: Path, table: Scored) -> FloatArray:
    """Features (n, p) of the table's units, standardised. Raises DataError for anything but a number in each place."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError("no array of features can be read", where=path, expected="a .npy file", found=error) from error
    if found.ndim != 2 or len(found) != len(table.rows) or found.dtype.kind not in "fiu":
        raise DataError(
            "these are not features of the scores", where=path, found=f"{found.dtype} of shape {found.shape}",
            expected=f"numbers, {len(table.rows)} rows as the scores have, a column a feature",
        )  # fmt: skip
    own = found[np.array(table.places)].astype(np.float64)
    if not np.isfinite(own).all():
        row, column = np.argwhere(~np.isfinite(own))[0]
        where = f"{path}, row {table.places[row] + 1}, column {column + 1}"
        raise DataError("a feature is no number", where=where, expected="finite numbers", found=own[row, column])
    spread = own.std(axis=0)
    own = (own - own.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    if own.shape[1] > len(own):  # rotated into as many directions as there are units: a ridge is the same there
        lengths, axes = np.linalg.eigh(own @ own.T)
        own = axes * np.sqrt(np.maximum(lengths, 0.0))
    return np.asarray(own)


@dataclass(frozen=True)
class Ridges:
    """Ridges on features (n, p) for targets (n, m), each without some rows.

    The penalty is the number of features: as much signal as noise is expected, spread evenly over them. Sums are made
    once and a part's are taken away, so that 10,000 units of 512 features take seconds.
    """

    features: FloatArray
    targets: FloatArray

    @cached_property
    def _sums(self) -> FloatArray:
        return self._sums_of(np.ones(len(self.features), bool))

    def _sums_of(self, rows: BoolArray) -> FloatArray:
        """Products of features and a column of ones (p + 1) with these and the targets (p + 1 + m)."""
        own = np.column_stack([self.features[rows], np.ones(rows.sum())])
        return np.asarray(own.T @ np.column_stack([own, self.targets[rows]]))

    def without(self, rows: BoolArray, asked: BoolArray) -> FloatArray:
        """Scores (asked, m) of some rows by ridges that were not taught ``rows``; both masks (n)."""
        width, total = self.features.shape[1], self._sums - self._sums_of(rows)
        n, mean, levels = total[width, width], total[:width, width], total[width, width + 1 :]
        square = total[:width, :width] - np.outer(mean, mean) / n
        along = total[:width, width + 1 :] - np.outer(mean, levels) / n
        weights = np.linalg.solve(square + width * np.eye(width), along)
        return np.asarray((self.features[asked] - mean / n) @ weights)

    def out_of_fold(self, parts: Sequence[IntArray]) -> FloatArray:
        """Scores (n, m) of all rows, each by ridges that were not taught its part."""
        scores = np.zeros(self.targets.shape)
        for part in parts:
            inside = np.isin(np.arange(len(scores)), part)
            scores[inside] = self.without(inside, inside)
        return scores


def held_out(
    table: Scored, features: FloatArray, tested: IntArray, confidence: float, seed: int
) -> tuple[list[Json], list[Json]]:  # fmt: skip
    """``dropped`` and ``encoded``, lines of the categories among the facts.

    ``dropped``: AUC within the values, of a ridge taught on all of them in grouped folds, less that of ridges each of
    which is not taught the value it is asked about; the interval is the group bootstrap's, p of a normal with its
    spread. ``encoded``: how well a ridge tells the value that it tells best, in each class of the ``tested`` units.
    """
    labels, groups = (np.array([getattr(exam, name) for exam in table.exams]) for name in ("label", "patient"))
    counts = patient_counts(groups, max(100, min(DRAWS, MOST_DRAWN // len(groups))), seed, key=7)
    counts = np.concatenate([np.ones((1, len(groups))), counts])
    ridges = Ridges(features, labels[:, None].astype(np.float64))
    home = ridges.out_of_fold(_parts(labels, groups, seed))[:, 0]
    dropped: list[Json] = []
    encoded: list[Json] = []
    for fact in (each for each in table.facts if not each.ordered):
        name = fact.name.removeprefix("column_")
        texts, codes = np.unique([cell.strip().casefold() for cell in table.cells[name]], return_inverse=True)
        values = [codes == code for code in range(len(texts))]
        told = [own for own in values if np.bincount(2 * own + labels, minlength=4).min() >= LEAST]
        both, weight = np.zeros((2, len(counts))), np.full(len(counts), 1e-12)
        for own in told if len(told) > 1 else []:
            away = ridges.without(np.isin(groups, groups[own]), own)[:, 0]
            drawn, pairs = counts[:, own], (counts[:, own] @ labels[own]) * (counts[:, own] @ (1 - labels[own]))
            for row, scores in zip(both, (home[own], away), strict=True):
                row += pairs * np.nan_to_num(auc_of(drawn, labels[own], scores))
            weight += pairs
        if len(told) > 1:
            taught, untaught = both / weight
            lost = taught - untaught
            found, spread = percentile_interval(lost[1:], float(lost[0]), confidence, ""), float(lost[1:].std())
            dropped.append({
                "fact": name, "values": len(told), "n": int(sum(own.sum() for own in told)),
                "taught": float(taught[0]), "untaught": float(untaught[0]), "value": found.value, "low": found.low,
                "high": found.high, "p": 1 - NormalDist().cdf(lost[0] / spread) if spread > 0 else 1.0,
            })  # fmt: skip
        for label, among in ((0, "negative"), (1, "positive")):
            inside = tested[labels[tested] == label]
            line = _encoded(features[inside], codes[inside], groups[inside], seed)
            if line is not None:
                encoded.append(line | {"fact": f"{name} = {texts[line['code']] or 'unknown'}", "among": among})
    for lines in (dropped, encoded):
        for each, p in zip(lines, holm([each["p"] for each in lines]), strict=True):
            each["p_holm"] = p
    return dropped, encoded


def _encoded(features: FloatArray, codes: IntArray, groups: IntArray, seed: int) -> Json | None:
    """How well a ridge tells the value that it tells best (out of fold, by group); None where none is frequent enough.

    p: of the best value's AUC among those of values shuffled between groups, by Pearson's type III. (The bootstrap's
    spread is too small: with it features that hold nothing were said to hold a site in a fifth of cohorts.)
    """
    from scipy.stats import pearson3, rankdata, skew

    kinds, times = np.unique(codes, return_counts=True)
    kinds = kinds[(times >= LEAST) & (len(codes) - times >= LEAST)]
    if not len(kinds):
        return None
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    if (codes[first][place] != codes).any():  # a group with several values: units are shuffled
        first = place = np.arange(len(codes))
    random = np.random.default_rng([seed, 0xF0])
    shuffled = [codes, *(random.permutation(codes[first])[place] for _ in range(SHUFFLES))]
    targets = np.concatenate([each[:, None] == kinds for each in shuffled], axis=1).astype(np.float64)
    scores = Ridges(features, targets).out_of_fold(_parts(codes, groups, seed))
    many = targets.sum(axis=0)
    above = (rankdata(scores, axis=0) * targets).sum(axis=0) - many * (many + 1) / 2
    aucs = (above / (many * (len(codes) - many))).reshape(len(shuffled), len(kinds))
    best = aucs.max(axis=1)
    p = pearson3.sf((best[0] - best[1:].mean()) / max(best[1:].std(), 1e-12), skew=float(skew(best[1:])))
    return {"code": int(kinds[aucs[0].argmax()]), "value": float(best[0]), "n": len(codes), "p": float(p)}


def _parts(kinds: IntArray, groups: IntArray, seed: int) -> list[IntArray]:
    """Rows of each of ``FOLDS`` parts; groups stay whole, and each part has its share of every kind's."""
    _, first, place = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng([seed, 0xF1]).random(len(first)), kinds[first]))
    part = np.empty(len(first), dtype=np.int64)
    part[order] = np.arange(len(first)) % FOLDS
    return [np.flatnonzero(part[place] == number) for number in range(min(FOLDS, len(first)))]


def is_named(line: Json) -> bool:
    """Is a loss shown, and large enough to matter?"""
    return bool(line["p_holm"] < NAMED_BELOW and line["value"] >= MATERIAL)


def sentences(dropped: Sequence[Json], encoded: Sequence[Json]) -> list[str]:
    """What is to be said of the features."""

    return [
        *(f"A ridge on the features that is not taught a value of `{each['fact']}` ranks {each['untaught']:.3f} of its "
          f"pairs right instead of {each['taught']:.3f}: a loss of {with_interval(each)}."
          for each in dropped if is_named(each)),
        *(f"The features tell {each['fact']} among {each['among']} units alone: AUC {each['value']:.3f}."
          for each in encoded if each["p_holm"] < NAMED_BELOW),
    ]  # fmt: skip
