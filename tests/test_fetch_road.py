"""From the site to a report: fetch from the replica, then everything that the shipped config names."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dmr_replica import Replica
from dmr_replica_content import cohort
from fetch_fixtures import SHAPE, Client, cli_environment

ROOT = Path(__file__).parents[1]


def test_fetch_then_run_gives_a_report_and_the_next_run_does_nothing(tmp_path: Path) -> None:
    with Replica(cohort(14, SHAPE, dynamic_exams=False)).running() as replica:
        workspace = Client(replica, tmp_path / "study").root
        command = [
            sys.executable, "-m", "thermocancer", "run", "-c", str(ROOT / "configs" / "replica.yaml"), "-w",
            str(workspace), "--set", f"fetch.url={replica.url}", "--set", "fetch.interval_s=0", "--set",
            "evaluate.audit=false", "--set", "evaluate.explain=false", "--set", "evaluate.bootstrap=100",
            "--set", "split.folds=2", "--json",
        ]  # fmt: skip
        for name in ("first", "second"):
            done = subprocess.run(
                [*command, str(tmp_path / f"{name}.json")], env=cli_environment(), capture_output=True, text=True,
                timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
    assert "<html" in (workspace / "runs" / "replica" / "report.html").read_text().lower()
    metrics = json.loads((workspace / "runs" / "replica" / "metrics.json").read_text())
    assert (metrics["n"], metrics["leaks"]) == (14, [])
    second = json.loads((tmp_path / "second.json").read_text())
    assert [each["made"] for each in second["stages"]] == [0] * len(second["stages"])
