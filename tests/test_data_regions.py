"""Body, room and marker found in a matrix, and the numbers that need no breast."""

from __future__ import annotations

import numpy as np
import pytest
from dataset_fixtures import body

from thermocancer.data.cohort import Exam
from thermocancer.data.nuisance import (
    OUTSIDE_THE_BREAST,
    catalog_measures,
    measure_matrix,
    nuisance_columns,
)
from thermocancer.evaluation.audit.nuisance import CATALOG, PICTURE
from thermocancer.thermal.regions import (
    background_only,
    find_marker,
    halves,
    midline,
    room_mask,
    torso_mask,
    torso_only,
)

SHAPES = [(48, 64), (120, 160), (480, 640)]


def truth(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where ``body`` has put torso and marker."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    torso = ((columns - 0.5) / 0.33) ** 2 + ((rows - 0.6) / 0.75) ** 2 < 1
    return torso, (abs(rows - 0.8) < 0.06) & (abs(columns - 0.5) < 0.045)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torso_and_marker_are_found_at_every_size(shape: tuple[int, int]) -> None:
    celsius = body(3, shape) / 100
    torso, marker = truth(shape)
    found = torso_mask(celsius)
    assert found.dtype == bool
    assert (found != torso).mean() < 0.01
    patch = find_marker(celsius, found)
    assert patch is not None
    assert (patch.mask != marker).sum() <= 0.1 * marker.sum()
    assert patch.celsius == pytest.approx(27, abs=0.1)
    assert patch.contrast == pytest.approx(6, abs=1.2)
    assert midline(celsius) == pytest.approx(shape[1] / 2, abs=2)


def test_without_a_marker_none_is_found() -> None:
    celsius = body(3, marker=False) / 100
    assert find_marker(celsius, torso_mask(celsius)) is None
    measured = measure_matrix(celsius)
    assert measured["marker_area"] == 0
    assert np.isnan(measured["marker_celsius"])


def test_a_cold_areola_is_no_marker() -> None:
    celsius = body(3, (120, 160), marker=False) / 100
    celsius[70:78, 50:58] -= 1.0
    assert find_marker(celsius, torso_mask(celsius)) is None


def test_a_turned_marker_is_found() -> None:
    celsius = body(3, (240, 320), marker=False) / 100
    rows, columns = np.mgrid[:240, :320]
    diamond = abs(rows - 180) + abs(columns - 170) < 12
    celsius[diamond] = 27
    patch = find_marker(celsius, torso_mask(celsius))
    assert patch is not None
    assert (patch.mask ^ diamond).sum() < 0.15 * diamond.sum()


def test_the_room_between_arm_and_head_is_not_torso() -> None:
    celsius = body(3, (240, 320)) / 100
    celsius[:60] = 33.0  # arms and head over the whole upper edge ...
    celsius[15:45, 60:110] = 22.0  # ... with the room seen in between
    assert not torso_mask(celsius)[20:40, 65:105].any()


@pytest.mark.parametrize("celsius", [np.full((48, 64), 27.87), np.zeros((48, 64))], ids=["flat", "zero"])
def test_a_flat_matrix_has_no_room_and_no_error(celsius: np.ndarray) -> None:
    assert torso_mask(celsius).all()
    measured = measure_matrix(celsius)
    assert np.isnan(measured["room_celsius"])
    assert measured["torso_area"] == 1


def test_halves_are_two_sides_of_the_torso() -> None:
    celsius = body(3) / 100
    left, right = halves(celsius)
    assert not (left & right).any()
    assert np.array_equal(left | right, torso_mask(celsius))
    assert left.sum() == pytest.approx(right.sum(), rel=0.1)


def test_room_is_measured_away_from_the_body() -> None:
    celsius = body(3, (240, 320)) / 100
    measured = measure_matrix(celsius)
    assert measured["room_celsius"] == pytest.approx(22.3, abs=0.05)
    assert measured["room_spread"] == pytest.approx(0.05, abs=0.02)
    torso = torso_mask(celsius)
    assert not (room_mask(torso) & torso).any()


def test_framing_follows_the_body() -> None:
    celsius = body(3, (240, 320)) / 100
    moved = np.roll(celsius, 32, axis=1)
    there, here = measure_matrix(moved), measure_matrix(celsius)
    assert there["centroid_x"] - here["centroid_x"] == pytest.approx(0.1, abs=0.01)
    assert there["torso_area"] == pytest.approx(here["torso_area"], abs=0.01)


def test_sharpness_falls_with_blur() -> None:
    import cv2

    celsius = body(3, (240, 320)).astype(np.float32) / 100
    blurred = measure_matrix(cv2.GaussianBlur(celsius, (0, 0), 3))
    assert blurred["edge_sharpness"] < measure_matrix(celsius)["edge_sharpness"] - 1


@pytest.mark.parametrize("blur", [0.5, 2, 3], ids="blurred by {}".format)
def test_warmer_skin_changes_nothing_that_is_measured_outside_the_breast(blur: float) -> None:
    """Compared with a little more blur, which must show; noise that does not grow with the edge must not."""
    import cv2

    def measured(warmer: float, blur: float) -> dict[str, float]:
        celsius = body(3, (240, 320)).astype(np.float32) / 100
        room = celsius.min() + 1 > celsius
        shot = cv2.GaussianBlur(np.where(room, celsius, celsius + np.float32(warmer)), (0, 0), blur)
        marker = truth((240, 320))[1]
        shot[marker] -= np.float32(warmer)  # it is stuck on, and has its own temperature
        return measure_matrix(shot + np.random.default_rng(1).normal(0, 0.05, shot.shape))

    before, warm, blurred = measured(0, blur), measured(1.5, blur), measured(0, 1.3 * blur)
    assert before.keys() == PICTURE.keys()
    assert blurred["edge_sharpness"] < before["edge_sharpness"] - 0.3
    assert warm.pop("edge_sharpness") == pytest.approx(before.pop("edge_sharpness"), abs=0.05)
    assert warm == pytest.approx(before, rel=0.01, abs=0.003)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torso_only_hides_room_and_marker_and_keeps_the_body(shape: tuple[int, int]) -> None:
    centi = body(3, shape)
    before = centi.copy()
    blanked = torso_only(centi)
    assert np.array_equal(centi, before)
    assert blanked.dtype == np.uint16
    assert blanked.min() > 3000, "neither the room's 22 nor the marker's 27 degC is left"
    torso, marker = truth(shape)
    changed = (blanked != centi) & torso
    grown = np.zeros(shape, bool)
    rows, columns = np.nonzero(marker)
    margin = max(3, round(0.06 * shape[0]))
    grown[rows[0] - margin : rows[-1] + margin, columns.min() - margin : columns.max() + margin] = True
    assert (changed & ~grown).sum() < 0.2 * torso.sum(), "only the rim of the body changes otherwise"


def test_background_only_hides_the_body() -> None:
    centi = body(3, (240, 320))
    hidden = background_only(centi)
    torso, _ = truth((240, 320))
    assert (hidden[torso] == 3300).mean() > 0.99
    far = ~torso & (hidden != 3300)
    assert np.array_equal(hidden[far], centi[far])
    assert far.sum() > 0.7 * (~torso).sum()


def test_columns_have_one_value_an_exam_and_nan_where_unknown() -> None:
    exams = [Exam(3, 1, 0, "2014-05-06", "space2"), Exam(4, 2, 1, None, "semicolon5")]
    rows = [catalog_measures(exam, 100 * exam.patient) for exam in exams]
    rows[0] |= {"room_celsius": 22.5}
    columns = nuisance_columns(exams, rows)
    assert columns["patient"].tolist() == [3, 4]
    assert columns["file_bytes"].tolist() == [300, 400]
    assert columns["date_ordinal"][0] == 735359
    assert np.isnan(columns["date_ordinal"][1])
    assert np.isnan(columns["room_celsius"][1])
    assert columns["layout_space2"].tolist() == [1, 0]
    assert columns["layout_semicolon5"].tolist() == [0, 1]


def test_everything_the_audit_asks_of_a_picture_or_the_catalog_is_measured() -> None:
    exam = Exam(3, 1, 0, "2014-05-06", "space2")
    columns = nuisance_columns([exam], [catalog_measures(exam, 9) | measure_matrix(body(3) / 100)])
    assert set(columns) == {*CATALOG, *PICTURE, "layout_space2"} - {"age"}
    assert set(OUTSIDE_THE_BREAST) <= set(columns)
    assert len(OUTSIDE_THE_BREAST) == 8
