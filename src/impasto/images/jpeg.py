"""JPEG (ITU-T T.81): its segments, whether its pixels are all there, and the pixels, at a smaller
scale if enough.
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
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_MARKER_IN_SCAN = re.compile(b"\xff[^\x00\xd0-\xd7\xff]")
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_UNREAD = {
    **dict.fromkeys((0xC3, 0xCB), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "hierarchical JPEG"),
    0xF7: "JPEG-LS",
}


@dataclass
class Frame:
    """What a JPEG's segments say."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    marker: int = 0
    bits: int = 8
    components: list[tuple[int, int, int]] = field(default_factory=list)
    """Identifier, and samples across and down, of each."""
    profiles: dict[int, bytes] = field(default_factory=dict)
    """The parts of the ICC profile by number."""
    profile_parts: int = 0
    end: int = 0
    """Where the first scan's data begin; 0 if there is none."""

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


def segments(data: bytes, at: int = 2) -> Iterator[tuple[int, int, bytes]]:
    """Marker, place of what follows, and body of each segment, up to the first scan; fill bytes are
    skipped.
    """
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker == _EOI:
            yield marker, at + 2, b""
            return
        else:
            length = struct.unpack_from(">H", data, at + 2)[0]
            if length < 2:
                return
            body = data[at + 4 : at + 2 + length]
            at += 2 + length
            yield marker, at, body
            if marker == _SOS:
                return


def frame(data: bytes) -> Frame:
    """What the segments before the first scan say."""
    found = Frame()
    for marker, at, body in segments(data):
        if (marker in _FRAMES or marker in _UNREAD) and len(body) >= 6 and not found.marker:
            bits, height, width, count = struct.unpack_from(">BHHB", body)
            found.size, found.marker, found.bits = Size(height, width), marker, bits
            rows = [body[6 + 3 * index : 9 + 3 * index] for index in range(count)]
            found.components = [(row[0], row[1] >> 4, row[1] & 15) for row in rows if len(row) == 3]
        elif marker == _APP2 and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
            found.profiles.setdefault(body[12], body[14:])
            found.profile_parts = max(found.profile_parts, body[13])
        elif marker == _SOS:
            found.end = at
    return found


def decode(data: bytes, task: Task) -> Decoded:
    """The samples of a JPEG; of a scale of 1/2, 1/4 or 1/8 if that is still more than the task
    needs.
    """
    found = frame(data)
    if found.marker in _UNREAD or found.bits != 8:
        kind = _UNREAD.get(found.marker, f"a JPEG with {found.bits} bits a channel")
        raise BadPicture(
            f"{task.label} cannot be read as a picture: it is {kind}.",
            "Convert it to PNG or TIFF first.",
        )
    if not found.marker:
        raise not_a_picture(task.label, data[:64])
    image = open_pillow(data, task, "JPEG")
    size = Size(image.height, image.width)
    factor = scale(task, size)
    notes = []
    try:
        _load(image, factor)
        if _ends_gray(image) and not _is_whole(data[: _end(data, found)], factor):
            raise cut_short(task.label)
    except OSError:
        whole = _is_whole(data, factor) if found.end and _has_all_scans(data, found) else None
        if whole is None:
            raise
        image = whole
        notes = ["its end mark is missing, but the picture is whole"]
    decoded = decode_pillow(image, task)
    decoded.notes += notes
    decoded.full_size = size
    decoded.icc = found.icc
    if found.profile_parts and not found.icc:
        decoded.notes.append("its color profile is incomplete and was ignored")
    decoded.take_exif(image)
    return decoded


def scale(task: Task, size: Size) -> int:
    """The denominator of the scale at which a picture is decoded: 1, 2, 4 or 8."""
    return max(each for each in (1, 2, 4, 8) if each <= task.box(size))


def _load(image: Image.Image, factor: int) -> None:
    if factor > 1:  # libjpeg makes the smaller picture while it decodes
        image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
    image.load()


def _ends_gray(image: Image.Image) -> bool:
    """Whether the last corner is the plain gray that libjpeg puts where data are missing."""
    corner = np.asarray(
        image.crop((max(0, image.width - 4), max(0, image.height - 4), image.width, image.height))
    )
    return bool(np.all(np.abs(corner.astype(np.int16) - 128) <= 1))


def _end(data: bytes, found: Frame) -> int:
    """Where the end mark of the picture is; the end of the data if there is none."""
    at = found.end
    while match := _MARKER_IN_SCAN.search(data, at):
        if data[match.start() + 1] == _EOI:
            return match.start()
        at = next(
            (place for marker, place, _ in segments(data, match.start()) if marker == _SOS),
            len(data),
        )
    return len(data)


def _is_whole(data: bytes, factor: int) -> Image.Image | None:
    """The picture, if what would follow the data decides no pixel of it; None if data are missing.

    libjpeg silently makes up what is missing, from whatever follows. So the data are decoded with
    different continuations: if that changes a pixel, they are cut short.
    """
    body = data.rstrip(b"\xff")
    random = np.random.default_rng(0).integers(0, 255, (2, 4096), np.uint8)  # 255 would be a marker
    seen, image = set(), None
    for more in (b"", random[0].tobytes(), random[1].tobytes()):
        try:
            task = Task("", float("inf"))
            image = open_pillow(body + more + b"\xff\xd9", task, "JPEG")
            _load(image, factor)
        except Exception:  # the continuation was taken for something else than pixels
            return None
        digest = hashlib.sha256()
        for top in range(0, image.height, 256):
            digest.update(image.crop((0, top, image.width, min(image.height, top + 256))).tobytes())
        seen.add(digest.digest())
        if len(seen) > 1:
            return None
    return image


def _has_all_scans(data: bytes, found: Frame) -> bool:
    """Whether every component has a scan, and in a progressive JPEG every coefficient all its bits."""
    missing = {identifier: {*range(64)} for identifier, _, _ in found.components}
    at = next((place for marker, place, _ in segments(data) if marker == _SOS), None)
    start = 2
    while at is not None:
        for marker, _, body in segments(data, start):
            if marker == _SOS:
                with suppress(IndexError, KeyError):
                    count = body[0]
                    first, last, bits = body[1 + 2 * count : 4 + 2 * count]
                    for index in range(count):
                        if not bits & 15:
                            missing[body[1 + 2 * index]] -= set(range(first, last + 1))
        match = _MARKER_IN_SCAN.search(data, at)
        if match is None:
            break
        start = match.start()
        at = next((place for marker, place, _ in segments(data, start) if marker == _SOS), None)
    return not any(missing.values())
