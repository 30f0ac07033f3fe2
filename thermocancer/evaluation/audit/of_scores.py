"""The audit of anybody's scores: a table of units, labels, scores and facts, without a model, a picture or a workspace.

Facts are judged as the variables of our own runs are (``nuisance.py``, ``findings.py``). Where the table names no
folds, or folds in which nothing can be learnt, facts are scored in grouped, stratified folds that are drawn here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import atanh, sqrt, tanh
from statistics import NormalDist

import numpy as np

from thermocancer.data.cohort import BoolArray, Exam, FloatArray, IntArray
from thermocancer.data.split import Fold, inner_folds
from thermocancer.errors import ConfigError
from thermocancer.evaluation.audit.controls import Judge
from thermocancer.evaluation.audit.findings import NAMED_BELOW, Check, audit_verdict
from thermocancer.evaluation.audit.held_out import held_out, is_named, sentences
from thermocancer.evaluation.audit.matched import auc_of_pairs, exam_scores
from thermocancer.evaluation.audit.nuisance import controls_of, tied
from thermocancer.evaluation.audit.scope import Variable
from thermocancer.evaluation.audit.score_tables import Scored
from thermocancer.evaluation.report.page import GENERAL_NOTICE, Words, chance, with_interval
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.intervals import midranks, normal_quantile
from thermocancer.evaluation.statistics.metrics import METRICS, measure, subgroup_figures
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.runs.predictions import Prediction

MOST_TESTED = 1000
"""Facts and pairs are counted on at most so many units, both classes as even as they can be: 10,000 rows in seconds."""
DRAWN_FOLDS, MOST_FOLDS = 5, 50
NEAR_SHARE = 0.1
"""Where nothing is asked to be matched, pairs differ by at most this share of what the middle 80 % of a fact span."""
LEAST_OF_A_VALUE = 8
COPIES = 0.9
"""Copies share score and facts. Where fewer of the units with another's score do, scores take few values (trees, or
rounding)."""
NO_PERMUTATIONS = (
    "the rank of the model among models of permuted labels cannot be had from scores: it needs the model trained again"
)


@dataclass(frozen=True)
class Tables:
    """Some units of a table and the folds in which facts are scored (``scope.Tested``)."""

    exams: tuple[Exam, ...]
    folds: tuple[Fold, ...]

    @property
    def labels(self) -> IntArray:
        return np.array([exam.label for exam in self.exams], dtype=np.int64)


def audit_scores(
    table: Scored, *, match: Mapping[str, float] | None = None, confidence: float, bootstrap: int, seed: int,
    features: FloatArray | None = None,
) -> Json:  # fmt: skip
    """The whole audit as one document; ``exit_code`` is 6 where a shortcut or a leak was found, else 0.

    ``match`` gives facts and how far the two of a pair may differ in them (0, or anything, for equal categories).
    ``features`` (n, p) of its units, as ``held_out.read_features`` gives them, are asked what they hold of the facts.
    """
    units = gather_units(table.rows)
    metrics = measure(units, confidence=confidence, bootstrap=min(bootstrap, int(4e6 / len(units)) + 1), seed=seed)
    shown = [name for name in METRICS if table.are_shares or name not in ("brier", "ece")]
    places = _tested_places(table, seed)
    exams = tuple(table.exams[place] for place in places)
    chosen = {(exam.patient, exam.visit) for exam in exams}
    rows = [row for row in table.rows if (row.patient, row.visit) in chosen]
    folds, said = _folds(table, exams, rows, seed)
    tested = Tables(exams, folds)
    facts = [replace(fact, columns=fact.columns[places]) for fact in table.facts]
    judge = Judge(gather_units(rows), confidence, min(bootstrap, 1000), seed, tuple(rows))
    title = "all facts together, without the model"
    controls = controls_of(tested, judge, facts, [("no_breast", title, facts)]) if facts and folds else []
    by_name = {fact.name: fact for fact in facts}
    named = [
        each.name for each in controls if each.p_holm is not None and each.p_holm < NAMED_BELOW and each.is_shortcut
    ]
    matched = _matched(table, tested, rows, facts, match, named, confidence)
    checks = [_straddling(table), _duplicates(table), *([] if features is None else [_same_features(table, features)])]
    dropped, encoded = ([], []) if features is None else held_out(table, features, places, confidence, seed)
    words = Words(
        "negative", "positive", seen="what the label means", blind="without the model's scores", notice=GENERAL_NOTICE,
        alike=" and ".join(match or [name.removeprefix("column_") for name in named] or ["all facts"])
        + ("" if _holds_both_classes(rows) else " and tested in one fold (every fold holds one class only)"),
    )  # fmt: skip

    def association(first: str, second: str) -> float:
        return tied(tested.labels, by_name[first].columns[:, 0], by_name[second].columns[:, 0])

    verdict = audit_verdict(controls, matched, checks, metrics["auc"].as_dict(), association, words)
    follows = _follows(table, confidence)
    verdict["sentences"] += [
        f"Among {each['among']} units alone the score follows {each['fact']}: rank correlation "
        f"{each['rho']:+.2f} ({each['low']:+.2f} to {each['high']:+.2f})."
        for each in follows if each["p_holm"] < NAMED_BELOW
    ]  # fmt: skip
    verdict["sentences"] += sentences(dropped, encoded)
    leaks = [each["problem"] for each in checks if each["passed"] is False]
    shortcut = verdict["shortcuts"] or verdict["hidden"] or any(map(is_named, dropped))
    unsaid = "Units are not apart." if leaks else "No shortcut is named."
    verdict["headline"] = "A shortcut is there." if shortcut else unsaid
    return {
        "verdict": verdict, "n": len(units), "positives": int(units.labels.sum()), "rows": len(table.rows),
        "positive": table.positive, "columns": table.columns, "facts": table.kinds, "left_out": list(table.left_out),
        "folds": said, "tested": len(places), "confidence": confidence,
        "metrics": {name: metrics[name].as_dict() for name in shown},
        "controls": [each.as_dict() for each in controls], "matched": matched, "follows": follows,
        "dropped": dropped, "encoded": encoded,
        "subgroups": _subgroups(table, units, confidence), "checks": checks,
        "not_possible": [NO_PERMUTATIONS], "exit_code": 6 if shortcut or leaks else 0,
    }  # fmt: skip


def _tested_places(table: Scored, seed: int) -> IntArray:
    """Positions of the exams that facts are judged on: all, or whole groups drawn until each class has its share."""
    if len(table.exams) <= MOST_TESTED:
        return np.arange(len(table.exams), dtype=np.int64)
    labels = np.array([exam.label for exam in table.exams])
    rarer = min(int(labels.sum()), int((1 - labels).sum()), MOST_TESTED // 2)
    room = {label: rarer if (labels == label).sum() == rarer else MOST_TESTED - rarer for label in (0, 1)}
    groups = np.array([exam.patient for exam in table.exams])
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    rank = dict(zip(order.tolist(), range(len(order)), strict=True))
    drawn: list[int] = []
    for place in sorted(range(len(groups)), key=lambda each: rank[int(groups[each])]):
        if room[int(labels[place])] > 0:
            room[int(labels[place])] -= 1
            drawn.append(place)
    return np.array(sorted(drawn), dtype=np.int64)


def _folds(table: Scored, exams: Sequence[Exam], rows: Sequence[Prediction], seed: int) -> tuple[tuple[Fold, ...], str]:
    """The table's folds where facts can be scored in them, else drawn ones; and which they are in words."""
    labels = np.array([exam.label for exam in exams])
    if table.has_folds and _straddling(table)["passed"] is not False:
        places = {(exam.patient, exam.visit): place for place, exam in enumerate(exams)}
        tested: dict[str, set[int]] = {}
        for row in rows:
            tested.setdefault(row.fold, set()).add(places[row.patient, row.visit])
        everyone = set(range(len(exams)))
        folds = tuple(
            Fold(name, np.array(sorted(everyone - own), dtype=np.int64), np.array(sorted(own), dtype=np.int64))
            for name, own in sorted(tested.items())
        )
        meets = _holds_both_classes(rows)  # else pairs of two folds' models would be ranked: below .5 on nothing
        if meets and len(folds) <= MOST_FOLDS and all(len(set(labels[fold.train])) == 2 for fold in folds):
            return folds, f"the table's own {len(folds)} folds"
    groups = {label: len({exam.patient for exam in exams if exam.label == label}) for label in (0, 1)}
    number = min(DRAWN_FOLDS, *groups.values())
    if number < 2:
        return (), "none: a class has one unit only, so that no fact could be scored"
    drawn = inner_folds(exams, np.arange(len(exams), dtype=np.int64), number, seed)
    return tuple(drawn), f"{number} stratified folds by group, drawn here (seed {seed})"


