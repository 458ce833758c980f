"""WebP: its RIFF chunks, of which those behind the picture may be cut off without harm to it."""

from __future__ import annotations

import struct

from impasto.images.decoding import Decoded, Task, decode_pillow, open_pillow

_IMAGE = (b"VP8 ", b"VP8L", b"ANMF")
_NEEDED = (*_IMAGE, b"VP8X", b"ALPH", b"ANIM", b"ICCP")


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def decode(data: bytes, task: Task) -> Decoded:
    """The samples of a WebP picture; of the first frame where it moves."""
    slim, notes = whole(data)
    image = open_pillow(slim, task, "WEBP")
    if image.n_frames > 1:
        notes.append(f"has {image.n_frames} frames; the first one is used")
    decoded = decode_pillow(image, task)
    decoded.notes += notes
    decoded.take_exif(image)
    return decoded


def whole(data: bytes) -> tuple[bytes, list[str]]:
    """The file with a right length, and without metadata that are cut off; unchanged where there is
    none of that.
    """
    end, has_image, at, dropped = 12, False, 12, False
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        following = at + 8 + length + length % 2
        if at + 8 + length > len(data):
            if name in _NEEDED:
                return data, []  # the decoder will say that it is cut short
            dropped = True
            break
        has_image = has_image or name in _IMAGE
        at = end = following
    declared = struct.unpack_from("<I", data, 4)[0] + 8
    if not has_image or (not dropped and declared <= len(data)):
        return data, []
    # The last byte may be the one that makes the length even.
    body = data[12:end] + bytes(max(0, end - len(data)))
    note = (
        "its metadata are cut off and are not kept"
        if dropped
        else "its length is wrong, but the picture is whole"
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, [note]
