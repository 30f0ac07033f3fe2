"""What a thermogram can show at all: contrast and ideal-observer AUC against a tumour's depth and size.

The observer is the Hotelling observer for a known signal in a known place: it knows footprint, camera
noise and the patchiness of healthy skin, and integrates over the whole footprint. No reader and no
network does better, so where it fails the phantom's tumours cannot be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import erf, sqrt
from pathlib import Path

import numpy as np

from thermocancer.config.sources import SimulateSection
from thermocancer.errors import ConfigError
from thermocancer.files import write_text, written_aside
from thermocancer.phantom import FloatArray
from thermocancer.phantom.cohort import HEAT
from thermocancer.phantom.contrast import Footprint, Tumour, solve_footprint
from thermocancer.phantom.skin import MOTTLE
from thermocancer.phantom.tissue import TISSUES, gautherie_heat

DIAMETERS_MM = (10.0, 15.0, 20.0, 30.0)
DEPTHS_MM = (10.0, 12.5, 15.0, 17.5, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0)
PITCH_MM = 0.7
"""Millimetres a pixel when a torso fills 640 columns."""

FIELD_MM = 256.0
CELSIUS_PER_PERFUSION = 1.4
"""Skin warms by this much when perfusion grows e-fold (middle of the breast, h 10, ``recovery.tabulate``)."""


@dataclass(frozen=True)
class Row:
    """One line of the table, for the mean of 1 and of 20 frames.

    ``auc_pixel``: the warmest pixel against the camera's noise; ``auc_camera``: the whole footprint against
    the camera's noise; ``auc_skin``: the patchiness of healthy skin besides, which no frames average away.
    """

    law: str
    heat: float
    diameter_mm: float
    depth_mm: float
    contrast_celsius: float
    half_width_mm: float
    auc_pixel_1: float
    auc_pixel_20: float
    auc_camera_1: float
    auc_camera_20: float
    auc_skin_1: float
    auc_skin_20: float


def table(settings: SimulateSection) -> Iterator[Row]:
    """Solve every (law of heat, diameter, depth) in the flat slab of the configured tissue.

    Raises ConfigError for a tissue too thin for such tumours.
    """
    tissue = TISSUES[settings.tissue]
    if tissue.depth < 0.05:
        raise ConfigError(
            f"the tissue {tissue.name} is too thin for tumours of the breast",
            where="simulate.tissue",
            found=f"{tissue.depth * 1e3:.1f} mm",
            hint="choose layers-A-skin, layers-A, voxel or pet",
        )
    noise, both = settings.noise_celsius, (1, 20)
    observers: list[Callable[[Footprint], float]] = [partial(pixel_auc, noise_celsius=noise, frames=n) for n in both]
    observers += [Observer(noise, frames, mottle).auc for mottle in (0.0, settings.mottle) for frames in both]
    for diameter in DIAMETERS_MM:
        laws = {"gautherie": gautherie_heat(diameter * 1e-3), "calibrated-low": HEAT[0]}
        for law, heat in laws.items():
            for depth in DEPTHS_MM:
                if depth > diameter / 2:
                    footprint = solve_footprint(tissue, Tumour(diameter * 1e-3, depth * 1e-3, heat))
                    peak, width = round(footprint.peak, 4), round(footprint.half_width() * 1e3, 2)
                    scores = [round(each(footprint), 4) for each in observers]
                    yield Row(law, round(heat, 1), diameter, depth, peak, width, *scores)


class Observer:
    """The Hotelling observer: AUC = Phi(d / sqrt 2), d^2 = integral of |S(f)|^2 / N(f) over frequencies.

    S is the footprint's spectrum, N the noise power: white from the mean of ``frames`` frames of the
    camera, plus that of the perfusion patches of ``skin.MOTTLE`` scaled by ``mottle``.
    """

    def __init__(self, noise_celsius: float, frames: int, mottle: float) -> None:
        self._count = int(FIELD_MM / PITCH_MM)
        frequency = np.fft.fftfreq(self._count, PITCH_MM).astype(np.float64)
        self._noise = noise_celsius**2 / frames * PITCH_MM**2 + mottle**2 * patch_power(frequency)

    def auc(self, footprint: Footprint) -> float:
        """AUC for one footprint in a known place."""
        if not self._noise.min() > 0:
            return 0.5 if footprint.peak == 0 else 1.0
        axis = (np.arange(self._count) - self._count // 2) * PITCH_MM
        distance = np.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2) * 1e-3
        signal = np.interp(distance, footprint.radius, footprint.steady, right=0.0)
        power = np.abs(np.fft.fft2(signal) * PITCH_MM**2) ** 2
        squared = float(np.sum(power / self._noise)) / (self._count * PITCH_MM) ** 2
        return 0.5 * (1.0 + erf(sqrt(squared) / 2.0))


def patch_power(frequency: FloatArray, celsius: float = CELSIUS_PER_PERFUSION) -> FloatArray:
    """Power (n, n), degC2 mm2, at frequencies (n) a mm of the patches of ``skin.MOTTLE``, of ``celsius`` an e-fold.

    Cubic B-splines with white coefficients.
    """
    patches = np.zeros((len(frequency), len(frequency)))
    for spacing, spread in MOTTLE:
        fall = np.sinc(frequency * spacing) ** 8
        patches += (celsius * spread / 0.48) ** 2 * spacing**2 * fall[:, None] * fall[None, :]
    return patches


def pixel_auc(footprint: Footprint, noise_celsius: float, frames: int) -> float:
    """What an observer sees who looks at one pixel, the warmest: AUC = Phi(contrast / (noise sqrt 2))."""
    if not noise_celsius > 0:
        return 0.5 if footprint.peak == 0 else 1.0
    return 0.5 * (1.0 + erf(footprint.peak / (2.0 * noise_celsius / sqrt(frames))))


def write(rows: list[Row], noise_celsius: float, folder: Path) -> list[Path]:
    """Write ``detectability.csv`` and ``.png`` into ``folder``; returns their paths."""
    files = [folder / "detectability.csv", folder / "detectability.png"]
    lines = [",".join(asdict(rows[0])), *(",".join(str(value) for value in asdict(row).values()) for row in rows)]
    write_text(files[0], "\n".join(lines) + "\n")
    with written_aside(files[1]) as side:
        draw(rows, noise_celsius, side)
    return files


def draw(rows: list[Row], noise_celsius: float, path: Path) -> None:
    """Contrast and AUC against depth, one colour a diameter, with the noise of one frame and of 20."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    contrast, auc = figure.subplots(1, 2)
    for number, diameter in enumerate(DIAMETERS_MM):
        for law, line in (("gautherie", "--"), ("calibrated-low", "-")):
            chosen = [row for row in rows if row.diameter_mm == diameter and row.law == law]
            depths = [row.depth_mm for row in chosen]
            style, label = f"C{number}{line}", f"{diameter:g} mm" if line == "-" else None
            contrast.semilogy(depths, [max(row.contrast_celsius, 1e-4) for row in chosen], style, label=label)
            auc.plot(depths, [row.auc_skin_20 for row in chosen], style)
    for frames, dots in ((1, ":"), (20, "-.")):
        contrast.axhline(noise_celsius / sqrt(frames), color="black", linestyle=dots, linewidth=1)
        words = f"noise, {frames} frame{'s' * (frames > 1)}"
        contrast.text(46, noise_celsius / sqrt(frames), words, va="bottom", ha="right")
    contrast.set(xlabel="depth of the tumour's centre, mm", ylabel="peak contrast, degC")
    contrast.legend(title="diameter (dashed: Gautherie's heat)")
    auc.set(xlabel="depth of the tumour's centre, mm", ylabel="AUC, ideal observer, 20 frames, healthy skin patchy")
    auc.set_ylim(0.48, 1.02)
    figure.savefig(path, dpi=110, metadata={"Software": None})
