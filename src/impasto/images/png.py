"""PNG (third edition): its chunks read by ourselves, what decides the look taken from them, the
pixels decoded.

Decoders stop at metadata that are too large, or whose checksum is wrong, as if the picture were
damaged. So the chunks are walked here, and a decoder gets those that hold the picture, and no
others.
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
_LARGEST_PROFILE = 32 << 20  # bytes, unpacked; the largest printer profiles have a few megabytes
_LARGEST_TEXT = 8 << 20  # the longest recipe or XMP packet that is looked at
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXTS = (b"iTXt", b"zTXt", b"tEXt")
_ABOUT = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf", b"acTL", b"pHYs")
_XMP = b"XML:com.adobe.xmp"
_AGAIN = "Copy or download it again."


@dataclass
class Chunks:
    """What a PNG's chunks say."""

    size: Size
    bits: int
    channels: int
    parts: list[bytes | memoryview] = field(default_factory=list)
    """A PNG of the chunks that hold the picture, in parts."""
    about: dict[bytes, bytes] = field(default_factory=dict)
    """The first chunk of each other name, that has the right checksum."""
    texts: dict[bytes, bytes] = field(default_factory=dict)
    """Packed or plain texts by keyword, that have the right checksum: XMP and what ImageMagick puts
    there.
    """
    notes: list[str] = field(default_factory=list)

    @property
    def has_key(self) -> bool:
        """Whether a color, or entries of the palette, are transparent."""
        return any(bytes(head[4:8]) == b"tRNS" for head in self.parts[1::3])

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def walk(data: bytes, label: str) -> Chunks:
    """The chunks of a PNG file. Raises BadPicture where the picture itself is damaged or cut short."""
    found = _header(data, label)
    packed = zlib.decompressobj()
    # Whether all checksums of the pixels are right; whether the end mark is there.
    checked, ended = True, False
    for name, body, is_whole, is_right in _each(data):
        if name in (b"IHDR", b"PLTE", b"tRNS") and is_whole and not is_right:
            raise BadPicture(
                f"{label} is damaged: the checksum of its {name.decode()} chunk is wrong.", _AGAIN
            )
        if name == b"IEND":
            ended = True
            break
        if name == b"IDAT":
            checked = checked and is_right and is_whole
        if name in _PICTURE and (is_whole or name == b"IDAT"):
            if name != b"IHDR":
                found.parts += [
                    struct.pack(">I4s", len(body), name),
                    body,
                    struct.pack(">I", _crc(name, body)),
                ]
        elif not (is_whole and is_right):
            found.note("some of its metadata are damaged and are not kept")
        else:
            _take(found, name, body)
    if all(bytes(head[4:8]) != b"IDAT" for head in found.parts[1::3]):
        raise cut_short(label)
    found.parts += [b"\0\0\0\0IEND", struct.pack(">I", zlib.crc32(b"IEND"))]
    if not checked and not _unpacks(found.parts, packed):
        raise (
            cut_short(label)
            if not ended
            else BadPicture(f"{label} is damaged: its pixels do not unpack.", _AGAIN)
        )
    if not ended:
        found.note("its end mark is missing, but the picture is whole")
    elif not checked:
        found.note("a checksum in it is wrong, but the picture is whole")
    return found


def _header(data: bytes, label: str) -> Chunks:
    if len(data) < 33 or data[12:16] != b"IHDR" or data[8:12] != b"\0\0\0\x0d":
        raise BadPicture(f"{label} is damaged or cut short near its beginning.", _AGAIN)
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 0)
    if not channels or bits not in (1, 2, 4, 8, 16) or not width or not height:
        raise BadPicture(f"{label} is damaged: its header makes no sense.", _AGAIN)
    return Chunks(Size(height, width), bits, channels, [data[:33]])


