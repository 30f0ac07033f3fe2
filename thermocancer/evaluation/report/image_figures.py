"""What a report shows of a run of ``train-cnn``: the second study's own outputs, validation and test side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.config import Config
from thermocancer.data.class_images import Pixels, read_image
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.evaluation.report.figures import (
    ALARM,
    AMBER,
    MODEL,
    STYLE,
    RocLine,
    draw_roc,
    new_figure,
    png_bytes,
    show_confusion,
)
from thermocancer.evaluation.statistics.curves import roc_points
from thermocancer.files import Json
from thermocancer.runs.predictions import read_files, read_predictions
from thermocancer.runs.run import PREDICTIONS, VALIDATION, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES, ROC = "Loss and accuracy of every seed", "ROC of validation and test"
CONFUSION, THRESHOLD = "Confusion of validation and test", "Accuracy against threshold"
THUMBNAIL = 96
STEPS = np.arange(100) / 100
"""The study's thresholds, 0.00 to 0.99."""


@dataclass(frozen=True)
class ScoredImages:
    """One part's images: labels, mean scores and decisions, each (n,), and file names."""

    name: str
    labels: IntArray
    scores: FloatArray
    decisions: IntArray
    files: tuple[str, ...]

    def roc_line(self, colour: str) -> RocLine:
        """The part's ROC curve, with its area in the legend."""
        from sklearn.metrics import roc_auc_score

        auc = float(roc_auc_score(self.labels, self.scores))
        legend = f"{self.name}, AUC {auc:.4f}, n = {len(self.labels)}"
        return RocLine(roc_points(self.labels, self.scores), legend, colour)

    def accuracy_at(self, thresholds: FloatArray) -> FloatArray:
        """Share of right decisions at each threshold."""
        return np.array([((self.scores >= each) == self.labels).mean() for each in thresholds])


def image_figures(run: Run) -> dict[str, bytes]:
    """Titles and PNG bytes for a run of ``train-cnn``; the misclassified images are left out where they are gone."""
    config, manifest = run.required_config(), run.manifest
    validation = read_scored(run.folder / VALIDATION, "validation")
    test = read_scored(run.folder / PREDICTIONS, "test")
    figures = {}
    if run.history:
        figures[CURVES] = draw_learning(run.history)
    figures[ROC] = draw_roc([validation.roc_line(AMBER), test.roc_line(MODEL)])
    figures[CONFUSION] = draw_confusions([validation, test], manifest.classes)
    figures[THRESHOLD] = draw_accuracy([validation, test], manifest.threshold)
    return figures | draw_misclassified(test, config, manifest.classes)


def read_scored(path: Path, name: str) -> ScoredImages:
    """Read ``predictions.csv`` or ``validation.csv`` of such a run. Raises DataError when it is not there."""
    rows = read_predictions(path)
    return ScoredImages(
        name,
        np.array([row.label for row in rows]),
        np.array([row.score for row in rows]),
        np.array([row.predicted for row in rows]),
        tuple(read_files(path)),
    )


def _side_by_side(width: float, height: float) -> tuple[Figure, Axes, Axes]:
    import matplotlib

    figure, only = new_figure(width, height)
    only.remove()
    with matplotlib.rc_context(STYLE):
        left, right = figure.subplots(1, 2)
    return figure, left, right


def draw_learning(history: Sequence[Json]) -> bytes:
    """Loss left, accuracy right; training and validation, one line a seed."""
    figure, *both = _side_by_side(9.0, 3.6)
    for axes, name in zip(both, ("loss", "accuracy"), strict=True):
        for key, colour, title in ((name, MODEL, "training"), (f"val_{name}", AMBER, "validation")):
            for number, fold in enumerate(dict.fromkeys(row["fold"] for row in history)):
                points = [(row["epoch"], row[key]) for row in history if row["fold"] == fold and key in row]
                if points:
                    label = title if number == 0 else None
                    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, alpha=0.7, label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend(fontsize=9)
    return png_bytes(figure)


def draw_confusions(parts: Sequence[ScoredImages], classes: Sequence[str]) -> bytes:
    """Truth down, decision across; one matrix a part."""
    figure, *both = _side_by_side(7.6, 3.6)
    for axes, part in zip(both, parts, strict=True):
        table = np.zeros((2, 2), np.int64)
        np.add.at(table, (part.labels, part.decisions), 1)
        show_confusion(axes, table, classes)
        axes.set_title(part.name, fontsize=10)
    return png_bytes(figure)


def draw_accuracy(parts: Sequence[ScoredImages], threshold: float) -> bytes:
    """Accuracy at 0.00 to 0.99; each part's best is a dot, the threshold that was used a line."""
    figure, axes = new_figure(5.6, 3.8)
    for part, colour in zip(parts, (AMBER, MODEL), strict=True):
        accuracy = part.accuracy_at(STEPS)
        best = int(accuracy.argmax())
        label = f"{part.name}, best {accuracy[best]:.3f} at {STEPS[best]:.2f}"
        axes.plot(STEPS, accuracy, color=colour, linewidth=1.6, label=label)
        axes.plot(STEPS[best], accuracy[best], "o", color=colour, markersize=6)
    axes.axvline(threshold, color=ALARM, linestyle="--", linewidth=1, label=f"used: {threshold:.3f}, from validation")
    axes.set(xlabel="threshold on the score", ylabel="accuracy", xlim=(0, 1))
    axes.legend(fontsize=9, loc="lower center")
    return png_bytes(figure)


def draw_misclassified(part: ScoredImages, config: Config, classes: Sequence[str]) -> dict[str, bytes]:
    """A sheet of every misclassified image (as many as ``report.gallery``), worst first; nothing where all are gone."""
    wrong = np.flatnonzero(part.decisions != part.labels)
    wrong = wrong[np.argsort(-np.abs(part.scores[wrong] - part.labels[wrong]), kind="stable")]
    shown: list[tuple[Pixels, str]] = []
    for row in wrong[: config.report.gallery]:
        path = Path(str(config.cnn.data)) / part.files[row]
        if path.is_file():
            text = f"{path.name}\n{classes[int(part.labels[row])]}, score {part.scores[row]:.3f}"
            shown.append((read_image(path, size=(THUMBNAIL, THUMBNAIL)), text))
    if not shown:
        return {}
    columns, rows = 6, -(-len(shown) // 6)
    figure, first = new_figure(1.7 * columns, 2.1 * rows)
    first.remove()
    for place, (image, text) in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image, interpolation="nearest")
        axes.set_title(text, fontsize=7)
        axes.axis("off")
    return {f"Misclassified test images, {len(shown)} of {len(wrong)}": png_bytes(figure)}
