"""What every config section shares: strict fields, frozen values."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from thermocancer.workspace import LONGEST_NAME, NAME_PATTERN

ViewName = Literal["Frontal", "Right45", "Right", "Left45", "Left"]
ProtocolLetter = Literal["S", "D"]
MOST = 10**7
PositiveInt = Annotated[int, Field(gt=0, le=MOST)]
"""Of epochs, patients, trials: a slip of the finger is found here, not after a night."""
Seconds = Annotated[float, Field(ge=0, le=3600)]
"""Of a pause or a wait; an hour is for ever."""
Fraction = Annotated[float, Field(ge=0, le=1)]


ASIDE = Field(json_schema_extra={"decides": False})
"""Marks a setting that decides nothing of a result (a name, a number of processes): ``Annotated[..., ASIDE]``."""


LATER = Field(json_schema_extra={"decides": "where set"})
"""Marks a setting that came after runs were made: left at its default it changes nothing of what they are known by."""


def is_aside(field: FieldInfo) -> bool:
    """Is this setting marked as one that decides nothing?"""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("decides") is False


def is_unset(field: FieldInfo, value: object) -> bool:
    """Is this setting marked as a later one, and left at its default?"""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("decides") == "where set" and value == field.default


@dataclass(frozen=True)
class Choice:
    """A text that must be one of the names known when it is read (``names``): installed packages may add to them."""

    names: Callable[[], tuple[str, ...]]

    def __get_pydantic_core_schema__(self, kind: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(kind))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "enum": list(self.names())}

    def _checked(self, value: str) -> str:
        if value not in self.names():
            raise ValueError(f"one of: {', '.join(self.names())}")
        return value


def shape_from_text(value: object) -> object:
    """``480x640`` as (rows, columns); what is no text passes. Raises ValueError for other text."""
    if not isinstance(value, str):
        return value
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise ValueError("ROWSxCOLUMNS, such as 480x640")
    return tuple(int(part) for part in parts)


def _path_from_text(value: str) -> str:
    """``~`` written out. Raises ValueError for what no file system takes, and for the home of nobody."""
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        raise ValueError("a path that can be written down") from None
    if "\0" in value:
        raise ValueError("a path without the character 0")
    written_out = os.path.expanduser(value)
    if written_out.startswith("~") and not os.path.lexists(written_out.split("/")[0]):
        raise ValueError("the home folder of a user of this machine (./~name is a folder of that name)")
    return written_out


PathText = Annotated[str, AfterValidator(_path_from_text)]
"""A file or folder; ``~`` is the home folder, also where no shell has seen it."""

Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=LONGEST_NAME)]
"""What a run, a data set or a cohort is called: part of a path, and never one."""

Side = Annotated[int, Field(ge=2, le=16384)]
Shape = Annotated[tuple[Side, Side], BeforeValidator(shape_from_text)]
"""Rows and columns; ``480x640`` in text."""


NOT_REPEATED = "not_repeated"
"""Type of an error about a value that no message may show, because it holds a secret."""


class Section(BaseModel):
    """One section of the config: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class CelsiusRange(Section):
    """A fixed range of temperatures in degrees Celsius."""

    low: float = Field(18.0, description="degC of the lowest value")
    high: float = Field(38.0, description="degC of the highest value")


class Rendering(Section):
    """How a matrix becomes colour: the range (per-image ``minmax`` or fixed) and the colour map."""

    colormap: str = Field("viridis", description="any matplotlib colour map; 'gray' for one channel")
    range: Literal["minmax"] | CelsiusRange = Field(
        CelsiusRange(), description="'minmax' per image (original study) or a fixed range in degC"
    )
