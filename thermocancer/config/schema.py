"""The root of the config: every section, its defaults, and the pairs that cannot go together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from thermocancer.config.base import Section
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

StageName = Literal[
    "fetch", "import", "simulate", "convert", "filter", "build-dataset",
    "train-ae", "fuse", "train-dit", "train-cnn", "evaluate",
]  # fmt: skip


class Config(Section):
    """A whole run. YAML files hold only what differs from these defaults."""

    workspace: str = Field("workspace", description="folder of the data road")
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
        from thermocancer.config.pairs import check_pairs

        check_pairs(self)
        return self
