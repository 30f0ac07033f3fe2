"""The published rows: their figures agree with their counts, and each can be made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluation_fixtures import toy_rows, write_run

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.published import ROW_NAMES, ROWS, SAME_PRINTED_ROW
from thermocancer.evaluation.replication import PROTOCOLS, branch_of, chosen_rows, steps_of
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


def test_ten_printed_rows() -> None:
    assert len(ROW_NAMES) - len(SAME_PRINTED_ROW) == 10
    assert {row.n for row in ROWS} == {90, 83, 76}
    assert [row.name for row in chosen_rows(("T7-5", "T3-v1"))] == ["T3-v1", "T7-5"]
    with pytest.raises(ConfigError, match="no published row 'T9'"):
        chosen_rows(("T9",))


def config_of(tmp_path: Path, **options: object) -> Config:
    return load_config(options={"evaluate.bootstrap": 200, **options}, workspace=tmp_path, environment={})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_steps_are_the_original_recipe_or_an_honest_one(tmp_path: Path, row) -> None:
    thesis = steps_of(row, "thesis", config_of(tmp_path))
    honest = steps_of(row, "grouped-cv", config_of(tmp_path))
    old, new = thesis[-1].config, honest[-1].config
    assert (old.split.protocol, new.split.protocol) == ("thesis", "grouped-cv")
    assert (old.autoencoder.train_on, new.autoencoder.train_on) == ("all", "split")
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
    """Runs stages for ``reproduce``: training is a toy run, evaluation is the real stage."""

    def __init__(self, fails: str = "") -> None:
        self.called: list[tuple[str, str]] = []
        self.fails = fails

    def __call__(self, stage: str, config: Config, workspace: Workspace) -> StageReport:
        name = config.evaluate.run or ""
        self.called.append((stage, name))
        if stage in ("fuse", "train-dit"):
            if name == self.fails:
                raise DataError("no dynamic exams")
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


def test_the_phantom_never_shares_a_column_with_people(workspace: Workspace) -> None:
    path = "Static/Frontal/sick/T0001.1.1.S.2015-03-13.00.txt"
    record = Record(path, 1, 1, "Frontal", "S", "2015-03-13", 0, "sick", "00", 1, "space2", "simulate")
    write_catalog(workspace, [record])
    reproduce.run(config_of(workspace.root, **{"evaluate.rows": ["T4-3"]}), workspace, Silent(), Runner())
    page = (workspace.root / "reproduce" / "report.html").read_text()
    assert "phantom, original protocol" in page
    assert "published (people)" in page
    assert "These exams are synthetic" in page
