"""The body before the camera: geometry, optics, what the five views show."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from thermocancer.config.sources import SimulateSection
from thermocancer.phantom.anatomy import Body, draw_body
from thermocancer.phantom.camera import Framing, Stage, apparent_celsius, emissivity
from thermocancer.phantom.cohort import Site, Visit, draw_cohort
from thermocancer.phantom.contrast import Tumour
from thermocancer.phantom.exam import footprint_masks, make_scene, mask_png, matrices
from thermocancer.workspace import VIEWS

CALM = SimulateSection(
    patients=4, shape=(96, 128), dynamic=False, mottle=0.0, vessels=0.0, asymmetry=0.0, framing=0.0,
    noise_celsius=0.0, drift_celsius=0.0, missing_views=0.0, repeated_views=0.0, second_visits=0.0,
)  # fmt: skip
"""A cohort without nuisances."""


def symmetric_body() -> Body:
    body = draw_body(np.random.default_rng(3), asymmetry=0.0)
    right, left = body.breasts
    return replace(body, breasts=(replace(right, azimuth=-left.azimuth), left))


def visit_with(tumour: Tumour | None, site: Site | None) -> Visit:
    visit = draw_cohort(CALM, 0)[0]
    return replace(visit, tumour=tumour, site=site, label="sick" if tumour else "healthy", response=1.0)


def celsius(settings: SimulateSection, visit: Visit) -> dict[str, np.ndarray]:
    return {each.view: each.centi / 100.0 for each in matrices(make_scene(settings, 0, visit))}


def test_five_views_of_a_symmetric_body_mirror_each_other() -> None:
    stage = Stage(symmetric_body(), Framing(96, 128, 3.5, 0.0, 20.0))
    frontal, right45, left45 = (stage.look(view) for view in ("Frontal", "Right45", "Left45"))
    assert (frontal.body == frontal.body[:, ::-1]).mean() > 0.995
    assert (right45.body == left45.body[:, ::-1]).mean() > 0.995
    difference = np.abs(right45.cosine - left45.cosine[:, ::-1])[right45.body & left45.body[:, ::-1]]
    assert np.median(difference) < 0.02


def test_every_view_shows_a_whole_body() -> None:
    stage = Stage(symmetric_body(), Framing(96, 128, 3.5, 0.0, 20.0))
    for view in VIEWS:
        sight = stage.look(view)
        middle = sight.body[40:]
        # from the breasts down the body is one piece in every row
        assert all(np.diff(np.flatnonzero(row)).max() == 1 for row in middle if row.sum() > 1)
        assert 0.35 < sight.body.mean() < 0.9
        assert np.all((sight.cosine >= 0) & (sight.cosine <= 1))


def test_right_is_the_patients_right() -> None:
    tumour, spot = Tumour(0.02, 0.02, 1e5), {"quadrant": "upper-outer", "v": 0.2}
    right = celsius(CALM, visit_with(tumour, Site(0, u=-0.3, **spot)))
    healthy = celsius(CALM, visit_with(None, None))
    warmed = {view: right[view] - healthy[view] for view in VIEWS}
    # the patient's right breast is on the left of a frontal picture
    assert np.unravel_index(np.argmax(warmed["Frontal"]), warmed["Frontal"].shape)[1] < 64
    assert warmed["Right"].max() > 0.5
    assert warmed["Right45"].max() > 0.5
    assert warmed["Left"].max() < 0.1


def test_mask_is_where_the_skin_is_warmer_by_half_the_peak() -> None:
    tumour, site = Tumour(0.02, 0.02, 1e5), Site(1, "upper-inner", -0.2, 0.2)
    scene = make_scene(CALM, 0, visit_with(tumour, site))
    masks = dict(footprint_masks(scene))
    assert set(masks) == set(VIEWS)
    difference = celsius(CALM, visit_with(tumour, site))["Frontal"] - celsius(CALM, visit_with(None, None))["Frontal"]
    contrast = scene.sights["Frontal"].from_grid(scene.maps.contrast[None])[0]
    mask = contrast >= scene.lesion.footprint.peak / 2  # type: ignore[union-attr]
    assert masks["Frontal"] == mask_png(mask)
    assert difference[mask].min() > 0.3 * difference.max()
    assert difference[~mask].max() < 0.7 * difference.max()


def test_forced_contrast_is_the_peak_in_the_picture() -> None:
    visit = visit_with(Tumour(0.02, 0.02, 1e5), Site(1, "central", 0.0, 0.1))
    settings = CALM.model_copy(update={"contrast": 2.0, "shape": (240, 320)})
    warmed = celsius(settings, visit)["Frontal"] - celsius(settings, visit_with(None, None))["Frontal"]
    assert 1.7 < warmed.max() < 2.02


def test_no_contrast_is_no_difference_at_all() -> None:
    visit = visit_with(Tumour(0.02, 0.02, 1e5), Site(1, "central", 0.0, 0.1))
    settings = CALM.model_copy(update={"contrast": 0.0})
    sick, healthy = celsius(settings, replace(visit, response=3.0)), celsius(settings, visit_with(None, None))
    assert all(np.array_equal(sick[view], healthy[view]) for view in VIEWS)
    assert not list(footprint_masks(make_scene(settings, 0, visit)))


def test_emissivity_falls_with_the_angle() -> None:
    angles = np.deg2rad([0.0, 30.0, 60.0, 80.0])
    values = emissivity(np.cos(angles))
    assert values == pytest.approx([0.980, 0.979, 0.940, 0.653], abs=0.003)


def test_a_camera_reads_skin_seen_square_on_and_room_where_skin_ends() -> None:
    reading, gain = apparent_celsius(np.array([33.0, 33.0, 33.0]), np.array([1.0, 0.5, 0.0]), 21.0)
    assert reading[0] == pytest.approx(33.0)
    assert gain[0] == pytest.approx(1.0)
    assert 32.0 < reading[1] < 33.0
    assert reading[2] == pytest.approx(21.0)


@pytest.mark.parametrize("shape", [(48, 64), (96, 128), (60, 100)])
def test_any_size_shows_the_same_patient(shape: tuple[int, int]) -> None:
    settings = CALM.model_copy(update={"shape": shape})
    picture = celsius(settings, visit_with(None, None))["Frontal"]
    assert picture.shape == shape
    body = picture[picture > 27]
    assert 29 < np.median(body) < 34
    assert 0.5 < body.size / picture.size < 0.9
    assert picture.min() > 18


def test_mask_png_is_what_a_reader_gets_back() -> None:
    cv2 = pytest.importorskip("cv2")
    mask = np.random.default_rng(0).random((479, 641)) < 0.3
    content = mask_png(mask)
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(found > 127, mask)
    start = content.index(b"IDAT") + 4
    assert len(zlib.decompress(content[start : content.index(b"IEND") - 8])) == 479 * (1 + 81)
