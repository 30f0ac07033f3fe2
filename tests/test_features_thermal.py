"""Thermal statistics, asymmetry, pixels, nuisance: the numbers are those of plain NumPy and SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuse_fixtures import cohort, labels_of
from scipy import stats

from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import ArrayCohort, centi_celsius
from thermocancer.errors import ConfigError, DataError
from thermocancer.features import thermal
from thermocancer.features.prepared import REFERENCE_CENTI, prepare
from thermocancer.features.residual import NuisanceFit
from thermocancer.features.tables import Table, complete_rows, feature_names, measured_table
from thermocancer.features.thermal import area_weights, reduce_area

RNG = np.random.default_rng(5)
CELSIUS = RNG.normal(32, 1.5, (24, 32))
TORSO = np.zeros((24, 32), bool)
TORSO[4:22, 3:29] = True
FIVE = ("Frontal", "Right45", "Right", "Left45", "Left")


def test_global_statistics_are_the_textbook_ones() -> None:
    found = dict(zip(thermal.GLOBAL_NAMES, thermal.global_statistics(CELSIUS, TORSO), strict=True))
    values = CELSIUS[TORSO]
    assert found["mean"] == pytest.approx(values.mean())
    assert found["sd"] == pytest.approx(values.std())
    assert found["skewness"] == pytest.approx(stats.skew(values))
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(values))
    assert found["p95"] == pytest.approx(np.percentile(values, 95))
    assert found["interquartile"] == pytest.approx(stats.iqr(values))
    assert found["range"] == pytest.approx(np.percentile(values, 99) - np.percentile(values, 1))


def test_a_flat_torso_has_finite_statistics() -> None:
    flat = np.full(CELSIUS.shape, 33.0)
    assert np.isfinite(thermal.global_statistics(flat, TORSO)).all()
    assert not thermal.region_percentiles(flat, TORSO).any()


def test_regions_find_the_warm_corner() -> None:
    warm = np.full(CELSIUS.shape, 30.0)
    warm[4:10, 3:16] = 34.0
    found = dict(zip(thermal.REGION_NAMES, thermal.region_percentiles(warm, TORSO), strict=True))
    assert found["region00.p50"] == 4.0
    assert all(value == 0 for name, value in found.items() if name.endswith("p50") and name != "region00.p50")


def test_a_symmetrical_body_has_no_asymmetry_and_a_warm_side_has() -> None:
    half = RNG.normal(32, 1, (24, 16))
    symmetrical = np.concatenate([half, half[:, ::-1]], axis=1)
    everywhere = np.ones(symmetrical.shape, bool)
    assert not thermal.mirror_asymmetry(symmetrical, everywhere, 16).any()
    warmer = symmetrical.copy()
    warmer[:, :16] += 0.7
    found = dict(zip(thermal.MIRROR_NAMES, thermal.mirror_asymmetry(warmer, everywhere, 16), strict=True))
    assert found["mean"] == pytest.approx(0.7)
    assert found["p95"] == pytest.approx(0.7)
    assert found["sd"] == pytest.approx(0.0, abs=1e-12)
    assert found["mirrored"] == pytest.approx(0.7)


@pytest.mark.parametrize("midline", [-5, 0, 3, 31, 99])
def test_asymmetry_is_finite_wherever_the_midline_falls(midline: int) -> None:
    assert np.isfinite(thermal.mirror_asymmetry(CELSIUS, TORSO, midline)).all()


@pytest.mark.parametrize(("size", "reduced"), [(12, 4), (10, 4), (7, 7), (5, 8)])
def test_area_weights_average(size: int, reduced: int) -> None:
    weights = area_weights(size, reduced)
    assert weights.sum(axis=1) == pytest.approx(np.ones(reduced))
    assert weights.mean(axis=0) * reduced * size / reduced == pytest.approx(np.ones(size))


def test_reduced_images_are_block_means() -> None:
    images = RNG.normal(size=(3, 12, 20))
    assert reduce_area(images, (4, 5)) == pytest.approx(images.reshape(3, 4, 3, 5, 4).mean(axis=(2, 4)))


@pytest.mark.parametrize(
    ("kind", "views", "columns"),
    [
        ("thermal", ("Frontal",), 15 + 12 + 6),
        ("thermal", FIVE, 5 * 27 + 6 + 2 * 4),
        ("asymmetry", ("Right", "Left"), 4),
        ("asymmetry-index", FIVE, 3),
    ],
)
def test_every_column_of_a_table_has_a_name(kind: str, views: tuple[str, ...], columns: int) -> None:
    source = cohort(4, views)
    table = measured_table(source, Table(kind), views, (6, 8))
    assert table.shape == (len(source.exams), columns)
    assert len(set(feature_names(Table(kind), views))) == columns  # type: ignore[arg-type]
    assert np.isfinite(table).all()


def test_a_table_is_kept_by_content_and_a_damaged_one_is_made_again(tmp_path: Path) -> None:
    source = cohort(4)
    first = measured_table(source, Table.THERMAL, ("Frontal",), (6, 8), tmp_path)
    (kept,) = (tmp_path / "features").iterdir()
    assert np.array_equal(measured_table(source, Table.THERMAL, ("Frontal",), (6, 8), tmp_path), first)
    kept.write_bytes(kept.read_bytes()[:100])
    assert np.array_equal(measured_table(source, Table.THERMAL, ("Frontal",), (6, 8), tmp_path), first)
    measured_table(cohort(5), Table.THERMAL, ("Frontal",), (6, 8), tmp_path)
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_exams_without_a_view_have_no_features() -> None:
    source = cohort(6, ("Frontal", "Left"))
    source.missing["Left"] = np.arange(len(source.exams)) == 2
    table = measured_table(source, Table.THERMAL, ("Frontal", "Left"), (6, 8))
    assert np.flatnonzero(np.isnan(table).any(axis=1)).tolist() == [2]
    assert 2 not in complete_rows(source, ("Frontal", "Left"))
    assert 2 in complete_rows(source, ("Frontal",))


def test_one_side_has_no_asymmetry() -> None:
    with pytest.raises(DataError, match="one side only"):
        measured_table(cohort(3, ("Left", "Left45")), Table.ASYMMETRY, ("Left", "Left45"), (6, 8))


def test_relative_gives_every_body_the_same_median_and_torso_only_blanks_the_room() -> None:
    source = cohort(4)
    rows = np.arange(len(source.exams))
    assert prepare(source, FeaturesSection()) is source
    relative = prepare(source, FeaturesSection(relative=True))
    warmer = source.matrices["Frontal"] + np.uint16(200)
    same = prepare(type(source)(source.exams, {"Frontal": warmer}), FeaturesSection(relative=True))
    assert np.array_equal(centi_celsius(relative, "Frontal", rows), centi_celsius(same, "Frontal", rows))
    assert abs(float(np.median(centi_celsius(relative, "Frontal", rows))) - REFERENCE_CENTI) < 300
    blank = centi_celsius(prepare(source, FeaturesSection(torso_only=True)), "Frontal", rows)
    assert (blank[:, 0, 0] == blank[:, 0, -1]).all()
    assert len({source.fingerprint, relative.fingerprint}) == 2


def test_colour_images_have_no_degrees_to_prepare() -> None:
    class Images:
        kind = "rgb"

    with pytest.raises(ConfigError, match="no degrees"):
        prepare(Images(), FeaturesSection(relative=True))  # type: ignore[arg-type]


def test_what_nuisance_explains_in_the_healthy_is_removed_from_all() -> None:
    source = cohort(30, nuisance=True)
    rows, labels = np.arange(len(source.exams)), labels_of(source)
    fit = NuisanceFit.of(source, rows, labels)
    assert fit.scaling.names == ("room_celsius",)
    room = source.measured["room_celsius"]
    features = np.column_stack([2.0 * room, labels + 0.0])
    left = features - fit.scaling.design(source, rows) @ fit.coefficients(features[fit.healthy])
    assert left[:, 0].std() < 0.1 * features[:, 0].std()
    assert left[labels == 1, 1].mean() - left[labels == 0, 1].mean() == pytest.approx(1.0, abs=0.05)


def test_nothing_measured_nothing_to_regress() -> None:
    source = cohort(6)
    with pytest.raises(DataError, match="cannot be regressed out"):
        NuisanceFit.of(source, np.arange(len(source.exams)), labels_of(source))


def test_colour_images_give_pixels_but_no_thermal_features() -> None:
    source = cohort(4)

    grey = (source.matrices["Frontal"] // 16).astype(np.uint8)
    images = ArrayCohort(source.exams, {"Frontal": np.stack([grey, grey // 2, grey // 4], axis=-1)[:, np.newaxis]})
    table = measured_table(images, Table.PIXELS, ("Frontal",), (6, 8))
    assert table.shape == (len(source.exams), 3 * 6 * 8)
    with pytest.raises(DataError, match="need degrees"):
        measured_table(images, Table.THERMAL, ("Frontal",), (6, 8))
