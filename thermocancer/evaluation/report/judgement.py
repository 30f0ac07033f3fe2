"""Everything that can be said of a run from its files: the facts behind ``metrics.json`` and the figures."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

from thermocancer.config.judging import EvaluateSection
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.report import figures
from thermocancer.evaluation.report.page import number
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.curves import curve_facts
from thermocancer.evaluation.statistics.metrics import METRICS, measure, metrics_document
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.runs.run import Run


@dataclass(frozen=True)
class Picture:
    """One figure: PNG bytes, the words for who cannot see it, and its caption."""

    png: bytes
    alternative: str
    caption: str


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


def judge(run: Run, settings: EvaluateSection, seed: int) -> Judgement:
    """Measure a run and its trivial baseline. Raises DataError when only one class was scored."""
    by_exam = run.manifest.protocol == "thesis"  # the original study counted files
    units = gather_units(run.rows, by_exam=by_exam)
    confidence, bootstrap = settings.confidence, settings.bootstrap
    measured = partial(measure, confidence=confidence, bootstrap=bootstrap, seed=seed)
    estimates = measured(units, where=run.folder / "predictions.csv")
    document = metrics_document(estimates, units, run.facts()) | {"confidence": confidence}
    curves = curve_facts(units, estimates, settings.prevalences)
    trivial = gather_units(run.baseline, by_exam=by_exam)
    if not trivial.has_both_classes:
        return Judgement(run, units, document, None, None, curves, _pictures(run, units, document, None))
    baseline = {name: estimate.as_dict() for name, estimate in measured(trivial).items()}
    difference = auc_difference(pair_units(units, trivial), confidence=confidence, bootstrap=bootstrap, seed=seed)
    return Judgement(
        run,
        units,
        document,
        {name: baseline[name] for name in METRICS},
        baseline["auc"] | {"difference": difference},
        curves,
        _pictures(run, units, document, trivial),
    )


def _pictures(run: Run, units: Units, document: Json, baseline: Units | None) -> dict[str, Picture]:
    auc = number(document["auc"]["value"])
    lines = [figures.RocLine(units.labels, units.scores, f"model, AUC {auc}", figures.MODEL)]
    if baseline is not None:
        beside = figures.RocLine(baseline.labels, baseline.scores, "trivial baseline", figures.AMBER, 1.4)
        lines.insert(0, beside)
    pictures = {
        "roc": Picture(
            figures.draw_roc(lines),
            f"ROC curve of the model with an area of {auc}" + (", and of the trivial baseline" if baseline else ""),
            "ROC curve, every unit scored out of sample.",
        ),
        "precision-recall": Picture(
            figures.draw_precision_recall(units, baseline),
            f"Precision against recall, average precision {number(document['average_precision']['value'])}",
            "Precision against sensitivity.",
        ),
        "confusion": Picture(
            figures.draw_confusion(document["confusion"]),
            "Confusion matrix: {tn} true negatives, {fp} false positives, {fn} false negatives, {tp} true "
            "positives".format(**document["confusion"]),
            "Confusion matrix at the operating point; rows are the truth.",
        ),
        "accuracy": Picture(
            figures.draw_accuracy(units, document["threshold"]),
            "Accuracy, sensitivity and specificity against the threshold from 0 to 1",
            "What another threshold would have given. For orientation: the threshold was not chosen here.",
        ),
        "calibration": Picture(
            figures.draw_calibration(units),
            f"Reliability diagram, expected calibration error {number(document['ece']['value'])}",
            "Share of sick among units of like score; the dotted line is ideal.",
        ),
        "decision-curve": Picture(
            figures.draw_decision_curve(units),
            "Net benefit of the model at threshold probabilities of 1 to 20 percent, beside calling everyone sick",
            "Decision curve at this sample's share of sick, which is far above that of screening.",
        ),
    }
    for what, name in (("loss", "learning"), ("accuracy", "learning-accuracy")):
        learning = figures.draw_history(run.history, what)
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
