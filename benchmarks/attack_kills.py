"""Kills, full disks and second processes at every stage: is the end the same, and is anything left?

Part of ``attack.py``. The libraries are imported once, in a process that computes nothing; every typed command is a
fork of it, so that a kill costs the stage's own seconds and not those of starting TensorFlow. Each attack strikes a
copy of the workspace as it was before the stage; the command is then typed again, and every file must be that of a run
that was left alone. A full disk is a limit to the size of files, which ends a write as a full disk does. Of two
processes at once each must end well or say that the other holds the stage. What two undisturbed runs write differently
(latencies, the bytes of a SavedModel) is not compared, and the table says of how many files that is so.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attack_files import Counts

TINY = """\
seed: 5
simulate: {patients: 6, shape: 48x64, sick_fraction: 0.5, missing_views: 0, frames: 20}
filter: {views: [Frontal], minimum_spread: 0.1}
convert: {dynamic: false}
dataset: {dynamic: true}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v2, epochs: 1, batch: 4}
dit: {backbone: random, size: 32x32, epochs: 1}
fuse: {epochs: 1}
evaluate: {bootstrap: 50, audit: false, explain: false}
strategy: {kind: cpu}
"""
STAGES = {
    "simulate": ("simulate",),
    "convert": ("convert",),
    "filter": ("filter",),
    "build-dataset": ("build-dataset",),
    "train-ae": ("train-ae",),
    "fuse": ("fuse", "--name", "thermal", "--model", "thermal"),
    "fuse (svm)": ("fuse", "--name", "svm", "--model", "svm"),
    "fuse (network)": ("fuse", "--name", "network", "--model", "network"),
    "fuse (late)": ("fuse", "--name", "late", "--model", "late", "--combine", "thermal,svm"),
    "train-dit": ("train-dit", "--name", "dit"),
    "evaluate": ("evaluate", "--run", "thermal"),
    "compare": ("compare", "thermal", "svm"),
    "predict": ("predict", "raw/Static", "--run", "thermal", "--html", "predict/page.html", "--no-explain"),
    "export": ("export", "network"),
    "reproduce": ("reproduce", "--rows", "T3-v2"),
    "import": ("import", "raw/Static", "-w", "imported"),
}
"""What is typed, in the order of the road."""

SLOW = ("train-ae", "fuse (network)", "train-dit", "export", "reproduce")
NEEDS = {
    "fuse (svm)": ("simulate", "convert", "filter", "build-dataset", "train-ae"),
    "train-dit": ("simulate", "convert", "filter", "build-dataset", "train-ae"),
    "evaluate": ("simulate", "convert", "filter", "build-dataset", "fuse"),
    "predict": ("simulate", "convert", "filter", "build-dataset", "fuse"),
    "export": ("simulate", "convert", "filter", "build-dataset", "train-ae", "fuse (network)"),
    "reproduce": ("simulate",), "import": ("simulate",),
}  # fmt: skip
"""What a stage stands on; the others on all that are earlier."""


# --- a small workspace ------------------------------------------------------------------------------------------------


def tree(root: Path) -> dict[str, str]:
    """SHA-256 of every file by relative path; of the cache, which may be thrown away, only fragments."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and (".partial" in path.name or "cache" not in name.parts):
            found[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differences(reference: dict[str, str], found: dict[str, str]) -> list[str]:
    """Paths that are missing, extra or different."""
    return sorted(name for name in reference.keys() | found.keys() if reference.get(name) != found.get(name))


# --- typing a command in a fork ---------------------------------------------------------------------------------------


def warm() -> None:
    """Import what the stages import, so that a fork has it. Nothing is computed: threads do not survive a fork."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1"}
    for name in ("tensorflow", "keras", "sklearn.svm", "scipy.stats", "cv2", "h5py", "matplotlib.pyplot", "PIL.Image"):
        importlib.import_module(name)


@dataclass(frozen=True)
class Ended:
    """How a typed command ended: its exit code (negative: the signal), seconds and renames, and what it said."""

    code: int
    seconds: float
    renames: int
    said: str


@dataclass(frozen=True)
class Child:
    """A command at work in a process of its own."""

    pid: int
    log: Path
    tally: Path
    started: float

    def end(self, after: float | None = None) -> Ended:
        """Wait for the end, which is by SIGKILL ``after`` so many seconds if it lasts so long."""
        code = None
        while code is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            lasted = time.monotonic() - self.started
            if done:
                code = os.waitstatus_to_exitcode(status)
            elif lasted > (900 if after is None else after):
                os.kill(self.pid, signal.SIGKILL)
            else:
                time.sleep(0.004)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # its workers
        return Ended(code, lasted, self.tally.stat().st_size, self.log.read_text(errors="replace"))


def begin(command: tuple[str, ...], root: Path, *, at: int = 0, largest: int = 0, name: str = "one") -> Child:
    """Type ``command`` in ``root``: SIGKILL at its ``at``-th rename, no file above ``largest`` bytes (0: neither)."""
    log, tally = root.with_suffix(f".{name}.log"), root.with_suffix(f".{name}.renames")
    tally.write_bytes(b"")
    child = os.fork()
    if child == 0:
        _be_the_command(command, root, log, tally, at, largest)
    return Child(child, log, tally, time.monotonic())


def typed(command: tuple[str, ...], root: Path) -> Ended:
    """Type ``command`` in ``root`` and leave it alone."""
    return begin(command, root).end()


def _be_the_command(command: tuple[str, ...], root: Path, log: Path, tally: Path, at: int, largest: int) -> None:
    """The child: never returns."""
    code = 70
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if stream == 1 else os.O_APPEND)), stream)
        counted = os.open(tally, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        left = [at]

        def count(rename: Callable[..., None]) -> Callable[..., None]:
            def call(*given: object, **named: object) -> None:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                os.write(counted, b".")
                rename(*given, **named)

            return call

        os.replace, os.rename, os.link = count(os.replace), count(os.rename), count(os.link)
        if largest:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
        os.chdir(root)
        workspace = () if "-w" in command else ("-w", ".")
        sys.argv = ["thermocancer", *command, "-c", "../road.yaml", *workspace, "--quiet"]
        from thermocancer.cli import main

        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- attacks ----------------------------------------------------------------------------------------------------------

HOW = ("kills", "full disks", "pairs")


def attack_stages(attacks: dict[str, dict[str, int]], seed: int, counts: Counts, folder: Path) -> None:
    """Attack each named stage: so often in each of the ways of ``HOW``."""
    warm()
    (folder / "road.yaml").write_text(TINY)
    whole, before, twice = folder / "whole", folder / "before", folder / "twice"
    whole.mkdir()
    for stage, command in STAGES.items():
        if stage in attacks:
            shutil.copytree(whole, before)
            shutil.copytree(whole, twice)
        elif not any(stage in NEEDS.get(each, _earlier(each)) for each in attacks):
            continue
        if (ended := typed(command, whole)).code:
            raise RuntimeError(f"{stage} failed undisturbed: {ended.said[-2000:]}")
        if stage in attacks:
            undisturbed = typed(command, twice)
            reference = tree(whole)
            road = _Road(command, before, reference, set(differences(reference, tree(twice))), undisturbed)
            for how, number in attacks[stage].items():
                kind = f"{how} at {stage}" + (f" ({len(road.each_time)} files aside)" if road.each_time else "")
                rng, begun = random.Random(f"{seed} {stage} {how}"), time.monotonic()
                for count in range(number):
                    counts.note(kind, *_attack(road, how, count, rng))
                sys.stderr.write(
                    f"{kind}: {number} in {time.monotonic() - begun:.0f} s, {undisturbed.renames} renames\n"
                )
            shutil.rmtree(before)
            shutil.rmtree(twice)


@dataclass(frozen=True)
class _Road:
    """A stage's command, the workspace before it, what it makes, and of that what differs from run to run."""

    command: tuple[str, ...]
    before: Path
    reference: dict[str, str]
    each_time: set[str]
    undisturbed: Ended


def _earlier(stage: str) -> tuple[str, ...]:
    return tuple(STAGES)[: tuple(STAGES).index(stage)]


def _attack(road: _Road, how: str, count: int, rng: random.Random) -> tuple[str, str]:
    """One attack on a copy of the workspace, and the command typed again: the outcome, and what was wrong."""
    root = road.before.with_name("attacked")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(road.before, root)
    if how == "kills":
        renames = road.undisturbed.renames
        at = count // 2 % renames + 1 if count % 2 == 0 and renames else 0
        after = None if at else rng.uniform(0, 1.05) * road.undisturbed.seconds
        moment, struck = f"rename {at}, {after} s", begin(road.command, root, at=at).end(after)
        outcome = "whole" if struck.code == -signal.SIGKILL else "ended before"
    elif how == "full disks":
        largest = round(2 ** rng.uniform(1, 16))
        moment, struck = f"{largest} bytes", begin(road.command, root, largest=largest).end()
        outcome = "untyped" if struck.code not in range(6) or "unexpected" in struck.said else "refused"
    else:
        two = [begin(road.command, root, name=name) for name in ("one", "two")]
        struck, other = (each.end() for each in two)
        moment, outcome = f"exit {other.code} beside", "whole" if {struck.code, other.code} <= {0, 75} else "untyped"
    if outcome == "untyped":
        return outcome, f"{moment}: exit {struck.code}: {struck.said[-300:]}"
    if (again := typed(road.command, root)).code:
        return "untyped", f"{moment}: then exit {again.code}: {again.said[-300:]}"
    found = tree(root)
    if differs := [name for name in road.reference.keys() - road.each_time if found.get(name) != road.reference[name]]:
        return "wrong", f"{moment}: {sorted(differs)[:3]}"
    if missing := road.reference.keys() & road.each_time - found.keys():
        return "wrong", f"{moment}: {sorted(missing)[:3]} are missing"
    if left := sorted(found.keys() - road.reference.keys() - road.each_time):
        return "left", f"{moment}: {left[:3]}"
    return outcome, ""
