"""One visit made ready for the camera: who stands there, how, and how warm the skin is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.anatomy import Body, cap, draw_body
from thermocancer.phantom.camera import Framing, Sight, Stage
from thermocancer.phantom.cohort import BODY, CAMERAS, VISIT, Visit
from thermocancer.phantom.contrast import Cooling, Footprint, solve_footprint
from thermocancer.phantom.masks import mask_png
from thermocancer.phantom.recovery import tabulate
from thermocancer.phantom.skin import Circulation, Lesion, SkinMaps, build_maps, draw_arms, draw_patches
from thermocancer.phantom.solver import Surroundings
from thermocancer.phantom.tissue import TISSUES, Tissue
from thermocancer.phantom.variation import Variation
from thermocancer.phantom.vessels import grow
from thermocancer.workspace import VIEWS

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """What a patient brings to every visit: body, circulation, fat in metres (everywhere, and more in the breast)."""

    body: Body
    circulation: Circulation
    fat: float
    padding_fat: float


@dataclass(frozen=True)
class Scene:
    """One visit, solved and laid out; ``sights`` are what the camera sees from each side."""

    visit: Visit
    settings: SimulateSection
    seed: int
    person: Person
    framing: Framing
    maps: SkinMaps
    sights: dict[str, Sight]
    lesion: Lesion | None


def draw_person(settings: SimulateSection, seed: int, patient: int) -> Person:
    """Body and circulation of a patient; nothing in them depends on health."""
    rng = np.random.default_rng([seed, BODY, patient])
    people = Variation(rng, settings.variation)
    body = draw_body(rng, settings.asymmetry, settings.variation)
    levels = settings.asymmetry * rng.normal(0, 0.10, 2)
    patches = draw_patches(rng, settings.mottle)
    fat, padding_fat = people.uniform(0.003, 0.016), people.uniform(0.002, 0.009)
    vessels = grow(rng, body, settings.vessels)
    arms = draw_arms(rng, settings.mottle)
    blood = Circulation(patches, (float(levels[0]), float(levels[1])), vessels, arms)
    return Person(body, blood, fat, padding_fat)


def make_scene(settings: SimulateSection, seed: int, visit: Visit) -> Scene:
    """Solve the tissue and lay it on the body."""
    person = draw_person(settings, seed, visit.patient)
    rng = np.random.default_rng([seed, VISIT, visit.patient, visit.visit, 1])
    framing = _draw_framing(settings, person.body, rng)
    cooling = _draw_cooling(settings, visit, rng)
    tissue = _tissue(settings, visit, person)
    lesion = _lesion(settings, visit, person, tissue, cooling)
    breasts = person.body.breasts
    curvature = 2000.0 / (breasts[0].skin_radius + breasts[1].skin_radius)
    table = tabulate(tissue, person.padding_fat, curvature, cooling)
    stage = Stage(person.body, framing)
    blood = replace(person.circulation, level=float(np.log(visit.vasomotor)))
    maps = build_maps(person.body, stage.grid, table, visit.convection, blood, lesion)
    sights = {view: stage.look(view) for view in VIEWS}
    return Scene(visit, settings, seed, person, framing, maps, sights, lesion)


def _draw_framing(settings: SimulateSection, body: Body, rng: np.random.Generator) -> Framing:
    """Distance and aim of the camera: the frame is about 2.8 half widths of the torso wide."""
    rows, columns = settings.shape
    free = settings.framing
    width = (2.85 + free * float(rng.normal(0, 0.15))) * body.half_width
    pitch = max(width / columns, 0.75 * width / rows)
    return Framing(rows, columns, pitch, free * float(rng.normal(0, 8)), 22.0 + free * float(rng.normal(0, 12)))


def _draw_cooling(settings: SimulateSection, visit: Visit, rng: np.random.Generator) -> Cooling | None:
    """A mild fan: what it takes for a recovery like that of real exams."""
    speed, colder, seconds = rng.uniform(1.2, 1.85), rng.uniform(0.0, 0.7), rng.uniform(120, 300)
    if not settings.dynamic:
        return None
    fan = Surroundings(float(visit.convection * speed), visit.room_celsius - float(colder))
    return Cooling(fan, float(seconds), settings.frames, settings.frame_interval_s)


def _tissue(settings: SimulateSection, visit: Visit, person: Person) -> Tissue:
    """The parameter set with this person's fat, in this room."""
    tissue = TISSUES[settings.tissue]
    layers = tuple(
        replace(each, thickness=each.thickness + person.fat) if each.name == "fat" else each for each in tissue.layers
    )
    return replace(tissue, layers=layers, convection=visit.convection, ambient_celsius=visit.room_celsius)


def _lesion(
    settings: SimulateSection, visit: Visit, person: Person, tissue: Tissue, cooling: Cooling | None
) -> Lesion | None:
    """The tumour's footprint, solved below the curved skin of its breast."""
    if visit.tumour is None or visit.site is None:
        return None
    breast = person.body.breasts[visit.site.side]
    share = float(cap(np.array(visit.site.u), np.array(visit.site.v), breast.sag))
    fat = person.padding_fat * min(share, 1.0)
    layers = tuple(
        replace(each, thickness=each.thickness + fat) if each.name == "fat" else each for each in tissue.layers
    )
    radius = max(breast.skin_radius * 1e-3, sum(each.thickness for each in layers) / 0.85)
    footprint = solve_footprint(
        replace(tissue, layers=layers), visit.tumour, cooling=cooling, skin_radius=radius
    ).rounded()
    response = visit.response
    if settings.contrast is not None:
        footprint, response = footprint.scaled_to(settings.contrast), 1.0
    return Lesion(footprint, visit.site.side, visit.site.u, visit.site.v, response)


def footprint_masks(scene: Scene) -> Iterator[tuple[str, bytes]]:
    """(view, PNG) of the pixels where the tumour's contrast is at least half its peak, for each static view."""
    if scene.lesion is None or not scene.lesion.footprint.peak:
        return
    for view, sight in scene.sights.items():
        if scene.settings.static and view not in scene.visit.missing_views:
            contrast = np.where(sight.body, sight.from_grid(scene.maps.contrast[None])[0] * (1 - sight.arm), 0.0)
            yield view, mask_png(contrast >= scene.lesion.footprint.peak / 2)


def truth_line(scene: Scene) -> dict[str, Any]:
    """Everything that is true of a visit, for ``truth.jsonl``."""
    footprint: Footprint | None = scene.lesion.footprint if scene.lesion else None
    framing, person = scene.framing, scene.person
    return {
        **asdict(scene.visit),
        "response": scene.lesion.response if scene.lesion else 1.0,
        "contrast_celsius": 0.0 if footprint is None else round(footprint.peak, 4),
        "half_width_mm": None if footprint is None or not footprint.peak else round(footprint.half_width() * 1e3, 2),
        "tissue": scene.settings.tissue,
        "noise_celsius": round(scene.settings.noise_celsius * CAMERAS[scene.visit.camera].noise_factor, 4),
        "vessels": person.circulation.vessels.branches,
        "fat_mm": round(person.fat * 1e3, 3),
        "body": asdict(person.body),
        "framing": {"millimetres_per_pixel": framing.pitch, "left_mm": framing.left, "up_mm": framing.up},
    }
