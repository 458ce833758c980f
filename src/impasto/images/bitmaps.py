"""BMP, TGA, QOI and PSD: read header fields about color and alpha that Pillow ignores."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from impasto.errors import BadPicture
from impasto.images import colorimetry
from impasto.images.colorimetry import Colorimetry, Point
from impasto.images.decoding import Decoded, Task, decode_pillow, open_pillow
from impasto.images.refusals import not_a_picture

_CALIBRATED, _EMBEDDED = 0, 0x4D424544  # BMP: LCS_CALIBRATED_RGB and PROFILE_EMBEDDED
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # their possible lengths, in bytes
_LINKED = 0x4C494E4B
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_PSD_VERSION_INFO = 1057


def decode_bmp(data: bytes, task: Task) -> Decoded:
    """Decode a BMP, with the colors of a header of version 4 or 5."""
    length = struct.unpack_from("<I", data, 14)[0] if len(data) >= 18 else 0
    if length not in _BMP_HEADERS:  # the two letters BM alone may begin a text
        raise not_a_picture(task.label, data[:4096])
    decoded = decode_pillow(open_pillow(data, task, "BMP"), task)
    if length >= 108 and len(data) >= 14 + length:
        color_space = struct.unpack_from("<I", data, 14 + 56)[0]
        if color_space == _CALIBRATED:
            decoded.numbers = _calibrated(struct.unpack_from("<9I3I", data, 14 + 60))
        elif length >= 124 and color_space == _EMBEDDED:
            offset, size = struct.unpack_from("<II", data, 14 + 112)
            decoded.icc = data[14 + offset : 14 + offset + size]
        elif color_space == _LINKED:
            decoded.notes.append("its color profile is in another file and was ignored")
    return decoded


def _calibrated(numbers: tuple[int, ...]) -> Colorimetry | None:
    """The colorimetry of a BMP header; None if it is not filled in, or sRGB.

    ``numbers`` are the XYZ of red, green and blue (2.30 bits) and three gammas (16.16 bits).
    """
    primaries = np.array(numbers[:9], float).reshape(3, 3) / (1 << 30)
    gammas = [gamma / 65536 for gamma in numbers[9:]]
    if not (primaries.sum(axis=1) > 0).all() or not all(0.1 < gamma < 10 for gamma in gammas):
        return None
    points: list[Point] = [
        (float(x / (x + y + z)), float(y / (x + y + z)))
        for x, y, z in (*primaries, primaries.sum(axis=0))
    ]
    curves = tuple(colorimetry.gamma(gamma) for gamma in gammas)
    try:
        result = Colorimetry("calibrated RGB", curves, (points[0], points[1], points[2]), points[3])  # type: ignore[arg-type]
        return None if result.is_srgb else result
    except (ValueError, np.linalg.LinAlgError):
        return None


def decode_qoi(data: bytes, task: Task) -> Decoded:
    """Decode a QOI picture, taken as sRGB.

    Its header can mark the values as linear light, but that "is purely informative" (specification
    1.0), and Pillow marks every picture so. So there is a note, and no conversion.
    """
    decoded = decode_pillow(open_pillow(data, task, "QOI"), task)
    if data[13:14] == b"\1":
        decoded.notes.append(
            "marked as linear light, as some programs mark all QOI, and taken as sRGB"
        )
    return decoded


def decode_tga(data: bytes, task: Task) -> Decoded:
    """Decode a Targa picture; its extension area gives the gamma and the kind of fourth channel."""
    decoded = decode_pillow(open_pillow(data, task, "TGA"), task)
    extension = _tga_extension(data)
    if extension:
        alpha_kind = extension[494]
        numerator, denominator = struct.unpack_from("<HH", extension, 478)
        if numerator and denominator and 0.1 < numerator / denominator < 10:
            decoded.numbers = colorimetry.from_gamma(numerator / denominator, None)
        if alpha_kind in (0, 1, 2):
            _remove_alpha(decoded)
        decoded.premultiplied = alpha_kind == 4
    elif not data[17] & 15 and _is_fully_transparent(decoded):
        _remove_alpha(decoded)
        decoded.notes.append("its fourth channel is empty and was ignored")
    return decoded


def _tga_extension(data: bytes) -> bytes:
    if data[-18:] != _TGA_FOOTER:
        return b""
    offset = struct.unpack_from("<I", data, len(data) - 26)[0]
    extension = data[offset : offset + 495] if offset else b""
    return extension if len(extension) == 495 and extension[:2] == b"\xef\x01" else b""


def _is_fully_transparent(decoded: Decoded) -> bool:
    alpha = decoded.rows(0, decoded.size.height)[1]
    return alpha is not None and not alpha.any()


def _remove_alpha(decoded: Decoded) -> None:
    rows = decoded.rows

    def opaque(top: int, bottom: int) -> Any:
        return rows(top, bottom)[0], None

    decoded.rows = opaque


def decode_psd(data: bytes, task: Task) -> Decoded:
    """Decode a Photoshop document's merged picture.

    Raises BadPicture for documents of 16 or 32 bits a channel, and if there is no merged picture.
    """
    bits, mode = struct.unpack_from(">HH", data, 22)
    if bits not in (1, 8) or mode == 7:
        channels = f"{bits} bits a channel" if bits not in (1, 8) else "several color channels"
        raise BadPicture(
            f"{task.label} is a Photoshop document with {channels}.",
            "Save it as TIFF in Photoshop.",
        )
    image = open_pillow(data, task, "PSD")
    for number, _, body in getattr(image, "resources", ()):
        if number == _PSD_VERSION_INFO and len(body) > 4 and not body[4]:
            raise BadPicture(
                f"{task.label} is a Photoshop document that was saved without its merged picture.",
                "Save it again with Maximize Compatibility, or as TIFF.",
            )
    decoded = decode_pillow(image, task)
    decoded.take_exif(image)
    return decoded
