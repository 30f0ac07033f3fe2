"""The settings that make a published row again, and in what they deviate from the original's.

The original's figures are those of its text (2024): autoencoders v1 20 and v2 40 epochs, batch 32, Adam; fusion
network 40 epochs, batch 8; sequence network on EfficientNetB5 at 456x456, AdamW, moving average of the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from thermocancer.config import Config
from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import InputSection
from thermocancer.evaluation.replication.published import Protocol, PublishedRow
from thermocancer.files import Json
from thermocancer.kinds import AE, NETWORK, SEQUENCE, SVM, backbone, kind
from thermocancer.workspace import VIEWS, Workspace

ORIGINAL_SHAPE = (480, 640)
ORIGINAL_JPEG = 75
ORIGINAL_BACKBONE, ORIGINAL_SIZE, ORIGINAL_MOMENTUM = "efficientnetb5", (456, 456), 0.99
PRINTED_BACKBONE = "EfficientNetB5, ImageNet weights"
BACKBONE = "efficientnet_lite0"
"""Stands in for EfficientNetB5, whose ImageNet weights no package ships; set ``dit.backbone`` to override."""

# --- stages and their settings ----------------------------------------------------------------------------------------


class Branch(Workspace):
    """A workspace of its own under ``reproduce/`` that reads the thermograms of the main one."""

    @property
    def raw(self) -> Path:
        # written as a path below the root: stages name files relative to it
        return self.root / ".." / ".." / ".." / "raw"


def branch_of(workspace: Workspace, protocol: Protocol, row: PublishedRow) -> Branch:
    """Where the data set, autoencoders and runs of a row live; rows on the same exams share it."""
    return Branch(workspace.root / "reproduce" / protocol / row.cohort)


@dataclass(frozen=True)
class Step:
    """One stage to run with its settings."""

    stage: str
    config: Config


def steps_of(row: PublishedRow, protocol: Protocol, config: Config) -> list[Step]:
    """The stages that make the row, in order.

    What defines the recipe is fixed here; sizes, epochs and folds that the config sets are kept, and so is what
    the autoencoders learn from, so that a small or a sounder reproduction is possible and says so.
    """
    base = _remade(row, protocol, config)
    stages = ["filter", "build-dataset"]
    if protocol == "thesis":
        stages.insert(0, "convert")
    if row.model != SEQUENCE or backbone(base.dit.backbone).own:
        stages.append(AE)
    stages += [kind(row.model).stage, "evaluate"]
    return [Step(stage, base) for stage in stages]


def _remade(row: PublishedRow, protocol: Protocol, config: Config) -> Config:
    """The original recipe with its defects; or the same models by patient, on fixed degrees, fitted inside folds."""
    if protocol == "thesis":
        fixed, unless_chosen = _original(row, config)
    else:
        fixed, unless_chosen = _by_patient(row, config), {}
    if row.model == SEQUENCE:
        fixed["dit"] |= {"name": row.name, "head": "lstm", "units": 24, "frames": tuple(range(0, 20, 2))}
        unless_chosen["dit"] = {"backbone": BACKBONE, "norm_momentum": ORIGINAL_MOMENTUM, "loss": "mse"}
        if "backbone" in config.dit.model_fields_set and config.dit.backbone == ORIGINAL_BACKBONE:
            unless_chosen["dit"]["size"] = ORIGINAL_SIZE
    else:
        fixed["fuse"] |= {
            "name": row.name, "model": row.model, "kernel": "sigmoid", "C": 1.0, "views": row.views,
            "autoencoder": row.variant, "untrained": False, "baseline": False,
        }  # fmt: skip
    changed: Json = {"workspace": str(Path(config.workspace) / "reproduce" / protocol / row.cohort)}
    for name, values in fixed.items():
        section: BaseModel = getattr(config, name)
        defaults = unless_chosen.get(name, {})
        left_open = {key: value for key, value in defaults.items() if key not in section.model_fields_set}
        changed[name] = section.model_copy(update=left_open | values)
    return config.model_copy(update=changed)


def _common(row: PublishedRow, config: Config) -> dict[str, Json]:
    """What both protocols share."""
    dynamic = row.cohort == "dynamic"
    return {
        "cohort": {"match": "none"},
        "filter": {"views": VIEWS if row.cohort == "five" else row.views, "dynamic": dynamic},
        "dataset": {"name": row.cohort, "views": None, "static": True, "dynamic": dynamic},
        "features": {"relative": False, "residualise": False, "torso_only": False},
        "evaluate": {"run": row.name, "audit": False, "explain": False},
        "autoencoder": {"variant": row.variant or config.autoencoder.variant, "views": None},
        "fuse": {"encoders": "fold"},
    }  # fmt: skip


def _by_patient(row: PublishedRow, config: Config) -> dict[str, Json]:
    colours = Rendering(colormap="viridis", range=CelsiusRange())
    fixed = _common(row, config)
    fixed["split"] = {"protocol": "grouped-cv", "order": "filtered"}
    fixed["filter"] |= {"rule": "sound"}
    fixed["dataset"] |= {"source": "matrices", "dynamic_source": None}
    fixed["autoencoder"] |= {
        "per_fold": True, "train_on": "split", "input": InputSection(kind="rgb", rendering=colours)
    }  # fmt: skip
    fixed["dit"] = {"rendering": colours, "aim": "sensitivity"}
    fixed["fuse"] |= {"aim": "sensitivity"}
    return fixed


def _original(row: PublishedRow, config: Config) -> tuple[dict[str, Json], dict[str, Json]]:
    """The study's recipe, and what of it holds unless the config chooses otherwise."""
    colours, film = (Rendering(colormap=name, range="minmax") for name in ("viridis", "prism"))
    one_view, dynamic = row.cohort == "frontal", row.cohort == "dynamic"
    fixed = _common(row, config)
    fixed["split"] = {"protocol": "thesis", "order": "unfiltered" if one_view else "filtered"}
    fixed["filter"] |= {"rule": "original"}
    fixed["convert"] = {
        "rendering": colours, "format": "jpg", "jpeg_quality": ORIGINAL_JPEG, "dynamic": False, "videos": dynamic,
        "video_rendering": film, "video_codec": "DIVX", "video_fps": 5.0, "video_jpeg": ORIGINAL_JPEG,
    }  # fmt: skip
    fixed["dataset"] |= {"source": "images", "dynamic_source": "videos", "decoder": "tensorflow"}
    if dynamic:
        fixed["dataset"]["static"] = backbone(config.dit.backbone).own and "backbone" in config.dit.model_fields_set
    fixed["autoencoder"] |= {"per_fold": False, "input": InputSection(kind="rgb", rendering=colours)}
    if one_view and config.autoencoder.train_on == "unfiltered":
        fixed["autoencoder"]["train_on"] = "split"  # the data set is the unfiltered folder, and divided as it is
    fixed["dit"] = {
        "rendering": film, "aim": "fixed", "loss": "mse", "channels": ("frame",), "class_weights": False, "augment": 0,
    }  # fmt: skip
    fixed["fuse"] |= {"aim": "fixed"}
    learning = {"batch": 32, "learning_rate": 1e-3, "schedule": "constant", "warmup_epochs": 0, "optimizer": "adam"}
    train_on = "split" if one_view or dynamic else "unfiltered"
    return fixed, {"autoencoder": learning | {"train_on": train_on}}


