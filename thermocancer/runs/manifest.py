"""``manifest.json`` of a run and of an autoencoder: what made it, what it is, which files belong to it.

A manifest is written last, so that its presence means 'whole'. What version 0.1.0 wrote has neither ``version``
nor ``kind``; both are filled in when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from thermocancer.config.base import ViewName
from thermocancer.config.learning import InputSection
from thermocancer.errors import DataError
from thermocancer.files import fingerprint, read_json, write_json
from thermocancer.kinds import FUSE, kinds, kinds_of
from thermocancer.workspace import LABELS

VERSION = 1
"""Of a run's manifest. Raise it when older versions could not read what is written."""

FILE = "manifest.json"

# --- its parts ---------------------------------------------------------------------------------------------------


class Part(BaseModel):
    """Values do not change, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetFacts(Part):
    """The data set or image folder behind a run; ``fingerprint`` changes with its content."""

    fingerprint: str
    name: str


class ExcludedExam(Part):
    exam: str
    reason: str


class LeftOutImage(Part):
    image: str
    reason: str


class ImageCounts(Part):
    train: int
    validation: int
    test: int


class SeedFigures(Part):
    """One seed's network on validation and test images; figures 0 to 1."""

    seed: int
    threshold: float
    validation_auc: float
    validation_accuracy: float
    test_auc: float
    test_accuracy: float


class Written(BaseModel):
    """What stands in a file of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def write(self, path: Path) -> None:
        """Write the fields that were given, whole or not at all."""
        write_json(path, self.model_dump(exclude_unset=True))


# --- of a run ----------------------------------------------------------------------------------------------------


class Manifest(Written):
    """What a run says of itself.

    ``version`` is 0 for what version 0.1.0 wrote; ``kind`` names an entry of ``kinds``; ``model`` is for people.
    ``made_from`` is the fingerprint of the inputs' content and of the settings that matter, ``settings`` those
    settings by their dotted keys; ``outputs`` maps each file, relative to the run's folder, to its SHA-256.
    ``thresholds`` are the operating points of the folds, ``threshold`` their median (or the only one). A field
    that does not belong to the kind of run is None; those that the kind repeats under the short names of its
    settings are in ``recorded``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, JsonValue]

    version: int
    kind: str
    stage: str
    model: str
    made_from: str
    outputs: dict[str, str]
    settings: dict[str, JsonValue] | None = None

    views: tuple[ViewName, ...]
    protocol: Literal["grouped-cv", "holdout", "thesis"]
    dataset: DatasetFacts
    seed: int
    threshold: float
    threshold_source: str
    thresholds: dict[str, float] | None = None
    leaks: tuple[str, ...]

    exams: int | None = None
    patients: int | None = None
    sick: int | None = None
    excluded: tuple[ExcludedExam, ...] = ()
    autoencoder: str | None = None
    untrained: bool | None = None

    dynamic: bool = False
    filled_frames: dict[str, int] | None = None

    combine: tuple[str, ...] = ()
    combination: str | None = None
    combined_by: str | None = None
    features_by_run: dict[str, int] | None = None
    patients_by_run: dict[str, int] | None = None
    patients_in_all: int | None = None

    classes: tuple[str, str] = LABELS
    thresholds_of_seeds: dict[str, float] | None = None
    decision: str | None = None
    seeds: tuple[SeedFigures, ...] | None = None
    spread: dict[str, float] | None = None
    images: ImageCounts | None = None
    left_out: tuple[LeftOutImage, ...] = ()

    @model_validator(mode="after")
    def _only_recorded_keys_more(self) -> Manifest:
        found = kinds().get(self.kind)
        if found is not None:  # of a kind that is not installed nobody knows what it records
            unknown = set(self.recorded) - {key.rpartition(".")[2] for key in found.recorded}
            if unknown:
                raise ValueError(f"a run of kind {self.kind} has no {', '.join(sorted(unknown))}")
        return self

    @property
    def recorded(self) -> Mapping[str, JsonValue]:
        """Settings that the kind repeats under their short names."""
        return self.__pydantic_extra__

    @property
    def operating_points(self) -> Mapping[str, float]:
        """The threshold of each fold; ``all`` where there is one for every score."""
        return self.thresholds or {"all": self.threshold}

    @property
    def identity(self) -> str:
        """Changes when the run is made again with another result; evaluating it changes nothing."""
        return fingerprint(self.made_from, self.outputs)


