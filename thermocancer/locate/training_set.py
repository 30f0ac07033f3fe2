"""Phantoms to learn from, as arrays: bodies are solved and seen once, heat sources are superposed on them.

The bioheat equation is linear in the heat source, so what a source of any heat adds to the skin is
``still + heat * per_heat`` of its size and depth. A body seen once thus serves for any number of sources,
mirrored or not; nothing is written as text.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from thermocancer.cache import keep_arrays
from thermocancer.config.judging import LocateSection
from thermocancer.config.sources import SimulateSection
from thermocancer.files import fingerprint
from thermocancer.locate import Cells, FloatArray, IntArray
from thermocancer.locate.chest import COLUMNS, OBLIQUE, ROWS, centred, course_weights, find_chest, halved, recovering
from thermocancer.phantom.anatomy import Body, cap, draw_body
from thermocancer.phantom.camera import apparent_celsius
from thermocancer.phantom.cohort import HEAT, RESPONSE, draw_cohort, draw_tumour, hottest
from thermocancer.phantom.contrast import Footprint, solve_footprint
from thermocancer.phantom.exam import Picture, Scene, draw_cooling, prepare
from thermocancer.phantom.recovery import CONVECTION, PERFUSION, ColumnTable, tabulate
from thermocancer.phantom.skin import build_maps
from thermocancer.phantom.tissue import TISSUES
from thermocancer.progress import Progress, Task
from thermocancer.thermal.regions import torso_mask

SHAPE = (120, 160)
"""Frames are seen at this size; at full size the grid would average them down to it."""

RADII = np.arange(0.0, 0.1225, 0.0025)
"""Distances along the skin (metres) at which footprints are kept."""

WARMED = (1.9, 3.6)
"""Perfusions of a breast (relative) at which its skin is solved; between them it is interpolated."""

UNANSWERED = 0.2
"""Share of the sources whose breast does not answer with warmth, so that the footprint itself must be read."""

RESIDUAL_NOISE = 0.012
"""degC of the camera's noise left in a cell, which is the mean of about 40 pixels."""

COURSE_NOISE = 0.004
"""The same in what a recovery is told by: means over a quarter of the frames, less one another."""

BODY_KEY, SOURCE_KEY = 21, 22
"""Keys of the streams of random numbers beside those of ``phantom.cohort``."""

BASE_CELSIUS = 30.0
REACH, KNOTS = 0.6, 13
"""Sources lie within this share of a breast's radius from its middle; places at which its skin is kept."""

RECIPE = 2
"""Raise it when the same settings make other phantoms."""

PART = 16
"""Bodies or sources that a process makes at a time."""

Kept = TypeVar("Kept", "Sources", "Bodies", "Exams")
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

    def __len__(self) -> int:
        return len(self.frontal)


def joined(parts: Sequence[Kept]) -> Kept:
    """Several sets as one."""
    first = parts[0]
    return type(first)(*(np.concatenate([getattr(each, f.name) for each in parts]) for f in fields(first)))


# --- solving ------------------------------------------------------------------


