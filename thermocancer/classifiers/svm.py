"""Support vector machine on encoder codes, trained and applied through Gram matrices, kept as support vectors.

The decisions are those of scikit-learn's ``StandardScaler`` and ``SVC`` on the concatenated codes of all views,
without those ever being held together. Full-size support vectors of five views would fill gigabytes, so they are
kept as integers with one step a vector: 16 bits where all views together stay below 256 MB, else 8. The rounding
is random over hundreds of thousands of features and averages out of the inner products (relative error about
1e-6 and 1e-4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.calibrated import Calibrated, CalibratedFitted, Calibration
from thermocancer.classifiers.decisions import read_arrays, write_arrays
from thermocancer.classifiers.encoders import CodesFamily, Encoders, Grams, load_saved_encoder, save_encoder
from thermocancer.classifiers.onnx_graph import Graph
from thermocancer.classifiers.protocol import (
    REGRESSED,
    Asked,
    Classifier,
    Exportable,
    Fitted,
    Settings,
    celsius_samples,
    exported_facts,
    no_graph,
)
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray, check_present
from thermocancer.data.inputs import Float32Array
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import DataError
from thermocancer.features.encoded import ViewEncoder, all_codes
from thermocancer.features.gram import COLUMNS, Gram, KernelName, Part, Standardisation, kernel_values, standardised
from thermocancer.features.residual import NuisanceScale
from thermocancer.files import fingerprint, read_json, reading, write_json, written_aside

if TYPE_CHECKING:
    import onnx

WIDE_BYTES = 256 << 20
"""Above it (16 bits, all views) vectors are kept in 8 bits."""

# --- support vectors ------------------------------------------------------------


@dataclass(frozen=True)
class ViewVectors:
    """One view of the support vectors.

    ``whole`` (s, p) integers times ``step`` (s,) are the standardised features; ``standard`` (2, p)
    float32 mean and scale; ``effect`` (k, p) float32 what nuisance adds to each feature, or None.
    """

    view: str
    encoder: ViewEncoder
    whole: npt.NDArray[np.int8 | np.int16]
    step: FloatArray
    standard: Float32Array
    effect: Float32Array | None = None
    clip: float | None = None
    _known: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, encoder: ViewEncoder, cohort: Cohort, view: str, part: Part, support: IntArray, cache: Path, *,
        shared: bool, wide: bool,
    ) -> ViewVectors:  # fmt: skip
        """From the training cohort, in 16 bits where ``wide``, else in 8."""
        kind: type[np.int8 | np.int16] = np.int16 if wide else np.int8
        whole = np.empty((len(support), encoder.size), kind)
        standard = np.empty((2, encoder.size), np.float32)
        effects: list[FloatArray] = []
        with all_codes(encoder, cohort, view, cache, keep=shared) as codes:
            largest = np.zeros(len(support))
            for columns in blocks(encoder.size):
                block = np.asarray(codes[:, columns], dtype=np.float64)
                if part.nuisance is not None:
                    effects.append(part.nuisance.coefficients(block[part.nuisance.healthy]))
                cleaned = part.cleaned(block)
                fitted = Standardisation.of(cleaned[part.rows], part.clip)
                standard[:, columns] = fitted.mean, fitted.scale
                largest = np.maximum(largest, np.abs(fitted.apply(cleaned[support])).max(axis=1))
            step = np.where(largest > 0, largest, 1.0) / np.iinfo(kind).max
            for columns in blocks(encoder.size):
                cleaned = part.cleaned(np.asarray(codes[:, columns], dtype=np.float64))
                exact = Standardisation.of(cleaned[part.rows], part.clip).apply(cleaned[support])
                whole[:, columns] = np.rint(exact / step[:, None])
        effect = np.concatenate(effects, axis=1).astype(np.float32) if effects else None
        return cls(view, encoder, whole, step, standard, effect, part.clip)

    def products(self, codes: Float32Array, nuisance: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """Inner products of exams with the vectors, (b, s), and the exams' own squares, (b,), from codes (b, p)."""
        alike = len(codes) == 1 or codes.strides[0] == 0
        if alike and (nuisance is None or (nuisance == nuisance[0]).all()):
            one = self._of_one(codes[:1], None if nuisance is None else nuisance[:1])
            return np.repeat(one[0], len(codes), axis=0), np.repeat(one[1], len(codes))
        return self._computed(codes, nuisance)

    def _computed(self, codes: Float32Array, nuisance: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        products, squares = np.zeros((len(codes), len(self.step))), np.zeros(len(codes))
        for columns in blocks(codes.shape[1]):
            block = codes[:, columns].astype(np.float64)
            if self.effect is not None and nuisance is not None:
                block -= nuisance @ self.effect[:, columns]
            mean, scale = self.standard[:, columns].astype(np.float64)
            standard = standardised(block, mean, scale, self.clip)
            squares += (standard**2).sum(axis=1)
            products += standard.astype(np.float32) @ self.whole[:, columns].astype(np.float32).T
        return products * self.step, squares

    def _of_one(self, code: Float32Array, nuisance: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """The products of one exam, remembered while other views of it are varied."""
        key = fingerprint(hashlib.sha256(code.tobytes()).hexdigest(), None if nuisance is None else nuisance.tolist())
        if key not in self._known:
            self._known.clear()
            self._known[key] = self._computed(code, nuisance)
        return self._known[key]

    def save(self, folder: Path) -> None:
        arrays = {"vectors": self.whole, "standard": self.standard, "effect": self.effect}
        for name, array in arrays.items():
            if array is not None:
                with written_aside(folder / f"{name}-{self.view}.npy") as side:
                    np.save(side, array, allow_pickle=False)
        save_encoder(self.encoder, folder / f"encoder-{self.view}.keras")

    @classmethod
    def load(
        cls, folder: Path, view: str, step: FloatArray, trained: InputSection, settings: Settings
    ) -> ViewVectors:  # fmt: skip
        """Read what ``save`` wrote; the vectors stay on disk until they are used."""
        path = folder / f"vectors-{view}.npy"
        with reading(path, "the support vectors of a run cannot be read", hint="train the run again"):
            whole = np.load(path, mmap_mode="r", allow_pickle=False)
            standard = np.load(folder / f"standard-{view}.npy", allow_pickle=False)
            effect_file = folder / f"effect-{view}.npy"
            effect = np.load(effect_file, allow_pickle=False) if effect_file.exists() else None
        encoder = load_saved_encoder(folder / f"encoder-{view}.keras", trained, int(settings["batch"]))
        if whole.shape != (len(step), encoder.size) or standard.shape != (2, encoder.size):
            raise DataError(
                "the support vectors do not belong to the encoder beside them",
                where=path, expected=f"{len(step)} x {encoder.size}", found=" x ".join(map(str, whole.shape)),
                hint="train the run again",
            )  # fmt: skip
        return cls(view, encoder, whole, step, standard, effect, settings["clip"])


def blocks(total: int) -> list[slice]:
    """Stretches of columns."""
    return [slice(start, min(start + COLUMNS, total)) for start in range(0, total, COLUMNS)]


@dataclass(frozen=True)
class SupportVectors(Fitted):
    """An SVM that scores exams of any cohort: ``squares`` and ``dual`` (s,), and one ``ViewVectors`` a view."""

    views: tuple[ViewVectors, ...]
    kernel: KernelName
    gamma: float
    squares: FloatArray
    dual: FloatArray
    intercept: float
    nuisance: NuisanceScale | None = None
    about: Settings = field(default_factory=dict)

    def describe(self) -> Settings:
        return self.about

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """Decision values, shape (len(rows),). Raises DataError when an exam lacks a view."""
        products, squares = np.zeros((len(rows), len(self.dual))), np.zeros(len(rows))
        nuisance = None if self.nuisance is None else self.nuisance.design(cohort, rows)
        for each in self.views:
            check_present(cohort, each.view, rows)
            for positions, codes in each.encoder.codes(cohort, each.view, rows):
                own = None if nuisance is None else nuisance[positions]
                added = each.products(codes, own)
                products[positions] += added[0]
                squares[positions] += added[1]
        kernel = kernel_values(self.kernel, self.gamma, products, squares, self.squares)
        return np.asarray(kernel @ self.dual + self.intercept)

    def save(self, folder: Path) -> None:
        """Write everything into an existing folder."""
        for each in self.views:
            each.save(folder)
        arrays = {
            "squares": self.squares, "dual": self.dual, "intercept": np.asarray(self.intercept),
            "gamma": np.asarray(self.gamma), "steps": np.stack([each.step for each in self.views]),
        }  # fmt: skip
        if self.nuisance is not None:
            arrays |= self.nuisance.arrays()
        write_arrays(folder, arrays)
        inputs = {each.view: each.encoder.input.model_dump(mode="json") for each in self.views}
        write_json(folder / "inputs.json", inputs)

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> SupportVectors:
        """Read what ``save`` wrote. Raises DataError when something is missing or damaged."""
        arrays, inputs = read_arrays(folder), read_json(folder / "inputs.json")
        views = tuple(
            ViewVectors.load(
                folder, view, step, InputSection.model_validate(inputs[view]), settings
            )
            for view, step in zip(settings["views"], arrays["steps"], strict=True)
        )  # fmt: skip
        return cls(
            views, settings["kernel"], float(arrays["gamma"]), arrays["squares"], arrays["dual"],
            float(arrays["intercept"]), NuisanceScale.from_arrays(arrays), settings,
        )  # fmt: skip


# --- training -------------------------------------------------------------------


@dataclass(frozen=True)
class SvmClassifier(Classifier):
    """An SVM on the codes of some views."""

    kind: str
    grams: Grams
    kernel: KernelName
    C: float
    exam_weights: ExamWeights | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}-untrained" if self.grams.encoders.untrained else self.kind

    def announce(self, cohort: Cohort, fold: str, parts: Sequence[tuple[IntArray, IntArray]]) -> None:
        self.grams.prepare(cohort, fold, [self.grams.part(cohort, *each) for each in parts])

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> SvmModel:
        """libsvm's optimiser draws nothing, so ``seed`` is not used."""
        from sklearn.svm import SVC

        part = self.grams.part(cohort, rows, labels)
        gram = self.grams.of(cohort, fold, part)
        weights = None if self.exam_weights is None else self.exam_weights[rows]
        machine = SVC(C=self.C, kernel="precomputed").fit(gram.kernel(self.kernel, rows, rows), labels, weights)
        support = rows[machine.support_]
        return SvmModel(self, cohort, fold, part, gram, support, machine.dual_coef_[0], float(machine.intercept_[0]))


@dataclass(frozen=True)
class SvmModel(Fitted):
    """A trained SVM that still has its training cohort: ``support`` (s,) rows, ``dual`` (s,)."""

    classifier: SvmClassifier
    cohort: Cohort
    fold: str
    part: Part
    gram: Gram
    support: IntArray
    dual: FloatArray
    intercept: float
    _stored: list[SupportVectors] = field(default_factory=list, repr=False, compare=False)

    def decisions(self, cohort: Cohort, rows: IntArray) -> FloatArray:
        """From the Gram matrix for exams of the training cohort, from the support vectors for others."""
        if cohort is not self.cohort and cohort.fingerprint != self.cohort.fingerprint:
            return self.stored().decisions(cohort, rows)
        kernel = self.gram.kernel(self.classifier.kernel, rows, self.support)
        return np.asarray(kernel @ self.dual + self.intercept)

    def stored(self) -> SupportVectors:
        """The form that needs no training cohort (computed once)."""
        if not self._stored:
            grams = self.classifier.grams
            views, shared = [], grams.encoders.shared
            for view in grams.views:
                encoder = grams.encoders.load(self.cohort, view, self.fold)
                wide = 2 * len(grams.views) * len(self.support) * encoder.size <= WIDE_BYTES
                views.append(ViewVectors.of(
                    encoder, self.cohort, view, self.part, self.support, grams.cache, shared=shared, wide=wide
                ))  # fmt: skip
            squares = np.diagonal(self.gram.products)[self.support]
            scaling = None if self.part.nuisance is None else self.part.nuisance.scaling
            kept = SupportVectors(
                tuple(views), self.classifier.kernel, self.gram.gamma, squares, self.dual, self.intercept, scaling
            )  # fmt: skip
            self._stored.append(kept)
        return self._stored[0]

    def describe(self) -> Settings:
        grams = self.classifier.grams
        return {
            "kind": self.classifier.kind, "name": self.classifier.name, "views": list(grams.views),
            "kernel": self.classifier.kernel, "C": self.classifier.C, "clip": grams.clip,
            "autoencoder": grams.encoders.variant, "batch": grams.encoders.batch,
        }  # fmt: skip

    def save(self, folder: Path) -> None:
        self.stored().save(folder)


class SvmFamily(CodesFamily):
    """The support vector machine of the original study."""

    exports = ("onnx",)

    def make(self, asked: Asked) -> Classifier:
        fuse, residualise = asked.config.fuse, asked.config.features.residualise
        encoders = Encoders.of(asked.config, asked.workspace)
        grams = Grams(encoders, asked.views, residualise, asked.workspace.cache, fuse.clip)
        machine = SvmClassifier(self.kind.name, grams, self.kernel(asked), fuse.C, asked.exam_weights)
        return Calibrated.of(machine, asked)

    def kernel(self, asked: Asked) -> KernelName:
        return asked.config.fuse.kernel

    def load(self, folder: Path, settings: Settings) -> Fitted:
        return CalibratedFitted.around(SupportVectors.load(folder, settings), settings)

    def encoders_inside(self, model: Fitted) -> dict[str, ViewEncoder] | None:
        return {each.view: each.encoder for each in model.views} if isinstance(model, SupportVectors) else None

    def exportable(self, folder: Path, settings: Settings, asked: Asked) -> Exportable:
        """From degrees (n, H, W) of each view to the run's score: encoders, kernel machine and calibration."""
        fitted = self.load(folder, settings)
        model = fitted.model if isinstance(fitted, CalibratedFitted) else fitted
        if not isinstance(fitted, CalibratedFitted) or not isinstance(model, SupportVectors) or model.nuisance:
            raise no_graph(folder, REGRESSED)
        samples, rows, cohort = celsius_samples(asked, settings, tuple(each.view for each in model.views))
        with cohort:
            expected = fitted.scores(cohort, rows)
        facts = exported_facts(settings, asked.config.dataset.name) | {"input": "degrees Celsius"}
        return Exportable(None, samples, facts, lambda: _graph(model, fitted.calibration, samples), expected)


def _graph(model: SupportVectors, calibration: Calibration, samples: Mapping[str, Float32Array]) -> onnx.ModelProto:
    graph = Graph()
    products, squares = [], []
    for each in model.views:
        celsius = graph.input(each.view, samples[each.view].shape[1:])
        each.encoder.take_hold()
        images = graph.seen(celsius, each.encoder.input)
        (name,) = (given.name for given in each.encoder.model.inputs)
        codes = graph.op("Flatten", graph.network(each.encoder.model, {name: images}))
        mean, scale = each.standard
        standard = graph.standardised(codes, mean, scale, each.clip)
        # whole numbers as they are kept: an eighth or a quarter of the file that single precision would make
        vectors = graph.cast(graph.constant(each.whole.T, each.whole.dtype), np.float32)
        products.append(graph.op("Mul", graph.op("MatMul", standard, vectors), graph.constant(each.step)))
        squares.append(graph.op("ReduceSumSquare", standard, axes=[1], keepdims=1))
    kernel = graph.kernel(
        model.kernel, model.gamma, graph.op("Sum", *products), graph.op("Sum", *squares), model.squares
    )
    return graph.finish(graph.score(kernel, model.dual, model.intercept, calibration), "support_vector_machine")
