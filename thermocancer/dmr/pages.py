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
DATES = (
    r"\b(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})\b",
    r"\b(?P<month>[a-z]+)\.?\s+(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?\s*,?\s+(?P<year>[0-9]{4})\b",
    r"\b(?P<day>[0-9]{1,2})(?:st|nd|rd|th|º|o)?\s+(?:de\s+)?(?P<month>[a-z]+)\s*,?\s+(?:de\s+)?(?P<year>[0-9]{4})\b",
)
"""ISO, English and Portuguese, in the order in which they are tried."""


@dataclass(frozen=True)
class ListPage:
    """One page of the patient list: the ids in order, each once, and whether more pages follow.

    ``not_understood`` are links to patients by a number that none has.
    """

    patients: tuple[int, ...]
    last_page: int
    has_next: bool
    not_understood: tuple[str, ...] = ()


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

    @property
    def is_blank(self) -> bool:
        """Does the page say nothing of any patient, as one about maintenance would?"""
        return self.patient is None and not self.profile and not self.visits


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
    found = dict.fromkeys(_row_patient(row) for row in table.find_all("tr"))
    patients = tuple(each for each in found if isinstance(each, int))
    not_understood = tuple(each for each in found if isinstance(each, str))
    # without a pager this is the only page; a Next that is dead does not count
    last, has_next = 1, False
    for item in soup.select("div.pagination a, div.pagination span, ul.pagination a, ul.pagination span"):
        text = plain(item.get_text())
        linked = re.search(r"[?&]pagina=([0-9]{1,4})(?![0-9])", str(item.get("href") or ""))
        for number in (text, linked.group(1) if linked else ""):
            last = max(last, int(number)) if re.fullmatch(r"[0-9]{1,4}", number) else last
        item_row = item.find_parent("li")
        is_dead = item_row is not None and "disabled" in (item_row.get("class") or [])
        has_next = has_next or (text.strip(" .") in NEXT_WORDS and not is_dead)
    return ListPage(patients, last, has_next, not_understood)


def _row_patient(row: Tag) -> int | str | None:
    """The id in the first cell, else that of the row's link; the link itself where its number is no patient's."""
    cells = row.find_all("td")
    if not cells:
        return None
    text = cells[0].get_text(strip=True)
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    link = row.find("a", href=re.compile(r"details\.php\?(?:.*&)?id=[0-9]+"))
    match = re.search(r"[?&]id=([0-9]+)", str(link["href"])) if isinstance(link, Tag) else None
    if match is None:
        return None
    return int(match.group(1)) if len(match.group(1)) <= 9 else match.string


def parse_patient(soup: BeautifulSoup) -> PatientPage:
    """Read a patient's page; a page without any thermal exam is a patient without visits."""
    sections = soup.find_all(["section", "div", "article", "fieldset"], id=re.compile(r"^exame-termico"))
    known = {id(each) for each in sections}
    outer = [each for each in sections if not any(id(parent) in known for parent in each.parents)]
    titles = (re.search(r"\bID\s*:\s*([0-9]{1,9})\b", each.get_text(" "), re.I) for each in soup.select(".titulo2"))
    patient = next((int(title.group(1)) for title in titles if title), None)
    visits = tuple(_visit(each, place) for place, each in enumerate(outer, 1))
    return PatientPage(patient, profile_entries(soup), visits)


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
    found = next(filter(None, (re.search(each, text) for each in DATES)), None)
    if found is None:
        return None
    month = int(found["month"]) if found["month"].isdigit() else _month(found["month"])
    try:
        return date(int(found["year"]), month, int(found["day"])).isoformat()
    except ValueError:
        return None


def _month(word: str) -> int:
    """The month that begins like this in English or Portuguese; 0 when there is none."""
    for names in MONTHS:
        for number, name in enumerate(names.split(), 1):
            if len(word) >= 3 and name.startswith(word):
                return number
    return 0


def _matrix_links(section: Tag) -> Iterator[MatrixLink]:
    """Links of the matrix block, then any other link of the section that names a text file; no pictures.

    The matrix block follows a heading about thermal matrices, else it is the image block with text files.
    """
    headings = [each for each in section.find_all(re.compile(r"^h[1-6]$")) if "thermal" in plain(each.get_text())]
    blocks = [each.find_next_sibling() for each in headings]
    blocks += [each for each in section.find_all("div") if set(each.get("class") or []) & set(BLOCK_CLASSES)]
    anchors: list[Tag] = []
    for block in blocks:
        if isinstance(block, Tag) and any(_names_matrix(anchor) for anchor in block.find_all("a")):
            anchors = list(block.find_all("a", href=True))
            break
    known = {id(each) for each in anchors}
    anchors += [each for each in section.find_all("a", href=True) if id(each) not in known and _names_matrix(each)]
    for anchor in anchors:
        if anchor.find_parent(class_="imagem") is None:
            yield MatrixLink(str(anchor["href"]), " ".join(anchor.get_text(" ").split()))


def _names_matrix(anchor: Tag) -> bool:
    """Does a link's address or its text end in ``.txt``? A dead link may have only the text."""
    texts = (str(anchor.get("href") or ""), anchor.get_text())
    return any(re.search(r"\.txt[\s\"']*$", text, re.IGNORECASE) for text in texts)
