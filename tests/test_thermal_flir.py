"""Radiometric JPEGs: temperatures by the constants in the file, or a reason why there are none."""

from __future__ import annotations

import struct

import cv2
import flir_fixtures as flir
import numpy as np
import pytest

from thermocancer.errors import DataError
from thermocancer.thermal.reading import parse_frames, parse_matrix

SCENE = flir.thermogram()


@pytest.mark.parametrize("form", ["<", ">", "flir png", "standard png"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_raw_counts_become_temperatures_in_every_byte_order(form: str, order: str) -> None:
    matrix = parse_matrix(flir.whole_file(form, order=order), where="a.jpg")
    assert matrix.shape == SCENE.shape
    assert matrix.layout == "flir"
    assert np.abs(matrix.celsius - SCENE).max() < 0.02  # a count is worth about .02 degC
    assert "constants" in matrix.notes[0]
    assert ("byte order" in " ".join(matrix.notes)) == (form == "standard png")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"emissivity": 0.6},
        {"distance": 0.0},
        {"distance": 30.0, "humidity": 0.9, "air": 308.0},
        {"window": 0.8, "window_k": 310.0},
        {"r1": 21106.77, "b": 1501.0, "o": -7340.0, "r2": 0.012545258},
        {"x": 0.732, "a1": 0.0, "a2": 0.0, "b1": 0.00318, "b2": 0.00318},
    ],
    ids=lambda changes: ", ".join(changes) or "as built",
)
def test_conversion_is_the_one_of_the_formula_solved_by_bisection(changes: dict[str, float]) -> None:
    # what is stored as float32 is what the camera means
    camera = {name: float(np.float32(value)) for name, value in {**flir.CAMERA, **changes}.items()}
    content = flir.jpeg(flir.fff({1: flir.raw_record(flir.make_counts(SCENE, camera)), 32: flir.camera_record(camera)}))
    found = parse_matrix(content).celsius
    counts = flir.make_counts(SCENE, camera)
    for row, column in ((0, 0), (6, 8), (3, 12), (11, 15)):
        expected = flir.celsius_of(float(counts[row, column]), camera)
        assert found[row, column] == pytest.approx(expected, abs=1e-6)


def test_every_constant_is_read_from_the_file() -> None:
    plain = parse_matrix(flir.whole_file()).celsius
    counts = flir.raw_record(flir.make_counts(SCENE), "flir png")
    for name in flir.CAMERA:
        camera = {**flir.CAMERA, "window": 0.9, "distance": 5.0}
        base = parse_matrix(flir.jpeg(flir.fff({1: counts, 32: flir.camera_record(camera)}))).celsius
        changed = {**camera, name: camera[name] * 0.97}
        other = parse_matrix(flir.jpeg(flir.fff({1: counts, 32: flir.camera_record(changed)}))).celsius
        assert np.abs(other - base).max() > 1e-6, f"{name} does not matter"
    assert plain.min() > 20


def test_settings_that_cameras_write_differently() -> None:
    counts = flir.make_counts(SCENE)
    for changes in ({"humidity": 45.0}, {"window": 0.0}):
        content = flir.jpeg(flir.fff({1: flir.raw_record(counts), 32: flir.camera_record({**flir.CAMERA, **changes})}))
        assert np.abs(parse_matrix(content).celsius - SCENE).max() < 0.02
    big_endian = flir.jpeg(flir.fff({1: flir.raw_record(counts), 32: flir.camera_record(order=">")}))
    assert np.abs(parse_matrix(big_endian).celsius - SCENE).max() < 0.02


def test_the_inner_file_is_read_without_its_jpeg() -> None:
    content = flir.fff({1: flir.raw_record(flir.make_counts(SCENE)), 32: flir.camera_record()})
    assert np.abs(parse_matrix(content).celsius - SCENE).max() < 0.02
    assert len(parse_frames(content)) == 1


WHOLE = flir.whole_file()
COUNTS = flir.raw_record(flir.make_counts(SCENE))
RAW_PNG = flir.raw_record(flir.make_counts(SCENE), "flir png")
CAMERA = flir.camera_record()
BROKEN = {
    "a plain JPEG": (cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes(), "holds no temperatures"),
    "a segment is missing": (WHOLE[:2] + WHOLE[2 + 1012 :], "broken or cut off"),
    "cut in the segments": (WHOLE[:900], "broken or cut off"),
    "no raw counts": (flir.jpeg(flir.fff({32: CAMERA})), "holds no temperatures"),
    "no constants": (flir.jpeg(flir.fff({1: COUNTS})), "holds no temperatures"),
    "raw counts cut": (flir.jpeg(flir.fff({1: COUNTS[:-40], 32: CAMERA})), "broken or cut off"),
    "png cut": (flir.jpeg(flir.fff({1: RAW_PNG[:-30] + RAW_PNG[-12:], 32: CAMERA})), "broken or cut off"),
    "png of another size": (
        flir.jpeg(flir.fff({1: RAW_PNG[:4] + b"\x0d\0" + RAW_PNG[6:], 32: CAMERA})),
        "broken or cut off",
    ),
    "constants cut": (flir.jpeg(flir.fff({1: COUNTS, 32: CAMERA[:0x200]})), "broken or cut off"),
    "two frames": (
        flir.fff({1: COUNTS, 32: CAMERA}).replace(b"\x00\x20\x00\x01", b"\x00\x01\x00\x01"),
        "more than one frame",
    ),
    "emissivity 0": (
        flir.jpeg(flir.fff({1: COUNTS, 32: flir.camera_record({**flir.CAMERA, "emissivity": 0.0})})),
        "implausible",
    ),
    "no number": (
        flir.jpeg(flir.fff({1: COUNTS, 32: flir.camera_record({**flir.CAMERA, "b": float("nan")})})),
        "implausible",
    ),
    "counts of nothing": (
        flir.jpeg(
            flir.fff(
                {1: flir.raw_record(np.zeros((4, 4), np.uint16)), 32: flir.camera_record({**flir.CAMERA, "o": -7000.0})}
            )
        ),
        "no raw count",
    ),
    "far too large": (
        flir.jpeg(flir.fff({1: struct.pack("<HHH", 2, 60000, 60000).ljust(32, b"\0") + bytes(99), 32: CAMERA})),
        "more numbers",
    ),
    "another version": (
        flir.jpeg(flir.fff({1: COUNTS, 32: CAMERA}).replace(b"\0\0\0d", b"\0\0\x0fd", 1)),
        "broken or cut off",
    ),
    "a sequence's beginning": (b"FFF\0", "broken or cut off"),
}


@pytest.mark.parametrize(("content", "what"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_with_a_reason(content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        parse_matrix(content, where="a.jpg")
    assert caught.value.where == "a.jpg"
    assert caught.value.hint or caught.value.found


def test_no_flipped_bit_raises_anything_but_a_data_error() -> None:
    rng = np.random.default_rng(3)
    for _ in range(400):
        content = bytearray(WHOLE)
        for place in rng.integers(0, len(content), 3):
            content[place] ^= 1 << int(rng.integers(0, 8))
        try:
            assert parse_matrix(bytes(content)).shape == SCENE.shape
        except DataError:
            continue
