"""From paths to exams: files found and named by import's own reader, grouped into exams."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from thermocancer.config.sources import ImportSection
from thermocancer.data.catalog import Record
from thermocancer.data.cohort import FloatArray, Rgb
from thermocancer.data.folder.dates import ExamDates
from thermocancer.data.folder.decide import STAGE, Content, Placed
from thermocancer.data.folder.files import SUFFIXES, Facts, SourceFile, find_sources, inspect
from thermocancer.data.folder.names import FileIdentity, natural_order, read_names
from thermocancer.data.folder.patients import STUDY_NAME, PatientKey
from thermocancer.data.folder.plan import ReadingPlan
from thermocancer.data.names import is_junk, parse_name, safe_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import Json, hash_file
from thermocancer.workspace import VIEWS

Wanted = Literal["temperatures", "pictures", "films"]
"""What a run was trained on: degrees, pictures that ``convert`` has coloured, or films of such pictures."""

# --- a file, an exam --------------------------------------------------------------------------------------------------


@dataclass
class NewFile:
    """One file: its view (None where unknown), what was found wrong, and its matrix (None when unfit).

    ``frame`` is the number of a frame of a dynamic exam, None for a static thermogram. ``celsius`` (H, W) is NaN where
    a pixel holds no temperature; ``pixels`` (H, W, 3) stand in for it where the file is a picture as the run was
    trained on.
    """

    source: SourceFile
    view: str | None
    frame: int | None = None
    verdicts: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layout: str = ""
    celsius: FloatArray | None = None
    pixels: Rgb | None = None
    date: str | None = None

    @property
    def path(self) -> Path:
        return self.source.path

    @property
    def is_fit(self) -> bool:
        return self.celsius is not None or self.pixels is not None

    def as_dict(self) -> Json:
        found = None if self.celsius is None else [float(np.nanmin(self.celsius)), float(np.nanmax(self.celsius))]
        return {
            "file": safe_name(self.path.name), "view": self.view, "frame": self.frame, "layout": self.layout,
            "range_celsius": found, "verdicts": self.verdicts, "notes": self.notes,
        }  # fmt: skip

    def not_used(self) -> str:
        """The note on a file of the other protocol than the one that a run reads."""
        return "not used: " + ("a static thermogram" if self.frame is None else "a frame of a dynamic exam")

    def reject(self, code: str, reason: str) -> None:
        self.verdicts.append({"code": code, "reason": reason})


@dataclass
class NewExam:
    """One exam to score. ``patient`` and ``visit`` are 0 where the names do not tell."""

    name: str
    files: list[NewFile]
    patient: int = 0
    visit: int = 0

    def view_files(self) -> dict[str, NewFile]:
        """The fit file of each view, in the order of the DMR codes."""
        fit = {file.view: file for file in reversed(self.files) if file.frame is None and file.is_fit and file.view}
        return {view: fit[view] for view in VIEWS if view in fit}

    def frame_files(self) -> dict[int, NewFile]:
        """The fit frontal frames of a dynamic exam by number, in order."""
        fit = {file.frame: file for file in self.files if file.frame is not None and file.is_fit}
        return {number: fit[number] for number in sorted(fit)}


def exam_in_memory(views: Mapping[str, FloatArray], name: str = "array") -> NewExam:
    """An exam of matrices in degC by view, (H, W), or (T, H, W) for the frames of a dynamic one; of no known format."""
    files = []
    for view, celsius in views.items():
        source = SourceFile("binary", Path("in memory") / view, PurePosixPath(view))
        frames = [(None, celsius)] if celsius.ndim == 2 else list(enumerate(celsius))
        files += [NewFile(source, view, number, celsius=frame) for number, frame in frames]
    return NewExam(name, files)


@dataclass(frozen=True)
class Gathered:
    """The exams that were found, how the paths were read (a plan a folder), and what else is to be said."""

    exams: list[NewExam]
    plans: tuple[ReadingPlan, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """How the paths were read, in words."""
        return [*self.notes, *(line for plan in self.plans for line in plan.lines())]


def gather_exams(
    paths: Sequence[Path], run_views: Sequence[str], section: ImportSection, wanted: Wanted = "temperatures"
) -> Gathered:
    """The exams at ``paths``: files, the files of one exam, folders of many; what ``import`` takes, read as it reads.

    Names of the DMR grammar tell patient and visit. Of others the patient is who ``import`` would say; where that
    puts two pictures of a view into one exam, or cannot be told, each folder is an exam. Raises DataError where there
    is nothing to read, ConfigError where names can be read in two ways.
    """
    exams: list[NewExam] = []
    plans, notes = [], []
    for root, only in _roots(paths):
        given = section.model_copy(update={"folder": str(root), "labels": None, "dates": ()})
        sources, left_out, own = _sources(given, only, wanted)
        relatives = [each.relative for each in sources]
        groups = _group(relatives, given, root.name if only is None else None)
        notes += own
        facts = {each.relative: _content(each, given, wanted) for each in sources}
        found = [_exam(name, members, {each.relative: each for each in sources}) for name, members in groups.items()]
        alone = all(len(exam.files) == 1 for exam in found)
        for exam, members in zip(found, groups.values(), strict=True):
            for file, identity in zip(exam.files, members.values(), strict=True):
                _view_of(file, identity, run_views if alone else ())
                content = facts[file.source.relative]
                file.layout = content.facts.layout if content.facts is not None else ""
                if content.problem:
                    file.reject("unreadable", content.problem)
        plans.append(_plan(root, given, found, facts, left_out))
        exams += found
    twice = {name for name, count in Counter(exam.name for exam in exams).items() if count > 1}
    for exam in exams:
        if exam.name in twice:
            exam.name = (exam.files[0].path.parent / exam.name).as_posix()
    return Gathered(sorted(exams, key=lambda exam: natural_order(PurePosixPath(exam.name))), tuple(plans), tuple(notes))


# --- which files ------------------------------------------------------------------------------------------------------


def _roots(paths: Sequence[Path]) -> Iterator[tuple[Path, list[Path] | None]]:
    """Folders to walk through, and folders of which certain files were named."""
    files: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file or folder", where=path, hint="name a file or a folder of exams")
        if path.is_dir():
            yield path, None
        else:
            files[path.parent].append(path)
    yield from files.items()


def _sources(
    section: ImportSection, only: list[Path] | None, wanted: Wanted
) -> tuple[list[SourceFile], Mapping[str, Sequence[str]], list[str]]:
    """The files to read, those left out by reason, and remarks. Pictures and films only where the run reads such."""
    root = Path(section.folder or ".")
    if wanted == "films":
        films = _files_of(root, only, SUFFIXES["video"], "video")
        if films:
            return films, {}, []
    pictures = _files_of(root, only, SUFFIXES["image"], "image") if wanted == "pictures" else []
    try:
        found = find_sources(section, (), only)
    except ConfigError as error:
        if pictures:
            return pictures, {}, []
        if error.where != "import.range":
            raise
        raise DataError(
            "this is a picture without temperatures, and the run reads temperatures", where=(only or [root])[0],
            expected="a matrix, or a picture that holds temperatures (radiometric JPEG, 16-bit or float TIFF)",
            found=error.found,
            hint="where grey levels are temperatures, say which: --set 'import.range={low: 18, high: 38}'",
        ) from error  # fmt: skip
    except DataError as error:
        if pictures:
            return pictures, {}, []
        raise DataError(
            "there is no matrix here", where=(only or [root])[0], expected=error.expected, found=error.found,
            hint="a run from films reads .avi files, one from pictures .png and .jpg" if wanted != "temperatures"
            else None,
        ) from error  # fmt: skip
    taken = {each.path for each in found.sources}
    more = [each for each in pictures if each.path not in taken]
    sources = sorted([*found.sources, *more], key=lambda each: natural_order(each.relative))
    return sources, found.left_out, [] if more else found.notes


def _files_of(
    root: Path, only: Sequence[Path] | None, suffixes: Sequence[str], kind: Literal["image", "video"]
) -> list[SourceFile]:
    inside = sorted(root.rglob("*")) if only is None else only
    fit = [
        path
        for path in inside
        if path.is_file() and path.suffix.lower() in suffixes and not any(map(is_junk, path.relative_to(root).parts))
    ]
    return [SourceFile(kind, path, PurePosixPath(path.relative_to(root).as_posix())) for path in fit]


# --- which files are one exam -----------------------------------------------------------------------------------------

Members = dict[PurePosixPath, FileIdentity | str]
_BY_FOLDER = r"^(exam.*)/[^/]+$"


def _group(relatives: Sequence[PurePosixPath], section: ImportSection, root: str | None) -> dict[str, Members]:
    """Files by exam, in order; ``root`` names the exam of files that lie in no folder (None: their own names do)."""
    try:
        by_patient = dict(read_names(relatives, section)[0].identities)
        unclear = None
    except ConfigError as error:
        if error.where != "import.id_pattern" or section.id_pattern is not None:
            raise
        by_patient, unclear = {}, error
    inside = [PurePosixPath("exam") / each for each in relatives]
    of_folders = read_names(inside, section.model_copy(update={"id_pattern": _BY_FOLDER}))[0].identities
    by_folder = dict(zip(relatives, of_folders.values(), strict=True))
    if by_patient:  # names without a number have a view all the same
        told = {each: by_folder[each] if isinstance(name, str) else name for each, name in by_patient.items()}
        groups = _groups(told, lambda each: _patient_of(by_patient[each], each), root)
        if _is_sound(groups):
            return groups
    folders = _groups(by_folder, lambda each: None, root)
    if _is_sound(folders):
        known = {each: by_patient.get(each, name) for each, name in by_folder.items()}
        return {
            name: {each: known[each] if isinstance(known[each], FileIdentity) else members[each] for each in members}
            for name, members in folders.items()
        }
    if unclear is not None:
        raise unclear
    return groups


def _patient_of(identity: FileIdentity | str, relative: PurePosixPath) -> tuple[PatientKey, str] | None:
    """Whose the file is, and of which visit or day; None where the name does not tell."""
    if isinstance(identity, str):
        return None
    return identity.key, str(identity.visit or identity.date or "")


def _groups(
    told: Mapping[PurePosixPath, FileIdentity | str],
    patient: Callable[[PurePosixPath], tuple[PatientKey, str] | None],
    root: str | None,
) -> dict[str, Members]:
    members: defaultdict[tuple[object, ...], Members] = defaultdict(dict)
    for relative, identity in told.items():
        whose = patient(relative)
        place: tuple[object, ...] = ("patient", *whose) if whose else ("folder", relative.parent)
        if whose is None and root is None and relative.parent == PurePosixPath():
            place = ("file", relative.stem)
        members[place][relative] = identity
    folders = {place: {each.parent for each in group} for place, group in members.items()}
    shared = Counter(folder for inside in folders.values() for folder in inside)
    visits = Counter(place[:2] for place in members)
    named: dict[str, Members] = {}
    for place, group in members.items():
        first, (folder, *more) = next(iter(group)), sorted(folders[place])
        parsed, study = parse_name(f"{first.stem}.txt"), STUDY_NAME.fullmatch(first.stem)
        if parsed is not None:
            name = parsed.exam
        elif study is not None:
            name = f"{study[1]}_{study[2]}"
        elif len(group) == 1 and root is None:
            name = first.stem
        elif not more and shared[folder] == 1 and (folder != PurePosixPath() or root):
            name = folder.as_posix() if folder != PurePosixPath() else str(root)
        else:
            name = str(place[1]) + (f" {place[2]}" if len(place) > 2 and place[2] and visits[place[:2]] > 1 else "")
        while name in named and named[name] is not group:
            name += "'"
        named[safe_name(name)] = group
    return named


def _is_sound(groups: Mapping[str, Members]) -> bool:
    """Does no exam hold two static pictures of one view?"""
    for members in groups.values():
        views = Counter(each.view for each in members.values() if isinstance(each, FileIdentity) and _is_static(each))
        if any(count > 1 for view, count in views.items() if view):
            return False
    return True


def _is_static(identity: FileIdentity) -> bool:
    return identity.protocol == "S"


def _exam(name: str, members: Members, sources: Mapping[PurePosixPath, SourceFile]) -> NewExam:
    known = [each for each in members.values() if isinstance(each, FileIdentity)]
    numbers = {each.key for each in known if isinstance(each.key, int)}
    visits = {each.visit for each in known if each.visit}
    exam = NewExam(name, [], numbers.pop() if len(numbers) == 1 else 0, visits.pop() if len(visits) == 1 else 0)
    frames = iter(range(len(members)))
    for relative, identity in members.items():
        file = NewFile(sources[relative], None)
        if isinstance(identity, FileIdentity):
            file.view, file.date = identity.view, identity.date
            if not _is_static(identity):
                file.frame = next(frames) if identity.index is None else identity.index
        exam.files.append(file)
    return exam


def _view_of(file: NewFile, identity: FileIdentity | str, one_view: Sequence[str]) -> None:
    """Say where the view comes from; a run of one view takes files that stand alone and do not tell theirs."""
    if file.view is not None:
        return
    problem = "" if isinstance(identity, str) else identity.problem
    if problem:
        file.notes.append(f"the view in this name is not one of ours: {problem}; say it with --view-map")
    elif len(one_view) == 1:
        file.view = one_view[0]
        file.notes.append(f"the name does not tell the view; taken for {one_view[0]}")
    else:
        file.notes.append("the name does not tell the view; say it with --view or --view-map")


def _content(source: SourceFile, section: ImportSection, wanted: Wanted) -> Content:
    """What a file holds, as far as the plan tells it."""
    sha256 = hash_file(source.path)
    if (source.kind == "video" and wanted == "films") or (source.kind == "image" and section.range is None):
        return Content(source, sha256, "", Facts("film" if source.kind == "video" else "picture", (0, 0), 0, 0))
    try:
        return Content(source, sha256, source.recipe(section), inspect(source, section))
    except DataError as error:
        return Content(source, sha256, "", None, error.what + (f", found {error.found}" if error.found else ""))


def _plan(
    root: Path, section: ImportSection, exams: Sequence[NewExam], contents: Mapping[PurePosixPath, Content],
    left_out: Mapping[str, Sequence[str]],
) -> ReadingPlan:  # fmt: skip
    """The reading plan of import for these files; labels are none of ``predict``'s business."""
    placed = []
    for exam in exams:
        for file in exam.files:
            content = contents[file.source.relative]
            record = Record(
                "", exam.patient, exam.visit or 1, file.view or "unknown", "S" if file.frame is None else "D",
                file.date, file.frame or 0, "unknown", layout=file.layout, source=STAGE,
                status="failed" if content.problem else "ok", reason=content.problem,
                extra={"original": safe_name(file.source.relative)}
                | (content.facts.as_extra() if content.facts is not None else {}),
            )  # fmt: skip
            placed.append(Placed(content, [record]))
    names, _ = read_names(
        [PurePosixPath("exam") / each for each in contents], section.model_copy(update={"id_pattern": _BY_FOLDER})
    )
    dates = ExamDates(section, lambda text: set())
    plan = ReadingPlan.of(root.name, section, placed, names, None, lambda path: None, dates, left_out)
    grouped = ", ".join(exam.name for exam in exams[:5]) + (", ..." if len(exams) > 5 else "")
    return replace(
        plan,
        patient=(f"{len(exams)} exams ({grouped})",),
        patients=len(exams),
        label=("label: none is read",),
        exams={},
    )
