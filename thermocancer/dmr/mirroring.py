"""What to do about each link of a patient's page, given what is here already: decided without touching anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from thermocancer.data.catalog import Record
from thermocancer.dmr.mirror import SOURCE, Mirror
from thermocancer.dmr.plan import Filters, Offer

Recheck = Literal["page", "validators", "always", "never"]
VALIDATORS = ("etag", "last_modified")
KNOWN_BAD = ("missing", "failed")


@dataclass(frozen=True)
class Step:
    """One file to ask the site for. ``old`` is its record so far; ``conditional`` asks only whether it changed.

    ``damaged``: what stands under the name is not what was fetched.
    """

    offer: Offer
    page: str
    old: Record | None = None
    conditional: bool = False
    damaged: bool = False

    @property
    def path(self) -> str:
        assert self.offer.name is not None
        return self.offer.name.tree_path(self.offer.label)

    @property
    def validators(self) -> dict[str, str]:
        """What makes the request conditional; empty for a file that is not here."""
        extra = self.old.extra if self.conditional and self.old is not None else {}
        return {name: str(extra[name]) for name in VALIDATORS if name in extra}


@dataclass
class PageDecisions:
    """Everything one patient's page leads to; applying it is the stage's part."""

    patient: int
    steps: list[Step] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    relabel: list[tuple[Record, str]] = field(default_factory=list)
    take_out: list[tuple[Record, Record]] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    new_problems: list[Record] = field(default_factory=list)
    kept: int = 0
    vanished: int = 0


def record_for(offer: Offer, status: str, page: str, *, reason: str = "", **more: Any) -> Record:
    """The catalog line of a link that has no file here (yet)."""
    extra: dict[str, Any] = {"href": offer.href, "page": page}
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
        extra=extra | more,
    )


def decide_page(
    patient: int, offers: Iterable[Offer], page: str, mirror: Mirror, filters: Filters, recheck: Recheck
) -> PageDecisions:
    """Go through a page's links. ``page`` is the page's fingerprint."""
    decisions = PageDecisions(patient)
    present = set()
    for offer in offers:
        offer = _refuse_if_taken(offer, mirror)
        present.add(offer.key)
        old = mirror.records.get(offer.key)
        if offer.refusal:
            _note_problem(decisions, record_for(offer, "refused", page, reason=offer.refusal), old)
        elif offer.label == "unknown":
            _keep_out(decisions, offer, page, old, mirror)
        else:
            _decide_file(decisions, offer, page, old, mirror, filters, recheck)
    for key, old in mirror.records.items():
        if old.patient == patient and key not in present:
            mark_vanished(decisions, key, old, "no longer on the patient's page")
    return decisions


def _refuse_if_taken(offer: Offer, mirror: Mirror) -> Offer:
    """Another source may hold the very file, or may call the exam by the other label."""
    if offer.refusal or offer.name is None or offer.label == "unknown":
        return offer
    there = mirror.other_paths.get(offer.name.tree_path(offer.label))
    if there is not None:
        return replace(offer, refusal=f"{there.source} has this file already")
    other = mirror.other_labels.get(offer.name.exam)
    if other is not None and other.label != offer.label:
        return replace(offer, refusal=f"{other.source} calls this exam {other.label}")
    return offer


def _note_problem(decisions: PageDecisions, record: Record, old: Record | None) -> None:
    decisions.records.append(record)
    if old is None or old.reason != record.reason:
        decisions.new_problems.append(record)


def _keep_out(decisions: PageDecisions, offer: Offer, page: str, old: Record | None, mirror: Mirror) -> None:
    record = record_for(offer, "unlabelled", page, reason="the visit is neither healthy nor sick")
    if old is not None and mirror.holds(old):
        decisions.take_out.append((old, record))
    else:
        decisions.records.append(record)


def _decide_file(
    decisions: PageDecisions,
    offer: Offer,
    page: str,
    old: Record | None,
    mirror: Mirror,
    filters: Filters,
    recheck: Recheck,
) -> None:
    here = mirror.holds(old)
    if here and old is not None and old.label != offer.label:
        # outside the filters too: one exam must not end up under two labels
        decisions.relabel.append((old, offer.label))
        assert offer.name is not None
        old = replace(old, label=offer.label, path=offer.name.tree_path(offer.label))
    if not filters.want(offer):
        return
    if old is None or not (here or old.status in KNOWN_BAD):
        decisions.steps.append(Step(offer, page, damaged=old is not None))
        return
    if not _ask_again(old, here, page, recheck):
        decisions.records.append(replace(old, extra={**old.extra, "page": page}, **_well_again(old)))
        decisions.kept += here
        return
    decisions.steps.append(Step(offer, page, old, conditional=here))


def _well_again(old: Record) -> Mapping[str, Any]:
    """A file that had vanished and is listed again is as good as ever."""
    return {"status": "ok", "reason": ""} if old.status == "vanished" else {}


def _ask_again(old: Record, here: bool, page: str, recheck: Recheck) -> bool:
    """Is a request worth it for a file that is here, or that could not be had before?

    On an unchanged page nothing is asked by default; ``fetch.recheck`` can ask for more.
    """
    if not here and old.extra.get("again"):
        return True
    if recheck == "never":
        return False
    if recheck == "always":
        return True
    can_ask = not here or any(name in old.extra for name in VALIDATORS)
    return can_ask and (recheck == "validators" or old.extra.get("page") != page)


def mark_vanished(decisions: PageDecisions, key: str, old: Record, reason: str) -> None:
    """A file that is here stays, marked; a problem that is gone is forgotten."""
    if not old.path:
        decisions.drop.append(key)
    elif old.status != "vanished":
        decisions.records.append(replace(old, status="vanished", reason=reason))
        decisions.vanished += 1


def vanished_patients(mirror: Mirror, listed: Iterable[int]) -> list[PageDecisions]:
    """What becomes of patients that no list names any more."""
    known = set(listed)
    gone: dict[int, PageDecisions] = {}
    for key, old in mirror.records.items():
        if old.patient not in known:
            decisions = gone.setdefault(old.patient, PageDecisions(old.patient))
            mark_vanished(decisions, key, old, "the patient is no longer listed")
    return list(gone.values())


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
        mirror.drop(key)
