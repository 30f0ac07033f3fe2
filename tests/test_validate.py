"""``validate``: a frozen run travels to patients of its own kind, and copies and strangers are noticed."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from evaluation_fixtures import pixels_config, toy_rows, toy_source, write_dataset

from thermocancer.classifiers.making import make_classifier as fuse_classifier
from thermocancer.config import Config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.cohort import ArrayCohort, CentiCelsius, Exam, degrees
from thermocancer.data.split import make_split
from thermocancer.data.store.reading import StoredCohort
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.external import as_stored, net_benefit, told, verdict_of_travel, weighted_sum
from thermocancer.evaluation.prediction.scoring import LoadedRun
from thermocancer.evaluation.report.page import with_interval
from thermocancer.evaluation.statistics.intervals import Estimate, folded_auc, wilson
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.runs.predictions import Prediction
from thermocancer.stages import build_dataset, fuse, import_folder, validate
from thermocancer.stages import filter as filter_stage
from thermocancer.workspace import Workspace

STAGES = {"import": import_folder, "filter": filter_stage, "build-dataset": build_dataset}


def one(stage: str, config: Config, workspace: Workspace) -> StageReport:
    return STAGES[stage].run(config, workspace, Silent())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("home"))
    source = toy_source(toy_rows(150, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(workspace)
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    return workspace


def judged(home: Workspace, other: Workspace) -> Json:
    options = {"evaluate.run": "pixels", "evaluate.elsewhere": str(other.root), "evaluate.bootstrap": 100}
    report = validate.run(pixels_config(home, **options), home, Silent(), one)
    assert all(Path(each).is_file() for each in report.outputs)
    found: Json = report.figures["validation"]
    return found


def collection(folder: Path, *, seed: int, change: str = "", patients: int = 80) -> Workspace:
    workspace, source = Workspace(folder), toy_source(toy_rows(patients, repeats=1, seed=seed), seed=seed)
    matrices: CentiCelsius = np.asarray(source.matrices["Frontal"], dtype=np.uint16)
    measured = source.measured
    if change == "no spots":
        matrices = matrices[::-1].copy()  # whose picture it is has nothing to do with the label
    elif change == "warm room":
        matrices = matrices + 200
        measured = {**measured, "room_celsius": measured["room_celsius"] + 2}
    write_dataset(workspace, ArrayCohort(source.exams, {"Frontal": matrices}, measured=measured))
    return workspace


def test_it_travels_to_patients_of_its_own_kind(home: Workspace, tmp_path: Path) -> None:
    found = judged(home, collection(tmp_path / "same", seed=5, patients=300))
    margin = f"lose less than {found['margin']:.2f}; that margin is this program's"
    assert any(margin in sentence for sentence in found["verdict"]["sentences"])
    assert found["verdict"]["headline"].startswith("It travels.")
    kept = json.loads((home.root / "runs" / "pixels" / "manifest.json").read_text())["thresholds"]
    assert found["threshold"] == statistics.median(kept.values())
    assert found["shared"]["same_content"] == []
    assert found["recalibration"]["taught"] + found["recalibration"]["scored"] == found["units"]
    said = {each["item"]: each["said"] for each in found["items"]}
    assert f"{found['units']} units" in said["20a participants"]
    assert f"{found['metrics']['auc']['value']:.3f}" in said["23a model performance"]
    assert "intercept" in said["24 model updating"]


def test_a_model_that_sees_nothing_there_does_not_travel(home: Workspace, tmp_path: Path) -> None:
    found = judged(home, collection(tmp_path / "shuffled", seed=6, change="no spots"))
    assert found["metrics"]["auc"]["low"] < 0.5
    assert found["verdict"]["tone"] in ("bad", "open")
    assert "It travels." not in found["verdict"]["headline"]


def test_its_own_exams_are_no_external_collection(home: Workspace) -> None:
    found = judged(home, home)
    assert "no external collection" in found["verdict"]["headline"]
    assert len(found["shared"]["same_content"]) >= found["scored"]


def test_another_room_tells_the_collections_apart(home: Workspace, tmp_path: Path) -> None:
    found = judged(home, collection(tmp_path / "warm", seed=7, change="warm room"))
    by = {each["title"]: each["auc"]["low"] for each in found["apart"]}
    assert by["background temperature"] > 0.8
    assert found["abstained"] > 0
    assert f"abstain on {found['abstained']} of {found['scored']} exams" in found["verdict"]["headline"]
    assert found["verdict"]["headline"] in told(found)
    assert any("told apart" in each for each in found["verdict"]["sentences"])


def test_a_workspace_without_a_data_set_says_what_to_type(home: Workspace, tmp_path: Path) -> None:
    Workspace(tmp_path).mark_version()
    with pytest.raises(DataError, match="no data set") as caught:
        judged(home, Workspace(tmp_path))
    assert "import" in str(caught.value.hint)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matrices as somebody keeps them, with a table of labels."""
    found = tmp_path_factory.mktemp("theirs")
    source = toy_source(toy_rows(40, repeats=1, seed=8), seed=8)
    lines = ["id,diagnosis"]
    for number, exam in enumerate(source.exams):
        if exam.visit == 1:
            np.savetxt(found / f"p{exam.patient}.txt", source.matrices["Frontal"][number] / 100, fmt="%.2f")
            lines.append(f"p{exam.patient},{'sick' if exam.label else 'healthy'}")
    (found / "labels.csv").write_text("\n".join(lines))
    return found


