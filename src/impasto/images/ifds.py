"""The directories of TIFF-like files: enough of them to tell raw files, and to choose a page,
without decoding.

It knows TIFF 6.0, BigTIFF, and the raw files that are built like them under other signatures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from impasto.geometry import Size

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Olympus, Panasonic and Leica, which are built as TIFF is.
ALIKE = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0")

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
_WANTED = {
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
_LARGEST = 4096  # directories; and entries of one
_SCAN = (32803, 34892)  # PhotometricInterpretation of a sensor's mosaic, and of linear raw data


@dataclass(frozen=True)
class Directory:
    """One directory: a page, or a reduced copy, a mask, a preview."""

    offset: int
    page: int | None
    """Its number in the chain of pages; None where it hangs under another one."""
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
        """Whether it says that it is of a camera's sensor."""
        return DNG_VERSION in self.values or self.first(PHOTOMETRIC) in _SCAN


def directories(data: bytes) -> list[Directory]:
    """All directories, pages first to last, each followed by those under it; damaged ones are left
    out.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    found: list[Directory] = []
    seen: set[int] = set()
    first = _unpack(data, order + ("Q" if big else "I"), 8 if big else 4)
    pages = 0
    chain = first[0] if first else 0
    while chain and chain not in seen and len(found) < _LARGEST:
        entry = _directory(data, chain, order, big, pages)
        seen.add(chain)
        if entry is None:
            break
        pages += 1
        found.append(entry[0])
        found += _below(data, entry[0], order, big, seen)
        chain = entry[1]
    return found


def _below(
    data: bytes, parent: Directory, order: str, big: bool, seen: set[int]
) -> Iterator[Directory]:
    waiting = list(parent.values.get(SUBIFDS, ()))[:_LARGEST]
    while waiting and len(seen) < _LARGEST:
        offset = waiting.pop(0)
        entry = None if offset in seen else _directory(data, offset, order, big, None)
        seen.add(offset)
        if entry is not None:
            yield entry[0]
            waiting += entry[0].values.get(SUBIFDS, ())[:_LARGEST]
            waiting += [entry[1]] if entry[1] else []


def _directory(
    data: bytes, at: int, order: str, big: bool, page: int | None
) -> tuple[Directory, int] | None:
    """The directory at an offset, and the offset of the next one (0: none)."""
    head, kind, step, inline = ("Q", "HHQ", 20, 8) if big else ("H", "HHI", 12, 4)
    count = _unpack(data, order + head, at)
    if not count or not 0 < count[0] <= _LARGEST:
        return None
    start = at + struct.calcsize(order + head)
    values: dict[int, tuple[int, ...]] = {}
    for index in range(count[0]):
        place = start + step * index
        entry = _unpack(data, order + kind, place)
        if not entry:
            return None
        tag, kind_of_value, number = entry
        if tag not in _WANTED or kind_of_value not in _TYPES or not 0 < number <= _LARGEST:
            continue
        form = f"{order}{number}{_TYPES[kind_of_value]}"
        where: Any = place + step - inline
        if struct.calcsize(form) > inline:
            where = _unpack(data, order + ("Q" if big else "I"), where)
            where = where[0] if where else len(data)
        values.setdefault(tag, _unpack(data, form, where))
    following = _unpack(data, order + ("Q" if big else "I"), start + step * count[0])
    return Directory(at, page, values), following[0] if following else 0


def _unpack(data: bytes, form: str, at: int) -> tuple[int, ...]:
    """Numbers at an offset; empty where the file ends before."""
    if at < 0 or at + struct.calcsize(form) > len(data):
        return ()
    return struct.unpack_from(form, data, at)
