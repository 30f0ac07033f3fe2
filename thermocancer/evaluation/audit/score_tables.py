"""A table of anybody's scores as it is read: which column is what, and what each fact is taken for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thermocancer.data.cohort import Exam, IntArray
from thermocancer.data.folder.dates import mostly_dates
from thermocancer.data.folder.tables import Row, Table, read_table
from thermocancer.data.folder.words import names_a_label, polarity
from thermocancer.errors import ConfigError, DataError
from thermocancer.evaluation.audit.nuisance import column_variable
from thermocancer.evaluation.audit.scope import Variable
from thermocancer.evaluation.statistics.intervals import midranks
from thermocancer.runs.predictions import Prediction

ROLES = {
    "unit": ("unit", "id", "exam", "case", "study", "file", "filename", "name", "patient", "subject"),
    "label": ("label", "y_true", "y", "target", "truth", "diagnosis", "class"),
    "score": ("score", "y_score", "y_prob", "probability", "prob", "prediction"),
    "fold": ("fold", "split"),
    "repeat": ("repeat", "repetition"),
    "group": ("group", "patient", "subject", "patient_id"),
    "predicted": ("predicted", "decision", "y_pred"),
}
"""By which names a column is known where no option names it, the surest first."""

REQUIRED = ("unit", "label", "score")


@dataclass(frozen=True)
class Scored:
    """A table of scores as it was read: ``rows`` name exams by (patient, visit), which are positions of ``names``."""

    exams: tuple[Exam, ...]
    names: tuple[str, ...]
    rows: tuple[Prediction, ...]
    facts: tuple[Variable, ...]
    kinds: dict[str, str]
    cells: dict[str, tuple[str, ...]]
    left_out: tuple[dict[str, str], ...]
    columns: dict[str, str]
    positive: str
    has_folds: bool
    places: tuple[int, ...]
    """Of each exam's first row in the table."""
    are_shares: bool
    """False where scores are not from 0 to 1: their ranks then stand in ``rows``, and no Brier score is given."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_scores(
    path: Path, facts: Path | None = None, *, columns: Mapping[str, str | None], positive: str | None = None,
    threshold: float = 0.5, wanted: Sequence[str] = (),
) -> Scored:  # fmt: skip
    """Read a table of scores and, beside it, one of facts by the same unit.

    ``columns`` names roles' columns (keys of ROLES); ``wanted`` the facts, by default every other column that does not
    name a diagnosis. Raises ConfigError for columns that are not there, DataError for cells that cannot be used.
    """
    table = read_table(path, "SCORES")
    roles = _roles(table, columns)
    labels, said = _labels(table, roles["label"], positive)
    scores = np.array([_number(table, row, roles["score"]) for row in table.rows])
    are_shares = bool(scores.min() >= 0 and scores.max() <= 1)
    called = scores >= threshold
    if "predicted" in roles and {row.cells.get(roles["predicted"]) for row in table.rows} <= {"0", "1"}:
        called = np.array([row.cells[roles["predicted"]] == "1" for row in table.rows])
    if not are_shares:
        scores = (midranks(scores) - 0.5) / len(scores)
    units = [_unit(table, row, roles) for row in table.rows]
    group = roles.get("group")
    groups = [row.cells.get(group, "") or unit for row, unit in zip(table.rows, units, strict=True)] if group else units
    folds, has_folds = _fold_names(table, roles)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups), start=1)}
    places: dict[str, int] = {}
    seen: dict[tuple[str, str], Row] = {}
    first: list[int] = []
    for at, (row, unit) in enumerate(zip(table.rows, units, strict=True)):
        before = seen.setdefault((unit, folds[at].split(".")[0] if "." in folds[at] else ""), row)
        if before is not row:
            raise DataError(
                "a unit is scored twice", where=table.place(row), expected="each unit once, or once a repeat",
                found=f"{unit}, also in line {before.line}",
                hint="name the column that tells the rows of a unit apart with --unit, or the one of repeats with "
                "--repeat; rows of one patient share --group",
            )  # fmt: skip
        if unit not in places:
            places[unit] = len(first)
            first.append(at)
        elif labels[at] != labels[first[places[unit]]] or groups[at] != groups[first[places[unit]]]:
            raise DataError(
                "a unit has two labels or two groups", where=table.place(row), expected="one of each",
                found=f"{unit}, see line {table.rows[first[places[unit]]].line}", hint="correct the table",
            )  # fmt: skip
    exams = tuple(Exam(numbers[groups[at]], place + 1, int(labels[at]), None, "") for place, at in enumerate(first))
    rows = tuple(
        Prediction(numbers[groups[at]], places[units[at]] + 1, folds[at], int(labels[at]), float(scores[at]),
                   int(called[at]))
        for at in range(len(units))
    )  # fmt: skip
    cells = {
        name: tuple(table.rows[at].cells.get(name, "") for at in first)
        for name in table.columns if name not in roles.values() and name != "visit"
    }  # fmt: skip
    cells |= {} if facts is None else _joined(read_table(facts, "--facts"), roles["unit"], [units[at] for at in first])
    made, kinds, left_out = _facts(cells, wanted)
    return Scored(
        exams, tuple(units[at] for at in first), rows, tuple(made), kinds, {name: cells[name] for name in kinds},
        tuple(left_out), roles, said, has_folds, tuple(first), are_shares,
    )  # fmt: skip


def _roles(table: Table, given: Mapping[str, str | None]) -> dict[str, str]:
    """The column of each role that has one."""
    known = {name.strip().casefold(): name for name in table.columns}
    found: dict[str, str] = {}
    for role, names in ROLES.items():
        asked = given.get(role)
        if asked is not None and asked not in table.columns:
            raise ConfigError(
                "this table has no such column", where=f"--{role}", expected=", ".join(table.columns), found=asked
            )
        column = asked or next((known[name] for name in names if name in known), None)
        if column is None and role in REQUIRED:
            raise ConfigError(
                f"no column is known to hold the {role}", where=table.path, expected=f"one of {', '.join(names)}",
                found=", ".join(table.columns), hint=f"name it with --{role} COLUMN",
            )  # fmt: skip
        if column is not None and (role == "group" or column not in found.values()):
            found[role] = column
    return found


def _unit(table: Table, row: Row, roles: Mapping[str, str]) -> str:
    """The name of a row's unit; a patient's visits are units of their own where a column numbers them."""
    name = row.cells.get(roles["unit"], "")
    if not name:
        raise DataError(
            "a row names no unit", where=table.place(row), expected=f"a name in column {roles['unit']}",
            found="an empty cell", hint="fill it, or name another column with --unit",
        )  # fmt: skip
    visit = row.cells.get("visit", "")
    return f"{name}_{visit}" if visit and roles["unit"] == roles.get("group") else name


def _number(table: Table, row: Row, column: str) -> float:
    cell = row.cells.get(column, "")
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(
            "a score is no number", where=f"{table.place(row)}, column {column}", expected="a number, higher for sick",
            found=cell or "an empty cell", hint="correct the cell, or name the column of scores with --score COLUMN",
        )  # fmt: skip
    return value


def _labels(table: Table, column: str, positive: str | None) -> tuple[IntArray, str]:
    """0 and 1, and which text stands for 1."""
    cells = [row.cells.get(column, "").strip() for row in table.rows]
    kinds = sorted(set(cells))
    if len(kinds) != 2 or "" in kinds:
        example = next((row for row in table.rows if not row.cells.get(column, "").strip()), table.rows[0])
        raise DataError(
            "labels must be of two kinds", where=f"{table.place(example)}, column {column}",
            expected="two different values, none of them empty",
            found=", ".join(f"{kind or 'empty'} ({count} rows)" for kind, count in Counter(cells).most_common(6)),
            hint="name the column of labels with --label COLUMN, or leave out rows without a label",
        )  # fmt: skip
    ones = {"1", "1.0", "true", "yes", "positive", "pos"}
    likely = [kind for kind in kinds if kind.casefold() in ones or polarity(kind) == "sick"]
    chosen = positive if positive is not None else likely[0] if len(likely) == 1 else None
    if chosen not in kinds:
        raise ConfigError(
            "which label is the positive one is not known", where="--positive", expected=" or ".join(kinds),
            found=positive or "nothing", hint=f"type --positive {kinds[1]} or --positive {kinds[0]}",
        )  # fmt: skip
    return np.array([int(cell == chosen) for cell in cells], dtype=np.int64), chosen


def _fold_names(table: Table, roles: Mapping[str, str]) -> tuple[list[str], bool]:
    """``REPEAT.FOLD`` of each row, ``test`` where nothing was cross-validated, and whether folds are known."""
    texts = {role: [row.cells.get(roles[role], "") for row in table.rows] for role in ("fold", "repeat")
             if role in roles}  # fmt: skip
    if "fold" not in texts and "repeat" not in texts:
        return ["test"] * len(table.rows), False
    folds = texts.get("fold", ["1"] * len(table.rows))
    if "repeat" not in texts and all(re.fullmatch(r"\d+\.\d+", fold) for fold in folds):
        return folds, len(set(folds)) > 1
    if "repeat" not in texts and len(set(folds)) == 1:
        return ["test"] * len(folds), False
    numbers = [{text: number for number, text in enumerate(dict.fromkeys(each), start=1)}
               for each in (texts.get("repeat", ["1"] * len(folds)), folds)]  # fmt: skip
    repeats = texts.get("repeat", ["1"] * len(folds))
    names = [f"{numbers[0][repeat]}.{numbers[1][fold]}" for repeat, fold in zip(repeats, folds, strict=True)]
    return names, len(set(folds)) > 1


def _joined(table: Table, unit: str, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Columns of a table of facts, in the order of the units; a unit that it lacks has empty cells."""
    key = unit if unit in table.columns else next((n for n in ROLES["unit"] if n in table.columns), None)
    if key is None:
        raise ConfigError(
            "the facts name no units", where=table.path, expected=f"a column {unit}", found=", ".join(table.columns),
            hint=f"name the column {unit} as in the table of scores",
        )  # fmt: skip
    by_unit: dict[str, Row] = {}
    for row in table.rows:
        if by_unit.setdefault(row.cells.get(key, ""), row) is not row:
            raise DataError(
                "a unit has two rows of facts", where=table.place(row), expected="one row a unit",
                found=row.cells.get(key, ""), hint="keep one of them",
            )  # fmt: skip
    if not set(names) & set(by_unit):
        raise DataError(
            "no unit of the scores is among the facts", where=table.path, expected=f"names such as {names[0]}",
            found=f"names such as {next(iter(by_unit))}", hint="give both tables the same names",
        )  # fmt: skip
    return {
        name: tuple(by_unit[each].cells.get(name, "") if each in by_unit else "" for each in names)
        for name in table.columns if name != key
    }  # fmt: skip


def _facts(
    cells: Mapping[str, tuple[str, ...]], wanted: Sequence[str]
) -> tuple[list[Variable], dict[str, str], list[dict[str, str]]]:
    """Variables, what each was taken for (date, number, category), and what is none with the reason."""
    missing = [name for name in wanted if name not in cells]
    if missing:
        raise ConfigError("there is no such fact", where="--fact", expected=", ".join(cells), found=", ".join(missing))
    made: list[Variable] = []
    kinds: dict[str, str] = {}
    left_out: list[dict[str, str]] = []
    for name, column in cells.items():
        variable = column_variable(name, column)
        if wanted and name not in wanted:
            why = "--fact does not name it"
        elif not wanted and (names_a_label(name) or polarity(name) is not None):
            why = "its name is that of a diagnosis; --fact takes it"
        elif isinstance(variable, str):
            why = variable
        elif len(set(column)) < 2:
            why = "all units share one value"
        else:
            kinds[name] = "category" if not variable.ordered else "date" if mostly_dates(column) else "number"
            made.append(replace(variable, family=f"the column `{name}`"))
            continue
        left_out.append({"name": name, "reason": why})
    return made, kinds, left_out
