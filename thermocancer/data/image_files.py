"""One image file of any usual kind to 8 bits a channel: PNG, JPEG, TIFF, BMP, 16 bits, DICOM.

Values beyond 8 bits are stretched from the image's own minimum to its maximum, as a viewer does;
DICOM goes through its window and its photometric interpretation.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from thermocancer.errors import ConfigError, DataError

Pixels = npt.NDArray[np.uint8]
Colour = Literal["rgb", "gray"]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"})
_DICOM = frozenset({".dcm", ".dicom"})
_ENDS = {b"\x89PNG": (b"IEND", "PNG"), b"\xff\xd8": (b"\xff\xd9", "JPEG")}
_TAIL_BYTES = 4096


def is_image(path: Path) -> bool:
    """Does the file's suffix say that it is an image this module can read?"""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def is_dicom(path: Path) -> bool:
    return path.suffix.lower() in _DICOM


def require_dicom(example: Path) -> None:
    """Raise ConfigError when DICOM files are there and nothing to read them with."""
    if importlib.util.find_spec("pydicom") is None:
        raise ConfigError(
            "DICOM files need pydicom",
            where=example,
            hint="pip install 'thermocancer[dicom]', or convert the files to PNG",
        )


def read_image(path: Path, *, colour: Colour = "rgb", size: tuple[int, int] | None = None) -> Pixels:
    """Read an image as uint8 (rows, columns, 3), or (rows, columns, 1) for ``gray``; resized to ``size`` if given.

    Raises DataError when the file is empty, cut short, or no image.
    """
    pixels = _to_colour(_read_any(path), colour)
    if size is not None and pixels.shape[:2] != size:
        import cv2

        method = cv2.INTER_AREA if size[0] < pixels.shape[0] else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=method), np.uint8).reshape(*size, -1)
    return np.ascontiguousarray(pixels)


def pixel_hash(path: Path) -> str:
    """SHA-256 of the decoded image: the same picture in two formats or under two names has one hash."""
    pixels = read_image(path)
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _read_any(path: Path) -> npt.NDArray[Any]:
    """Pixels as the file has them: (rows, columns) or (rows, columns, 3) RGB, uint8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError("the image cannot be read", where=path, found=error.strerror or error) from error
    if not content:
        raise DataError("the image is empty", where=path, expected="an image file", found="0 bytes")
    if is_dicom(path) or content[128:132] == b"DICM":
        return _read_dicom(path)
    for start, (end, kind) in _ENDS.items():
        if content.startswith(start) and end not in content[-_TAIL_BYTES:]:
            raise DataError("the image is cut short", where=path, expected=f"the end mark of a {kind} file")
    return _decode(content, path)


def _decode(content: bytes, path: Path) -> npt.NDArray[Any]:
    import cv2

    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise DataError("the image cannot be decoded", where=path, expected=f"one of {', '.join(sorted(SUFFIXES))}")
    if pixels.ndim == 3:
        pixels = pixels[..., :3][..., ::-1] if pixels.shape[2] >= 3 else pixels[..., 0]  # BGR, BGRA, gray with alpha
    return _to_8_bits(pixels)


def _to_8_bits(values: npt.NDArray[Any]) -> Pixels:
    """Leave 8 bits as they are; stretch anything wider from its lowest to its highest value."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    finite = np.nan_to_num(values.astype(np.float64))
    return _stretch(finite, float(finite.min()), float(finite.max()))


def _stretch(values: npt.NDArray[np.float64], low: float, high: float) -> Pixels:
    share = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    return np.rint(share * 255).astype(np.uint8)


def _to_colour(pixels: npt.NDArray[Any], colour: Colour) -> Pixels:
    import cv2

    if colour == "rgb":
        return np.repeat(pixels[..., np.newaxis], 3, axis=2) if pixels.ndim == 2 else pixels
    gray = pixels if pixels.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return np.asarray(gray)[..., np.newaxis]


def _read_dicom(path: Path) -> Pixels:
    """A DICOM image with its rescaling, its window and its photometric interpretation (PS3.3, C.7.6.3, C.11)."""
    require_dicom(path)
    import pydicom
    from pydicom.pixels import apply_modality_lut, convert_color_space

    try:
        data = pydicom.dcmread(path)
        values = data.pixel_array
        kind = str(data.PhotometricInterpretation)
    except Exception as error:  # pydicom and its decoders raise whatever the damage led to
        raise DataError("the DICOM image cannot be read", where=path, found=f"{error}".splitlines()[0][:200]) from error
    if int(data.get("NumberOfFrames", 1)) > 1:
        raise DataError("a DICOM file with several frames", where=path, expected="one", found=data.NumberOfFrames)
    if values.ndim == 3:
        if kind.startswith("YBR"):
            values = convert_color_space(values, kind, "RGB")
        return _to_8_bits(values)
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError("a DICOM image of an unknown kind", where=path, expected="MONOCHROME1, MONOCHROME2 or RGB",
                        found=kind)  # fmt: skip
    gray = _windowed(data, np.asarray(apply_modality_lut(values, data), dtype=np.float64))
    return 255 - gray if kind == "MONOCHROME1" else gray


def _windowed(data: Any, values: npt.NDArray[np.float64]) -> Pixels:
    """Grey values under the file's first window, or its lookup table, or stretched if it has neither."""
    from pydicom.pixels import apply_voi

    if "VOILUTSequence" in data:
        return _to_8_bits(apply_voi(values.astype(np.int64), data, index=0).astype(np.float64))
    centre, width = (_first(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return _to_8_bits(values)
    if str(data.get("VOILUTFunction", "LINEAR")).upper() == "LINEAR" and width > 1:
        return _stretch(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    return _stretch(values, centre - width / 2, centre + width / 2)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0]) if hasattr(value, "__len__") and not isinstance(value, str) else float(value)
