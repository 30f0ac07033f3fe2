"""What to do about each link of a patient's page, given what is here already: decided without touching anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from thermocancer.config.sources import FetchSection
from thermocancer.data.catalog import Record
from thermocancer.data.names import ThermogramName, parse_name
from thermocancer.dmr.address import SiteAddress, judge_link
from thermocancer.dmr.mirror import SOURCE, Mirror
from thermocancer.dmr.pages import MatrixLink, PatientPage, Visit
from thermocancer.dmr.transport import VALIDATORS
from thermocancer.files import fingerprint
from thermocancer.workspace import LABELS, VIEWS

LONGEST_HREF_KEPT = 200
KNOWN_BAD = ("missing", "failed")
SETTLED = "settled"
"""Mark in the ``extra`` of a record: a site in good order has said that there is no such file, or given no matrix."""


# --- what a page offers: its links, taken or refused with a reason ---------------------------------------------------


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

    @property
    def path(self) -> str:
        """Where the file belongs under ``raw/``; empty where the link names no matrix."""
        return self.name.tree_path(self.label) if self.name is not None else ""


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


def page_fingerprint(page: PatientPage) -> str:
    """Changes when anything on the page changes, except the age, which the site recomputes daily."""
    profile = [(key, value) for _, pairs in page.profile for key, value in pairs if key != "age"]
    visits = [
        [each.heading, each.diagnosis, [[link.href, link.text] for link in each.links], each.entries]
        for each in page.visits
    ]
    return fingerprint(profile, visits)[:16]


def judge_page(page: PatientPage, patient: int, page_url: str, address: SiteAddress) -> list[Offer]:
    """Every link of every visit, each file once, in the order of the page."""
    offers = [_judge(link, visit, patient, page_url, address) for visit in page.visits for link in visit.links]
    labels: dict[str, set[str]] = {}
    for each in offers:
        if each.name is not None and not each.refusal and each.label != "unknown":
            labels.setdefault(each.name.exam, set()).add(each.label)
    taken: dict[str, Offer] = {}
    judged = []
    for each in offers:
        if each.name is not None and not each.refusal and len(labels.get(each.name.exam, ())) > 1:
            each = replace(each, refusal=f"exam {each.name.exam} has two labels on its page")
        first = taken.setdefault(each.key, each)
        if first.href != each.href:
            each = replace(each, refusal="another link has this name already")
            first = taken.setdefault(each.key, each)
        if first is each:  # else the same link twice, which is one file
            judged.append(each)
    return judged


def _judge(link: MatrixLink, visit: Visit, patient: int, page_url: str, address: SiteAddress) -> Offer:
    judged = judge_link(link.href, page_url, address)
    name = parse_name(judged.name)
    wrong = "the name is not that of a thermogram" if name is None else _problem_with(name, link, judged.name, patient)
    return Offer(
        patient=patient,
        visit=visit.number if name is None else name.visit,
        href=address.relative(judged.url) if judged.url else link.href.strip()[:LONGEST_HREF_KEPT],
        url=judged.url,
        name=name,
        label=visit.label,
        refusal=judged.refusal or wrong,
        visit_date=visit.date,
        diagnosis=visit.diagnosis,
    )


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
    try:
        date.fromisoformat(name.date or "2012-01-01")
    except ValueError:
        return "the date in the name does not exist"
    return ""


# --- what follows from it, given the mirror --------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One file to ask the site for. ``old`` is its record so far; ``conditional`` asks only whether it changed.

    ``page`` is the page's fingerprint. ``damaged``: what stands under the name is not what was fetched.
    """

    offer: Offer
    page: str
    old: Record | None = None
    conditional: bool = False
    damaged: bool = False

    @property
    def validators(self) -> dict[str, str]:
        """What makes the request conditional; empty for a file that is not here."""
        extra = self.old.extra if self.conditional and self.old is not None else {}
        return {name: str(extra[name]) for name in VALIDATORS if name in extra}


