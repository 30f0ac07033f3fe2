"""Paired tests between runs."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from evaluation_fixtures import toy_rows, write_run

from thermocancer import __version__
from thermocancer.cli import register
from thermocancer.config import load_config
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.between_runs import listed_runs
from thermocancer.evaluation.statistics.comparison import auc_difference, mcnemar, pair_units, share_differences
from thermocancer.evaluation.statistics.units import gather_units, units_of
from thermocancer.progress import Silent
from thermocancer.stages import compare, evaluate
from thermocancer.workspace import Workspace


def comparing(tmp_path: Path, *names: str) -> object:
    options = {"evaluate.compare": list(names), "evaluate.bootstrap": 300}
    return load_config(options=options, workspace=tmp_path, environment={})


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    strong, weak = toy_rows(strength=3.0), toy_rows(strength=0.6)
    write_run(workspace, "strong", strong)
    write_run(workspace, "weak", weak)
    report = compare.run(comparing(tmp_path, "strong", "weak"), workspace, Silent())
    folder = tmp_path / "compare" / "strong-vs-weak"
    document = json.loads((folder / "compare.json").read_text())
    pair = document["pairs"][0]
    assert pair["auc"]["value"] > 0
    assert pair["auc"]["low"] > 0
    assert pair["auc"]["p"] < 0.05
    assert document["verdict"]["headline"].startswith("strong ranks better than weak")
    assert report.made == 1
    assert (folder / "forest.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in (folder / "report.html").read_text()
    units = [gather_units(rows) for rows in (strong, weak)]
    right = [each.decisions == each.labels for each in units]
    assert pair["mcnemar"]["only_first_right"] == int(np.sum(right[0] & ~right[1]))
    assert compare.run(comparing(tmp_path, "strong", "weak"), workspace, Silent()).nothing_to_do


def test_only_common_patients_count(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "a", [row for row in toy_rows(60) if row.patient <= 45 or row.patient == 99])
    write_run(workspace, "b", [row for row in toy_rows(60, strength=0.5) if row.patient > 15])
    write_run(workspace, "c", [row for row in toy_rows(60) if row.patient > 15])
    compare.run(comparing(tmp_path, "a", "b", "c"), workspace, Silent())
    document = json.loads((tmp_path / "compare" / "a-vs-b-vs-c" / "compare.json").read_text())
    assert document["n"] == 30
    assert [(p["first"], p["second"]) for p in document["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    same = document["pairs"][1]["auc"]
    assert (same["value"], same["p"], same["p_holm"]) == (0.0, 1.0, 1.0)


def test_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "a", [row for row in toy_rows(60) if row.patient <= 30])
    write_run(workspace, "b", [row for row in toy_rows(60) if row.patient > 30])
    write_run(workspace, "turned", [replace(row, label=1 - row.label) for row in toy_rows(60) if row.patient > 30])
    with pytest.raises(DataError, match="no patient in common"):
        compare.run(comparing(tmp_path, "a", "b"), workspace, Silent())
    with pytest.raises(DataError, match="disagree about labels"):
        compare.run(comparing(tmp_path, "b", "turned"), workspace, Silent())
    with pytest.raises(ConfigError, match="two or more"):
        compare.run(comparing(tmp_path, "a", "a"), workspace, Silent())
    with pytest.raises(DataError, match="no run 'c'"):
        compare.run(comparing(tmp_path, "a", "c"), workspace, Silent())


def test_a_leaky_run_is_named(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "sound", toy_rows(30))
    write_run(workspace, "thesis", toy_rows(30, strength=4), protocol="thesis", leaks=["split by file"])
    compare.run(comparing(tmp_path, "sound", "thesis"), workspace, Silent())
    verdict = json.loads((tmp_path / "compare" / "sound-vs-thesis" / "compare.json").read_text())["verdict"]
    assert verdict["tone"] == "caution"
    assert "thesis leaks" in verdict["sentences"][0]


def test_paired_delong_covers_the_truth_about_as_often_as_it_says() -> None:
    """Two scores of equal worth: the 90 % interval of their difference holds 0 in about 90 of 100 samples."""
    random = np.random.default_rng(8)
    held = 0
    for _ in range(100):
        rows = toy_rows(80, repeats=1, seed=int(random.integers(1e6)))
        labels = gather_units(rows).labels
        first, second = (units_of(labels, 1.2 * labels + random.normal(size=len(labels))) for _ in range(2))
        difference = auc_difference(pair_units(first, second), confidence=0.9, bootstrap=20, seed=0)
        held += difference["low"] <= 0 <= difference["high"]
    assert 80 <= held <= 99


def test_differences_of_shares_and_decisions() -> None:
    first, second = gather_units(toy_rows(60)), gather_units(toy_rows(60, strength=0.4))
    paired = pair_units(first, second)
    shares = share_differences(paired, confidence=0.95, bootstrap=300, seed=0)
    right = [np.mean(each.decisions == each.labels) for each in (paired.first, paired.second)]
    assert shares["accuracy"]["value"] == pytest.approx(right[0] - right[1])
    sick = paired.first.labels == 1
    assert shares["sensitivity"]["value"] == pytest.approx(
        paired.first.decisions[sick].mean() - paired.second.decisions[sick].mean()
    )
    table = mcnemar(paired)
    assert sum(table[key] for key in ("both_right", "only_first_right", "only_second_right", "both_wrong")) == len(
        first
    )


def test_one_clear_pair_among_many_may_be_chance() -> None:
    from thermocancer.evaluation.between_runs import which_differ

    def pair(name: str, low: float, p_holm: float) -> dict:
        return {"first": name, "second": "z", "auc": {"value": 0.05, "low": low, "high": 0.1, "p_holm": p_holm}}

    even = [pair("b", -0.02, 1.0), pair("c", -0.03, 1.0)]
    assert which_differ([pair("a", 0.01, 0.09), *even], 0.95).startswith("On these patients no run can be told")
    assert which_differ([pair("a", 0.01, 0.003), *even], 0.95) == "a ranks better than z by 0.050 AUC."
    assert which_differ([pair("a", 0.01, 0.06)], 0.95) == "a ranks better than z by 0.050 AUC."


@pytest.mark.parametrize(
    ("strengths", "tone", "said"),
    [((3.0, 0.6), "good", "ranks better than"), ((1.5, 1.5), "open", "no run can be told from another"),
     ((0.0, 0.0), "open", "no run can be told from another")],
)  # fmt: skip
def test_only_a_difference_is_green_and_programs_get_numbers(
    tmp_path: Path, strengths: tuple[float, float], tone: str, said: str
) -> None:
    workspace = Workspace(tmp_path)
    for name, strength, noise in zip("ab", strengths, (0.3, 0.6), strict=True):
        write_run(workspace, name, toy_rows(strength=strength, noise=noise))
    report = compare.run(comparing(tmp_path, "a", "b"), workspace, Silent())
    verdict = report.figures["verdict"]
    assert verdict["tone"] == tone
    assert said in report.notes[0]
    assert list(report.notes[:-1]) == [verdict["headline"], *verdict["sentences"]]
    assert any("does not show that they are equal" in each for each in verdict["sentences"]) == (tone == "open")
    assert any("Not shown to be better than chance" in each for each in verdict["sentences"]) == (strengths[1] < 1)
    (pair,) = report.figures["pairs"]
    assert all(isinstance(pair["auc"][key], float) for key in ("value", "low", "high", "p", "p_holm"))
    assert isinstance(pair["mcnemar"]["p"], float)
    assert report.notes[-1].startswith(f"AUC of a less that of b: {pair['auc']['value']:+.3f} (")
    again = compare.run(comparing(tmp_path, "a", "b"), workspace, Silent())
    assert (again.made, again.figures, again.notes) == (0, report.figures, report.notes)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_judged_run_is_tracked(tmp_path: Path, kind: str) -> None:
    """Read back by TensorFlow's own reader of event files, and by MLflow's own client."""
    workspace = Workspace(tmp_path / "study")
    write_run(workspace, "a", toy_rows(strength=2.0), epochs=2)
    options = {"evaluate.bootstrap": 50, "evaluate.audit": False, "evaluate.explain": False, "tracking.kind": kind}
    config = load_config(options=options, workspace=workspace.root, environment={})
    (note,) = [each for each in evaluate.run(config, workspace, Silent()).notes if each.startswith("tracked: ")]
    assert str(workspace.root) in note
    metrics = json.loads((workspace.run("a") / "metrics.json").read_text())
    place = workspace.root / "tracking" / kind
    if kind == "tensorboard":
        from tensorflow.python.summary.summary_iterator import summary_iterator

        def read(folder: Path) -> dict[tuple[str, int], float]:
            (path,) = folder.glob("events.out.tfevents.*")
            found = [(each.step, value) for each in summary_iterator(str(path)) for value in each.summary.value]
            return {(value.tag, step): value.simple_value for step, value in found}

        final, curve = read(place / "a"), read(place / "a" / "fold-1.1")
        found = {name: final[f"final/{name}", 0] for name in ("auc", "auc_low", "auc_high")}
        assert curve["loss", 2] == pytest.approx(0.5)
        assert ("parameters", 0) in final
        report = place / "a" / "report.html"
    else:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=place.as_uri())
        (experiment,) = client.search_experiments(filter_string="name = 'study'")
        (run,) = client.search_runs([experiment.experiment_id])
        found = {name: run.data.metrics[f"final.{name}"] for name in ("auc", "auc_low", "auc_high")}
        assert [each.value for each in client.get_metric_history(run.info.run_id, "loss.fold-1.1")] == [1.0, 0.5]
        assert run.data.params["kind"] == "svm"
        (report,) = place.rglob("report.html")
    names = {"auc": "value", "auc_low": "low", "auc_high": "high"}
    assert found == pytest.approx({name: metrics["auc"][key] for name, key in names.items()}, abs=1e-6)
    assert report.read_bytes() == (workspace.run("a") / "report.html").read_bytes()


def test_runs_are_listed_with_what_their_evaluation_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    for name, strength in (("weak", 0.3), ("strong", 3.0), ("new", 1.0)):
        write_run(workspace, name, toy_rows(strength=strength))
    for name in ("weak", "strong"):
        options = {"evaluate.run": name, "evaluate.audit": False, "evaluate.explain": False, "evaluate.bootstrap": 100}
        evaluate.run(load_config(options=options, workspace=tmp_path, environment={}), workspace, Silent())
    write_run(workspace, "broken", toy_rows())
    (workspace.run("broken") / "manifest.json").write_text("{")
    found = {each["name"]: each for each in listed_runs(workspace, "auc")}
    assert next(iter(found)) == "strong"
    metrics = json.loads((workspace.run("strong") / "metrics.json").read_text())
    assert found["strong"]["auc"] == {key: metrics["auc"][key] for key in ("value", "low", "high")}
    assert found["weak"]["evaluated"]
    assert not found["new"]["evaluated"]
    assert found["new"]["auc"] is None
    assert "manifest" in found["broken"]["problem"] or "JSON" in found["broken"]["problem"]
    with pytest.raises(SystemExit) as left:
        register()(["runs", "-w", str(tmp_path), "--sort", "auc"])
    assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["strong", "weak"]
    assert f"{metrics['auc']['value']:.3f}" in lines[1]


def test_the_version_names_the_package_and_a_backend(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        register()(["--version"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"thermocancer {__version__}")
    assert f"keras {metadata.version('keras')}" in said
