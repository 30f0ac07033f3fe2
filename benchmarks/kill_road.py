"""Kill every stage at random moments, run it again, and compare with a run that was left alone.

    python benchmarks/kill_road.py --kills 20

For each stage of a small road: the process group gets SIGKILL after a random share of the stage's own
time, the same command is typed again, and the workspace must be byte-identical to the reference.
Prints one line a stage. Ends with 1 if any byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STAGES = ("simulate", "convert", "filter", "build-dataset", "train-ae", "fuse", "evaluate")
SMALL_ROAD = """\
seed: 5
simulate: {patients: 12, shape: 48x64, sick_fraction: 0.5, second_visits: 0.2, frames: 20}
filter: {views: [Frontal, Right, Left]}
dataset: {dynamic: true}
convert: {videos: true}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v2, epochs: 2, batch: 4}
fuse: {name: svm3, model: svm}
evaluate: {bootstrap: 200, audit: false}
"""
NOT_COMPARED = ("cache", "locks")
"""What may be thrown away and what only exists while a stage runs."""


def tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file of a workspace that is an output, by relative path."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in NOT_COMPARED
    }


def start(stage: str, config: Path, workspace: Path) -> subprocess.Popen[bytes]:
    """The stage's command in a process group of its own, so that its workers die with it.

    It runs inside the workspace: a run's ``config.yaml`` keeps the workspace's name as it was typed.
    """
    workspace.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "thermocancer", stage, "-c", str(config), "-w", ".", "--quiet"]
    return subprocess.Popen(command, cwd=workspace, start_new_session=True)


def run_to_end(stage: str, config: Path, workspace: Path) -> float:
    """Run the stage; returns its seconds. Raises when it fails."""
    started = time.monotonic()
    code = start(stage, config, workspace).wait()
    if code:
        raise RuntimeError(f"{stage} ended with {code}")
    return time.monotonic() - started


def kill_after(seconds: float, stage: str, config: Path, workspace: Path) -> bool:
    """Start the stage and SIGKILL it after so many seconds; False when it had already ended."""
    process = start(stage, config, workspace)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def differences(reference: dict[str, str], found: dict[str, str]) -> list[str]:
    """Paths that are missing, extra or different."""
    return sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))


def torture(stage: str, before: Path, config: Path, reference: dict[str, str], kills: int, seconds: float) -> list[str]:
    """Kill one stage ``kills`` times, each from a fresh copy of the workspace before it."""
    draw = random.Random(stage)
    wrong: list[str] = []
    hits = 0
    for number in range(kills):
        workspace = before.with_name(f"killed-{stage}")
        shutil.copytree(before, workspace)
        hits += kill_after(draw.uniform(0.02, 1.0) * seconds, stage, config, workspace)
        run_to_end(stage, config, workspace)
        wrong += [f"kill {number}: {name}" for name in differences(reference, tree(workspace))]
        shutil.rmtree(workspace)
    print(f"{stage:14} {seconds:6.1f} s, killed {hits} of {kills}, {len(wrong)} files differ", flush=True)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--stages", nargs="*", default=STAGES, choices=STAGES)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "road.yaml")
        config.write_text(SMALL_ROAD)
        workspace = Path(folder, "workspace")
        workspace.mkdir()
        wrong: list[str] = []
        for stage in STAGES:
            before = Path(folder, "before")
            shutil.copytree(workspace, before)
            seconds = run_to_end(stage, config, workspace)
            if stage in arguments.stages:
                wrong += torture(stage, before, config, tree(workspace), arguments.kills, seconds)
            shutil.rmtree(before)
    for line in wrong[:40]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
