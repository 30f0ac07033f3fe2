"""``import DIR``: bring a folder somebody already has into ``raw/`` and the catalog."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from thermocancer.config import Config
from thermocancer.config.sources import ImportSection
from thermocancer.data.catalog import Record, check_labels, read_catalog, replace_source
from thermocancer.data.folder.dates import ExamDates, date_files
from thermocancer.data.folder.decide import STAGE, Cohorts, Content, Placed, label_counts, merge, place_files
from thermocancer.data.folder.files import Facts, SourceFile, check_shape, find_sources, inspect, make
from thermocancer.data.folder.labels import Labels, id_columns, label_of_paths
from thermocancer.data.folder.names import FileIdentity, keys_in, read_names
from thermocancer.data.folder.plan import ReadingPlan
from thermocancer.data.folder.sites import unfold_sites
from thermocancer.data.folder.tables import read_table
from thermocancer.data.names import LEFT_OUT, safe_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, write_json
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress, Silent, Task
from thermocancer.thermal.units import option_of
from thermocancer.workspace import Workspace

_THREADS = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class _Work:
    """Everything decided about a folder, before anything is written."""

    placed: list[Placed]
    cohorts: Cohorts
    todo: list[Placed]
    read_as: ReadingPlan
    notes: list[str]

    @property
    def records(self) -> list[Record]:
        return [record for each in self.placed for record in each.records]

    @property
    def usable(self) -> list[Record]:
        return [record for record in self.records if record.status == "ok"]

    @property
    def figures(self) -> dict[str, object]:
        return {"read_as": self.read_as.as_dict()}


def plan(config: Config, workspace: Workspace) -> Plan:
    """Say how the folder is read and where every file would go; touches nothing. Raises as ``run`` does."""
    work = _survey(config, workspace, workspace.hashes(), Silent())
    if not work.usable:
        raise _nothing_imported(work.placed, config.import_)
    todo = [f"{safe_name(each.source.relative)} -> {record.path}" for each in work.todo for record in each.records]
    failed = [f"{safe_name(each.source.relative)}: {each.problem}" for each in work.placed if each.problem]
    current = len(work.placed) - len(work.todo) - len(failed)
    return Plan("import", tuple(todo), current, (*work.notes, *failed), work.figures, 5 if failed else 0)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Link, copy or convert every file that has a place, then write the catalog and how the folder was read.

    Raises ConfigError for a folder, labels file, column or date file that is not there and for whatever can be
    read in two ways, DataError for an exam with two labels, and when not one file could be imported.
    """
    hashes = workspace.hashes()
    work = _survey(config, workspace, hashes, progress)
    _write(work, config.import_, workspace, progress)
    if not (usable := work.usable):
        raise _nothing_imported(work.placed, config.import_)
    previous, merged = work.cohorts.previous, merge(work.cohorts, work.records)
    gone = {each.path for each in previous if each.path} - {each.path for each in merged}
    for path in gone:  # before the catalog: a run killed here finds them missing, and drops them again
        (workspace.raw / path).unlink(missing_ok=True)
    before, after = (
        sorted(records, key=lambda each: (each.path, str(each.extra.get("original")), str(each.extra.get("folder"))))
        for records in (previous, merged)
    )
    changed = before != after
    if changed:
        replace_source(workspace, STAGE, merged)
    write_json(workspace.raw / f"read-as-{work.cohorts.name}.json", work.read_as.as_dict())
    hashes.save()
    made = sum(len(each.records) for each in work.todo if not each.problem)
    report = StageReport("import", made=made or int(changed), current=len(usable) - made, notes=work.notes)
    report.failed = [Failure(safe_name(each.source.relative), each.problem) for each in work.placed if each.problem]
    report.figures = {"matrices": len(usable), "patients": len({each.patient for each in usable})}
    report.figures |= {f"exams_{label}": count for label, count in label_counts(usable).items()}
    report.figures |= {"dated": sum(each.date is not None for each in usable)}
    report.figures |= {f"layout_{name}": count for name, count in sorted(Counter(r.layout for r in usable).items())}
    report.figures |= work.figures
    if report.made:
        report.outputs = [str(workspace.catalog)]
    return report


