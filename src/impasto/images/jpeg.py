"""JPEG (ITU-T T.81): read segments, check that no pixels are missing, and decode.

The picture may be decoded at a smaller scale.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images.decoding import Decoded, Task, decode_pillow, open_pillow
from impasto.images.refusals import cut_short, not_a_picture

SIGNATURE = b"\xff\xd8\xff"
_EOI, _SOS, _APP2 = 0xD9, 0xDA, 0xE2
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_MARKER_IN_SCAN = re.compile(b"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_UNSUPPORTED = {
    **dict.fromkeys((0xC3, 0xCB), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}


@dataclass
class Frame:
    """The contents of a JPEG's segments."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    marker: int = 0
    bits: int = 8
    components: list[tuple[int, int, int]] = field(default_factory=list)
    """Identifier, and samples across and down, of each component."""
    profiles: dict[int, bytes] = field(default_factory=dict)
    """The parts of the ICC profile, by number."""
    profile_parts: int = 0
    end: int = 0
    """The offset of the first scan's data; 0 if there is none."""

    @property
    def progressive(self) -> bool:
        return self.marker in (0xC2, 0xCA)

    @property
    def icc(self) -> bytes:
        """The whole ICC profile; empty if there is none, or a part is missing."""
        numbers = range(1, self.profile_parts + 1)
        return (
            b"".join(self.profiles[number] for number in numbers)
            if set(numbers) <= set(self.profiles)
            else b""
        )


def segments(data: bytes, offset: int = 2) -> Iterator[tuple[int, int, bytes]]:
    """Marker, offset of what follows, and body of each segment, up to the first scan.

    Fill bytes are skipped.
    """
    while offset + 4 <= len(data):
        if data[offset] != 0xFF:
            return
        marker = data[offset + 1]
        if marker == 0xFF:
            offset += 1
        elif marker in _WITHOUT_LENGTH:
            offset += 2
        elif marker == _EOI:
            yield marker, offset + 2, b""
            return
        else:
            length = struct.unpack_from(">H", data, offset + 2)[0]
            if length < 2:
                return
            body = data[offset + 4 : offset + 2 + length]
            offset += 2 + length
            yield marker, offset, body
            if marker == _SOS:
                return


def frame(data: bytes) -> Frame:
    """The contents of the segments before the first scan."""
    result = Frame()
    for marker, offset, body in segments(data):
        if (marker in _FRAMES or marker in _UNSUPPORTED) and len(body) >= 6 and not result.marker:
            bits, height, width, count = struct.unpack_from(">BHHB", body)
            result.size, result.marker, result.bits = Size(height, width), marker, bits
            rows = [body[6 + 3 * index : 9 + 3 * index] for index in range(count)]
            result.components = [
                (row[0], row[1] >> 4, row[1] & 15) for row in rows if len(row) == 3
            ]
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            result.profiles.setdefault(body[12], body[14:])
            result.profile_parts = max(result.profile_parts, body[13])
        elif marker == _SOS:
            result.end = offset
    return result


def decode(data: bytes, task: Task) -> Decoded:
    """Decode a JPEG, at a scale of 1/2, 1/4 or 1/8 if that is enough for the task."""
    header = frame(data)
    if header.marker in _UNSUPPORTED or header.bits != 8:
        kind = _UNSUPPORTED.get(header.marker, f"a JPEG with {header.bits} bits a channel")
        raise BadPicture(
            f"{task.label} cannot be read as a picture: it is {kind}.",
            "Convert it to PNG or TIFF first.",
        )
    if not header.marker:
        raise not_a_picture(task.label, data[:64])
    image = open_pillow(data, task, "JPEG")
    size = Size(image.height, image.width)
    factor = scale(task, size)
    notes = []
    try:
        _load(image, factor)
        if _ends_gray(image) and not _complete_image(
            data[: _end_mark_offset(data, header)], factor
        ):
            raise cut_short(task.label)
    except OSError:
        repaired = (
            _complete_image(data, factor) if header.end and _has_all_scans(data, header) else None
        )
        if repaired is None:
            raise
        image = repaired
        notes = ["its end mark is missing, but the picture is whole"]
    decoded = decode_pillow(image, task)
    decoded.notes += notes
    decoded.full_size = size
    decoded.icc = header.icc
    if header.profile_parts and not header.icc:
        decoded.notes.append("its color profile is incomplete and was ignored")
    decoded.take_exif(image)
    return decoded


def scale(task: Task, size: Size) -> int:
    """The denominator of the scale at which a picture is decoded: 1, 2, 4 or 8."""
    return max(each for each in (1, 2, 4, 8) if each <= task.box(size))


def _load(image: Image.Image, factor: int) -> None:
    if factor > 1:  # libjpeg reduces the picture while it decodes
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
    image.load()


def _ends_gray(image: Image.Image) -> bool:
    """Whether the last corner has the plain gray that libjpeg uses for missing data."""
    corner = np.asarray(
        image.crop((max(0, image.width - 4), max(0, image.height - 4), image.width, image.height))
    )
    return bool(np.all(np.abs(corner.astype(np.int16) - 128) <= 1))


def _end_mark_offset(data: bytes, header: Frame) -> int:
    """The offset of the picture's end mark; the length of the data if there is none."""
    start = header.end
    while match := _MARKER_IN_SCAN.search(data, start):
        if data[match.start() + 1] == _EOI:
            return match.start()
        start = next(
            (offset for marker, offset, _ in segments(data, match.start()) if marker == _SOS),
            len(data),
        )
    return len(data)


def _complete_image(data: bytes, factor: int) -> Image.Image | None:
    """The picture if no data are missing, or else None.

    libjpeg silently makes up missing pixels from the bytes that follow. So the data are decoded
    with different bytes after them. If that changes a pixel, data are missing.
    """
    body = data.rstrip(b"\xff")
    # Without 255, which would begin a marker.
    random = np.random.default_rng(0).integers(0, 255, (2, 4096), np.uint8)
    digests, image = set(), None
    for following in (b"", random[0].tobytes(), random[1].tobytes()):
        try:
            task = Task("", float("inf"))
            image = open_pillow(body + following + b"\xff\xd9", task, "JPEG")
            _load(image, factor)
        except Exception:  # the following bytes were not read as pixels
            return None
        digest = hashlib.sha256()
        for top in range(0, image.height, 256):
            digest.update(image.crop((0, top, image.width, min(image.height, top + 256))).tobytes())
        digests.add(digest.digest())
        if len(digests) > 1:
            return None
    return image


def _has_all_scans(data: bytes, header: Frame) -> bool:
    """Whether every component has a scan with all its bits.

    A progressive JPEG needs all bits of every coefficient.
    """
    missing = {identifier: {*range(64)} for identifier, _, _ in header.components}
    offset = next((place for marker, place, _ in segments(data) if marker == _SOS), None)
    start = 2
    while offset is not None:
        for marker, _, body in segments(data, start):
            if marker == _SOS:
                with suppress(IndexError, KeyError):
                    count = body[0]
                    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
                    for index in range(count):
                        if not bits & 15:
                            missing[body[1 + 2 * index]] -= set(range(first, last + 1))
        match = _MARKER_IN_SCAN.search(data, offset)
        if match is None:
            break
        start = match.start()
        offset = next((place for marker, place, _ in segments(data, start) if marker == _SOS), None)
    return not any(missing.values())
