"""FLIR's radiometric files: where the raw counts and the camera's constants stand, and what temperature they mean.

A radiometric JPEG carries a file "FFF" in APP1 segments that begin with "FLIR"; a directory in it names
records: 1 the raw counts, 32 the camera's constants and settings. The layout is that of the public list
of FLIR tags of Phil Harvey's ExifTool; the equation is the one of FLIR's manuals ("the measurement
formula", with the transmission of the atmosphere after Minkina and Dudzik 2009, Infrared Thermography:
Errors and Uncertainties, chapter 2).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError
from thermocancer.thermal.decoding import Float64
from thermocancer.thermal.pictures import jpeg_segments

_SEGMENT = b"FLIR\0"
_RAW, _CAMERA = 1, 32  # types of records
_DIRECTORY_ENTRY = 32
_RAW_HEADER = 32
_ZERO_CELSIUS = 273.15

# offset and type of the camera's constants in its record
_FIELDS = {
    "emissivity": (0x20, "f"), "distance_m": (0x24, "f"), "reflected_k": (0x28, "f"), "air_k": (0x2C, "f"),
    "window_k": (0x30, "f"), "window": (0x34, "f"), "humidity": (0x3C, "f"), "r1": (0x58, "f"), "b": (0x5C, "f"),
    "f": (0x60, "f"), "alpha1": (0x70, "f"), "alpha2": (0x74, "f"), "beta1": (0x78, "f"), "beta2": (0x7C, "f"),
    "x": (0x80, "f"), "o": (0x308, "i"), "r2": (0x30C, "f"),
}  # fmt: skip


@dataclass(frozen=True)
class Radiometry:
    """What a file states of camera and scene.

    ``r1``, ``r2``, ``b``, ``f``, ``o``: counts = r1 / (r2 (exp(b / T) - f)) - o for a black body of T kelvin.
    Temperatures in kelvin; ``emissivity``, ``window`` (transmission of a window before the lens) and
    ``humidity`` are shares of 1; ``alpha``, ``beta`` and ``x`` describe the atmosphere.
    """

    emissivity: float
    distance_m: float
    reflected_k: float
    air_k: float
    window_k: float
    window: float
    humidity: float
    r1: float
    b: float
    f: float
    alpha1: float
    alpha2: float
    beta1: float
    beta2: float
    x: float
    o: float
    r2: float

    def counts_of(self, kelvin: float) -> float:
        """What the camera would count before a black body."""
        return self.r1 / (self.r2 * (math.exp(self.b / kelvin) - self.f)) - self.o

    @property
    def transmission(self) -> float:
        """Of the air between skin and camera, by its humidity and the distance."""
        air = self.air_k - _ZERO_CELSIUS
        water = self.humidity * math.exp(1.5587 + 6.939e-2 * air - 2.7816e-4 * air**2 + 6.8455e-7 * air**3)
        way, root = math.sqrt(self.distance_m), math.sqrt(water)
        first = math.exp(-way * (self.alpha1 + self.beta1 * root))
        return self.x * first + (1 - self.x) * math.exp(-way * (self.alpha2 + self.beta2 * root))

    def celsius(self, counts: npt.NDArray[np.unsignedinteger]) -> Float64:
        """Temperatures of the skin, float64 of the same shape; NaN where the counts are below all temperatures.

        counts = w (e t skin + (1 - e) t reflected + (1 - t) air) + (1 - w) window, each in the counts of a
        black body, with emissivity e, transmission t of the air and w of the window.
        """
        e, t, w = self.emissivity, self.transmission, self.window
        others = (1 - e) * t * self.counts_of(self.reflected_k) + (1 - t) * self.counts_of(self.air_k)
        behind = (1 - w) * self.counts_of(self.window_k) if w < 1 else 0.0
        skin = ((counts.astype(np.float64) - behind) / w - others) / (e * t)
        with np.errstate(invalid="ignore", divide="ignore"):
            kelvin = self.b / np.log(self.r1 / (self.r2 * (skin + self.o)) + self.f)
        return np.where((skin + self.o > 0) & (kelvin > 0), kelvin - _ZERO_CELSIUS, np.nan)


@dataclass(frozen=True)
class RawImage:
    """The raw counts as they stand in the file (16-bit numbers in ``order``, or a PNG), and what they mean."""

    height: int
    width: int
    pixels: bytes
    order: str
    radiometry: Radiometry


def is_flir(jpeg: bytes) -> bool:
    """Does a JPEG hold a segment of FLIR's?"""
    return any(body.startswith(_SEGMENT) for marker, body in jpeg_segments(jpeg) if marker == 0xE1)


