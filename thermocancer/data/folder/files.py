"""The files of an imported folder: matrices in every format that is read, grey images with a stated range, videos."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import natural_order
from thermocancer.data.folder.tables import read_table
from thermocancer.data.names import is_junk, safe_name
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, clone_or_link, fingerprint, hash_file, write_bytes
from thermocancer.thermal.formats import as_decoded
from thermocancer.thermal.pictures import encoding_of, read_grey
from thermocancer.thermal.reading import ThermalMatrix, read_frames, to_centi
from thermocancer.thermal.regions import missing_pixels
from thermocancer.thermal.units import UNITS, looks_like, option_of
from thermocancer.thermal.writing import format_matrix

_RANGES_SUFFIX = "_temp.csv"
_NO_MATRICES = frozenset({"readme", "license", "licence", "changelog", "requirements", "help"})
JUNK = "left by an editor, a file manager or a download"
Kind = Literal["text", "binary", "image", "video"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".csv", ".tsv", ".asc", ".dat"),
    "binary": (".npy", ".npz", ".mat", ".fff", ".seq"),
    "image": (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg"),
    "video": (".avi",),
}


@dataclass(frozen=True)
class SourceFile:
    """One file (or video with its table of ranges) of the folder; ``relative`` is its path below it."""

    kind: Kind
    path: Path
    relative: PurePosixPath

    @property
    def ranges(self) -> Path:
        """The table of each frame's lowest and highest temperature, beside a radiometric video."""
        return self.path.with_name(self.path.stem + _RANGES_SUFFIX)

    def sha256(self, hashes: HashIndex) -> str:
        if self.kind == "video":
            return fingerprint(hashes.of(self.path), hashes.of(self.ranges))
        return hashes.of(self.path)

    def is_described_by(self, extra: Mapping[str, object]) -> bool:
        """Does what an earlier import kept hold all that is asked of such a file today?"""
        return self.kind != "image" or "encoding" in extra

    def recipe(self, section: ImportSection) -> str:
        """Changes when the same file would be imported with other content."""
        if self.kind == "video":
            return fingerprint("video", section.frame_step, section.frames)
        if self.kind == "image":
            return fingerprint("image", section.range.model_dump() if section.range else None)
        part = () if section.part is None else (section.part,)
        if self.kind == "text" and section.shape is not None:
            return fingerprint(self.kind, section.unit, section.shape, *part)
        if section.unit in (None, "C") and self.kind == "text" and not part:
            return ""
        return fingerprint(self.kind, section.unit, *part)


@dataclass(frozen=True)
class Facts:
    """What reading a file showed: layout, shape (rows, columns), range in degC, number of matrices and of pixels
    without a temperature in it."""

    layout: str
    shape: tuple[int, int]
    low: float
    high: float
    notes: tuple[str, ...] = ()
    count: int = 1
    encoding: str = ""
    missing: int = 0

    def as_extra(self) -> dict[str, object]:
        extra: dict[str, object] = {"shape": list(self.shape), "low": self.low, "high": self.high}
        extra |= {"encoding": self.encoding} if self.encoding else {}
        extra |= {"missing_pixels": self.missing} if self.missing else {}
        return extra | ({"notes": list(self.notes)} if self.notes else {})


@dataclass
class Found:
    """The files to import, in natural order; every other file under the reason why it is not taken."""

    sources: list[SourceFile]
    left_out: dict[str, list[str]]
    notes: list[str]


