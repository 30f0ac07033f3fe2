"""Which number of a name is the patient: judged over all names of a folder, and by the ids of the labels table.

``17_healthy_021_59``, ``E60_pat1``, ``S1_P1``: names of one build hold numbers in the same places. A place can hold
the patient if it says so (``pat1``), if its numbers are the table's ids, or if it is the only one left when dates,
hours, views, visits, cameras and counters are set aside. Where two places can, nothing is taken.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.words import AGE, COUNTER, FILE_COLUMNS, PATIENT, PATIENT_COLUMNS, SITE, VISIT, bare
from thermocancer.data.names import plain_text, safe_name, tokens_of, view_in_name
from thermocancer.errors import ConfigError

PatientKey = int | str
"""A patient's number, or the id as written (small letters) where it is no number."""

_CODED = "a code of letters and digits, of which no number is the patient; give --labels with it, or --id-pattern"
NO_NUMBER = "no patient number in this name; say where it stands with --id-pattern"
STUDY_NAME = re.compile(r"image_(\d+)_(\d+)")
_CAMERA = re.compile(r"(e[3-9]?\d|t[2-8]\d\d|t10[2-5]0|sc\d{3,4}|a\d{2,3}|ti\d\d\d?)")
_MOST_CAMERAS = 3
_RUN = re.compile(r"([^\W\d_]*)(\d+)")
_FEW = 0.05  # of the files: so many with names of another build are listed, and do not stop the rest


class Slot(NamedTuple):
    """A place where names have a number: 0 the file's own name, 1 its folder, ...; which one of its kind there."""

    level: int
    kind: str
    rank: int


@dataclass(frozen=True)
class Number:
    digits: str
    letters: str  # written as one with the digits
    marker: str  # those letters, or the word before
    runs_before: int  # of digits, in the same part of the path
    behind: str = ""  # letters written as one behind the digits

    @property
    def value(self) -> int:
        return int(self.digits)


@dataclass
class FreeName:
    """A name outside the grammar: its numbers by place, and what its words say."""

    relative: PurePosixPath
    plain: str
    words: frozenset[str]
    view: str | None
    problem: str
    date: str | None = None
    numbers: dict[Slot, Number] = field(default_factory=dict)
    coded: bool = False


class Ids:
    """The ids of one column of a table: all of them numbers (``138``, ``T0138``, ``138.0``), or texts.

    >>> ids = Ids("case", ["T0138", "312.0"])
    >>> ids.key("0138"), ids.key(" T0312 "), Ids("id", ["A7", "B7"]).key("A7")
    (138, 312, 'a7')
    """

    def __init__(self, column: str, written: Sequence[str]) -> None:
        self.column, self.written = column, tuple(written)
        self.texts = {normal_id(text) for text in written if text.strip()}
        numbers = {text: number_of(text) for text in self.texts}
        letters = {(number, text.rstrip("0123456789").removeprefix("t")) for text, number in numbers.items()}
        alike = None not in numbers.values() and len(letters) == len(set(numbers.values()))  # A7 and B7 are not
        self.numbers = frozenset(each for each in numbers.values() if each is not None) if alike else frozenset()
        self.of_files: dict[str, PatientKey] = {}
        """Where the table has a line a file: the patient of each file's name."""

    def key(self, written: str) -> PatientKey:
        text = normal_id(written)
        if self.of_files:
            return self.of_files.get(text, text)
        number = number_of(text) if self.numbers else None
        return text if number is None else number

    def names_files(self, names: Sequence[FreeName]) -> bool:
        """Is this a column of files (``P1_front.csv``), not of patients?"""
        if bare(self.column) not in FILE_COLUMNS and not any(map(view_in_name, self.texts)):
            return False
        return sum(normal_id(name.relative.stem) in self.texts for name in names) > 0.5 * len(names) > 0

    def in_name(self, name: FreeName) -> str | None:
        """The one id that stands in a path as a word of its own; the longest, where one holds another."""
        tokens = tokens_of(name.plain)
        inside = {
            name.plain[first.start : last.end]
            for start, first in enumerate(tokens)
            for last in tokens[start : start + 40]  # a UUID has up to 32 runs
            if name.plain[first.start : last.end] in self.texts
        }
        longest = {text for text in inside if not any(text != other and text in other for other in inside)}
        return longest.pop() if len(longest) == 1 else None


def normal_id(text: str) -> str:
    plain = plain_text(text.strip()).rsplit("/", 1)[-1]
    plain = re.sub(r"(?<=.)\.(csv|tsv|txt|asc|dat|npy|mat|jpe?g|png|bmp|tiff?|avi|seq)$", "", plain)
    return re.sub(r"^(\d+)[.,]0+$", r"\1", plain)


