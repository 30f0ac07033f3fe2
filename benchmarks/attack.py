"""Damaged files, hostile servers, kills, full disks and races: what is wrong, untyped or left behind is counted.

python benchmarks/attack.py      100,000 files, 500 kills, 100 full disks, 50 pairs, 245 servers, 1,000 rounds at a lock
python benchmarks/attack.py --files 3000 --kills 0 --disks 0 --pairs 0 --servers 0 --rounds 20
python benchmarks/attack.py --files 0 --servers 0 --rounds 0 --kills 100 --stages filter "fuse (late)"

Files: whole ones of every kind that a workspace holds or a user brings are changed (bits, cuts, repeats, and in JSON
values of other types, other sizes and paths that lead outside), then read. Wrong is what is read with other values
and without a word (HDF5, which has checksums) or leads out of the workspace; untyped is every error but the
program's own. Servers: attack_servers.py. Kills, full disks, pairs: each stage, typed again, must end with the bytes of
an undisturbed run and with nothing else (attack_kills.py). Rounds: four processes at one dead lock; wrong is who holds
it beside another. Texts have a script of their own (fuzz_reading.py). Ends with 1 unless every count is 0.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attack_files import Counts, attack_files, small_road
from attack_kills import HOW, SLOW, STAGES, attack_stages
from attack_servers import attack_servers

Taker = Callable[[Path, Path], str]
"""Takes a file in, as ``files.link_or_copy`` does."""


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


def _shares(number: int, stages: list[str]) -> dict[str, int]:
    """So many attacks by stage: of those that take long a third as many."""
    weights = {stage: 1 if stage in SLOW else 3 for stage in stages}
    return {stage: math.ceil(number * weight / sum(weights.values())) for stage, weight in weights.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the program with damaged files, servers, kills and races.")
    numbers = {"files": 100_000, "kills": 500, "disks": 100, "pairs": 50, "servers": 245, "rounds": 1000, "seed": 0}
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=list(STAGES))
    given = parser.parse_args()
    counts, started = Counts(), time.monotonic()
    shares = [_shares(number, given.stages) for number in (given.kills, given.disks, given.pairs)]
    if given.kills + given.disks + given.pairs:  # first: it imports the libraries and computes nothing itself
        each = {stage: {how: share[stage] for how, share in zip(HOW, shares, strict=True)} for stage in given.stages}
        with tempfile.TemporaryDirectory() as folder:
            attack_stages(each, given.seed, counts, Path(folder))
    if given.files:
        with tempfile.TemporaryDirectory() as folder:
            attack_files(small_road(Path(folder)), given.files, given.seed, counts)
    attack_servers(given.servers, counts)
    attack_locks(given.rounds, counts)
    print(counts.table())
    print(*counts.examples, sep="\n")
    print(f"{time.monotonic() - started:.0f} s")
    return int(counts.bad > 0)


if __name__ == "__main__":
    sys.exit(main())
