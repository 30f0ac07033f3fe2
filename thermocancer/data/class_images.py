"""A folder of class images: ``Train/CLASS/*`` and ``Test/CLASS/*``, checked before anything is trained on it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thermocancer.data.cohort import IntArray
from thermocancer.data.image_files import is_dicom, is_image, pixel_hash, require_dicom
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint
from thermocancer.outcome import Failure

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
    """What was found: sound images in the order of their paths, the two classes, and what was left out."""

    root: Path
    classes: tuple[str, str]
    images: tuple[ClassImage, ...]
    rejected: tuple[Failure, ...]
    grouped: bool

    def rows(self, part: str) -> IntArray:
        return np.array([row for row, image in enumerate(self.images) if image.part == part], dtype=np.int64)

    @property
    def labels(self) -> IntArray:
        return np.array([image.label for image in self.images], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Changes when an image's content, place or class changes."""
        return fingerprint(self.classes, [[image.path, image.sha256, image.label] for image in self.images])


def read_image_folder(
    root: Path, *, positive: str | None = None, group: str | None = None, index: HashIndex | None = None
) -> ImageFolder:
    """Find, decode and check every image of ``root``.

    Unreadable images, and copies within a part, are left out and listed in ``rejected``. Raises
    DataError when a part or a class is missing or empty, a class stands only in Test, one picture has
    two classes, or a picture or a group is in both parts; ConfigError for a pattern or a class name that fits nothing.
    """
    found = {part: _classes_of(root, part) for part in PARTS}
    classes = _check_classes(root, found, positive)
    pattern = None if group is None else _compiled(group)
    listed = [
        (path, part, name) for part in PARTS for name in sorted(found[part]) for path in _images_in(found[part][name])
    ]
    _check_dicom(path for path, _, _ in listed)
    images, rejected = [], []
    for path, part, name in listed:
        digest = _hash(path, index)
        relative = path.relative_to(root).as_posix()
        if digest.startswith(_UNREADABLE):
            rejected.append(Failure(relative, digest.removeprefix(_UNREADABLE)))
            continue
        key = relative if pattern is None else _group_of(path, pattern)
        images.append(ClassImage(relative, part, int(name == classes[1]), digest, key))
    images, copies = _without_copies(images)
    _check_parts(root, images, classes, grouped=pattern is not None)
    numbered = tuple(_numbered(sorted(images, key=lambda image: image.path)))
    return ImageFolder(root, classes, numbered, (*rejected, *copies), pattern is not None)


def _classes_of(root: Path, part: str) -> dict[str, Path]:
    """Class folders of one part, by name; ``Train`` and ``train`` are the same."""
    if not root.is_dir():
        raise DataError("the image folder is not there", where=root, hint="correct --data")
    folder = next(
        (each for each in sorted(root.iterdir()) if each.name.lower() == part.lower() and each.is_dir()), None
    )
    if folder is None:
        raise DataError(
            f"the folder has no {part}", where=root, expected=f"{part}/CLASS/ with images in it",
            found=", ".join(sorted(each.name for each in root.iterdir())[:6]) or "nothing",
        )  # fmt: skip
    return {each.name: each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith(".")}


def _check_classes(root: Path, found: dict[str, dict[str, Path]], positive: str | None) -> tuple[str, str]:
    train, test = (sorted(found[part]) for part in PARTS)
    only_test = sorted(set(test) - set(train))
    if only_test:
        raise DataError(f"class {only_test[0]} stands only in Test", where=root, expected=train, found=test)
    if len(train) != 2:
        raise DataError("two classes are needed", where=root / "Train", expected="two class folders", found=train)
    if test != train:
        raise DataError("Test lacks a class", where=root / "Test", expected=train, found=test)
    if positive is None:
        return train[0], train[1]
    if positive not in train:
        raise ConfigError("no such class", where="cnn.positive", expected=f"one of: {', '.join(train)}", found=positive)
    return next(name for name in train if name != positive), positive


