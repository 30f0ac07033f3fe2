"""Where thermograms come from: the DMR-IR site, a folder, the phantom."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from thermocancer.config.base import (
    NOT_REPEATED,
    CelsiusRange,
    Fraction,
    Name,
    PathText,
    PositiveInt,
    ProtocolLetter,
    Seconds,
    Section,
    Shape,
    ViewName,
    shape_from_text,
)


class FetchSection(Section):
    """``fetch``: the site and how politely to ask it."""

    url: str = Field("https://visual.ic.uff.br/dmi/", description="address of the site's base path")
    protocols: tuple[ProtocolLetter, ...] = Field(("S", "D"), description="S: static, D: dynamic exams")
    views: tuple[ViewName, ...] = Field(
        ("Frontal", "Right45", "Right", "Left45", "Left"), description="views of static exams"
    )
    diagnoses: tuple[Literal["healthy", "sick"], ...] = Field(("healthy", "sick"), description="groups of patients")
    patients: tuple[int, ...] = Field((), description="only these patients; empty means all")
    since: str | None = Field(None, description="only visits from this date on, YYYY-MM-DD")
    limit: PositiveInt | None = Field(None, description="fetch at most this many files")
    recheck: Literal["page", "validators", "always", "never"] = Field(
        "page",
        description="when to ask whether files already here have changed: where the patient's page has, "
        "every file with a validator, every file (in full where there is none), or never",
    )
    connections: Annotated[int, Field(ge=1, le=4)] = Field(1, description="requests under way at once")
    interval_s: Seconds = Field(1.0, description="seconds between requests, all connections")
    timeout_s: Annotated[Seconds, Field(gt=0)] = Field(30.0, description="seconds until a silent server is given up")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        4, description="tries after the first, for a site that falters"
    )
    backoff_s: Seconds = Field(2.0, description="first pause between tries; it doubles")
    max_requests: PositiveInt | None = Field(None, description="stop after so many requests; the next run goes on")
    clinical: bool = Field(True, description="keep the clinical fields in raw/patients.jsonl")
    ca_bundle: PathText | None = Field(None, description="PEM file of certificates to trust")
    insecure: bool = Field(False, description="do not verify TLS; the password then needs insecure_password too")
    insecure_password: bool = Field(False, description="send the password over an unverified connection")
    shape: Shape = Field((480, 640), description="expected rows and columns of a matrix")

    @field_validator("url")
    @classmethod
    def _no_account_in_it(cls, value: str) -> str:
        if "@" in value:
            raise PydanticCustomError(
                NOT_REPEATED,
                "an address without an account: name and password belong in the environment variables "
                "THERMOCANCER_USER and THERMOCANCER_PASSWORD",
            )
        return value

    @field_validator("since", mode="before")
    @classmethod
    def _since_is_a_date(cls, value: object) -> object:
        if value is None:
            return None
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            raise ValueError("a date written YYYY-MM-DD") from None

    @model_validator(mode="after")
    def _one_way_of_trusting(self) -> FetchSection:
        if self.insecure and self.ca_bundle:
            raise ValueError("fetch.insecure turns verification off and fetch.ca_bundle is for verifying: choose one")
        return self


class ImportSection(Section):
    """``import DIR``: a folder somebody already has."""

    folder: PathText | None = Field(None, description="the folder to import")
    source: Name | None = Field(
        None, description="name of the cohort this folder belongs to: a patient's number is one woman within it; "
        "null: the folder's own name",
    )  # fmt: skip
    labels: PathText | None = Field(
        None, description="CSV, JSON or .xlsx file with one label a patient or exam; null: folders named healthy, sick"
    )
    id_column: str | None = Field(None, description="column of the labels file that names the patient; null: detected")
    label_column: str | None = Field(None, description="column that holds the label; null: detected")
    visit_column: str | None = Field(None, description="column that holds the visit's number")
    date_column: str | None = Field(None, description="column that holds the exam's date; null: one named so")
    date_format: str | None = Field(
        None, description="how dates are written: YMD, DMY, MDY, or a pattern such as %d.%m.%Y; null: detected"
    )
    keep_columns: tuple[str, ...] | None = Field(
        None, description="other columns of the labels file to keep with the records; null: all of them"
    )
    match_columns: tuple[str, ...] = Field(
        (), description="columns whose value must be a folder's or the file's name: several exams a patient"
    )
    site_columns: tuple[str, ...] = Field(
        (), description="breasts or regions that are labelled each by itself, an exam each: the column or columns "
        "that name them, or columns that each hold one's label",
    )  # fmt: skip
    healthy_values: tuple[str, ...] = Field(
        ("healthy", "0", "negative", "normal", "no", "false"),
        description="values that mean healthy, besides the field's own words in several languages",
    )
    sick_values: tuple[str, ...] = Field(
        ("sick", "1", "positive", "cancer", "yes", "true"), description="values that mean sick, likewise"
    )
    birads_sick_from: Annotated[int, Field(ge=2, le=6)] | None = Field(
        None, description="the lowest BI-RADS category that counts as sick, where the label is one"
    )
    id_pattern: str | None = Field(
        None, description="regular expression on the path below the folder; group 1 is the patient"
    )
    view: ViewName | None = Field(None, description="view of files whose names do not tell")
    view_map: tuple[str, ...] = Field(
        (), description="your own words for views: WORD=VIEW (or =none: left out), or files of two such columns"
    )
    unit: Literal["C", "K", "F", "cC", "dK", "cK", "mK"] | None = Field(
        None, description="unit of the numbers: degrees C, K or F, or hundredths (c), tenths (d), thousandths (m)"
    )
    protocol: ProtocolLetter = Field("S", description="protocol of files whose names do not tell")
    visit: PositiveInt | None = Field(None, description="visit of files whose names do not tell; null: 1")
    dates: tuple[PathText, ...] = Field((), description="JSON or CSV files of exam dates, or folders of such files")
    range: CelsiusRange | None = Field(None, description="degC of an image's grey level 0 and of its highest")
    shape: Shape | None = Field(
        None, description="refuse matrices of any other shape; it also chooses where a text can be read in two ways"
    )
    part: str | None = Field(
        None,
        description="of files with several matrices: a variable's name (.mat, .npz), or the number of a page, from 0",
    )
    frame_step: PositiveInt = Field(36, description="radiometric videos: keep every n-th frame")
    frames: PositiveInt = Field(20, description="radiometric videos: keep at most so many frames")

    @field_validator("site_columns", "healthy_values", "sick_values", mode="before")
    @classmethod
    def _parts_of_a_text(cls, value: object) -> object:
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
            return value  # which the schema refuses
        return tuple(part.strip() for text in given for part in text.split(",") if part.strip())

    @field_validator("dates", "match_columns", "keep_columns", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("view_map", mode="before")
    @classmethod
    def _pairs_of_words(cls, value: object) -> object:
        if isinstance(value, dict):
            return tuple(f"{word}={view}" for word, view in value.items())
        given = [value] if isinstance(value, str) else value
        if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
            return value  # which the schema refuses
        return tuple(each.strip() for text in given for each in (text.split(",") if "=" in text else [text]))

    @field_validator("date_format")
    @classmethod
    def _order_or_pattern(cls, value: str | None) -> str | None:
        if value is None or "%" in value:
            return value
        if value.upper() not in ("YMD", "DMY", "MDY"):
            raise ValueError("YMD, DMY, MDY, or a pattern such as %d.%m.%Y")
        return value.upper()

    @field_validator("id_pattern")
    @classmethod
    def _pattern_has_a_group(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = re.compile(value).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if groups < 1:
            raise ValueError("a regular expression with a group in parentheses: the patient")
        return value

    @model_validator(mode="after")
    def _no_label_means_two_things(self) -> ImportSection:
        both = {each.casefold() for each in self.healthy_values} & {each.casefold() for each in self.sick_values}
        if both:
            raise ValueError(f"import.healthy_values and import.sick_values share {sorted(both)}")
        return self


BodySide = Annotated[int, Field(ge=8, le=4096)]
BodyShape = Annotated[tuple[BodySide, BodySide], BeforeValidator(shape_from_text)]
"""Rows and columns of a synthetic thermogram: a body must be seen on it."""


class SimulateSection(Section):
    """``simulate``: a synthetic cohort by the bioheat equation."""

    patients: Annotated[int, Field(gt=0, le=100_000)] = Field(40, description="how many patients")
    sick_fraction: Fraction = Field(0.4, description="share of them that is sick")
    shape: BodyShape = Field((480, 640), description="rows and columns")
    static: bool = Field(True, description="make static exams of five views")
    dynamic: bool = Field(True, description="make dynamic exams")
    frames: PositiveInt = Field(20, description="frames of a dynamic exam")
    frame_interval_s: Annotated[float, Field(gt=0)] = Field(15.0, description="seconds between frames")
    tissue: Literal["layers-A-skin", "layers-A", "layers-B", "voxel", "pet"] = Field(
        "layers-A-skin", description="a named, cited parameter set"
    )
    tumour_heat: Literal["gautherie", "calibrated"] = Field(
        "calibrated",
        description="gautherie: by growth rate, as published; calibrated: by contrasts measured in women",
    )
    contrast: float | None = Field(None, description="force the peak contrast in degC; null: physics")
    noise_celsius: Annotated[float, Field(ge=0)] = Field(0.05, description="of the camera, degC in each pixel")
    drift_celsius: Annotated[float, Field(ge=0)] = Field(0.02, description="offset of the whole frame, redrawn a frame")
    vessels: Annotated[float, Field(ge=0)] = Field(1.0, description="warmth of veins; 0 switches them off")
    mottle: Annotated[float, Field(ge=0)] = Field(1.0, description="patches of perfusion; 0 switches them off")
    asymmetry: Annotated[float, Field(ge=0)] = Field(1.0, description="differences between the breasts; 0: none")
    variation: Annotated[float, Field(ge=0)] = Field(1.0, description="how much bodies and rooms differ; 0: all alike")
    framing: Annotated[float, Field(ge=0)] = Field(1.0, description="how freely the body stands in the frame; 0: fixed")
    second_visits: Fraction = Field(0.06, description="share of patients who come twice")
    missing_views: Fraction = Field(0.05, description="share of exams that lack a view")
    missing_frames: Fraction = Field(0.05, description="share of dynamic exams that lack frames")
    repeated_views: Fraction = Field(0.02, description="exams with two pictures of one view")
    wrong_labels: Fraction = Field(0.0, description="patients filed under the wrong diagnosis")
    tie: Literal["none", "marker", "camera", "room", "calendar"] = Field(
        "none", description="a planted shortcut: what goes with the label"
    )
    tie_strength: Fraction = Field(1.0, description="share of patients to whom the tie applies")
    detectability: bool = Field(False, description="instead of a cohort: what can be seen at which depth")
    processes: PositiveInt | None = Field(None, description="null: every core; the result does not depend on it")
