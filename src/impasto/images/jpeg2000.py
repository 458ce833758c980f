"""JPEG 2000 (ISO/IEC 15444-1): JP2 files and bare codestreams, at full depth, colored as their
boxes say.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import bmff
from impasto.images.decoding import (
    Decoded,
    Task,
    decode_pillow,
    decoded_arrays,
    full_scale,
    open_pillow,
    too_many_channels,
)
from impasto.images.profiles import Samples, Space
from impasto.images.silence import no_stderr

BOX = b"\0\0\0\x0cjP  \r\n\x87\n"
STREAM = b"\xff\x4f\xff\x51"
_CMYK, _LAB, _SRGB, _GRAY, _SYCC = 12, 14, 16, 17, 18  # EnumCS (15444-1 and 15444-2)
_SPACES: dict[int, Space] = {_CMYK: "cmyk", _SRGB: "rgb", _GRAY: "gray", _SYCC: "rgb"}
_MOST_CHANNELS = 8
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
    channels: list[tuple[int, int, int]] = field(default_factory=list)
    """Number, type (0 color, 1 alpha, 2 alpha by which color is multiplied) and color (from 1)
    of each channel.
    """
    palette: Samples | None = None
    """(N, C) uint16 of full scale."""
    mapping: list[tuple[int, int, int]] = field(default_factory=list)
    """Component, whether through the palette, and column of the palette, of each channel."""
    stream: int = 0
    """Where the codestream begins."""
    described: bool = False
    """Whether there is a box that says what the colors are."""


def facts(data: bytes) -> Facts:
    """Read from the first header of each sort; what is damaged stays empty."""
    found = Facts()
    if data.startswith(BOX):
        for name, start, end in bmff.boxes(data):
            if name == b"jp2h":
                for inner, at, stop in bmff.boxes(data, start, end):
                    with suppress(struct.error, IndexError, ValueError):
                        _property(inner, data[at:stop], found)
            elif name == b"jp2c" and not found.stream:
                found.stream = start
    with suppress(struct.error, IndexError, ValueError):
        _codestream(data, found.stream, found)  # the decoder will say what is wrong
    return found


def _property(name: bytes, body: bytes, found: Facts) -> None:
    if name == b"pclr":
        found.palette = _palette(body)
    elif name == b"cmap":
        found.mapping = [struct.unpack_from(">HBB", body, at) for at in range(0, len(body) - 3, 4)]
    elif name == b"cdef":
        count = struct.unpack_from(">H", body)[0]
        found.channels = [struct.unpack_from(">HHH", body, 2 + 6 * index) for index in range(count)]
    elif name == b"colr" and not found.described:
        if body[0] == 1:
            found.enumerated, found.described = struct.unpack_from(">I", body, 3)[0], True
        elif body[0] in (2, 3):  # restricted, and any, ICC profile
            found.icc, found.described = body[3:], True


def _palette(body: bytes) -> Samples:
    """The colors of a pclr box, (N, C) uint16 of full scale."""
    count, columns = struct.unpack_from(">HB", body)
    depths = [(depth & 127) + 1 for depth in body[3 : 3 + columns]]
    row = np.dtype(
        [(str(index), ">u1" if bits <= 8 else ">u2") for index, bits in enumerate(depths)]
    )
    table = np.frombuffer(body, row, count, 3 + columns)
    tops = [2**bits - 1 for bits in depths]
    planes = [
        np.rint(np.minimum(table[str(index)], top) * (65535 / top))
        for index, top in enumerate(tops)
    ]
    return np.stack(planes, axis=-1).astype(np.uint16)


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
    """The samples: those of 8 bits and less by Pillow, deeper ones by imagecodecs, both through
    OpenJPEG.
    """
    found = facts(data)
    task.check(found.size)
    if len(found.bits) > _MOST_CHANNELS:
        raise too_many_channels(task, len(found.bits))
    if found.enumerated == _LAB:  # its range is in fields of its own
        raise BadPicture(
            f"{task.label} is a JPEG 2000 picture of Lab colors.",
            "Export it as an RGB TIFF or PNG.",
        )
    if max(abs(bits) for bits in found.bits) <= 8 and not _odd(found):
        decoded = decode_pillow(open_pillow(data, task, "JPEG2000"), task)
    else:
        decoded = _deep(data, found, task)
    decoded.icc = found.icc
    if found.described and not found.icc and found.enumerated not in _SPACES:
        decoded.notes.append(
            "its colors are of a kind that is not known here, and are taken as sRGB"
        )
    return decoded


def _odd(found: Facts) -> bool:
    """Whether it has what Pillow does not look at."""
    premultiplied = any(kind == _PREMULTIPLIED for _, kind, _ in found.channels)
    return found.enumerated == _CMYK or premultiplied or found.palette is not None


def _deep(data: bytes, found: Facts, task: Task) -> Decoded:
    import imagecodecs

    if len(set(found.steps)) > 1:
        raise BadPicture(
            f"{task.label} cannot be read as a picture: its JPEG 2000 components have "
            f"different sizes.",
            "Convert it to PNG or TIFF first.",
        )
    # The codestream alone: of a whole file, imagecodecs converts some colors, and drops the
    # profile.
    with no_stderr():
        samples = imagecodecs.jpeg2k_decode(data[found.stream :])
    samples = samples[..., None] if samples.ndim == 2 else samples
    task.check(Size(*samples.shape[:2]))
    notes: list[str] = []
    samples = _mapped(_scaled(samples, found, notes), samples, found)
    colors, alpha, premultiplied = _roles(samples.shape[2], found)
    space: Space = "gray" if len(colors) < 3 else _SPACES.get(found.enumerated, "rgb")
    count = {"gray": 1, "cmyk": 4}.get(space, 3)
    in_order = colors[:count] == list(range(count))
    planes = samples[..., :count] if in_order else samples[..., colors[:count]]
    if found.enumerated == _SYCC and count == 3:
        planes = _from_sycc(planes)
    opacity = None if alpha is None else samples[..., alpha]
    return decoded_arrays(planes, space, opacity, premultiplied=premultiplied, notes=notes)


def _mapped(samples: Samples, numbers: Samples, found: Facts) -> Samples:
    """Channels made of components, through the palette where the file says so."""
    if found.palette is None:
        return samples
    mapping = found.mapping or [(0, 1, column) for column in range(found.palette.shape[1])]
    entries = np.minimum(numbers, len(found.palette) - 1)
    wide = samples if samples.dtype == np.uint16 else samples.astype(np.uint16) * np.uint16(257)
    planes = [
        found.palette[entries[..., component], column] if kind else wide[..., component]
        for component, kind, column in mapping
    ]
    return np.stack(planes, axis=-1)


def _roles(count: int, found: Facts) -> tuple[list[int], int | None, bool]:
    """The channels of color in their order, that of alpha, and whether color is multiplied by it."""
    if not found.channels:
        # Nothing says so, but that is how others take it.
        has_alpha = count in (2, 4) and found.enumerated != _CMYK
        return list(range(count - has_alpha)), count - 1 if has_alpha else None, False
    inside = [channel for channel in found.channels if channel[0] < count]
    colors = [
        number
        for number, kind, _ in sorted(inside, key=lambda channel: channel[2])
        if kind == _COLOUR
    ]
    alphas = [(number, kind) for number, kind, _ in inside if kind in (_ALPHA, _PREMULTIPLIED)]
    return (
        colors,
        alphas[0][0] if alphas else None,
        bool(alphas) and alphas[0][1] == _PREMULTIPLIED,
    )


def _scaled(samples: Samples, found: Facts, notes: list[str]) -> Samples:
    """To the full scale of 8 or 16 bits."""
    bits = max(found.bits)
    if bits in (8, 16) or samples.dtype.kind != "u":
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
