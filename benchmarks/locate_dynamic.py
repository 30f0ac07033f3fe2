"""What a dynamic exam could add at most: ideal observer and Cramer-Rao bound of depth, one frame, 20 frames, both.

python benchmarks/locate_dynamic.py

The linear model of the phantom: one patchy field of perfusion moves the static frame and every frame of the recovery,
each by its own gain; the source adds its own footprint to each; every frame has the camera's noise. In that model two
frames with different gains take the patches away, so this is a bound: in people more than one thing is patchy.
"""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt

import numpy as np
import numpy.typing as npt

from thermocancer.locate.posterior import NOISE_CELSIUS, faded
from thermocancer.phantom.contrast import Cooling, Tumour, solve_footprint
from thermocancer.phantom.detectability import FIELD_MM, PITCH_MM, patch_power
from thermocancer.phantom.recovery import CONVECTION, PADDING, PERFUSION, tabulate
from thermocancer.phantom.solver import Surroundings
from thermocancer.phantom.tissue import TISSUES

Array = npt.NDArray[np.float64]
COOLINGS = {
    "the phantom's fan (1.5 times the still air, .35 degC below the room, 210 s)": (1.5, 0.35, 210.0),
    "a strong fan (h 40, 17 degC, 300 s)": (4.0, 4.0, 300.0),
}
DIAMETER, HEAT = 0.018, 3e5
PRIOR = {"depth": 0.009, "heat": 0.8, "diameter": 0.005}
"""What is known beforehand, as standard deviations: of depth and diameter in m, of the logarithm of heat."""


def exam(speed: float, colder: float, seconds: float) -> Cooling:
    still = TISSUES["layers-A-skin"]
    return Cooling(Surroundings(still.convection * speed, still.ambient_celsius - colder), seconds, 20, 15.0)


def gains(cooling: Cooling) -> Array:
    """degC by which the static frame and each of 20 move as perfusion grows e-fold, (21): middle of the breast."""
    table = tabulate(TISSUES["layers-A-skin"], 0.005, 1 / 0.08, cooling)
    at = len(PADDING) - 1, int(np.argmin(np.abs(CONVECTION - 10.0)))
    low, high = 2, 3  # .8 and 1.3 times
    deficit = np.einsum("rp,rt->pt", table.shapes[(slice(None), *at)], table.courses)
    frames = table.steady[at][:, None] - deficit
    both = np.concatenate([table.steady[at][:, None], frames], axis=1)
    return np.asarray((both[high] - both[low]) / np.log(PERFUSION[high] / PERFUSION[low]))


def spectra(tumour: Tumour, cooling: Cooling) -> Array:
    """Spectrum of the source in the static frame and in each of 20, (21, frequencies)."""
    tissue = TISSUES["layers-A-skin"]
    footprint = solve_footprint(tissue, tumour, cooling=cooling, skin_radius=max(0.08, tissue.depth / 0.85))
    count = int(FIELD_MM / PITCH_MM / 3)
    axis = (np.arange(count) - count // 2) * 3 * PITCH_MM * 1e-3
    distance = np.hypot(axis[:, None], axis[None])
    frames = np.concatenate([footprint.steady[None], footprint.course])
    maps = np.array([np.interp(distance, footprint.radius, each, right=0.0) * faded(distance) for each in frames])
    return np.asarray(np.fft.fft2(maps).reshape(len(maps), -1) * (3 * PITCH_MM) ** 2)


def information(signals: list[Array], gain: Array, used: Array) -> Array:
    """Fisher information of signals (each (21, frequencies)) about their amplitudes, by the frames in ``used``."""
    count = int(FIELD_MM / PITCH_MM / 3)
    white, field = (
        NOISE_CELSIUS**2 * PITCH_MM**2,
        patch_power(np.fft.fftfreq(count, 3 * PITCH_MM).astype(np.float64), 1.0).ravel(),
    )
    g = gain[used]
    total = np.zeros((len(signals), len(signals)))
    # the inverse of white 1 + field g g' by Sherman and Morrison
    shrink = field / (white + field * float(g @ g))
    for i, first in enumerate(signals):
        for j, second in enumerate(signals):
            plain = np.sum(np.conj(first[used]) * second[used], axis=0)
            along = np.conj(g @ first[used]) * (g @ second[used])
            total[i, j] = float(np.real(plain - shrink * along).sum()) / white
    return total / (count * 3 * PITCH_MM) ** 2


def main() -> None:
    used = {"static": np.arange(1), "20 frames": np.arange(1, 21), "both": np.arange(21)}
    for words, how in COOLINGS.items():
        cooling = exam(*how)
        gain = gains(cooling)
        print(f"\n{words}: gains {gain[0]:.2f} at rest, {gain[1]:.2f} as it stops, {gain[-1]:.2f} at the end\n")
        print(
            "| depth, mm | peak, degC | AUC static | AUC frames | AUC both | sd of depth, mm: static | frames | both |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for depth in (0.015, 0.020, 0.025, 0.030, 0.035):
            middle = Tumour(DIAMETER, depth, HEAT)
            at = spectra(middle, cooling)
            steps = [replace(middle, depth=depth + 1e-3), replace(middle, heat=HEAT * 1.1)]
            steps.append(replace(middle, diameter=DIAMETER + 1e-3))
            slopes = [
                (spectra(each, cooling) - at) / size
                for each, size in zip(steps, (1e-3, np.log(1.1), 1e-3), strict=True)
            ]
            prior = np.diag([1 / PRIOR[name] ** 2 for name in ("depth", "heat", "diameter")])
            aucs, bounds = [], []
            for frames in used.values():
                strength = float(information([at], gain, frames)[0, 0])
                aucs.append(f"{0.5 * (1 + erf(sqrt(strength) / 2)):.3f}")
                bounds.append(f"{1e3 * sqrt(np.linalg.inv(information(slopes, gain, frames) + prior)[0, 0]):.1f}")
            peak = float(solve_footprint(TISSUES["layers-A-skin"], middle, skin_radius=0.08).peak)
            print(f"| {depth * 1e3:.0f} | {peak:.2f} | {' | '.join(aucs)} | {' | '.join(bounds)} |")


if __name__ == "__main__":
    main()
