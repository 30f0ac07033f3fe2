"""The one patient-wise split and the folds of cross-validation.

``split.json`` is made once and never moves a patient: patients who arrive later are added, so that
a test patient of last month is never a training patient of today. It is by patient whatever the
protocol; the original study's own split (by file, ``protocol: thesis``) exists only as a fold, and
``thesis_leaks`` says what is wrong with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import Exam, IntArray
from thermocancer.data.grouping import Group, check_enough, group_numbers, group_patients, shared_between, strata
from thermocancer.errors import DataError
from thermocancer.files import read_json, write_json

THESIS_SEED = 1  # the original study shuffles its file list with this seed, whatever the config says
_SPLIT_KEY, _OUTER_KEY, _INNER_KEY = 101, 102, 103  # independent random streams of one seed


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
                "the split does not know every patient of the data set",
                where="split.json",
                found=f"{len(unknown)} unknown, such as patient {min(unknown)}",
                hint="run build-dataset again; it adds new patients and moves none",
            )
        wanted = set(self.train if part == "train" else self.test)
        return np.array([row for row, exam in enumerate(exams) if exam.patient in wanted], dtype=np.int64)

    def write(self, path: Path) -> None:
        """Write ``split.json``, whole or not at all."""
        write_json(
            path, {"seed": self.seed, "protocol": self.protocol, "train": list(self.train), "test": list(self.test)}
        )

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read ``split.json``. Raises DataError when it is missing, broken or has a patient on both sides."""
        if not path.exists():
            raise DataError("there is no split yet", where=path, hint="make it with: thermocancer build-dataset")
        content = read_json(path)
        try:
            train, test = (tuple(sorted(int(patient) for patient in content[part])) for part in ("train", "test"))
            split = cls(int(content["seed"]), str(content["protocol"]), train, test)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "this is not a split", where=path, expected="the keys seed, protocol, train and test", found=repr(error)
            ) from error
        both = set(train) & set(test)
        if both:
            raise DataError("the split has a patient on both sides", where=path, found=f"patients {sorted(both)[:5]}")
        return split


@dataclass(frozen=True, eq=False)
class Fold:
    """One division of a data set: positions of its training and test exams.

    ``name`` is ``REPEAT.FOLD`` (from 1) in cross-validation, ``test`` in a hold-out.
    """

    name: str
    train: IntArray
    test: IntArray


def make_split(exams: Sequence[Exam], config: SplitSection, seed: int, known: Split | None = None) -> Split:
    """Divide the patients, stratified by label and acquisition layout.

    With ``known``, its patients stay where they are and only new ones are placed, so that the test
    part approaches ``split.test_fraction`` in each stratum. Patients who share an identical image
    stay together. Raises DataError when a class has fewer than two patients, or when a new image
    ties two known patients of different sides together.
    """
    groups = group_patients(exams)
    check_enough(
        groups, 2, "a split into training and test", "add patients of that class, or check the labels with filter"
    )
    sides = [_known_side(group, known) for group in groups]
    for label in (0, 1):
        _place(groups, sides, label, config.test_fraction, seed)
    train = {
        patient for group, side in zip(groups, sides, strict=True) if side == "train" for patient in group.patients
    }
    test = {patient for group, side in zip(groups, sides, strict=True) if side == "test" for patient in group.patients}
    if known is not None:
        train, test = train | set(known.train), test | set(known.test)
        seed, protocol = known.seed, known.protocol
    else:
        protocol = config.protocol
    return Split(seed, protocol, tuple(sorted(train)), tuple(sorted(test)))


def _known_side(group: Group, known: Split | None) -> str | None:
    if known is None:
        return None
    in_train, in_test = (sorted(set(group.patients) & set(part)) for part in (known.train, known.test))
    if in_train and in_test:
        raise DataError(
            "an identical image belongs to a training patient and to a test patient",
            where="split.json",
            found=f"patients {in_train[:3]} (train) and {in_test[:3]} (test)",
            hint="find the wrong copy in filter.csv and remove it, or make a new split: delete split.json",
        )
    return "train" if in_train else "test" if in_test else None


def _place(groups: Sequence[Group], sides: list[str | None], label: int, fraction: float, seed: int) -> None:
    """Give every unplaced group of one class a side; quotas by largest remainder over the layouts."""
    keys = strata(groups)
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


def outer_folds(exams: Sequence[Exam], split: Split, config: SplitSection, seed: int) -> list[Fold]:
    """The folds on which every model of a data set is judged, encoders included.

    ``grouped-cv``: repeated stratified grouped k-fold over all patients; every exam is tested once a
    repeat. ``holdout``: one fold from ``split``. ``thesis``: one fold by file, as in the original
    study (leaky). Raises DataError when there are too few patients, or a sound fold would leak.
    """
    rows = np.arange(len(exams), dtype=np.int64)
    if config.protocol == "thesis":
        return [_thesis_fold(exams, config.test_fraction)]
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
    check_enough(groups, n, f"{n} folds", hint)
    numbers = group_numbers(chosen, groups)
    names = strata(groups, minimum=n)
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


def _thesis_fold(exams: Sequence[Exam], test_fraction: float) -> Fold:
    """The original study's division: the list of class folders' files, shuffled, its last part for testing.

    That is what Keras' ``image_dataset_from_directory(validation_split, seed)`` does with files
    named ``image_PATIENT_VISIT`` in class folders.
    """
    listed = sorted(range(len(exams)), key=lambda row: (exams[row].label, f"image_{exams[row].key}."))
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
        raise DataError(
            "a patient is on both sides of a fold", where=f"fold {fold.name}", found=f"patients {patients[:5]}"
        )
    if twins:
        raise DataError(
            "an identical image is on both sides of a fold",
            where=f"fold {fold.name}",
            found=f"exams {' and '.join(twins[0])}" + (f" and {len(twins) - 1} more pairs" if len(twins) > 1 else ""),
            hint="run build-dataset again, or leave one out with cohort.exclude",
        )


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
