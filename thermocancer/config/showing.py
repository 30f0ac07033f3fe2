"""A config as text: whole, against another, and as a file to begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import yaml

from thermocancer.config.loader import section_type
from thermocancer.config.schema import Config, StageName
from thermocancer.errors import ConfigError


def dump_yaml(config: Config) -> str:
    """The resolved config as YAML, every default spelt out."""
    values = config.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def differences(config: Config, other: Config) -> dict[str, tuple[object, object]]:
    """The settings whose values differ: dotted key to the value here and the value there."""
    here, there = (dict(_flat(each.model_dump(mode="json", by_alias=True))) for each in (config, other))
    keys = [*here, *(key for key in there if key not in here)]
    return {key: (here.get(key), there.get(key)) for key in keys if here.get(key) != there.get(key)}


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


ROADS: dict[str, tuple[tuple[StageName, ...], tuple[str, ...]]] = {
    "phantom": (("simulate", "convert", "filter", "build-dataset", "train-ae", "fuse", "evaluate"), ("simulate",)),
    "folder": (("import", "filter", "build-dataset", "train-ae", "fuse", "evaluate"), ("import", "cohort")),
    "site": (("fetch", "filter", "build-dataset", "train-ae", "fuse", "evaluate"), ("fetch", "cohort")),
    "classes": (("train-cnn", "evaluate"), ()),
}
"""Roads that ``config init`` begins a file for: the stages, and the sections that it opens beside the stages' own."""

_SECTIONS_OF = {
    "convert": ("convert",), "filter": ("filter",), "build-dataset": ("dataset", "split"), "train-ae": ("autoencoder",),
    "fuse": ("fuse", "features"), "train-cnn": ("cnn",), "evaluate": ("evaluate",),
}  # fmt: skip


def starting_file(road: str) -> str:
    """A YAML config for one road: the pipeline, and every setting of its stages with its meaning, commented out.

    It loads as it is, to the defaults. Raises ConfigError for another road.
    """
    if road not in ROADS:
        raise ConfigError(f"there is no road {road!r}", where="--road", expected=f"one of: {', '.join(ROADS)}")
    stages, opened = ROADS[road]
    lines = [
        "# Every line that is commented out is a default; take the # away to change it. All settings: docs/config.md",
        "workspace: workspace", "seed: 0", f"pipeline: [{', '.join(stages)}]",
    ]  # fmt: skip
    defaults = Config().model_dump(mode="json", by_alias=True)
    for section in dict.fromkeys([*opened, *(name for stage in stages for name in _SECTIONS_OF.get(stage, ()))]):
        field_info = next(info for name, info in Config.model_fields.items() if section in (name, info.alias))
        model = section_type(field_info.annotation)
        assert model is not None, section
        lines += ["", f"# {(model.__doc__ or section).splitlines()[0]}", f"{section}:"]
        for name, info in model.model_fields.items():
            value = yaml.safe_dump(defaults[section][info.alias or name], default_flow_style=True, width=10**6)
            text = f"#   {info.alias or name}: {value.splitlines()[0]}"
            lines.append(f"{text:<40}  # {info.description}" if info.description else text)
    return "\n".join([*lines, ""])
