"""Figures that only one kind of run has: rewarming of dynamic exams, the image study's own outputs."""

from __future__ import annotations

import re
from typing import Any

from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.report.judgement import Picture
from thermocancer.runs.run import RunRecord
from thermocancer.workspace import Workspace

PREFIX = "own-"
"""Begins the file names of these figures, so that the page can tell them from the common ones."""


def own_figures(run: RunRecord, workspace: Workspace) -> tuple[dict[str, Picture], str]:
    """Pictures by file name, and why there are none where they could not be drawn."""
    try:
        drawn = _draw(run, workspace)
    except ThermocancerError as error:
        return {}, f"The figures of this kind of run could not be drawn: {error.what}."
    pictures = {f"{PREFIX}{_slug(title)}": Picture(png, title, title + ".") for title, png in drawn.items()}
    return pictures, ""


def _draw(run: RunRecord, workspace: Workspace) -> dict[str, Any]:
    stage = run.manifest.get("stage")
    if stage == "train-dit":
        from thermocancer.evaluation.report.dynamic import dynamic_figures

        return dynamic_figures(run.folder, workspace)
    if stage == "train-cnn":
        from thermocancer.evaluation.report.image_figures import image_figures

        return image_figures(run.folder, workspace)
    return {}


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
