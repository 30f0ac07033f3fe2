"""Is this exam like those others? Shared by ``predict`` (training exams), ``filter`` and ``doctor`` (all other exams).

Two plain rules on numbers measured without the breast and on the body's own temperatures: a number
outside the range of the other exams, widened by a tenth on each side; and a Mahalanobis distance
(all numbers together, covariance shrunk) beyond 1.1 times the largest among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from thermocancer.data.cohort import FloatArray
from thermocancer.data.nuisance import measure_matrix
from thermocancer.files import Json
from thermocancer.thermal.regions import torso_mask

MARGIN = 0.1
NOT_COMPARED = ("marker_celsius",)
"""Unknown wherever there is no marker; its area and contrast say the rest."""


class Doubt(TypedDict):
    """How unlike the training exams one is: ``reasons`` in words, its ``distance`` and the ``limit`` that it is held
    against; None where nothing was compared, and ``note`` says why.
    """

    flag: bool
    reasons: list[str]
    distance: float | None
    limit: float | None
    note: str


def uncompared(note: str) -> Doubt:
    """No doubt, because there was nothing to compare with."""
    return {"flag": False, "reasons": [], "distance": None, "limit": None, "note": note}


@dataclass(frozen=True)
class Reference:
    """What the training exams look like: ``values`` (exams, variables), and the layouts they came in."""

    names: tuple[str, ...]
    values: FloatArray
    layouts: tuple[str, ...]

    def as_json(self) -> Json:
        """For a file; ``from_json`` reads it. What is not a number is null there."""
        values = [[float(each) if np.isfinite(each) else None for each in row] for row in self.values]
        return {"names": list(self.names), "values": values, "layouts": list(self.layouts)}

    @classmethod
    def from_json(cls, content: Json) -> Reference:
        """What ``as_json`` gave. Raises ValueError where the table is not one value a name."""
        names, values = tuple(map(str, content["names"])), np.array(content["values"], dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(names):
            raise ValueError("a damaged table")
        return cls(names, values, tuple(map(str, content["layouts"])))


def describe(celsius: FloatArray) -> dict[str, float]:
    """The numbers that are compared, of one frontal (or first) view in degC, (height, width), NaN where missing."""
    measured = {name: value for name, value in measure_matrix(celsius).items() if name not in NOT_COMPARED}
    body = celsius[torso_mask(celsius)]
    low, middle, high = np.percentile(body, [5, 50, 95])
    return measured | {"body_5th": float(low), "body_median": float(middle), "body_95th": float(high)}


def make_reference(matrices: Iterable[FloatArray], layouts: Iterable[str]) -> Reference:
    """Measure training exams, one matrix (height, width) in degC each."""
    measured = [describe(celsius) for celsius in matrices]
    names = tuple(sorted(measured[0]))
    values = np.array([[each[name] for name in names] for each in measured])
    return Reference(names, values, tuple(sorted(set(layouts))))


def judge_novelty(reference: Reference, celsius: FloatArray, layout: str) -> Doubt:
    """What speaks against answering for one frontal (or first) view in degC, (height, width)."""
    return judge_described(reference, describe(celsius), layout)


def judge_described(reference: Reference, described: Mapping[str, float], layout: str = "") -> Doubt:
    """The same for an exam that ``describe`` has measured; no ``layout``, no question of formats."""
    new = np.array([described[name] for name in reference.names])
    reasons = []
    for name, value, column in zip(reference.names, new, reference.values.T, strict=True):
        known = column[np.isfinite(column)]
        if not np.isfinite(value) or known.size < 2:
            continue
        low, high = float(known.min()), float(known.max())
        margin = MARGIN * (high - low)
        if not low - margin <= value <= high + margin:
            title = name.replace("_", " ")
            reasons.append(f"{title} {value:.3g} is outside {low:.3g} to {high:.3g} of the training exams")
    if reference.layouts and any(reference.layouts) and layout and layout not in reference.layouts:
        reasons.append(f"acquisition format {layout} was not among the training exams")
    distance, limit = distance_to(reference.values, new)
    if distance > limit:
        reasons.append(f"taken together it lies at distance {distance:.1f}, training exams reach {limit:.1f}")
    return {"flag": bool(reasons), "reasons": reasons, "distance": distance, "limit": limit, "note": ""}


def distance_to(values: FloatArray, new: FloatArray) -> tuple[float, float]:
    """Mahalanobis distance of ``new`` (k,) from ``values`` (n, k), and 1.1 times the largest among them."""
    middle = np.nanmedian(np.where(np.isfinite(values).any(axis=0), values, 0.0), axis=0)
    filled = np.where(np.isfinite(values), values, middle)
    spread = filled.std(axis=0)
    keep = spread > 0
    standard = (filled[:, keep] - filled[:, keep].mean(axis=0)) / spread[keep]
    shrunk = 0.7 * np.cov(standard, rowvar=False).reshape(keep.sum(), keep.sum()) + 0.3 * np.eye(int(keep.sum()))
    inverse = np.linalg.inv(shrunk)
    one = (np.where(np.isfinite(new), new, middle)[keep] - filled[:, keep].mean(axis=0)) / spread[keep]
    own = np.sqrt(np.einsum("ij,jk,ik->i", standard, inverse, standard))
    return float(np.sqrt(one @ inverse @ one)), float(1.1 * own.max())
