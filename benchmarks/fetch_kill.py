"""SIGKILL at random moments of a fetch, then one clean run: is the mirror what it would have been?

    python benchmarks/fetch_kill.py [--kills 50]

Every second kill strikes while a finished mirror takes in changed files. Each mirror is then compared,
byte for byte, with one that nobody disturbed. Prints a line a kill; ends with 1 if any byte differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from dmr_replica import Faults, Replica
from dmr_replica_content import Content, cohort, fixtures
from fetch_fixtures import SHAPE, Client, comparable, kill_fetch


def change_everything(content: Content) -> None:
    """Another body, of the same length, for every file."""
    for bodies in content.files.values():
        bodies[:] = [lambda body=bodies[-1]: body().replace(b" 3", b" 2", 40)]


def first_fetch(rng: np.random.Generator, folder: Path) -> tuple[str, bool, bool]:
    """Kill the first fetch of the hard cases. Returns what was done, whether it was killed, whether all is equal."""
    with Replica(fixtures(SHAPE), Faults(validators=True, delay_s=0.002)).running() as replica:
        mirrors = [Client(replica, folder / name) for name in ("killed", "undisturbed")]
        after = int(rng.integers(1, 112))
        options = ("--connections", str(rng.integers(1, 5)))
        killed = kill_fetch(mirrors[0], after_requests=after, then_s=float(rng.uniform(0, 0.02)), more=options)
        for each in mirrors:
            replica.served.clear()
            each.fetch()
        return f"first fetch, after request {after:3d}", killed, comparable(mirrors[0]) == comparable(mirrors[1])


def changed_files(rng: np.random.Generator, folder: Path) -> tuple[str, bool, bool]:
    """Kill a fetch that replaces every file."""
    content = cohort(3, SHAPE, dynamic_exams=False)
    with Replica(content, Faults(validators=True, delay_s=0.002)).running() as replica:
        mirrors = [Client(replica, folder / name) for name in ("killed", "undisturbed")]
        for each in mirrors:
            each.fetch()
        change_everything(content)
        after = int(rng.integers(8, 25))
        options = ("--recheck", "validators", "--connections", str(rng.integers(1, 5)))
        killed = kill_fetch(mirrors[0], after_requests=after, then_s=float(rng.uniform(0, 0.02)), more=options)
        for each in mirrors:
            each.fetch(recheck="validators")
        return f"changed files, after request {after:3d}", killed, comparable(mirrors[0]) == comparable(mirrors[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    killed_count = different = 0
    for number in range(chosen.kills):
        rng = np.random.default_rng([chosen.seed, number])
        with tempfile.TemporaryDirectory() as folder:
            what, killed, equal = (changed_files if number % 2 else first_fetch)(rng, Path(folder))
        killed_count += killed
        different += not equal
        print(
            f"{number + 1:3d}  {what}: {'killed' if killed else 'had ended'}, {'equal' if equal else 'DIFFERENT'}",
            flush=True,
        )
    print(
        f"{killed_count} of {chosen.kills} were killed; {chosen.kills - different} mirrors equal, {different} different"
    )
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
