"""Decide, for every file of an imported folder, what it is, where it goes in ``raw/``, or why it cannot go there.

Decisions only: the stage reads the files before, and writes afterwards.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.catalog import Record
from thermocancer.data.folder.dates import ExamDates
from thermocancer.data.folder.files import Facts, SourceFile
from thermocancer.data.folder.labels import Labelled, Labels
from thermocancer.data.folder.names import FileIdentity, NamesRead
from thermocancer.data.folder.patients import PatientKey
from thermocancer.data.folder.sites import Site
from thermocancer.data.names import parse_name, safe_name
from thermocancer.errors import ConfigError, DataError

STAGE = "import"
"""What the records of every imported folder name as their source; ``extra`` tells the folders apart."""


@dataclass(frozen=True)
class Cohorts:
    """Which cohort a folder belongs to, and which others are in the catalog.

    A patient's number is one woman within a cohort (``name``). ``folder`` marks the folder itself: a file is the
    one imported before only where cohort, folder and name are the same. ``ids`` marks the labels file: folders
    that were labelled by one file are of the same women. ``left_out`` are files of the folder that are not taken.
    """

    name: str
    folder: str
    ids: str
    given: bool
    previous: tuple[Record, ...]
    taken: frozenset[int]
    left_out: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, section: ImportSection, catalog: Sequence[Record], labels_sha256: str, left_out: Iterable[str] = ()
    ) -> Cohorts:
        """The cohort of ``import.folder``: the one named, or the folder's own name."""
        previous = tuple(each for each in catalog if each.source == STAGE)
        path = Path(section.folder or ".").resolve()
        folder = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:8]
        name = section.source or re.sub(r"[^\w.-]+", "-", path.name, flags=re.ASCII).strip("-._") or "folder"
        known = {(each.extra.get("cohort"), each.extra.get("folder")) for each in previous}
        if section.source is None and (name, folder) not in known and name in {cohort for cohort, _ in known}:
            name = f"{name}-{folder[:4]}"  # another folder of this name was imported before
        given = section.source is not None or (name, folder) in known
        taken = frozenset(each.patient for each in catalog)
        return cls(name, folder, labels_sha256, given, previous, taken, frozenset(left_out))

    def is_own(self, record: Record) -> bool:
        """Was this record imported from the same folder into the same cohort?"""
        return record.extra.get("cohort") == self.name and record.extra.get("folder") == self.folder

    def numbers(self, identities: Iterable[FileIdentity], everywhere: set[PatientKey]) -> dict[PatientKey, int]:
        """A number for every patient; ``everywhere`` are ids that mean the same woman in any cohort.

        A number stays what it is, unless it is 0 or a woman's of another cohort; ids that are no numbers keep what
        they were given before, or get their own digits, or the next free number. Raises ConfigError where nobody has
        said whether two folders with the same numbers are of the same women.
        """
        keys = list(dict.fromkeys(each.key for each in identities))
        others: defaultdict[PatientKey, set[str]] = defaultdict(set)
        own: set[PatientKey] = set(everywhere)
        made_up = {each.patient for each in self.previous if each.extra.get("patient_made_up")}
        for each in self.previous:
            cohort = str(each.extra.get("cohort", self.name))
            same = cohort == self.name or (self.ids and each.extra.get("ids") == self.ids) or "dmr" in each.extra
            if each.status == "ok" and each.patient not in made_up:
                own |= {each.patient} if same else set()
                others[each.patient] |= set() if same else {cohort}
        clashing = [key for key in keys if key in made_up or (key in others and others[key] and key not in own)]
        cohorts = sorted({name for key in clashing for name in others[key]})
        if cohorts and not self.given:
            listed = ", ".join(map(str, clashing[:5])) + (", ..." if len(clashing) > 5 else "")
            raise ConfigError(
                f"the catalog has patients of these numbers already, from another folder ({', '.join(cohorts)})",
                where="import.source", expected="to know whether they are the same women",
                found=f"{len(clashing)} numbers: {listed}",
                hint=f"the same women: --source {cohorts[0]}; other women: --source {self.name} "
                "(their numbers are then given by the tool)",
            )  # fmt: skip
        known = {
            str(each.extra["original_id"]): each.patient
            for each in self.previous
            if "original_id" in each.extra and each.extra.get("cohort", self.name) == self.name
        }
        free = (key for key in keys if isinstance(key, int) and key > 0 and key not in clashing)
        numbers: dict[PatientKey, int] = {key: key for key in free if str(key) not in known}
        rest = [key for key in keys if key not in numbers]
        numbers |= {key: known[str(key)] for key in rest if str(key) in known}
        taken = set(numbers.values()) | self.taken
        for key in sorted((key for key in rest if key not in numbers), key=lambda key: (isinstance(key, str), key)):
            digits = re.sub(r"\D", "", key) if isinstance(key, str) else ""
            number = int(digits) if 0 < len(digits) < 9 else 0
            if number < 1 or number in taken:
                number = max(taken, default=0) + 1
            numbers[key] = number
            taken.add(number)
        return numbers