def _holds_both_classes(rows: Sequence[Prediction]) -> bool:
    """Does any fold test units of both classes? Leaving one out, none does."""
    classes: dict[str, set[int]] = {}
    for row in rows:
        classes.setdefault(row.fold, set()).add(row.label)
    return any(len(own) == 2 for own in classes.values())


def _matched(
    table: Scored, tested: Tables, rows: Sequence[Prediction], facts: Sequence[Variable],
    match: Mapping[str, float] | None, named: Sequence[str], confidence: float,
) -> list[Json]:  # fmt: skip
    """The model on pairs alike in the facts asked for, each alone and all of them; by default in those named."""
    by_name = {fact.name.removeprefix("column_"): fact for fact in facts}
    unknown = [name for name in match or () if name not in by_name]
    if unknown:
        raise ConfigError(
            "no fact to match by has this name", where="--match", expected=", ".join(by_name) or "a table with facts",
            found=", ".join(unknown), hint="type --match FACT:LIMIT, for example --match date:270",
        )  # fmt: skip
    limits = dict(match or {})
    for name in named if not match else ():
        fact = by_name[name.removeprefix("column_")]
        known = fact.columns[np.isfinite(fact.columns[:, 0]), 0]
        limits[name.removeprefix("column_")] = NEAR_SHARE * float(np.ptp(np.quantile(known, [0.1, 0.9])))
    found = []
    for names in [[name] for name in limits] + ([list(limits)] if len(limits) > 1 else []):
        near = [(by_name[name].columns, limits[name] if by_name[name].ordered else 0.0) for name in names]
        keep: BoolArray = np.ones(len(tested.exams), bool)
        pairs = auc_of_pairs(tested, rows, near, confidence=confidence, keep=keep)
        said = " and ".join(_alike(name, limits[name], table.kinds[name]) for name in names)
        if pairs is not None:
            every = len(names) == len(limits)
            found.append({"title": said, "matching": said, "by_date": every, "by_room": every, "stratum": None} | pairs)
    return found


