"""The published rows: their figures agree with their counts, and each can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sequence_fixtures
from evaluation_fixtures import toy_rows, toy_source, write_dataset, write_run

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.errors import ConfigError, DataError, Interrupted, RunError
from thermocancer.evaluation.replication import remaking
from thermocancer.evaluation.replication.published import (
    PROTOCOLS,
    ROW_NAMES,
    ROWS,
    SAME_PRINTED_ROW,
    TARGETS,
    chosen_rows,
    reaches_target,
    table_of,
)
from thermocancer.evaluation.replication.remaking import branch_of, deviations, made_with, steps_of
from thermocancer.outcome import StageReport
from thermocancer.progress import Silent
from thermocancer.stages import evaluate, reproduce
from thermocancer.workspace import Workspace


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_printed_figures_follow_from_the_counts(row) -> None:
    precision, sensitivity = row.tp / (row.tp + row.fp), row.tp / (row.tp + row.fn)
    assert row.precision == pytest.approx(100 * precision, abs=0.06)
    assert row.sensitivity == pytest.approx(100 * sensitivity, abs=0.06)
    assert row.accuracy == pytest.approx(100 * (row.tp + row.tn) / row.n, abs=0.06)
    assert row.f1 == pytest.approx(200 * precision * sensitivity / (precision + sensitivity), abs=0.1)


def test_eleven_results_are_printed_in_ten_rows() -> None:
    """Table 5 prints its results for 3 and for 5 views, with equal figures."""
    assert len(ROW_NAMES) == 11
    assert len(ROW_NAMES) - len(SAME_PRINTED_ROW) == 10
    every = {(name, "thesis"): {"failed": "not here"} for name in ROW_NAMES}
    assert table_of(ROWS, every, phantom=False)["verdict"]["headline"].startswith("0 of 11 printed results")
    assert {row.n for row in ROWS} == {90, 83, 76}
    assert [row.name for row in chosen_rows(("T7-5", "T3-v1"))] == ["T3-v1", "T7-5"]
    with pytest.raises(ConfigError, match="no published row 'T9'"):
        chosen_rows(("T9",))


def test_which_printed_results_reach_the_studys_targets() -> None:
    """No row meets precision and sensitivity together; none reaches accuracy or F1, as the study's own tables say."""
    reached = {row.name: {name for name in TARGETS if reaches_target(name, getattr(row, name) / 100)} for row in ROWS}
    assert not any({"precision", "sensitivity"} <= each for each in reached.values())
    assert set().union(*reached.values()) == {"precision", "sensitivity"}
    assert reached["T7-5"] == {"precision"}
    assert reached["T3-v2"] == {"sensitivity"}


def config_of(tmp_path: Path, **options: object) -> Config:
    return load_config(options={"evaluate.bootstrap": 200, **options}, workspace=tmp_path, environment={})


@pytest.mark.parametrize(("phantom", "tone"), [(True, "caution"), (False, "open")])
def test_rows_side_by_side_are_no_good_verdict(phantom: bool, tone: str) -> None:
    """Nothing was judged against chance or a baseline; real data had a green box even where every row failed."""
    every = {(name, "thesis"): {"failed": "not here"} for name in ROW_NAMES}
    assert table_of(ROWS, every, phantom=phantom)["verdict"]["tone"] == tone


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_steps_are_the_original_recipe_or_an_honest_one(tmp_path: Path, row) -> None:
    thesis = steps_of(row, "thesis", config_of(tmp_path))
    honest = steps_of(row, "grouped-cv", config_of(tmp_path))
    old, new = thesis[-1].config, honest[-1].config
    assert (old.split.protocol, new.split.protocol) == ("thesis", "grouped-cv")
    theirs = "unfiltered" if row.cohort == "five" else "split"
    assert (old.autoencoder.train_on, new.autoencoder.train_on) == (theirs, "split")
    assert thesis[-1].stage == honest[-1].stage == "evaluate"
    assert new.dataset.source == "matrices"
    for step in (*thesis, *honest):
        Config.model_validate(step.config.model_dump(by_alias=True))  # pairs that cannot go together are refused
    if row.model == "sequence":
        assert (old.dit.loss, old.dit.units, old.dit.rendering.colormap) == ("mse", 24, "prism")
        assert "fuse" not in [step.stage for step in thesis]
    else:
        assert old.dataset.source == "images"
        assert (old.convert.rendering.range, old.fuse.aim) == ("minmax", "fixed")
        assert (old.autoencoder.variant, old.autoencoder.batch) == (row.variant, 32)
        assert old.fuse.views == new.fuse.views == row.views


