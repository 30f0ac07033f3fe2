"""Everything that can be said of a run from its files: the facts behind ``metrics.json`` and the figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from thermocancer.config.judging import EvaluateSection
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.report import figures
from thermocancer.evaluation.report.page import Words, number
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.curves import curve_facts, folded_roc
from thermocancer.evaluation.statistics.intervals import delong_components, newcombe_variance
from thermocancer.evaluation.statistics.metrics import METRICS, measure, metrics_document
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.runs.predictions import Prediction
from thermocancer.runs.run import Run


@dataclass(frozen=True)
class Picture:
    """One figure: PNG bytes, the words for who cannot see it, and its caption."""

    png: bytes
    alternative: str
    caption: str

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        return self.png


@dataclass
class Judgement:
    """A run judged. ``document`` is ``metrics.json``; ``pictures`` are written to ``figures/NAME.png``."""

    run: Run
    units: Units
    document: Json
    baseline: Json | None
    baseline_auc: Json | None
    curves: Json
    pictures: dict[str, Picture] = field(default_factory=dict)


def judge(run: Run, settings: EvaluateSection, seed: int, *, drawn: bool = True) -> Judgement:
    """Measure a run and its trivial baseline, without pictures unless they are to be ``drawn``.

    Raises DataError when only one class was scored.
    """
    units = gather_units(run.rows, by_exam=run.by_exam)
    confidence, bootstrap = settings.confidence, settings.bootstrap
    measured = partial(measure, confidence=confidence, bootstrap=bootstrap, seed=seed)
    estimates = measured(units, where=run.folder / "predictions.csv")
    document = metrics_document(estimates, units, run.facts(), confidence) | {"folds": fold_facts(run)}
    words = Words.of(run)
    document["decision_rule"] = document["decision_rule"].replace("called sick", f"called {words.positive}")
    for each in document.values():
        if isinstance(each, dict) and "note" in each:
            named = each["note"].replace(" sick", f" {words.positive}")
            each["note"] = named.replace(" healthy", f" {words.negative}")
    curves = curve_facts(units, estimates, settings.prevalences, confidence)
    trivial = gather_units(run.baseline, by_exam=run.by_exam)
    beside = trivial if trivial.has_both_classes else None
    pictures = draw_units(units, document, beside, curves, words, run.history) if drawn else {}
    if beside is None:
        return Judgement(run, units, document, None, None, curves, pictures)
    baseline = {name: estimate.as_dict() for name, estimate in measured(trivial).items()}
    difference = auc_difference(pair_units(units, trivial), confidence=confidence, bootstrap=bootstrap, seed=seed)
    return Judgement(
        run,
        units,
        document,
        {name: baseline[name] for name in METRICS},
        baseline["auc"] | {"difference": difference},
        curves,
        pictures,
    )


# --- folds that were not trained, and folds that disagree -------------------------------------------------------------

FLAT = 1e-3
"""A fold all of whose scores lie within this was not trained: they order exams by rounding."""

FEWEST = 4
"""Scores that a fold needs before they can be called flat."""

DISAGREE = 0.001
"""Folds disagree where chance would let them differ as much this seldom. On folds of one truth (2 to 60 of a class,
AUC .5 to .98, simulated with normal scores) their chi-square test is below it in at most .0014.
"""


def fold_facts(run: Run) -> Json:
    """``folds`` (name, ``n``, ``auc``, ``spread`` of the scores, ``flat``), and whether their AUCs ``disagree``.

    Of several seeds, which score the same images, their AUCs are compared: they differ less than those of folds. ``p``
    is that of the worst repeat, times their number.
    """
    rows: dict[str, list[Prediction]] = {}
    for row in run.rows:
        rows.setdefault(row.fold, []).append(row)
    facts, tested = [], dict[str, list[tuple[float, int, int]]]()
    for name, own in rows.items():
        units = gather_units(own, by_exam=run.by_exam)
        spread, sick = float(np.ptp(units.scores)), int(units.labels.sum())
        auc = None
        if units.has_both_classes:
            auc = delong_components(units.labels, units.scores)[0]
            tested.setdefault(name.split(".")[0], []).append((auc, sick, len(units) - sick))
        flat = len(units) >= FEWEST and spread < FLAT
        facts.append({"fold": name, "n": len(units), "auc": auc, "spread": spread, "flat": flat})
    seeds = run.manifest.seeds or ()
    if len(rows) == 1 and len(seeds) > 1 and tested:
        ((_, sick, healthy),) = next(iter(tested.values()))
        tested = {"seeds": [(seed.test_auc, sick, healthy) for seed in seeds]}
        facts += [{"fold": f"seed {seed.seed}", "n": sick + healthy, "auc": seed.test_auc} for seed in seeds]
    p = min([1.0, *(len(tested) * folds_differ(*zip(*own, strict=True)) for own in tested.values() if len(own) > 1)])
    return {"folds": facts, "p": p, "disagree": p < DISAGREE}


def folds_differ(aucs: Sequence[float], sick: Sequence[int], healthy: Sequence[int]) -> float:
    """p of Cochran's test (1954, Biometrics 10:101) that folds of these AUCs and classes share one true AUC."""
    from scipy.stats import chi2

    pairs = np.array(sick) * np.array(healthy)
    middle = float(np.clip(np.average(aucs, weights=pairs), 0.05, 0.95))
    variances = np.array([newcombe_variance(middle, *counts) for counts in zip(sick, healthy, strict=True)])
    mean = np.average(aucs, weights=1 / variances)
    return float(chi2.sf(np.sum((np.array(aucs) - mean) ** 2 / variances), len(aucs) - 1))


