"""An effect laid over its thermogram: degrees in grey, the effect in colour, left and right marked."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import FloatArray
from thermocancer.evaluation.report.figures import mark_sides, new_figure, png_bytes

PICTURE, LEFT_BAR, RIGHT_BAR = (0.125, 0.03, 0.655, 0.94), (0.09, 0.08, 0.02, 0.84), (0.8, 0.08, 0.02, 0.84)
"""Left, bottom, width and height as parts of the figure."""


def draw_heatmap(celsius: npt.NDArray[np.floating[Any]], effect: FloatArray, view: str, *, unit: str) -> bytes:
    """A thermogram (height, width) in degC with ``effect`` (height, width) over it, as PNG.

    Red speaks for sick, blue for healthy; the grey scale is in degC.
    """
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
    figure.colorbar(_solid(strongest), cax=figure.add_axes(RIGHT_BAR), location="right", label=unit)
    return png_bytes(figure, dpi=100)


def _solid(strongest: float) -> Any:
    """The effect's own scale without its transparency."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm

    return ScalarMappable(TwoSlopeNorm(0, -strongest, strongest), "RdBu_r")
