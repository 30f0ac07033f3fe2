"""Clinical fields of a patient's page, kept as they were found: nothing translated, nothing guessed.

The hospital record number and the (always private) name are left out: they identify, and nothing needs them.
``raw/patients.jsonl`` holds them, a line a patient, with the day they were read.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString

from thermocancer.files import Json, read_json_lines, written_aside

if TYPE_CHECKING:
    from thermocancer.dmr.pages import PatientPage

Entries = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Blocks of a page: each a heading and its (key, value) pairs, in the order of the page."""

_PAIR = re.compile(r"^[\s\-–•]*(?P<key>[^:?]+?)\s*(?:\?\s*:|\?|:)\s*(?P<value>.*)$", re.DOTALL)
OWN_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_IDENTIFYING = re.compile(r"^\s*(id|record|registro|prontu[aá]rio|name|nome)\s*:", re.IGNORECASE)


# --- reading the blocks of a page ------------------------------------------------------------------------------------


def profile_entries(soup: BeautifulSoup) -> Entries:
    """The profile block: age as the site computes it today, registration date, marital status and so on."""
    home = soup.select_one("div.perfiluser") or soup
    block = home.select_one(".descripcion1")
    if block is None or block.find_parent(id=re.compile(r"^exame-termico")) is not None:
        return ()
    pairs = [pair for text in _lines(block) if not _IDENTIFYING.match(text) for pair in _profile_pairs(text)]
    return (("Profile", tuple(pairs)),) if pairs else ()


def _profile_pairs(text: str) -> Iterator[tuple[str, str]]:
    """``Marital status: Single. Race: White`` is two pairs; a text without a colon has no key.

    >>> list(_profile_pairs("Marital status: Single. Race: White"))
    [('Marital status', 'Single'), ('Race', 'White')]
    >>> list(_profile_pairs("PRIVATE, 75 years old"))
    [('age', '75 years old')]
    """
    if ":" not in text:
        age = re.search(r"-?\d+\s*(?:years?|anos?|a[nñ]os)\b.*", text, re.IGNORECASE)
        registered = re.search(r"\b\d{4}-\d{2}-\d{2}\b", text)
        if age:
            yield "age", age.group(0).strip()
        elif registered:
            yield "registered", registered.group(0)
        return
    for piece in text.split("."):
        key, colon, value = piece.partition(":")
        if colon:
            yield key.strip(), value.strip()


def visit_entries(section: Tag) -> Entries:
    """Personal history, medical history and protocol recommendations of one visit."""
    found: list[tuple[str, tuple[tuple[str, str], ...]]] = []
    for block in section.select(".descripcion1, .descripcion2, .descripcion3"):
        title = block.select_one(".titulo, .titulo2, h1, h2, h3, h4, h5")
        heading = " ".join(title.get_text(" ").split()) if title is not None else ""
        pairs: list[tuple[str, str]] = []
        for text in _lines(block):
            match = _PAIR.match(text)
            if match and text != heading:
                pairs.append((match["key"].strip(), match["value"].strip()))
            elif text != heading:
                pairs.append(("", text.lstrip("- ").strip()))
        if pairs:
            found.append((heading, tuple(pairs)))
    return tuple(found)


def _lines(block: Tag) -> Iterator[str]:
    """The texts of a block, one a paragraph; a bare span starts a line that runs to the next tag."""
    line: list[str] = []
    for child in block.children:
        if isinstance(child, NavigableString):
            line.append(str(child))
        elif isinstance(child, Tag) and child.name in ("b", "strong", "i", "em"):
            line.append(child.get_text(" "))
        elif isinstance(child, Tag):
            yield from _nonempty(line)
            line = []
            if child.name == "span":
                line.append(child.get_text(" "))
            elif child.find(["p", "li", "div"]) is not None:
                yield from _lines(child)
            else:
                yield from _nonempty([child.get_text(" ")])
    yield from _nonempty(line)


def _nonempty(pieces: list[str]) -> Iterator[str]:
    text = " ".join(" ".join(pieces).split())
    if text:
        yield text


# --- raw/patients.jsonl ----------------------------------------------------------------------------------------------


class PatientLine(TypedDict):
    """One patient. The age in ``profile`` is the site's, computed for the day ``read`` and not for that of the exam."""

    patient: int
    read: str
    profile: list[list[str]]
    visits: list[dict[str, object]]


def patient_line(patient: int, page: PatientPage, today: str) -> PatientLine:
    """What the file keeps of a page that was read ``today``."""
    visits: list[dict[str, object]] = [
        {
            "visit": visit.number,
            "heading": visit.heading,
            "date": visit.date,
            "diagnosis": visit.diagnosis,
            "fields": [{"heading": heading, "entries": list(map(list, pairs))} for heading, pairs in visit.entries],
        }
        for visit in page.visits
    ]
    profile = [list(pair) for _, pairs in page.profile for pair in pairs]
    return {"patient": patient, "read": today, "profile": profile, "visits": visits}


def merge_patients(path: Path, fresh: list[PatientLine]) -> None:
    """Add patients to the file, or replace their lines; nothing is written when nothing is new.

    Only its owner may read the file: what it holds is about people. A line whose facts are unchanged
    keeps the day on which they were first read.
    Raises DataError when the file there is broken.
    """
    known: dict[int, PatientLine] = {}
    what, hint = "a line of the patients' file cannot be read", "remove the file; the next fetch writes it again"

    def keyed(line: Json) -> tuple[int, PatientLine]:
        return int(line["patient"]), cast(PatientLine, line)

    if path.exists():
        known.update(read_json_lines(path, keyed, what=what, hint=hint))
    merged = dict(known)
    for line in fresh:
        old = known.get(line["patient"])
        if old is None or {**old, "read": ""} != {**line, "read": ""}:
            merged[line["patient"]] = line
    if merged != known:
        lines = (json.dumps(merged[patient], sort_keys=True, ensure_ascii=False) for patient in sorted(merged))
        with written_aside(path) as side, open(os.open(side, OWN_NEW_FILE, 0o600), "w", encoding="utf-8") as handle:
            handle.writelines(f"{line}\n" for line in lines)
    elif path.exists() and path.stat().st_mode & 0o077:  # written by an earlier version, or opened since
        with contextlib.suppress(OSError):  # a file system without modes
            path.chmod(0o600)
