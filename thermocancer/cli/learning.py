"""``train-ae``, ``fuse``, ``train-dit`` and ``train-cnn``: training models; ``export``: taking them elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from thermocancer.cli.common import stage_command
from thermocancer.kinds import FUSE, backbones, kind, kinds_of

RunName = Annotated[str | None, typer.Option("--name", help="Name of the run; its folder is runs/NAME.")]


@stage_command("train-ae", example="thermocancer train-ae -w demo --variant v3 --views Frontal")
def train_ae(
    variant: Annotated[
        str | None, typer.Option(help="v1 or v2 (original study), or v3 (half the code, sharper).")
    ] = None,
    views: Annotated[str | None, typer.Option(help="Views to train, with commas; by default all of them.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs; by default the variant's own.")] = None,
) -> dict[str, Any]:
    """Train one autoencoder a view, and one inside every fold."""
    return {
        "autoencoder.variant": variant,
        "autoencoder.views": views.split(",") if views else None,
        "autoencoder.epochs": epochs,
    }


@stage_command("fuse", example="thermocancer fuse -w demo --name svm3 --model svm --views Frontal,Right,Left")
def fuse(
    name: RunName = None,
    model: Annotated[
        str | None,
        typer.Option(help="; ".join(f"{name}: {kind(name).words}" for name in kinds_of(FUSE))),
    ] = None,
    views: Annotated[str | None, typer.Option(help="Views to join, with commas; by default all of them.")] = None,
    combine: Annotated[str | None, typer.Option(help="Names of finished runs to combine, with commas.")] = None,
    combine_by: Annotated[
        str | None, typer.Option(help="scores (by default) or features: what of those runs is combined.")
    ] = None,
) -> dict[str, Any]:
    """Train a classifier on 1, 3 or 5 views: SVM, fusion network or thermal features; or combine finished runs."""
    return {
        "fuse.name": name,
        "fuse.model": model if model or not combine else "late",
        "fuse.views": views.split(",") if views else None,
        "fuse.combine": combine.split(",") if combine else None,
        "fuse.combine_by": combine_by,
    }


@stage_command("train-dit", example="thermocancer train-dit -w demo --name lstm24 --backbone efficientnet_lite0")
def train_dit(
    name: RunName = None,
    backbone: Annotated[
        str | None,
        typer.Option(help=", ".join(backbones())),
    ] = None,
    head: Annotated[str | None, typer.Option(help="lstm (original study), gru, tcn or attention.")] = None,
) -> dict[str, Any]:
    """Train a sequence network on dynamic exams."""
    return {"dit.name": name, "dit.backbone": backbone, "dit.head": head}


@stage_command("train-cnn", example="thermocancer train-cnn --data slices -w mri --name gadolinium")
def train_cnn(
    data: Annotated[str | None, typer.Option(help="Folder with Train/CLASS and Test/CLASS, or a table.")] = None,
    name: RunName = None,
    seeds: Annotated[int | None, typer.Option(help="Train so many times: mean, spread and a majority vote.")] = None,
    init: Annotated[str | None, typer.Option(help="Weights of an old Keras 2 HDF5 file to start from.")] = None,
) -> dict[str, Any]:
    """Train a binary classifier on a folder of class images."""
    return {"cnn.data": data, "cnn.name": name, "cnn.seeds": seeds, "cnn.init": init}


@stage_command("export", example="thermocancer export network5 -w demo --formats saved_model,litert")
def export(
    name: Annotated[str | None, typer.Argument(help="Name of the run.", metavar="RUN", show_default=False)] = None,
    run: Annotated[str | None, typer.Option("--run", help="The same, as an option.")] = None,
    formats: Annotated[
        str | None,
        typer.Option(help="saved_model, onnx, litert, zip, with commas; by default all that can be written."),
    ] = None,
) -> dict[str, Any]:
    """Take a run elsewhere: as ONNX, SavedModel and LiteRT, each compared with the run, and as a zip for predict.

    The zip takes every kind of run, and predict takes it in any folder.
    """
    return {"evaluate.run": name or run, "evaluate.formats": formats.split(",") if formats else None}
