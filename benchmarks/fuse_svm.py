"""SVM on the encoder features of five views: the original recipe beside ours.

The original concatenates the features of all views, standardises them and fits scikit-learn's
``SVC(kernel="sigmoid")``; ours adds up Gram matrices view by view. Both run here on the same
synthetic codes, in processes of their own with one BLAS thread, at a size where both fit; then ours
alone at full size: 290 exams of 5 x 614,400 features (the original needs about 24 GB there).

    python benchmarks/fuse_svm.py [--exams 120] [--full]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

VIEWS = 5
TRAINING_SHARE = 0.8


def codes_of(view: int, exams: int, features: int) -> np.ndarray:
    """Codes as a ReLU gives them, float32 (exams, features): a few directions that exams share, noise, zeros."""
    rng = np.random.default_rng([view, 7])
    directions = rng.standard_normal((6, features), np.float32)
    codes = rng.standard_normal((exams, features), np.float32)
    codes += rng.standard_normal((exams, 6), np.float32) @ directions
    labels = labels_of(exams).astype(np.float32)
    codes += 0.2 * labels[:, None] * directions[0]
    return np.maximum(codes, 0, out=codes)


def labels_of(exams: int) -> np.ndarray:
    """Three healthy for each two sick."""
    return (np.arange(exams) % 5 >= 3).astype(np.int64)


def rows_of(exams: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(1).permutation(exams)
    cut = int(TRAINING_SHARE * exams)
    return np.sort(order[:cut]), np.sort(order[cut:])


def original(exams: int, features: int) -> tuple[float, np.ndarray]:
    """Seconds and decisions of the dense recipe; making the codes is not counted."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    views = [codes_of(view, exams, features) for view in range(VIEWS)]
    train, test = rows_of(exams)
    started = time.perf_counter()
    joined = np.concatenate(views, axis=1)
    model = make_pipeline(StandardScaler(), SVC(kernel="sigmoid")).fit(joined[train], labels_of(exams)[train])
    decisions = model.decision_function(joined[test])
    return time.perf_counter() - started, decisions


def ours(exams: int, features: int, inner: int = 0) -> tuple[float, np.ndarray]:
    """Seconds and decisions by Gram matrices, with those of ``inner`` inner folds computed in the same pass."""
    from sklearn.svm import SVC

    from thermocancer.features.gram import Part, gram_matrices

    train, test = rows_of(exams)
    parts = [Part(train)] + [Part(np.delete(train, slice(number, None, inner))) for number in range(inner)]
    seconds, total = 0.0, None
    for view in range(VIEWS):
        codes = codes_of(view, exams, features)
        started = time.perf_counter()
        gram = gram_matrices(codes, parts)[0]
        total = gram if total is None else total + gram
        seconds += time.perf_counter() - started
        del codes
    assert total is not None
    started = time.perf_counter()
    machine = SVC(kernel="precomputed").fit(total.kernel("sigmoid", train, train), labels_of(exams)[train])
    decisions = machine.decision_function(total.kernel("sigmoid", test, train))
    return seconds + time.perf_counter() - started, decisions


def measure(side: str, exams: int, features: int, inner: int) -> None:
    """One side in this process: print seconds, peak memory above what the imports take, decisions."""

    import thermocancer.features.gram  # noqa: F401

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work = original if side == "original" else lambda *size: ours(*size, inner)
    seconds, decisions = work(exams, features)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "gb": peak / 2**20, "above": (peak - before) / 2**20,
                      "decisions": decisions.tolist()}))  # fmt: skip


def in_own_process(side: str, exams: int, features: int, inner: int = 0) -> dict[str, object]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [side, str(exams), str(features), str(inner)]
    done = subprocess.run(
        [sys.executable, __file__, "--measure", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def show(title: str, found: dict[str, object]) -> None:
    print(f"{title:44s} {found['seconds']:8.1f} s   peak {found['gb']:6.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=120)
    parser.add_argument("--features", type=int, default=153_600, help="of one view; v2 at 480x640: 153,600")
    parser.add_argument("--full", action="store_true", help="also ours at 290 exams x 5 x 614,400")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        side, exams, features, inner = given.measure
        measure(side, int(exams), int(features), int(inner))
        return
    print(f"{given.exams} exams, {VIEWS} views x {given.features:,} features, one BLAS thread")
    dense, gram = (in_own_process(side, given.exams, given.features) for side in ("original", "ours"))
    show("original: concatenate, StandardScaler, SVC", dense)
    show("ours: Gram matrices by view, SVC", gram)
    first, second = np.array(dense["decisions"]), np.array(gram["decisions"])
    print(f"ratio: time {dense['seconds'] / gram['seconds']:.1f}x, memory {dense['gb'] / gram['gb']:.1f}x; "
          f"same decisions: {np.array_equal(first > 0, second > 0)}, "
          f"largest difference of a decision value {np.abs(first - second).max():.1e}")  # fmt: skip
    if given.full:
        print("290 exams, 5 views x 614,400 features, one BLAS thread")
        show("ours, one training part", in_own_process("ours", 290, 614_400))
        show("ours, with three inner folds in the same pass", in_own_process("ours", 290, 614_400, 3))


if __name__ == "__main__":
    main()
