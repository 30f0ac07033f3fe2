"""Does the one recipe that deserved a test hold on women whom no recipe has seen? A declared replication.

``docs/replication.md`` is the declaration: exams, exclusions, the primary figure, what would count. It was committed
before the first score of a new woman was computed, and this file with it. The recipes are those of
``matched_study.py``, unchanged.

    python benchmarks/replication.py score --workspace WS --first FIRST --out SCORES.json
    python benchmarks/replication.py judge SCORES.json

``score`` prints counts only and writes each woman's scores; ``judge`` prints every declared figure. ``WS`` holds the
300 frontal matrices with their dates, ``FIRST`` the 162 of the first study; nothing is written to either.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from matched_study import RECIPES, SEED, SPLIT, nested, out_of_fold, read_cohort
from matched_study_scorers import BY_DATE, PRIMARY, Measured, Scorer

from thermocancer.data.cohort import Exam, FloatArray, IntArray
from thermocancer.data.split import Fold, make_split, outer_folds
from thermocancer.data.store.reading import StoredCohort
from thermocancer.evaluation.audit.matched import Matching
from thermocancer.files import read_json, write_json

TESTED = "novelty: distance from healthy, signed vector"
"""The recipe of the primary figure: the best of the first study, which "deserves a test on new women, not a claim"."""

CAMERA = "space2"
"""Layout of the older camera, the only one that both classes were imaged with."""

EXCLUDED = {
    3: "out of focus", 10: "mastectomy", 46: "mastectomy", 47: "mastectomy", 91: "the file of 90 again",
    105: "listed as a duplicate", 154: "the file of 153 again", 193: "the file of 189 again", 197: "mastectomy",
    242: "dressing", 258: "mastectomy",
}  # fmt: skip
"""Somebody's list that came with the files; made without these recipes, and taken over whole."""

NESTED = "nested: chosen of 12 by inner folds"


def first_exams(cohort: Measured) -> IntArray:
    """One exam a woman of the older camera, the earliest of hers."""
    rows: dict[int, int] = {}
    for row in cohort.rows.tolist():
        exam = cohort.exams[row]
        if exam.patient not in rows or exam.visit < cohort.exams[rows[exam.patient]].visit:
            rows[exam.patient] = row
    return np.array(sorted(rows.values()), dtype=np.int64)


def known_rows(cohort: Measured, first: tuple[Exam, ...]) -> IntArray:
    """Rows of the women of the first study, by the very matrix that it had."""
    pictures = {picture for exam in first for _, picture in exam.hashes}
    return np.array([row for row in cohort.rows if {hash_ for _, hash_ in cohort.exams[row].hashes} & pictures])


def choose(cohort: Measured, train: IntArray) -> str:
    """The recipe that inner folds of the first study's women choose, by its declared rule."""
    (_, chosen) = nested(cohort, [Fold("all", train, train)])
    return chosen.most_common(1)[0][0]


def score(given: argparse.Namespace) -> None:
    with StoredCohort(given.first / "datasets" / f"{given.dataset}.h5") as source:
        first = source.exams
    with StoredCohort(given.workspace / "datasets" / f"{given.dataset}.h5") as source:
        cohort = read_cohort(source, (), given.permute, 0.0)
    if {cohort.exams[row].layout for row in cohort.rows} != {CAMERA}:
        raise SystemExit(f"most exams are not of the older camera ({CAMERA})")
    train = known_rows(cohort, tuple(first))
    seen = {exam.patient for exam in first}
    new = np.array([row for row in first_exams(cohort) if cohort.exams[row].patient not in seen | EXCLUDED.keys()])
    whole = np.array([row for row in first_exams(cohort) if cohort.exams[row].patient not in EXCLUDED])
    print(f"taught on {_count(cohort, train)}; new {_count(cohort, new)}; whole older camera {_count(cohort, whole)}")
    held_out = [Fold("new", train, new)]
    chosen_exams = [cohort.exams[row] for row in whole]
    folds = [
        Fold(fold.name, whole[fold.train], whole[fold.test])
        for fold in outer_folds(chosen_exams, make_split(chosen_exams, SPLIT, SEED), SPLIT, SEED)
    ]
    everyone = dataclasses.replace(cohort, rows=whole)
    chosen = choose(cohort, train)
    nested_scores, counts = nested(everyone, folds)
    of_whole = _rows(everyone, folds, RECIPES) | {NESTED: _records(everyone, folds, nested_scores)}
    document = {
        "tested": TESTED, "chosen": chosen, "new": _rows(cohort, held_out, RECIPES), "whole": of_whole,
        "chosen_in_whole": dict(counts),
    }  # fmt: skip
    write_json(given.out, document)


