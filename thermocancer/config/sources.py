"""Where thermograms come from: the DMR-IR site, a folder, the phantom."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from thermocancer.config.base import (
    NOT_REPEATED,
    CelsiusRange,
    Fraction,
    PositiveInt,
    ProtocolLetter,
    Section,
    Shape,
    ViewName,
)


class FetchSection(Section):
    """``fetch``: the site and how politely to ask it."""

    url: str = Field("https://visual.ic.uff.br/dmi/", description="address of the site's base path")
    protocols: tuple[ProtocolLetter, ...] = ("S", "D")
    views: tuple[ViewName, ...] = ("Frontal", "Right45", "Right", "Left45", "Left")
    diagnoses: tuple[Literal["healthy", "sick"], ...] = ("healthy", "sick")
    patients: tuple[int, ...] = Field((), description="only these patients; empty means all")
    since: str | None = Field(None, description="only visits from this date on, YYYY-MM-DD")
    limit: PositiveInt | None = Field(None, description="fetch at most this many files")
    recheck: Literal["page", "validators", "always", "never"] = Field(
        "page",
        description="when to ask whether files already here have changed: where the patient's page has, "
        "every file with a validator, every file (in full where there is none), or never",
    )
    connections: Annotated[int, Field(ge=1, le=4)] = 1
    interval_s: Annotated[float, Field(ge=0)] = Field(1.0, description="seconds between requests, all connections")
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    retries: Annotated[int, Field(ge=0)] = Field(4, description="tries after the first, for a site that falters")
    backoff_s: Annotated[float, Field(ge=0)] = Field(2.0, description="first pause between tries; it doubles")
    max_requests: PositiveInt | None = Field(None, description="stop after so many requests; the next run goes on")
    clinical: bool = Field(True, description="keep the clinical fields in raw/patients.jsonl")
    ca_bundle: str | None = Field(None, description="PEM file of certificates to trust")
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

    folder: str | None = Field(None, description="the folder to import")
    labels: str | None = Field(
        None, description="CSV, JSON or .xlsx file with one label a patient or exam; null: folders named healthy, sick"
    )
    id_column: str | None = Field(None, description="column of the labels file that names the patient; null: detected")
    label_column: str | None = Field(None, description="column that holds the label; null: detected")
    visit_column: str | None = Field(None, description="column that holds the visit's number")
    date_column: str | None = Field(None, description="column that holds the exam's date, YYYY-MM-DD")
    match_columns: tuple[str, ...] = Field(
        (), description="columns whose value must be a folder's or the file's name: several exams a patient"
    )
    healthy_values: tuple[str, ...] = ("healthy", "0", "negative", "normal", "no", "false")
    sick_values: tuple[str, ...] = ("sick", "1", "positive", "cancer", "yes", "true")
    id_pattern: str | None = Field(
        None, description="regular expression on the path below the folder; group 1 is the patient"
    )
    view: ViewName | None = Field(None, description="view of files whose names do not tell")
    protocol: ProtocolLetter = Field("S", description="protocol of files whose names do not tell")
    visit: PositiveInt | None = Field(None, description="visit of files whose names do not tell; null: 1")
    dates: tuple[str, ...] = Field((), description="JSON or CSV files of exam dates, or folders of such files")
    range: CelsiusRange | None = Field(None, description="degC of an image's grey level 0 and of its highest")
    shape: Shape | None = Field(None, description="refuse matrices of any other shape")
    frame_step: PositiveInt = Field(36, description="radiometric videos: keep every n-th frame")
    frames: PositiveInt = Field(20, description="radiometric videos: keep at most so many frames")

    @field_validator("dates", "match_columns", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

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


class SimulateSection(Section):
    """``simulate``: a synthetic cohort by the bioheat equation."""

    patients: PositiveInt = 40
    sick_fraction: Fraction = 0.4
    shape: Shape = Field((480, 640), description="rows and columns")
    static: bool = True
    dynamic: bool = True
    frames: PositiveInt = 20
    frame_interval_s: Annotated[float, Field(gt=0)] = 15.0
    tissue: Literal["layers-A-skin", "layers-A", "layers-B", "voxel", "pet"] = Field(
        "layers-A-skin", description="a named, cited parameter set"
    )
    tumour_heat: Literal["gautherie", "calibrated"] = "calibrated"
    contrast: float | None = Field(None, description="force the peak contrast in degC; null: physics")
    noise_celsius: Annotated[float, Field(ge=0)] = 0.05
    drift_celsius: Annotated[float, Field(ge=0)] = Field(0.02, description="offset of the whole frame, redrawn a frame")
    vessels: Annotated[float, Field(ge=0)] = Field(1.0, description="warmth of veins; 0 switches them off")
    mottle: Annotated[float, Field(ge=0)] = Field(1.0, description="patches of perfusion; 0 switches them off")
    asymmetry: Annotated[float, Field(ge=0)] = Field(1.0, description="differences between the breasts; 0: none")
    variation: Annotated[float, Field(ge=0)] = Field(1.0, description="how much bodies and rooms differ; 0: all alike")
    framing: Annotated[float, Field(ge=0)] = Field(1.0, description="how freely the body stands in the frame; 0: fixed")
    second_visits: Fraction = 0.06
    missing_views: Fraction = 0.05
    missing_frames: Fraction = 0.05
    repeated_views: Fraction = Field(0.02, description="exams with two pictures of one view")
    wrong_labels: Fraction = Field(0.0, description="patients filed under the wrong diagnosis")
    tie: Literal["none", "marker", "camera", "room", "calendar"] = "none"
    tie_strength: Fraction = 1.0
    detectability: bool = Field(False, description="instead of a cohort: what can be seen at which depth")
    processes: PositiveInt | None = Field(None, description="null: every core; the result does not depend on it")
