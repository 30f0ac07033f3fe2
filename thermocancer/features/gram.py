"""Inner products of standardised features, summed over blocks of columns.

A support vector machine needs its features only through inner products of exams. Those are sums over features,
so they can be added up block by block and view by view: the features of one view are all that is ever held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.features.residual import NuisanceFit

KernelName = Literal["sigmoid", "rbf", "linear"]

COLUMNS = 4096  # features of one block: with 290 exams 10 MB in double precision


@dataclass(frozen=True)
class Standardisation:
    """Mean and scale of each feature over training exams, both (p,).

    As scikit-learn's StandardScaler: the scale is the standard deviation (of the n, not n - 1), and 1 for a feature
    that is constant up to rounding. ``variance`` is what the standardised features have left, (p,): 1, or about 0
    where constant. With ``clip`` they are limited to so many standard deviations: a feature that hardly ever moves
    in training may be thousands of them off elsewhere.
    """

    mean: FloatArray
    scale: FloatArray
    variance: FloatArray
    clip: float | None = None

    @classmethod
    def of(cls, training: FloatArray, clip: float | None = None) -> Standardisation:
        """Fit on training exams (n, p) in double precision."""
        mean, variance = training.mean(axis=0), training.var(axis=0)
        rounding = len(training) * np.finfo(np.float64).eps
        constant = variance <= rounding * variance + (rounding * mean) ** 2
        scale = np.where(constant, 1.0, np.sqrt(variance))
        fitted = cls(mean, scale, variance / scale**2, clip)
        return fitted if clip is None else replace(fitted, variance=fitted.apply(training).var(axis=0))

    def apply(self, features: FloatArray) -> FloatArray:
        """Standardise features (n, p)."""
        return standardised(features, self.mean, self.scale, self.clip)


def standardised(features: FloatArray, mean: FloatArray, scale: FloatArray, clip: float | None) -> FloatArray:
    """Features (n, p) less their mean, over their scale, within +- ``clip``."""
    standard = (features - mean) / scale
    return standard if clip is None else np.clip(standard, -clip, clip, out=standard)


@dataclass(frozen=True)
class Part:
    """The exams that a standardisation is fitted on: ``rows`` (m,).

    With ``nuisance`` features are first freed of what it adds to them, as learnt from the healthy exams among
    ``rows``; ``design`` (n, k) is the standardised nuisance of all exams. ``clip`` is that of the standardisation.
    """

    rows: IntArray
    clip: float | None = None
    nuisance: NuisanceFit | None = None
    design: FloatArray | None = None

    def cleaned(self, block: FloatArray) -> FloatArray:
        """Features (n, b) of all exams without what nuisance adds to them."""
        if self.nuisance is None or self.design is None:
            return block
        return block - self.design @ self.nuisance.coefficients(block[self.nuisance.healthy])


@dataclass(frozen=True)
class Gram:
    """Inner products of all pairs of exams, (n, n), and the summed variance of the standardised features."""

    products: FloatArray
    variance: float

    def __add__(self, other: Gram) -> Gram:
        """The Gram matrix of both sets of features side by side."""
        return Gram(self.products + other.products, self.variance + other.variance)

    @property
    def gamma(self) -> float:
        """scikit-learn's ``gamma="scale"``: 1 / (number of features x their mean variance)."""
        return 1.0 / self.variance if self.variance > 0 else 1.0

    def kernel(self, name: KernelName, rows: IntArray, columns: IntArray) -> FloatArray:
        """Kernel values between two sets of exams, shape (len(rows), len(columns))."""
        squares = np.diagonal(self.products)
        return kernel_values(name, self.gamma, self.products[np.ix_(rows, columns)], squares[rows], squares[columns])


def kernel_values(
    name: KernelName, gamma: float, products: FloatArray, row_squares: FloatArray, column_squares: FloatArray
) -> FloatArray:
    """From inner products (n, m) and squared norms (n,), (m,) to a kernel, with scikit-learn's ``coef0`` of 0."""
    if name == "linear":
        return products
    if name == "sigmoid":
        return np.tanh(gamma * products)
    apart = row_squares[:, None] + column_squares[None, :] - 2.0 * products
    return np.exp(-gamma * np.maximum(apart, 0.0))


def gram_matrices(features: Float32Array, parts: Sequence[Part], columns: int = COLUMNS) -> list[Gram]:
    """One Gram matrix a part, over all exams, from features (n, p); one pass, whatever the number of parts.

    Each block is standardised in double precision and multiplied in single; the products of blocks are added in
    double precision and rounded to single at the end (a relative error of 1e-7).
    """
    sums, variances = [np.zeros((len(features), len(features))) for _ in parts], [0.0 for _ in parts]
    for start in range(0, features.shape[1], columns):
        block = np.asarray(features[:, start : start + columns], dtype=np.float64)
        for number, part in enumerate(parts):
            cleaned = part.cleaned(block)
            standardisation = Standardisation.of(cleaned[part.rows], part.clip)
            standard = standardisation.apply(cleaned).astype(np.float32)
            sums[number] += standard @ standard.T
            variances[number] += float(standardisation.variance.sum())
    rounded = (products.astype(np.float32).astype(np.float64) for products in sums)
    return [Gram(products, variance) for products, variance in zip(rounded, variances, strict=True)]
