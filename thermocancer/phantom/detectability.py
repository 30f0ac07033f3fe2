"""What a thermogram can show at all: contrast and ideal-observer AUC against a tumour's depth and size.

The observer is the Hotelling observer for a known signal in a known place: it knows footprint, camera
noise and the patchiness of healthy skin, and integrates over the whole footprint. No reader and no
network does better, so where it fails the phantom's tumours cannot be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import erf, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import SimulateSection
from thermocancer.errors import ConfigError
from thermocancer.files import write_text, written_aside
from thermocancer.phantom.cohort import HEAT
from thermocancer.phantom.contrast import Footprint, Tumour, solve_footprint
from thermocancer.phantom.skin import MOTTLE
from thermocancer.phantom.tissue import TISSUES, gautherie_heat

FloatArray = npt.NDArray[np.float64]

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
    noise = settings.noise_celsius
    observers: list[Observer | PixelObserver] = [PixelObserver(noise, frames) for frames in (1, 20)]
    observers += [Observer(noise, frames, mottle) for mottle in (0.0, settings.mottle) for frames in (1, 20)]
    for diameter in DIAMETERS_MM:
        laws = {"gautherie": gautherie_heat(diameter * 1e-3), "calibrated-low": HEAT[0]}
        for law, heat in laws.items():
            for depth in DEPTHS_MM:
                if depth > diameter / 2:
                    footprint = solve_footprint(tissue, Tumour(diameter * 1e-3, depth * 1e-3, heat))
                    yield _row(law, heat, diameter, depth, footprint, observers)


def _row(
    law: str,
    heat: float,
    diameter: float,
    depth: float,
    footprint: Footprint,
    observers: list[Observer | PixelObserver],
) -> Row:
    scores = [round(each.auc(footprint), 4) for each in observers]
    width = footprint.half_width() * 1e3
    return Row(law, round(heat, 1), diameter, depth, round(footprint.peak, 4), round(width, 2), *scores)


class Observer:
    """The Hotelling observer: AUC = Phi(d / sqrt 2), d^2 = integral of |S(f)|^2 / N(f) over frequencies.

    S is the footprint's spectrum, N the noise power: white from the mean of ``frames`` frames of the
    camera, plus that of the perfusion patches of ``skin.MOTTLE`` scaled by ``mottle``.
    """

    def __init__(self, noise_celsius: float, frames: int, mottle: float) -> None:
        self._count = int(FIELD_MM / PITCH_MM)
        frequency = np.fft.fftfreq(self._count, PITCH_MM).astype(np.float64)
        self._noise = noise_celsius**2 / frames * PITCH_MM**2 + mottle**2 * _patch_power(frequency)

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


@dataclass(frozen=True)
class PixelObserver:
    """An observer that looks at one pixel, the warmest: AUC = Phi(contrast / (noise sqrt 2))."""

    noise_celsius: float
    frames: int

    def auc(self, footprint: Footprint) -> float:
        if not self.noise_celsius > 0:
            return 0.5 if footprint.peak == 0 else 1.0
        return 0.5 * (1.0 + erf(footprint.peak / (2.0 * self.noise_celsius / sqrt(self.frames))))


def _patch_power(frequency: FloatArray) -> FloatArray:
    """Power spectrum (degC2 mm2) of the patches: cubic B-splines with white coefficients."""
    total = np.zeros((len(frequency), len(frequency)))
    for spacing, spread in MOTTLE:
        fall = np.sinc(frequency * spacing) ** 8
        coefficient = (CELSIUS_PER_PERFUSION * spread / 0.48) ** 2
        total += coefficient * spacing**2 * fall[:, None] * fall[None, :]
    return total


def write(rows: list[Row], noise_celsius: float, folder: Path) -> list[Path]:
    """Write ``detectability.csv`` and ``.png`` into ``folder``; returns their paths."""
    files = [folder / "detectability.csv", folder / "detectability.png"]
    write_text(files[0], as_csv(rows))
    with written_aside(files[1]) as side:
        draw(rows, noise_celsius, side)
    return files


def as_csv(rows: list[Row]) -> str:
    """The table as CSV text."""
    names = list(asdict(rows[0]))
    lines = [",".join(names)]
    lines += [",".join(str(value) for value in asdict(row).values()) for row in rows]
    return "\n".join(lines) + "\n"


def draw(rows: list[Row], noise_celsius: float, path: Path) -> None:
    """Contrast and AUC against depth, one colour a diameter, with the noise of one frame and of 20."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    contrast, auc = figure.subplots(1, 2)
    for number, diameter in enumerate(DIAMETERS_MM):
        for law, line in (("gautherie", "--"), ("calibrated-low", "-")):
            chosen = [row for row in rows if row.diameter_mm == diameter and row.law == law]
            depths = [row.depth_mm for row in chosen]
            style: dict[str, Any] = {"color": f"C{number}", "linestyle": line}
            label = f"{diameter:g} mm" if line == "-" else None
            contrast.semilogy(depths, [max(row.contrast_celsius, 1e-4) for row in chosen], label=label, **style)
            auc.plot(depths, [row.auc_skin_20 for row in chosen], **style)
    for frames, dots in ((1, ":"), (20, "-.")):
        contrast.axhline(noise_celsius / sqrt(frames), color="black", linestyle=dots, linewidth=1)
        contrast.text(
            46, noise_celsius / sqrt(frames), f"noise, {frames} frame{'s' * (frames > 1)}", va="bottom", ha="right"
        )
    contrast.set(xlabel="depth of the tumour's centre, mm", ylabel="peak contrast, degC")
    contrast.legend(title="diameter (dashed: Gautherie's heat)")
    auc.set(xlabel="depth of the tumour's centre, mm", ylabel="AUC, ideal observer, 20 frames, healthy skin patchy")
    auc.set_ylim(0.48, 1.02)
    figure.savefig(path, dpi=110, metadata={"Software": None})
