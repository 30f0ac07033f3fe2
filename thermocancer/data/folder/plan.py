"""This is how I read your folder: a plan made before anything is written, said in words and kept beside the catalog."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath

from thermocancer.config.sources import ImportSection
from thermocancer.data.catalog import Record
from thermocancer.data.folder.dates import ExamDates
from thermocancer.data.folder.decide import Placed, label_counts
from thermocancer.data.folder.labels import Labels
from thermocancer.data.folder.names import NamesRead
from thermocancer.data.names import safe_name
from thermocancer.thermal.units import STATED, UNITS


@dataclass(frozen=True)
class ReadingPlan:
    """How a folder was read. ``not_taken`` names files under the reason; ``alike`` are files of equal content.

    ``missing_pixels`` is the share of each file that holds no temperature (NaN, zeros that are fill), ``stretched`` the
    number of grey pictures that reach both ends of ``import.range``, ``days_numbered`` that of patients whose visits
    are the days in the names, ``celsius`` the lowest and the highest temperature of all files, ``several_of_a_view``
    names static exams (patient_visit) with more than one file of a view.
    """

    source: str
    files: int
    patient: tuple[str, ...]
    patients: int
    made_up_numbers: int
    made_up_visits: int
    view: Mapping[str, int]
    view_from: str
    label: tuple[str, ...]
    exams: Mapping[str, int]
    folders_that_say_otherwise: tuple[str, ...]
    dates: tuple[str, ...]
    dated: int
    matrices: int
    dates_that_do_not_exist: tuple[str, ...]
    unit: str
    layouts: Mapping[str, Mapping[str, int]]
    not_taken: Mapping[str, Sequence[str]]
    alike: tuple[tuple[str, ...], ...]
    missing_pixels: Mapping[str, float] = field(default_factory=dict)
    stretched: int = 0
    days_numbered: int = 0
    celsius: tuple[float, float] | None = None
    several_of_a_view: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        source: str,
        section: ImportSection,
        placed: Sequence[Placed],
        names: NamesRead,
        labels: Labels | None,
        label_of: Callable[[PurePosixPath], str | None],
        dates: ExamDates,
        left_out: Mapping[str, Sequence[str]],
    ) -> ReadingPlan:
        usable = [record for each in placed for record in each.records if record.status == "ok"]
        layouts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for record in usable:
            layouts[record.view][record.layout] += 1
        equal: defaultdict[str, list[str]] = defaultdict(list)
        for each in placed:
            equal[each.content.sha256].append(safe_name(each.source.relative))
        read = [facts for each in placed if (facts := each.content.facts) is not None and not each.problem]
        found = label_counts(usable)
        otherwise = [
            safe_name(each.source.relative)
            for each in placed
            if not each.problem and label_of(each.source.relative) not in (None, each.records[0].label)
        ]
        return cls(
            source=source,
            files=len(placed),
            patient=names.patients,
            patients=len({each.patient for each in usable}),
            made_up_numbers=len({each.patient for each in usable if each.extra.get("patient_made_up")}),
            made_up_visits=len({each.exam for each in usable if each.extra.get("visit_made_up")}),
            days_numbered=_numbered_by_day(usable),
            view=dict(sorted(Counter(each.view for each in usable).items())),
            view_from=names.views,
            label=tuple(labels.said()) if labels is not None else (_label_of_paths(found),),
            exams=found,
            folders_that_say_otherwise=tuple(otherwise),
            dates=(*_written(names, labels), *dates.said),
            dated=sum(each.date is not None for each in usable),
            matrices=len(usable),
            dates_that_do_not_exist=(
                *names.impossible_dates, *(labels.dates.impossible if labels is not None else ()), *dates.impossible,
            ),
            unit=_unit(section, usable),
            several_of_a_view=_several_of_a_view(usable),
            celsius=(min(each.low for each in read), max(each.high for each in read)) if read else None,
            layouts={view: dict(sorted(found.items())) for view, found in sorted(layouts.items())},
            not_taken={why: list(each) for why, each in left_out.items()},
            alike=tuple(tuple(each) for each in equal.values() if len(each) > 1),
            missing_pixels={
                safe_name(each.source.relative): facts.missing / (facts.count * facts.shape[0] * facts.shape[1])
                for each in placed
                if (facts := each.content.facts) is not None and facts.missing
            },
            stretched=_stretched(placed, section),
        )  # fmt: skip

    def lines(self) -> list[str]:
        """The plan in words, a line a question."""
        lines = [f"read as cohort `{self.source}`: {self.files} files, {self.patients} patients"]
        lines += [f"patient: {text}" for text in self.patient]
        if self.made_up_numbers:
            lines.append(
                f"{self.made_up_numbers} patients have numbers that the tool made up (extra.original_id is theirs)"
            )
        if self.made_up_visits:
            days = f"; of {self.days_numbered} patients by the days in the names" if self.days_numbered else ""
            lines.append(
                f"visit: {self.made_up_visits} exams were numbered by the tool, as nothing says which visit{days}"
            )
        lines.append(f"view: {_listed(self.view) or 'none'} ({self.view_from})")
        if self.several_of_a_view:
            what = "exams with several files of one view, which filter drops (--view-map WORD=none leaves files out)"
            lines.append(_counted(what, self.several_of_a_view))
        lines += self.label
        if self.folders_that_say_otherwise:
            lines.append(_counted("in folders named for the other label", self.folders_that_say_otherwise))
        lines += [f"dates: {text}" for text in self.dates]
        lines.append(f"dated {self.dated} of {self.matrices}")
        if self.dates_that_do_not_exist:
            lines.append(_counted("dates that do not exist", self.dates_that_do_not_exist))
        lines.append(f"unit: {self.unit}")
        if self.celsius is not None:
            lines.append(f"temperatures: from {self.celsius[0]:.1f} to {self.celsius[1]:.1f} degC in all files")
        lines += [f"layout of {view}: {_listed(found)}" for view, found in self.layouts.items()]
        lines += [_counted(f"not taken, {why}", names) for why, names in self.not_taken.items()]
        if self.missing_pixels:
            worst = sorted(self.missing_pixels.items(), key=lambda each: -each[1])[:5]
            files = ", ".join(f"{name} {share:.1%}" for name, share in worst)
            lines.append(
                f"{len(self.missing_pixels)} files lack pixels (NaN, or zeros that are fill), which are masked: {files}"
            )
        if 2 * self.stretched > self.files > 1:
            lines.append(
                f"{self.stretched} of {self.files} pictures reach both ends of the range: each was probably stretched "
                "by itself, and then its degrees are made up"
            )
        if self.alike:
            pairs = "; ".join(" = ".join(each[:3]) for each in self.alike[:3])
            lines.append(f"{len(self.alike)} times the same content under several names: {pairs}")
        return lines

    def as_dict(self) -> dict[str, object]:
        """The plan for ``--json`` and for ``raw/read-as-SOURCE.json``."""
        return asdict(self)


def _label_of_paths(exams: Mapping[str, int]) -> str:
    return f"label from the names of folders and files: sick {exams['sick']} exams, healthy {exams['healthy']}"


def _several_of_a_view(usable: Sequence[Record]) -> tuple[str, ...]:
    """Exams and views of which there is more than one file."""
    counts = Counter((each.exam, each.view) for each in usable if each.protocol == "S")
    return tuple(f"{exam} {view}" for (exam, view), count in counts.items() if count > 1)


def _stretched(placed: Sequence[Placed], section: ImportSection) -> int:
    """How many grey pictures reach both ends of the range that was given for all."""
    ends = section.range and (section.range.low, section.range.high)
    known = [each.content.facts for each in placed]
    return sum(each is not None and each.layout.startswith("grey") and (each.low, each.high) == ends for each in known)


def _unit(section: ImportSection, records: Sequence[Record]) -> str:
    """The unit that was asked for; else what the files themselves state, counted by file; for grey the range."""
    if section.unit is not None:
        return f"{UNITS[section.unit]}, by --unit"
    files = list({str(each.extra.get("original")): each for each in records}.values())
    grey = [each for each in files if each.layout.startswith("grey")]
    if grey and section.range is not None and len(grey) == len(files):
        return f"grey levels from {section.range.low:g} to {section.range.high:g} degC, by import.range"
    words = {f"{STATED}{unit}": name for unit, name in UNITS.items()}
    stated = Counter(words[note] for each in files for note in each.extra.get("notes", ()) if note in words)
    rest = len(files) - stated.total()
    said = [f"{unit}, as {count} files state" for unit, count in sorted(stated.items())]
    return "; ".join(said + (["degrees Celsius, as nothing says otherwise"] if rest or not said else []))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _counted(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names)} ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _numbered_by_day(usable: Sequence[Record]) -> int:
    """How many patients have several visits that nothing but the days in the names tells apart."""
    made_up = {
        (each.patient, each.visit)
        for each in usable
        if each.protocol == "S" and each.extra.get("visit_made_up") and "site" not in each.extra
    }
    return sum(count > 1 for count in Counter(patient for patient, _ in made_up).values())


def _written(names: NamesRead, labels: Labels | None) -> list[str]:
    """Where dates come from, and which columns of dates were not taken."""
    written = [f"from the names, {names.dates}"] if names.dates else []
    if labels is not None and labels.date_column is not None:
        written.append(f"from column `{labels.date_column}`, {labels.dates.said}")
    elif labels is not None and labels.other_dates:
        others = ", ".join(f"`{each}`" for each in labels.other_dates)
        written.append(f"not from {others}: say which is the exam's with --set import.date_column=...")
    elif labels is not None and labels.no_dates:
        unread = ", ".join(labels.no_dates)
        written.append(f"not from {unread}: no days that can be read; write YYYY-MM-DD, or say how with --date-format")
    return written
