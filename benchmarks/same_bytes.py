"""Make the same small roads with two checkouts of this repository, and compare what they leave, byte by byte.

    python benchmarks/same_bytes.py make CHECKOUT OUT                   # once for the reference
    python benchmarks/same_bytes.py make . OTHER --roads images,import  # again for every candidate
    python benchmarks/same_bytes.py compare OUT OTHER                   # what differs, and how
    python benchmarks/same_bytes.py CHECKOUT_A CHECKOUT_B               # all of it, in a temporary folder

For refactorings: the second side is to leave the same files with the same content as the first. Only the
command line of a checkout is used, so that its modules may be anywhere. Each road (``same_bytes_roads.py``) has
a folder of its own with its inputs, its workspace ``w``, and in ``said/`` what every command printed and
reported. Ends with 1 if anything differs, or a command ends with another exit code than the road says.

Every road together takes about 470 CPU seconds, so 4 minutes a side on two idle cores; ``--jobs 1`` makes one road
at a time. Two sides made by one checkout are equal but for what ``ALLOWED`` lists.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from same_bytes_roads import PORT, ROADS

# --- what may differ ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MayDiffer:
    """What is not compared, why, and in which files (a pattern on the path below OUT).

    ``name`` is that of a ``folder`` not looked at; of a ``file`` that must stand on both sides, with any content;
    of a ``key`` dropped from JSON at any depth; of a JSON object of which only the ``keys`` count; the ``name`` that
    objects in a JSON list give themselves, which are dropped as an ``entry``; or it is a regular expression on
    ``text`` that is cut out, from text files as from strings in JSON.
    """

    what: Literal["folder", "file", "key", "keys", "entry", "text"]
    name: str
    reason: str
    where: str = "*"


ALLOWED = (
    MayDiffer("folder", "cache", "may be thrown away at any time; its names are fingerprints of recipes"),
    MayDiffer("folder", "locks", "only mean something while a stage runs"),
    MayDiffer("key", "made_from", "fingerprint of inputs and settings; a refactoring may change its recipe"),
    MayDiffer("key", "identity", "of the runs that late fusion combines: holds their made_from", "*/classifier.json"),
    MayDiffer("keys", "outputs", "hashes of files that are compared themselves, and may hold a made_from"),
    MayDiffer("key", "seconds", "wall clock", "*/said/*.json"),
    MayDiffer("key", "waited_seconds", "wall clock", "*/said/*.json"),
    MayDiffer("key", "waiting_seconds", "wall clock", "*/said/*.json"),
    MayDiffer("key", "pausing_seconds", "wall clock", "*/said/*.json"),
    MayDiffer("key", "latency_ms", "wall clock", "*/said/*.json"),
    MayDiffer("key", "read", "the day on which a patient's page was read", "*/raw/patients.jsonl"),
    MayDiffer("text", r"(?m)^[EWI]\d{4} .*\.cc:\d+\].*\n", "TensorFlow's log: time and process number", "*/said/*"),
    MayDiffer("text", r"\d\S* s a request", "wall clock", "*/said/*"),
    MayDiffer("text", r"\d\S* ms\b", "wall clock", "*/said/*"),
    MayDiffer("text", r"\d\S* GiB", "free space on the disk", "*/said/*"),
    MayDiffer("folder", "saved_model", "TensorFlow puts its variables in another order in each process"),
    MayDiffer("text", r"(?m)^ +options: \{\}\n", "the new setting fuse.options, in config.yaml and where it is quoted"),
    MayDiffer(
        "text",
        r"(?m)^ +(source|date_format|keep_columns|birads_sick_from|view_map|unit|facts): (null|\[\])\n",
        "new settings of import and cohort.facts, in config.yaml and where it is quoted",
    ),
    MayDiffer(
        "text",
        r"(?m)^ +(fold_bytes: 50000000|keep_folds: (null|false)|exam: (null|\[\]))\n",
        "fuse.fold_bytes is new; folds are kept by themselves where small; predict takes several paths",
    ),
    MayDiffer("folder", "folds", "models of folds are kept by themselves where they are small"),
    MayDiffer(
        "text",
        r"(?m)^ +(rule: sound|order: filtered|decoder: opencv|(dynamic_source|video_jpeg): null|validation: drawn"
        r"|interpolation: area|copies: refuse)\n",
        "settings that hold what the original studies did, in config.yaml and where it is quoted",
    ),
    MayDiffer("text", r'(?m)^ +"options": \{[^{}]*(\{\}[^{}]*)?\},\n', "the same in the schema", "import/said/*"),
    MayDiffer(
        "text", r'(?m)^ +"description": "kind of classifier;.*\n', "the schema describes fuse.model", "import/said/*"
    ),
    MayDiffer(
        "text", r'(?m)^ +"decides": false,\n', "the schema says which settings decide no result", "import/said/*"
    ),
    MayDiffer("entry", "cache", "doctor now shows what the cache holds", "*/said/*.json"),
)
DECLARED: tuple[str, ...] = (
    "version", "kind", "settings", "trained_exams", "dynamic_source", "decoder", "interpolation", "target_reached",
    "original_bytes", "encoding", "visit_made_up", "made_up_visits",
)  # fmt: skip
"""JSON keys that a later version adds, here to manifests: no difference where the second side alone has
them. A new setting stands in every config.yaml, which is text: declare its line above."""

# --- making a side -----------------------------------------------------------------------------------------------

TESTS = Path(__file__).resolve().parents[1] / "tests"
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1"
)
"""Sums in another order are other sums: so a side is the same on any number of cores, and two roads fit on two."""


@contextmanager
def replica() -> Iterator[None]:
    """The tests' replica of the DMR-IR site with its hard cases, of this script's own repository for either side."""
    command = [sys.executable, str(TESTS / "dmr_replica.py"), "--fixtures", "--port", str(PORT)]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            if server.stdout is None or not server.stdout.readline():
                raise SystemExit(f"the replica of the site did not start; is port {PORT} taken?")
            yield
        finally:
            server.terminate()


def make_road(name: str, checkout: Path, out: Path) -> list[str]:
    """Make one road anew. Returns the commands that ended with another exit code than they should."""
    road, folder = ROADS[name], out / name
    if folder.exists():
        if not (folder / "road.yaml").exists():
            raise SystemExit(f"{folder} is no road of this script's; remove it or name another folder")
        shutil.rmtree(folder)
    (folder / "said").mkdir(parents=True)
    (folder / "road.yaml").write_text("workspace: w\n" + road.config)
    if road.inputs is not None:
        road.inputs(folder)
    wrong = []
    started, computed = time.monotonic(), 0.0
    with replica() if road.site else nullcontext():
        for number, step in enumerate(road.steps, 1):
            wanted, typed = (0, step) if isinstance(step, str) else step
            begun = time.monotonic()
            code, own = run_step(typed, folder, f"said/{number:02}", checkout)
            computed += own
            print(f"{name:10}{time.monotonic() - begun:6.1f} s, CPU {own:5.1f} s  {typed[:90]}", flush=True)
            if code != wanted:
                wrong.append(f"{name}: ended with {code}, not {wanted}: {typed}")
    print(f"{name:10}{time.monotonic() - started:6.1f} s, CPU {computed:5.1f} s  in all", flush=True)
    return wrong


def run_step(typed: str, folder: Path, said: str, checkout: Path) -> tuple[int, float]:
    """One step, in the road's folder, so that paths in outputs are equal. Returns exit code and CPU seconds."""
    words = shlex.split(typed)
    if words[0] == "rm":
        target = folder / words[1]
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        return 0, 0.0
    if words != ["config", "schema"]:
        words += ["-c", "road.yaml", "--quiet", "--json", f"{said}.json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("THERMOCANCER_")}
    environment |= {"THERMOCANCER_USER": "replica-user", "THERMOCANCER_PASSWORD": "replica-pass"}
    environment |= ONE_THREAD | {"PYTHONPATH": str(checkout)}
    with open(folder / f"{said}.txt", "wb") as stream:
        command = [sys.executable, "-m", "thermocancer", *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=stream)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def make(checkout: Path, out: Path, roads: list[str], jobs: int) -> int:
    """Every road with the code of ``checkout``, ``jobs`` at a time. Returns 1 where one did not end as it should."""
    checkout = checkout.resolve()
    if not (checkout / "thermocancer").is_dir():
        raise SystemExit(f"{checkout} is no checkout: it holds no folder thermocancer")
    with ThreadPoolExecutor(jobs) as pool:
        wrong = [line for lines in pool.map(lambda name: make_road(name, checkout, out), roads) for line in lines]
    for line in wrong:
        print(line)
    return 1 if wrong else 0


# --- comparing two sides -----------------------------------------------------------------------------------------


def allowed(what: str, path: str) -> set[str]:
    """Names of ``ALLOWED`` that hold for a path below OUT."""
    return {each.name for each in ALLOWED if each.what == what and fnmatch(path, each.where)}


def tree(out: Path, roads: list[str]) -> dict[str, Path]:
    """Every file of the roads that is compared, by its path below ``out``."""
    found = {path.relative_to(out).as_posix(): path for name in roads for path in (out / name).rglob("*")}
    return {
        name: path
        for name, path in found.items()
        if path.is_file() and not allowed("folder", name) & set(name.split("/")[:-1])
    }


def json_differences(one: Any, other: Any, path: str, place: str = "") -> Iterator[str]:
    """Places at which two JSON values of the file ``path`` differ, once what may differ is left out."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            here = f"{place}.{key}".lstrip(".")
            if key in allowed("key", path) or (key in DECLARED and key not in one):
                continue
            if key not in one or key not in other:
                yield f"{here} on the {'first' if key in one else 'second'} side only"
            elif key in allowed("keys", path) and isinstance(one[key], dict) and isinstance(other[key], dict):
                yield from (f"{here}: {name} on one side only" for name in sorted(one[key].keys() ^ other[key].keys()))
            else:
                yield from json_differences(one[key], other[key], path, here)
    elif isinstance(one, list) and isinstance(other, list):
        one, other = entries(one, path), entries(other, path)
        if len(one) != len(other):
            yield f"{place}: {len(one)} | {len(other)} entries"
        for number, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            yield from json_differences(mine, theirs, path, f"{place}[{number}]")
    elif isinstance(one, str) and isinstance(other, str) and cut(one, path) == cut(other, path):
        return
    elif repr(one) != repr(other):  # tells 1 from 1.0 and from true, and takes NaN for NaN
        yield f"{place}: {beside(one, other)}"


def entries(values: list[Any], path: str) -> list[Any]:
    """A JSON list without the objects that may differ in the file ``path``."""
    names = allowed("entry", path)
    return [each for each in values if not (isinstance(each, dict) and each.get("name") in names)]


def cut(text: str, path: str) -> str:
    """The text without what may differ in the file ``path``."""
    for pattern in allowed("text", path):
        text = re.sub(pattern, "", text)
    return text


def beside(one: Any, other: Any) -> str:
    """Both values in a line, from a little before the place where they part."""
    texts = [each if isinstance(each, str) else repr(each) for each in (one, other)]
    apart = next(
        (at for at, (left, right) in enumerate(zip(*texts, strict=False)) if left != right), min(map(len, texts))
    )
    start = max(0, apart - 20)
    shown = [text[start : start + 60].replace("\n", "\\n") for text in texts]
    return " | ".join(f"...{text}" if start else text for text in shown)


def difference(name: str, first: Path, second: Path) -> str:
    """How the two files of this name below OUT differ, in a line; empty where they do not, or may."""
    one, other = first.read_bytes(), second.read_bytes()
    if one == other or first.name in allowed("file", name):
        return ""
    if first.suffix in (".json", ".jsonl"):
        try:
            if first.suffix == ".jsonl":
                mine, theirs = ([json.loads(line) for line in each.splitlines()] for each in (one, other))
            else:
                mine, theirs = json.loads(one), json.loads(other)
        except ValueError as error:
            return f"no JSON: {error}"
        found = list(json_differences(mine, theirs, name))
        return "; ".join(found[:6]) + (f"; {len(found) - 6} more" if len(found) > 6 else "")
    if all(map(zipfile.is_zipfile, (first, second))):  # .keras and .npz
        parts = [{part.filename: part.CRC for part in zipfile.ZipFile(each).infolist()} for each in (first, second)]
        apart = sorted(part for part in parts[0].keys() | parts[1].keys() if parts[0].get(part) != parts[1].get(part))
        return f"in the archive: {', '.join(apart)}" if apart else "an archive of equal members"
    if b"\0" not in one + other:
        lines = [cut(each.decode(errors="surrogateescape"), name).split("\n") for each in (one, other)]
        for number, (left, right) in enumerate(zip_longest(*lines, fillvalue="(end)"), 1):
            if left != right:
                return f"line {number}: {beside(left, right)}"
        return ""
    place = next((at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), "the end")
    return f"{len(one)} and {len(other)} bytes, other from byte {place} on"


def compare(first: Path, second: Path, roads: list[str]) -> int:
    """Print one line a file that differs, then how many were compared. Returns 1 where any does, or none was."""
    made = [{name for name in roads if (out / name).is_dir()} for out in (first, second)]
    for name in sorted(made[0] ^ made[1]):
        print(f"not compared, since one side lacks it: {name}")
    both = sorted(made[0] & made[1])
    mine, theirs = tree(first, both), tree(second, both)
    differing = 0
    for name in sorted(mine.keys() | theirs.keys()):
        if name in mine and name in theirs:
            how = difference(name, mine[name], theirs[name])
        else:
            how = f"on the {'first' if name in mine else 'second'} side only"
        if how:
            differing += 1
            print(f"{name}: {how}")
    print(f"{len(mine.keys() | theirs.keys())} files of {len(both)} roads compared, {differing} differ")
    return 1 if differing or not mine else 0


USAGE = "make CHECKOUT OUT, compare OUT OUT, or CHECKOUT CHECKOUT"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=[".", "."], help=f"{USAGE}; by default . . (is it repeatable?)")
    parser.add_argument("--roads", default=",".join(ROADS), help=f"with commas; of {', '.join(ROADS)}")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=2, help="roads at a time")
    given = parser.parse_args()
    roads, jobs = given.roads.split(","), given.jobs
    if unknown := set(roads) - ROADS.keys():
        parser.error(f"no such road: {', '.join(sorted(unknown))}")
    match given.words:
        case ["make", checkout, out]:
            return make(Path(checkout), Path(out), roads, jobs)
        case ["compare", first, second]:
            return compare(Path(first), Path(second), roads)
        case [first, second]:
            with tempfile.TemporaryDirectory() as folder:
                sides = Path(folder, "first"), Path(folder, "second")
                codes = [make(Path(each), side, roads, jobs) for each, side in zip((first, second), sides, strict=True)]
                return max(*codes, compare(*sides, roads))
    parser.error(f"give {USAGE}")


if __name__ == "__main__":
    sys.exit(main())
