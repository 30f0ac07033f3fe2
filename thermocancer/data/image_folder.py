"""A folder of class images, ``Train/CLASS/*`` and ``Test/CLASS/*``, checked before anything is trained on it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from thermocancer.data.class_images import DICOM, check_pydicom, is_image, pixel_hash
from thermocancer.data.cohort import IMAGE, Exam, IntArray
from thermocancer.data.folder.words import positive_of
from thermocancer.data.names import is_junk, safe_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint
from thermocancer.outcome import Failure
from thermocancer.workspace import LABELS

PARTS = ("Train", "Test")
_UNREADABLE = "unreadable: "


@dataclass(frozen=True)
class ClassImage:
    """One sound image. ``path`` is relative to the folder; ``label`` is 1 for the positive class.

    ``patient`` numbers the group (or, where no group is known, the image); ``visit`` counts the
    images of a group.
    """

    path: str
    part: str
    label: int
    sha256: str
    group: str
    patient: int = 0
    visit: int = 1


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

    @property
    def paths(self) -> dict[tuple[int, int], str]:
        """Each image's path in the folder by patient and visit."""
        return {(image.patient, image.visit): image.path for image in self.images}

    @property
    def shared(self) -> int:
        """How many pictures of Test are in Train too."""
        trained = {image.sha256 for image in self.images if image.part == PARTS[0]}
        return sum(image.part == PARTS[1] and image.sha256 in trained for image in self.images)

    def parts(self, fraction: float, seed: int, *, first: bool = False) -> tuple[IntArray, IntArray, IntArray]:
        """Rows to train on, to validate on (``held_back``, which see) and to test."""
        train, validation = held_back(
            self.exams, self.rows(PARTS[0]), fraction, seed, first=first, classes=self.classes, root=self.root
        )
        return train, validation, self.rows(PARTS[1])

    @property
    def fingerprint(self) -> str:
        """Changes when an image's content, place or class changes."""
        return fingerprint(self.classes, [[image.path, image.sha256, image.label] for image in self.images])


def read_image_folder(
    root: Path, *, positive: str | None = None, group: str | None = None, index: HashIndex | None = None,
    keep_copies: bool = False,
) -> ImageFolder:  # fmt: skip
    """Find, decode and check every image of ``root``; ``index`` remembers hashes while files stay as they are.

    Unreadable images, and copies within a part, are left out and listed in ``rejected``; with ``keep_copies`` all
    copies stay, those in both parts too. Raises
    DataError when a part or a class is missing or empty, a class stands only in Test, one picture has
    two classes, or a picture or a group is in both parts; ConfigError for a pattern or a class name that fits nothing,
    and where the names of the classes do not say which is the positive one.
    """
    found = {part: _classes_of(root, part) for part in PARTS}
    classes = _check_classes(root, found, positive)
    try:
        pattern = None if group is None else re.compile(group)
    except re.error as error:
        raise ConfigError("the group pattern is not a regular expression", where="cnn.group", found=error) from error
    listed, junk = [], []
    for part in PARTS:
        for name, folder in sorted(found[part].items()):
            files = sorted(_files_below(folder))
            inside = [
                path for path in files if is_image(path) and not any(map(is_junk, path.relative_to(folder).parts))
            ]
            junk += [safe_name(path.relative_to(root)) for path in sorted({*files} - {*inside})]
            if not inside:
                expected = "PNG, JPEG, TIFF, BMP, WebP or DICOM files"
                raise DataError("a class folder has no images", where=folder, expected=expected)
            listed += [(path, part, name) for path in inside]
    for path in [path for path, _, _ in listed if path.suffix.lower() in DICOM][:1]:
        check_pydicom(path)
    images, rejected = [], []
    for path, part, name in listed:
        digest = _try_hash(path) if index is None else index.of(path, _try_hash)
        relative = path.relative_to(root).as_posix()
        if digest.startswith(_UNREADABLE):
            rejected.append(Failure(relative, digest.removeprefix(_UNREADABLE)))
            continue
        match = None if pattern is None else pattern.search(path.name)
        key = relative if pattern is None else match[pattern.groups and 1] if match else ""
        if pattern is not None and not key:
            what, expected = "the group pattern does not fit every file name", f"a match of {pattern.pattern!r}"
            raise ConfigError(what, where="cnn.group", expected=expected, found=path.name)
        images.append(ClassImage(relative, part, int(name == classes[1]), digest, key))
    images, copies = _without_copies(images, keep_copies)
    _check_parts(root, images, classes, grouped=pattern is not None)
    numbers = {group: number for number, group in enumerate(sorted({image.group for image in images}), start=1)}
    seen: Counter[str] = Counter()
    numbered = []
    for image in sorted(images, key=lambda image: image.path):
        seen[image.group] += 1
        numbered.append(replace(image, patient=numbers[image.group], visit=seen[image.group]))
    notes = [f"positive class: {classes[1]}" + ("" if positive else f", by its name; {classes[0]} is the other")]
    unused = {each.name: sum(map(is_image, _files_below(each))) for each in _folders_of(root) if not _is_part(each)}
    notes += [
        f"{name}/ is not used ({count} images): only Train and Test are" for name, count in unused.items() if count
    ]
    left_out = (*rejected, *copies)
    return ImageFolder(root, classes, tuple(numbered), left_out, pattern is not None, tuple(junk), tuple(notes))


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
    """Class folders of one part, by name; ``Train`` and ``train`` are the same."""
    if not root.is_dir():
        raise DataError("the image folder is not there", where=root, hint="correct --data")
    folder = next((each for each in _folders_of(root) if each.name.lower() == part.lower()), None)
    if folder is None:
        raise DataError(
            f"the folder has no {part}", where=root, expected=f"{part}/CLASS/ with images in it",
            found=", ".join(each.name for each in sorted(root.iterdir())[:6]) or "nothing",
        )  # fmt: skip
    return {each.name: each for each in _folders_of(folder)}


def _check_classes(root: Path, found: dict[str, dict[str, Path]], positive: str | None) -> tuple[str, str]:
    spelt = {name.lower(): name for name in found[PARTS[0]]}
    found[PARTS[1]] = {spelt.get(name.lower(), name): folder for name, folder in found[PARTS[1]].items()}
    train, test = (sorted(found[part]) for part in PARTS)
    only_test = sorted(set(test) - set(train))
    if only_test:
        raise DataError(f"class {only_test[0]} stands only in Test", where=root, expected=train, found=test)
    if len(train) != 2:
        raise DataError("two classes are needed", where=root / "Train", expected="two class folders", found=train)
    if test != train:
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
            copies.append(Failure(image.path, f"a copy of {known.path}"))
    return kept, copies


def _check_parts(root: Path, images: Sequence[ClassImage], classes: tuple[str, str], *, grouped: bool) -> None:
    counts = Counter((image.part, image.label) for image in images)
    for part in PARTS:
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
