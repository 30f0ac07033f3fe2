"""Matrices reduced to a few pixels by area averaging: the plainest image features there are."""

from __future__ import annotations

import numpy as np

from thermocancer.data.cohort import FloatArray


def area_weights(size: int, reduced: int) -> FloatArray:
    """Matrix (reduced, size) that averages ``size`` samples over ``reduced`` equal stretches.

    A sample that lies across an edge counts in both stretches, by its share. Also enlarges
    (``reduced`` above ``size``), where it repeats samples.
    """
    edges = np.linspace(0.0, size, reduced + 1)
    starts, ends = edges[:-1, None], edges[1:, None]
    sample = np.arange(size)[None, :]
    overlap = np.clip(np.minimum(ends, sample + 1) - np.maximum(starts, sample), 0.0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)


def reduce_area(images: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Average images (n, height, width) down to (n, rows, columns)."""
    rows = area_weights(images.shape[1], shape[0])
    columns = area_weights(images.shape[2], shape[1])
    return np.asarray(rows @ images @ columns.T)