def test_sizes_that_the_user_sets_are_kept(tmp_path: Path) -> None:
    config = config_of(tmp_path, **{"autoencoder.epochs": 1, "autoencoder.batch": 4, "split.folds": 3})
    made = steps_of(ROWS[0], "thesis", config)[0].config
    assert (made.autoencoder.epochs, made.autoencoder.batch, made.split.folds) == (1, 4, 3)


def test_a_branch_reads_the_thermograms_of_its_trunk(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    branch = branch_of(Workspace(tmp_path), "thesis", ROWS[0])
    assert branch.raw.resolve() == (tmp_path / "raw").resolve() or not branch.root.exists()
    branch.root.mkdir(parents=True)
    assert branch.raw.resolve() == (tmp_path / "raw").resolve()
    assert (branch.raw / "x").relative_to(branch.root)
    assert branch.datasets.is_relative_to(tmp_path / "reproduce" / "thesis")


class Runner:
    """Runs stages for ``reproduce``: data sets are small, training is a toy run, evaluation is the real stage."""

    def __init__(self, fails: str = "", error: Exception | None = None) -> None:
        self.called: list[tuple[str, str]] = []
        self.fails = fails
        self.error = error or DataError("no dynamic exams")

    def __call__(self, stage: str, config: Config, workspace: Workspace) -> StageReport:
        name = config.evaluate.run or ""
        self.called.append((stage, name))
        if stage == "build-dataset" and config.dataset.dynamic:
            made = sequence_fixtures.built(workspace.root / "made", patients=9)
            workspace.datasets.mkdir(parents=True, exist_ok=True)
            made.dataset("cohort").replace(workspace.dataset(config.dataset.name))
        elif stage == "build-dataset":
            write_dataset(workspace, toy_source(toy_rows(8, repeats=1)), config.dataset.name)
        if stage in ("fuse", "train-dit"):
            if name == self.fails:
                raise self.error
            leaky = config.split.protocol == "thesis"
            rows = toy_rows(40, strength=3.0 if leaky else 1.0, repeats=1)
            write_run(workspace, name, rows, protocol=config.split.protocol, leaks=["by file"] if leaky else [])
        if stage == "evaluate":
            return evaluate.run(config, workspace, Silent())
        return StageReport(stage, made=1)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    path = "Static/Frontal/sick/T0001.1.1.S.2015-03-13.00.txt"
    write_catalog(workspace, [Record(path, 1, 1, "Frontal", "S", "2015-03-13", 0, "sick", "00", 1, "space2", "import")])
    return workspace


def test_published_figures_stand_beside_ours(workspace: Workspace) -> None:
    config, runner = config_of(workspace.root, **{"evaluate.rows": ["T3-v1", "T8"]}), Runner()
    report = reproduce.run(config, workspace, Silent(), runner)
    table = json.loads((workspace.root / "reproduce" / "reproduce.json").read_text())
    assert [line["row"] for line in table["rows"]] == ["T3-v1", "T8"]
    first = table["rows"][0]
    assert first["published"]["accuracy"] == 0.9
    assert set(first["ours"]) == set(PROTOCOLS)
    assert first["ours"]["thesis"]["leaks"] == ["by file"]
    assert isinstance(first["ours"]["thesis"]["accuracy"]["published_inside"], bool)
    page = (workspace.root / "reproduce" / "report.html").read_text()
    assert "published (people)" in page
    assert "ours, original protocol" in page
    assert report.made == 4
    assert any(note.startswith("T3-v1") for note in report.notes)


def test_row_by_row_it_goes_on(workspace: Workspace) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T3-v1"]})
    reproduce.run(config, workspace, Silent(), Runner())
    runner = Runner()
    both = config_of(workspace.root, **{"evaluate.rows": ["T3-v1", "T3-v2"]})
    report = reproduce.run(both, workspace, Silent(), runner)
    assert {name for _, name in runner.called} == {"T3-v2"}
    assert (report.made, report.current) == (2, 2)
    before = (workspace.root / "reproduce" / "reproduce.json").read_bytes()
    again = Runner()
    assert reproduce.run(both, workspace, Silent(), again).nothing_to_do
    assert again.called == []
    assert (workspace.root / "reproduce" / "reproduce.json").read_bytes() == before
    assert reproduce.plan(both, workspace).current == 4


def test_a_row_that_fails_is_listed_and_the_others_go_on(workspace: Workspace) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T3-v1", "T8"]})
    report = reproduce.run(config, workspace, Silent(), Runner(fails="T8"))
    assert report.exit_code == 5
    assert [failure.item for failure in report.failed] == ["T8, thesis", "T8, grouped-cv"]
    table = json.loads((workspace.root / "reproduce" / "reproduce.json").read_text())
    assert "no dynamic exams" in table["rows"][1]["ours"]["thesis"]["failed"]
    only = config_of(workspace.root, **{"evaluate.rows": ["T8"]})
    with pytest.raises(DataError, match="no row could be made"):
        reproduce.run(only, workspace, Silent(), Runner(fails="T8"))
    table = json.loads((workspace.root / "reproduce" / "reproduce.json").read_text())
    assert [line["row"] for line in table["rows"]] == ["T8"]


def test_a_bug_in_one_row_costs_that_row_alone_and_is_not_hidden(workspace: Workspace) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T3-v1", "T8"]})
    report = reproduce.run(config, workspace, Silent(), Runner(fails="T3-v1", error=ZeroDivisionError("by nothing")))
    assert (report.exit_code, report.made) == (5, 2)
    log = "reproduce/rows/T3-v1-thesis/traceback.txt"
    assert report.failed[0].item == "T3-v1, thesis"
    assert report.failed[0].reason == f"unexpected ZeroDivisionError: by nothing; traceback in {log}"
    text = (workspace.root / log).read_text()
    assert text.startswith("Traceback (most recent call last):")
    assert "raise self.error" in text
    assert text.rstrip().endswith("ZeroDivisionError: by nothing")
    table = json.loads((workspace.root / "reproduce" / "reproduce.json").read_text())
    assert "unexpected ZeroDivisionError" in table["rows"][0]["ours"]["thesis"]["failed"]
    assert table["rows"][1]["ours"]["thesis"]["accuracy"]["value"] is not None
    assert "unexpected ZeroDivisionError: by nothing" in (workspace.root / "reproduce" / "report.html").read_text()
    assert any(note.split()[:1] == ["T3-v1"] and "failed" in note for note in report.notes)
    again = reproduce.run(config, workspace, Silent(), Runner())
    assert (again.exit_code, again.made, again.current) == (0, 2, 2)
    assert not (workspace.root / log).exists()


def test_only_bugs_and_no_row_is_a_failure_of_the_program(workspace: Workspace) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T4-3"]})
    with pytest.raises(RunError, match="no row could be made") as caught:
        reproduce.run(config, workspace, Silent(), Runner(fails="T4-3", error=TypeError("wrong")))
    assert caught.value.exit_code == 1
    assert (workspace.root / "reproduce" / "rows" / "T4-3-grouped-cv" / "traceback.txt").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("interrupted")])
