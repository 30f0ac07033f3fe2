"""Gram matrices of encoder features for the training parts of a fold: computed together, kept on disk.

They do not depend on the kernel, its parameters or the threshold, so that runs which differ in
those alone share them, and runs with 1, 3 and 5 views share those of the views they have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thermocancer.cache import keep_arrays, kept_arrays
from thermocancer.classifiers.encoders import Encoders
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.features.encoded import VERSION, all_codes
from thermocancer.features.gram import Gram, Part, gram_matrices
from thermocancer.features.residual import NuisanceFit
from thermocancer.files import fingerprint

KEEP_IN_MEMORY = 8


@dataclass(frozen=True)
class Grams:
    """Gram matrices by encoder, data set, view and training rows."""

    encoders: Encoders
    views: tuple[str, ...]
    residualise: bool
    cache: Path
    clip: float | None = None
    _known: dict[str, Gram] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_known": {}}

    def part(self, source: Cohort, rows: IntArray, labels: IntArray) -> Part:
        """What a training part's standardisation (and residualisation) is fitted on."""
        if not self.residualise:
            return Part(rows, self.clip)
        nuisance = NuisanceFit.of(source, rows, labels)
        return Part(
            rows, self.clip, nuisance, nuisance.scaling.design(source, np.arange(len(source.exams), dtype=np.int64))
        )

    def prepare(self, source: Cohort, fold: str, parts: Sequence[Part]) -> None:
        """Compute what is not known yet for some training parts, each view's codes being made once."""
        for view in self.views:
            keys = {self._key(source, view, fold, part): part for part in parts}
            missing = {key: part for key, part in keys.items() if self._find(source, key) is None}
            if missing:
                self._compute(source, view, fold, missing)

    def of(self, source: Cohort, fold: str, part: Part) -> Gram:
        """The Gram matrix of all exams over all views, standardised on one training part."""
        found: list[Gram] = []
        for view in self.views:
            key = self._key(source, view, fold, part)
            found.append(self._find(source, key) or self._compute(source, view, fold, {key: part})[0])
        first, *others = found
        for gram in others:
            first = first + gram
        return first

    def _key(self, source: Cohort, view: str, fold: str, part: Part) -> str:
        healthy = None if part.nuisance is None else part.nuisance.healthy.tolist()
        identity = self.encoders.identity(view, fold)
        return fingerprint("gram", VERSION, identity, source.fingerprint, view, part.rows.tolist(), healthy, self.clip)

    def _path(self, key: str) -> Path:
        return self.cache / "gram" / f"{key[:32]}.npz"

    def _find(self, source: Cohort, key: str) -> Gram | None:
        if key not in self._known:
            exams = len(source.exams)
            wanted = {"products": ((exams, exams), np.float32), "variance": ((), np.float64)}
            found = kept_arrays(self._path(key), wanted)
            if found is not None:
                self._remember(key, Gram(found["products"].astype(np.float64), float(found["variance"])))
        return self._known.get(key)

    def _compute(self, source: Cohort, view: str, fold: str, parts: Mapping[str, Part]) -> list[Gram]:
        encoder = self.encoders.load(source, view, fold)
        with all_codes(encoder, source, view, self.cache, keep=self.encoders.shared) as codes:
            grams = gram_matrices(codes, list(parts.values()))
        for key, gram in zip(parts, grams, strict=True):
            keep_arrays(self._path(key), products=gram.products.astype(np.float32), variance=gram.variance)
            self._remember(key, gram)
        return grams

    def _remember(self, key: str, gram: Gram) -> None:
        self._known[key] = gram
        while len(self._known) > KEEP_IN_MEMORY * len(self.views):
            del self._known[next(iter(self._known))]
