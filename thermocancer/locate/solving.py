"""Bodies and heat sources solved apart from each other, as arrays; ``training_set`` puts them together.

The bioheat equation is linear in the heat source, so what a source of any heat adds to the skin is
``still + heat * per_heat`` of its size and depth; a body is seen once for any number of sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from thermocancer.compute import run_all
from thermocancer.config.learning import ComputeSection
from thermocancer.config.sources import SimulateSection
from thermocancer.locate import FloatArray
from thermocancer.locate.chest import COLUMNS, OBLIQUE, ROWS, course_weights, find_chest, halved
from thermocancer.phantom.anatomy import Body, draw_body
from thermocancer.phantom.camera import apparent_celsius
from thermocancer.phantom.cohort import AIR, HEAT, ROOM, draw_cohort, draw_tumour
from thermocancer.phantom.contrast import Footprint, solve_footprint
from thermocancer.phantom.exam import FAT, MORE_FAT, Picture, Scene, draw_cooling, prepare, tissue_below
from thermocancer.phantom.recovery import CONVECTION, PERFUSION, ColumnTable, tabulate
from thermocancer.phantom.skin import build_maps
from thermocancer.phantom.tissue import TISSUES
from thermocancer.progress import Task
from thermocancer.thermal.regions import torso_mask

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SHAPE = (120, 160)
"""Frames are seen at this size; at full size the grid would average them down to it."""

RADII = np.arange(0.0, 0.1225, 0.0025)
"""Distances along the skin (metres) at which footprints are kept."""

WARMED = (1.9, 3.6)
"""Perfusions of a breast (relative) at which its skin is solved; between them it is interpolated."""

BODY_KEY, SOURCE_KEY = 21, 22
"""Keys of the streams of random numbers beside those of ``phantom.cohort``."""

BASE_CELSIUS = 30.0
REACH, KNOTS = 0.6, 13
"""Sources lie within this share of a breast's radius from its middle; places at which its skin is kept."""

PART = 16
"""Bodies or sources that a process makes at a time."""

Rows = TypeVar("Rows", bound="DataclassInstance")
Kept = TypeVar("Kept", "Sources", "Bodies")
Work = Callable[[SimulateSection, int, range], Kept]


@dataclass(frozen=True)
class Sources:
    """Sources of a tissue: ``diameter``, ``depth`` (n) in metres; degC at ``RADII`` (n, radii) without metabolism of
    their own, and what each W/m3 adds. ``site`` (n, 3): breast 0 or 1, u, v.

    ``still_course`` and ``per_heat_course`` (n, 3, radii): the same of a recovery as ``chest.course_weights`` tells it,
    ``skin`` (n): how healthy skin changed in that recovery, by the first of them.
    """

    diameter: FloatArray
    depth: FloatArray
    still: FloatArray
    per_heat: FloatArray
    site: FloatArray
    still_course: FloatArray
    per_heat_course: FloatArray
    skin: FloatArray


@dataclass(frozen=True)
class Bodies:
    """Healthy bodies as a camera sees them; each array has one row a body.

    ``frontal`` (n, 7, ROWS, COLUMNS) and ``oblique`` (n, 2, 7, ROWS / 2, COLUMNS / 2), float16: degC above
    ``BASE_CELSIUS``, what ``WARMED`` add to both breasts (2), share of a source's warmth that is seen, x and z of
    the skin in mm, torso. ``dynamic`` (n, 3, 3, ROWS, COLUMNS): a recovery as ``chest.course_weights`` tells it (of
    the last, how much is still lacking), and what ``WARMED`` add. ``heights`` (n, 3, 2): millimetres of height at the
    grid's upper edge and of a cell, by view. ``edge`` (n): x in mm of the frontal grid's left edge. ``skin`` (n) as in
    ``Sources``. ``surface`` (n, 2, KNOTS, KNOTS, 3): x, y, z in mm of
    the skin at places (v, u) of each breast, the last two evenly over -.6 to .6. ``breasts`` (n, 2, 3): row and
    column of each breast's middle on the frontal grid, and its radius in cells.
    """

    frontal: npt.NDArray[np.float16]
    oblique: npt.NDArray[np.float16]
    dynamic: npt.NDArray[np.float16]
    heights: FloatArray
    edge: FloatArray
    skin: FloatArray
    surface: FloatArray
    breasts: FloatArray


