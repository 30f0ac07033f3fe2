"""Labels from a table: which column, which line, and no contradictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import FileIdentity, PatientKey, date_in, patient_key
from thermocancer.data.folder.tables import Row, Table, read_table
from thermocancer.errors import ConfigError, DataError

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


class Labels:
    """A labels table, asked file by file."""

    def __init__(self, table: Table, section: ImportSection) -> None:
        self._table, self._section = table, section
        self._entries: defaultdict[PatientKey, list[_Entry]] = defaultdict(list)
        self._asked: set[PatientKey] = set()
        id_column, label_column = _columns(table, section)
        written: dict[PatientKey, str] = {}
        for row in table.rows:
            entry = _entry(table, row, id_column, label_column, section)
            first = written.setdefault(entry.key, row.cells.get(id_column, ""))
            if not _same_id(first, row.cells.get(id_column, "")):
                raise DataError(
                    f"the ids {first!r} and {row.cells[id_column]!r} are both read as patient {entry.key}",
                    where=entry.place,
                    hint="tell them apart with --id-pattern, group 1 being the patient",
                )
            self._entries[entry.key].append(entry)

    def of(self, identity: FileIdentity, visit: int | None) -> Labelled:
        """The label of a file; ``visit`` is its visit if that is known.

        Raises DataError when lines that fit the same exam carry two labels.
        """
        self._asked.add(identity.key)
        fitting = [each for each in self._entries.get(identity.key, []) if _fits(each, identity, visit)]
        if not fitting:
            return Labelled(None, f"no line for patient {identity.written} in {self._table.path.name}")
        first = fitting[0]
        for other in fitting[1:]:
            if other.label != first.label and other.visit == first.visit:
                raise DataError(
                    f"patient {identity.written} has two labels",
                    where=other.place,
                    expected=f"{first.label or 'no label'} as in {first.place}",
                    found=other.label or "no label",
                    hint="correct the labels file, or name the columns that tell exams apart: import.visit_column, "
                    "import.match_columns",
                )
        if len({each.label for each in fitting}) > 1:
            return Labelled(None, f"patient {identity.written} has several visits and the name does not say which")
        if first.label is None:
            what = f"label {first.written!r} is neither healthy nor sick" if first.written else "its label is blank"
            return Labelled(None, f"{what} ({Path(first.place).name})")
        return Labelled(first.label, "", first.visit, first.date)

    def unknown_values(self) -> list[str]:
        """Label values that are neither healthy nor sick, blanks left out."""
        entries = [each for entries in self._entries.values() for each in entries]
        return sorted({each.written for each in entries if each.label is None and each.written})

    def without_file(self) -> int:
        """How many patients of the table nobody has asked for."""
        return len(set(self._entries) - self._asked)


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


def _entry(table: Table, row: Row, id_column: str, label_column: str, section: ImportSection) -> _Entry:
    written = row.cells.get(label_column, "")
    visit = row.cells.get(section.visit_column, "") if section.visit_column else ""
    if visit and not visit.isdigit():
        raise DataError("a visit must be a whole number", where=table.place(row), found=visit)
    return _Entry(
        patient_key(row.cells.get(id_column, ""), section),
        label_value(written, section),
        written,
        int(visit) if visit else None,
        date_in(row.cells.get(section.date_column, "")) if section.date_column else None,
        tuple(row.cells.get(name, "").casefold() for name in section.match_columns),
        table.place(row),
    )


def _fits(entry: _Entry, identity: FileIdentity, visit: int | None) -> bool:
    if entry.visit is not None and visit is not None and entry.visit != visit:
        return False
    return all(match in identity.words for match in entry.matches)


def _same_id(first: str, second: str) -> bool:
    def plain(text: str) -> str:
        return text.strip().casefold().lstrip("t").lstrip("0")

    return plain(first) == plain(second)


def _columns(table: Table, section: ImportSection) -> tuple[str, str]:
    """The id column and the label column, as configured or found."""
    named = {
        "import.id_column": section.id_column,
        "import.label_column": section.label_column,
        "import.visit_column": section.visit_column,
        "import.date_column": section.date_column,
        **{f"import.match_columns ({name})": name for name in section.match_columns},
    }
    for setting, name in named.items():
        if name is not None and name not in table.columns:
            raise ConfigError(
                f"the labels file has no column {name!r}",
                where=setting,
                expected=f"one of: {', '.join(table.columns)}",
                found=table.path,
            )
    id_column = section.id_column or _one_named(table, _ID_NAMES)
    label_column = section.label_column or _one_named(table, _LABEL_NAMES) or _one_of_labels(table, section)
    if id_column is None and label_column is not None and len(table.columns) == 2:
        id_column = next(name for name in table.columns if name != label_column)
    for setting, option, found in (
        ("import.id_column", "--id-column", id_column),
        ("import.label_column", "--label-column", label_column),
    ):
        if found is None:
            raise ConfigError(
                f"which column of the labels file is the {'patient' if 'id' in option else 'label'}?",
                where=setting,
                expected=f"one of: {', '.join(table.columns)}",
                found=table.path,
                hint=f"name it with {option}",
            )
    assert id_column is not None
    assert label_column is not None
    return id_column, label_column


def _one_named(table: Table, names: set[str]) -> str | None:
    found = [each for each in table.columns if "".join(c for c in each.casefold() if c.isalnum()) in names]
    return found[0] if len(found) == 1 else None


def _one_of_labels(table: Table, section: ImportSection) -> str | None:
    """The one column whose every value is a known label (and that is no column of numbers by chance)."""

    def is_label(values: Sequence[str]) -> bool:
        filled = [value for value in values if value]
        return len(set(filled)) > 1 and all(label_value(value, section) is not None for value in filled)

    found = [name for name in table.columns if is_label([row.cells.get(name, "") for row in table.rows])]
    return found[0] if len(found) == 1 else None
