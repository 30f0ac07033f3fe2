"""Exam dates from JSON or CSV files, by patient and, where the file gives them, by the matrix's own range.

A patient may have several exams on different days. Where a file of dates says what the lowest and the
highest temperature of a matrix are, they identify the exam; where it does not, a patient with one
date has that one, and a patient with several has none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import PatientKey, date_in, identify, patient_key, view_in
from thermocancer.data.folder.tables import TABLE_SUFFIXES, Row, read_table
from thermocancer.errors import ConfigError, DataError

TOLERANCE_CELSIUS = 0.006
"""Files of dates may hold ranges rounded to hundredths of a degree."""


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
    """Every entry of the files in ``import.dates``."""

    def __init__(self, section: ImportSection) -> None:
        self._entries: defaultdict[PatientKey, list[_Dated]] = defaultdict(list)
        for path in date_files(section):
            table = read_table(path, "import.dates")
            found = [entry for row in table.rows if (entry := _entry(row, section)) is not None]
            if not found:
                raise DataError("this file holds no dates", where=path, expected="patients with dates YYYY-MM-DD")
            for key, dated in found:
                self._entries[key].append(dated)

    def of(self, key: PatientKey, view: str, visit: int, low: float, high: float) -> str | None:
        """The one date that fits an exam, or None when none or more than one does."""
        fitting = {each.date for each in self._entries.get(key, []) if each.fits(view, visit, low, high)}
        return fitting.pop() if len(fitting) == 1 else None


def date_files(section: ImportSection) -> list[Path]:
    """The files that ``import.dates`` names, folders searched through. Raises ConfigError for a wrong path."""
    files: list[Path] = []
    for given in map(Path, section.dates):
        if not given.exists():
            raise ConfigError("there is no such file or folder", where="import.dates", found=given)
        files += sorted(_tables_in(given)) if given.is_dir() else [given]
    return files


def _tables_in(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())


def _entry(row: Row, section: ImportSection) -> tuple[PatientKey, _Dated] | None:
    """One dated exam: the patient from an id or file-name column, the date from a column or the name."""
    cells = {name.casefold(): cell for name, cell in row.cells.items()}
    name = next((cells[each] for each in ("id", "patient", "file", "name", "path") if cells.get(each)), "")
    date = next((found for cell in cells.values() if (found := date_in(cell)) is not None), None)
    if not name or date is None:
        return None
    key = _key_of(name, section)
    visit = cells.get("visit", "")
    return key, _Dated(
        date, view_in(name), int(visit) if visit.isdigit() else None, _number(cells, "min"), _number(cells, "max")
    )


def _key_of(name: str, section: ImportSection) -> PatientKey:
    """The patient of an entry, whose id may be an id or a file's name."""
    try:
        return identify(PurePosixPath(name), section).key
    except DataError:
        return patient_key(name, section.model_copy(update={"id_pattern": None}))


def _number(cells: dict[str, str], name: str) -> float | None:
    try:
        return float(cells[name]) if cells.get(name) else None
    except ValueError:
        return None
