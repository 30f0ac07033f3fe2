"""The forest plot: the model beside everything that is no model of disease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thermocancer.evaluation.report.figures import ALARM, BASELINE, MODEL, MUTED, new_figure, png_bytes

COLOURS = {"none": MUTED, "amber": BASELINE, "red": ALARM, "leaky": BASELINE, "failed": ALARM, "model": MODEL}
Row = tuple[str, Mapping[str, Any], str]
"""Title, estimate (value, low, high) and flag."""


def draw_forest(
    groups: Sequence[tuple[str, Sequence[Row]]], *, reference: float | None, axis: str, middle: float
) -> bytes:
    """Points with intervals, grouped under headings; a solid line at ``reference``, a dotted one at ``middle``."""
    lines = sum(len(rows) + 1 for _, rows in groups)
    figure, axes = new_figure(8.6, 0.6 + 0.27 * lines)
    axes.grid(axis="y", visible=False)
    axes.axvline(middle, color=MUTED, linestyle=":", linewidth=1)
    if reference is not None:
        axes.axvline(reference, color=MODEL, linewidth=1, alpha=0.6)
    ticks: list[tuple[float, str, bool]] = []
    height = 0.0
    for heading, rows in groups:
        ticks.append((height, heading, True))
        for title, estimate, flag in rows:
            height -= 1
            ticks.append((height, title, False))
            _draw_row(axes, height, estimate, COLOURS.get(flag, MUTED))
        height -= 1
    axes.set_yticks([place for place, _, _ in ticks], [title for _, title, _ in ticks])
    for label, (_, _, is_heading) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_fontweight("bold" if is_heading else "normal")
        label.set_fontsize(9)
    axes.set_ylim(height + 0.4, 0.7)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(axis)
    return png_bytes(figure)


def _draw_row(axes: Any, height: float, estimate: Mapping[str, Any], colour: str) -> None:
    if estimate["low"] is not None:
        axes.plot(
            [estimate["low"], estimate["high"]], [height, height], color=colour, linewidth=2, solid_capstyle="butt"
        )
    if estimate["value"] is not None:
        axes.plot([estimate["value"]], [height], marker="o", color=colour, markersize=6)
        axes.annotate(
            f"{estimate['value']:.3f}", (1.0, height), xycoords=("axes fraction", "data"), xytext=(6, 0),
            textcoords="offset points", va="center", fontsize=8, color="#1f2933", annotation_clip=False,
        )  # fmt: skip
