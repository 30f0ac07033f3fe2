"""Which encoder belongs to a view and a fold: the fold's own, the split's, or the untrained twin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer import strategy
from thermocancer.cache import keep_arrays, kept_arrays
from thermocancer.classifiers.calibrated import CalibratedFitted
from thermocancer.classifiers.protocol import Asked, Classifier, Family, Fitted, Reader, Settings
from thermocancer.config import Config
from thermocancer.config.learning import InputSection, StrategySection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray, check_present
from thermocancer.data.inputs import input_channels
from thermocancer.data.split import Fold
from thermocancer.errors import DataError, RunError
from thermocancer.features.encoded import VERSION, ViewEncoder, all_codes, let_go, pooled_codes
from thermocancer.features.gram import Gram, Part, gram_matrices
from thermocancer.features.residual import NuisanceFit
from thermocancer.files import fingerprint, hash_file
from thermocancer.strategy import Running
from thermocancer.training import autoencoder as autoencoders
from thermocancer.workspace import VIEWS, Workspace

if TYPE_CHECKING:
    import keras

SMALL_BYTES = 4 << 20
"""Weights up to so large are kept once read: controls of an audit go through the folds one after another."""

FOLDLESS = autoencoders.WHOLE_SPLIT


@dataclass(frozen=True)
class Encoders:
    """Finds, loads and names encoders. ``per_fold`` false: every fold uses the one of the split.

    ``untrained`` gives random weights, drawn from ``seed`` and the view: nothing to train or find.
    """

    workspace: Workspace
    variant: str
    untrained: bool
    per_fold: bool
    input: InputSection
    seed: int
    batch: int
    strategy: StrategySection
    _loaded: dict[str, keras.Model] = field(default_factory=dict, repr=False, compare=False)
    _built: dict[bytes, keras.Model] = field(default_factory=dict, repr=False, compare=False)
    _found: dict[str, ViewEncoder] = field(default_factory=dict, repr=False, compare=False)
    _identities: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, config: Config, workspace: Workspace) -> Encoders:
        """The encoders that the config asks for."""
        fuse = config.fuse
        return cls(
            workspace, fuse.autoencoder or config.autoencoder.variant, fuse.untrained, fuse.encoders == "fold",
            config.autoencoder.input, config.seed, fuse.block, config.strategy,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_loaded": {}, "_built": {}, "_found": {}, "_identities": {}}

    @property
    def shared(self) -> bool:
        """Do several folds use the same encoder, so that its codes are worth keeping on disk?"""
        return self.untrained or not self.per_fold

    def identity(self, view: str, fold: str) -> str:
        """Changes whenever the weights or the input do. Raises DataError when there is no such encoder."""
        key = view, self._fold(fold)
        if key not in self._identities:  # read once: many sets of labels are fitted on the same encoder
            self._identities[key] = self._identify(*key)
        return self._identities[key]

    def _identify(self, view: str, fold: str) -> str:
        if self.untrained:
            return fingerprint("untrained", self.variant, self.input.model_dump(mode="json"), self.seed, view)
        trained = autoencoders.trained_input(self.workspace, self.variant, view, fold)
        path = autoencoders.folder_of(self.workspace, self.variant, view, fold) / autoencoders.MODEL
        if not path.is_file():
            raise DataError("this model file does not exist", where=path, hint="train it again: thermocancer train-ae")
        return fingerprint("encoder", hash_file(path), trained.model_dump(mode="json"))

    def load(self, cohort: Cohort, view: str, fold: str) -> ViewEncoder:
        """The encoder of a view for an outer fold, ready to run. Raises DataError when it is not there."""
        strategy.set_up(self.strategy, self.seed)
        identity = self.identity(view, fold)
        if identity in self._found:
            return self._found[identity]
        if self.untrained:
            from thermocancer.models.autoencoder import random_encoder

            seed = int(np.random.default_rng([self.seed, 43, VIEWS.index(view)]).integers(2**31))
            model = random_encoder(self.variant, cohort.shape, input_channels(self.input), seed)
            trained = self.input
        else:
            model = autoencoders.load_encoder(self.workspace, self.variant, view, self._fold(fold), self._built)
            trained = autoencoders.trained_input(self.workspace, self.variant, view, self._fold(fold))
        shape = repr((model.input_shape, model.output_shape, model.count_params()))
        runs = self._loaded.setdefault(shape, model)
        let_go(runs)  # the one that was read may share its weights
        encoder = ViewEncoder(runs, model.get_weights(), trained, identity, self.batch)
        if sum(each.nbytes for each in encoder.weights) <= SMALL_BYTES:
            self._found[identity] = encoder
        return encoder

    def leaks(self, cohort: Cohort, views: Sequence[str], folds: Sequence[Fold]) -> list[str]:
        """What the encoders had seen that they should not have, in words."""
        if self.untrained:
            return []
        found: list[str] = []
        scored: set[str] = set()
        known: set[int] = set()
        for fold in folds:
            tested = [cohort.exams[row] for row in fold.test]
            for view in views:
                found += autoencoders.trained_leaks(self.workspace, self.variant, view, self._fold(fold.name))
                trained = autoencoders.trained_exams(self.workspace, self.variant, view, self._fold(fold.name))
                if trained is None:  # an older manifest does not tell who only validated
                    known |= self.shown(cohort, view, fold)
                    continue
                scored |= {exam.key for exam in tested} & trained
                known |= {exam.patient for exam in tested} & {int(key.partition("_")[0]) for key in trained}
        if known:
            found.append(
                f"autoencoders were trained on files of scored patients: {len(known)} patients, {len(scored)} scored "
                "exams among the files"
            )
        return list(dict.fromkeys(found))

    def check_unseen(self, cohort: Cohort, views: Sequence[str], folds: Sequence[Fold]) -> None:
        """Raise DataError when an encoder was trained on a patient whom its fold scores."""
        for fold in folds:
            for view in views:
                shown = self.shown(cohort, view, fold)
                if shown:
                    raise DataError(
                        "an autoencoder was trained on patients whom this fold scores",
                        where=f"autoencoder {self.variant} of {view}, fold {fold.name}",
                        found=f"patients {sorted(shown)[:5]}" + (" and more" if len(shown) > 5 else ""),
                        hint="train it again with: thermocancer train-ae; or accept the leak, which the report "
                        "then names, with --set fuse.encoders=split",
                    )

    def shown(self, cohort: Cohort, view: str, fold: Fold) -> set[int]:
        """Patients of a fold's test part whom the encoder was trained on."""
        if self.untrained:
            return set()
        trained = autoencoders.trained_patients(self.workspace, self.variant, view, self._fold(fold.name))
        return {cohort.exams[row].patient for row in fold.test} & trained

    def _fold(self, fold: str) -> str:
        return fold if self.per_fold or fold in FOLDLESS else "split"


