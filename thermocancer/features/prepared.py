"""Cohorts made ready before any feature: seen through ``features.relative`` and ``features.torso_only``.

Every fold asks for the same cohort again, so what was made of one is held for the next (``OncePerCohort``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import BoolArray, CentiCelsius, ChangedCohort, Cohort, Frames, IntArray
from thermocancer.errors import ConfigError
from thermocancer.features.thermal import skin_of
from thermocancer.files import fingerprint
from thermocancer.thermal.regions import torso_only

REFERENCE_CENTI = 3000
"""With ``relative`` every body's median becomes 30 degC, so that values stay inside fixed ranges."""

Made = TypeVar("Made")


class OncePerCohort(Generic[Made]):
    """What was made of the last four cohorts, told apart by identity (a cohort's content never changes).

    Cohorts are kept alive with what was made of them, so an identity cannot be taken over by another one.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Cohort, Made]] = {}

    def __getstate__(self) -> dict[str, object]:
        """What is known stays in this process: another one has other cohorts."""
        return {"_known": {}}

    def of(self, cohort: Cohort, make: Callable[[Cohort], Made]) -> Made:
        """What is known of ``cohort``, or else ``make(cohort)``."""
        entry = self._known.get(id(cohort))
        if entry is None:
            entry = self._known[id(cohort)] = cohort, make(cohort)
            while len(self._known) > 4:
                del self._known[next(iter(self._known))]
        return entry[1]


class PreparedCohort(ChangedCohort):
    """A cohort with its matrices changed."""

    def __init__(self, cohort: Cohort, *, relative: bool, torso_only: bool) -> None:
        super().__init__(cohort)
        self.relative, self.torso_only = relative, torso_only

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.original.fingerprint, self.relative, self.torso_only)

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        matrices = super().frames(view, rows, indices)
        flat, masks = matrices.reshape(-1, *matrices.shape[2:]), self.masks(view, rows, indices)
        missing = [None] * len(flat) if masks is None else list(masks.reshape(flat.shape))
        prepared = [self._prepare(*each) for each in zip(flat, missing, strict=True)]
        return np.stack(prepared).reshape(matrices.shape) if prepared else matrices

    def _prepare(self, centi: CentiCelsius, missing: BoolArray | None) -> CentiCelsius:
        kept = torso_only(centi, missing) if self.torso_only else centi
        if not self.relative:
            return kept
        celsius = centi / 100.0
        if missing is not None:
            celsius[missing] = np.nan
        median = int(np.median(centi[skin_of(celsius)]))
        return np.clip(kept.astype(np.int64) + REFERENCE_CENTI - median, 0, 65535).astype(np.uint16)


def prepare(cohort: Cohort, options: FeaturesSection) -> Cohort:
    """``cohort`` itself when nothing is asked for, else seen through the options.

    Raises ConfigError when degrees are needed and the data set holds colour images.
    """
    if not (options.relative or options.torso_only):
        return cohort
    if cohort.kind != "celsius":
        raise ConfigError(
            "colour images hold no degrees", where="features.relative, features.torso_only",
            hint="build the data set with dataset.source: matrices, or leave both options out",
        )  # fmt: skip
    return PreparedCohort(cohort, relative=options.relative, torso_only=options.torso_only)