def raw_image_of_jpeg(jpeg: bytes, where: str) -> RawImage:
    """Join the FLIR segments of a JPEG. Raises DataError when one is missing, and as ``raw_image_of_fff`` does."""
    parts: dict[int, bytes] = {}
    last = 0
    for marker, body in jpeg_segments(jpeg):
        if marker == 0xE1 and body.startswith(_SEGMENT) and len(body) >= 8:
            number, last = body[6], body[7]
            parts[number] = body[8:]
    if sorted(parts) != list(range(last + 1)):
        raise _broken(where, f"{last + 1} segments of FLIR's data", f"{len(parts)}")
    return raw_image_of_fff(b"".join(parts[number] for number in range(last + 1)), where)


def raw_image_of_fff(content: bytes, where: str) -> RawImage:
    """Find raw counts and constants in an FFF file. Raises DataError when they are not there, broken or implausible."""
    if len(content) < 64 or not content.startswith(b"FFF\0"):
        raise _broken(where, "an FFF header of 64 bytes", f"{len(content)} bytes")
    order = next((each for each in "><" if 100 <= struct.unpack_from(each + "I", content, 0x14)[0] < 200), None)
    if order is None:
        raise _broken(where, "version 100 to 199 of FLIR's format", "another")
    start, count = struct.unpack_from(order + "II", content, 0x18)
    records: dict[int, bytes] = {}
    for place in range(start, start + count * _DIRECTORY_ENTRY, _DIRECTORY_ENTRY):
        if count > 4096 or place + _DIRECTORY_ENTRY > len(content):
            raise _broken(where, f"a directory of {count} records", "its end is missing")
        kind, offset, length = struct.unpack_from(order + "H10xII", content, place)
        if kind in (_RAW, _CAMERA) and length:
            if offset + length > len(content):
                raise _broken(where, f"a record of {length} bytes at {offset}", f"{len(content)} bytes in all")
            if kind in records:
                raise DataError(
                    "this FLIR file holds more than one frame",
                    where=where,
                    expected="one",
                    hint="export them one by one",
                )
            records[kind] = content[offset : offset + length]
    if _RAW not in records or _CAMERA not in records:
        missing = "raw counts" if _RAW not in records else "constants of the camera"
        raise DataError(
            "this FLIR file holds no temperatures", where=where, expected="raw counts and the camera's constants",
            found=f"no {missing}", hint="save it as a radiometric image in the camera or in its software",
        )  # fmt: skip
    if records[_RAW][_RAW_HEADER:][:4] == b"" or len(records[_CAMERA]) < 0x310:
        raise _broken(where, "whole records", f"{len(records[_RAW])} and {len(records[_CAMERA])} bytes")
    raw_order = _order_of(records[_RAW], where)
    width, height = struct.unpack_from(raw_order + "HH", records[_RAW], 2)
    return RawImage(height, width, records[_RAW][_RAW_HEADER:], raw_order, _radiometry(records[_CAMERA], where))


def _order_of(record: bytes, where: str) -> str:
    """A record begins with the number 2, which shows its byte order."""
    order = {b"\x02\x00": "<", b"\x00\x02": ">"}.get(record[:2])
    if order is None:
        raise _broken(where, "a record that begins with 2", record[:2].hex())
    return order


def _radiometry(record: bytes, where: str) -> Radiometry:
    order = _order_of(record, where)
    values = {name: float(struct.unpack_from(order + kind, record, at)[0]) for name, (at, kind) in _FIELDS.items()}
    if values["humidity"] > 2:  # some cameras write percent
        values["humidity"] /= 100
    # a window that is not there has transmission 1; where the field was never filled it is 0
    values["window"] = values["window"] or 1.0
    limits = {
        "emissivity": (0.01, 1), "distance_m": (0, 1e4), "reflected_k": (100, 1000), "air_k": (100, 1000),
        "window": (0.01, 1), "humidity": (0, 1), "r1": (1, 1e9), "b": (100, 1e5), "f": (0, 1000), "r2": (1e-9, 1e3),
    }  # fmt: skip
    for name, (low, high) in limits.items():
        if not low <= values[name] <= high * (1 + 1e-6):  # false for NaN too
            raise DataError(
                "a constant of this FLIR file is implausible", where=where, expected=f"{name} from {low:g} to {high:g}",
                found=f"{values[name]:g}", hint="the file is damaged, or its camera writes another format",
            )  # fmt: skip
    return Radiometry(**values)


def _broken(where: str, expected: str, found: str) -> DataError:
    return DataError(
        "the radiometric part of this FLIR file is broken or cut off", where=where, expected=expected, found=found,
        hint="programs that edit pictures throw it away: get the original from the camera",
    )  # fmt: skip
