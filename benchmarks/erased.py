"""What ``cohort.erase: [date]`` does to runs: beside each, the control "early or late among healthy women".

    python benchmarks/erased.py -w WORKSPACE thermal thermal-erased asymmetry asymmetry-erased

Of every run (``fuse`` on a feature table): its AUC; matched pairs of ``evaluate`` (date and room, tested in one fold);
and how healthy women after the median date of all healthy exams are told from those before, by the run's own
out-of-sample scores, and by its own recipe taught that question in its own folds, with what it erases erased first.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from thermocancer.classifiers.decisions import fit_logistic, fit_pca_svm
from thermocancer.classifiers.tabular import TabularClassifier
from thermocancer.data.store.reading import StoredCohort
from thermocancer.evaluation.audit.controls import Judge, rows_of
from thermocancer.evaluation.audit.matched import Matching, matched_auc
from thermocancer.evaluation.audit.scope import Refitting, Scope, make_scope
from thermocancer.evaluation.report.exams import catalogued_exams
from thermocancer.evaluation.report.page import with_interval
from thermocancer.evaluation.statistics.intervals import auc_interval
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.features.residual import Erasure
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run, read_run
from thermocancer.workspace import Workspace

CONFIDENCE = 0.95


def early_or_late(scope: Scope, classifier: TabularClassifier) -> tuple[list[Prediction], list[Prediction]]:
    """Rows of healthy dated exams, labelled late (1) or early (0): the run's own scores, and those of its recipe."""
    dates, cohort = scope.dates(), scope.cohort
    assert cohort is not None
    healthy = (scope.labels == 0) & np.isfinite(dates)
    late = (dates > np.median(dates[healthy])).astype(np.int64)
    place = {(exam.patient, exam.visit): row for row, exam in enumerate(scope.exams)}
    own = [replace(row, label=int(late[place[row.patient, row.visit]])) for row in scope.run.rows
           if healthy[place[row.patient, row.visit]]]  # fmt: skip
    taught: list[Prediction] = []
    for fold in scope.folds:
        train, test = (part[healthy[part]] for part in (fold.train, fold.test))
        table, asked = (classifier.features.of(cohort, rows) for rows in (train, test))
        if classifier.erase:
            erasure = Erasure.of(table, cohort, train, np.zeros(len(train), np.int64), classifier.erase)
            table, asked = erasure.removed_from(table), erasure.removed_from(asked)
        if classifier.components is None:
            scores = fit_logistic(table, late[train], classifier.C).decide(asked)
        else:
            scores = fit_pca_svm(table, late[train], classifier.components, classifier.C).decide(asked)
        taught += rows_of(scope.exams, replace(fold, test=test), scores, late)
    return own, taught


def figures(run: Run, workspace: Workspace) -> list[str]:
    own = run.required_config()
    with StoredCohort(workspace.dataset(own.dataset.name)) as cohort:
        scope = make_scope(run, cohort, catalogued_exams(workspace))
        judge = Judge(gather_units(run.rows), CONFIDENCE, 200, own.seed, tuple(run.rows))
        made = run.kind.family().make(Refitting(scope, cohort, own, workspace, judge, 1).asked)
        machine = getattr(made, "classifier", made)  # what a threshold is chosen for
        assert isinstance(machine, TabularClassifier), "only fuse on a feature table erases"
        matching = Matching(float(own.evaluate.matched_days), own.evaluate.matched_room_celsius)
        pairs = matched_auc(scope, run.rows, matching, confidence=CONFIDENCE)
        controls = early_or_late(scope, machine)
    aucs = [auc_interval(gather_units(rows), CONFIDENCE).as_dict() for rows in (run.rows, *controls)]
    told = "none" if pairs is None else f"{with_interval(pairs['auc'])}, {pairs['pairs']} pairs"
    return [run.name, with_interval(aucs[0]), told, *map(with_interval, aucs[1:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-w", "--workspace", type=Path, required=True)
    parser.add_argument("runs", nargs="+")
    asked = parser.parse_args()
    workspace = Workspace(asked.workspace)
    print("| run | AUC | matched by date and room | late among healthy, its scores | late among healthy, its recipe |")
    print("|---|---|---|---|---|")
    for name in asked.runs:
        print(f"| {' | '.join(figures(read_run(workspace, name), workspace))} |", flush=True)


if __name__ == "__main__":
    main()
