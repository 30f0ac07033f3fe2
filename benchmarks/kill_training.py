"""Kill a training at random steps, resume it, and compare with one that was left alone, bit for bit.

    python benchmarks/kill_training.py [--kills 20] [--backends tensorflow jax]

A small autoencoder is trained in a process of its own, slowed down so that a kill meets it at work. It
gets SIGKILL after a random time, is started again and killed again, until so many kills have struck;
then it is left to end. Weights, history and model file must equal those of the uninterrupted run.
Prints one line a backend; ends with 1 if a bit differs.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

JOB = Path(__file__).parents[1] / "tests" / "training_job.py"
EPOCHS, IMAGES = 12, 30


def start(folder: Path, backend: str, pause_s: float) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    job: dict[str, Any] = {
        "sections": [{"backend": backend, "kind": "cpu"}], "epochs": EPOCHS, "count": IMAGES, "pause_s": pause_s,
    }  # fmt: skip
    return subprocess.Popen([sys.executable, str(JOB), str(folder), json.dumps(job)])


def whole(folder: Path, backend: str) -> dict[str, Any]:
    """The uninterrupted training."""
    if start(folder, backend, 0).wait():
        raise SystemExit(f"the uninterrupted training under {backend} failed")
    return dict(json.loads((folder / "0.0.json").read_text()))


def standing(folder: Path) -> int:
    """Epochs in the history of the checkpoint."""
    path = folder / "0" / "checkpoint" / "history.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill_often(folder: Path, backend: str, kills: int, pause_s: float) -> tuple[int, list[int]]:
    """Kill and start again; returns how many kills struck and after how many epochs each."""
    struck: list[int] = []
    while len(struck) < kills:
        process = start(folder, backend, pause_s)
        before = standing(folder)
        # from the moment it is at work: the next checkpoint, then a random part of the epochs that follow
        while process.poll() is None and standing(folder) == before:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1.2) * pause_s * IMAGES / 4)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        struck.append(standing(folder))
    return len(struck), struck


def check(backend: str, kills: int, scratch: Path) -> bool:
    reference = whole(scratch / f"{backend}-whole", backend)
    total, rounds, points, same = 0, 0, [], True
    while total < kills:
        rounds += 1
        folder = scratch / f"{backend}-{rounds}"
        struck, where = kill_often(folder, backend, min(kills - total, EPOCHS - 2), 0.1)
        if start(folder, backend, 0).wait():
            raise SystemExit(f"the resumed training under {backend} failed")
        found = json.loads((folder / "0.0.json").read_text())
        same &= found["digest"] == reference["digest"] and found["history"] == reference["history"]
        same &= (folder / "0.keras").read_bytes() == (scratch / f"{backend}-whole" / "0.keras").read_bytes()
        total, points = total + struck, points + where
    verdict = "same weights, history and model file, bit for bit" if same else "DIFFERENT"
    print(f"{backend:11} {total} kills in {rounds} trainings, after epochs {points}: {verdict}", flush=True)
    return same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax"])
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        results = [check(backend, given.kills, Path(folder)) for backend in given.backends]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
