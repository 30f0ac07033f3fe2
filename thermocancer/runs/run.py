"""A run as the training stages left it: predictions, manifest, history, config."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thermocancer.config import Config, load_config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import hash_file, read_json
from thermocancer.runs.predictions import Prediction, read_predictions
from thermocancer.workspace import Workspace

INPUTS = ("predictions.csv", "predictions-baseline.csv", "manifest.json", "history.jsonl", "config.yaml")
"""What evaluation reads of a run; their content decides whether an evaluation is up to date."""


@dataclass(frozen=True)
class RunFacts:
    """What the manifest of a run says about how its figures came about."""

    threshold: float | None
    threshold_source: str
    protocol: str
    leaks: tuple[str, ...] = ()
    unit: str | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord:
    """One folder under ``runs/``."""

    name: str
    folder: Path
    rows: list[Prediction]
    baseline: list[Prediction]
    manifest: dict[str, Any]
    history: list[dict[str, Any]]

    def content(self) -> dict[str, str]:
        """SHA-256 of every input file that is there."""
        return content_of(self.folder)

    def config(self, workspace: Workspace) -> Config | None:
        """The settings that made the run, in the workspace where it now lies.

        None where it kept none, or an older version wrote settings that this one does not know.
        """
        if not (self.folder / "config.yaml").exists():
            return None
        try:
            return self.required_config(workspace)
        except ConfigError:
            return None

    def required_config(self, workspace: Workspace) -> Config:
        """The same for who cannot do without. Raises ConfigError where it cannot be read."""
        path = self.folder / "config.yaml"
        try:
            return load_config([path], workspace=workspace.root, environment={})
        except ConfigError as error:
            raise ConfigError(
                f"the settings of run {self.name!r} cannot be read by this version",
                where=error.where,
                expected=error.expected,
                found=error.what,
                hint="train the run again",
            ) from error

    def facts(self) -> RunFacts:
        """What the metrics need to know about how the run was made."""
        thresholds = fold_thresholds(self.manifest, self.rows)
        source = str(self.manifest.get("threshold_source", "0.5, fixed"))
        if len(thresholds) > 1:
            low, high = min(thresholds.values()), max(thresholds.values())
            source += f"; median of {len(thresholds)} folds ({low:.3g} to {high:.3g})"
        return RunFacts(
            threshold=statistics.median(thresholds.values()) if thresholds else None,
            threshold_source=source,
            protocol=str(self.manifest.get("protocol", guess_protocol(self.rows))),
            leaks=tuple(str(each) for each in self.manifest.get("leaks", ())),
            unit=self.manifest.get("unit") or self._unit_of_images(),
        )

    def _unit_of_images(self) -> str | None:
        """``exam`` for image files whose patients nobody knows (each has a number of its own)."""
        alone = len({row.patient for row in self.rows}) == len(self.rows)
        return "exam" if self.manifest.get("stage") == "train-cnn" and alone else None


def run_names(workspace: Workspace) -> list[str]:
    """Every run of the workspace that holds predictions."""
    return sorted(path.parent.name for path in (workspace.root / "runs").glob("*/predictions.csv"))


def read_run(workspace: Workspace, name: str) -> RunRecord:
    """Read a run. Raises DataError when it is not there or broken."""
    folder = workspace.run(name)
    if not (folder / "predictions.csv").exists():
        known = run_names(workspace)
        raise DataError(
            f"there is no run {name!r}",
            where=folder / "predictions.csv",
            found=f"runs: {', '.join(known)}" if known else "no finished run",
            hint="make one with: thermocancer fuse --name NAME",
        )
    baseline = folder / "predictions-baseline.csv"
    manifest = folder / "manifest.json"
    return RunRecord(
        name=name,
        folder=folder,
        rows=read_predictions(folder / "predictions.csv"),
        baseline=read_predictions(baseline) if baseline.exists() else [],
        manifest=dict(read_json(manifest)) if manifest.exists() else {},
        history=read_history(folder / "history.jsonl"),
    )


def content_of(folder: Path) -> dict[str, str]:
    """SHA-256 of each input of evaluation in a run's folder."""
    return {name: hash_file(folder / name) for name in INPUTS if (folder / name).exists()}


def read_history(path: Path) -> list[dict[str, Any]]:
    """The epochs of ``history.jsonl``; none where the model has no epochs."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                rows.append(dict(json.loads(line)))
            except (json.JSONDecodeError, TypeError, ValueError) as error:
                raise DataError(
                    "a line of the history cannot be read", where=f"{path}:{number}", found=error
                ) from error
    return rows


def fold_thresholds(manifest: dict[str, Any], rows: Sequence[Prediction]) -> dict[str, float]:
    """The operating point of each fold: from the manifest, or between the scores that were called each way."""
    recorded = manifest.get("thresholds")
    if isinstance(recorded, dict) and recorded:
        return {str(fold): float(value) for fold, value in recorded.items()}
    if isinstance(manifest.get("threshold"), (int, float)):
        return {"all": float(manifest["threshold"])}
    return {fold: value for fold in sorted({row.fold for row in rows}) if (value := _between(fold, rows)) is not None}


def _between(fold: str, rows: Sequence[Prediction]) -> float | None:
    called = [row.score for row in rows if row.fold == fold and row.predicted == 1]
    cleared = [row.score for row in rows if row.fold == fold and row.predicted == 0]
    if not called or not cleared or max(cleared) > min(called):
        return None
    return 0.5 if max(cleared) < 0.5 <= min(called) else (max(cleared) + min(called)) / 2


def guess_protocol(rows: Sequence[Prediction]) -> str:
    """``holdout`` where the only fold is ``test``; otherwise cross-validation."""
    return "holdout" if {row.fold for row in rows} == {"test"} else "grouped-cv"
