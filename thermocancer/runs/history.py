"""``history.jsonl``: one JSON line an epoch. No times in it, so that a rerun writes the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thermocancer.files import read_json_lines, write_text

Row = dict[str, Any]


def write_history(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write the rows, whole or not at all."""
    write_text(path, "".join(json.dumps(dict(row), allow_nan=False) + "\n" for row in rows))


def read_history(path: Path) -> list[Row]:
    """Read the rows; none where the model has no epochs. Raises DataError with the line that is broken."""
    if not path.exists():
        return []
    return list(read_json_lines(path, dict, what="a line of the history cannot be read", hint="train the run again"))
