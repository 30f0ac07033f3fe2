"""Small mutations of the modules on which figures and data hang: how many do the modules' own tests notice?

    python benchmarks/mutants.py --number 120 --seed 0        (needs cosmic-ray; `nox -s mutants` installs it)
    python benchmarks/mutants.py --modules data/split locks

cosmic-ray makes the mutations (a comparison, an operator, a constant, a condition); mutations of annotations alone are
none. Drawn evenly among the modules, each is put into a copy of the package and the module's own tests run on it until
the first failure; one that needs five times the undisturbed processor time (or ten times the time) is noticed too.
What is not noticed is printed as a difference. Ends with 1 when less than 92 % are noticed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import itertools
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARE = 0.92
TESTS = {
    "thermal/decoding": ["test_thermal_layouts.py", "test_thermal_reading.py"],
    "thermal/lines": ["test_thermal_layouts.py", "test_thermal_reading.py"],
    "thermal/layouts": ["test_thermal_layouts.py", "test_thermal_reading.py"],
    "features/gram": ["test_features_gram.py"],
    "dmr/pages": ["test_dmr_pages.py"],
    "data/split": ["test_data_split.py"],
    "data/matching": ["test_data_cohort.py"],
    "locks": ["test_files_and_locks.py"],
    "cache": ["test_cache.py"],
    "evaluation/statistics/comparison": ["test_evaluation_metrics.py"],
    "evaluation/statistics/intervals": ["test_evaluation_metrics.py"],
    "evaluation/prediction/novelty": ["test_predict.py"],
}
"""The tests of each module."""

DESELECTED = "not damaged_files_of_every_kind and not kill"
"""Tests that attack everything at once: slow, and not the module's own."""


@dataclass(frozen=True)
class Mutant:
    """A module with one small thing changed."""

    module: str
    operator: str
    content: str

    def difference(self) -> str:
        before = (ROOT / "thermocancer" / f"{self.module}.py").read_text().splitlines()
        lines = difflib.unified_diff(before, self.content.splitlines(), self.module, self.operator, lineterm="", n=0)
        return "\n".join(lines)


def mutants(module: str, rng: random.Random) -> Iterator[Mutant]:
    """The mutants of a module in a drawn order, but those of annotations and docstrings."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    content = (ROOT / "thermocancer" / f"{module}.py").read_text()
    whole, nodes = _without_annotations(content), list(ast_nodes(get_ast(content)))
    plain = [(name, get_operator(name)) for name in sorted(operator_names()) if not get_operator(name).arguments()]
    places = [
        (name, operator, number)
        for name, operator in plain
        for number in range(sum(len(list(operator().mutation_positions(node))) for node in nodes))
    ]
    rng.shuffle(places)
    for name, operator, number in places:
        changed = mutate_code(content, operator(), number)
        try:
            if changed is not None and _without_annotations(changed) != whole:
                yield Mutant(module, name, changed)
        except SyntaxError:  # no program: whatever imports it would notice
            continue


def _without_annotations(content: str) -> str:
    tree = ast.parse(content)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


@dataclass(frozen=True)
class Cost:
    """What the tests may take: seconds by the clock, and of the processor."""

    wall_s: float = 3600
    cpu_s: float = 3600


def tested(copy: Path, module: str, python: str, limit: Cost) -> bool:
    """Whether the module's own tests pass on the copy of the package; not when they need more than ``limit``."""
    paths = [str(copy / "tests" / each) for each in TESTS[module]]
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", DESELECTED, *paths]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    seconds = math.ceil(limit.cpu_s)
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )  # fmt: skip
    try:
        return process.wait(limit.wall_s) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description="How many small mutations do a module's own tests notice?")
    parser.add_argument("--number", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modules", nargs="*", default=list(TESTS), choices=list(TESTS))
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the tests")
    given = parser.parse_args()
    all_noticed, all_tried = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("thermocancer", "tests", "benchmarks", "docs", "configs", "pyproject.toml", "README.md"):
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        for number, module in enumerate(given.modules):
            share = given.number // len(given.modules) + (number < given.number % len(given.modules))
            drawn = list(itertools.islice(mutants(module, random.Random(f"{given.seed} {module}")), share))
            path = copy / "thermocancer" / f"{module}.py"
            whole, started, before = path.read_text(), time.monotonic(), _children_s()
            if not tested(copy, module, given.python, Cost()):
                raise RuntimeError(f"the tests of {module} fail undisturbed")
            noticed = 0
            limit = Cost(10 * (time.monotonic() - started) + 20, 5 * (_children_s() - before) + 5)
            for each in drawn:
                path.write_text(each.content)
                if tested(copy, module, given.python, limit):
                    print(each.difference(), flush=True)
                else:
                    noticed += 1
            path.write_text(whole)
            print(f"{module:<34}{noticed:>4} of {len(drawn)} noticed", flush=True)
            all_noticed, all_tried = all_noticed + noticed, all_tried + len(drawn)
    print(f"{all_noticed} of {all_tried} noticed: {all_noticed / all_tried:.1%}")
    return int(all_noticed < SHARE * all_tried)


if __name__ == "__main__":
    sys.exit(main())
