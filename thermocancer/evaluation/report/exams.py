"""What the workspace knows of the exams behind a run: facts of each, the flow from files to scores, subgroups."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from thermocancer.data.catalog import read_catalog
from thermocancer.data.folder.words import AGE, bare
from thermocancer.evaluation.statistics.metrics import subgroup_figures
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import Json, read_json_lines
from thermocancer.runs.predictions import Prediction
from thermocancer.workspace import LABELS, VIEWS, Workspace

ExamKey = tuple[int, int]
"""Patient and visit."""

UNKNOWN = "unknown"

# --- facts of each exam -----------------------------------------------------------------------------------------------

PLAUSIBLE_AGES = range(10, 111)


@dataclass
class ExamFacts:
    """One exam's static files by view (or its first dynamic frame), its date, layout and the first file's size.

    ``age`` is in years, None where the source does not know it. ``formats`` and ``sizes`` (bytes) are those of the
    source files by view; ``assigned`` as in the catalog; ``columns`` what else the labels file or the site says.
    """

    date: str | None = None
    layout: str = ""
    files: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    age: int | None = None
    formats: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    assigned: frozenset[str] = frozenset()
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def view_set(self) -> str:
        """The views there are, in the order of their codes."""
        return " + ".join(view for view in VIEWS if view in self.files) or "none"


def catalogued_exams(workspace: Workspace) -> dict[ExamKey, ExamFacts]:
    """Facts of every exam in the catalog; empty where there is no catalog.

    Raises DataError where the phantom's truth or the site's profiles, which tell ages, cannot be read.
    """
    if not workspace.catalog.exists():
        return {}
    exams: dict[ExamKey, ExamFacts] = {}
    still = set[tuple[str, str]]()
    records = [record for record in read_catalog(workspace) if record.status == "ok" and record.path]
    # static files first: a dynamic frame stands in for the frontal view only where there is no static one
    for record in sorted(records, key=lambda each: (each.protocol != "S", each.index, each.path)):
        exam = exams.setdefault((record.patient, record.visit), ExamFacts())
        exam.date = exam.date or record.date
        exam.layout = exam.layout or record.layout
        exam.bytes = exam.bytes or record.source_bytes
        exam.files.setdefault(record.view, record.path)
        exam.sizes.setdefault(record.view, record.source_bytes)
        if record.protocol == "S":
            still.add((record.exam, record.view))
            exam.formats.setdefault(record.view, record.format)
        elif (record.exam, record.view) not in still:  # of a dynamic exam, every frame's
            known = exam.formats.get(record.view, record.format).split(" or ")
            exam.formats[record.view] = " or ".join(dict.fromkeys([*known, record.format]))
        exam.assigned |= record.assigned
        exam.columns = {**record.extra.get("columns", {}), **exam.columns}
    truth = {
        (int(line["patient"]), int(line["visit"])): line["age"]
        for line in _lines(workspace.raw / "truth.jsonl")
        if isinstance(line.get("age"), int)
    }
    profiles = {int(line["patient"]): line for line in _lines(workspace.raw / "patients.jsonl") if "patient" in line}
    for key, exam in exams.items():
        told = age_on(profiles[key[0]], exam.date) if exam.date is not None and key[0] in profiles else None
        written = next((value for name, value in exam.columns.items() if bare(name) in AGE), "")
        age = truth.get(key, _whole(written)) if told is None else told
        exam.age = age if age in PLAUSIBLE_AGES else None
        exam.columns = clinical_fields(profiles.get(key[0], {}), key[1]) | exam.columns
    return exams


def clinical_fields(profile: Json, visit: int) -> dict[str, str]:
    """What a line of ``patients.jsonl`` says of a patient and of one visit, by the site's own names of the fields.

    Its age is that of the day it was read and left out.
    """
    of_visit: Json = next((each for each in profile.get("visits", ()) if each.get("visit") == visit), {})
    blocks = [profile.get("profile", ()), *(block.get("entries", ()) for block in of_visit.get("fields", ()))]
    return {str(name): str(value) for pairs in blocks for name, value in pairs if name and value and name != "age"}


def _whole(text: str) -> int | None:
    number = re.match(r"\s*(\d+)", text)
    return int(number.group(1)) if number else None


def age_on(profile: Json, day: str) -> int | None:
    """Age on a day from a line of ``patients.jsonl``; None where it does not tell.

    The site shows an age as of the day it is read; it is reckoned back to the day of the exam.

    >>> age_on({"read": "2026-05-01", "profile": [["age", "75 years old"]]}, "2013-06-01")
    62
    """
    words = next((value for key, value in profile.get("profile", ()) if key == "age"), "")
    number = _whole(str(words))
    try:
        passed = (date.fromisoformat(str(profile["read"])[:10]) - date.fromisoformat(day)).days / 365.25
    except (KeyError, ValueError):
        return None
    return None if number is None else round(number - passed)


def _lines(path: Path) -> list[Json]:
    if not path.exists():
        return []
    return list(read_json_lines(path, dict, what="a file of facts about patients cannot be read"))


def sources_of(workspace: Workspace, rows: Sequence[Prediction]) -> list[str]:
    """Where the scored exams came from (fetch, import, simulate); empty where the catalog does not know them."""
    if not workspace.catalog.exists():
        return []
    scored = {(row.patient, row.visit) for row in rows}
    return sorted({record.source for record in read_catalog(workspace) if (record.patient, record.visit) in scored})


def is_phantom(sources: Sequence[str]) -> bool:
    """True where every scored exam came from the simulator."""
    return list(sources) == ["simulate"]


# --- from files to scores, the flow that STARD asks for ---------------------------------------------------------------


def cohort_flow(workspace: Workspace, rows: Sequence[Prediction]) -> list[Json]:
    """How many exams were found, rejected (and why) and scored; a step whose files are gone is left out.

    Each step: ``step``, ``exams``, ``patients``, ``healthy``, ``sick`` (exams) and ``losses`` (reason, count).
    """
    steps = []
    if workspace.catalog.exists():
        records = read_catalog(workspace)
        sound = [record for record in records if record.status == "ok"]
        lost = Counter(f"file {record.status}" for record in records if record.status != "ok")
        labels = {record.exam: record.label for record in sound}
        patients = len({record.patient for record in sound})
        steps.append(_step("found", labels.values(), patients, lost) | {"files": len(sound)})
    verdicts = workspace.filtered / "filter.csv"
    if verdicts.exists():
        with open(verdicts, encoding="utf-8", newline="") as handle:
            lines = list(csv.DictReader(handle))
        kept = [line for line in lines if line["kept"].strip().lower() in ("1", "true", "yes")]
        lost = Counter(f"{line['protocol']}: {line['verdict']}" for line in lines if line not in kept)
        labels = {line["exam"]: line["label"] for line in kept}
        steps.append(_step("complete and sound", labels.values(), len({line["patient"] for line in kept}), lost))
    scored = {(row.patient, row.visit): LABELS[row.label] for row in rows}
    return [*steps, _step("scored out of sample", scored.values(), len({patient for patient, _ in scored}), Counter())]


def _step(name: str, labels: Collection[str], patients: int, lost: Counter[str]) -> Json:
    exams = Counter(labels)
    return {
        "step": name,
        "exams": len(labels),
        "patients": patients,
        **{label: exams.get(label, 0) for label in LABELS},
        "losses": [{"reason": reason, "count": count} for reason, count in sorted(lost.items())],
    }


# --- subgroups --------------------------------------------------------------------------------------------------------

AGE_BANDS = {40: "39 or under", 50: "40 to 49", 60: "50 to 59", 70: "60 to 69", 200: "70 and over"}
"""Each decade by the age that ends it."""


def subgroup_table(
    rows: Sequence[Prediction], facts: Mapping[ExamKey, ExamFacts], confidence: float, *, by_exam: bool = False
) -> list[Json]:
    """The run seen by view set, visit, layout, age and year, one line a subgroup; None where a class is missing.

    A grouping with a single group says nothing and is left out.
    """
    members: dict[str, dict[str, list[Prediction]]] = {}
    for row in rows:
        exam = facts.get((row.patient, row.visit), ExamFacts())
        groups = {
            "views": exam.view_set,
            "visit": "first visit" if row.visit == 1 else "later visit",
            "layout": exam.layout or UNKNOWN,
            "age": UNKNOWN if exam.age is None else next(AGE_BANDS[end] for end in AGE_BANDS if exam.age < end),
            "year": exam.date[:4] if exam.date else UNKNOWN,
        }
        for grouping, group in groups.items():
            members.setdefault(grouping, {}).setdefault(group, []).append(row)
    return [
        {"grouping": grouping, "group": group}
        | subgroup_figures(gather_units(of_group[group], by_exam=by_exam), confidence)
        for grouping, of_group in members.items()
        for group in sorted(of_group)
        if len(of_group) > 1
    ]