def in_folder(home: Workspace, folder: Path, **options: object) -> Config:
    asked = {"evaluate.run": "pixels", "evaluate.elsewhere": str(folder), "evaluate.bootstrap": 100,
             "import.labels": str(folder / "labels.csv"), "import.view": "Frontal"}  # fmt: skip
    return pixels_config(home, **asked | options)


def test_a_folder_is_judged_as_the_workspace_that_import_makes_of_it(
    home: Workspace, folder: Path, tmp_path: Path
) -> None:
    config, before = in_folder(home, folder), sorted(folder.iterdir())
    assert any("read as import" in each for each in validate.plan(config, home).todo)
    report = validate.run(config, home, Silent(), one)
    assert any("workspace that is removed" in each for each in report.notes)
    assert "exam date" not in {each["title"] for each in report.figures["validation"]["apart"]}  # unknown there
    assert sorted(folder.iterdir()) == before
    other = Workspace(tmp_path / "made")
    asked = pixels_config(other, **{"import.folder": str(folder), "import.labels": str(folder / "labels.csv"),
                                    "import.view": "Frontal"})  # fmt: skip
    assert report.figures["validation"]["read_as"] == import_folder.plan(asked, other).figures["read_as"]
    for stage in STAGES:
        one(stage, asked, other)
    shared = ("metrics", "found", "scored", "calibration", "apart", "shared")
    by_hand = judged(home, other)
    assert {each: report.figures["validation"][each] for each in shared} == {each: by_hand[each] for each in shared}


def test_collections_in_folders_of_one_name_are_kept_apart(home: Workspace, tmp_path: Path) -> None:
    for number, place in enumerate(("here", "there")):
        judged(home, collection(tmp_path / place / "clinic", seed=20 + number, patients=40))
    assert len(list((home.root / "validations").glob("pixels-on-clinic-*.json"))) == 2


def test_the_recipe_is_taught_without_each_source_in_turn(home: Workspace) -> None:
    config = pixels_config(home, **{"evaluate.run": "pixels", "evaluate.leave_one_source_out": True,
                                    "evaluate.bootstrap": 100})  # fmt: skip
    with pytest.raises(ConfigError, match="one source"):
        validate.run(config, home, Silent(), one)
    source = toy_source(toy_rows(150, repeats=1))
    cohorts = {exam.patient: "north" if exam.patient % 3 else "south" for exam in source.exams}
    records = [
        Record(path=f"{exam.key}.txt", patient=exam.patient, visit=exam.visit, protocol="S", view="Frontal",
               date=None, index=1,
               label=("healthy", "sick")[exam.label], source="import", extra={"cohort": cohorts[exam.patient]})
        for exam in source.exams
    ]  # fmt: skip
    write_catalog(home, records)
    try:
        found = validate.run(config, home, Silent(), one).figures["validation"]
    finally:
        home.catalog.unlink()
    assert [each["source"] for each in found["sources"]] == ["north", "south"]
    south = np.array([row for row, exam in enumerate(source.exams) if cohorts[exam.patient] == "south"])
    north = np.setdiff1d(np.arange(len(source.exams)), south)
    machine = fuse_classifier(config, home)
    labels = np.array([exam.label for exam in source.exams])
    with StoredCohort(home.dataset("cohort")) as cohort:
        scores = machine.fit(cohort, north, labels[north], seed=config.seed, fold="test").scores(cohort, south)
    rows = [Prediction(source.exams[at].patient, source.exams[at].visit, "test", int(labels[at]), float(score), 0)
            for at, score in zip(south, scores, strict=True)]  # fmt: skip
    assert found["sources"][1]["metrics"]["auc"]["value"] == pytest.approx(folded_auc(gather_units(rows)).value)
    assert found["sources"][1]["taught"] == len(north)
    assert found["verdict"]["tone"] in ("good", "open"), found["verdict"]