def number_of(text: str) -> int | None:
    match = re.fullmatch(r"\D*?(\d+)", text)
    return int(match[1]) if match else None


def patient_key(written: str, section: ImportSection) -> PatientKey:
    """An id as ``import.id_pattern`` reads it: ``T0138``, ``0138`` and ``138`` are one patient.

    The pattern is tried first, then the text is taken whole.
    """
    match = re.search(section.id_pattern, written.strip()) if section.id_pattern is not None else None
    text = normal_id(match[1] if match and match[1] else written)
    number = re.fullmatch(r"t?0*(\d+)", text)
    return int(number[1]) if number else text


def numbers_in(left: str, plain: str) -> dict[Slot, Number]:
    """The numbers of a path by place; ``left`` is the path with views, dates, hours and sizes blanked out."""
    numbers: dict[Slot, Number] = {}
    parts, raw = left.split(" / "), plain.split(" / ")
    for level, (part, whole) in enumerate(zip(reversed(parts), reversed(raw), strict=True)):
        ranks: Counter[str] = Counter()
        for match in _RUN.finditer(part):
            before = re.search(r"([^\W\d_]+)[\W_]*$", part[: match.start()])
            word = before[1] if before else ""
            letters, digits = match[1], match[2]
            marker = letters or (word if word in PATIENT | VISIT | COUNTER | AGE | SITE else "")
            behind = (re.match(r"[^\W\d_]*", part[match.end() :]) or [""])[0]
            kind = "plain"
            if marker in AGE or behind in AGE | {"y", "yf", "ym"} or len(digits) > 9:
                continue
            if marker in PATIENT or (letters == "t" and len(digits) > 3 and digits[0] == "0"):
                kind = "patient"
            elif marker in VISIT:
                kind = "visit"
            elif marker in COUNTER:
                kind = "counter"
            elif level and not letters and 1990 <= int(digits) < 2100 and len(digits) == 4:
                kind = "year"
            runs = len(re.findall(r"\d+", whole[: match.start(2)]))
            numbers[Slot(level, kind, ranks[kind])] = Number(digits, letters, marker, runs, behind)
            ranks[kind] += 1
    return numbers


# --- Which number is the patient --------------------------------------------------------------------------------------

Choice = tuple[FreeName, Slot | None, PatientKey | None, str]
"""A name, the place of its patient, the patient's key, and the id as written (or why there is none)."""


def best_ids(
    ids: Sequence[Ids], names: Sequence[FreeName], known: Sequence[PatientKey], section: ImportSection
) -> Ids | None:
    """The column whose ids stand in the names. Raises ConfigError where several columns, or none, can be it."""
    if len(ids) < 2:
        return next(iter(ids), None)
    if section.id_pattern is None:
        shares = {each.column: _share(each, names, known) for each in ids}
    else:
        found = [re.search(section.id_pattern, str(name.relative)) for name in names]
        keys = [patient_key(match[1], section) for match in found if match and match[1]]
        own = {each.column: {patient_key(text, section) for text in each.written} for each in ids}
        shares = {column: sum(key in each for key in keys) / max(1, len(keys)) for column, each in own.items()}
    first, second, *_ = sorted(ids, key=lambda each: -shares[each.column])
    if shares[first.column] >= 0.5 and shares[first.column] - shares[second.column] > 0.2:
        return first
    fitting = [f"`{name}` ({share:.0%} of the names)" for name, share in shares.items() if share >= 0.5]
    of_patients = [each for each in ids if shares[each.column] >= 0.5 and bare(each.column) in PATIENT_COLUMNS]
    if len(of_patients) == 1:
        return of_patients[0]
    raise ConfigError(
        "which column of the labels file is the patient?", where="import.id_column",
        expected=f"one of: {', '.join(shares)}",
        found=f"ids that stand in the files' names: {', '.join(fitting) or 'in none of them'}",
        hint="name it with --id-column",
    )  # fmt: skip


def _share(ids: Ids, names: Sequence[FreeName], known: Sequence[PatientKey]) -> float:
    """The share of names that have one of these ids somewhere."""
    hits = sum(
        any(number.value in ids.numbers for number in name.numbers.values()) or ids.in_name(name) is not None
        for name in names
    )
    return (hits + sum(key in ids.numbers for key in known)) / max(1, len(names) + len(known))


