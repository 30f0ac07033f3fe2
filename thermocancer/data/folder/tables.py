"""Tables that people keep beside their images: CSV, JSON and .xlsx files, read as rows of text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thermocancer.errors import ConfigError, DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".xlsx")


@dataclass(frozen=True)
class Row:
    """One line of a table; ``line`` counts from 1 as an editor does (entries, in a JSON file)."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def place(self, row: Row) -> str:
        return f"{self.path}:{row.line}"


def read_table(path: Path, setting: str) -> Table:
    """Read a table; ``setting`` is the config key that named it.

    JSON may hold a list of objects, or an object whose keys are the ids (column ``id``) and whose
    values are objects or single values (column ``value``). Of a workbook the first sheet is read.
    Raises ConfigError for a file that is not there, DataError for one without rows.
    """
    if not path.is_file():
        raise ConfigError("there is no such file", where=setting, found=path)
    suffix = path.suffix.lower()
    rows = _json_rows(path) if suffix == ".json" else _under_header(_xlsx(path) if suffix == ".xlsx" else _csv(path))
    filled = tuple(row for row in rows if any(row.cells.values()))
    if not filled:
        raise DataError("this table is empty", where=path, expected="a header line and one line an exam or patient")
    return Table(path, tuple(dict.fromkeys(name for row in filled for name in row.cells)), filled)


def _under_header(lines: Iterable[tuple[int, Sequence[str]]]) -> Iterable[Row]:
    """Rows of cells by the names in the first line; columns without a name are left out."""
    header: list[str] | None = None
    for number, line in lines:
        if header is None:
            header = [name.strip() for name in line]
            continue
        padded = [*line, *[""] * (len(header) - len(line))]
        yield Row(number, {name: cell.strip() for name, cell in zip(header, padded, strict=False) if name})


def _csv(path: Path) -> Iterable[tuple[int, Sequence[str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")  # what older spreadsheets write; every byte has a meaning
    lines = text.splitlines()
    reader = csv.reader(lines, delimiter=max(",;\t", key=lambda each: lines[0].count(each)) if lines else ",")
    return ((reader.line_num, cells) for cells in reader)


def _xlsx(path: Path) -> Iterable[tuple[int, Sequence[str]]]:
    try:
        import openpyxl
    except ImportError as error:
        hint = "pip install openpyxl, or save the sheet as CSV"
        raise ConfigError("reading an .xlsx file needs the package openpyxl", where=path, hint=hint) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        lines = [[_text(cell) for cell in line] for line in book.worksheets[0].iter_rows(values_only=True)]
        book.close()
    except Exception as error:  # openpyxl raises whatever the broken part of the file provokes
        hint = "save the sheet as CSV"
        raise DataError("this workbook cannot be read", where=path, found=error, hint=hint) from error
    return enumerate(lines, 1)


def _json_rows(path: Path) -> Iterable[Row]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError("this file is not valid JSON", where=path, found=error) from error
    if isinstance(content, dict):
        content = [
            {"id": key, **(value if isinstance(value, dict) else {"value": value})} for key, value in content.items()
        ]
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        expected = "a list of objects, or ids with their values"
        raise DataError("this JSON file is no table", where=path, expected=expected)
    return [Row(number, {key: _text(value) for key, value in each.items()}) for number, each in enumerate(content, 1)]


def _text(value: object) -> str:
    """A cell as text: whole numbers without a point, nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
