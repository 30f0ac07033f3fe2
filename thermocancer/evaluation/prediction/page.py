"""The answers as one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thermocancer.evaluation.explain.occlusion import Occlusion, draw_heatmap, occlude
from thermocancer.evaluation.prediction.gathering import NewExam, NewFile
from thermocancer.evaluation.prediction.scoring import Oracle, as_trained, source_of
from thermocancer.evaluation.report.figures import thermogram_png
from thermocancer.evaluation.report.page import render_page
from thermocancer.runs.run import Run

ONE_VIEW, SEVERAL_VIEWS = (6, 8), (4, 4)
"""Patches of an occlusion map in ``predict``: coarser with several views, so that the answer comes in seconds."""


def occlusions(exam: NewExam, oracle: Oracle, views: Sequence[str]) -> list[Occlusion]:
    """Occlusion maps of the given views."""
    source, grid = source_of(exam, oracle), ONE_VIEW if len(views) == 1 else SEVERAL_VIEWS
    return [
        occlude(oracle.fitted, source, 0, view, grid=grid, as_trained=lambda each: as_trained(each, oracle.config))
        for view in views
    ]


def pictures_of(exam: NewExam, maps: Sequence[Occlusion]) -> list[dict[str, Any]]:
    """A picture a view: its occlusion map where there is one, else the thermogram."""
    by_view = {each.view: each for each in maps}
    pictures = []
    for view, file in (exam.matrix_files() or _first_frame(exam)).items():
        celsius = np.asarray(file.celsius)
        found = by_view.get(view)
        if found is None:
            png, words = (
                thermogram_png(celsius, view, width=480),
                f"{view}, {celsius.min():.1f} to {celsius.max():.1f} degC",
            )
        else:
            unit = "score lost when hidden"
            png, words = draw_heatmap(celsius, found.full_size(celsius.shape), view, unit=unit), f"{view}, occlusion"
        pictures.append({"picture": png, "alternative": f"Thermogram, {words}", "caption": words})
    return pictures


def _first_frame(exam: NewExam) -> dict[str, NewFile]:
    frames = list(exam.frame_files().values())
    return {"Frontal": frames[0]} if frames else {}


def prediction_page(answers: Sequence[dict[str, Any]], pictures: dict[str, list[dict[str, Any]]], run: Run) -> str:
    """The page for people."""
    facts = {
        "title": f"Scores by run {run.name}",
        "answers": answers,
        "exam_pictures": pictures,
        "run": run.name,
        "model": run.manifest.model,
        "leaks": list(run.manifest.leaks),
    }
    return render_page("predict.html", facts, {})
