"""What may be said of one exam: where a source would be, how deep, how sure, and whether anything may be said at all.

The region is of places and depths together. Which cells it takes at a depth is set by conformal prediction with one
threshold a depth band (Vovk 2013, Machine Learning 92:349, label-conditional): of the sources *in each band*, not only
of all together, it holds the share that was asked for, whatever the network's own probabilities are worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.config.judging import LocateSection
from thermocancer.locate import FloatArray
from thermocancer.locate.chest import CELL_MM, COLUMNS, ROWS
from thermocancer.locate.network import (
    DEPTH_EDGES,
    DIAMETER_EDGES,
    HALF,
    HEAT_EDGES,
    Outputs,
    cell_of,
    inputs_of,
    outputs,
)
from thermocancer.locate.solving import RADII
from thermocancer.locate.training_set import Exams, Phantoms
from thermocancer.phantom.contrast import Footprint
from thermocancer.phantom.detectability import Observer
from thermocancer.progress import Task

if TYPE_CHECKING:
    import keras

BANDS = (20.0, 25.0, 30.0, 36.0)
"""Millimetres of depth at which bands meet; each is one of ``DEPTH_EDGES``."""

NEAR_MM = 10.0
"""A place this near to the truth is called right: confidence is the probability of that."""

NOISE_CELSIUS = 0.05
"""Of one frame, for the observer who draws the detectability curve."""

LIMITS = {"depth": (9.0, 54.0), "diameter": (10.0, 35.0), "heat": (1.0e5, 1.2e6)}
"""Where the outermost bins end, mm and W/m3."""

CALIBRATING = 3000
"""Exams on which region, probability and abstention are calibrated."""


@dataclass(frozen=True)
class Calibration:
    """``region`` thresholds of cumulative probability, by depth band; ``slope`` and ``intercept`` of the log-odds that
    there is a source; ``locatable``: the confidence from which on a place is told. ``exams``: how many it rests on."""

    region: tuple[float, ...]
    slope: float
    intercept: float
    locatable: float
    exams: int

    def probability(self, log_odds: FloatArray) -> FloatArray:
        """That there is a source, where half of the exams have one; any shape."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * log_odds + self.intercept))))


@dataclass(frozen=True)
class Quantity:
    """The network's posterior of a number for a source near the point: its median, and what 90 % of it lies between."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Posterior:
    """One exam's answer. ``row`` and ``column`` on the grid; ``region`` (bands, ROWS, COLUMNS) is the calibrated one.

    ``place`` (ROWS, COLUMNS) sums up to 1; ``right`` and ``quadrants`` are its shares. ``confidence`` is the
    probability that there is a source and that it lies within ``NEAR_MM`` of the point. Depth and diameter in mm.
    """

    probability: float
    confidence: float
    locatable: bool
    row: float
    column: float
    right: float
    depth: Quantity
    diameter: Quantity
    heat: Quantity
    quadrants: dict[str, float]
    place: FloatArray
    region: npt.NDArray[np.bool_]
    breasts: FloatArray

    @property
    def area_cm2(self) -> float:
        """Of the region as it is seen from the front."""
        return float(self.region.any(axis=0).sum()) * (CELL_MM / 10) ** 2


def answer(said: Outputs, number: int, calibration: Calibration) -> Posterior:
    """The posterior of one of the exams."""
    probability = float(calibration.probability(said.present[number]))
    place = _place(said, number)
    row, column, near = point(place)
    disc = place * (_distance(row, column) <= NEAR_MM)
    weights = _halved(disc).ravel() / disc.sum()
    quantities = {
        name: _quantity(weights @ np.exp(bins[number].astype(np.float64)), edges, LIMITS[name])
        for name, bins, edges in (
            ("depth", said.depth, DEPTH_EDGES), ("diameter", said.diameter, DIAMETER_EDGES),
            ("heat", said.heat, HEAT_EDGES),
        )
    }  # fmt: skip
    ranks = cumulative(joint(said, number))
    region = (ranks <= np.array(calibration.region)[:, None, None]) | (ranks == ranks.min())  # never empty
    confidence = probability * near
    right = float(place[:, : COLUMNS // 2].sum())
    return Posterior(
        probability, confidence, confidence >= calibration.locatable, row, column, right, **quantities,
        quadrants=_quadrants(place, said.breasts[number]), place=place, region=region, breasts=said.breasts[number],
    )  # fmt: skip


def point(place: FloatArray) -> tuple[float, float, float]:
    """The place (row, column) that most of the probability (ROWS, COLUMNS) lies near, and how much of it does."""
    from scipy.ndimage import convolve

    reach = int(NEAR_MM / CELL_MM)
    across = np.arange(-reach, reach + 1) * CELL_MM
    near = convolve(place, (np.hypot(across[:, None], across[None]) <= NEAR_MM) * 1.0, mode="constant")
    top = np.unravel_index(int(np.argmax(near)), near.shape)
    disc = place * (_distance(top[0] + 0.5, top[1] + 0.5) <= NEAR_MM)
    total = max(float(disc.sum()), 1e-12)
    row = float((disc.sum(axis=1) @ (np.arange(ROWS) + 0.5)) / total)
    column = float((disc.sum(axis=0) @ (np.arange(COLUMNS) + 0.5)) / total)
    return row, column, min(total, 1.0)


def _place(said: Outputs, number: int) -> FloatArray:
    """One exam's probability of each cell, (ROWS, COLUMNS)."""
    return np.asarray(np.exp(said.place[number].astype(np.float64)).reshape(ROWS, COLUMNS))


