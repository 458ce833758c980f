"""Read the boxes of ISO base media files (HEIF, AVIF, JPEG 2000).

Sources: ISO/IEC 14496-12, 23008-12 (HEIF) and 23000-22 (MIAF).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

from impasto.geometry import Region, Size

_MAX_BOXES = 10_000  # in one container; otherwise a file of only empty boxes could take forever


@dataclass
class Primary:
    """Properties of a HEIF file's primary item."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    icc: bytes = b""
    nclx: tuple[int, int, int, bool] | None = None
    """Color primaries, transfer and matrix (H.273), and whether the range is full."""
    clap: tuple[Fraction, ...] = ()
    """The clean aperture: width, height, and its center's offset to the right and down."""
    order: list[str] = field(default_factory=list)
    """The names of the properties in file order, which is also that of the transformations."""

    def clean_aperture(self, size: Size) -> Region | None:
        """The part of a decoded picture of this size to be shown.

        None: the whole picture, or the property is invalid.
        """
        if len(self.clap) != 4:
            return None
        width, height, right, down = self.clap
        left = (size.width - 1) / Fraction(2) + right - (width - 1) / 2
        top = (size.height - 1) / Fraction(2) + down - (height - 1) / 2
        region = Region(round(top), round(left), round(top + height), round(left + width))
        is_inside = (
            0 <= region.top < region.bottom <= size.height
            and 0 <= region.left < region.right <= size.width
        )
        return region if is_inside and region.size != size else None


def boxes(
    data: bytes | memoryview, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """The type, and the start and end of the contents, of each box in a range.

    It stops at the first box that is invalid.
    """
    offset, end = start, len(data) if end is None else min(end, len(data))
    for _ in range(_MAX_BOXES):
        if offset + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, offset)
        header = 8
        if length == 1 and offset + 16 <= end:
            length, header = struct.unpack_from(">Q", data, offset + 8)[0], 16
        elif length == 0:
            length = end - offset
        if length < header:
            return
        yield bytes(kind), offset + header, min(offset + length, end)
        offset += length


def primary(data: bytes) -> Primary:
    """The properties of the primary item; those that cannot be found stay empty."""
    properties = Primary()
    with suppress(struct.error, IndexError, ZeroDivisionError, KeyError):
        _fill(data, properties)  # boxes before the damage are used; the decoder reports the damage
    return properties


def _fill(data: bytes, result: Primary) -> None:
    meta = next(((start + 4, end) for name, start, end in boxes(data) if name == b"meta"), None)
    if meta is None:
        return
    meta_boxes = {name: (start, end) for name, start, end in boxes(data, *meta)}
    start, _ = meta_boxes[b"pitm"]
    item = struct.unpack_from(">H" if data[start] == 0 else ">I", data, start + 4)[0]
    properties = {name: (start, end) for name, start, end in boxes(data, *meta_boxes[b"iprp"])}
    all_properties = [(name, start, end) for name, start, end in boxes(data, *properties[b"ipco"])]
    for index in _property_indices(data, properties[b"ipma"][0], item):
        if not 0 < index <= len(all_properties):
            continue
        name, start, end = all_properties[index - 1]
        result.order.append(name.decode("latin-1"))
        _read_property(data, name, start, end, result)


def _read_property(data: bytes, kind: bytes, start: int, end: int, result: Primary) -> None:
    if kind == b"ispe":
        width, height = struct.unpack_from(">II", data, start + 4)
        result.size = Size(height, width)
    elif kind == b"clap":
        numbers = struct.unpack_from(">IIIIiIiI", data, start)
        result.clap = tuple(
            Fraction(numbers[index], numbers[index + 1]) for index in range(0, 8, 2)
        )
    elif kind == b"colr" and data[start : start + 4] == b"nclx":
        *codes, flags = struct.unpack_from(">HHHB", data, start + 4)
        result.nclx = (codes[0], codes[1], codes[2], bool(flags & 0x80))
    elif kind == b"colr" and data[start : start + 4] in (b"prof", b"rICC"):
        result.icc = data[start + 4 : end]


def _property_indices(data: bytes, start: int, item: int) -> list[int]:
    """The indices, from 1, of an item's properties (ipma box)."""
    version, flags = data[start], data[start + 3]
    offset, count = start + 8, struct.unpack_from(">I", data, start + 4)[0]
    for _ in range(min(count, _MAX_BOXES)):
        identifier = struct.unpack_from(">H" if version == 0 else ">I", data, offset)[0]
        offset += 2 if version == 0 else 4
        property_count, offset = data[offset], offset + 1
        is_wide = flags & 1
        layout, mask = (f">{property_count}H", 0x7FFF) if is_wide else (f">{property_count}B", 0x7F)
        indices = struct.unpack_from(layout, data, offset)
        offset += property_count * (2 if is_wide else 1)
        if identifier == item:
            return [index & mask for index in indices]
    return []
