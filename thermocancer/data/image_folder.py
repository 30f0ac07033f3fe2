"""A folder of class images, ``Train/CLASS/*`` and ``Test/CLASS/*``, checked before anything is trained on it.

What lies in a class folder may also be a volume: a NIfTI file, or a sub-folder with the DICOM files of one series; its
slices then are images of one series. Without parts (``cnn.folds``) the class folders are the folder's own, and a table
``path,label,patient[,part][,...]`` may stand in place of the folders.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np

from thermocancer.data.class_images import (
    DICOM,
    Colour,
    Interpolation,
    Pixels,
    check_pydicom,
    is_image,
    pixel_look,
    read_image,
    shaped,
)
from thermocancer.data.cohort import IMAGE, Exam, IntArray
from thermocancer.data.image_entries import (
    PARTS,
    Entry,
    check_classes,
    classed,
    classes_of,
    compiled,
    entries_below,
    entries_of_table,
    files_below,
    folder_of,
    folders_of,
    hash_of,
    names_of,
    nearly_equal,
    open_volume,
    part_of,
)
from thermocancer.data.names import safe_name
from thermocancer.data.series import Drawing, Hasher, Series, is_nifti, patient_in_name
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint
from thermocancer.outcome import Failure
from thermocancer.thermal.likeness import leaders
from thermocancer.workspace import LABELS

Folds = Literal["parts", "leave-one-patient-out", "grouped"]


@dataclass(frozen=True)
class ClassImage:
    """One sound image. ``path`` is relative to the folder; ``label`` is 1 for the positive class.

    ``patient`` numbers the group (or, where no group is known, the image); ``visit`` counts the
    images of a group. The slices of a volume have its ``series`` (its path), their ``place`` in it, and one visit.
    """

    path: str
    part: str
    label: int
    sha256: str
    group: str
    patient: int = 0
    visit: int = 1
    series: str = ""
    place: int = 0
    look: str = ""


@dataclass(frozen=True)
class ImageFolder:
    """What was found: sound images in the order of their paths, the two classes, and what was left out.

    ``junk`` are files of editors, file managers and downloads, and those of formats that are not read. ``notes`` say
    what was decided without being asked. ``nearly`` are pairs of pictures of two groups that are nearly the same.
    """

    root: Path
    classes: tuple[str, str]
    images: tuple[ClassImage, ...]
    rejected: tuple[Failure, ...]
    grouped: bool
    junk: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    series: Mapping[str, Series] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    nearly: tuple[tuple[ClassImage, ClassImage], ...] = ()

    def rows(self, part: str) -> IntArray:
        return np.array([row for row, image in enumerate(self.images) if image.part == part], dtype=np.int64)

    @property
    def labels(self) -> IntArray:
        return np.array([image.label for image in self.images], dtype=np.int64)

    @property
    def exams(self) -> tuple[Exam, ...]:
        """Each image as an exam, with the hash of its picture."""
        return tuple(
            Exam(image.patient, image.visit, image.label, hashes=((IMAGE, image.sha256),)) for image in self.images
        )

    def pictures(
        self, drawing: Drawing, colour: Colour = "rgb", size: tuple[int, int] | None = None,
        interpolation: Interpolation = "area",
    ) -> Iterator[Pixels]:  # fmt: skip
        """Every image in order as ``read_image`` gives it; a volume is read once for all its slices."""
        for series, group in groupby(self.images, key=lambda image: image.series or image.path):
            own = list(group)
            if own[0].series:
                for grey in self.series[series].slices([image.place for image in own], drawing):
                    yield shaped(grey, colour=colour, size=size, interpolation=interpolation)
            else:
                for image in own:
                    yield read_image(self.root / image.path, colour=colour, size=size, interpolation=interpolation)

    @property
    def shared(self) -> int:
        """How many pictures of Test are in Train too."""
        trained = {image.sha256 for image in self.images if image.part == PARTS[0]}
        return sum(image.part == PARTS[1] and image.sha256 in trained for image in self.images)

    @property
    def nearly_shared(self) -> int:
        """How many pictures of Test are nearly the same as one of Train."""
        across = [pair for pair in self.nearly if pair[0].part != pair[1].part]
        return len({each.path for pair in across for each in pair if each.part == PARTS[1]})

    def folds(self, how: Folds, count: int, seed: int) -> tuple[Fold, ...]:
        """Trained on and tested: the folder's own parts, or every patient once in a part of its own or of a few.

        Raises ConfigError when patients are asked for and nobody knows them, DataError when there are too few.
        """
        if how == "parts":
            return (Fold("test", self.rows(PARTS[0]), self.rows(PARTS[1])),)
        if not self.grouped:
            raise ConfigError(
                "folds by patient need to know the patients", where="cnn.group", found="images of unknown patients",
                hint="a regular expression on the file name, such as --set cnn.group='^(sub-[0-9]+)', or a table",
            )  # fmt: skip
        patients, everything = np.array([image.patient for image in self.images]), np.arange(len(self.images))
        if how == "grouped":  # patients of every mix of labels are dealt out in turn
            order = np.random.default_rng([seed, 5002]).permutation(np.unique(patients)).tolist()
            mixes = {each: sorted({image.label for image in self.images if image.patient == each}) for each in order}
            place = {each: number % count for number, each in enumerate(sorted(order, key=mixes.__getitem__))}
            numbers = np.array([place[each] for each in patients.tolist()])
        else:
            numbers = patients
        parts = [np.flatnonzero(numbers == each) for each in np.unique(numbers)]
        return tuple(
            Fold(f"1.{number}", np.setdiff1d(everything, part), part) for number, part in enumerate(parts, start=1)
        )

    def divided(self, fold: Fold, fraction: float, seed: int, *, first: bool = False) -> tuple[IntArray, IntArray]:
        """Rows of a fold to train on and to validate on (``held_back``, which see)."""
        root = self.root if self.images[0].part else None
        return held_back(self.exams, fold.train, fraction, seed, first=first, classes=self.classes, root=root)

    def parts(self, fraction: float, seed: int, *, first: bool = False) -> tuple[IntArray, IntArray, IntArray]:
        """Rows to train on, to validate on and to test, of the folder's own parts."""
        (fold,) = self.folds("parts", 1, seed)
        return *self.divided(fold, fraction, seed, first=first), fold.test

    @property
    def fingerprint(self) -> str:
        """Changes when an image's content, place or class changes."""
        return fingerprint(self.classes, [[image.path, image.sha256, image.label] for image in self.images])


