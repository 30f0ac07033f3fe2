"""The benchmark of the audit's shortcuts: what it ties is tied as strongly as it says, and what is tied is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from calibration_of_verdicts import COLUMNS, missed_cells, of_cell, page, permuted_rank
from shortcut_rates import NONE, TIES, Rate, command_of, draw_scope, missed_shortcuts, rate_of, shortcut_table

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
    assert "## Permuted labels, on nothing" in text


@pytest.mark.parametrize(
    ("cell", "covered", "again", "said"),
    [
        ((40, 8), 0.86, None, "the report warns there"), ((40, 8), 0.91, None, ""),
        ((80, 30), 0.86, 0.86, "still missed, 0.860"), ((80, 30), 0.86, 0.92, "0.920, which may be what is asked"),
    ],
)  # fmt: skip
def test_a_cell_is_missed_where_its_interval_excludes_the_goal(
    cell: tuple[int, int], covered: float, again: float | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """.91 of 100 studies (.84 to .95) may be the .93 that was asked; .86 cannot, but where nobody is warned of it other
    studies have a say.
    """

    def row(rate: float | None) -> list[float]:
        assert rate is not None, "counted again where the report warns"
        return [0.8, rate, *[0.95] * 5, 0.9, 0.9, 0.0, 0.95, 0.95, 0.5]

    monkeypatch.setattr("calibration_of_verdicts.of_cell", lambda *_, **__: row(again))
    lines = missed_cells([(*cell, 1.6, "ridge")], [row(covered)], 100)
    assert len(lines) == bool(said)
    assert said in "".join(lines)
    assert ("does not warn" in "".join(lines)) == (again is not None)


def test_a_shortcut_that_is_missed_is_listed() -> None:
    missed, kept = (Rate("site", 0.8, 40, 0.5, 20, named=20, right=right) for right in (9, 18))
    assert "site, 40 patients" in "".join(missed_shortcuts([missed]))
    assert missed_shortcuts([kept]) == [], "2 of 20 may be one of twenty"
    assert missed.line() in shortcut_table([missed])


def test_the_page_says_what_to_type_for_its_shortcuts() -> None:
    cells = [Rate("second format", 0.8, patients, 0.5, 20, named=20, right=20) for patients in (40, 80)]
    asked = "--patients 40 80 --prevalence 0.5 --auc 0.8 --ties 'second format' --studies 20"
    assert command_of(cells).endswith(asked)


def test_ranks_among_permuted_labels_are_spread_on_nothing() -> None:
    ranks = [permuted_rank((40, 20), seed)[0] for seed in range(12)]
    assert 0.25 < np.mean(ranks) < 0.8
    assert len(set(ranks)) > 4