def _images_in(folder: Path) -> list[Path]:
    images = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    if not images:
        raise DataError("a class folder has no images", where=folder, expected="PNG, JPEG, TIFF, BMP or DICOM files")
    return images


def _compiled(group: str) -> re.Pattern[str]:
    try:
        return re.compile(group)
    except re.error as error:
        raise ConfigError("the group pattern is not a regular expression", where="cnn.group", found=error) from error


def _group_of(path: Path, pattern: re.Pattern[str]) -> str:
    match = pattern.search(path.name)
    if match is None or not (text := match.group(1) if pattern.groups else match.group()):
        raise ConfigError(
            "the group pattern does not fit every file name", where="cnn.group",
            expected=f"a match of {pattern.pattern!r}", found=path.name,
        )  # fmt: skip
    return text


def _check_dicom(paths: Iterable[Path]) -> None:
    example = next((path for path in paths if is_dicom(path)), None)
    if example is not None:
        require_dicom(example)


def _hash(path: Path, index: HashIndex | None) -> str:
    """The picture's hash, or why it has none; remembered by ``index`` while the file stays as it is."""
    return _try_hash(path) if index is None else index.of(path, _try_hash)


def _try_hash(path: Path) -> str:
    try:
        return pixel_hash(path)
    except DataError as error:
        return f"{_UNREADABLE}{error.what}" + (f" ({error.found})" if error.found else "")


def _without_copies(images: Sequence[ClassImage]) -> tuple[list[ClassImage], list[Failure]]:
    """Keep the first of equal pictures of a part; equal pictures of two parts or two classes are an error."""
    first: dict[str, ClassImage] = {}
    kept, copies = [], []
    for image in images:
        known = first.setdefault(image.sha256, image)
        if known is image:
            kept.append(image)
        elif known.part != image.part:
            raise DataError(
                "the same picture is in Train and in Test", where=image.path, found=f"a copy of {known.path}",
                hint="remove one of the two; a test picture that was trained on proves nothing",
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
    if not grouped:
        return
    both = {image.group for image in images if image.part == "Train"} & {
        image.group for image in images if image.part == "Test"
    }
    if both:
        raise DataError(
            "a patient is in Train and in Test", where=root, found=f"{len(both)} groups, such as {min(both)}",
            hint="move all images of a patient to one part, or correct cnn.group",
        )  # fmt: skip


def _numbered(images: Sequence[ClassImage]) -> Iterable[ClassImage]:
    numbers = {group: number for number, group in enumerate(sorted({image.group for image in images}), start=1)}
    seen: Counter[str] = Counter()
    for image in images:
        seen[image.group] += 1
        yield ClassImage(
            image.path, image.part, image.label, image.sha256, image.group, numbers[image.group], seen[image.group]
        )


def validation_rows(folder: ImageFolder, fraction: float, seed: int) -> tuple[IntArray, IntArray]:
    """Divide the training images by group into training and validation rows, each class in proportion.

    Raises DataError when a class has too few groups to be on both sides.
    """
    rows = folder.rows("Train")
    members: dict[str, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(folder.images[row].group, []).append(row)
    labels = {group: max(folder.images[row].label for row in own) for group, own in members.items()}
    chosen: set[int] = set()
    for label, name in enumerate(folder.classes):
        groups = sorted(group for group in members if labels[group] == label)
        if len(groups) < 2:
            raise DataError(
                f"class {name} is too small for a validation part", where=folder.root / "Train" / name,
                expected="at least 2 images (or groups)", found=len(groups),
            )  # fmt: skip
        order = np.random.default_rng([seed, 5001, label]).permutation(len(groups))
        count = min(max(1, round(fraction * len(groups))), len(groups) - 1)
        chosen |= {row for position in order[:count] for row in members[groups[position]]}
    inside = np.array([row in chosen for row in rows.tolist()])
    return rows[~inside], rows[inside]