def joined(parts: Sequence[Rows]) -> Rows:
    """Several dataclasses of arrays, one row an entry, as one."""
    first = parts[0]
    return replace(first, **{f.name: np.concatenate([getattr(each, f.name) for each in parts]) for f in fields(first)})


# --- solving ------------------------------------------------------------------


def solve_sources(settings: SimulateSection, seed: int, numbers: range) -> Sources:
    """Sources below the skin of a breast each; the same for the same seed and number."""
    made = []
    for number in numbers:
        rng = np.random.default_rng([seed, SOURCE_KEY, number])
        tumour, site = draw_tumour(settings, rng)
        breast = draw_body(rng).breasts[site.side]
        fat, more = float(rng.uniform(*FAT)), float(rng.uniform(*MORE_FAT))
        air, room = float(rng.uniform(*AIR)), float(rng.normal(*ROOM[:2]))
        body = replace(TISSUES[settings.tissue].with_fat(fat), convection=air, ambient_celsius=room)
        cooling = draw_cooling(rng, settings, air, room)
        tissue, radius = tissue_below(body, more, breast, site)
        low, high = (
            _at_radii(solve_footprint(tissue, replace(tumour, heat=heat), cooling=cooling, skin_radius=radius))
            for heat in HEAT
        )
        per_heat = (high - low) / (HEAT[1] - HEAT[0])
        still = low - HEAT[0] * per_heat
        skin = skin_change(tabulate(body, more, 1.0 / radius, cooling))
        where = (site.side, site.u, site.v)
        made.append((tumour.diameter, tumour.depth, still[0], per_heat[0], where, still[1:], per_heat[1:], skin))
    return Sources(*(np.array(each, dtype=np.float64) for each in zip(*made, strict=True)))


def skin_change(table: ColumnTable) -> float:
    """degC by which the middle of a breast changes in a recovery, as the first of ``course_weights`` tells it."""
    at = -1, int(np.argmin(np.abs(CONVECTION - 10.0))), int(np.argmin(np.abs(PERFUSION - 0.8)))
    deficit = table.shapes[(slice(None), *at)] @ table.courses
    return float(-(course_weights(len(deficit))[0] @ deficit))


def _at_radii(footprint: Footprint) -> FloatArray:
    """A footprint at rest, and as ``course_weights`` tells its course (of the last, what it lacks), (4, radii)."""
    change, bend, late = course_weights(len(footprint.course)) @ footprint.course
    rows = (footprint.steady, change, bend, footprint.steady - late)
    return np.array([np.interp(RADII, footprint.radius, each, right=0.0) for each in rows])


def solve_bodies(settings: SimulateSection, seed: int, numbers: range, *, freely: bool) -> Bodies:
    """Bodies, the same for the same seed and number. ``freely``: their nuisances vary in strength too, for training."""
    made = []
    for number in numbers:
        rng = np.random.default_rng([seed, BODY_KEY, number])
        changes: dict[str, object] = {
            "patients": 1, "sick_fraction": 0.0, "shape": SHAPE, "dynamic": True, "second_visits": 0.0,
        }  # fmt: skip
        if freely:
            changes |= {"mottle": rng.uniform(0.5, 1.2), "vessels": rng.uniform(0.4, 1.4), "framing": 1.4,
                        "asymmetry": rng.uniform(0.7, 1.6)}  # fmt: skip
        chosen = SimulateSection(**{**settings.model_dump(), **changes})
        made.append(_body(chosen, int(rng.integers(2**31))))
    return joined(made)


