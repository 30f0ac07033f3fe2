"""What a patient's page offers, link by link: taken, kept out of the tree, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date

from thermocancer.data.names import ThermogramName, parse_name
from thermocancer.dmr.address import SiteAddress, judge_link
from thermocancer.dmr.pages import MatrixLink, PatientPage, Visit
from thermocancer.files import fingerprint
from thermocancer.workspace import LABELS, VIEWS

LONGEST_HREF_KEPT = 200


@dataclass(frozen=True)
class Filters:
    """Which files are wanted. ``since`` is an ISO date; a file without any date then stays out."""

    protocols: tuple[str, ...] = ("S", "D")
    views: tuple[str, ...] = VIEWS
    labels: tuple[str, ...] = LABELS
    since: str | None = None

    def want(self, offer: Offer) -> bool:
        if offer.name is None or offer.label not in self.labels:
            return False
        when = offer.name.date or offer.visit_date
        return (
            offer.name.protocol in self.protocols
            and offer.name.view in self.views
            and (self.since is None or (when is not None and when >= self.since))
        )


@dataclass(frozen=True)
class Offer:
    """One link of a patient's page, judged.

    ``label`` is healthy, sick or unknown, from the link's own visit. ``refusal`` says why a link is
    not followed; ``name`` is None where the link names no matrix. ``href`` is the path below the
    site's base, or the refused text.
    """

    patient: int
    visit: int
    href: str
    url: str = ""
    name: ThermogramName | None = None
    label: str = "unknown"
    refusal: str = ""
    visit_date: str | None = None
    diagnosis: str = ""

    @property
    def key(self) -> str:
        """What identifies the file from one run to the next: its name, never its position."""
        return self.name.file_name if self.name is not None and not self.refusal else f"{self.patient} {self.href}"


def page_fingerprint(page: PatientPage) -> str:
    """Changes when anything on the page changes, except the age, which the site recomputes daily."""
    profile = [(key, value) for _, pairs in page.profile for key, value in pairs if key != "age"]
    visits = [(each.heading, each.diagnosis, each.links, each.entries) for each in page.visits]
    return fingerprint(profile, [[*head, [[link.href, link.text] for link in links], entries]
                                 for *head, links, entries in visits])[:16]  # fmt: skip


def judge_page(page: PatientPage, patient: int, page_url: str, address: SiteAddress) -> list[Offer]:
    """Every link of every visit, each file once, in the order of the page."""
    offers = [_judge(link, visit, patient, page_url, address) for visit in page.visits for link in visit.links]
    conflicts = _exams_with_two_labels(offers)
    offers = [
        replace(each, refusal=f"exam {each.name.exam} has two labels on its page")
        if each.name is not None and not each.refusal and each.name.exam in conflicts
        else each
        for each in offers
    ]
    return list(_each_once(offers))


def _judge(link: MatrixLink, visit: Visit, patient: int, page_url: str, address: SiteAddress) -> Offer:
    judged = judge_link(link.href, page_url, address)
    offer = Offer(
        patient=patient,
        visit=visit.number,
        href=address.relative(judged.url) if judged.url else link.href.strip()[:LONGEST_HREF_KEPT],
        url=judged.url,
        label=visit.label,
        visit_date=visit.date,
        diagnosis=visit.diagnosis,
    )
    if judged.refusal:
        return replace(offer, refusal=judged.refusal)
    name = parse_name(judged.name)
    if name is None:
        return replace(offer, refusal="the name is not that of a thermogram")
    return replace(offer, name=name, visit=name.visit, refusal=_problem_with(name, link, judged.name, patient))


def _problem_with(name: ThermogramName, link: MatrixLink, file_name: str, patient: int) -> str:
    """Why a well-formed name is not taken; empty when it is."""
    shown = link.text.replace("\\", "/").rsplit("/", 1)[-1].strip()
    if shown.lower().endswith(".txt") and shown.lower() != file_name.lower():
        return "the link's text names another file"
    if name.patient != patient:
        return f"the name is that of patient {name.patient}"
    if name.protocol not in ("S", "D"):
        return f"protocol {name.protocol} is neither static nor dynamic"
    if name.view is None:
        return f"view {name.view_code} is none of the five"
    if name.date is not None and not _is_date(name.date):
        return "the date in the name does not exist"
    return ""


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _exams_with_two_labels(offers: list[Offer]) -> set[str]:
    labels: dict[str, set[str]] = {}
    for each in offers:
        if each.name is not None and not each.refusal and each.label != "unknown":
            labels.setdefault(each.name.exam, set()).add(each.label)
    return {exam for exam, found in labels.items() if len(found) > 1}


def _each_once(offers: list[Offer]) -> Iterator[Offer]:
    """The same link twice is one file; another link for a name that is taken is refused."""
    taken: dict[str, Offer] = {}
    for each in offers:
        first = taken.setdefault(each.key, each)
        if first is each:
            yield each
        elif first.href != each.href:
            refused = replace(each, refusal="another link has this name already")
            if taken.setdefault(refused.key, refused) is refused:
                yield refused
