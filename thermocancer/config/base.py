"""What every config section shares: strict fields, frozen values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

ViewName = Literal["Frontal", "Right45", "Right", "Left45", "Left"]
ProtocolLetter = Literal["S", "D"]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _shape_from_text(value: Any) -> Any:
    """``480x640`` as (rows, columns); what is no text passes. Raises ValueError for other text."""
    if not isinstance(value, str):
        return value
    parts = value.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise ValueError("ROWSxCOLUMNS, such as 480x640")
    return tuple(int(part) for part in parts)


Shape = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_shape_from_text)]
"""Rows and columns; ``480x640`` in text."""


class Section(BaseModel):
    """One section of the config: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class CelsiusRange(Section):
    """A fixed range of temperatures in degrees Celsius."""

    low: float = 18.0
    high: float = 38.0


class Rendering(Section):
    """How a matrix becomes colour: the range (per-image ``minmax`` or fixed) and the colour map."""

    colormap: str = Field("viridis", description="any matplotlib colour map; 'gray' for one channel")
    range: Literal["minmax"] | CelsiusRange = Field(
        CelsiusRange(), description="'minmax' per image (original study) or a fixed range in degC"
    )
