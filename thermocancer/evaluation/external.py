"""A frozen run on another labelled collection: what of it travels, and who could tell the collections apart.

Model, preprocessing and operating point stay as the run keeps them. Nothing of the other collection is learnt, but
for the recalibration, which is fitted on a stated part of its patients and scored on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from thermocancer.classifiers.protocol import logistic, logit
from thermocancer.config.judging import EvaluateSection
from thermocancer.data.cohort import ArrayCohort, Cohort, Exam, IntArray, centi_celsius, degrees
from thermocancer.data.novelty import judge_novelty
from thermocancer.data.split import inner_folds
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.controls import mann_whitney_p
from thermocancer.evaluation.audit.nuisance import CATALOG, PICTURE
from thermocancer.evaluation.audit.of_scores import Tables
from thermocancer.evaluation.audit.variable_scores import score_alone, score_together
from thermocancer.evaluation.prediction.input import resized
from thermocancer.evaluation.prediction.scoring import LoadedRun
from thermocancer.evaluation.report.page import ADJUNCT_NOTICE, number, with_interval
from thermocancer.evaluation.statistics.comparison import holm
from thermocancer.evaluation.statistics.curves import calibration_line
from thermocancer.evaluation.statistics.intervals import Estimate, auc_interval
from thermocancer.evaluation.statistics.metrics import confusion_of, measure
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.runs.predictions import Prediction
from thermocancer.thermal.likeness import alike, look_of
from thermocancer.thermal.regions import resize_missing

MARGIN = 0.1
"""A run travels where its AUC is above .5 there and the interval of there minus at home lies above minus this.

A round number, set before any collection was judged by it; no clinical need gives it, and the page says so.
"""

THRESHOLDS = (0.01, 0.05, 0.1, 0.2)
"""Threshold probabilities of the net benefit: how many false alarms a woman found is worth."""

FEWEST_TO_RECALIBRATE = 8
"""Of each class, in the part that teaches and in the part that is scored."""

TELL_APART = 0.05
"""Level, after Holm's correction, at which the collections are said to be told apart."""

SHOWN = ("auc", "sensitivity", "specificity", "accuracy", "precision", "brier", "ece")


def validate_run(
    loaded: LoadedRun, own: Cohort | None, other: Cohort, settings: EvaluateSection, seed: int, share: float
) -> Json:
    """The whole judgement as one document. ``own`` is the run's data set, None where it is gone.

    ``share`` of the other collection's patients teach the recalibration. Raises ConfigError for runs that read
    something other than static views, DataError where no exam can be scored or only one class can.
    """
    if loaded.dynamic or loaded.parts:
        raise ConfigError(
            "only runs on static views are validated", where=loaded.run.folder, expected="a run of fuse",
            found=loaded.run.kind.words, hint="validate the runs that it combines, each by itself",
        )  # fmt: skip
    seen, rows, refused = as_stored(loaded, other)
    scores, calls = loaded.fitted.scores(seen, rows), loaded.run.facts().threshold
    predictions = [
        Prediction(other.exams[row].patient, other.exams[row].visit, "test", other.exams[row].label, float(score),
                   int(score >= calls))
        for row, score in zip(rows, scores, strict=True)
    ]  # fmt: skip
    doubts = _doubts(loaded, seen, rows)
    units = gather_units(predictions)
    metrics = measure(units, confidence=settings.confidence, bootstrap=settings.bootstrap, seed=seed, where=other)
    accepted = gather_units([row for row, doubt in zip(predictions, doubts, strict=True) if not doubt])
    internal = auc_interval(loaded.units, settings.confidence) if loaded.units.has_both_classes else None
    shared = {} if own is None else shared_exams(own, other, loaded.views[0])
    document: Json = {
        "run": loaded.run.name, "threshold": calls, "views": list(loaded.views), "confidence": settings.confidence,
        "found": len(other.exams), "scored": len(rows), "refused": refused, "abstained": sum(map(bool, doubts)),
        "doubts": _counted(doubts), "units": len(units), "positives": int(units.labels.sum()),
        "confusion": confusion_of(units), "metrics": {name: metrics[name].as_dict() for name in SHOWN},
        "internal_auc": None if internal is None else internal.as_dict(),
        "difference": None if internal is None else weighted_sum([1.0, -1.0], [metrics["auc"], internal]),
        "margin": MARGIN,
        "answered_auc": auc_interval(accepted, settings.confidence).as_dict() if accepted.has_both_classes else None,
        "calibration": calibration_line(units.labels, units.scores, settings.confidence),
        "net_benefit": net_benefit(metrics["sensitivity"], metrics["specificity"], settings.prevalences),
        "recalibration": recalibrated(units, share, settings.confidence, seed),
        "shared": shared, "apart": [] if own is None else told_apart(own, other, seed, settings.confidence),
        "notice": ADJUNCT_NOTICE,
    }  # fmt: skip
    document["verdict"] = verdict_of_travel(document)
    document["items"] = tripod_items(document, loaded)
    return document


