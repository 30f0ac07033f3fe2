"""Scoring every exam by a classifier that has not seen it: fold by fold, resumable, in parallel.

A finished fold is written aside at once; a killed run goes on with the folds that are missing.
Every fold is a function of its rows, labels and seed alone, so that neither the number of processes
nor an interruption changes a digit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from thermocancer.config import Config, dump_yaml
from thermocancer.data.exams import Exam, FloatArray, IntArray
from thermocancer.data.predictions import Prediction, write_predictions
from thermocancer.data.split import Fold, check_disjoint
from thermocancer.errors import DataError
from thermocancer.files import fingerprint, read_json, write_json, write_text
from thermocancer.progress import Progress, Silent
from thermocancer.training.history import write_history

INNER_FILE = "inner.csv"
"""In a run's folder: scores of training exams by inner models, with the columns of ``predictions.csv``."""


class HasExams(Protocol):
    """All that cross-validation itself reads of a source (an ``ExamSource``, or sequences)."""

    @property
    def exams(self) -> Sequence[Exam]: ...


class _Fitted(Protocol):
    @property
    def threshold(self) -> float: ...
    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...
    def scores(self, source: Any, rows: IntArray) -> FloatArray: ...


class _Recipe(Protocol):
    """A ``training.recipe.Recipe`` for any kind of source."""

    def fit(self, source: Any, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> _Fitted: ...


@dataclass(frozen=True)
class FoldResult:
    """What one fold gives: out-of-sample rows, the threshold that decided them, the training history.

    ``inner`` are scores of training exams by inner models that had not seen them; what is fitted on
    top of a run's scores (late fusion) learns from those, never from ``rows``.
    """

    fold: str
    rows: tuple[Prediction, ...]
    threshold: float
    history: tuple[Mapping[str, Any], ...] = ()
    inner: tuple[Prediction, ...] = ()


@dataclass(frozen=True)
class CrossValidation:
    """Every fold's result, in the order of the folds."""

    folds: tuple[FoldResult, ...]

    @property
    def rows(self) -> list[Prediction]:
        return [row for each in self.folds for row in each.rows]

    @property
    def inner(self) -> list[Prediction]:
        return [row for each in self.folds for row in each.inner]

    @property
    def thresholds(self) -> dict[str, float]:
        return {each.fold: each.threshold for each in self.folds}

    @property
    def history(self) -> list[dict[str, Any]]:
        return [{"fold": each.fold, **entry} for each in self.folds for entry in each.history]


def cross_validate(
    recipe: _Recipe,
    source: HasExams,
    folds: Sequence[Fold],
    *,
    seed: int,
    progress: Progress | None = None,
    folder: Path | None = None,
    disjoint: bool = True,
    processes: int = 1,
    title: str = "folds",
) -> CrossValidation:
    """Fit ``recipe`` on each fold's training rows and score its test rows.

    With ``folder`` each finished fold is kept there as ``FOLD.json`` and not computed again; the
    folder must belong to one recipe and one data set. ``processes`` above 1 needs a recipe and a
    source that pickle. Raises DataError when ``disjoint`` and a patient or an identical image is on
    both sides of a fold.
    """
    if disjoint:
        for fold in folds:
            check_disjoint(source.exams, fold)
    if not folds or any(len(fold.test) == 0 or len(fold.train) == 0 for fold in folds):
        raise DataError("a fold has no exams", expected="training and test exams in every fold", found=len(folds))
    found = {fold.name: result for fold in folds if (result := _kept(folder, source, fold, seed))}
    missing = [fold for fold in folds if fold.name not in found]
    with (progress or Silent()).task(title, len(folds), "folds") as task:
        task.advance(len(found))
        for result in _run(recipe, source, missing, seed, processes):
            fold = next(each for each in missing if each.name == result.fold)
            _keep(folder, source, fold, seed, result)
            found[result.fold] = result
            task.advance()
    return CrossValidation(tuple(found[fold.name] for fold in folds))


def write_scores(folder: Path, config: Config, result: CrossValidation) -> list[Path]:
    """Write what every run holds: the resolved config, the history, the scores, and the inner scores."""
    paths = [folder / name for name in ("config.yaml", "history.jsonl", "predictions.csv", INNER_FILE)]
    write_text(paths[0], dump_yaml(config))
    # sorted: a fold that was kept and read again has its keys in another order
    write_history(paths[1], (dict(sorted(entry.items())) for entry in result.history))
    write_predictions(paths[2], result.rows)
    write_predictions(paths[3], result.inner)
    return paths


def run_fold(recipe: _Recipe, source: HasExams, fold: Fold, seed: int) -> FoldResult:
    """Fit on one fold's training rows, score and decide its test rows."""
    labels = np.array([exam.label for exam in source.exams], dtype=np.int64)
    with one_thread():
        fitted = recipe.fit(source, fold.train, labels[fold.train], seed=seed, fold=fold.name)
        scores = fitted.scores(source, fold.test)
    threshold = float(fitted.threshold)
    inner = getattr(fitted, "inner", None)  # some recipes learn nothing, or hold nothing out
    return FoldResult(
        fold.name,
        _rows(source, fold.name, fold.test, scores, threshold),
        threshold,
        tuple(fitted.history),
        () if inner is None else _rows(source, fold.name, inner.rows, inner.scores, threshold),
    )


def _rows(source: HasExams, fold: str, rows: IntArray, scores: FloatArray, threshold: float) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(exam.patient, exam.visit, fold, exam.label, float(score), int(score >= threshold))
        for exam, score in zip((source.exams[row] for row in rows), scores, strict=True)
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS and OpenMP thread: many threads on busy cores wait for one another, and sums depend on their number."""
    import scipy.linalg  # noqa: F401  loaded first, so that its own BLAS is limited too
    import sklearn.svm  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def _run(recipe: _Recipe, source: HasExams, folds: Sequence[Fold], seed: int, processes: int) -> Iterator[FoldResult]:
    if processes <= 1 or len(folds) <= 1:
        for fold in folds:
            yield run_fold(recipe, source, fold, seed)
        return
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed

    # spawn, not fork: a forked TensorFlow hangs
    pool = ProcessPoolExecutor(
        min(processes, len(folds)), multiprocessing.get_context("spawn"), _start_worker, (recipe, source, seed)
    )
    with pool:
        waiting = [pool.submit(_run_in_worker, fold) for fold in folds]
        try:
            for each in as_completed(waiting):
                yield each.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


_worker: tuple[_Recipe, HasExams, int] | None = None


def _start_worker(recipe: _Recipe, source: HasExams, seed: int) -> None:
    global _worker
    _worker = (recipe, source, seed)


def _run_in_worker(fold: Fold) -> FoldResult:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    recipe, source, seed = _worker
    return run_fold(recipe, source, fold, seed)


def _identity(source: HasExams, fold: Fold, seed: int) -> str:
    exams = [[exam.key, exam.label] for exam in source.exams]
    return fingerprint("fold", fold.name, fold.train.tolist(), fold.test.tolist(), exams, seed)


def _keep(folder: Path | None, source: HasExams, fold: Fold, seed: int, result: FoldResult) -> None:
    if folder is not None:
        content = {"identity": _identity(source, fold, seed), **asdict(result)}
        write_json(folder / f"{fold.name}.json", content)


def _kept(folder: Path | None, source: HasExams, fold: Fold, seed: int) -> FoldResult | None:
    """A finished fold, or None when it is missing, damaged or another one of the same name."""
    path = None if folder is None else folder / f"{fold.name}.json"
    if path is None or not path.exists():
        return None
    try:
        content = read_json(path)
        if content["identity"] != _identity(source, fold, seed):
            return None
        rows, inner = (tuple(Prediction(**each) for each in content[part]) for part in ("rows", "inner"))
        return FoldResult(content["fold"], rows, float(content["threshold"]), tuple(content["history"]), inner)
    except (DataError, KeyError, TypeError):
        return None
