"""What every config section shares: strict fields, frozen values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ViewName = Literal["Frontal", "Right45", "Right", "Left45", "Left"]
ProtocolLetter = Literal["S", "D"]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


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