def choose_patients(
    names: Sequence[FreeName],
    section: ImportSection,
    ids: Ids | None,
    label_of: Callable[[PurePosixPath], str | None],
    said: Counter[str],
) -> Iterable[Choice]:
    """Choose the patient's place for all names of one build at a time."""
    builds: defaultdict[tuple[Slot, ...], list[FreeName]] = defaultdict(list)
    by_pattern: list[str] = []
    for name in names:
        study = STUDY_NAME.fullmatch(name.relative.stem)
        if section.id_pattern is not None:
            match = re.search(section.id_pattern, str(name.relative))
            if match is None or not match[1]:
                yield name, None, None, f"import.id_pattern {section.id_pattern!r} finds no patient in this path"
            else:
                by_pattern.append(f"{safe_name(name.relative)} -> {match[1]}")
                yield name, None, patient_key(match[1], section), match[1]
        elif study is not None:
            said["from the names of the original study, image_PATIENT_VISIT"] += 1
            yield name, None, int(study[1]), study[1]
        else:
            builds[tuple(sorted(name.numbers))].append(name)
    if by_pattern:
        said[f"what import.id_pattern finds ({by_pattern[0]})"] += len(by_pattern)
    for group in builds.values():
        yield from _of_one_build(group, len(names), ids, label_of, said)


def _of_one_build(
    group: Sequence[FreeName],
    total: int,
    ids: Ids | None,
    label_of: Callable[[PurePosixPath], str | None],
    said: Counter[str],
) -> Iterable[Choice]:
    if ids is not None and not ids.numbers:
        found = {name.relative: ids.in_name(name) for name in group}
        if any(found.values()):
            example = next(name for name in group if found[name.relative])
            said[f"the id of column `{ids.column}` in the name ({safe_name(example.relative)} -> "
                 f"{found[example.relative]})"] += len(group)  # fmt: skip
            for name in group:
                text = found[name.relative]
                yield name, None, text, text or "no id of the labels file stands in this name"
            return
    coded = [name for name in group if name.coded]
    yield from ((name, None, None, _CODED) for name in coded)
    group = [name for name in group if not name.coded]
    slots = sorted(group[0].numbers) if group else []
    if not slots:
        yield from ((name, None, None, NO_NUMBER) for name in group)
        return
    fitting, why = _fitting(group, slots, ids, label_of)
    if not why and fitting[0].kind == "plain":
        why = _again_elsewhere(group, fitting[0])
    if len(fitting) == 1 and not why:
        slot = fitting[0]
        example = group[0]
        said[f"{_describe(slot, group)} ({safe_name(example.relative)} -> {example.numbers[slot].value})"] += len(group)
        for name in group:
            yield name, slot, name.numbers[slot].value, name.numbers[slot].digits
        return
    if total > len(group) and len(group) <= _FEW * total:
        yield from ((name, None, None, f"which number of this name is the patient? ({why})") for name in group)
        return
    example = group[0]
    together = r"folder and name together (--id-pattern '([^/]+/[^/]+)\.[^./]+$')"
    readings = [
        f"{example.numbers[slot].value}, {_describe(slot, group)} ({len({n.numbers[slot].value for n in group})} "
        f"patients; --id-pattern '{_pattern(slot, example)}')"
        for slot in fitting
    ]
    readings += [together] if "may be of one patient" in why else []
    if why.endswith("would be one patient"):
        readings.append(r"with its letters (--id-pattern '([A-Za-z]*\d+[A-Za-z]*)[^/]*$')")
    raise ConfigError(
        "which number of these names is the patient?", where="import.id_pattern",
        expected="one number that can be the patient in every name",
        found=f"{safe_name(example.relative)} and {len(group) - 1} names like it: {why}: {'; or '.join(readings)}",
        hint="choose with --id-pattern, a regular expression on the path whose group 1 is the patient",
    )  # fmt: skip


