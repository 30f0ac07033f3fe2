"""``fetch``, ``import`` and ``simulate``: where thermograms come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thermocancer.cli.common import stage_command


@stage_command("fetch", example="THERMOCANCER_USER=me thermocancer fetch -w study --limit 20")
def fetch() -> dict[str, Any]:
    """Mirror the matrices of the DMR-IR site into raw/, politely and resumably."""
    return {}


@stage_command("import", example="thermocancer import scans --labels labels.csv --view Frontal -w study")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of matrices, images or radiometric videos.")],
    labels: Annotated[Path | None, typer.Option(help="CSV file with one label a patient or exam.")] = None,
) -> dict[str, Any]:
    """Bring a folder somebody already has into raw/."""
    return {"import.folder": str(folder), "import.labels": None if labels is None else str(labels)}


@stage_command("simulate", example="thermocancer simulate --patients 40 --seed 1 --shape 480x640 -w demo")
def simulate(
    patients: Annotated[int | None, typer.Option(help="Number of synthetic patients.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole cohort.")] = None,
    shape: Annotated[str | None, typer.Option(help="Rows x columns of a matrix, for example 480x640.")] = None,
) -> dict[str, Any]:
    """Make a synthetic cohort by solving the bioheat equation; no network, no account."""
    return {"simulate.patients": patients, "seed": seed, "simulate.shape": shape}