def _body(settings: SimulateSection, seed: int) -> Bodies:
    """One body, from three sides."""
    (visit,) = draw_cohort(settings, seed)
    ready = prepare(settings, seed, visit)
    person, stage, body, pitch = ready.person, ready.stage, ready.person.body, ready.framing.pitch
    scenes = []
    for answer in (1.0, *WARMED):
        right, left = (level + float(np.log(answer)) for level in person.circulation.breasts)
        blood = replace(person.circulation, breasts=(right, left), level=float(np.log(visit.vasomotor)))
        maps = build_maps(body, stage.grid, ready.table, visit.convection, blood, None)
        scenes.append(Scene(visit, settings, seed, person, ready.framing, maps, {}, None))
    azimuth, radius = stage.grid.azimuth, stage.grid.radius
    shapes = np.stack([np.ones_like(radius), radius * np.sin(azimuth), radius * np.cos(azimuth)])
    grids, heights, edges = [], [], []
    dynamic = np.zeros((3, 3, ROWS, COLUMNS))
    for view in ("Frontal", *OBLIQUE):
        sight = stage.look(view)
        seen_as = [Picture(replace(each, sights={view: sight}), view, dynamic=view == "Frontal") for each in scenes]
        plain, *warmer = seen_as
        celsius = plain.base + plain.marker * (plain.marker_celsius - plain.base)
        torso, x, z = sight.from_grid(shapes)
        gain = apparent_celsius(np.full(sight.cosine.shape, 33.0), sight.cosine, visit.room_celsius)[1]
        bare = 1.0 - plain.marker
        seen = torso * (1.0 - sight.arm) * bare * gain
        mask = torso_mask(celsius)
        chest = find_chest(celsius, mask)
        warm = [bare * (each.base - plain.base) for each in warmer]
        cells = chest.sample(np.stack([celsius - BASE_CELSIUS, *warm, seen, x, z, mask]))
        if view == "Frontal":
            courses = np.stack([_recovery(each) * bare for each in seen_as])
            courses[1:] -= courses[0]
            dynamic[:] = chest.sample(courses.reshape(-1, *SHAPE)).reshape(dynamic.shape)
        grids.append(cells if view == "Frontal" else halved(cells))
        heights.append((ready.framing.heights()[0] + pitch / 2 - chest.top * pitch, chest.pixels * pitch))
        edges.append(ready.framing.left + (chest.left - SHAPE[1] / 2) * pitch)
    surface = np.stack([_surface(body, side) for side in (0, 1)])
    (top, cell), edge, middle = heights[0], edges[0], KNOTS // 2
    places = surface[:, middle, middle]
    radii = [each.radius / cell for each in body.breasts]
    breasts = np.stack([(top - places[:, 1]) / cell, (places[:, 0] - edge) / cell, radii], axis=1)
    frontal, oblique = (np.stack(each).astype(np.float16) for each in (grids[:1], grids[1:]))
    skin = np.array([skin_change(ready.table)])
    return Bodies(
        frontal, oblique[None], dynamic.astype(np.float16)[None], np.array(heights)[None], np.array([edge]), skin,
        surface[None], np.stack([breasts]),
    )  # fmt: skip


def _recovery(picture: Picture) -> FloatArray:
    """A picture's recovery as ``course_weights`` tells it (of the last, what it lacks), without noise, (3, H, W)."""
    weights = course_weights(picture.scene.settings.frames)
    deficit = np.zeros((3, *picture.base.shape))
    for shape, course in picture.deficits:
        deficit += (weights @ course)[:, None, None] * shape
    return np.asarray(deficit * np.array([-1.0, -1.0, 1.0])[:, None, None])


def _surface(body: Body, side: int) -> FloatArray:
    """Skin of a breast at places (v, u), (KNOTS, KNOTS, 3) mm."""
    offsets = np.linspace(-REACH, REACH, KNOTS)
    azimuth, y = body.place_on(side, offsets, offsets[:, None])
    radius = body.radius(azimuth, y)
    return np.stack([radius * np.sin(azimuth), np.broadcast_to(y, radius.shape), radius * np.cos(azimuth)], axis=-1)


@dataclass(frozen=True)
class _Solving(Generic[Kept]):
    work: Work[Kept]
    settings: SimulateSection
    seed: int

    def run(self, piece: range) -> tuple[range, Kept]:
        return piece, self.work(self.settings, self.seed, piece)


def solved(
    work: Work[Kept], settings: SimulateSection, seed: int, count: int, processes: int | None, task: Task
) -> Kept:  # fmt: skip
    """``work`` on numbers 0 to ``count``, on several processes; the result does not depend on how many."""
    parts = [range(start, min(start + PART, count)) for start in range(0, count, PART)]
    workers = ComputeSection(workers=min(processes or os.cpu_count() or 1, len(parts)))
    made: dict[int, Kept] = {}
    for part, found in run_all(_Solving(work, settings, seed), parts, workers):
        made[part.start] = found
        task.advance(len(part))
    return joined([made[part.start] for part in parts])
