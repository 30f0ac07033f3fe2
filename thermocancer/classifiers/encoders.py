"""Which encoder belongs to a view and a fold: the fold's own, the split's, or the untrained twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thermocancer import strategy
from thermocancer.config import Config
from thermocancer.config.learning import InputSection, StrategySection
from thermocancer.data.cohort import Cohort
from thermocancer.data.inputs import input_channels
from thermocancer.data.split import Fold
from thermocancer.errors import DataError, RunError
from thermocancer.features.encoded import ViewEncoder
from thermocancer.files import fingerprint, hash_file
from thermocancer.strategy import Running
from thermocancer.training.autoencoder import files as autoencoders
from thermocancer.workspace import VIEWS, Workspace

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
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, config: Config, workspace: Workspace) -> Encoders:
        """The encoders that the config asks for."""
        fuse = config.fuse
        return cls(
            workspace, fuse.autoencoder or config.autoencoder.variant, fuse.untrained, fuse.encoders == "fold",
            config.autoencoder.input, config.seed, fuse.block, config.strategy,
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": {}}

    @property
    def shared(self) -> bool:
        """Do several folds use the same encoder, so that its codes are worth keeping on disk?"""
        return self.untrained or not self.per_fold

    def identity(self, view: str, fold: str) -> str:
        """Changes whenever the weights or the input do. Raises DataError when there is no such encoder."""
        if self.untrained:
            return fingerprint("untrained", self.variant, self.input.model_dump(mode="json"), self.seed, view)
        fold = self._fold(fold)
        trained = autoencoders.trained_input(self.workspace, self.variant, view, fold)
        path = autoencoders.folder_of(self.workspace, self.variant, view, fold) / autoencoders.MODEL
        if not path.is_file():
            raise DataError("this model file does not exist", where=path, hint="train it again: thermocancer train-ae")
        return fingerprint("encoder", hash_file(path), trained.model_dump(mode="json"))

    def load(self, source: Cohort, view: str, fold: str) -> ViewEncoder:
        """The encoder of a view for an outer fold, ready to run. Raises DataError when it is not there."""
        strategy.set_up(self.strategy, self.seed)
        identity = self.identity(view, fold)
        if self.untrained:
            model, trained = self._random(source, view), self.input
        else:
            model = autoencoders.load_encoder(self.workspace, self.variant, view, self._fold(fold))
            trained = autoencoders.trained_input(self.workspace, self.variant, view, self._fold(fold))
        shape = repr((model.input_shape, model.output_shape, model.count_params()))
        return ViewEncoder(self._loaded.setdefault(shape, model), model.get_weights(), trained, identity, self.batch)

    def leaks(self, source: Cohort, views: Sequence[str], folds: Sequence[Fold]) -> list[str]:
        """What the encoders had seen that they should not have, in words."""
        if self.untrained:
            return []
        found, shown = [], set()
        for fold in folds:
            for view in views:
                found += autoencoders.trained_leaks(self.workspace, self.variant, view, self._fold(fold.name))
                shown |= self.shown(source, view, fold)
        if shown:
            found.append(f"autoencoders were trained on scored exams: {len(shown)} patients")
        return list(dict.fromkeys(found))

    def check_unseen(self, source: Cohort, views: Sequence[str], folds: Sequence[Fold]) -> None:
        """Raise DataError when an encoder was trained on a patient whom its fold scores."""
        for fold in folds:
            for view in views:
                shown = self.shown(source, view, fold)
                if shown:
                    raise DataError(
                        "an autoencoder was trained on patients whom this fold scores",
                        where=f"autoencoder {self.variant} of {view}, fold {fold.name}",
                        found=f"patients {sorted(shown)[:5]}" + (" and more" if len(shown) > 5 else ""),
                        hint="train it again with: thermocancer train-ae; or accept the leak, which the report "
                        "then names, with --set fuse.encoders=split",
                    )

    def shown(self, source: Cohort, view: str, fold: Fold) -> set[int]:
        """Patients of a fold's test part whom the encoder was trained on."""
        if self.untrained:
            return set()
        trained = autoencoders.trained_patients(self.workspace, self.variant, view, self._fold(fold.name))
        return {source.exams[row].patient for row in fold.test} & trained

    def _fold(self, fold: str) -> str:
        return fold if self.per_fold or fold in FOLDLESS else "split"

    def _random(self, source: Cohort, view: str) -> Any:
        from thermocancer.models.autoencoder import random_encoder

        seed = int(np.random.default_rng([self.seed, 43, VIEWS.index(view)]).integers(2**31))
        return random_encoder(self.variant, source.shape, input_channels(self.input), seed)


def save_encoder(encoder: ViewEncoder, path: Path) -> None:
    """Write an encoder beside the classifier that reads its codes; equal weights, equal bytes."""
    from thermocancer.training.checkpoint import save_model

    encoder.model.set_weights(encoder.weights)
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
