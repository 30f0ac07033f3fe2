"""All matrices of one visit: who stands there, how warm the skin is, and what the camera delivers of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom import FloatArray
from thermocancer.phantom.anatomy import Body, Breast, Variation, cap, draw_body
from thermocancer.phantom.camera import Framing, Sight, Stage, apparent_celsius
from thermocancer.phantom.cohort import BODY, CAMERAS, NOISE, VISIT, Site, Visit
from thermocancer.phantom.contrast import Cooling, Footprint, solve_footprint
from thermocancer.phantom.recovery import ColumnTable, tabulate
from thermocancer.phantom.skin import (
    ARM_STEPS,
    Circulation,
    Lesion,
    SkinMaps,
    build_maps,
    draw_arms,
    draw_patches,
    grow,
)
from thermocancer.phantom.solver import Surroundings
from thermocancer.phantom.tissue import TISSUES, Tissue
from thermocancer.workspace import VIEWS

LATERAL = ("Right", "Left")
MARKER_HEIGHT = 0.86
"""Where the marker lies, as a share of the frame's height."""

WALL = 8
"""Key of the random numbers of a picture besides its noise."""

FAT, MORE_FAT = (0.003, 0.016), (0.002, 0.009)
"""Metres of fat that people have more than the parameter set: everywhere, and in the breast besides."""


# --- the scene: one visit made ready for the camera ---------------------------


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
    fat, padding_fat = people.uniform(*FAT), people.uniform(*MORE_FAT)
    vessels = grow(rng, body, settings.vessels)
    arms = draw_arms(rng, settings.mottle)
    blood = Circulation(patches, (float(levels[0]), float(levels[1])), vessels, arms)
    return Person(body, blood, fat, padding_fat)


@dataclass(frozen=True)
class Setting:
    """A visit before blood and tumour are laid on it: who stands where, in which tissue, cooled how."""

    person: Person
    framing: Framing
    tissue: Tissue
    cooling: Cooling | None
    table: ColumnTable
    stage: Stage


def prepare(settings: SimulateSection, seed: int, visit: Visit) -> Setting:
    """Draw the person and the camera's place, and solve the columns of tissue."""
    person = draw_person(settings, seed, visit.patient)
    rng = np.random.default_rng([seed, VISIT, visit.patient, visit.visit, 1])
    # distance and aim of the camera: the frame is about 2.8 half widths of the torso wide
    rows, columns = settings.shape
    free = settings.framing
    width = (2.85 + free * float(rng.normal(0, 0.15))) * person.body.half_width
    pitch = max(width / columns, 0.75 * width / rows)
    framing = Framing(rows, columns, pitch, free * float(rng.normal(0, 8)), 22.0 + free * float(rng.normal(0, 12)))
    cooling = draw_cooling(rng, settings, visit.convection, visit.room_celsius) if settings.dynamic else None
    tissue = TISSUES[settings.tissue].with_fat(person.fat)
    tissue = replace(tissue, convection=visit.convection, ambient_celsius=visit.room_celsius)
    breasts = person.body.breasts
    curvature = 2000.0 / (breasts[0].skin_radius + breasts[1].skin_radius)
    table = tabulate(tissue, person.padding_fat, curvature, cooling)
    return Setting(person, framing, tissue, cooling, table, Stage(person.body, framing))


def draw_cooling(
    rng: np.random.Generator, settings: SimulateSection, convection: float, room_celsius: float
) -> Cooling:
    """A mild fan: what it takes for a recovery like that of real exams."""
    speed, colder, seconds = rng.uniform(1.2, 1.85), rng.uniform(0.0, 0.7), rng.uniform(120, 300)
    fan = Surroundings(float(convection * speed), room_celsius - float(colder))
    return Cooling(fan, float(seconds), settings.frames, settings.frame_interval_s)


