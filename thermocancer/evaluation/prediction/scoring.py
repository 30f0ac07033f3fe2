"""The answer for one exam: score, interval, decision, doubt; never a diagnosis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from thermocancer.classifiers.protocol import Fitted
from thermocancer.config import Config
from thermocancer.config.sources import ImportSection
from thermocancer.data.cohort import Cohort, Exam, FloatArray
from thermocancer.data.novelty import Doubt, judge_novelty, uncompared
from thermocancer.errors import ConfigError, ThermocancerError
from thermocancer.evaluation.prediction.gathering import NewExam, NewFile, Wanted
from thermocancer.evaluation.prediction.input import (
    Shape,
    Whole,
    cohort_of,
    gap_problem,
    read_files,
    resized,
    whole_frames,
    whole_views,
)
from thermocancer.evaluation.prediction.novelty import Met, Training, training_of
from thermocancer.evaluation.statistics.intervals import wilson
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run, read_run
from thermocancer.thermal.reading import fill_centi
from thermocancer.thermal.regions import resize_missing
from thermocancer.workspace import VIEWS

LIKE_SCORES = 0.1
FEWEST_FOLDS = 3

UNCOMPARED = uncompared("this kind of run is not compared with what it was trained on")

ONE = np.zeros(1, dtype=np.int64)
"""The row of the one exam in a cohort."""


@dataclass(frozen=True)
class LoadedRun:
    """A trained run ready to answer; a late run with the ``parts`` that it combines, in its own order.

    ``folds`` are classifiers of single folds, where the run kept them; ``training`` is what is known of the exams
    that it was trained on, where its data set is here.
    """

    run: Run
    fitted: Fitted
    folds: tuple[Fitted, ...] = ()
    training: Training | None = None
    parts: tuple[LoadedRun, ...] = ()

    @cached_property
    def config(self) -> Config:
        """The settings that made it. Raises ConfigError where this version cannot read them."""
        return self.run.required_config()

    @cached_property
    def units(self) -> Units:
        """Its own out-of-sample scores."""
        return gather_units(self.run.rows, by_exam=self.run.by_exam)

    @property
    def dynamic(self) -> bool:
        """True for a run on the frames of dynamic exams."""
        return self.run.reads is Reads.FRAMES

    @property
    def views(self) -> tuple[str, ...]:
        """Views that it reads; of a late run those that its static runs read."""
        if not self.parts:
            return self.run.manifest.views
        wanted = {view for part in self.parts if not part.dynamic for view in part.views}
        return tuple(view for view in VIEWS if view in wanted)

    @property
    def shape(self) -> Shape | None:
        """Height and width of the frames that it was trained on, where its data set is here."""
        return None if self.training is None else self.training.shape

    @property
    def wanted(self) -> Wanted:
        """What its data set was made of."""
        if self.parts:
            return next((part.wanted for part in self.parts if part.wanted != "temperatures"), "temperatures")
        source = self.config.dataset.frames_from if self.dynamic else self.config.dataset.source
        made_of: dict[str, Wanted] = {"images": "pictures", "videos": "films"}
        return made_of.get(source, "temperatures")

    def read(self, exam: NewExam, section: ImportSection) -> None:
        """Read and judge the exam's files by the run's own rules; a data set that was resized takes any size."""
        free = self.config.dataset.size is not None or (self.training is not None and self.training.resized)
        expected = self.config.filter.shape or (None if free else self.shape)
        read_files(exam, self.config.filter, expected, section, dynamic=self.dynamic, wanted=self.wanted)

    def whole(self, exam: NewExam) -> Whole:
        """The exam's frames as training read them, before any resizing. Raises DataError where that cannot be."""
        return whole_frames(exam, self.config) if self.dynamic else whole_views(exam, self.config)

    def readable(self, exam: NewExam, whole: Whole) -> Cohort:
        """The exam as its classifier reads it: a sequence of frames, or static views in degrees or colours."""
        return cohort_of(exam, whole, self.shape, dynamic=self.dynamic)

    def met(self, exam: NewExam, whole: Whole) -> Met:
        """Was the exam, or its patient, among those that the run was trained on?"""
        from thermocancer.data.store.writing import hash_array

        if self.training is None:
            return UNKNOWN
        view = self.training.view
        first = whole.get(view, next(iter(whole.values())))
        return self.training.meet(exam.patient, map(hash_array, whole.values()), resized(first, self.shape))


