"""What stands in a folder of class images, or in a table of them: parts, classes, images and volumes."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from thermocancer.data.class_images import is_image, pixel_hash
from thermocancer.data.folder.words import positive_of
from thermocancer.data.names import is_junk
from thermocancer.data.series import Hasher, Members, Series, dicom_series, is_nifti, open_dicoms, open_nifti
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import reading
from thermocancer.thermal.likeness import alike

PARTS = ("Train", "Test")
_UNREADABLE = "unreadable: "


@dataclass(frozen=True)
class Entry:
    """What may become an image, or the slices of a volume; ``patient`` and ``columns`` are a table's."""

    path: Path
    part: str
    name: str
    patient: str = ""
    members: Members = ()
    columns: Mapping[str, str] = field(default_factory=dict)


def open_volume(entry: Entry, remembered: Hasher) -> Series:
    """A volume, read once. Raises DataError when it is damaged."""
    if not entry.members:
        return open_nifti(entry.path, remembered)
    return open_dicoms(entry.members, lambda path: hash_of(path, remembered))


def entries_below(found: Mapping[str, Mapping[str, Path]]) -> tuple[list[Entry], list[Path]]:
    """Images and volumes of class folders by part and name, and the files that are neither."""
    entries, junk = list[Entry](), list[Path]()
    for part, folders in found.items():
        for name, folder in sorted(folders.items()):
            files = sorted(files_below(folder))
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
                volumes = [] if place == folder else series_in(place, own)
                taken = {path for _, members in volumes for path, _ in members}
                entries += [Entry(where, part, name, members=members) for where, members in volumes]
                entries += [Entry(path, part, name) for path in own if path not in taken]
    return entries, junk


def series_in(folder: Path, files: Sequence[Path]) -> list[tuple[Path, Members]]:
    """The DICOM series of a folder (two slices or more) under the folder's name, numbered where there are several."""
    found = [members for _, members in sorted(dicom_series(files).items()) if len(members) > 1]
    several = len(found) > 1
    return [(folder / f"{n}" if several else folder, tuple(members)) for n, members in enumerate(found, start=1)]


def entries_of_table(table: Path, parts: tuple[str, ...]) -> list[Entry]:
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
        volumes = series_in(path, sorted(files_below(path))) if path.is_dir() else [(path, ())]
        if len(volumes) != 1:
            raise DataError("a folder that is not one DICOM series", where=path, found=f"{len(volumes)} series")
        entries.append(Entry(path, part, row["label"], row.get("patient", ""), volumes[0][1], columns))
    return entries


_OF_TABLE = ("path", "label", "patient", "part")


def names_of(entries: Sequence[Entry], parts: tuple[str, ...]) -> dict[str, dict[str, Path]]:
    """The classes of each part as ``classes_of`` gives them."""
    found: dict[str, dict[str, Path]] = {part: {} for part in parts}
    for each in entries:
        found[each.part][each.name] = each.path.parent
    return found


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are followed, each place once."""
    seen = set()
    for where, inside, names in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(where)) in seen:
            inside.clear()
            continue
        seen.add(place)
        yield from (path for name in names if (path := Path(where, name)).is_file())


def folders_of(root: Path) -> list[Path]:
    return [each for each in sorted(root.iterdir()) if each.is_dir() and not is_junk(each.name)]


def part_of(folder: Path) -> str:
    """The part that a folder's name means, in whatever letters (``train``, ``Training``, ``test_set``), or nothing."""
    means = re.fullmatch(r"(train|test)(?:ing)?[ _-]?(?:set|data|images)?", folder.name.lower())
    return means[1].capitalize() if means else ""


