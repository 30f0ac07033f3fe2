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


@stage_command("compare", example="thermocancer compare -w demo svm5 network5")
def compare(
    runs: Annotated[list[str], typer.Argument(help="Names of two or more runs.", metavar="RUN RUN...")],
) -> dict[str, Any]:
    """Test runs against one another on the patients they share."""
    return {"evaluate.compare": list(runs)}