# --- scoring as the run was made --------------------------------------------------------------------------------------


def as_stored(loaded: LoadedRun, other: Cohort) -> tuple[Cohort, IntArray, list[dict[str, str]]]:
    """The other collection at the size that the run was trained on, the exams it can score, and why not the rest."""
    missing = [view for view in loaded.views if view not in other.views]
    if missing:
        raise DataError(
            "the collection lacks a view that the run reads", expected=", ".join(loaded.views),
            found=", ".join(other.views), hint="name its view when it is imported: import FOLDER --view Frontal",
        )  # fmt: skip
    there = np.all([other.present(view) for view in loaded.views], axis=0)
    refused = [{"exam": other.exams[row].key, "reason": "a view is missing"} for row in np.flatnonzero(~there).tolist()]
    rows = np.flatnonzero(there).astype(np.int64)
    if not len(rows):
        raise DataError("no exam can be scored", expected=f"exams with {', '.join(loaded.views)}", found="none")
    if loaded.shape is None or loaded.shape == other.shape:
        return other, rows, refused
    if other.kind != "celsius":
        raise DataError("pictures of another size cannot be scored", expected=loaded.shape, found=other.shape)
    every = np.arange(len(other.exams), dtype=np.int64)
    matrices = {
        view: np.stack([resized(each, loaded.shape) for each in centi_celsius(other, view, every)])
        for view in loaded.views
    }
    missed = {view: ~other.present(view) for view in loaded.views}
    masks = {view: found[:, 0] for view in loaded.views if (found := other.masks(view, every, (0,))) is not None}
    masked = {view: np.stack([resize_missing(each, loaded.shape) for each in own]) for view, own in masks.items()}
    return ArrayCohort(tuple(other.exams), matrices, "external", other.nuisance(), missed, masked), rows, refused


def _doubts(loaded: LoadedRun, seen: Cohort, rows: IntArray) -> list[list[str]]:
    """Why the run would abstain on each exam, by the rules of ``predict``; empty where it would answer."""
    training = loaded.training
    if training is None or training.reference is None or seen.kind != "celsius":
        return [[] for _ in rows]
    return [
        judge_novelty(
            training.reference, degrees(seen, loaded.views[0], np.array([row]))[0], seen.exams[row].layout,
        )["reasons"]
        for row in rows.tolist()
    ]  # fmt: skip


def _counted(doubts: Sequence[Sequence[str]]) -> list[Json]:
    """Reasons without their figures, and on how many exams each was raised, the most frequent first."""
    counts: dict[str, int] = {}
    for reasons in doubts:
        for reason in {
            each.split(" is outside ")[0].rsplit(" ", 1)[0] if " is outside " in each else each.split(" at distance")[0]
            for each in reasons
        }:
            counts[reason] = counts.get(reason, 0) + 1
    return [{"reason": each, "exams": count} for each, count in sorted(counts.items(), key=lambda pair: -pair[1])]


# --- figures ----------------------------------------------------------------------------------------------------------


def weighted_sum(weights: Sequence[float], figures: Sequence[Estimate]) -> Json | None:
    """``value``, ``low`` and ``high`` of a weighted sum of figures on different people; None where one is unknown.

    The interval combines theirs by squares of their distances (MOVER; Zou and Donner 2008, Stat Med 27:1693).
    """
    value = below = above = 0.0
    for weight, each in zip(weights, figures, strict=True):
        if each.value is None or each.low is None or each.high is None:
            return None
        ends = sorted((weight * (each.low - each.value), weight * (each.high - each.value)))
        value, below, above = value + weight * each.value, below + ends[0] ** 2, above + ends[1] ** 2
    return {"value": value, "low": value - below**0.5, "high": value + above**0.5}