def _distance(row: float, column: float) -> FloatArray:
    """Millimetres of every cell from a place, (ROWS, COLUMNS)."""
    down, across = np.arange(ROWS)[:, None] + 0.5 - row, np.arange(COLUMNS)[None] + 0.5 - column
    return np.asarray(CELL_MM * np.hypot(down, across))


def _halved(cells: FloatArray) -> FloatArray:
    return np.asarray(cells.reshape(HALF[0], 2, HALF[1], 2).sum(axis=(1, 3)))


def _quantity(bins: FloatArray, edges: tuple[float, ...], limits: tuple[float, float]) -> Quantity:
    """Median and 5th and 95th percentile of a histogram, even within each bin."""
    ends = np.array([limits[0], *edges, limits[1]])
    below = np.concatenate([[0.0], np.cumsum(bins / bins.sum())])
    low, median, high = np.interp([0.05, 0.5, 0.95], below, ends)
    return Quantity(float(median), float(low), float(high))


def _quadrants(place: FloatArray, breasts: FloatArray) -> dict[str, float]:
    """Share of each breast's quadrants, and of its middle third; places off both breasts count to the nearer one."""
    rows, columns = np.arange(ROWS)[:, None] + 0.5, np.arange(COLUMNS)[None] + 0.5
    found: dict[str, float] = {}
    for side, (name, here) in enumerate((("right", columns < COLUMNS / 2), ("left", columns >= COLUMNS / 2))):
        row, column, radius = breasts[side]
        middle = np.hypot(rows - row, columns - column) <= 0.3 * radius
        upper, outer = rows < row, (columns < column) if side == 0 else (columns > column)
        parts = {
            "central": middle, "upper-outer": ~middle & upper & outer, "upper-inner": ~middle & upper & ~outer,
            "lower-outer": ~middle & ~upper & outer, "lower-inner": ~middle & ~upper & ~outer,
        }  # fmt: skip
        found |= {f"{name} {part}": float(place[here & mask].sum()) for part, mask in parts.items()}
    return found


# --- the region ---------------------------------------------------------------


def joint(said: Outputs, number: int) -> FloatArray:
    """Probability of a source in each depth band and cell, (bands, ROWS, COLUMNS)."""
    ends = [0, *(DEPTH_EDGES.index(edge) + 1 for edge in BANDS), len(DEPTH_EDGES) + 1]
    bins = np.exp(said.depth[number].astype(np.float64)).reshape(*HALF, -1)
    bands = np.add.reduceat(bins, ends[:-1], axis=2)
    return np.asarray(_place(said, number) * np.moveaxis(bands.repeat(2, axis=0).repeat(2, axis=1), 2, 0))


def cumulative(probability: FloatArray) -> FloatArray:
    """For each entry, the probability of all that are at least as probable; any shape."""
    order = np.argsort(-probability, axis=None, kind="stable")
    result = np.empty(probability.size)
    result[order] = np.cumsum(probability.ravel()[order])
    return result.reshape(probability.shape)


