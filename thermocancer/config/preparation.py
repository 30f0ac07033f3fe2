"""From matrices to data sets: convert, filter, dataset, split, and which exams count."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from thermocancer.config.base import ASIDE, LATER, Name, PositiveInt, Rendering, Section, Shape, ViewName


class ConvertSection(Section):
    """``convert``: matrices to images, dynamic exams to videos."""

    rendering: Rendering = Rendering()
    format: Literal["jpg", "png"] = Field("jpg", description="jpg: as the original study; png: without loss")
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(95, description="original study: 75")
    processes: PositiveInt | None = Field(None, description="null: every core")
    dynamic: bool = Field(True, description="also images of the frames of dynamic exams")
    videos: bool = Field(False, description="also one AVI a dynamic exam")
    video_rendering: Rendering = Rendering(colormap="prism", range="minmax")
    video_codec: Literal["DIVX", "FFV1"] = Field("DIVX", description="DIVX: as the original study; FFV1: without loss")
    video_fps: Annotated[float, Field(gt=0)] = Field(5.0, description="frames a second of the AVI")
    video_jpeg: Annotated[int, Field(ge=1, le=100)] | None = Field(
        None, description="frames pass through JPEG of this quality first (original study: 75); null: as they are"
    )


class FilterSection(Section):
    """``filter``: which exams are complete and sound."""

    rule: Literal["sound", "original"] = Field(
        "sound",
        description="original: as the original study, where only a view that is missing or cannot be read drops an "
        "exam: identical and implausible pictures stay; of dynamic exams first visits alone",
    )
    views: tuple[ViewName, ...] = Field(
        ("Frontal", "Right45", "Right", "Left45", "Left"), description="an exam is complete when it has all of these"
    )
    shape: Shape | None = Field(None, description="null: the most frequent shape")
    low: float = Field(5.0, description="lowest plausible temperature, degC")
    high: float = Field(45.0, description="highest plausible temperature, degC")
    minimum_spread: float = Field(0.5, description="degC; a flatter matrix is no thermogram")
    missing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.9, description="largest share of a frame that may be without temperatures (NaN, zeros that are fill)"
    )
    outliers: Literal["list", "drop"] = Field(
        "list", description="exams of which a view is unlike those of all others, by the test of predict"
    )
    duplicates: Literal["list", "drop"] = Field(
        "list", description="pictures of two patients that are nearly the same, or mirrored: drop all but the first, "
        "and each where the labels differ; identical ones are always dropped",
    )  # fmt: skip
    frames: PositiveInt = Field(20, description="frames of a complete dynamic exam")
    dynamic: bool = Field(True, description="also filter dynamic exams")


class DatasetSection(Section):
    """``build-dataset``: one HDF5 file."""

    name: Name = Field("cohort", description="datasets/NAME.h5")
    source: Literal["matrices", "images", "videos"] = Field("matrices", description="what static exams are read from")
    dynamic_source: Literal["matrices", "images", "videos"] | None = Field(
        None, description="what dynamic exams are read from; null: dataset.source"
    )
    decoder: Literal["opencv", "tensorflow"] = Field(
        "opencv",
        description="what reads image files; the original study: tensorflow, whose fast inverse transform of JPEG is "
        "up to 4 grey levels off",
    )
    views: tuple[ViewName, ...] | None = Field(None, description="null: those of filter.views")
    size: Shape | None = Field(None, description="rows, columns; null: as they are")
    static: bool = Field(True, description="pack static exams")
    dynamic: bool = Field(False, description="pack dynamic exams")
    compression: Literal["auto", "gzip", "lzf", "none"] = Field(
        "auto",
        description="auto: gzip for degrees; none for colours, which can be made again and load five times as fast",
    )
    threads: PositiveInt | None = Field(None, description="null: every core; the bytes do not depend on it")

    @property
    def frames_from(self) -> Literal["matrices", "images", "videos"]:
        """What dynamic exams are read from."""
        return self.dynamic_source or self.source


class SplitSection(Section):
    """The one patient-wise split, and the folds of cross-validation."""

    protocol: Literal["grouped-cv", "holdout", "thesis"] = Field(
        "grouped-cv",
        description="cross-validation or one test part, by patient; thesis: the original study's, by exam",
    )
    order: Literal["filtered", "unfiltered"] = Field(
        "filtered",
        description="protocol thesis: the file names whose order is shuffled, those of the study's filtered folders "
        "(image_276_1) or the site's own (T0276.1.1.S...), as its table 3",
    )
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="share of patients that are tested (holdout, thesis)"
    )
    folds: Annotated[int, Field(ge=2, le=10_000)] = Field(5, description="parts of the cross-validation")
    repeats: Annotated[int, Field(gt=0, le=10_000)] = Field(
        5, description="times that the cross-validation is drawn anew"
    )
    inner_folds: Annotated[int, Field(ge=2, le=10_000)] = Field(
        3, description="parts inside each training part that choose thresholds and calibrate"
    )


class CohortSection(Section):
    """Which exams count, and remedies against shortcuts."""

    match: Literal["none", "choose", "weight"] = Field(
        "none", description="healthy exams that resemble the sick ones in date and room: choose them, or weigh them"
    )
    match_days: PositiveInt = Field(270, description="most days between two matched exams")
    match_room_celsius: Annotated[float, Field(gt=0)] = Field(
        0.75, description="most degC between the rooms of two matched exams"
    )
    layouts: tuple[str, ...] = Field((), description="keep only these acquisition layouts")
    exclude: tuple[str, ...] = Field((), description="exams to leave out, PATIENT or PATIENT_VISIT")
    erase: Annotated[tuple[Literal["date", "room"], ...], LATER] = Field(
        (), description="directions of features that tell early from late (or cool rooms from warm ones) among healthy "
        "training women are removed before a classifier on a feature table learns",
    )  # fmt: skip
    facts: Annotated[tuple[str, ...], ASIDE] = Field(
        (), description="columns of the labels file, or fields of the site, that evaluate audits as it does dates and "
        "rooms (site, device, ...); all: every one",
    )  # fmt: skip

    @field_validator("facts", "erase", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class FeaturesSection(Section):
    """How temperatures become features."""

    relative: bool = Field(False, description="remove each body's own reference temperature")
    residualise: bool = Field(False, description="regress nuisance out, fitted on training healthy")
    torso_only: bool = Field(False, description="blank the background and inpaint the marker")
    pixels: Shape = Field((48, 64), description="rows, columns of the pixel baseline")
    components: PositiveInt = Field(
        40, description="principal components of the pixel baseline, and of each run in late fusion by features"
    )
