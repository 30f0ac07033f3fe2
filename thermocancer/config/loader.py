"""From files, ``--set`` and the environment to one checked ``Config``."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from thermocancer.config.base import NOT_REPEATED
from thermocancer.config.schema import Config
from thermocancer.errors import ConfigError
from thermocancer.workspace import NAME_PATTERN, NAME_RULE


def load_config(
    files: Sequence[Path] = (),
    assignments: Iterable[str] = (),
    *,
    workspace: Path | None = None,
    options: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
) -> Config:
    """Load the config: ``--set`` > command options and ``--workspace`` > later file > earlier file > environment.

    ``options`` are a command's own options as dotted keys; those that are None are left out. ``typed`` says of each
    what was typed.
    Raises ConfigError naming file, line, key and the nearest valid name.
    """
    settings = Settings()
    for key, value, origin in from_environment(environment):
        settings.put(_as_spelt(key), value, origin)
    for path in files:
        values, origins = read_yaml(_shipped(path))
        settings.merge(values, origins)
    if workspace is not None:
        settings.put("workspace", str(workspace), "--workspace")
    for key, value in (options or {}).items():
        if value is not None:
            settings.put(key, value, (typed or {}).get(key, f"option for {key}"))
    for text in assignments:
        key, value = parse_assignment(text)
        settings.put(key, value, f"--set {text}")
    return validate(settings)


def validate(settings: Settings) -> Config:
    """Turn raw settings into a Config. Raises ConfigError for the first setting that is wrong."""
    try:
        return Config.model_validate(settings.values)
    except ValidationError as error:
        raise _explain(error, settings) from error


def _explain(error: ValidationError, settings: Settings) -> ConfigError:
    problems = error.errors(include_url=False)
    # an unknown key explains more than the type errors that may follow from it
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    parts = [str(part) for part in problem["loc"] if not isinstance(part, int)]
    # union members add their type's name to pydantic's location; only real keys are shown
    names = {*settings.values, *parts[:1], *(piece for origin in settings.origins for piece in origin.split("."))}
    known = [part for part in parts if part in names]
    key = ".".join(known)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    also = "".join(f"; also {_briefly(each, settings)}" for each in problems if each is not problem)
    where = settings.origin_of(key) if key else None
    if problem["type"] == "extra_forbidden":
        choices = _valid_names(known[:-1])
        close = difflib.get_close_matches(known[-1], choices, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*known[:-1], close[0]])!r}?" if close else "see: thermocancer config schema"
        return ConfigError(
            f"unknown config key {key!r}{more}", where=where, expected=f"one of: {', '.join(choices)}", hint=hint + also
        )
    message = "a list, such as [one, other]" if problem["type"] == "tuple_type" else str(problem["msg"])
    message = message.removeprefix("Value error, ")
    if NAME_PATTERN in message:
        message = NAME_RULE
    if not key:
        return ConfigError(f"these settings cannot go together{more}", where=where, found=message)
    is_secret = problem["type"] == NOT_REPEATED
    return ConfigError(
        f"wrong value for {key!r}{more}",
        where=where.partition("=")[0] if where and is_secret else where,
        expected=message,
        found=None if is_secret else repr(problem.get("input")),
        hint=f"see: thermocancer config schema{also}",
    )


def _briefly(problem: ErrorDetails, settings: Settings) -> str:
    """One of several errors: its place, its key and what is expected, without the value, which may be a secret."""
    key = ".".join(str(part) for part in problem["loc"] if not isinstance(part, int))
    where = (settings.origin_of(key) or "").partition("=")[0].partition("--set")[0]
    expected = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"].removeprefix("Value error, ")
    return f"{where} {key}: {expected}".strip()


def _as_spelt(key: str) -> str:
    """Environment variables are in capitals: give each part of a key the case the schema has."""
    parts: list[str] = []
    for part in key.split("."):
        spelt = {name.lower(): name for name in _valid_names(parts)}
        parts.append(spelt.get(part, part))
    return ".".join(parts)


def _valid_names(sections: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for section in sections:
        for name, info in model.model_fields.items():
            inner = section_type(info.annotation)
            if section in (name, info.alias) and inner is not None:
                model = inner
                break
    return sorted(info.alias or name for name, info in model.model_fields.items())


def section_type(annotation: object) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _is_section(name: str) -> bool:
    found = (info for key, info in Config.model_fields.items() if name in (key, info.alias))
    return any(section_type(info.annotation) is not None for info in found)


# --- raw settings and where each came from: YAML files, ``--set`` and the environment ---


ENVIRONMENT_PREFIX = "THERMOCANCER_"
PLAIN_VARIABLES = {"THERMOCANCER_WORKSPACE": "workspace", "THERMOCANCER_SEED": "seed"}
NOT_SETTINGS = {"THERMOCANCER_USER", "THERMOCANCER_PASSWORD", "THERMOCANCER_REAL_DATA"}


@dataclass
class Settings:
    """Nested settings as found, and for each dotted key the place it was read from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def put(self, key: str, value: object, origin: str) -> None:
        """Set a dotted key, replacing whatever was there."""
        *sections, last = key.split(".")
        place = self.values
        for depth, section in enumerate(sections, start=1):
            inner = place.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{'.'.join(sections[:depth])} is a value, not a section", where=origin, found=inner)
            place = inner
        place[last] = value
        self.origins[key] = origin

    def merge(self, values: Mapping[str, object], origins: Mapping[str, str], prefix: str = "") -> None:
        """Lay ``values`` over what is here: sections are merged, everything else is replaced."""
        for name, value in values.items():
            key = f"{prefix}{name}"
            if value is None and not prefix and _is_section(name):
                continue  # a section of which nothing is set, as ``config init`` writes it
            if isinstance(value, Mapping):
                if not value:
                    continue
                self.merge(value, origins, f"{key}.")
            else:
                self.put(key, value, origins.get(key, "?"))

    def origin_of(self, key: str) -> str | None:
        """The place of a key, or of the nearest section or entry around it."""
        while key:
            if key in self.origins:
                return self.origins[key]
            inside = [place for name, place in self.origins.items() if name.startswith(f"{key}.")]
            if inside:
                return inside[0]
            key = key.rpartition(".")[0]
        return None