def make_scene(settings: SimulateSection, seed: int, visit: Visit) -> Scene:
    """Solve the tissue and lay it on the body."""
    ready = prepare(settings, seed, visit)
    person, stage = ready.person, ready.stage
    lesion = _lesion(settings, visit, person, ready.tissue, ready.cooling)
    blood = replace(person.circulation, level=float(np.log(visit.vasomotor)))
    maps = build_maps(person.body, stage.grid, ready.table, visit.convection, blood, lesion)
    sights = {view: stage.look(view) for view in VIEWS}
    return Scene(visit, settings, seed, person, ready.framing, maps, sights, lesion)


def _lesion(
    settings: SimulateSection, visit: Visit, person: Person, tissue: Tissue, cooling: Cooling | None
) -> Lesion | None:
    """The tumour's footprint, solved below the curved skin of its breast."""
    if visit.tumour is None or visit.site is None:
        return None
    breast = person.body.breasts[visit.site.side]
    padded, radius = tissue_below(tissue, person.padding_fat, breast, visit.site)
    footprint = solve_footprint(padded, visit.tumour, cooling=cooling, skin_radius=radius).rounded()
    response = visit.response
    if settings.contrast is not None:
        footprint, response = footprint.scaled_to(settings.contrast), 1.0
    return Lesion(footprint, visit.site.side, visit.site.u, visit.site.v, response)


def tissue_below(tissue: Tissue, padding_fat: float, breast: Breast, site: Site) -> tuple[Tissue, float]:
    """The tissue under a place on a breast, and the radius (metres) of the skin that bends over it."""
    share = float(cap(np.array(site.u), np.array(site.v), breast.sag))
    padded = tissue.with_fat(padding_fat * min(share, 1.0))
    return padded, max(breast.skin_radius * 1e-3, padded.depth / 0.85)


# --- the pictures: hundredths of a degree -------------------------------------


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

    @property
    def celsius(self) -> FloatArray:
        """The same in degC."""
        return self.centi / 100.0 if self.rest is None else self.temperatures.astype(np.float64)


def matrices(scene: Scene) -> Iterator[Matrix]:
    """Every matrix of the visit that was not lost, static views first."""
    visit, settings = scene.visit, scene.settings
    for view in VIEWS:
        static = settings.static and view not in visit.missing_views
        frames: list[tuple[int, int]] = []  # index in the name, and moment of the recovery
        if settings.dynamic and view == "Frontal":
            frames = [(each, each) for each in range(settings.frames) if each not in visit.missing_frames]
        elif settings.dynamic and view in LATERAL:
            frames = [(0, settings.frames - 1)]
        if not static and not frames:
            continue
        picture = Picture(scene, view, dynamic=bool(frames))
        if static:
            yield picture.static()
        if static and view == visit.repeated_view:
            yield picture.static(1)
        for index, moment in frames:
            yield picture.frame(index, moment)


