"""Thermal statistics, asymmetry, pixels, nuisance: the numbers are those of plain NumPy and SciPy."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import body
from fuse_fixtures import cohort, labels_of
from scipy import stats

from thermocancer.classifiers.protocol import Asked
from thermocancer.classifiers.tabular import FeatureTable, TabularClassifier, TabularModel
from thermocancer.config import load_config
from thermocancer.config.preparation import FeaturesSection
from thermocancer.data.cohort import ArrayCohort, Exam, centi_celsius
from thermocancer.data.novelty import describe
from thermocancer.errors import ConfigError, DataError
from thermocancer.features import thermal
from thermocancer.features.prepared import REFERENCE_CENTI, prepare
from thermocancer.features.residual import Erasure, NuisanceFit
from thermocancer.features.tables import Table, complete_rows, feature_names, measured_table
from thermocancer.features.thermal import area_weights, reduce_area
from thermocancer.kinds import kind
from thermocancer.runs.deciding import decided_by, settings_of
from thermocancer.thermal.reading import ThermalMatrix
from thermocancer.workspace import Workspace

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


# --- directions that tell early from late -----------------------------------------------------------------------------


def tied(seed: int, *, patients: int = 240) -> tuple[ArrayCohort, np.ndarray, np.ndarray]:
    """A cohort whose sick came late, with a camera that drifts along a stripe; days and labels beside it."""
    random = np.random.default_rng(seed)
    labels = (random.random(patients) < 0.4).astype(np.int64)
    days = random.integers(0, 1200, patients) + 400 * labels
    centi = 3200 + random.normal(0, 40, (patients, 24, 32))
    centi[:, :6] += 0.3 * days[:, None, None]  # the drift
    centi[:, 10:18, 4:14] += 30 * labels[:, None, None] * random.random((patients, 1, 1))  # the disease
    exams = tuple(
        Exam(number + 1, 1, int(label), (date(2012, 1, 1) + timedelta(int(day))).isoformat(), "space2")
        for number, (label, day) in enumerate(zip(labels, days, strict=True))
    )
    measured = {"date_ordinal": days.astype(float)}
    return ArrayCohort(exams, {"Frontal": centi.astype(np.uint16)}, measured=measured), days, labels


def ranked(scores: np.ndarray, late: np.ndarray) -> float:
    above, below = scores[late], scores[~late]
    return float((above[:, None] > below).mean())


def matched(scores: np.ndarray, days: np.ndarray, labels: np.ndarray) -> float:
    pairs = [
        scores[sick] > scores[other]
        for sick in np.flatnonzero(labels == 1) for other in np.flatnonzero(labels == 0)
        if abs(days[sick] - days[other]) <= 20
    ]  # fmt: skip
    return float(np.mean(pairs))


def read_by(components: int | None, seed: int, erase: tuple[str, ...], folder: Path) -> tuple[float, float]:
    """AUC of early or late among healthy women that did not teach, and of sick against healthy of the same weeks."""
    source, days, labels = tied(seed, patients=480)
    taught, asked = np.arange(160), np.arange(160, 480)
    healthy = labels[asked] == 0
    late = (days[asked] > np.median(days[asked][healthy]))[healthy]
    features = FeatureTable(Table.PIXELS, ("Frontal",), (6, 8))
    machine = TabularClassifier(features, 0.1 if components is None else 1.0, components, erase=erase)
    model = machine.fit(source, taught, labels[taught], seed=0, fold="1.1")
    if model.erasure is not None:  # what it learnt from is what was left
        left = model.erasure.removed_from(features.of(source, taught))
        np.testing.assert_allclose(model.decision.mean, left.mean(axis=0))
    scores = model.decisions(source, asked)
    folder.mkdir()
    model.save(folder)
    np.testing.assert_allclose(TabularModel.load(folder, model.describe()).decisions(source, asked), scores)
    unknown = ArrayCohort(source.exams, source.matrices, measured={})
    np.testing.assert_allclose(model.decisions(unknown, asked), scores)  # its own date need not be known
    return ranked(scores[healthy], late), matched(scores, days[asked], labels[asked])


@pytest.mark.parametrize(("components", "before"), [(None, 0.8), (12, 0.65)])
def test_an_erased_date_is_hardly_read_any_more_and_the_disease_is(
    tmp_path: Path, components: int | None, before: float
) -> None:
    plain, erased = (
        np.mean([read_by(components, seed, erase, tmp_path / f"{seed}{len(erase)}") for seed in range(5)], axis=0)
        for erase in ((), ("date",))
    )
    assert plain[0] > before
    assert abs(erased[0] - 0.5) < 0.1
    assert abs(erased[0] - 0.5) < 0.4 * (plain[0] - 0.5)
    assert erased[1] > plain[1] - 0.03


def test_quarters_of_healthy_training_exams_have_one_mean_and_others_teach_nothing() -> None:
    source, days, labels = tied(4)
    rows = np.arange(0, 240, 2)
    table = np.random.default_rng(0).normal(size=(240, 5)) + np.outer(np.sin(days / 300), [1, 2, 0, 0, 3])
    fit = Erasure.of(table[rows], source, rows, labels[rows], ("date",))
    left, healthy = fit.removed_from(table), rows[labels[rows] == 0]
    bounds = np.quantile(days[healthy], [0.25, 0.5, 0.75])
    means = [left[healthy][np.searchsorted(bounds, days[healthy]) == q].mean(axis=0) for q in range(4)]
    assert np.ptp(means, axis=0).max() < 1e-9
    changed = table.copy()
    changed[np.setdiff1d(np.arange(240), healthy)] += 100
    again = Erasure.of(changed[rows], source, rows, labels[rows], ("date",))
    np.testing.assert_array_equal(again.axes, fit.axes)


def test_dates_that_nobody_knows_cannot_be_erased() -> None:
    source, _, labels = tied(5, patients=30)
    unknown = ArrayCohort(source.exams, source.matrices, measured={"date_ordinal": np.full(30, np.nan)})
    with pytest.raises(DataError, match="too few healthy") as caught:
        Erasure.of(np.zeros((30, 2)), unknown, np.arange(30), labels, ("date",))
    assert "cohort.erase" in str(caught.value.where)


@pytest.mark.parametrize("model", ["svm", "asymmetry-index", "physics", "network"])
def test_what_learns_from_no_table_cannot_erase(tmp_path: Path, model: str) -> None:
    options = {"cohort.erase": "date", "fuse.model": model}
    with pytest.raises(ConfigError) as caught:
        load_config(options=options, workspace=tmp_path, environment={})
    assert "cohort.erase" in f"{caught.value}{caught.value.where}{caught.value.found}"


def test_erasing_makes_another_run_and_not_erasing_the_same(tmp_path: Path) -> None:
    plain, erased = (
        load_config(options={"fuse.model": "thermal", "cohort.erase": each}, workspace=tmp_path, environment={})
        for each in ([], ["date"])
    )
    thermal = kind("thermal")
    assert "cohort.erase" not in settings_of(thermal, plain)  # runs made before the setting was there stay current
    assert settings_of(thermal, erased)["cohort.erase"] == ["date"]
    assert decided_by(thermal, plain) != decided_by(thermal, erased)
    made = thermal.family().make(Asked(erased, Workspace(tmp_path), ("Frontal",), calibrate=False))
    assert made.classifier.erase == ("date",)


# --- pixels without a temperature -------------------------------------------------------------------------------------


def as_read(*matrices: np.ndarray) -> ArrayCohort:
    """Matrices in degC as the reader gives them, an exam each."""
    read = [ThermalMatrix(each, 2, "space2") for each in matrices]
    masks = [np.zeros(each.shape, bool) if each.missing is None else each.missing for each in read]
    exams = tuple(Exam(number, 1, 0) for number in range(len(read)))
    frames = np.stack([each.centi for each in read])
    return ArrayCohort(exams, {"Frontal": frames}, masked={"Frontal": np.stack(masks)})


def frontal(patient: int) -> np.ndarray:
    """A body in degC whose outermost 14 columns on either side are room."""
    return body(patient, (96, 128)) / 100


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("kind", [Table.THERMAL, Table.ASYMMETRY, Table.PIXELS])
def test_fill_changes_nothing_that_is_measured_of_the_body(fill: float, kind: Table) -> None:
    true = frontal(3)
    cut = true.copy()
    cut[:, :14] = cut[:5, 100:] = fill
    source = as_read(true, cut)
    assert source.matrices["Frontal"].min() > 2100, "never 0 degC"
    table = measured_table(source, kind, ("Frontal",), (12, 16))
    assert table[1] == pytest.approx(table[0], abs=0.06 if kind is Table.PIXELS else 1e-9)
    if kind is not Table.PIXELS:
        cropped = measured_table(as_read(true[:, 14:]), kind, ("Frontal",), (12, 16))
        assert cropped[0] == pytest.approx(table[1], abs=1e-9)


@pytest.mark.parametrize("option", ["torso_only", "relative"])
def test_prepared_frames_are_those_of_a_whole_frame(option: str) -> None:
    true = frontal(3)
    cut = true.copy()
    cut[:, :14] = 0
    prepared = prepare(as_read(true, cut), FeaturesSection(**{option: True}))
    whole, other = prepared.frames("Frontal", np.arange(2))[:, 0].astype(int)
    assert np.abs(whole - other).max() <= 30, "noise of the room alone"
    assert (whole == other)[:, 20:].all()


def test_of_a_crop_within_the_body_every_pixel_counts_and_no_other() -> None:
    true = frontal(3)
    crop = np.zeros_like(true)
    crop[40:60, 50:80] = true[40:60, 50:80]
    source = as_read(true, crop)
    table = measured_table(source, Table.THERMAL, ("Frontal",), (1, 1))
    found = dict(zip(feature_names(Table.THERMAL, ("Frontal",)), table[1], strict=True))
    assert found["Frontal.mean"] == pytest.approx(true[40:60, 50:80].mean())
    assert found["Frontal.p1"] == pytest.approx(np.percentile(true[40:60, 50:80], 1))
    assert centi_celsius(source, "Frontal", np.array([1])).min() >= 100 * true[40:60, 50:80].min() - 1


def test_what_is_measured_outside_the_breast_leaves_fill_out() -> None:
    true = frontal(3)
    cut = true.copy()
    cut[:, :14] = np.nan
    whole, other = describe(true), describe(cut)
    assert not any(np.isnan(value) for value in other.values())
    assert all(abs(whole[name] - other[name]) < 0.1 for name in whole if name != "edge_sharpness")
