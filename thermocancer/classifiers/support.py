"""Support vectors as files: what an SVM on encoder features needs to score an exam it meets later.

Full-size vectors of five views would fill gigabytes, so the standardised features are kept as
integers with one step a vector: 16 bits where all views together stay below 256 MB, else 8. The
rounding is random over hundreds of thousands of features and averages out of the inner products
(relative error about 1e-6 and 1e-4).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thermocancer.classifiers.decisions import read_arrays, write_arrays
from thermocancer.classifiers.encoders import load_saved_encoder, save_encoder
from thermocancer.config.learning import InputSection
from thermocancer.data.cohort import Cohort, FloatArray, IntArray
from thermocancer.data.inputs import Float32Array
from thermocancer.errors import DataError
from thermocancer.features.encoded import ViewEncoder, all_codes
from thermocancer.features.gram import COLUMNS, KernelName, Part, Standardisation, kernel_values, standardised
from thermocancer.features.residual import NuisanceScale
from thermocancer.files import fingerprint, write_json, written_aside

WIDE_BYTES = 256 << 20
"""Above it (16 bits, all views) vectors are kept in 8 bits."""


@dataclass(frozen=True)
class ViewVectors:
    """One view of the support vectors.

    ``whole`` (s, p) integers times ``step`` (s,) are the standardised features; ``standard`` (2, p)
    float32 mean and scale; ``effect`` (k, p) float32 what nuisance adds to each feature, or None.
    """

    view: str
    encoder: ViewEncoder
    whole: npt.NDArray[np.signedinteger[Any]]
    step: FloatArray
    standard: Float32Array
    effect: Float32Array | None = None
    clip: float | None = None
    _known: dict[str, tuple[FloatArray, FloatArray]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, encoder: ViewEncoder, source: Cohort, view: str, part: Part, support: IntArray, cache: Path, *,
        shared: bool, wide: bool,
    ) -> ViewVectors:  # fmt: skip
        """From the training source, in 16 bits where ``wide``, else in 8."""
        kind: Any = np.int16 if wide else np.int8
        whole = np.empty((len(support), encoder.size), kind)
        standard = np.empty((2, encoder.size), np.float32)
        effects: list[FloatArray] = []
        with all_codes(encoder, source, view, cache, keep=shared) as codes:
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
        cls, folder: Path, view: str, step: FloatArray, trained: InputSection, settings: dict[str, Any]
    ) -> ViewVectors:  # fmt: skip
        """Read what ``save`` wrote; the vectors stay on disk until they are used."""
        path = folder / f"vectors-{view}.npy"
        try:
            whole = np.load(path, mmap_mode="r", allow_pickle=False)
            standard = np.load(folder / f"standard-{view}.npy", allow_pickle=False)
            effect_file = folder / f"effect-{view}.npy"
            effect = np.load(effect_file, allow_pickle=False) if effect_file.exists() else None
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                "the support vectors of a run cannot be read", where=path, found=error, hint="train the run again"
            ) from error
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
class SupportVectors:
    """An SVM that scores exams of any source: ``squares`` and ``dual`` (s,), and one ``ViewVectors`` a view."""

    views: tuple[ViewVectors, ...]
    kernel: KernelName
    gamma: float
    squares: FloatArray
    dual: FloatArray
    intercept: float
    nuisance: NuisanceScale | None = None

    def decisions(self, source: Cohort, rows: IntArray) -> FloatArray:
        """Decision values, shape (len(rows),). Raises DataError when an exam lacks a view."""
        products, squares = np.zeros((len(rows), len(self.dual))), np.zeros(len(rows))
        nuisance = None if self.nuisance is None else self.nuisance.design(source, rows)
        for each in self.views:
            check_present(source, each.view, rows)
            for positions, codes in each.encoder.codes(source, each.view, rows):
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
    def load(cls, folder: Path, settings: dict[str, Any]) -> SupportVectors:
        """Read what ``save`` wrote. Raises DataError when something is missing or damaged."""
        from thermocancer.files import read_json

        arrays, inputs = read_arrays(folder), read_json(folder / "inputs.json")
        views = tuple(
            ViewVectors.load(
                folder, view, step, InputSection.model_validate(inputs[view]), settings
            )
            for view, step in zip(settings["views"], arrays["steps"], strict=True)
        )  # fmt: skip
        return cls(
            views, settings["kernel"], float(arrays["gamma"]), arrays["squares"], arrays["dual"],
            float(arrays["intercept"]), NuisanceScale.from_arrays(arrays),
        )  # fmt: skip


def check_present(source: Cohort, view: str, rows: IntArray) -> None:
    """Raise DataError when one of the exams lacks a view."""
    lacking = rows[~source.present(view)[rows]] if view in source.views else rows
    if len(lacking):
        raise DataError(
            "an exam lacks a view that the classifier needs",
            where=f"exam {source.exams[int(lacking[0])].key}",
            expected=view,
        )
