"""Late fusion by features: the exams of several runs as one table of patients, fold by fold.

A block is what one run's frozen parts make of the exams it counts: in cross-validation those of each
outer fold (the fold's own encoder, or a backbone that serves all), for the model to keep those that
the run itself keeps, so that ``predict`` reads a new exam exactly as it was read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from thermocancer import strategy
from thermocancer.classifiers.encoders import Encoders
from thermocancer.classifiers.late.frozen import CodeReader, FrameSummary, Reader, TableReader, kept_reader
from thermocancer.classifiers.recipes import load_fitted
from thermocancer.classifiers.sequence.readers import VIEW, FrameReaders
from thermocancer.classifiers.tabular import FeatureTable
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.matching import choose_rows
from thermocancer.data.split import Fold
from thermocancer.data.store.reading import DYNAMIC, STATIC, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.prepared import prepare
from thermocancer.features.tables import TableKind, complete_rows
from thermocancer.files import hash_file
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run
from thermocancer.training.autoencoder.files import WHOLE_SPLIT
from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class CombinedRun:
    """A run whose features are combined: its manifest and the settings that made it."""

    scores: Run
    config: Config

    @classmethod
    def of(cls, scores: Run) -> CombinedRun:
        """Raises ConfigError for a run that reads no thermograms itself."""
        found = cls(scores, scores.required_config())
        if scores.reads is Reads.IMAGES:
            raise found._refused(f"a run of {scores.manifest.stage}")
        if scores.reads is Reads.RUNS:
            raise found._refused("a late run has no features of its own")
        return found

    def check_frozen(self) -> None:
        """Raise ConfigError when the run's features differ by fold in what is not kept, or its folds tell or leak."""
        if self.dynamic and self.config.dit.finetune:
            raise self._refused("its backbone is fine-tuned (dit.finetune), and not kept for every fold")
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
    def workspace(self) -> Workspace:
        return self.scores.workspace

    @property
    def encoded(self) -> bool:
        """Does it read codes by the autoencoders' encoders?"""
        return self.scores.reads is Reads.CODES

    @property
    def dynamic(self) -> bool:
        return self.scores.reads is Reads.FRAMES

    @property
    def residualise(self) -> bool:
        """Whether nuisance is regressed out of the run's features, as the run itself does."""
        return not self.dynamic and self.config.features.residualise

    @property
    def views(self) -> tuple[str, ...]:
        return self.scores.manifest.views

    def identity(self, folds: Sequence[str]) -> list[Any]:
        """Changes with the weights of the frozen parts of any fold; the run's own files are not part of it."""
        if self.dynamic:
            if self.config.dit.backbone != "autoencoder":
                return []
            folder = self.workspace.autoencoder(self.config.autoencoder.variant, VIEW)
            return [[str(each.relative_to(folder)), hash_file(each)] for each in sorted(folder.rglob("manifest.json"))]
        if not self.encoded:
            return []
        encoders = Encoders.of(self.config, self.workspace)
        return [encoders.identity(view, fold) for view in self.views for fold in folds]

    def reader(self, source: Cohort, fold: str) -> Reader:
        """What reads exams for one outer fold; for ``all`` and ``test`` what the run keeps."""
        cache = self.workspace.cache
        if self.dynamic or self.encoded:
            strategy.set_up(self.config.strategy, self.config.seed)
        if fold in WHOLE_SPLIT:
            return kept_reader(load_fitted(self.scores.model_folder, self.workspace), cache)
        if self.dynamic:
            with strategy.current().scope():
                reader = FrameReaders(self.config, self.workspace).of(fold)
            return FrameSummary(reader, tuple(self.config.dit.frames), cache, self.config.seed)
        if self.encoded:
            encoders = Encoders.of(self.config, self.workspace)
            return CodeReader({view: encoders.load(source, view, fold) for view in self.views}, cache)
        return TableReader(
            FeatureTable(cast(TableKind, self.scores.kind.name), self.views, self.config.features.pixels, cache)
        )

    def check_unseen(self, source: Cohort, folds: Sequence[Fold]) -> None:
        """Raise DataError when an encoder was trained on a patient whom its fold scores.

        A run that accepted this leak (``fuse.encoders: split``) names it, and so does what combines it.
        """
        if self.dynamic and self.config.dit.backbone == "autoencoder":
            options = {"autoencoder": None, "untrained": False, "encoders": "fold"}  # as train-dit takes them
            fuse = self.config.fuse.model_copy(update=options)
            own = Encoders.of(self.config.model_copy(update={"fuse": fuse}), self.workspace)
            own.check_unseen(source, (VIEW,), folds)
        elif not self.dynamic and self.encoded and self.config.fuse.encoders == "fold":
            Encoders.of(self.config, self.workspace).check_unseen(source, self.views, folds)


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
        path = run.workspace.dataset(run.config.dataset.name)
        source: Cohort = stack.enter_context(StoredCohort(path, DYNAMIC if run.dynamic else STATIC))
        expected = run.scores.manifest.dataset.fingerprint
        if source.fingerprint != expected:
            raise DataError(
                f"the data set has changed since run {run.scores.name} was made",
                where=path, expected=expected[:16], found=source.fingerprint[:16], hint="train the run again",
            )  # fmt: skip
        rows, _ = choose_rows(source, run.config.cohort)
        if not run.dynamic:
            rows = np.intersect1d(rows, complete_rows(source, run.views))
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
        shared = self.run.config.dit.backbone != "autoencoder" if self.run.dynamic else not self.run.encoded
        key = "" if shared and fold not in WHOLE_SPLIT else fold
        if key not in self._readers:
            self._readers.clear()
            self._readers[key] = self.run.reader(self.source, fold)
        return self._readers[key]
