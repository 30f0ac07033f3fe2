"""How models are trained: devices, autoencoders, fusion, sequences, image classifier."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

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

    backend: Literal["auto", "tensorflow", "jax"] = Field(
        "auto", description="what Keras runs on; auto: TensorFlow, unless the kind or what is installed needs JAX"
    )
    kind: Literal["auto", "cpu", "gpu", "mirrored", "data-parallel", "tpu", "multi-host"] = Field(
        "auto", description="auto: TPU, GPU or CPU, whichever is there"
    )
    devices: PositiveInt | None = Field(None, description="how many devices; null: all of the kind")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="of the arithmetic; mixed ones only pay on accelerators"
    )
    deterministic: bool = Field(True, description="the same bytes every time; false: faster on some GPUs")
    threads: PositiveInt | None = Field(
        None,
        description="numeric threads of TensorFlow on a CPU; null: every core, one in the workers of compute. "
        "Its sums depend on their number in the last bits: set 1 for the same bytes on any machine",
    )
    virtual_cpus: PositiveInt | None = Field(
        None, description="split the CPU into so many devices, to rehearse several on one machine"
    )
    coordinator: str | None = Field(None, description="HOST:PORT of the first process (multi-host)")
    processes: PositiveInt | None = Field(None, description="how many processes take part (multi-host)")
    process_index: Annotated[int, Field(ge=0)] | None = Field(
        None, description="which of them this one is, from 0 (multi-host)"
    )

    @model_validator(mode="before")
    @classmethod
    def _no_claims(cls, given: Any) -> Any:
        """``shared`` was a setting: runs recorded it as false; whoever asks for it is told what does its work."""
        if not isinstance(given, dict) or "shared" not in given:
            return given
        if given["shared"]:
            raise ValueError("not there any more: one command shares its work out by compute.engine, compute.workers")
        return {name: value for name, value in given.items() if name != "shared"}


class ClusterSection(Section):
    """Workers as jobs of a batch system (Dask)."""

    kind: Literal["slurm", "pbs", "lsf", "sge"] = Field("slurm", description="the batch system")
    queue: str | None = Field(None, description="partition or queue; null: the system's default")
    walltime: str = Field("02:00:00", description="of a worker's job, HH:MM:SS")
    directives: tuple[str, ...] = Field((), description="further lines of the job's head, such as --account=breast")


class ComputeSection(Section):
    """Who does the many pieces of a stage: autoencoders, folds, controls of an audit."""

    engine: Literal["local", "dask"] = Field(
        "local", description="local: processes of this machine; dask: workers of a cluster"
    )
    workers: Literal["auto"] | PositiveInt = Field(
        1, description="processes; 1: the command's own; auto: as many as cores and free memory allow"
    )
    memory_gb: Annotated[float, Field(gt=0)] = Field(2.0, description="what one worker may take, for auto and cluster")
    address: str | None = Field(None, description="dask: HOST:PORT of a scheduler that runs already")
    cluster: ClusterSection | None = Field(None, description="dask: workers that a batch system starts")


class InputSection(Section):
    """What a network sees of a matrix: a scaled temperature channel or a colour rendering / 255."""

    kind: Literal["celsius", "rgb"] = Field(
        "rgb", description="celsius: one channel of scaled degrees; rgb: colours as the original study"
    )
    rendering: Rendering = Rendering()


class AutoencoderSection(Section):
    """``train-ae``: one autoencoder a view."""

    variant: Literal["v1", "v2", "v3"] = Field(
        "v2",
        description="v1 and v2 are the original study's; v3 starts from a cosine basis and keeps half the channels",
    )
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
    optimizer: Literal["adam", "adamw"] = Field("adam", description="the original study: adam")
    learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="null: 0.001 where the schedule is constant; where it is cosine 0.005, for v3 0.002"
    )
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="of the learning rate; the original study: constant"
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(
        1, description="epochs in which the learning rate rises, where the schedule is cosine"
    )
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
    checkpoint_every: Annotated[PositiveInt | None, ASIDE] = Field(
        None, description="epochs between checkpoints; null: every 30 seconds; at the end always"
    )


class FuseSection(Section):
    """``fuse``: a classifier on 1, 3 or 5 views."""

    name: Annotated[Name, ASIDE] = Field("fuse", description="the run is written to runs/NAME")
    model: Annotated[str, Choice(lambda: kinds_of(FUSE))] = Field(
        "svm", description="kind of classifier; installed packages may add to them"
    )
    options: dict[str, Any] = Field({}, description="settings of a kind that an installed package adds")
    kernel: Literal["sigmoid", "rbf", "linear"] = Field(
        "sigmoid", description="of the svm; the original study: sigmoid"
    )
    C: Annotated[float, Field(gt=0)] = Field(1.0, description="of svm and pixels: the less, the more they are smoothed")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="svm: limit of standardised features, in standard deviations; null: none, as scikit-learn"
    )
    views: tuple[ViewName, ...] | None = Field(None, description="null: every view of the data set")
    autoencoder: Literal["v1", "v2", "v3"] | None = Field(None, description="null: autoencoder.variant")
    untrained: bool = Field(False, description="random encoder weights: the untrained twin")
    epochs: PositiveInt = Field(40, description="of the fusion network")
    batch: PositiveInt = Field(8, description="of the fusion network, exams")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="of the fusion network")
    aim: Literal["sensitivity", "youden", "fixed"] = Field(
        "sensitivity",
        description="what the threshold is chosen for in the training part: a sensitivity, youden, or .5",
    )
    aim_sensitivity: Fraction = Field(0.90, description="the sensitivity that the threshold aims at")
    block: PositiveInt = Field(16, description="exams encoded at once")
    encoders: Literal["fold", "split"] = Field(
        "fold", description="in cross-validation: each fold's own encoder, or ('split', leaks) the one of split.json"
    )
    processes: PositiveInt = Field(1, description="older name of compute.workers, for folds; where that is 1")
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

    name: Annotated[Name, ASIDE] = Field("dit", description="the run is written to runs/NAME")
    backbone: BackboneName = Field("autoencoder", description="what turns a frame into features")
    weights: Annotated[PathText | None, ASIDE] = Field(None, description="local weights file of the backbone")
    weights_sha256: str | None = Field(None, description="the weights file must have this checksum")
    size: Shape = Field((224, 224), description="rows and columns of a frame")
    rendering: Rendering = Rendering()
    frames: tuple[int, ...] = Field(tuple(range(0, 20, 2)), description="which frames of an exam are read, from 0")
    channels: tuple[Literal["frame", "difference", "rate", "asymmetry"], ...] = Field(
        ("frame",),
        description="seen of each: the frame, difference to the first, rate of change, left less right",
    )
    difference_range: CelsiusRange = Field(CelsiusRange(low=-1.0, high=5.0), description="degC since the first frame")
    rate_range: CelsiusRange = Field(CelsiusRange(low=-0.5, high=1.0), description="degC a frame")
    asymmetry_range: CelsiusRange = Field(CelsiusRange(low=-1.0, high=1.0), description="degC, one side less the other")
    head: Literal["lstm", "gru", "tcn", "attention"] = Field("lstm", description="what reads the sequence of features")
    units: PositiveInt = Field(24, description="width of the head")
    dropout: Fraction = Field(0.2, description="share dropped before the output")
    norm_momentum: Fraction = Field(0.9, description="of batch normalisation (original study: 0.99)")
    optimizer: Literal["adamw", "adam"] = Field("adamw", description="the original study: adamw")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="highest one")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.1, description="of adamw")
    ema_momentum: Fraction | None = Field(0.8, description="of the running mean of the weights; null: none")
    loss: Literal["mse", "bce"] = Field("bce", description="the original study: mse")
    class_weights: bool = Field(False, description="weigh both classes alike")
    epochs: PositiveInt = Field(20, description="passes over the training part")
    batch: PositiveInt = Field(16, description="exams a step")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without gain; null: never")
    augment: Annotated[int, Field(ge=0)] = Field(
        0, description="copies of each training exam, moved, turned, zoomed and mirrored"
    )
    finetune: bool = Field(False, description="also train the last blocks of the backbone")
    finetune_blocks: PositiveInt = Field(1, description="how many of them")
    cache: bool = Field(True, description="keep frame features on disk; the result does not depend on it")
    aim: Literal["sensitivity", "youden", "fixed"] = Field(
        "sensitivity", description="what the threshold is chosen for in the training part: a sensitivity, youden, or .5"
    )
    aim_sensitivity: Fraction = Field(0.90, description="the sensitivity that the threshold aims at")
    allow_gaps: Annotated[int, Field(ge=0)] = Field(0, description="longest run of missing frames filled")


Percentile = Annotated[float, Field(ge=0, le=100)]


class CnnSection(Section):
    """``train-cnn``: image-folder classification."""

    name: Annotated[Name, ASIDE] = Field("cnn", description="the run is written to runs/NAME")
    data: Annotated[PathText | None, ASIDE] = Field(
        None, description="class folders, Train and Test, series, or a table path,label,patient"
    )
    positive: str | None = Field(None, description="class that counts as positive; null: by the words of its name")
    size: Shape = Field((331, 331), description="rows and columns of an image")
    color: Literal["rgb", "gray"] = Field("rgb", description="channels that the network sees")
    model: Literal["study", "pooled", "backbone"] = Field(
        "study",
        description="the original study's; the same with global pooling; or features of cnn.backbone",
    )
    backbone: BackboneName = Field("efficientnet_lite0", description="for cnn.model: backbone; any but autoencoder")
    weights: Annotated[PathText | None, ASIDE] = Field(None, description="local weights file of the backbone")
    weights_sha256: str | None = Field(None, description="the weights file must have this checksum")
    epochs: PositiveInt = Field(15, description="passes over the training part")
    batch: PositiveInt = Field(64, description="images a step")
    learning_rate: Annotated[float, Field(gt=0)] = Field(5e-4, description="highest one")
    patience: PositiveInt | None = Field(None, description="stop after so many epochs without gain")
    keep: Literal["best", "last"] = Field("best", description="weights of the best validation epoch, or the last")
    aim: Literal["accuracy", "sensitivity", "youden", "fixed"] = Field(
        "accuracy", description="what the threshold is chosen for, on validation images alone"
    )
    aim_sensitivity: Fraction = Field(0.90, description="the sensitivity that the threshold aims at")
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="share of the training part that validates"
    )
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
    group: str | None = Field(None, description="regular expression on the file name, or the path: the patient")
    label: Annotated[str | None, ASIDE] = Field(
        None, description="regular expression on the file name: the class, where no folders name it"
    )
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
    augment: bool = Field(False, description="move, turn, zoom, lighten and mirror training images")
    mixup: Annotated[float, Field(ge=0)] = Field(0.0, description="strength of mixing pairs of images; 0: none")
    test_time_augmentation: bool = Field(
        False, description="score the mean over an image, its mirror image, and both a little brighter"
    )
    seeds: PositiveInt = Field(1, description="networks whose scores are averaged")
    init: Annotated[PathText | None, ASIDE] = Field(None, description="Keras 2 HDF5 weights to start from")
    train: bool = Field(True, description="false: judge the weights of cnn.init as they are")
