"""Scoring every exam by a classifier that has not seen it: fold by fold, resumable, in parallel.

A finished fold is written aside at once; a killed run goes on with the folds that are missing.
Every fold is a function of its rows, labels and seed alone, so that neither the number of workers
nor an interruption changes a digit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from thermocancer.classifiers.protocol import Classifier, Fitted, Row
from thermocancer.classifiers.seeds import Scored, SeedsFitted
from thermocancer.compute import one_thread, run_all
from thermocancer.config.learning import ComputeSection
from thermocancer.data.cohort import BoolArray, Cohort, FloatArray, IntArray
from thermocancer.data.split import Fold, check_disjoint
from thermocancer.errors import DataError
from thermocancer.files import Json, fingerprint, folder_written_aside, read_json_as, remove, write_json
from thermocancer.progress import Progress, Silent, part_of
from thermocancer.runs.predictions import Prediction

MODELS = "models"
"""In the folder of finished folds: their classifiers, where they are kept."""


@dataclass(frozen=True)
class FoldResult:
    """What one fold gives: out-of-sample rows, the threshold that decided them, the training history.

    ``inner`` are scores of training exams by inner models that had not seen them; what is fitted on
    top of a run's scores (late fusion) learns from those, never from ``rows``. ``members``: what each of
    several seeds gives by itself, under the name ``seed N``; their histories are the fold's.
    """

    fold: str
    rows: tuple[Prediction, ...]
    threshold: float
    history: tuple[Row, ...] = ()
    inner: tuple[Prediction, ...] = ()
    members: tuple[FoldResult, ...] = ()


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
    def history(self) -> list[dict[str, object]]:
        parts = (part for each in self.folds for part in each.members or (each,))
        return [{"fold": part.fold, **entry} for part in parts for entry in part.history]


def cross_validate(
    classifier: Classifier,
    cohort: Cohort,
    folds: Sequence[Fold],
    *,
    seed: int,
    progress: Progress | None = None,
    folder: Path | None = None,
    disjoint: bool = True,
    compute: ComputeSection | None = None,
    keep: bool = False,
    most_bytes: int | None = None,
    title: str = "folds",
) -> CrossValidation:
    """Fit ``classifier`` on each fold's training rows and score its test rows.

    With ``folder`` each finished fold is kept there as ``FOLD.json`` and not computed again; the
    folder must belong to one classifier and one data set. With ``keep`` the fold's classifier is kept
    beside it, under ``models/FOLD``; where all of them would take more than ``most_bytes`` that folder is empty.
    With ``compute`` folds go to its workers; classifier and cohort must then pickle.
    Raises DataError when ``disjoint`` and a patient or an identical image is on both sides of a fold.
    """
    for fold in folds if disjoint else ():
        check_disjoint(cohort.exams, fold)
    if not folds or any(len(fold.test) == 0 or len(fold.train) == 0 for fold in folds):
        raise DataError("a fold has no exams", expected="training and test exams in every fold", found=len(folds))
    exams = [[exam.key, exam.label] for exam in cohort.exams]

    def identity(fold: Fold) -> str:
        return fingerprint("fold", fold.name, fold.train.tolist(), fold.test.tolist(), exams, seed)

    def known(fold: Fold) -> FoldResult | None:
        """A finished fold, or None when it is missing, damaged or another one of the same name."""
        path = None if folder is None else folder / f"{fold.name}.json"
        if folder is None or path is None or not path.exists():
            return None
        model = folder / MODELS / fold.name
        if keep and not (model.is_dir() and (most_bytes is not None or any(model.iterdir()))):
            return None
        with contextlib.suppress(DataError):
            return read_json_as(
                path, lambda kept: _read(kept) if kept["identity"] == identity(fold) else None, "this is no fold"
            )
        return None

    kept = {fold.name: result for fold in folds if (result := known(fold))}
    missing = {fold.name: fold for fold in folds if fold.name not in kept}
    todo, models = list(missing.values()), folder / MODELS if keep and folder is not None else None
    work = FoldWork(classifier, cohort, seed, models, None if most_bytes is None else most_bytes // len(folds))
    with (progress or Silent()).task(title, len(folds), "folds") as task, part_of(task):
        task.advance(len(kept))
        for result in run_all(work, todo, compute, (progress or Silent()).note):
            if folder is not None:
                content = {"identity": identity(missing[result.fold]), **asdict(result)}
                write_json(folder / f"{result.fold}.json", content)
            kept[result.fold] = result
            task.advance()
    return CrossValidation(tuple(kept[fold.name] for fold in folds))


@dataclass(frozen=True)
class FoldWork:
    """All that one fold needs, in this process or in another; classifiers are kept under ``models``.

    One that takes more than ``most_bytes`` is not kept, and none after it: saving one may take gigabytes.
    """

    classifier: Classifier
    cohort: Cohort
    seed: int
    models: Path | None = None
    most_bytes: int | None = None

    def run(self, fold: Fold) -> FoldResult:
        """Fit on one fold's training rows, score and decide its test rows."""
        labels = np.array([exam.label for exam in self.cohort.exams], dtype=np.int64)
        with one_thread(), part_of(name=f"fold {fold.name}"):
            fitted = self.classifier.fit(self.cohort, fold.train, labels[fold.train], seed=self.seed, fold=fold.name)
            if isinstance(fitted, SeedsFitted):
                apart = fitted.apart(self.cohort, fold.test)
                members = tuple(
                    self._result(f"seed {seed}", each, fold, scored)
                    for (seed, each), scored in zip(fitted.members.items(), apart, strict=True)
                )
                result = replace(self._result(fold.name, fitted, fold, fitted.together(apart)), members=members)
            else:
                result = self._result(fold.name, fitted, fold, fitted.scored(self.cohort, fold.test))
            if self.models is not None:
                with folder_written_aside(self.models / fold.name) as side:
                    self._save(fitted, self.models, side)
        return result

    def _save(self, fitted: Fitted, models: Path, folder: Path) -> None:
        beside = [each for each in models.glob("[!.]*") if self.most_bytes is not None]
        if all(any(each.iterdir()) for each in beside):
            fitted.save(folder)
            size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
            if self.most_bytes is None or size <= self.most_bytes:
                return
            remove(folder)
        folder.mkdir()

    def _result(self, name: str, fitted: Fitted, fold: Fold, scored: Scored) -> FoldResult:
        threshold = float(fitted.threshold)
        tested = _rows(self.cohort, fold.name, fold.test, *scored)
        learnt: tuple[Prediction, ...] = ()
        if (inner := fitted.inner) is not None:
            learnt = _rows(self.cohort, fold.name, inner.rows, inner.scores, inner.scores >= threshold)
        return FoldResult(name, tested, threshold, tuple(fitted.history), learnt)


def _rows(
    cohort: Cohort, fold: str, rows: IntArray, scores: FloatArray, calls: IntArray | BoolArray
) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(exam.patient, exam.visit, fold, exam.label, float(score), int(call))
        for exam, score, call in zip((cohort.exams[row] for row in rows), scores, calls, strict=True)
    )


def _read(content: Json) -> FoldResult:
    rows, inner = (tuple(Prediction(**each) for each in content[part]) for part in ("rows", "inner"))
    members = tuple(_read(each) for each in content.get("members", ()))
    return FoldResult(content["fold"], rows, float(content["threshold"]), tuple(content["history"]), inner, members)
