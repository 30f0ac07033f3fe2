"""Decide, for every file of an imported folder, what it is, where it goes in ``raw/``, or why it cannot go there.

Decisions only: the stage reads the files before, and writes afterwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from thermocancer.config.sources import ImportSection
from thermocancer.data.catalog import Record
from thermocancer.data.folder.files import Facts, SourceFile
from thermocancer.data.folder.labels import ExamDates, Labelled, Labels, label_value
from thermocancer.data.folder.names import FileIdentity, PatientKey, identify
from thermocancer.errors import DataError

SOURCE = "import"


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


def place_files(
    contents: Sequence[Content],
    section: ImportSection,
    labels: Labels | None,
    dates: ExamDates,
    previous: Sequence[Record],
) -> list[Placed]:
    """Give every file its patient, visit, view, index, date and label.

    Ids that are no numbers keep the number that they have among ``previous`` records. Files without a
    visit are visit 1; several videos of a patient are visits 1, 2, ... in their order.
    Raises DataError for an exam with two labels. Whatever else is wrong with a file becomes a record
    with a status and a reason. The answer is in the order of ``contents``.
    """
    placed, candidates = [], []
    videos: defaultdict[PatientKey, int] = defaultdict(int)
    for content in contents:
        identity, why = None, "neither name nor folder says which view this is; say it with --view"
        try:
            identity = identify(content.source.relative, section)
        except DataError as error:
            why = error.what
        if identity is not None:
            visit = identity.visit or section.visit
            labelled = labels.of(identity, visit) if labels is not None else _label_of_folder(identity, section)
        if identity is None or identity.view is None:
            reason = "; ".join(filter(None, (content.problem, why)))
            nowhere = Record("", 0, 0, "", "", None, 0, "unknown", source=SOURCE, status="failed", reason=reason)
            placed.append(Placed(content, [replace(nowhere, extra=_extra(content, None))]))
            continue
        visit = visit or labelled.visit
        if visit is None and content.source.kind == "video":
            videos[identity.key] += 1
            visit = videos[identity.key]
        candidates.append(_Candidate(content, identity, labelled, visit or 1, identity.view))
    known = {str(each.extra["original_id"]): each.patient for each in previous if "original_id" in each.extra}
    numbers = _numbers([each.identity for each in candidates], known)
    indices = _indices(candidates)
    for each in candidates:
        records = _records(each, numbers[each.identity.key], indices[each.content.source], dates)
        placed.append(Placed(each.content, records))
    order = {content.source: number for number, content in enumerate(contents)}
    return sorted(_without_clashes(placed), key=lambda each: order[each.source])


def _label_of_folder(identity: FileIdentity, section: ImportSection) -> Labelled:
    """Without a labels file: folders and words named healthy or sick (0 and 1 are too common to count)."""
    found = {label for word in identity.words if not word.isdigit() and (label := label_value(word, section))}
    if len(found) == 1:
        return Labelled(found.pop())
    return Labelled(None, "no labels file, and the path says neither healthy nor sick" if not found else "two labels")


def _numbers(identities: Iterable[FileIdentity], known: Mapping[str, int]) -> dict[PatientKey, int]:
    """A number for every patient: the id itself, the number it had before, its own digits, or the next free one."""
    keys = list(dict.fromkeys(each.key for each in identities))
    numbers: dict[PatientKey, int] = {key: key for key in keys if isinstance(key, int)}
    texts = sorted(key for key in keys if isinstance(key, str))
    numbers |= {key: known[key] for key in texts if key in known}
    taken = set(numbers.values()) | set(known.values())
    for key in texts:
        if key in numbers:
            continue
        digits = "".join(character for character in key if character.isdigit())
        number = int(digits) if digits and len(digits) < 9 else 0
        if number < 1 or number in taken:
            number = max(taken, default=0) + 1
        numbers[key] = number
        taken.add(number)
    return numbers


def _indices(candidates: Sequence[_Candidate]) -> dict[SourceFile, int]:
    """The index in the file name: the name's own, or the first free ones in the order of the files."""
    groups: defaultdict[tuple[object, ...], list[_Candidate]] = defaultdict(list)
    for each in candidates:
        groups[each.identity.key, each.visit, each.view, each.identity.protocol].append(each)
    indices: dict[SourceFile, int] = {}
    for group in groups.values():
        used = {each.identity.index for each in group if each.identity.index is not None}
        free = (number for number in range(len(group) + len(used) + 1) if number not in used)
        for each in group:
            indices[each.content.source] = next(free) if each.identity.index is None else each.identity.index
    return indices


def _records(candidate: _Candidate, patient: int, index: int, dates: ExamDates) -> list[Record]:
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
    record = Record("", patient, candidate.visit, candidate.view, identity.protocol, date, index, label, layout=layout)
    extra = _extra(content, identity)
    record = replace(record, source=SOURCE, status=status, reason=reason, extra=extra)
    if status != "ok" or facts is None:
        return [record]
    frames = [replace(record, index=index + number) for number in range(facts.count)]
    return [replace(each, path=each.name.tree_path(each.label)) for each in frames]


def _extra(content: Content, identity: FileIdentity | None) -> dict[str, object]:
    extra: dict[str, object] = {"original": str(content.source.relative), "original_sha256": content.sha256}
    if content.recipe:
        extra["recipe"] = content.recipe
    if content.facts is not None:
        extra |= content.facts.as_extra()
    if identity is not None and isinstance(identity.key, str):
        extra["original_id"] = identity.key
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
            reason = f"{clash.source.relative} has the same place with other content: {each.records[0].path}"
            each.records = [replace(each.records[0], path="", status="failed", reason=reason)]
        kept.append(each)
    return kept


def merge(previous: Iterable[Record], new: Sequence[Record]) -> list[Record]:
    """The import's part of the catalog: new records, and earlier ones of other folders.

    An earlier record makes way for a new one of the same original file. Raises DataError when another
    file, with other content, was imported under the same patient, visit, view, protocol and index.
    """

    def place(record: Record) -> tuple[object, ...]:
        return record.patient, record.visit, record.view, record.protocol, record.index

    originals = {(each.extra.get("original"), each.extra.get("original_sha256")) for each in new}
    names = {each.extra.get("original") for each in new}
    places = {place(each): each for each in new if each.status == "ok"}
    kept = []
    for old in previous:
        if (old.extra.get("original"), old.extra.get("original_sha256")) in originals:
            continue
        rival = places.get(place(old)) if old.status == "ok" else None
        if rival is None:
            if old.status == "ok" or old.extra.get("original") not in names:
                kept.append(old)
        elif old.extra.get("original") != rival.extra.get("original") and old.sha256 != rival.sha256:
            raise DataError(
                f"exam {old.exam} has a {old.view} image already, with other content",
                where=rival.extra.get("original"), found=f"{old.path}, imported from {old.extra.get('original')}",
                hint="say which visit or view these files are with --visit or --view",
            )  # fmt: skip
    return [*kept, *new]
