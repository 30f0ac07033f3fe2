"""The audit of a run of ``train-cnn``: controls that single images allow, and words that agree with the leaks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from evaluation_fixtures import toy_rows, write_run
from image_fixtures import draw_slice, make_slices, tiny_config

from thermocancer.config import load_config
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import read_image_folder
from thermocancer.data.split import Fold
from thermocancer.evaluation.audit.controls import Judge, rows_of
from thermocancer.evaluation.audit.images import (
    ImageRefitting,
    image_controls,
    image_scope,
    open_images,
    permute_by_group,
)
from thermocancer.evaluation.audit.nuisance import nuisance_controls
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.progress import Silent
from thermocancer.runs.run import read_run
from thermocancer.stages import evaluate, train_cnn
from thermocancer.workspace import Workspace

QUICK = {"evaluate__bootstrap": 200, "evaluate__audit_image_epochs": 3, "evaluate__audit_permutations": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_slices(tmp_path_factory.mktemp("audited") / "slices")


@pytest.fixture(scope="module")
def judged(tmp_path_factory, data: Path) -> Workspace:
    """Two runs on the same images, one whose patients are unknown and one grouped by them, both judged."""
    workspace = Workspace(tmp_path_factory.mktemp("audit_of_images"))
    for name, group in (("loose", None), ("grouped", r"^(\w+)_")):
        config = tiny_config(workspace, data, cnn__name=name, cnn__group=group, cnn__epochs=8, **QUICK)
        train_cnn.run(config, workspace, Silent())
    assert evaluate.run(tiny_config(workspace, data, **QUICK), workspace, Silent()).made == 2
    return workspace


def audit_of(workspace: Workspace, name: str) -> dict:
    return json.loads((workspace.run(name) / "audit.json").read_text())


def test_declared_leaks_are_never_called_none(judged: Workspace) -> None:
    folder = judged.run("loose")
    leaks = json.loads((folder / "metrics.json").read_text())["leaks"]
    assert len(leaks) == 1
    for name in ("report.html", "report.json", "audit.json", "model-card.md", "data-set-card.md"):
        text = (folder / name).read_text()
        assert "no leak declared" not in text, name
        assert "none known" not in text, name
    checks = {check["problem"]: check for check in audit_of(judged, "loose")["leak_checks"]}
    declared = checks["leaks declared by the protocol"]
    assert (declared["passed"], declared["found"]) == (False, leaks[0])
    assert "leaks declared by the protocol: validation images" in (folder / "report.html").read_text()
    divided = next(
        item["answer"]
        for item in json.loads((folder / "report.json").read_text())["checklist"]
        if item["item"].startswith("How data were divided")
    )
    assert divided.startswith("holdout, in the folders given, by image; leaks: validation images")
    grouped = {check["problem"]: check for check in audit_of(judged, "grouped")["leak_checks"]}
    assert grouped["leaks declared by the protocol"]["name"] == "no leak declared by the protocol"
    assert all(check["passed"] for check in grouped.values())


def test_what_cannot_be_told_is_not_called_sound(judged: Workspace) -> None:
    checks = {check["name"]: check for check in audit_of(judged, "loose")["leak_checks"]}
    assert checks["no patient on both sides of a fold"]["passed"] is None
    assert "nobody knows whose" in checks["no patient on both sides of a fold"]["found"]
    assert checks["no identical image on both sides of a fold"]["passed"] is True
    assert "not known</span> no patient on both sides" in (judged.run("loose") / "report.html").read_text()
    verdict = json.loads((judged.run("loose") / "report.json").read_text())["verdict"]
    if verdict["sentences"][0].startswith("A result of 99 %"):
        assert "found no patient" not in verdict["sentences"][0]


@pytest.mark.parametrize("name", ["loose", "grouped"])
def test_permuted_labels_twin_and_brightness(judged: Workspace, name: str) -> None:
    audit = audit_of(judged, name)
    controls = {control["name"]: control for control in audit["controls"]}
    own = {name for name, control in controls.items() if control["group"] != "nuisance"}
    assert own == {"permuted", "untrained", "brightness"}
    told = {"name_order", "encoding", "file_bytes", "mean_grey", "grey_spread", "grey_sharpness", "no_breast"}
    assert set(controls) - own == told | ({"group_order"} if name == "grouped" else set()), "all are of one size"
    assert controls["permuted"]["flag"] == "none"
    assert len(audit["permutations"]) == 3
    assert "3 of 8 epochs (evaluate.audit_image_epochs)" in controls["permuted"]["note"]
    assert controls["untrained"]["difference"]["value"] is not None
    assert controls["brightness"]["auc"]["value"] > 0.5
    reasons = {row["name"]: row["reason"] for row in audit["unavailable"]}
    assert "neither degrees" in reasons["torso only, background only, early to late"]
    text = (judged.run(name) / "report.html").read_text()
    assert "untrained twin: random weights, never trained" in text
    assert "nothing is divided again" in text
    assert "The untrained twin (random weights) reaches" in text


def test_the_audit_is_the_same_every_time_and_remembered(judged: Workspace, data: Path) -> None:
    before = (judged.run("loose") / "audit.json").read_bytes()
    kept = sorted((judged.cache / "audit").glob("*.json"))
    assert len(kept) == 2 * (4 + 2) + 1  # four short trainings, twin and brightness of either run; what the files tell
    for path in kept:
        path.unlink()
    (judged.run("loose") / "evaluation.json").unlink()
    evaluate.run(tiny_config(judged, data, evaluate__run="loose", **QUICK), judged, Silent())
    assert (judged.run("loose") / "audit.json").read_bytes() == before


def test_a_network_taught_permuted_labels_follows_them(judged: Workspace, data: Path) -> None:
    """Groups that stand in training and test alike are recognised: the control finds a leak that is there."""
    bench, why = open_bench(judged, "loose")
    assert bench is not None, why
    found = [permute_by_group(bench, number) for number in range(3)]
    for part in (bench.train, bench.validation, bench.test):
        own = bench.images.labels[part]
        assert all(sorted(labels[part]) == sorted(own) for labels in found)
        assert any(not np.array_equal(labels[part], own) for labels in found)
    known = [bench.rows(labels[bench.test].astype(float), labels) for labels in found]
    from thermocancer.evaluation.audit.refits import judge_permuted

    assert judge_permuted(known[0], known[1:]).flag == "failed"


@pytest.mark.parametrize("slices", [1, 3])
def test_patients_with_images_of_both_classes_keep_their_mix_under_permutation(slices: int) -> None:
    images = [
        SimpleNamespace(patient=patient, label=label, visit=visit)
        for patient, labels in enumerate([(0, 0), (1, 1), (0, 1, 1), (0, 1), (0, 0), (1, 1)])
        for visit, label in enumerate(labels, start=1)
        for _ in range(slices)
    ]
    labels, patients = (np.array([getattr(each, name) for each in images]) for name in ("label", "patient"))
    parts = [np.flatnonzero(np.isin(patients, own)) for own in ((0, 1, 2), (3,), (4, 5))]
    bench = SimpleNamespace(
        images=SimpleNamespace(images=images, labels=labels), config=SimpleNamespace(seed=1),
        exchanged=parts[::-1],
    )  # fmt: skip
    found = [permute_by_group(bench, number) for number in range(20)]
    for patient in (2, 3):
        assert all(each[patients == patient].sum() == labels[patients == patient].sum() for each in found)
        assert len({tuple(each[patients == patient]) for each in found}) > 1
    assert all(len(set(each[patients == patient])) == 1 for each in found for patient in (0, 1, 4, 5))
    series = np.array([(each.patient, each.visit) for each in images])
    own = [np.flatnonzero((series == one).all(axis=1)) for one in np.unique(series, axis=0)]
    assert all(len(set(each[rows].tolist())) == 1 for each in found for rows in own), "a series keeps one label"


def open_bench(workspace: Workspace, name: str):
    run = read_run(workspace, name)
    judge = Judge(gather_units(run.rows), 0.95, 100, 0)
    return open_images(run, run.config(), workspace, judge, 2)


def test_skipped_controls_and_weights_as_they_are(judged: Workspace) -> None:
    bench, _ = open_bench(judged, "grouped")
    controls, left_out = image_controls(bench, image_scope(bench), ("permuted labels", "untrained twin"), Silent())
    assert [control.name for control in controls if control.group != "nuisance"] == ["brightness"]
    assert {"name": "untrained twin", "reason": "skipped by evaluate.audit_skip"} in left_out


def test_a_copy_put_into_both_parts_after_training_is_noticed(judged: Workspace, data: Path, tmp_path: Path) -> None:
    """One picture under two names: refused when it is read, so that the audit says it could not look."""
    changed = tmp_path / "slices"
    shutil.copytree(data, changed)
    image = cv2.imread(str(next((changed / "Train/no_gad").iterdir())), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(changed / "Test/no_gad/another_name_000.png"), image)
    run = read_run(judged, "loose")
    own = run.config()
    moved = own.model_copy(update={"cnn": own.cnn.model_copy(update={"data": str(changed)})})
    judge = Judge(gather_units(run.rows), 0.95, 100, 0)
    assert open_images(run, moved, judged, judge, 2) == (None, "the same picture is in Train and in Test")
    shutil.rmtree(changed / "Test")
    assert open_images(run, moved, judged, judge, 2)[1] == "the folder has no Test"


def test_without_the_folder_the_report_says_what_is_missing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    rows = [row for row in toy_rows(30, repeats=1) if row.visit == 1]
    single = [type(row)(row.patient, 1, "test", row.label, row.score, row.predicted) for row in rows]
    folder = write_run(workspace, "gone", single, stage="train-cnn", protocol="holdout", leaks=["by image"])
    evaluate.run(load_config(workspace=tmp_path, environment={}), workspace, Silent())
    audit = json.loads((folder / "audit.json").read_text())
    assert audit["controls"] == []
    assert audit["unavailable"][0]["name"] == "controls that train again"
    passed = {check["name"]: check["passed"] for check in audit["leak_checks"]}
    assert passed["no patient on both sides of a fold"] is None
    assert passed["no identical image on both sides of a fold"] is None
    assert "leaks declared by the protocol" in passed
    assert "controls that train again (" in (folder / "report.html").read_text()


def test_the_scope_knows_both_parts(judged: Workspace) -> None:
    bench, _ = open_bench(judged, "grouped")
    scope = image_scope(bench)
    fold = scope.folds[0]
    assert len(fold.train) + len(fold.test) == len(scope.exams) == 68
    assert scope.patients_known
    assert {scope.exams[row].patient for row in fold.train}.isdisjoint(scope.exams[row].patient for row in fold.test)


@pytest.mark.parametrize("tie", ["names", "quality", "gamma", "none"])
def test_what_image_files_tell_by_themselves_is_named(tmp_path: Path, tie: str) -> None:
    """Pictures that show nothing, whose class follows the number in the name, the encoder or the brightness."""
    for part, count in (("Train", 24), ("Test", 20)):
        for label, name in enumerate(("no", "yes")):
            (tmp_path / "in" / part / name).mkdir(parents=True)
            for number in range(count):
                image = draw_slice(7000 * (part == "Test") + 500 * label + number, False)
                image = np.minimum(image * (1.4 if tie == "gamma" and label else 1.0), 255).astype(np.uint8)
                quality = [cv2.IMWRITE_JPEG_QUALITY, 91 if tie == "quality" and label else 95]
                place = 2 * number + label + (1000 * label if tie == "names" else 0)
                cv2.imwrite(str(tmp_path / "in" / part / name / f"case {place}.jpg"), image, quality)
    workspace = Workspace(tmp_path / "w")
    config = tiny_config(workspace, tmp_path / "in")
    cohort = ImageCohort(read_image_folder(tmp_path / "in"), (48, 48), "gray", workspace.cache)
    parts, random = cohort.folder.parts(0.2, 0), np.random.default_rng(1)
    rows = rows_of(cohort.exams, Fold("test", parts[0], parts[2]), random.random(len(parts[2])))
    judge = Judge(gather_units(rows), 0.95, 100, 0, tuple(rows))
    write_run(workspace, "files", rows, stage="train-cnn")
    bench = ImageRefitting(read_run(workspace, "files"), config, workspace, judge, 1, cohort, *parts)
    controls = nuisance_controls(image_scope(bench), judge)
    named = {each.name: each.family for each in controls if each.p_holm is not None and each.p_holm < 0.01}
    wanted = {"names": "name_order", "quality": "encoding", "gamma": "mean_grey"}
    if tie == "none":
        assert named == {}
    else:
        assert wanted[tie] in named
        assert tie == "gamma" or set(named.values()) == {named[wanted[tie]]}


@pytest.mark.parametrize("name", ["loose", "grouped"])
def test_a_study_of_classes_is_not_told_of_the_sick(judged: Workspace, name: str) -> None:
    """Nobody in a study of contrast need be sick, and no page of it speaks of breasts or of what replaces what."""
    folder = judged.run(name)
    classes = read_run(judged, name).manifest.classes
    for page in ("report.html", "model-card.md", "data-set-card.md"):
        text = re.sub(
            r"<pre>.*?</pre>|data:image/png;base64,[^\"]*|<style>.*?</style>", "", (folder / page).read_text()
        )
        text = re.sub(r"<pre>.*?</pre>|<style>.*?</style>", "", text, flags=re.S)
        found = re.findall(r".{30}(?:\bsick|healthy|mammogra|breast|thermogra|left and right|L and R).{30}", text)
        assert not [each for each in found if "thermocancer" not in each], page
        assert classes[1] in text
    report = json.loads((folder / "report.json").read_text())
    said = json.dumps([report["verdict"], report["checklist"], report["metrics"]["decision_rule"]])
    assert not re.search(r"\bsick|healthy|mammogra|breast|\{'", said)