def net_benefit(sensitivity: Estimate, specificity: Estimate, prevalences: Sequence[float]) -> list[Json]:
    """Net benefit (Vickers and Elkin 2006) of the frozen decision where so many are sick, beside calling everybody."""
    found: list[Json] = []
    for prevalence, threshold in product(prevalences, THRESHOLDS):
        cost = (1 - prevalence) * threshold / (1 - threshold)  # of calling all the healthy
        gained = weighted_sum([prevalence, cost], [sensitivity, specificity])
        if gained is not None:
            found.append(
                {"prevalence": float(prevalence), "threshold": threshold, "everybody": float(prevalence - cost)}
                | {end: each - cost for end, each in gained.items()}
            )
    return found


def recalibrated(units: Units, share: float, confidence: float, seed: int) -> Json:
    """The frozen scores, with a new intercept, and with intercept and slope: fitted on one part, scored on the other.

    Parts are drawn by patient within each class.
    """
    random, teach = np.random.default_rng([seed, 0xEC]), np.zeros(len(units), bool)
    for label in (0, 1):
        patients = np.unique(units.patients[units.labels == label])
        chosen = random.permutation(patients)[: round(share * len(patients))]
        teach |= np.isin(units.patients, chosen)
    known, asked = (units.at(np.flatnonzero(part)) for part in (teach, ~teach))
    sizes = {"share": share, "taught": len(known), "scored": len(asked)}
    fewest = min([int((each.labels == label).sum()) for each in (known, asked) for label in (0, 1)], default=0)
    if fewest < FEWEST_TO_RECALIBRATE:
        return sizes | {"note": f"a part has {fewest} units of one class: too few to recalibrate on", "rows": []}
    line = calibration_line(known.labels, known.scores, confidence)
    forms = (
        ("frozen", 1.0, 0.0), ("intercept", 1.0, line["in_the_large"]), ("intercept and slope", line["slope"],
                                                                          line["intercept"]),
    )  # fmt: skip
    rows: list[Json] = []
    for name, slope, intercept in forms:
        if slope is None or intercept is None:
            continue
        scores = logistic(slope * logit(asked.scores) + intercept)
        rows.append({
            "form": name, "slope_by": slope, "intercept_by": intercept,
            "brier": float(np.mean((scores - asked.labels) ** 2)),
            "calibration": calibration_line(asked.labels, scores, confidence),
        })  # fmt: skip
    return sizes | {"note": "", "rows": rows}


# --- the two collections ----------------------------------------------------------------------------------------------


def shared_exams(own: Cohort, other: Cohort, view: str) -> Json:
    """Exams of both collections with the same content, with nearly the same picture, and patients of one number.

    The same number may be another woman; content is never an accident.
    """
    contents = {digest: exam.key for exam in own.exams for _, digest in exam.hashes}
    same = [[contents[digest], exam.key] for exam in other.exams for _, digest in exam.hashes if digest in contents]
    looks, keys = [], []
    for cohort in (own, other):
        if cohort.kind != "celsius" or view not in cohort.views:
            continue
        for row in np.flatnonzero(cohort.present(view)):
            looks.append(look_of(degrees(cohort, view, np.array([row]))[0]))
            keys.append((cohort is other, cohort.exams[int(row)].key))
    near = [
        [keys[first][1], keys[second][1], "mirrored" if turned else ""]
        for first, second, turned in alike(looks, [view] * len(looks)) if keys[first][0] != keys[second][0]
    ]  # fmt: skip
    numbers = {exam.patient for exam in own.exams} & {exam.patient for exam in other.exams}
    return {"same_content": same, "nearly": near, "same_numbers": len(numbers)}


