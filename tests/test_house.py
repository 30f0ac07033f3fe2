"""What keeps the house as it is: names of kinds in one place, no circles, as little ``Any`` as there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from thermocancer.kinds import AE, CNN, DIT, FUSE, kinds

PACKAGE = Path(__file__).parents[1] / "thermocancer"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

OWNERS = ("kinds.py", "config/", "cli/")
"""The registry, the schema that speaks to users, and the commands themselves."""

NAMES = {*kinds(), FUSE, DIT, CNN, AE}

OTHER_MEANINGS = {
    ("features/tables.py", "thermal"): "the name of a table, in its file in the cache",
    ("features/tables.py", "asymmetry"): "the name of a table",
    ("features/tables.py", "asymmetry-index"): "the name of a table",
    ("features/tables.py", "pixels"): "the name of a table",
    ("classifiers/sequence/input.py", "asymmetry"): "a channel of a dynamic exam",
    ("models/lite.py", "pixels"): "the name of a network's input",
    ("models/backbones.py", "pixels"): "the name of a network's input",
    ("data/cohort.py", "image"): "the view of a folder of class images",
    ("data/folder/files.py", "image"): "a kind of file",
    ("data/folder/dates.py", "image"): "a column of a table of dates",
    ("models/autoencoder.py", "image"): "the name of a network's input",
    ("models/image_classifier.py", "image"): "the name of a network's input",
    ("classifiers/tabular.py", "pixels"): "a key of classifier.json",
    ("classifiers/late/scores.py", "late"): "the name in classifier.json",
    ("dmr/pages.py", "thermal"): "a word of the site's headings",
    ("evaluation/audit/refits.py", "late"): "the control that is trained early and tested late",
    ("classifiers/encoders.py", "fuse"): "a section of the config",
    ("classifiers/sequence/family.py", "fuse"): "a section of the config",
    ("classifiers/making.py", "fuse"): "a section of the config",
    ("evaluation/replication/remaking.py", "fuse"): "a section of the config",
    ("classifiers/image/family.py", "image"): "a key of the manifest",
    ("stages/reproduce.py", "fuse"): "a section of the config",
    ("evaluation/prediction/gathering.py", "image"): "a kind of file",
    ("evaluation/prediction/input.py", "image"): "a kind of file",
    ("locate/solving.py", "asymmetry"): "a setting of simulate",
    ("stages/predict.py", "image"): "what a file is called in a message",
}
"""The same word where it names something else."""

MOST_ANY = 57
"""Lines of the package that hold ``Any``. The number may only fall."""


def tree_of(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text(encoding="utf-8"))


def literals(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings that stand in code: neither docstrings nor parts of an f-string."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    silent |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


@pytest.mark.parametrize("module", [each for each in MODULES if not each.startswith(OWNERS)])
def test_kinds_and_training_commands_are_named_by_the_registry_alone(module: str) -> None:
    found = [f"{module}:{line} {text!r}" for line, text in literals(tree_of(module)) if is_name(module, text)]
    assert not found, f"ask the kind (thermocancer/kinds.py) instead: {found}"


def is_name(module: str, text: str) -> bool:
    return text in NAMES and (module, text) not in OTHER_MEANINGS


def test_the_pardoned_words_still_stand_there() -> None:
    stale = [key for key in OTHER_MEANINGS if key[1] not in {text for _, text in literals(tree_of(key[0]))}]
    assert not stale


def test_any_only_becomes_rarer() -> None:
    count = sum(
        bool(re.search(r"\bAny\b", line))
        for module in MODULES
        for line in (PACKAGE / module).read_text(encoding="utf-8").splitlines()
    )
    assert count <= MOST_ANY, f"{count} lines hold Any: say what they hold"


def imports_at_start(module: str) -> set[str]:
    """Modules of the package that are imported when this one is."""
    found = set()
    for node in tree_of(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("thermocancer"):
            for alias in node.names:
                found |= set(modules_named(f"{node.module}.{alias.name}"))
    return found - {module}


def modules_named(dotted: str) -> Iterator[str]:
    """The file of a dotted name: a module, or the module that defines the name."""
    parts = dotted.split(".")[1:]
    for known in (parts, parts[:-1]):
        for path in ("/".join(known) + ".py", "/".join([*known, "__init__.py"])):
            if known and path in MODULES:
                yield path
                return


def test_no_circle_of_imports() -> None:
    edges = {module: imports_at_start(module) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