def _fitting(
    group: Sequence[FreeName],
    slots: Sequence[Slot],
    ids: Ids | None,
    label_of: Callable[[PurePosixPath], str | None],
) -> tuple[list[Slot], str]:
    """The places that can hold the patient, and why none of them is taken by itself (empty where one is)."""
    values = {slot: [name.numbers[slot].value for name in group] for slot in slots}
    if ids is not None and ids.numbers:
        known = {slot: sum(value in ids.numbers for value in values[slot]) for slot in slots}
        most = max(known.values())
        if most >= 0.5 * len(group):
            by_ids = _different([slot for slot in slots if known[slot] >= 0.9 * most], values)
            exact = {slot: sum(_written(name.numbers[slot]) & ids.texts != set() for name in group) for slot in by_ids}
            best = max(exact.values())
            by_text = [slot for slot in by_ids if exact[slot] == best]
            rest = max((exact[slot] for slot in by_ids if slot not in by_text), default=0)
            clear = len(by_text) == 1 and best - rest > 0.3 * len(group)
            marked = [slot for slot in by_ids if slot.kind == "patient"]
            if len(by_ids) == 1 or len(marked) == 1 or clear:
                return (marked if len(marked) == 1 else by_text if clear else by_ids), ""
            return by_ids, f"each of {len(by_ids)} numbers is an id of column `{ids.column}`"
    marked = _different([slot for slot in slots if slot.kind == "patient"], values)
    if marked:
        sites = [slot for slot in slots if group[0].numbers[slot].marker in SITE]
        if len(marked) > 1:
            return marked, "two numbers are called a patient"
        for site in sites:
            if len(set(zip(values[marked[0]], values[site], strict=True))) > len(set(values[marked[0]])):
                return [marked[0], site], "one patient's number stands under several sites"
        return marked, ""
    possible = [slot for slot in slots if slot.kind == "plain" and not _is_camera(slot, group)]
    varied = [slot for slot in possible if len(set(values[slot])) > 1]
    possible = varied or possible
    labels = [label_of(name.relative) for name in group]
    sound = [slot for slot in possible if not _two_labels(values[slot], labels)]
    if possible and not sound:
        return possible, "healthy and sick would be one patient"
    possible = _different(sound, values)
    if not possible:
        return list(slots), "it counts pictures, visits or cameras"
    for slot in possible:
        written = defaultdict(set)
        for name in group:
            number = name.numbers[slot]
            written[number.value].add(f"{number.letters}{number.value}{number.behind}")
        twice = next((found for found in written.values() if len(found) > 1), None)
        if twice is not None:
            return possible, f"{' and '.join(sorted(twice))} would be one patient"
    return possible, "" if len(possible) == 1 else f"{len(possible)} numbers can be it"


def _again_elsewhere(group: Sequence[FreeName], slot: Slot) -> str:
    """Two files of one name in two folders that would be one view of one patient, on one day as far as is known."""
    seen: dict[tuple[object, ...], FreeName] = {}
    for name in group if slot.level == 0 else ():
        visits = tuple(each.value for place, each in name.numbers.items() if place.kind == "visit")
        first = seen.setdefault((name.relative.stem, name.view, name.date, visits), name)
        if first.relative.parent != name.relative.parent:
            return f"{safe_name(first.relative)} and {safe_name(name.relative)} may be of one patient, or of two"
    return ""


def _different(slots: Sequence[Slot], values: Mapping[Slot, Sequence[int]]) -> list[Slot]:
    """Of places that hold the same numbers throughout, the first."""
    seen: dict[tuple[int, ...], Slot] = {}
    for slot in slots:
        seen.setdefault(tuple(values[slot]), slot)
    return list(seen.values())


def _two_labels(values: Sequence[int], labels: Sequence[str | None]) -> bool:
    pairs = {(value, label) for value, label in zip(values, labels, strict=True) if label is not None}
    return len({value for value, _ in pairs}) < len(pairs)


def _is_camera(slot: Slot, group: Sequence[FreeName]) -> bool:
    numbers = [name.numbers[slot] for name in group]
    models = {f"{each.letters}{each.digits}" for each in numbers}
    return (
        len(models) <= _MOST_CAMERAS and all(_CAMERA.fullmatch(model) for model in models) and len(group) > len(models)
    )


def _written(number: Number) -> set[str]:
    return {number.digits, f"{number.letters}{number.digits}"}


def _describe(slot: Slot, group: Sequence[FreeName]) -> str:
    markers = {name.numbers[slot].marker for name in group} - {""}
    where = (
        "the file's name" if slot.level == 0 else "the folder's name" if slot.level == 1 else "an outer folder's name"
    )
    if len(markers) == 1:
        return f"the number behind `{markers.pop()}` in {where}"
    several = sum(other.level == slot.level for other in group[0].numbers) > 1
    ordinal = ("first", "second", "third", "fourth")[min(group[0].numbers[slot].runs_before, 3)]
    return f"the {ordinal} number in {where}" if several else f"the number in {where}"


def _pattern(slot: Slot, name: FreeName) -> str:
    """A regular expression for ``--id-pattern`` that reads the number at this place."""
    before = rf"(?:\d+[^/\d]+){{{name.numbers[slot].runs_before}}}" if name.numbers[slot].runs_before else ""
    return rf"(?:^|/)[^/\d]*{before}(\d+)[^/]*{'/[^/]*' * slot.level}$"
