"""Random numbers whose spread can be turned down: how much people and rooms differ from one another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Variation:
    """Draws around their middle: ``scale`` 1 as stated, 0 always the middle. Takes as many numbers at any scale."""

    rng: np.random.Generator
    scale: float

    def normal(self, mean: float, spread: float, low: float = -np.inf, high: float = np.inf) -> float:
        """A normal number, clipped to ``low``..``high``."""
        return float(np.clip(mean + self.scale * self.rng.normal(0.0, spread), low, high))

    def uniform(self, low: float, high: float) -> float:
        """An even number between ``low`` and ``high``."""
        middle = (low + high) / 2
        return float(middle + self.scale * (self.rng.uniform(low, high) - middle))