def told_apart(own: Cohort, other: Cohort, seed: int, confidence: float) -> list[Json]:
    """Could a classifier tell the two collections by what sees no breast? Each variable, and all of them together.

    Out-of-fold AUC of "is of the other collection", grouped by patient; p by rank sums, Holm's correction.
    """
    measured = (own.nuisance(), other.nuisance())
    names = sorted(set(measured[0]) & set(measured[1]) - {"patient", "visit"})  # what both collections know
    names = [name for name in names if all(np.isfinite(each[name]).any() for each in measured)]
    columns = {name: np.concatenate([each[name] for each in measured]).astype(np.float64) for name in names}
    columns = {n: c for n, c in columns.items() if np.isfinite(c).sum() > 1 and np.nanstd(c) > 0}
    last = max(exam.patient for exam in own.exams)
    exams: list[Exam] = [replace(exam, label=0, hashes=()) for exam in own.exams]
    exams += [replace(exam, label=1, patient=exam.patient + last, hashes=()) for exam in other.exams]
    number_of_folds = min(5, len({e.patient for e in own.exams}), len({e.patient for e in other.exams}))
    if number_of_folds < 2 or not columns:
        return []
    folds = inner_folds(exams, np.arange(len(exams), dtype=np.int64), number_of_folds, seed)
    scope = Tables(tuple(exams), tuple(folds))
    titles = {**CATALOG, **PICTURE}
    tried = [(titles.get(n, (n.replace("_", " "), ""))[0], score_alone(scope, c[:, None])) for n, c in columns.items()]
    tried.append(("everything together", score_together(scope, np.column_stack(list(columns.values())))))
    found: list[Json] = []
    for title, rows in tried:
        units = gather_units(rows)
        found.append({
            "title": title, "auc": auc_interval(units, confidence).as_dict(),
            "p": mann_whitney_p(units.labels, units.scores),
        })  # fmt: skip
    corrected = holm([each["p"] for each in found])
    found = [each | {"p_holm": p} for each, p in zip(found, corrected, strict=True)]
    return [found[-1], *sorted(found[:-1], key=lambda each: -each["auc"]["value"])]


# --- the verdict ------------------------------------------------------------------------------------------------------


def verdict_of_travel(document: Json) -> Json:
    """``tone``, ``headline`` and ``sentences``: it travels, it does not, or it cannot be told from so many."""
    auc, internal, shared = document["metrics"]["auc"], document["internal_auc"], document["shared"]
    size, apart_by = f"n = {document['units']} ({document['positives']} sick)", document["difference"]
    copies = len(shared.get("same_content", [])) + len(shared.get("nearly", []))
    if copies:
        tone, headline = "bad", "This is no external collection: exams of the run's own data set are in it."
    elif auc["high"] <= 0.5 or (apart_by and apart_by["high"] < -MARGIN):
        tone, headline = "bad", "It does not travel."
    elif apart_by is None:
        tone, headline = "open", "Whether it travels cannot be told: how it does at home is unknown."
    elif auc["low"] > 0.5 and apart_by["low"] >= -MARGIN:
        tone, headline = "good", "It travels."
    else:
        tone, headline = "open", f"Whether it travels cannot be told from {size}."
    line, apart = document["calibration"], document["apart"]
    headline += with_and_without_doubt(document)
    sentences = [
        f"On {size} the frozen run reaches AUC {with_interval(auc)}"
        + ("." if internal is None else f"; out of sample at home it was {with_interval(internal)}.")
    ]
    if apart_by is not None:
        sentences.append(
            f"There minus at home: {with_interval(apart_by)}. It counts as travelling where it is above .5 and shown "
            f"to lose less than {MARGIN:.2f}; that margin is this program's, and no clinical need gives it."
        )
    shares = [f"{name} {with_interval(document['metrics'][name])}" for name in ("sensitivity", "specificity")]
    sentences.append(f"At its frozen threshold of {number(document['threshold'])}: {', '.join(shares)}.")
    large = line["in_the_large"]
    if large is not None:
        off = line["in_the_large_low"] > 0 or line["in_the_large_high"] < 0
        if line["slope"] is not None:
            off = off or line["slope_low"] > 1 or line["slope_high"] < 1
        bounds = f"{number(large)} ({number(line['in_the_large_low'])} to {number(line['in_the_large_high'])})"
        slope = "" if line["slope"] is None else f", slope {number(line['slope'])}"
        sentences.append(
            f"Calibration in the large {bounds}{slope}: scores are {'' if off else 'not shown to be '}off as chances."
        )
    if apart and apart[0]["p_holm"] < TELL_APART:
        by = next((each for each in apart[1:] if each["p_holm"] < TELL_APART), None)
        told = f", most surely by {by['title']} ({with_interval(by['auc'])})" if by else ""
        sentences.append(f"The collections can be told apart without a breast: {with_interval(apart[0]['auc'])}{told}.")
    if copies:
        sentences.append(
            f"{len(shared['same_content'])} matrices are the very same, {len(shared['nearly'])} pairs nearly."
        )
    return {"tone": tone, "headline": headline, "sentences": sentences}


