"""Who is in a synthetic cohort: patients, visits, tumours and circumstances, drawn from stated distributions."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.anatomy import Variation
from thermocancer.phantom.contrast import Tumour
from thermocancer.phantom.tissue import TISSUES, gautherie_heat
from thermocancer.workspace import LABELS, VIEWS

FIRST_DATE = datetime.date(2012, 10, 1)
LAST_DATE = datetime.date(2020, 3, 1)
QUADRANTS = {"upper-outer": 0.50, "upper-inner": 0.15, "lower-outer": 0.11, "lower-inner": 0.06, "central": 0.18}
"""Share of breast cancers by quadrant, rounded from registry figures."""

RESPONSE = (1.8, 3.6)
"""Perfusion of the breast that holds a tumour relative to the other, log-uniform."""

HEAT = (1e5, 1.2e6)
"""Clinically calibrated heat of tumours, W/m3 (Lozano 2020)."""

ROOM, AIR = (22.3, 0.9, 20.0, 24.5), (9.0, 11.5)
"""Of the room: mean, spread and limits in degC. Heat transfer coefficients of still air at the skin, W/(m2 K)."""

BODY, HEALTH, VISIT, NOISE, ORDER = 1, 2, 3, 4, 5
"""Keys of the independent streams of random numbers: ``default_rng([seed, key, patient, ...])``."""


@dataclass(frozen=True)
class Camera:
    """A camera: text layout, share of the configured noise, blur in pixels at 640 columns, range in degC."""

    name: str
    layout: str
    noise_factor: float
    blur: float
    low: float
    high: float


CAMERAS = {
    "older": Camera("older", "space2", 1.0, 0.9, 10.0, 40.0),
    "newer": Camera("newer", "semicolon5", 0.8, 0.7, 5.0, 45.0),
}


@dataclass(frozen=True)
class Site:
    """Where the tumour lies: breast 0 right or 1 left, quadrant, and its offsets on the breast."""

    side: int
    quadrant: str
    u: float
    v: float


@dataclass(frozen=True)
class Marker:
    """The reference patch at the lower edge: side and shift in millimetres, degC above the room, tilt in radians."""

    size: float
    above_room: float
    shift: float
    tilt: float


@dataclass(frozen=True)
class Visit:
    """One exam and its circumstances.

    ``listed`` is the label under which it is filed, ``label`` the true one. ``vasomotor`` is the perfusion
    of the whole skin relative to the parameter set: in a cool room its vessels narrow.
    """

    patient: int
    visit: int
    label: str
    listed: str
    date: str
    age: int
    camera: str
    room_celsius: float
    convection: float
    marker: Marker
    vasomotor: float
    calibration_celsius: float
    tumour: Tumour | None
    site: Site | None
    response: float
    missing_views: tuple[str, ...]
    repeated_view: str | None
    missing_frames: tuple[int, ...]

    @property
    def key(self) -> str:
        return f"{self.patient}_{self.visit}"


def draw_cohort(settings: SimulateSection, seed: int) -> list[Visit]:
    """Every visit of the cohort, by patient number. Numbers follow the date of the first visit, as enrolment does."""
    rng = np.random.default_rng([seed, ORDER])
    sick = np.zeros(settings.patients, dtype=bool)
    sick[rng.permutation(settings.patients)[: round(settings.sick_fraction * settings.patients)]] = True
    days = np.sort(rng.integers(0, (LAST_DATE - FIRST_DATE).days, settings.patients))
    if settings.tie == "calendar":  # with probability tie_strength a place in time takes the label that fits it
        sick = np.sort(sick)
        free = rng.random(len(sick)) >= settings.tie_strength
        sick[free] = rng.permutation(sick[free])
    visits = []
    for patient, (ill, day) in enumerate(zip(sick, days, strict=True), start=1):
        visits += _draw_patient(settings, seed, patient, bool(ill), FIRST_DATE + datetime.timedelta(days=int(day)))
    return visits


def _draw_patient(settings: SimulateSection, seed: int, patient: int, sick: bool, first: datetime.date) -> list[Visit]:
    rng = np.random.default_rng([seed, HEALTH, patient])
    # everything is drawn for everybody, so that no number of a healthy patient tells it is healthy
    tumour, site = draw_tumour(settings, rng)
    response = round(float(np.exp(rng.uniform(np.log(RESPONSE[0]), np.log(RESPONSE[1])))), 4)
    age = int(np.clip(rng.normal(55, 12), 25, 85))
    again = rng.random() < settings.second_visits
    mistaken = rng.random() < settings.wrong_labels
    gap = int(rng.integers(120, 720))
    visits = []
    for number in range(1, 3 if again else 2):
        day = first + datetime.timedelta(days=gap * (number - 1))
        facts = _draw_circumstances(settings, np.random.default_rng([seed, VISIT, patient, number]), sick)
        visits.append(
            Visit(
                patient=patient,
                visit=number,
                label=LABELS[sick],
                listed=LABELS[sick != mistaken],
                date=day.isoformat(),
                age=age + (day - first).days // 365,
                tumour=tumour if sick else None,
                site=site if sick else None,
                response=response if sick else 1.0,
                **facts,
            )
        )
    return visits


def hottest(diameter: float) -> float:
    """Most heat (W/m3) of a tumour of ``diameter`` metres: as with Gautherie, the smaller the more."""
    return max(HEAT[0] * 1.2, HEAT[1] * (0.010 / diameter) ** 2)


def draw_tumour(settings: SimulateSection, rng: np.random.Generator) -> tuple[Tumour, Site]:
    """Diameter, cover, heat and place of a tumour; ``docs/phantom.md`` lists the distributions.

    A tissue thinner than a breast (layers-B) gets lesions smaller in proportion.
    """
    scale = min(1.0, TISSUES[settings.tissue].depth / TISSUES["layers-A-skin"].depth)
    diameter = float(np.clip(np.exp(rng.normal(np.log(0.018), 0.3)), 0.010, 0.035))
    cover = float(np.clip(0.006 + rng.gamma(2.5, 0.005), 0.006, 0.035))
    calibrated = float(np.exp(rng.uniform(np.log(HEAT[0]), np.log(hottest(diameter)))))
    quadrant = str(rng.choice(list(QUADRANTS), p=list(QUADRANTS.values())))
    side = int(rng.integers(0, 2))
    # offsets on the breast in units of its radius; u grows to the patient's left, so outwards on the left breast
    if quadrant == "central":
        u, v = float(rng.uniform(-0.2, 0.2)), float(rng.uniform(-0.2, 0.2))
    else:
        u = float(rng.uniform(0.15, 0.6)) * (1 if ("outer" in quadrant) == (side == 1) else -1)
        v = float(rng.uniform(0.15, 0.6)) * (1 if "upper" in quadrant else -1)
    diameter, cover = round(diameter * scale, 5), cover * scale
    heat = round(calibrated, 1) if settings.tumour_heat == "calibrated" else gautherie_heat(diameter)
    return Tumour(diameter, round(diameter / 2 + cover, 5), heat), Site(side, quadrant, round(u, 4), round(v, 4))


def _draw_circumstances(settings: SimulateSection, rng: np.random.Generator, sick: bool) -> dict[str, Any]:
    """Camera, room, marker and what is missing: independent of the label unless a tie is asked for."""
    tied = rng.random() < settings.tie_strength
    camera = "newer" if rng.random() < 0.25 else "older"
    people = Variation(rng, settings.variation)
    room = people.normal(*ROOM)
    size, above = float(rng.uniform(14, 24)), float(rng.uniform(0.5, 6.5))
    shift, tilt = float(rng.normal(0, 8)), float(rng.normal(0, 0.08))
    if tied and settings.tie == "camera":
        camera = "newer" if sick else "older"
    if tied and settings.tie == "room":
        room = float(rng.uniform(22.8, 23.6) if sick else rng.uniform(20.4, 21.2))
    if tied and settings.tie == "marker":
        size, above = (15.0, 6.5) if sick else (28.0, 0.5)
    lost = rng.random() < settings.missing_views
    views = tuple(sorted(str(each) for each in rng.choice(VIEWS, size=int(rng.integers(1, 3)), replace=False)))
    repeated = rng.random() < settings.repeated_views
    twice = str(rng.choice(VIEWS))
    gaps = rng.random() < settings.missing_frames
    frames = rng.choice(settings.frames, size=min(settings.frames, int(rng.integers(1, 6))), replace=False)
    return {
        "camera": camera,
        "room_celsius": round(room, 3),
        "vasomotor": round(float(np.exp(people.normal(-0.35, 0.2))), 4),
        "calibration_celsius": round(people.normal(0, 0.2), 3),
        "convection": round(people.uniform(*AIR), 3),
        "marker": Marker(round(size, 2), round(above, 2), round(shift, 2), round(tilt, 4)),
        "missing_views": views if lost else (),
        "repeated_view": twice if repeated else None,
        "missing_frames": tuple(sorted(int(each) for each in frames)) if gaps else (),
    }