# --- in what they deviate from the original's -------------------------------------------------------------------------

Difference = tuple[str, object, object]
"""What it is called, ours, and the original's."""


def made_with(row: PublishedRow, config: Config) -> str:
    """The model of a row as it was made here, in words."""
    if row.model == SEQUENCE:
        dit = config.dit
        return f"{dit.backbone} at {_size(dit.size)} + {dit.head} {dit.units}"
    last = "SVM" if row.model == SVM else NETWORK
    return f"autoencoder {row.variant} + {last} on {', '.join(row.views)}"


def deviations(row: PublishedRow, config: Config, shape: tuple[int, int], exams: int) -> list[str]:
    """One line a difference between the settings that made a row and the original's.

    ``shape`` (height, width) and ``exams`` are those of the data set. What makes the two protocols differ
    (who is tested, where the threshold comes from) is not listed: the column says it.
    """
    fuse = config.fuse
    found: list[Difference] = [("matrices", _size(shape), _size(ORIGINAL_SHAPE))]
    if config.split.protocol == "thesis":
        found += [("test share", config.split.test_fraction, 0.3), ("seed", config.seed, 1)]
    if row.model == SEQUENCE:
        found += _of_sequences(config)
    else:
        found += _of_autoencoder(row, config, exams)
    if row.model == SVM:
        found.append(("features limited to", fuse.clip, None))
    if row.model == NETWORK:
        found += [("network epochs", fuse.epochs, 40), ("network batch", fuse.batch, 8)]
        found.append(("network learning rate", fuse.learning_rate, 1e-3))
    lines = [f"{name} {_words(ours)} (original {_words(theirs)})" for name, ours, theirs in found if ours != theirs]
    # what differs whatever the settings are
    if len(row.views) == 3:
        lines.append(f"three views taken to be {', '.join(row.views)} (the original does not name them)")
    if config.split.protocol == "thesis":
        lines += [*ALWAYS, *(ALWAYS_FILMS if row.model == SEQUENCE else ALWAYS_STATIC)]
        lines += [NO_TPU] if config.strategy.kind != "tpu" else []
    elif row.model == SEQUENCE:
        lines.append(
            "frames in their order, resized, straight from the matrices (original: directory order, resize "
            "lost, JPEG and DIVX)"
        )
    if row.model == SEQUENCE and config.dit.weights is not None:
        lines.append(f"backbone weights from the file {Path(config.dit.weights).name}")
    if config.strategy.precision != "float32":
        lines.append(f"computed in {config.strategy.precision}")
    return lines


