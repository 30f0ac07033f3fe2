"""What a report shows of a dynamic run: how both classes rewarm, which frames matter, what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.protocol import logit
from thermocancer.classifiers.sequence.network import SequenceModel
from thermocancer.classifiers.sequence.readers import SequenceFeatures
from thermocancer.config import Config
from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.data.cohort import Cohort, FloatArray, degrees_of_frames
from thermocancer.data.store.reading import DYNAMIC, DYNAMIC_VIEW, StoredCohort
from thermocancer.evaluation.report.figures import ALARM, MODEL, MUTED, new_figure, png_bytes
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.thermal.regions import torso_mask
from thermocancer.thermal.rendering import render_centi
from thermocancer.workspace import LABELS, Workspace

COLOURS = (MODEL, ALARM)
CURVES, SALIENCY = "Rewarming of both classes", "Which frames matter"


def dynamic_figures(run: Run) -> dict[str, bytes]:
    """Titles and PNG bytes for a run of ``train-dit``.

    Mean temperature of the skin in each frame, by class; how much the score moves when a frame is
    replaced by the average one; the frames of the worst miss and the worst false alarm. Raises
    DataError when the data set or the model of the run is gone.
    """
    config = run.required_config()
    with StoredCohort(run.workspace.dataset(config.dataset.name), DYNAMIC) as source:
        used = _used_rows(source, run.rows)
        figures = {CURVES: draw_curves(skin_curves(source, used), _labels(source, used), source.kind)}
        figures[SALIENCY] = draw_saliency(*frame_saliency(run, config, source, used))
        figures |= _strips(source, run.rows, config.dit.frames)
    return figures


def _used_rows(source: StoredCohort, rows: Sequence[Prediction]) -> npt.NDArray[np.int64]:
    scored = {(row.patient, row.visit) for row in rows}
    return np.array([n for n, exam in enumerate(source.exams) if (exam.patient, exam.visit) in scored], dtype=np.int64)


def _labels(source: StoredCohort, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.array([source.exams[row].label for row in rows], dtype=np.int64)


def skin_curves(source: Cohort, rows: npt.NDArray[np.int64]) -> FloatArray:
    """Mean of the skin in every frame, (len(rows), frames): degC, or brightness 0 to 1 of colour frames.

    The skin is found in the first frame; of colours the whole image counts. Pixels without a temperature count in no
    mean; NaN where a frame shows nothing of the skin.
    """
    curves = np.full((len(rows), source.length(DYNAMIC_VIEW)), np.nan)
    for place, row in enumerate(rows):
        if source.kind == "celsius":
            frames = degrees_of_frames(source, DYNAMIC_VIEW, np.array([row]))[0]
            skin = frames[:, torso_mask(frames[0])]
        else:
            skin = source.frames(DYNAMIC_VIEW, np.array([row]))[0].mean(axis=-1).reshape(len(curves[place]), -1) / 255.0
        seen = np.isfinite(skin)
        np.divide(np.where(seen, skin, 0).sum(axis=1), seen.sum(axis=1), out=curves[place], where=seen.any(axis=1))
    return curves


def draw_curves(curves: FloatArray, labels: npt.NDArray[np.int64], kind: str) -> bytes:
    """Mean change since the first frame in each class, with 1.96 standard errors, of exams with every frame."""
    figure, axes = new_figure(5.6, 3.8)
    whole = np.isfinite(curves).all(axis=1)
    curves, labels = curves[whole], labels[whole]
    change = curves - curves[:, :1]
    frames = np.arange(curves.shape[1])
    for label, colour in enumerate(COLOURS):
        own = change[labels == label]
        if len(own) == 0:
            continue
        mean, error = own.mean(axis=0), 1.96 * own.std(axis=0) / np.sqrt(len(own))
        axes.plot(frames, mean, color=colour, linewidth=2, label=f"{LABELS[label]}, n = {len(own)}")
        axes.fill_between(frames, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
    unit = "degC" if kind == "celsius" else "brightness"
    axes.set(xlabel="frame", ylabel=f"mean of the skin since frame 0, {unit}")
    axes.legend(fontsize=9)
    return png_bytes(figure)


def frame_saliency(
    run: Run, config: Config, source: StoredCohort, rows: npt.NDArray[np.int64]
) -> tuple[tuple[int, ...], FloatArray, npt.NDArray[np.int64]]:
    """Frames, the mean change of log-odds (exams, frames) without each, and the exams' labels.

    A frame is taken away by putting the cohort's mean features of that frame in its place.
    """
    strategy.set_up(config.strategy, config.seed)
    model = load_fitted(run.model_folder, run.workspace).model  # type: ignore[attr-defined]
    features = _features(model, source, run.workspace, config).of(rows)  # (n, T, F)
    whole = logit(model.probabilities(features))
    change = np.empty(features.shape[:2])
    for place in range(features.shape[1]):
        without = features.copy()
        without[:, place] = features[:, place].mean(axis=0)
        change[:, place] = whole - logit(model.probabilities(without))
    return model.indices, change, _labels(source, rows)


def _features(model: SequenceModel, source: Cohort, workspace: Workspace, config: Config) -> SequenceFeatures:
    """From the cache where training has left them; a fine-tuned backbone has none and computes them."""
    cache = workspace.cache if config.dit.cache and not config.dit.finetune else None
    return SequenceFeatures(source, model.reader, model.indices, cache, config.seed)


def draw_saliency(indices: tuple[int, ...], change: FloatArray, labels: npt.NDArray[np.int64]) -> bytes:
    """Bars: how far the log-odds move, on average, when a frame is taken away; a class a colour."""
    figure, axes = new_figure(5.6, 3.4)
    for label, colour in enumerate(COLOURS):
        own = np.abs(change[labels == label])
        if len(own):
            place = np.arange(len(indices)) + 0.4 * label - 0.2
            axes.bar(place, own.mean(axis=0), width=0.38, color=colour, label=LABELS[label])
    axes.set_xticks(np.arange(len(indices)), [str(index) for index in indices])
    axes.set(xlabel="frame taken away", ylabel="mean change of the log-odds")
    axes.legend(fontsize=9)
    return png_bytes(figure)


def _strips(source: StoredCohort, rows: Sequence[Prediction], frames: Sequence[int]) -> dict[str, bytes]:
    """Of the exams decided wrongly, the miss and the false alarm whose mean score is furthest on the wrong side."""
    exams: dict[tuple[int, int, int], list[Prediction]] = {}
    for row in rows:
        exams.setdefault((row.patient, row.visit, row.label), []).append(row)
    figures = {}
    for label, name, furthest in ((1, "miss", min), (0, "false alarm", max)):
        wrong = {
            (patient, visit): float(np.mean([row.score for row in own]))
            for (patient, visit, truth), own in sorted(exams.items())
            if truth == label and 2 * sum(row.predicted != label for row in own) > len(own)
        }
        if not wrong:
            continue
        worst = furthest(wrong, key=wrong.__getitem__)
        place = next(n for n, exam in enumerate(source.exams) if (exam.patient, exam.visit) == worst)
        title = f"Worst {name}: exam {worst[0]}_{worst[1]}, {LABELS[label]}, score {wrong[worst]:.2f}"
        figures[title] = draw_strip(source.frames(DYNAMIC_VIEW, np.array([place]), frames)[0], frames, source.kind)
    return figures


def draw_strip(frames: npt.NDArray[Any], indices: Sequence[int], kind: str) -> bytes:
    """Frames side by side under one range of temperatures; hundredths of a degree (T, H, W) or RGB (T, H, W, 3)."""
    figure, axes = new_figure(1.5 * len(frames), 1.6)
    images = frames
    if kind == "celsius":
        low, high = np.percentile(frames, [1, 99]) / 100
        span = CelsiusRange(low=float(low), high=float(max(high, low + 0.1)))
        images = render_centi(frames, Rendering(range=span))
        axes.set_xlabel(f"{span.low:.1f} to {span.high:.1f} degC")
    width = images.shape[2]
    axes.imshow(np.concatenate(list(images), axis=1), aspect="equal", interpolation="nearest")
    axes.set_xticks([width * (place + 0.5) for place in range(len(frames))], [f"frame {index}" for index in indices])
    axes.set_yticks([])
    axes.grid(visible=False)
    for place in range(1, len(frames)):
        axes.axvline(width * place - 0.5, color=MUTED, linewidth=1)
    return png_bytes(figure)
