"""Volumes as images: NIfTI, DICOM series and tables, patients left out in turn, and what is not taken."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_fixtures import draw_slice, tiny_config
from test_image_folder import write_dicom

from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import ImageFolder, read_image_folder
from thermocancer.data.series import Drawing, dicom_series, open_dicoms
from thermocancer.data.split import shared_between
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.prediction.of_images import slices_interval
from thermocancer.evaluation.report.page import GENERAL_NOTICE
from thermocancer.files import HashIndex
from thermocancer.progress import Silent
from thermocancer.runs.run import read_run
from thermocancer.stages import evaluate, predict, train_cnn
from thermocancer.workspace import Workspace

nibabel = pytest.importorskip("nibabel", reason="pip install 'thermocancer[nifti]'")
DEPTH = 9


def volume(seed: int, vessels: bool, gain: float = 1.0) -> np.ndarray:
    """(slices, rows, columns) float32 of ``draw_slice``, on a scanner's own scale."""
    slices = [draw_slice(100 * seed + place, vessels, 24) for place in range(DEPTH)]
    return np.stack(slices).astype(np.float32) * gain


def write_nifti(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Slices (slices, rows, columns) as an axial volume: columns to the right, rows to the back, slices upwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = voxels[:, ::-1].transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(turned, np.diag([1.0, 1.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


def write_series(folder: Path, voxels: np.ndarray, uid: str, patient: str = "", **tags: object) -> None:
    """DICOM files of one series, named so that their names are in another order than their places."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, values in enumerate(voxels.astype(np.uint16)):
        position = {"ImagePositionPatient": [0, 0, 3.0 * place], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        known: dict[str, Any] = {"SeriesInstanceUID": uid, "PatientID": patient, "PixelSpacing": [1.0, 1.0]}
        write_dicom(folder / f"IM{(place * 5) % len(voxels):03d}", values, **(position | known | tags))


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """Three patients, each before (gzipped) and after contrast, without Train and Test."""
    for number in range(3):
        write_nifti(tmp_path / f"in/Pre/sub-{number}_T1w.nii.gz", volume(number, False))
        write_nifti(tmp_path / f"in/Post/sub-{number}_ce-gad_T1w.nii", volume(number + 50, True, 3.0))
    return tmp_path / "in"


def read(data: Path, **options: Any) -> ImageFolder:
    return read_image_folder(data, parts=False, **{"drawing": Drawing(4), **options})


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "count", "share", "places"),
    [(9, 3, 1.0, [0, 4, 8]), (9, 3, 0.5, [2, 4, 6]), (9, 1, 0.6, [4]), (3, 40, 1.0, [0, 1, 2])],
)
def test_slices_lie_at_even_steps_in_the_centre(depth: int, count: int, share: float, places: list[int]) -> None:
    assert Drawing(count, share).places(depth) == places


def test_a_volume_is_turned_to_its_axes_and_scaled_as_a_whole(tmp_path: Path) -> None:
    voxels = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2) * 10
    flipped = np.diag([-1.0, 1.0, -3.0, 1.0])
    turned = voxels[::-1, :, ::-1]  # stored from right to left and from head to foot
    write_nifti(tmp_path / "Pre/a.nii", turned, flipped)
    write_nifti(tmp_path / "Post/a.nii", turned**2, flipped)
    folder = read(tmp_path, drawing=Drawing(4, 1.0, (0, 100)), positive="Post")
    series = folder.series["Pre/a.nii"]
    assert (series.depth, series.shape, series.spacing) == (4, (3, 2), (3.0, 1.0, 1.0))
    grey = np.stack(series.slices([0, 1, 2, 3], Drawing(percentiles=(0, 100))))
    np.testing.assert_array_equal(grey, np.rint(voxels / 230 * 255))


def test_dicom_files_are_put_in_the_order_of_their_places(tmp_path: Path) -> None:
    own = volume(1, True)
    write_series(tmp_path / "Post/anna", own, "1.2.1", "A", Manufacturer="Maker")
    write_series(tmp_path / "Pre/anna", volume(2, False), "1.2.2", "A")
    folder = read(tmp_path)
    assert {image.series for image in folder.images} == {"Pre/anna", "Post/anna"}
    assert (folder.grouped, {image.group for image in folder.images}) == (True, {"A"})
    series = folder.series["Post/anna"]
    assert (series.depth, series.spacing, dict(series.scanner)["Manufacturer"]) == (DEPTH, (3.0, 1.0, 1.0), "Maker")
    grey = np.stack(series.slices(range(DEPTH), Drawing(percentiles=(0, 100)))).astype(float)
    np.testing.assert_allclose(grey, (own - own.min()) / np.ptp(own) * 255, atol=0.51)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"ImagePositionPatient": [0, 0, 1.0]}, "two slices in one place"),
        ({"ImageOrientationPatient": None}, "without places"),
    ],
)
def test_a_series_that_is_no_volume_is_listed(tmp_path: Path, tags: dict[str, Any], said: str) -> None:
    for number, (label, name) in enumerate((label, name) for label, name in ((0, "Pre"), (1, "Post")) for _ in "ab"):
        write_series(tmp_path / name / f"s{number}", volume(number, bool(label)), f"1.2.{number}", f"P{number}")
    write_series(tmp_path / "Pre/wrong", volume(9, False), "1.2.9", "P9", **tags)
    (failure,) = read(tmp_path).rejected
    assert failure.item == "Pre/wrong"
    assert said in failure.reason
    with pytest.raises(DataError, match=said):
        open_dicoms(tuple(dicom_series(sorted((tmp_path / "Pre/wrong").iterdir()))["1.2.9"]), lambda path: "")


def test_a_damaged_volume_and_a_copy_are_listed_once(paired: Path, tmp_path: Path) -> None:
    (paired / "Pre/sub-7_T1w.nii.gz").write_bytes((paired / "Pre/sub-0_T1w.nii.gz").read_bytes()[:300])
    shutil.copy(paired / "Pre/sub-1_T1w.nii.gz", paired / "Pre/sub-1_again.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.float32), np.eye(4)), paired / "Pre/sub-8_bold.nii")
    index = HashIndex(tmp_path / "hashes.json")
    for _ in range(2):  # read, and remembered
        rejected = {each.item: each.reason for each in read(paired, index=index).rejected}
        assert rejected.keys() == {"Pre/sub-7_T1w.nii.gz", "Pre/sub-1_again.nii.gz", "Pre/sub-8_bold.nii"}
        assert "cannot be read" in rejected["Pre/sub-7_T1w.nii.gz"]
        assert "a copy of" in rejected["Pre/sub-1_again.nii.gz"]
        assert "4 x 4 x 4 x 3" in rejected["Pre/sub-8_bold.nii"]


def test_a_table_names_patients_and_scanners(paired: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "patient", "scanner"])
        for path in sorted(paired.rglob("*.nii*")):
            own = path.name.split("_")[0]
            writer.writerow([path.relative_to(tmp_path), path.parent.name, f"case {own}", f"scanner {own}"])
    folder, plain = read(table), read(paired)
    assert (folder.classes, folder.grouped, len(folder.images)) == (("Pre", "Post"), True, len(plain.images))
    assert [image.sha256 for image in folder.images] == [image.sha256 for image in plain.images]
    assert folder.columns["in/Pre/sub-0_T1w.nii.gz"] == {"scanner": "scanner sub-0"}
    table.write_text("path,patient\nin/Pre/sub-0_T1w.nii.gz,1\n")
    with pytest.raises(DataError, match=r"lacks a column[\s\S]*path,label"):
        read(table)


def test_who_is_left_out_must_be_known(tmp_path: Path) -> None:
    for number in range(3):
        write_nifti(tmp_path / f"Pre/a{number}.nii", volume(number, False))
        write_nifti(tmp_path / f"Post/a{number}.nii", volume(number + 50, True))
    with pytest.raises(ConfigError, match="need to know the patients"):
        read(tmp_path).folds("leave-one-patient-out", 5, 0)
    grouped = read(tmp_path, group=r"^(a\d)").folds("grouped", 2, 0)
    assert sorted(row for fold in grouped for row in fold.test.tolist()) == list(range(24))
    with pytest.raises(DataError, match=r"has no Train[\s\S]*leave-one-patient-out"):
        read_image_folder(tmp_path)


# --- a run ------------------------------------------------------------------------------------------------------------


def test_patients_with_both_labels_are_left_out_in_turn(paired: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    options = {"cnn__folds": "leave-one-patient-out", "cnn__slices": 4, "cnn__size": [24, 24], "cnn__epochs": 4}
    quick = {"evaluate__bootstrap": 50, "evaluate__audit_image_epochs": 1, "evaluate__audit_permutations": 2}
    config = tiny_config(workspace, paired, **options, **quick)
    assert train_cnn.plan(config, workspace).todo
    report = train_cnn.run(config, workspace, Silent())
    assert (report.made, report.failed) == (1, [])
    run = read_run(workspace, "cnn")
    assert run.manifest.leaks == ()
    assert set(run.manifest.thresholds or {}) == {"1.1", "1.2", "1.3"}
    folder = ImageCohort.of(config.cnn, workspace.cache, HashIndex(workspace.cache / "h.json")).folder
    for fold in folder.folds("leave-one-patient-out", 5, 0):
        assert shared_between(folder.exams, fold.train, fold.test) == ([], [])
    with (run.folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 2 * 4
    assert all(row["file"].split("/")[0] == ("Pre", "Post")[int(row["label"])] for row in rows)
    with (run.folder / "series.csv").open(newline="") as stream:
        series = {row["series"]: row for row in csv.DictReader(stream)}
    assert len(series) == 6
    for name, each in series.items():
        own = [float(row["score"]) for row in rows if row["file"].startswith(f"{name}#")]
        assert float(each["score"]) == pytest.approx(np.mean(own))
        assert each["slices"] == "4"
    with (run.folder / "patients.csv").open(newline="") as stream:
        patients = list(csv.DictReader(stream))
    assert [row["patient"] for row in patients] == ["all", "1", "2", "3"]
    assert all(0 <= float(row["low"]) <= float(row["auc"]) <= float(row["high"]) <= 1 for row in patients)
    kept = json.loads((run.model_folder / "classifier.json").read_text())
    assert (run.model_folder / "model.keras").is_file(), "one more, fitted on every patient"
    assert kept["thresholds"] == [run.manifest.threshold], "one seed decides by the median of the folds"
    assert train_cnn.run(config, workspace, Silent()).current == 1
    assert evaluate.run(config, workspace, Silent()).made == 1
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert (metrics["n"], metrics["unit"]) == (6, "series"), "where a patient has both"
    audit = json.loads((run.folder / "audit.json").read_text())
    assert all(check["passed"] for check in audit["leak_checks"]), audit["leak_checks"]
    assert {"file_bytes", "mean_grey", "permuted", "untrained", "brightness"} <= {c["name"] for c in audit["controls"]}
    (pairs,) = audit["matched"]
    assert (pairs["title"], pairs["pairs"], pairs["sick"], pairs["healthy"]) == ("pairs within a patient", 3, 3, 3)
    of_pre = [float(series[f"Pre/sub-{n}_T1w.nii.gz"]["score"]) for n in range(3)]
    of_post = [float(series[f"Post/sub-{n}_ce-gad_T1w.nii"]["score"]) for n in range(3)]
    right = sum(post > pre for pre, post in zip(of_pre, of_post, strict=True))
    assert pairs["auc"]["value"] == pytest.approx(right / 3)
    page = re.sub(
        r"<style>.*?</style>|<pre>.*?</pre>|data:image/png;base64,[^\"]*",
        "",
        (run.folder / "report.html").read_text(),
        flags=re.S,
    )
    assert "6 series of 3 patients" in page
    words = re.sub(r"<[^>]*>", " ", page)
    assert not re.search(r"mammogra|breast|thermogra|first visit|left or right|\bexams?\b|\bsick|healthy", words, re.I)


# --- new series -------------------------------------------------------------------------------------------------------


def test_new_series_are_scored_by_their_slices(paired: Path, tmp_path: Path) -> None:
    """NIfTI beside a DICOM series beside a slice; what was in training is said, and the entity of BIDS suggested."""
    workspace = Workspace(tmp_path / "w")
    options = {"cnn__folds": "leave-one-patient-out", "cnn__slices": 4, "cnn__size": [24, 24], "cnn__epochs": 12}
    config = tiny_config(workspace, paired, **options)
    train_cnn.run(config, workspace, Silent())
    new = tmp_path / "new"
    write_nifti(new / "sub-9_T1w.nii.gz", volume(9, False))
    write_nifti(new / "sub-2_run-2_T1w.nii", volume(70, True, 5.0))
    write_series(new / "scan", volume(60, True, 2.0), "1.2.3", patient="77")
    shutil.copy(paired / "Post/sub-1_ce-gad_T1w.nii", new / "again.nii")
    (new / "cut.nii").write_bytes(b"\x5c\x01\0\0" + b"\0" * 100)
    asked = config.model_copy(
        update={"evaluate": config.evaluate.model_copy(update={"run": "cnn", "exam": (str(new),), "page": None})}
    )
    assert sorted(predict.plan(asked, workspace).todo) == [
        f"score series {name}" for name in ("again.nii", "cut.nii", "scan", "sub-2_run-2_T1w.nii", "sub-9_T1w.nii.gz")
    ]
    report = predict.run(asked, workspace, Silent())
    assert [each.item for each in report.failed] == ["cut.nii"]
    found = {each["exam"]: each for each in report.figures["exams"] if each["status"] != "refused"}
    assert set(found) == {"again.nii", "scan", "sub-2_run-2_T1w.nii", "sub-9_T1w.nii.gz"}
    for each in found.values():
        assert each["interval"]["low"] <= each["score"] <= each["interval"]["high"]
        said = each["decision"]
        assert each["bids_ce"] == ("n/a" if said is None else "ce-gadolinium" if said.endswith("Post") else "")
        assert (each["decision"] is None) == (each["status"] == "abstained") == bool(each["reason"])
    met = {name: each["in_training"]["status"] for name, each in found.items()}
    assert met == {"again.nii": "exam", "scan": "no", "sub-2_run-2_T1w.nii": "patient", "sub-9_T1w.nii.gz": "no"}
    assert report.figures["notice"] == GENERAL_NOTICE
    page = re.sub(r"data:image/png;base64,[^\"]*", "", (workspace.root / "predict/cnn/new.html").read_text())
    assert GENERAL_NOTICE in page
    assert not re.search(r"mammogra|thermogra|breast|\bexams?\b(?!-)|sick|healthy", re.sub(r"<[^>]*>", " ", page), re.I)
    assert "5 series" in page
    table = (workspace.root / "predict/cnn/new.csv").read_text().splitlines()
    assert table[0].endswith(",bids_ce")
    assert len(table) == 6
    # the score is the mean of what the kept network says of each slice, the same as of the training series by file
    alone = predict.run(
        asked.model_copy(update={"evaluate": asked.evaluate.model_copy(update={"exam": (str(new / "scan"),)})}),
        workspace, Silent(),
    )  # fmt: skip
    assert alone.figures["exams"][0]["score"] == pytest.approx(found["scan"]["score"])


@pytest.mark.parametrize(
    ("scores", "threshold", "status"),
    [([0.9, 0.8, 0.95], 0.5, "scored"), ([0.9, 0.1, 0.8, 0.3], 0.5, "abstained"), ([0.1, 0.2, 0.1], 0.5, "scored")],
)
def test_a_series_whose_slices_do_not_agree_is_not_decided(scores: list[float], threshold: float, status: str) -> None:
    found = slices_interval(np.array(scores))
    assert (found["low"] <= threshold <= found["high"]) == (status == "abstained")
    assert "not how far the run errs" in found["method"]