def _count(cohort: Measured, rows: IntArray) -> str:
    labels = cohort.labels[rows]
    return f"{len(rows)} women ({labels.sum()} sick)"


def _rows(cohort: Measured, folds: list[Fold], scorers: dict[str, Scorer]) -> dict[str, list[dict[str, object]]]:
    return {name: _records(cohort, folds, out_of_fold(cohort, folds, scorer)) for name, scorer in scorers.items()}


def _records(cohort: Measured, folds: list[Fold], scores: dict[str, FloatArray]) -> list[dict[str, object]]:
    dates, rooms = cohort.column("date_ordinal"), cohort.column("room_celsius")
    return [
        {
            "patient": cohort.exams[row].patient, "label": cohort.exams[row].label, "fold": fold.name,
            "date": float(dates[row]), "room": float(rooms[row]), "score": float(value),
        }
        for fold in folds
        for row, value in zip(fold.test.tolist(), scores[fold.name], strict=True)
    ]  # fmt: skip


def judge(given: argparse.Namespace) -> None:
    document = read_json(given.scores)
    print(f"primary: {document['tested']}\nchosen by inner folds of the first study's women: {document['chosen']}")
    once = 1 - 0.05 / len(RECIPES)
    for part, title in (
        ("new", "NEW WOMEN (taught on the first study's)"),
        ("whole", "WHOLE OLDER CAMERA (secondary)"),
    ):
        print(f"\n{title}\n{'':50s} {'every pair':21s} {'date and room':21s} {'at 99.58 %':21s} {'date only':21s}")
        for name, rows in document[part].items():
            columns = ((None, 0.95), (PRIMARY, 0.95), (PRIMARY, once), (BY_DATE, 0.95))
            print(f"{name:50s} " + " ".join(f"{_won(rows, *column):21s}" for column in columns))
        for matching in (PRIMARY, BY_DATE):
            met, _ = _meetings(next(iter(document[part].values())), matching)
            print(f"{matching.words()}: {(met > 0).sum()} pairs of {met.any(axis=1).sum()} sick and "
                  f"{met.any(axis=0).sum()} healthy women")  # fmt: skip
    print(
        "\nchosen in the whole's outer folds: " + ", ".join(f"{k} {v}" for k, v in document["chosen_in_whole"].items())
    )


def _won(rows: list[dict[str, Any]], matching: Matching | None, confidence: float) -> str:
    from thermocancer.evaluation.statistics.intervals import pairs_interval  # younger than the code that scores

    met, won = _meetings(rows, matching)
    found = pairs_interval(won, met, confidence)
    return "no pairs" if found.value is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _meetings(rows: list[dict[str, Any]], matching: Matching | None) -> tuple[FloatArray, FloatArray]:
    """How often each sick and healthy woman met in one fold, and how often the sick one had the higher score."""
    women = [sorted({row["patient"] for row in rows if row["label"] == label}) for label in (1, 0)]
    met, won = (np.zeros((len(women[0]), len(women[1]))) for _ in range(2))
    for fold in {row["fold"] for row in rows}:
        sick, healthy = ([row for row in rows if row["fold"] == fold and row["label"] == label] for label in (1, 0))
        for one in sick:
            for other in healthy:
                apart = abs(one["date"] - other["date"]), abs(one["room"] - other["room"])
                limits = (matching.days, matching.room_celsius) if matching is not None else (None, None)
                if all(limit is None or gap <= limit for gap, limit in zip(apart, limits, strict=True)):
                    place = women[0].index(one["patient"]), women[1].index(other["patient"])
                    met[place] += 1
                    won[place] += (one["score"] > other["score"]) + 0.5 * (one["score"] == other["score"])
    return met, won


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    scoring = commands.add_parser("score", help="score every woman; prints counts only")
    scoring.add_argument("--workspace", type=Path, required=True, help="the 300 matrices, data set built")
    scoring.add_argument(
        "--first", type=Path, required=True, help="the 162 matrices of the first study, data set built"
    )
    scoring.add_argument("--dataset", default="cohort")
    scoring.add_argument("--permute", type=int, help="rehearse on permuted labels, by this seed")
    scoring.add_argument("--out", type=Path, required=True, help="where the scores go; keep them out of the repository")
    scoring.set_defaults(work=score)
    judging = commands.add_parser("judge", help="print every declared figure")
    judging.add_argument("scores", type=Path)
    judging.set_defaults(work=judge)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
