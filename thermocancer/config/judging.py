"""How a run is judged and reported, and how settings are searched for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from thermocancer.config.base import ASIDE, MOST, Fraction, Name, PathText, PositiveInt, Section
from thermocancer.config.learning import FuseSection
from thermocancer.config.preparation import FeaturesSection

AuditRefit = Literal[
    "permuted labels", "leaky twin", "untrained twin", "trivial baselines", "torso only", "background only",
    "early to late",
]  # fmt: skip


class EvaluateSection(Section):
    """``evaluate`` and ``compare``: intervals and the audit."""

    run: Name | None = Field(None, description="name of the run; null: every run of the workspace")
    compare: tuple[Name, ...] = Field((), description="names of the runs that ``compare`` compares")
    exam: tuple[PathText, ...] = Field((), description="files and folders that ``predict`` scores")
    package: Annotated[PathText | None, ASIDE] = Field(
        None, description="zip of ``export`` that answers instead of ``run``, wherever it lies"
    )
    page: PathText | None = Field(
        None, description="HTML page of ``predict``; null: predict/RUN/NAME.html, empty: none"
    )
    formats: tuple[Literal["saved_model", "onnx", "litert", "zip"], ...] = Field(
        (), description="what ``export`` writes; none: every format that the kind has and whose converter is installed"
    )
    rows: tuple[str, ...] = Field((), description="published rows that ``reproduce`` makes again; none: all")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="of every interval")
    bootstrap: PositiveInt = Field(2000, description="resamples of intervals that have no formula")
    audit: bool = Field(True, description="ask whether facts other than the breast tell the label")
    audit_repeats: PositiveInt = Field(1, description="repeats of cross-validation in each control")
    audit_permutations: Annotated[int, Field(ge=2)] | None = Field(
        None, description="times that the recipe is taught permuted labels; null: 30, or 5 where each time is dear"
    )
    audit_skip: tuple[AuditRefit, ...] = Field((), description="controls that train again and are left out")
    audit_image_epochs: PositiveInt = Field(
        5, description="train-cnn: most epochs of the network that is taught permuted labels"
    )
    matched_days: PositiveInt = Field(270, description="most days between the two exams of a matched pair")
    matched_room_celsius: Annotated[float, Field(gt=0)] = Field(
        0.75, description="most degC between the rooms of a matched pair"
    )
    prevalences: tuple[Fraction, ...] = Field(
        (0.006, 0.05), description="shares of sick women for which predictive values are told"
    )
    explain: bool = Field(True, description="draw heat maps of what the run looks at")
    elsewhere: Annotated[PathText | None, ASIDE] = Field(
        None, description="workspace, or folder that ``import`` can read, that ``validate`` judges a run on"
    )
    leave_one_source_out: Annotated[bool, ASIDE] = Field(
        False, description="``validate``: teach the run's recipe without each source of the workspace in turn"
    )
    elsewhere_dataset: Annotated[Name, ASIDE] = Field("cohort", description="name of the data set there")
    recalibrate: Annotated[float, Field(gt=0, lt=1), ASIDE] = Field(
        0.5, description="share of that collection's patients on which ``validate`` recalibrates; the others are scored"
    )
    explain_views: Literal["all", "first"] = Field(
        "all", description="heat maps of every view that the run reads, or of the first one alone"
    )

    @field_validator("exam", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return () if value is None else (value,) if isinstance(value, str) else value


TissueName = Literal["layers-A-skin", "layers-A", "layers-B", "voxel", "pet"]


class LocateSection(Section):
    """``locate``: where a heat source would be, by a network that has seen phantoms alone."""

    exam: Annotated[tuple[PathText, ...], ASIDE] = Field(
        (), description="files and folders, or the name of a run; none: every exam of the data set"
    )
    page: Annotated[PathText | None, ASIDE] = Field(
        None, description="HTML page of ``locate``; null: locate/NAME.html in the workspace, empty: none"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        0, description="of phantoms and network; a run's own seed does not make another network"
    )
    tissues: tuple[TissueName, ...] = Field(
        ("layers-A-skin", "layers-A", "voxel"),
        min_length=1,
        description="parameter sets of the phantoms it learns from",
    )
    bodies: Annotated[int, Field(ge=2, le=MOST)] = Field(3000, description="phantom bodies it learns from")
    sources: Annotated[int, Field(ge=2, le=MOST)] = Field(2000, description="solved heat sources to put into them")
    calibration: Annotated[int, Field(ge=2, le=MOST)] = Field(
        600, description="further bodies, never taught, on which its region and its probabilities are calibrated"
    )
    steps: PositiveInt = Field(5000, description="steps of training")
    batch: PositiveInt = Field(32, description="phantoms a step, each drawn anew")
    learning_rate: Annotated[float, Field(gt=0, le=1)] = Field(2e-3, description="highest one")
    width: Annotated[int, Field(ge=4, le=512)] = Field(24, description="channels of the network's first layers")
    region: Annotated[float, Field(gt=0, lt=1)] = Field(0.9, description="share of the sources that the region holds")
    below_curve: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.95, description="AUC of the ideal observer, told the place, below which a source is called not locatable"
    )
    abstention: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.92, description="share of the sources below that curve that must be called not locatable"
    )
    processes: Annotated[PositiveInt | None, ASIDE] = Field(
        None, description="for making phantoms; null: every core; the result does not depend on it"
    )
    truth: Annotated[PositiveInt | None, ASIDE] = Field(
        None, description="``simulate``: instead of a cohort so many of the phantoms that it learns from, as arrays"
    )


class ReportSection(Section):
    """What the HTML report shows."""

    title: str = Field("thermocancer report", description="head of the page")
    gallery: PositiveInt = Field(200, description="at most so many misclassified exams")


class Range(Section):
    """A range of numbers to search."""

    low: float = Field(..., description="lowest value")
    high: float = Field(..., description="highest value")
    log: bool = Field(False, description="search on a logarithmic scale")
    integer: bool = Field(False, description="whole numbers only")


class TrackingSection(Section):
    """Where ``evaluate`` logs a judged run: settings, curves by fold, figures with intervals, the report."""

    kind: Annotated[Literal["none", "tensorboard", "mlflow"], ASIDE] = Field(
        "none", description="tensorboard: event files; mlflow: needs pip install 'thermocancer[tracking]'"
    )
    uri: Annotated[PathText | None, ASIDE] = Field(
        None, description="folder, or an MLflow server's address; null: tracking/ in the workspace"
    )


class SweepSection(Section):
    """Hyper-parameter search inside inner folds (``fuse``)."""

    trials: Annotated[int, Field(ge=0)] = Field(0, description="proposals judged in each outer fold; 0: no search")
    space: dict[str, Range | tuple[Any, ...]] = Field(
        default_factory=dict, description="settings of fuse and features to search, such as fuse.C: {low: .1, high: 10}"
    )
    storage: Annotated[PathText | None, ASIDE] = Field(
        None, description="journal file that several machines may share; null: in the cache"
    )

    @field_validator("space", mode="before")
    @classmethod
    def _flat(cls, value: object) -> object:
        """``fuse: {C: ...}`` and ``fuse.C: ...`` say the same."""
        return dict(_leaves(value)) if isinstance(value, dict) else value

    @field_validator("space")
    @classmethod
    def _known_settings(cls, value: dict[str, object]) -> dict[str, object]:
        for key in value:
            section, _, name = key.partition(".")
            if section not in _SEARCHED or name not in _SEARCHED[section].model_fields:
                raise ValueError(f"{key} cannot be searched; only settings of {' and '.join(_SEARCHED)} can")
        return value


_SEARCHED: dict[str, type[Section]] = {"fuse": FuseSection, "features": FeaturesSection}


def _leaves(values: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and "low" not in value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
