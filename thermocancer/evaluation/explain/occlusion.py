"""Occlusion: how far a score falls when a patch of the thermogram is made unremarkable.

Works for any classifier (SVM, networks, feature models): it only asks for scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from thermocancer.classifiers.protocol import Fitted
from thermocancer.data.cohort import ArrayCohort, Cohort, FloatArray, IntArray, centi_celsius, degrees
from thermocancer.evaluation.report.figures import mark_sides, new_figure, png_bytes
from thermocancer.thermal.regions import torso_mask


@dataclass(frozen=True)
class Occlusion:
    """``effect`` (rows, columns): score with the patch minus score without it; 0 outside the body.

    Positive: the patch speaks for sick. ``score`` is the whole exam's.
    """

    view: str
    score: float
    effect: FloatArray

    def full_size(self, shape: tuple[int, int]) -> FloatArray:
        """The effect at every pixel, (height, width), blended between patches."""
        return stretched(self.effect, shape)

    def peak(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the pixel where the effect is greatest."""
        effect = self.full_size(shape)
        row, column = np.unravel_index(int(np.argmax(effect)), effect.shape)
        return int(row), int(column)


def stretched(grid: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """A coarse map at every pixel of a frame, (height, width), blended between its cells."""
    import cv2

    smooth = cv2.resize(grid.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth, dtype=np.float64)


def occlude(
    fitted: Fitted, cohort: Cohort, row: int, view: str, *, grid: tuple[int, int] = (8, 10), batch: int = 16,
    as_trained: Callable[[ArrayCohort], Cohort] = lambda cohort: cohort,
) -> Occlusion:  # fmt: skip
    """Occlusion map of one exam's view on a grid of patches; patches off the body are left out.

    Each patch is replaced by the body's median temperature, so that nothing but its pattern goes.
    ``cohort`` holds degrees; ``as_trained`` turns copies of the exam into what the classifier reads.
    """
    exam = {name: centi_celsius(cohort, name, np.array([row]))[0] for name in cohort.views if cohort.present(name)[row]}
    at: IntArray = np.array([row])
    masks = {name: found[0, 0] for name in exam if (found := cohort.masks(name, at, (0,))) is not None}
    shown, torso = exam[view], torso_mask(degrees(cohort, view, at)[0])
    median = np.uint16(np.median(shown[torso]))
    boxes = patches(shown.shape, grid)
    on_body = [place for place, box in enumerate(boxes) if torso[box].mean() > 0.3]
    copies = [shown, *(shown.copy() for _ in on_body)]
    for copy, place in zip(copies[1:], on_body, strict=True):
        copy[boxes[place]] = np.where(torso[boxes[place]], median, shown[boxes[place]])
    measured = {name: values[row] for name, values in cohort.nuisance().items()}
    scores = []
    for start in range(0, len(copies), batch):
        some = np.stack(copies[start : start + batch])
        same = {name: np.broadcast_to(each, (len(some), *each.shape)) for name, each in exam.items()}
        known = {name: np.repeat(value, len(some)) for name, value in measured.items()}
        masked = {name: np.broadcast_to(each, (len(some), *each.shape)) for name, each in masks.items()}
        many = ArrayCohort((cohort.exams[row],) * len(some), same | {view: some}, measured=known, masked=masked)
        scores.append(np.asarray(fitted.scores(as_trained(many), np.arange(len(some))), dtype=np.float64))
    whole, *hidden = np.concatenate(scores)
    effect = np.zeros(len(boxes))
    effect[on_body] = whole - np.array(hidden)
    return Occlusion(view, float(whole), effect.reshape(grid))


def patches(shape: tuple[int, ...], grid: tuple[int, int]) -> list[tuple[slice, slice]]:
    """The grid's boxes, row by row, over a frame of ``shape`` (height, width)."""
    rows, columns = (np.linspace(0, shape[axis], grid[axis] + 1).round().astype(int).tolist() for axis in (0, 1))
    return [
        (slice(*above_below), slice(*left_right)) for above_below in pairwise(rows) for left_right in pairwise(columns)
    ]


# --- an effect laid over its thermogram: degrees in grey, the effect in colour, left and right marked -----------------

PICTURE, LEFT_BAR, RIGHT_BAR = (0.125, 0.03, 0.655, 0.94), (0.09, 0.08, 0.02, 0.84), (0.8, 0.08, 0.02, 0.84)
"""Left, bottom, width and height as parts of the figure."""

LOST = "score lost when hidden"
"""The unit of an occlusion map."""


def draw_heatmap(celsius: FloatArray, effect: FloatArray, view: str, *, unit: str) -> bytes:
    """A thermogram (height, width) in degC with ``effect`` (height, width) over it, as PNG.

    Red speaks for sick, blue for healthy; the grey scale is in degC.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, TwoSlopeNorm

    figure, axes = new_figure(5.6, 3.3)
    # places given, not found: a layout by constraints costs as much as the rest of the drawing
    figure.set_layout_engine("none")
    axes.set_position(PICTURE)
    axes.set_anchor("C")
    axes.grid(False)
    step = max(1, celsius.shape[1] // 320)
    warm = Normalize(*np.percentile(celsius, [2, 99.8]))
    grey = axes.imshow(celsius[::step, ::step], cmap="gray", norm=warm, interpolation="nearest")
    strongest = max(float(np.abs(effect).max()), 1e-6)
    shown = effect[::step, ::step]
    veil = np.clip(np.abs(shown) / strongest, 0, 1) ** 0.7 * 0.65
    colour = axes.imshow(
        shown, cmap="RdBu_r", norm=TwoSlopeNorm(0, -strongest, strongest), alpha=veil, interpolation="bilinear"
    )
    colour.set_alpha(veil)
    mark_sides(axes, view)
    axes.set_xticks([])
    axes.set_yticks([])
    figure.colorbar(grey, cax=figure.add_axes(LEFT_BAR), location="left", label="degC")
    # the effect's own scale without its transparency
    solid = ScalarMappable(TwoSlopeNorm(0, -strongest, strongest), "RdBu_r")
    figure.colorbar(solid, cax=figure.add_axes(RIGHT_BAR), location="right", label=unit)
    return png_bytes(figure, dpi=100)
