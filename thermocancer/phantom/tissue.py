"""Named, cited parameter sets of living tissue and Gautherie's relation for the heat of a tumour.

Units are SI throughout: metres, kilograms, seconds, watts; temperatures in degrees Celsius.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thermocancer.errors import ConfigError

MICRO_HEAT = 3.27e6
"""Gautherie: heat production times doubling time, W day/m3."""


@dataclass(frozen=True)
class Material:
    """One tissue: density kg/m3, heat capacity J/(kg K), conductivity W/(m K), perfusion 1/s, heat W/m3."""

    density: float
    heat_capacity: float
    conductivity: float
    perfusion: float
    heat: float


@dataclass(frozen=True)
class Layer:
    """A sheet of tissue parallel to the skin."""

    name: str
    thickness: float
    material: Material


@dataclass(frozen=True)
class Tissue:
    """A layered tissue, skin first, over a core at blood temperature, and the tumour that may lie in it.

    ``convection`` is the whole heat transfer coefficient of the skin, radiation folded in, W/(m2 K).
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    tumour: Material
    blood_density: float = 1060.0
    blood_heat_capacity: float = 3770.0
    core_celsius: float = 37.0
    ambient_celsius: float = 21.0
    convection: float = 10.0

    @property
    def blood(self) -> float:
        """Heat capacity of blood by volume, J/(m3 K)."""
        return self.blood_density * self.blood_heat_capacity

    @property
    def depth(self) -> float:
        return sum(layer.thickness for layer in self.layers)

    def with_fat(self, metres: float) -> Tissue:
        """The same tissue with so much more fat."""
        added = {"fat": metres}
        layers = (replace(each, thickness=each.thickness + added.get(each.name, 0.0)) for each in self.layers)
        return replace(self, layers=tuple(layers))


_FAT = Material(930, 2770, 0.21, 0.0002, 400)
_GLAND = Material(1050, 3770, 0.48, 0.0006, 700)
_MUSCLE = Material(1100, 3800, 0.48, 0.0009, 700)
_TUMOUR = Material(1050, 3852, 0.48, 0.0063, 5000)

LAYERS_A = Tissue(
    "layers-A",
    "Chanmugam, Hatwar, Herman 2012 (PMC4199207): fat, gland, muscle; blood 1060 / 3770",
    (Layer("fat", 5.0e-3, _FAT), Layer("gland", 43.4e-3, _GLAND), Layer("muscle", 15.0e-3, _MUSCLE)),
    _TUMOUR,
)

LAYERS_B = Tissue(
    "layers-B",
    "the skin layer set of Cetinguel and Herman: epidermis, papillary and reticular dermis, fat, muscle",
    (
        Layer("epidermis", 0.1e-3, Material(1200, 3589, 0.235, 0.0, 0.0)),
        Layer("papillary dermis", 0.7e-3, Material(1200, 3300, 0.445, 0.0002, 368)),
        Layer("reticular dermis", 0.8e-3, Material(1200, 3300, 0.445, 0.0013, 368)),
        Layer("fat", 2.0e-3, Material(1000, 2674, 0.185, 0.0001, 368)),
        Layer("muscle", 8.0e-3, Material(1085, 3800, 0.51, 0.0027, 684)),
    ),
    Material(1030, 3852, 0.558, 0.0063, 3700),
)

VOXEL = replace(
    LAYERS_A,
    name="voxel",
    source="the T_diff voxel code: conductivities, perfusions and h 13.5; densities and layers of layers-A",
    tumour=replace(_TUMOUR, conductivity=0.511, perfusion=1.2e-2),
    convection=13.5,
)

PET = replace(
    LAYERS_A,
    name="pet",
    source="layers-A with the perfusions measured by positron emission tomography, Wilson 1992",
    layers=(LAYERS_A.layers[0], Layer("gland", 43.4e-3, replace(_GLAND, perfusion=9.3e-4)), LAYERS_A.layers[2]),
    tumour=replace(_TUMOUR, perfusion=5.0e-3),
)

LAYERS_A_SKIN = replace(
    LAYERS_A,
    name="layers-A-skin",
    source="layers-A under the skin of layers-B: 5.0 mm of cover in all, 1.6 mm of it skin",
    layers=(*LAYERS_B.layers[:3], replace(LAYERS_A.layers[0], thickness=3.4e-3), *LAYERS_A.layers[1:]),
)

TISSUES = {each.name: each for each in (LAYERS_A_SKIN, LAYERS_A, LAYERS_B, VOXEL, PET)}


def gautherie_heat(diameter: float) -> float:
    """Metabolic heat (W/m3) of a tumour of ``diameter`` metres.

    Q tau = 3.27e6 W day/m3 with D = 0.01 exp(0.002134 (tau - 50)), tau the doubling time in days
    (Gautherie 1980). Raises ConfigError below 0.9 cm, where tau would not be positive.

    >>> round(gautherie_heat(0.02))
    8724
    """
    doubling_days = 50.0 + math.log(diameter / 0.01) / 0.002134 if diameter > 0 else 0.0
    if doubling_days <= 0:
        raise ConfigError(
            "Gautherie's relation does not hold for a tumour this small",
            expected="a diameter above 0.9 cm",
            found=f"{diameter * 100:g} cm",
            hint="choose a larger tumour, or simulate.tumour_heat: calibrated",
        )
    return MICRO_HEAT / doubling_days
