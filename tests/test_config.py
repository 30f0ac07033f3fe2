"""Config: strict keys, precedence, where every mistake stands, and the shipped files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from thermocancer.config import Config, differences, dump_yaml, load_config, starting_file
from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_loads_and_opens_with_its_facts(path: Path) -> None:
    config = load_config([path])
    assert isinstance(config, Config)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")][:8]
    for fact in ("command:", "hardware:", "time:", "score:"):
        assert any(fact in line for line in head), f"{path.name} does not say its {fact}"


def test_the_contracts_configs_are_shipped() -> None:
    assert {path.name for path in CONFIGS} >= {
        "quickstart.yaml", "thesis.yaml", "honest.yaml", "colab-tpu.yaml", "siim.yaml",
    }  # fmt: skip


def test_precedence_runs_from_environment_to_set(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "workspace: file-a\nseed: 1\nautoencoder: {epochs: 3, batch: 4}\n")
    second = write(tmp_path, "b.yaml", "workspace: file-b\nautoencoder: {epochs: 5}\n")
    environment = {
        "THERMOCANCER_WORKSPACE": "env",
        "THERMOCANCER_SEED": "9",
        "THERMOCANCER_AUTOENCODER__BATCH": "2",
        "THERMOCANCER_FUSE__C": "7",
        "THERMOCANCER_PASSWORD": "not-a-setting",
    }
    assert load_config(environment=environment).workspace == "env"
    merged = load_config([first, second], environment=environment)
    assert (merged.workspace, merged.seed) == ("file-b", 1)
    assert (merged.autoencoder.epochs, merged.autoencoder.batch, merged.fuse.C) == (5, 4, 7)
    option = load_config([first, second], workspace=Path("opt"), environment=environment)
    assert option.workspace == "opt"
    last = load_config([first], ["workspace=set", "autoencoder.epochs=8"], workspace=Path("opt"), environment={})
    assert (last.workspace, last.autoencoder.epochs) == ("set", 8)


def test_unknown_key_names_file_line_and_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "seed: 1\nautoencoder:\n  epoch: 5\n")
    with pytest.raises(ConfigError) as caught:
        load_config([path], environment={})
    assert caught.value.where == f"{path}:3"
    assert "autoencoder.epoch" in caught.value.what
    assert "autoencoder.epochs" in (caught.value.hint or "")


def test_unknown_section_offers_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, "c.yaml", "autoencodr: {epochs: 5}\n")
    with pytest.raises(ConfigError) as caught:
        load_config([path], environment={})
    assert caught.value.where == f"{path}:1"
    assert "'autoencoder'" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("seed: -1\n", "seed", 1),
        ("simulate:\n  patients: many\n", "simulate.patients", 2),
        ("convert:\n  format: bmp\n", "convert.format", 2),
        ("convert:\n  rendering:\n    range: {low: cold}\n", "convert.rendering.range", 3),
        ("pipeline: [simulate, cook]\n", "pipeline", 1),
    ],
    ids=["negative-seed", "word-for-number", "unknown-choice", "nested", "unknown-stage"],
)
def test_wrong_values_name_key_and_line(tmp_path: Path, text: str, key: str, line: int) -> None:
    path = write(tmp_path, "c.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config([path], environment={})
    assert key in caught.value.what
    assert caught.value.where == f"{path}:{line}"


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: [1\n", "not valid YAML"), ("- 1\n", "sections"), ("seed: 1\nseed: 2\n", "twice")],
    ids=["broken", "a-list", "key-twice"],
)
def test_broken_yaml_is_a_config_error(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_config([write(tmp_path, "c.yaml", text)], environment={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config([tmp_path / "none.yaml"])
    assert caught.value.where == str(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "assignments",
    [
        ["strategy.backend=tensorflow", "strategy.kind=multi-host"],
        ["strategy.backend=jax", "strategy.kind=mirrored"],
        ["autoencoder.train_on=all"],
        ["compute.workers=2"],
        ["compute.engine=dask", "strategy.threads=1"],
        ["compute.address=here:8786"],
        ["fuse.model=late"],
        ["dataset.source=images", "autoencoder.input.kind=celsius"],
        ["filter.views=[Frontal]", "dataset.views=[Left]"],
    ],
    ids=lambda value: value[0],
)
def test_pairs_that_cannot_go_together_are_refused(assignments: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot go together") as caught:
        load_config(assignments=assignments, environment={})
    assert caught.value.found


def test_who_asks_for_claims_is_told_of_compute_and_old_runs_still_read() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=["strategy.shared=true"], environment={})
    assert "compute.engine" in str(caught.value.fields())
    assert load_config(assignments=["strategy.shared=false"], environment={}).strategy == StrategySection()


@pytest.mark.parametrize("text", ["seed", "=3", ""], ids=["no-value", "no-key", "empty"])
def test_set_needs_key_and_value(text: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        load_config(assignments=[text], environment={})


def test_the_dump_loads_back_to_the_same_config(tmp_path: Path) -> None:
    config = load_config(assignments=["simulate.shape=48x64", "seed=0", "split.folds=3"], environment={})
    again = load_config([write(tmp_path, "d.yaml", dump_yaml(config))], environment={})
    assert again == config
    assert yaml.safe_load(dump_yaml(config))["simulate"]["shape"] == [48, 64]


def test_the_names_scripts_rely_on_are_there() -> None:
    names = {field.alias or name for name, field in Config.model_fields.items()}
    expected = (
        "workspace seed compute strategy pipeline fetch import simulate convert filter dataset split autoencoder fuse "
        "dit cnn cohort features evaluate locate report sweep tracking"
    )
    assert " ".join(sorted(names)) == " ".join(sorted(expected.split()))


@pytest.mark.parametrize("key", ["simulate.shape", "filter.shape", "dataset.size", "dit.size", "features.pixels"])
def test_every_shape_may_be_written_as_text(key: str) -> None:
    section, _, name = key.partition(".")
    assert getattr(getattr(load_config(assignments=[f"{key}=48x64"], environment={}), section), name) == (48, 64)
    for wrong in ("48", "48x", "axb", "48x64x3"):
        with pytest.raises(ConfigError, match="ROWSxCOLUMNS"):
            load_config(assignments=[f"{key}='{wrong}'"], environment={})


@pytest.mark.parametrize(
    "text",
    [
        "seed: 0777", "simulate: {patients: 1000000000}", "simulate: {shape: 1x1}", "dataset: {size: [1, 1]}",
        "fetch: {timeout_s: .inf}", "fetch: {interval_s: .nan}", "fetch: {backoff_s: 1.0e+9}",
        "evaluate: {bootstrap: 1000000000}",
        "simulate: {shape: 12:30}", "fuse: {name: ../../escaped}", "dataset: {name: ''}", "evaluate: {compare: [/etc]}",
        "seed: 2015-99-99", "seed: " + "9" * 5000, "seed: " + "[" * 5000, "seed: &a [*a]", "workspace: \"a\\0b\"",
        "workspace: ~no_such_user/study",
        "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: &d [*c, *c, *c, *c]\n"
        "e: &e [*d, *d, *d, *d]\n"
        "f: &f [*e, *e, *e, *e]\ng: [*f, *f, *f, *f]",
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_absurd_and_hostile_settings_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_config([path], environment={})


def test_an_alias_that_says_little_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("filter: {views: &views [Frontal, Left]}\ndataset: {views: *views}\nseed: 1_000\n")
    config = load_config([path], environment={})
    assert (config.dataset.views, config.seed) == (("Frontal", "Left"), 1000)


def test_every_setting_says_what_it_means_and_what_it_takes() -> None:
    page = (Path(__file__).parents[1] / "docs" / "config.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    for row in rows:
        allowed, meaning = row.strip("| ").split(" | ")[-2:] if row.count(" | ") == 3 else ("", "")
        assert allowed, row
        assert meaning, row
        assert "anything" not in allowed or "space" in row, row


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=["fuse.C=-1", "fuse.kernal=rbf", "fetch.url=https://me:secret@x.org/"], environment={})
    told = str(caught.value.fields())
    assert "fuse.kernel" in told
    assert "fuse.C: Input should be greater than 0" in told
    assert "fetch.url: an address without an account" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("name", "hint"),
    [("THERMOCANCER_WORKSPCE", "THERMOCANCER_WORKSPACE"), ("THERMOCANCER_FUSE_C", "two underscores")],
)
def test_a_slip_in_a_variable_is_refused(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environment={name: "1"})
    assert name in caught.value.what
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("road", ["phantom", "folder", "site", "classes"])
def test_a_starting_file_loads_to_the_defaults(tmp_path: Path, road: str) -> None:
    text = starting_file(road)
    config = load_config([write(tmp_path, "s.yaml", text)], environment={})
    assert set(differences(config, Config())) <= {"pipeline"}
    # every default that it shows is one: the file says the same with each # taken away
    shown = "\n".join(line.replace("#   ", "  ", 1) if line.startswith("#   ") else line for line in text.splitlines())
    assert load_config([write(tmp_path, "t.yaml", shown)], environment={}) == config


def test_differences_name_key_and_both_values() -> None:
    one, other = load_config(assignments=["fuse.C=3"], environment={}), load_config(environment={})
    assert differences(one, other) == {"fuse.C": (3.0, 1.0)}
