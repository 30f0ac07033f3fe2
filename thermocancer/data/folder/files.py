"""The files of an imported folder: text matrices, grey images with a stated range, radiometric videos."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from thermocancer.config.sources import ImportSection
from thermocancer.data.folder.names import natural_order
from thermocancer.data.folder.tables import read_table
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex, fingerprint, hash_file, link_or_copy, write_bytes
from thermocancer.thermal.reading import read_matrix, to_centi
from thermocancer.thermal.writing import format_matrix

_RANGES_SUFFIX = "_temp.csv"
_NO_MATRICES = ("readme", "license", "licence", "changelog", "requirements")
Kind = Literal["text", "image", "video"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "text": (".txt", ".csv", ".tsv", ".asc", ".dat"),
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

    def recipe(self, section: ImportSection) -> str:
        """Changes when the same file would be imported with other content."""
        if self.kind == "video":
            return fingerprint("video", section.frame_step, section.frames)
        if self.kind == "image":
            return fingerprint("image", section.range.model_dump() if section.range else None)
        return ""


@dataclass(frozen=True)
class Facts:
    """What reading a file showed: layout, shape (rows, columns), range in degC, number of matrices in it."""

    layout: str
    shape: tuple[int, int]
    low: float
    high: float
    notes: tuple[str, ...] = ()
    count: int = 1

    def as_extra(self) -> dict[str, object]:
        extra: dict[str, object] = {"shape": list(self.shape), "low": self.low, "high": self.high}
        return extra | ({"notes": list(self.notes)} if self.notes else {})


def find_sources(section: ImportSection, apart: Iterable[Path]) -> tuple[list[SourceFile], list[str]]:
    """Every file of ``import.folder`` that can hold a matrix, in natural order, and notes on what was left out.

    ``apart`` are files with another role (labels, dates) and folders to stay out of (the workspace).
    Of a folder with radiometric videos the videos are taken when ``import.protocol`` is D, everything
    else otherwise; images need ``import.range``.
    Raises ConfigError for a folder that is not there or images without a range, DataError for no files.
    """
    if section.folder is None:
        raise ConfigError("which folder shall be imported?", where="import.folder", hint="thermocancer import DIR")
    folder = Path(section.folder)
    if not folder.is_dir():
        raise ConfigError("there is no such folder", where="import.folder", found=folder)
    excluded = {path.resolve() for path in apart}
    found: dict[Kind, list[SourceFile]] = {"text": [], "image": [], "video": []}
    for path in folder.rglob("*"):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        kind = next((kind for kind, suffixes in SUFFIXES.items() if path.suffix.casefold() in suffixes), None)
        no_matrices = path.stem.casefold() in _NO_MATRICES or any(part.startswith(".") for part in relative.parts)
        if kind is None or no_matrices or not path.is_file():
            continue
        of_a_video = path.with_name(path.name.removesuffix(_RANGES_SUFFIX) + ".avi")
        if path.name.endswith(_RANGES_SUFFIX) and of_a_video.exists():
            continue
        if excluded.isdisjoint((path.resolve(), *path.resolve().parents)):
            found[kind].append(SourceFile(kind, path, relative))
    texts, images, videos = found["text"], found["image"], found["video"]
    radiometric = [each for each in videos if each.ranges.exists()]
    if section.protocol == "D" and radiometric:
        others = len(texts) + len(images) + len(videos) - len(radiometric)
        notes = [f"{others} files beside the radiometric videos were left out"] if others else []
        return sorted(radiometric, key=lambda each: natural_order(each.relative)), notes
    notes = [f"{len(videos)} videos were left out: --protocol D imports them"] if videos else []
    if images and section.range is None:
        if not texts:
            raise ConfigError(
                "grey images need the temperatures of their darkest and brightest level", where="import.range",
                found=f"{len(images)} images in {folder}", hint="for example --set 'import.range={low: 18, high: 38}'",
            )  # fmt: skip
        notes.append(f"{len(images)} images were left out: no import.range says what their grey levels mean")
        images = []
    if not texts and not images:
        raise DataError(
            "there is nothing to import in this folder", where=folder,
            expected=f"files ending in {', '.join((*SUFFIXES['text'], *SUFFIXES['image']))}",
            found="; ".join(notes) or "none",
        )  # fmt: skip
    return sorted(texts + images, key=lambda each: natural_order(each.relative)), notes


# --- Reading ----------------------------------------------------------------------------------------------------------


def inspect(source: SourceFile, section: ImportSection) -> Facts:
    """Read a file and say what it is. Raises DataError for anything that cannot be imported."""
    if source.kind == "text":
        matrix = read_matrix(source.path)
        finite = matrix.celsius[np.isfinite(matrix.celsius)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        return Facts(matrix.layout, matrix.shape, low, high, matrix.notes)
    if source.kind == "image":
        celsius, bits = _read_grey(source.path, section)
        return Facts(f"grey{bits}", celsius.shape, float(celsius.min()), float(celsius.max()))
    return _inspect_video(source, section)


def check_shape(facts: Facts, source: SourceFile, section: ImportSection) -> None:
    """Raise DataError for matrices of another shape than ``import.shape``."""
    if section.shape is not None and facts.shape != section.shape:
        expected, found = "x".join(map(str, section.shape)), "x".join(map(str, facts.shape))
        raise DataError("this matrix has another shape", where=source.path, expected=expected, found=found)


def make(source: SourceFile, section: ImportSection, targets: Sequence[Path]) -> list[tuple[str, int]]:
    """Write the matrices of ``source`` as ``targets``: text is linked or copied as it is, the rest becomes text.

    Returns the SHA-256 and the number of bytes of each.
    """
    if source.kind == "text":
        link_or_copy(source.path, targets[0])
        return [(hash_file(targets[0]), targets[0].stat().st_size)]
    if source.kind == "image":
        frames: Iterable[npt.NDArray[np.float64]] = [_read_grey(source.path, section)[0]]
    else:
        frames = _frames(source, section, len(targets))
    made = []
    for target, celsius in zip(targets, frames, strict=True):
        content = format_matrix(to_centi(celsius))
        write_bytes(target, content)
        made.append((hashlib.sha256(content).hexdigest(), len(content)))
    return made


def _read_grey(path: Path, section: ImportSection) -> tuple[npt.NDArray[np.float64], int]:
    """A grey image in degC (height, width) and its bits. Colour images with three equal channels count as grey."""
    import cv2

    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.stat().st_size else None
    if image is None:
        raise DataError("this image cannot be read", where=path)
    if image.ndim == 3:
        if not (image[:, :, :1] == image[:, :, :3]).all():
            raise DataError(
                "a colour image has no temperatures", where=path, expected="a grey image of 8 or 16 bits",
                found=f"{image.shape[2]} different channels",
            )  # fmt: skip
        image = image[:, :, 0]
    if image.dtype not in (np.uint8, np.uint16):
        raise DataError("this image is not grey", where=path, expected="8 or 16 bits", found=image.dtype)
    assert section.range is not None
    bits = 8 * image.dtype.itemsize
    return _to_celsius(image, bits, section.range.low, section.range.high), bits


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
