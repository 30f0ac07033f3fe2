"""Pictures whose pixels are numbers of 16 bits or floats; whole and of a sane size, or refused before decoding."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thermocancer.errors import DataError

MOST_PIXELS = 1 << 24
"""Of one frame: 4096x4096, some ten times what the finest thermal camera has."""

MOST_NUMBERS = 1 << 26
"""Of all frames together (as float64: 512 MB)."""

Pixels = npt.NDArray[np.generic]


TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_SIZES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def no_temperatures(name: str, where: str) -> DataError:
    return DataError(
        "this is a binary file that holds no temperatures",
        where=where,
        expected="a matrix as text, a 16-bit or float TIFF, .npy, .mat, or a radiometric JPEG of a FLIR camera",
        found=name,
        hint="colours and grey levels are no temperatures: export the matrix from the camera's own software",
    )


def check_size(frames: int, height: int, width: int, where: str) -> None:
    if height * width > MOST_PIXELS or frames * height * width > MOST_NUMBERS:
        raise DataError(
            "this file holds more numbers than a thermogram has",
            where=where,
            expected=f"{MOST_PIXELS} a frame and {MOST_NUMBERS} in all, or fewer",
            found=f"{frames} of {height}x{width}",
        )


def broken(kind: str, where: str, error: object) -> DataError:
    return DataError(
        f"this {kind} file is broken or cut off", where=where, expected="a whole file", found=error,
        hint="get the file again from its source",
    )  # fmt: skip


@dataclass(frozen=True)
class _Page:
    """What the directory of a TIFF says of one page."""

    height: int
    width: int
    bits: int
    samples: int
    photometric: int
    end: int


def decode_tiff(content: bytes, where: str, chosen: int | None = None) -> list[Pixels]:
    """Every page of 16 bits or floats, (height, width) each; of ``chosen`` that one. Raises DataError for any other."""
    import cv2

    everything = tiff_pages(content, where)
    pages = everything if chosen is None else everything[chosen : chosen + 1]
    kinds = {(page.height, page.width, page.samples, page.bits): None for page in pages}
    if len(kinds) != 1:
        raise DataError(
            "the pages of this TIFF differ in shape or kind" if kinds else "this TIFF has no such page", where=where,
            expected="frames of one kind", found=", ".join(f"{h}x{w} of {n} x {bits} bits" for h, w, n, bits in kinds)
            or f"{len(everything)} pages", hint="--set import.part=0 takes the first page",
        )  # fmt: skip
    for page in pages:
        check_size(len(pages), page.height, page.width, where)
        if page.samples != 1 or page.photometric not in (0, 1):
            raise no_temperatures(f"a TIFF of colours ({page.samples} samples a pixel)", where)
        if page.bits < 16:
            raise no_temperatures(f"a TIFF of {page.bits}-bit grey levels", where)
        if page.photometric == 0:
            raise DataError("a TIFF whose low numbers are bright has no sure temperatures", where=where)
        if page.end > len(content):
            raise broken("TIFF", where, f"{len(content)} bytes of {page.end}")
    try:
        whole, images = cv2.imdecodemulti(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise broken("TIFF", where, str(error).splitlines()[0]) from error
    if not whole or len(images) != len(everything):
        raise broken("TIFF", where, f"{len(images)} of {len(everything)} pages")
    return [np.asarray(image) for image in (images if chosen is None else images[chosen : chosen + 1])]


def tiff_pages(content: bytes, where: str) -> list[_Page]:
    """Size and kind of every page of a TIFF 6.0 or BigTIFF file. Raises DataError for a broken one."""
    try:
        pages = _read_directories(content)
    except (struct.error, ValueError, LookupError, OverflowError) as error:
        raise broken("TIFF", where, error) from error
    if not pages:
        raise broken("TIFF", where, "no page")
    return pages


def _read_directories(content: bytes) -> list[_Page]:
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    head, word, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    sizes = {1: "B", 3: "H", 4: "I", 16: "Q"}
    at = struct.unpack_from(order + word, content, 8 if big else 4)[0]
    pages: list[_Page] = []
    seen = set()
    while at and at not in seen and len(pages) <= 10_000:
        seen.add(at)
        count = struct.unpack_from(order + head, content, at)[0]
        if count > 4096:
            raise ValueError(f"a directory of {count} entries")
        tags: dict[int, Sequence[int]] = {}
        start = at + struct.calcsize(head)
        for place in range(start, start + count * entry, entry):
            tag, kind, number = struct.unpack_from(order + "HH" + word, content, place)
            if kind not in sizes or number > 1 << 20:
                continue
            form = f"{order}{number}{sizes[kind]}"
            inline = place + entry - struct.calcsize(word)
            fits = struct.calcsize(form) <= struct.calcsize(word)
            where = inline if fits else struct.unpack_from(order + word, content, inline)[0]
            tags[tag] = struct.unpack_from(form, content, where)
        # 256 and 257 size, 258 bits, 262 meaning of black, 273/324 and 279/325 where strips or tiles lie, 277 samples
        offsets, lengths = tags.get(273) or tags.get(324) or (), tags.get(279) or tags.get(325) or ()
        if not offsets or len(offsets) != len(lengths):
            raise ValueError("a page without pixels")
        end = max(offset + length for offset, length in zip(offsets, lengths, strict=True))
        pages.append(
            _Page(
                tags[257][0], tags[256][0], max(tags.get(258, (1,))), tags.get(277, (1,))[0],
                tags.get(262, (1,))[0], end,
            )
        )  # fmt: skip
        at = struct.unpack_from(order + word, content, start + count * entry)[0]
    return pages


def decode_png(content: bytes, where: str) -> Pixels:
    """The numbers of a 16-bit grey PNG, (height, width). Raises DataError for every other PNG, before decoding it."""
    import cv2

    if content[12:16] != b"IHDR" or len(content) < 33:
        raise broken("binary PNG", where, f"{len(content)} bytes")
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    if (bits, colour) != (16, 0):
        raise no_temperatures(f"a PNG picture of {'colours' if colour else f'{bits}-bit grey levels'}", where)
    check_size(1, height, width, where)
    _check_png_is_whole(content, where)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise broken("PNG", where, str(error).splitlines()[0]) from error
    if image is None or image.shape != (height, width) or image.dtype != np.uint16:
        raise broken("PNG", where, "its pixels cannot be decoded")
    return np.asarray(image)


def _check_png_is_whole(content: bytes, where: str) -> None:
    """Every chunk with its check sum, up to the end, and as many pixels as announced (the decoder fills what lacks)."""
    width, height, bits, colour, interlaced = struct.unpack_from(">IIBBxxB", content, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 4)
    expected = height * (1 + (width * bits * channels + 7) // 8)
    at, stream, kind, size = 8, zlib.decompressobj(), b"", 0
    try:
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", content, at)
            body, check = content[at + 8 : at + 8 + length], struct.unpack_from(">I", content, at + 8 + length)[0]
            if zlib.crc32(kind + body) != check:
                raise broken("PNG", where, f"a wrong check sum in {kind!r}")
            if kind == b"IDAT":
                size += len(stream.decompress(body, 2 * expected + 1024 - size))
            at += 12 + length
    except (struct.error, zlib.error) as error:
        raise broken("PNG", where, error) from error
    if not stream.eof or (not interlaced and size != expected):
        raise broken("PNG", where, f"{size} of {expected} bytes of pixels")


def read_grey(content: bytes, where: str) -> Pixels:
    """The grey levels of a PNG, TIFF, JPEG or BMP, uint8 or uint16 (height, width); they are no temperatures yet.

    A picture of three equal channels counts as grey. Raises DataError for colours, for pictures that are cut off
    (a decoder fills what lacks with grey) and, before decoding, for those larger than ``MOST_PIXELS``.
    """
    import cv2

    if content.startswith(TIFF_STARTS):
        height, width = max((page.height, page.width) for page in tiff_pages(content, where))
    elif content.startswith(PNG_START) and len(content) >= 33:
        width, height = struct.unpack_from(">II", content, 16)
    elif content.startswith(b"BM") and len(content) >= 26:
        width, height = (abs(each) for each in struct.unpack_from("<ii", content, 18))
    elif content.startswith(b"\xff\xd8"):
        frames = [body for marker, body in jpeg_segments(content) if marker in _JPEG_SIZES and len(body) >= 5]
        height, width = struct.unpack_from(">HH", frames[0], 1) if frames else (0, 0)
    else:
        height, width = 0, 0
    if not height * width:
        raise broken("picture", where, f"{len(content)} bytes without the size of a picture")
    check_size(1, height, width, where)
    if content.startswith(PNG_START):
        _check_png_is_whole(content, where)
    if content.startswith(b"\xff\xd8"):
        _check_jpeg_is_whole(content, where)
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise broken("picture", where, "its pixels cannot be decoded")
    pixels: Pixels = np.asarray(image)
    if pixels.ndim == 3 and (pixels[:, :, :1] == pixels[:, :, :3]).all():
        pixels = pixels[:, :, 0]
    if pixels.ndim == 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(
            "a picture of colours has no temperatures", where=where, expected="a grey picture of 8 or 16 bits",
            found=f"{pixels.shape[-1]} different channels" if pixels.ndim == 3 else pixels.dtype,
        )  # fmt: skip
    return pixels


def encoding_of(content: bytes) -> str:
    """How the encoder of a PNG, JPEG, TIFF, BMP or DICOM file was set: nothing of what the picture shows.

    Of a PNG bits, kind of pixels, interlacing, zlib's level and the other chunks; of a JPEG its marker of the coding,
    sampling, application segments and a mark of its quantisation tables. Empty for any other file.
    """
    if content.startswith(PNG_START) and len(content) >= 33:
        bits, colour, interlaced = struct.unpack_from(">BBxxB", content, 24)
        pixels = {0: "grey", 2: "colours", 3: "palette", 4: "grey with alpha", 6: "colours with alpha"}.get(colour, "?")
        at, chunks, level = 8, list[str](), 0
        while at + 10 <= len(content):
            length, kind = struct.unpack_from(">I4s", content, at)
            if kind == b"IDAT":
                level = content[at + 9] >> 6
                break
            chunks.append(kind.decode("latin-1"))
            at += 12 + length
        return (
            f"PNG {bits} bits {pixels}{' interlaced' * bool(interlaced)} level {level} {' '.join(chunks[1:])}".strip()
        )
    if content.startswith(b"\xff\xd8"):
        segments = jpeg_segments(content)
        tables = zlib.crc32(b"".join(body for marker, body in segments if marker == 0xDB))
        coding = next(((marker, body) for marker, body in segments if marker in _JPEG_SIZES), (0, b""))
        sampling = "/".join(f"{each:x}" for each in coding[1][7::3])
        others = " ".join(f"{marker:x}" for marker, _ in segments if marker >= 0xE0)
        return f"JPEG {coding[0]:x} sampling {sampling} tables {tables:08x} segments {others}".strip()
    if content.startswith(TIFF_STARTS):
        pages = tiff_pages(content, "")
        return f"TIFF {content[:2].decode()} {max(each.bits for each in pages)} bits {pages[0].samples} samples"
    if content.startswith(b"BM") and len(content) >= 30:
        return f"BMP {struct.unpack_from('<H', content, 28)[0]} bits"
    return "DICOM" if content[128:132] == b"DICM" else ""


def jpeg_segments(jpeg: bytes) -> list[tuple[int, bytes]]:
    """Marker and content of every segment of a JPEG before its pixels."""
    found, at = [], 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        marker = jpeg[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in (0xDA, 0xD9):
            break
        length = struct.unpack_from(">H", jpeg, at + 2)[0]
        found.append((marker, jpeg[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
    return found


def _check_jpeg_is_whole(content: bytes, where: str) -> None:
    """Bytes put in before the end mark change nothing in a whole picture; in one that was cut they become pixels."""
    from PIL import Image

    end = content.rfind(b"\xff\xd9")
    try:
        if end < 0:
            raise OSError("no end mark")
        whole = np.asarray(Image.open(io.BytesIO(content)))
        for filling in (bytes(range(1, 251, 7)) * 40, bytes(range(250, 1, -3)) * 40):
            if not np.array_equal(whole, np.asarray(Image.open(io.BytesIO(content[:end] + filling + content[end:])))):
                raise OSError("its end mark comes before the last of its pixels")
    except (OSError, SyntaxError, ValueError) as error:
        raise broken("JPEG", where, error) from error