# --- finding and checking ---------------------------------------------------------------------------------------------


def read_image_folder(
    root: Path, *, positive: str | None = None, group: str | None = None, label: str | None = None,
    index: HashIndex | None = None, keep_copies: bool = False, parts: bool = True, drawing: Drawing | None = None,
) -> ImageFolder:  # fmt: skip
    """Find, decode and check every image of ``root``; ``index`` remembers hashes while files stay as they are.

    ``root`` may be a table (CSV); without ``parts`` the class folders are its own. ``group`` and ``label`` are patterns
    that find patient and class in a file's name. ``drawing`` says which slices of volumes are taken. Unreadable images
    and volumes, and copies within a part, are left out and listed in ``rejected``; with ``keep_copies`` all copies
    stay, those in both parts too. Raises
    DataError when a part or a class is missing or empty, a class stands only in Test, one picture has
    two classes, or a picture or a group is in both parts; ConfigError for a pattern or a class name that fits nothing,
    and where the names of the classes do not say which is the positive one.
    """
    pattern, named = compiled(group, "group"), compiled(label, "label")
    names, table = PARTS if parts else ("",), root.is_file()
    if table:
        entries, junk = entries_of_table(root, names), list[Path]()
        classes, root = check_classes(root, names_of(entries, names), positive), root.parent
    else:
        found = {part: classes_of(root, part) if named is None else {"": folder_of(root, part)} for part in names}
        classes = check_classes(root, found, positive) if named is None else ("", "")
        entries, junk = entries_below(found)
        if named is not None:
            entries = classed(entries, named)
            classes = check_classes(root, names_of(entries, names), positive)
    for path in [each.path for each in entries if each.path.suffix.lower() in DICOM][:1]:
        check_pydicom(path)
    drawing = drawing or Drawing()
    images, series, rejected = _read(entries, root, classes[1], pattern, drawing, index)
    grouped = bool(images) and all(image.group for image in images)
    images = [image if image.group else replace(image, group=image.series or image.path) for image in images]
    images, copies = _without_copies(images, keep_copies)
    _check_parts(root, images, classes, names, grouped=grouped and parts)
    images, nearly = _tied(images)
    numbers = {group: number for number, group in enumerate(sorted({image.group for image in images}), start=1)}
    visits: dict[str, dict[str, int]] = {}
    numbered = []
    for image in sorted(images, key=lambda image: image.path):
        own_visits = visits.setdefault(image.group, {})
        visit = own_visits.setdefault(image.series or image.path, len(own_visits) + 1)
        numbered.append(replace(image, patient=numbers[image.group], visit=visit))
    notes = [f"positive class: {classes[1]}" + ("" if positive else f", by its name; {classes[0]} is the other")]
    if not grouped:
        notes.append("patients: not known, each image counts as one of its own; cnn.group or a table says them")
    notes += _nearly_notes(nearly) + _series_notes(series, drawing) + (_unused(root) if parts and not table else [])
    return ImageFolder(
        root, classes, tuple(numbered), (*rejected, *copies), grouped,
        tuple(safe_name(path.relative_to(root)) for path in junk), tuple(notes), series,
        {os.path.relpath(each.path, root).replace(os.sep, "/"): each.columns for each in entries if each.columns},
        tuple(nearly),
    )  # fmt: skip


