"""Exam dates: how a whole column, or all names of a folder, write them; never by one cell alone.

``05/11/2019`` is a day in May or in November. Where another cell of the column shows which number is the day, it
is read so; where none does, both readings are shown and somebody has to choose.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.tables import TABLE_SUFFIXES, Row, Table, read_table
from thermocancer.data.folder.words import DATE_COLUMNS, bare
from thermocancer.data.names import ViewWords, plain_text
from thermocancer.errors import ConfigError, DataError

ORDERS = {"YMD": "year, month, day", "DMY": "day first", "MDY": "month first"}
_MONTH_NAMES = (
    "jan january janeiro enero ene", "feb february fevereiro fev febrero", "mar march marco marzo",
    "apr april abril abr", "may maio mai mayo", "jun june junho junio", "jul july julho julio",
    "aug august agosto ago", "sep sept september setembro set septiembre", "oct october outubro out octubre",
    "nov november novembro noviembre", "dec december dezembro dez diciembre dic",
)  # fmt: skip
_MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, start=1) for name in names.split()}
_YEAR_FIRST = r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<s>[-._/]?)(?P<a>\d\d?)(?P=s)(?P<b>\d\d?)(?!\d)"
_STAMP = r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<s>)(?P<a>\d\d)(?P<b>\d\d)(?:[01]\d|2[0-3])[0-5]\d[0-5]\d(?!\d)"
_YEAR_LAST = r"(?<!\d)(?P<a>\d\d?)(?P<s>[-._/]?)(?P<b>\d\d?)(?P=s)(?P<y>(?:19|20)\d\d)(?!\d)"
_SHORT_YEAR = r"(?<!\d)(?P<a>\d\d?)(?P<s>[-./])(?P<b>\d\d?)(?P=s)(?P<y>\d\d)(?!\d)"
_SPELT = (
    r"(?<!\d)(?P<a>\d\d?)(?:st|nd|rd|th)?[ ._/-]*(?:de )?(?P<m>[a-z]{3,})\.?,?[ ._/-]*(?:de )?"
    r"(?P<y>(?:19|20)?\d\d)(?!\d)"
)
_SPELT_FIRST = r"(?<![a-z])(?P<m>[a-z]{3,})\.? (?P<a>\d\d?)(?:st|nd|rd|th)?,? (?P<y>(?:19|20)\d\d)(?!\d)"


@dataclass(frozen=True)
class FoundDate:
    """What looks like a date in a text: as written, where, and the day it is in each order that makes one.

    No order makes a day of ``2015-99-99``: it is a date that does not exist.
    """

    written: str
    span: tuple[int, int]
    days: dict[str, str]


def find_dates(text: str, *, names: bool = False) -> list[FoundDate]:
    """Everything in a text that looks like a date, from left to right; in ``names`` a year has four digits."""
    plain = plain_text(text)
    found: list[FoundDate] = []
    patterns = [_STAMP, _YEAR_FIRST, _YEAR_LAST, _SPELT, _SPELT_FIRST, *([] if names else [_SHORT_YEAR])]
    for pattern in patterns:
        for match in re.finditer(pattern, plain):
            span = match.span()
            parts = match.groupdict()
            if any(span[0] < each.span[1] and each.span[0] < span[1] for each in found):
                continue
            if (parts.get("s") == "" and len(match[0]) not in (8, 14)) or parts.get("m", "may") not in _MONTHS:
                continue
            if names and parts.get("s") == "_" and len(match[0]) != 10:
                continue  # 1_2_2019 may as well be three numbers
            days = _days(parts, pattern in (_STAMP, _YEAR_FIRST))
            if days or parts.get("s") != "":  # eight digits that are no day are a number
                found.append(FoundDate(match[0], span, days))
    return sorted(found, key=lambda each: each.span)


def _days(parts: dict[str, str], year_first: bool) -> dict[str, str]:
    short = len(parts["y"]) == 2
    year = int(parts["y"]) + (0 if not short else 2000 if int(parts["y"]) < 70 else 1900)
    first = int(parts["a"])
    if "m" in parts:
        orders = dict.fromkeys(ORDERS, (_MONTHS[parts["m"]], first))
    elif year_first:
        orders = {"YMD": (first, int(parts["b"]))}
    else:
        orders = {"DMY": (int(parts["b"]), first), "MDY": (first, int(parts["b"]))}
    days = {}
    for order, (month, day) in orders.items():
        try:
            days[order] = date(year, month, day).isoformat()
        except ValueError:
            continue
    return days


@dataclass(frozen=True)
class DatesRead:
    """The days of many texts, None where there is none; ``said`` tells how they are written, for people.

    ``impossible`` are texts that look like dates and are no days.
    """

    days: tuple[str | None, ...]
    said: str
    impossible: tuple[str, ...]


def read_dates(texts: Sequence[str], given: str | None, what: str, *, names: bool = False) -> DatesRead:
    """Read the dates of one column (or of all names) in one order.

    ``given`` is ``import.date_format``: YMD, DMY, MDY, or a pattern such as ``%d.%m.%Y``. ``what`` names the
    column. Raises ConfigError where two orders are possible, and where cells contradict each other.
    """
    if given is not None and "%" in given:
        days = [_by_pattern(text, given) for text in texts]
        bad = [text for text, day in zip(texts, days, strict=True) if text and day is None]
        return DatesRead(tuple(days), given, () if names else tuple(bad))
    found = [next(iter(find_dates(text, names=names)), None) for text in texts]
    dated = [each for each in found if each is not None and each.days]
    order = given or _one_order([each.days for each in dated], [each.written for each in dated], what)
    taken = [None if each is None else each.days.get(order) or each.days.get("YMD") for each in found]
    missing = [each.written for each, day in zip(found, taken, strict=True) if each is not None and day is None]
    example = next(((e.written, d) for e, d in zip(found, taken, strict=True) if e is not None and d), None)
    said = ORDERS[order] + (f" ({example[0]} is {example[1]})" if example and example[0] != example[1] else "")
    return DatesRead(tuple(taken), said, tuple(missing))


def _one_order(days: Sequence[dict[str, str]], written: Sequence[str], what: str) -> str:
    """The order that all dates of a column agree on."""
    turned = [(each, text) for each, text in zip(days, written, strict=True) if "YMD" not in each]
    if not turned:
        return "YMD"
    only = {order: [text for each, text in turned if set(each) == {order}] for order in ("DMY", "MDY")}
    if only["DMY"] and only["MDY"]:
        raise ConfigError(
            f"some dates of {what} are day first and others month first", where="import.date_format",
            expected="one order in all of them",
            found=f"{only['DMY'][0]} ({len(only['DMY'])} such) and {only['MDY'][0]} ({len(only['MDY'])} such)",
            hint="write the dates as YYYY-MM-DD, or say which order counts with --date-format",
        )  # fmt: skip
    for order, texts in only.items():
        if texts:
            return order
    open_cases = [(each, text) for each, text in turned if each["DMY"] != each["MDY"]]
    if not open_cases:
        return "DMY"
    example, text = open_cases[0]
    raise ConfigError(
        f"the dates of {what} can be read in two ways", where="import.date_format",
        expected="a date that shows which number is the day",
        found=f"{text} is {example['DMY']} if the day comes first, {example['MDY']} if the month does "
        f"({len(open_cases)} dates like it)",
        hint="say it with --date-format DMY or --date-format MDY",
    )  # fmt: skip


def _by_pattern(text: str, pattern: str) -> str | None:
    """The day in a text, written as ``pattern`` says (as for strptime); also within a longer name."""
    digits = dict.fromkeys(("%y", "%M", "%S"), r"\d\d") | dict.fromkeys(("%m", "%d", "%H"), r"\d\d?")
    digits |= {"%Y": r"\d{4}", "%b": r"[^\W\d_]+", "%B": r"[^\W\d_]+"}
    parts = re.split(r"(%[a-zA-Z])", pattern)
    wanted = "".join(digits.get(part, r"\S+") if part.startswith("%") else re.escape(part) for part in parts)
    for match in re.finditer(rf"(?<!\d){wanted}(?!\d)", text):
        try:
            return datetime.strptime(match[0], pattern).date().isoformat()
        except ValueError:
            continue
    return None


_HOUR = re.compile(r"[t ,]*(\d{1,2}:\d\d(:\d\d)?([.,]\d+)?)? *([ap]m|z|[+-]\d\d:?\d\d)?")


def mostly_dates(texts: Sequence[str]) -> bool:
    """Do nine in ten of these cells hold nothing but a date (and perhaps an hour)?"""
    filled = [plain_text(text.strip()) for text in texts if text.strip()]
    whole = 0
    for text in filled:
        found = find_dates(text)
        whole += bool(found) and found[0].span[0] == 0 and bool(_HOUR.fullmatch(text[found[0].span[1] :]))
    return bool(filled) and whole >= 0.9 * len(filled)


def date_column_of(table: Table, section: ImportSection) -> tuple[str | None, list[str]]:
    """The column of exam dates, and other columns that hold dates and are not taken."""
    if section.date_column is not None:
        return section.date_column, []
    given = section.date_format or ""

    def holds(cells: Sequence[str]) -> bool:
        return all(_by_pattern(each, given) for each in cells) and bool(cells) if "%" in given else mostly_dates(cells)

    holding = [each for each in table.columns if holds(table.values(each))]
    named = [each for each in holding if bare(each) in DATE_COLUMNS]
    return (named[0], []) if len(named) == 1 else (None, holding)


def no_dates(table: Table) -> list[str]:
    """Columns with the name of a date, and the first of what they hold."""
    named = {each: table.values(each) for each in table.columns if bare(each) in DATE_COLUMNS}
    return [f"`{each}` ({', '.join(values[:3])})" for each, values in named.items() if values]


# --- Files of dates ---------------------------------------------------------------------------------------------------

TOLERANCE_CELSIUS = 0.006
"""Files of dates may hold ranges rounded to hundredths of a degree."""

_NAME_COLUMNS = ("id", "patient", "file", "name", "path", "paciente", "image")


@dataclass(frozen=True)
class _Dated:
    date: str
    view: str | None
    visit: int | None
    low: float | None
    high: float | None

    def fits(self, view: str, visit: int, low: float, high: float) -> bool:
        if (self.view is not None and self.view != view) or (self.visit is not None and self.visit != visit):
            return False
        if self.low is not None and abs(self.low - low) > TOLERANCE_CELSIUS:
            return False
        return self.high is None or abs(self.high - high) <= TOLERANCE_CELSIUS


class ExamDates:
    """Every entry of the files in ``import.dates`` for a known patient: ``keys_in`` finds those whom a text names.

    A patient may have several exams on different days. Where a file says what the lowest and the highest
    temperature of a matrix are, they identify the exam; else only a patient with one date has a date.
    ``said`` tells how each file writes its dates, ``impossible`` lists dates that do not exist.
    """

    def __init__(self, section: ImportSection, keys_in: Callable[[str], set[int | str]]) -> None:
        self._entries: defaultdict[int | str, list[_Dated]] = defaultdict(list)
        self._section, self._keys_in = section, keys_in
        self.said: list[str] = []
        self.impossible: list[str] = []
        for path in date_files(section):
            self._take(read_table(path, "import.dates"))

    def of(self, key: int | str, view: str, visit: int, low: float, high: float) -> str | None:
        """The one date that fits an exam, or None when none or more than one does."""
        fitting = {each.date for each in self._entries.get(key, []) if each.fits(view, visit, low, high)}
        return fitting.pop() if len(fitting) == 1 else None

    def _take(self, table: Table) -> None:
        by_name = {plain_text(name): name for name in table.columns}
        name_column = next((by_name[each] for each in _NAME_COLUMNS if each in by_name), table.columns[0])
        column = self._date_column(table, name_column)
        cells = [row.cells.get(column, "") for row in table.rows]
        what = f"column `{column}` of {table.path.name}"
        found = read_dates(cells, self._section.date_format, what, names=column == name_column)
        if not any(found.days):
            raise DataError("this file holds no dates", where=table.path, expected="patients with dates YYYY-MM-DD")
        self.said.append(f"from {what}, {found.said}")
        self.impossible += found.impossible
        for row, name, day in zip(table.rows, (row.cells.get(name_column, "") for row in table.rows), found.days,
                                  strict=True):  # fmt: skip
            keys = self._keys_in(name) if name and day else set()
            if day and len(keys) == 1:
                self._entries[keys.pop()].append(_dated(row, by_name, name, day))

    def _date_column(self, table: Table, name_column: str) -> str:
        """The column of the dates; the names themselves may hold them."""
        if self._section.date_column in table.columns:
            return self._section.date_column or ""
        others = [each for each in table.columns if each != name_column and mostly_dates(table.values(each))]
        if len(others) > 1:
            raise ConfigError(
                "several columns of this file hold dates", where=table.path, expected=f"one of: {', '.join(others)}",
                found=len(others), hint="name the one of the exam with --set import.date_column=...",
            )  # fmt: skip
        return others[0] if others else name_column


def _dated(row: Row, by_name: dict[str, str], name: str, day: str) -> _Dated:
    def number(column: str) -> float | None:
        try:
            cell = row.cells.get(by_name.get(column, ""), "")
            return float(cell) if cell else None
        except ValueError:
            return None

    visit = row.cells.get(by_name.get("visit", ""), "")
    view = ViewWords().find(name).view
    return _Dated(day, view, int(visit) if visit.isdigit() else None, number("min"), number("max"))


def date_files(section: ImportSection) -> list[Path]:
    """The files that ``import.dates`` names, folders searched through. Raises ConfigError for a wrong path."""
    files: list[Path] = []
    for given in map(Path, section.dates):
        if not given.exists():
            raise ConfigError("there is no such file or folder", where="import.dates", found=given)
        inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())
        files += inside if given.is_dir() else [given]
    return files