def test_an_interruption_is_no_failed_row(workspace: Workspace, stop: BaseException) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T3-v1"]})
    with pytest.raises(type(stop)):
        reproduce.run(config, workspace, Silent(), Runner(fails="T3-v1", error=stop))
    assert not list((workspace.root / "reproduce" / "rows").rglob("traceback.txt"))


def test_the_command_lists_a_bug_and_leaves_with_5(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from thermocancer.cli import register

    app = register()  # every command, in the order of --help, before one module is imported by itself
    from thermocancer import stages

    runner, real = Runner(fails="T3-v1", error=IndexError("out of range")), stages.run_stage

    def stand_in(name: str, config: Config, workspace: Workspace, *rest: object, **more: object) -> StageReport:
        if name == "reproduce":
            return real(name, config, workspace, *rest, **more)  # type: ignore[arg-type]
        return runner(name, config, workspace)

    monkeypatch.setattr(stages, "run_stage", stand_in)
    command = ["reproduce", "--rows", "T3-v1,T3-v2", "-w", str(workspace.root), "--set", "evaluate.bootstrap=100"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 5
    assert "failed: T3-v1, thesis: unexpected IndexError: out of range; traceback in reproduce/rows" in result.output


# in what ours differ


def differences(tmp_path: Path, row: str, protocol: str, shape: tuple[int, int], **options: object) -> list[str]:
    chosen = chosen_rows((row,))[0]
    return deviations(chosen, steps_of(chosen, protocol, config_of(tmp_path, **options))[-1].config, shape, 200)


def test_the_original_settings_differ_in_nothing_but_what_no_setting_changes(tmp_path: Path) -> None:
    static = {*remaking.ALWAYS, *remaking.ALWAYS_STATIC, remaking.NO_TPU}
    assert set(differences(tmp_path, "T3-v1", "thesis", (480, 640), seed=1)) == static
    assert set(differences(tmp_path, "T7-5", "thesis", (480, 640), seed=1)) == static
    tpu = differences(tmp_path, "T7-5", "thesis", (480, 640), seed=1, **{"strategy.kind": "tpu"})
    assert set(tpu) == static - {remaking.NO_TPU}
    full = {"seed": 1, "dit.backbone": "efficientnetb5"}
    films = {*remaking.ALWAYS, *remaking.ALWAYS_FILMS, remaking.NO_TPU}
    assert set(differences(tmp_path, "T8", "thesis", (480, 640), **full)) == films


@pytest.mark.parametrize("chosen", ["split", "all"])
def test_what_a_user_trains_autoencoders_on_is_kept_and_said(tmp_path: Path, chosen: str) -> None:
    given = {"seed": 1, "split.protocol": "thesis", "autoencoder.train_on": chosen}
    row = chosen_rows(("T6-5",))[0]
    assert steps_of(row, "thesis", config_of(tmp_path, **given))[-1].config.autoencoder.train_on == chosen
    found = differences(tmp_path, "T6-5", "thesis", (480, 640), **given)
    words = remaking.WORDS_TRAINED_ON[chosen]
    assert f"autoencoders trained on {words} (original 70 % of the unfiltered files)" in found


def test_what_differs_is_said(tmp_path: Path) -> None:
    found = differences(
        tmp_path, "T6-3", "thesis", (72, 96), **{"autoencoder.epochs": 4, "fuse.epochs": 12, "split.test_fraction": 0.2}
    )
    assert "matrices 72x96 (original 480x640)" in found
    assert "autoencoder epochs 4 (original 20)" in found
    assert "network epochs 12 (original 40)" in found
    assert "test share 0.2 (original 0.3)" in found
    assert "seed 0 (original 1)" in found
    assert any(each.startswith("three views taken to be Frontal, Right, Left") for each in found)
    honest = differences(tmp_path, "T3-v2", "grouped-cv", (480, 640))
    assert "colours viridis, 18 to 38 degC (original viridis, minmax)" in honest
    assert "images coloured without JPEG (original JPEG)" in honest
    assert "autoencoder batch 1 (original 32)" in honest
    assert "autoencoder schedule cosine (original constant)" in honest


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_sequence_row_names_its_backbone_and_keeps_the_recipe(tmp_path: Path, protocol: str) -> None:
    row = chosen_rows(("T8",))[0]
    config = steps_of(row, protocol, config_of(tmp_path))[-1].config
    assert (config.dit.norm_momentum, config.dit.loss, config.dit.weight_decay) == (0.99, "mse", 0.1)
    assert made_with(row, config) == "efficientnet_lite0 at 224x224 + lstm 24"
    found = differences(tmp_path, "T8", protocol, (480, 640))
    assert "backbone efficientnet_lite0 (original EfficientNetB5, ImageNet weights)" in found
    assert "frames of 224x224 (original 456x456)" in found
    chosen = {"dit.norm_momentum": 0.8, "dit.epochs": 6, "dit.backbone": "efficientnetb5"}
    config = steps_of(row, protocol, config_of(tmp_path, **chosen))[-1].config
    assert (config.dit.norm_momentum, config.dit.size) == (0.8, (456, 456))
    found = differences(tmp_path, "T8", protocol, (480, 640), **chosen)
    assert "norm momentum 0.8 (original 0.99)" in found
    assert "epochs 6 (original 20)" in found
    assert not any(each.startswith("backbone") for each in found)


def test_every_setting_of_the_sequence_network_that_matters_is_compared(tmp_path: Path) -> None:
    """A setting of ``dit`` that is changed and changes the network must show up: none is forgotten."""
    row = chosen_rows(("T8",))[0]
    config = steps_of(row, "thesis", config_of(tmp_path))[-1].config
    plain = deviations(row, config, (480, 640), 100)
    silent = {"name", "weights_sha256", "cache", "aim", "aim_sensitivity", "frames", "head", "units", "allow_gaps",
              "difference_range", "rate_range", "asymmetry_range", "finetune_blocks"}  # fmt: skip
    others = {
        "backbone": "random", "weights": "own.h5", "size": (9, 9), "rendering": {"colormap": "gray"}, "dropout": 0.9,
        "channels": ("rate",), "norm_momentum": 0.5, "optimizer": "adam", "learning_rate": 9.0, "weight_decay": 9.0,
        "ema_momentum": None, "loss": "bce", "class_weights": True, "epochs": 99, "batch": 99, "patience": 9,
        "augment": 9, "finetune": True,
    }  # fmt: skip
    assert set(others) | silent == set(type(config.dit).model_fields)
    for name, value in others.items():
        changed = type(config.dit).model_validate(config.dit.model_dump() | {name: value})
        assert deviations(row, config.model_copy(update={"dit": changed}), (480, 640), 100) != plain, name


def test_differences_stand_in_the_table_the_page_and_the_terminal(workspace: Workspace) -> None:
    config = config_of(workspace.root, **{"evaluate.rows": ["T3-v1", "T8"], "autoencoder.epochs": 2})
    report = reproduce.run(config, workspace, Silent(), Runner())
    table = json.loads((workspace.root / "reproduce" / "reproduce.json").read_text())
    ours = {(line["row"], protocol): line["ours"][protocol] for line in table["rows"] for protocol in PROTOCOLS}
    assert "matrices 48x64 (original 480x640)" in ours["T3-v1", "thesis"]["deviations"]
    assert ours["T8", "grouped-cv"]["made_with"] == "efficientnet_lite0 at 224x224 + lstm 24"
    page = (workspace.root / "reproduce" / "report.html").read_text()
    for words in (
        "efficientnet_lite0 at 224x224", "backbone efficientnet_lite0 (original EfficientNetB5, ImageNet weights)",
        "matrices 48x64 (original 480x640)", "autoencoder epochs 2 (original 20)",
    ):  # fmt: skip
        assert words in page
    notes = "\n".join(report.notes)
    assert "thesis, T8: backbone efficientnet_lite0 (original EfficientNetB5, ImageNet weights)" in notes
    assert "thesis, T3-v1: autoencoder epochs 2 (original 20)" in notes


def test_the_phantom_never_shares_a_column_with_people(workspace: Workspace) -> None:
    path = "Static/Frontal/sick/T0001.1.1.S.2015-03-13.00.txt"
    record = Record(path, 1, 1, "Frontal", "S", "2015-03-13", 0, "sick", "00", 1, "space2", "simulate")
    write_catalog(workspace, [record])
    reproduce.run(config_of(workspace.root, **{"evaluate.rows": ["T4-3"]}), workspace, Silent(), Runner())
    page = (workspace.root / "reproduce" / "report.html").read_text()
    assert "phantom, original protocol" in page
    assert "published (people)" in page
    assert "These exams are synthetic" in page
