"""Can anything tell sick from healthy once date and room temperature are equal? A declared study.

THE RECIPES BELOW WERE FIXED BEFORE ANY MATCHED FIGURE OF THEM HAD BEEN SEEN; this file was committed before
its first run on people with true labels (only permuted labels had been run). What had been seen before: that
on this collection abs(mean left - mean right) and a mirror index of an earlier study reached .69 and .64 on
pairs matched by date. So the asymmetry *family* was not chosen blind, the recipes in it were.

Declared:
 * Labels as imported, less what is known to be wrong (``--sick``: in the public collection patient 198's
   matrix is of her second visit, which three other sources call sick).
 * Exams: frontal view, the acquisition format most exams share (the older camera), in training and testing.
 * Primary figure: AUC over sick-healthy pairs within 270 days and .75 degC of background. Second: 270 days
   only, which the room alone can win, so that it proves nothing by itself.
 * Repeated stratified 5 x 5 folds grouped by patient; a patient's score is the mean over repeats; intervals
   by 10,000 patient bootstraps. Whatever is fitted is fitted in the outer training part.
 * More asymmetry means sick, for every recipe that is not taught the direction.
 * Nested: in each outer training part 5 inner folds; the recipe with the largest mean of the two inner
   matched AUCs is taken (ties: the first), fitted on the whole training part, and its test scores are put
   on one scale by median and interquartile range of the inner scores of healthy women. Reported once.
 * Positive: the nested primary interval lies above .5. One test, so no correction; the 12 single recipes
   are exploratory, with simultaneous (Bonferroni) intervals beside.
 * Controls that see no breast, and the two figures known before, are shown but can never be chosen.

Since 2026-11-25 the intervals of matched pairs are Newcombe's for the pairs that count, as everywhere in the package:
percentiles of a bootstrap over so few patients are too narrow away from .5.

Added after the first true runs, as a reading of them (no recipe, choice or declared figure was changed): the
last column, pairs of date and room tested in one fold. Across folds each exam of a pair has taught its label
to the model that scores the other, which holds down whatever is taught with labels.

    python benchmarks/matched_study.py --workspace WS [--sick PATIENT] [--permute SEED] [--plant CELSIUS]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matched_study_features import INDEX_NAMES, SIGNED_NAMES, side_table
from matched_study_scorers import (
    BY_DATE,
    PRIMARY,
    Measured,
    Scorer,
    logistic_on,
    magnitude,
    magnitude_and_regions,
    novelty,
    nuisance_columns,
    paired,
    signed_columns,
    unfitted,
)

from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import ArrayCohort, Cohort, FloatArray, IntArray, centi_celsius
from thermocancer.data.nuisance import OUTSIDE_THE_BREAST
from thermocancer.data.split import Fold, inner_folds, make_split, outer_folds
from thermocancer.data.store.reading import StoredCohort
from thermocancer.evaluation.audit.matched import Matching, matched_auc
from thermocancer.evaluation.audit.scope import Scope
from thermocancer.evaluation.statistics.intervals import auc_interval
from thermocancer.evaluation.statistics.units import units_of
from thermocancer.features.tables import Table, measured_table
from thermocancer.features.thermal import REGION_NAMES, region_percentiles, skin_of
from thermocancer.runs.manifest import DatasetFacts, Manifest
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

SPLIT = SplitSection(protocol="grouped-cv", repeats=5, folds=5)
INNER_FOLDS = 5
SEED = 1


RECIPES: dict[str, Scorer] = {
    "mean: |mean left - mean right|": unfitted(lambda each: np.abs(each.signed[:, 0])),
    "quadrants: length of 4 mean differences": unfitted(lambda c: np.linalg.norm(signed_columns(c, "mean "), axis=1)),
    "warmest: largest |p95 difference| of 4 quadrants": unfitted(lambda c: signed_columns(c, "p95").max(axis=1)),
    "hot area: |share hot left - share hot right|": unfitted(lambda c: signed_columns(c, "hot")[:, 0]),
    "local: p95 of |mirror difference - its median|": unfitted(lambda c: c.indices[:, INDEX_NAMES.index("local")]),
    "vessels: |log ratio of band-passed energy|": unfitted(
        lambda c: np.abs(c.indices[:, INDEX_NAMES.index("vessels")])
    ),
    "vector: logistic on 12 absolute differences": logistic_on(magnitude),
    "vector, residual: nuisance regressed out first": logistic_on(lambda c: c.signed, residual=True, absolute=True),
    "novelty: distance from healthy, signed vector": novelty(),
    "novelty, residual: nuisance regressed out first": novelty(residual=True),
    "pairs: logistic within matched pairs, 12 numbers": paired(magnitude),
    "pairs, regions: the same with 12 region warmths": paired(magnitude_and_regions),
}
"""The declared recipes. Changing this list after a run is a new study: say so and count all of them."""


CONTROLS: dict[str, Scorer] = {
    "no breast: exam date": logistic_on(nuisance_columns("date_ordinal")),
    "no breast: patient number": logistic_on(nuisance_columns("patient")),
    "no breast: background temperature": logistic_on(nuisance_columns("room_celsius")),
    "no breast: eight numbers of room, marker, framing": logistic_on(nuisance_columns(*OUTSIDE_THE_BREAST)),
    "known before: asymmetry index of the package": unfitted(lambda c: c.known["asymmetry-index"][:, 0]),
    "known before: asymmetry recipe of the package": logistic_on(lambda c: c.known["asymmetry"]),
}
"""Never chosen, not counted."""


def read_cohort(source: Cohort, sick: Sequence[int], permute: int | None, planted: float) -> Measured:
    """Measure everything once.

    ``sick``: patients whose label the import has wrong; ``permute``: for rehearsals; ``planted``: degC of a
    warm spot given to every sick exam, to see what the study could have found.
    """
    labels = np.array([1 if exam.patient in sick else exam.label for exam in source.exams])
    common = Counter(exam.layout for exam in source.exams).most_common(1)[0][0]
    rows = np.array([row for row, exam in enumerate(source.exams) if exam.layout == common], dtype=np.int64)
    if permute is not None:
        labels[rows] = np.random.default_rng([permute, 5]).permutation(labels[rows])
    exams = tuple(dataclasses.replace(exam, label=int(label)) for exam, label in zip(source.exams, labels, strict=True))
    table = side_table(source, planted * labels, SEED)
    regions = []
    for row in range(len(exams)):
        celsius = centi_celsius(source, "Frontal", np.array([row]))[0] / 100.0
        regions.append(region_percentiles(celsius, skin_of(celsius)))
    signed, indices = table[:, : len(SIGNED_NAMES)], table[:, len(SIGNED_NAMES) :]
    assert np.shape(regions)[1] == len(REGION_NAMES)
    kinds: tuple[Table, ...] = (Table.INDEX, Table.ASYMMETRY)
    known = {kind: measured_table(source, kind, ("Frontal",), source.shape) for kind in kinds}
    outside = ArrayCohort(exams, {}, measured=source.nuisance())
    return Measured(outside, exams, rows, signed, indices, np.array(regions), known)


def folds_of(cohort: Measured) -> list[Fold]:
    """Outer folds as rows of the whole data set."""
    chosen = [cohort.exams[row] for row in cohort.rows]
    folds = outer_folds(chosen, make_split(chosen, SPLIT, SEED), SPLIT, SEED)
    return [Fold(fold.name, cohort.rows[fold.train], cohort.rows[fold.test]) for fold in folds]


Scores = dict[str, FloatArray]
"""Fold name -> scores of its test rows."""


def out_of_fold(cohort: Measured, folds: Sequence[Fold], scorer: Scorer) -> Scores:
    return {fold.name: scorer(cohort, fold.train, fold.test) for fold in folds}


def inner_scores(cohort: Measured, folds: Sequence[Fold], scorer: Scorer) -> FloatArray:
    """Scores of the training rows by models that had not seen them, shape (n,); NaN elsewhere."""
    scores = np.full(len(cohort.exams), np.nan)
    for fold in folds:
        scores[fold.test] = scorer(cohort, fold.train, fold.test)
    return scores


def share_won(cohort: Measured, train: IntArray, scores: FloatArray, matching: Matching) -> float:
    labels = cohort.labels[train]
    sick, healthy = train[labels == 1], train[labels == 0]
    pairs = cohort.matches(sick, healthy, matching)
    apart = scores[sick][:, None] - scores[healthy]
    return float((pairs * ((apart > 0) + 0.5 * (apart == 0))).sum() / pairs.sum())


def nested(cohort: Measured, folds: Sequence[Fold]) -> tuple[Scores, Counter[str]]:
    """The recipe chosen inside each outer training part, its scores, and how often each was chosen."""
    found: Scores = {}
    chosen: Counter[str] = Counter()
    for number, fold in enumerate(folds):
        parts = inner_folds(cohort.exams, fold.train, INNER_FOLDS, number)
        inner = {name: inner_scores(cohort, parts, scorer) for name, scorer in RECIPES.items()}
        merit = {
            name: np.mean([share_won(cohort, fold.train, scores, each) for each in (PRIMARY, BY_DATE)])
            for name, scores in inner.items()
        }
        best = max(merit, key=lambda name: merit[name])
        chosen[best] += 1
        healthy = inner[best][fold.train[cohort.labels[fold.train] == 0]]
        low, middle, high = np.percentile(healthy, (25, 50, 75))
        found[fold.name] = (RECIPES[best](cohort, fold.train, fold.test) - middle) / max(high - low, 1e-9)
    return found, chosen


def _unwritten(title: str, rows: list[Prediction]) -> Run:
    """Scores as a run that nobody has trained and nothing was written of."""
    manifest = Manifest(
        version=1, kind="asymmetry", stage="fuse", model=title, made_from="", outputs={}, views=("Frontal",),
        protocol="grouped-cv", dataset=DatasetFacts(name="", fingerprint=""), seed=SEED, threshold=0.5,
        threshold_source="none", leaks=(),
    )  # fmt: skip
    return Run(title, Workspace(Path()), manifest, rows, [], [])


def report_line(
    title: str, cohort: Measured, folds: Sequence[Fold], scores: Scores, confidences: Sequence[float]
) -> str:
    """One row of the table: AUC, primary matched AUC at each confidence, matched by date only, within folds."""
    rows = [
        Prediction(exam.patient, exam.visit, fold.name, exam.label, float(score), 0)
        for fold in folds
        for exam, score in zip((cohort.exams[row] for row in fold.test), scores[fold.name], strict=True)
    ]
    scope = Scope(_unwritten(title, rows), cohort.exams, cohort.rows, tuple(folds), cohort.source, {})
    total = np.zeros(len(cohort.exams))
    for fold in folds:
        total[fold.test] += scores[fold.name]
    auc = auc_interval(units_of(cohort.labels[cohort.rows], total[cohort.rows] / SPLIT.repeats), 0.95)
    parts = [_figure(auc.as_dict())]
    # as declared: every pair by mean scores, also where the two were tested in different folds
    columns = [(PRIMARY, 0.95, True), *((PRIMARY, each, True) for each in confidences), (BY_DATE, 0.95, True)]
    for matching, confidence, across in (*columns, (PRIMARY, 0.95, False)):
        found = matched_auc(scope, rows, matching, confidence=confidence, across_folds=across)
        parts.append("no pairs" if found is None else _figure(found["auc"]))
    return f"{title:50s} " + "  ".join(f"{part:18s}" for part in parts)


def _figure(auc: dict[str, float]) -> str:
    return f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, required=True, help="an imported workspace; nothing is written there")
    parser.add_argument("--dataset", default="frontal")
    parser.add_argument("--sick", type=int, action="append", default=[], help="patient whose label is known wrong")
    parser.add_argument("--permute", type=int, help="rehearse on permuted labels, by this seed")
    parser.add_argument("--plant", type=float, default=0.0, help="degC of a warm spot added to every sick exam")
    given = parser.parse_args()
    with StoredCohort(given.workspace / "datasets" / f"{given.dataset}.h5") as source:
        study(read_cohort(source, given.sick, given.permute, given.plant))


def study(cohort: Measured) -> None:
    """Print the whole table."""
    labels = cohort.labels[cohort.rows]
    print(f"{len(labels)} exams of one camera: {(labels == 0).sum()} healthy, {(labels == 1).sum()} sick")
    sick, healthy = cohort.rows[labels == 1], cohort.rows[labels == 0]
    for matching in (PRIMARY, BY_DATE):
        pairs = cohort.matches(sick, healthy, matching)
        if not pairs.any():
            raise SystemExit(f"no sick and healthy exams have {matching.words()}: nothing can be matched")
        print(f"{matching.words()}: {pairs.sum():.0f} pairs of "
              f"{pairs.any(axis=1).sum()} sick and {pairs.any(axis=0).sum()} healthy patients")  # fmt: skip
    folds = folds_of(cohort)
    simultaneous = 1 - 0.05 / len(RECIPES)
    print(f"{'':50s} {'AUC':18s}  {'date and room':18s}  {'simultaneous':18s}  {'date only':18s}  in one fold")
    for group in (CONTROLS, RECIPES):
        for name, scorer in group.items():
            print(report_line(name, cohort, folds, out_of_fold(cohort, folds, scorer), (simultaneous,)), flush=True)
    scores, chosen = nested(cohort, folds)
    print(report_line(f"NESTED: chosen of {len(RECIPES)} by inner folds", cohort, folds, scores, (simultaneous,)))
    print("chosen in " + ", ".join(f"{count} of {len(folds)} folds: {name}" for name, count in chosen.most_common()))


if __name__ == "__main__":
    main()
