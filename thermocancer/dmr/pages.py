"""What the site's pages say: HTML (already parsed to a tree) in, plain facts out.

Nobody guarantees the markup, and two eras of it are known, so every step has a second way.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from bs4 import BeautifulSoup, Tag

from thermocancer.dmr.clinical import Entries, profile_entries, visit_entries
from thermocancer.errors import RemoteError

HEALTHY_WORDS = frozenset(("healthy", "sealthy", "saudavel", "sana", "sano"))
SICK_WORDS = frozenset(("sick", "doente", "enferma", "enfermo"))
NEXT_WORDS = frozenset(("next", "proxima", "proximo", "siguiente", "»", "›", ">"))
BLOCK_CLASSES = ("patient_images", "imagenspaciente")
MONTHS = (
    "january february march april may june july august september october november december",
    "janeiro fevereiro marco abril maio junho julho agosto setembro outubro novembro dezembro",
)


@dataclass(frozen=True)
class ListPage:
    """One page of the patient list: the ids in order, each once, and whether more pages follow."""

    patients: tuple[int, ...]
    last_page: int
    has_next: bool


@dataclass(frozen=True)
class MatrixLink:
    """A link of a visit's matrix block, as it stands on the page."""

    href: str
    text: str


@dataclass(frozen=True)
class Visit:
    """One thermal-exam section. ``label`` is healthy, sick or unknown, by the section's own diagnosis."""

    number: int
    heading: str
    date: str | None
    diagnosis: str
    label: str
    links: tuple[MatrixLink, ...]
    entries: Entries


@dataclass(frozen=True)
class PatientPage:
    """One patient. ``patient`` is None where the page does not say whose it is."""

    patient: int | None
    profile: Entries
    visits: tuple[Visit, ...]


def plain(text: str) -> str:
    """Lower case without accents, one space between words."""
    stripped = "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))
    return " ".join(stripped.lower().split())


def has_login_form(soup: BeautifulSoup) -> bool:
    """Is this the login form, whatever address it came from?"""
    return soup.find("input", attrs={"name": "usuario"}) is not None and (
        soup.find("input", attrs={"name": "password"}) is not None
        or soup.find("form", action=re.compile(r"login\.php")) is not None
    )


def has_login_alert(soup: BeautifulSoup) -> bool:
    """Does the page carry the warning box that a refused login shows?"""
    return soup.find(class_="alert-warning") is not None


def label_of(diagnosis: str) -> str:
    """healthy, sick or unknown from a diagnosis as the site words it.

    >>> label_of("Diagnosis*: Healthy"), label_of("Diagnóstico: Doente"), label_of("not sick")
    ('healthy', 'sick', 'unknown')
    """
    word = plain(diagnosis).rpartition(":")[2].strip(" .*-")
    if word in HEALTHY_WORDS:
        return "healthy"
    return "sick" if word in SICK_WORDS else "unknown"


def parse_list(soup: BeautifulSoup, where: str) -> ListPage:
    """Read a page of the patient list. Raises RemoteError when there is no table to read."""
    table = soup.find("table", id="mytable") or soup.find("table", class_="bordered") or soup.find("table")
    if not isinstance(table, Tag):
        raise RemoteError(
            "the patient list could not be read: the page holds no table",
            where=where,
            hint="open the address in a browser; if the site has changed, please report it",
        )
    found = (_row_patient(row) for row in table.find_all("tr"))
    patients = tuple(dict.fromkeys(each for each in found if each is not None))
    last, has_next = _pager(soup)
    return ListPage(patients, last, has_next)


def _row_patient(row: Tag) -> int | None:
    cells = row.find_all("td")
    if not cells:
        return None
    text = cells[0].get_text(strip=True)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    link = row.find("a", href=re.compile(r"details\.php\?(?:.*&)?id=[0-9]+"))
    match = re.search(r"[?&]id=([0-9]{1,9})", str(link["href"])) if isinstance(link, Tag) else None
    return int(match.group(1)) if match else None


def _pager(soup: BeautifulSoup) -> tuple[int, bool]:
    """The highest page number shown, and whether a live Next stands there; (1, False) without a pager."""
    last, has_next = 1, False
    for item in soup.select("div.pagination a, div.pagination span, ul.pagination a, ul.pagination span"):
        text = plain(item.get_text())
        item_row = item.find_parent("li")
        is_dead = item_row is not None and "disabled" in (item_row.get("class") or [])
        linked = re.search(r"[?&]pagina=([0-9]{1,4})(?![0-9])", str(item.get("href") or ""))
        for number in (text, linked.group(1) if linked else ""):
            last = max(last, int(number)) if re.fullmatch(r"[0-9]{1,4}", number) else last
        if text.strip(" .") in NEXT_WORDS and not is_dead:
            has_next = True
    return last, has_next


