"""A data set seen otherwise: only the torso, or only what is around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from thermocancer.cache import mapped_array
from thermocancer.data.cohort import CentiCelsius, ChangedCohort, Cohort, Frames, IntArray, centi_celsius
from thermocancer.errors import DataError
from thermocancer.files import fingerprint

Change = Callable[[CentiCelsius], CentiCelsius]


class MaskedCohort(ChangedCohort):
    """``source`` with every matrix changed by ``change``; each is computed once and kept in ``folder``."""

    def __init__(self, source: Cohort, change: Change, name: str, folder: Path) -> None:
        if source.kind != "celsius":
            raise DataError("colour images hold no degrees to find the body by", expected="a data set of matrices")
        super().__init__(source)
        self._change, self.name = change, name
        self.fingerprint = fingerprint(source.fingerprint, name)
        self._folder = folder / self.fingerprint[:32]
        self._views: dict[str, CentiCelsius] = {}

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        if view not in self._views:
            self._views[view] = self._changed(view)
        return np.asarray(self._views[view][rows])[:, np.newaxis]

    def _changed(self, view: str) -> CentiCelsius:
        """Every matrix of a view, changed: shape (n, height, width), mapped from disk."""

        def fill(matrices: CentiCelsius) -> None:
            for row in np.flatnonzero(self.present(view)):
                matrices[row] = self._change(centi_celsius(self.original, view, np.array([row]))[0])

        return mapped_array(self._folder / f"{view}.npy", (len(self.exams), *self.shape), np.uint16, fill)