def _nothing_imported(placed: Sequence[Placed], section: ImportSection) -> DataError:
    """What is wrong with most files, each kind of fault counted once, with an example and what to do."""
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for each in placed:
        kinds[each.problem.partition(", found ")[0]].append(each.problem)
    kind, problems = max(kinds.items(), key=lambda each: len(each[1]), default=("", ["every file is left out"]))
    hint = "see the options --labels, --id-pattern and --view of: thermocancer import --help"
    if unit := option_of(kind):
        hint = f"{unit}, and the numbers are converted; --unit C takes them as they are"
        hint = "--unit C, or leave --unit out" if unit == "--unit C" else hint
    elif any(
        what in kind
        for what in ("only one number", "separators or decimal", "have no names", "holds one number", "unequal length")
    ):
        hint = "--shape ROWSxCOLUMNS says how the lines are to be read"
    elif ", line " in kind:
        hint = "mend these lines, or export the files again"
    elif "holds several frames" in kind:
        hint = "--protocol D where they are frames of a dynamic exam; --set import.part=0 takes the first of each file"
    elif "not hold one matrix" in kind or "holds no matrix" in kind:
        hint = "--set import.part=NAME chooses one by its name"
    return DataError(
        "not one file of this folder could be imported", where=section.folder,
        expected="matrices with a patient, a view and a label",
        found=f"{len(problems)} of {len(placed)} files: {problems[0]}", hint=hint,
    )  # fmt: skip


def _survey(config: Config, workspace: Workspace, hashes: HashIndex, progress: Progress) -> _Work:
    """Read tables, names and files, and decide; nothing is written."""
    section = config.import_
    tables = [Path(section.labels)] if section.labels else []
    found = find_sources(section, [workspace.root, *tables, *date_files(section)])
    catalog = read_catalog(workspace) if workspace.catalog.exists() else []
    previous = [each for each in catalog if each.source == STAGE]
    relatives = [each.relative for each in found.sources]
    label_of = label_of_paths(relatives, section)
    if tables:
        table, asked = unfold_sites(read_table(tables[0], "import.labels"), section)
        names, ids = read_names(relatives, section, id_columns(table, asked))
        if ids is None:
            raise ConfigError(
                "no column of the labels file can name the patient", where="import.id_column",
                expected="a column of ids and one of labels", found=f"the columns {', '.join(table.columns)}",
            )  # fmt: skip
        labels = Labels(table, ids, asked)
    else:
        names, _ = read_names(relatives, section, (), label_of)
        labels = None
    identities = [each for each in names.identities.values() if isinstance(each, FileIdentity)]
    known = {each.key for each in identities}
    dates = ExamDates(section, lambda text: keys_in(text, known, section))
    for relative, identity in names.identities.items():
        if isinstance(identity, FileIdentity) and (why := _why_left_out(identity, labels)):
            found.left_out.setdefault(why, []).append(safe_name(relative))
            found.sources = [each for each in found.sources if each.relative != relative]
    left_out = [name for names in found.left_out.values() for name in names]
    cohorts = Cohorts.of(section, catalog, hashes.of(tables[0]) if tables else "", left_out)
    contents = _read_all(found.sources, section, previous, hashes, progress)
    placed = place_files(contents, names, section, labels, label_of, dates, cohorts)
    records = [record for each in placed for record in each.records]
    said = f"in {safe_name(tables[0])}" if tables else "by the names of folders and files (or give --labels FILE)"
    check_labels([*(each for each in catalog if each.source != STAGE), *merge(cohorts, records)], said)
    standing = {each.path: each for each in previous if each.path}
    todo = [each for each in placed if not each.problem and not _adopt(each, standing, workspace, hashes)]
    read_as = ReadingPlan.of(cohorts.name, section, placed, names, labels, label_of, dates, found.left_out)
    return _Work(placed, cohorts, todo, read_as, [*found.notes, *read_as.lines()])


def _why_left_out(identity: FileIdentity, labels: Labels | None) -> str:
    """Why a file is not taken by what was asked for; empty where it is."""
    if identity.problem == LEFT_OUT:
        return LEFT_OUT
    if labels is not None and labels.sites and not identity.problem and labels.site_of(identity) is None:
        names = ", ".join(each.name for each in labels.sites)
        return f"it shows no single one of {names}, and each of these has a label of its own"
    return ""


