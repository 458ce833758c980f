"""JPEG 2000 (ISO/IEC 15444-1): JP2 files and bare codestreams, at full depth, coloured as their boxes say."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import bmff
from impasto.images.decoding import Decoded, Task, decode_pillow, full_scale, of_arrays, opened, too_many_channels
from impasto.images.profiles import Samples, Space
from impasto.images.silence import no_stderr

BOX = b"\0\0\0\x0cjP  \r\n\x87\n"
STREAM = b"\xff\x4f\xff\x51"
_CMYK, _LAB, _SRGB, _GREY, _SYCC, _ROMM = 12, 14, 16, 17, 18, 21  # EnumCS (15444-1 and 15444-2)
_COLOUR, _ALPHA, _PREMULTIPLIED = 0, 1, 2  # types of a channel


@dataclass
class Facts:
    """What the header of the codestream and the boxes around it say."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    bits: list[int] = field(default_factory=list)
    """Of each component; negative: signed."""
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Pixels across and down that one sample of each component covers."""
    enumerated: int = 0
    icc: bytes = b""
    kinds: dict[int, int] = field(default_factory=dict)
    """Type of each channel by its number: 0 colour, 1 alpha, 2 alpha by which colour is multiplied."""
    palette: bool = False
    described: bool = False
    """Whether there is a box that says what the colours are."""


def facts(data: bytes) -> Facts:
    """Read from the first header of each sort; what is damaged stays empty."""
    found = Facts()
    stream = 0
    if data.startswith(BOX):
        for name, start, end in bmff.boxes(data):
            if name == b"jp2h":
                _header(data, start, end, found)
            elif name == b"jp2c" and not stream:
                stream = start
    with suppress(struct.error, IndexError):
        _codestream(data, stream, found)  # the decoder will say what is wrong
    return found


def _header(data: bytes, start: int, end: int, found: Facts) -> None:
    for name, at, stop in bmff.boxes(data, start, end):
        body = data[at:stop]
        if name == b"pclr":
            found.palette = True
        elif name == b"colr" and len(body) >= 3 and not found.described:
            if body[0] == 1 and len(body) >= 7:
                found.enumerated, found.described = struct.unpack_from(">I", body, 3)[0], True
            elif body[0] in (2, 3):  # restricted, and any, ICC profile
                found.icc, found.described = body[3:], True
        elif name == b"cdef" and len(body) >= 2:
            count = struct.unpack_from(">H", body)[0]
            for index in range(min(count, (len(body) - 2) // 6)):
                number, kind, _ = struct.unpack_from(">HHH", body, 2 + 6 * index)
                found.kinds[number] = kind


def _codestream(data: bytes, at: int, found: Facts) -> None:
    if data[at : at + 4] != STREAM:
        return
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", data, at + 4)
    found.size = Size(bottom - top, right - left)
    count = struct.unpack_from(">H", data, at + 40)[0]
    for index in range(count):
        depth, across, down = data[at + 42 + 3 * index : at + 45 + 3 * index]
        found.bits.append(-((depth & 127) + 1) if depth & 128 else (depth & 127) + 1)
        found.steps.append((across, down))


def decode(data: bytes, task: Task) -> Decoded:
    """The samples: those of 8 bits and less by Pillow, deeper ones by imagecodecs, both through OpenJPEG."""
    found = facts(data)
    task.check(found.size)
    if len(found.bits) > 8:
        raise too_many_channels(task, len(found.bits))
    if max(abs(bits) for bits in found.bits) <= 8 and not _odd(found):
        decoded = decode_pillow(opened(data, task, "JPEG2000"), task)
        decoded.icc = decoded.icc or found.icc
    else:
        decoded = _deep(data, found, task)
    if found.described and not decoded.icc and found.enumerated not in (_CMYK, _LAB, _SRGB, _GREY, _SYCC):
        decoded.notes.append("its colours are of a kind that is not known here, and are taken as sRGB")
    return decoded


def _odd(found: Facts) -> bool:
    """Whether it has what Pillow does not look at."""
    return found.enumerated in (_CMYK, _LAB) or _PREMULTIPLIED in found.kinds.values() or found.palette


def _deep(data: bytes, found: Facts, task: Task) -> Decoded:
    import imagecodecs

    if len(set(found.steps)) > 1:
        raise BadPicture(
            f"{task.label} cannot be read as a picture: it is a deep JPEG 2000 with components of different sizes.",
            "Convert it to PNG or TIFF first.",
        )
    with no_stderr():
        samples = imagecodecs.jpeg2k_decode(data)  # (H, W) or (H, W, C), with the palette applied
    samples = samples[..., None] if samples.ndim == 2 else samples
    task.check(Size(*samples.shape[:2]))
    notes: list[str] = []
    samples = _scaled(samples, found, notes)
    # OpenJPEG has put the colours first, whatever their order in the file.
    channels = samples.shape[2]
    colours = sum(not found.kinds.get(number) for number in range(channels))
    if not found.kinds and channels in (2, 4) and found.enumerated != _CMYK:
        colours -= 1  # nothing says so, but that is how others take it
    kinds = {kind for kind in found.kinds.values() if kind in (_ALPHA, _PREMULTIPLIED)}
    alpha = colours if colours < channels and (kinds or not found.kinds) else None
    space: Space = {_CMYK: "cmyk", _LAB: "lab"}.get(found.enumerated, "gray" if colours < 3 else "rgb")  # type: ignore[assignment]
    planes = samples[..., : {"gray": 1, "cmyk": 4}.get(space, 3)]
    if found.enumerated == _SYCC:
        planes = _from_sycc(planes)
    return of_arrays(
        planes,
        space,
        None if alpha is None else samples[..., alpha],
        icc=found.icc,
        premultiplied=_PREMULTIPLIED in kinds,
        notes=notes,
    )


def _scaled(samples: Samples, found: Facts, notes: list[str]) -> Samples:
    """To the full scale of 8 or 16 bits; palettes are already at theirs."""
    bits = max(found.bits)
    if found.palette or bits in (8, 16) or samples.dtype.kind != "u":
        return full_scale(samples, notes)
    top = 2**bits - 1
    kind = np.uint8 if bits < 8 else np.uint16
    if bits > 16:
        return np.rint(samples / (top / 65535)).astype(np.uint16)
    return np.rint(np.minimum(samples, top) * (np.iinfo(kind).max / top)).astype(kind)


def _from_sycc(planes: Samples) -> Samples:
    """sYCC (IEC 61966-2-1, amendment 1) to sRGB, of the same type."""
    top = np.iinfo(planes.dtype).max
    light, blue, red = (planes[..., index].astype(np.float32) for index in range(3))
    blue, red = blue - (top + 1) / 2, red - (top + 1) / 2
    rgb = [light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue]
    return np.clip(np.rint(np.stack(rgb, axis=-1)), 0, top).astype(planes.dtype)
