"""What a network must beat: the classical inversion of the linear operator, and the hottest spot.

The difference of the two sides is explained by one source: its footprint, known up to its strength, in patches of
skin whose spectrum is that of other phantoms. The evidence of each place and depth, strength integrated out under a
Gaussian prior (which is Tikhonov's regularisation), is a matched filter for coloured noise (Kay 1998, Detection
Theory, section 5.4); the prior of places is that of the phantoms that were taught.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from thermocancer.locate import Cells, FloatArray
from thermocancer.locate.chest import CELL_MM, COLUMNS, ROWS
from thermocancer.locate.solving import RADII
from thermocancer.locate.training_set import Phantoms

DEPTH_STEPS = (13.0, 16.0, 19.0, 22.0, 25.0, 28.0, 32.0, 36.0, 42.0)
"""Depths (mm) that are tried."""

STRENGTH_CELSIUS = 1.0
"""Standard deviation of a footprint's peak before anything is seen."""


@dataclass(frozen=True)
class Inversion:
    """Templates (depths, ROWS, COLUMNS) of unit peak, the prior of places (ROWS, COLUMNS) and of depths.

    The noise is what sides of bodies differ by, half of them with a breast that a source has warmed as a whole: its
    ``spread`` (ROWS, COLUMNS) in degC, and its ``power`` in such units.
    """

    templates: FloatArray
    prior: FloatArray
    depth_prior: FloatArray
    spread: FloatArray
    power: FloatArray

    @classmethod
    def of(cls, phantoms: Phantoms, seed: int, count: int = 4000) -> Inversion:
        """Footprints, priors and noise of ``count`` of the phantoms that were taught."""
        exams = phantoms.exams(np.random.default_rng([seed, 33]), count, sick=1.0)
        rows, columns = exams.place.T
        prior, _, _ = np.histogram2d(rows, columns, (ROWS, COLUMNS), ((0, ROWS), (0, COLUMNS)))
        from scipy.ndimage import gaussian_filter

        prior = gaussian_filter(prior + prior[:, ::-1], 1.5) + 1e-9
        ends = [0.0, *(np.add(DEPTH_STEPS[:-1], DEPTH_STEPS[1:]) / 2), 99.0]
        which = np.digitize(exams.depth, ends) - 1
        peaked = exams.warmth / exams.warmth[:, :1]
        down = np.minimum(np.arange(ROWS), ROWS - np.arange(ROWS))[:, None] * CELL_MM
        across = np.minimum(np.arange(COLUMNS), COLUMNS - np.arange(COLUMNS))[None] * CELL_MM
        distance = np.hypot(down, across) * 1e-3
        # the fifty footprints whose depths are nearest to each that is tried
        nearest = [np.argsort(np.abs(exams.depth - depth), kind="stable")[:50] for depth in DEPTH_STEPS]
        shapes = [np.interp(distance, RADII, np.median(peaked[each], axis=0)) for each in nearest]
        share = np.bincount(which, minlength=len(DEPTH_STEPS)) / len(which)
        ones = np.ones((ROWS, COLUMNS))
        bare = cls(np.stack(shapes), prior / prior.sum(), share, ones, ones)
        others = phantoms.exams(np.random.default_rng([seed, 34]), count // 6, sick=0.5).frontal
        differences = np.array([bare.difference(each) for each in others])
        spread = np.sqrt(gaussian_filter((differences**2).mean(axis=0), 2.0)) + 0.02
        power = np.mean(np.abs(np.fft.fft2(differences / spread)) ** 2, axis=0) / (ROWS * COLUMNS)
        return replace(bare, spread=spread, power=gaussian_filter(power, 1.0, mode="wrap"))

    def posterior(self, frontal: Cells) -> tuple[FloatArray, float]:
        """One exam's (ROWS, COLUMNS, 2) as the network sees it: joint posterior (depths, ROWS, COLUMNS), and the log of
        the evidence for a source anywhere against none."""
        from scipy.special import log_ndtr

        difference, power = np.fft.fft2(self.difference(frontal) / self.spread), self.power
        spectra = np.conj(np.fft.fft2(self.templates))
        # a footprint is narrow beside the changes of ``spread``: the noise around it counts as that at its middle
        matched = np.real(np.fft.ifft2(spectra * difference / power)) / self.spread
        energy = (np.sum(np.abs(spectra) ** 2 / power, axis=(1, 2)) / (ROWS * COLUMNS))[:, None, None] / self.spread**2
        # strength integrated out; a source warms, so that the half of colder ones is left away
        spread = 1.0 / (energy + STRENGTH_CELSIUS**-2)
        middle = matched * spread
        log_evidence = 0.5 * middle**2 / spread + 0.5 * np.log(spread / STRENGTH_CELSIUS**2)
        log_evidence += np.log(2.0) + log_ndtr(middle / np.sqrt(spread))
        log_joint = log_evidence + np.log(self.prior) + np.log(self.depth_prior + 1e-9)[:, None, None]
        top = float(log_joint.max())
        joint = np.exp(log_joint - top)
        return joint / joint.sum(), top + float(np.log(joint.sum()))

    def difference(self, frontal: Cells) -> FloatArray:
        """One side less the other in degC where sources can be, (ROWS, COLUMNS)."""
        celsius, body = frontal[..., 0].astype(np.float64), frontal[..., 1] * frontal[:, ::-1, 1]
        support = self.prior > 0.02 * self.prior.max()
        difference = (celsius - celsius[:, ::-1]) * (body > 0.5)
        return np.asarray(np.clip(difference, -4, 4) * support)

    def depth_of(self, depths: FloatArray) -> float:
        """The median (mm) of a posterior over ``DEPTH_STEPS``."""
        return float(np.interp(0.5, np.cumsum(depths) - depths / 2, DEPTH_STEPS))

    def hottest(self, frontal: Cells, *, against_other_side: bool) -> tuple[float, float]:
        """Row and column of the warmest 13 mm of skin where sources can be, or of what is warmer than its mirror."""
        from scipy.ndimage import uniform_filter

        celsius = np.where(frontal[..., 1] > 0.5, frontal[..., 0], -6.0).astype(np.float64)
        if against_other_side:
            celsius = celsius - celsius[:, ::-1]
        warm = np.where(self.prior > 0.05 * self.prior.max(), uniform_filter(celsius, 3), -99.0)
        row, column = np.unravel_index(int(np.argmax(warm)), warm.shape)
        return float(row) + 0.5, float(column) + 0.5
