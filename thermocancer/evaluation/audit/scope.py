"""What an audit works on: the run's exams, its own folds, and the nuisance known of each exam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

import numpy as np

from thermocancer import __version__, strategy
from thermocancer.cache import cached_json
from thermocancer.classifiers.making import Swept, asked_for
from thermocancer.classifiers.protocol import Asked, Classifier, Unavailable
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, Exam, FloatArray, IntArray
from thermocancer.data.matching import MatchWeights
from thermocancer.data.split import Fold
from thermocancer.evaluation.audit.controls import Judge, rows_of
from thermocancer.evaluation.report.exams import ExamFacts, ExamKey
from thermocancer.files import fingerprint
from thermocancer.kinds import Kind, kind
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Variable:
    """One nuisance variable: ``columns`` (n, k), a category spread over indicator columns."""

    name: str
    title: str
    family: str
    columns: FloatArray
    measured: bool
    """True when it was measured in the picture, False when the catalog knows it."""
    ordered: bool = True


def category(name: str, title: str, family: str, values: Sequence[str]) -> Variable:
    """A variable without order, a column for each of its values; an empty text is unknown and a value of its own."""
    kinds = sorted(set(values))
    columns = np.array([[float(value == kind) for kind in kinds] for value in values])
    return Variable(name, title, family, columns, False, ordered=False)


class Tested(Protocol):
    """What scores of variables need: exams and the folds that tested them, be they a run's or of any table."""

    @property
    def exams(self) -> tuple[Exam, ...]: ...

    @property
    def folds(self) -> tuple[Fold, ...]: ...

    @property
    def labels(self) -> IntArray: ...


@dataclass(frozen=True)
class Scope:
    """``folds`` hold positions in ``exams``; ``scored`` are those that the run has predictions for.

    ``cohort`` is the data set behind the run, with the same positions, or None where it is gone (or holds
    no static exams): then only what the predictions and the catalog say can be audited.
    """

    run: Run
    exams: tuple[Exam, ...]
    scored: IntArray
    folds: tuple[Fold, ...]
    cohort: Cohort | None
    facts: dict[ExamKey, ExamFacts]
    wanted: tuple[str, ...] = ()
    """Columns of ``ExamFacts.columns`` to audit: ``cohort.facts``."""
    of_files: tuple[Variable, ...] = ()
    """What image files tell by themselves, in place of what is known of exams."""
    patients_known: bool = True
    """False for image files whose patients nobody knows: each then counts as a patient of its own."""

    @property
    def labels(self) -> IntArray:
        return np.array([exam.label for exam in self.exams], dtype=np.int64)

    def dates(self) -> FloatArray:
        """Days since year 1 of each exam, NaN where unknown. Shape (n,)."""
        return np.array([day_number(exam.date) for exam in self.exams])

    def nuisance(self, name: str) -> FloatArray:
        """One measured variable by name, all NaN where it was not measured. Shape (n,)."""
        measured = {} if self.cohort is None else self.cohort.nuisance()
        return np.asarray(measured.get(name, np.full(len(self.exams), np.nan)), dtype=np.float64)


def day_number(text: str | None) -> float:
    """Days since year 1 of a date YYYY-MM-DD; NaN for none."""
    try:
        return float(date.fromisoformat(text).toordinal()) if text else np.nan
    except ValueError:
        return np.nan


def make_scope(run: Run, cohort: Cohort | None, facts: dict[ExamKey, ExamFacts]) -> Scope:
    """Place the run's predictions on the exams of its data set.

    The folds are those that the predictions show; what was not tested was trained on.
    """
    if cohort is None:
        labels, empty = {(row.patient, row.visit): row.label for row in run.rows}, ExamFacts()
        known = [(key, label, facts.get(key, empty)) for key, label in sorted(labels.items())]
        exams = tuple(Exam(*key, label, fact.date, fact.layout) for key, label, fact in known)
    else:
        exams = tuple(cohort.exams)
    places = {(exam.patient, exam.visit): row for row, exam in enumerate(exams)}
    if any((row.patient, row.visit) not in places for row in run.rows):
        return make_scope(run, None, facts)  # the data set has changed since the run was made
    tested: dict[str, set[int]] = {}
    for row in run.rows:
        tested.setdefault(row.fold, set()).add(places[row.patient, row.visit])
    scored = set().union(*tested.values())
    pool = scored if len(tested) > 1 else _training_pool(run, exams, scored)
    folds = tuple(
        Fold(name, np.array(sorted(pool - rows), dtype=np.int64), np.array(sorted(rows), dtype=np.int64))
        for name, rows in sorted(tested.items(), key=lambda each: _fold_order(each[0]))
    )
    return Scope(run, exams, np.array(sorted(scored), dtype=np.int64), folds, cohort, facts)


def _training_pool(run: Run, exams: Sequence[Exam], scored: set[int]) -> set[int]:
    """With a single fold: exams that were not scored, nor left out, nor (unless thesis) of a scored patient."""
    left_out = {each.exam for each in run.manifest.excluded}
    seen = set() if run.manifest.protocol == "thesis" else {exams[row].patient for row in scored}
    allowed = {row for row, exam in enumerate(exams) if exam.key not in left_out and exam.patient not in seen}
    return allowed - scored


def _fold_order(name: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in name.split("."))


# --- where controls are trained again: the run's own classifier, data set and folds -----------------------------------


