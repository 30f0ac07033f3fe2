"""The toolkit from Python, for notebooks and other programs: what the commands do, as objects.

``import thermocancer as tc`` reaches everything here and loads nothing before it is used. The commands call the same
functions (``stages.run_stage``, ``judge``, ``audit_scores``), so that both give the same files and figures.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer import stages
from thermocancer.config import Config, load_config
from thermocancer.errors import DataError
from thermocancer.files import Json, read_json
from thermocancer.kinds import Reads
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress, Silent
from thermocancer.workspace import LABELS, Workspace

if TYPE_CHECKING:
    from thermocancer.classifiers.protocol import Fitted
    from thermocancer.data.store.reading import Part, StoredCohort
    from thermocancer.evaluation.prediction.scoring import LoadedRun
    from thermocancer.evaluation.report.judgement import Picture
    from thermocancer.runs.predictions import Prediction
    from thermocancer.runs.run import Run

Pixels = npt.NDArray[np.floating] | npt.NDArray[np.integer]


# --- a workspace ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """A workspace with the settings that its stages are called with: files as for ``-c``, assignments as ``--set``."""

    folder: Path
    files: tuple[Path, ...] = ()
    assignments: tuple[str, ...] = ()
    progress: Progress = field(default_factory=Silent)

    @property
    def workspace(self) -> Workspace:
        """Where its files lie."""
        return Workspace(self.folder)

    @property
    def config(self) -> Config:
        """The resolved settings. Raises ConfigError where one is wrong."""
        return self.with_options({})

    def with_options(self, options: Mapping[str, object], *assignments: str) -> Config:
        """The settings with a command's own options (dotted keys) and further assignments."""
        return load_config(self.files, (*self.assignments, *assignments), workspace=self.folder, options=options)

    def plan(self, stage: str, *assignments: str) -> Plan:
        """What a stage would do, as ``thermocancer STAGE --dry-run``."""
        return stages.plan_stage(stage, self.with_options({}, *assignments), self.workspace)

    def do(self, stage: str, *assignments: str) -> StageReport:
        """Let a stage work, as ``thermocancer STAGE --set ...``. Raises the stage's own errors."""
        return stages.run_stage(stage, self.with_options({}, *assignments), self.workspace, self.progress)

    def road(self) -> list[StageReport]:
        """Every stage of ``pipeline`` in turn, as ``thermocancer run``."""
        return [self.do(stage) for stage in self.config.pipeline]

    def cohort(self, name: str | None = None, part: Part = "static") -> StoredCohort:
        """The exams of a data set: ``exams``, ``labels``, ``dates``, ``views``, ``celsius(view)``, ``frames``.

        Raises DataError where the data set is not there, is damaged or lacks the part.
        """
        from thermocancer.data.store.reading import StoredCohort

        return StoredCohort(self.workspace.dataset(name or self.config.dataset.name), part)

    def runs(self, by: str = "made") -> list[Json]:
        """A line a run, as ``thermocancer runs --json``; ``by`` is made, auc, name or model."""
        from thermocancer.evaluation.between_runs import listed_runs

        return listed_runs(self.workspace, by)

    def run(self, name: str) -> TrainedRun:
        """A finished run. Raises DataError where there is none of this name."""
        from thermocancer.runs.run import read_run

        return TrainedRun(self, read_run(self.workspace, name))

    def compare(self, *names: str) -> Json:
        """Runs tested against one another on the patients they share, as ``thermocancer compare --json``."""
        from thermocancer.evaluation.between_runs import compare_runs

        return compare_runs([self.run(name).run for name in names], self.workspace, self.config).document


def open_workspace(
    folder: str | Path, *assignments: str, config: Sequence[str | Path] = (), progress: Progress | None = None
) -> Study:
    """Open (or begin) a workspace; ``config`` are files as for ``-c``, ``assignments`` settings as for ``--set``.

    Nothing is written before a stage works. Raises ConfigError where a setting is wrong, DataError where a newer
    version has written the workspace.
    """
    study = Study(Path(folder), tuple(map(Path, config)), assignments, progress or Silent())
    _ = study.config  # its errors belong here
    study.workspace.check_version()
    return study


