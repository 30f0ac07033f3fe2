"""Labels from a table: which column, what each value means, which line, and no contradictions.

Nothing is guessed among several columns: where two could be the label, both are named and somebody has to choose.
What is taken is said, with the meaning and the number of every value.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.dates import date_column_of, no_dates, read_dates
from thermocancer.data.folder.names import FileIdentity
from thermocancer.data.folder.patients import Ids, PatientKey, normal_id, patient_key
from thermocancer.data.folder.sites import Site, site_key, sites_of
from thermocancer.data.folder.tables import Row, Table
from thermocancer.data.folder.words import (
    ID_COLUMNS,
    NO,
    YES,
    bare,
    is_of_others,
    names_a_label,
    polarity,
    side_of,
)
from thermocancer.data.names import plain_text
from thermocancer.errors import ConfigError, DataError
from thermocancer.workspace import LABELS

_BIRADS = re.compile(r"(?:bi ?-? ?rads|acr|cat(?:egory)?)?[ :_-]*([0-6]|i{1,3}|iv|vi?)[abc]?")
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "v": 5, "vi": 6}
_NAMES_BIRADS = re.compile(r"rads|(?<![a-z])acr(?![a-z])")
MOST_SHOWN = 10


@dataclass(frozen=True)
class Labelled:
    """What the table says of one file. ``label`` is None where it says nothing, and ``why`` says so."""

    label: str | None
    why: str = ""
    visit: int | None = None
    date: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    site: Site | None = None


@dataclass(frozen=True)
class _Entry:
    key: PatientKey
    label: str | None
    written: str
    visit: int | None
    date: str | None
    matches: tuple[str, ...]
    place: str
    facts: tuple[tuple[str, str], ...]
    site: str

    def fits(self, identity: FileIdentity, visit: int | None, site: Site | None) -> bool:
        if site is not None and self.site not in ("", site_key(site.name)):
            return False
        if self.visit is not None and visit is not None and self.visit != visit:
            return False
        return all(match in identity.words for match in self.matches)


# --- What a value means -----------------------------------------------------------------------------------------------


def label_value(written: str, section: ImportSection, *, turned: bool = False, words_only: bool = False) -> str | None:
    """healthy, sick, or None for any other value; ``turned`` where yes and 1 mean healthy.

    The values of ``import.healthy_values`` and ``import.sick_values`` come first, then the field's own words in
    several languages, then yes and no. ``words_only`` leaves out whatever may answer any question.
    """
    text = plain_text(written.strip())
    text = re.sub(r"^(\d+)[.,]0+$", r"\1", text)
    if not text:
        return None
    answers = text in YES | NO
    if not (answers and (turned or words_only)):
        for label, values in zip(LABELS, (section.healthy_values, section.sick_values), strict=True):
            if text in {plain_text(each) for each in values}:
                return label
    if answers:
        return None if words_only else LABELS[(text in YES) != turned]
    return polarity(text)


def _is_birads(column: str, values: Sequence[str]) -> bool:
    named = _NAMES_BIRADS.search(plain_text(column))
    texts = [plain_text(each).strip() for each in values]
    return bool(texts) and all(_BIRADS.fullmatch(text) and (named or _NAMES_BIRADS.search(text)) for text in texts)


@dataclass(frozen=True)
class Meaning:
    """What the values of one column mean: a label for each value as written, None where it says neither."""

    column: str
    labels: dict[str, str | None]
    counts: Counter[str]
    note: str = ""

    @classmethod
    def of(cls, table: Table, column: str, section: ImportSection) -> Meaning:
        """Raises ConfigError for BI-RADS categories without a limit."""
        counts = Counter(table.values(column))
        if _is_birads(column, list(counts)):
            if section.birads_sick_from is None:
                listed = ", ".join(f"{value} {count}" for value, count in sorted(counts.items()))
                raise ConfigError(
                    f"column `{column}` holds BI-RADS categories: from which one on is a patient sick?",
                    where="import.birads_sick_from", expected="2 to 6", found=listed,
                    hint="for example --set import.birads_sick_from=4; category 0 is no assessment",
                )  # fmt: skip
            limit = section.birads_sick_from
            levels = {
                value: _ROMAN.get(match[1]) or int(match[1])
                for value in counts
                if (match := _BIRADS.fullmatch(plain_text(value).strip()))
            }
            labels = {value: None if not level else LABELS[level >= limit] for value, level in levels.items()}
            return cls(column, labels, counts, f", sick from BI-RADS {limit} on")
        turned = polarity(column) == "healthy"
        labels = {value: label_value(value, section, turned=turned) for value in counts}
        if names_a_label(column):  # B and M stand for benign and malignant where pathologists write
            letters = {"b": "healthy", "m": "sick"}
            if {plain_text(value).strip() for value, label in labels.items() if label is None} <= set(letters):
                labels |= {v: letters[plain_text(v).strip()] for v, label in labels.items() if label is None}
        return cls(column, labels, counts)

    @property
    def understood_in_full(self) -> bool:
        return None not in self.labels.values()

    def said(self) -> str:
        """``label from column `diagnosis`: sick = Malignant 41, healthy = Benign 63``."""
        parts = []
        for label in reversed(LABELS):
            own = [f"{value} {self.counts[value]}" for value in sorted(self.counts) if self.labels[value] == label]
            parts.append(f"{label} = {', '.join(own) or 'nobody'}")
        return f"label from column `{self.column}`: {', '.join(parts)}{self.note}"

    def unknown(self) -> list[str]:
        """Values that say neither, with their numbers."""
        return [f"{value} {count}" for value, count in sorted(self.counts.items()) if self.labels[value] is None]


# --- Which column -----------------------------------------------------------------------------------------------------


def id_columns(table: Table, section: ImportSection) -> list[Ids]:
    """The columns that may name the patient: the one configured, those with a usual name, or all that may.

    Raises ConfigError for a configured column that is not there.
    """
    named = {
        "import.id_column": section.id_column,
        "import.label_column": section.label_column,
        "import.visit_column": section.visit_column,
        "import.date_column": section.date_column,
        **{f"import.match_columns ({name})": name for name in section.match_columns},
        **{f"import.keep_columns ({name})": name for name in section.keep_columns or ()},
    }
    for setting, name in named.items():
        if name is not None:
            table.check_column(name, setting)
    if section.id_column is not None:
        chosen = [section.id_column]
    else:
        usual = [each for each in table.columns if bare(each) in ID_COLUMNS]
        others = [each for each in table.columns if each not in named.values() and not names_a_label(each)]
        chosen = usual or others
    return [Ids(column, table.values(column)) for column in chosen]


def choose_label_column(table: Table, ids: Ids, section: ImportSection) -> list[Meaning]:
    """The column that holds the label, with what its values mean; several where they say the same of everybody.

    Raises ConfigError where no column, or more than one, can be it.
    """
    if section.label_column is not None:
        return [Meaning.of(table, section.label_column, section)]
    apart = {ids.column, section.visit_column, section.date_column, *section.match_columns, *section.site_columns}
    columns = [each for each in table.columns if each not in apart]
    strong, weak = [], []
    for column in columns:
        values = {plain_text(each).strip() for each in table.values(column)}
        named = names_a_label(column) or (polarity(column) is not None and not is_of_others(column))
        if not values or (len(values) > 20 and not named):
            continue
        answers = [label_value(each, section) for each in values]
        words = [label_value(each, section, words_only=True) for each in values]
        filled = table.values(column)
        meant = sum(label_value(each, section) is not None for each in filled)
        if _is_birads(column, sorted(values)) or (len(values) > 1 and None not in words):
            strong.append(column)
        elif named and (2 * meant >= len(filled) or Meaning.of(table, column, section).understood_in_full):
            strong.append(column)  # letters of pathologists are understood in a column as a whole
        elif named or (len(values) > 1 and None not in answers):
            weak.append(column)
    possible = strong or weak
    if strong and len(possible) == 1 and side_of(possible[0]) is None:
        return [Meaning.of(table, possible[0], section)]
    if len(strong) > 1 and (section.birads_sick_from or not any(_is_birads(c, table.values(c)) for c in strong)):
        meanings = [Meaning.of(table, column, section) for column in strong]
        said = [tuple(each.labels.get(row.cells.get(each.column, "")) for row in table.rows) for each in meanings]
        if len(set(said)) == 1:
            return meanings
    raise _which_label(table, possible, section)


def _which_label(table: Table, possible: Sequence[str], section: ImportSection) -> ConfigError:
    def shown(column: str) -> str:
        counts = Counter(table.values(column))
        values = ", ".join(f"{value} {count}" for value, count in counts.most_common(6))
        return f"`{column}` ({values}{', ...' if len(counts) > 6 else ''})"

    sides = [each for each in table.columns if side_of(each)]
    asked = f"; where each breast has a label of its own: --side {shlex.quote(','.join(sides))}"
    what = "which column of the labels file is the label?"
    if len(possible) > 1:
        what = f"{len(possible)} columns of the labels file could be the label"
    return ConfigError(
        what, where="import.label_column", expected=f"one of: {', '.join(table.columns)}",
        found="; ".join(map(shown, possible)) or f"no column of {table.path.name} speaks of health or disease",
        hint="name it with --label-column, and its values where they are other words with "
        f"--sick-values and --healthy-values{asked * (len(sides) > 1)}",
    )  # fmt: skip


# --- The table, asked file by file ------------------------------------------------------------------------------------


class Labels:
    """A labels table, asked file by file. Raises DataError with every contradiction it holds."""

    def __init__(self, table: Table, ids: Ids, section: ImportSection) -> None:
        self._table, self._section, self.ids = table, section, ids
        self.meanings = choose_label_column(table, ids, section)
        _check_understood(self.meanings[0])
        self._entries: defaultdict[PatientKey, list[_Entry]] = defaultdict(list)
        self._asked: set[PatientKey] = set()
        date_column, self.other_dates = date_column_of(table, section)
        cells = [row.cells.get(date_column or "", "") for row in table.rows]
        self.dates = read_dates(cells, section.date_format, f"column `{date_column}`")
        self.date_column = date_column
        self.no_dates = no_dates(table) if date_column is None else []
        self.sites = sites_of(table, section)
        problems: list[DataError] = []
        for row, day in zip(table.rows, self.dates.days, strict=True):
            self._take(row, day, problems)
        if len(problems) > 1:
            raise DataError(
                f"the labels file contradicts itself in {len(problems)} lines", where=problems[0].where,
                expected="one label for each exam", hint=problems[0].hint,
                found="; ".join(f"{each.what} ({Path(str(each.where)).name})" for each in problems[:MOST_SHOWN]),
            )  # fmt: skip
        if problems:
            raise problems[0]

    def _take(self, row: Row, day: str | None, problems: list[DataError]) -> None:
        """Take one line in; what is wrong with it is added to ``problems``."""
        section, table = self._section, self._table
        own, visit = row.cells.get(self.ids.column, ""), row.cells.get(section.visit_column or "", "")
        visit = re.sub(r"[.,]0+$", "", visit)
        if visit and not visit.isdigit():
            problems.append(DataError("a visit must be a whole number", where=table.place(row), found=visit))
            return
        if not own:
            return
        kept = section.keep_columns
        column = self.meanings[0].column
        facts = tuple(
            (name, cell)
            for name, cell in row.cells.items()
            if cell and name not in (self.ids.column, column, *section.site_columns) and (kept is None or name in kept)
        )
        file = normal_id(own) if self.ids.of_files else ""
        entry = _Entry(
            patient_key(own, section) if section.id_pattern and not file else self.ids.key(own),
            self.meanings[0].labels.get(row.cells.get(column, "")),
            row.cells.get(column, ""),
            int(visit) if visit else None,
            day,
            (*(row.cells.get(name, "").casefold() for name in section.match_columns), *([file] if file else [])),
            table.place(row),
            facts,
            site_key(row.cells.get(section.site_columns[0], "")) if section.site_columns else "",
        )
        apart = (entry.visit, entry.matches, entry.site)
        same = [each for each in self._entries[entry.key] if (each.visit, each.matches, each.site) == apart]
        other = next((each for each in same if each.label != entry.label), None)
        if other is not None:
            problem = DataError(
                f"patient {own} has two labels", where=entry.place,
                expected=f"{other.label or 'no label'} as in {other.place}", found=entry.label or "no label",
                hint="correct the labels file, or name the columns that tell exams apart: import.visit_column, "
                "import.match_columns, or --site for the breast or region",
            )  # fmt: skip
            problems.append(problem)
        self._entries[entry.key].append(entry)

    def of(self, identity: FileIdentity, visit: int | None) -> Labelled:
        """The label of a file; ``visit`` is its visit if that is known."""
        self._asked.add(identity.key)
        site = self.site_of(identity)
        fitting = [each for each in self._entries.get(identity.key, []) if each.fits(identity, visit, site)]
        if not fitting:
            return Labelled(None, f"no line for patient {identity.written} in {self._table.path.name}")
        first = fitting[0]
        if len({each.label for each in fitting}) > 1:
            return Labelled(None, f"patient {identity.written} has several visits and the name does not say which")
        if first.label is None:
            what = f"label {first.written!r} is neither healthy nor sick" if first.written else "its label is blank"
            return Labelled(None, f"{what} ({Path(first.place).name})")
        return Labelled(first.label, "", first.visit, first.date, first.facts, site)

    def site_of(self, identity: FileIdentity) -> Site | None:
        """The one breast or region that a file shows; None where it shows several, or none is labelled by itself."""
        shown = [each for each in self.sites if each.is_of(identity)]
        return shown[0] if len(shown) == 1 else None

    def said(self) -> list[str]:
        """The label column and the meaning of its values; what other columns hold that is not used."""
        lines = [self.meanings[0].said()]
        if len(self.meanings) > 1:
            others = ", ".join(f"`{each.column}`" for each in self.meanings[1:])
            lines[0] += f" ({others}: the same in every line)"
        if self.sites:
            lines.append(f"exams: one each of a patient's {', '.join(each.name for each in self.sites)}")
        if unknown := self.meanings[0].unknown():
            lines.append(f"label values that are neither healthy nor sick: {', '.join(unknown[:MOST_SHOWN])}")
        without_file = len(set(self._entries) - self._asked)
        if without_file:
            lines.append(f"{without_file} patients of the labels file have no file here")
        return lines


def _check_understood(meaning: Meaning) -> None:
    """Raise ConfigError where the values of a column are not understood, or those of one class alone."""
    known = sorted({label for label in meaning.labels.values() if label is not None})
    if len(known) == 2 or (known and not meaning.unknown()):
        return
    what = f"no value of column `{meaning.column}` says healthy or sick"
    if known:
        what = f"of the values of column `{meaning.column}` only {known[0]} ones are understood"
    counts = [f"{value} {count}" for value, count in sorted(meaning.counts.items())]
    raise ConfigError(
        what, where="import.label_column",
        expected="words such as healthy, sick, benign, malignant, positive, negative, 0, 1",
        found=", ".join(counts[:MOST_SHOWN]) or "blank cells only",
        hint="say what they mean with --sick-values A,B and --healthy-values C,D, or name another column with "
        "--label-column",
    )  # fmt: skip


def label_of_paths(relatives: Iterable[PurePosixPath], section: ImportSection) -> Callable[[PurePosixPath], str | None]:
    """What the folders and the name of a file say of its label: healthy, sick, ``both``, or None.

    A folder that all files have in common says nothing where others do (``Breast cancer/normal/1.csv``).
    """
    own = {plain_text(each) for each in (*section.healthy_values, *section.sick_values)} - YES - NO

    @functools.cache
    def label_of_part(part: str, is_folder: bool) -> str | None:
        text = plain_text(part)
        if is_folder and text in {"yes", "no", "sim", "nao"}:
            return LABELS[text in YES]
        if found := polarity(part):
            return found
        words = {word for word in (text, *re.split(r"[\W_]+", text)) if word in own}
        labels = {label_value(word, section) for word in words}
        return labels.pop() if len(labels) == 1 else None

    def parts_of(relative: PurePosixPath) -> set[tuple[str, bool]]:
        return {(relative.stem, False), *((part, True) for part in relative.parts[:-1])}

    common: set[tuple[str, bool]] = set.intersection(*(parts_of(each) for each in relatives)) if relatives else set()

    def label(relative: PurePosixPath) -> str | None:
        parts = parts_of(relative)
        for chosen in (parts, parts - common):
            found = {each for part in chosen if (each := label_of_part(*part))}
            if len(found) < 2:
                return found.pop() if found else None
        return "both"

    return label
