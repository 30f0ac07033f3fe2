"""Every misclassified unit, with its thermogram where the workspace still has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import Rendering
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.report.catalog_facts import ExamFacts, ExamKey
from thermocancer.evaluation.statistics.units import Units
from thermocancer.workspace import LABELS, VIEWS, Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDES = {"Frontal": ("R", "L"), "Right45": ("R", "L"), "Left45": ("R", "L")}
"""Letters for the left and right edge of the picture: the camera faces the patient."""


def misclassified(units: Units, threshold: float | None) -> list[dict[str, Any]]:
    """The units that were called wrong, furthest from the operating point first."""
    middle = 0.5 if threshold is None else threshold
    wrong = np.flatnonzero(units.decisions != units.labels)
    order = sorted(wrong, key=lambda row: (-abs(units.scores[row] - middle), units.patients[row], units.visits[row]))
    return [_entry(units, int(row)) for row in order]


def _entry(units: Units, row: int) -> dict[str, Any]:
    patient, visit = int(units.patients[row]), int(units.visits[row])
    return {
        "name": f"patient {patient}" + (f", visit {visit}" if visit else ""),
        "patient": patient,
        "visit": visit,
        "truth": LABELS[int(units.labels[row])],
        "called": LABELS[int(units.decisions[row])],
        "score": float(units.scores[row]),
    }


def with_pictures(
    items: list[dict[str, Any]], facts: dict[ExamKey, ExamFacts], workspace: Workspace
) -> list[dict[str, Any]]:
    """The same entries with ``picture`` (PNG bytes or None), ``view`` and ``range`` in words."""
    return [item | _thumbnail_of(item, facts, workspace) for item in items]


def _thumbnail_of(item: dict[str, Any], facts: dict[ExamKey, ExamFacts], workspace: Workspace) -> dict[str, Any]:
    nothing = {"picture": None, "view": None, "range": None}
    visits = [key for key in sorted(facts) if key[0] == item["patient"] and item["visit"] in (0, key[1])]
    if not visits:
        return nothing
    files = facts[visits[0]].files
    view = next((view for view in VIEWS if view in files), None)
    if view is None:
        return nothing
    from thermocancer.thermal.reading import read_matrix

    try:
        celsius = read_matrix(workspace.raw / files[view]).celsius
    except (ThermocancerError, OSError):
        return nothing  # the page is still worth having where raw/ has been moved away
    return {
        "picture": thermogram_png(celsius, view),
        "view": view,
        "range": f"{np.nanmin(celsius):.1f} to {np.nanmax(celsius):.1f} degC",
    }


def thermogram_png(celsius: npt.NDArray[np.float64], view: str, width: int = 240) -> bytes:
    """A thermogram on a fixed scale with the patient's sides marked, as PNG."""
    from thermocancer.evaluation.report.figures import png_bytes
    from thermocancer.thermal.rendering import render

    step = max(1, celsius.shape[1] // width)
    figure, axes = _bare_figure(celsius.shape, width)
    axes.imshow(render(celsius[::step, ::step], Rendering()), interpolation="nearest", aspect="auto")
    mark_sides(axes, view)
    return png_bytes(figure, dpi=100)


def _bare_figure(shape: tuple[int, ...], width: int) -> tuple[Any, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, width / 100 * shape[0] / shape[1]))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def mark_sides(axes: Axes, view: str) -> None:
    """Write L and R, the patient's own, at the edges; side views carry their one side."""
    letters = SIDES.get(view, ("R", "") if view == "Right" else ("", "L"))
    for letter, place in zip(letters, (0.04, 0.96), strict=True):
        axes.text(
            place, 0.95, letter, transform=axes.transAxes, ha="center", va="top", color="white", fontsize=12,
            fontweight="bold",
        )  # fmt: skip
