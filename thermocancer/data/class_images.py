"""Class images: one image file of any usual kind to 8 bits a channel.

Values beyond 8 bits are stretched from the image's own minimum to its maximum, as a viewer does;
DICOM goes through its window and its photometric interpretation.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError, check_installed
from thermocancer.files import reading
from thermocancer.thermal.likeness import look_of

if TYPE_CHECKING:
    import pydicom

Pixels = npt.NDArray[np.uint8]
Colour = Literal["rgb", "gray"]
Interpolation = Literal["area", "nearest"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom"})
DICOM = frozenset({".dcm", ".dicom"})
_ENDS = {b"\x89PNG": (b"IEND", "PNG"), b"\xff\xd8": (b"\xff\xd9", "JPEG")}
_TAIL_BYTES = 4096
MOST_PIXELS = 1 << 26
"""Sixteen times a large MRI slice; 200 MB in colour."""


_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


def is_image(path: Path) -> bool:
    """Is the file an image this module can read, by its suffix, or by its first bytes where it has none?

    Archives and browsers drop suffixes: ``IM00001`` is what a scanner calls a slice.
    """
    if path.name.startswith("."):
        return False
    if path.suffix and not path.suffix[1:].isdigit():  # 1.2.840.113619 is a name of its own
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as stream:
        start = stream.read(132)
    return start.startswith(_STARTS) or start[128:] == b"DICM" or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def check_pydicom(example: Path) -> None:
    """Raise ConfigError when there is nothing to read DICOM files with."""
    check_installed(
        "pydicom", "DICOM files need pydicom", extra="dicom", where=example, otherwise="convert the files to PNG"
    )


def read_image(
    path: Path, *, colour: Colour = "rgb", size: tuple[int, int] | None = None, interpolation: Interpolation = "area"
) -> Pixels:
    """Read an image as uint8 (rows, columns, 3), or (rows, columns, 1) for ``gray``; resized to ``size`` if given.

    ``nearest`` takes the pixel whose centre is nearest, as Pillow does; ``area`` averages what shrinks.
    Raises DataError when the file is empty, cut short, or no image.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the image cannot be read", where=path, found=error.strerror or error) from error
    if not content:
        raise DataError("the image is empty", where=path, expected="an image file", found="0 bytes")
    is_dicom = path.suffix.lower() in DICOM or content[128:132] == b"DICM"
    pixels = _read_dicom(path) if is_dicom else _decode(content, path)  # (rows, columns) or (rows, columns, 3) RGB
    return shaped(pixels, colour=colour, size=size, interpolation=interpolation)


def shaped(
    pixels: Pixels,
    *,
    colour: Colour = "rgb",
    size: tuple[int, int] | None = None,
    interpolation: Interpolation = "area",
) -> Pixels:
    """A picture (rows, columns) or (rows, columns, 3) as ``read_image`` gives it: its channels, and its size."""
    import cv2

    if colour == "rgb":
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels
    else:
        gray = pixels if pixels.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        pixels = np.asarray(gray, np.uint8)[..., np.newaxis]
    if size is not None and pixels.shape[:2] != size:
        if interpolation == "nearest":  # OpenCV's own takes others before version 5
            from PIL import Image

            found = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).resize(
                (size[1], size[0]), Image.Resampling.NEAREST
            )
            return np.array(found, np.uint8).reshape(*size, -1)
        method = cv2.INTER_AREA if size[0] < pixels.shape[0] else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=method), np.uint8).reshape(*size, -1)
    return np.ascontiguousarray(pixels)


def pixel_hash(path: Path) -> str:
    """SHA-256 of the decoded image: the same picture in two formats or under two names has one hash."""
    pixels = read_image(path)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def pixel_look(path: Path) -> str:
    """What ``thermal.likeness`` compares, of the decoded image: black to white counts as 20 degC."""
    return look_of(read_image(path, colour="gray")[..., 0].astype(np.float32) * np.float32(20 / 255))


def _decode(content: bytes, path: Path) -> Pixels:
    import cv2

    for start, (end, kind) in _ENDS.items():
        if content.startswith(start) and end not in content[-_TAIL_BYTES:]:
            raise DataError("the image is cut short", where=path, expected=f"the end mark of a {kind} file")
    with reading(path, "the image cannot be decoded"):
        _check_size(content)
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError("the image cannot be decoded", where=path, expected=f"one of {', '.join(sorted(SUFFIXES))}")
    if pixels.ndim == 3:
        pixels = pixels[..., :3][..., ::-1] if pixels.shape[2] >= 3 else pixels[..., 0]  # BGR, BGRA, gray with alpha
    return _to_8_bits(pixels)


def _check_size(content: bytes) -> None:
    """Raise ValueError for more than ``MOST_PIXELS``, by the header: a few kilobytes may unpack to gigabytes."""
    from PIL import Image

    with contextlib.suppress(OSError, SyntaxError), warnings.catch_warnings():  # OpenCV reads more kinds
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as header:
            width, height = header.size
            if width * height > MOST_PIXELS:
                raise ValueError(f"{height} x {width} pixels, more than {MOST_PIXELS}")


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
    check_pydicom(path)
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