@dataclass(frozen=True)
class Content:
    """What a file holds: its SHA-256, how it is turned into text, what reading it showed, or why it failed."""

    source: SourceFile
    sha256: str
    recipe: str
    facts: Facts | None
    problem: str = ""


@dataclass
class Placed:
    """One source file with its records: one a matrix, without path where it could not be placed."""

    content: Content
    records: list[Record]

    @property
    def source(self) -> SourceFile:
        return self.content.source

    @property
    def problem(self) -> str:
        return next((each.reason for each in self.records if each.status != "ok"), "")


@dataclass(frozen=True)
class _Candidate:
    """A file whose exam and view are known."""

    content: Content
    identity: FileIdentity
    labelled: Labelled
    visit: int
    view: str
    numbered: bool
    """Was the visit numbered here, and not read anywhere?"""

    @property
    def exam(self) -> int:
        """The exam's number: its visit, unless breasts or regions are exams of their own."""
        site = self.labelled.site
        return self.visit if site is None else (self.visit - 1) * site.count + site.number


def place_files(
    contents: Sequence[Content],
    names: NamesRead,
    section: ImportSection,
    labels: Labels | None,
    label_of: Callable[[PurePosixPath], str | None],
    dates: ExamDates,
    cohorts: Cohorts,
) -> list[Placed]:
    """Give every file its patient, visit, view, index, date and label.

    ``label_of`` says what a path tells of the label, where there is no labels file. Files without a visit are
    visit 1; several videos, or files of several frames, of a patient are visits 1, 2, ... in their order, and so are
    the days that the names of a patient's files hold where one day alone would have a view twice. Whatever is wrong
    with a file becomes a record with a status and a reason. The answer is in the order of ``contents``.
    """
    placed, candidates = [], []
    videos: defaultdict[tuple[PatientKey, Site | None], int] = defaultdict(int)
    for content in contents:
        identity = names.identities[content.source.relative]
        why = "neither name nor folder says which view this is; say it with --view or --view-map"
        if isinstance(identity, str):
            why = identity
        elif identity.problem:
            why = f"the view in this name is not one of ours: {identity.problem}; say it with --view-map"
        if isinstance(identity, str) or identity.view is None:
            reason = "; ".join(filter(None, (content.problem, why)))
            nowhere = Record("", 0, 0, "", "", None, 0, "unknown", source=STAGE, status="failed", reason=reason)
            placed.append(Placed(content, [replace(nowhere, extra=_extra(content, cohorts))]))
            continue
        visit = identity.visit or section.visit
        if labels is not None:
            labelled = labels.of(identity, visit)
        else:
            labelled = _label_in_path(label_of(content.source.relative))
        visit = visit or labelled.visit
        numbered = visit is None
        several = content.facts is not None and content.facts.count > 1  # frames in one file are an exam
        if visit is None and (several or content.source.kind == "video"):
            videos[identity.key, labelled.site] += 1
            visit = videos[identity.key, labelled.site]
        candidates.append(_Candidate(content, identity, labelled, visit or 1, identity.view, numbered))
    candidates = _visits_by_day(candidates)
    everywhere: set[PatientKey] = {each.identity.key for each in candidates if _is_of_the_site(each.content)}
    numbers = cohorts.numbers([each.identity for each in candidates], everywhere)
    indices = _indices(candidates)
    for each in candidates:
        records = _records(each, numbers[each.identity.key], indices[each.content.source], dates, cohorts)
        placed.append(Placed(each.content, records))
    order = {content.source: number for number, content in enumerate(contents)}
    return sorted(_without_clashes(placed), key=lambda each: order[each.source])


def _is_of_the_site(content: Content) -> bool:
    """Is the name in the DMR grammar, whose patient numbers are the site's own?"""
    return parse_name(f"{content.source.relative.stem}.txt") is not None


def _label_in_path(found: str | None) -> Labelled:
    if found in ("healthy", "sick"):
        return Labelled(found)
    return Labelled(None, "two labels" if found else "no labels file, and the path says neither healthy nor sick")


