"""The curves as PNG bytes: matplotlib without global state, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thermocancer.evaluation.statistics.calibration import decision_curve, reliability
from thermocancer.evaluation.statistics.curves import accuracy_by_threshold, precision_recall_points, roc_points
from thermocancer.evaluation.statistics.units import Units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL, BASELINE, MUTED, ALARM = "#1b6ca8", "#d9822b", "#8a94a0", "#c0392b"
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5c6670",
    "axes.labelcolor": "#1f2933",
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "grid.linewidth": 0.8,
    "xtick.color": "#5c6670",
    "ytick.color": "#5c6670",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


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


def draw_roc(model: Units, baseline: Units | None, auc_text: str) -> bytes:
    """ROC curve of the model, with the trivial baseline's where there is one."""
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    if baseline is not None:
        axes.plot(
            *roc_points(baseline.labels, baseline.scores), color=BASELINE, linewidth=1.4, label="trivial baseline"
        )
    axes.plot(*roc_points(model.labels, model.scores), color=MODEL, linewidth=2, label=f"model, AUC {auc_text}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return png_bytes(figure)


def draw_precision_recall(model: Units, baseline: Units | None) -> bytes:
    """Precision against recall; the dotted line is the share of sick, what guessing gives."""
    figure, axes = new_figure()
    axes.axhline(float(model.labels.mean()), color=MUTED, linestyle=":", linewidth=1, label="share of sick")
    if baseline is not None:
        recall, precision = precision_recall_points(baseline.labels, baseline.scores)
        axes.step(recall, precision, where="pre", color=BASELINE, linewidth=1.4, label="trivial baseline")
    recall, precision = precision_recall_points(model.labels, model.scores)
    axes.step(recall, precision, where="pre", color=MODEL, linewidth=2, label="model")
    axes.set(xlabel="sensitivity (recall)", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def draw_accuracy(units: Units, threshold: float | None) -> bytes:
    """Accuracy, sensitivity and specificity against the threshold."""
    rows = accuracy_by_threshold(units)
    steps = [row["threshold"] for row in rows]
    figure, axes = new_figure(5.2)
    for name, colour, width in (("accuracy", MODEL, 2.0), ("sensitivity", ALARM, 1.2), ("specificity", MUTED, 1.2)):
        axes.plot(steps, [row[name] for row in rows], color=colour, linewidth=width, label=name)
    if threshold is not None:
        axes.axvline(threshold, color="#1f2933", linestyle="--", linewidth=1, label="operating point (median)")
    axes.set(xlabel="threshold on the score", ylabel="share", xlim=(0, 1), ylim=(-0.01, 1.03))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def draw_calibration(units: Units) -> bytes:
    """Reliability diagram: share of sick against mean score, dots as large as their bin."""
    rows = reliability(units.labels, units.scores)
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1, label="ideal")
    scores, shares = [row["mean_score"] for row in rows], [row["share_sick"] for row in rows]
    axes.plot(scores, shares, color=MODEL, linewidth=1)
    sizes = [20 + 300 * row["n"] / len(units) for row in rows]
    axes.scatter(scores, shares, s=sizes, color=MODEL, alpha=0.75, label="bins of scores", linewidths=0)
    axes.set(xlabel="mean score", ylabel="share of sick", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=9, markerscale=0.5)
    return png_bytes(figure)


def draw_decision_curve(units: Units) -> bytes:
    """Net benefit at thresholds of 1 to 20 %."""
    rows = decision_curve(units.labels, units.scores)
    figure, axes = new_figure(5.2)
    steps = [100 * row["threshold"] for row in rows]
    for name, label, colour, width in (
        ("model", "model", MODEL, 2.0),
        ("everyone", "call everyone sick", BASELINE, 1.4),
        ("nobody", "call nobody sick", MUTED, 1.0),
    ):
        axes.plot(steps, [row[name] for row in rows], color=colour, linewidth=width, label=label)
    axes.set(xlabel="threshold probability, %", ylabel="net benefit", xlim=(1, 20))
    axes.legend(loc="lower left", fontsize=9)
    return png_bytes(figure)


def draw_confusion(confusion: dict[str, int]) -> bytes:
    """The confusion matrix, counts and shares of each true class."""
    table = np.array([[confusion["tn"], confusion["fp"]], [confusion["fn"], confusion["tp"]]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = new_figure(3.8, 3.4)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(False)
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.55 else "#1f2933"
        text = f"{count}\n{100 * shares[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=13)
    axes.set_xticks([0, 1], ["called healthy", "called sick"])
    axes.set_yticks([0, 1], ["healthy", "sick"], rotation=90, va="center")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    return png_bytes(figure)


def draw_history(history: Sequence[dict[str, Any]]) -> bytes | None:
    """Learning curves: training and validation loss, one thin line a fold, their mean bold; None without epochs."""
    curves = {"loss": _by_fold(history, "loss"), "validation loss": _by_fold(history, "val_loss")}
    if not any(curves.values()):
        return None
    figure, axes = new_figure(5.2)
    for (name, folds), colour in zip(curves.items(), (MODEL, BASELINE), strict=True):
        for points in folds.values():
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=0.6, alpha=0.35)
        mean = _mean_curve(list(folds.values()))
        if mean:
            axes.plot(*zip(*mean, strict=True), color=colour, linewidth=2, label=f"{name}, mean of {len(folds)}")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend(loc="upper right", fontsize=9)
    return png_bytes(figure)


def _by_fold(history: Sequence[dict[str, Any]], key: str) -> dict[str, list[tuple[int, float]]]:
    folds: dict[str, list[tuple[int, float]]] = {}
    for row in history:
        if isinstance(row.get(key), (int, float)) and "epoch" in row:
            folds.setdefault(str(row.get("fold", "")), []).append((int(row["epoch"]), float(row[key])))
    return {fold: sorted(points) for fold, points in folds.items()}


def _mean_curve(folds: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    epochs: dict[int, list[float]] = {}
    for points in folds:
        for epoch, value in points:
            epochs.setdefault(epoch, []).append(value)
    return [(epoch, float(np.mean(values))) for epoch, values in sorted(epochs.items())]
