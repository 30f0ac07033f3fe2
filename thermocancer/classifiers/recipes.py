"""From the config to a recipe, and from a run's folder back to its classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thermocancer.classifiers.calibrated import CLASSIFIER_FILE, CalibratedRecipe, Classifier, Method, Model
from thermocancer.classifiers.encoders import Encoders
from thermocancer.classifiers.fusion_network import NetworkRecipe
from thermocancer.classifiers.grams import Grams
from thermocancer.classifiers.index import AsymmetryIndex
from thermocancer.classifiers.late.features import JointModel
from thermocancer.classifiers.late.kept import ScoresModel
from thermocancer.classifiers.network_model import NetworkModel
from thermocancer.classifiers.platt import Calibration
from thermocancer.classifiers.protocol import Fitted, Recipe
from thermocancer.classifiers.sequence.network import load_sequence_model
from thermocancer.classifiers.support import SupportVectors
from thermocancer.classifiers.svm import SvmMethod
from thermocancer.classifiers.sweep import SweptRecipe
from thermocancer.classifiers.tabular import FeatureTable, TabularMethod, TabularModel
from thermocancer.config import Config
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import ConfigError, DataError
from thermocancer.features.tables import TableKind
from thermocancer.files import read_json
from thermocancer.workspace import Workspace

KINDS = ("svm", "network", "thermal", "asymmetry", "asymmetry-index", "pixels")
"""What ``make_recipe`` makes; ``fuse.model: late`` combines runs instead of fitting a recipe."""

NETWORK_INNER_FOLDS = 5
"""The network is trained once a fold: one patient in five of the training part chooses epoch and threshold."""

ENCODED = ("svm", "network")
"""Those that read encoder features."""

THERMAL_C = 0.1
"""Inverse strength of the ridge on thermal statistics: there are nearly as many of them as exams in a fold."""

LOADERS: dict[str, Callable[[Path, dict[str, Any]], Model]] = {
    "tabular": TabularModel.load,
    "svm": SupportVectors.load,
    "network": NetworkModel.load,
    "sequence": load_sequence_model,
    "late-scores": ScoresModel.load,
    "late-features": JointModel.load,
}
"""By the ``kind`` in ``classifier.json``."""


def chosen_views(config: Config, source: Cohort) -> tuple[str, ...]:
    """The views that fuse uses, in DMR order. Raises ConfigError when the data set lacks one."""
    wanted = config.fuse.views or source.views
    missing = [view for view in wanted if view not in source.views]
    if missing:
        raise ConfigError(
            "the data set lacks a view that fuse needs",
            where="fuse.views",
            expected=f"some of: {', '.join(source.views)}",
            found=", ".join(missing),
        )
    return tuple(view for view in source.views if view in wanted)


def make_recipe(
    config: Config,
    workspace: Workspace,
    *,
    kind: str | None = None,
    views: tuple[str, ...] | None = None,
    calibrate: bool = True,
    exam_weights: ExamWeights | None = None,
    watched: Mapping[str, IntArray] | None = None,
) -> Recipe:
    """The recipe of ``fuse.model``, or of ``kind`` (one of ``KINDS``).

    ``views`` are those that ``chosen_views`` gives; None goes by the config alone. ``exam_weights``
    (n,) weigh the exams of the source in training; ``watched`` rows of a fold give the network's
    validation curve under the thesis protocol.

    Without ``calibrate`` no inner folds are used: scores keep their order and the threshold is 0.5,
    which is all that an audit of the ranking needs, at a fraction of the time.
    """
    if config.sweep.trials and calibrate and kind in (None, config.fuse.model):
        return SweptRecipe(make_recipe, config, workspace, views, exam_weights, watched)
    kind = kind or config.fuse.model
    views = views or config.fuse.views or config.dataset.views or config.filter.views
    if kind not in KINDS:
        raise ConfigError("no recipe of this name", where="fuse.model", expected=", ".join(KINDS), found=kind)
    thesis = config.split.protocol == "thesis"
    if kind == "asymmetry-index":
        return AsymmetryIndex(_table(config, workspace, "asymmetry-index", views), config.features)
    if kind == "network":
        return NetworkRecipe(
            Encoders.of(config, workspace), views, config.fuse, config.features, workspace.cache,
            0 if thesis else NETWORK_INNER_FOLDS, watched or {}, exam_weights,
        )  # fmt: skip
    inner = config.split.inner_folds if calibrate and not thesis else 0
    method = _method(config, workspace, kind, views, exam_weights)
    return CalibratedRecipe(
        method, config.features, inner, config.fuse.aim, config.fuse.aim_sensitivity, config.cohort
    )  # fmt: skip


def _method(
    config: Config, workspace: Workspace, kind: str, views: tuple[str, ...], exam_weights: ExamWeights | None
) -> Method:
    residualise = config.features.residualise
    if kind == "svm":
        grams = Grams(Encoders.of(config, workspace), views, residualise, workspace.cache, config.fuse.clip)
        return SvmMethod(grams, config.fuse.kernel, config.fuse.C, exam_weights)
    if kind == "pixels":
        table, C, components = _table(config, workspace, "pixels", views), config.fuse.C, config.features.components
        return TabularMethod(table, C, components, residualise, exam_weights)
    table = _table(config, workspace, "thermal" if kind == "thermal" else "asymmetry", views)
    return TabularMethod(table, THERMAL_C, None, residualise, exam_weights)


def _table(config: Config, workspace: Workspace, kind: TableKind, views: tuple[str, ...]) -> FeatureTable:
    return FeatureTable(kind, views, config.features.pixels, workspace.cache)


def recipe_identity(
    config: Config, workspace: Workspace, kind: str, views: tuple[str, ...], folds: Sequence[str]
) -> list[Any]:
    """Every setting and file that decides what a recipe gives on some folds, for a fingerprint."""
    fuse = config.fuse
    identity: list[Any] = [kind, views, config.seed, config.split.protocol, config.split.inner_folds]
    identity += [config.features.model_dump(mode="json"), fuse.aim, fuse.aim_sensitivity, fuse.C]
    if kind in ENCODED:
        encoders = Encoders.of(config, workspace)
        identity += [[encoders.identity(view, fold) for view in views for fold in (*folds, "all")]]
        identity += [fuse.kernel, fuse.clip, config.strategy.precision]
    if config.sweep.trials:
        identity.append(config.sweep.model_dump(mode="json", exclude={"storage"}))
    if kind == "network":
        identity += [fuse.epochs, fuse.batch, fuse.learning_rate]
    return identity


def load_fitted(folder: Path, workspace: Workspace) -> Fitted:
    """The classifier that a run saved under ``runs/NAME/model``.

    Raises DataError when the folder holds none, or a damaged or unknown one.
    """
    path = folder / CLASSIFIER_FILE
    if not path.exists():
        raise DataError("this run has no fitted classifier", where=path, hint="train the run again")
    settings = read_json(path)
    try:
        return _load(folder, settings)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a fitted classifier cannot be read", where=path, found=repr(error), hint="train the run again"
        ) from error


def _load(folder: Path, settings: dict[str, Any]) -> Fitted:
    preparation = FeaturesSection(**settings["preparation"])
    if settings["kind"] == "index":
        rows, columns = settings["pixels"]
        return AsymmetryIndex(FeatureTable(settings["table"], tuple(settings["views"]), (rows, columns)), preparation)
    model = LOADERS[settings["kind"]](folder, settings)
    described = {
        key: value for key, value in settings.items() if key not in ("preparation", "calibration", "threshold")
    }
    return Classifier(
        model, described, preparation, Calibration(**settings["calibration"]), float(settings["threshold"])
    )
