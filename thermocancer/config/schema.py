"""The root of the config: every section, its defaults, and the pairs that cannot go together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from thermocancer.config.base import PathText, Rendering, Section
from thermocancer.config.judging import EvaluateSection, LocateSection, ReportSection, SweepSection, TrackingSection
from thermocancer.config.learning import (
    AutoencoderSection,
    CnnSection,
    ComputeSection,
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
from thermocancer.kinds import FUSE, Kind, Reads, backbone, kind, kinds_of

StageName = Literal[
    "fetch", "import", "simulate", "convert", "filter", "build-dataset",
    "train-ae", "fuse", "train-dit", "train-cnn", "evaluate",
]  # fmt: skip


class Config(Section):
    """A whole run. YAML files hold only what differs from these defaults."""

    workspace: PathText = Field("workspace", description="folder of the data road")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="every draw of a run begins here: cohort, split, weights, bootstrap"
    )
    pipeline: tuple[StageName, ...] = Field(
        ("simulate", "convert", "filter", "build-dataset", "train-ae", "fuse", "evaluate"),
        description="what `run` does, in this order",
    )
    compute: ComputeSection = ComputeSection()
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
    locate: LocateSection = LocateSection()
    report: ReportSection = ReportSection()
    sweep: SweepSection = SweepSection()
    tracking: TrackingSection = TrackingSection()

    @model_validator(mode="after")
    def _pairs_that_cannot_go_together(self) -> Config:
        check_pairs(self)
        return self


# --- pairs of settings that cannot go together, refused before any work is done ---


def check_pairs(config: Config) -> None:
    """Raise ValueError for the first pair of settings that contradict each other."""
    _check_who_computes(config)
    if config.dataset.views is not None:
        extra = set(config.dataset.views) - set(config.filter.views)
        if extra:
            raise ValueError(f"dataset.views has {sorted(extra)}, which filter.views does not require")
    trained_on = config.autoencoder.train_on
    if config.split.protocol != "thesis" and trained_on != "split":
        whom = "every test exam" if trained_on == "all" else "some test exams"
        raise ValueError(
            f"autoencoder.train_on: {trained_on} shows {whom} to the encoder; "
            f"that needs split.protocol: thesis, not {config.split.protocol}"
        )
    if trained_on == "unfiltered" and config.filter.rule != "original":
        raise ValueError("autoencoder.train_on: unfiltered is the original study's; it needs filter.rule: original")
    _check_renderings(config)
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
    if config.cohort.erase and not chosen.erases:
        able = [name for name in kinds_of(FUSE) if kind(name).erases]
        raise ValueError(
            f"fuse.model: {chosen.name} learns from no feature table; cohort.erase needs {', '.join(able)}"
        )
    _check_options(config, chosen)
    if config.dataset.source == "images" and config.autoencoder.input.kind == "celsius":
        raise ValueError("dataset.source: images has no degrees; autoencoder.input.kind must be rgb")
    if config.dit.weights_sha256 and not config.dit.weights:
        raise ValueError("dit.weights_sha256 is the checksum of dit.weights, which is not set")
    if config.dit.weights and not backbone(config.dit.backbone).takes_file:
        raise ValueError(
            f"dit.weights is a file for an ImageNet backbone; dit.backbone: {config.dit.backbone} reads none"
        )
    pictures = config.dataset.frames_from
    if config.dit.channels != ("frame",) and (
        pictures == "videos" or (pictures == "images" and config.dataset.dynamic)
    ):
        raise ValueError(f"a data set of {pictures} has no degrees; dit.channels must be [frame]")
    _check_images(config)


def _check_who_computes(config: Config) -> None:
    compute = config.compute
    if compute.engine == "local" and (compute.address or compute.cluster):
        raise ValueError("compute.address and compute.cluster are a Dask cluster's; set compute.engine: dask")
    if compute.engine == "dask" and compute.workers == 1:
        raise ValueError("compute.workers: 1 is this process alone; for compute.engine: dask set a number, or auto")
    if compute.workers != 1 and config.strategy.threads is None:
        raise ValueError(
            "compute.workers above 1: TensorFlow's sums depend on its threads in the last bits; set "
            "strategy.threads: 1, so that one process and any number of workers give the same bytes"
        )
    if config.strategy.backend == "tensorflow" and config.strategy.kind in ("data-parallel", "multi-host"):
        raise ValueError(
            f"strategy.kind: {config.strategy.kind} needs strategy.backend: jax "
            "(Keras 3 cannot train on TensorFlow's multi-worker strategy)"
        )
    if config.strategy.backend == "jax" and config.strategy.kind == "mirrored":
        raise ValueError("strategy.kind: mirrored needs strategy.backend: tensorflow; use data-parallel")


def _check_images(config: Config) -> None:
    if config.cnn.validation == "first" and config.cnn.group is not None:
        raise ValueError("cnn.validation: first divides by file name, cnn.group by patient; choose one of the two")
    if config.cnn.validation == "first" and config.cnn.folds != "parts":
        raise ValueError("cnn.validation: first divides by file name, cnn.folds by patient; choose one of the two")
    if config.cnn.slice_percentiles[0] >= config.cnn.slice_percentiles[1]:
        raise ValueError("cnn.slice_percentiles: the first must be lower than the second")
    if config.cnn.weights_sha256 and not config.cnn.weights:
        raise ValueError("cnn.weights_sha256 is the checksum of cnn.weights, which is not set")
    if config.cnn.model == "backbone" and backbone(config.cnn.backbone).own:
        raise ValueError(f"cnn.backbone: {config.cnn.backbone} reads thermograms alone; choose another backbone")


def autoencoder_dataset(config: Config) -> str:
    """Name of the data set that ``train-ae`` reads: every readable file of each view where that is asked for."""
    apart = config.autoencoder.train_on == "unfiltered" and config.split.order == "filtered"
    return config.dataset.name + ("-unfiltered" if apart else "")


def shown_rendering(config: Config) -> Rendering | None:
    """How the pictures were coloured that a dynamic data set holds; None where it holds degrees."""
    source = config.dataset.frames_from
    return {"images": config.convert.rendering, "videos": config.convert.video_rendering}.get(source)


def _check_renderings(config: Config) -> None:
    """Colours that are asked for although the pictures have theirs already. The default follows the pictures."""
    asked = config.autoencoder.input.rendering
    if config.dataset.source == "images" and asked not in (Rendering(), config.convert.rendering):
        raise ValueError(_without_effect("autoencoder.input.rendering", asked, "convert.rendering"))
    shown, asked = shown_rendering(config), config.dit.rendering
    if config.dataset.dynamic and shown is not None and asked not in (Rendering(), shown):
        where = "convert.video_rendering" if config.dataset.frames_from == "videos" else "convert.rendering"
        raise ValueError(_without_effect("dit.rendering", asked, where))


def _without_effect(setting: str, asked: Rendering, where: str) -> str:
    return (
        f"{setting} ({asked.colormap}) has no effect on pictures that convert has coloured: "
        f"set it as {where} is, or leave it out"
    )


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