def test_at_another_size_the_pixels_without_a_temperature_stay_missing() -> None:
    exams = tuple(Exam(number, 1, number % 2) for number in range(2))
    mask = np.zeros((2, 24, 32), bool)
    mask[1, :8, :16] = True
    other = ArrayCohort(exams, {"Frontal": np.full((2, 24, 32), 3000, np.uint16)}, masked={"Frontal": mask})
    loaded = cast(LoadedRun, SimpleNamespace(views=("Frontal",), shape=(12, 16)))
    seen, rows, refused = as_stored(loaded, other)
    assert (rows.tolist(), refused) == ([0, 1], [])
    assert np.array_equal(np.isnan(degrees(seen, "Frontal", rows)), mask[:, ::2, ::2])


def test_net_benefit_is_that_of_counts() -> None:
    sick, healthy, hits, alarms = 40, 60, 30, 12
    shares = Estimate(hits / sick, 0.6, 0.86, ""), Estimate(1 - alarms / healthy, 0.68, 0.88, "")
    found = net_benefit(*shares, [0.4])[2]
    assert found["value"] == pytest.approx((hits - alarms * (0.1 / 0.9)) / 100)
    assert found["low"] < found["value"] < found["high"]


def test_the_difference_of_two_collections_knows_that_home_is_uncertain_too() -> None:
    """Newcombe's interval of a difference of independent shares (1998, Stat Med 17:873), method 10, his example (a):
    56 of 70 and 48 of 80 are .0524 to .3339 apart.
    """
    found = weighted_sum([1, -1], [wilson(56, 70), wilson(48, 80)])
    assert found is not None
    assert [found["low"], found["high"]] == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert weighted_sum([1, -1], [wilson(56, 70), Estimate(None, None, None, "")]) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "words"),
    [(0.9, 0.85, 0.95, "It travels."), (0.6, 0.5, 0.7, "It does not"), (0.85, 0.5, 0.97, "cannot be told")],
)
@pytest.mark.parametrize(
    ("abstained", "answered", "said"),
    [
        (0, 0.71, ""),
        (12, 0.71, ", without them 0.710 (0.600 to 0.800)."),
        (48, None, "none without them (2 exams left)"),
    ],
)
def test_verdicts(
    value: float, low: float, high: float, words: str, abstained: int, answered: float | None, said: str
) -> None:
    share = {"value": 0.8, "low": 0.7, "high": 0.9}
    document: Json = {
        "metrics": {"auc": {"value": value, "low": low, "high": high}, "sensitivity": share, "specificity": share},
        "internal_auc": {"value": 0.9, "low": 0.8, "high": 0.95}, "shared": {}, "units": 50, "positives": 20,
        "difference": weighted_sum([1, -1], [Estimate(value, low, high, ""), Estimate(0.9, 0.85, 0.95, "")]),
        "threshold": 0.5, "calibration": {"in_the_large": None, "slope": None}, "apart": [], "scored": 50,
        "abstained": abstained, "answered_auc": answered and {"value": answered, "low": 0.6, "high": 0.8},
    }  # fmt: skip
    headline = verdict_of_travel(document)["headline"]
    assert words in headline
    assert said in headline
    assert ("abstain" in headline) == (abstained > 0)
    assert (f"with them {with_interval(document['metrics']['auc'])}" in headline) == (abstained > 0)
