"""How stages grow with the number of exams, and what handing a piece of work to one of many workers costs.

    python benchmarks/scale.py [--exams 300 1000 10000] [--stages filter build-dataset fuse evaluate]

Small exams (one view, 24x32, a third of them sick), a process of its own for each stage: seconds of the processor and
of the clock, peak memory of that process, and between two sizes the slope (1: twice the exams, twice the time; a
fixed cost such as imports makes it less). ``fuse`` is the thermal baseline on 5 folds, ``evaluate`` its report with
the whole audit. Then 640 pieces that only wait, on 64 workers simulated by the threads of one Dask worker: what a
piece takes beyond its waiting.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer import stages
from thermocancer.compute import run_all
from thermocancer.config import load_config
from thermocancer.config.learning import ComputeSection
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName
from thermocancer.progress import Silent
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace

SHAPE, SICK_EVERY, LUMP_CELSIUS = (24, 32), 3, 1.0
STAGES = ("filter", "build-dataset", "fuse", "evaluate")
WORKERS, PIECES, WAIT_S = 64, 640, 0.2
OPTIONS = {"filter.views": ["Frontal"], "fuse.model": "thermal", "split.repeats": 1, "evaluate.run": "thermal",
           "fuse.name": "thermal"}  # fmt: skip


def make_raw(workspace: Workspace, exams: int) -> None:
    """A warm body with patches of its own in a cool room; the sick are warmer on one side."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] / np.array(SHAPE)[:, None, None]
    inside = ((columns - 0.5) / 0.33) ** 2 + ((rows - 0.6) / 0.75) ** 2 < 1
    records = []
    for patient in range(1, exams + 1):
        random, sick = np.random.default_rng([patient, 1]), patient % SICK_EVERY == 0
        patches = np.kron(random.normal(0, 0.6, (6, 8)), np.ones((4, 4)))
        celsius = np.where(inside, 33 + patches + sick * LUMP_CELSIUS * (columns > 0.6), 22.0)
        celsius += random.normal(0, 0.05, SHAPE)
        label = "sick" if sick else "healthy"
        name = ThermogramName(patient, 1, 1, "S", "2014-05-06", 0)
        path = workspace.raw / name.tree_path(label)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = format_matrix(np.rint(100 * celsius).astype(np.uint16), "space2")
        path.write_bytes(content)
        records.append(Record(
            path=name.tree_path(label), patient=patient, visit=1, view="Frontal", protocol="S", date="2014-05-06",
            index=0, label=label, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), layout="space2",
            source="import",
        ))  # fmt: skip
    write_catalog(workspace, records)


def work(folder: Path, stage: str) -> None:
    """One stage in this process; prints what it took as JSON."""
    before, started = time.process_time(), time.perf_counter()
    stages.run_stage(stage, load_config(options=OPTIONS, workspace=folder), Workspace(folder), Silent())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([time.process_time() - before, time.perf_counter() - started, peak]))


def measure(sizes: list[int], names: list[str]) -> None:
    print(f"{'stage':14} {'exams':>6} {'processor s':>12} {'clock s':>8} {'ms an exam':>11} {'peak MB':>8}  slope")
    took: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            folder = Path(scratch) / str(size)
            make_raw(Workspace(folder), size)
            for stage in names:
                command = [sys.executable, __file__, "--work", str(folder), "--stages", stage]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                processor, clock, peak = json.loads(done.stdout.splitlines()[-1])
                took[stage, size] = processor
                smaller = max((each for each in sizes if (stage, each) in took and each < size), default=None)
                slope = ""
                if smaller is not None:
                    slope = f"{math.log(processor / took[stage, smaller]) / math.log(size / smaller):.2f}"
                each = 1e3 * processor / size
                print(
                    f"{stage:14} {size:6} {processor:12.2f} {clock:8.1f} {each:11.2f} {peak:8.0f}  {slope}", flush=True
                )


# --- pieces that only wait --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    seconds: float

    def run(self, piece: int) -> int:
        time.sleep(self.seconds)
        return piece


def overhead() -> None:
    import distributed

    settings = {"n_workers": 1, "threads_per_worker": WORKERS, "host": "127.0.0.1", "dashboard_address": ":0"}
    with distributed.LocalCluster(**settings) as cluster:
        section = ComputeSection(engine="dask", workers=WORKERS, address=cluster.scheduler_address)
        list(run_all(Waiting(0.0), list(range(WORKERS)), section))  # connected, and the work is known
        started, before = time.perf_counter(), time.process_time()
        assert sorted(run_all(Waiting(WAIT_S), list(range(PIECES)), section)) == list(range(PIECES))
        clock, processor = time.perf_counter() - started, time.process_time() - before
    beyond = 1e3 * (clock - WAIT_S * PIECES / WORKERS) / PIECES
    print(
        f"{PIECES} pieces of {WAIT_S} s on {WORKERS} simulated workers: {clock:.2f} s, {beyond:.2f} ms a piece beyond "
        f"waiting, of the scheduler's processor {1e3 * processor / PIECES:.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, nargs="+", default=[300, 1000, 10000])
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.work is not None:
        work(given.work, given.stages[0])
        return
    measure(sorted(given.exams), given.stages)
    overhead()


if __name__ == "__main__":
    main()