# --- a run ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """Scores judged: ``metrics`` as in ``metrics.json``, ``figures`` by name, each shown by a notebook."""

    metrics: Json
    figures: Mapping[str, Picture]
    title: str = "scores"

    def _repr_html_(self) -> str:
        """The figures with intervals and the ROC curve: what a notebook shows."""
        from html import escape

        from thermocancer.evaluation.report.page import data_uri, with_interval
        from thermocancer.evaluation.statistics.metrics import METRICS

        rows = "".join(
            f"<tr><th>{title}</th><td>{with_interval(self.metrics[name])}</td></tr>" for name, title in METRICS.items()
        )
        roc = self.figures["roc"]
        picture = f'<img width="320" src="{data_uri(roc.png)}" alt="{escape(roc.alternative)}">'
        return f"<h3>{escape(self.title)}</h3><table>{rows}</table>{picture}"


@dataclass(frozen=True)
class TrainedRun:
    """What a training left in ``runs/NAME``, judged and ready to score."""

    study: Study
    run: Run

    @property
    def predictions(self) -> list[Prediction]:
        """Out-of-sample scores, one an exam and repeat: patient, visit, fold, label, score, predicted."""
        return self.run.rows

    @cached_property
    def evaluation(self) -> Evaluation:
        """Its figures as ``evaluate`` gives them, without audit. Raises DataError where one class was scored."""
        from thermocancer.evaluation.report.judgement import judge

        judged = judge(self.run, self.study.config.evaluate, self.study.config.seed)
        return Evaluation(judged.document, judged.pictures, self.run.name)

    @property
    def metrics(self) -> Json:
        return self.evaluation.metrics

    @property
    def figures(self) -> Mapping[str, Picture]:
        return self.evaluation.figures

    @property
    def report(self) -> Json:
        """``report.json``: verdict, audit, subgroups. Raises DataError before ``study.do("evaluate")``."""
        path = self.run.folder / "report.json"
        if not path.is_file():
            hint = f"study.do('evaluate', 'evaluate.run={self.run.name}')"
            raise DataError("this run was not evaluated", where=path, hint=hint)
        found: Json = read_json(path)
        return found

    @cached_property
    def fitted(self) -> Fitted:
        """The kept model: ``fitted.scores(cohort, rows)`` gives calibrated scores (n,) of any ``Cohort``."""
        from thermocancer.classifiers.making import load_fitted

        return load_fitted(self.run.model_folder, self.run.workspace)

    @cached_property
    def _loaded(self) -> LoadedRun:
        from thermocancer.evaluation.prediction.scoring import load_run

        return load_run(self.run)

    def predict(self, *paths: str | Path, **settings: object) -> list[Json]:
        """An answer an exam at ``paths``, as ``thermocancer predict --json``; ``settings`` are those of ``import``.

        Raises DataError where nothing can be scored.
        """
        options: dict[str, object] = {f"import.{name}": value for name, value in settings.items()}
        asked = {"evaluate.exam": [str(each) for each in paths], "evaluate.run": self.run.name, "evaluate.page": ""}
        config = self.study.with_options(options | asked)
        report = stages.run_stage("predict", config, self.study.workspace, self.study.progress)
        answers: list[Json] = report.figures["exams"]
        return answers

    def score(self, views: Pixels | Mapping[str, Pixels]) -> Json:
        """The answer for one exam in memory: score, interval, decision, doubt; never a diagnosis.

        ``views`` maps views (``Frontal``, ``Left``, ...) to degC (H, W), NaN where a pixel holds none; one array is a
        frontal. A dynamic exam is (T, H, W). A run on class images takes colours, uint8 (H, W[, 3]).
        """
        given = views if isinstance(views, Mapping) else {"Frontal": views}
        if self.run.reads is Reads.IMAGES:
            from PIL import Image

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "array.png"
                Image.fromarray(next(iter(given.values()))).save(path)
                return self.predict(path)[0]
        from thermocancer.evaluation.prediction.gathering import exam_in_memory
        from thermocancer.evaluation.prediction.scoring import answer

        exam = exam_in_memory({view: np.asarray(each, dtype=np.float64) for view, each in given.items()})
        return answer(exam, self._loaded).as_dict()

    def _repr_html_(self) -> str:
        return self.evaluation._repr_html_()


