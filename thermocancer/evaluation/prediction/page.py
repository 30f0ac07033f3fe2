"""The answers as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from thermocancer.evaluation.explain.occlusion import LOST, draw_heatmap, occlude
from thermocancer.evaluation.prediction.gathering import NewExam, as_trained, views_of
from thermocancer.evaluation.prediction.scoring import LoadedRun
from thermocancer.evaluation.report.figures import thermogram_png
from thermocancer.evaluation.report.page import render_page
from thermocancer.files import Json
from thermocancer.runs.run import Run

ONE_VIEW, SEVERAL_VIEWS = (6, 8), (4, 4)
"""Patches of an occlusion map in ``predict``: coarser with several views, so that the answer comes in seconds."""


def pictures_of(exam: NewExam, loaded: LoadedRun, explained: Sequence[str]) -> list[Json]:
    """A picture a view: an occlusion map of those that are ``explained``, else the thermogram."""
    maps = {}
    if explained:
        cohort, grid = views_of(exam, loaded.shape), ONE_VIEW if len(explained) == 1 else SEVERAL_VIEWS
        for view in explained:
            maps[view] = occlude(
                loaded.fitted, cohort, 0, view, grid=grid, as_trained=lambda each: as_trained(each, loaded.config)
            )
    frames = list(exam.frame_files().values())
    pictures = []
    for view, file in (exam.matrix_files() or dict(zip(["Frontal"], frames, strict=False))).items():
        celsius = np.asarray(file.celsius)
        if view in maps:
            full = maps[view].full_size((celsius.shape[0], celsius.shape[1]))
            png, words = draw_heatmap(celsius, full, view, unit=LOST), f"{view}, occlusion"
        else:
            png = thermogram_png(celsius, view, width=480)
            words = f"{view}, {celsius.min():.1f} to {celsius.max():.1f} degC"
        pictures.append({"picture": png, "alternative": f"Thermogram, {words}", "caption": words})
    return pictures


def prediction_page(answers: Sequence[Json], pictures: Mapping[str, Sequence[Json]], run: Run) -> str:
    """The page for people."""
    facts = {
        "title": f"Scores by run {run.name}", "answers": answers, "exam_pictures": pictures, "run": run.name,
        "model": run.manifest.model, "leaks": list(run.manifest.leaks),
    }  # fmt: skip
    return render_page("predict.html", facts, {})
