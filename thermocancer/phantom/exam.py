"""All matrices of one visit, as the camera delivers them: hundredths of a degree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.anatomy import Body, draw_body
from thermocancer.phantom.camera import Framing, Sight, SkinGrid, apparent_celsius, emissivity, look, make_grid
from thermocancer.phantom.cohort import BODY, CAMERAS, NOISE, VISIT, Visit
from thermocancer.phantom.contrast import Cooling, Footprint, solve_footprint
from thermocancer.phantom.masks import mask_png
from thermocancer.phantom.recovery import tabulate
from thermocancer.phantom.skin import SkinMaps, arc_per_radian, build_maps, draw_mottle
from thermocancer.phantom.solver import Surroundings
from thermocancer.phantom.tissue import TISSUES, Tissue
from thermocancer.phantom.vessels import Vessels, grow
from thermocancer.workspace import VIEWS

FloatArray = npt.NDArray[np.float64]

LATERAL = ("Right", "Left")


@dataclass(frozen=True)
class Matrix:
    """One thermogram: view, protocol S or D, index, text layout, hundredths of a degree (rows, columns).

    ``rest`` are the digits a camera of five decimals writes after the hundredths (thousandths of a
    hundredth, -499 to 499), or None.
    """

    view: str
    protocol: str
    index: int
    layout: str
    centi: npt.NDArray[np.uint16]
    rest: npt.NDArray[np.int16] | None

    @property
    def temperatures(self) -> npt.NDArray[np.uint16] | FloatArray:
        """What goes into the text: hundredths, or degrees with five decimals."""
        if self.rest is None:
            return self.centi
        return (self.centi.astype(np.int64) * 1000 + self.rest) / 1e5


@dataclass(frozen=True)
class Scene:
    """One visit made ready for the camera."""

    visit: Visit
    settings: SimulateSection
    seed: int
    body: Body
    framing: Framing
    grid: SkinGrid
    maps: SkinMaps
    footprint: Footprint | None
    vessels: Vessels


def make_scene(settings: SimulateSection, seed: int, visit: Visit) -> Scene:
    """Solve the tissue and lay it on the body."""
    rng = np.random.default_rng([seed, BODY, visit.patient])
    body = draw_body(rng)
    vessels = grow(rng, _centres(body), float(rng.uniform(0.4, 1.6)))
    mottle = draw_mottle(rng)
    extra_fat = float(rng.uniform(0.002, 0.009))
    here = np.random.default_rng([seed, VISIT, visit.patient, visit.visit, 1])
    framing = _framing(settings, body, here)
    tissue = replace(TISSUES[settings.tissue], convection=visit.convection, ambient_celsius=visit.room_celsius)
    cooling = _cooling(settings, visit, here) if settings.dynamic else None
    footprint = _footprint(settings, visit, tissue, cooling)
    grid = make_grid(body, framing)
    tumour = (
        None if footprint is None or visit.site is None else (footprint, visit.site.side, visit.site.u, visit.site.v)
    )
    maps = build_maps(body, grid, tabulate(tissue, extra_fat, cooling), visit.convection, mottle, vessels, tumour)
    return Scene(visit, settings, seed, body, framing, grid, maps, footprint, vessels)


def _centres(body: Body) -> list[tuple[float, float, float]]:
    return [(each.azimuth * arc_per_radian(body), each.height, each.radius) for each in body.breasts]


def _framing(settings: SimulateSection, body: Body, rng: np.random.Generator) -> Framing:
    rows, columns = settings.shape
    width = float(rng.normal(2.95, 0.15)) * body.half_width
    pitch = max(width / columns, 0.75 * width / rows)
    return Framing(rows, columns, pitch, float(rng.normal(0, 8)), float(rng.normal(25, 12)))


def _cooling(settings: SimulateSection, visit: Visit, rng: np.random.Generator) -> Cooling:
    """A mild fan: what it takes for a recovery like that of real exams."""
    fan = Surroundings(
        float(visit.convection * rng.uniform(1.1, 1.7)), visit.room_celsius - float(rng.uniform(0.0, 0.6))
    )
    return Cooling(fan, float(rng.uniform(120, 300)), settings.frames, settings.frame_interval_s)


def _footprint(settings: SimulateSection, visit: Visit, tissue: Tissue, cooling: Cooling | None) -> Footprint | None:
    if visit.tumour is None:
        return None
    footprint = solve_footprint(tissue, visit.tumour, cooling=cooling)
    return footprint if settings.contrast is None else footprint.scaled_to(settings.contrast)


def matrices(scene: Scene) -> Iterator[Matrix]:
    """Every matrix of the visit that was not lost, static views first."""
    visit, settings = scene.visit, scene.settings
    for view in VIEWS:
        static = settings.static and view not in visit.missing_views
        frames = _frames(scene, view)
        if not static and not frames:
            continue
        picture = Picture(scene, view, dynamic=bool(frames))
        if static:
            yield picture.static()
        for index, moment in frames:
            yield picture.frame(index, moment)


def _frames(scene: Scene, view: str) -> list[tuple[int, int]]:
    """(index in the name, moment of the recovery) of the dynamic frames of one view."""
    settings = scene.settings
    if not settings.dynamic:
        return []
    if view == "Frontal":
        return [(each, each) for each in range(settings.frames) if each not in scene.visit.missing_frames]
    return [(0, settings.frames - 1)] if view in LATERAL else []


class Picture:
    """One view of one visit: noise-free maps in the image, from which every frame follows."""

    def __init__(self, scene: Scene, view: str, *, dynamic: bool) -> None:
        self.scene, self.view = scene, view
        self.camera = CAMERAS[scene.visit.camera]
        sight = look(scene.body, scene.framing, scene.grid, view)
        maps, room = scene.maps, scene.visit.room_celsius
        rng = np.random.default_rng([scene.seed, NOISE, scene.visit.patient, scene.visit.visit, VIEWS.index(view), 9])
        skin = np.where(sight.torso, sight.from_grid(maps.steady + maps.contrast), _arm_celsius(scene, sight))
        body = sight.torso | sight.arm
        seen = apparent_celsius(skin, sight.cosine, room)
        wall = room + _wall(scene.framing, rng)
        self.base = self._through_lens(np.where(body, seen, wall))
        self.deficits: list[tuple[FloatArray, FloatArray]] = []
        if dynamic:
            gain = np.where(body, emissivity(sight.cosine) / 0.98, 0.0)
            arm = scene.maps.shapes.mean(axis=(1, 2))
            for shape, course, flat in zip(maps.shapes, maps.courses, arm, strict=True):
                inside = np.where(sight.torso, sight.from_grid(shape), flat)
                self.deficits.append((self._through_lens(gain * inside), course))
            for shape, course in zip(maps.tumour_shapes, maps.tumour_courses, strict=True):
                inside = np.where(sight.torso, sight.from_grid(shape), 0.0)
                self.deficits.append((self._through_lens(gain * inside), -course))
        self.marker = _marker_mask(scene)
        self.marker_celsius = float(np.mean(self.base[scene.framing.rows // 2 :])) - scene.visit.marker.celsius_below

    def _through_lens(self, image: FloatArray) -> FloatArray:
        from scipy.ndimage import gaussian_filter

        sigma = self.camera.blur * self.scene.framing.columns / 640
        return gaussian_filter(image, sigma, mode="nearest", truncate=3.0) if sigma > 0.2 else image

    def static(self) -> Matrix:
        return self._expose(self.base, "S", 0)

    def frame(self, index: int, moment: int) -> Matrix:
        image = self.base.copy()
        for shape, course in self.deficits:
            image -= shape * course[moment]
        return self._expose(image, "D", index)

    def _expose(self, image: FloatArray, protocol: str, index: int) -> Matrix:
        """Marker, sensor noise, hundredths of a degree."""
        visit = self.scene.visit
        key = [self.scene.seed, NOISE, visit.patient, visit.visit, VIEWS.index(self.view), "SD".index(protocol), index]
        rng = np.random.default_rng(key)
        sigma = self.scene.settings.noise_celsius * self.camera.noise_factor
        image = image + self.marker * (self.marker_celsius - image)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        centi = np.rint((image + sigma * noise) * 100.0).astype(np.uint16)
        # the sensor's own digits below a hundredth are noise: drawn as integers they are the same everywhere
        rest = rng.integers(-499, 500, image.shape, dtype=np.int16) if self.camera.layout == "semicolon5" else None
        return Matrix(self.view, protocol, index, self.camera.layout, centi, rest)


def footprint_masks(scene: Scene) -> Iterator[tuple[str, bytes]]:
    """(view, PNG) of the pixels where the tumour's contrast is at least half its peak, for each static view."""
    if scene.footprint is None or not scene.footprint.peak:
        return
    for view in VIEWS:
        if view not in scene.visit.missing_views:
            sight = look(scene.body, scene.framing, scene.grid, view)
            contrast = np.where(sight.torso, sight.from_grid(scene.maps.contrast), 0.0)
            yield view, mask_png(contrast >= scene.footprint.peak / 2)


