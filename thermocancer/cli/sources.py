"""``fetch``, ``import`` and ``simulate``: where thermograms come from."""

from __future__ import annotations

import os
import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from thermocancer.cli.common import stage_command
from thermocancer.dmr.credentials import USER_VARIABLE, Credentials, ask_with


@stage_command("fetch", example="THERMOCANCER_USER=me thermocancer fetch -w study --limit 20")
def fetch(
    protocol: Annotated[list[str] | None, typer.Option(help="S (static) or D (dynamic); repeatable.")] = None,
    view: Annotated[list[str] | None, typer.Option(help="Frontal, Right45, Right, Left45, Left; repeatable.")] = None,
    diagnosis: Annotated[list[str] | None, typer.Option(help="healthy or sick; repeatable.")] = None,
    patient: Annotated[list[int] | None, typer.Option(help="Only this patient; repeatable.")] = None,
    since: Annotated[str | None, typer.Option(help="Only visits from this day on, YYYY-MM-DD.")] = None,
    limit: Annotated[int | None, typer.Option(help="Fetch at most so many files; the next call goes on.")] = None,
    recheck: Annotated[
        str | None, typer.Option(help="When to ask again for files already here: page, validators, always, never.")
    ] = None,
    connections: Annotated[int | None, typer.Option(help="Connections at a time, 1 to 4.")] = None,
    interval: Annotated[float | None, typer.Option(help="Seconds between requests.")] = None,
    url: Annotated[str | None, typer.Option(help="Address of the site, for a mirror or a replica.")] = None,
    ca_bundle: Annotated[Path | None, typer.Option(help="PEM file of certificates to trust.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not verify the site's certificate.")] = False,
    insecure_password: Annotated[
        bool, typer.Option("--insecure-password", help="Send the password even over an unverified connection.")
    ] = False,
) -> dict[str, object]:
    """Mirror the matrices of the DMR-IR site into raw/, politely and resumably."""
    letters = {"s": "S", "static": "S", "d": "D", "dynamic": "D"}
    return {
        "fetch.protocols": [letters.get(each.lower(), each) for each in protocol] if protocol else None,
        "fetch.views": view or None,
        "fetch.diagnoses": diagnosis or None,
        "fetch.patients": patient or None,
        "fetch.since": since,
        "fetch.limit": limit,
        "fetch.recheck": recheck,
        "fetch.connections": connections,
        "fetch.interval_s": interval,
        "fetch.url": url,
        "fetch.ca_bundle": None if ca_bundle is None else str(ca_bundle),
        "fetch.insecure": insecure or None,
        "fetch.insecure_password": insecure_password or None,
    }


def _ask_for_account() -> Credentials | None:
    """Ask on the terminal, if there is one; what is typed as password is not shown."""
    if not sys.stdin.isatty():
        return None
    user = os.environ.get(USER_VARIABLE) or typer.prompt("Account at the DMR-IR site", err=True)
    # getpass turns the echo off before it shows its prompt; typer.prompt does so after
    return Credentials.of(user, getpass("Password: "))


ask_with(_ask_for_account)


# how files are read, by ``import`` and by ``predict``
IdPattern = Annotated[str | None, typer.Option(help="Regular expression on a file's path; group 1 is the patient.")]
View = Annotated[str | None, typer.Option(help="View of files whose names do not tell, for example Frontal.")]
ViewMap = Annotated[
    list[str] | None,
    typer.Option(help="Your words for views, WORD=VIEW,... (none: left out), or a file of two columns; repeat."),
]
Unit = Annotated[str | None, typer.Option(help="Unit of the numbers: C, K, F, or cC, dK, cK, mK (parts of a degree).")]
Protocol = Annotated[str | None, typer.Option(help="S (static) or D (dynamic), for files whose names do not tell.")]
Visit = Annotated[int | None, typer.Option(help="Visit of files whose names do not tell.")]


def reading_settings(
    view: str | None, view_map: list[str] | None, unit: str | None, id_pattern: str | None, protocol: str | None,
    visit: int | None,
) -> dict[str, object]:  # fmt: skip
    """The same as settings."""
    return {
        "import.view": view, "import.view_map": view_map or None, "import.unit": unit, "import.id_pattern": id_pattern,
        "import.protocol": protocol, "import.visit": visit,
    }  # fmt: skip


