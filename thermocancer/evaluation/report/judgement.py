"""Everything that can be said of a run from its files: the facts behind ``metrics.json`` and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thermocancer.config.judging import EvaluateSection
from thermocancer.evaluation.report import figures
from thermocancer.evaluation.report.notices import number
from thermocancer.evaluation.statistics.calibration import (
    calibration_line,
    decision_curve,
    predictive_values,
    reliability,
)
from thermocancer.evaluation.statistics.comparison import auc_difference, pair_units
from thermocancer.evaluation.statistics.curves import accuracy_by_threshold, reference_points
from thermocancer.evaluation.statistics.intervals import Estimate
from thermocancer.evaluation.statistics.metrics import METRICS, RunFacts, measure, metrics_document
from thermocancer.evaluation.statistics.units import Units, gather_units
from thermocancer.runs.run import RunRecord


@dataclass(frozen=True)
class Picture:
    """One figure: PNG bytes, the words for who cannot see it, and its caption."""

    png: bytes
    alternative: str
    caption: str


@dataclass
class Judgement:
    """A run judged. ``document`` is ``metrics.json``; ``pictures`` are written to ``figures/NAME.png``."""

    run: RunRecord
    units: Units
    document: dict[str, Any]
    baseline: dict[str, Any] | None
    baseline_auc: dict[str, Any] | None
    curves: dict[str, Any]
    pictures: dict[str, Picture] = field(default_factory=dict)


def judge(run: RunRecord, settings: EvaluateSection, seed: int) -> Judgement:
    """Measure a run and its trivial baseline. Raises DataError when only one class was scored."""
    units = gather_units(run.rows)
    where = run.folder / "predictions.csv"
    how = {"confidence": settings.confidence, "bootstrap": settings.bootstrap, "seed": seed}
    estimates = measure(units, confidence=settings.confidence, bootstrap=settings.bootstrap, seed=seed, where=where)
    document = metrics_document(estimates, units, run.facts()) | {"confidence": settings.confidence}
    other = gather_units(run.baseline) if run.baseline else None
    baseline, baseline_auc = None, None
    if other is not None and other.has_both_classes:
        measured = measure(other, confidence=settings.confidence, bootstrap=settings.bootstrap, seed=seed)
        baseline = {name: measured[name].as_dict() for name in METRICS}
        difference = auc_difference(pair_units(units, other), **how)  # type: ignore[arg-type]
        baseline_auc = measured["auc"].as_dict() | {"difference": difference}
    judged = Judgement(run, units, document, baseline, baseline_auc, _curves(units, estimates, settings))
    judged.pictures |= _pictures(judged, other if baseline is not None else None)
    return judged


def _curves(units: Units, estimates: dict[str, Estimate], settings: EvaluateSection) -> dict[str, Any]:
    prevalences = (*settings.prevalences, float(units.labels.mean()))
    return {
        "calibration": calibration_line(units.labels, units.scores),
        "reliability": reliability(units.labels, units.scores),
        "decision_curve": decision_curve(units.labels, units.scores),
        "accuracy_by_threshold": accuracy_by_threshold(units),
        "reference_points": reference_points(units),
        "predictive_values": predictive_values(
            estimates["sensitivity"].value, estimates["specificity"].value, prevalences
        ),
    }


def _pictures(judged: Judgement, baseline: Units | None) -> dict[str, Picture]:
    units, document = judged.units, judged.document
    auc = number(document["auc"]["value"])
    pictures = {
        "roc": Picture(
            figures.draw_roc(units, baseline, auc),
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
    learning = figures.draw_history(judged.run.history)
    if learning is not None:
        pictures["learning"] = Picture(
            learning, "Training and validation loss against the epoch", "Learning curves, one thin line a fold."
        )
    return pictures


__all__ = ["Judgement", "Picture", "RunFacts", "judge"]