def find_sources(section: ImportSection, apart: Iterable[Path], only: Sequence[Path] | None = None) -> Found:
    """Every file of ``import.folder`` (of ``only`` these) that can hold a matrix; links to other folders are followed.

    ``apart`` are files with another role (labels, dates) and folders to stay out of (the workspace).
    Of a folder with radiometric videos the videos are taken when ``import.protocol`` is D, everything
    else otherwise; images need ``import.range``, unless they hold temperatures themselves (TIFF, radiometric JPEG).
    Raises ConfigError for a folder that is not there or images without a range, DataError for no files.
    """
    if section.folder is None:
        raise ConfigError("which folder shall be imported?", where="import.folder", hint="thermocancer import DIR")
    folder = Path(section.folder)
    if not folder.is_dir():
        raise ConfigError("there is no such folder", where="import.folder", found=folder)
    found: dict[Kind, list[SourceFile]] = {kind: [] for kind in SUFFIXES}
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    links: list[str] = []
    walked = _walk(folder, {path.resolve() for path in apart}, left_out, links) if only is None else only
    for path in walked:
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        suffix = path.suffix.casefold()
        kind = next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)
        if _NO_MATRICES.intersection(re.split(r"[\W_]+", path.stem.casefold())):
            left_out["a text for people, by its name"].append(safe_name(relative))
        elif kind is None:
            left_out[f"format {suffix or 'without a suffix'} is not read"].append(safe_name(relative))
        elif not (path.name.endswith(_RANGES_SUFFIX) and path.with_name(_of_video(path)).exists()):
            found[kind].append(SourceFile(kind, path, relative))
    chosen, notes = _choose(found, section, folder, left_out)
    if links:
        notes.append(f"{len(links)} folders are links to elsewhere and were followed: {', '.join(links[:3])}")
    odd = [safe_name(each.relative) for each in chosen if safe_name(each.relative) != str(each.relative)]
    if odd:
        notes.append(f"{len(odd)} names hold bytes that are no text, and are shown escaped: {', '.join(odd[:3])}")
    return Found(sorted(chosen, key=lambda each: natural_order(each.relative)), dict(left_out), notes)


def _of_video(path: Path) -> str:
    return path.name.removesuffix(_RANGES_SUFFIX) + ".avi"


def _walk(folder: Path, apart: set[Path], left_out: dict[str, list[str]], links: list[str]) -> Iterator[Path]:
    """Every file below a folder that is no junk; each folder once, however many links lead to it."""
    seen: set[Path] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        real = here.resolve()
        if real in seen or real in apart:
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(folders):
            if is_junk(name):
                left_out[JUNK].append(safe_name((here / name).relative_to(folder)) + "/")
            elif (here / name).is_symlink():
                links.append(safe_name((here / name).relative_to(folder)))
        folders[:] = sorted(name for name in folders if not is_junk(name))
        for name in sorted(files):
            path = here / name
            if is_junk(name):
                left_out[JUNK].append(safe_name(path.relative_to(folder)))
            elif not path.is_file():
                left_out["a link that leads nowhere, or no regular file"].append(safe_name(path.relative_to(folder)))
            elif path.resolve() not in apart:
                yield path


def _choose(
    found: dict[Kind, list[SourceFile]], section: ImportSection, folder: Path, left_out: dict[str, list[str]]
) -> tuple[list[SourceFile], list[str]]:
    texts, images, videos = found["text"] + found["binary"], found["image"], found["video"]
    radiometric = [each for each in videos if each.ranges.exists()]
    if section.protocol == "D" and radiometric:
        others = len(texts) + len(images) + len(videos) - len(radiometric)
        return radiometric, [f"{others} files beside the radiometric videos were left out"] if others else []
    notes = [f"{len(videos)} videos were left out: --protocol D imports them"] if videos else []
    asked = section.range is None or section.unit is not None
    if images and asked and (why_not := _no_temperatures(images[0], section)) is None:
        images = [replace(each, kind="binary") for each in images]
    elif images and section.range is None:
        if not texts:
            why = "" if why_not is None else f"{why_not.what}, {why_not.found}"
            found_here = f"{len(images)} images in {folder}; as temperatures the first cannot be read: {why}"
            if why_not is not None and "import.part" in (why_not.hint or ""):
                raise why_not
            if unit := option_of(why):
                what, expected = "these images hold temperatures in another unit", "to be told the unit"
                raise ConfigError(what, where="import.unit", expected=expected, found=found_here, hint=unit)
            raise ConfigError(
                "grey images need the temperatures of their darkest and brightest level", where="import.range",
                found=found_here,
                hint="for example --set 'import.range={low: 18, high: 38}', or --unit where they hold temperatures; "
                "pictures without either are class images: thermocancer train-cnn --data",
            )  # fmt: skip
        notes.append(f"{len(images)} images were left out: no import.range says what their grey levels mean")
        images = []
    if not texts and not images:
        listed = [*notes, *(f"{len(names)} files: {why} ({names[0]})" for why, names in left_out.items())]
        raise DataError(
            "there is nothing to import in this folder", where=folder,
            expected=f"files ending in {', '.join((*SUFFIXES['text'], *SUFFIXES['image']))}",
            found="; ".join(listed) or "none",
        )  # fmt: skip
    return texts + images, notes