ALWAYS = (
    "pictures kept in one HDF5 file (original: read from their folders; the pixels are the same)",
    "labels by visit (original: by the site's list of patients)",
    "weights and batches drawn from the seed (original: no seed named)",
)
ALWAYS_STATIC = ("of several files of a view in one visit one counts, the last by name (original: each, unfiltered)",)
ALWAYS_FILMS = (
    "films shuffled in the order of their names, frames in their order, resized (original: directory order, resize "
    "lost)",
)
NO_TPU = "no TPU (original: TPUStrategy)"
"""How a row differs under the original protocol although every setting is the original's."""


def _of_autoencoder(row: PublishedRow, config: Config, exams: int) -> list[Difference]:
    from thermocancer.training.autoencoder import ORIGINAL_BATCH, ORIGINAL_EPOCHS, ORIGINAL_RATE, course_of

    section = config.autoencoder.model_copy(update={"variant": row.variant})
    course = course_of(section, exams)
    jpeg = config.dataset.source == "images" and config.convert.format == "jpg"
    theirs = "split" if row.cohort == "frontal" else "unfiltered"  # one and the same where the row has one view
    ours, theirs = WORDS_TRAINED_ON[section.train_on], WORDS_TRAINED_ON[theirs]
    trained: list[Difference] = [("autoencoders trained on", ours, theirs)]
    return [
        ("autoencoder epochs", course.epochs, ORIGINAL_EPOCHS[section.variant]),
        ("autoencoder batch", course.batch, ORIGINAL_BATCH),
        ("autoencoder learning rate", course.schedule.peak, ORIGINAL_RATE),
        ("autoencoder schedule", section.schedule, "constant"),
        ("autoencoder optimizer", section.optimizer, "adam"),
        ("autoencoder patience", section.patience, None),
        ("colours", _rendering(section.input.rendering), "viridis, minmax"),
        ("images", "JPEG" if jpeg else "coloured without JPEG", "JPEG"),
        *(trained if config.split.protocol == "thesis" else ()),
    ]


def _of_sequences(config: Config) -> list[Difference]:
    dit = config.dit
    original = {
        "dropout": 0.2, "norm_momentum": ORIGINAL_MOMENTUM, "optimizer": "adamw", "learning_rate": 1e-3,
        "weight_decay": 0.1, "ema_momentum": 0.8, "loss": "mse", "class_weights": False, "epochs": 20, "batch": 16,
        "patience": None, "augment": 0, "finetune": False,
    }  # fmt: skip
    return [
        ("backbone", dit.backbone, ORIGINAL_BACKBONE if dit.backbone == ORIGINAL_BACKBONE else PRINTED_BACKBONE),
        ("frames of", _size(dit.size), _size(ORIGINAL_SIZE)),
        ("colours", _rendering(dit.rendering), "prism, minmax"),
        ("channels", ", ".join(dit.channels), "frame"),
        *((name.replace("_", " "), getattr(dit, name), theirs) for name, theirs in original.items()),
    ]


WORDS_TRAINED_ON = {
    "split": "the training part of the scored exams", "unfiltered": "70 % of the unfiltered files", "all": "all exams"
}  # fmt: skip


def _rendering(rendering: Rendering) -> str:
    scale = rendering.range
    return f"{rendering.colormap}, " + (scale if isinstance(scale, str) else f"{scale.low:g} to {scale.high:g} degC")


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"


def _words(value: object) -> str:
    return {None: "none", True: "on", False: "off"}[value] if value is None or isinstance(value, bool) else str(value)
