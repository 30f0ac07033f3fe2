"""From files, ``--set`` and the environment to one checked ``Config``."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from thermocancer.config.layers import Settings, from_environment, parse_assignment, read_yaml
from thermocancer.config.schema import Config
from thermocancer.errors import ConfigError


def load_config(
    files: Sequence[Path] = (),
    assignments: Iterable[str] = (),
    *,
    workspace: Path | None = None,
    options: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Load the config: ``--set`` > command options and ``--workspace`` > later file > earlier file > environment.

    ``options`` are a command's own options as dotted keys; those that are None are left out.
    Raises ConfigError naming file, line, key and the nearest valid name.
    """
    settings = Settings()
    for key, value, origin in from_environment(environment):
        settings.put(_as_spelt(key), value, origin)
    for path in files:
        values, origins = read_yaml(path)
        settings.merge(values, origins)
    if workspace is not None:
        settings.put("workspace", str(workspace), "--workspace")
    for key, value in (options or {}).items():
        if value is not None:
            settings.put(key, value, f"option for {key}")
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
    known = [part for part in parts if _is_key(part, settings, parts)]
    key = ".".join(known)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    where = settings.origin_of(key) if key else None
    if problem["type"] == "extra_forbidden":
        choices = _valid_names(known[:-1])
        close = difflib.get_close_matches(known[-1], choices, n=1, cutoff=0.5)
        hint = f"did you mean {'.'.join([*known[:-1], close[0]])!r}?" if close else "see: thermocancer config schema"
        return ConfigError(
            f"unknown config key {key!r}{more}", where=where, expected=f"one of: {', '.join(choices)}", hint=hint
        )
    message = "a list, such as [one, other]" if problem["type"] == "tuple_type" else str(problem["msg"])
    message = message.removeprefix("Value error, ")
    if not key:
        return ConfigError(f"these settings cannot go together{more}", where=where, found=message)
    return ConfigError(
        f"wrong value for {key!r}{more}", where=where, expected=message, found=repr(problem.get("input")),
        hint="see: thermocancer config schema",
    )  # fmt: skip


def _is_key(part: str, settings: Settings, parts: list[str]) -> bool:
    """Union members add their type's name to pydantic's location; only real keys are shown."""
    names = set(settings.values) | {piece for key in settings.origins for piece in key.split(".")}
    return part in names or part == parts[0]


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
            inner = _section_type(info.annotation)
            if section in (name, info.alias) and inner is not None:
                model = inner
                break
    return sorted(info.alias or name for name, info in model.model_fields.items())


def _section_type(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def dump_yaml(config: Config) -> str:
    """The resolved config as YAML, every default spelt out."""
    values = config.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
