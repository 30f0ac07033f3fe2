"""The settings that make a published row again, faithfully (``thesis``) and honestly (``grouped-cv``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from thermocancer.config import Config
from thermocancer.config.base import CelsiusRange, Rendering
from thermocancer.config.learning import InputSection
from thermocancer.errors import ConfigError
from thermocancer.evaluation.replication.deviations import ORIGINAL_BACKBONE, ORIGINAL_MOMENTUM, ORIGINAL_SIZE
from thermocancer.evaluation.replication.published import ROW_NAMES, ROWS, PublishedRow
from thermocancer.workspace import Workspace

Protocol = Literal["thesis", "grouped-cv"]
PROTOCOLS: tuple[Protocol, ...] = ("thesis", "grouped-cv")
BACKBONE = "efficientnet_lite0"
"""Stands in for EfficientNetB5, whose ImageNet weights no package ships; set ``dit.backbone`` to override."""


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


def chosen_rows(names: Sequence[str]) -> tuple[PublishedRow, ...]:
    """The rows asked for, in the order of the tables; all where none is named. Raises ConfigError."""
    unknown = [name for name in names if name not in ROW_NAMES]
    if unknown:
        raise ConfigError(
            f"there is no published row {unknown[0]!r}", where="--rows", expected=", ".join(ROW_NAMES),
            hint="for example: reproduce --rows T3-v1,T7-5",
        )  # fmt: skip
    return tuple(row for row in ROWS if not names or row.name in names)


def steps_of(row: PublishedRow, protocol: Protocol, config: Config) -> list[Step]:
    """The stages that make the row, in order.

    What defines the recipe is fixed here; sizes, epochs and folds that the config sets are kept, so that a
    small reproduction is possible and says so by its config.
    """
    base = _thesis(config, row) if protocol == "thesis" else _honest(config, row)
    base = _update(base, "", workspace=str(Path(config.workspace) / "reproduce" / protocol / row.cohort))
    stages = ["filter", "build-dataset"]
    if protocol == "thesis" and row.cohort != "dynamic":
        stages.insert(0, "convert")
    if row.model != "sequence" or base.dit.backbone == "autoencoder":
        stages.append("train-ae")
    stages += ["train-dit" if row.model == "sequence" else "fuse", "evaluate"]
    return [Step(stage, base) for stage in stages]


def _thesis(config: Config, row: PublishedRow) -> Config:
    """The original recipe, its defects included."""
    colours = Rendering(colormap="viridis", range="minmax")
    config = _common(config, row, "thesis")
    config = _update(config, "convert", rendering=colours, format="jpg", dynamic=False, videos=False)
    config = _update(config, "autoencoder", train_on="all", per_fold=False)
    config = _update(config, "autoencoder", input=InputSection(kind="rgb", rendering=colours))
    config = _default(
        config, "autoencoder", batch=32, learning_rate=1e-3, schedule="constant", warmup_epochs=0, optimizer="adam"
    )
    config = _update(config, "dit", rendering=Rendering(colormap="prism", range="minmax"), loss="mse", aim="fixed")
    config = _update(config, "dit", channels=("frame",), class_weights=False, augment=0)
    if row.cohort != "dynamic":
        config = _update(config, "dataset", source="images")
    return _update(config, "fuse", aim="fixed", encoders="fold")


def _honest(config: Config, row: PublishedRow) -> Config:
    """The same models by patient, on degrees with a fixed range, every fitted part inside its fold."""
    colours = Rendering(colormap="viridis", range=CelsiusRange())
    config = _common(config, row, "grouped-cv")
    config = _update(config, "autoencoder", train_on="split", per_fold=True)
    config = _update(config, "autoencoder", input=InputSection(kind="rgb", rendering=colours))
    config = _update(config, "dit", rendering=colours, aim="sensitivity")
    return _update(config, "fuse", aim="sensitivity", encoders="fold")


def _common(config: Config, row: PublishedRow, protocol: Protocol) -> Config:
    """What both protocols share: the exams, the model, the names."""
    dynamic = row.cohort == "dynamic"
    config = _update(config, "split", protocol=protocol)
    config = _update(config, "cohort", match="none")
    views = row.views if row.cohort != "five" else None
    config = _update(config, "filter", views=row.views if views else _all_views(), dynamic=dynamic)
    config = _update(config, "dataset", name=row.cohort, source="matrices", views=None, static=True, dynamic=dynamic)
    config = _update(config, "features", relative=False, residualise=False, torso_only=False)
    config = _update(config, "evaluate", run=row.name, audit=False, explain=False)
    variant = row.variant or config.autoencoder.variant
    config = _update(config, "autoencoder", variant=variant, views=None)
    if dynamic:
        config = _default(config, "dit", backbone=BACKBONE, norm_momentum=ORIGINAL_MOMENTUM, loss="mse")
        if config.dit.backbone == ORIGINAL_BACKBONE:
            config = _default(config, "dit", size=ORIGINAL_SIZE)
        return _update(config, "dit", name=row.name, head="lstm", units=24, frames=tuple(range(0, 20, 2)))
    return _update(
        config, "fuse", name=row.name, model=row.model, kernel="sigmoid", C=1.0, views=row.views,
        autoencoder=row.variant, untrained=False, baseline=False,
    )  # fmt: skip


def _all_views() -> tuple[str, ...]:
    from thermocancer.workspace import VIEWS

    return VIEWS


def _update(config: Config, section: str, **values: Any) -> Config:
    """The config with settings of a section (or of the root) replaced."""
    if not section:
        return config.model_copy(update=values)
    changed: BaseModel = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: changed})


def _default(config: Config, section: str, **values: Any) -> Config:
    """The same for settings that the user has not chosen."""
    chosen = getattr(config, section).model_fields_set
    return _update(config, section, **{key: value for key, value in values.items() if key not in chosen})
