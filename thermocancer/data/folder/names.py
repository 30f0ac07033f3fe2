"""What a file's name and folders say: patient, visit, view, protocol, date."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.names import parse_name
from thermocancer.errors import DataError
from thermocancer.workspace import VIEWS

PatientKey = int | str
"""A patient's number, or the id as written (case-folded) where it is no number."""

_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d-[01]\d-[0-3]\d(?!\d)")
_NUMBERED = re.compile(r"T?0*(\d+)", re.IGNORECASE)
_STUDY_NAME = re.compile(r"image_(\d+)_(\d+)")
_VIEW_BY_WORD = {view.casefold(): view for view in VIEWS}


@dataclass(frozen=True)
class FileIdentity:
    """What is known of a file before any table is asked. None: the name does not say.

    ``words`` are its folders' names, its own stem and their parts, case-folded.
    """

    key: PatientKey
    written: str
    protocol: str
    visit: int | None = None
    view: str | None = None
    date: str | None = None
    index: int | None = None
    words: frozenset[str] = frozenset()


def identify(relative: PurePosixPath, section: ImportSection) -> FileIdentity:
    """Read the path of a file below the imported folder.

    A name in the DMR grammar says everything. Otherwise the patient is group 1 of ``import.id_pattern``
    (searched in the whole path), or the first run of digits in the stem or else in the nearest folder;
    the view is ``import.view``, or else Frontal for dynamic files and for static ones the one view's name
    among the words of the path.
    Raises DataError when there is no patient, or the name's view or protocol is none of ours.
    """
    named = parse_name(f"{relative.stem}.txt")
    whole = [relative.stem, *(parent.name for parent in relative.parents if parent.name)]
    parts = [part for name in whole for part in re.split(r"[\W_]+", name)]
    words = frozenset(each.casefold() for each in (*whole, *parts) if each)
    if named is not None:
        if named.view is None or named.protocol not in ("S", "D"):
            raise DataError(f"the name says view {named.view_code}, protocol {named.protocol}: not one of ours")
        return FileIdentity(
            named.patient, str(named.patient), named.protocol, named.visit, named.view, named.date, named.index, words
        )
    found = section.view or ("Frontal" if section.protocol == "D" else _view_of(words))
    study = _STUDY_NAME.fullmatch(relative.stem)
    if study and section.id_pattern is None:
        return FileIdentity(int(study[1]), study[1], section.protocol, int(study[2]), found, None, None, words)
    if section.id_pattern is not None:
        match = re.search(section.id_pattern, str(relative))
        if match is None or not match[1]:
            raise DataError(f"import.id_pattern {section.id_pattern!r} finds no patient in this path")
        written = match[1]
    else:
        names = (relative.stem, *(parent.name for parent in relative.parents))
        digits = next((run[0] for name in names if (run := re.search(r"\d+", _DATE.sub(" ", name)))), None)
        if digits is None:
            raise DataError("no patient number in this name; say where it stands with --id-pattern")
        written = digits
    return FileIdentity(
        patient_key(written, section), written, section.protocol, None, found, date_in(relative.stem), None, words
    )


def patient_key(written: str, section: ImportSection) -> PatientKey:
    """An id as it stands in a name or a table: ``T0138``, ``0138`` and ``138`` are one patient.

    With ``import.id_pattern`` the pattern is tried first, then the text is taken whole; without it the
    first run of digits counts, if there is one.
    """
    text = written.strip()
    if section.id_pattern is not None:
        match = re.search(section.id_pattern, text)
        text = match[1] if match and match[1] else text
    number = _NUMBERED.fullmatch(text) or (section.id_pattern is None and re.search(r"0*(\d+)", text)) or None
    return int(number[1]) if number else text.casefold()


def date_in(text: str) -> str | None:
    """The first valid YYYY-MM-DD in a text."""
    for found in _DATE.findall(text):
        try:
            return date.fromisoformat(found).isoformat()
        except ValueError:
            continue
    return None


def view_in(text: str) -> str | None:
    """The one view that a text such as ``355_img_Static-Frontal_2019-09-25`` names."""
    return _view_of(re.split(r"[\W_]+", text.casefold()))


def _view_of(words: Iterable[str]) -> str | None:
    found = {_VIEW_BY_WORD[word] for word in words if word in _VIEW_BY_WORD}
    return found.pop() if len(found) == 1 else None


def natural_order(relative: PurePosixPath) -> tuple[tuple[int, int | str], ...]:
    """A sort key by which ``frame9`` comes before ``frame10``."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", str(relative)) if part)
