"""Decode WebP, also files whose metadata after the picture are cut off."""

from __future__ import annotations

import struct

from impasto.images.decoding import Decoded, Task, decode_pillow, open_pillow

_PICTURE_CHUNKS = (b"VP8 ", b"VP8L", b"ANMF")
_NEEDED_CHUNKS = (*_PICTURE_CHUNKS, b"VP8X", b"ALPH", b"ANIM", b"ICCP")


def is_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def decode(data: bytes, task: Task) -> Decoded:
    """Decode a WebP picture; of an animation the first frame."""
    data, notes = repaired(data)
    image = open_pillow(data, task, "WEBP")
    if image.n_frames > 1:
        notes.append(f"has {image.n_frames} frames; the first one is used")
    decoded = decode_pillow(image, task)
    decoded.notes += notes
    decoded.take_exif(image)
    return decoded


def repaired(data: bytes) -> tuple[bytes, list[str]]:
    """The file with its length corrected and incomplete metadata removed, and notes on that."""
    end, has_image, offset, is_cut = 12, False, 12, False
    while offset + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, offset)
        next_offset = offset + 8 + length + length % 2
        if offset + 8 + length > len(data):
            if name in _NEEDED_CHUNKS:
                return data, []  # the decoder reports that it is cut short
            is_cut = True
            break
        has_image = has_image or name in _PICTURE_CHUNKS
        offset = end = next_offset
    declared = struct.unpack_from("<I", data, 4)[0] + 8
    if not has_image or (not is_cut and declared <= len(data)):
        return data, []
    # The last byte may be the padding that makes the length even.
    body = data[12:end] + bytes(max(0, end - len(data)))
    note = (
        "its metadata are cut off and are not kept"
        if is_cut
        else "its length is wrong, but the picture is whole"
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, [note]
