"""A data set seen through ``features.relative`` and ``features.torso_only``: remedies before any feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import CentiCelsius, ChangedCohort, Cohort, Frames, IntArray
from thermocancer.errors import ConfigError
from thermocancer.features.body import skin_of
from thermocancer.files import fingerprint
from thermocancer.thermal.regions import torso_only

REFERENCE_CENTI = 3000
"""With ``relative`` every body's median becomes 30 degC, so that values stay inside fixed ranges."""


class PreparedCohort(ChangedCohort):
    """``source`` with its matrices changed."""

    def __init__(self, source: Cohort, *, relative: bool, torso_only: bool) -> None:
        super().__init__(source)
        self.relative, self.torso_only = relative, torso_only

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.original.fingerprint, self.relative, self.torso_only)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        matrices = super().frames(view, rows, indices)
        flat = matrices.reshape(-1, *matrices.shape[2:])
        return np.stack([self._prepare(each) for each in flat]).reshape(matrices.shape) if len(flat) else matrices

    def _prepare(self, centi: CentiCelsius) -> CentiCelsius:
        kept = torso_only(centi) if self.torso_only else centi
        if not self.relative:
            return kept
        median = int(np.median(centi[skin_of(centi / 100.0)]))
        return np.clip(kept.astype(np.int64) + REFERENCE_CENTI - median, 0, 65535).astype(np.uint16)


def prepare(source: Cohort, options: FeaturesSection) -> Cohort:
    """``source`` itself when nothing is asked for, else seen through the options.

    Raises ConfigError when degrees are needed and the data set holds colour images.
    """
    if not (options.relative or options.torso_only):
        return source
    if source.kind != "celsius":
        raise ConfigError(
            "colour images hold no degrees",
            where="features.relative, features.torso_only",
            hint="build the data set with dataset.source: matrices, or leave both options out",
        )
    return PreparedCohort(source, relative=options.relative, torso_only=options.torso_only)