def _read(
    entries: Sequence[Entry], root: Path, positive: str, pattern: re.Pattern[str] | None, drawing: Drawing,
    index: HashIndex | None,
) -> tuple[list[ClassImage], dict[str, Series], list[Failure]]:  # fmt: skip
    """Every sound image and drawn slice, the volumes by their path, and what cannot be read. Raises ConfigError."""
    remembered: Hasher = (lambda path, make: make(path)) if index is None else index.of
    remembered_look: Hasher = remembered if index is None else partial(index.of, kept_as="look")
    images, rejected, series = list[ClassImage](), list[Failure](), dict[str, Series]()
    for entry in entries:
        relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
        match = None if pattern is None else pattern.search(entry.path.name) or pattern.search(relative)
        told = entry.patient or (match[pattern.groups and 1] if match and pattern else "")
        common = ClassImage(relative, entry.part, int(entry.name == positive), "", told)
        try:
            if entry.members or is_nifti(entry.path):
                volume = open_volume(entry, remembered)
                own = told or volume.patient or patient_in_name(relative)
                series[relative] = volume
                images += [
                    replace(
                        common, path=f"{relative}#{place:04d}", sha256=volume.digest(place), group=own,
                        series=relative, place=place,
                    )
                    for place in drawing.places(volume.depth)
                ]  # fmt: skip
            else:
                sha256, look = hash_of(entry.path, remembered), remembered_look(entry.path, pixel_look)
                images.append(replace(common, sha256=sha256, look=look))
        except DataError as error:
            rejected.append(Failure(relative, error.what + (f" ({error.found})" if error.found else "")))
            continue
        if pattern is not None and not told:
            what, expected = "the group pattern does not fit every file name", f"a match of {pattern.pattern!r}"
            raise ConfigError(what, where="cnn.group", expected=expected, found=relative)
    return images, series, rejected


def _series_notes(series: Mapping[str, Series], drawing: Drawing) -> list[str]:
    if not series:
        return []
    low, high = drawing.percentiles
    rule = f"{drawing.count} slices each over the central {drawing.share:.0%}"
    return [f"{len(series)} series: {rule}, grey from percentile {low:g} to {high:g} of the volume"]


def _unused(root: Path) -> list[str]:
    """Folders beside Train and Test that hold images."""
    counts = {each.name: sum(map(is_image, files_below(each))) for each in folders_of(root) if not part_of(each)}
    return [f"{name}/ is not used ({count} images): only Train and Test are" for name, count in counts.items() if count]


def _without_copies(images: Sequence[ClassImage], keep: bool) -> tuple[list[ClassImage], list[Failure]]:
    """Keep the first of equal pictures of a part; equal pictures of two parts or two classes are an error.

    With ``keep`` all stay, and only two classes are an error.
    """
    first: dict[str, ClassImage] = {}
    kept, copies = [], []
    for image in images:
        known = first.setdefault(image.sha256, image)
        if known is image or (keep and known.label == image.label):
            kept.append(image)
        elif known.part != image.part and not keep:
            raise DataError(
                "the same picture is in Train and in Test", where=image.path, found=f"a copy of {known.path}",
                hint="remove one of the two (a test picture that was trained on proves nothing), or go on with "
                "cnn.copies: keep, which the report names as a leak",
            )  # fmt: skip
        elif known.label != image.label:
            raise DataError("the same picture has two classes", where=image.path, found=f"a copy of {known.path}")
        else:
            copies.append(Failure(image.series or image.path, f"a copy of {known.series or known.path}"))
    return kept, list(dict.fromkeys(copies))


