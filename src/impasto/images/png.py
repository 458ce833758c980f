"""Decode PNG (third edition) after reading its chunks here.

Decoders stop at metadata that are too large, or whose checksum is wrong, as if the picture were
damaged. So a decoder is given only the chunks that hold the picture.
"""

from __future__ import annotations

import io
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from PIL import Image

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import colorimetry, exif
from impasto.images.decoding import Decoded, Task, decode_pillow, decoded_arrays
from impasto.images.refusals import cut_short
from impasto.images.silence import no_stderr

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_PROFILE_BYTES = 32 << 20  # uncompressed; the largest printer profiles have a few megabytes
_MAX_TEXT_BYTES = 8 << 20  # of a recipe or XMP packet
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXTS = (b"iTXt", b"zTXt", b"tEXt")
_METADATA = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"acTL", b"pHYs")
_XMP = b"XML:com.adobe.xmp"
_COPY_AGAIN = "Copy or download it again."


@dataclass
class Chunks:
    """The contents of a PNG's chunks."""

    size: Size
    bits: int
    channels: int
    parts: list[bytes | memoryview] = field(default_factory=list)
    """A PNG of only the chunks that hold the picture, in parts."""
    metadata: dict[bytes, bytes] = field(default_factory=dict)
    """By name, the first chunk of each other kind that has the right checksum."""
    texts: dict[bytes, bytes] = field(default_factory=dict)
    """By keyword, compressed or plain texts that have the right checksum: XMP and those of
    ImageMagick.
    """
    notes: list[str] = field(default_factory=list)

    @property
    def has_transparent_color(self) -> bool:
        """Whether a color, or entries of the palette, are transparent."""
        return self._has(b"tRNS")

    @property
    def has_pixels(self) -> bool:
        return self._has(b"IDAT")

    def _has(self, name: bytes) -> bool:
        return any(bytes(head[4:8]) == name for head in self.parts[1::3])

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def read_chunks(data: bytes, label: str) -> Chunks:
    """The chunks of a PNG file. Raises BadPicture if the picture is damaged or cut short."""
    chunks = _header(data, label)
    pixels_checked, has_end = True, False
    for name, body, is_whole, is_right in _each_chunk(data):
        if name == b"IEND":
            has_end = True
            break
        if name == b"IDAT":
            pixels_checked = pixels_checked and is_right and is_whole
        if name in (b"IHDR", b"PLTE", b"tRNS") and is_whole and not is_right:
            raise BadPicture(
                f"{label} is damaged: the checksum of its {name.decode()} chunk is wrong.",
                _COPY_AGAIN,
            )
        _add(chunks, name, body, is_whole, is_right)
    if not chunks.has_pixels:
        raise cut_short(label)
    chunks.parts += [b"\0\0\0\0IEND", struct.pack(">I", zlib.crc32(b"IEND"))]
    _check_pixels(chunks, label, pixels_checked, has_end)
    return chunks


def _add(chunks: Chunks, name: bytes, body: memoryview, is_whole: bool, is_right: bool) -> None:
    """Add a chunk; ``is_right``: its checksum is right."""
    if name in _PICTURE and (is_whole or name == b"IDAT"):
        if name != b"IHDR":  # added already
            head, crc = struct.pack(">I4s", len(body), name), struct.pack(">I", _crc(name, body))
            chunks.parts += [head, body, crc]
    elif is_whole and is_right:
        _add_metadata(chunks, name, body)
    else:
        chunks.note("some of its metadata are damaged and are not kept")


def _check_pixels(chunks: Chunks, label: str, pixels_checked: bool, has_end: bool) -> None:
    """Raise BadPicture if pixels are damaged; add a note if only the file around them is."""
    if not pixels_checked and not _unpacks(chunks.parts):
        if not has_end:
            raise cut_short(label)
        raise BadPicture(f"{label} is damaged: its pixels do not unpack.", _COPY_AGAIN)
    if not has_end:
        chunks.note("its end mark is missing, but the picture is whole")
    elif not pixels_checked:
        chunks.note("a checksum in it is wrong, but the picture is whole")