def solve_sources(settings: SimulateSection, seed: int, numbers: range) -> Sources:
    """Sources below the skin of a breast each; the same for the same seed and number."""
    made = []
    for number in numbers:
        rng = np.random.default_rng([seed, SOURCE_KEY, number])
        tumour, site = draw_tumour(settings, rng)
        breast = draw_body(rng).breasts[site.side]
        share = min(float(cap(np.array(site.u), np.array(site.v), breast.sag)), 1.0)
        fat, more = float(rng.uniform(0.003, 0.016)), float(rng.uniform(0.002, 0.009))
        air, room = float(rng.uniform(9.0, 11.5)), float(rng.normal(22.3, 0.9))
        body = replace(TISSUES[settings.tissue].with_fat(fat), convection=air, ambient_celsius=room)
        tissue, cooling = body.with_fat(more * share), draw_cooling(rng, settings, air, room)
        radius = max(breast.skin_radius * 1e-3, tissue.depth / 0.85)
        low, high = (
            _at_radii(solve_footprint(tissue, replace(tumour, heat=heat), cooling=cooling, skin_radius=radius))
            for heat in HEAT
        )
        per_heat = (high - low) / (HEAT[1] - HEAT[0])
        still = low - HEAT[0] * per_heat
        skin = skin_change(tabulate(body, more, 1.0 / radius, cooling))
        row = (
            tumour.diameter,
            tumour.depth,
            still[0],
            per_heat[0],
            (site.side, site.u, site.v),
            still[1:],
            per_heat[1:],
        )
        made.append((*row, skin))
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
        chest = find_chest(celsius)
        warm = [bare * (each.base - plain.base) for each in warmer]
        mask = torso_mask(celsius).astype(np.float64)
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
    breast, offsets = body.breasts[side], np.linspace(-REACH, REACH, KNOTS)
    azimuth = breast.azimuth + offsets * breast.radius / body.arc_per_radian
    y = (breast.height + offsets * breast.radius)[:, None]
    radius = body.radius(azimuth, y)
    return np.stack([radius * np.sin(azimuth), np.broadcast_to(y, radius.shape), radius * np.cos(azimuth)], axis=-1)


def solved(
    work: Callable[[SimulateSection, int, range], Kept], settings: SimulateSection, seed: int, count: int,
    processes: int | None, task: Task,
) -> Kept:  # fmt: skip
    """``work`` on numbers 0 to ``count``, on several processes; the result does not depend on how many."""
    parts = [range(start, min(start + PART, count)) for start in range(0, count, PART)]
    workers = min(processes or os.cpu_count() or 1, len(parts))
    if workers <= 1:
        return joined([_told(work(settings, seed, part), part, task) for part in parts])
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(work, settings, seed, part) for part in parts]
        try:
            return joined([_told(each.result(), part, task) for each, part in zip(waiting, parts, strict=True)])
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _told(made: Kept, part: range, task: Task) -> Kept:
    task.advance(len(part))
    return made


# --- superposing --------------------------------------------------------------


@dataclass(frozen=True)
class Exams:
    """Phantoms as a network is shown them, and what is true of them; one row an exam.

    ``frontal`` (n, ROWS, COLUMNS, 2) and ``oblique`` (n, 2, ROWS / 2, COLUMNS / 2, 2) as ``chest.centred`` gives
    them; the left oblique view is mirrored. ``late`` is what stands for the frontal view where there are frames
    alone, ``dynamic`` (n, ROWS, COLUMNS, 2) as ``chest.recovering`` gives it. ``present`` (n). ``place`` (n, 2): row
    and column on the grid of the skin above the source. ``depth``, ``diameter`` in mm, ``heat`` in W/m3. ``warmth``
    (n, radii): its footprint, degC.
    ``breasts`` (n, 2, 3) as in ``Bodies``.
    """

    frontal: Cells
    late: Cells
    oblique: Cells
    dynamic: Cells
    present: npt.NDArray[np.bool_]
    place: FloatArray
    depth: FloatArray
    diameter: FloatArray
    heat: FloatArray
    warmth: FloatArray
    breasts: FloatArray


