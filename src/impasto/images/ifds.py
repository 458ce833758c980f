"""Read the directories of TIFF-like files, to recognize raw files and to choose a page.

Nothing is decoded. Known are TIFF 6.0, BigTIFF, and raw files that are built alike under other
signatures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from impasto.geometry import Size

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Raw files of Olympus, Panasonic and Leica, which are built like TIFF.
TIFF_LIKE = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")

WIDTH, HEIGHT, SUBFILE, PHOTOMETRIC, CHANNELS, SUBIFDS, DNG_VERSION = (
    256,
    257,
    254,
    262,
    277,
    330,
    50706,
)
BITS, COMPRESSION, ROWS_PER_STRIP = 258, 259, 278
_TAGS_READ = {
    WIDTH,
    HEIGHT,
    SUBFILE,
    PHOTOMETRIC,
    CHANNELS,
    SUBIFDS,
    DNG_VERSION,
    BITS,
    COMPRESSION,
    ROWS_PER_STRIP,
}
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MAX_ENTRIES = 4096  # directories of a file, and entries of a directory
# Values of PhotometricInterpretation: a sensor's mosaic, and linear raw data.
_RAW_PHOTOMETRIC = (32803, 34892)


@dataclass(frozen=True)
class Directory:
    """A directory: a page, a reduced copy, a mask or a preview."""

    offset: int
    page: int | None
    """Its number in the chain of pages; None for a sub-directory."""
    values: dict[int, tuple[int, ...]]

    def first(self, tag: int, default: int = 0) -> int:
        return next(iter(self.values.get(tag, ())), default)

    @property
    def size(self) -> Size:
        return Size(self.first(HEIGHT), self.first(WIDTH))

    @property
    def is_picture(self) -> bool:
        """Whether it has pixels, and they are no transparency mask."""
        return (
            self.size.short_side > 0
            and not self.first(SUBFILE) & 4
            and self.first(PHOTOMETRIC) != 4
        )

    @property
    def is_raw(self) -> bool:
        """Whether it holds the data of a camera's sensor."""
        return DNG_VERSION in self.values or self.first(PHOTOMETRIC) in _RAW_PHOTOMETRIC


def directories(data: bytes) -> list[Directory]:
    """All directories: each page, followed by its sub-directories; damaged ones are left out."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    result: list[Directory] = []
    seen: set[int] = set()
    first = _unpack(data, order + ("Q" if is_big else "I"), 8 if is_big else 4)
    pages = 0
    chain = first[0] if first else 0
    while chain and chain not in seen and len(result) < _MAX_ENTRIES:
        page = _directory(data, chain, order, is_big, pages)
        seen.add(chain)
        if page is None:
            break
        pages += 1
        result.append(page[0])
        result += _sub_directories(data, page[0], order, is_big, seen)
        chain = page[1]
    return result


def _sub_directories(
    data: bytes, parent: Directory, order: str, is_big: bool, seen: set[int]
) -> Iterator[Directory]:
    offsets = list(parent.values.get(SUBIFDS, ()))[:_MAX_ENTRIES]
    while offsets and len(seen) < _MAX_ENTRIES:
        offset = offsets.pop(0)
        directory = None if offset in seen else _directory(data, offset, order, is_big, None)
        seen.add(offset)
        if directory is not None:
            yield directory[0]
            offsets += directory[0].values.get(SUBIFDS, ())[:_MAX_ENTRIES]
            offsets += [directory[1]] if directory[1] else []


def _directory(
    data: bytes, offset: int, order: str, is_big: bool, page: int | None
) -> tuple[Directory, int] | None:
    """The directory at an offset, and the offset of the next one (0: none)."""
    count_format, entry_format, entry_bytes, inline_bytes = (
        ("Q", "HHQ", 20, 8) if is_big else ("H", "HHI", 12, 4)
    )
    count = _unpack(data, order + count_format, offset)
    if not count or not 0 < count[0] <= _MAX_ENTRIES:
        return None
    start = offset + struct.calcsize(order + count_format)
    values: dict[int, tuple[int, ...]] = {}
    for index in range(count[0]):
        entry_offset = start + entry_bytes * index
        entry = _unpack(data, order + entry_format, entry_offset)
        if not entry:
            return None
        tag, value_type, value_count = entry
        if tag not in _TAGS_READ or value_type not in _TYPES or not 0 < value_count <= _MAX_ENTRIES:
            continue
        value_format = f"{order}{value_count}{_TYPES[value_type]}"
        value_offset: Any = entry_offset + entry_bytes - inline_bytes
        if struct.calcsize(value_format) > inline_bytes:
            value_offset = _unpack(data, order + ("Q" if is_big else "I"), value_offset)
            value_offset = value_offset[0] if value_offset else len(data)
        values.setdefault(tag, _unpack(data, value_format, value_offset))
    following = _unpack(data, order + ("Q" if is_big else "I"), start + entry_bytes * count[0])
    return Directory(offset, page, values), following[0] if following else 0


def _unpack(data: bytes, layout: str, offset: int) -> tuple[int, ...]:
    """Numbers at an offset; empty if they are not in the file."""
    if offset < 0 or offset + struct.calcsize(layout) > len(data):
        return ()
    return struct.unpack_from(layout, data, offset)
