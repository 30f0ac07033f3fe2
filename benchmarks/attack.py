"""Damaged and hostile files, kills and races against the program: what is wrong, untyped or left behind is counted.

python benchmarks/attack.py                                    100,000 files, 200 kills, 1,000 rounds at a lock
python benchmarks/attack.py --files 3000 --kills 0 --rounds 20

Files: whole ones of every kind that a workspace holds or a user brings are changed (bits, cuts, repeats, and in JSON
values of other types, other sizes and paths that lead outside), then read. Wrong is what is read with other values
and without a word (HDF5, which has checksums) or leads out of the workspace; untyped is every error but the
program's own. Kills: each stage gets SIGKILL at every rename of a file, is typed again, and must end with the bytes of
an undisturbed run and with nothing else. Rounds: four processes at one dead lock; wrong is who holds it beside another.
Hostile servers are tests of their own (tests/test_fetch_outage.py), and so are texts (benchmarks/fuzz_reading.py).
Ends with 1 unless every count is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attack_files import SETTINGS, Counts, attack_files, small_road

Taker = Callable[[Path, Path], str]
"""Takes a file in, as ``files.link_or_copy`` does."""

STAGES = ("simulate", "convert", "filter", "build-dataset", "fuse", "evaluate")


# --- locks ------------------------------------------------------------------------------------------------------------

TAKER = """
import os, sys, time
from pathlib import Path
from thermocancer.errors import LockedError
from thermocancer.locks import stage_lock
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
for number in range(rounds):
    while not (folder / f"go-{number}").exists():
        time.sleep(0.0002)
    try:
        with stage_lock(folder / f"{number}" / "fuse.lock"):
            held = folder / f"held-{number}-{os.getpid()}"
            held.touch()
            time.sleep(0.002)
            print(number, len(list(folder.glob(f"held-{number}-*"))), flush=True)
            held.unlink()
    except LockedError:
        print(number, 0, flush=True)
"""


def attack_locks(rounds: int, counts: Counts) -> None:
    """Four processes at one dead lock, ``rounds`` times: a reused pid, an empty file, a killed owner."""
    import socket

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    long_ago = time.time() - 7 * 86400
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        command = [sys.executable, "-c", TAKER, folder, str(rounds)]
        takers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for number in range(rounds):
            lock = root / f"{number}" / "fuse.lock"
            lock.parent.mkdir()
            pid = (dead.pid, os.getpid(), 1)[number % 3]
            owner = json.dumps({"pid": pid, "host": socket.gethostname(), "since": long_ago})
            lock.write_text("" if number % 4 == 3 else owner)
            os.utime(lock, (long_ago, long_ago))
            (root / f"go-{number}").touch()
            said = [taker.stdout.readline().split() for taker in takers if taker.stdout is not None]
            most = max(int(each[1]) for each in said)
            nobody = "nobody could take a dead lock" if most == 0 else ""
            double = f"{most} held it at once" if most > 1 else ""
            counts.note("four takers at a dead lock", "wrong" if nobody or double else "one", nobody or double)
        for taker in takers:
            taker.communicate()


# --- kills ------------------------------------------------------------------------------------------------------------

KILLED = """
import os, pathlib, signal, sys
left = [int(sys.argv[1])]
def counted(rename):
    def call(*given, **named):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(*given, **named)
    return call
os.replace, os.rename, os.link = counted(os.replace), counted(os.rename), counted(os.link)
pathlib.Path.rename = counted(pathlib.Path.rename)
sys.argv = ["thermocancer", *sys.argv[2:]]
from thermocancer.cli import main
main()
"""


def typed(stage: str, root: Path, *, killed_at: int = 0) -> int:
    """Type a stage's command in ``root``; SIGKILL at its ``killed_at``-th rename, if it has so many. Its exit code."""
    settings = [f"--set={key}={value}" for key, value in SETTINGS.items()]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed_at), stage, "-w", ".", "--quiet", *settings],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode


def attack_stages(kills: int, seed: int, counts: Counts) -> None:
    """Kill each stage at its renames, evenly among the stages, and compare with an undisturbed road."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root, whole = Path(folder) / "killed", Path(folder) / "whole"
        root.mkdir()
        whole.mkdir()
        for stage in STAGES:
            if typed(stage, whole):
                raise RuntimeError(f"{stage} failed undisturbed")
            reference = dict(_outputs(whole))
            for number in range(kills // len(STAGES)):
                at = number + 1 if rng.random() < 0.5 else rng.randint(1, 40)
                outcome, detail = "whole", ""
                if typed(stage, root, killed_at=at) == 0:  # it had fewer renames, or nothing to do
                    outcome = "ended before"
                elif code := typed(stage, root):
                    outcome, detail = "untyped", f"kill at rename {at}: then exit {code}"
                if outcome != "untyped":
                    typed(stage, root)
                    found = dict(_outputs(root))
                    left = sorted(found.keys() - reference.keys())
                    differs = sorted(path for path in reference if found.get(path) != reference[path])
                    if differs:
                        outcome, detail = "wrong", f"kill at rename {at}: {differs[:3]}"
                    elif left:
                        outcome, detail = "left", f"kill at rename {at}: {left[:3]}"
                counts.note(f"kills of {stage}", outcome, detail)
                _forget(stage, root)
            typed(stage, root)


def _forget(stage: str, root: Path) -> None:
    """Take away what a stage makes, so that it has work again."""
    import shutil

    made = {
        "simulate": ["raw"], "convert": ["images"], "filter": ["filtered"], "build-dataset": ["datasets", "split.json"],
        "fuse": ["runs", "cache"], "evaluate": [],
    }  # fmt: skip
    for name in made[stage]:
        path = root / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if stage == "evaluate":
        for name in ("metrics.json", "report.html", "evaluation.json"):
            (root / "runs" / "fuse" / name).unlink(missing_ok=True)


def _outputs(root: Path) -> Iterator[tuple[str, str]]:
    """Every file but the cache's, by its path, with its hash; of the cache, fragments."""
    import hashlib

    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and (not name.startswith("cache/") or ".partial" in path.name):
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the program with damaged files, kills and races.")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts, started = Counts(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        attack_files(small_road(Path(folder)), given.files, given.seed, counts)
    attack_locks(given.rounds, counts)
    attack_stages(given.kills, given.seed, counts)
    print(counts.table())
    print(*counts.examples, sep="\n")
    print(f"{time.monotonic() - started:.0f} s")
    return int(counts.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
