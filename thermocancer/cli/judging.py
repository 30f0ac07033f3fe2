"""``evaluate``, ``compare``, ``predict``, ``export`` and ``reproduce``: what runs are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thermocancer.cli.common import Call, app, run_stage, stage_command, with_common_options, write_json_report


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


@app.command("predict")
@with_common_options
def predict(
    call: Call,
    path: Annotated[Path, typer.Argument(help="A matrix, the folder of an exam, or a folder of many.", metavar="PATH")],
    run: Annotated[str, typer.Option("--run", help="Name of the run that answers.")],
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes.")] = None,
    explain: Annotated[
        bool | None, typer.Option("--explain/--no-explain", help="Draw an occlusion map (by default on the page).")
    ] = None,
) -> int:
    """Score a new exam with a trained run: quality, score, doubt, heat map. Never a diagnosis.

    With --json the answer is JSON, otherwise a page.

    Example: thermocancer predict new/276_1 --run svm5 -w demo
    """
    page = str(html) if html is not None else "" if call.json_file is not None else None
    options = {"evaluate.exam": str(path), "evaluate.run": run, "evaluate.page": page, "evaluate.explain": explain}
    code, content = run_stage("predict", call.load(options), call)
    write_json_report(content, call)
    return code