def _header(data: bytes, label: str) -> Chunks:
    if len(data) < 33 or data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise BadPicture(f"{label} is damaged or cut short near its beginning.", _COPY_AGAIN)
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 0)
    if not channels or bits not in (1, 2, 4, 8, 16) or not width or not height:
        raise BadPicture(f"{label} is damaged: its header is invalid.", _COPY_AGAIN)
    return Chunks(Size(height, width), bits, channels, [data[:33]])


def _each_chunk(data: bytes) -> Iterator[tuple[bytes, memoryview, bool, bool]]:
    """Name and body of every chunk, whether it is complete, and whether its checksum is right."""
    view, offset = memoryview(data), len(SIGNATURE)
    while offset + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        body = view[offset + 8 : offset + 8 + length]
        crc = data[offset + 8 + length : offset + 12 + length]
        yield name, body, len(body) == length, crc == struct.pack(">I", _crc(name, body))
        offset += 12 + length


def _crc(name: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(name))


def _unpacks(parts: list[bytes | memoryview]) -> bool:
    """Whether the compressed pixels are complete, and their own checksum is right."""
    decompressor = zlib.decompressobj()
    try:
        for head, body in zip(parts[1::3], parts[2::3], strict=False):
            if bytes(head[4:8]) != b"IDAT":
                continue
            remaining: bytes | memoryview = body
            while len(remaining) and not decompressor.eof:
                decompressor.decompress(remaining, 1 << 20)
                remaining = decompressor.unconsumed_tail
    except zlib.error:
        return False
    return bool(decompressor.eof)


def _add_metadata(chunks: Chunks, name: bytes, body: memoryview) -> None:
    if name in _TEXTS:
        keyword, text = bytes(body[:80]).split(b"\0")[0], name + bytes(body)
        if keyword == _XMP or keyword.startswith(b"Raw profile type "):
            chunks.texts.setdefault(keyword, text)
        elif _decode_text(text, 1 << 20) is None:
            chunks.note("a text in it is too long and is not kept")
    elif name in _METADATA:
        chunks.metadata.setdefault(name, bytes(body))


def _decompress(packed: bytes, limit: int) -> bytes | None:
    """Decompressed bytes; None if they are damaged or more than ``limit``."""
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(packed, limit)
    except zlib.error:
        return None
    return data if decompressor.eof else None


def xmp(chunks: Chunks) -> bytes:
    """The XMP packet; empty if there is none, or it is damaged or too long."""
    return (
        (_decode_text(chunks.texts[_XMP], _MAX_TEXT_BYTES) or b"") if _XMP in chunks.texts else b""
    )