def _each(data: bytes) -> Iterator[tuple[bytes, memoryview, bool, bool]]:
    """Name and body of every chunk, whether the body is all there, and whether its checksum is
    right.
    """
    view, at = memoryview(data), len(SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = view[at + 8 : at + 8 + length]
        crc = data[at + 8 + length : at + 12 + length]
        yield name, body, len(body) == length, crc == struct.pack(">I", _crc(name, body))
        at += 12 + length


def _crc(name: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(name))


def _unpacks(parts: list[bytes | memoryview], packed: Any) -> bool:
    """Whether the pixels' stream comes to its end, and its own checksum holds."""
    try:
        for head, body in zip(parts[1::3], parts[2::3], strict=False):
            if bytes(head[4:8]) != b"IDAT":
                continue
            rest: bytes | memoryview = body
            while len(rest) and not packed.eof:
                packed.decompress(rest, 1 << 20)
                rest = packed.unconsumed_tail
    except zlib.error:
        return False
    return bool(packed.eof)


def _take(found: Chunks, name: bytes, body: memoryview) -> None:
    if name in _TEXTS:
        keyword, text = bytes(body[:80]).split(b"\0")[0], name + bytes(body)
        if keyword == _XMP or keyword.startswith(b"Raw profile type "):
            found.texts.setdefault(keyword, text)
        elif _text(text, 1 << 20) is None:
            found.note("a text in it is too long and is not kept")
    elif name in _ABOUT:
        found.about.setdefault(name, bytes(body))


def _unpacked(packed: bytes, limit: int) -> bytes | None:
    """Unpacked bytes; None if they are damaged or more than ``limit``."""
    machine = zlib.decompressobj()
    try:
        data = machine.decompress(packed, limit)
    except zlib.error:
        return None
    return data if machine.eof else None


def xmp(found: Chunks) -> bytes:
    """The XMP packet; empty if there is none, or it is damaged or too long."""
    return (_text(found.texts[_XMP], _LARGEST_TEXT) or b"") if _XMP in found.texts else b""


def _text(chunk: bytes, limit: int) -> bytes | None:
    """The text of a tEXt, zTXt or iTXt chunk, given with its name before it; None if damaged or too
    long.
    """
    name, (_, _, rest) = chunk[:4], chunk[4:].partition(b"\0")
    packed = name == b"zTXt" or (name == b"iTXt" and rest[:1] == b"\1")
    if name == b"zTXt":
        rest = rest[1:]
    elif name == b"iTXt":
        rest = rest[2:].split(b"\0", 2)[-1]  # after language and translated keyword
    if packed:
        return _unpacked(rest, limit)
    return rest if len(rest) <= limit else None


def _exif_block(found: Chunks) -> bytes:
    """The eXIf chunk, or the block that ImageMagick writes as a text of hexadecimal digits."""
    if b"eXIf" in found.about:
        return found.about[b"eXIf"]
    for keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
        text = _text(found.texts[keyword], _LARGEST_TEXT) if keyword in found.texts else b""
        lines = (text or b"").split(b"\n")
        try:
            # After an empty line, the name and the length.
            block = bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
        except ValueError:
            continue
        if block.startswith(b"Exif\0\0"):
            return block
    return b""


def orientation(found: Chunks) -> int:
    """EXIF's 1..8."""
    return exif.orientation(exif.parse(_exif_block(found)))


def _take_colors(found: Chunks, decoded: Decoded) -> None:
    """By the order of precedence of the specification (section 4.3): cICP, iCCP, sRGB, then gAMA
    and cHRM.
    """
    about, notes = found.about, decoded.notes
    if len(about.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full = about[b"cICP"]
        if matrix == 0:
            decoded.numbers, note = colorimetry.from_h273(primaries, transfer, full=bool(full))
            notes += [note] if note else []
            return
        notes.append("its color code points are not those of RGB and were ignored")
    if b"iCCP" in about:
        packed = about[b"iCCP"].partition(b"\0")[2][1:]
        decoded.icc = _unpacked(packed, _LARGEST_PROFILE) or b""
        if decoded.icc:
            return
        too_large = len(packed) > 1 << 20
        notes.append(
            f"its color profile is {'too large' if too_large else 'damaged'} and was ignored"
        )
    if b"sRGB" in about:
        return
    decoded.numbers = _gamma_and_primaries(about)


def _gamma_and_primaries(about: dict[bytes, bytes]) -> colorimetry.Colorimetry | None:
    gamma = struct.unpack(">I", about[b"gAMA"])[0] if len(about.get(b"gAMA", b"")) == 4 else 0
    points = None
    if len(about.get(b"cHRM", b"")) == 32:
        numbers = [value / 100_000 for value in struct.unpack(">8I", about[b"cHRM"])]
        pairs = [(numbers[at], numbers[at + 1]) for at in range(0, 8, 2)]
        points = (pairs[0], pairs[1], pairs[2], pairs[3])
    if not gamma and points is None:
        return None
    return colorimetry.from_gamma(100_000 / gamma if gamma else None, points)


def decode(data: bytes, task: Task) -> Decoded:
    """The samples of a PNG of any color type and depth; a transparent color (tRNS) becomes alpha."""
    found = walk(data, task.label)
    task.check(found.size)
    decoded = _deep(found) if found.bits == 16 else _shallow(found, task)
    decoded.notes += _frames(found)
    _take_colors(found, decoded)
    about = exif.parse(_exif_block(found))
    decoded.orientation, decoded.exif = (
        exif.orientation(about),
        exif.block_to_keep(about, decoded.notes),
    )
    if (
        not decoded.icc
        and decoded.numbers is None
        and not {b"sRGB", b"cICP", b"gAMA"} & set(found.about)
    ):
        decoded.numbers = exif.colorimetry_of(about) if decoded.space == "rgb" else None
    if len(found.about.get(b"pHYs", b"")) == 9:
        across, down = struct.unpack(">II", found.about[b"pHYs"][:8])
        if across and down and abs(across / down - 1) > 0.01:
            decoded.notes.append("its pixels are not square, and are taken as if they were")
    decoded.notes += found.notes
    return decoded


def _frames(found: Chunks) -> list[str]:
    count = (
        struct.unpack(">I", found.about[b"acTL"][:4])[0]
        if len(found.about.get(b"acTL", b"")) == 8
        else 1
    )
    return [f"has {count} frames; the first one is used"] if count > 1 else []


def _shallow(found: Chunks, task: Task) -> Decoded:
    file = _Joined(found.parts)
    decoded = decode_pillow(Image.open(io.BufferedReader(file), formats=("PNG",)), task)
    file.let_go()
    return decoded


def _deep(found: Chunks) -> Decoded:
    import imagecodecs

    with no_stderr():
        # (H, W) or (H, W, 2 | 3 | 4) uint16.
        samples = imagecodecs.png_decode(b"".join(found.parts))
    samples = samples[..., None] if samples.ndim == 2 else samples
    has_alpha = samples.shape[2] in (2, 4)
    color = samples[..., :-1] if has_alpha else samples
    return decoded_arrays(
        color, "gray" if color.shape[2] == 1 else "rgb", samples[..., -1] if has_alpha else None
    )


class _Joined(io.RawIOBase):
    """Parts as one file, without a copy of them."""

    def __init__(self, parts: list[bytes | memoryview]) -> None:
        self._parts = [memoryview(part) for part in parts]
        self._ends = list(accumulate(len(part) for part in self._parts))
        self._at = 0

    def let_go(self) -> None:
        """Forget the parts: Pillow holds on to its files, and the pixels need the place of these."""
        self._parts.clear()
        self._ends.clear()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1]}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        index = bisect_right(self._ends, self._at)
        if index == len(self._parts):
            return 0
        part = self._parts[index][self._at - (self._ends[index] - len(self._parts[index])) :]
        count = min(len(buffer), len(part))
        buffer[:count] = part[:count]
        self._at += count
        return count
