"""Class images: one image file of any usual kind to 8 bits a channel, and a folder of ``Train/CLASS/*`` and
``Test/CLASS/*``, checked before anything is trained on it.

Values beyond 8 bits are stretched from the image's own minimum to its maximum, as a viewer does;
DICOM goes through its window and its photometric interpretation.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thermocancer.data.cohort import IMAGE, Exam, IntArray
from thermocancer.data.names import is_junk, safe_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint
from thermocancer.outcome import Failure
from thermocancer.workspace import LABELS

if TYPE_CHECKING:
    import pydicom

Pixels = npt.NDArray[np.uint8]
Colour = Literal["rgb", "gray"]
Interpolation = Literal["area", "nearest"]

# --- One file ---------------------------------------------------------------------------------------------------------

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})
_DICOM = frozenset({".dcm", ".dicom"})
_ENDS = {b"\x89PNG": (b"IEND", "PNG"), b"\xff\xd8": (b"\xff\xd9", "JPEG")}
_TAIL_BYTES = 4096


def is_image(path: Path) -> bool:
    """Does the file's suffix say that it is an image this module can read?"""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _check_pydicom(example: Path) -> None:
    """Raise ConfigError when there is nothing to read DICOM files with."""
    if importlib.util.find_spec("pydicom") is None:
        hint = "pip install 'thermocancer[dicom]', or convert the files to PNG"
        raise ConfigError("DICOM files need pydicom", where=example, hint=hint)


def read_image(
    path: Path, *, colour: Colour = "rgb", size: tuple[int, int] | None = None, interpolation: Interpolation = "area"
) -> Pixels:
    """Read an image as uint8 (rows, columns, 3), or (rows, columns, 1) for ``gray``; resized to ``size`` if given.

    ``nearest`` takes the pixel whose centre is nearest, as Pillow does; ``area`` averages what shrinks.
    Raises DataError when the file is empty, cut short, or no image.
    """
    import cv2

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the image cannot be read", where=path, found=error.strerror or error) from error
    if not content:
        raise DataError("the image is empty", where=path, expected="an image file", found="0 bytes")
    is_dicom = path.suffix.lower() in _DICOM or content[128:132] == b"DICM"
    pixels = _read_dicom(path) if is_dicom else _decode(content, path)  # (rows, columns) or (rows, columns, 3) RGB
    if colour == "rgb":
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels
    else:
        gray = pixels if pixels.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        pixels = np.asarray(gray, np.uint8)[..., np.newaxis]
    if size is not None and pixels.shape[:2] != size:
        method = cv2.INTER_AREA if size[0] < pixels.shape[0] else cv2.INTER_LINEAR
        method = cv2.INTER_NEAREST_EXACT if interpolation == "nearest" else method
        pixels = np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=method), np.uint8).reshape(*size, -1)
    return np.ascontiguousarray(pixels)


def pixel_hash(path: Path) -> str:
    """SHA-256 of the decoded image: the same picture in two formats or under two names has one hash."""
    pixels = read_image(path)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _decode(content: bytes, path: Path) -> Pixels:
    import cv2

    for start, (end, kind) in _ENDS.items():
        if content.startswith(start) and end not in content[-_TAIL_BYTES:]:
            raise DataError("the image is cut short", where=path, expected=f"the end mark of a {kind} file")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError("the image cannot be decoded", where=path, expected=f"one of {', '.join(sorted(SUFFIXES))}")
    if pixels.ndim == 3:
        pixels = pixels[..., :3][..., ::-1] if pixels.shape[2] >= 3 else pixels[..., 0]  # BGR, BGRA, gray with alpha
    return _to_8_bits(pixels)


