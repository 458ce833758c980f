"""Building blocks of picture files, written byte by byte."""

from __future__ import annotations

import struct
import zlib


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bmff_box(name: bytes, body: bytes) -> bytes:
    """A box of an ISO base media file (HEIF, AVIF, JPEG 2000)."""
    return struct.pack(">I4s", 8 + len(body), name) + body