# --- Reading ----------------------------------------------------------------------------------------------------------


def inspect(source: SourceFile, section: ImportSection) -> Facts:
    """Read a file and say what it is. Raises DataError for anything that cannot be imported."""
    if source.kind in ("text", "binary"):
        frames = _matrices(source, section)
        degrees = np.stack([each.degrees for each in frames])
        known = degrees[np.isfinite(degrees)]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
        count = degrees.size - known.size
        return Facts(frames[0].layout, frames[0].shape, low, high, frames[0].notes, len(frames), missing=count)
    if source.kind == "image":
        celsius, bits = _read_grey(source.path, section)
        low, high, encoding = float(celsius.min()), float(celsius.max()), encoding_of(source.path.read_bytes())
        return Facts(f"grey{bits}", celsius.shape, low, high, encoding=encoding)
    return _inspect_video(source, section)


def _matrices(source: SourceFile, section: ImportSection) -> tuple[ThermalMatrix, ...]:
    """Every matrix of a file, in ``import.unit`` or what it states; several are frames of a dynamic exam."""
    frames = read_frames(source.path, unit=section.unit, shape=section.shape, part=section.part)
    if len(frames) > 1 and section.protocol != "D":
        raise DataError(
            "this file holds several frames, not one matrix", where=source.path,
            expected="one matrix, import.part, or --protocol D for dynamic exams", found=f"{len(frames)} frames",
        )  # fmt: skip
    return frames


def _no_temperatures(source: SourceFile, section: ImportSection) -> DataError | None:
    """Why a picture's own numbers are no temperatures; None where they are."""
    try:
        read_frames(source.path, unit=section.unit, part=section.part)
    except DataError as error:
        return error
    return None


def check_shape(facts: Facts, source: SourceFile, section: ImportSection) -> None:
    """Raise DataError for matrices of another shape than ``import.shape``."""
    if section.shape is not None and facts.shape != section.shape:
        expected, found = "x".join(map(str, section.shape)), "x".join(map(str, facts.shape))
        raise DataError("this matrix has another shape", where=source.path, expected=expected, found=found)


def make(source: SourceFile, section: ImportSection, targets: Sequence[Path]) -> list[tuple[str, int]]:
    """Write the matrices of ``source`` as ``targets``: text is linked or copied as it is, the rest becomes text.

    Text in another unit is converted; missing pixels are written as 0.00, which reads as missing again. Returns the
    SHA-256 and the number of bytes of each.
    """
    as_it_is = source.kind == "text" and section.unit in (None, "C") and section.part is None and len(targets) == 1
    if as_it_is and (section.shape is None or _is_plain(source)):
        clone_or_link(source.path, targets[0])
        return [(hash_file(targets[0]), targets[0].stat().st_size)]
    frames: Iterable[npt.NDArray[np.float64]]
    if source.kind in ("text", "binary"):
        frames = [each.celsius for each in _matrices(source, section)]
    elif source.kind == "image":
        frames = [_read_grey(source.path, section)[0]]
    else:
        frames = _frames(source, section, len(targets))
    made = []
    for target, celsius in zip(targets, frames, strict=True):
        content = format_matrix(to_centi(np.where(missing_pixels(celsius), 0.0, celsius)))
        write_bytes(target, content)
        made.append((hashlib.sha256(content).hexdigest(), len(content)))
    return made


