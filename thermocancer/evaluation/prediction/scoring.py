"""The answer for one exam: score, interval, decision, doubt; never a diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.protocol import Fitted
from thermocancer.config import Config
from thermocancer.config.preparation import ConvertSection
from thermocancer.data.cohort import ArrayCohort, ChangedCohort, Cohort, Exam, Frames, IntArray, Kind, centi_celsius
from thermocancer.data.names import parse_name
from thermocancer.data.nuisance import catalog_measures, measure_matrix, nuisance_columns
from thermocancer.data.store.reading import DYNAMIC_VIEW
from thermocancer.data.store.sequences import fill_gaps, find_gap_problem
from thermocancer.errors import ConfigError, DataError, ThermocancerError
from thermocancer.evaluation.prediction.gathering import NewExam, NewFile
from thermocancer.evaluation.prediction.novelty import Reference, judge_novelty
from thermocancer.evaluation.statistics.intervals import wilson
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

LIKE_SCORES = 0.1
FEWEST_FOLDS = 3


@dataclass
class Oracle:
    """A trained run ready to answer."""

    run: Run
    config: Config
    fitted: Fitted
    folds: list[Fitted]
    views: tuple[str, ...]
    threshold: float
    units: Units
    shape: tuple[int, int] | None
    reference: Reference | None

    @property
    def dynamic(self) -> bool:
        """True for a run on the frames of dynamic exams."""
        return self.run.reads is Reads.FRAMES


def load_oracle(run: Run, workspace: Workspace, reference: Reference | None, shape: Any) -> Oracle:
    """Load the run's classifier. Raises ConfigError for runs that score something other than thermograms."""
    from thermocancer.classifiers.making import load_fitted

    config = run.required_config()
    if run.reads is Reads.IMAGES:
        raise ConfigError(
            f"run {run.name!r} cannot score a new exam",
            where=run.folder,
            expected="a run of fuse or train-dit",
            found=run.manifest.stage,
        )
    if run.reads is Reads.FRAMES:
        from thermocancer import strategy

        strategy.set_up(config.strategy, config.seed)
    folder = run.model_folder
    fitted = load_fitted(folder, workspace)
    threshold = getattr(fitted, "threshold", None)
    units = gather_units(run.rows)
    return Oracle(
        run, config, fitted, _fold_models(folder, workspace), run.manifest.views,
        run.facts().threshold if threshold is None else float(threshold), units, shape, reference,
    )  # fmt: skip


def _fold_models(folder: Path, workspace: Workspace) -> list[Fitted]:
    """The classifiers of single folds, where the run kept them."""
    from thermocancer.classifiers.making import load_fitted

    return [load_fitted(each.parent, workspace) for each in sorted(folder.glob("folds/*/classifier.json"))]


def source_of(exam: NewExam, oracle: Oracle) -> ArrayCohort:
    """The exam as a data set of one row, in degrees, at the size that the run was trained on."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.matrix_files()
    matrices = {
        view: resize_centi(to_centi(np.asarray(file.celsius)), oracle.shape)[None] for view, file in files.items()
    }
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    facts = measure_matrix(np.asarray(first.celsius)) | _facts_of(exam, first)
    measured = nuisance_columns([described], [facts])
    return ArrayCohort((described,), matrices, name=exam.name, measured=measured)


def _facts_of(exam: NewExam, file: NewFile) -> dict[str, float]:
    """What a data set takes from its catalog, as far as the file tells it; NaN where the name does not."""
    name = parse_name(file.path.name)
    if name is None:
        unknown = dict.fromkeys(("patient", "visit"), float("nan"))
        return catalog_measures(Exam(0, 0, 0), file.path.stat().st_size) | unknown
    return catalog_measures(Exam(exam.patient, exam.visit, 0, name.date), file.path.stat().st_size)


def as_trained(source: ArrayCohort, config: Config) -> Cohort:
    """What the run's classifier reads: the degrees themselves, or their colours."""
    if config.dataset.source != "images":
        return source

    return ColouredCohort(source, config.convert)


def answer(exam: NewExam, oracle: Oracle) -> dict[str, Any]:
    """Everything to be said of one exam; ``status`` is ``scored``, ``abstained`` or ``refused``."""
    result: dict[str, Any] = {
        "exam": exam.name,
        "files": [file.as_dict() for file in exam.files],
        "views": ["Frontal"] if oracle.dynamic and exam.frame_files() else list(exam.matrix_files()),
        "views_needed": list(oracle.views),
    }
    reason = _why_not(exam, oracle)
    if reason:
        return result | {"status": "refused", "reason": reason}
    try:
        source = readable(exam, oracle)
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
        "decision": None if abstains else decision_words(score >= oracle.threshold),
        "out_of_distribution": novelty,
    }


