"""From a config to a classifier, and from a run's folder back to it: the kind is asked for its code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from thermocancer.classifiers.protocol import (
    CLASSIFIER_FILE,
    MEMBERS,
    Asked,
    Classifier,
    Family,
    Fitted,
    Settings,
    member_folder,
)
from thermocancer.classifiers.seeds import SeedsFitted
from thermocancer.config import Config
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import read_json
from thermocancer.kinds import Kind, kind, kind_saved_as
from thermocancer.workspace import Workspace


def chosen_views(config: Config, cohort: Cohort) -> tuple[str, ...]:
    """The views that fuse uses, in DMR order. Raises ConfigError when the data set lacks one."""
    wanted = config.fuse.views or cohort.views
    missing = [view for view in wanted if view not in cohort.views]
    if missing:
        raise ConfigError(
            "the data set lacks a view that fuse needs",
            where="fuse.views",
            expected=f"some of: {', '.join(cohort.views)}",
            found=", ".join(missing),
        )
    return tuple(view for view in cohort.views if view in wanted)


def asked_for(config: Config, workspace: Workspace, views: tuple[str, ...] | None = None) -> Asked:
    """The config and the views it names; None goes by the config alone."""
    return Asked(config, workspace, views or config.fuse.views or config.dataset.views or config.filter.views)


def make_classifier(
    config: Config,
    workspace: Workspace,
    *,
    name: str | None = None,
    views: tuple[str, ...] | None = None,
    calibrate: bool = True,
    exam_weights: ExamWeights | None = None,
    watched: Mapping[str, IntArray] | None = None,
) -> Classifier:
    """The classifier of ``fuse.model``, or of the kind ``name``; see ``Asked`` for the rest.

    With ``sweep.trials`` its settings are searched for in every fold. Raises ConfigError for an unknown name.
    """
    views = asked_for(config, workspace, views).views
    asked = Asked(config, workspace, views, calibrate, exam_weights, watched or {})
    chosen = kind(name or config.fuse.model)
    if config.sweep.trials and calibrate and chosen.name == config.fuse.model:
        from thermocancer.classifiers.sweep import Swept

        return Swept(asked)
    made: Classifier = chosen.family().make(asked)
    return made


def family_of(folder: Path) -> tuple[Kind, Family, Settings]:
    """The kind that can read the classifier in a run's folder, its code, and what ``classifier.json`` says.

    Raises DataError when the folder holds none, or one of a kind that is not installed.
    """
    path = folder / CLASSIFIER_FILE
    if not path.exists():
        raise DataError("this run has no fitted classifier", where=path, hint="train the run again")
    settings = read_json(path)
    form = settings.get("kind") if isinstance(settings, dict) else None
    found = kind_saved_as(str(form))
    if found is None:
        raise DataError(
            "a fitted classifier cannot be read", where=path, found=f"kind {form!r}, which no installed package knows",
            hint="install the package that made it, or train the run again",
        )  # fmt: skip
    return found, found.family(), settings


def load_fitted(folder: Path, workspace: Workspace) -> Fitted:
    """The classifier that a run saved under ``runs/NAME/model``.

    Raises DataError when the folder holds none, or a damaged or unknown one.
    """
    _, family, settings = family_of(folder)
    if MEMBERS in settings:
        members = {int(seed): load_fitted(member_folder(folder, seed), workspace) for seed in settings[MEMBERS]}
        return SeedsFitted.of(members, family)
    try:
        fitted: Fitted = family.load(folder, settings)
        return fitted
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "a fitted classifier cannot be read", where=folder / CLASSIFIER_FILE, found=repr(error),
            hint="train the run again",
        ) from error  # fmt: skip
