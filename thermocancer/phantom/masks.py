"""Truth masks as PNG files whose bytes do not depend on the compression library."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

_STORED = 65535


def mask_png(mask: npt.NDArray[np.bool_]) -> bytes:
    """A one-bit greyscale PNG of ``mask`` (rows, columns), white where True.

    The pixels are stored, not compressed: builds of zlib differ in what they compress to, and the
    same seed must give the same bytes everywhere.
    """
    rows, columns = mask.shape
    packed = np.packbits(mask, axis=1)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), packed], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", _stored(lines)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _stored(content: bytes) -> bytes:
    """A zlib stream of stored blocks (RFC 1950, 1951)."""
    starts = range(0, len(content), _STORED)
    blocks = []
    for start in starts:
        part = content[start : start + _STORED]
        last = start + _STORED >= len(content)
        blocks.append(struct.pack("<BHH", last, len(part), len(part) ^ 0xFFFF) + part)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(content))