def _why_not(exam: NewExam, oracle: Oracle) -> str | None:
    """Why an exam cannot be scored for want of views or frames; None when it can."""
    if oracle.dynamic:
        return gap_problem(exam, oracle.config)
    fit = exam.matrix_files()
    missing = [view for view in oracle.views if view not in fit]
    if not missing:
        return None
    return f"the run needs the views {', '.join(oracle.views)}; missing or unfit: {', '.join(missing)}"


def readable(exam: NewExam, oracle: Oracle) -> Any:
    """The exam as the run's classifier reads it: one row of static views, or one sequence of frames."""
    if oracle.dynamic:
        return sequence_of(exam, oracle.config, oracle.shape)
    return as_trained(source_of(exam, oracle), oracle.config)


def main_file(exam: NewExam, oracle: Oracle) -> NewFile:
    """The file that stands for the exam: its first view, or the first frame."""
    return next(iter(exam.frame_files().values())) if oracle.dynamic else exam.matrix_files()[oracle.views[0]]


UNCOMPARED = {
    "flag": False, "reasons": [], "distance": None, "limit": None,
    "note": "this kind of run is not compared with what it was trained on",
}  # fmt: skip


def decision_words(above: bool) -> str:
    """What is said of a score at or above the operating point, or below it."""
    return "at or above the operating point" if above else "below the operating point"


def _novelty(exam: NewExam, oracle: Oracle) -> dict[str, Any]:
    if oracle.reference is None:
        words = "the data set of the run is not here, so that this exam could not be compared with it"
        return {"flag": False, "reasons": [], "distance": None, "limit": None, "note": words}
    file = main_file(exam, oracle)
    return judge_novelty(oracle.reference, np.asarray(file.celsius), file.layout) | {"note": ""}


def _interval(source: Cohort, oracle: Oracle) -> dict[str, Any]:
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


# --- a new exam as the colour images that a run of the original recipe was trained on ---


class ColouredCohort(ChangedCohort):
    """``source`` (degrees) coloured as ``convert`` does it, JPEG loss included."""

    def __init__(self, source: Cohort, settings: ConvertSection) -> None:
        super().__init__(source)
        self._settings = settings

    @property
    def kind(self) -> Kind:
        return "rgb"

    @property
    def fingerprint(self) -> str:
        from thermocancer.files import fingerprint

        return fingerprint("coloured", self.original.fingerprint, self._settings.model_dump(mode="json"))

    def frames(self, view: str, rows: IntArray, indices: Sequence[int] | IntArray | None = None) -> Frames:
        from thermocancer.thermal.rendering import render_centi

        coloured = render_centi(centi_celsius(self.original, view, rows), self._settings.rendering)
        if self._settings.format == "jpg":
            coloured = np.stack([_through_jpeg(each, self._settings.jpeg_quality) for each in coloured])
        return coloured[:, np.newaxis]


def _through_jpeg(image: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """RGB (height, width, 3) written as JPEG and read again."""
    import cv2

    flipped = np.ascontiguousarray(image[..., ::-1])
    written, content = cv2.imencode(".jpg", flipped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(content, cv2.IMREAD_COLOR) if written else None
    if decoded is None:
        raise DataError("an image could not be written as JPEG")
    return np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)


# --- the frames of a new dynamic exam as a sequence that a trained sequence network reads ---


def gap_problem(exam: NewExam, config: Config) -> str | None:
    """Why the frames make no sequence that the run can read; None when they do."""
    found = list(exam.frame_files())
    if not found:
        return "the run reads the frames of a dynamic exam, and there is none that is fit"
    problem = find_gap_problem(found, config.filter.frames, config.dit.allow_gaps)
    if problem is None and config.dataset.source != "matrices":
        return "the run was trained on rendered frames; only runs on matrices score a new dynamic exam"
    return problem


def sequence_of(exam: NewExam, config: Config, shape: tuple[int, int] | None) -> ArrayCohort:
    """The exam's frames as a cohort of one, gaps filled as in training, at the size that the run was trained on."""
    from thermocancer.data.store.writing import resize_centi
    from thermocancer.thermal.reading import to_centi

    files = exam.frame_files()
    centi = {number: resize_centi(to_centi(np.asarray(file.celsius)), shape) for number, file in files.items()}
    whole, _ = fill_gaps(centi, config.filter.frames)
    first = next(iter(files.values()))
    described = Exam(exam.patient, exam.visit, 0, None, first.layout)
    return ArrayCohort((described,), {DYNAMIC_VIEW: np.stack(whole)[np.newaxis]}, name=exam.name)