@stage_command("import", example="thermocancer import scans --labels labels.csv --view Frontal -w study")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="Folder of matrices, images or radiometric videos.")],
    source: Annotated[
        str | None, typer.Option(help="Cohort this folder belongs to: one patient number is one woman within it.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV, JSON or .xlsx file with one label a patient or exam.")
    ] = None,
    id_column: Annotated[str | None, typer.Option(help="Column of the labels file that names the patient.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels file that holds the label.")] = None,
    id_pattern: IdPattern = None,
    view: View = None,
    view_map: ViewMap = None,
    unit: Unit = None,
    shape: Annotated[
        str | None,
        typer.Option(help="Rows x columns of every matrix, such as 480x640; chooses where a text can be two things."),
    ] = None,
    protocol: Protocol = None,
    visit: Visit = None,
    dates: Annotated[
        list[Path] | None, typer.Option(help="JSON or CSV file of exam dates, or a folder of them; repeat it.")
    ] = None,
    date_format: Annotated[
        str | None, typer.Option(help="How dates are written: YMD, DMY, MDY, or a pattern such as %d.%m.%Y.")
    ] = None,
    keep_columns: Annotated[
        list[str] | None, typer.Option(help="Other column of the labels file to keep (all are); repeat it.")
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            "--site",
            "--side",
            help="Breasts or regions with labels of their own: the column that names them, or their columns, A,B.",
        ),
    ] = None,
    sick_values: Annotated[list[str] | None, typer.Option(help="Values that mean sick, for example PM,M.")] = None,
    healthy_values: Annotated[list[str] | None, typer.Option(help="Values that mean healthy, likewise.")] = None,
) -> dict[str, object]:
    """Bring a folder somebody already has into raw/, and say how it was read (alone with --dry-run)."""
    return {
        "import.folder": str(folder),
        "import.source": source,
        "import.labels": None if labels is None else str(labels),
        "import.id_column": id_column,
        "import.label_column": label_column,
        **reading_settings(view, view_map, unit, id_pattern, protocol, visit),
        "import.shape": shape,
        "import.dates": [str(path) for path in dates] if dates else None,
        "import.date_format": date_format,
        "import.keep_columns": keep_columns or None,
        "import.site_columns": site or None,
        "import.sick_values": sick_values or None,
        "import.healthy_values": healthy_values or None,
    }


@stage_command("simulate", example="thermocancer simulate --patients 40 --seed 1 --shape 480x640 -w demo")
def simulate(
    patients: Annotated[int | None, typer.Option(help="Number of synthetic patients.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the whole cohort.")] = None,
    shape: Annotated[str | None, typer.Option(help="Rows x columns of a matrix, for example 480x640.")] = None,
    detectability: Annotated[
        bool | None, typer.Option("--detectability", help="Instead of a cohort: what can be seen at which depth.")
    ] = None,
    truth: Annotated[
        int | None,
        typer.Option(help="Instead of a cohort: so many exams as arrays with their truth, as locate learns."),
    ] = None,
) -> dict[str, object]:
    """Make a synthetic cohort by solving the bioheat equation; no network, no account."""
    return {
        "simulate.patients": patients,
        "seed": seed,
        "simulate.shape": shape,
        "simulate.detectability": detectability,
        "locate.truth": truth,
    }


# --- ``convert``, ``filter`` and ``build-dataset``: from matrices to data sets ---


Views = Annotated[str | None, typer.Option(help="Views that an exam must have, separated by commas.")]


def _listed(views: str | None) -> list[str] | None:
    return None if views is None else [view.strip() for view in views.split(",")]


@stage_command("convert", example="thermocancer convert --format png -w demo")
def convert(
    image_format: Annotated[str | None, typer.Option("--format", help="jpg, or png for exact colours.")] = None,
    videos: Annotated[
        bool | None, typer.Option("--videos/--no-videos", help="Also make one AVI a complete dynamic exam.")
    ] = None,
) -> dict[str, object]:
    """Turn matrices into images, and dynamic exams into videos."""
    return {"convert.format": image_format, "convert.videos": videos}


@stage_command("filter", example="thermocancer filter --views Frontal,Right,Left -w demo")
def filter_exams(views: Views = None) -> dict[str, object]:
    """Keep complete and sound exams; say why each other one was dropped."""
    return {"filter.views": _listed(views)}


@stage_command("build-dataset", example="thermocancer build-dataset -w demo --name small --size 240x320")
def build_dataset(
    name: Annotated[str | None, typer.Option(help="Name of the data set: datasets/NAME.h5.")] = None,
    views: Views = None,
    source: Annotated[str | None, typer.Option(help="matrices (exact degrees), images or videos.")] = None,
    size: Annotated[str | None, typer.Option(help="Rows x columns to average every matrix down to.")] = None,
    dynamic: Annotated[bool | None, typer.Option(help="Also store the dynamic sequences.")] = None,
) -> dict[str, object]:
    """Write the HDF5 data set and the one patient-wise split."""
    chosen: dict[str, object] = {
        "dataset.name": name,
        "dataset.source": source,
        "dataset.size": size,
        "dataset.dynamic": dynamic,
    }
    return chosen | {"filter.views": _listed(views)}
