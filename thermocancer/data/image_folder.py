"""A folder of class images, ``Train/CLASS/*`` and ``Test/CLASS/*``, checked before anything is trained on it.

What lies in a class folder may also be a volume: a NIfTI file, or a sub-folder with the DICOM files of one series; its
slices then are images of one series. Without parts (``cnn.folds``) the class folders are the folder's own, and a table
``path,label,patient[,part][,...]`` may stand in place of the folders.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    pixel_hash,
    read_image,
    shaped,
)
from thermocancer.data.cohort import IMAGE, Exam, IntArray
from thermocancer.data.folder.words import positive_of
from thermocancer.data.names import is_junk, safe_name
from thermocancer.data.series import Drawing, Hasher, Members, Series, dicom_series, is_nifti, open_dicoms, open_nifti
from thermocancer.data.split import Fold
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint, reading
from thermocancer.outcome import Failure
from thermocancer.workspace import LABELS

PARTS = ("Train", "Test")
_UNREADABLE = "unreadable: "
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


@dataclass(frozen=True)
class ImageFolder:
    """What was found: sound images in the order of their paths, the two classes, and what was left out.

    ``junk`` are files of editors, file managers and downloads, and those of formats that are not read. ``notes`` say
    what was decided without being asked.
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


@dataclass(frozen=True)
class _Entry:
    """What may become an image, or the slices of a volume; ``patient`` and ``columns`` are a table's."""

    path: Path
    part: str
    name: str
    patient: str = ""
    members: Members = ()
    columns: Mapping[str, str] = field(default_factory=dict)


def read_image_folder(
    root: Path, *, positive: str | None = None, group: str | None = None, index: HashIndex | None = None,
    keep_copies: bool = False, parts: bool = True, drawing: Drawing | None = None,
) -> ImageFolder:  # fmt: skip
    """Find, decode and check every image of ``root``; ``index`` remembers hashes while files stay as they are.

    ``root`` may be a table (CSV); without ``parts`` the class folders are its own. ``drawing`` says which slices of
    volumes are taken. Unreadable images and volumes, and copies within a part, are left out and listed in
    ``rejected``; with ``keep_copies`` all copies stay, those in both parts too. Raises
    DataError when a part or a class is missing or empty, a class stands only in Test, one picture has
    two classes, or a picture or a group is in both parts; ConfigError for a pattern or a class name that fits nothing,
    and where the names of the classes do not say which is the positive one.
    """
    try:
        pattern = None if group is None else re.compile(group)
    except re.error as error:
        raise ConfigError("the group pattern is not a regular expression", where="cnn.group", found=error) from error
    names, table = PARTS if parts else ("",), root.is_file()
    if table:
        entries, junk = _entries_of_table(root, names), list[Path]()
        classes, root = _check_classes(root, _names_of(entries, names), positive), root.parent
    else:
        found = {part: _classes_of(root, part) for part in names}
        classes = _check_classes(root, found, positive)
        entries, junk = _entries_below(found)
    for path in [each.path for each in entries if each.path.suffix.lower() in DICOM][:1]:
        check_pydicom(path)
    remembered = (lambda path, make: make(path)) if index is None else index.of
    drawing, images, rejected = drawing or Drawing(), list[ClassImage](), list[Failure]()
    series: dict[str, Series] = {}
    for entry in entries:
        relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
        match = None if pattern is None else pattern.search(entry.path.name)
        told = entry.patient or (match[pattern.groups and 1] if match and pattern else "")
        common = ClassImage(relative, entry.part, int(entry.name == classes[1]), "", told)
        try:
            if entry.members or is_nifti(entry.path):
                volume = _open(entry, remembered)
                bids = re.search(r"(?:^|[/_])sub-([A-Za-z0-9]+)", relative)
                own = told or volume.patient or (bids[1] if bids else "")
                series[relative] = volume
                images += [
                    replace(
                        common, path=f"{relative}#{place:04d}", sha256=volume.digest(place), group=own,
                        series=relative, place=place,
                    )
                    for place in drawing.places(volume.depth)
                ]  # fmt: skip
            else:
                images.append(replace(common, sha256=_hash_of(entry.path, remembered)))
        except DataError as error:
            rejected.append(Failure(relative, error.what + (f" ({error.found})" if error.found else "")))
            continue
        if pattern is not None and not told:
            what, expected = "the group pattern does not fit every file name", f"a match of {pattern.pattern!r}"
            raise ConfigError(what, where="cnn.group", expected=expected, found=entry.path.name)
    grouped = bool(images) and all(image.group for image in images)
    images = [image if image.group else replace(image, group=image.series or image.path) for image in images]
    images, copies = _without_copies(images, keep_copies)
    _check_parts(root, images, classes, names, grouped=grouped and parts)
    numbers = {group: number for number, group in enumerate(sorted({image.group for image in images}), start=1)}
    visits: dict[str, dict[str, int]] = {}
    numbered = []
    for image in sorted(images, key=lambda image: image.path):
        own_visits = visits.setdefault(image.group, {})
        visit = own_visits.setdefault(image.series or image.path, len(own_visits) + 1)
        numbered.append(replace(image, patient=numbers[image.group], visit=visit))
    notes = [f"positive class: {classes[1]}" + ("" if positive else f", by its name; {classes[0]} is the other")]
    if series:
        notes.append(
            f"{len(series)} series: {drawing.count} slices each over the central {drawing.share:.0%}, grey from "
            f"percentile {drawing.percentiles[0]:g} to {drawing.percentiles[1]:g} of the volume"
        )
    if parts and not table:
        unused = {each.name: sum(map(is_image, _files_below(each))) for each in _folders_of(root) if not _is_part(each)}
        notes += [
            f"{name}/ is not used ({count} images): only Train and Test are" for name, count in unused.items() if count
        ]
    return ImageFolder(
        root, classes, tuple(numbered), (*rejected, *copies), grouped,
        tuple(safe_name(path.relative_to(root)) for path in junk), tuple(notes), series,
        {os.path.relpath(each.path, root).replace(os.sep, "/"): each.columns for each in entries if each.columns},
    )  # fmt: skip


