"""The root of the config: every section, its defaults, and the pairs that cannot go together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from thermocancer.config.base import PathText, Section
from thermocancer.config.judging import EvaluateSection, ReportSection, SweepSection
from thermocancer.config.learning import (
    AutoencoderSection,
    CnnSection,
    DitSection,
    FuseSection,
    StrategySection,
)
from thermocancer.config.preparation import (
    CohortSection,
    ConvertSection,
    DatasetSection,
    FeaturesSection,
    FilterSection,
    SplitSection,
)
from thermocancer.config.sources import FetchSection, ImportSection, SimulateSection
from thermocancer.kinds import Kind, Reads, backbone, kind

StageName = Literal[
    "fetch", "import", "simulate", "convert", "filter", "build-dataset",
    "train-ae", "fuse", "train-dit", "train-cnn", "evaluate",
]  # fmt: skip


class Config(Section):
    """A whole run. YAML files hold only what differs from these defaults."""

    workspace: PathText = Field("workspace", description="folder of the data road")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    pipeline: tuple[StageName, ...] = (
        "simulate", "convert", "filter", "build-dataset", "train-ae", "fuse", "evaluate",
    )  # fmt: skip
    strategy: StrategySection = StrategySection()
    fetch: FetchSection = FetchSection()
    import_: ImportSection = Field(ImportSection(), alias="import")
    simulate: SimulateSection = SimulateSection()
    convert: ConvertSection = ConvertSection()
    filter: FilterSection = FilterSection()
    dataset: DatasetSection = DatasetSection()
    split: SplitSection = SplitSection()
    cohort: CohortSection = CohortSection()
    features: FeaturesSection = FeaturesSection()
    autoencoder: AutoencoderSection = AutoencoderSection()
    fuse: FuseSection = FuseSection()
    dit: DitSection = DitSection()
    cnn: CnnSection = CnnSection()
    evaluate: EvaluateSection = EvaluateSection()
    report: ReportSection = ReportSection()
    sweep: SweepSection = SweepSection()

    @model_validator(mode="after")
    def _pairs_that_cannot_go_together(self) -> Config:
        check_pairs(self)
        return self


# --- pairs of settings that cannot go together, refused before any work is done ---


def check_pairs(config: Config) -> None:
    """Raise ValueError for the first pair of settings that contradict each other."""
    if config.dataset.views is not None:
        extra = set(config.dataset.views) - set(config.filter.views)
        if extra:
            raise ValueError(f"dataset.views has {sorted(extra)}, which filter.views does not require")
    if config.strategy.backend == "tensorflow" and config.strategy.kind in ("data-parallel", "multi-host"):
        raise ValueError(
            f"strategy.kind: {config.strategy.kind} needs strategy.backend: jax "
            "(Keras 3 cannot train on TensorFlow's multi-worker strategy)"
        )
    if config.strategy.backend == "jax" and config.strategy.kind == "mirrored":
        raise ValueError("strategy.kind: mirrored needs strategy.backend: tensorflow; use data-parallel")
    if config.split.protocol != "thesis" and config.autoencoder.train_on == "all":
        raise ValueError(
            "autoencoder.train_on: all shows every test exam to the encoder; "
            f"that needs split.protocol: thesis, not {config.split.protocol}"
        )
    chosen = kind(config.fuse.model)
    if chosen.reads is Reads.RUNS and len(config.fuse.combine) < 2:
        raise ValueError(f"fuse.model: {chosen.name} needs two or more run names in fuse.combine")
    if config.fuse.combine_by == "features" and config.fuse.stacking:
        raise ValueError(
            "fuse.stacking weighs scores; fuse.combine_by: features fits one model on the features instead"
        )
    if not chosen.residualises and config.features.residualise:
        raise ValueError(
            f"fuse.model: {chosen.name} reads codes as they are; "
            "features.residualise works with svm and the feature tables"
        )
    _check_options(config, chosen)
    if config.dataset.source == "images" and config.autoencoder.input.kind == "celsius":
        raise ValueError("dataset.source: images has no degrees; autoencoder.input.kind must be rgb")
    if config.dit.weights_sha256 and not config.dit.weights:
        raise ValueError("dit.weights_sha256 is the checksum of dit.weights, which is not set")
    if config.cnn.weights_sha256 and not config.cnn.weights:
        raise ValueError("cnn.weights_sha256 is the checksum of cnn.weights, which is not set")
    if config.dit.weights and not backbone(config.dit.backbone).takes_file:
        raise ValueError(
            f"dit.weights is a file for an ImageNet backbone; dit.backbone: {config.dit.backbone} reads none"
        )
    if config.dataset.source == "videos" and config.dit.channels != ("frame",):
        raise ValueError("dataset.source: videos has no degrees; dit.channels must be [frame]")
    if config.cnn.model == "backbone" and backbone(config.cnn.backbone).own:
        raise ValueError(f"cnn.backbone: {config.cnn.backbone} reads thermograms alone; choose another backbone")


def _check_options(config: Config, chosen: Kind) -> None:
    """The options of a kind that an installed package adds, by its own model."""
    model = chosen.options_model()
    if model is None:
        if config.fuse.options:
            raise ValueError(
                f"fuse.options: {chosen.name} has no options of its own, found {sorted(config.fuse.options)}"
            )
        return
    try:
        model.model_validate(config.fuse.options)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ValueError(f"fuse.options.{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error
