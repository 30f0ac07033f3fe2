"""A run as the training stages left it under ``runs/NAME``: the one reader of everything there."""

from __future__ import annotations

import difflib
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from thermocancer.config import Config, load_config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import hash_file
from thermocancer.kinds import Kind, Reads, kinds
from thermocancer.runs.history import Row, read_history
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.manifest import Manifest, read_manifest
from thermocancer.runs.predictions import Prediction, read_files, read_predictions
from thermocancer.workspace import Workspace

CONFIG, HISTORY, PREDICTIONS, BASELINE, INNER, VALIDATION, MODEL = (
    "config.yaml", "history.jsonl", "predictions.csv", "predictions-baseline.csv", "inner.csv", "validation.csv",
    "model",
)  # fmt: skip
"""In a run's folder. ``INNER``: scores of training exams by inner models, ``VALIDATION`` those of validation images."""
SERIES = "series.csv"
"""What the slices of each volume say together; only of a run on volumes."""

INPUTS = (PREDICTIONS, BASELINE, MANIFEST, HISTORY, CONFIG)
"""What evaluation reads of a run; their content decides whether an evaluation is up to date."""


@dataclass(frozen=True)
class RunFacts:
    """What the metrics need to know about how a run's figures came about."""

    threshold: float
    threshold_source: str
    protocol: str
    leaks: tuple[str, ...] = ()
    unit: str | None = None


@dataclass(frozen=True)
class Run:
    """One folder under ``runs/``. ``baseline`` holds the trivial baseline's scores on the same folds, if any."""

    name: str
    workspace: Workspace
    manifest: Manifest
    rows: list[Prediction]
    baseline: list[Prediction]
    history: list[Row]

    @property
    def folder(self) -> Path:
        return self.workspace.run(self.name)

    @property
    def model_folder(self) -> Path:
        """What ``predict`` and ``export`` load."""
        return self.folder / MODEL

    @property
    def kind(self) -> Kind:
        """Its entry in the registry. Raises DataError where no installed package has it."""
        found = kinds().get(self.manifest.kind)
        if found is None:
            raise DataError(
                f"run {self.name!r} is of a kind that is not installed", where=f"{self.folder / MANIFEST}: kind",
                expected=", ".join(kinds()), found=self.manifest.kind, hint="install the package that adds it",
            )  # fmt: skip
        return found

    @property
    def reads(self) -> Reads:
        """What its classifier is given of an exam."""
        return self.kind.reads

    @cached_property
    def inner(self) -> list[Prediction]:
        """Scores of training exams by inner models that had not seen them; empty where the model holds nothing out.

        Raises DataError when the run keeps none, as those of ``train-cnn`` do not.
        """
        text = self._inner_file.read_text(encoding="utf-8")
        return read_predictions(self._inner_file) if len(text.splitlines()) > 1 else []

    @property
    def _inner_file(self) -> Path:
        path = self.folder / INNER
        if not path.exists():
            raise DataError("this run has no inner scores", where=path, hint="train the run again")
        return path

    @property
    def scores_content(self) -> str:
        """Hashes of the out-of-sample and the inner scores. Raises DataError when the run has no inner scores."""
        return hash_file(self.folder / PREDICTIONS) + hash_file(self._inner_file)

    @property
    def identity(self) -> str:
        """Changes when the run is made again with another result; evaluating it changes nothing."""
        return self.manifest.identity

    def content(self) -> dict[str, str]:
        """SHA-256 of every input of evaluation that is there."""
        return content_of(self.folder)

    def config(self) -> Config | None:
        """The settings that made the run, in the workspace where it now lies.

        None where it kept none, or an older version wrote settings that this one does not know.
        """
        if not (self.folder / CONFIG).exists():
            return None
        try:
            return self.required_config()
        except ConfigError:
            return None

    def required_config(self) -> Config:
        """The same for who cannot do without. Raises ConfigError where it cannot be read."""
        try:
            return load_config([self.folder / CONFIG], workspace=self.workspace.root, environment={})
        except ConfigError as error:
            raise ConfigError(
                f"the settings of run {self.name!r} cannot be read by this version",
                where=error.where,
                expected=error.expected,
                found=error.what,
                hint="train the run again",
            ) from error

    @property
    def scored(self) -> list[str]:
        """What each of the rows scored: an exam, by its key, or a slice of a series, by its file and place."""
        if SERIES in self.manifest.outputs:
            return read_files(self.folder / PREDICTIONS)
        return [f"{row.patient}_{row.visit}" for row in self.rows]

    @property
    def by_exam(self) -> bool:
        """Whether every exam is a unit of its own, as in the original study, or every patient."""
        return self.manifest.protocol == "thesis"

    def facts(self) -> RunFacts:
        """What the metrics need to know about how the run was made; the threshold is the folds' median."""
        thresholds = self.manifest.operating_points.values()
        source = self.manifest.threshold_source
        if len(thresholds) > 1:
            source += f"; median of {len(thresholds)} folds ({min(thresholds):.3g} to {max(thresholds):.3g})"
        # image files whose patients nobody knows have a number of their own each
        alone = self.reads is Reads.IMAGES and len({row.patient for row in self.rows}) == len(self.rows)
        each_has_both = len({(row.patient, row.label) for row in self.rows}) == 2 * len({r.patient for r in self.rows})
        return RunFacts(
            threshold=statistics.median(thresholds),
            threshold_source=source,
            protocol=self.manifest.protocol,
            leaks=self.manifest.leaks,
            unit="exam" if alone else "series" if SERIES in self.manifest.outputs and each_has_both else None,
        )


def run_names(workspace: Workspace) -> list[str]:
    """Every run of the workspace that holds predictions."""
    return sorted(path.parent.name for path in (workspace.root / "runs").glob(f"*/{PREDICTIONS}"))


def read_run(workspace: Workspace, name: str, *, hint: str = "make one with: thermocancer fuse --name NAME") -> Run:
    """Read a run. Raises DataError (with ``hint`` for who asked) when it is not there, not finished or broken."""
    folder = workspace.run(name)
    if not (folder / PREDICTIONS).exists():
        known = run_names(workspace)
        near = difflib.get_close_matches(name, known, n=1)
        raise DataError(
            f"there is no run {name!r}",
            where=folder / PREDICTIONS,
            found=f"runs: {', '.join(known)}" if known else "no finished run",
            hint=f"did you mean {near[0]!r}?" if near else hint,
        )
    if not (folder / MANIFEST).exists():
        raise DataError(
            f"run {name!r} is not finished: its manifest, which is written last, is not there",
            where=folder / MANIFEST, hint="start the command again that makes it: it goes on where it stopped",
        )  # fmt: skip
    baseline = folder / BASELINE
    return Run(
        name=name,
        workspace=workspace,
        manifest=read_manifest(folder / MANIFEST),
        rows=read_predictions(folder / PREDICTIONS),
        baseline=read_predictions(baseline) if baseline.exists() else [],
        history=read_history(folder / HISTORY),
    )


def content_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each input of evaluation in a run's folder."""
    return {name: hash_file(folder / name) for name in INPUTS if (folder / name).exists()}
