"""What decides a result: derived from the typed settings and from what was resolved, never listed by hand.

Every field of the config decides, unless the schema marks it as one that does not (``config.base.ASIDE``:
names, numbers of processes, folders). A kind declares which settings it reads; its command adds those that
all its kinds read; and where a network runs, backend, precision and several devices decide as they were
*resolved*, so that ``auto`` that resolves differently is noticed.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from thermocancer.config import Config
from thermocancer.config.base import is_aside, is_unset
from thermocancer.files import fingerprint
from thermocancer.kinds import AE, CNN, DIT, FUSE, Kind
from thermocancer.strategy import resolved

SETTINGS_OF = {
    FUSE: (
        "seed", "split.protocol", "split.inner_folds", "cohort", "features.relative", "features.residualise",
        "features.torso_only", "fuse.aim", "fuse.aim_sensitivity", "fuse.options", "sweep",
    ),
    DIT: ("seed", "split", "cohort", "dit"),
    CNN: ("seed", "cnn"),
    AE: ("autoencoder",),
}  # fmt: skip
"""What all kinds of a command read, as dotted keys of settings or whole sections."""


def decided_by(kind: Kind, config: Config, *content: object) -> str:
    """Fingerprint of everything that decides what a kind gives: its settings, what was resolved, and ``content``.

    ``content`` are fingerprints of what is read (exams, folds, weights): JSON types only.
    """
    return fingerprint(
        kind.name, settings_of(kind, config), resolved(config.strategy) if kind.runs_network else None, content
    )


def settings_of(kind: Kind, config: Config) -> dict[str, object]:
    """The settings that decide what a kind gives, by their dotted keys."""
    return deciding_settings(config, (*SETTINGS_OF[kind.stage], *kind.settings))


def network_decided_by(stage: str, config: Config, *content: object) -> str:
    """The same for a network that is no classifier: an autoencoder."""
    return fingerprint(stage, deciding_settings(config, SETTINGS_OF[stage]), resolved(config.strategy), content)


def deciding_settings(config: Config, keys: Iterable[str]) -> dict[str, object]:
    """The settings behind dotted keys, whole sections taken apart, without those that decide nothing."""
    found: dict[str, object] = {}
    for key in keys:
        section, _, name = key.partition(".")
        value = getattr(config, section)
        if name:
            found[key] = _plain(getattr(value, name))
        elif isinstance(value, BaseModel):
            deciding = (
                (each, own) for each, info in type(value).model_fields.items()
                if not is_aside(info) and not is_unset(info, own := getattr(value, each))
            )  # fmt: skip
            found |= {f"{section}.{each}": _plain(own) for each, own in deciding}
        else:
            found[key] = value
    return found


def _plain(value: object) -> object:
    """JSON types: a section of a section as a mapping."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (tuple, list)) else value
