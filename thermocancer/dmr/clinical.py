"""Clinical fields of a patient's page, kept as they were found: nothing translated, nothing guessed.

The hospital record number and the (always private) name are left out: they identify, and nothing needs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup, NavigableString, Tag

Entries = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""Blocks of a page: each a heading and its (key, value) pairs, in the order of the page."""

_PAIR = re.compile(r"^[\s\-–•]*(?P<key>[^:?]+?)\s*(?:\?\s*:|\?|:)\s*(?P<value>.*)$", re.DOTALL)
_IDENTIFYING = re.compile(r"^\s*(id|record|registro|prontu[aá]rio|name|nome)\s*:", re.IGNORECASE)


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
    age = re.search(r"-?\d+\s*(?:years?|anos?|a[nñ]os)\b.*", text, re.IGNORECASE)
    if age and ":" not in text:
        yield "age", age.group(0).strip()
        return
    registered = re.search(r"\b\d{4}-\d{2}-\d{2}\b", text)
    if registered and ":" not in text:
        yield "registered", registered.group(0)
        return
    for piece in text.split("."):
        key, colon, value = piece.partition(":")
        if colon:
            yield key.strip(), value.strip()


def visit_entries(section: Tag) -> Entries:
    """Personal history, medical history and protocol recommendations of one visit."""
    blocks = section.select(".descripcion1, .descripcion2, .descripcion3")
    found = ((_heading(block), tuple(_pairs(block))) for block in blocks)
    return tuple((heading, pairs) for heading, pairs in found if pairs)


def _heading(block: Tag) -> str:
    title = block.select_one(".titulo, .titulo2, h1, h2, h3, h4, h5")
    return _text(title) if title is not None else ""


def _pairs(block: Tag) -> Iterator[tuple[str, str]]:
    heading = _heading(block)
    for text in _lines(block):
        if text == heading:
            continue
        match = _PAIR.match(text)
        if match:
            yield match["key"].strip(), match["value"].strip()
        else:
            yield "", text.lstrip("- ").strip()


def _lines(block: Tag) -> Iterator[str]:
    """The texts of a block, one a paragraph; a bare span starts a line that runs to the next tag."""
    line: list[str] = []
    for child in block.children:
        if isinstance(child, NavigableString):
            line.append(str(child))
            continue
        if isinstance(child, Tag) and child.name not in ("b", "strong", "i", "em"):
            yield from _nonempty(line)
            line = []
            if child.name == "span":
                line.append(child.get_text(" "))
            elif child.find(["p", "li", "div"]) is not None:
                yield from _lines(child)
            else:
                yield from _nonempty([child.get_text(" ")])
        elif isinstance(child, Tag):
            line.append(child.get_text(" "))
    yield from _nonempty(line)


def _nonempty(pieces: list[str]) -> Iterator[str]:
    text = " ".join(" ".join(pieces).split())
    if text:
        yield text


def _text(tag: Tag) -> str:
    return " ".join(tag.get_text(" ").split())