def _open(entry: _Entry, remembered: Hasher) -> Series:
    """A volume, read once. Raises DataError when it is damaged."""
    if not entry.members:
        return open_nifti(entry.path, remembered)
    return open_dicoms(entry.members, lambda path: _hash_of(path, remembered))


def _entries_below(found: Mapping[str, Mapping[str, Path]]) -> tuple[list[_Entry], list[Path]]:
    """Images and volumes of class folders by part and name, and the files that are neither."""
    entries, junk = list[_Entry](), list[Path]()
    for part, folders in found.items():
        for name, folder in sorted(folders.items()):
            files = sorted(_files_below(folder))
            inside = [
                path
                for path in files
                if (is_nifti(path) or is_image(path)) and not any(map(is_junk, path.relative_to(folder).parts))
            ]
            junk += sorted({*files} - {*inside})
            if not inside:
                expected = "PNG, JPEG, TIFF, BMP, WebP, DICOM or NIfTI files"
                raise DataError("a class folder has no images", where=folder, expected=expected)
            places: dict[Path, list[Path]] = {}
            for path in inside:
                places.setdefault(path.parent, []).append(path)
            for place, own in sorted(places.items()):
                volumes = [] if place == folder else _series_in(place, own)
                taken = {path for _, members in volumes for path, _ in members}
                entries += [_Entry(where, part, name, members=members) for where, members in volumes]
                entries += [_Entry(path, part, name) for path in own if path not in taken]
    return entries, junk


def _series_in(folder: Path, files: Sequence[Path]) -> list[tuple[Path, Members]]:
    """The DICOM series of a folder, each under the folder's name, numbered where there are several."""
    found = [members for _, members in sorted(dicom_series(files).items()) if len(members) > 1]
    several = len(found) > 1
    return [(folder / f"{n}" if several else folder, tuple(members)) for n, members in enumerate(found, start=1)]


