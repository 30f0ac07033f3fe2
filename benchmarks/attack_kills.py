"""SIGKILL at the renames and at random moments of every stage: is the end the same, and is anything left?

Part of ``attack.py``. The libraries are imported once, in a process that computes nothing; every typed command is a
fork of it, so that a kill costs the stage's own seconds and not those of starting TensorFlow. Each kill strikes in a
copy of the workspace as it was before the stage; the command is then typed again, and every file must be that of a run
that was left alone. What two undisturbed runs write differently is not compared, and the table says of how many files
that is so (latencies, the bytes of a SavedModel).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attack_files import Counts

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


def typed(command: tuple[str, ...], root: Path, *, at: int = 0, after: float | None = None) -> Ended:
    """Type ``command`` in ``root``; SIGKILL at its ``at``-th rename or ``after`` so many seconds, if it lasts."""
    log, tally = root.with_suffix(".log"), root.with_suffix(".renames")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_command(command, root, log, tally, at)
    code = None
    while code is None:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
        elif (after is not None and time.monotonic() - started > after) or time.monotonic() - started > 600:
            os.kill(child, signal.SIGKILL)
            after = None
        else:
            time.sleep(0.004)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # its workers
    return Ended(code, time.monotonic() - started, tally.stat().st_size, log.read_text(errors="replace"))


def _be_the_command(command: tuple[str, ...], root: Path, log: Path, tally: Path, at: int) -> None:
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


# --- kills ------------------------------------------------------------------------------------------------------------


def attack_stages(kills: dict[str, int], seed: int, counts: Counts, folder: Path) -> None:
    """Kill each named stage so many times, at its renames in turn and every second time at a random moment."""
    warm()
    (folder / "road.yaml").write_text(TINY)
    whole, before, twice = folder / "whole", folder / "before", folder / "twice"
    whole.mkdir()
    for stage, command in STAGES.items():
        if stage in kills:
            shutil.copytree(whole, before)
            shutil.copytree(whole, twice)
        elif not any(stage in NEEDS.get(each, _earlier(each)) for each in kills):
            continue
        if (ended := typed(command, whole)).code:
            raise RuntimeError(f"{stage} failed undisturbed: {ended.said[-2000:]}")
        if stage in kills:
            _attack(stage, kills[stage], random.Random(f"{seed} {stage}"), counts, (before, whole, twice))
            shutil.rmtree(before)
            shutil.rmtree(twice)


def _earlier(stage: str) -> tuple[str, ...]:
    return tuple(STAGES)[: tuple(STAGES).index(stage)]


def _attack(stage: str, kills: int, rng: random.Random, counts: Counts, roads: tuple[Path, Path, Path]) -> None:
    before, whole, twice = roads
    command, root = STAGES[stage], whole.with_name("killed")
    undisturbed = typed(command, twice)
    reference = tree(whole)
    each_time = set(differences(reference, tree(twice)))
    kind = f"kills of {stage}" + (f", {len(each_time)} files not compared" if each_time else "")
    for number in range(kills):
        shutil.copytree(before, root)
        at = number // 2 % undisturbed.renames + 1 if number % 2 == 0 and undisturbed.renames else 0
        after = None if at else rng.uniform(0, 1.05) * undisturbed.seconds
        struck = typed(command, root, at=at, after=after)
        moment = f"kill at rename {at}" if at else f"kill after {after:.2f} s"
        counts.note(kind, *_outcome(struck, typed(command, root), root, reference, each_time, moment))
        shutil.rmtree(root)
    sys.stderr.write(f"{kind}: {kills} kills of {undisturbed.seconds:.1f} s, {undisturbed.renames} renames\n")
    sys.stderr.write("".join(f"{each}\n" for each in sorted(each_time)[:9]))


def _outcome(
    struck: Ended, again: Ended, root: Path, reference: dict[str, str], each_time: set[str], moment: str
) -> tuple[str, str]:
    if again.code:
        return "untyped", f"{moment}: then exit {again.code}: {again.said[-300:]}"
    found = tree(root)
    wrong = [name for name in reference.keys() - each_time if found.get(name) != reference[name]]
    wrong += [name for name in each_time & reference.keys() if name not in found]
    if wrong:
        return "wrong", f"{moment}: {sorted(wrong)[:3]}"
    if left := sorted(found.keys() - reference.keys() - each_time):
        return "left", f"{moment}: {left[:3]}"
    return ("whole" if struck.code == -signal.SIGKILL else "ended before"), ""