class Picture:
    """One view of one visit: noise-free maps in the image, from which every frame follows."""

    def __init__(self, scene: Scene, view: str, *, dynamic: bool) -> None:
        from scipy.ndimage import gaussian_filter

        self.scene, self.view = scene, view
        self.camera = CAMERAS[scene.visit.camera]
        sight, maps, room = scene.sights[view], scene.maps, scene.visit.room_celsius
        count = 1 + len(maps.shapes) * dynamic
        skin = sight.from_grid(np.concatenate([maps.steady[None], maps.shapes])[:count])
        arms = sight.arm > 0
        way, share = sight.along[arms], sight.arm[arms]
        for values, along in zip(skin, maps.arm, strict=False):
            values[arms] += share * (np.interp(way, np.linspace(0.0, 1.0, ARM_STEPS), along) - values[arms])
        skin[0][arms] += share * scene.person.circulation.arm_pattern(way, sight.around[arms])
        seen, gain = apparent_celsius(skin[0], sight.cosine, room)
        image = np.where(sight.body, seen, room + _wall(scene.framing, self._random(WALL)))
        sigma = self.camera.blur * scene.framing.columns / 640
        self.base = gaussian_filter(image, sigma, mode="nearest", truncate=3.0) if sigma > 0.2 else image
        skin[1:] *= np.where(sight.body, gain, 0.0)
        self.deficits = list(zip(skin[1:], maps.courses, strict=False))
        self.marker = _marker_mask(scene)
        self.marker_celsius = room + scene.visit.marker.above_room

    def _random(self, *key: int) -> np.random.Generator:
        visit = self.scene.visit
        return np.random.default_rng([self.scene.seed, NOISE, visit.patient, visit.visit, VIEWS.index(self.view), *key])

    def static(self, index: int = 0) -> Matrix:
        return self._expose(self.base.copy(), "S", index)

    def frame(self, index: int, moment: int) -> Matrix:
        image, part = self.base.copy(), np.empty_like(self.base)
        for shape, course in self.deficits:
            image -= np.multiply(shape, course[moment], out=part)
        return self._expose(image, "D", index)

    def _expose(self, image: FloatArray, protocol: str, index: int) -> Matrix:
        """Marker, drift, sensor noise, the camera's range, hundredths of a degree. Changes ``image``."""
        settings, camera = self.scene.settings, self.camera
        rng = self._random("SD".index(protocol), index)
        image += self.marker * (self.marker_celsius - image)
        image += self.scene.visit.calibration_celsius + settings.drift_celsius * rng.standard_normal()
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= np.float32(settings.noise_celsius * camera.noise_factor)
        image += noise
        np.clip(image, camera.low, camera.high, out=image)
        image *= 100.0
        centi = np.rint(image, out=image).astype(np.uint16)
        # the sensor's own digits below a hundredth are noise: drawn as integers they are the same everywhere
        rest = rng.integers(-499, 500, image.shape, dtype=np.int16) if camera.layout == "semicolon5" else None
        return Matrix(self.view, protocol, index, camera.layout, centi, rest)


def _wall(framing: Framing, rng: np.random.Generator) -> FloatArray:
    """Unevenness of the wall behind the patient in degC."""
    slope, level = rng.normal(0, 0.25, 2), rng.normal(0, 0.15)
    y, x = np.linspace(-1, 1, framing.rows)[:, None], np.linspace(-1, 1, framing.columns)[None, :]
    return np.asarray(level + slope[0] * y + slope[1] * x)


def _marker_mask(scene: Scene) -> FloatArray:
    """The tilted square of the reference patch near the lower edge, soft by one pixel."""
    framing, marker = scene.framing, scene.visit.marker
    x = (np.arange(framing.columns) + 0.5 - framing.columns / 2) * framing.pitch - marker.shift
    y = (np.arange(framing.rows) + 0.5 - MARKER_HEIGHT * framing.rows) * framing.pitch
    c, s = np.cos(marker.tilt), np.sin(marker.tilt)
    right, down = x[None, :] * c + y[:, None] * s, y[:, None] * c - x[None, :] * s
    edge = marker.size / 2 - np.maximum(np.abs(right), np.abs(down))
    return np.asarray(np.clip(edge / framing.pitch + 0.5, 0.0, 1.0))


# --- the truth beside the pictures --------------------------------------------


def footprint_masks(scene: Scene) -> Iterator[tuple[str, bytes]]:
    """(view, PNG) of the pixels where the tumour's contrast is at least half its peak, for each static view."""
    if scene.lesion is None or not scene.lesion.footprint.peak:
        return
    for view, sight in scene.sights.items():
        if scene.settings.static and view not in scene.visit.missing_views:
            contrast = np.where(sight.body, sight.from_grid(scene.maps.contrast[None])[0] * (1 - sight.arm), 0.0)
            yield view, mask_png(contrast >= scene.lesion.footprint.peak / 2)


def truth_line(scene: Scene) -> dict[str, object]:
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


def mask_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """A one-bit greyscale PNG of ``mask`` (rows, columns), white where True.

    The pixels are stored, not compressed: builds of zlib differ in what they compress to, and the
    same seed must give the same bytes everywhere.
    """
    rows, columns = mask.shape
    packed = np.packbits(mask, axis=1)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), packed], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    stream = b"\x78\x01"  # a zlib stream of stored blocks (RFC 1950, 1951)
    for start in range(0, len(lines), 0xFFFF):
        block = lines[start : start + 0xFFFF]
        last = start + 0xFFFF >= len(lines)
        stream += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(lines))
    png = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b"")):
        png += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return png
