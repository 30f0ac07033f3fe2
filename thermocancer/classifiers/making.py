"""From a config to a classifier, and from a run's folder back to it: the kind is asked for its code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.classifiers.calibrated import CalibratedFitted, unmatched_parts
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
from thermocancer.config.judging import Range, SweepSection
from thermocancer.data.cohort import Cohort, IntArray
from thermocancer.data.matching import ExamWeights
from thermocancer.errors import ConfigError, DataError, RunError, check_installed
from thermocancer.files import fingerprint, read_json_as, reading
from thermocancer.kinds import Kind, kind, kind_saved_as
from thermocancer.workspace import Workspace

if TYPE_CHECKING:
    from optuna.storages.journal import JournalFileOpenLock


def chosen_views(config: Config, cohort: Cohort) -> tuple[str, ...]:
    """The views that fuse uses, in DMR order. Raises ConfigError when the data set lacks one."""
    wanted = config.fuse.views or cohort.views
    missing = [view for view in wanted if view not in cohort.views]
    if missing:
        raise ConfigError(
            "the data set lacks a view that fuse needs", where="fuse.views",
            expected=f"some of: {', '.join(cohort.views)}", found=", ".join(missing),
        )  # fmt: skip
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
    settings = read_json_as(path, dict, "a fitted classifier cannot be read", hint="train the run again")
    form = settings.get("kind")
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
    with reading(folder / CLASSIFIER_FILE, "a fitted classifier cannot be read", hint="train the run again"):
        if MEMBERS in settings:
            seeds = [int(seed) for seed in settings[MEMBERS]]
            members = {seed: load_fitted(member_folder(folder, seed), workspace) for seed in seeds}
            return SeedsFitted.of(members, family)
        fitted: Fitted = family.load(folder, settings)
        return fitted


# --- hyper-parameter search inside the training part of each outer fold, never on what is ---


Choice = str | int | float | bool | None
Space = Mapping[str, Range | tuple[Choice, ...]]
"""Dotted config keys: a range of numbers, or choices."""


@dataclass(frozen=True)
class Swept(Classifier):
    """The classifier that is asked for, its settings chosen anew in every outer fold."""

    asked: Asked

    @property
    def name(self) -> str:
        return f"{self._plain({}, calibrate=True).name}, swept"

    @property
    def journal(self) -> Path:
        storage = self.asked.config.sweep.storage
        return Path(storage) if storage else self.asked.workspace.cache / "sweep" / "journal.log"

    def _plain(self, settings: Mapping[str, object], *, calibrate: bool) -> Classifier:
        """The plain one with some settings; without ``calibrate`` the cheap one that inner folds judge."""
        config = with_settings(self.asked.config, settings).model_copy(update={"sweep": SweepSection()})
        asked = self.asked
        return make_classifier(
            config, asked.workspace, views=asked.views, calibrate=calibrate, exam_weights=asked.exam_weights,
            watched=asked.watched,
        )  # fmt: skip

    def fit(self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str) -> Fitted:
        """Search on inner folds of ``rows``, then fit the best settings on all of them."""
        found, score = self.search(cohort, rows, labels, seed=seed, fold=fold)
        fitted = self._plain(found, calibrate=self.asked.calibrate).fit(cohort, rows, labels, seed=seed, fold=fold)
        if not isinstance(fitted, CalibratedFitted):  # nothing was fitted, so that no choice was made
            return fitted
        return replace(fitted, history=(*fitted.history, {"sweep": found, "inner_auc": score}))

    def search(
        self, cohort: Cohort, rows: IntArray, labels: IntArray, *, seed: int, fold: str
    ) -> tuple[dict[str, Choice], float]:
        """The best settings by inner AUC, and that AUC. Goes on with what the journal already holds."""
        from sklearn.metrics import roc_auc_score

        rows, labels = np.asarray(rows, dtype=np.int64), np.asarray(labels, dtype=np.int64)
        parts = unmatched_parts(
            cohort, rows, labels, self.asked.config.split.inner_folds, seed, self.asked.config.cohort
        )
        if not parts:
            raise ConfigError(
                "a search needs inner folds", where="sweep.trials", expected="two patients of each class in training"
            )
        given = dict(zip(rows.tolist(), labels.tolist(), strict=True))

        def judge(settings: dict[str, Choice]) -> float:
            """Mean AUC over the inner folds whose tested exams have both classes; 0.5 where none has."""
            plain = self._plain(settings, calibrate=False)
            scores, truth = [], []
            for part in parts:
                taught = np.array([given[row] for row in part.train.tolist()], dtype=np.int64)
                scores.append(plain.fit(cohort, part.train, taught, seed=seed, fold=fold).scores(cohort, part.test))
                truth.append(np.array([given[row] for row in part.test.tolist()], dtype=np.int64))
            both = [pair for pair in zip(truth, scores, strict=True) if len(set(pair[0].tolist())) == 2]
            return float(np.mean([roc_auc_score(*pair) for pair in both])) if both else 0.5

        config = self.asked.config
        identity = config.model_dump(
            mode="json", include={"fuse", "features", "autoencoder", "split", "sweep"},
            exclude={"fuse": {"name"}, "sweep": {"storage", "trials"}},
        )  # fmt: skip
        name = fingerprint("sweep", cohort.fingerprint, rows.tolist(), labels.tolist(), seed, fold, identity)[:32]
        return run_study(self.journal, name, config.sweep.space, config.sweep.trials, seed, judge)


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """The config with dotted settings replaced and checked again. Raises ConfigError for a wrong value."""
    from pydantic import ValidationError

    values = config.model_dump(mode="python", by_alias=True)
    for key, value in settings.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            "the search proposed a setting that is not allowed", where="sweep.space", found=error
        ) from error


def check_search() -> None:
    """Raise ConfigError where a search cannot be made."""
    check_installed(
        "optuna", "a search needs Optuna", extra="sweep", where="sweep.trials", otherwise="set sweep.trials to 0"
    )


def run_study(
    journal: Path, name: str, space: Space, trials: int, seed: int, judge: Callable[[dict[str, Choice]], float]
) -> tuple[dict[str, Choice], float]:
    """Ask, judge and tell until the study holds ``trials`` judged proposals; return the best and its score.

    The proposal depends on the seed and on what has been judged so far, not on how often the search was
    interrupted: a killed search ends as an uninterrupted one does (on one machine).
    """
    check_search()
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # an O_EXCL lock file: symlinks and flock are not dependable on FUSE mounts
    lock = JournalFileOpenLock(str(journal))
    _ready(journal, lock)
    with reading(journal, "the journal of the search cannot be read", hint="remove it: the search begins anew"):
        study = optuna.create_study(
            study_name=name, storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=lock)),
            direction="maximize", load_if_exists=True, sampler=optuna.samplers.RandomSampler(seed=0),
        )  # fmt: skip
    complete = optuna.trial.TrialState.COMPLETE
    while (done := len(study.get_trials(deepcopy=False, states=(complete,)))) < trials:
        draw = int(np.random.default_rng([seed, 0x5EE9, done]).integers(2**31))
        # proposals still running (or killed) elsewhere are not reckoned with: they would change what is proposed here
        study.sampler = optuna.samplers.TPESampler(
            seed=draw, n_startup_trials=min(10, max(trials // 2, 1)), constant_liar=False
        )
        trial = study.ask()
        settings: dict[str, Choice] = {}
        for key, choice in sorted(space.items()):
            if not isinstance(choice, Range):
                settings[key] = trial.suggest_categorical(key, choice)
            elif choice.integer:
                settings[key] = trial.suggest_int(key, int(choice.low), int(choice.high), log=choice.log)
            else:
                settings[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        study.tell(trial, judge(settings))
    best = max(study.get_trials(deepcopy=False, states=(complete,)), key=lambda each: (each.value, -each.number))
    chosen = ((key, best.params[key]) for key in sorted(space))
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in chosen}
    return plain, float(best.value or 0.0)


def _ready(journal: Path, lock: JournalFileOpenLock) -> None:
    """See that the journal can be written, and take off the half of a line that a full disk or a power cut left.

    Optuna would write its next line behind that half, and neither could be read. Raises RunError.
    """
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with open(journal, "ab"):
            lock.acquire()
        try:
            content = journal.read_bytes()
            if content and not content.endswith(b"\n"):
                os.truncate(journal, content.rfind(b"\n") + 1)
        finally:
            lock.release()
    except OSError as error:
        raise RunError(
            "the journal of the search cannot be written", where=journal, found=error.strerror or error,
            hint="set sweep.storage to a file that you may write to",
        ) from error  # fmt: skip