def _alike(name: str, limit: float, kind: str) -> str:
    return f"the same {name}" if kind == "category" else f"{name} within {limit:.4g}{' days' * (kind == 'date')}"


def _follows(table: Scored, confidence: float) -> list[Json]:
    """Does the score follow a fact among units of one label? Rank correlation; of a category, its strongest value.

    The interval is by Fisher's z with variance 1.06 / (n - 3) (Fieller, Hartley and Pearson 1957, Biometrika 44:470),
    n counting groups where they hold several units.
    """
    scores = exam_scores(Tables(table.exams, ()), table.rows)
    found: list[Json] = []
    labels, groups = (np.array([getattr(exam, name) for exam in table.exams]) for name in ("label", "patient"))
    for fact in table.facts:
        name = fact.name.removeprefix("column_")
        texts = [cell.strip().casefold() for cell in table.cells[name]]
        values = [""] if fact.ordered else sorted(set(texts))
        for label, among in ((0, "negative"), (1, "positive")):
            for number, value in enumerate(values):
                own = fact.columns[:, number]
                known = np.isfinite(own) & (labels == label)
                n = len(np.unique(groups[known]))
                fewest = known.sum() if fact.ordered else min((own[known] == 1).sum(), (own[known] == 0).sum())
                if n < 10 or fewest < LEAST_OF_A_VALUE or not np.ptp(own[known]) or not np.ptp(scores[known]):
                    continue
                rho = float(np.corrcoef(midranks(own[known]), midranks(scores[known]))[0, 1])
                middle, spread = atanh(float(np.clip(rho, -0.999999, 0.999999))), sqrt(1.06 / (n - 3))
                half = normal_quantile(confidence) * spread
                found.append({
                    "fact": f"{name} = {value or 'unknown'}" if not fact.ordered else name, "among": among, "n": n,
                    "rho": rho, "low": tanh(middle - half), "high": tanh(middle + half),
                    "p": 2 * NormalDist().cdf(-abs(middle) / spread),
                })  # fmt: skip
    corrected = holm([float(each["p"]) for each in found])
    return [each | {"p_holm": p} for each, p in zip(found, corrected, strict=True)]


def _subgroups(table: Scored, units: Units, confidence: float) -> list[Json]:
    """Counts, sensitivity, specificity and AUC of each value of each category, by its unit's first row."""
    value_of = {exam.patient: place for place, exam in reversed(list(enumerate(table.exams)))}
    visit_of = {(exam.patient, exam.visit): place for place, exam in enumerate(table.exams)}
    places = [visit_of.get(key, value_of[key[0]]) for key in units.keys]
    found = []
    for name, kind in table.kinds.items():
        texts = np.array([table.cells[name][place] for place in places])
        for value in sorted(set(texts.tolist())) if kind == "category" else ():
            own = units.at(np.flatnonzero(texts == value))
            found.append({"fact": name, "value": value or "unknown"} | subgroup_figures(own, confidence))
    return found


