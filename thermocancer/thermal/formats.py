"""Files with temperatures that are no text: TIFF, NumPy, MATLAB and radiometric JPEG; and why others hold none.

What a file is shows in its first bytes; its name does not count. Sizes are read from headers and
refused above a stated limit before anything is decoded.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.files import check_self_contained
from thermocancer.thermal.decoding import Decoded
from thermocancer.thermal.flir import RawImage, is_flir, raw_image_of_fff, raw_image_of_jpeg
from thermocancer.thermal.pictures import (
    PNG_START,
    TIFF_STARTS,
    Pixels,
    broken,
    check_size,
    decode_png,
    decode_tiff,
    no_temperatures,
)

MOST_FILE_BYTES = 512 << 20

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NO_TEMPERATURES = {
    b"GIF8": "a GIF picture", b"BM": "a BMP picture", b"PK\x03\x04": "a ZIP archive (.xlsx, ...)",
    b"RIFF": "a video or sound file", b"\x1aE\xdf\xa3": "a video", b"%PDF": "a PDF document",
    b"\x1f\x8b": "a gzip archive", b"SIMPLE  =": "a FITS image", b"\xd0\xcf\x11\xe0": "an old Office document",
}  # fmt: skip


def read_binary(content: bytes, where: str, part: str | None = None) -> list[Decoded] | None:
    """Every frame of a file that is no text; None for what may be text.

    ``part`` chooses a variable of a MATLAB or .npz file by its name, and a page of a TIFF by its number from 0.

    Raises DataError for files that hold no temperatures (saying why), that are broken or cut off, and that
    are larger than ``MOST_PIXELS`` and ``MOST_NUMBERS`` allow.
    """
    start = content[:16]
    if start.startswith(TIFF_STARTS):
        page = int(part) if part is not None and part.isdecimal() else None
        return [as_decoded(each, "tiff", where) for each in decode_tiff(content, where, page)]
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(content, where)
    if start.startswith(b"MATLAB"):
        return _read_mat_73(content, where, part) if content[512:520] == _HDF5 else _read_mat(content, where, part)
    if start.startswith(b"PK\x03\x04") and b".npy" in content[:256]:
        return _read_npz(content, where, part)
    if start.startswith(b"\xff\xd8"):
        if is_flir(content):
            return [_convert_flir(raw_image_of_jpeg(content, where), where)]
        raise no_temperatures("a JPEG picture without the camera's own data", where)
    if start.startswith(b"FFF\0"):
        return [_convert_flir(raw_image_of_fff(content, where), where)]
    if start.startswith(PNG_START):
        return [as_decoded(decode_png(content, where), "png", where)]
    if start.startswith(_HDF5):
        raise no_temperatures("an HDF5 file that MATLAB has not written", where)
    if content[128:132] == b"DICM":
        raise no_temperatures("a DICOM image", where)
    if start[4:8] == b"ftyp":
        raise no_temperatures("a video or a phone's picture", where)
    for magic, name in _NO_TEMPERATURES.items():
        if start.startswith(magic) and (len(magic) > 2 or b"\0" in content[:64]):
            raise no_temperatures(name, where)
    return None


def as_decoded(array: Pixels, layout: str, where: str, notes: tuple[str, ...] = ()) -> Decoded:
    """Numbers of any real type as they are: whole numbers as integers, others as float64; (height, width)."""
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise DataError(
            "this is no matrix of numbers", where=where, expected="height x width of integers or floats",
            found=f"{array.dtype}, {'x'.join(map(str, array.shape)) or 'a single value'}",
        )  # fmt: skip
    name = f"{layout}-{array.dtype.name}"
    if array.dtype.kind == "f" or array.dtype == np.uint64:
        return Decoded(array.astype(np.float64), name, 0, notes)
    return Decoded(array.astype(np.int64), name, 0, notes)


# --- FLIR -------------------------------------------------------------------------


def _convert_flir(image: RawImage, where: str) -> Decoded:
    """Raw counts to degrees Celsius, float64, by the constants that stand in the file."""
    check_size(1, image.height, image.width, where)
    notes = ["converted from raw counts by the camera's own constants"]
    if image.pixels.startswith(b"\x89PNG"):
        counts = decode_png(image.pixels, where).astype(np.uint16)
        # FLIR writes these PNGs with the low byte first, against the standard; a camera that does not would show
        # neighbours that have nothing to do with one another once swapped
        swapped = counts.byteswap()
        if _roughness(counts) < 0.5 * _roughness(swapped):
            notes.append("its PNG has the standard's byte order, not FLIR's")
        else:
            counts = swapped
    else:
        size = image.height * image.width
        if len(image.pixels) < 2 * size:
            raise broken("FLIR", where, f"{len(image.pixels)} of {2 * size} bytes of raw counts")
        counts = np.frombuffer(image.pixels, image.order + "u2", size).astype(np.uint16)
    if counts.size != image.height * image.width:
        raise broken("FLIR", where, f"a picture of {counts.size} pixels, not {image.height}x{image.width}")
    celsius = image.radiometry.celsius(counts.reshape(image.height, image.width))
    if not np.isfinite(celsius).any():
        raise DataError(
            "no raw count of this FLIR file is a temperature by the camera's constants", where=where,
            found=f"counts from {counts.min()} to {counts.max()}",
        )  # fmt: skip
    return Decoded(celsius, "flir", 0, tuple(notes), unit="C")


def _roughness(counts: npt.NDArray[np.uint16]) -> float:
    return float(np.abs(np.diff(counts.astype(np.int64), axis=1)).mean())


# --- NumPy and MATLAB -------------------------------------------------------------


def _read_npy(content: bytes, where: str) -> list[Decoded]:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
        check_size(1, 1, 1, where)
        if dtype.kind not in "iuf" or len(shape) not in (2, 3):
            raise _no_matrix(f"{dtype}, {'x'.join(map(str, shape)) or 'a single value'}", where)
        *frames, height, width = shape
        check_size(frames[0] if frames else 1, height, width, where)
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # the header is a Python expression: whatever a broken one leads the reader to
        raise broken("NumPy", where, _first_line(error)) from error
    return _frames_of(array, "npy", where, first_counts=True)


def _read_npz(content: bytes, where: str, part: str | None) -> list[Decoded]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {each.filename.removesuffix(".npy"): each.file_size for each in archive.infolist()}
            check_size(1, 1, sum(sizes.values()) // 8, where)
            arrays = {}
            for name in sizes:
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        shapes = {name: each.shape for name, each in arrays.items() if each.dtype.kind in "iuf"}
        array = arrays[_only_matrix(shapes, where, part)]
    except DataError:
        raise
    except Exception as error:  # whatever a broken archive or header leads the reader to
        raise broken("NumPy", where, _first_line(error)) from error
    return _frames_of(array, "npz", where, first_counts=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _no_matrix(found: str, where: str) -> DataError:
    return DataError(
        "this file holds no matrix of numbers",
        where=where,
        expected="height x width of integers or floats",
        found=found,
    )


def _frames_of(array: Pixels, layout: str, where: str, *, first_counts: bool) -> list[Decoded]:
    """A matrix, or the frames of an array of three axes: counted by the first (NumPy) or the last (MATLAB).

    Raises DataError where the other end's axis is the shortest, so that it could as well count the frames.
    """
    if array.ndim == 2:
        return [as_decoded(array, layout, where)]
    shape = "x".join(map(str, array.shape))
    short, long = (array.shape[0], array.shape[-1]) if first_counts else (array.shape[-1], array.shape[0])
    if long < min(short, array.shape[1]):
        raise DataError(
            "this array could hold its frames along the first axis or along the last", where=where,
            expected="frames along the " + ("first" if first_counts else "last") + " axis, and no shorter axis",
            found=shape, hint="save one matrix of height x width, or the frames along the usual axis",
        )  # fmt: skip
    stacked = array if first_counts else np.moveaxis(array, -1, 0)
    note = f"an array of {shape}: frames along its {'first' if first_counts else 'last'} axis"
    return [as_decoded(np.ascontiguousarray(each), layout, where, (note,)) for each in stacked]


def _read_mat(content: bytes, where: str, part: str | None) -> list[Decoded]:
    import scipy.io

    try:
        listed = scipy.io.whosmat(io.BytesIO(content))
        name = _only_matrix({name: tuple(shape) for name, shape, kind in listed if kind in _MAT_NUMBERS}, where, part)
        array = scipy.io.loadmat(io.BytesIO(content), variable_names=[name])[name]
    except DataError:
        raise
    except Exception as error:  # the reader raises whatever a broken file leads it to
        raise broken("MATLAB", where, _first_line(error)) from error
    return _frames_of(array, "mat", where, first_counts=False)


def _read_mat_73(content: bytes, where: str, part: str | None) -> list[Decoded]:
    """MATLAB 7.3 files are HDF5, with the axes of every array in reverse."""
    import h5py

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            check_self_contained(file, where)
            arrays = {
                key: each for key, each in file.items() if isinstance(each, h5py.Dataset) and each.dtype.kind in "iuf"
            }
            shapes = {key: tuple(reversed(each.shape)) for key, each in arrays.items()}
            array = np.asarray(arrays[_only_matrix(shapes, where, part)][()]).T
    except DataError:
        raise
    except Exception as error:  # h5py raises whatever a broken file leads it to
        raise broken("MATLAB", where, _first_line(error)) from error
    return _frames_of(array, "mat", where, first_counts=False)


_MAT_NUMBERS = ("double", "single", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def _only_matrix(shapes: dict[str, tuple[int, ...]], where: str, part: str | None) -> str:
    """The variable ``part``, or the one with two or three axes of two or more. Raises DataError naming all of them."""
    matrices = {key: shape for key, shape in shapes.items() if len(shape) in (2, 3) and min(shape) >= 2}
    chosen = {key: shape for key, shape in matrices.items() if part in (None, key)}
    if len(chosen) != 1:
        raise DataError(
            "this file does not hold one matrix" if part is None else f"this file holds no matrix {part}",
            where=where, expected="one matrix of numbers",
            found=", ".join(f"{key} ({'x'.join(map(str, shape))})" for key, shape in matrices.items()) or "none",
            hint=f"--set import.part={next(iter(matrices))} chooses one" if matrices else None,
        )  # fmt: skip
    shape = next(iter(chosen.values()))
    check_size(shape[2] if len(shape) == 3 else 1, shape[0], shape[1], where)
    return next(iter(chosen))