# --- nearly the same picture: encoded again, at another size, mirrored ------------------------------------------------

Pairs = Sequence[tuple[ClassImage, ClassImage]]


def _tied(images: list[ClassImage]) -> tuple[list[ClassImage], list[tuple[ClassImage, ClassImage]]]:
    """The images, with one group for all groups of a part that hold nearly the same picture, and every such pair.

    A pair in Train and in Test ties nothing: the folder's own division stands, and the pair is a leak.
    """
    looks, known = [image.look for image in images], [(image.group, image.sha256) for image in images]
    pairs = [(images[first], images[second]) for first, second in nearly_equal(looks, known)]
    lowest = {
        part: leaders((one.group, other.group) for one, other in pairs if one.part == other.part == part)
        for part in {image.part for image in images}
    }
    return [replace(each, group=lowest[each.part].get(each.group, each.group)) for each in images], pairs


def _nearly_notes(pairs: Pairs) -> list[str]:
    """A line for the pairs of one side, and one for those in Train and in Test, with the first three."""
    found = []
    for across, said in (
        (False, "they stay on one side of every split"),
        (True, "one in Train, one in Test: both stay where they lie, and the report names it as a leak"),
    ):
        own = [pair for pair in pairs if (pair[0].part != pair[1].part) == across]
        named = [f"{safe_name(a.path)} and {safe_name(b.path)}" for a, b in own[:3]] + ["..."] * (len(own) > 3)
        found += [f"{len(own)} pairs of pictures are nearly the same ({', '.join(named)}): {said}"] * bool(own)
    return found


# --- what a folder must hold, and how its training part is divided ----------------------------------------------------


def _check_parts(
    root: Path, images: Sequence[ClassImage], classes: tuple[str, str], parts: Sequence[str], *, grouped: bool
) -> None:
    counts = Counter((image.part, image.label) for image in images)
    for part in parts:
        for label, name in enumerate(classes):
            if not counts[part, label]:
                raise DataError("no image of a class can be read", where=root / part / name)
    train, test = ({image.group for image in images if image.part == part} for part in PARTS)
    if grouped and (both := train & test):
        raise DataError(
            "a patient is in Train and in Test", where=root, found=f"{len(both)} groups, such as {min(both)}",
            hint="move all images of a patient to one part, or correct cnn.group",
        )  # fmt: skip


def held_back(
    exams: Sequence[Exam], rows: IntArray, fraction: float, seed: int, *, first: bool = False,
    classes: Sequence[str] = LABELS, root: Path | None = None,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Divide training rows by patient into rows to train on and rows to validate on, each mix of classes in proportion.

    With ``first`` the int(``fraction`` n) first rows of each class validate: with rows in the order of file names
    what Keras' ``ImageDataGenerator(validation_split)`` does, by image and not by patient.

    Raises DataError (``root``: the folder of the images) when a class has too few patients to be on both sides.
    """
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(exams[row].patient, []).append(row)
    mixes = {patient: tuple(sorted({exams[row].label for row in own})) for patient, own in members.items()}
    chosen: set[int] = set()
    for number, mix in enumerate(((0,), (1,), (0, 1))):  # groups stay whole: with both classes they are their own kind
        patients = sorted(patient for patient in members if mixes[patient] == mix)
        order = np.random.default_rng([seed, 5001, number]).permutation(len(patients))
        count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
        chosen |= {row for position in order[: max(count, 0)] for row in members[patients[position]]}
    if first:
        own = [[row for row in rows.tolist() if exams[row].label == label] for label in range(len(classes))]
        chosen = {row for each in own for row in each[: max(1, int(fraction * len(each)))]}
    inside = np.array([row in chosen for row in rows.tolist()])
    train, validation = rows[~inside], rows[inside]
    for label, name in enumerate(classes):
        if not all(any(exams[row].label == label for row in part) for part in (train, validation)):
            raise DataError(
                f"class {name} is too small for a validation part", where=root and root / PARTS[0] / name,
                expected="at least 2 images (or groups)", found=sum(label in mix for mix in mixes.values()),
            )  # fmt: skip
    return train, validation
