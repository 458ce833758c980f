"""The boxes of ISO base media files: HEIF, AVIF and JPEG 2000. What decides the look of the primary
picture.

It knows ISO/IEC 14496-12, 23008-12 (HEIF) and 23000-22 (MIAF): which properties belong to the
primary item.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

from impasto.geometry import Region, Size

_MOST = 10_000  # boxes of one container; a file of nothing but empty boxes must not take for ever


@dataclass
class Primary:
    """What the properties of a HEIF file's primary item say."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    icc: bytes = b""
    nclx: tuple[int, int, int, bool] | None = None
    """Primaries, transfer, matrix (H.273), and whether the range is full."""
    clap: tuple[Fraction, ...] = ()
    """Width, height, and the offset of the center to the right and down, of the part to be shown.
    """
    order: list[str] = field(default_factory=list)
    """The names of the properties in the order of the file; transformations apply in it."""

    def shown(self, size: Size) -> Region | None:
        """The part of a decoded picture that is to be shown; None: all of it, or the property makes
        no sense.
        """
        if len(self.clap) != 4:
            return None
        width, height, right, down = self.clap
        left = (size.width - 1) / Fraction(2) + right - (width - 1) / 2
        top = (size.height - 1) / Fraction(2) + down - (height - 1) / 2
        region = Region(round(top), round(left), round(top + height), round(left + width))
        inside = (
            0 <= region.top < region.bottom <= size.height
            and 0 <= region.left < region.right <= size.width
        )
        return region if inside and region.size != size else None


def boxes(
    data: bytes | memoryview, start: int = 0, end: int | None = None
) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the contents of every box in a range; stops at the first that makes no
    sense.
    """
    at, end = start, len(data) if end is None else min(end, len(data))
    for _ in range(_MOST):
        if at + 8 > end:
            return
        length, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= end:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif length == 0:
            length = end - at
        if length < head:
            return
        yield bytes(name), at + head, min(at + length, end)
        at += length


def primary(data: bytes) -> Primary:
    """The properties of the primary item; what cannot be found stays empty."""
    found = Primary()
    with suppress(struct.error, IndexError, ZeroDivisionError, KeyError):
        _fill(data, found)  # boxes before the damage are used; the decoder reports the damage
    return found


def _fill(data: bytes, found: Primary) -> None:
    meta = next(((start + 4, end) for name, start, end in boxes(data) if name == b"meta"), None)
    if meta is None:
        return
    inside = {name: (start, end) for name, start, end in boxes(data, *meta)}
    start, _ = inside[b"pitm"]
    item = struct.unpack_from(">H" if data[start] == 0 else ">I", data, start + 4)[0]
    properties = {name: (start, end) for name, start, end in boxes(data, *inside[b"iprp"])}
    every = [(name, start, end) for name, start, end in boxes(data, *properties[b"ipco"])]
    for index in _associated(data, properties[b"ipma"][0], item):
        if not 0 < index <= len(every):
            continue
        name, start, end = every[index - 1]
        found.order.append(name.decode("latin-1"))
        _property(data, name, start, end, found)


def _property(data: bytes, name: bytes, start: int, end: int, found: Primary) -> None:
    if name == b"ispe":
        width, height = struct.unpack_from(">II", data, start + 4)
        found.size = Size(height, width)
    elif name == b"clap":
        numbers = struct.unpack_from(">IIIIiIiI", data, start)
        found.clap = tuple(Fraction(numbers[at], numbers[at + 1]) for at in range(0, 8, 2))
    elif name == b"colr" and data[start : start + 4] == b"nclx":
        *codes, last = struct.unpack_from(">HHHB", data, start + 4)
        found.nclx = (codes[0], codes[1], codes[2], bool(last & 0x80))
    elif name == b"colr" and data[start : start + 4] in (b"prof", b"rICC"):
        found.icc = data[start + 4 : end]


def _associated(data: bytes, start: int, item: int) -> list[int]:
    """The numbers, from 1, of the properties of an item (the ipma box)."""
    version, flags = data[start], data[start + 3]
    at, count = start + 8, struct.unpack_from(">I", data, start + 4)[0]
    for _ in range(min(count, _MOST)):
        identifier = struct.unpack_from(">H" if version == 0 else ">I", data, at)[0]
        at += 2 if version == 0 else 4
        number, at = data[at], at + 1
        wide = flags & 1
        form, mask = (f">{number}H", 0x7FFF) if wide else (f">{number}B", 0x7F)
        indices = struct.unpack_from(form, data, at)
        at += number * (2 if wide else 1)
        if identifier == item:
            return [index & mask for index in indices]
    return []