# --- scores and thermograms of anybody --------------------------------------------------------------------------------


def evaluate(
    labels: Sequence[int] | npt.NDArray[np.integer], scores: Sequence[float] | npt.NDArray[np.floating], *,
    patients: Sequence[int] | None = None, folds: Sequence[str] | None = None, threshold: float = 0.5,
    classes: tuple[str, str] = LABELS, confidence: float = 0.95, bootstrap: int = 2000, seed: int = 0,
) -> Evaluation:  # fmt: skip
    """Judge any model's scores (n,) in [0, 1] of labels 0 and 1: figures with intervals, and curves.

    ``patients`` says whose each score is (a patient counts once), ``folds`` which fold tested it (``REPEAT.FOLD``).
    Raises DataError where a score is out of range or only one class is there.
    """
    from thermocancer.evaluation.report.judgement import draw_units
    from thermocancer.evaluation.report.page import Words
    from thermocancer.evaluation.statistics.curves import curve_facts
    from thermocancer.evaluation.statistics.metrics import measure, metrics_document
    from thermocancer.evaluation.statistics.units import gather_units
    from thermocancer.runs.predictions import Prediction
    from thermocancer.runs.run import RunFacts

    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if values.shape != truth.shape or values.ndim != 1 or not np.isin(truth, (0, 1)).all():
        found = f"labels {truth.shape}, scores {values.shape}"
        raise DataError("labels and scores do not fit", expected="(n,) zeros and ones, (n,) scores", found=found)
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("a score is out of range", expected="0 to 1", found=f"{values.min():g} to {values.max():g}")
    whose = range(1, len(values) + 1) if patients is None else patients
    tested = ["test"] * len(values) if folds is None else folds
    rows = [
        Prediction(int(patient), place, fold, int(label), float(score), int(score >= threshold))
        for place, (patient, fold, label, score) in enumerate(zip(whose, tested, truth, values, strict=True), start=1)
    ]
    units = gather_units(rows)
    estimates = measure(units, confidence=confidence, bootstrap=bootstrap, seed=seed)
    document = metrics_document(estimates, units, RunFacts(threshold, "as given", "scores as given"), confidence)
    return Evaluation(document, draw_units(units, document, None, curve_facts(units, estimates, (), confidence),
                                           Words(*classes)))  # fmt: skip


def audit(
    scores: str | Path, facts: str | Path | None = None, *, match: Mapping[str, float] | None = None,
    wanted: Sequence[str] = (), positive: str | None = None, threshold: float = 0.5, confidence: float = 0.95,
    bootstrap: int = 2000, seed: int = 0, **columns: str | None,
) -> Json:  # fmt: skip
    """Audit a table of anybody's scores, as ``thermocancer audit``: from which facts could the label be read?

    ``columns`` name the columns ``unit``, ``label``, ``score``, ``fold``, ``repeat``, ``group``. ``exit_code`` of what
    is returned is 6 where a shortcut or a leak was found. Raises ConfigError and DataError as ``read_scores``.
    """
    from thermocancer.evaluation.audit.of_scores import audit_scores
    from thermocancer.evaluation.audit.score_tables import read_scores

    table = read_scores(
        Path(scores), None if facts is None else Path(facts), columns=columns, positive=positive, threshold=threshold,
        wanted=wanted,
    )  # fmt: skip
    return audit_scores(table, match=match, confidence=confidence, bootstrap=bootstrap, seed=seed)


def show(celsius: npt.NDArray[np.floating], view: str = "Frontal", width: int = 480) -> Picture:
    """A thermogram (H, W) in degC, NaN where a pixel holds none, as a picture that a notebook shows."""
    from thermocancer.evaluation.report.figures import thermogram_png
    from thermocancer.evaluation.report.judgement import Picture
    from thermocancer.thermal.regions import filled

    whole = filled(np.asarray(celsius, dtype=np.float64))
    said = f"{whole.min():.1f} to {whole.max():.1f} degC"
    return Picture(thermogram_png(whole, view, width), f"thermogram, {view}", said)
