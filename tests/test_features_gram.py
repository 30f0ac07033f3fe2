"""Gram matrices in blocks give the decisions of scikit-learn's dense pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from thermocancer.features.gram import Gram, Part, Standardisation, gram_matrices


def toy_features(exams: int = 60, features: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    """Codes as a ReLU gives them: correlated, many zeros, some columns constant; and labels."""
    rng = np.random.default_rng(0)
    labels = (rng.random(exams) < 0.4).astype(np.int64)
    hidden = rng.normal(size=(exams, 6)) @ rng.normal(size=(6, features)) + rng.normal(size=(exams, features))
    codes = np.maximum(hidden + 0.3 * labels[:, None] * rng.normal(size=features), 0).astype(np.float32)
    codes[:, :50] = 0.0
    codes[:, 50:90] = 0.1  # not exact in binary: constant only up to rounding
    return codes, labels


CODES, LABELS = toy_features()
TRAIN, TEST = np.arange(0, 40), np.arange(40, 60)


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "linear"])
def test_kernels_are_scikit_learns(kernel: str) -> None:
    standard = StandardScaler().fit(CODES[TRAIN]).transform(CODES.astype(float))
    gamma = 1 / (standard.shape[1] * standard[TRAIN].var())
    settings = {} if kernel == "linear" else {"gamma": gamma} | ({"coef0": 0.0} if kernel == "sigmoid" else {})
    expected = pairwise_kernels(standard[TEST], standard[TRAIN], metric=kernel, **settings)
    (gram,) = gram_matrices(CODES, [Part(TRAIN)], 512)
    assert gram.kernel(kernel, TEST, TRAIN) == pytest.approx(expected, rel=1e-5, abs=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", ["sigmoid", "rbf", "linear"])
@pytest.mark.parametrize("columns", [4096, 257])
@pytest.mark.parametrize("C", [1.0, 10.0])
def test_decisions_are_those_of_the_dense_pipeline(kernel: str, columns: int, C: float) -> None:
    dense = make_pipeline(StandardScaler(), SVC(kernel=kernel, C=C)).fit(CODES[TRAIN].astype(float), LABELS[TRAIN])
    (gram,) = gram_matrices(CODES, [Part(TRAIN)], columns)
    machine = SVC(kernel="precomputed", C=C).fit(gram.kernel(kernel, TRAIN, TRAIN), LABELS[TRAIN])  # type: ignore[arg-type]
    ours = machine.decision_function(gram.kernel(kernel, TEST, TRAIN))  # type: ignore[arg-type]
    theirs = dense.decision_function(CODES[TEST].astype(float))
    assert np.array_equal(ours > 0, theirs > 0)
    assert ours == pytest.approx(theirs, abs=2e-3)  # libsvm stops at 1e-3; a last digit may change its path
    if kernel != "linear":
        assert gram.gamma == pytest.approx(dense[-1]._gamma, rel=1e-9)


def test_standardisation_is_scikit_learns() -> None:
    theirs = StandardScaler().fit(CODES[TRAIN])
    ours = Standardisation.of(CODES[TRAIN].astype(float))
    assert ours.mean == pytest.approx(theirs.mean_)
    assert ours.scale == pytest.approx(theirs.scale_)
    assert (ours.scale[:90] == 1).all()


def test_a_feature_that_hardly_moves_in_training_cannot_outweigh_the_others() -> None:
    wild = CODES.copy()
    wild[TEST, 50] = 1e3  # constant in training
    wild[TRAIN[0], 51] = 1e-3
    wild[TEST, 51] = 1e3
    (plain,) = gram_matrices(wild, [Part(TRAIN)])
    (clipped,) = gram_matrices(wild, [Part(TRAIN, clip=5.0)])
    (tame,) = gram_matrices(np.delete(wild, [50, 51], axis=1), [Part(TRAIN, clip=5.0)])
    assert plain.kernel("rbf", TEST, TRAIN).max() < 1e-6
    assert clipped.kernel("rbf", TEST, TRAIN) == pytest.approx(tame.kernel("rbf", TEST, TRAIN), abs=0.02)


def test_views_add_up() -> None:
    (whole,) = gram_matrices(CODES, [Part(TRAIN)])
    (first,), (second,) = gram_matrices(CODES[:, :1000], [Part(TRAIN)]), gram_matrices(CODES[:, 1000:], [Part(TRAIN)])
    joined: Gram = first + second
    assert joined.products == pytest.approx(whole.products, rel=1e-5, abs=1e-2)
    assert joined.gamma == pytest.approx(whole.gamma)


def test_several_parts_in_one_pass_are_as_one_by_one() -> None:
    parts = [Part(TRAIN), Part(TRAIN[::2]), Part(TEST)]
    together = gram_matrices(CODES, parts)
    for gram, part in zip(together, parts, strict=True):
        (alone,) = gram_matrices(CODES, [part])
        assert np.array_equal(gram.products, alone.products)


def test_features_without_variance_do_not_divide_by_zero() -> None:
    (gram,) = gram_matrices(np.ones((6, 10), np.float32), [Part(np.arange(4))])
    assert gram.gamma == 1.0
    assert not gram.products.any()
