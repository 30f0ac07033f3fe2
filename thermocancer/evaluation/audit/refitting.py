"""Where controls are trained again: the run's own classifier, data set and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from thermocancer import __version__, strategy
from thermocancer.cache import cached_json
from thermocancer.classifiers.making import asked_for
from thermocancer.classifiers.protocol import Asked, Classifier, Unavailable
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import MatchWeights
from thermocancer.data.split import Fold
from thermocancer.evaluation.audit.controls import Judge, rows_of
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.files import fingerprint
from thermocancer.kinds import Kind, kind
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Refitting:
    """What refits need: the run's own settings and where results are remembered."""

    scope: Scope
    source: Cohort
    config: Config
    workspace: Workspace
    judge: Judge
    repeats: int

    @property
    def folds(self) -> tuple[Fold, ...]:
        return self.scope.first_repeats(self.repeats)

    @property
    def kind(self) -> Kind:
        """The kind of the run's classifier."""
        return self.scope.run.kind

    @property
    def combines(self) -> tuple[str, ...]:
        """Names of the runs that a late run combines; its cohort holds their patients, no thermograms."""
        return self.scope.run.manifest.combine

    @property
    def asked(self) -> Asked:
        """What the run's classifier was asked for, without inner folds: only the order of its scores is audited."""
        found = asked_for(self.config, self.workspace, self.scope.run.manifest.views)
        return replace(found, calibrate=False, exam_weights=self._exam_weights())

    def classifier(self, name: str | None = None) -> Classifier:
        """The run's own classifier, or the one of another kind on the same views."""
        if self.combines:
            return self._late()
        if self.kind.runs_network:
            strategy.set_up(self.config.strategy, self.config.seed)
        own: Classifier = (self.kind if name is None else kind(name)).family().make(self.asked)
        return own

    def twin(self) -> tuple[Classifier, str]:
        """The same with random weights, and a remark on it. Raises Unavailable where there is none."""
        found: tuple[Classifier, str] = self.kind.family().twin(self.asked)
        return found

    def _late(self) -> Classifier:
        from thermocancer.classifiers.late.patients import PatientCohort
        from thermocancer.classifiers.late.run import BY_FEATURES, late_classifier

        if self.config.fuse.combine_by != BY_FEATURES or not isinstance(self.source, PatientCohort):
            raise Unavailable(
                f"the run only weighs scores of {', '.join(self.combines)}, which it cannot train again; "
                "their own audits have this control"
            )
        return late_classifier(self.config, self.source, calibrate=False)

    def _exam_weights(self) -> MatchWeights | None:
        """Weights of matched exams in training, as the run itself used them."""
        if self.config.cohort.match != "weight":
            return None
        return MatchWeights.of(self.source, self.config.cohort)

    def scores(
        self,
        name: str,
        classifier: Classifier,
        *,
        source: Cohort | None = None,
        labels: IntArray | None = None,
        folds: Sequence[Fold] | None = None,
    ) -> list[Prediction]:
        """Out-of-fold rows of a classifier, computed once: an interrupted audit goes on where it stopped."""
        folds = self.folds if folds is None else folds
        source = self.source if source is None else source
        labels = self.scope.labels if labels is None else labels
        settings = self.config.model_dump(mode="json", exclude={"evaluate", "report", "workspace", "pipeline"})
        parts = [[fold.name, fold.train.tolist(), fold.test.tolist()] for fold in folds]
        made_from = self.scope.run.manifest.made_from
        key = fingerprint(__version__, name, settings, source.fingerprint, labels.tolist(), parts, made_from)

        def read(rows: list[dict[str, Any]]) -> list[Prediction]:
            if len(rows) != sum(len(fold.test) for fold in folds):
                raise ValueError("rows of other folds")
            return [Prediction(**row) for row in rows]

        return cached_json(
            self.workspace.cache / "audit" / f"{key[:32]}.json",
            lambda: fit_and_score(classifier, source, self.scope, labels, folds, self.config.seed),
            encode=lambda rows: [asdict(row) for row in rows],
            decode=read,
        )


def fit_and_score(
    classifier: Classifier, source: Cohort, scope: Scope, labels: IntArray, folds: Sequence[Fold], seed: int
) -> list[Prediction]:
    """Fit on each fold's training part with ``labels`` (n,) and score its test part."""
    from thermocancer.training.workers import one_thread

    rows: list[Prediction] = []
    with one_thread():
        for fold in folds:
            fitted = classifier.fit(source, fold.train, labels[fold.train], seed=seed, fold=fold.name)
            rows += rows_of(scope.exams, fold, fitted.scores(source, fold.test))
    return rows