def _to_8_bits(values: npt.NDArray[np.generic]) -> Pixels:
    """Leave 8 bits as they are; stretch anything wider from its lowest to its highest value."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    finite = np.nan_to_num(values.astype(np.float64))
    return _stretch(finite, float(finite.min()), float(finite.max()))


def _stretch(values: npt.NDArray[np.float64], low: float, high: float) -> Pixels:
    share = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return np.rint(share * 255).astype(np.uint8)


def _read_dicom(path: Path) -> Pixels:
    """A DICOM image with its rescaling, its window and its photometric interpretation (PS3.3, C.7.6.3, C.11)."""
    _check_pydicom(path)
    import pydicom
    from pydicom.pixels.processing import apply_modality_lut, convert_color_space

    try:
        data = pydicom.dcmread(path)
        values = data.pixel_array
        kind = str(data.PhotometricInterpretation)
    except Exception as error:  # pydicom and its decoders raise whatever the damage led to
        raise DataError("the DICOM image cannot be read", where=path, found=f"{error}".splitlines()[0][:200]) from error
    if int(data.get("NumberOfFrames", 1)) > 1:
        raise DataError("a DICOM file with several frames", where=path, expected="one", found=data.NumberOfFrames)
    if values.ndim == 3:
        return _to_8_bits(convert_color_space(values, kind, "RGB") if kind.startswith("YBR") else values)
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        expected = "MONOCHROME1, MONOCHROME2 or RGB"
        raise DataError("a DICOM image of an unknown kind", where=path, expected=expected, found=kind)
    gray = _windowed(data, np.asarray(apply_modality_lut(values, data), dtype=np.float64))
    return 255 - gray if kind == "MONOCHROME1" else gray


def _windowed(data: pydicom.Dataset, values: npt.NDArray[np.float64]) -> Pixels:
    """Grey values under the file's first window, or its lookup table, or stretched if it has neither."""
    from pydicom.pixels.processing import apply_voi

    def first(name: str) -> float | None:
        value = data.get(name)
        if value is None or value == "":
            return None
        return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)

    if "VOILUTSequence" in data:
        return _to_8_bits(apply_voi(values.astype(np.int64), data, index=0).astype(np.float64))
    centre, width = first("WindowCenter"), first("WindowWidth")
    if centre is None or width is None:
        return _to_8_bits(values)
    if str(data.get("VOILUTFunction", "LINEAR")).upper() == "LINEAR" and width > 1:
        return _stretch(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    return _stretch(values, centre - width / 2, centre + width / 2)


# --- A folder of classes ----------------------------------------------------------------------------------------------

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

    ``junk`` are files of editors, file managers and downloads, and those of formats that are not read.
    """

    root: Path
    classes: tuple[str, str]
    images: tuple[ClassImage, ...]
    rejected: tuple[Failure, ...]
    grouped: bool
    junk: tuple[str, ...] = ()

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
    root: Path,
    *,
    positive: str | None = None,
    group: str | None = None,
    index: HashIndex | None = None,
    keep_copies: bool = False,
) -> ImageFolder:
    """Find, decode and check every image of ``root``; ``index`` remembers hashes while files stay as they are.

    Unreadable images, and copies within a part, are left out and listed in ``rejected``; with ``keep_copies`` all
    copies stay, those in both parts too. Raises
    DataError when a part or a class is missing or empty, a class stands only in Test, one picture has
    two classes, or a picture or a group is in both parts; ConfigError for a pattern or a class name that fits nothing.
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
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            inside = [
                path for path in files if is_image(path) and not any(map(is_junk, path.relative_to(folder).parts))
            ]
            junk += [safe_name(path.relative_to(root)) for path in sorted({*files} - {*inside})]
            if not inside:
                expected = "PNG, JPEG, TIFF, BMP or DICOM files"
                raise DataError("a class folder has no images", where=folder, expected=expected)
            listed += [(path, part, name) for path in inside]
    for path in [path for path, _, _ in listed if path.suffix.lower() in _DICOM][:1]:
        _check_pydicom(path)
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
    return ImageFolder(root, classes, tuple(numbered), (*rejected, *copies), pattern is not None, tuple(junk))


def _classes_of(root: Path, part: str) -> dict[str, Path]:
    """Class folders of one part, by name; ``Train`` and ``train`` are the same."""
    if not root.is_dir():
        raise DataError("the image folder is not there", where=root, hint="correct --data")
    inside = sorted(root.iterdir())
    folder = next((each for each in inside if each.name.lower() == part.lower() and each.is_dir()), None)
    if folder is None:
        raise DataError(
            f"the folder has no {part}", where=root, expected=f"{part}/CLASS/ with images in it",
            found=", ".join(each.name for each in inside[:6]) or "nothing",
        )  # fmt: skip
    return {each.name: each for each in sorted(folder.iterdir()) if each.is_dir() and not is_junk(each.name)}


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
    """Divide training rows by patient into rows to train on and rows to validate on, each class in proportion.

    With ``first`` the int(``fraction`` n) first rows of each class validate: with rows in the order of file names
    what Keras' ``ImageDataGenerator(validation_split)`` does, by image and not by patient.

    Raises DataError (``root``: the folder of the images) when a class has too few patients to be on both sides.
    """
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(exams[row].patient, []).append(row)
    labels = {patient: max(exams[row].label for row in own) for patient, own in members.items()}
    chosen: set[int] = set()
    for label, name in enumerate(classes):
        patients = sorted(patient for patient in members if labels[patient] == label)
        if len(patients) < 2:
            raise DataError(
                f"class {name} is too small for a validation part", where=root and root / PARTS[0] / name,
                expected="at least 2 images (or groups)", found=len(patients),
            )  # fmt: skip
        if first:
            own = [row for row in rows.tolist() if exams[row].label == label]
            chosen |= set(own[: max(1, int(fraction * len(own)))])
            continue
        order = np.random.default_rng([seed, 5001, label]).permutation(len(patients))
        count = min(max(1, round(fraction * len(patients))), len(patients) - 1)
        chosen |= {row for position in order[:count] for row in members[patients[position]]}
    inside = np.array([row in chosen for row in rows.tolist()])
    return rows[~inside], rows[inside]
