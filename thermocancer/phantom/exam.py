"""All matrices of one visit, as the camera delivers them: hundredths of a degree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.phantom.camera import Framing, apparent_celsius
from thermocancer.phantom.cohort import CAMERAS, NOISE
from thermocancer.phantom.scene import Scene
from thermocancer.phantom.skin import ARM_STEPS
from thermocancer.workspace import VIEWS

FloatArray = npt.NDArray[np.float64]

LATERAL = ("Right", "Left")
MARKER_HEIGHT = 0.86
"""Where the marker lies, as a share of the frame's height."""

WALL, DRIFT = 8, 9
"""Keys of the random numbers of a picture besides its noise."""


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
        if static and view == visit.repeated_view:
            yield picture.static(1)
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
        sight, maps, room = scene.sights[view], scene.maps, scene.visit.room_celsius
        count = 1 + len(maps.shapes) * dynamic
        skin = sight.from_grid(np.concatenate([maps.steady[None], maps.shapes])[:count])
        arms = sight.arm > 0
        way, share = sight.along[arms], sight.arm[arms]
        for values, along in zip(skin, maps.arm, strict=False):
            values[arms] += share * (np.interp(way, np.linspace(0.0, 1.0, ARM_STEPS), along) - values[arms])
        skin[0][arms] += share * scene.person.circulation.arm_pattern(way, sight.around[arms])
        seen, gain = apparent_celsius(skin[0], sight.cosine, room)
        wall = room + _wall(scene.framing, self._random(WALL))
        self.base = self._through_lens(np.where(sight.body, seen, wall))
        skin[1:] *= np.where(sight.body, gain, 0.0)
        self.deficits = list(zip(skin[1:], maps.courses, strict=False))
        self.marker = _marker_mask(scene)
        self.marker_celsius = room + scene.visit.marker.above_room

    def _random(self, *key: int) -> np.random.Generator:
        visit = self.scene.visit
        return np.random.default_rng([self.scene.seed, NOISE, visit.patient, visit.visit, VIEWS.index(self.view), *key])

    def _through_lens(self, image: FloatArray) -> FloatArray:
        from scipy.ndimage import gaussian_filter

        sigma = self.camera.blur * self.scene.framing.columns / 640
        return gaussian_filter(image, sigma, mode="nearest", truncate=3.0) if sigma > 0.2 else image

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
    slope = rng.normal(0, 0.25, 2)
    level = rng.normal(0, 0.15)
    y = np.linspace(-1, 1, framing.rows)[:, None]
    x = np.linspace(-1, 1, framing.columns)[None, :]
    return np.asarray(level + slope[0] * y + slope[1] * x)


def _marker_mask(scene: Scene) -> FloatArray:
    """The tilted square of the reference patch near the lower edge, soft by one pixel."""
    framing, marker = scene.framing, scene.visit.marker
    x = (np.arange(framing.columns) + 0.5 - framing.columns / 2) * framing.pitch - marker.shift
    y = (np.arange(framing.rows) + 0.5 - MARKER_HEIGHT * framing.rows) * framing.pitch
    c, s = np.cos(marker.tilt), np.sin(marker.tilt)
    right, down = x[None, :] * c + y[:, None] * s, y[:, None] * c - x[None, :] * s
    edge = marker.size / 2 - np.maximum(np.abs(right), np.abs(down))
    return np.clip(edge / framing.pitch + 0.5, 0.0, 1.0)
