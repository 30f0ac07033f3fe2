"""What the names of a folder say: patient, visit, view, protocol, date. All names are read together.

One name alone may be read in many ways (``17_healthy_021_59``, ``E60_pat1``, ``2021-03-04_10-22-33_3``): which of
its numbers is the patient shows in what the others hold, and in the ids of the labels table. Where two readings
are possible, both are shown and somebody has to choose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.dates import find_dates, read_dates
from thermocancer.data.folder.patients import (
    STUDY_NAME,
    FreeName,
    Ids,
    PatientKey,
    best_ids,
    choose_patients,
    normal_id,
    number_of,
    numbers_in,
    patient_key,
)
from thermocancer.data.folder.tables import read_table
from thermocancer.data.folder.words import COUNTER
from thermocancer.data.names import NO_SIDE, NO_VIEW, ViewWords, parse_name, plain_text, safe_name
from thermocancer.errors import ConfigError
from thermocancer.workspace import VIEWS

_HOUR = re.compile(r"[ _t-]{1,2}(0[5-9]|1\d|2[0-2])([-_:h.]?)([0-5]\d)\2([0-5]\d)(?!\d)|(?<!\d)\d\d?h\d\d(?!\d)")
_SIZE = re.compile(r"(?<!\d)\d{2,4}x\d{2,4}(?!\d)")


@dataclass(frozen=True)
class FileIdentity:
    """What is known of a file before any table is asked. None: the name does not say.

    ``words`` are its folders' names, its own stem and their parts, in small letters. ``problem`` says why the
    words for a view make none.
    """

    key: PatientKey
    written: str
    protocol: str
    visit: int | None = None
    view: str | None = None
    date: str | None = None
    index: int | None = None
    words: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True)
class NamesRead:
    """Every name of a folder: its identity, or why there is none; and in words what was read from where."""

    identities: Mapping[PurePosixPath, FileIdentity | str]
    patients: tuple[str, ...] = ()
    views: str = ""
    dates: str = ""
    impossible_dates: tuple[str, ...] = ()


def read_view_map(section: ImportSection) -> dict[str, str]:
    """``import.view_map``: words and their views, from pairs WORD=VIEW and files of two columns.

    Raises ConfigError for a view that is none of ours.
    """
    pairs: list[tuple[str, str]] = []
    for given in section.view_map:
        if "=" in given:
            word, _, view = given.partition("=")
            pairs.append((word.strip(), view.strip()))
        else:
            rows = read_table(Path(given), "import.view_map").rows
            pairs += [(cells[0], cells[1]) for row in rows for cells in [[*row.cells.values(), ""]]]
    known = {view.casefold(): view for view in (*VIEWS, NO_VIEW)}
    for word, view in pairs:
        if view.casefold() not in known or not word:
            expected = f"WORD=VIEW with one of: {', '.join((*VIEWS, NO_VIEW))}"
            raise ConfigError("no such view", where="import.view_map", expected=expected, found=f"{word}={view}")
    return {word: known[view.casefold()] for word, view in pairs}


def read_names(
    relatives: Sequence[PurePosixPath],
    section: ImportSection,
    ids: Sequence[Ids] = (),
    label_of: Callable[[PurePosixPath], str | None] = lambda path: None,
) -> tuple[NamesRead, Ids | None]:
    """Read all names of a folder; ``ids`` are the columns of the labels table that may name the patient.

    A name in the DMR grammar says everything. Otherwise the patient is group 1 of ``import.id_pattern``
    (searched in the whole path), or the number that the names of one build have in common. ``label_of`` tells
    the label that a path's words name: no reading may give one patient two. Returns the names, and the column
    of ids that fits them best (None without any). Raises ConfigError where numbers can be read in two ways.
    """
    identities: dict[PurePosixPath, FileIdentity | str] = {}
    free: list[PurePosixPath] = []
    impossible: list[str] = []
    said: Counter[str] = Counter()
    views: Counter[str] = Counter()
    for relative in relatives:
        named = parse_name(f"{relative.stem}.txt")
        words = _words(relative)
        if named is None:
            free.append(relative)
        elif named.view is None or named.protocol not in ("S", "D"):
            what = f"the name says view {named.view_code}, protocol {named.protocol}: not one of ours"
            identities[relative] = what
        else:
            day = read_dates([named.date or ""], None, "").days[0]
            impossible += [f"{named.date} in {safe_name(relative)}"] if named.date and day is None else []
            said["from the names of the DMR-IR site"] += 1
            identities[relative] = FileIdentity(
                named.patient, str(named.patient), named.protocol, named.visit, named.view, day, named.index, words
            )
    names, date_said = _free_names(free, section, impossible)
    known = [each.key for each in identities.values() if isinstance(each, FileIdentity)]
    chosen = best_ids(ids, names, known, section)
    of_files = chosen is not None and chosen.names_files(names)
    for name, slot, key, written in choose_patients(names, section, None if of_files else chosen, label_of, said):
        if of_files and chosen is not None and key is not None:
            chosen.of_files[normal_id(name.relative.stem)] = key
        if key is None:
            identities[name.relative] = written
            continue
        visits = [each.value for place, each in name.numbers.items() if place.kind == "visit" and place != slot]
        study = STUDY_NAME.fullmatch(name.relative.stem) if section.id_pattern is None else None
        visit = int(study[2]) if study else next(iter(visits), None)
        view, problem = name.view or section.view, name.problem
        views["from the names" if name.view else "by --view"] += 1 if view else 0
        if section.protocol == "D":
            view, problem = section.view or "Frontal", ""
        elif problem == NO_SIDE and section.view not in (None, "Frontal"):
            problem = ""
        identity = FileIdentity(key, written, section.protocol, visit or None, None if problem else view, name.date)
        identities[name.relative] = replace(identity, words=name.words, problem=problem)
    ordered = {relative: identities[relative] for relative in relatives}
    lines = tuple(f"{text}: {count} files" for text, count in said.items())
    views["from the names"] += len(known)
    view_said = ", ".join(f"{text} {count}" for text, count in views.items() if count) or "no name tells"
    return NamesRead(ordered, lines, view_said, date_said, tuple(impossible)), chosen


def _words(relative: PurePosixPath) -> frozenset[str]:
    whole = [relative.stem, *(parent.name for parent in relative.parents if parent.name)]
    parts = [part for name in whole for part in re.split(r"[\W_]+", name)]
    return frozenset(each.casefold() for each in (*whole, *parts) if each)


def _free_names(
    relatives: Sequence[PurePosixPath], section: ImportSection, impossible: list[str]
) -> tuple[list[FreeName], str]:
    """Names outside the grammar with their views, dates and numbers; impossible dates are added to the list."""
    paths = {each: " / ".join([*each.parts[:-1], each.stem]) for each in relatives}
    views = ViewWords(paths.values(), read_view_map(section))
    dates = read_dates(list(paths.values()), section.date_format, "the files' names", names=True)
    names = []
    for (relative, path), day in zip(paths.items(), dates.days, strict=True):
        found = views.find(path)
        name = FreeName(relative, plain_text(path), _words(relative), found.view, found.problem, day)
        dated = [each.span for each in find_dates(path, names=True)]
        hours = [match.span() for match in _HOUR.finditer(name.plain) if match[1] is None]
        hours += [match.span() for span in dated if (match := _HOUR.match(name.plain, span[1]))]
        hours += [match.span() for match in _SIZE.finditer(name.plain)]
        left = name.plain
        for start, end in (*found.spans, *dated, *hours):
            left = left[:start] + " " * (end - start) + left[end:]
        name.numbers, name.coded = numbers_in(left, name.plain), holds_code(left)
        names.append(name)
    impossible += [f"{text}" for text in dates.impossible]
    return names, dates.said if any(dates.days) else ""


def holds_code(left: str) -> bool:
    """Does a path hold a hexadecimal id, eight characters or more in which letters follow digits?

    >>> [holds_code(text) for text in ("1f1e4567-e89b-12d3", "0000b99a", "t0138", "20190511", "fe000123", "12345678a")]
    [True, True, False, False, False, False]
    """
    tokens = [each for each in re.findall(r"[^\W_]+", left) if re.fullmatch(r"[a-f\d]{8,}", each)]
    return any(re.search(r"\d[a-f]+\d|\d[a-f]{2,}$|[a-f]\d+[a-f]", each) for each in tokens)


def keys_in(text: str, known: Collection[PatientKey], section: ImportSection) -> set[PatientKey]:
    """Which of the ``known`` patients a text names: an id of a table, or a file's name."""
    found: set[PatientKey] = set()
    named, whole = parse_name(f"{PurePosixPath(text).stem}.txt"), normal_id(text)
    number = number_of(whole)
    if named is not None:
        found = {named.patient}
    elif section.id_pattern is not None:
        found = {patient_key(text, section)}
    elif whole in known or number in known:
        found = {whole} if whole in known or number is None else {number}
    else:
        names, _ = _free_names([PurePosixPath(text)], section.model_copy(update={"date_format": "DMY"}), [])
        found |= {each.value for each in names[0].numbers.values() if each.marker not in COUNTER}
    return found & set(known)


def natural_order(relative: PurePosixPath) -> tuple[tuple[int, int | str], ...]:
    """A sort key by which ``frame9`` comes before ``frame10``."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", str(relative)) if part)
