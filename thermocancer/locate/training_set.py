"""Phantoms to learn from: exams as a network is shown them, heat sources superposed on bodies that were seen once.

What is solved (``solving``) serves for any number of exams, mirrored or not; nothing is written as text.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thermocancer.cache import keep_arrays
from thermocancer.config.judging import LocateSection
from thermocancer.config.sources import SimulateSection
from thermocancer.files import fingerprint
from thermocancer.locate import Cells, FloatArray, IntArray
from thermocancer.locate.chest import COLUMNS, OBLIQUE, ROWS, centred, recovering
from thermocancer.locate.solving import (
    KNOTS,
    RADII,
    REACH,
    WARMED,
    Bodies,
    Kept,
    Sources,
    Work,
    joined,
    solve_bodies,
    solve_sources,
    solved,
)
from thermocancer.phantom.cohort import HEAT, RESPONSE, hottest
from thermocancer.progress import Progress

UNANSWERED = 0.2
"""Share of the sources whose breast does not answer with warmth, so that the footprint itself must be read."""

RESIDUAL_NOISE = 0.012
"""degC of the camera's noise left in a cell, which is the mean of about 40 pixels."""

COURSE_NOISE = 0.004
"""The same in what a recovery is told by: means over a quarter of the frames, less one another."""

RECIPE = 2
"""Raise it when the same settings make other phantoms."""


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
    source, heat = _heated(sources, rng, count, tilted)
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
        sources.diameter[source] * 1e3, heat, warmth, breasts,
    )  # fmt: skip


def _heated(sources: Sources, rng: np.random.Generator, count: int, tilted: float) -> tuple[IntArray, FloatArray]:
    """Numbers of sources, and heat in W/m3, both (count): drawn twice, of a share ``tilted`` the warmer is taken."""
    pairs = rng.integers(0, len(sources.depth), (2, count))
    most = np.log([hottest(each) for each in sources.diameter[pairs.ravel()].tolist()]).reshape(2, count)
    heats = np.exp(rng.uniform(np.log(HEAT[0]), most))
    peaks = sources.still[pairs, 0] + heats * sources.per_heat[pairs, 0]
    taken = np.where((peaks[1] > peaks[0]) & (rng.random(count) < tilted), 1, 0)
    source, heat = (np.take_along_axis(each, taken[None], axis=0)[0] for each in (pairs, heats))
    return source, heat


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