def truth_line(scene: Scene) -> dict[str, Any]:
    """Everything that is true of a visit, for ``truth.jsonl``."""
    footprint, framing = scene.footprint, scene.framing
    return {
        **asdict(scene.visit),
        "contrast_celsius": 0.0 if footprint is None else round(footprint.peak, 4),
        "half_width_mm": None if footprint is None or not footprint.peak else round(footprint.half_width() * 1e3, 2),
        "tissue": scene.settings.tissue,
        "noise_celsius": round(scene.settings.noise_celsius * CAMERAS[scene.visit.camera].noise_factor, 4),
        "vessels": scene.vessels.branches,
        "body": asdict(scene.body),
        "framing": {"millimetres_per_pixel": framing.pitch, "left_mm": framing.left, "up_mm": framing.up},
    }


def _arm_celsius(scene: Scene, sight: Sight) -> FloatArray:
    """The arm is warm at the armpit and cooler towards the elbow."""
    steady = scene.maps.steady
    trunk = float(np.median(steady))
    return trunk + 0.6 - 1.6 * sight.along


def _wall(framing: Framing, rng: np.random.Generator) -> FloatArray:
    """Unevenness of the wall behind the patient in degC."""
    slope = rng.normal(0, 0.25, 2)
    level = rng.normal(0, 0.15)
    y = np.linspace(-1, 1, framing.rows)[:, None]
    x = np.linspace(-1, 1, framing.columns)[None, :]
    return level + slope[0] * y + slope[1] * x


def _marker_mask(scene: Scene) -> FloatArray:
    """The tilted square of the reference patch near the lower edge, soft by one pixel."""
    framing, marker = scene.framing, scene.visit.marker
    x = (np.arange(framing.columns) + 0.5 - framing.columns / 2) * framing.pitch - marker.shift
    y = (np.arange(framing.rows) + 0.5 - 0.86 * framing.rows) * framing.pitch
    c, s = np.cos(marker.tilt), np.sin(marker.tilt)
    right, down = x[None, :] * c + y[:, None] * s, y[:, None] * c - x[None, :] * s
    edge = marker.size / 2 - np.maximum(np.abs(right), np.abs(down))
    return np.clip(edge / framing.pitch + 0.5, 0.0, 1.0)
