"""Arrays and pictures with temperatures are read as they are; pictures without say why; none may exhaust the memory."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io

from thermocancer.errors import DataError
from thermocancer.thermal.pictures import read_grey
from thermocancer.thermal.reading import parse_frames, parse_matrix, read_matrix

CELSIUS = np.round(np.random.default_rng(1).uniform(19, 36, (18, 24)), 2)
CENTI_KELVIN = np.rint((CELSIUS + 273.15) * 100).astype(np.uint16)


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def mat(**variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables)
    return file.getvalue()


def mat73(**variables: np.ndarray) -> bytes:
    """As MATLAB writes it: HDF5 behind 512 bytes of its own, every array with its axes in reverse."""
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=512) as content:
        for name, array in variables.items():
            content.create_dataset(name, data=np.ascontiguousarray(array.T))
    return b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" ") + file.getvalue()[512:]


def tiff(*pages: np.ndarray) -> bytes:
    whole, content = cv2.imencodemulti(".tiff", list(pages))
    assert whole
    return content.tobytes()


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


READ = {
    "float32 TIFF": (tiff(CELSIUS.astype(np.float32)), "tiff-float32"),
    "float64 TIFF": (tiff(CELSIUS), "tiff-float64"),
    "npy": (npy(CELSIUS), "npy-float64"),
    "npy, Fortran order": (npy(np.asfortranarray(CELSIUS)), "npy-float64"),
    "npy, big-endian": (npy(CELSIUS.astype(">f4")), "npy-float32"),
    "mat": (mat(T=CELSIUS), "mat-float64"),
    "mat beside scalars and text": (mat(T=CELSIUS, emissivity=0.98, name="a", times=np.arange(5.0)), "mat-float64"),
    "mat 7.3": (mat73(T=CELSIUS), "mat-float64"),
}


@pytest.mark.parametrize(("content", "layout"), READ.values(), ids=READ)
def test_arrays_of_degrees_are_read_as_they_are(content: bytes, layout: str) -> None:
    matrix = parse_matrix(content, where="a")
    assert matrix.layout == layout
    assert matrix.celsius.dtype == np.float64
    assert np.allclose(matrix.celsius, CELSIUS, atol=0 if "64" in layout else 2e-6)
    assert np.array_equal(matrix.centi, np.rint(CELSIUS * 100))


WHOLE_NUMBERS = {
    "16-bit TIFF": tiff(CENTI_KELVIN),
    "16-bit PNG": png(CENTI_KELVIN),
    "npy": npy(CENTI_KELVIN),
    "mat": mat(a=CENTI_KELVIN),
    "mat 7.3": mat73(a=CENTI_KELVIN),
}


@pytest.mark.parametrize("content", WHOLE_NUMBERS.values(), ids=WHOLE_NUMBERS)
def test_hundredths_of_a_kelvin_are_converted_only_when_told(content: bytes) -> None:
    with pytest.raises(DataError, match="hundredths of a kelvin") as caught:
        parse_matrix(content)
    assert 'unit="cK"' in str(caught.value.hint)
    matrix = parse_matrix(content, unit="cK")
    assert np.array_equal(matrix.celsius, CELSIUS)
    assert "hundredths of a kelvin" in matrix.notes[-1]


STACK = np.stack([CELSIUS + each for each in range(3)])
FRAMES = {
    "TIFF": tiff(*STACK.astype(np.float32)),
    "npy": npy(STACK),
    "mat": mat(sequence=np.moveaxis(STACK, 0, -1)),
    "mat 7.3": mat73(sequence=np.moveaxis(STACK, 0, -1)),
}


@pytest.mark.parametrize("content", FRAMES.values(), ids=FRAMES)
def test_several_frames_are_refused_counted_and_chosen(content: bytes) -> None:
    with pytest.raises(DataError, match="several frames") as caught:
        parse_matrix(content)
    assert caught.value.found == "3 frames of 18x24"
    assert "frame=0" in str(caught.value.hint)
    for number, expected in enumerate(STACK):
        assert np.allclose(parse_matrix(content, frame=number).celsius, expected, atol=2e-6)
    assert len(parse_frames(content)) == 3
    with pytest.raises(DataError, match="no such frame"):
        parse_matrix(content, frame=3)


def test_an_axis_that_may_count_frames_at_either_end_is_not_guessed() -> None:
    for content in (npy(np.moveaxis(STACK, 0, -1)), mat(sequence=STACK)):
        with pytest.raises(DataError, match="first axis or along the last") as caught:
            parse_frames(content)
        assert "3" in str(caught.value.found)


def huge_png(width: int, height: int, bits: int = 16) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def huge_tiff(width: int, height: int) -> bytes:
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 200),
        (277, 3, 1),
        (279, 4, 8),
    ]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return (struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)).ljust(208, b"\0")


COLOURS = np.random.default_rng(2).integers(0, 255, (18, 24, 3)).astype(np.uint8)
GREY = (np.add.outer(np.arange(18), np.arange(24)) * 6).astype(np.uint8)
NONE = {
    "PNG of colours": (png(COLOURS), "colours"),
    "8-bit PNG": (png(GREY), "8-bit"),
    "JPEG": (cv2.imencode(".jpg", GREY)[1].tobytes(), "JPEG"),
    "BMP": (cv2.imencode(".bmp", GREY)[1].tobytes(), "BMP"),
    "8-bit TIFF": (tiff(GREY), "8-bit"),
    "TIFF of colours": (tiff(COLOURS), "colours"),
    "npz": (b"PK\x03\x04" + bytes(50), "ZIP"),
    "video": (b"RIFF\0\0\0\0AVI " + bytes(50), "video"),
    "mp4": (b"\0\0\0\x20ftypisom" + bytes(50), "video"),
    "DICOM": (bytes(128) + b"DICM" + bytes(50), "DICOM"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
}


@pytest.mark.parametrize(("content", "found"), NONE.values(), ids=NONE)
def test_what_holds_no_temperatures_says_so_and_why(content: bytes, found: str) -> None:
    with pytest.raises(DataError, match="holds no temperatures") as caught:
        parse_matrix(content, where="a")
    assert found in str(caught.value.found)
    assert "export" in str(caught.value.hint)


FLOAT_TIFF = tiff(CELSIUS.astype(np.float32))
BROKEN = {
    "TIFF cut": FLOAT_TIFF[: len(FLOAT_TIFF) // 2],
    "TIFF cut in its pixels": (lambda page: page[:8] + page[8:600])(tiff(CELSIUS)),
    "TIFF without a directory": b"II*\0\xff\xff\0\0",
    "npy cut": npy(CELSIUS)[:-9],
    "npy without a header": b"\x93NUMPY\x01\0",
    "mat cut": mat(T=CELSIUS)[:300],
    "mat of words": b"MATLAB 5.0 MAT-file",
    "mat 7.3 cut": mat73(T=CELSIUS)[:1200],
    "PNG cut": png(CENTI_KELVIN)[:-100],
    "PNG cut with its end": png(CENTI_KELVIN)[:-100] + chunk(b"IEND", b""),
    "PNG with a flipped bit": (lambda content: content[:60] + bytes([content[60] ^ 4]) + content[61:])(
        png(CENTI_KELVIN)
    ),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_broken_files_are_no_temperatures(content: bytes) -> None:
    with pytest.raises(DataError, match="broken or cut off"):
        parse_matrix(content, where="a")


def test_what_else_is_no_matrix() -> None:
    objects = np.array([[{"a": 1}, None]], dtype=object)
    for content in (
        npy(objects, allow_pickle=True),
        npy(CELSIUS.astype(complex)),
        npy(np.arange(9.0)),
        npy(CELSIUS > 20),
    ):
        with pytest.raises(DataError, match="no matrix"):
            parse_matrix(content)
    with pytest.raises(DataError, match="differ in shape"):
        parse_matrix(tiff(CELSIUS, CELSIUS[:9]))
    for content in (mat(left=CELSIUS, right=CELSIUS), mat73(left=CELSIUS, right=CELSIUS)):
        with pytest.raises(DataError, match="does not hold one matrix") as caught:
            parse_matrix(content)
        assert "left (18x24)" in str(caught.value.found)
        assert "right (18x24)" in str(caught.value.found)
    with pytest.raises(DataError, match="does not hold one matrix"):
        parse_matrix(mat(a=1.0))


HUGE = {
    "PNG": huge_png(30000, 30000),
    "TIFF": huge_tiff(30000, 30000),
    "npy": npy(CELSIUS).replace(b"(18, 24)", b"(90000, 90000)").replace(b" \n", b"\n", 1),
}


@pytest.mark.parametrize("content", HUGE.values(), ids=HUGE)
def test_size_is_refused_before_anything_is_decoded(content: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match="more numbers than a thermogram") as caught:
        parse_matrix(content, where="a")
    assert "0000x" in str(caught.value.found)
    assert time.monotonic() - start < 1


def test_endless_text_is_refused_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(DataError, match="line is too long") as caught:
        parse_matrix(b"20.11 " * 400_000, where="a")
    assert caught.value.where == "a:1"
    for size, what in ((200 << 20, "too large"), (2000 << 20, "too large")):
        path = tmp_path / f"{size}.txt"
        with path.open("wb") as file:
            file.truncate(size)
        with pytest.raises(DataError, match=what):
            read_matrix(path)
    assert time.monotonic() - start < 5


def test_no_flipped_bit_raises_anything_but_a_data_error() -> None:
    rng = np.random.default_rng(5)
    whole = [tiff(CELSIUS.astype(np.float32)), npy(CELSIUS), mat(T=CELSIUS), mat73(T=CELSIUS), png(CENTI_KELVIN)]
    for number in range(600):
        content = bytearray(whole[number % len(whole)])
        for place in rng.integers(0, min(len(content), 2000), 2):
            content[place] ^= 1 << int(rng.integers(0, 8))
        try:
            parse_matrix(bytes(content), unit="cK")
        except DataError:
            continue


# --- grey pictures, whose levels somebody may know the temperatures of ------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff"])
def test_grey_levels_are_those_of_the_picture(suffix: str) -> None:
    content = cv2.imencode(suffix, GREY)[1].tobytes()
    assert np.abs(read_grey(content, "a").astype(int) - GREY).max() <= (3 if suffix == ".jpg" else 0)
    three = cv2.imencode(suffix, np.repeat(GREY[:, :, None], 3, axis=2))[1].tobytes()
    assert read_grey(three, "a").shape == GREY.shape
    with pytest.raises(DataError, match="colours"):
        read_grey(cv2.imencode(suffix, COLOURS)[1].tobytes(), "a")
    with pytest.raises(DataError, match="broken or cut off"):
        read_grey(content[: len(content) // 2], "a")


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_cut_jpeg_with_an_end_mark_is_not_filled_up(progressive: int) -> None:
    picture = np.random.default_rng(0).normal(128, 30, (240, 320)).clip(0, 255).astype(np.uint8)
    content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    assert read_grey(content, "a").shape == (240, 320)
    for share in (0.3, 0.6, 0.9, 0.99):
        with pytest.raises(DataError, match="broken or cut off"):
            read_grey(content[: int(share * len(content))] + b"\xff\xd9", "a")


def test_a_huge_grey_picture_is_refused_before_it_is_decoded() -> None:
    jpeg = cv2.imencode(".jpg", GREY)[1].tobytes()
    place = jpeg.index(b"\xff\xc0")
    for content in (huge_png(30000, 30000, 8), jpeg[: place + 5] + b"\xea\x60\xea\x60" + jpeg[place + 9 :]):
        with pytest.raises(DataError, match="more numbers"):
            read_grey(content, "a")
