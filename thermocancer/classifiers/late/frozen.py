"""What a finished run makes of an exam before it decides: the features of its frozen parts.

A run of ``fuse`` on thermal, asymmetry or pixel features gives its table; one on encoder codes the
codes of each view, averaged over a coarse grid; a run of ``train-dit`` the backbone's features of
the frames, as their mean and how far the last one is from the first. Nothing here is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.index import AsymmetryIndex
from thermocancer.classifiers.network_model import NetworkModel
from thermocancer.classifiers.protocol import Fitted
from thermocancer.classifiers.sequence.features import SequenceFeatures
from thermocancer.classifiers.sequence.network import SequenceModel
from thermocancer.classifiers.sequence.readers import FrameReader
from thermocancer.classifiers.support import SupportVectors, check_present
from thermocancer.classifiers.tabular import FeatureTable, TabularModel
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.errors import ConfigError
from thermocancer.features.encoded import ViewEncoder, pooled_codes
from thermocancer.features.prepared import OncePerCohort


class Reader(Protocol):
    """Features of exams, one row each."""

    def of(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Shape (len(rows), p). Raises DataError when an exam lacks what the run reads."""


@dataclass(frozen=True, eq=False)
class TableReader:
    """A table of thermal, asymmetry or pixel features."""

    features: FeatureTable

    def of(self, source: Cohort, rows: IntArray) -> FloatArray:
        return self.features.of(source, rows)


@dataclass(frozen=True, eq=False)
class CodeReader:
    """The codes of each view, averaged over a coarse grid; with ``cache`` kept there."""

    encoders: Mapping[str, ViewEncoder]
    cache: Path | None = None

    def of(self, source: Cohort, rows: IntArray) -> FloatArray:
        parts = []
        for view, encoder in self.encoders.items():
            check_present(source, view, rows)
            parts.append(pooled_codes(encoder, source, view, rows, self.cache))
        return np.concatenate(parts, axis=1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class FrameSummary:
    """The backbone's frame features of a dynamic exam: their mean, and the last frame's less the first's."""

    reader: FrameReader
    indices: tuple[int, ...]
    cache: Path | None = None
    seed: int = 0
    _known: OncePerCohort[SequenceFeatures] = field(default_factory=OncePerCohort, repr=False)

    def of(self, source: Cohort, rows: IntArray) -> FloatArray:
        features = self._known.of(
            source, lambda each: SequenceFeatures(each, self.reader, self.indices, self.cache, self.seed)
        )
        return summarise(features.of(np.asarray(rows, dtype=np.int64)))


def summarise(frames: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Frame features (n, frames, p) as (n, 2 p): mean over the frames, and last less first."""
    exact = frames.astype(np.float64)
    return np.concatenate([exact.mean(axis=1), exact[:, -1] - exact[:, 0]], axis=1)


def kept_reader(fitted: Fitted, cache: Path | None = None) -> Reader:
    """The reader inside a run's kept classifier: what it learnt to decide is left aside.

    Raises ConfigError for a kind of classifier that has no features of its own.
    """
    model = getattr(fitted, "model", fitted)
    if isinstance(model, (TabularModel, AsymmetryIndex)):
        return TableReader(replace(model.features, cache=cache))
    if isinstance(model, SupportVectors):
        return CodeReader({each.view: each.encoder for each in model.views}, cache)
    if isinstance(model, NetworkModel):
        return CodeReader(model.encoders, cache)
    if isinstance(model, SequenceModel):
        return FrameSummary(model.reader, model.indices, cache)
    raise ConfigError(
        "this run has no features to combine",
        where="fuse.combine",
        expected="runs of fuse or train-dit on thermograms",
        found=type(model).__name__,
    )
