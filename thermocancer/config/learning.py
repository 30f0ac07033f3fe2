"""How models are trained: devices, autoencoders, fusion, sequences, image classifier."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from thermocancer.config.base import (
    ASIDE,
    CelsiusRange,
    Choice,
    Fraction,
    Name,
    PathText,
    PositiveInt,
    Rendering,
    Section,
    Shape,
    ViewName,
)
from thermocancer.kinds import FUSE, backbones, kinds_of


class StrategySection(Section):
    """Where and in which precision networks run."""

    backend: Literal["auto", "tensorflow", "jax"] = "auto"
    kind: Literal["auto", "cpu", "gpu", "mirrored", "data-parallel", "tpu", "multi-host"] = "auto"
    devices: PositiveInt | None = Field(None, description="how many devices; null: all of the kind")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    deterministic: bool = True
    virtual_cpus: PositiveInt | None = Field(
        None, description="split the CPU into so many devices, to rehearse several on one machine"
    )
    shared: bool = Field(
        False, description="several machines run one command on one workspace at once and share out its views and folds"
    )
    coordinator: str | None = Field(None, description="HOST:PORT of the first process (multi-host)")
    processes: PositiveInt | None = None
    process_index: Annotated[int, Field(ge=0)] | None = None


class InputSection(Section):
    """What a network sees of a matrix: a scaled temperature channel or a colour rendering / 255."""

    kind: Literal["celsius", "rgb"] = "rgb"
    rendering: Rendering = Rendering()


class AutoencoderSection(Section):
    """``train-ae``: one autoencoder a view."""

    variant: Literal["v1", "v2", "v3"] = "v2"
    views: Annotated[tuple[ViewName, ...] | None, ASIDE] = Field(None, description="null: every view of the data set")
    input: InputSection = InputSection()
    epochs: PositiveInt | None = Field(
        None,
        description="null: the original's (v1 20, v2 40) where the schedule is constant; where it is cosine 3 or 4, "
        "more for small cohorts",
    )
    batch: PositiveInt | None = Field(
        None, description="null: the original's 32 where the schedule is constant, 1 where it is cosine"
    )
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="null: 0.001 where the schedule is constant; where it is cosine 0.005, for v3 0.002"
    )
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: Annotated[int, Field(ge=0)] = 1
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without gain")
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="patients of the training part that validate; in protocol thesis the test part does"
    )
    per_fold: Annotated[bool, ASIDE] = Field(
        True, description="also train inside every outer fold, so that no scored exam was seen"
    )
    train_on: Literal["split", "unfiltered", "all"] = Field(
        "split",
        description="protocol thesis: the training part of the data set, of every readable file of the view as in the "
        "original study (another shuffle: leaks), or all exams (leaks)",
    )
    checkpoint_every: Annotated[PositiveInt, ASIDE] = Field(1, description="epochs between checkpoints")


class FuseSection(Section):
    """``fuse``: a classifier on 1, 3 or 5 views."""

    name: Annotated[Name, ASIDE] = "fuse"
    model: Annotated[str, Choice(lambda: kinds_of(FUSE))] = Field(
        "svm", description="kind of classifier; installed packages may add to them"
    )
    options: dict[str, Any] = Field({}, description="settings of a kind that an installed package adds")
    kernel: Literal["sigmoid", "rbf", "linear"] = "sigmoid"
    C: Annotated[float, Field(gt=0)] = 1.0
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="svm: limit of standardised features, in standard deviations; null: none, as scikit-learn"
    )
    views: tuple[ViewName, ...] | None = Field(None, description="null: every view of the data set")
    autoencoder: Literal["v1", "v2", "v3"] | None = Field(None, description="null: autoencoder.variant")
    untrained: bool = Field(False, description="random encoder weights: the untrained twin")
    epochs: PositiveInt = 40
    batch: PositiveInt = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    aim: Literal["sensitivity", "youden", "fixed"] = "sensitivity"
    aim_sensitivity: Fraction = 0.90
    block: PositiveInt = Field(16, description="exams encoded at once")
    encoders: Literal["fold", "split"] = Field(
        "fold", description="in cross-validation: each fold's own encoder, or ('split', leaks) the one of split.json"
    )
    processes: PositiveInt = Field(1, description="folds fitted at the same time; the result does not depend on it")
    combine: tuple[Name, ...] = Field((), description="late fusion: names of the runs to combine")
    combine_by: Literal["scores", "features"] = Field(
        "scores",
        description="late fusion of the runs' scores, or of the features that their frozen parts make of each exam",
    )
    stacking: bool = Field(False, description="late fusion of scores: fitted weights instead of the mean of logits")
    keep_folds: bool | None = Field(
        None,
        description="keep each fold's classifier; predict shows how far they disagree; null: where they are small",
    )
    fold_bytes: Annotated[int, Field(ge=0), ASIDE] = Field(
        50_000_000, description="the folds' classifiers are small where all together take no more than this"
    )
    baseline: bool = Field(True, description="also score the thermal baseline on the same folds")


BackboneName = Annotated[str, Choice(lambda: tuple(backbones()))]
"""A backbone of our own, or one that an installed package adds."""


class DitSection(Section):
    """``train-dit``: dynamic sequences."""

    name: Annotated[Name, ASIDE] = "dit"
    backbone: BackboneName = "autoencoder"
    weights: Annotated[PathText | None, ASIDE] = Field(None, description="local weights file of the backbone")
    weights_sha256: str | None = None
    size: Shape = (224, 224)
    rendering: Rendering = Rendering()
    frames: tuple[int, ...] = tuple(range(0, 20, 2))
    channels: tuple[Literal["frame", "difference", "rate", "asymmetry"], ...] = ("frame",)
    difference_range: CelsiusRange = Field(CelsiusRange(low=-1.0, high=5.0), description="degC since the first frame")
    rate_range: CelsiusRange = Field(CelsiusRange(low=-0.5, high=1.0), description="degC a frame")
    asymmetry_range: CelsiusRange = Field(CelsiusRange(low=-1.0, high=1.0), description="degC, one side less the other")
    head: Literal["lstm", "gru", "tcn", "attention"] = "lstm"
    units: PositiveInt = 24
    dropout: Fraction = 0.2
    norm_momentum: Fraction = Field(0.9, description="of batch normalisation (original study: 0.99)")
    optimizer: Literal["adamw", "adam"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    ema_momentum: Fraction | None = 0.8
    loss: Literal["mse", "bce"] = "bce"
    class_weights: bool = False
    epochs: PositiveInt = 20
    batch: PositiveInt = 16
    patience: PositiveInt | None = None
    augment: Annotated[int, Field(ge=0)] = 0
    finetune: bool = False
    finetune_blocks: PositiveInt = 1
    cache: bool = True
    aim: Literal["sensitivity", "youden", "fixed"] = "sensitivity"
    aim_sensitivity: Fraction = 0.90
    allow_gaps: Annotated[int, Field(ge=0)] = Field(0, description="longest run of missing frames filled")


Percentile = Annotated[float, Field(ge=0, le=100)]


class CnnSection(Section):
    """``train-cnn``: image-folder classification."""

    name: Annotated[Name, ASIDE] = "cnn"
    data: Annotated[PathText | None, ASIDE] = None
    positive: str | None = Field(None, description="class that counts as positive; null: by the words of its name")
    size: Shape = (331, 331)
    color: Literal["rgb", "gray"] = "rgb"
    model: Literal["study", "pooled", "backbone"] = "study"
    backbone: BackboneName = Field("efficientnet_lite0", description="for cnn.model: backbone; any but autoencoder")
    weights: Annotated[PathText | None, ASIDE] = Field(None, description="local weights file of the backbone")
    weights_sha256: str | None = None
    epochs: PositiveInt = 15
    batch: PositiveInt = 64
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without gain")
    keep: Literal["best", "last"] = Field("best", description="weights of the best validation epoch, or the last")
    aim: Literal["accuracy", "sensitivity", "youden", "fixed"] = Field(
        "accuracy", description="what the threshold is chosen for, on validation images alone"
    )
    aim_sensitivity: Fraction = 0.90
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    validation: Literal["drawn", "first"] = Field(
        "drawn",
        description="images drawn by patient from the seed; or the first file names of each class, as the study",
    )
    interpolation: Literal["area", "nearest"] = Field("area", description="how images are resized; the study: nearest")
    copies: Literal["refuse", "keep"] = Field(
        "refuse",
        description="one picture several times: left out within a part, an error where it is in Train and in Test; "
        "keep: as in the study, named as a leak",
    )
    group: str | None = Field(None, description="regular expression on the file name: the patient")
    folds: Literal["parts", "leave-one-patient-out", "grouped"] = Field(
        "parts",
        description="Train and Test as they lie; or class folders without them, or a table: each patient tested once, "
        "alone or (grouped) in one of split.folds parts",
    )
    slices: PositiveInt = Field(12, description="slices taken of a NIfTI volume or a DICOM series, at even steps")
    slice_share: Annotated[float, Field(gt=0, le=1)] = Field(0.6, description="central share of a volume they lie in")
    slice_percentiles: tuple[Percentile, Percentile] = Field(
        (1.0, 99.5), description="percentiles of a volume's values that become black and white"
    )
    augment: bool = False
    mixup: Annotated[float, Field(ge=0)] = 0.0
    test_time_augmentation: bool = False
    seeds: PositiveInt = 1
    init: Annotated[PathText | None, ASIDE] = Field(None, description="Keras 2 HDF5 weights to start from")
    train: bool = Field(True, description="false: judge the weights of cnn.init as they are")
