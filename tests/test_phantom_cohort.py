"""Cohorts: distributions, ties, and that without a tie nothing but the tumour tells the label."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from thermocancer.config.sources import SimulateSection
from thermocancer.errors import ConfigError
from thermocancer.phantom.cohort import QUADRANTS, Visit, draw_cohort
from thermocancer.phantom.exam import draw_person

NUISANCES: dict[str, Callable[[Visit], float]] = {
    "patient number": lambda visit: visit.patient,
    "date": lambda visit: float(np.datetime64(visit.date).astype(int)),
    "camera": lambda visit: visit.camera == "newer",
    "room": lambda visit: visit.room_celsius,
    "convection": lambda visit: visit.convection,
    "vasomotor": lambda visit: visit.vasomotor,
    "calibration": lambda visit: visit.calibration_celsius,
    "marker size": lambda visit: visit.marker.size,
    "marker warmth": lambda visit: visit.marker.above_room,
    "marker shift": lambda visit: visit.marker.shift,
    "age": lambda visit: visit.age,
    "second visit": lambda visit: visit.visit,
    "missing views": lambda visit: len(visit.missing_views),
    "missing frames": lambda visit: len(visit.missing_frames),
    "repeated view": lambda visit: visit.repeated_view is not None,
}


def auc(scores: NDArray[np.float64], sick: NDArray[np.bool_]) -> float:
    difference = scores[sick][:, None] - scores[~sick][None, :]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def cohort(**settings: object) -> tuple[list[Visit], NDArray[np.bool_]]:
    visits = draw_cohort(SimulateSection(**{"patients": 500, **settings}), 7)  # type: ignore[arg-type]
    return visits, np.array([visit.label == "sick" for visit in visits])


@pytest.mark.parametrize("name", sorted(NUISANCES))
def test_no_nuisance_predicts_the_label(name: str) -> None:
    visits, sick = cohort()
    scores = np.array([float(NUISANCES[name](visit)) for visit in visits])
    # the standard error of an AUC of .5 with about 200 and 300 exams is .026
    assert abs(auc(scores, sick) - 0.5) < 3 * 0.0265


def test_bodies_do_not_know_the_label() -> None:
    settings = SimulateSection(patients=150)
    visits = [visit for visit in draw_cohort(settings, 5) if visit.visit == 1]
    sick = np.array([visit.label == "sick" for visit in visits])
    people = [draw_person(settings, 5, visit.patient) for visit in visits]
    for value in (
        lambda each: each.body.half_width,
        lambda each: each.fat,
        lambda each: each.circulation.vessels.branches,
        lambda each: abs(each.circulation.breasts[0] - each.circulation.breasts[1]),
    ):
        scores = np.array([float(value(each)) for each in people])
        assert abs(auc(scores, sick) - 0.5) < 3 * 0.048


@pytest.mark.parametrize(
    ("tie", "name"),
    [("camera", "camera"), ("room", "room"), ("marker", "marker size"), ("calendar", "patient number")],
)
def test_a_tie_ties_its_own_nuisance_and_no_other(tie: str, name: str) -> None:
    visits, sick = cohort(tie=tie, second_visits=0.0)
    for other, value in NUISANCES.items():
        found = abs(auc(np.array([float(value(visit)) for visit in visits]), sick) - 0.5)
        kin = {"calendar": {"date", "patient number"}, "marker": {"marker size", "marker warmth"}}.get(tie, {name})
        assert found > 0.49 if other in kin else found < 3 * 0.0265, other
    half, half_sick = cohort(tie=tie, tie_strength=0.5, second_visits=0.0)
    score = np.array([float(NUISANCES[name](visit)) for visit in half])
    assert 0.15 < abs(auc(score, half_sick) - 0.5) < 0.40


def test_labels_come_in_the_share_asked_for() -> None:
    visits, _ = cohort(patients=50, sick_fraction=0.3)
    assert sum(visit.label == "sick" for visit in visits if visit.visit == 1) == 15
    assert [visit.patient for visit in visits if visit.visit == 1] == list(range(1, 51))
    assert all(visit.listed == visit.label for visit in visits)


def test_patients_are_numbered_by_date_and_come_again_later() -> None:
    visits, _ = cohort(second_visits=0.5)
    firsts = [visit.date for visit in visits if visit.visit == 1]
    assert firsts == sorted(firsts)
    first = {visit.patient: visit for visit in visits if visit.visit == 1}
    again = [visit for visit in visits if visit.visit == 2]
    assert 180 < len(again) < 320
    assert all(visit.date > first[visit.patient].date for visit in again)
    assert all(visit.tumour == first[visit.patient].tumour for visit in again)


def test_tumours_follow_the_stated_distributions() -> None:
    visits, sick = cohort(second_visits=0.0)
    ill = [visit for visit in visits if visit.tumour is not None and visit.site is not None]
    assert len(ill) == sick.sum()
    diameters = np.array([visit.tumour.diameter for visit in ill if visit.tumour])
    assert 0.016 < np.median(diameters) < 0.020
    assert all(visit.tumour.depth > visit.tumour.diameter / 2 + 0.0059 for visit in ill if visit.tumour)
    assert all(1e5 <= visit.tumour.heat <= 1.2e6 for visit in ill if visit.tumour)
    share = np.mean([visit.site.quadrant == "upper-outer" for visit in ill if visit.site])
    assert abs(share - QUADRANTS["upper-outer"]) < 0.12
    assert {visit.site.side for visit in ill if visit.site} == {0, 1}


def test_more_patients_do_not_change_the_first_ones_bodies() -> None:
    small, large = SimulateSection(patients=5), SimulateSection(patients=50)
    assert draw_person(small, 1, 3).body == draw_person(large, 1, 3).body


def test_wrong_lists_and_missing_files_at_the_rate_asked_for() -> None:
    visits, _ = cohort(wrong_labels=0.2, missing_views=0.3, missing_frames=0.4, repeated_views=0.1)
    assert 0.14 < np.mean([visit.label != visit.listed for visit in visits]) < 0.26
    assert 0.24 < np.mean([bool(visit.missing_views) for visit in visits]) < 0.36
    assert 0.33 < np.mean([bool(visit.missing_frames) for visit in visits]) < 0.47
    assert 0.06 < np.mean([visit.repeated_view is not None for visit in visits]) < 0.14


def test_small_tumours_have_no_gautherie_heat() -> None:
    with pytest.raises(ConfigError, match="Gautherie"):
        draw_cohort(SimulateSection(patients=5, tissue="layers-B", tumour_heat="gautherie"), 0)
    assert draw_cohort(SimulateSection(patients=5, tissue="layers-B"), 0)