def with_and_without_doubt(document: Json) -> str:
    """On how many exams ``predict`` would abstain, and the AUC with and without them; empty where on none."""
    if not document["abstained"]:
        return ""
    left, answered = document["scored"] - document["abstained"], document["answered_auc"]
    without = f"without them {with_interval(answered)}" if answered else f"none without them ({left} exams left)"
    with_them = f"AUC with them {with_interval(document['metrics']['auc'])}, {without}"
    return f" predict would abstain on {document['abstained']} of {document['scored']} exams: {with_them}."


def tripod_items(document: Json, loaded: LoadedRun) -> list[dict[str, str]]:
    """Items of TRIPOD+AI (Collins et al. 2024, BMJ 385:e078378) for an evaluation, as far as files tell.

    Numbers and names are those of the published check-list; 5 to 17 are methods, 20 to 24 results.
    """
    unknown, metrics, line = "not reported", document["metrics"], document["calibration"]
    slope = unknown if line["slope"] is None else f"slope {number(line['slope'])}"
    apart, rows = document["apart"], document["recalibration"]["rows"]
    told_by = f"told apart without a breast, AUC {with_interval(apart[0]['auc'])}" if apart else unknown
    updated = ", ".join(f"Brier score {number(each['brier'])} ({each['form']})" for each in rows) or unknown
    return [
        {"item": "5a data source", "said": f"{document['found']} exams of another collection; who they are: {unknown}"},
        {"item": "8a outcome", "said": "the collection's own labels; how they were made: " + unknown},
        {"item": "10 sample size", "said": f"as found; see plan-study. {document['scored']} of {document['found']} "
                                           "exams scored"},
        {"item": "11 missing data", "said": f"{len(document['refused'])} exams lack a view and are not scored"},
        {"item": "12e measures", "said": "AUC, sensitivity, specificity, calibration, net benefit"},
        {"item": "12f model updating", "said": f"recalibration on {document['recalibration']['taught']} units, "
                                               f"scored on {document['recalibration']['scored']} others"},
        {"item": "12g predictions", "said": f"run {loaded.run.name}, kind {loaded.run.kind.name}, frozen"},
        {"item": "14 fairness", "said": unknown},
        {"item": "16 training versus evaluation", "said": f"setting, eligibility: {unknown}"},
        {"item": "20a participants", "said": f"{document['units']} units, {document['positives']} with the outcome"},
        {"item": "20c comparison with development data", "said": told_by},
        {"item": "23a model performance", "said": f"AUC {with_interval(metrics['auc'])}, {slope}"},
        {"item": "24 model updating", "said": updated},
    ]  # fmt: skip


def told(document: Json) -> list[str]:
    """The document in lines for a terminal."""
    shared, recalibration = document["shared"], document["recalibration"]
    return [
        f"{document['found']} exams found, {document['scored']} scored, {document['abstained']} of them with doubt",
        *(f"  doubt: {each['reason']} ({each['exams']} exams)" for each in document["doubts"][:6]),
        *(f"{name} {with_interval(each)}" for name, each in document["metrics"].items()),
        *(f"net benefit at prevalence {each['prevalence']:g}, threshold {each['threshold']:g}: {each['value']:.4f} "
          f"({each['low']:.4f} to {each['high']:.4f}); calling everybody {each['everybody']:.4f}"
          for each in document["net_benefit"]),
        *(f"recalibrated ({each['form']}): Brier score {each['brier']:.3f}, in the large "
          f"{number(each['calibration']['in_the_large'])}, slope {number(each['calibration']['slope'])}"
          for each in recalibration["rows"]),
        *([f"recalibration: {recalibration['note']}"] if recalibration["note"] else []),
        *(f"collections told apart by {each['title']}: {with_interval(each['auc'])}" for each in document["apart"][:6]),
        *([f"same content {len(shared['same_content'])}, nearly the same {len(shared['nearly'])}, "
           f"patients of one number {shared['same_numbers']}"] if shared else ["the run's own data set is gone"]),
        document["verdict"]["headline"], *document["verdict"]["sentences"],
    ]  # fmt: skip
