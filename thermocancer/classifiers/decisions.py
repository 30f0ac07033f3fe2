"""Decision functions as plain arrays: fitted with scikit-learn, kept and asked without it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from thermocancer.data.cohort import FloatArray, IntArray
from thermocancer.errors import DataError
from thermocancer.files import reading, written_aside

ARRAYS_FILE = "arrays.npz"


def write_arrays(folder: Path, arrays: dict[str, FloatArray]) -> None:
    """Write named arrays into ``folder``; equal arrays, equal bytes."""
    with written_aside(folder / ARRAYS_FILE) as side:
        np.savez(side, allow_pickle=False, **arrays)


def read_arrays(folder: Path) -> dict[str, FloatArray]:
    """Read what ``write_arrays`` wrote. Raises DataError when the file is missing or damaged."""
    path = folder / ARRAYS_FILE
    with (
        reading(path, "a fitted model cannot be read", hint="train the run again"),
        path.open("rb") as handle,  # opened here: numpy leaves a damaged archive open that it opens itself
        np.load(handle, allow_pickle=False) as content,
    ):
        return {name: content[name] for name in content.files}


@dataclass(frozen=True)
class LinearDecision:
    """weights . (x - mean) / scale + intercept: shapes (p,), (p,), (p,) and ()."""

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: FloatArray

    def decide(self, table: FloatArray) -> FloatArray:
        """Decision values of a table (n, p), shape (n,): the logit of the probability of sick."""
        return np.asarray((table - self.mean) / self.scale @ self.weights + self.intercept)


@dataclass(frozen=True)
class KernelDecision:
    """An RBF kernel machine on principal components.

    mean and scale (p,), axes (c, p), vectors (s, c), dual (s,), intercept () and gamma ().
    """

    mean: FloatArray
    scale: FloatArray
    axes: FloatArray
    vectors: FloatArray
    dual: FloatArray
    intercept: FloatArray
    gamma: FloatArray

    def decide(self, table: FloatArray) -> FloatArray:
        """Decision values of a table (n, p), shape (n,)."""
        components = (table - self.mean) / self.scale @ self.axes.T  # (n, c)
        apart = ((components[:, None, :] - self.vectors[None, :, :]) ** 2).sum(axis=2)  # (n, s)
        return np.asarray(np.exp(-self.gamma * apart) @ self.dual + self.intercept)


def fit_logistic(
    table: FloatArray, labels: IntArray, C: float, weights: FloatArray | None = None, *, standardise: bool = True
) -> LinearDecision:
    """L2-regularised logistic regression, table (n, p), labels and weights (n,).

    Columns are standardised, or taken as they are where the caller has given each its weight.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if not standardise:
        plain = LogisticRegression(C=C, max_iter=2000).fit(table, labels, weights)
        nothing = np.zeros(table.shape[1])
        return LinearDecision(nothing, nothing + 1.0, plain.coef_[0], np.asarray(plain.intercept_[0]))
    scaler = StandardScaler().fit(table)
    model = LogisticRegression(C=C, max_iter=2000).fit(scaler.transform(table), labels, weights)
    return LinearDecision(scaler.mean_, scaler.scale_, model.coef_[0], np.asarray(model.intercept_[0]))


def fit_pca_svm(
    table: FloatArray, labels: IntArray, components: int, C: float, weights: FloatArray | None = None
) -> KernelDecision:
    """Standardised columns, principal components (at most ``components``), RBF SVM with gamma 'scale'; table (n, p)."""
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    kept = min(components, len(table) - 1, table.shape[1])
    scaler = StandardScaler().fit(table)
    standard = scaler.transform(table)
    pca = PCA(kept, svd_solver="full").fit(standard)  # its own mean is 0
    reduced = standard @ pca.components_.T  # (n, kept)
    gamma = 1.0 / (kept * max(float(reduced.var()), 1e-12))
    model = SVC(C=C, kernel="rbf", gamma=gamma).fit(reduced, labels, weights)
    return KernelDecision(
        scaler.mean_, scaler.scale_, pca.components_, model.support_vectors_, model.dual_coef_[0],
        np.asarray(model.intercept_[0]), np.asarray(gamma),
    )  # fmt: skip


def arrays_of(decision: LinearDecision | KernelDecision) -> dict[str, FloatArray]:
    """The arrays of a decision function by name."""
    return {name: np.asarray(value) for name, value in asdict(decision).items()}


def decision_from(arrays: dict[str, FloatArray]) -> LinearDecision | KernelDecision:
    """The decision function that ``arrays_of`` took apart."""
    kind = KernelDecision if "vectors" in arrays else LinearDecision
    try:
        return kind(**{name: arrays[name] for name in kind.__dataclass_fields__})
    except KeyError as error:
        raise DataError("a fitted model lacks an array", found=error, hint="train the run again") from error