@dataclass(frozen=True)
class Refitting:
    """What refits need: the run's own settings and where results are remembered."""

    scope: Scope
    cohort: Cohort
    config: Config
    workspace: Workspace
    judge: Judge
    repeats: int
    permutations: int | None = None
    _made: dict[str | None, Classifier] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_made": {}}

    @property
    def folds(self) -> tuple[Fold, ...]:
        """Those of the first ``repeats`` (all of them where folds are not numbered so)."""
        wanted = {str(number) for number in range(1, self.repeats + 1)}
        return tuple(fold for fold in self.scope.folds if "." not in fold.name or fold.name.split(".")[0] in wanted)

    @property
    def kind(self) -> Kind:
        return self.scope.run.kind

    @property
    def combines(self) -> tuple[str, ...]:
        """Names of the runs that a late run combines; its cohort holds their patients, no thermograms."""
        return self.scope.run.manifest.combine

    @property
    def weighs_scores(self) -> bool:
        """Does the run combine finished scores, so that nothing below them can be trained again?"""
        from thermocancer.classifiers.late.patients import PatientCohort
        from thermocancer.classifiers.late.run import BY_FEATURES

        by_features = self.config.fuse.combine_by == BY_FEATURES and isinstance(self.cohort, PatientCohort)
        return bool(self.combines) and not by_features

    @property
    def asked(self) -> Asked:
        """What the run's classifier was asked for, without inner folds: only the order of its scores is audited."""
        own, asked = self.config.cohort, asked_for(self.config, self.workspace, self.scope.run.manifest.views)
        weights = MatchWeights.of(self.cohort, own) if own.match == "weight" else None
        return replace(asked, calibrate=False, exam_weights=weights)

    def classifier(self, name: str | None = None) -> Classifier:
        """The run's own classifier, or the one of another kind on the same views, made once: controls share its codes.

        Raises Unavailable for a late run that weighs scores.
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str | None) -> Classifier:
        from thermocancer.classifiers.late.patients import PatientCohort
        from thermocancer.classifiers.late.run import late_classifier

        if self.weighs_scores:
            raise Unavailable(
                f"the run only weighs scores of {', '.join(self.combines)}, which it cannot train again; "
                "their own audits have this control"
            )
        if isinstance(self.cohort, PatientCohort):
            return late_classifier(self.config, self.cohort, calibrate=False)
        if self.kind.runs_network:
            strategy.set_up(self.config.strategy, self.config.seed)
        if name is None and self.config.sweep.trials:
            return Swept(self.asked)
        own: Classifier = (self.kind if name is None else kind(name)).family().make(self.asked)
        return own

    def twin(self) -> tuple[Classifier, str]:
        """The same with random weights, and a remark on it. Raises Unavailable where there is none."""
        twin, note = self.kind.family().twin(self.asked)
        if self.config.sweep.trials:
            note = "; ".join(filter(None, [note, "with the settings as given, which are not searched for anew"]))
        return twin, note

    def scores(
        self, name: str, classifier: Classifier, *, cohort: Cohort | None = None, folds: Sequence[Fold] | None = None
    ) -> list[Prediction]:
        """Out-of-fold rows of a classifier, computed once: an interrupted audit goes on where it stopped."""
        return self.taught(name, classifier, [self.scope.labels], cohort=cohort, folds=folds)[0]

    def taught(
        self, name: str, classifier: Classifier, labels: Sequence[IntArray], *, cohort: Cohort | None = None,
        folds: Sequence[Fold] | None = None,
    ) -> list[list[Prediction]]:  # fmt: skip
        """The same for each of several ``labels`` (one an exam), which the rows hold.

        Fold by fold, so that what does not depend on labels (codes, inner products, tables) is made once.
        """
        found: list[list[Prediction]] = [[] for _ in labels]
        for fold in self.folds if folds is None else folds:
            scores = self._of_fold(name, classifier, labels, self.cohort if cohort is None else cohort, fold)
            for rows, own, each in zip(found, scores, labels, strict=True):
                rows += rows_of(self.scope.exams, fold, own, each)
        return found

    def _of_fold(
        self, name: str, classifier: Classifier, labels: Sequence[IntArray], cohort: Cohort, fold: Fold
    ) -> list[FloatArray]:
        settings = self.config.model_dump(
            mode="json", exclude={"evaluate", "report", "workspace", "pipeline", "compute"}
        )
        key = fingerprint(
            __version__, name, settings, cohort.fingerprint, [each.tolist() for each in labels],
            [fold.name, fold.train.tolist(), fold.test.tolist()], self.scope.run.manifest.made_from,
        )  # fmt: skip

        def fit_and_score() -> list[FloatArray]:
            from thermocancer.compute import one_thread

            parts = [(fold.train, each[fold.train]) for each in labels]
            with one_thread():
                if len(parts) > 1:
                    classifier.announce(cohort, fold.name, parts)
                return [
                    classifier.fit(cohort, *part, seed=self.config.seed, fold=fold.name).scores(cohort, fold.test)
                    for part in parts
                ]

        return cached_json(
            self.workspace.cache / "audit" / f"{key[:32]}.json", fit_and_score,
            encode=lambda made: [each.tolist() for each in made],
            decode=lambda kept: list(np.array(kept, dtype=np.float64).reshape(len(labels), len(fold.test))),
        )  # fmt: skip
