"""The answer for one exam: score, interval, decision, doubt; never a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer.config import Config
from thermocancer.data.exams import ArrayExamSource, Exam, ExamSource
from thermocancer.data.nuisance import measure_matrix, nuisance_columns
from thermocancer.errors import ConfigError, ThermocancerError
from thermocancer.evaluation.intervals import wilson
from thermocancer.evaluation.prediction.gathering import NewExam
from thermocancer.evaluation.prediction.novelty import Reference, judge_novelty
from thermocancer.evaluation.runs import RunRecord
from thermocancer.evaluation.units import Units, gather_units
from thermocancer.training.recipe import Fitted
from thermocancer.workspace import Workspace

LIKE_SCORES = 0.1
FEWEST_FOLDS = 3


@dataclass
class Oracle:
    """A trained run ready to answer."""

    run: RunRecord
    config: Config
    fitted: Fitted
    folds: list[Fitted]
    views: tuple[str, ...]
    threshold: float
    units: Units
    shape: tuple[int, int] | None
    reference: Reference | None


def load_oracle(run: RunRecord, workspace: Workspace, reference: Reference | None, shape: Any) -> Oracle:
    """Load the run's classifier. Raises ConfigError for runs that score something other than static exams."""
    from thermocancer.training.recipes import load_fitted

    config = run.required_config(workspace)
    if run.manifest.get("stage", "fuse") != "fuse":
        raise ConfigError(
            f"run {run.name!r} cannot score a new static exam",
            where=run.folder,
            expected="a run of fuse",
            found=run.manifest.get("stage"),
        )
    folder = run.folder / "model"
    fitted = load_fitted(folder, workspace)
    threshold = getattr(fitted, "threshold", None)
    units = gather_units(run.rows)
    views = tuple(run.manifest.get("views") or config.fuse.views or config.filter.views)
    return Oracle(
        run, config, fitted, _fold_models(folder, workspace), views,
        float(run.facts().threshold or 0.5) if threshold is None else float(threshold), units, shape, reference,
    )  # fmt: skip


def _fold_models(folder: Path, workspace: Workspace) -> list[Fitted]:
    """The classifiers of single folds, where the run kept them."""
    from thermocancer.training.recipes import load_fitted

    return [load_fitted(each.parent, workspace) for each in sorted(folder.glob("folds/*/classifier.json"))]


def source_of(exam: NewExam, oracle: Oracle) -> ArrayExamSource:
    """The exam as a data set of one row, in degrees, at the size that the run was trained on."""
    from thermocancer.data.store_writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.matrix_files()
    matrices = {
        view: resize_centi(to_centi(np.asarray(file.celsius)), oracle.shape)[None] for view, file in files.items()
    }
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    measured = nuisance_columns([described], [measure_matrix(np.asarray(first.celsius))])
    return ArrayExamSource((described,), matrices, name=exam.name, measured=measured)


def as_trained(source: ArrayExamSource, config: Config) -> ExamSource:
    """What the run's classifier reads: the degrees themselves, or their colours."""
    if config.dataset.source != "images":
        return source
    from thermocancer.evaluation.prediction.coloured import ColouredSource

    return ColouredSource(source, config.convert)


def answer(exam: NewExam, oracle: Oracle) -> dict[str, Any]:
    """Everything to be said of one exam; ``status`` is ``scored``, ``abstained`` or ``refused``."""
    fit = exam.matrix_files()
    result: dict[str, Any] = {
        "exam": exam.name,
        "files": [file.as_dict() for file in exam.files],
        "views": list(fit),
        "views_needed": list(oracle.views),
    }
    missing = [view for view in oracle.views if view not in fit]
    if missing:
        reason = f"the run needs the views {', '.join(oracle.views)}; missing or unfit: {', '.join(missing)}"
        return result | {"status": "refused", "reason": reason}
    try:
        source = as_trained(source_of(exam, oracle), oracle.config)
        score = float(oracle.fitted.scores(source, np.array([0]))[0])
    except ThermocancerError as error:
        return result | {"status": "refused", "reason": str(error)}
    novelty = _novelty(exam, oracle)
    abstains = bool(novelty["flag"])
    return result | {
        "status": "abstained" if abstains else "scored",
        "reason": "; ".join(novelty["reasons"]) if abstains else "",
        "score": score,
        "interval": _interval(source, oracle),
        "like_scores": like_scores(oracle.units, score),
        "threshold": oracle.threshold,
        "decision": None if abstains else _decision(score, oracle.threshold),
        "out_of_distribution": novelty,
    }


def _decision(score: float, threshold: float) -> str:
    return "at or above the operating point" if score >= threshold else "below the operating point"


def _novelty(exam: NewExam, oracle: Oracle) -> dict[str, Any]:
    if oracle.reference is None:
        words = "the data set of the run is not here, so that this exam could not be compared with it"
        return {"flag": False, "reasons": [], "distance": None, "limit": None, "note": words}
    file = exam.matrix_files()[oracle.views[0]]
    return judge_novelty(oracle.reference, np.asarray(file.celsius), file.layout) | {"note": ""}


def _interval(source: ExamSource, oracle: Oracle) -> dict[str, Any]:
    if len(oracle.folds) < FEWEST_FOLDS:
        method = "not available: the run kept no models of its folds (fuse.keep_folds)"
        return {"low": None, "high": None, "method": method}
    scores = np.array([float(fitted.scores(source, np.array([0]))[0]) for fitted in oracle.folds])
    low, high = np.percentile(scores, [2.5, 97.5])
    return {"low": float(low), "high": float(high), "method": f"percentiles over {len(scores)} models of folds"}


def like_scores(units: Units, score: float) -> dict[str, Any]:
    """Among the run's own out-of-sample units with a score within 0.1: how many are sick."""
    near = np.abs(units.scores - score) <= LIKE_SCORES
    sick = int(units.labels[near].sum())
    return {"n": int(near.sum()), "sick": sick, "share": wilson(sick, int(near.sum())).as_dict()}
