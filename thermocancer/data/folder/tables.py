"""Tables that people keep beside their images: CSV, JSON and .xlsx files, read as rows of text.

Spreadsheets save the same table in many dresses: a line ``sep=;``, UTF-16, cp1252, commas, semicolons, tabs or
bars, a title above the header. What a table is shows in the whole of it, not in its first line.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from thermocancer.errors import ConfigError, DataError, check_installed

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".xlsx")
_DELIMITERS = ",;\t|"
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
Lines = list[tuple[int, Sequence[str]]]
"""The number of each line as an editor counts it, and its cells."""


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

    def check_column(self, name: str, setting: str) -> None:
        """Raise ConfigError where ``setting`` names a column that is not there."""
        if name not in self.columns:
            expected = f"one of: {', '.join(self.columns)}"
            raise ConfigError(
                f"the labels file has no column {name!r}", where=setting, expected=expected, found=self.path
            )

    def values(self, column: str) -> list[str]:
        """The cells of a column that hold anything, in the order of the lines."""
        return [cell for row in self.rows if (cell := row.cells.get(column, ""))]


def read_table(path: Path, setting: str) -> Table:
    """Read a table; ``setting`` is the config key that named it.

    JSON may hold a list of objects, or an object whose keys are the ids (column ``id``) and whose
    values are objects or single values (column ``value``). Of a workbook the one sheet that holds a table is read.
    Raises ConfigError for a file that is not there, DataError for one without rows, for lines with more cells than the
    header names, and for a workbook of several tables.
    """
    if not path.is_file():
        raise ConfigError("there is no such file", where=setting, found=path)
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"\xd0\xcf\x11\xe0":
        raise DataError(
            "this is a workbook of an old kind (.xls)", where=path, expected=f"one of: {', '.join(TABLE_SUFFIXES)}",
            hint="save the sheet as .xlsx or CSV",
        )  # fmt: skip
    if path.suffix.lower() == ".json":
        rows = _json_rows(path)
    else:
        rows = _under_header(_xlsx_lines(path) if start == b"PK\x03\x04" else _csv_lines(path), path)
    filled = tuple(row for row in rows if any(row.cells.values()))
    if not filled:
        raise DataError("this table is empty", where=path, expected="a header line and one line an exam or patient")
    return Table(path, tuple(dict.fromkeys(name for row in filled for name in row.cells)), filled)


def _under_header(lines: Lines, path: Path) -> list[Row]:
    """Rows of cells by the names in the header; columns without a name are left out.

    The header is the first line that fills at least half as many cells as most lines do, none of them with a
    mere number: titles and blank lines stand above it.
    """
    filled = {number: sum(bool(cell.strip()) for cell in cells) for number, cells in lines}
    usual = max(Counter(count for count in filled.values() if count).most_common(1), default=(1, 0))[0]
    least = min(usual, max(2, -(-usual // 2)))
    wide = [number for number, count in filled.items() if count >= least]
    named = [number for number, cells in lines if number in wide and not any(_is_number(cell) for cell in cells)]
    start = (named or [0])[0]
    rows, too_long, header = [], [], []
    for number, cells in lines:
        texts = [cell.strip() for cell in cells]
        if number == start:
            counts: Counter[str] = Counter()
            for name in texts:
                counts[name] += 1
                header.append(f"{name} ({counts[name]})" if name and counts[name] > 1 else name)
        elif number > start:
            if any(texts[len(header) :]):
                too_long.append(number)
            padded = [*texts, *[""] * (len(header) - len(texts))]
            rows.append(Row(number, {name: cell for name, cell in zip(header, padded, strict=False) if name}))
    values = {name: {row.cells[name].casefold() for row in rows} for name in header if name}
    if (wide and not named) or any(name.casefold() in found for name, found in values.items()):
        first = next((cells for number, cells in lines if number == (named or wide)[0]), [])
        raise DataError(
            "this table has no header", where=path, expected="a line with the names of the columns above the others",
            found=", ".join(first[:6]), hint="write a first line such as id,diagnosis",
        )  # fmt: skip
    if too_long:
        raise DataError(
            "lines of this table have more cells than its header", where=f"{path}:{too_long[0]}",
            expected=f"{len(header)} cells: {', '.join(header)}",
            found=f"{len(too_long)} longer lines: {', '.join(map(str, too_long[:10]))}",
            hint="put cells that hold the separator in quotation marks",
        )  # fmt: skip
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _text_of(path: Path) -> str:
    """The file's text: by its byte-order mark, UTF-16 by its zeros, UTF-8, or else what older spreadsheets write."""
    content = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "")
    if not encoding and content[:200].count(0) > len(content[:200]) // 4:
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    for name in (encoding, "utf-8", "cp1252"):
        try:
            if name:
                return content.decode(name).removeprefix("\ufeff")
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")  # every byte has a meaning


def _csv_lines(path: Path) -> Lines:
    text = _text_of(path)
    first, _, rest = text.partition("\n")
    said = first.strip().strip('"').casefold()
    ahead = 0
    delimiters = _DELIMITERS
    if said.startswith("sep=") and len(first.strip().strip('"')) == 5:
        text, ahead, delimiters = rest, 1, first.strip().strip('"')[-1]
    readings = []
    for delimiter in delimiters:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            lines: Lines = [(ahead + reader.line_num, cells) for cells in reader]
        except csv.Error as error:
            raise DataError("this table cannot be read", where=path, found=error) from error
        widths = Counter(len(cells) for _, cells in lines if len(cells) > 1)
        width, agreeing = widths.most_common(1)[0] if widths else (1, 0)
        readings.append(((agreeing, width), lines))
    (agreeing, _), best = max(readings, key=lambda each: each[0])
    for blanks in (r"\s{2,}", r"\s+"):  # columns that blanks divide, as many in every line
        apart = [(number, re.split(blanks, cells[0].strip())) for number, cells in best if any(cells)]
        if agreeing == 0 and apart and {len(cells) for _, cells in apart} == {max(2, len(apart[0][1]))}:
            return list(apart)
    return best


def _xlsx_lines(path: Path) -> Lines:
    check_installed(
        "openpyxl", "reading an .xlsx file needs the package openpyxl", extra="excel", where=path,
        otherwise="save the sheet as CSV",
    )  # fmt: skip
    import openpyxl

    try:
        with path.open("rb") as file:  # whatever the name ends in
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = {
                each.title: [[_text(cell) for cell in line] for line in each.iter_rows(values_only=True)]
                for each in book.worksheets
            }
            book.close()
    except Exception as error:  # openpyxl raises whatever the broken part of the file provokes
        hint = "save the sheet as CSV"
        raise DataError("this workbook cannot be read", where=path, found=error, hint=hint) from error
    tables = [title for title, lines in sheets.items() if sum(sum(map(bool, line)) > 1 for line in lines) > 1]
    if len(tables) > 1:
        raise DataError(
            "several sheets of this workbook hold a table", where=path, expected="one table", found=", ".join(tables),
            hint="save the sheet that is meant as CSV",
        )  # fmt: skip
    return list(enumerate(sheets[(tables or list(sheets))[0]], 1))


def _json_rows(path: Path) -> Iterable[Row]:
    try:
        content = json.loads(_text_of(path))
    except json.JSONDecodeError as error:
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
    """A cell as text: whole numbers without a point, days as YYYY-MM-DD, nothing for nothing."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()[:10]
    return str(value).strip()
