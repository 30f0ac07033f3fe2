"""The Colab notebook runs, its Colab-only cells replaced by local ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "notebooks" / "colab_tpu.ipynb").read_text())
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
LOCAL_ROAD = """\
pipeline: [simulate, convert, filter, build-dataset, train-ae, fuse, evaluate]
simulate: {patients: 10, shape: 48x64, sick_fraction: 0.5, dynamic: false}
filter: {views: [Frontal]}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v2, epochs: 1, batch: 4}
fuse: {name: colab}
evaluate: {bootstrap: 100, audit: false}
"""


def tags(cell: dict[str, Any]) -> list[str]:
    return cell["metadata"].get("tags", [])


def run_shell(line: str, names: dict[str, Any], cwd: Path) -> None:
    command = line.removeprefix("!").format(**names).split()
    assert command[0] == "thermocancer", f"not a command of the program: {line}"
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


def test_every_cell_that_is_not_colabs_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "local.yaml"
    config.write_text(LOCAL_ROAD)
    names: dict[str, Any] = {"WORKSPACE": str(tmp_path / "workspace"), "CONFIG": str(config)}
    shown: list[str] = []
    display = type(sys)("IPython.display")
    vars(display).update(HTML=lambda text: text, display=shown.append)  # what the last cell draws with
    monkeypatch.setitem(sys.modules, "IPython", type(sys)("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    for cell in CODE:
        if {"colab-only", "needs-account"} & set(tags(cell)):
            continue
        lines = "".join(cell["source"])
        if lines.startswith("!"):
            for line in lines.splitlines():
                run_shell(line, names, tmp_path)
        else:
            exec(compile(lines, cell["id"], "exec"), names)
    assert len(shown) == 1
    assert "colab" in shown[0]


def test_no_output_and_no_secret_is_stored_in_it() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    text = json.dumps(NOTEBOOK).lower()
    assert "userdata.get" in text
    assert "password =" not in text
