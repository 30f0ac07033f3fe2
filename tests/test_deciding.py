"""What decides a result: every setting that a kind reads, and the backend as it was resolved here."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sequence_fixtures
from fuse_fixtures import built, config_for

from thermocancer import strategy
from thermocancer.config import load_config
from thermocancer.config.base import is_aside
from thermocancer.kinds import AE, kind, kinds
from thermocancer.progress import Silent
from thermocancer.runs.deciding import decided_by, network_decided_by, settings_of
from thermocancer.stages import fuse, train_dit

NETWORKS = [name for name, each in kinds().items() if each.runs_network]
TABLES = [name for name in kinds() if name not in NETWORKS]


def decided(name: str, **options: Any) -> str:
    given = {key.replace("__", "."): value for key, value in options.items()}
    return decided_by(kind(name), load_config(options=given, environment={}), "exams")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "option", [{"strategy__backend": "jax"}, {"strategy__precision": "mixed_float16"}, {"strategy__threads": 1}]
)
def test_backend_and_precision_decide_what_passes_through_a_network(name: str, option: dict[str, str]) -> None:
    plain = {"strategy__backend": "tensorflow"}
    assert decided(name, **plain) != decided(name, **(plain | option))


@pytest.mark.parametrize("name", TABLES)
def test_no_backend_decides_what_is_fitted_to_a_table(name: str) -> None:
    assert decided(name, strategy__backend="tensorflow") == decided(name, strategy__backend="jax")


@pytest.mark.parametrize("name", NETWORKS)
def test_an_automatic_backend_decides_as_it_resolves_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(strategy.look(), running=None, asked=None, tpu=False, tensorflow=True, jax=True)
    monkeypatch.setattr(strategy, "look", lambda: bare)
    assert decided(name) == decided(name, strategy__backend="tensorflow")
    monkeypatch.setattr(strategy, "look", lambda: replace(bare, tpu=True))
    assert decided(name) == decided(name, strategy__backend="jax")


def test_an_automatic_backend_decides_an_autoencoder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(strategy.look(), running=None, asked=None, tpu=False, tensorflow=True, jax=True)
    config = load_config(environment={})
    found = []
    for tpu in (False, True):
        monkeypatch.setattr(strategy, "look", lambda tpu=tpu: replace(bare, tpu=tpu))
        found.append(network_decided_by(AE, config, "exams"))
    assert found[0] != found[1]


def test_a_run_on_another_backend_is_something_to_do(tmp_path: Path) -> None:
    workspace = built(tmp_path, patients=15)
    options: dict[str, Any] = {
        "filter__views": ["Frontal"], "split__folds": 2, "fuse__name": "net", "fuse__model": "network",
        "fuse__epochs": 1, "fuse__untrained": True,
    }  # fmt: skip
    tensorflow = config_for(workspace, **options, strategy__backend="tensorflow")
    fuse.run(tensorflow, workspace, Silent())
    assert fuse.plan(tensorflow, workspace).todo == ()
    assert len(fuse.plan(config_for(workspace, **options, strategy__backend="jax"), workspace).todo) == 1


def test_a_sequence_run_is_something_to_do_where_auto_resolves_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = sequence_fixtures.built(tmp_path)
    config = sequence_fixtures.tiny_config(workspace, strategy__backend="auto", dit__epochs=1, dit__name="auto")
    train_dit.run(config, workspace, Silent())
    assert train_dit.plan(config, workspace).todo == ()
    elsewhere = replace(strategy.look(), running="jax", jax=True)
    monkeypatch.setattr(strategy, "look", lambda: elsewhere)
    assert len(train_dit.plan(config, workspace).todo) == 1


@pytest.mark.parametrize(
    "field", [name for name, info in type(load_config(environment={}).dit).model_fields.items() if not is_aside(info)]
)
def test_every_setting_of_a_section_decides_unless_marked(field: str) -> None:
    assert f"dit.{field}" in settings_of(kind("sequence"), load_config(environment={}))


def test_what_is_marked_decides_nothing() -> None:
    assert decided("sequence", dit__name="one") == decided("sequence", dit__name="other")


def test_looking_imports_no_framework() -> None:

    code = (
        "import sys; from thermocancer.config import load_config; from thermocancer.kinds import kind;"
        "from thermocancer.runs.deciding import decided_by; decided_by(kind('network'), load_config(environment={}));"
        "print([name for name in ('tensorflow', 'keras', 'jax') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