def draw_exams(
    bodies: Bodies, sources: Sources, rng: np.random.Generator, count: int, *, sick: float = 0.5,
    unanswered: float = UNANSWERED, tilted: float = 0.0, dynamic: bool = True,
) -> Exams:  # fmt: skip
    """Put sources into bodies, each drawn at random, half of them mirrored. ``sick``: share that has a source.

    ``unanswered``: share of the sources whose breast does not warm as a whole. ``tilted``: share that are the warmer
    of two, for training, as sources that nobody could see teach little. Without ``dynamic`` there is no recovery.
    """
    which, spot = (rng.integers(0, len(each), count) for each in (bodies.edge, sources.depth))
    mirrored, present = rng.random(count) < 0.5, rng.random(count) < sick
    pairs = rng.integers(0, len(sources.depth), (2, count))
    most = np.log([hottest(each) for each in sources.diameter[pairs.ravel()].tolist()]).reshape(2, count)
    heats = np.exp(rng.uniform(np.log(HEAT[0]), most))
    peaks = sources.still[pairs, 0] + heats * sources.per_heat[pairs, 0]
    taken = np.where((peaks[1] > peaks[0]) & (rng.random(count) < tilted), 1, 0)
    source, heat = (np.take_along_axis(each, taken[None], axis=0)[0] for each in (pairs, heats))
    diameter = sources.diameter[source]
    answer = np.exp(rng.uniform(np.log(RESPONSE[0]), np.log(RESPONSE[1]), count))
    answer[(rng.random(count) < unanswered) | ~present] = 1.0
    warmth = sources.still[source] + heat[:, None] * sources.per_heat[source]
    side = sources.site[spot, 0].astype(np.int64)
    point = _between(bodies.surface[which, side], sources.site[spot, 1], sources.site[spot, 2])
    views = [(bodies.frontal[which].astype(np.float32), 0)]
    views += [(bodies.oblique[which, number].astype(np.float32), number + 1) for number in range(len(OBLIQUE))]
    seen = []
    for maps, view in views:
        top, cell = bodies.heights[which, view].T
        y = top[:, None] - cell[:, None] * (np.arange(maps.shape[2]) + 0.5) * (ROWS / maps.shape[2])
        celsius = maps[:, 0] + _answered(maps[:, 1:3], answer, maps[:, 4], side)
        away = (maps[:, 4] - point[:, None, None, 0]) ** 2 + (maps[:, 5] - point[:, None, None, 2]) ** 2
        away = np.sqrt(away + (y - point[:, None, 1])[:, :, None] ** 2) * 1e-3
        celsius += maps[:, 3] * present[:, None, None] * _at(away, warmth)
        noise = rng.standard_normal((4 if view == 0 and dynamic else 1, *celsius.shape), dtype=np.float32)
        grids = [centred(celsius + np.float32(RESIDUAL_NOISE) * noise[0], maps[:, 6])]
        if view == 0 and dynamic:
            # the recovery: the body's, its warmer breast's, the source's own, as strong as the skin's own
            strength = (bodies.skin[which] / sources.skin[source]) * present
            courses = sources.still_course[source] + heat[:, None, None] * sources.per_heat_course[source]
            rows = bodies.dynamic[which].astype(np.float32)
            frames = []
            for number in range(3):
                told = rows[:, 0, number] + _answered(rows[:, 1:, number], answer, maps[:, 4], side)
                told += maps[:, 3] * strength[:, None, None].astype(np.float32) * _at(away, courses[:, number])
                frames.append(told + np.float32(COURSE_NOISE) * noise[1 + number])
            grids += [centred(celsius - frames[2], maps[:, 6]), recovering(frames[0], frames[1], maps[:, 6])]
        elif view == 0:
            grids += [grids[0], np.zeros_like(grids[0])]
        seen += [np.where(mirrored[:, None, None, None], grid[:, :, ::-1], grid) for grid in grids]
    front, late, recovery, right, left = seen
    swap = mirrored[:, None, None, None]
    oblique = np.stack([np.where(swap, left, right), np.where(swap, right, left)[:, :, ::-1]], axis=1)
    top, cell = bodies.heights[which, 0].T
    row, column = (top - point[:, 1]) / cell, (point[:, 0] - bodies.edge[which]) / cell
    breasts = bodies.breasts[which].copy()
    breasts[mirrored] = breasts[mirrored][:, ::-1]
    breasts[mirrored, :, 1] = COLUMNS - breasts[mirrored, :, 1]
    column = np.where(mirrored, COLUMNS - column, column)
    return Exams(
        front, late, oblique, recovery, present, np.stack([row, column], axis=1), sources.depth[source] * 1e3,
        diameter * 1e3, heat, warmth, breasts,
    )  # fmt: skip


def _answered(warmer: Cells, answer: FloatArray, x: Cells, side: IntArray) -> Cells:
    """degC that the breast on ``side`` adds: a parabola in the logarithm of its perfusion through what was solved."""
    t, (a, b) = np.log(answer), np.log(WARMED)
    first, second = t * (b - t) / (a * (b - a)), t * (t - a) / (b * (b - a))
    added = first[:, None, None] * warmer[:, 0] + second[:, None, None] * warmer[:, 1]
    here = np.where(side[:, None, None] == 0, x < 0, x > 0)
    return np.asarray(added * here, dtype=np.float32)


