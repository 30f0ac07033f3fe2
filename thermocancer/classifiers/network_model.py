"""A trained fusion network with the encoders below it, and the codes it reads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.encoders import Encoders, ensure_running, load_saved_encoder, save_encoder
from thermocancer.classifiers.platt import logit
from thermocancer.classifiers.support import check_present
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.errors import DataError
from thermocancer.features.encoded import IN_MEMORY_BYTES, ViewEncoder, all_codes
from thermocancer.files import read_json, write_json

NETWORK_FILE, INPUTS_FILE = "network.keras", "inputs.json"

Shape = tuple[int, int, int]
Weights = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class CodeExamples:
    """Codes of some exams as training examples (see ``training.batches.Examples``); reads as it goes.

    ``codes`` (n, p) by view, of all exams; ``rows`` (m,) of them, with ``labels`` and ``weights`` (m,);
    ``shapes`` (h, w, c) by view.
    """

    codes: Mapping[str, Float32Array]
    rows: IntArray
    labels: IntArray
    shapes: Mapping[str, Shape]
    weights: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: IntArray, epoch: int) -> tuple[dict[str, Float32Array], Float32Array]:
        """Codes (b, h, w, c) by view, and labels (b, 1)."""
        chosen = self.rows[rows]
        codes = {view: self.codes[view][chosen].reshape(-1, *shape) for view, shape in self.shapes.items()}
        return codes, self.labels[rows].astype(np.float32)[:, np.newaxis]


class CodeShelf:
    """The codes of all views for one source and fold at a time; those before are let go."""

    def __init__(self, encoders: Encoders, views: tuple[str, ...], cache: Path) -> None:
        self._encoders, self._views, self._cache = encoders, views, cache
        self._held = contextlib.ExitStack()
        self._key: object = None
        self._source: Cohort | None = None  # kept alive, so that its identity stays its own
        self._codes: dict[str, Float32Array] = {}
        self._loaded: dict[str, ViewEncoder] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return CodeShelf, (self._encoders, self._views, self._cache)

    def of(self, source: Cohort, fold: str) -> tuple[Mapping[str, Float32Array], Mapping[str, ViewEncoder]]:
        """Codes (n, p) of every exam of the source, and the encoder, by view."""
        key = (id(source), fold)
        if key != self._key:
            self._held.close()
            self._key, self._source, self._codes, self._loaded = None, source, {}, {}
            share = IN_MEMORY_BYTES // len(self._views)
            for view in self._views:
                self._loaded[view] = self._encoders.load(source, view, fold)
                codes = all_codes(
                    self._loaded[view], source, view, self._cache, keep=self._encoders.shared, in_memory=share
                )
                self._codes[view] = self._held.enter_context(codes)
            self._key = key
        return self._codes, self._loaded


def code_shape(encoder: ViewEncoder) -> Shape:
    """Height, width and channels of an encoder's code."""
    height, width, channels = encoder.model.output_shape[1:]
    return height, width, channels


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """A trained fusion network (see ``calibrated.Model``).

    ``model`` may be shared with other folds, so ``weights`` are put into it before it runs.
    ``training`` is where codes of the training source are found: shelf, source and fold.
    """

    model: Any
    weights: Weights
    encoders: Mapping[str, ViewEncoder]
    batch: int
    training: tuple[CodeShelf, Cohort, str] | None = None
    history: Sequence[Mapping[str, Any]] = ()

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of sick, (len(rows),). Raises DataError when an exam lacks a view."""
        for view in self.encoders:
            check_present(source, view, rows)
        nobody = np.zeros(len(rows), np.int64)
        shapes = {view: code_shape(encoder) for view, encoder in self.encoders.items()}
        if self.training is not None and self.training[1] is source:
            shelf, _, fold = self.training
            return self._log_odds(CodeExamples(shelf.of(source, fold)[0], rows, nobody, shapes))
        codes = {view: np.empty((len(rows), encoder.size), np.float32) for view, encoder in self.encoders.items()}
        for view, encoder in self.encoders.items():
            for positions, part in encoder.codes(source, view, rows):
                codes[view][positions] = part
        return self._log_odds(CodeExamples(codes, np.arange(len(rows), dtype=np.int64), nobody, shapes))

    def _log_odds(self, examples: CodeExamples) -> FloatArray:
        """In batches of one size, the last one filled up, so that an exam's score does not depend on the others."""
        running = ensure_running()
        self.model.set_weights(self.weights)
        size, found = running.batch(self.batch), []
        for start in range(0, len(examples), size):
            rows = np.arange(start, min(start + size, len(examples)))
            filled = np.concatenate([rows, np.repeat(rows[-1:], size - len(rows))])
            output = running.engine.predict(self.model, examples.take(filled, 0)[0])  # (size, 1)
            found.append(np.asarray(output, dtype=np.float64)[: len(rows), 0])
        return logit(np.concatenate(found)) if found else np.zeros(0)

    def save(self, folder: Path) -> None:
        """Write the network, the encoders and what they are fed."""
        from thermocancer.training.checkpoint import save_model

        self.model.set_weights(self.weights)
        save_model(self.model, folder / NETWORK_FILE)
        for view, encoder in self.encoders.items():
            save_encoder(encoder, folder / f"encoder-{view}.keras")
        inputs = {view: encoder.input.model_dump(mode="json") for view, encoder in self.encoders.items()}
        write_json(folder / INPUTS_FILE, inputs)

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> NetworkModel:
        """Read what ``save`` wrote. Raises DataError when something is missing or damaged."""
        from thermocancer.training.checkpoint import load_model

        ensure_running()
        inputs, block = read_json(folder / INPUTS_FILE), int(settings["block"])
        encoders = {
            view: load_saved_encoder(folder / f"encoder-{view}.keras", InputSection.model_validate(inputs[view]), block)
            for view in settings["views"]
        }
        model = load_model(folder / NETWORK_FILE)
        shapes = {view: code_shape(encoder) for view, encoder in encoders.items()}
        if {each.name: tuple(each.shape[1:]) for each in model.inputs} != shapes:
            raise DataError(
                "the network does not belong to the encoders beside it", where=folder, hint="train the run again"
            )
        return cls(model, model.get_weights(), encoders, int(settings["batch"]))
