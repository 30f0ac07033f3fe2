"""``convert``, ``filter`` and ``build-dataset``: from matrices to data sets."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thermocancer.cli.common import stage_command

Views = Annotated[str | None, typer.Option(help="Views that an exam must have, separated by commas.")]


def _listed(views: str | None) -> list[str] | None:
    return None if views is None else [view.strip() for view in views.split(",")]


@stage_command("convert", example="thermocancer convert --format png -w demo")
def convert(
    image_format: Annotated[str | None, typer.Option("--format", help="jpg, or png for exact colours.")] = None,
    videos: Annotated[
        bool | None, typer.Option("--videos/--no-videos", help="Also make one AVI a complete dynamic exam.")
    ] = None,
) -> dict[str, Any]:
    """Turn matrices into images, and dynamic exams into videos."""
    return {"convert.format": image_format, "convert.videos": videos}


@stage_command("filter", example="thermocancer filter --views Frontal,Right,Left -w demo")
def filter_exams(
    views: Views = None,
) -> dict[str, Any]:
    """Keep complete and sound exams; say why each other one was dropped."""
    return {"filter.views": _listed(views)}


@stage_command("build-dataset", example="thermocancer build-dataset -w demo --name small --size 240x320")
def build_dataset(
    name: Annotated[str | None, typer.Option(help="Name of the data set: datasets/NAME.h5.")] = None,
    views: Views = None,
    source: Annotated[str | None, typer.Option(help="matrices (exact degrees), images or videos.")] = None,
    size: Annotated[str | None, typer.Option(help="Rows x columns to average every matrix down to.")] = None,
    dynamic: Annotated[bool | None, typer.Option(help="Also store the dynamic sequences.")] = None,
) -> dict[str, Any]:
    """Write the HDF5 data set and the one patient-wise split."""
    chosen = {"dataset.name": name, "dataset.source": source, "dataset.size": size, "dataset.dynamic": dynamic}
    return chosen | {"filter.views": _listed(views)}
