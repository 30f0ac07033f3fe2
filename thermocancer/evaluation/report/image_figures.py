"""What a report shows of a run of ``train-cnn``: the second study's own outputs, validation and test side by side."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config import Config, load_config
from thermocancer.data.class_images import read_image
from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.evaluation.report.figures import ALARM, BASELINE, MODEL, MUTED, STYLE, new_figure, png_bytes
from thermocancer.evaluation.statistics.curves import roc_points
from thermocancer.files import read_json
from thermocancer.runs.history import read_history
from thermocancer.workspace import Workspace

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

    @property
    def auc(self) -> float:
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.labels, self.scores))

    def accuracy_at(self, thresholds: FloatArray) -> FloatArray:
        """Share of right decisions at each threshold."""
        return np.array([((self.scores >= each) == self.labels).mean() for each in thresholds])


def image_figures(run_folder: Path, workspace: Workspace) -> dict[str, bytes]:
    """Titles and PNG bytes for a run of ``train-cnn``; the misclassified images are left out where they are gone."""
    config = load_config([run_folder / "config.yaml"], workspace=workspace.root, environment={})
    manifest = read_json(run_folder / "manifest.json")
    parts = [read_scored(run_folder / f"{name}.csv", title) for name, title in
             (("validation", "validation"), ("predictions", "test"))]  # fmt: skip
    figures = {}
    history = read_history(run_folder / "history.jsonl")
    if history:
        figures[CURVES] = draw_learning(history)
    figures[ROC] = draw_roc(parts)
    figures[CONFUSION] = draw_confusions(parts, manifest["classes"])
    figures[THRESHOLD] = draw_accuracy(parts, float(manifest["threshold"]))
    return figures | _misclassified(parts[1], config, manifest["classes"])


def read_scored(path: Path, name: str) -> ScoredImages:
    """Read ``predictions.csv`` or ``validation.csv`` of such a run. Raises DataError when it is not there."""
    if not path.exists():
        raise DataError("this run of train-cnn has lost a file", where=path, hint="train the run again")
    with open(path, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    return ScoredImages(
        name,
        np.array([int(row["label"]) for row in rows]),
        np.array([float(row["score"]) for row in rows]),
        np.array([int(row["predicted"]) for row in rows]),
        tuple(row["file"] for row in rows),
    )


def _side_by_side(width: float, height: float) -> tuple[Any, Any, Any]:
    import matplotlib

    figure, only = new_figure(width, height)
    only.remove()
    with matplotlib.rc_context(STYLE):
        left, right = figure.subplots(1, 2)
    return figure, left, right


def draw_learning(history: Sequence[dict[str, Any]]) -> bytes:
    """Loss left, accuracy right; training and validation, one line a seed."""
    figure, left, right = _side_by_side(9.0, 3.6)
    for axes, name in ((left, "loss"), (right, "accuracy")):
        for key, colour, title in ((name, MODEL, "training"), (f"val_{name}", BASELINE, "validation")):
            for number, fold in enumerate(dict.fromkeys(row["fold"] for row in history)):
                points = [(row["epoch"], row[key]) for row in history if row["fold"] == fold and key in row]
                if points:
                    label = title if number == 0 else None
                    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, alpha=0.7, label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend(fontsize=9)
    return png_bytes(figure)


def draw_roc(parts: Sequence[ScoredImages]) -> bytes:
    """Both ROC curves with their areas."""
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=":", linewidth=1)
    for part, colour in zip(parts, (BASELINE, MODEL), strict=True):
        label = f"{part.name}, AUC {part.auc:.4f}, n = {len(part.labels)}"
        axes.plot(*roc_points(part.labels, part.scores), color=colour, linewidth=2, label=label)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return png_bytes(figure)


def draw_confusions(parts: Sequence[ScoredImages], classes: Sequence[str]) -> bytes:
    """Truth down, decision across; one matrix a part."""
    figure, left, right = _side_by_side(7.6, 3.6)
    for axes, part in zip((left, right), parts, strict=True):
        table = np.zeros((2, 2), int)
        np.add.at(table, (part.labels, part.decisions), 1)
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        for (row, column), count in np.ndenumerate(table):
            colour = "white" if shares[row, column] > 0.55 else "#1f2933"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=13)
        axes.set_xticks([0, 1], [f"called {name}" for name in classes])
        axes.set_yticks([0, 1], list(classes), rotation=90, va="center")
        axes.set_title(part.name, fontsize=10)
    return png_bytes(figure)


def draw_accuracy(parts: Sequence[ScoredImages], threshold: float) -> bytes:
    """Accuracy at 0.00 to 0.99; each part's best is a dot, the threshold that was used a line."""
    figure, axes = new_figure(5.6, 3.8)
    for part, colour in zip(parts, (BASELINE, MODEL), strict=True):
        accuracy = part.accuracy_at(STEPS)
        best = int(accuracy.argmax())
        label = f"{part.name}, best {accuracy[best]:.3f} at {STEPS[best]:.2f}"
        axes.plot(STEPS, accuracy, color=colour, linewidth=1.6, label=label)
        axes.plot(STEPS[best], accuracy[best], "o", color=colour, markersize=6)
    used = f"used: {threshold:.3f}, from validation"
    axes.axvline(threshold, color=ALARM, linestyle="--", linewidth=1, label=used)
    axes.set(xlabel="threshold on the score", ylabel="accuracy", xlim=(0, 1))
    axes.legend(fontsize=9, loc="lower center")
    return png_bytes(figure)


def _misclassified(part: ScoredImages, config: Config, classes: Sequence[str]) -> dict[str, bytes]:
    """A sheet of every misclassified test image (as many as ``report.gallery``), worst first."""
    wrong = np.flatnonzero(part.decisions != part.labels)
    wrong = wrong[np.argsort(-np.abs(part.scores[wrong] - part.labels[wrong]), kind="stable")]
    shown: list[tuple[Any, str]] = []
    for row in wrong[: config.report.gallery]:
        path = Path(str(config.cnn.data)) / part.files[row]
        if path.is_file():
            text = f"{path.name}\n{classes[int(part.labels[row])]}, score {part.scores[row]:.3f}"
            shown.append((read_image(path, size=(THUMBNAIL, THUMBNAIL)), text))
    if not shown:
        return {}
    return {f"Misclassified test images, {len(shown)} of {len(wrong)}": draw_sheet(shown)}


def draw_sheet(images: Sequence[tuple[Any, str]], columns: int = 6) -> bytes:
    """Images (THUMBNAIL, THUMBNAIL, 3) in rows, each with its text."""
    rows = -(-len(images) // columns)
    figure, first = new_figure(1.7 * columns, 2.1 * rows)
    first.remove()
    for place, (image, text) in enumerate(images, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image, interpolation="nearest")
        axes.set_title(text, fontsize=7)
        axes.axis("off")
    return png_bytes(figure)
