"""Writes ``docs/commands.md`` and ``docs/config.md`` from the program itself: ``python docs/reference.py``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FOLDER = Path(__file__).parent


def commands_page() -> str:
    """Every command: what it does, an example, its options."""
    import typer

    from thermocancer.cli import register

    lines = ["# Commands", "", "Made by `python docs/reference.py` from the program; a test compares them.", ""]
    for name, command in _commands(typer.main.get_command(register()), "thermocancer"):
        lines += [f"## `{name}`", "", *_help_lines(command.help or ""), ""]
        lines += ["| option | meaning |", "|---|---|"]
        for parameter in command.params:
            if parameter.name == "help":
                continue
            flags = ", ".join(f"`{flag}`" for flag in parameter.opts)
            lines.append(f"| {flags} | {(getattr(parameter, 'help', None) or '').replace('|', '/')} |")
        lines.append("")
    return "\n".join(lines)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _help_lines(text: str) -> list[str]:
    what, _, example = inspect.cleandoc(text).partition("Example:")
    lines = [" ".join(what.split())]
    return [*lines, "", "```sh", " ".join(example.split()), "```"] if example else lines


def config_page() -> str:
    """Every config key with its default and meaning."""
    from thermocancer.config import Config

    lines = ["# Config keys", "", "Made by `python docs/reference.py` from the program; a test compares them.", ""]
    lines += ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{key}` | `{default}` | {allowed} | {meaning} |" for key, default, allowed, meaning in _keys(Config, "")
    ]
    lines += [
        "",
        "Environment: `THERMOCANCER_WORKSPACE`, `THERMOCANCER_SEED`, and `THERMOCANCER_SECTION__KEY` for any other key",
        "(for example `THERMOCANCER_AUTOENCODER__EPOCHS=5`). Credentials are read from `THERMOCANCER_USER` and",
        "`THERMOCANCER_PASSWORD` and never belong in a file.",
        "",
    ]
    return "\n".join(lines)


def _keys(model: type[BaseModel], prefix: str, values: BaseModel | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Key, default, allowed values and meaning of every setting.

    A section's own default instance (``values``) overrides its class.
    """
    schema = model.model_json_schema(by_alias=True)
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        default = info.get_default(call_default_factory=True) if values is None else getattr(values, name)
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{key}.", default if isinstance(default, BaseModel) else None)
            continue
        shown = "required" if default is PydanticUndefined else _shown(default)
        allowed = allowed_of(schema["properties"][info.alias or name], schema.get("$defs", {}))
        yield key, shown.replace("|", "/"), allowed.replace("|", "/"), (info.description or "").replace("|", "/")


def allowed_of(schema: dict[str, Any], named: dict[str, Any]) -> str:
    """The values that a JSON schema takes, in words: type, choices, range.

    >>> allowed_of({"type": "integer", "exclusiveMinimum": 0, "maximum": 9}, {})
    'whole number, above 0, at most 9'
    >>> allowed_of({"anyOf": [{"enum": ["jpg", "png"]}, {"type": "null"}]}, {})
    '`jpg` or `png`; or null'
    """
    if "$ref" in schema:
        return allowed_of(named[schema["$ref"].rpartition("/")[2]], named)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return "; or ".join(dict.fromkeys(allowed_of(each, named) for each in schema[word]))
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if choices:
        return " or ".join(f"`{each}`" for each in choices)
    kind = schema.get("type")
    if kind == "array":
        parts = schema.get("prefixItems", [schema.get("items", {})])
        inner = ", ".join(dict.fromkeys(allowed_of(each, named) for each in parts))
        return f"{len(parts)} of: {inner}" if "prefixItems" in schema else f"list of: {inner}"
    if kind == "object":
        return (
            "keys " + ", ".join(f"`{each}`" for each in schema["properties"]) if "properties" in schema else "mapping"
        )
    ends = [
        f"{words} {int(schema[key]) if schema[key] == int(schema[key]) else schema[key]:,}"
        for key, words in _ENDS.items()
        if key in schema
    ]
    return ", ".join([_TYPES.get(str(kind), "anything"), *ends])


_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}
_ENDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, tuple):
        value = list(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    (FOLDER / "commands.md").write_text(commands_page(), encoding="utf-8")
    (FOLDER / "config.md").write_text(config_page(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