def _shipped(path: Path) -> Path:
    """``path``, or the config that comes with the package where no file has the bare name (``quickstart``)."""
    own = Path(__file__).parents[1] / "configs" / f"{path}.yaml"
    return own if path.name == str(path) and not path.suffix and not path.is_file() and own.is_file() else path


def read_yaml(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Read one config file: its values, and ``file:line`` for each dotted key.

    Raises ConfigError when the file is missing, is not YAML, is no mapping or repeats a key.
    """
    try:
        if path.stat().st_size > LONGEST_FILE:
            found = f"{path.stat().st_size} bytes"
            raise ConfigError("the config file is too long", where=path, expected=f"{LONGEST_FILE} bytes", found=found)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError("the config file cannot be read", where=path, found=error.strerror) from error
    except UnicodeDecodeError as error:
        raise ConfigError("the config file is not UTF-8 text", where=path, found=error.reason) from error
    node = _composed(text, path)
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("a config file must hold sections", where=f"{path}:1", expected="key: value lines")
    origins: dict[str, str] = {}
    _note_lines(node, path, "", origins)
    values = _values(text, path)
    return (values if isinstance(values, dict) else {}), origins


def _composed(text: str, where: object) -> yaml.Node | None:
    """The nodes of a YAML text: no deeper and, aliases written out, no more than any config is.

    A few lines of aliases to aliases stand for gigabytes. Raises ConfigError with the line.
    """
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ConfigError(
                    "the config is nested too deeply", where=f"{where}:{getattr(event.start_mark, 'line', 0) + 1}",
                    expected=f"sections at most {DEEPEST} deep",
                )  # fmt: skip
        node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None and _size(node, {}) > MOST_VALUES:
            raise ConfigError("the config says too much", where=where, expected=f"at most {MOST_VALUES} values")
        return node
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            "the config file is not valid YAML", where=f"{where}{line}", found=getattr(error, "problem", None) or error
        ) from error


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; one that holds itself has no end."""
    if id(node) not in known:
        known[id(node)] = math.inf  # what a node inside itself finds
        children = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (each for child in children for each in (child if isinstance(child, tuple) else (child,)))
        known[id(node)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(node)]


LONGEST_FILE, MOST_VALUES, DEEPEST = 2**20, 10_000, 20
"""Bytes and values of a config file, and sections in sections: far above any that says something."""


def _values(text: str, where: object) -> object:
    """The values of a YAML text. Numbers are numbers: ``0777`` is refused, which YAML 1.1 reads as 511.

    Raises ConfigError for what looks like a date or a number and is none.
    """
    try:
        return yaml.load(text, Loader=_PlainNumbers)  # a SafeLoader
    except ConfigError:
        raise
    except Exception as error:  # yaml's own errors, and ValueError of a date such as 2015-99-99
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError("the value is not valid YAML", where=where, found=said) from error


class _PlainNumbers(yaml.SafeLoader):
    """YAML 1.2's numbers where 1.1 surprises: no octal ``0777``, no ``1:30`` in sixties; ``1e9`` is a number."""


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    text = str(node.value).replace("_", "")
    if re.fullmatch(r"[-+]?0[0-7]+|[-+]?[0-9]+(:[0-5]?[0-9])+", text):
        raise ConfigError(
            "this is no plain number", where=f"line {node.start_mark.line + 1}", found=node.value,
            expected="a number without a leading 0 or colons; in quotes, if it is a text",
        )  # fmt: skip
    return loader.construct_yaml_int(node)


_PlainNumbers.add_constructor("tag:yaml.org,2002:int", _whole_number)


def _note_lines(node: yaml.MappingNode, path: Path, prefix: str, origins: dict[str, str]) -> None:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        name = str(key_node.value)
        line = key_node.start_mark.line + 1
        if name in seen:
            raise ConfigError(
                f"the key {prefix}{name} stands twice",
                where=f"{path}:{line}",
                found=f"first on line {seen[name]}",
                hint="keep one of the two",
            )
        seen[name] = line
        origins[f"{prefix}{name}"] = f"{path}:{line}"
        if isinstance(value_node, yaml.MappingNode):
            _note_lines(value_node, path, f"{prefix}{name}.", origins)


def parse_assignment(text: str) -> tuple[str, object]:
    """Split ``a.b=value`` of ``--set``; the value is read as YAML."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise ConfigError(
            "--set needs KEY=VALUE", where=f"--set {text}", expected="for example --set autoencoder.epochs=5"
        )
    return key.strip(), _yaml_value(value, f"--set {text}")


def _yaml_value(text: str, where: str) -> object:
    _composed(text, where)
    return _values(text, where)


def from_environment(environment: Mapping[str, str] | None = None) -> Iterable[tuple[str, object, str]]:
    """Yield (dotted key, value, variable) for every setting in the environment.

    ``THERMOCANCER_WORKSPACE`` and ``THERMOCANCER_SEED``, and ``THERMOCANCER_SECTION__KEY`` for any other.
    """
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name in NOT_SETTINGS or not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name in PLAIN_VARIABLES:
            yield PLAIN_VARIABLES[name], text if name.endswith("WORKSPACE") else _yaml_value(text, name), name
        elif "__" in name:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            yield key, _yaml_value(text, name), name
        else:
            known = [*PLAIN_VARIABLES, *sorted(NOT_SETTINGS), f"{ENVIRONMENT_PREFIX}SECTION__KEY"]
            endings = {each.removeprefix(ENVIRONMENT_PREFIX): each for each in known}
            near = difflib.get_close_matches(name.removeprefix(ENVIRONMENT_PREFIX), endings, n=1, cutoff=0.7)
            raise ConfigError(
                f"the environment variable {name} means nothing", where=name, expected=f"one of: {', '.join(known)}",
                hint=f"did you mean {endings[near[0]]}?" if near else "write SECTION__KEY with two underscores",
            )  # fmt: skip
