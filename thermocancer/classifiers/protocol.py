"""What a classifier is to cross-validation, audit and prediction: a recipe, and what it has fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from thermocancer.data.cohort import Cohort, FloatArray, IntArray


class Fitted(Protocol):
    """A classifier that has seen its training rows."""

    @property
    def threshold(self) -> float:
        """A score at or above it means sick; chosen on inner data of the training rows only."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """One entry an epoch; empty where nothing is trained by epochs."""

    def scores(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Probability of sick in [0, 1] for each row of ``source`` (not only the training source)."""

    def save(self, folder: Path) -> None:
        """Write everything ``load_fitted`` needs, without pickle."""


class Recipe(Protocol):
    """How a classifier is made. Everything fitted (encoder, scaler, PCA, calibration) is fitted inside ``fit``."""

    @property
    def name(self) -> str: ...

    def fit(self, source: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Fitted:
        """Fit on ``rows`` with ``labels`` (shape (len(rows),), which an audit may have permuted).

        ``fold`` names the outer fold (``1.3``, ``test``, ``all``) so that encoders trained for it can be found.
        """
