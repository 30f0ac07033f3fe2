"""Imports point down only, and nothing heavy stands on the way to ``--help``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thermocancer"
LAYERS = (
    "cli", "stages", "evaluation", "classifiers", "training", "features", "runs", "dmr", "locate", "phantom", "data",
    "thermal", "models", "compute", "strategy", "base",
)  # fmt: skip
"""From the top down; single modules and ``config/`` form the base."""

HEAVY = ("tensorflow", "keras", "jax", "sklearn", "matplotlib", "cv2", "scipy", "h5py")


def layer_of(module: str) -> int:
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else "base"
    return LAYERS.index(name) if name in LAYERS else LAYERS.index("base")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("thermocancer"):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("thermocancer")}
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path: Path) -> None:
    here = ".".join(["thermocancer", *path.relative_to(PACKAGE).with_suffix("").parts])
    if here in ("thermocancer.__main__", "thermocancer.api"):
        here = "thermocancer.cli.__main__"
    upward = [other for other in imports_of(path) if layer_of(other) < layer_of(here)]
    assert not upward, f"{here} imports from a layer above it: {upward}"
    if here.startswith("thermocancer.stages.") and not here.endswith("__init__"):
        beside = [other for other in imports_of(path) if other.startswith("thermocancer.stages.")]
        assert not beside, f"stages never import one another: {beside}"


BELOW_CLI = [path for path in MODULES if not path.is_relative_to(PACKAGE / "cli")]


@pytest.mark.parametrize("path", BELOW_CLI, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "sys.exit", "exit", "quit"), f"{path}:{node.lineno} calls {called}"


@pytest.mark.parametrize("folder", ["models", "features", "training", "classifiers"])
def test_model_code_knows_keras_only(folder: str) -> None:
    for path in (PACKAGE / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("tensorflow", "jax") for name in names), f"{path}:{node.lineno}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nimport thermocancer.cli as cli\n"
        "sys.argv = ['thermocancer', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert end.code in (0, None)\n"
        f"print('HEAVY', sorted(name for name in {HEAVY!r} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    assert "build-dataset" in done.stdout
