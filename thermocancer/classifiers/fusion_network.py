"""The fusion network: trained in each fold on codes that are computed once, kept with the encoders below it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted, held_back
from thermocancer.classifiers.encoders import CodesFamily, Encoders, ensure_running, load_saved_encoder, save_encoder
from thermocancer.classifiers.onnx_graph import Graph
from thermocancer.classifiers.protocol import (
    MOST_SAMPLES,
    Asked,
    Classifier,
    Exportable,
    Fitted,
    Row,
    Settings,
    exported_facts,
    logit,
)
from thermocancer.config.learning import FuseSection, InputSection
from thermocancer.config.preparation import CohortSection, FeaturesSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray, check_present
from thermocancer.data.inputs import Float32Array, network_input
from thermocancer.data.matching import ExamWeights
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import DataError
from thermocancer.features.encoded import IN_MEMORY_BYTES, ViewEncoder, all_codes
from thermocancer.features.prepared import prepare
from thermocancer.files import fingerprint, read_json, write_json

if TYPE_CHECKING:
    import keras
    import onnx

    from thermocancer.training.checkpoint import Snapshot

NETWORK_FILE, INPUTS_FILE = "network.keras", "inputs.json"

HELD_OUT_FOLDS = 5
"""The network is trained once a fold: one patient in five of the training part chooses epoch and threshold."""

Shape = tuple[int, int, int]
Weights = list[npt.NDArray[np.generic]]

# --- codes as examples ----------------------------------------------------------


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
    """The codes of all views for one cohort and fold at a time; those before are let go."""

    def __init__(self, encoders: Encoders, views: tuple[str, ...], cache: Path) -> None:
        self._encoders, self._views, self._cache = encoders, views, cache
        self._held = contextlib.ExitStack()
        self._key: object = None
        self._cohort: Cohort | None = None  # kept alive, so that its identity stays its own
        self._codes: dict[str, Float32Array] = {}
        self._loaded: dict[str, ViewEncoder] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return CodeShelf, (self._encoders, self._views, self._cache)

    def of(self, cohort: Cohort, fold: str) -> tuple[Mapping[str, Float32Array], Mapping[str, ViewEncoder]]:
        """Codes (n, p) of every exam of the cohort, and the encoder, by view."""
        key = (id(cohort), fold)
        if key != self._key:
            self._held.close()
            self._key, self._cohort, self._codes, self._loaded = None, cohort, {}, {}
            share = IN_MEMORY_BYTES // len(self._views)
            for view in self._views:
                self._loaded[view] = self._encoders.load(cohort, view, fold)
                codes = all_codes(
                    self._loaded[view], cohort, view, self._cache, keep=self._encoders.shared, in_memory=share
                )
                self._codes[view] = self._held.enter_context(codes)
            self._key = key
        return self._codes, self._loaded


def code_shape(encoder: ViewEncoder) -> Shape:
    """Height, width and channels of an encoder's code."""
    height, width, channels = encoder.model.output_shape[1:]
    return height, width, channels


