"""Decode JPEG 2000 (ISO/IEC 15444-1) files and bare codestreams, at full depth."""

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
_MAX_CHANNELS = 8
_COLOR, _ALPHA, _PREMULTIPLIED = 0, 1, 2  # types of channels


@dataclass
class Header:
    """The contents of the codestream's header and of the boxes around it."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    bits: list[int] = field(default_factory=list)
    """Of each component; negative if it is signed."""
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Pixels across and down that one sample of each component covers."""
    enumerated: int = 0
    icc: bytes = b""
    channels: list[tuple[int, int, int]] = field(default_factory=list)
    """Number, type and color (from 1) of each channel. Types: 0 color, 1 alpha, 2 premultiplied
    alpha.
    """
    palette: Samples | None = None
    """(N, C) uint16 at full scale."""
    mapping: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each channel: component, whether it is an index, and column of the palette."""
    stream: int = 0
    """The offset of the codestream."""
    described: bool = False
    """Whether a box describes the colors."""


def header(data: bytes) -> Header:
    """Read the first header of each kind; damaged fields stay empty."""
    result = Header()
    if data.startswith(BOX):
        for name, start, end in bmff.boxes(data):
            if name == b"jp2h":
                for kind, begin, finish in bmff.boxes(data, start, end):
                    with suppress(struct.error, IndexError, ValueError):
                        _read_property(kind, data[begin:finish], result)
            elif name == b"jp2c" and not result.stream:
                result.stream = start
    with suppress(struct.error, IndexError, ValueError):
        _read_codestream(data, result.stream, result)  # the decoder reports damage
    return result


def _read_property(kind: bytes, body: bytes, result: Header) -> None:
    if kind == b"pclr":
        result.palette = _palette(body)
    elif kind == b"cmap":
        result.mapping = [
            struct.unpack_from(">HBB", body, offset) for offset in range(0, len(body) - 3, 4)
        ]
    elif kind == b"cdef":
        count = struct.unpack_from(">H", body)[0]
        result.channels = [
            struct.unpack_from(">HHH", body, 2 + 6 * index) for index in range(count)
        ]
    elif kind == b"colr" and not result.described:
        if body[0] == 1:
            result.enumerated, result.described = struct.unpack_from(">I", body, 3)[0], True
        elif body[0] in (2, 3):  # restricted, and any, ICC profile
            result.icc, result.described = body[3:], True


def _palette(body: bytes) -> Samples:
    """The colors of a pclr box: (N, C) uint16 at full scale."""
    count, columns = struct.unpack_from(">HB", body)
    depths = [(depth & 127) + 1 for depth in body[3 : 3 + columns]]
    row = np.dtype(
        [(str(index), ">u1" if bits <= 8 else ">u2") for index, bits in enumerate(depths)]
    )
    table = np.frombuffer(body, row, count, 3 + columns)
    maxima = [2**bits - 1 for bits in depths]
    planes = [
        np.rint(np.minimum(table[str(index)], maximum) * (65535 / maximum))
        for index, maximum in enumerate(maxima)
    ]
    return np.stack(planes, axis=-1).astype(np.uint16)


def _read_codestream(data: bytes, offset: int, result: Header) -> None:
    if data[offset : offset + 4] != STREAM:
        return
    _, _, right, bottom, left, top = struct.unpack_from(">HHIIII", data, offset + 4)
    result.size = Size(bottom - top, right - left)
    count = struct.unpack_from(">H", data, offset + 40)[0]
    for index in range(count):
        depth, across, down = data[offset + 42 + 3 * index : offset + 45 + 3 * index]
        result.bits.append(-((depth & 127) + 1) if depth & 128 else (depth & 127) + 1)
        result.steps.append((across, down))


def decode(data: bytes, task: Task) -> Decoded:
    """Decode with OpenJPEG: through Pillow up to 8 bits, and through imagecodecs for more."""
    info = header(data)
    task.check(info.size)
    if len(info.bits) > _MAX_CHANNELS:
        raise too_many_channels(task, len(info.bits))
    if info.enumerated == _LAB:  # its value ranges are not read here
        raise BadPicture(
            f"{task.label} is a JPEG 2000 picture of Lab colors.",
            "Export it as an RGB TIFF or PNG.",
        )
    if max(abs(bits) for bits in info.bits) <= 8 and not _is_beyond_pillow(info):
        decoded = decode_pillow(open_pillow(data, task, "JPEG2000"), task)
    else:
        decoded = _deep(data, info, task)
    decoded.icc = info.icc
    if info.described and not info.icc and info.enumerated not in _SPACES:
        decoded.notes.append("its color space is unknown and is taken as sRGB")
    return decoded


def _is_beyond_pillow(info: Header) -> bool:
    """Whether it has features that Pillow ignores."""
    premultiplied = any(kind == _PREMULTIPLIED for _, kind, _ in info.channels)
    return info.enumerated == _CMYK or premultiplied or info.palette is not None


def _deep(data: bytes, info: Header, task: Task) -> Decoded:
    import imagecodecs

    if len(set(info.steps)) > 1:
        raise BadPicture(
            f"{task.label} cannot be read as a picture: its JPEG 2000 components have "
            f"different sizes.",
            "Convert it to PNG or TIFF first.",
        )
    # Only the codestream: imagecodecs converts some colors of whole files.
    with no_stderr():
        samples = imagecodecs.jpeg2k_decode(data[info.stream :])
    samples = samples[..., None] if samples.ndim == 2 else samples
    task.check(Size(*samples.shape[:2]))
    notes: list[str] = []
    samples = _apply_palette(_to_full_scale(samples, info, notes), samples, info)
    colors, alpha, premultiplied = _roles(samples.shape[2], info)
    space: Space = "gray" if len(colors) < 3 else _SPACES.get(info.enumerated, "rgb")
    count = {"gray": 1, "cmyk": 4}.get(space, 3)
    in_order = colors[:count] == list(range(count))
    planes = samples[..., :count] if in_order else samples[..., colors[:count]]
    if info.enumerated == _SYCC and count == 3:
        planes = _sycc_to_rgb(planes)
    opacity = None if alpha is None else samples[..., alpha]
    return decoded_arrays(planes, space, opacity, premultiplied=premultiplied, notes=notes)


def _apply_palette(samples: Samples, indices: Samples, info: Header) -> Samples:
    """Channels made of components, with the palette applied if there is one."""
    if info.palette is None:
        return samples
    mapping = info.mapping or [(0, 1, column) for column in range(info.palette.shape[1])]
    entries = np.minimum(indices, len(info.palette) - 1)
    samples16 = (
        samples if samples.dtype == np.uint16 else samples.astype(np.uint16) * np.uint16(257)
    )
    planes = [
        info.palette[entries[..., component], column] if is_index else samples16[..., component]
        for component, is_index, column in mapping
    ]
    return np.stack(planes, axis=-1)


def _roles(count: int, info: Header) -> tuple[list[int], int | None, bool]:
    """The color channels in order, the alpha channel, and whether color is premultiplied."""
    if not info.channels:
        # Not given; other programs assume this.
        has_alpha = count in (2, 4) and info.enumerated != _CMYK
        return list(range(count - has_alpha)), count - 1 if has_alpha else None, False
    channels = [channel for channel in info.channels if channel[0] < count]
    colors = [
        number
        for number, kind, _ in sorted(channels, key=lambda channel: channel[2])
        if kind == _COLOR
    ]
    alphas = [(number, kind) for number, kind, _ in channels if kind in (_ALPHA, _PREMULTIPLIED)]
    return (
        colors,
        alphas[0][0] if alphas else None,
        bool(alphas) and alphas[0][1] == _PREMULTIPLIED,
    )


def _to_full_scale(samples: Samples, info: Header, notes: list[str]) -> Samples:
    """Samples at the full scale of 8 or 16 bits."""
    bits = max(info.bits)
    if bits in (8, 16) or samples.dtype.kind != "u":
        return full_scale(samples, notes)
    maximum = 2**bits - 1
    dtype = np.uint8 if bits < 8 else np.uint16
    if bits > 16:
        return np.rint(samples / (maximum / 65535)).astype(np.uint16)
    return np.rint(np.minimum(samples, maximum) * (np.iinfo(dtype).max / maximum)).astype(dtype)


def _sycc_to_rgb(planes: Samples) -> Samples:
    """sYCC (IEC 61966-2-1, amendment 1) as sRGB of the same type."""
    maximum = np.iinfo(planes.dtype).max
    luma, blue, red = (planes[..., index].astype(np.float32) for index in range(3))
    blue, red = blue - (maximum + 1) / 2, red - (maximum + 1) / 2
    rgb = [luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue]
    return np.clip(np.rint(np.stack(rgb, axis=-1)), 0, maximum).astype(planes.dtype)