def _entries_of_table(table: Path, parts: tuple[str, ...]) -> list[_Entry]:
    """The rows of a table ``path,label,patient[,part][,...]``; paths are relative to it. Raises DataError."""
    with (
        reading(table, "the table cannot be read", expected="a CSV file with a header"),
        table.open(encoding="utf-8-sig", newline="") as stream,
    ):
        rows = [{str(key).strip().lower(): (value or "").strip() for key, value in row.items()}
                for row in csv.DictReader(stream)]  # fmt: skip
    needed = ("path", "label", *(("part",) if parts == PARTS else ()))
    if not rows or any(not row.get(name) for row in rows for name in needed):
        raise DataError(
            "a table of images lacks a column or a value", where=table, expected=",".join(needed) + " in every row",
            found=",".join(rows[0]) if rows else "no row",
            hint="without a part (Train or Test): --set cnn.folds=leave-one-patient-out" if parts == PARTS else None,
        )  # fmt: skip
    entries = []
    for row in rows:
        path, part = table.parent / row["path"], row["part"].capitalize() if parts == PARTS else ""
        if part not in parts:
            raise DataError("no such part", where=table, expected=" or ".join(PARTS), found=row["part"])
        columns = {key: value for key, value in row.items() if key not in _OF_TABLE}
        volumes = _series_in(path, sorted(_files_below(path))) if path.is_dir() else [(path, ())]
        if len(volumes) != 1:
            raise DataError("a folder that is not one DICOM series", where=path, found=f"{len(volumes)} series")
        entries.append(_Entry(path, part, row["label"], row.get("patient", ""), volumes[0][1], columns))
    return entries


_OF_TABLE = ("path", "label", "patient", "part")


def _names_of(entries: Sequence[_Entry], parts: tuple[str, ...]) -> dict[str, dict[str, Path]]:
    """The classes of each part as ``_classes_of`` gives them."""
    found: dict[str, dict[str, Path]] = {part: {} for part in parts}
    for each in entries:
        found[each.part][each.name] = each.path.parent
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are followed, each place once."""
    seen = set()
    for where, inside, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(where)) in seen:
            inside.clear()
            continue
        seen.add(place)
        yield from (path for name in names if (path := Path(where, name)).is_file())


def _folders_of(root: Path) -> list[Path]:
    return [each for each in sorted(root.iterdir()) if each.is_dir() and not is_junk(each.name)]


def _is_part(folder: Path) -> bool:
    return folder.name.lower() in {part.lower() for part in PARTS}


def _classes_of(root: Path, part: str) -> dict[str, Path]:
    """Class folders of one part, by name; ``Train`` and ``train`` are the same. Of no part: the folder's own."""
    if not root.is_dir():
        raise DataError("the image folder is not there", where=root, hint="correct --data")
    if not part:
        return {each.name: each for each in _folders_of(root)}
    folder = next((each for each in _folders_of(root) if each.name.lower() == part.lower()), None)
    if folder is None:
        raise DataError(
            f"the folder has no {part}", where=root, expected=f"{part}/CLASS/ with images in it",
            found=", ".join(each.name for each in sorted(root.iterdir())[:6]) or "nothing",
            hint="class folders without parts: --set cnn.folds=leave-one-patient-out",
        )  # fmt: skip
    return {each.name: each for each in _folders_of(folder)}


def _check_classes(root: Path, found: dict[str, dict[str, Path]], positive: str | None) -> tuple[str, str]:
    first, *others = found
    spelt = {name.lower(): name for name in found[first]}
    train = sorted(found[first])
    for part in others:
        found[part] = {spelt.get(name.lower(), name): folder for name, folder in found[part].items()}
        test = sorted(found[part])
        only_test = sorted(set(test) - set(train))
        if only_test:
            raise DataError(f"class {only_test[0]} stands only in Test", where=root, expected=train, found=test)
    if len(train) != 2:
        raise DataError("two classes are needed", where=root / first, expected="two class folders", found=train)
    if others and test != train:
        raise DataError("Test lacks a class", where=root / "Test", expected=train, found=test)
    positive = positive or positive_of(*train)
    if positive is None:
        raise ConfigError(
            "which class is the positive one?", where="cnn.positive", expected=f"one of: {', '.join(train)}",
            found="class names that do not say it", hint=f"--set cnn.positive={train[1]} (or {train[0]})",
        )  # fmt: skip
    if positive not in train:
        raise ConfigError("no such class", where="cnn.positive", expected=f"one of: {', '.join(train)}", found=positive)
    return next(name for name in train if name != positive), positive


def _hash_of(path: Path, remembered: Hasher) -> str:
    """The picture's hash. Raises DataError where it has none."""
    if (digest := remembered(path, _try_hash)).startswith(_UNREADABLE):
        raise DataError(digest.removeprefix(_UNREADABLE), where=path)
    return digest


def _try_hash(path: Path) -> str:
    """The picture's hash, or why it has none."""
    try:
        return pixel_hash(path)
    except DataError as error:
        return f"{_UNREADABLE}{error.what}" + (f" ({error.found})" if error.found else "")


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