# --- a trained network ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NetworkModel(Fitted):
    """A trained fusion network.

    ``model`` may be shared with other folds, so ``weights`` are put into it before it runs.
    ``training`` is where codes of the training cohort are found: shelf, cohort and fold.
    """

    kind: str
    name: str
    variant: str
    model: keras.Model
    weights: Weights
    encoders: Mapping[str, ViewEncoder]
    batch: int
    training: tuple[CodeShelf, Cohort, str] | None = None
    history: Sequence[Row] = ()
    held: IntArray | None = None

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Log-odds of sick, (len(rows),). Raises DataError when an exam lacks a view."""
        for view in self.encoders:
            check_present(cohort, view, rows)
        nobody = np.zeros(len(rows), np.int64)
        shapes = {view: code_shape(encoder) for view, encoder in self.encoders.items()}
        if self.training is not None and self.training[1] is cohort:
            shelf, _, fold = self.training
            return self._log_odds(CodeExamples(shelf.of(cohort, fold)[0], rows, nobody, shapes))
        codes = {view: np.empty((len(rows), encoder.size), np.float32) for view, encoder in self.encoders.items()}
        for view, encoder in self.encoders.items():
            for positions, part in encoder.codes(cohort, view, rows):
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

    def describe(self) -> Settings:
        block = next(iter(self.encoders.values())).batch
        return {
            "kind": self.kind, "name": self.name, "views": list(self.encoders), "autoencoder": self.variant,
            "batch": self.batch, "block": block,
        }  # fmt: skip

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
    def load(cls, folder: Path, settings: Settings) -> NetworkModel:
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
        return cls(
            settings["kind"],
            settings["name"],
            settings["autoencoder"],
            model,
            model.get_weights(),
            encoders,
            int(settings["batch"]),
        )


# --- training -------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Slot:
    """One compiled network that every fold trains anew: compiling takes longer than a small training."""

    model: keras.Model
    start: Snapshot

    @classmethod
    def build(cls, shapes: Mapping[str, Shape], learning_rate: float) -> Slot:
        """Build and compile: Adam, binary cross-entropy, accuracy at 0.5."""
        from thermocancer.models.fusion import build_fusion
        from thermocancer.training.checkpoint import Snapshot
        from thermocancer.training.fit import Compilation, compile_model

        running = ensure_running()
        how = Compilation("binary_crossentropy", learning_rate=learning_rate, metrics=("accuracy",))
        with running.scope():
            model = build_fusion(shapes)
            compile_model(model, how, running)
        return cls(model, Snapshot.of(model))

    def fresh(self, seed: int) -> keras.Model:
        """New weights, a new optimizer state and new dropout, all from ``seed``."""
        from thermocancer.models.layers import start_from

        self.start.put_into(self.model)
        start_from(self.model, seed)
        return self.model


@dataclass(frozen=True, eq=False)
class NetworkClassifier(Classifier):
    """Trains the fusion network.

    One inner grouped fold of the training part is held out and chooses the epoch (calibration and threshold
    too, see ``Calibrated``); matches of what is held out do not teach. Without ``held_out_folds`` (thesis
    protocol) the network learns from all training rows and keeps its last epoch; the ``watched`` rows of a fold
    (the original's test part) then only give the validation curve.
    """

    kind: str
    encoders: Encoders
    views: tuple[str, ...]
    fuse: FuseSection
    cache: Path
    held_out_folds: int
    watched: Mapping[str, IntArray] = field(default_factory=dict)
    exam_weights: ExamWeights | None = None
    matching: CohortSection = field(default_factory=CohortSection)
    _slots: dict[str, Slot] = field(default_factory=dict, repr=False)
    _shelves: list[CodeShelf] = field(default_factory=list, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_slots": {}, "_shelves": []}

    @property
    def name(self) -> str:
        return f"{self.kind}-untrained" if self.encoders.untrained else self.kind

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> NetworkModel:
        """Fit on ``rows``. Raises Interrupted on SIGINT; the same call goes on from there."""
        from thermocancer.training.fit import FitSettings, fit_resumable, forget

        taught, held = held_back(cohort, rows, labels, self.held_out_folds, seed, self.matching)
        if not self._shelves:
            self._shelves.append(CodeShelf(self.encoders, self.views, self.cache))
        shelf = self._shelves[0]
        codes, encoders = shelf.of(cohort, fold)
        shapes = {view: code_shape(encoder) for view, encoder in encoders.items()}
        train, seen, chosen = (rows[taught], labels[taught]), (rows[held], labels[held]), bool(held.any())
        if not chosen:
            watched = self.watched.get(fold, np.zeros(0, np.int64))
            seen = (watched, np.array([cohort.exams[row].label for row in watched], dtype=np.int64))
        weights = None if self.exam_weights is None else self.exam_weights[train[0]]
        identity = fingerprint(
            "fusion", [encoders[view].identity for view in self.views], cohort.fingerprint, seed, fold,
            [each.tolist() for each in (*train, *seen)], None if weights is None else weights.tolist(),
            self.fuse.epochs, self.fuse.batch, self.fuse.learning_rate, chosen,
        )  # fmt: skip
        examples, validation = CodeExamples(codes, *train, shapes, weights), CodeExamples(codes, *seen, shapes)
        if repr(shapes) not in self._slots:
            self._slots[repr(shapes)] = Slot.build(shapes, self.fuse.learning_rate)
        folder = self.cache / "fits" / identity[:32]
        settings = FitSettings(self.fuse.epochs, self.fuse.batch, seed, identity, keep="best" if chosen else "last")
        model, shown = self._slots[repr(shapes)].fresh(seed), validation if len(validation) else None
        result = fit_resumable(model, examples, folder=folder, settings=settings, validation=shown)
        forget(folder)
        learnt = [np.array(each) for each in model.get_weights()]
        return NetworkModel(
            self.kind, self.name, self.encoders.variant, model, learnt, dict(encoders),
            self.fuse.batch, (shelf, cohort, fold), tuple(result.history), rows[held],
        )  # fmt: skip


class FusionNetworkFamily(CodesFamily):
    """The fusion network of the original study."""

    exports = ("saved_model", "onnx", "litert")

    def make(self, asked: Asked) -> Classifier:
        held_out = 0 if asked.config.split.protocol == "thesis" else HELD_OUT_FOLDS
        network = NetworkClassifier(
            self.kind.name, Encoders.of(asked.config, asked.workspace), asked.views, asked.config.fuse,
            asked.workspace.cache, held_out, asked.watched, asked.exam_weights, asked.config.cohort,
        )  # fmt: skip
        return Calibrated.of(network, asked, inner_folds=0)

    def load(self, folder: Path, settings: Settings) -> Fitted:
        return CalibratedFitted.around(NetworkModel.load(folder, settings), settings)

    def encoders_inside(self, model: Fitted) -> Mapping[str, ViewEncoder] | None:
        return model.encoders if isinstance(model, NetworkModel) else None

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """Encoders and fusion network joined: one image a view, (n, H, W, C) in [0, 1]."""
        import keras

        loaded = NetworkModel.load(folder, settings)
        inputs, codes, fed = {}, {}, {}
        for view, encoder in loaded.encoders.items():
            # each encoder under a name of its own, or Keras refuses to join them
            own = keras.Model(encoder.model.input, encoder.model.output, name=f"encoder_{view}")
            inputs[view] = keras.Input(own.input_shape[1:], name=view)
            codes[view] = own(inputs[view])
            fed[view] = encoder.input.model_dump(mode="json")
        given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
        model = keras.Model(given, loaded.model(codes), name="fusion_with_encoders")
        with StoredCohort(asked.workspace.dataset(asked.config.dataset.name)) as cohort:
            prepared = prepare(cohort, FeaturesSection(**settings["preparation"]))
            complete = np.all([cohort.present(view) for view in inputs], axis=0)
            rows = np.flatnonzero(complete)[:MOST_SAMPLES].astype(np.int64)
            samples = {view: network_input(prepared, view, rows, each.input) for view, each in loaded.encoders.items()}
        facts = exported_facts(settings, asked.config.dataset.name)

        def graph() -> onnx.ModelProto:
            made = Graph()
            seen = {view: made.input(view, each.shape[1:]) for view, each in samples.items()}
            codes = {
                view: made.network(encoder.model, {encoder.model.inputs[0].name: seen[view]})
                for view, encoder in loaded.encoders.items()
            }
            return made.finish(made.network(loaded.model, codes), "fusion_network")

        about = facts | {"input": fed, "preparation": settings["preparation"]}
        return Exportable(model, samples, about, graph)