# --- the figures ------------------------------------------------------------------------------------------------------


def draw_units(
    units: Units, document: Json, baseline: Units | None, curves: Json, words: Words, history: Sequence[Json] = ()
) -> dict[str, Picture]:
    """The figures of scored units by file name; ``document`` is their ``metrics.json``, ``history`` lines of epochs."""
    auc = number(document["auc"]["value"])
    decided = {name: document[name]["value"] for name in ("accuracy", "sensitivity", "specificity")}
    lines = [figures.RocLine(folded_roc(units), f"model, AUC {auc}", figures.MODEL, band=document["roc"])]
    if baseline is not None:
        lines.insert(0, figures.RocLine(folded_roc(baseline), "trivial baseline", figures.AMBER, 1.4))
    band = (
        "Inside folds, each weighing as many pairs as it tested, so that its area is the AUC. " * bool(units.repeats)
        + f"The band holds {100 * document['confidence']:g} % at each point by itself, not of the whole curve"
    )
    pictures = {
        "roc": Picture(
            figures.draw_roc(lines),
            f"ROC curve of the model with an area of {auc}" + (", and of the trivial baseline" if baseline else ""),
            f"ROC curve, every unit scored out of sample. {band}.",
        ),
        "precision-recall": Picture(
            figures.draw_precision_recall(
                lines, float(units.labels.mean()), document["precision_recall"], words.positive
            ),
            f"Precision against recall, average precision {number(document['average_precision']['value'])}",
            f"Precision against sensitivity. {band}, with this sample's share of {words.positive}.",
        ),
        "confusion": Picture(
            figures.draw_confusion(document["confusion"], words.classes),
            "Confusion matrix: {tn} true negatives, {fp} false positives, {fn} false negatives, {tp} true "
            "positives".format(**document["confusion"]),
            "Confusion matrix at the operating point; rows are the truth.",
        ),
        "accuracy": Picture(
            figures.draw_accuracy(curves["accuracy_by_threshold"], document["threshold"], decided),
            "Accuracy, sensitivity and specificity against the threshold from 0 to 1",
            "What one threshold for all would have given; for orientation, the threshold was not chosen here. The "
            "dots are the table's figures, where each fold decided by its own threshold; the line is their median.",
        ),
        "calibration": Picture(
            figures.draw_calibration(curves["reliability"], words.positive),
            f"Reliability diagram, expected calibration error {number(document['ece']['value'])}",
            f"Share of {words.positive} among units of like score; the dotted line is ideal.",
        ),
        "decision-curve": Picture(
            figures.draw_decision_curve(curves["decision_curve"], words.positive),
            "Net benefit of the model at threshold probabilities of 1 to 20 percent, beside calling everyone "
            f"{words.positive}",
            f"Decision curve at this sample's share of {words.positive}"
            + (", which is far above that of screening." if words.things == "exams" else "."),
        ),
    }
    for what, name in (("loss", "learning"), ("accuracy", "learning-accuracy")):
        learning = figures.draw_history(history, what)
        if learning is not None:
            pictures[name] = Picture(
                learning, f"Training and validation {what} against the epoch",
                f"Learning curves, {what}, one thin line a fold.",
            )  # fmt: skip
    return pictures


OWN_FIGURE = "own-"
"""Begins the file names of figures that only one kind of run has, so that the page can tell them from the others."""


def own_figures(run: Run) -> tuple[dict[str, Picture], str]:
    """Figures that only this kind of run has, by file name, and why there are none where they could not be drawn."""
    drawn = {}
    try:
        if run.reads is Reads.FRAMES:
            from thermocancer.evaluation.report.dynamic import dynamic_figures

            drawn = dynamic_figures(run)
        elif run.reads is Reads.IMAGES:
            from thermocancer.evaluation.report.image_figures import image_figures

            drawn = image_figures(run)
    except ThermocancerError as error:
        return {}, f"The figures of this kind of run could not be drawn: {error.what}."
    slugs = {title: re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") for title in drawn}
    return {OWN_FIGURE + slugs[title]: Picture(png, title, title + ".") for title, png in drawn.items()}, ""
