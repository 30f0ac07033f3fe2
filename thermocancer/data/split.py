"""The one patient-wise split and the folds of cross-validation.

``split.json`` is made once and never moves a patient: patients who arrive later are added, so that
a test patient of last month is never a training patient of today. It is by patient whatever the
protocol; the original study's own split (by file, ``protocol: thesis``) exists only as a fold, and
``thesis_leaks`` says what is wrong with it.

A group is what may never be divided: all exams of a patient, and all patients who share an
identical image (the same content under two names) or one that looks nearly so. A stratum is a group's class and its
acquisition layout; a group counts as sick when any of its exams is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import Exam, IntArray
from thermocancer.data.names import ThermogramName, view_code
from thermocancer.errors import DataError
from thermocancer.files import Json, read_json_as, write_json
from thermocancer.workspace import LABELS

THESIS_SEED = 1  # the original study shuffles its file list with this seed, whatever the config says
_SPLIT_KEY, _OUTER_KEY, _INNER_KEY = 101, 102, 103  # independent random streams of one seed


# --- Who belongs together ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Patients who stay together: their numbers, class (0 healthy, 1 any exam sick) and layout."""

    patients: tuple[int, ...]
    label: int
    layout: str


def group_patients(exams: Iterable[Exam]) -> list[Group]:
    """The groups of all patients, in the order of their lowest patient number.

    The layout of a group is the most frequent one of its exams (the first by name on a tie).
    """
    members: dict[int, list[Exam]] = {}
    owner: dict[str, int] = {}  # of each image: the first patient who has it
    leader: dict[int, int] = {}  # patients of one group lead, one through the other, to its lowest number

    def lead(patient: int) -> int:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    for exam in sorted(exams, key=lambda each: (each.patient, each.visit)):
        members.setdefault(exam.patient, []).append(exam)
        leader.setdefault(exam.patient, exam.patient)
        for _, digest in exam.hashes:
            low, high = sorted((lead(exam.patient), lead(owner.setdefault(digest, exam.patient))))
            leader[high] = low
    gathered: dict[int, list[int]] = {}
    for patient in sorted(members):
        gathered.setdefault(lead(patient), []).append(patient)
    groups = []
    for _, patients in sorted(gathered.items()):
        together = [exam for patient in patients for exam in members[patient]]
        layouts = Counter(exam.layout for exam in together)
        layout = min(layouts, key=lambda name: (-layouts[name], name))
        groups.append(Group(tuple(patients), max(exam.label for exam in together), layout))
    return groups


def _strata(groups: Sequence[Group], minimum: int = 1) -> list[tuple[int, str]]:
    """For each group its (label, layout); a layout with fewer than ``minimum`` groups joins the class's largest."""
    counts = Counter((group.label, group.layout) for group in groups)
    largest = {
        label: min((key for key in counts if key[0] == label), key=lambda key: (-counts[key], key[1]))
        for label in {group.label for group in groups}
    }
    keys = ((group.label, group.layout) for group in groups)
    return [key if counts[key] >= minimum else largest[key[0]] for key in keys]


def _check_enough(groups: Sequence[Group], needed: int, purpose: str, hint: str) -> None:
    """Raise DataError when either class has fewer than ``needed`` groups."""
    counts = Counter(group.label for group in groups)
    if all(counts[label] >= needed for label in range(len(LABELS))):
        return
    scarce = min(range(len(LABELS)), key=lambda label: counts[label])
    raise DataError(
        f"too few {LABELS[scarce]} patients for {purpose}",
        expected=f"at least {needed} patients of each class (patients with an identical image count once)",
        found=", ".join(f"{counts[label]} {name}" for label, name in enumerate(LABELS)), hint=hint,
    )  # fmt: skip


def shared_between(exams: Sequence[Exam], train: IntArray, test: IntArray) -> tuple[list[int], list[tuple[str, str]]]:
    """What stands on both sides: patients, and pairs of exams with an identical image."""
    both = {exams[row].patient for row in train} & {exams[row].patient for row in test}
    seen = {digest: exams[row].key for row in train for _, digest in exams[row].hashes}
    twins = {
        (seen[digest], exams[row].key)
        for row in test
        for _, digest in exams[row].hashes
        if digest in seen and seen[digest] != exams[row].key
    }
    return sorted(both), sorted(twins)


