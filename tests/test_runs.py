"""Runs as files: typed manifests, one reader and one writer."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from evaluation_fixtures import write_run

from thermocancer.config import dump_yaml, load_config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import hash_file, write_json
from thermocancer.kinds import Reads, kind, kinds
from thermocancer.runs import writing
from thermocancer.runs.history import read_history
from thermocancer.runs.manifest import (
    VERSION,
    AutoencoderManifest,
    DatasetFacts,
    Manifest,
    read_autoencoder_manifest,
    read_manifest,
)
from thermocancer.runs.predictions import Prediction, read_files, read_predictions
from thermocancer.runs.run import Run, read_run, run_names
from thermocancer.workspace import Workspace

PACKAGE = Path(__file__).parents[1] / "thermocancer"

COMMON: dict[str, object] = {
    "made_from": "a" * 64,
    "outputs": {"config.yaml": "b" * 64},
    "protocol": "grouped-cv",
    "dataset": {"fingerprint": "c" * 64, "name": "cohort"},
    "threshold": 0.4,
    "threshold_source": "inner folds: sensitivity >= 0.90 at best specificity",
    "leaks": [],
    "seed": 7,
}
STATIC: dict[str, object] = COMMON | {
    "stage": "fuse",
    "views": ["Frontal", "Left"],
    "thresholds": {"1.1": 0.3, "1.2": 0.5},
    "exams": 20,
    "patients": 17,
    "sick": 12,
    "excluded": [{"exam": "3_1", "reason": "no Left view"}],
}
ENCODED: dict[str, object] = STATIC | {"autoencoder": "v3", "untrained": False}
WRITTEN: dict[str, dict[str, object]] = {
    "svm": ENCODED | {"model": "svm", "kernel": "sigmoid", "C": 1.0, "clip": None},
    "network": ENCODED | {"model": "network"},
    "thermal": STATIC | {"model": "thermal"},
    "asymmetry": STATIC | {"model": "asymmetry"},
    "asymmetry-index": STATIC | {"model": "asymmetry-index", "threshold_source": "fixed at 0.5"},
    "pixels": STATIC | {"model": "pixels", "leaks": ["split by file"]},
    "physics": STATIC | {"model": "physics", "views": ["Frontal"], "threshold_source": "fixed at 0.5"},
    "late": COMMON
    | {
        "stage": "fuse",
        "model": "late",
        "views": ["Frontal"],
        "combine": ["sit", "dit"],
        "combination": "mean of logits",
        "combined_by": "features",
        "features_by_run": {"sit": 6, "dit": 128},
        "patients_by_run": {"sit": 20, "dit": 24},
        "patients_in_all": 18,
        "patients": 26,
        "sick": 12,
    },
    "sequence": COMMON
    | {
        "stage": "train-dit",
        "model": "efficientnet_lite0 + attention 24",
        "views": ["Frontal"],
        "dynamic": True,
        "thresholds": {"test": 0.4},
        "exams": 24,
        "patients": 22,
        "sick": 12,
        "filled_frames": {"3_1": 2},
    },
    "image": COMMON
    | {
        "stage": "train-cnn",
        "model": "pooled",
        "views": [],
        "protocol": "holdout",
        "classes": ["plain", "marked"],
        "thresholds_of_seeds": {"4": 0.3, "5": 0.5},
        "decision": "majority vote of 2 seeds",
        "seeds": [
            {
                "seed": 4, "threshold": 0.3, "validation_auc": 0.75, "validation_accuracy": 0.5, "test_auc": 1.0,
                "test_accuracy": 0.5,
            }
        ],
        "spread": {"test_auc_mean": 0.8},
        "images": {"train": 12, "validation": 4, "test": 6},
        "left_out": [{"image": "Train/plain/broken.png", "reason": "the image cannot be decoded"}],
    },
}  # fmt: skip
"""By kind, what version 0.1.0 wrote of each."""

ROWS = [
    Prediction(10, 1, "1.1", 1, 0.75, 1),
    Prediction(2, 2, "1.2", 0, 1 / 3, 0),
    Prediction(2, 1, "1.2", 0, 0.125, 0),
    Prediction(3, 1, "1.1", 0, 0.5, 1),
]


# --- manifests ---------------------------------------------------------------------------------------------------


def test_every_kind_has_a_manifest_here() -> None:
    assert set(WRITTEN) == {name for name, each in kinds().items() if each.code.startswith("thermocancer.")}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_manifest_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    given = {"version": VERSION, "kind": name, **WRITTEN[name]}
    manifest = Manifest.model_validate(given)
    manifest.write(path)
    write_json(tmp_path / "as-given.json", given)
    assert path.read_bytes() == (tmp_path / "as-given.json").read_bytes()
    assert read_manifest(path) == manifest


@pytest.mark.parametrize("name", WRITTEN)
def test_a_manifest_of_0_1_0_is_read(name: str, tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", WRITTEN[name])
    manifest = read_manifest(tmp_path / "manifest.json")
    assert (manifest.version, manifest.kind) == (0, name)
    now = Manifest.model_validate({"version": VERSION, "kind": name, **WRITTEN[name]})
    assert manifest == now.model_copy(update={"version": 0})
    assert manifest.identity == now.identity


def test_what_a_kind_records_of_its_settings_is_kept(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", WRITTEN["svm"])
    assert read_manifest(tmp_path / "manifest.json").recorded == {"kernel": "sigmoid", "C": 1.0, "clip": None}
    write_json(tmp_path / "manifest.json", WRITTEN["svm"] | {"version": 1, "kind": "of another package", "depth": 3})
    assert read_manifest(tmp_path / "manifest.json").recorded["depth"] == 3


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"threshold": "high"}, "threshold"),
        ({"threshold": None}, "threshold"),
        ({"outputs": ["config.yaml"]}, "outputs"),
        ({"protocol": "by coin"}, "protocol"),
        ({"views": ["Top"]}, "views.0"),
        ({"dataset": {"name": "cohort"}}, "dataset.fingerprint"),
        ({"excluded": [{"exam": "3_1"}]}, "excluded.0.reason"),
        ({"thresholds": {"1.1": []}}, "thresholds.1.1"),
        ({"depth": 3}, "no depth"),
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"version": -1}, "version"),
        ({"version": 0, "stage": "convert"}, "stage, model"),
        ({"version": 0, "model": "oracle"}, "stage, model"),
    ],
)
def test_a_damaged_manifest_names_the_field(changed: dict[str, object], field: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    write_json(path, {"version": 1, "kind": "svm", **WRITTEN["svm"], **changed})
    with pytest.raises(DataError, match="damaged") as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert field in str(caught.value)
    assert caught.value.expected
    assert caught.value.hint


@pytest.mark.parametrize("lacking", sorted({*COMMON, "model", "views"}))
def test_a_manifest_that_lacks_a_field_is_to_be_made_again(lacking: str, tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {name: each for name, each in WRITTEN["svm"].items() if name != lacking})
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "manifest.json")
    assert lacking in str(caught.value.where)
    assert "make it again" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["[]", "3", "{half"])
def test_what_is_no_json_object_is_no_manifest(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        read_manifest(tmp_path / "manifest.json")


def test_a_manifest_of_a_newer_version_is_not_read(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", WRITTEN["svm"] | {"version": VERSION + 1})
    with pytest.raises(DataError, match="newer thermocancer") as caught:
        read_manifest(tmp_path / "manifest.json")
    assert caught.value.found == str(VERSION + 1)


def test_an_autoencoder_s_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    fed = load_config(environment={}).autoencoder.input.model_dump(mode="json")
    given: dict[str, object] = {
        "stage": "train-ae", "made_from": "a" * 64, "outputs": {"model.keras": "b" * 64}, "variant": "v2",
        "view": "Frontal", "fold": "1.1", "input": fed,
        "shape": [32, 48], "protocol": "holdout", "leaks": [], "patients": [1, 2], "seed": 3, "epochs": 2,
        "best_epoch": 1, "val_loss": 0.25, "images": {"train": 3, "validation": 1}, "dataset": {"name": "cohort"},
    }  # fmt: skip
    write_json(tmp_path / "as-given.json", given)
    AutoencoderManifest.model_validate(given).write(path)
    assert path.read_bytes() == (tmp_path / "as-given.json").read_bytes()
    assert read_autoencoder_manifest(path).patients == (1, 2)
    write_json(path, given | {"patients": None})
    with pytest.raises(DataError, match="patients"):
        read_autoencoder_manifest(path)


# --- reading -----------------------------------------------------------------------------------------------------


def test_a_run_knows_its_kind_and_its_operating_points(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "a", ROWS, thresholds={"1.1": 0.3, "1.2": 0.5}, leaks=["split by file"])
    write_run(workspace, "b", ROWS, stage="train-dit", model="random + lstm 8", threshold=0.25)
    one, other = read_run(workspace, "a"), read_run(workspace, "b")
    assert run_names(workspace) == ["a", "b"]
    assert (one.kind, one.reads, other.reads) == (kind("svm"), Reads.CODES, Reads.FRAMES)
    facts = one.facts()
    assert (facts.threshold, facts.leaks, facts.unit) == (0.4, ("split by file",), None)
    assert facts.threshold_source == "0.5, fixed; median of 2 folds (0.3 to 0.5)"
    assert (other.facts().threshold, other.facts().threshold_source) == (0.25, "0.5, fixed")
    assert one.required_config().fuse.name == "a"
    assert set(one.content()) == {"predictions.csv", "manifest.json", "history.jsonl", "config.yaml"}


def test_images_of_nobody_knows_whom_count_by_exam(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    alone = [Prediction(number, 1, "test", number % 2, 0.5, 1) for number in range(1, 5)]
    for name, rows in (("alone", alone), ("grouped", [*alone, Prediction(1, 2, "test", 1, 0.5, 1)])):
        write_run(workspace, name, rows, stage="train-cnn", protocol="holdout")
    assert read_run(workspace, "alone").facts().unit == "exam"
    assert read_run(workspace, "grouped").facts().unit is None


def test_a_run_says_which_of_its_files_is_missing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(DataError, match="there is no run 'toy'") as caught:
        read_run(workspace, "toy", hint="make it first")
    assert caught.value.hint == "make it first"
    folder = write_run(workspace, "toy", ROWS)
    run = read_run(workspace, "toy")
    for ask in (lambda: run.inner, lambda: run.scores_content):
        with pytest.raises(DataError, match="no inner scores"):
            ask()
    (folder / "history.jsonl").unlink()
    assert read_run(workspace, "toy").history == []
    (folder / "config.yaml").unlink()
    assert run.config() is None
    with pytest.raises(ConfigError, match="settings of run 'toy'"):
        run.required_config()
    (folder / "manifest.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        read_run(workspace, "toy")


def test_a_kind_that_is_not_installed_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "toy", ROWS, kind="oracle")
    with pytest.raises(DataError, match="not installed") as caught:
        _ = read_run(workspace, "toy").kind
    assert caught.value.found == "oracle"


def test_a_broken_line_of_the_history_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n\n[3]\n')
    with pytest.raises(DataError, match=r"history\.jsonl:3"):
        read_history(tmp_path / "history.jsonl")


# --- writing -----------------------------------------------------------------------------------------------------


def written(workspace: Workspace, name: str, kind_name: str = "svm", **parts: object) -> Run:
    def save_model(folder: Path) -> None:
        (folder / "parts").mkdir(parents=True)
        (folder / "parts/weights.bin").write_bytes(b"weights")

    facts = {key: each for key, each in WRITTEN[kind_name].items() if key not in ("stage", "made_from", "outputs")}
    history = [{"fold": "1.1", "loss": 0.5, "epoch": 1}]
    given: dict[str, object] = {"rows": ROWS, "history": history, "save_model": save_model} | parts
    config = load_config(options={"fuse.name": name}, environment={})
    writing.write_run(workspace.run(name), config, kind(kind_name), "d" * 64, facts, **given)  # type: ignore[arg-type]
    return read_run(workspace, name)


def test_a_run_is_written_byte_for_byte_as_its_formats_say(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    run = written(workspace, "toy", inner=ROWS[:1], baseline=ROWS[1:2])
    folder = workspace.run("toy")
    header = "patient,visit,fold,label,score,predicted\n"
    expected = {
        "predictions.csv": header + "2,1,1.2,0,0.125,0\n2,2,1.2,0,0.3333333333333333,0\n3,1,1.1,0,0.5,1\n"
        "10,1,1.1,1,0.75,1\n",
        "inner.csv": header + "10,1,1.1,1,0.75,1\n",
        "predictions-baseline.csv": header + "2,2,1.2,0,0.3333333333333333,0\n",
        "history.jsonl": '{"epoch": 1, "fold": "1.1", "loss": 0.5}\n',
        "config.yaml": dump_yaml(load_config(options={"fuse.name": "toy"}, environment={})),
        "model/parts/weights.bin": "weights",
    }
    hashes = {name: hash_file(folder / name) for name in expected}
    facts = {"version": 1, "kind": "svm", "stage": "fuse", "made_from": "d" * 64, "outputs": hashes}
    expected["manifest.json"] = json.dumps(WRITTEN["svm"] | facts, indent=2, sort_keys=True) + "\n"
    assert {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    } == expected  # fmt: skip
    assert (run.inner, run.baseline, run.manifest.outputs) == (ROWS[:1], ROWS[1:2], hashes)
    assert run.scores_content == hashes["predictions.csv"] + hashes["inner.csv"]


def test_scores_of_single_images_name_their_files(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    written(workspace, "cnn", "image", files=["d.png", "b.png", "a.png", "c.png"], tables={"seeds.csv": "seed\n"})
    path = workspace.run("cnn") / "predictions.csv"
    assert path.read_text().splitlines()[:2] == [
        "patient,visit,fold,label,score,predicted,file", "2,1,1.2,0,0.125,0,a.png",
    ]  # fmt: skip
    assert read_files(path) == ["a.png", "b.png", "c.png", "d.png"]
    assert len(read_predictions(path)) == 4
    assert not (workspace.run("cnn") / "inner.csv").exists()
    assert "seeds.csv" in read_run(workspace, "cnn").manifest.outputs
    written(workspace, "svm")
    with pytest.raises(DataError, match="name no images"):
        read_files(workspace.run("svm") / "predictions.csv")


def test_a_model_that_is_held_back_holds_back_the_manifest(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise KeyboardInterrupt

    workspace = Workspace(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        written(workspace, "new", save_model=fail)
    assert not (workspace.run("new") / "manifest.json").exists()
    assert not (workspace.run("new") / "model").exists()
    before = written(workspace, "old", baseline=ROWS).manifest
    with pytest.raises(KeyboardInterrupt):
        written(workspace, "old", save_model=fail)
    assert read_run(workspace, "old").manifest == before
    assert (workspace.run("old") / "model/parts/weights.bin").read_bytes() == b"weights"
    written(workspace, "old")
    assert sorted(path.name for path in workspace.run("old").iterdir()) == [
        "config.yaml", "history.jsonl", "manifest.json", "model", "predictions.csv",
    ]  # fmt: skip


def test_a_manifest_says_nothing_that_its_kind_does_not_record() -> None:
    with pytest.raises(ValueError, match="has no kernel"):
        Manifest.model_validate({"version": 1, "kind": "thermal", **WRITTEN["thermal"], "kernel": "rbf"})
    assert Manifest.model_validate({"version": 1, "kind": "thermal", **WRITTEN["thermal"]}).dataset == DatasetFacts(
        fingerprint="c" * 64, name="cohort"
    )


# --- the house rule ----------------------------------------------------------------------------------------------


def untyped(tree: ast.AST) -> list[int]:
    """Lines that take something out of a manifest by a key."""

    def is_manifest(node: ast.expr) -> bool:
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        return name == "manifest"

    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            taken = isinstance(node.ctx, ast.Load) and is_manifest(node.value)
        else:
            taken = (
                isinstance(node, ast.Attribute) and node.attr in ("get", "items", "keys") and is_manifest(node.value)
            )
        if taken:
            found.append(getattr(node, "lineno", 0))
    return found


def test_no_module_outside_runs_takes_a_manifest_apart_by_keys() -> None:
    assert untyped(ast.parse('run.manifest["stage"]\nmanifest.get("stage")\nrun.manifest.stage')) == [1, 2]
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "runs"
        for line in untyped(ast.parse(path.read_text()))
    ]
    assert not wrong
