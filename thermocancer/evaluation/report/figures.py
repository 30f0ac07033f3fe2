"""Curves and thermograms as PNG bytes: matplotlib without global state, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thermocancer.config.base import Rendering
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.statistics.curves import precision_recall_points
from thermocancer.files import Json, written_aside
from thermocancer.workspace import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MODEL, AMBER, MUTED, ALARM = "#1f2933", "#1b6ca8", "#d9822b", "#8a94a0", "#c0392b"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5c6670",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": "#5c6670",
    "ytick.color": "#5c6670",
    "legend.frameon": False,
    "figure.facecolor": "white",
}

# --- paper ------------------------------------------------------------------------------------------------------------


def new_figure(width: float = 4.6, height: float = 4.0) -> tuple[Figure, Axes]:
    """A figure (inches) with one pair of axes, drawn without pyplot so that nothing is left behind."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def png_bytes(figure: Figure, dpi: int = 130) -> bytes:
    """The figure as PNG without a software stamp: equal figures, equal bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.set_dpi(dpi)
        # not savefig, which draws everything twice
        figure.canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[attr-defined]
    return buffer.getvalue()


# --- curves of a run --------------------------------------------------------------------------------------------------


class RocLine(NamedTuple):
    """False positive rates and sensitivities of one ROC curve, and how it is drawn; ``band`` is of ``roc_band``."""

    points: tuple[FloatArray, FloatArray]
    legend: str
    colour: str
    width: float = 2
    band: Sequence[Json] = ()


def draw_roc(lines: Sequence[RocLine]) -> bytes:
    """ROC curves over the diagonal of guessing; later ones lie on top."""
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    for line in lines:
        axes.plot(*line.points, color=line.colour, linewidth=line.width, label=line.legend)
        _shade(axes, line.band, "false_positive_rate")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return png_bytes(figure)


def draw_precision_recall(lines: Sequence[RocLine], share: float, band: Sequence[Json], positive: str) -> bytes:
    """Precision against recall of the same lines, with the band of ``precision_recall_band``; the dotted line is the
    share of the positive class, what guessing gives.
    """
    figure, axes = new_figure()
    axes.axhline(share, color=MUTED, linestyle=":", linewidth=1, label=f"share of {positive}")
    for line in lines:
        recall, precision = precision_recall_points(line.points, share)
        recall, precision = np.r_[0.0, recall], np.r_[precision[0], precision]
        axes.step(
            recall, precision, where="pre", color=line.colour, linewidth=line.width, label=line.legend.split(",")[0]
        )
    _shade(axes, band, "recall")
    axes.set(xlabel="sensitivity (recall)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def _shade(axes: Axes, rows: Sequence[Json], along: str) -> None:
    places, low, high = ([row[name] for row in rows] for name in (along, "low", "high"))
    axes.fill_between(places, low, high, color=MODEL, alpha=0.15, linewidth=0)


def draw_accuracy(rows: Sequence[Json], threshold: float | None, decided: Mapping[str, float | None]) -> bytes:
    """Accuracy, sensitivity and specificity against one threshold for all; dots are what was ``decided``, the table's.

    Each fold decides by a threshold of its own, so that the dots need not lie on the curves.
    """
    steps = [row["threshold"] for row in rows]
    figure, axes = new_figure(5.2)
    for name, colour, width in (("accuracy", MODEL, 2.0), ("sensitivity", ALARM, 1.2), ("specificity", MUTED, 1.2)):
        axes.plot(steps, [row[name] for row in rows], color=colour, linewidth=width, label=name)
        share = decided[name]
        if threshold is not None and share is not None:
            axes.plot([threshold], [share], "o", color=colour, markersize=6, zorder=5)
    low, high = ([row[f"accuracy_{end}"] for row in rows] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color=MODEL, alpha=0.15, linewidth=0)
    if threshold is not None:
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label="operating point; dots: as decided")
    axes.set(xlabel="threshold on the score", ylabel="share", xlim=(0, 1), ylim=(-0.01, 1.03))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def draw_calibration(rows: Sequence[Json], positive: str = LABELS[1]) -> bytes:
    """Reliability diagram of ``reliability``: share of the positive class against mean score, dots as large as their
    bin.
    """
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1, label="ideal")
    scores, shares = [row["mean_score"] for row in rows], [row["share_sick"] for row in rows]
    axes.plot(scores, shares, color=MODEL, linewidth=1)
    axes.vlines(scores, [row["share_low"] for row in rows], [row["share_high"] for row in rows], color=MODEL, alpha=0.5)
    total = sum(row["n"] for row in rows)
    sizes = [20 + 300 * row["n"] / total for row in rows]
    axes.scatter(scores, shares, s=sizes, color=MODEL, alpha=0.75, label="bins of scores", linewidths=0)
    axes.set(xlabel="mean score", ylabel=f"share of {positive}", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=9, markerscale=0.5)
    return png_bytes(figure)


def draw_decision_curve(rows: Sequence[Json], positive: str = LABELS[1]) -> bytes:
    """Net benefit at thresholds of 1 to 20 %, of ``decision_curve``."""
    figure, axes = new_figure(5.2)
    steps = [100 * row["threshold"] for row in rows]
    for name, label, colour, width in (
        ("model", "model", MODEL, 2.0),
        ("everyone", f"call everyone {positive}", AMBER, 1.4),
        ("nobody", f"call nobody {positive}", MUTED, 1.0),
    ):
        axes.plot(steps, [row[name] for row in rows], color=colour, linewidth=width, label=label)
    low, high = ([row[f"model_{end}"] for row in rows] for end in ("low", "high"))
    axes.fill_between(steps, low, high, color=MODEL, alpha=0.15, linewidth=0)
    axes.set(xlabel="threshold probability, %", ylabel="net benefit", xlim=(1, 20))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def draw_confusion(confusion: dict[str, int], classes: Sequence[str] = LABELS) -> bytes:
    """The confusion matrix, counts and shares of each true class."""
    figure, axes = new_figure(3.8, 3.4)
    table = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    show_confusion(axes, table, classes, shares=True)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return png_bytes(figure)


def show_confusion(axes: Axes, counts: IntArray, classes: Sequence[str], *, shares: bool = False) -> None:
    """Counts (truth, decision) as a matrix of two classes, darker where more of the true class; ``shares`` beside."""
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if parts[row, column] > 0.55 else INK
        text = f"{count}\n{100 * parts[row, column]:.0f} %" if shares else str(count)
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks([0, 1], [f"called {name}" for name in classes])
    axes.set_yticks([0, 1], list(classes), rotation=90, va="center")


def draw_history(history: Sequence[Json], measure: str = "loss") -> bytes | None:
    """Learning curves of training and validation, one thin line a fold, their mean bold; None without epochs.

    ``measure`` is the history's word for what is drawn: ``loss`` or ``accuracy``.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(5.2)
    drawn = False
    for key, name, colour in ((measure, measure, MODEL), (f"val_{measure}", f"validation {measure}", AMBER)):
        folds: dict[str, list[tuple[int, float]]] = {}
        for row in history:
            if isinstance(row.get(key), (int, float)) and "epoch" in row:
                folds.setdefault(str(row.get("fold", "")), []).append((int(row["epoch"]), float(row[key])))
        epochs: dict[int, list[float]] = {}
        for points in folds.values():
            axes.plot(*zip(*sorted(points), strict=True), color=colour, linewidth=0.6, alpha=0.35)
            for epoch, value in points:
                epochs.setdefault(epoch, []).append(value)
        if epochs:
            mean = [float(np.mean(epochs[epoch])) for epoch in sorted(epochs)]
            several = f", mean of {len(folds)}" if len(folds) > 1 else ""
            axes.plot(sorted(epochs), mean, color=colour, linewidth=2, label=name + several)
            drawn = True
    if not drawn:
        return None
    axes.set(xlabel="epoch", ylabel=measure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right" if measure == "loss" else "lower right", fontsize=9)
    return png_bytes(figure)


# --- thermograms ------------------------------------------------------------------------------------------------------

SIDES = {"Frontal": ("R", "L"), "Right45": ("R", "L"), "Left45": ("R", "L")}
"""Letters for the left and right edge of the picture: the camera faces the patient."""


def thermogram_png(celsius: FloatArray, view: str, width: int = 240) -> bytes:
    """A thermogram (H, W) in degC on a fixed scale with the patient's sides marked, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from thermocancer.thermal.rendering import render

    step = max(1, celsius.shape[1] // width)
    figure = Figure(figsize=(width / 100, width / 100 * celsius.shape[0] / celsius.shape[1]))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(render(celsius[::step, ::step], Rendering()), interpolation="nearest", aspect="auto")
    mark_sides(axes, view)
    return png_bytes(figure, dpi=100)


def mark_sides(axes: Axes, view: str) -> None:
    """Write L and R, the patient's own, at the edges; side views carry their one side."""
    letters = SIDES.get(view, ("R", "") if view == "Right" else ("", "L"))
    for letter, place in zip(letters, (0.04, 0.96), strict=True):
        axes.text(
            place, 0.95, letter, transform=axes.transAxes, ha="center", va="top", color="white", fontsize=12,
            fontweight="bold",
        )  # fmt: skip


# --- reconstructions --------------------------------------------------------------------------------------------------

Images = npt.NDArray[np.float32]
ERROR_SCALE = 0.2
"""The error row is black at zero and white at this difference."""


def draw_reconstructions(path: Path, truth: Images, found: Images, titles: list[str], headline: str) -> None:
    """Draw an autoencoder's inputs, reconstructions and absolute error, a row each.

    Images (n, h, w, 1 or 3) in [0, 1]. The same arrays give the same bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = len(truth)
    height, width = truth.shape[1:3]
    figure = Figure(figsize=(2.2 * columns + 0.6, 2.2 * 3 * height / width + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_2d(figure.subplots(3, columns, squeeze=False))
    error = np.abs(truth - found).mean(axis=-1, keepdims=True) / ERROR_SCALE
    for row, (name, images) in enumerate({"input": truth, "reconstruction": found, "error": error}.items()):
        for column, image in enumerate(np.clip(images, 0, 1)):
            place = axes[row, column]
            place.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
            place.set_xticks([])
            place.set_yticks([])
            if row == 0:
                place.set_title(titles[column], fontsize=8)
        axes[row, 0].set_ylabel(f"{name} (white: {ERROR_SCALE})" if name == "error" else name, fontsize=8)
    figure.suptitle(headline, fontsize=9)
    with written_aside(path) as side:
        figure.savefig(side, format="png", dpi=100, metadata={"Software": None})