# --- split.json -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Training and test patients, each in ascending order."""

    seed: int
    protocol: str
    train: tuple[int, ...]
    test: tuple[int, ...]

    def rows(self, exams: Sequence[Exam], part: str) -> IntArray:
        """Positions in ``exams`` of the patients of one part, ``train`` or ``test``.

        Raises DataError when ``exams`` has a patient whom the split does not know.
        """
        unknown = {exam.patient for exam in exams} - set(self.train) - set(self.test)
        if unknown:
            raise DataError(
                "the split does not know every patient of the data set", where="split.json",
                found=f"{len(unknown)} unknown, such as patient {min(unknown)}",
                hint="run build-dataset again; it adds new patients and moves none",
            )  # fmt: skip
        wanted = set(self.train if part == "train" else self.test)
        return np.array([row for row, exam in enumerate(exams) if exam.patient in wanted], dtype=np.int64)

    def write(self, path: Path) -> None:
        """Write ``split.json``, whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read ``split.json``. Raises DataError when it is missing, broken or has a patient on both sides."""
        if not path.exists():
            raise DataError("there is no split yet", where=path, hint="make it with: thermocancer build-dataset")
        split = read_json_as(path, cls._of, "this is not a split", expected="the keys seed, protocol, train and test")
        both = set(split.train) & set(split.test)
        if both:
            raise DataError("the split has a patient on both sides", where=path, found=f"patients {sorted(both)[:5]}")
        return split

    @classmethod
    def _of(cls, content: Json) -> Split:
        train, test = (tuple(sorted(int(patient) for patient in content[part])) for part in ("train", "test"))
        return cls(int(content["seed"]), str(content["protocol"]), train, test)


def make_split(exams: Sequence[Exam], config: SplitSection, seed: int, known: Split | None = None) -> Split:
    """Divide the patients, stratified by label and acquisition layout.

    With ``known``, its patients stay where they are and only new ones are placed, so that the test
    part approaches ``split.test_fraction`` in each stratum. Patients who share an identical image
    stay together. Raises DataError when a class has fewer than two patients, or when a new image
    ties two known patients of different sides together.
    """
    groups = group_patients(exams)
    hint = "add patients of that class, or check the labels with filter"
    _check_enough(groups, 2, "a split into training and test", hint)
    parts = {"train": set(known.train if known else ()), "test": set(known.test if known else ())}
    sides: list[str | None] = []
    for group in groups:
        in_train, in_test = (sorted(set(group.patients) & part) for part in parts.values())
        if in_train and in_test:
            raise DataError(
                "an identical image belongs to a training patient and to a test patient", where="split.json",
                found=f"patients {in_train[:3]} (train) and {in_test[:3]} (test)",
                hint="find the wrong copy in filter.csv and remove it, or make a new split: delete split.json",
            )  # fmt: skip
        sides.append("train" if in_train else "test" if in_test else None)
    for label in (0, 1):
        _place(groups, sides, label, config.test_fraction, seed)
    for group, side in zip(groups, sides, strict=True):
        if side is not None:
            parts[side] |= set(group.patients)
    seed, protocol = (seed, config.protocol) if known is None else (known.seed, known.protocol)
    return Split(seed, protocol, tuple(sorted(parts["train"])), tuple(sorted(parts["test"])))


def _place(groups: Sequence[Group], sides: list[str | None], label: int, fraction: float, seed: int) -> None:
    """Give every unplaced group of one class a side; quotas by largest remainder over the layouts."""
    keys = _strata(groups)
    own = [position for position, group in enumerate(groups) if group.label == label]
    free = [position for position in own if sides[position] is None]
    placed = Counter(keys[position] for position in own if sides[position] == "test")
    wanted = min(max(round(fraction * len(own)), 1), len(own) - 1) - sum(placed.values())
    size = Counter(keys[position] for position in own)
    lacking = {key: fraction * size[key] - placed[key] for key in sorted(size)}
    room = Counter(keys[position] for position in free)
    quota = {key: min(max(math.floor(value), 0), room[key]) for key, value in lacking.items()}
    for _ in range(max(wanted - sum(quota.values()), 0)):
        open_keys = [key for key in quota if quota[key] < room[key]]
        if not open_keys:
            break
        quota[max(open_keys, key=lambda key: lacking[key] - quota[key])] += 1
    for number, key in enumerate(quota):
        members = [position for position in free if keys[position] == key]
        order = np.random.default_rng([seed, _SPLIT_KEY, label, number]).permutation(len(members))
        for rank, index in enumerate(order):
            sides[members[index]] = "test" if rank < quota[key] else "train"