def _straddling(table: Scored) -> Check:
    """A group that two folds of one repeat tested: each fold's model had learnt from its other units."""
    folds: dict[tuple[int, str], set[str]] = {}
    for row in table.rows:
        folds.setdefault((row.patient, row.fold.split(".")[0]), set()).add(row.fold)
    shared = {patient for (patient, _), own in folds.items() if len(own) > 1}
    known = "group" in table.columns and table.has_folds
    return Check(
        name="each group in one fold", problem="groups were tested in several folds, so that training parts hold them",
        passed=False if shared else True if known else None,
        found=f"{len(shared)} groups" if shared else "none" if known else "no group or fold column",
    )  # fmt: skip


def _duplicates(table: Scored) -> Check:
    """Units of other groups with the very same score and facts; two facts or more, else chance makes them."""
    if len(table.facts) < 2:
        return Check(name="no unit twice", problem="", passed=None, found="fewer than two facts, so it cannot be told")
    scores = exam_scores(Tables(table.exams, ()), table.rows).tolist()
    facts = list(zip(*table.cells.values(), strict=True))
    tied = defaultdict[float, list[int]](list)
    for place, score in enumerate(scores):
        tied[score].append(place)
    shared = [own for own in tied.values() if len({table.exams[place].patient for place in own}) > 1]
    several, ties = [own for own in shared if len({facts[place] for place in own}) == 1], sum(map(len, shared))
    if sum(map(len, several)) < COPIES * ties:
        found = f"{ties} units have another's score, and too many of them other facts, so that it cannot be told"
        return Check(name="no unit twice", problem="", passed=None, found=found)
    example = ", ".join(table.names[place] for place in several[0][:3]) if several else ""
    return Check(
        name="no unit twice", problem="units have the very same score and facts under other names", passed=not several,
        found=f"{sum(map(len, several))} units, for example {example}" if several else "none",
    )  # fmt: skip


def _same_features(table: Scored, features: FloatArray) -> Check:
    """Units of other groups with the very same features: one picture under two names."""
    twins: dict[bytes, set[int]] = {}
    for exam, row in zip(table.exams, features, strict=True):
        twins.setdefault(row.tobytes(), set()).add(exam.patient)
    several = [own for own in twins.values() if len(own) > 1]
    return Check(
        name="no features twice", problem="units of different groups have the very same features", passed=not several,
        found=f"{sum(map(len, several))} groups" if several else "none",
    )  # fmt: skip


def told(document: Json) -> list[str]:
    """The document in lines for a terminal."""
    typed = ", ".join(f"{name} ({kind})" for name, kind in document["facts"].items()) or "none"
    lines = [
        f"{document['n']} units, {document['positives']} positive ({document['positive']}); facts: {typed}",
        *(f"not a fact: {each['name']}, {each['reason']}" for each in document["left_out"]),
        ", ".join(f"{name} {with_interval(each)}" for name, each in document["metrics"].items()),
        f"facts are scored in {document['folds']}, on {document['tested']} rows",
        *(
            f"  {each['title']}: AUC {with_interval(each['auc'])}, p {chance(each['p'])}"
            + ("" if each["p_holm"] is None else f" ({chance(each['p_holm'])} for the number of tests)")
            for each in document["controls"]
        ),
        *(f"  {each['pairs']} pairs with {each['matching']}: model {with_interval(each['auc'])}"
          for each in document["matched"]),
        *(f"  features without a value of {each['fact']}, of {each['values']} judged: {each['untaught']:.3f}; with it "
          f"{each['taught']:.3f}; loss {with_interval(each)}, p {chance(each['p_holm'])}"
          for each in document["dropped"]),
        *(f"  features tell {each['fact']} among {each['among']} units: AUC {each['value']:.3f}, p "
          f"{chance(each['p_holm'])}" for each in document["encoded"]),
        *(f"  {each['fact']} {each['value']}: {each['n']} units, {each['sick']} positive"
          + (f", AUC {with_interval(each['auc'])}" if each["auc"] else "") for each in document["subgroups"]),
        *(f"check, {each['name']}: {each['found']}" for each in document["checks"]),
        *(f"not done: {each}" for each in document["not_possible"]),
        *document["verdict"]["sentences"],
    ]  # fmt: skip
    return lines