def _at(distance: FloatArray, warmth: FloatArray) -> Cells:
    """Footprints (n, radii) at distances (n, rows, columns) in metres."""
    position = np.minimum(distance / RADII[1], len(RADII) - 1.001)
    low = position.astype(np.int64)
    n = np.arange(len(warmth))[:, None, None]
    return np.asarray(warmth[n, low] + (position - low) * (warmth[n, low + 1] - warmth[n, low]), dtype=np.float32)


def _between(surface: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    """The skin (n, KNOTS, KNOTS, 3) at places u, v (n), bilinear: (n, 3) mm."""
    across, down = ((each + REACH) / (2 * REACH) * (KNOTS - 1) for each in (u, v))
    i, j = (np.minimum(each.astype(np.int64), KNOTS - 2) for each in (down, across))
    p, q, n = (down - i)[:, None], (across - j)[:, None], np.arange(len(u))
    upper = surface[n, i, j] + q * (surface[n, i, j + 1] - surface[n, i, j])
    lower = surface[n, i + 1, j] + q * (surface[n, i + 1, j + 1] - surface[n, i + 1, j])
    return np.asarray(upper + p * (lower - upper))


# --- what a network learns from, and what it is calibrated on -----------------


@dataclass(frozen=True)
class Phantoms:
    """Bodies and sources of several tissues, one entry a tissue."""

    bodies: tuple[Bodies, ...]
    sources: tuple[Sources, ...]

    def exams(self, rng: np.random.Generator, count: int, *, dynamic: bool = True, **how: float) -> Exams:
        """``count`` exams of every tissue in turn; ``how`` as for ``draw_exams``."""
        share = np.bincount(rng.integers(0, len(self.bodies), count), minlength=len(self.bodies))
        drawn = zip(self.bodies, self.sources, share.tolist(), strict=True)
        return joined(
            [draw_exams(bodies, sources, rng, n, dynamic=dynamic, **how) for bodies, sources, n in drawn if n]
        )


def phantoms(section: LocateSection, seed: int, cache: Path, progress: Progress, *, taught: bool) -> Phantoms:
    """What a network learns from, or (not ``taught``) other bodies and sources with the nuisances of ``simulate``.

    Each tissue's are kept in ``cache``, so that an interrupted call goes on.
    """
    counts = (section.bodies, section.sources) if taught else (section.calibration, section.sources // 2)
    bodies_each, sources_each = (-(-count // len(section.tissues)) for count in counts)
    bodies, sources = [], []
    for tissue in section.tissues:
        made = _Making(SimulateSection(tissue=tissue), 2 * seed + (not taught), section.processes, cache, progress)
        bodies.append(made.kept(Bodies, partial(solve_bodies, freely=taught), bodies_each, taught))
        sources.append(made.kept(Sources, solve_sources, sources_each, taught))
    return Phantoms(tuple(bodies), tuple(sources))


@dataclass(frozen=True)
class _Making:
    settings: SimulateSection
    seed: int
    processes: int | None
    cache: Path
    progress: Progress

    def kept(self, kind: type[Kept], work: Work[Kept], count: int, taught: bool) -> Kept:
        """What stands in the cache, or what ``work`` makes, kept there; damaged means absent."""
        name, names = kind.__name__.lower(), [each.name for each in fields(kind)]
        key = fingerprint("locate", RECIPE, name, self.settings.model_dump(), self.seed, count, taught)
        path = self.cache / "locate" / f"{name}-{key[:24]}.npz"
        with contextlib.suppress(Exception), path.open("rb") as handle, np.load(handle, allow_pickle=False) as content:
            return kind(*(content[each] for each in names))
        with self.progress.task(f"{name}, {self.settings.tissue}", count) as task:
            made = solved(work, self.settings, self.seed, count, self.processes, task)
        keep_arrays(path, **{each: getattr(made, each) for each in names})
        return made