UNKNOWN: Met = {"status": "unknown", "words": "the data set of the run is not here: who was in training is not known"}


def load_run(run: Run) -> LoadedRun:
    """Load what a run keeps, with its training exams to compare with where the data set is here.

    Raises ConfigError for runs that score something other than thermograms and for late runs of late runs, DataError
    where something is damaged, or a combined run is gone or no longer the one that was combined.
    """
    from thermocancer import strategy
    from thermocancer.classifiers.making import load_fitted

    if run.reads is Reads.RUNS:
        return _load_late(run)
    config = run.required_config()
    if run.reads is Reads.IMAGES:
        raise ConfigError(
            f"run {run.name!r} cannot score a new exam",
            where=run.folder, expected="a run of fuse or train-dit", found=run.manifest.stage,
        )  # fmt: skip
    training = training_of(run, config)
    if run.reads is Reads.FRAMES:
        strategy.set_up(config.strategy, config.seed)
    fitted = load_fitted(run.model_folder, run.workspace)
    kept = sorted(run.model_folder.glob("folds/*/classifier.json"))
    return LoadedRun(run, fitted, tuple(load_fitted(each.parent, run.workspace) for each in kept), training)


# --- the answer -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """Everything to be said of one exam.

    ``reason`` says why it was refused, or why nothing is decided; ``parts`` what each combined run made of it, and
    ``note`` which of those are missing. Only an exam with a score has what comes after it.
    """

    exam: NewExam
    views: Sequence[str]
    views_needed: Sequence[str]
    status: Literal["scored", "abstained", "refused"] = "refused"
    reason: str = ""
    parts: Sequence[Json] = ()
    score: float | None = None
    note: str = ""
    interval: Json = field(default_factory=dict)
    like_scores: Json = field(default_factory=dict)
    threshold: float = 0.5
    decision: str | None = None
    doubt: Doubt = field(default_factory=lambda: UNCOMPARED)
    met: Met = field(default_factory=lambda: UNKNOWN)
    own_threshold: float | None = None

    def as_dict(self) -> Json:
        late = bool(self.parts)
        said: Json = {
            "exam": self.exam.name, "files": [file.as_dict() for file in self.exam.files],
            "views": list(self.views), "views_needed": list(self.views_needed),
            **({"parts": list(self.parts)} if late else {}), "status": self.status, "reason": self.reason,
        }  # fmt: skip
        if self.score is None:
            return said
        return said | {
            "score": self.score, **({"note": self.note} if late else {}), "interval": self.interval,
            "like_scores": self.like_scores, "threshold": self.threshold, "decision": self.decision,
            "out_of_distribution": self.doubt, "in_training": self.met,
            **({} if self.own_threshold is None else {"threshold_of_the_kept_model": self.own_threshold}),
        }  # fmt: skip

    def refused(self, reason: str) -> Answer:
        return replace(self, status="refused", reason=reason)

    def scored(self, loaded: LoadedRun, score: float, interval: Json, doubt: Doubt) -> Answer:
        """With a score, and a decision unless the exam is unlike those that the run was trained on."""
        near = np.abs(loaded.units.scores - score) <= LIKE_SCORES
        sick, threshold = int(loaded.units.labels[near].sum()), loaded.run.facts().threshold
        own = float(loaded.fitted.threshold)
        return replace(
            self, status="abstained" if doubt["flag"] else "scored", reason="; ".join(doubt["reasons"]), score=score,
            interval=interval, threshold=threshold, doubt=doubt,
            own_threshold=None if abs(own - threshold) < 1e-12 else own,
            like_scores={"n": int(near.sum()), "sick": sick, "share": wilson(sick, int(near.sum())).as_dict()},
            decision=None if doubt["flag"] else decision_words(score >= threshold),
        )  # fmt: skip


def decision_words(above: bool) -> str:
    """What is said of a score at or above the operating point, or below it."""
    return "at or above the operating point" if above else "below the operating point"


def answer(exam: NewExam, loaded: LoadedRun, section: ImportSection | None = None) -> Answer:
    """Read (as ``section`` of import says) and judge the exam's files, and say what the run makes of them.

    The operating point is the one of the run's own figures, on the scale of calibrated scores.
    """
    given = section or ImportSection()
    if loaded.parts:
        return _answer_together(exam, loaded, given)
    loaded.read(exam, given)
    return _answer_alone(exam, loaded)


def _answer_alone(exam: NewExam, loaded: LoadedRun) -> Answer:
    fit, frames = exam.view_files(), exam.frame_files()
    said = Answer(exam, ["Frontal"] if loaded.dynamic and frames else list(fit), loaded.views)
    missing = [] if loaded.dynamic else [view for view in loaded.views if view not in fit]
    problem = gap_problem(exam, loaded.config) if loaded.dynamic else None
    if missing:
        problem = f"the run needs the views {', '.join(loaded.views)}; missing or unfit: {', '.join(missing)}"
        problem += _what_to_do(exam)
    if problem:
        return said.refused(problem)
    try:
        whole = loaded.whole(exam)
        cohort = loaded.readable(exam, whole)
        score = float(loaded.fitted.scores(cohort, ONE)[0])
        said = replace(said, met=loaded.met(exam, whole))
    except ThermocancerError as error:
        return said.refused(str(error))
    doubt = _doubt(loaded, next(iter(frames.values())) if loaded.dynamic else fit[loaded.views[0]])
    if len(loaded.folds) < FEWEST_FOLDS:
        method = "not available: the run kept no models of its folds (fuse.keep_folds, fuse.fold_bytes)"
        return said.scored(loaded, score, {"low": None, "high": None, "method": method}, doubt)
    scores = [float(fitted.scores(cohort, ONE)[0]) for fitted in loaded.folds]
    low, high = np.percentile(scores, [2.5, 97.5])
    method = f"percentiles over {len(scores)} models of folds, and the score of the kept one"
    interval = {"low": min(float(low), score), "high": max(float(high), score), "method": method}
    return said.scored(loaded, score, interval, doubt)


def _what_to_do(exam: NewExam) -> str:
    """What helps where a view is missing: to say which view a file is, or to train on matrices of its size."""
    codes = {verdict["code"] for file in exam.files for verdict in file.verdicts}
    if "unknown_view" in codes:
        return "; say which view a file is with --view or --view-map"
    if "wrong_shape" in codes:
        shapes = [verdict["reason"].split(" ")[-1] for file in exam.files for verdict in file.verdicts
                  if verdict["code"] == "wrong_shape"]  # fmt: skip
        return (
            f"; the run was trained on matrices of {shapes[0]} as they were: a data set that is resized (build-dataset "
            "--size ROWSxCOLUMNS, then train again) takes exams of any size"
        )
    return ""


def _doubt(loaded: LoadedRun, file: NewFile) -> Doubt:
    """How unlike the training exams one is, compared at the size that they are stored in."""
    training = loaded.training
    if training is None:
        return uncompared("the data set of the run is not here, so that this exam could not be compared with it")
    if training.reference is None or file.celsius is None:
        return uncompared(training.note)
    celsius = file.celsius
    if training.resized:
        celsius = np.asarray(resized(fill_centi(file.celsius), training.shape) / 100.0, np.float64)
        celsius[resize_missing(np.isnan(file.celsius), training.shape)] = np.nan
    return judge_novelty(training.reference, celsius, file.layout) | {"note": training.note}


# --- a late run: each combined run reads what it can, the late run decides --------------------------------------------

NO_INTERVAL = {
    "low": None, "high": None,
    "method": "not available: a late run keeps one model, and none of its folds, whose spread an interval would show",
}  # fmt: skip


def _load_late(run: Run) -> LoadedRun:
    from thermocancer.classifiers.late.scores import check_components
    from thermocancer.classifiers.making import load_fitted

    fitted = load_fitted(run.model_folder, run.workspace)
    components = fitted.describe()["components"]
    check_components(run.workspace, components, run.name)
    found = {each["run"]: read_run(run.workspace, each["run"]) for each in components}
    nested = [name for name, each in found.items() if each.reads is Reads.RUNS]
    if nested:
        raise ConfigError(
            f"run {run.name!r} cannot score a new exam",
            where=run.folder, expected="a late run that combines runs of fuse and train-dit",
            found=f"it combines the late run {nested[0]}", hint="combine all the runs at once",
        )  # fmt: skip
    # sequence networks first: they bring their own strategy, which encoders then share
    order = sorted(found, key=lambda name: found[name].reads is not Reads.FRAMES)
    loaded = {name: load_run(found[name]) for name in order}
    return LoadedRun(run, fitted, parts=tuple(loaded[name] for name in found))


def _answer_together(exam: NewExam, late: LoadedRun, section: ImportSection) -> Answer:
    from thermocancer.classifiers.calibrated import CalibratedFitted
    from thermocancer.classifiers.late.features import JointModel, OneExam

    exams = []
    for part in late.parts:  # its own protocol's files, by its own rules
        own = [file for file in exam.files if (file.frame is not None) == part.dynamic]
        files = [replace(file, verdicts=list(file.verdicts), notes=list(file.notes)) for file in own]
        exams.append(NewExam(exam.name, files, exam.patient, exam.visit))
        part.read(exams[-1], section)
    said = [_answer_alone(each, part) for each, part in zip(exams, late.parts, strict=True)]
    read = {file.path: file for each in reversed(exams) for file in each.files}
    unread = {file.path: replace(file, notes=[*file.notes, file.not_used()]) for file in exam.files}
    exam.files = [(unread | read)[file.path] for file in exam.files]  # as the first run that reads them judged them
    parts: list[Json] = [
        {
            "run": part.run.name, "model": part.run.manifest.model, "status": each.status, "reason": each.reason,
            "score": each.score,
        }
        for part, each in zip(late.parts, said, strict=True)
    ]  # fmt: skip
    views = dict.fromkeys(view for each in said for view in each.views)
    together = Answer(exam, list(views), late.views, parts=parts)
    silent = [each for each in parts if each["status"] == "refused"]
    why = "; ".join(f"{each['run']}: {each['reason']}" for each in silent)
    if len(silent) == len(parts):
        return together.refused(why)
    model = late.fitted.model if isinstance(late.fitted, CalibratedFitted) else None
    joint = model if isinstance(model, JointModel) else None
    try:
        given = [_given(*each, by_features=joint is not None) for each in zip(exams, late.parts, said, strict=True)]
        one = OneExam((Exam(exam.patient, exam.visit, 0),), *zip(*given, strict=True))
        score = float(late.fitted.scores(one, ONE)[0])
        if joint is not None:
            for each, added in zip(parts, joint.contributions(one, ONE)[0], strict=True):
                each["adds_log_odds"] = float(added)
    except ThermocancerError as error:
        return together.refused(str(error))
    if silent:
        place = "the others decide" if joint is None else "the training patients' mean stands for it"
        why = silent[0]["reason"] if len(silent) == 1 else why
        together = replace(together, note=f"without {', '.join(each['run'] for each in silent)} ({place}): {why}")
    worst = ("exam", "nearly", "patient", "unknown", "no")
    met = min((each.met for each in said if each.score is not None), key=lambda each: worst.index(each["status"]))
    together = replace(together, met=met)
    doubts = {part.run.name: each.doubt for part, each in zip(late.parts, said, strict=True) if each.score is not None}
    return together.scored(late, score, dict(NO_INTERVAL), _doubt_of(doubts))


def _given(
    exam: NewExam, part: LoadedRun, said: Answer, *, by_features: bool
) -> tuple[FloatArray | None, Mapping[str, FloatArray]]:
    """What a late run reads of a combined one: its logit (1,), or features (p,) by its frozen parts with nuisance."""
    from thermocancer.classifiers.calibrated import CalibratedFitted
    from thermocancer.classifiers.protocol import logit
    from thermocancer.features.prepared import prepare

    if said.score is None:
        return None, {}
    if not by_features:
        return logit(np.array([said.score])), {}
    cohort = part.readable(exam, part.whole(exam))
    if not part.dynamic and isinstance(part.fitted, CalibratedFitted):
        cohort = prepare(cohort, part.fitted.preparation)
    features: FloatArray = part.run.kind.family().kept_reader(part.fitted).of(cohort, ONE)[0]
    return features, cohort.nuisance()


def _doubt_of(doubts: Mapping[str, Doubt]) -> Doubt:
    """The doubts of every run that took part, under its name; of the distances the one furthest beyond its limit."""
    both = [(each["distance"], each["limit"]) for each in doubts.values()]
    distances = [(distance, limit) for distance, limit in both if distance is not None and limit is not None]
    distance, limit = max(distances, key=lambda pair: pair[0] / pair[1]) if distances else (None, None)
    note = "the data set of a combined run is not here, so that this exam could not be compared with it"
    return {
        "flag": any(each["flag"] for each in doubts.values()),
        "reasons": [f"{name}: {reason}" for name, each in doubts.items() for reason in each["reasons"]],
        "distance": distance, "limit": limit, "note": "" if len(distances) == len(doubts) else note,
    }  # fmt: skip
