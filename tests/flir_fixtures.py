"""A FLIR file built byte by byte from the public description, and its temperatures found by bisection."""

from __future__ import annotations

import math
import struct

import cv2
import numpy as np

CAMERA = {
    "emissivity": 0.98, "distance": 1.5, "reflected": 295.0, "air": 294.0, "window_k": 293.0, "window": 1.0,
    "humidity": 0.45, "r1": 16556.0, "b": 1428.0, "f": 1.0, "a1": 0.006569, "a2": 0.01262, "b1": -0.002276,
    "b2": -0.00667, "x": 1.9, "o": -342.0, "r2": 0.046952,
}  # fmt: skip
PLACES = {
    "emissivity": 0x20, "distance": 0x24, "reflected": 0x28, "air": 0x2C, "window_k": 0x30, "window": 0x34,
    "humidity": 0x3C, "r1": 0x58, "b": 0x5C, "f": 0x60, "a1": 0x70, "a2": 0x74, "b1": 0x78, "b2": 0x7C, "x": 0x80,
    "r2": 0x30C,
}  # fmt: skip


def black_body(kelvin: float, camera: dict[str, float]) -> float:
    return camera["r1"] / camera["r2"] / (math.exp(camera["b"] / kelvin) - camera["f"]) - camera["o"]


def counts_at(celsius: float, camera: dict[str, float]) -> float:
    """What the camera counts before skin of this temperature: the measurement formula read forwards."""
    air = camera["air"] - 273.15
    water = camera["humidity"] * math.exp(1.5587 + 0.06939 * air - 0.00027816 * air * air + 0.00000068455 * air**3)
    terms = [
        share * math.exp(-math.sqrt(camera["distance"]) * (camera[alpha] + camera[beta] * math.sqrt(water)))
        for share, alpha, beta in ((camera["x"], "a1", "b1"), (1 - camera["x"], "a2", "b2"))
    ]
    through_air = sum(terms)
    arriving = camera["emissivity"] * black_body(celsius + 273.15, camera)
    arriving += (1 - camera["emissivity"]) * black_body(camera["reflected"], camera)
    arriving = through_air * arriving + (1 - through_air) * black_body(camera["air"], camera)
    return camera["window"] * arriving + (1 - camera["window"]) * black_body(camera["window_k"], camera)


def celsius_of(counts: float, camera: dict[str, float]) -> float:
    """The temperature whose counts these are, by bisection."""
    low, high = -40.0, 160.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if counts_at(middle, camera) < counts else (low, middle)
    return (low + high) / 2


def make_counts(celsius: np.ndarray, camera: dict[str, float] = CAMERA) -> np.ndarray:
    return np.rint([[counts_at(value, camera) for value in row] for row in celsius]).astype(np.uint16)


def camera_record(camera: dict[str, float] = CAMERA, order: str = "<") -> bytes:
    record = bytearray(0x400)
    struct.pack_into(order + "H", record, 0, 2)
    for name, place in PLACES.items():
        struct.pack_into(order + "f", record, place, camera[name])
    struct.pack_into(order + "i", record, 0x308, int(camera["o"]))
    return bytes(record)


def raw_record(counts: np.ndarray, form: str = "<") -> bytes:
    """Raw counts as ``<`` or ``>`` 16-bit numbers, as FLIR's PNG (low byte first), or as a PNG by the standard."""
    order = form if form in "<>" else "<"
    head = struct.pack(order + "HHH", 2, counts.shape[1], counts.shape[0]).ljust(32, b"\0")
    if form in "<>":
        return head + counts.astype(form + "u2").tobytes()
    swapped = counts.byteswap() if form == "flir png" else counts
    return head + cv2.imencode(".png", swapped)[1].tobytes()


def fff(records: dict[int, bytes], order: str = ">") -> bytes:
    start = 64 + 32 * len(records)
    directory, bodies = b"", b""
    for kind, body in records.items():
        offset = start + len(bodies)
        directory += struct.pack(order + "HHIIIIIII", kind, 1, 100, 0, offset, len(body), 0, 0, 0)[:32].ljust(32, b"\0")
        bodies += body
    head = b"FFF\0" + b"test".ljust(16, b"\0") + struct.pack(order + "IIII", 100, 64, len(records), 0)
    return head.ljust(64, b"\0") + directory + bodies


def jpeg(content: bytes, chunk: int = 1000) -> bytes:
    """A JPEG picture that carries ``content`` in APP1 segments of FLIR's, ``chunk`` bytes each."""
    picture = cv2.imencode(".jpg", np.full((24, 32), 128, np.uint8))[1].tobytes()
    parts = [content[at : at + chunk] for at in range(0, len(content), chunk)]
    segments = b""
    for number, part in enumerate(parts):
        body = b"FLIR\0\x01" + bytes([number, len(parts) - 1]) + part
        segments += b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    return picture[:2] + segments + picture[2:]


def thermogram(shape: tuple[int, int] = (12, 16)) -> np.ndarray:
    """A smooth scene of 21 to 35 degC."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    return 21.0 + 14.0 * np.exp(-(((x - shape[1] / 2) / 5.0) ** 2) - ((y - shape[0] / 2) / 4.0) ** 2)


def whole_file(form: str = "flir png", camera: dict[str, float] = CAMERA, order: str = ">") -> bytes:
    return jpeg(fff({1: raw_record(make_counts(thermogram(), camera), form), 32: camera_record(camera)}, order))
