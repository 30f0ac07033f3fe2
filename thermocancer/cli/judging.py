"""``evaluate``, ``compare``, ``predict``, ``export`` and ``reproduce``: what runs are worth."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thermocancer.cli.common import stage_command


@stage_command("evaluate", example="thermocancer evaluate -w demo --run svm5")
def evaluate(
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run; by default every run of the workspace.")
    ] = None,
) -> dict[str, Any]:
    """Judge a run: metrics with intervals, curves, audit, HTML report."""
    return {"evaluate.run": run}
