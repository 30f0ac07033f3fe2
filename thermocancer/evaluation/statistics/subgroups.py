"""The same run seen by view set, visit, acquisition layout, period and age."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from thermocancer.evaluation.report.ages import age_band
from thermocancer.evaluation.report.catalog_facts import ExamFacts, ExamKey
from thermocancer.evaluation.statistics.intervals import auc_interval, wilson
from thermocancer.evaluation.statistics.metrics import confusion_of
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.runs.predictions import Prediction

UNKNOWN = "unknown"


def subgroup_table(
    rows: Sequence[Prediction], facts: dict[ExamKey, ExamFacts], confidence: float
) -> list[dict[str, Any]]:
    """One line a subgroup: units, sick, sensitivity, specificity, AUC (None where only one class is there).

    A grouping with a single group says nothing and is left out.
    """
    table = []
    for grouping, group_of in _groupings(facts).items():
        groups = sorted({group_of(row) for row in rows})
        if len(groups) > 1:
            table += [
                _line(grouping, group, [row for row in rows if group_of(row) == group], confidence) for group in groups
            ]
    return table


def _groupings(facts: dict[ExamKey, ExamFacts]) -> dict[str, Callable[[Prediction], str]]:
    empty = ExamFacts()

    def fact(row: Prediction) -> ExamFacts:
        return facts.get((row.patient, row.visit), empty)

    return {
        "views": lambda row: fact(row).view_set,
        "visit": lambda row: "first visit" if row.visit == 1 else "later visit",
        "layout": lambda row: fact(row).layout or UNKNOWN,
        "age": lambda row: age_band(fact(row).age),
        "year": lambda row: (fact(row).date or UNKNOWN)[:4].replace("unkn", UNKNOWN),
    }


def _line(grouping: str, group: str, rows: Sequence[Prediction], confidence: float) -> dict[str, Any]:
    units = gather_units(rows)
    confusion = confusion_of(units)
    sick, healthy = confusion["tp"] + confusion["fn"], confusion["tn"] + confusion["fp"]
    return {
        "grouping": grouping,
        "group": group,
        "n": len(units),
        "sick": sick,
        "sensitivity": wilson(confusion["tp"], sick, confidence).as_dict() if sick else None,
        "specificity": wilson(confusion["tn"], healthy, confidence).as_dict() if healthy else None,
        "auc": auc_interval(units.labels, units.scores, confidence).as_dict() if units.has_both_classes else None,
    }
