"""Labels and exam dates from tables: which column, which line, and no contradictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import FileIdentity, PatientKey, date_in, identify, patient_key, view_in
from thermocancer.data.folder.tables import TABLE_SUFFIXES, Row, Table, read_table
from thermocancer.errors import ConfigError, DataError

# --- Labels -----------------------------------------------------------------------------------------------------------

_ID_NAMES = {"id", "patient", "patientid", "patientnumber", "case", "caseid", "subject", "subjectid", "record"}
_LABEL_NAMES = {"diagnosis", "label", "class", "target", "status", "result", "value"}


@dataclass(frozen=True)
class Labelled:
    """What the table says of one file. ``label`` is None where it says nothing, and ``why`` says so."""

    label: str | None
    why: str = ""
    visit: int | None = None
    date: str | None = None


@dataclass(frozen=True)
class _Entry:
    key: PatientKey
    label: str | None
    written: str
    visit: int | None
    date: str | None
    matches: tuple[str, ...]
    place: str

    def fits(self, identity: FileIdentity, visit: int | None) -> bool:
        if self.visit is not None and visit is not None and self.visit != visit:
            return False
        return all(match in identity.words for match in self.matches)


class Labels:
    """A labels table, asked file by file."""

    def __init__(self, table: Table, section: ImportSection) -> None:
        self._table, self._section = table, section
        self._entries: defaultdict[PatientKey, list[_Entry]] = defaultdict(list)
        self._asked: set[PatientKey] = set()
        id_column, label_column = _columns(table, section)
        written: dict[PatientKey, str] = {}
        for row in table.rows:
            own, visit = row.cells.get(id_column, ""), row.cells.get(section.visit_column or "", "")
            if visit and not visit.isdigit():
                raise DataError("a visit must be a whole number", where=table.place(row), found=visit)
            entry = _Entry(
                patient_key(own, section),
                label_value(row.cells.get(label_column, ""), section),
                row.cells.get(label_column, ""),
                int(visit) if visit else None,
                date_in(row.cells.get(section.date_column or "", "")),
                tuple(row.cells.get(name, "").casefold() for name in section.match_columns),
                table.place(row),
            )
            first = written.setdefault(entry.key, own)
            if len({text.strip().casefold().lstrip("t").lstrip("0") for text in (first, own)}) > 1:
                raise DataError(
                    f"the ids {first!r} and {own!r} are both read as patient {entry.key}", where=entry.place,
                    hint="tell them apart with --id-pattern, group 1 being the patient",
                )  # fmt: skip
            self._entries[entry.key].append(entry)

    def of(self, identity: FileIdentity, visit: int | None) -> Labelled:
        """The label of a file; ``visit`` is its visit if that is known.

        Raises DataError when lines that fit the same exam carry two labels.
        """
        self._asked.add(identity.key)
        fitting = [each for each in self._entries.get(identity.key, []) if each.fits(identity, visit)]
        if not fitting:
            return Labelled(None, f"no line for patient {identity.written} in {self._table.path.name}")
        first = fitting[0]
        for other in fitting[1:]:
            if other.label != first.label and other.visit == first.visit:
                raise DataError(
                    f"patient {identity.written} has two labels", where=other.place,
                    expected=f"{first.label or 'no label'} as in {first.place}", found=other.label or "no label",
                    hint="correct the labels file, or name the columns that tell exams apart: import.visit_column, "
                    "import.match_columns",
                )  # fmt: skip
        if len({each.label for each in fitting}) > 1:
            return Labelled(None, f"patient {identity.written} has several visits and the name does not say which")
        if first.label is None:
            what = f"label {first.written!r} is neither healthy nor sick" if first.written else "its label is blank"
            return Labelled(None, f"{what} ({Path(first.place).name})")
        return Labelled(first.label, "", first.visit, first.date)

    def notes(self) -> list[str]:
        """Label values that are neither healthy nor sick, and patients of the table nobody has asked for."""
        entries = [each for entries in self._entries.values() for each in entries]
        unknown = sorted({each.written for each in entries if each.label is None and each.written})
        without_file = len(set(self._entries) - self._asked)
        notes = [f"label values that are neither healthy nor sick: {', '.join(unknown[:10])}"] if unknown else []
        return notes + ([f"{without_file} patients of the labels file have no file here"] if without_file else [])


def read_labels(section: ImportSection) -> Labels | None:
    """Read ``import.labels``. Raises ConfigError when columns are missing or cannot be told, DataError as tables do."""
    if section.labels is None:
        return None
    return Labels(read_table(Path(section.labels), "import.labels"), section)


def label_value(written: str, section: ImportSection) -> str | None:
    """healthy, sick, or None for any other value."""
    text = written.strip().casefold()
    if text in {each.casefold() for each in section.healthy_values}:
        return "healthy"
    return "sick" if text in {each.casefold() for each in section.sick_values} else None


def _columns(table: Table, section: ImportSection) -> tuple[str, str]:
    """The id column and the label column, as configured or found."""
    named = {
        "import.id_column": section.id_column,
        "import.label_column": section.label_column,
        "import.visit_column": section.visit_column,
        "import.date_column": section.date_column,
        **{f"import.match_columns ({name})": name for name in section.match_columns},
    }
    choice = f"one of: {', '.join(table.columns)}"
    for setting, name in named.items():
        if name is not None and name not in table.columns:
            what = f"the labels file has no column {name!r}"
            raise ConfigError(what, where=setting, expected=choice, found=table.path)

    def one_of(fitting: Sequence[str]) -> str | None:
        return fitting[0] if len(fitting) == 1 else None

    def named_as(names: set[str]) -> list[str]:
        return [each for each in table.columns if "".join(c for c in each.casefold() if c.isalnum()) in names]

    def holds_labels(column: str) -> bool:  # every value, and not one value throughout
        filled = {value for row in table.rows if (value := row.cells.get(column, ""))}
        return len(filled) > 1 and all(label_value(value, section) is not None for value in filled)

    id_column = section.id_column or one_of(named_as(_ID_NAMES))
    by_values = [name for name in table.columns if holds_labels(name)]
    label_column = section.label_column or one_of(named_as(_LABEL_NAMES)) or one_of(by_values)
    if id_column is None and label_column is not None and len(table.columns) == 2:
        id_column = next(name for name in table.columns if name != label_column)
    if id_column is None or label_column is None:
        role, option = ("patient", "id") if id_column is None else ("label", "label")
        raise ConfigError(
            f"which column of the labels file is the {role}?", where=f"import.{option}_column",
            expected=choice, found=table.path, hint=f"name it with --{option}-column",
        )  # fmt: skip
    return id_column, label_column


# --- Dates ------------------------------------------------------------------------------------------------------------

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
    """Every entry of the files in ``import.dates``.

    A patient may have several exams on different days. Where a file says what the lowest and the highest
    temperature of a matrix are, they identify the exam; else only a patient with one date has a date.
    """

    def __init__(self, section: ImportSection) -> None:
        self._entries: defaultdict[PatientKey, list[_Dated]] = defaultdict(list)
        for path in date_files(section):
            table = read_table(path, "import.dates")
            found = [entry for row in table.rows if (entry := _dated(row, section)) is not None]
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
        inside = sorted(path for path in given.rglob("*") if path.suffix.lower() in TABLE_SUFFIXES and path.is_file())
        files += inside if given.is_dir() else [given]
    return files


def _dated(row: Row, section: ImportSection) -> tuple[PatientKey, _Dated] | None:
    """One dated exam: the patient from an id or file-name column, the date from a column or the name."""
    cells = {name.casefold(): cell for name, cell in row.cells.items()}
    name = next((cells[each] for each in ("id", "patient", "file", "name", "path") if cells.get(each)), "")
    date = next((found for cell in cells.values() if (found := date_in(cell)) is not None), None)
    if not name or date is None:
        return None
    try:
        key = identify(PurePosixPath(name), section).key
    except DataError:  # an id, not a file's name
        key = patient_key(name, section.model_copy(update={"id_pattern": None}))

    def number(column: str) -> float | None:
        try:
            return float(cells[column]) if cells.get(column) else None
        except ValueError:
            return None

    visit = cells.get("visit", "")
    return key, _Dated(date, view_in(name), int(visit) if visit.isdigit() else None, number("min"), number("max"))