class CodesFamily(Family):
    """Classifiers on encoder codes; subclasses say how they are made, loaded, and where their encoders are."""

    def facts(
        self, asked: Asked, cohort: Cohort, rows: IntArray, excluded: Sequence[tuple[str, str]]
    ) -> Settings:  # fmt: skip
        fuse = asked.config.fuse
        own = {"autoencoder": fuse.autoencoder or asked.config.autoencoder.variant, "untrained": fuse.untrained}
        return super().facts(asked, cohort, rows, excluded) | own

    def content(self, asked: Asked, folds: Sequence[str]) -> list[object]:
        encoders = Encoders.of(asked.config, asked.workspace)
        return [encoders.identity(view, fold) for view in asked.views for fold in (*folds, "all")]

    def check_unseen(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> None:
        """A run that accepted this leak (``fuse.encoders: split``) names it instead."""
        if asked.config.fuse.encoders == "fold":
            Encoders.of(asked.config, asked.workspace).check_unseen(cohort, asked.views, folds)

    def leaks(self, asked: Asked, cohort: Cohort, folds: Sequence[Fold]) -> list[str]:
        return Encoders.of(asked.config, asked.workspace).leaks(cohort, asked.views, folds)

    def shown(self, asked: Asked, cohort: Cohort, fold: Fold) -> set[int]:
        encoders = Encoders.of(asked.config, asked.workspace)
        return {patient for view in asked.views for patient in encoders.shown(cohort, view, fold)}

    def shared_reader(self, asked: Asked) -> bool:
        return False

    def twin(self, asked: Asked) -> tuple[Classifier, str]:
        if asked.config.fuse.untrained:
            return super().twin(asked)
        return self.make(asked.with_settings("fuse", untrained=True)), ""

    @abstractmethod
    def encoders_inside(self, model: Fitted) -> Mapping[str, ViewEncoder] | None:
        """The encoders that a model which was read back keeps, by view; None where it is another family's."""

    def reader(self, asked: Asked, cohort: Cohort, fold: str) -> Reader:
        encoders = Encoders.of(asked.config, asked.workspace)
        return CodeReader({view: encoders.load(cohort, view, fold) for view in asked.views}, asked.workspace.cache)

    def kept_reader(self, fitted: Fitted, cache: Path | None = None) -> Reader:
        found = self.encoders_inside(fitted.model) if isinstance(fitted, CalibratedFitted) else None
        return super().kept_reader(fitted, cache) if found is None else CodeReader(found, cache)


@dataclass(frozen=True, eq=False)
class CodeReader(Reader):
    """The codes of each view, averaged over a coarse grid; with ``cache`` kept there."""

    encoders: Mapping[str, ViewEncoder]
    cache: Path | None = None

    def of(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        parts = []
        for view, encoder in self.encoders.items():
            check_present(cohort, view, rows)
            parts.append(pooled_codes(encoder, cohort, view, rows, self.cache))
        return np.concatenate(parts, axis=1).astype(np.float64)


def save_encoder(encoder: ViewEncoder, path: Path) -> None:
    """Write an encoder beside the classifier that reads its codes; equal weights, equal bytes."""
    from thermocancer.training.checkpoint import save_model

    encoder.take_hold()
    save_model(encoder.model, path)


def load_saved_encoder(path: Path, trained: InputSection, batch: int) -> ViewEncoder:
    """An encoder that a run keeps with its model. Raises DataError when the file is damaged."""
    from thermocancer.training.checkpoint import load_model

    ensure_running()
    model = load_model(path)
    return ViewEncoder(model, model.get_weights(), trained, hash_file(path), batch)


def ensure_running() -> Running:
    """The strategy of this process; set up with the defaults where no stage has done so."""
    try:
        return strategy.current()
    except RunError:
        return strategy.set_up(StrategySection(), 0)


# --- gram matrices of encoder features for the training parts of a fold: computed togethe ---


KEEP_IN_MEMORY = 8


@dataclass(frozen=True)
class Grams:
    """Gram matrices by encoder, data set, view and training rows."""

    encoders: Encoders
    views: tuple[str, ...]
    residualise: bool
    cache: Path
    clip: float | None = None
    _known: dict[str, Gram] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_known": {}}

    def part(self, source: Cohort, rows: IntArray, labels: IntArray) -> Part:
        """What a training part's standardisation (and residualisation) is fitted on."""
        if not self.residualise:
            return Part(rows, self.clip)
        nuisance = NuisanceFit.of(source, rows, labels)
        return Part(
            rows, self.clip, nuisance, nuisance.scaling.design(source, np.arange(len(source.exams), dtype=np.int64))
        )

    def prepare(self, source: Cohort, fold: str, parts: Sequence[Part]) -> None:
        """Compute what is not known yet for some training parts, each view's codes being made once."""
        for view in self.views:
            keys = {self._key(source, view, fold, part): part for part in parts}
            missing = {key: part for key, part in keys.items() if self._find(source, key) is None}
            if missing:
                self._compute(source, view, fold, missing)

    def of(self, source: Cohort, fold: str, part: Part) -> Gram:
        """The Gram matrix of all exams over all views, standardised on one training part."""
        found: list[Gram] = []
        for view in self.views:
            key = self._key(source, view, fold, part)
            found.append(self._find(source, key) or self._compute(source, view, fold, {key: part})[0])
        first, *others = found
        for gram in others:
            first = first + gram
        return first

    def _key(self, source: Cohort, view: str, fold: str, part: Part) -> str:
        healthy = None if part.nuisance is None else part.nuisance.healthy.tolist()
        identity = self.encoders.identity(view, fold)
        return fingerprint("gram", VERSION, identity, source.fingerprint, view, part.rows.tolist(), healthy, self.clip)

    def _path(self, key: str) -> Path:
        return self.cache / "gram" / f"{key[:32]}.npz"

    def _find(self, source: Cohort, key: str) -> Gram | None:
        if key not in self._known:
            exams = len(source.exams)
            wanted = {"products": ((exams, exams), np.float32), "variance": ((), np.float64)}
            found = kept_arrays(self._path(key), wanted)
            if found is not None:
                self._remember(key, Gram(found["products"].astype(np.float64), float(found["variance"])))
        return self._known.get(key)

    def _compute(self, source: Cohort, view: str, fold: str, parts: Mapping[str, Part]) -> list[Gram]:
        encoder = self.encoders.load(source, view, fold)
        with all_codes(encoder, source, view, self.cache, keep=self.encoders.shared) as codes:
            grams = gram_matrices(codes, list(parts.values()))
        for key, gram in zip(parts, grams, strict=True):
            keep_arrays(self._path(key), products=gram.products.astype(np.float32), variance=gram.variance)
            self._remember(key, gram)
        return grams

    def _remember(self, key: str, gram: Gram) -> None:
        self._known[key] = gram
        while len(self._known) > KEEP_IN_MEMORY * len(self.views):
            del self._known[next(iter(self._known))]