def _is_plain(source: SourceFile) -> bool:
    """Can a text be read without being told its shape?"""
    try:
        read_frames(source.path, unit="C")
    except DataError:
        return False
    return True


def _read_grey(path: Path, section: ImportSection) -> tuple[npt.NDArray[np.float64], int]:
    """A grey image in degC (height, width) and its bits."""
    grey = read_grey(path.read_bytes(), str(path))
    assert section.range is not None
    bits = 8 * grey.dtype.itemsize
    units = [each for each in looks_like(as_decoded(grey, "grey", str(path))) if each != "raw"] if bits == 16 else []
    if units or (bits == 16 and grey.max() < 1 << 14):
        names = " or ".join(UNITS[each] for each in units) or "a camera's counts"
        raise DataError(
            f"these levels look like {names}, not levels of import.range",
            where=path, expected="levels from 0 to 65535", found=f"{grey.min()} to {grey.max()}",
        )  # fmt: skip
    return _to_celsius(grey.astype(np.float64), bits, section.range.low, section.range.high), bits


def _to_celsius(grey: npt.NDArray[np.number], bits: int, low: float, high: float) -> npt.NDArray[np.float64]:
    return np.asarray(grey / float(2**bits - 1) * (high - low) + low, np.float64)


def _inspect_video(source: SourceFile, section: ImportSection) -> Facts:
    import cv2

    capture = cv2.VideoCapture(str(source.path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
    shape = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    capture.release()
    if count < 1:
        raise DataError("this video cannot be read", where=source.path)
    ranges = _frame_ranges(source)
    if abs(len(ranges) - count) > 1:  # recorders drop or repeat the last frame; more than that is another video's table
        what = "the table of ranges does not belong to this video"
        raise DataError(what, where=source.ranges, expected=f"{count} lines, one a frame", found=len(ranges))
    kept = ranges[: section.frame_step * section.frames : section.frame_step]
    kept = kept[: -(-count // section.frame_step)]
    return Facts("video8", shape, float(kept[:, 0].min()), float(kept[:, 1].max()), (), len(kept))


def _frame_ranges(source: SourceFile) -> npt.NDArray[np.float64]:
    """Lowest and highest temperature of each frame, degC, (frames, 2)."""
    table = read_table(source.ranges, "import.folder")
    columns = {name.casefold(): name for name in table.columns}
    if not {"min", "max"} <= set(columns):
        found = ", ".join(table.columns)
        raise DataError("this table has no ranges", where=source.ranges, expected="the columns Min,Max", found=found)
    try:
        values = [[float(row.cells[columns[name]]) for name in ("min", "max")] for row in table.rows]
    except ValueError as error:
        raise DataError("a range is not a number", where=source.ranges, found=error) from error
    ranges = np.array(values)
    if not (np.isfinite(ranges).all() and (ranges[:, 0] < ranges[:, 1]).all()):
        raise DataError("a range is empty or not finite", where=source.ranges, expected="Min below Max")
    return ranges


def _frames(source: SourceFile, section: ImportSection, count: int) -> Iterable[npt.NDArray[np.float64]]:
    """Every ``frame_step``-th frame in degC: T = grey / 255 * (Max - Min) + Min of that very frame."""
    import cv2

    ranges = _frame_ranges(source)
    capture = cv2.VideoCapture(str(source.path))
    try:
        for number in range(count):
            for _ in range(section.frame_step if number else 1):
                if not capture.grab():
                    expected = f"{count} frames"
                    raise DataError("this video breaks off", where=source.path, expected=expected, found=number)
            _, frame = capture.retrieve()
            low, high = ranges[number * section.frame_step]
            yield _to_celsius(np.asarray(frame)[:, :, 0].astype(np.uint8), 8, float(low), float(high))
    finally:
        capture.release()