@dataclass
class PageDecisions:
    """Everything one patient's page leads to: ``steps`` need the network, ``apply_decisions`` does the rest."""

    steps: list[Step] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    relabel: list[tuple[Record, str]] = field(default_factory=list)
    take_out: list[tuple[Record, Record]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    new_problems: list[Record] = field(default_factory=list)
    kept: int = 0
    vanished: int = 0

    def mark_vanished(self, key: str, old: Record, reason: str) -> None:
        """A file that is here stays, marked; a problem that is gone is forgotten."""
        if not old.path:
            self.drop.append(key)
        elif old.status != "vanished":
            self.records.append(replace(old, status="vanished", reason=reason))
            self.vanished += 1


def record_for(
    offer: Offer, status: str, page: str, *, reason: str = "", more: Mapping[str, object] | None = None
) -> Record:
    """The catalog line of a link that has no file here (yet); ``more`` is added to its ``extra``."""
    extra: dict[str, object] = {"href": offer.href, "page": page}
    if offer.visit_date is not None:
        extra["visit_date"] = offer.visit_date
    if status == "unlabelled":
        extra["diagnosis"] = offer.diagnosis
    name = offer.name
    return Record(
        path="",
        patient=offer.patient,
        visit=offer.visit,
        view=(name.view or "") if name else "",
        protocol=name.protocol if name else "",
        date=name.date if name else None,
        index=name.index if name else 0,
        label=offer.label,
        source=SOURCE,
        status=status,
        reason=reason,
        extra={**extra, **(more or {})},
    )


def decide_page(patient: int, offers: list[Offer], page: str, mirror: Mirror, settings: FetchSection) -> PageDecisions:
    """Go through a page's links. ``page`` is the page's fingerprint."""
    filters = Filters(settings.protocols, settings.views, settings.diagnoses, settings.since)
    decisions = PageDecisions()
    present = set()
    for offer in offers:
        offer = _refuse_if_taken(offer, mirror)
        present.add(offer.key)
        old, here = mirror.records.get(offer.key), mirror.whole(offer.key)
        if offer.refusal:
            record = record_for(offer, "refused", page, reason=offer.refusal)
            decisions.records.append(record)
            if old is None or old.reason != record.reason:
                decisions.new_problems.append(record)
            continue
        if offer.label == "unknown":
            aside = {"replaced": old.extra["replaced"]} if old is not None and "replaced" in old.extra else {}
            record = record_for(offer, "unlabelled", page, reason="the visit is neither healthy nor sick", more=aside)
            if here is not None:
                decisions.take_out.append((here, record))
            else:
                decisions.records.append(record)
            continue
        if here is not None and here.label != offer.label:
            # outside the filters too: one exam must not end up under two labels
            decisions.relabel.append((here, offer.label))
            old = replace(here, label=offer.label, path=offer.path)
        if not filters.want(offer):
            continue
        if old is None or (here is None and old.status not in KNOWN_BAD):
            decisions.steps.append(Step(offer, page, damaged=old is not None))
        elif _ask_again(old, here is not None, page, settings.recheck):
            decisions.steps.append(Step(offer, page, old, conditional=here is not None))
        else:
            # a file that had vanished and is listed again is as good as ever
            status, reason = ("ok", "") if old.status == "vanished" else (old.status, old.reason)
            decisions.records.append(replace(old, status=status, reason=reason, extra={**old.extra, "page": page}))
            decisions.kept += here is not None
    for key, old in mirror.records.items():
        if old.patient == patient and key not in present:
            decisions.mark_vanished(key, old, "no longer on the patient's page")
    return decisions


def _refuse_if_taken(offer: Offer, mirror: Mirror) -> Offer:
    """Another source may hold the very file, or may call the exam by the other label."""
    if offer.refusal or offer.name is None or offer.label == "unknown":
        return offer
    there = mirror.other_paths.get(offer.path)
    if there is not None:
        return replace(offer, refusal=f"{there.source} has this file already")
    other = mirror.other_labels.get(offer.name.exam)
    if other is not None and other.label != offer.label:
        return replace(offer, refusal=f"{other.source} calls this exam {other.label}")
    return offer


def _ask_again(old: Record, is_here: bool, page: str, recheck: str) -> bool:
    """Is a request worth it for a file that is here, or that could not be had before?

    What could not be had is asked for again, but for what is settled. For that and for files that are
    here, nothing is asked on an unchanged page by default; ``fetch.recheck`` can ask for more.
    """
    if not is_here and not old.extra.get(SETTLED):
        return True
    if recheck in ("never", "always"):
        return recheck == "always"
    can_ask = not is_here or any(name in old.extra for name in VALIDATORS)
    return can_ask and (recheck == "validators" or old.extra.get("page") != page)


def vanished_patients(mirror: Mirror, listed: Iterable[int]) -> PageDecisions:
    """What becomes of patients that no list names any more."""
    known, gone = set(listed), PageDecisions()
    for key, old in mirror.records.items():
        if old.patient not in known:
            gone.mark_vanished(key, old, "the patient is no longer listed")
    return gone


def apply_decisions(decisions: PageDecisions, mirror: Mirror) -> None:
    """Everything that needs no network. Moves files, so call it only between ``begin`` and ``commit``."""
    for old, label in decisions.relabel:
        mirror.move(old, label)
    for old, record in decisions.take_out:
        replaced = sorted({*old.extra.get("replaced", ()), mirror.take_out(old)})
        mirror.put(replace(record, extra={**record.extra, "replaced": replaced}))
    for record in decisions.records:
        mirror.put(record)
    for key in decisions.drop:
        mirror.records.pop(key, None)
