"""Can a heat map be trusted? It must change when the model is made stupid, and on the phantom point at the tumour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import FloatArray
from thermocancer.evaluation.statistics.intervals import midranks, wilson

ALIKE = 0.5
"""Maps of the trained and of a randomised model that agree more than this say little about the training."""


def map_similarity(first: FloatArray, second: FloatArray) -> float:
    """Spearman's rank correlation of two maps of one shape; 0 where one of them is flat.

    The randomisation check of Adebayo et al. 2018 (NeurIPS): a map that stays the same when the
    model has learnt nothing explains the picture, not the model.
    """
    one, other = midranks(first.ravel()), midranks(second.ravel())
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def judge_similarities(similarities: Sequence[float]) -> dict[str, Any]:
    """The mean over exams, and whether the check is passed."""
    mean = float(np.mean(similarities)) if len(similarities) else None
    return {"exams": len(similarities), "mean_rank_correlation": mean, "passed": mean is not None and mean < ALIKE}


def read_mask(path: Path) -> npt.NDArray[np.bool_] | None:
    """The true footprint of a simulated tumour, bool (height, width); None where there is none."""
    if not path.exists():
        return None
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return None if image is None else image > 0


def points_at(peak: tuple[int, int], mask: npt.NDArray[np.bool_], tolerance: float = 0.05) -> bool:
    """True when the peak lies on the mask, or within ``tolerance`` (share of the height) of it.

    The pointing game of Zhang et al. 2016, with its tolerance in place of 15 pixels.
    """
    rows, columns = np.nonzero(mask)
    distance = np.hypot(rows - peak[0], columns - peak[1]).min()
    return bool(distance <= tolerance * mask.shape[0])


def judge_pointing(hits: Sequence[bool], chances: Sequence[float]) -> dict[str, Any]:
    """Share of maps that point at the tumour, beside what a random point on the body would score."""
    return {
        "exams": len(hits),
        "hits": int(sum(hits)),
        "share": wilson(int(sum(hits)), len(hits)).as_dict(),
        "by_chance": float(np.mean(chances)) if len(chances) else None,
    }


def chance_to_hit(mask: npt.NDArray[np.bool_], torso: npt.NDArray[np.bool_], tolerance: float = 0.05) -> float:
    """Share of the body on which a random peak would count as pointing at the mask."""
    import cv2

    reach = max(1, round(tolerance * mask.shape[0]))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(mask.astype(np.uint8), disc) > 0
    return float((near & torso).sum() / max(int(torso.sum()), 1))
