"""Decode JPEG XL (ISO/IEC 18181-1) with imagecodecs, and read its header."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import bmff, colorimetry, exif
from impasto.images.decoding import Decoded, Task, decoded_arrays, full_scale
from impasto.images.silence import no_stderr

STREAM = b"\xff\x0a"
BOX = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_GRAY, _ALPHA, _SPOT, _CFA = 1, 0, 2, 5
_WHITES = {1: colorimetry.D65, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {1: 1, 9: 9, 11: 12}  # to H.273's numbers


@dataclass
class Header:
    """The contents of the codestream's header."""

    size: Size = Size(0, 0)  # noqa: RUF009 (a tuple)
    """As stored."""
    orientation: int = 1
    animated: bool = False
    alphas: list[bool] = field(default_factory=list)
    """For each alpha channel: whether color is premultiplied by it."""
    others: int = 0
    """The number of other channels, such as depth and spot colors."""
    icc: bool = False
    """Whether there is an ICC profile, which is compressed and not read here."""
    numbers: colorimetry.Colorimetry | None = None
    note: str = ""


class _Bits:
    """Reads bits from bytes, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._number, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def __call__(self, count: int) -> int:
        if count > self._left:
            raise ValueError("its header is cut short")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value

    def choice(self, *options: tuple[int, int]) -> int:
        """A number that is stored in one of four ways, each (what to add, number of bits).

        It is U32 of the standard.
        """
        base, count = options[self(2)]
        return base + self(count)

    def enum(self) -> int:
        return self.choice((0, 0), (1, 0), (2, 4), (18, 6))

    def point(self) -> tuple[float, float]:
        options = ((0, 19), (524288, 19), (1048576, 20), (2097152, 21))
        x, y = (self.choice(*options) for _ in range(2))
        return tuple((-(value + 1) // 2 if value & 1 else value // 2) / 1e6 for value in (x, y))  # type: ignore[return-value]


def header(data: bytes) -> Header:
    """The header of a file. Raises ValueError if it is damaged."""
    stream = data if data.startswith(STREAM) else _stream(data)
    if not stream.startswith(STREAM):
        raise ValueError("its codestream is missing")
    bits, result = _Bits(stream[2:4098]), Header()
    result.size = _size(bits)
    if bits(1):  # only defaults: 8 bits, sRGB
        return result
    has_extra_fields = bits(1)
    if has_extra_fields:
        _read_extra_fields(bits, result)
    _skip_depth(bits)
    bits(1)  # whether buffers of 16 bits are enough
    for _ in range(bits.choice((0, 0), (1, 0), (2, 4), (1, 12))):
        _read_channel(bits, result)
    bits(1)  # whether it is stored as XYB, which the decoder converts
    _read_colors(bits, result)
    return result


def _stream(data: bytes) -> bytes:
    """The beginning of the codestream in a container."""
    for name, start, end in bmff.boxes(data):
        if name in (b"jxlc", b"jxlp"):
            return data[start + 4 * (name == b"jxlp") : end][:8192]
    return b""


def _size(bits: _Bits) -> Size:
    is_small = bits(1)
    options = ((1, 9), (1, 13), (1, 18), (1, 30))
    height = 8 * (bits(5) + 1) if is_small else bits.choice(*options)
    ratio = bits(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        return Size(height, height * numerator // denominator)
    return Size(height, 8 * (bits(5) + 1) if is_small else bits.choice(*options))


def _read_extra_fields(bits: _Bits, result: Header) -> None:
    result.orientation = bits(3) + 1
    if bits(1):
        _size(bits)  # for display, in other units
    if bits(1):  # a preview
        div8 = bits(1)
        options = (
            ((16, 0), (32, 0), (1, 5), (33, 9))
            if div8
            else ((1, 6), (65, 8), (321, 10), (1345, 12))
        )
        bits.choice(*options)
        if not bits(3):
            bits.choice(*options)
    if bits(1):
        result.animated = True
        bits.choice((100, 0), (1000, 0), (1, 10), (1, 30))
        bits.choice((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.choice((0, 0), (0, 3), (0, 16), (0, 32))
        bits(1)


def _skip_depth(bits: _Bits) -> None:
    if bits(1):
        bits.choice((32, 0), (16, 0), (24, 0), (1, 6))
        bits(4)
    else:
        bits.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _read_channel(bits: _Bits, result: Header) -> None:
    if bits(1):
        result.alphas.append(False)
        return
    kind = bits.enum()
    _skip_depth(bits)
    bits.choice((0, 0), (3, 0), (4, 0), (1, 3))
    bits(8 * bits.choice((0, 0), (0, 4), (16, 5), (48, 10)))  # its name
    if kind == _ALPHA:
        result.alphas.append(bool(bits(1)))
        return
    result.others += 1
    if kind == _SPOT:
        bits(64)
    elif kind == _CFA:
        bits.choice((1, 0), (0, 2), (3, 4), (19, 8))


def _read_colors(bits: _Bits, result: Header) -> None:
    if bits(1):
        return
    result.icc = bool(bits(1))
    space = bits.enum()
    if result.icc or space > _GRAY:
        result.icc = True
        return
    white = bits.enum()
    white_point = bits.point() if white == 2 else _WHITES.get(white, colorimetry.D65)
    primaries, points = 1, None
    if space != _GRAY:
        primaries = bits.enum()
        points = [bits.point() for _ in range(3)] if primaries == 2 else None
    exponent = bits(24) / 1e7 if bits(1) else 0.0
    transfer = 13 if exponent else bits.enum()
    base, result.note = colorimetry.from_h273(
        2 if points else _PRIMARIES.get(primaries, primaries), transfer
    )
    if result.note:
        return
    base = base or colorimetry.Colorimetry("sRGB")
    curve = colorimetry.gamma(1 / exponent) if exponent else base.curves[0]
    triangle = (points[0], points[1], points[2]) if points else base.primaries
    name = (
        base.name if base.name != "sRGB" and not points else "the primaries and curve in its header"
    )
    numbers = colorimetry.Colorimetry(name, (curve,) * 3, triangle, white_point)
    result.numbers = None if numbers.is_srgb else numbers


def decode(data: bytes, task: Task) -> Decoded:
    """Decode a JPEG XL picture; of an animation the first frame."""
    info = header(data)
    task.check(info.size)
    if info.icc:
        raise _unsupported(task, "with an ICC profile that is not read here")
    import imagecodecs

    try:
        with no_stderr():
            samples = imagecodecs.jpegxl_decode(data, index=0)  # upright; integers at full scale
    except ImportError:  # some builds of imagecodecs are without it
        raise _unsupported(task, "and this installation of imagecodecs cannot read those") from None
    samples = samples[..., None] if samples.ndim == 2 else samples
    notes: list[str] = [info.note] if info.note else []
    if info.animated:
        notes.append("has several frames; the first one is used")
    if samples.ndim != 3 or samples.shape[2] not in (1, 2, 3, 4):
        raise _unsupported(task, "with channels that are not read here")
    task.check(Size(*samples.shape[:2]))
    samples = full_scale(samples, notes)
    has_alpha = bool(info.alphas) and samples.shape[2] in (2, 4)
    color = samples[..., :-1] if has_alpha else samples
    decoded = decoded_arrays(
        color, "gray" if color.shape[2] < 3 else "rgb", samples[..., -1] if has_alpha else None
    )
    decoded.premultiplied = has_alpha and info.alphas[0]
    decoded.numbers, decoded.notes = info.numbers, notes
    decoded.exif = exif.block_to_keep(exif.parse(_exif_block(data)), decoded.notes)
    return decoded


def _exif_block(data: bytes) -> bytes:
    if not data.startswith(BOX):
        return b""
    for name, start, end in bmff.boxes(data):
        if name == b"Exif" and end - start > 4:
            return data[start + 4 + struct.unpack_from(">I", data, start)[0] : end]
    return b""


def _unsupported(task: Task, why: str) -> BadPicture:
    return BadPicture(
        f"{task.label} is a JPEG XL picture {why}.", "Convert it first: djxl in.jxl out.png"
    )