def folder_of(root: Path, part: str) -> Path:
    """The folder of one part; ``Train`` and ``train`` are the same. Of no part: the folder itself."""
    if not root.is_dir():
        raise DataError("the image folder is not there", where=root, hint="correct --data")
    if not part:
        return root
    folder, *others = [*(each for each in folders_of(root) if part_of(each) == part), None]
    if folder is None or others[0] is not None:
        raise DataError(
            f"the folder has no {part}" if folder is None else f"two folders may be {part}",
            where=root, expected=f"{part}/CLASS/ with images in it",
            found=", ".join(each.name for each in sorted(root.iterdir())[:6]) or "nothing",
            hint=f"rename the folder that is meant to {part}; or class folders without parts: "
            "--set cnn.folds=leave-one-patient-out",
        )  # fmt: skip
    return folder


def classes_of(root: Path, part: str) -> dict[str, Path]:
    """Class folders of one part, by name."""
    return {each.name: each for each in folders_of(folder_of(root, part))}


def compiled(pattern: str | None, setting: str) -> re.Pattern[str] | None:
    """A setting's regular expression. Raises ConfigError."""
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        what = f"the {setting} pattern is not a regular expression"
        raise ConfigError(what, where=f"cnn.{setting}", found=error) from error


def classed(entries: Sequence[Entry], label: re.Pattern[str]) -> list[Entry]:
    """Entries of the class that the pattern finds in each name. Raises ConfigError where it finds none."""
    found = [label.search(each.path.name) for each in entries]
    if None in found:
        raise ConfigError(
            "the class pattern does not fit every file name", where="cnn.label",
            expected=f"a match of {label.pattern!r}",
            found=f"{found.count(None)} without, such as {entries[found.index(None)].path.name}",
        )  # fmt: skip
    return [replace(each, name=match[label.groups and 1]) for each, match in zip(entries, found, strict=True) if match]


def check_classes(root: Path, found: dict[str, dict[str, Path]], positive: str | None) -> tuple[str, str]:
    first, *others = found
    spelt = {name.lower(): name for name in found[first]}
    train = sorted(found[first])
    for part in others:
        found[part] = {spelt.get(name.lower(), name): folder for name, folder in found[part].items()}
        test = sorted(found[part])
        only_test = sorted(set(test) - set(train))
        if only_test:
            raise DataError(f"class {only_test[0]} stands only in Test", where=root, expected=train, found=test)
    if not first and root.is_dir() and train and all(part_of(root / name) for name in train):
        raise DataError(
            "these folders are parts, not classes", where=root, expected="class folders, as cnn.folds is not parts",
            found=", ".join(train), hint="--set cnn.folds=parts, or --data with the folder of one part",
        )  # fmt: skip
    if len(train) != 2:
        raise DataError(
            "two classes are needed", where=root / first, expected="two class folders", found=train,
            hint="where file names say the class: --set cnn.label='^([A-Za-z]+)', a regular expression"
            if len(train) < 2 else "keep two of them, or name files and labels in a table path,label,patient",
        )  # fmt: skip
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


def hash_of(path: Path, remembered: Hasher) -> str:
    """The picture's hash. Raises DataError where it has none."""
    if (digest := remembered(path, _try_hash)).startswith(_UNREADABLE):
        raise DataError(digest.removeprefix(_UNREADABLE), where=path)
    return digest


NEARLY_EQUAL = 0.995
"""Least correlation of two class images that are one. Heads share their outline: of 19,900 pairs of 200 drawn ones (64
to 256 rows) the nearest reach .988; encoded again as JPEG 80, mirrored, brighter or halved the least is .9987, but .990
where a half has 48 rows (both in ``tests/test_image_folder.py``)."""


def nearly_equal(looks: Sequence[str], apart: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    """Positions of pictures that are nearly the same, or mirrored.

    Pictures that share one of the two names which ``apart`` gives each, of the patient and of the content, are none.
    """
    return [
        (first, second)
        for first, second, _ in alike(looks, [""] * len(looks), NEARLY_EQUAL)
        if not any(one == other for one, other in zip(apart[first], apart[second], strict=True))
    ]


def _try_hash(path: Path) -> str:
    """The picture's hash, or why it has none."""
    try:
        return pixel_hash(path)
    except DataError as error:
        return f"{_UNREADABLE}{error.what}" + (f" ({error.found})" if error.found else "")
