"""The recipe of a run, taught without each source (a cohort of ``import``, the site, the phantom) and tested on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from thermocancer.config.judging import EvaluateSection
from thermocancer.data.catalog import read_catalog
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError
from thermocancer.evaluation.audit.controls import Judge
from thermocancer.evaluation.audit.scope import Refitting, make_scope
from thermocancer.evaluation.external import MARGIN
from thermocancer.evaluation.report.page import ADJUNCT_NOTICE, with_interval
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.metrics import measure
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.progress import Progress
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

SHOWN = ("auc", "sensitivity", "specificity")


def sources_by_exam(workspace: Workspace) -> dict[tuple[int, int], str]:
    """The cohort (``import --source``), or the stage that brought it, of every exam (patient, visit) of the catalog."""
    return {
        (record.patient, record.visit): str(record.extra.get("cohort", record.source))
        for record in (read_catalog(workspace) if workspace.catalog.exists() else ())
    }


def by_source(trained: Run, settings: EvaluateSection, seed: int, progress: Progress) -> Json:
    """Each source tested by the run's recipe taught on all others: figures there, and what it loses.

    The operating point is chosen on the sources that teach. The loss is against the run's own folds, in which others of
    the same source taught, on the same women. Raises ConfigError for a run on something other than static views, and
    where the exams have one source.
    """
    if trained.reads in (Reads.FRAMES, Reads.IMAGES, Reads.RUNS):
        raise ConfigError(
            "only runs on static views are taught by source", where=trained.folder, expected="a run of fuse",
            found=trained.kind.words,
        )  # fmt: skip
    own, known = trained.required_config(), sources_by_exam(trained.workspace)
    with StoredCohort(trained.workspace.dataset(own.dataset.name)) as cohort:
        scope = make_scope(trained, cohort, {})
        source = np.array([known.get((exam.patient, exam.visit), "unknown") for exam in scope.exams])
        patients, names = np.array([exam.patient for exam in scope.exams]), sorted(set(source[scope.scored].tolist()))
        if len(names) < 2:
            raise ConfigError(
                "the exams of this run come from one source", where=trained.workspace.root, expected="two or more",
                found=", ".join(names), hint="import each folder under its own name: import FOLDER --source NAME",
            )  # fmt: skip
        judge = Judge(gather_units(trained.rows), settings.confidence, settings.bootstrap, seed, tuple(trained.rows))
        refitting = Refitting(scope, cohort, own, trained.workspace, judge, 1)
        refitting.classifier()  # sets the backend up where the kind has one
        family, asked = trained.kind.family(), replace(refitting.asked, calibrate=True)
        classifier, found = family.make(asked), []
        with progress.task("validate", len(names), "sources") as bar:
            for name in names:
                test = scope.scored[source[scope.scored] == name]
                train = scope.scored[~np.isin(patients[scope.scored], patients[test])]
                line: Json = {"source": name, "exams": len(test), "sick": int(scope.labels[test].sum())}
                if any(len(set(scope.labels[part].tolist())) < 2 for part in (train, test)):
                    found.append(line | {"note": "one class only, there or in what teaches: nothing can be ranked"})
                    continue
                fitted = classifier.fit(cohort, train, scope.labels[train], seed=own.seed, fold="test")
                scores = fitted.scores(cohort, test).tolist()
                rows = [
                    Prediction(scope.exams[at].patient, scope.exams[at].visit, "test", scope.exams[at].label, score,
                               int(score >= fitted.threshold))
                    for at, score in zip(test.tolist(), scores, strict=True)
                ]  # fmt: skip
                units, tested = gather_units(rows), {(row.patient, row.visit) for row in rows}
                home = gather_units([row for row in trained.rows if (row.patient, row.visit) in tested])
                level, draws = settings.confidence, settings.bootstrap
                metrics = measure(units, confidence=level, bootstrap=draws, seed=seed)
                lost = auc_difference(pair_units(units, home), confidence=level, bootstrap=draws, seed=seed)
                found.append(line | {
                    "note": "", "taught": len(train), "metrics": {each: metrics[each].as_dict() for each in SHOWN},
                    "difference": {each: lost[each] for each in ("value", "low", "high")},
                })  # fmt: skip
                bar.advance()
    return {"run": trained.name, "notice": ADJUNCT_NOTICE, "sources": found, "verdict": _verdict(found)}


def _verdict(found: list[Json]) -> Json:
    """It travels to a source where it is above .5 and shown to lose less than ``MARGIN``, as in ``external``."""
    judged = [(each["source"], each["metrics"]["auc"], each["difference"]) for each in found if not each["note"]]
    lost = [name for name, auc, apart in judged if auc["high"] <= 0.5 or apart["high"] < -MARGIN]
    kept = [name for name, auc, apart in judged if auc["low"] > 0.5 and apart["low"] >= -MARGIN]
    untold = [name for name, *_ in judged if name not in lost + kept]
    parts = ("it does not travel to", lost), ("it travels to", kept), ("it cannot be told of", untold)
    headline = "; ".join(f"{words} {', '.join(names)}" for words, names in parts if names) or "nothing could be judged"
    tone = "bad" if lost else "open" if untold or not kept else "good"
    return {
        "tone": tone, "headline": f"Untaught, {headline}.", "sentences": [_sentence(each) for each in found]
    }  # fmt: skip


def _sentence(line: Json) -> str:
    size = f"{line['source']} ({line['exams']} exams, {line['sick']} sick)"
    if line["note"]:
        return f"{size}: {line['note']}."
    figures = ", ".join(f"{name} {with_interval(each)}" for name, each in line["metrics"].items())
    return (
        f"{size}, taught by {line['taught']} exams of others: {figures}; AUC less that of the run's own folds, in"
        f" which its own taught too and more exams did, {with_interval(line['difference'])}."
    )


def told(document: Json) -> list[str]:
    """The document in lines for a terminal."""
    return [document["verdict"]["headline"], *document["verdict"]["sentences"]]
