"""``locate``: phantoms, network, calibrated region, baseline, command, and the classifier that knows no label."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from fuse_fixtures import cohort, config_for
from typer.testing import CliRunner

from thermocancer.classifiers.making import load_fitted, make_classifier
from thermocancer.cli import register
from thermocancer.config.judging import LocateSection
from thermocancer.config.sources import SimulateSection
from thermocancer.errors import DataError
from thermocancer.locate import posterior as posteriors
from thermocancer.locate import solving, training_set
from thermocancer.locate.baseline import Inversion
from thermocancer.locate.chest import CELL_MM, COLUMNS, HALF_WIDTH, ROWS, find_chest, shown
from thermocancer.locate.locator import make_locator
from thermocancer.locate.network import DEPTH_EDGES, HALF, PARTS, Outputs, cell_of, inputs_of
from thermocancer.locate.solving import RADII, SHAPE, Sources, solve_bodies, solve_sources, solved
from thermocancer.locate.training_set import Exams, Phantoms, draw_exams
from thermocancer.phantom.cohort import draw_cohort
from thermocancer.phantom.contrast import solve_footprint
from thermocancer.phantom.exam import Picture, make_scene
from thermocancer.progress import Silent, SilentTask
from thermocancer.stages import simulate
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace

TINY = {
    "locate__bodies": 6, "locate__sources": 8, "locate__calibration": 6, "locate__steps": 2, "locate__batch": 4,
    "locate__width": 4, "locate__tissues": ["layers-A-skin"], "locate__processes": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Phantoms:
    """A few bodies and sources."""
    settings = SimulateSection()
    bodies = solve_bodies(settings, 3, range(6), freely=True)
    return Phantoms((bodies,), (solve_sources(settings, 3, range(12)),))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One in which the tiny locator is made once."""
    found = Workspace(tmp_path_factory.mktemp("locate"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thermocancer.locate.posterior.CALIBRATING", 60)
        make_locator(config_for(found, **TINY), found, Silent())
    return found


def test_training_sets_are_arrays_with_their_truth_and_the_same_again(tmp_path: Path) -> None:
    made = [Workspace(tmp_path / name) for name in ("first", "second")]
    for each in made:
        config = config_for(each, **TINY, locate__truth=7)
        assert len(simulate.plan(config, each).todo) == 1
        assert simulate.run(config, each, Silent()).made == 1
        assert simulate.run(config, each, Silent()).nothing_to_do
        assert not each.raw.exists()
    (first,), (second,) = ([np.load(path) for path in each.root.glob("truth/*.npz")] for each in made)
    assert set(first.files) == {each.name for each in fields(Exams)}
    assert all(np.array_equal(first[name], second[name]) for name in first.files)
    assert first["frontal"].shape == (7, ROWS, COLUMNS, 2)
    kept = next(made[0].root.glob("truth/*.npz"))
    kept.write_bytes(kept.read_bytes()[:1000])
    assert simulate.run(config_for(made[0], **TINY, locate__truth=7), made[0], Silent()).made == 1
    assert np.array_equal(np.load(kept)["depth"], second["depth"])


# --- the grid -----------------------------------------------------------------


@pytest.mark.parametrize(("shape", "shift"), [((120, 160), 0), ((240, 320), 21), ((480, 640), -60)])
def test_the_chest_is_found_at_any_size_and_place(shape: tuple[int, int], shift: int) -> None:
    height, width = shape
    half = width // 4
    frame = np.full(shape, 21.0)
    middle = width // 2 + shift
    frame[:, middle - half : middle + half] = 32.0
    frame[height // 2, middle + half // 2] = 36.0
    chest = find_chest(frame)
    assert chest.pixels == pytest.approx(half / HALF_WIDTH, rel=0.03)
    row, column = chest.cells_of(np.array(middle + half / 2), np.array(height / 2))
    assert float(column) == pytest.approx(COLUMNS / 2 + HALF_WIDTH / 2, abs=1.0)
    seen = shown({"Frontal": frame})["frontal"][0]
    hottest = np.unravel_index(int(seen[..., 0].argmax()), (ROWS, COLUMNS))
    assert hottest == pytest.approx((float(row), float(column)), abs=1.5)
    assert not shown({"Frontal": frame})["oblique"].any()


def test_a_left_oblique_view_is_shown_mirrored() -> None:
    frame = np.full((120, 160), 21.0)
    frame[:, 30:130] = np.linspace(30, 34, 100)
    oblique = shown({"Frontal": frame, "Right45": frame, "Left45": frame[:, ::-1]})["oblique"][0]
    assert oblique[0] == pytest.approx(oblique[1], abs=0.3)


def test_a_pixel_without_a_temperature_is_background() -> None:
    """What is missing is shown as the room, in static views and in frames; all else as if nothing were missing."""
    frame = np.full((120, 160), 21.0)
    frame[:, 30:130] = np.linspace(30, 34, 100)
    holed = frame.copy()
    holed[40:60, 110:130] = np.nan
    recovery = np.linspace(0, 1, 20)[:, None, None]
    whole, lacking = (
        shown({"Frontal": each, "Right45": each}, each + recovery * (each > 25)) for each in (frame, holed)
    )
    assert all(np.isfinite(each).all() for each in lacking.values())
    row, column = (int(float(each)) for each in find_chest(holed).cells_of(np.array(120.0), np.array(50.0)))
    assert whole["frontal"][0, row, column, 1] == 1.0
    assert lacking["frontal"][0, row, column].tolist() == [-6.0, 0.0]
    assert lacking["frontal"][0, ROWS - 9 :, : COLUMNS // 2] == pytest.approx(
        whole["frontal"][0, ROWS - 9 :, : COLUMNS // 2], abs=0.2
    )


# --- phantoms to learn from ---------------------------------------------------


def test_superposed_sources_are_what_the_solver_gives(tiny: Phantoms) -> None:
    """The equation is linear in heat: two solutions give every other."""
    settings, rng = SimulateSection(), np.random.default_rng(0)
    (sources,) = tiny.sources
    heat = 3.3e5
    again = solve_sources(settings, 3, range(1))
    assert np.array_equal(again.still[0], sources.still[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thermocancer.locate.solving.HEAT", (heat, 2 * heat))
        other = solve_sources(settings, 3, range(1))
    warmth = sources.still[0] + heat * sources.per_heat[0]
    assert warmth == pytest.approx(other.still[0] + heat * other.per_heat[0], abs=1e-6)
    exams = tiny.exams(rng, 20, sick=1.0)
    assert exams.warmth[:, 0].min() > 0
    assert (np.diff(exams.warmth, axis=1).max(axis=1) < 0.02 * exams.warmth[:, 0] + 1e-3).all()


def test_phantoms_are_the_same_however_many_make_them(tiny: Phantoms) -> None:
    (bodies,) = tiny.bodies
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thermocancer.locate.solving.PART", 1)
        again = solved(partial(solve_bodies, freely=True), SimulateSection(), 3, 2, 2, SilentTask())
    for name in ("frontal", "oblique", "surface", "breasts"):
        assert np.array_equal(getattr(again, name), getattr(bodies, name)[:2]), name


@pytest.mark.parametrize("seed", [5, 8])
def test_superposed_phantoms_look_as_those_of_simulate(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One visit by the long way (tissue, blood and source together) and by superposition: the same, frames too."""
    settings = SimulateSection(patients=1, sick_fraction=1.0, shape=SHAPE, noise_celsius=0.0, drift_celsius=0.0,
                               second_visits=0.0, missing_views=0.0, missing_frames=0.0)  # fmt: skip
    (visit,) = draw_cohort(settings, seed)
    scene = make_scene(settings, seed, visit)
    assert visit.site is not None
    assert scene.lesion is not None
    camera = Picture(scene, "Frontal", dynamic=True)
    frames = np.stack([camera.frame(number, number).celsius for number in range(20)])
    both, alone = shown({"Frontal": camera.static().celsius}, frames), shown({}, frames)
    healthy = SimulateSection(**{**settings.model_dump(), "sick_fraction": 0.0})
    bodies, site, one = solving._body(healthy, seed), visit.site, np.ones(1)
    warmth, *course = solving._at_radii(scene.lesion.footprint)
    at = np.array([[site.side, site.u, site.v]])
    nothing = np.zeros((1, 3, len(RADII)))
    sources = Sources(
        0.01 * one, 0.02 * one, warmth[None], 0 * warmth[None], at, np.array([course]), nothing, bodies.skin
    )
    monkeypatch.setattr(training_set, "RESPONSE", (visit.response, visit.response))
    rng = np.random.default_rng(0)
    drawn = (draw_exams(bodies, sources, rng, 1, sick=1.0, unanswered=0.0) for _ in range(20))
    exam = next(each for each in drawn if (each.place[0, 1] < COLUMNS / 2) == (site.side == 0))  # not mirrored
    inside = (both["frontal"][0, ..., 1] > 0.99) & (exam.frontal[0, ..., 1] > 0.99)
    for exact, fast in (
        (both["frontal"][..., 0], exam.frontal[..., 0]), (alone["frontal"][..., 0], exam.late[..., 0]),
        (both["dynamic"][..., 0], exam.dynamic[..., 0]), (alone["dynamic"][..., 1], exam.dynamic[..., 1]),
    ):  # fmt: skip
        apart = np.abs(exact - fast)[0][inside]
        assert np.median(apart) < 0.05
        assert np.percentile(apart, 99) < 0.3
    assert both["dynamic"][0, ..., 0][inside].std() > 0.1  # fifths of a degree: the skin does recover


def test_sources_stand_where_they_are_said_to(tiny: Phantoms) -> None:
    """What a source adds is warmest at its place, mirrored or not, and on no exam without one."""
    (bodies,), (sources,) = tiny.bodies, tiny.sources
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thermocancer.locate.training_set.RESIDUAL_NOISE", 0.0)
        strong = replace(sources, per_heat=sources.per_heat * 2)
        sick = draw_exams(bodies, strong, np.random.default_rng(4), 24, sick=1.0, unanswered=1.0)
        healthy = draw_exams(bodies, strong, np.random.default_rng(4), 24, sick=0.0, unanswered=1.0)
    assert not healthy.present.any()
    assert np.abs(healthy.frontal[..., 0]).max() <= 6
    added = (sick.frontal - healthy.frontal)[..., 0]
    distances = []
    for each, place in zip(added, sick.place, strict=True):
        rows, columns = np.nonzero(each >= each.max() - 1e-3)
        distances.append(float(np.hypot(rows + 0.5 - place[0], columns + 0.5 - place[1]).min()))
    assert np.median(distances) < 2.0
    tilted = draw_exams(bodies, sources, np.random.default_rng(4), 200, sick=1.0, tilted=1.0)
    plain = draw_exams(bodies, sources, np.random.default_rng(4), 200, sick=1.0)
    assert tilted.warmth[:, 0].mean() > plain.warmth[:, 0].mean()


# --- posterior and region -----------------------------------------------------


def outputs_at(cells: np.ndarray, depth_bins: np.ndarray, sharpness: float = 9.0) -> Outputs:
    """What a network would say that knows a place and a depth to within its neighbours."""
    n = len(cells)
    place = np.full((n, ROWS * COLUMNS), 0.0, np.float32)
    place[np.arange(n), cells] = sharpness + 4
    kinds = [np.zeros((n, HALF[0] * HALF[1], bins), np.float32) for bins in PARTS]
    kinds[0][np.arange(n), :, depth_bins] = sharpness
    normal = [each - np.log(np.exp(each).sum(axis=-1, keepdims=True)) for each in (place, *kinds)]
    breasts = np.tile([[32.0, 25.0, 16.0], [32.0, 63.0, 16.0]], (n, 1, 1))
    return Outputs(normal[0], normal[1], normal[2], normal[3], np.linspace(-3, 3, n), breasts)


def test_the_region_holds_its_share_in_every_depth_band(tiny: Phantoms) -> None:
    """Calibrated by band on half of the exams, it holds its share of the other half, although the network lies."""
    rng = np.random.default_rng(2)
    n = 1000
    exams = replace(tiny.exams(rng, n, sick=1.0), depth=rng.uniform(11, 50, n))
    jitter = exams.place + rng.normal(0, 2.0, (n, 2))
    wrong_depth = np.clip(np.digitize(exams.depth, DEPTH_EDGES) + rng.integers(-1, 2, n), 0, len(DEPTH_EDGES))
    said = outputs_at(cell_of(jitter), wrong_depth)
    ranks = posteriors.ranks_of_truth(said, exams)
    bands = np.digitize(exams.depth, posteriors.BANDS)
    for band in range(len(posteriors.BANDS) + 1):
        here = np.flatnonzero(bands == band)
        first, second = here[: len(here) // 2], here[len(here) // 2 :]
        threshold = posteriors._quantile(ranks[first], 0.9)
        assert 0.8 <= (ranks[second] <= threshold).mean() <= 0.98


def test_an_answer_says_what_the_network_said() -> None:
    row, column = 20, 70  # left breast, upper outer
    said = outputs_at(np.array([row * COLUMNS + column] * 3), np.array([1, 1, 9]))
    calibration = posteriors.Calibration((0.9,) * 5, 1.0, 0.0, 0.4, 100)
    first, _, last = (posteriors.answer(said, number, calibration) for number in range(3))
    assert (first.row, first.column) == pytest.approx((row + 0.5, column + 0.5), abs=0.3)
    assert first.right < 0.2
    assert max(first.quadrants, key=lambda each: first.quadrants[each]) == "left upper-outer"
    assert 14 <= first.depth.median <= 17 < 36 <= last.depth.median
    assert first.depth.low <= first.depth.median <= first.depth.high
    assert sum(first.quadrants.values()) == pytest.approx(1.0)
    assert (first.locatable, last.locatable) == (False, True)  # by the log-odds alone
    assert first.region[0, row, column]
    assert not first.region[4, row, column]
    assert first.area_cm2 == pytest.approx(first.region.any(axis=0).sum() * CELL_MM**2 / 100)


def test_probabilities_are_calibrated_by_a_line() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(4000) < 0.5
    log_odds = 3.0 * (np.where(truth, 1.0, -1.0) + rng.normal(0, 1.0, 4000)) + 2.0  # true slope 2 / 3
    slope, intercept = posteriors._logistic_line(log_odds, truth)
    assert slope == pytest.approx(2 / 3, abs=0.06)
    assert intercept == pytest.approx(-4 / 3, abs=0.2)


def test_the_curve_is_that_of_the_ideal_observer() -> None:
    from thermocancer.phantom.contrast import Tumour
    from thermocancer.phantom.detectability import Observer
    from thermocancer.phantom.tissue import TISSUES

    found = [solve_footprint(TISSUES["layers-A-skin"], Tumour(0.02, depth, 1e5)) for depth in (0.015, 0.03)]
    warmth = np.array([np.interp(RADII, each.radius, each.steady) for each in found])
    by_hand = [Observer(0.05, 1, 1.0).auc(each) for each in found]
    assert posteriors.observers_auc(warmth) == pytest.approx(by_hand, abs=0.01)
    assert by_hand[0] > LocateSection().below_curve > by_hand[1]


def test_the_inversion_finds_a_plain_warm_spot(tiny: Phantoms) -> None:
    inversion = Inversion.of(tiny, 0, 300)
    frontal = np.zeros((ROWS, COLUMNS, 2), np.float32)
    frontal[..., 1] = 1.0
    row, column = np.unravel_index(int(inversion.prior.argmax()), inversion.prior.shape)
    down, across = np.arange(ROWS)[:, None] - row, np.arange(COLUMNS)[None] - column
    frontal[..., 0] = 2.0 * np.exp(-(down**2 + across**2) / 18.0)
    joint, evidence = inversion.posterior(frontal)
    assert joint.sum() == pytest.approx(1.0)
    assert float(evidence) > 0
    found = posteriors.point(joint.sum(axis=0))
    assert found[:2] == pytest.approx((row + 0.5, column + 0.5), abs=1.5)
    assert inversion.hottest(frontal, against_other_side=True) == pytest.approx((row + 0.5, column + 0.5), abs=1.5)
    assert float(inversion.posterior(np.stack([frontal[..., 0] * 0, frontal[..., 1]], -1))[1]) < float(evidence)


# --- the locator, the command, the kind ---------------------------------------


def test_a_locator_is_made_once_and_read_again(workspace: Workspace, tiny: Phantoms) -> None:
    config, notes = config_for(workspace, **TINY), Silent()
    first = make_locator(config, workspace, notes)
    assert not notes.notes  # it stands: nothing is made
    exams = tiny.exams(np.random.default_rng(0), 6)
    inputs = inputs_of(exams)
    inputs["oblique"][:3] = 0.0
    inputs["dynamic"][:4] = 0.0
    found = first.posteriors(inputs)
    again = make_locator(config, workspace, notes).posteriors(inputs)
    assert [each.probability for each in found] == pytest.approx([each.probability for each in again])
    assert all(each.place.sum() == pytest.approx(1.0, abs=1e-4) and each.region.shape[0] == 5 for each in found)
    with pytest.raises(DataError, match="no frontal view"):
        shown({"Left45": np.zeros((120, 160))})


def test_the_command_answers_in_json_and_on_a_page(workspace: Workspace, tmp_path: Path) -> None:
    settings = SimulateSection(patients=1, sick_fraction=1.0, shape=(120, 160), second_visits=0.0, missing_frames=0.0)
    (visit,) = draw_cohort(settings, 5)
    scene = make_scene(settings, 5, visit)
    folder = tmp_path / "exams"
    for name, views in (("1_1", ("Frontal", "Right45")), ("2_1", ("Left45",))):
        (folder / name).mkdir(parents=True)
        for view in views:
            matrix = Picture(scene, view, dynamic=False).static()
            matrix.temperatures[:12, :32] = 0  # a corner that somebody blanked: 2 % of the pixels
            (folder / name / f"{view}.txt").write_bytes(format_matrix(matrix.temperatures, matrix.layout))
    (folder / "2_1" / "Frontal.txt").write_bytes(b"no matrix")
    (folder / "3_1").mkdir()
    camera = Picture(scene, "Frontal", dynamic=True)
    for number in range(20):
        matrix = camera.frame(number, number)
        path = folder / "3_1" / f"T0003.1.1.D.2015-01-01.{number:02d}.txt"
        path.write_bytes(format_matrix(matrix.temperatures, matrix.layout))
    sets = [
        part for name, value in TINY.items() for part in ("--set", f"{name.replace('__', '.')}={json.dumps(value)}")
    ]
    common = [str(folder), "-w", str(workspace.root), "--set", "strategy.kind=cpu", *sets]
    answer = tmp_path / "answer.json"
    result = CliRunner().invoke(register(), ["locate", *common, "--json", str(answer)])
    assert result.exit_code == 5, result.output  # one of the two exams has no frontal view
    said = json.loads(answer.read_text())["figures"]
    located, refused, recovered = said["exams"]
    assert recovered["frames"] == 20
    assert recovered["views"] == ["Frontal"]
    assert located["frames"] == 0
    assert refused["status"] == "refused"
    assert "frontal" in refused["reason"]
    assert "Frontal.txt: " in refused["reason"]  # and why the file that says so is none
    assert "2.0% of the frontal view's pixels hold no temperature" in located["words"]
    assert "no temperature" not in recovered["words"]
    assert located["views"] == ["Frontal", "Right45"]
    assert 0 <= located["probability"] <= 1
    assert located["words"].startswith(("If there is a source", "Not locatable: if there is a source"))
    assert "no person" in said["learnt_from"]
    assert "not a substitute" in said["notice"]
    page = tmp_path / "page.html"
    CliRunner().invoke(register(), ["locate", *common, "--html", str(page)])
    html = page.read_text()
    assert "Research use only" in html
    assert located["words"].split(";")[0] in html
    assert "data:image" in html


def test_what_cannot_be_read_is_said_before_anything_is_made(tmp_path: Path) -> None:
    """No network is made for a workspace without exams, the name of a run that is not there, or oblique views alone."""
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "Left45.txt").write_bytes(
        format_matrix(np.random.default_rng(0).integers(2500, 3500, (120, 160), np.uint16), "space2")
    )
    for arguments in ([], ["nothere"], [str(tmp_path / "no" / "folder")], [str(tmp_path / "exam")]):
        result = CliRunner().invoke(register(), ["locate", *arguments, "-w", str(tmp_path)])
        assert result.exit_code == DataError.exit_code, result.output
        assert not (tmp_path / "cache").exists()


def test_the_kind_learns_no_label(workspace: Workspace, tmp_path: Path) -> None:
    """Other labels, the same scores; saved, the same again."""
    source, config = cohort(6), config_for(workspace, **TINY)
    recipe = make_classifier(config, workspace, name="physics", views=("Frontal",))
    rows = np.arange(6)
    scores = [
        recipe.fit(source, rows, np.array(labels), seed=1, fold="1.1").scores(source, rows)
        for labels in ([0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 1, 0])
    ]
    assert np.array_equal(scores[0], scores[1])
    assert ((scores[0] >= 0) & (scores[0] <= 1)).all()
    recipe.fit(source, rows, rows % 2, seed=1, fold="1.1").save(tmp_path / "not there yet")
    loaded = load_fitted(tmp_path / "not there yet", workspace)
    assert loaded.scores(source, rows) == pytest.approx(scores[0])
    assert loaded.threshold == 0.5
