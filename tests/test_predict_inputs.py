"""``predict`` takes what ``import`` takes, and says whom it knows, what it is worth and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from dataset_fixtures import make_raw
from evaluation_fixtures import pixels_config, toy_matrix, toy_rows, toy_source, write_dataset, write_run
from sequence_fixtures import rewarming, tiny_config
from typer.testing import CliRunner

import thermocancer as tc
from thermocancer.classifiers.making import load_fitted
from thermocancer.cli import register
from thermocancer.data.split import make_split
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.prediction.worth import worth_of
from thermocancer.files import read_json
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.runs.run import read_run
from thermocancer.stages import build_dataset, convert, export, fuse, predict, train_dit
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace


def trained(root: Path, *, patients: int = 24, mixed_up: bool = False) -> Workspace:
    """A run ``pixels`` on toy exams; ``mixed_up``: hot spots are dealt out without regard to the label."""
    workspace, source = Workspace(root), toy_source(toy_rows(patients, repeats=1), seed=int(mixed_up))
    if mixed_up:
        order = np.random.default_rng(5).permutation(len(source.exams))
        source.matrices["Frontal"][:] = source.matrices["Frontal"][order].copy()
    write_dataset(workspace, source)
    config = pixels_config(workspace)
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return trained(tmp_path_factory.mktemp("trained"))


def ask(workspace: Workspace, *paths: Path, run: str = "pixels", page: str = "", **options: Any) -> StageReport:
    asked = {"evaluate.exam": [str(each) for each in paths], "evaluate.run": run, "evaluate.page": page}
    given = {key.replace("__", "."): value for key, value in options.items()}
    return predict.run(pixels_config(workspace, **{**asked, **given}), workspace, Silent())


def answers(report: StageReport) -> dict[str, dict[str, Any]]:
    return {each["exam"]: each for each in report.figures["exams"]}


def new(seed: int = 3, *, sick: bool = True) -> np.ndarray:
    return toy_matrix(np.random.default_rng(seed), sick=sick, room=21.0)


# what is taken


def as_npy(path: Path, centi: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), centi / 100.0)
    return path.with_suffix(".npy")


def as_tiff(path: Path, centi: np.ndarray) -> Path:
    cv2.imwrite(str(path.with_suffix(".tiff")), (centi / 100.0).astype(np.float32))
    return path.with_suffix(".tiff")


def as_camera_csv(path: Path, centi: np.ndarray) -> Path:
    rows = "\n".join(";".join(f"{each / 100:.2f}" for each in row) for row in centi)
    path.with_suffix(".csv").write_text(f"Emissivity;0.98\nDistance;1.0\n{rows}\n")
    return path.with_suffix(".csv")


def in_kelvin(path: Path, centi: np.ndarray) -> Path:
    path.with_suffix(".txt").write_bytes(b"")
    rows = "\n".join(" ".join(f"{each / 100 + 273.15:.2f}" for each in row) for row in centi)
    path.with_suffix(".txt").write_text(rows + "\n")
    return path.with_suffix(".txt")


@pytest.mark.parametrize("write", [as_npy, as_tiff, as_camera_csv, in_kelvin])
def test_every_format_gets_the_score_of_the_same_text(workspace: Workspace, tmp_path: Path, write: Any) -> None:
    (tmp_path / "text.txt").write_bytes(format_matrix(new(), "space2"))
    (plain,) = answers(ask(workspace, tmp_path / "text.txt")).values()
    path = write(tmp_path / "other", new())
    report = ask(workspace, path, **({"import__unit": "K"} if write is in_kelvin else {}))
    (other,) = answers(report).values()
    assert other["score"] == pytest.approx(plain["score"], abs=1e-6)
    assert report.figures["read_as"][0]["files"] == 1
    assert any(note.startswith("unit: ") for note in report.notes)


def test_many_patients_in_one_folder_come_with_an_overview(workspace: Workspace, tmp_path: Path) -> None:
    for patient in (101, 102, 103):
        (tmp_path / f"P{patient}_front.csv").write_bytes(format_matrix(new(patient), "space2"))
        (tmp_path / f"P{patient}_left.csv").write_bytes(format_matrix(new(patient + 50), "space2"))
    report = ask(workspace, tmp_path)
    assert list(answers(report)) == ["101", "102", "103"]
    assert all(row["status"] != "refused" for row in report.figures["overview"])
    assert all({"low", "high", "in_training"} <= row.keys() for row in report.figures["overview"])
    table = (workspace.root / "predict/pixels" / f"{tmp_path.stem}.csv").exists()
    assert not table, "only a page of the workspace has a table beside it"
    ask(workspace, tmp_path, page=None, evaluate__explain=False)  # type: ignore[arg-type]
    rows = (workspace.root / "predict/pixels" / f"{tmp_path.resolve().stem}.csv").read_text().splitlines()
    assert rows[0].startswith("exam,status,score")
    assert len(rows) == 4


def test_words_for_views_and_folders_of_views(workspace: Workspace, tmp_path: Path) -> None:
    for view in ("av", "izq"):
        (tmp_path / view).mkdir()
        for patient in (7, 8):
            (tmp_path / view / f"{patient}.txt").write_bytes(format_matrix(new(patient), "space2"))
    found = answers(ask(workspace, tmp_path, import__view_map=["av=Frontal", "izq=Left"]))
    assert {name: each["views"] for name, each in found.items()} == {"7": ["Frontal", "Left"], "8": ["Frontal", "Left"]}


def test_one_matrix_from_standard_input_and_the_run_as_first_argument(workspace: Workspace) -> None:
    text = format_matrix(new(), "space2")
    command = ["predict", "pixels", "-", "-w", str(workspace.root), "--json", "-"]
    result = CliRunner().invoke(register(), command, input=text)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["figures"]["exams"][0]["status"] in ("scored", "abstained")
    bare = CliRunner().invoke(register(), ["predict", "pixels", "-w", str(workspace.root)])
    assert bare.exit_code == ConfigError.exit_code


def test_a_grey_image_needs_its_range_and_then_is_degrees(workspace: Workspace, tmp_path: Path) -> None:
    grey = np.clip((new() / 100.0 - 18) / 20 * 65535, 0, 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "front.png"), grey)
    with pytest.raises(DataError, match="picture without temperatures"):
        ask(workspace, tmp_path / "front.png")
    (scored,) = answers(ask(workspace, tmp_path, import__range={"low": 18, "high": 38})).values()
    (tmp_path / "text.txt").write_bytes(format_matrix(new(), "space2"))
    (text,) = answers(ask(workspace, tmp_path / "text.txt")).values()
    assert scored["score"] == pytest.approx(text["score"], abs=5e-3)


# the data set's own size, pictures and films


def score_of_store(workspace: Workspace, run: str, part: Any = "static") -> np.ndarray:
    with StoredCohort(workspace.dataset("cohort"), part) as cohort:
        return load_fitted(workspace.run(run) / "model", workspace).scores(cohort, np.arange(2))


@pytest.mark.parametrize("source", ["matrices", "images"])
def test_a_run_on_a_resized_data_set_takes_the_camera_s_size(tmp_path: Path, source: str) -> None:
    workspace = make_raw(tmp_path / "w", patients=range(1, 15))
    config = pixels_config(workspace, **{
        "dataset.size": [24, 32], "dataset.source": source, "filter.dynamic": False, "fuse.baseline": False,
        **({"fuse.model": "svm", "fuse.untrained": True} if source == "images" else {}),
    })  # fmt: skip
    if source == "images":
        convert.run(config, workspace, Silent())
    build_dataset.run(config, workspace, Silent())
    fuse.run(config, workspace, Silent())
    known = score_of_store(workspace, "pixels")
    inside = sorted(workspace.raw.rglob("T0001.*.txt")) + sorted(workspace.raw.rglob("T0002.*.txt"))
    report = ask(workspace, *inside)
    for each, expected in zip(answers(report).values(), known, strict=True):
        assert each["status"] == "scored", each
        assert each["score"] == pytest.approx(expected, abs=1e-5)
        assert each["in_training"]["status"] == "exam"
    if source == "images":  # and the picture itself, which has no temperatures
        pictures = sorted(workspace.images.rglob("T0001.*.jpg"))
        (shown,) = answers(ask(workspace, *pictures)).values()
        assert shown["score"] == pytest.approx(known[0], abs=1e-5)
        assert shown["in_training"]["status"] == "exam"


def test_a_run_from_films_scores_a_film_and_the_frames_behind_it(tmp_path: Path) -> None:
    from dataset_fixtures import add_file

    from thermocancer.data.catalog import write_catalog

    workspace, options = Workspace(tmp_path / "w"), {"dataset__source": "videos", "dit__channels": ["frame"]}
    records = []
    for patient in range(1, 9):
        label = int(patient % 2 == 0)
        for index, frame in enumerate(rewarming(patient, label, frames=6)):
            name = ("healthy", "sick")[label]
            records.append(add_file(workspace, frame, patient, protocol="D", index=index, label=name))
    write_catalog(workspace, records)
    config = tiny_config(
        workspace, filter__frames=6, dit__frames=[0, 5], dit__epochs=1, dataset__static=False, convert__videos=True,
        **options,
    )  # fmt: skip
    for stage in (convert, build_dataset, train_dit):
        stage.run(config, workspace, Silent())
    known = score_of_store(workspace, "dit", DYNAMIC)
    film = next(workspace.videos.rglob("1_1.avi"))
    frames = sorted(path for path in workspace.raw.rglob("T0001.*.D.*.txt"))
    for paths in ([film], frames):
        (said,) = answers(ask(workspace, *paths, run="dit")).values()
        assert said["status"] == "scored", said
        assert said["score"] == pytest.approx(known[0], abs=1e-5)
        assert said["in_training"]["status"] == "exam"
    study = tc.open_workspace(workspace.root)
    of_array = study.run("dit").score(rewarming(1, 0, frames=6) / 100.0)
    assert of_array["score"] == pytest.approx(known[0], abs=1e-5)
    written = export.run(
        tiny_config(workspace, evaluate__run="dit", evaluate__formats=["litert"]), workspace, Silent()
    ).figures["litert"]
    assert isinstance(written, dict)
    assert written["parity"] <= 1e-4
    assert written["exams"] == 8


# who was in training


def test_training_exams_are_known_by_their_content(workspace: Workspace, tmp_path: Path) -> None:
    with StoredCohort(workspace.dataset("cohort")) as cohort:
        centi = cohort.frames("Frontal", np.array([0]))[0, 0]
        patient = cohort.exams[0].patient
    noise = np.random.default_rng(0).integers(-2, 3, centi.shape)
    for name, matrix in {
        "renamed": centi, "again": (centi + noise).astype(np.uint16), "mirrored": centi[:, ::-1], "other": new(),
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "frontal.txt").write_bytes(format_matrix(np.ascontiguousarray(matrix), "space2"))
    (tmp_path / f"T{patient:04d}.3.1.S.2019-05-02.00.txt").write_bytes(format_matrix(new(9), "space2"))
    report = ask(workspace, tmp_path)
    met = {name: each["in_training"]["status"] for name, each in answers(report).items()}
    assert met == {
        "renamed": "exam", "again": "nearly", "mirrored": "nearly", "other": "no", f"{patient}_3": "patient",
    }  # fmt: skip
    assert any("same number as training patient" in note for note in report.notes)


# what the run is worth, and one operating point


def test_a_run_that_is_no_better_than_chance_says_so_above_every_answer(tmp_path: Path) -> None:
    workspace = trained(tmp_path / "w", mixed_up=True)
    (tmp_path / "frontal.txt").write_bytes(format_matrix(new(), "space2"))
    report = ask(workspace, tmp_path / "frontal.txt", page=str(tmp_path / "page.html"))
    worth = worth_of(read_run(workspace, "pixels"), pixels_config(workspace).evaluate, 0)
    assert worth["auc"]["low"] <= 0.5
    assert worth["tone"] in ("caution", "bad")
    assert report.figures["run"] == worth
    assert "chance" in worth["caveat"]
    first = next(place for place, note in enumerate(report.notes) if note.startswith("frontal: score"))
    assert worth["caveat"] in report.notes[:first]
    assert "do not rely on it" in report.notes[first]
    page = (tmp_path / "page.html").read_text()
    assert page.count("o not rely on run pixels") == 2, "at the top, and above the answer"


def test_a_run_better_than_chance_and_than_its_baseline_needs_no_caveat(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    rows = toy_rows(80, strength=3.0)
    for name, baseline in (("sound", toy_rows(80, strength=0.2)), ("idle", rows)):
        write_run(workspace, name, rows, baseline=baseline)
    settings = pixels_config(workspace).evaluate
    assert worth_of(read_run(workspace, "sound"), settings, 0)["caveat"] == ""
    assert "trivial baseline" in worth_of(read_run(workspace, "idle"), settings, 0)["caveat"]


def test_the_operating_point_is_that_of_the_figures(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "frontal.txt").write_bytes(format_matrix(new(), "space2"))
    path = workspace.run("pixels") / "model" / "classifier.json"
    kept = path.read_text()
    path.write_text(json.dumps(json.loads(kept) | {"threshold": 0.01}))  # as versions before kept it
    try:
        (said,) = answers(ask(workspace, tmp_path / "frontal.txt")).values()
    finally:
        path.write_text(kept)
    assert said["threshold"] == read_json(workspace.run("pixels") / "manifest.json")["threshold"]
    assert said["threshold_of_the_kept_model"] == 0.01


@pytest.mark.parametrize(("most", "kept"), [(50_000_000, 3), (1000, 0)])
def test_models_of_folds_are_kept_where_they_are_small(tmp_path: Path, most: int, kept: int) -> None:
    source, workspace = toy_source(toy_rows(20, repeats=1)), Workspace(tmp_path / "w")
    write_dataset(workspace, source)
    config = pixels_config(workspace, **{"fuse.fold_bytes": most})
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    assert len(list((workspace.run("pixels") / "model").glob("folds/*/classifier.json"))) == kept
    assert fuse.run(config, workspace, Silent()).nothing_to_do
    (tmp_path / "frontal.txt").write_bytes(format_matrix(new(), "space2"))
    (said,) = answers(ask(workspace, tmp_path / "frontal.txt")).values()
    assert (said["interval"]["low"] is not None) == bool(kept)


# the page


def test_a_page_of_many_exams_stays_small_and_begins_with_the_overview(workspace: Workspace, tmp_path: Path) -> None:
    for patient in range(201, 245):
        (tmp_path / f"P{patient}_front.txt").write_bytes(format_matrix(new(patient), "space2"))
    page = tmp_path / "page.html"
    ask(workspace, tmp_path, page=str(page))
    text = page.read_text()
    assert page.stat().st_size < 2_000_000
    assert text.count(', occlusion"') == 44
    assert text.index("What the run is worth") < text.index("<h2>Overview") < text.index('id="exam-1"')
    assert text.count('href="#exam-') == 44


# what is wrong, and what to type


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["left.txt"], "missing or unfit: Frontal"),
        (["one/a.txt", "one/b.txt"], "--view or --view-map"),
        (["front_one.txt", "front_two.txt"], "two visits"),
    ],
)
def test_a_refusal_says_what_to_type(workspace: Workspace, tmp_path: Path, names: list[str], said: str) -> None:
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(format_matrix(new(number), "space2"))
    try:
        report = ask(workspace, tmp_path)
        found = json.dumps(report.figures["exams"])
    except DataError as error:
        found = str(error)
    assert said in found


def test_another_size_than_the_data_set_s_is_refused_with_what_to_do(workspace: Workspace, tmp_path: Path) -> None:
    small = toy_matrix(np.random.default_rng(1), sick=True, room=21.0, shape=(24, 32))
    (tmp_path / "frontal.txt").write_bytes(format_matrix(small, "space2"))
    with pytest.raises(DataError, match="build-dataset --size"):
        ask(workspace, tmp_path / "frontal.txt")


def test_a_view_that_does_not_exist_is_a_config_error(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        ask(workspace, tmp_path, import__view="Front")


def test_two_visits_are_two_exams(workspace: Workspace, tmp_path: Path) -> None:
    for day in ("2019-05-02", "2020-06-03"):
        (tmp_path / f"P31_front_{day}.txt").write_bytes(format_matrix(new(int(day[:4])), "space2"))
    assert sorted(answers(ask(workspace, tmp_path))) == ["31 2019-05-02", "31 2020-06-03"]


@pytest.mark.parametrize("fill", ["0.00", "NaN"])
def test_fill_is_background_to_a_run_and_stated(fill: str, workspace: Workspace, tmp_path: Path) -> None:
    centi = new()
    centi[:, :6] = np.median(centi[:, :6])
    lines = [line.split() for line in format_matrix(centi).decode().splitlines()]
    whole, cut = tmp_path / "1_1_Frontal.txt", tmp_path / "2_1_Frontal.txt"
    whole.write_bytes(format_matrix(centi))
    cut.write_text("".join(" ".join([fill] * 6 + line[6:]) + "\n" for line in lines))
    report = ask(workspace, whole, cut, import__view="Frontal")
    first, second = answers(report).values()
    assert second["score"] == pytest.approx(first["score"], abs=0.01)
    (file,) = second["files"]
    assert file["range_celsius"][0] > 18
    assert "9.4% of the pixels hold no temperature" in file["notes"]
    page = ask(workspace, cut, page=str(tmp_path / "page.html"), import__view="Frontal")
    assert page.made == 1
