"""Late fusion by features: the exams of several runs as one table of patients, fold by fold.

A block is what one run's frozen parts make of the exams it counts: in cross-validation those of each
outer fold (the fold's own encoder, or a backbone that serves all), for the model to keep those that
the run itself keeps, so that ``predict`` reads a new exam exactly as it was read here.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.making import load_fitted
from thermocancer.classifiers.protocol import Asked, Family, Reader
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import choose_rows
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.prepared import prepare
from thermocancer.features.tables import complete_rows
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run
from thermocancer.training.autoencoder.files import WHOLE_SPLIT


@dataclass(frozen=True)
class CombinedRun:
    """A run whose features are combined, and the settings that made it."""

    scores: Run
    config: Config

    @classmethod
    def of(cls, scores: Run) -> CombinedRun:
        """Raises ConfigError for a run that reads no thermograms itself."""
        found = cls(scores, scores.required_config())
        if scores.reads is Reads.RUNS:
            raise found._refused("a late run has no features of its own")
        if scores.reads is Reads.IMAGES:
            raise found._refused(f"a run of {scores.manifest.stage}")
        return found

    def check_frozen(self) -> None:
        """Raise ConfigError when the run's features differ by fold in what is not kept, or its folds tell or leak."""
        if why := self.family.why_not_frozen(self.asked):
            raise self._refused(why)
        if self.config.cohort.match != "none":
            raise self._refused("its cohort is matched, and matches must not stand on both sides of a fold")
        if self.scores.manifest.protocol == "thesis":
            raise self._refused("its folds are the original study's, where patients stand on both sides")

    def _refused(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the features of run {self.scores.name} cannot be combined", where="fuse.combine", found=reason,
            hint="combine scores instead: fuse.combine_by: scores",
        )  # fmt: skip

    @property
    def family(self) -> Family:
        family: Family = self.scores.kind.family()
        return family

    @property
    def asked(self) -> Asked:
        return Asked(self.config, self.scores.workspace, self.scores.manifest.views)

    @property
    def dynamic(self) -> bool:
        return self.scores.reads is Reads.FRAMES

    @property
    def residualise(self) -> bool:
        """Whether nuisance is regressed out of the run's features, as the run itself does."""
        return not self.dynamic and self.config.features.residualise

    def reader(self, cohort: Cohort, fold: str) -> Reader:
        """What reads exams for one outer fold; for ``all`` and ``test`` what the run keeps."""
        if self.scores.kind.runs_network:
            strategy.set_up(self.config.strategy, self.config.seed)
        if fold in WHOLE_SPLIT:
            fitted = load_fitted(self.scores.model_folder, self.scores.workspace)
            return self.family.kept_reader(fitted, self.scores.workspace.cache)
        return self.family.reader(self.asked, cohort, fold)


@dataclass(eq=False)
class Block:
    """The exams that one run counts, ``rows`` (m,) of ``source``, and their features by the fold at hand."""

    run: CombinedRun
    source: Cohort
    rows: IntArray
    _known: dict[str, FloatArray] = field(default_factory=dict, repr=False)
    _readers: dict[str, Reader] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, run: CombinedRun, stack: ExitStack) -> Block:
        """Open the run's data set, closed with ``stack``. Raises DataError when it is not the one of the run."""
        path = run.scores.workspace.dataset(run.config.dataset.name)
        source: Cohort = stack.enter_context(StoredCohort(path, DYNAMIC if run.dynamic else STATIC))
        expected = run.scores.manifest.dataset.fingerprint
        if source.fingerprint != expected:
            raise DataError(
                f"the data set has changed since run {run.scores.name} was made",
                where=path, expected=expected[:16], found=source.fingerprint[:16], hint="train the run again",
            )  # fmt: skip
        rows, _ = choose_rows(source, run.config.cohort)
        if not run.dynamic:
            rows = np.intersect1d(rows, complete_rows(source, run.asked.views))
            source = prepare(source, run.config.features)
        return cls(run, source, rows)

    def table(self, fold: str) -> FloatArray:
        """Features of ``rows`` by the frozen parts of a fold, (m, p)."""
        if fold not in self._known:
            self._known.clear()  # folds come one after another
            self._known[fold] = self._reader(fold).of(self.source, self.rows)
        return self._known[fold]

    def _reader(self, fold: str) -> Reader:
        """One that serves every fold is made once."""
        shared = self.run.family.shared_reader(self.run.asked)
        key = "" if shared and fold not in WHOLE_SPLIT else fold
        if key not in self._readers:
            self._readers.clear()
            self._readers[key] = self.run.reader(self.source, fold)
        return self._readers[key]