def ranks_of_truth(said: Outputs, exams: Exams) -> FloatArray:
    """Cumulative probability at each exam's true place and depth, (n)."""
    true = zip(np.digitize(exams.depth, BANDS), cell_of(exams.place), strict=True)
    found = [cumulative(joint(said, n)).reshape(-1, ROWS * COLUMNS)[entry] for n, entry in enumerate(true)]
    return np.array(found, dtype=np.float64)


# --- calibration on phantoms that were not taught ----------------------------------------


def observers_auc(warmth: FloatArray) -> FloatArray:
    """AUC of the ideal observer, told the place, on one frame and patchy skin, for footprints (n, RADII): (n).

    Below ``locate.below_curve`` a source is below the detectability curve: at .95 an ideal observer who has to search
    both breasts (some fifty places of a footprint's width) is right about half the time.
    """
    observer = Observer(NOISE_CELSIUS, 1, 1.0)
    nothing = np.zeros((0, len(RADII)))
    return np.array([observer.auc(Footprint(RADII, each, nothing)) for each in warmth * faded(RADII)], dtype=np.float64)


def faded(distance: FloatArray) -> FloatArray:
    """Share kept of a footprint at distances in metres, so that an observer does not see its table's end."""
    return np.asarray(np.cos(np.pi / 2 * np.clip((distance - 0.05) / 0.05, 0.0, 1.0)) ** 2)


SEEN = ("frontal", "oblique", "dynamic")
"""What an exam shows, each calibrated by itself: the frontal view alone, an oblique one beside it, a recovery."""


def calibrate(
    model: keras.Model, phantoms: Phantoms, section: LocateSection, seed: int, task: Task, seen: str
) -> Calibration:
    """Thresholds and probabilities from phantoms drawn as ``simulate`` draws them, of which one of ``SEEN`` is shown.

    Half of them have a source. Of a recovery, half come without the static view, and half without oblique ones.
    """
    rng = np.random.default_rng([seed, 32])
    ranks, bands, log_odds, present, nearness, auc = ([] for _ in range(6))
    part = min(250, CALIBRATING)
    for _ in range(-(-CALIBRATING // part)):
        exams = phantoms.exams(rng, part, sick=0.5, unanswered=0.0, dynamic=seen == "dynamic")
        bare, alone = rng.random((2, part)) < 0.5
        exams.oblique[bare if seen == "dynamic" else np.full(part, seen == "frontal")] = 0.0
        exams.frontal[alone] = exams.late[alone]  # the same where there is no recovery
        said = outputs(model, inputs_of(exams))
        there = np.flatnonzero(exams.present)
        ranks.append(ranks_of_truth(said, exams)[there])
        bands.append(np.digitize(exams.depth, BANDS)[there])
        nearness.append([point(_place(said, n))[2] for n in there.tolist()])
        auc.append(observers_auc(exams.warmth[there]))
        log_odds.append(said.present)
        present.append(exams.present)
        task.advance(part)
    rank, band, odds, here = (np.concatenate(each) for each in (ranks, bands, log_odds, present))
    slope, intercept = _logistic_line(odds.astype(np.float64), here.astype(np.bool_))
    found = Calibration(
        tuple(_quantile(rank[band == number], section.region) for number in range(len(BANDS) + 1)),
        slope, intercept, 0.0, len(odds),
    )  # fmt: skip
    sure = found.probability(odds[here]) * np.concatenate(nearness)
    below = sure[np.concatenate(auc) < section.below_curve]
    return replace(found, locatable=_quantile(below, section.abstention))


def _quantile(values: FloatArray, share: float) -> float:
    """The conformal quantile: of so many values and one more, ``share`` are at or below it. 1 for too few."""
    place = int(np.ceil((len(values) + 1) * share))
    return float(np.sort(values)[place - 1]) if 0 < place <= len(values) else 1.0


def _logistic_line(log_odds: FloatArray, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one variable (Platt 1999), by Newton's steps."""
    design, weights = np.stack([log_odds, np.ones_like(log_odds)], axis=1), np.zeros(2)  # from 0 the steps are short
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-np.clip(design @ weights, -30, 30)))
        curve = (design * (p * (1 - p))[:, None]).T @ design + 1e-3 * np.eye(2)
        weights = weights + np.linalg.solve(curve, design.T @ (truth - p) - 1e-3 * (weights - np.array([1.0, 0.0])))
    return float(weights[0]), float(weights[1])