def _adopt(each: Placed, standing: Mapping[str, Record], workspace: Workspace, hashes: HashIndex) -> bool:
    """Take over what an earlier import wrote for the same content at the same place; False if anything differs."""
    adopted = []
    for record in each.records:
        old, path = standing.get(record.path), workspace.raw / record.path
        if old is None or any(old.extra.get(key) != record.extra.get(key) for key in ("original_sha256", "recipe")):
            return False
        if not path.is_file() or hashes.of(path) != old.sha256:
            return False
        adopted.append(replace(record, sha256=old.sha256, bytes=old.bytes))
    each.records = adopted
    return True


def _read_all(
    sources: Sequence[SourceFile],
    section: ImportSection,
    previous: Sequence[Record],
    hashes: HashIndex,
    progress: Progress,
) -> list[Content]:
    """Read every file once; what an earlier import found out about the same content is not read again."""
    known: defaultdict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in previous:
        if record.status == "ok":
            file = [record.extra.get(key) for key in ("original", "cohort", "folder")]
            known[record.extra.get("original_sha256"), record.extra.get("recipe", ""), *file].append(record)
    by_content = {key[:2]: records for key, records in known.items()}
    asked = [(source, source.sha256(hashes), source.recipe(section)) for source in sources]

    def read(item: tuple[SourceFile, str, str]) -> Content:
        source, sha256, recipe = item
        try:
            earlier = by_content.get((sha256, recipe))
            if earlier and source.is_described_by(earlier[0].extra):  # the catalog knows it
                first, extra = earlier[0], earlier[0].extra
                height, width = extra["shape"]
                count = sum(each.extra.get("original") == extra.get("original") for each in earlier)
                notes = tuple(extra.get("notes", ()))
                encoding = str(extra.get("encoding", ""))
                missing = int(extra.get("missing_pixels", 0))
                facts = Facts(
                    first.layout, (height, width), extra["low"], extra["high"], notes, count, encoding, missing
                )
            else:
                facts = inspect(source, section)
            check_shape(facts, source, section)
        except DataError as error:
            return Content(source, sha256, recipe, None, _in_one_line(error, source))
        return Content(source, sha256, recipe, facts)

    with progress.task("reading", len(asked), "files") as task:
        return list(_in_threads(read, asked, task))


def _write(work: _Work, section: ImportSection, workspace: Workspace, progress: Progress) -> None:
    """Write what is missing; a file that fails only now keeps its place in the catalog, with the reason."""
    keep = {record.path for record in work.cohorts.previous}

    def write(each: Placed) -> list[tuple[str, int]] | DataError:
        targets = [workspace.raw / record.path for record in each.records]
        try:
            return make(each.source, section, targets)
        except DataError as error:
            for target, record in zip(targets, each.records, strict=True):
                if record.path not in keep:
                    target.unlink(missing_ok=True)
            return error

    with progress.task("import", len(work.todo), "files") as task:
        for each, made in zip(work.todo, _in_threads(write, work.todo, task), strict=True):
            if isinstance(made, DataError):
                reason = _in_one_line(made, each.source)
                each.records = [replace(each.records[0], path="", status="failed", reason=reason)]
            else:
                each.records = [
                    replace(record, sha256=sha256, bytes=size)
                    for record, (sha256, size) in zip(each.records, made, strict=True)
                ]


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item], task: Task) -> Iterator[Result]:
    """``work`` on every item in a few threads (NumPy, OpenCV and the disk release the interpreter), in order."""
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for result in pool.map(work, items):
            task.advance()
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_one_line(error: DataError, source: SourceFile) -> str:
    """An error for the list of failed files: what is wrong, in which line, what was found."""
    line = (error.where or "").removeprefix(str(source.path)).strip(":")
    parts = [error.what]
    parts += [f"line {line}"] if line and line[0].isdigit() else []
    parts += [f"expected {error.expected}"] if error.expected else []
    parts += [f"found {error.found}"] if error.found else []
    return ", ".join(parts)