def parse_patient(soup: BeautifulSoup) -> PatientPage:
    """Read a patient's page; a page without any thermal exam is a patient without visits."""
    sections = soup.find_all(["section", "div", "article", "fieldset"], id=re.compile(r"^exame-termico"))
    outer = [each for each in sections if not any(parent in sections for parent in each.parents)]
    return PatientPage(
        _page_patient(soup), profile_entries(soup), tuple(_visit(each, place) for place, each in enumerate(outer, 1))
    )


def _page_patient(soup: BeautifulSoup) -> int | None:
    for each in soup.select(".titulo2"):
        match = re.search(r"\bID\s*:\s*([0-9]{1,9})\b", each.get_text(" "), re.IGNORECASE)
        if match:
            return int(match.group(1))
    return None


def _visit(section: Tag, place: int) -> Visit:
    label_tag = section.find("label", attrs={"for": "q2"}) or section.find("label")
    heading = " ".join(label_tag.get_text(" ").split()) if isinstance(label_tag, Tag) else ""
    number = re.search(r"visita?\s*([0-9]{1,4})", plain(heading))
    texts = [" ".join(each.get_text(" ").split()) for each in section.select(".view-diagnostico")]
    labels = {label_of(each) for each in texts}
    return Visit(
        number=int(number.group(1)) if number else place,
        heading=heading,
        date=parse_date(heading),
        diagnosis=" / ".join(dict.fromkeys(text.partition(":")[2].strip() or text for text in texts)),
        label=labels.pop() if len(labels) == 1 else "unknown",
        links=tuple(_matrix_links(section)),
        entries=visit_entries(section),
    )


def parse_date(heading: str) -> str | None:
    """``Visit 1: March 13th, 2015`` as ``2015-03-13``; None when there is no date to read.

    >>> parse_date("Visit 2: June 3rd, 2014"), parse_date("Visita 1: 1 de março de 2013"), parse_date("Visit 1")
    ('2014-06-03', '2013-03-01', None)
    """
    text = plain(heading).partition(":")[2] or plain(heading)
    iso = re.search(r"\b([0-9]{4})-([0-9]{2})-([0-9]{2})\b", text)
    if iso:
        return _iso(*(int(each) for each in iso.groups()))
    english = re.search(r"\b([a-z]+)\.?\s+([0-9]{1,2})(?:st|nd|rd|th)?\s*,?\s+([0-9]{4})\b", text)
    if english:
        return _iso(int(english.group(3)), _month(english.group(1)), int(english.group(2)))
    latin = re.search(r"\b([0-9]{1,2})(?:st|nd|rd|th|º|o)?\s+(?:de\s+)?([a-z]+)\s*,?\s+(?:de\s+)?([0-9]{4})\b", text)
    return _iso(int(latin.group(3)), _month(latin.group(2)), int(latin.group(1))) if latin else None


def _month(word: str) -> int:
    for names in MONTHS:
        for number, name in enumerate(names.split(), 1):
            if len(word) >= 3 and name.startswith(word):
                return number
    return 0


def _iso(year: int, month: int, day: int) -> str | None:
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None


def _matrix_links(section: Tag) -> Iterator[MatrixLink]:
    """Links of the matrix block, then any other link of the section that names a text file; no pictures."""
    block = _matrix_block(section)
    anchors = list(block.find_all("a", href=True)) if block is not None else []
    known = {id(each) for each in anchors}
    anchors += [each for each in section.find_all("a", href=True) if id(each) not in known and _names_matrix(each)]
    for anchor in anchors:
        if anchor.find_parent(class_="imagem") is None:
            yield MatrixLink(str(anchor["href"]), " ".join(anchor.get_text(" ").split()))


def _names_matrix(anchor: Tag) -> bool:
    """Does a link's address or its text end in ``.txt``? A dead link may have only the text."""
    texts = (str(anchor.get("href") or ""), anchor.get_text())
    return any(re.search(r"\.txt[\s\"']*$", text, re.IGNORECASE) for text in texts)


def _matrix_block(section: Tag) -> Tag | None:
    """What follows a heading about thermal matrices, else the later of the image blocks: the one with text files."""
    headings = [each for each in section.find_all(re.compile(r"^h[1-6]$")) if "thermal" in plain(each.get_text())]
    blocks = [each.find_next_sibling() for each in headings]
    blocks += [each for each in section.find_all("div") if set(each.get("class") or []) & set(BLOCK_CLASSES)]
    for block in blocks:
        if isinstance(block, Tag) and any(_names_matrix(anchor) for anchor in block.find_all("a")):
            return block
    return None