# --- Folds ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of a data set: positions of its training and test exams.

    ``name`` is ``REPEAT.FOLD`` (from 1) in cross-validation, ``test`` in a hold-out.
    """

    name: str
    train: IntArray
    test: IntArray


def outer_folds(exams: Sequence[Exam], split: Split, config: SplitSection, seed: int) -> list[Fold]:
    """The folds on which every model of a data set is judged, encoders included.

    ``grouped-cv``: repeated stratified grouped k-fold over all patients; every exam is tested once a
    repeat. ``holdout``: one fold from ``split``. ``thesis``: one fold by file, as in the original
    study (leaky). Raises DataError when there are too few patients, or a sound fold would leak.
    """
    rows = np.arange(len(exams), dtype=np.int64)
    if config.protocol == "thesis":
        return [thesis_fold(exams, config.test_fraction, config.order)]
    if config.protocol == "holdout":
        folds = [Fold("test", split.rows(exams, "train"), split.rows(exams, "test"))]
    else:
        folds = [
            Fold(f"{repeat}.{number}", train, test)
            for repeat in range(1, config.repeats + 1)
            for number, (train, test) in enumerate(
                _grouped_folds(exams, rows, config.folds, (seed, _OUTER_KEY, repeat), "split.folds"), start=1
            )
        ]
    for fold in folds:
        check_disjoint(exams, fold)
    return folds


def inner_folds(exams: Sequence[Exam], rows: IntArray, n: int, seed: int) -> list[Fold]:
    """Grouped stratified folds inside ``rows`` (an outer training part), named ``1`` to ``n``.

    Raises DataError when a class has fewer than ``n`` patients there.
    """
    parts = _grouped_folds(exams, np.asarray(rows, dtype=np.int64), n, (seed, _INNER_KEY), "split.inner_folds")
    return [Fold(str(number), train, test) for number, (train, test) in enumerate(parts, start=1)]


def _grouped_folds(
    exams: Sequence[Exam], rows: IntArray, n: int, key: tuple[int, ...], setting: str
) -> list[tuple[IntArray, IntArray]]:
    """scikit-learn's StratifiedGroupKFold over patients; both classes in every test part."""
    from sklearn.model_selection import StratifiedGroupKFold

    chosen = [exams[row] for row in rows]
    groups = group_patients(chosen)
    counts = Counter(group.label for group in groups)
    most = min(counts[0], counts[1])
    hint = f"set {setting} to {most} or lower" if most >= 2 else "add patients of that class"
    _check_enough(groups, n, f"{n} folds", hint)
    number_of = {patient: number for number, group in enumerate(groups) for patient in group.patients}
    numbers = np.array([number_of[exam.patient] for exam in chosen], dtype=np.int64)
    names = _strata(groups, minimum=n)
    codes = {name: code for code, name in enumerate(sorted(set(names)))}
    classes = np.array([codes[names[number]] for number in numbers])
    labels = np.array([groups[number].label for number in numbers])
    for attempt in range(100):
        state = int(np.random.default_rng([*key, attempt]).integers(2**31))
        folds = StratifiedGroupKFold(n_splits=n, shuffle=True, random_state=state).split(classes, classes, numbers)
        parts = [(rows[train], rows[test]) for train, test in folds if len(set(labels[test])) == 2]
        if len(parts) == n:
            return parts
    raise DataError(f"no {n} folds with both classes in each were found", found=f"{len(groups)} patients", hint=hint)


