"""The notebook runs as it stands, from its first cell to its last, with an account, without one, and on a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nbformat
import pytest
from dmr_replica import Replica
from dmr_replica_content import cohort
from fetch_fixtures import SHAPE, cli_environment
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "colab_tpu.ipynb"
TINY = (
    "filter.views=[Frontal]", "split.folds=2", "split.repeats=1", "split.inner_folds=2", "fuse.model=thermal",
    "evaluate.bootstrap=100", "evaluate.audit=false", "evaluate.explain=false",
)  # fmt: skip


def outputs_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Sequence[str], **account: str) -> list[str]:
    """Every cell run in a kernel of its own; the text and HTML of each code cell. Raises where a cell does."""
    monkeypatch.setenv("NOTEBOOK_SETTINGS", " ".join(f'--set "{each}"' for each in (*TINY, *settings)))
    monkeypatch.setenv("NOTEBOOK_WORKSPACE", str(tmp_path / "study"))
    for name in ("THERMOCANCER_USER", "THERMOCANCER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    for name, text in account.items():
        monkeypatch.setenv(name, text)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [each.get("text") or each["data"].get("text/html", "") for each in cell.outputs]
            found.append("".join(parts))
    return found


def test_run_all_without_an_account_ends_with_a_report_on_phantoms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    road = "pipeline=[simulate,filter,build-dataset,fuse,evaluate]"
    small = ("simulate.patients=10", "simulate.shape=48x64", "simulate.sick_fraction=0.5", road)
    said = outputs_of(tmp_path, monkeypatch, small)
    assert "data: phantom" in said[2]
    assert "<h3>svm5</h3>" in said[-2]
    assert "<h1" in said[-1]
    assert "synthetic" in said[-1]


def test_run_all_with_an_account_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("THERMOCANCER_USER", "THERMOCANCER_PASSWORD")
    account = {name: text for name, text in cli_environment().items() if name in names}
    with Replica(cohort(10, SHAPE, dynamic_exams=False)).running() as replica:
        site = (f"fetch.url={replica.url}", "fetch.interval_s=0", f"fetch.shape={json.dumps(SHAPE)}")
        road = "pipeline=[fetch,filter,build-dataset,fuse,evaluate]"
        said = outputs_of(tmp_path, monkeypatch, (*site, road, "dataset.size=null"), **account)
    assert "data: site" in said[2]
    assert "<h3>honest</h3>" in said[-2]
    assert "synthetic: they come" not in said[-1]
    assert all(text not in "".join(said) for text in account.values())


def test_no_output_and_no_secret_is_stored_in_it() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert "userdata.get" in json.dumps(cells)