def kind_of(stage: object, model: object) -> str | None:
    """The kind of run that a stage made before manifests named it; None for what makes no runs."""
    names = kinds_of(stage) if isinstance(stage, str) else ()
    if stage == FUSE:
        return model if isinstance(model, str) and model in names else None
    return names[0] if names else None


def read_manifest(path: Path) -> Manifest:
    """Read a run's manifest. Raises DataError, with the field, when it is damaged, too new or too old to tell all."""
    content = _read_object(path)
    version = content.get("version", 0)
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise _damaged(path, "version", f"{VERSION} or lower", version)
    if version > VERSION:
        raise DataError(
            "this run was written by a newer thermocancer", where=f"{path}: version",
            expected=f"{VERSION} or lower", found=version, hint="update thermocancer, or train the run again",
        )  # fmt: skip
    if version == 0:
        stage, model = content.get("stage"), content.get("model")
        known = kind_of(stage, model)
        if known is None:
            expected = "a stage that makes runs, and a model that it knows"
            raise _damaged(path, "stage, model", expected, f"{stage}, {model}")
        content = {**content, "version": 0, "kind": known}
    return _validated(path, content, Manifest)


# --- of an autoencoder -------------------------------------------------------------------------------------------


class TrainingImages(Part):
    train: int
    validation: int


class DatasetName(Part):
    name: str


class AutoencoderManifest(Written):
    """What ``train-ae`` says of one model: ``patients`` are those it was trained on or chosen by.

    ``trained_exams`` are those whose own file fitted its weights. ``val_loss`` is that of ``best_epoch``, whose weights
    are kept (under ``thesis`` the last); ``psnr`` (dB) and ``ssim`` are means over validation images, of the model for
    the whole split alone.
    """

    stage: str
    made_from: str
    outputs: dict[str, str]
    variant: str
    view: ViewName
    fold: str
    input: InputSection
    shape: tuple[int, int]
    protocol: Literal["grouped-cv", "holdout", "thesis"]
    leaks: tuple[str, ...]
    patients: tuple[int, ...]
    trained_exams: tuple[str, ...] | None = None
    images: TrainingImages
    dataset: DatasetName
    seed: int
    epochs: int
    best_epoch: int
    val_loss: float
    psnr: float | None = None
    ssim: float | None = None


def read_autoencoder_manifest(path: Path) -> AutoencoderManifest:
    """Read an autoencoder's manifest. Raises DataError, with the field, when it is damaged."""
    return _validated(path, _read_object(path), AutoencoderManifest)


# --- reading any -------------------------------------------------------------------------------------------------

Found = TypeVar("Found", Manifest, AutoencoderManifest)


def _read_object(path: Path) -> dict[str, JsonValue]:
    content: JsonValue = read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, "the whole of it", "a JSON object", type(content).__name__)
    return content


def _validated(path: Path, content: Mapping[str, JsonValue], model: type[Found]) -> Found:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the whole of it"
        found = "nothing" if first["type"] == "missing" else repr(first["input"])[:80]
        message = str(first["msg"]).removeprefix("Value error, ")
        raise _damaged(path, field, message, found) from error


def _damaged(path: Path, field: str, expected: str, found: object) -> DataError:
    return DataError(
        "this manifest is damaged or too old to be read", where=f"{path}: {field}", expected=expected, found=found,
        hint="make it again: remove its folder, then run the command that wrote it",
    )  # fmt: skip