def dynamic_folds(
    exams: Sequence[Exam], static: Sequence[Exam] | None, split: Split, config: SplitSection, seed: int
) -> list[Fold]:
    """The folds of dynamic ``exams``; in cross-validation every patient stands where their static exams do.

    The encoders that read dynamic frames are trained inside the folds of the static exams, and late
    fusion combines scores of both: a patient must be held out in the same fold of both. Patients without
    static exams fill up the folds, each joining that with the fewest dynamic patients of their class.
    Without static exams at all, and for other protocols, these are ``outer_folds``.
    """
    if static is None or config.protocol != "grouped-cv":
        return outer_folds(exams, split, config, seed)
    label: dict[int, int] = {}
    for exam in exams:
        label[exam.patient] = max(exam.label, label.get(exam.patient, 0))
    repeats: dict[str, list[Fold]] = {}
    for fold in outer_folds(static, split, config, seed):
        repeats.setdefault(fold.name.partition(".")[0], []).append(fold)
    folds = []
    for known in repeats.values():
        place = {static[row].patient: number for number, fold in enumerate(known) for row in fold.test}
        counts = Counter((place[patient], each) for patient, each in label.items() if patient in place)
        for patient in sorted(set(label) - set(place)):
            own = label[patient]
            place[patient] = min(range(len(known)), key=lambda number: (counts[number, own], number))
            counts[place[patient], own] += 1
        numbers = np.array([place[exam.patient] for exam in exams])
        folds += [
            Fold(fold.name, np.flatnonzero(numbers != number), np.flatnonzero(numbers == number))
            for number, fold in enumerate(known)
        ]
    return folds


def restrict(folds: Sequence[Fold], rows: IntArray) -> list[Fold]:
    """The same folds with some exams only."""
    return [Fold(fold.name, np.intersect1d(fold.train, rows), np.intersect1d(fold.test, rows)) for fold in folds]


def thesis_fold(
    exams: Sequence[Exam], test_fraction: float, order: Literal["filtered", "unfiltered"], view: str = "Frontal"
) -> Fold:
    """The original study's division: the list of class folders' files, shuffled, its last part for testing.

    That is what Keras' ``image_dataset_from_directory(validation_split, seed)`` does with the class folders of one
    view: in the filtered ones files are named ``image_PATIENT_VISIT``, in the unfiltered ones as on the site, and
    the order of the names before the shuffle decides where each ends. Raises DataError for fewer than 4 exams.
    """

    def name(exam: Exam) -> str:
        if order == "filtered":
            return f"image_{exam.key}."
        return ThermogramName(exam.patient, exam.visit, view_code(view), "S", exam.date, 0).file_name

    listed = sorted(range(len(exams)), key=lambda row: (exams[row].label, name(exams[row])))
    np.random.RandomState(THESIS_SEED).shuffle(listed)
    held_out = int(test_fraction * len(listed))
    if not 0 < held_out < len(listed):
        raise DataError("too few exams for a split", expected="at least 4", found=len(listed))
    train, test = (np.array(sorted(part), dtype=np.int64) for part in (listed[:-held_out], listed[-held_out:]))
    return Fold("test", train, test)


def check_disjoint(exams: Sequence[Exam], fold: Fold) -> None:
    """Raise DataError when a patient, or an identical image, stands on both sides of a fold."""
    patients, twins = shared_between(exams, fold.train, fold.test)
    if patients:
        found = f"patients {patients[:5]}"
        raise DataError("a patient is on both sides of a fold", where=f"fold {fold.name}", found=found)
    if twins:
        raise DataError(
            "an identical image is on both sides of a fold", where=f"fold {fold.name}",
            found=f"exams {' and '.join(twins[0])}" + (f" and {len(twins) - 1} more pairs" if len(twins) > 1 else ""),
            hint="run build-dataset again, or leave one out with cohort.exclude",
        )  # fmt: skip


def thesis_leaks(exams: Sequence[Exam], folds: Sequence[Fold]) -> list[str]:
    """What is wrong with the folds of ``protocol: thesis``, in words for the report."""
    patients: set[int] = set()
    twins: set[tuple[str, str]] = set()
    for fold in folds:
        shared, same = shared_between(exams, fold.train, fold.test)
        patients |= set(shared)
        twins |= set(same)
    leaks = [f"split by file, not by patient: {len(patients)} patients on both sides"]
    if twins:
        leaks.append(f"identical images on both sides: {len(twins)} pairs of exams")
    return leaks