def _decode_text(chunk: bytes, limit: int) -> bytes | None:
    """The text of a tEXt, zTXt or iTXt chunk; None if it is damaged or longer than ``limit``.

    ``chunk`` begins with the chunk's name.
    """
    name, (_, _, text) = chunk[:4], chunk[4:].partition(b"\0")
    is_compressed = name == b"zTXt" or (name == b"iTXt" and text[:1] == b"\1")
    if name == b"zTXt":
        text = text[1:]
    elif name == b"iTXt":
        text = text[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    if is_compressed:
        return _decompress(text, limit)
    return text if len(text) <= limit else None


def _exif_block(chunks: Chunks) -> bytes:
    """The eXIf chunk, or the block that ImageMagick writes as a text of hexadecimal digits."""
    if b"eXIf" in chunks.metadata:
        return chunks.metadata[b"eXIf"]
    for keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
        text = (
            _decode_text(chunks.texts[keyword], _MAX_TEXT_BYTES) if keyword in chunks.texts else b""
        )
        lines = (text or b"").split(b"\n")
        try:
            # The first lines are empty, the name and the length.
            block = bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
        except ValueError:
            continue
        if block.startswith(b"Exif\0\0"):
            return block
    return b""


def orientation(chunks: Chunks) -> int:
    """The orientation of the EXIF data, 1..8."""
    return exif.orientation(exif.parse(_exif_block(chunks)))


def _set_colors(chunks: Chunks, decoded: Decoded) -> None:
    """Set the colors by the specification's order of precedence (section 4.3).

    It is cICP, iCCP, sRGB, then gAMA and cHRM.
    """
    metadata, notes = chunks.metadata, decoded.notes
    if len(metadata.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full = metadata[b"cICP"]
        if matrix == 0:
            decoded.numbers, note = colorimetry.from_h273(primaries, transfer, full=bool(full))
            notes += [note] if note else []
            return
        notes.append("its color code points are not those of RGB and were ignored")
    if b"iCCP" in metadata:
        packed = metadata[b"iCCP"].partition(b"\0")[2][1:]
        decoded.icc = _decompress(packed, _MAX_PROFILE_BYTES) or b""
        if decoded.icc:
            return
        too_large = len(packed) > 1 << 20
        notes.append(
            f"its color profile is {'too large' if too_large else 'damaged'} and was ignored"
        )
    if b"sRGB" in metadata:
        return
    decoded.numbers = _gamma_and_primaries(metadata)


def _gamma_and_primaries(metadata: dict[bytes, bytes]) -> colorimetry.Colorimetry | None:
    gamma = struct.unpack(">I", metadata[b"gAMA"])[0] if len(metadata.get(b"gAMA", b"")) == 4 else 0
    points = None
    if len(metadata.get(b"cHRM", b"")) == 32:
        numbers = [value / 100_000 for value in struct.unpack(">8I", metadata[b"cHRM"])]
        pairs = [(numbers[index], numbers[index + 1]) for index in range(0, 8, 2)]
        points = (pairs[0], pairs[1], pairs[2], pairs[3])
    if not gamma and points is None:
        return None
    return colorimetry.from_gamma(100_000 / gamma if gamma else None, points)


def decode(data: bytes, task: Task) -> Decoded:
    """Decode a PNG of any color type and depth; a transparent color (tRNS) becomes alpha."""
    chunks = read_chunks(data, task.label)
    task.check(chunks.size)
    decoded = _deep(chunks) if chunks.bits == 16 else _shallow(chunks, task)
    decoded.notes += _frame_notes(chunks)
    _set_colors(chunks, decoded)
    exif_data = exif.parse(_exif_block(chunks))
    decoded.orientation, decoded.exif = (
        exif.orientation(exif_data),
        exif.block_to_keep(exif_data, decoded.notes),
    )
    if (
        not decoded.icc
        and decoded.numbers is None
        and not {b"sRGB", b"cICP", b"gAMA"} & set(chunks.metadata)
    ):
        decoded.numbers = exif.colorimetry_of(exif_data) if decoded.space == "rgb" else None
    if len(chunks.metadata.get(b"pHYs", b"")) == 9:
        across, down = struct.unpack(">II", chunks.metadata[b"pHYs"][:8])
        if across and down and abs(across / down - 1) > 0.01:
            decoded.notes.append("its pixels are not square, and are taken as if they were")
    decoded.notes += chunks.notes
    return decoded


def _frame_notes(chunks: Chunks) -> list[str]:
    count = (
        struct.unpack(">I", chunks.metadata[b"acTL"][:4])[0]
        if len(chunks.metadata.get(b"acTL", b"")) == 8
        else 1
    )
    return [f"has {count} frames; the first one is used"] if count > 1 else []


def _shallow(chunks: Chunks, task: Task) -> Decoded:
    file = _JoinedFile(chunks.parts)
    decoded = decode_pillow(Image.open(io.BufferedReader(file), formats=("PNG",)), task)
    file.release()
    return decoded


def _deep(chunks: Chunks) -> Decoded:
    import imagecodecs

    with no_stderr():
        # (H, W) or (H, W, 2 | 3 | 4) uint16.
        samples = imagecodecs.png_decode(b"".join(chunks.parts))
    samples = samples[..., None] if samples.ndim == 2 else samples
    has_alpha = samples.shape[2] in (2, 4)
    color = samples[..., :-1] if has_alpha else samples
    return decoded_arrays(
        color, "gray" if color.shape[2] == 1 else "rgb", samples[..., -1] if has_alpha else None
    )


class _JoinedFile(io.RawIOBase):
    """Parts as one file, without a copy of them."""

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._ends = list(accumulate(len(part) for part in self._parts))
        self._position = 0

    def release(self) -> None:
        """Forget the parts to free their memory; Pillow keeps a reference to its file."""
        self._parts.clear()
        self._ends.clear()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._ends, self._position)
        if index == len(self._parts):
            return 0
        part = self._parts[index][self._position - (self._ends[index] - len(self._parts[index])) :]
        count = min(len(buffer), len(part))
        buffer[:count] = part[:count]
        self._position += count
        return count