def _visits_by_day(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The files, those without a visit numbered by their days where a patient's have one view on several days."""
    days: defaultdict[tuple[object, ...], set[str]] = defaultdict(set)
    several = set()
    for each in candidates:
        if each.numbered and each.identity.date is not None:
            own = each.identity.key, each.labelled.site
            days[own].add(each.identity.date)
            days[(*own, each.view, each.identity.protocol)].add(each.identity.date)
            several |= {own} if len(days[(*own, each.view, each.identity.protocol)]) > 1 else set()

    def visit(each: _Candidate) -> int:
        own, day = (each.identity.key, each.labelled.site), each.identity.date
        return 1 + sorted(days[own]).index(day) if each.numbered and day is not None and own in several else each.visit

    return [replace(each, visit=visit(each)) for each in candidates]


def _indices(candidates: Sequence[_Candidate]) -> dict[SourceFile, int]:
    """The index in the file name: the name's own, or the first free ones in the order of the files."""
    groups: defaultdict[tuple[object, ...], list[_Candidate]] = defaultdict(list)
    for each in candidates:
        groups[each.identity.key, each.exam, each.view, each.identity.protocol].append(each)
    indices: dict[SourceFile, int] = {}
    for group in groups.values():
        used = {each.identity.index for each in group if each.identity.index is not None}
        free = (number for number in range(len(group) + len(used) + 1) if number not in used)
        for each in group:
            indices[each.content.source] = next(free) if each.identity.index is None else each.identity.index
    return indices


def _records(candidate: _Candidate, patient: int, index: int, dates: ExamDates, cohorts: Cohorts) -> list[Record]:
    identity, content, facts = candidate.identity, candidate.content, candidate.content.facts
    date = identity.date or candidate.labelled.date
    if date is None and facts is not None:
        date = dates.of(identity.key, candidate.view, candidate.visit, facts.low, facts.high)
    status, reason = "ok", ""
    if content.problem or facts is None:
        status, reason = "failed", content.problem
    elif candidate.labelled.label is None:
        status, reason = "unlabelled", candidate.labelled.why
    label, layout = candidate.labelled.label or "unknown", facts.layout if facts else ""
    record = Record("", patient, candidate.exam, candidate.view, identity.protocol, date, index, label, layout=layout)
    extra = _extra(content, cohorts)
    if identity.key != patient:
        extra |= {"original_id": str(identity.key), "patient_made_up": True}
    if candidate.numbered:
        extra["visit_made_up"] = True
    if (site := candidate.labelled.site) is not None:
        extra |= {"site": site.name, "site_visit": candidate.visit, "visit_made_up": True}
    if _is_of_the_site(content):
        extra["dmr"] = True
    if candidate.labelled.facts:
        extra["columns"] = dict(candidate.labelled.facts)
    record = replace(record, source=STAGE, status=status, reason=reason, extra=extra)
    if status != "ok" or facts is None:
        return [record]
    frames = [replace(record, index=index + number) for number in range(facts.count)]
    return [replace(each, path=each.name.tree_path(each.label)) for each in frames]


def _extra(content: Content, cohorts: Cohorts) -> dict[str, object]:
    extra: dict[str, object] = {
        "original": safe_name(content.source.relative), "original_sha256": content.sha256, "cohort": cohorts.name,
        "folder": cohorts.folder, "original_bytes": content.source.path.stat().st_size,
    }  # fmt: skip
    if cohorts.ids:
        extra["ids"] = cohorts.ids
    if content.recipe:
        extra["recipe"] = content.recipe
    if content.facts is not None:
        extra |= content.facts.as_extra()
    return extra


def _without_clashes(placed: Sequence[Placed]) -> list[Placed]:
    """Of files that would get one name the first keeps it; a file with other content is refused."""
    owners: dict[str, Placed] = {}
    kept = []
    for each in placed:
        clash = next((owners[record.path] for record in each.records if record.path in owners), None)
        if clash is None:
            owners |= {record.path: each for record in each.records if record.path}
        elif clash.content.sha256 == each.content.sha256:
            continue  # the same file twice, under one name in two folders
        else:
            rival = safe_name(clash.source.relative)
            reason = f"{rival} has the same place with other content: {each.records[0].path}"
            each.records = [replace(each.records[0], path="", status="failed", reason=reason)]
        kept.append(each)
    return kept


def merge(cohorts: Cohorts, new: Sequence[Record]) -> list[Record]:
    """The import's part of the catalog: new records, and earlier ones of other folders and cohorts.

    An earlier record makes way for a new one of the same file of the same folder and cohort, and where that file is
    left out now. Raises DataError when another file, with other content, was imported under the same patient, visit,
    view, protocol and index.
    """

    def place(record: Record) -> tuple[object, ...]:
        return record.patient, record.visit, record.view, record.protocol, record.index

    def stands_for(old: Record) -> bool:
        own = cohorts.is_own(old) and old.extra.get("original") in names
        return own or (
            "cohort" not in old.extra and (old.extra.get("original"), old.extra.get("original_sha256")) in same
        )

    names = {each.extra.get("original") for each in new} | cohorts.left_out
    same = {(each.extra.get("original"), each.extra.get("original_sha256")) for each in new}
    places = {place(each): each for each in new if each.status == "ok"}
    kept = []
    for old in cohorts.previous:
        if stands_for(old):
            continue
        rival = places.get(place(old)) if old.status == "ok" else None
        if rival is None:
            kept.append(old)
        elif old.extra.get("original_sha256") != rival.extra.get("original_sha256"):
            raise DataError(
                f"exam {old.exam} has a {old.view} image already, with other content",
                where=rival.extra.get("original"),
                found=f"{old.path}, imported from {old.extra.get('original')} of {old.extra.get('cohort', 'a folder')}",
                hint="say which visit or view these files are with --visit or --view, or that they are other women "
                "with --source",
            )  # fmt: skip
    return [*kept, *new]


def label_counts(records: Iterable[Record]) -> Mapping[str, int]:
    """How many exams of each label were placed."""
    exams = {(each.exam, each.label) for each in records if each.status == "ok"}
    return {label: sum(found == label for _, found in exams) for label in ("healthy", "sick")}
