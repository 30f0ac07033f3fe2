"""The benchmark of the audit's shortcuts: what it ties is tied as strongly as it says, and what is tied is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from calibration_of_verdicts import COLUMNS, of_cell, page
from shortcut_rates import NONE, TIES, Rate, draw_scope, rate_of

from thermocancer.evaluation.statistics.intervals import auc_interval
from thermocancer.evaluation.statistics.units import units_of


@pytest.mark.parametrize("tie", TIES)
def test_a_whole_tie_is_named_by_its_family(tie: str) -> None:
    rate = rate_of(tie, 1.0, 60, 0.4, 2)
    assert (rate.named, rate.right, rate.wrong, rate.meets_the_goal) == (2, 2, 0, True)


@pytest.mark.parametrize("auc", [0.7, 0.9])
def test_ties_are_as_strong_as_they_say(auc: float) -> None:
    scopes = {tie: draw_scope(tie, auc, 3000, 0.5, 1) for tie in TIES}
    labels = scopes["calendar"].labels
    days = scopes["middle third"].dates()
    scores = {
        "calendar": (scopes["calendar"].labels, scopes["calendar"].dates()),
        "blur": (scopes["blur"].labels, -scopes["blur"].nuisance("edge_sharpness")),
        "middle third": (scopes["middle third"].labels, -np.abs(np.argsort(np.argsort(days)) - 1500.0)),
        "second format": (
            scopes["second format"].labels,
            np.array([float(exam.formats[1][1] == "grey8") for exam in scopes["second format"].exams]),
        ),
    }
    assert labels.mean() == 0.5
    for tie, (own, values) in scores.items():
        assert auc_interval(units_of(own, values)).value == pytest.approx(auc, abs=0.03), tie


def test_goals_are_those_of_enough_patients_and_strong_ties() -> None:
    assert Rate(NONE, 0.5, 40, 0.5, 100, named=5, right=0).meets_the_goal is True
    assert Rate(NONE, 0.5, 40, 0.5, 100, named=6, right=0).meets_the_goal is False
    assert Rate("site", 0.8, 40, 0.5, 100, named=99, right=94).meets_the_goal is False
    assert Rate("site", 0.7, 40, 0.5, 100, named=99, right=0).meets_the_goal is None
    assert Rate(NONE, 0.5, 40, 0.1, 100, named=50, right=0).meets_the_goal is None, "too few sick to promise anything"


def test_the_page_of_evidence_is_made_from_studies() -> None:
    """A recipe that sees everything has an AUC of 1 that the interval holds; on nothing pooling lies below."""
    rows = {cell: of_cell(cell, 6) for cell in ((40, 20, 6.0, "best number"), (40, 8, 0.0, "ridge"))}
    seen, nothing = (dict(zip(COLUMNS, row, strict=True)) for row in rows.values())
    assert seen["true AUC"] > 0.99
    assert seen["AUC, 1 repeat"] == seen["AUC, 5 repeats"] == 1.0
    assert abs(nothing["true AUC"] - 0.5) < 0.03
    assert nothing["pooled AUC, mean"] < 0.5
    text = page(1, list(rows), 1)
    assert "| 40 (20) | 6 | best number |" in text
    assert "AUC covered, mean" in text
