"""Where controls are trained again: the run's own recipe, data set and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thermocancer import __version__
from thermocancer.cache import cached_json
from thermocancer.classifiers.protocol import Recipe
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import MatchWeights
from thermocancer.data.split import Fold
from thermocancer.errors import DataError
from thermocancer.evaluation.audit.controls import Judge, rows_of
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.files import fingerprint
from thermocancer.kinds import Reads
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import Workspace


class Unavailable(DataError):
    """A control that this data set or model does not allow, and why."""


@dataclass(frozen=True)
class Bench:
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
    def reads_frames(self) -> bool:
        """True for a sequence network, whose source holds the frames of dynamic exams."""
        return self.scope.run.reads is Reads.FRAMES

    @property
    def combines(self) -> tuple[str, ...]:
        """Names of the runs that a late run combines; its source holds their patients, no thermograms."""
        return self.scope.run.manifest.combine

    def recipe(self, kind: str | None = None, *, untrained: bool = False) -> Recipe:
        """The run's recipe without inner folds: only the order of its scores is audited."""
        if self.reads_frames:
            return self._sequence_recipe(untrained)
        if self.combines:
            return self._late_recipe()
        from thermocancer.classifiers.recipes import make_recipe

        config = _changed(self.config, "fuse", untrained=True) if untrained else self.config
        views = self.scope.run.manifest.views
        return make_recipe(
            config, self.workspace, kind=kind, views=views, calibrate=False, exam_weights=self._exam_weights()
        )

    def _late_recipe(self) -> Recipe:
        from thermocancer.classifiers.late.patients import PatientCohort
        from thermocancer.classifiers.late.run import late_recipe

        if self.config.fuse.combine_by == "scores" or not isinstance(self.source, PatientCohort):
            raise Unavailable(
                f"the run only weighs scores of {', '.join(self.combines)}, which it cannot train again; "
                "their own audits have this control"
            )
        return late_recipe(self.config, self.source, calibrate=False)

    def _sequence_recipe(self, untrained: bool) -> Recipe:
        from thermocancer import strategy
        from thermocancer.classifiers.sequence.network import SequenceMethod, sequence_recipe
        from thermocancer.classifiers.sequence.readers import FrameReaders, UntrainedReaders

        config, readers_of = self.config, FrameReaders
        if untrained:  # fine-tuning would train what must not be
            own = config.dit.backbone == "autoencoder"
            other = {} if own else {"backbone": "random", "weights": None}
            config, readers_of = _changed(config, "dit", finetune=False, **other), UntrainedReaders
        strategy.set_up(config.strategy, config.seed)
        readers = readers_of(config, self.workspace)
        method = SequenceMethod(config, self.workspace, readers, self._exam_weights())
        return sequence_recipe(method, calibrate=False)

    def _exam_weights(self) -> MatchWeights | None:
        """Weights of matched exams in training, as the run itself used them."""
        if self.config.cohort.match != "weight":
            return None
        return MatchWeights.of(self.source, self.config.cohort)

    def scores(
        self,
        name: str,
        recipe: Recipe,
        *,
        source: Cohort | None = None,
        labels: IntArray | None = None,
        folds: Sequence[Fold] | None = None,
    ) -> list[Prediction]:
        """Out-of-fold rows of a recipe, computed once: an interrupted audit goes on where it stopped."""
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
            lambda: fit_and_score(recipe, source, self.scope, labels, folds, self.config.seed),
            encode=lambda rows: [asdict(row) for row in rows],
            decode=read,
        )


def _changed(config: Config, section: str, **values: Any) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def fit_and_score(
    recipe: Recipe, source: Cohort, scope: Scope, labels: IntArray, folds: Sequence[Fold], seed: int
) -> list[Prediction]:
    """Fit on each fold's training part with ``labels`` (n,) and score its test part."""
    from thermocancer.training.workers import one_thread

    rows: list[Prediction] = []
    with one_thread():
        for fold in folds:
            fitted = recipe.fit(source, fold.train, labels[fold.train], seed=seed, fold=fold.name)
            rows += rows_of(scope.exams, fold, fitted.scores(source, fold.test))
    return rows
