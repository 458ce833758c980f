"""BMP, TGA, QOI and PSD: what their headers say about the look and Pillow does not read."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from impasto.errors import BadPicture
from impasto.images import colorimetry
from impasto.images.colorimetry import Colorimetry, Point
from impasto.images.decoding import Decoded, Task, decode_pillow, opened
from impasto.images.refusals import not_a_picture

_CALIBRATED, _EMBEDDED = 0, 0x4D424544  # BMP: LCS_CALIBRATED_RGB and PROFILE_EMBEDDED
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # the lengths there are
_LINKED = 0x4C494E4B
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
_PSD_VERSION_INFO = 1057


def decode_bmp(data: bytes, task: Task) -> Decoded:
    """The samples of a BMP, in the colors of a header of version 4 or 5 (BITMAPV4HEADER,
    BITMAPV5HEADER).
    """
    length = struct.unpack_from("<I", data, 14)[0] if len(data) >= 18 else 0
    if length not in _BMP_HEADERS:  # two letters are no signature: a text may begin with them
        raise not_a_picture(task.label, data[:4096])
    decoded = decode_pillow(opened(data, task, "BMP"), task)
    if length >= 108 and len(data) >= 14 + length:
        kind = struct.unpack_from("<I", data, 14 + 56)[0]
        if kind == _CALIBRATED:
            decoded.numbers = _calibrated(struct.unpack_from("<9I3I", data, 14 + 60))
        elif length >= 124 and kind == _EMBEDDED:
            offset, size = struct.unpack_from("<II", data, 14 + 112)
            decoded.icc = data[14 + offset : 14 + offset + size]
        elif kind == _LINKED:
            decoded.notes.append("its color profile is in another file and was ignored")
    return decoded


def _calibrated(numbers: tuple[int, ...]) -> Colorimetry | None:
    """From the XYZ of red, green and blue (2.30 bits) and three gammas (16.16 bits); None where
    they are not filled in.
    """
    ends = np.array(numbers[:9], float).reshape(3, 3) / (1 << 30)
    gammas = [value / 65536 for value in numbers[9:]]
    if not (ends.sum(axis=1) > 0).all() or not all(0.1 < gamma < 10 for gamma in gammas):
        return None
    points: list[Point] = [
        (float(x / (x + y + z)), float(y / (x + y + z))) for x, y, z in (*ends, ends.sum(axis=0))
    ]
    curves = tuple(colorimetry.gamma(gamma) for gamma in gammas)
    try:
        found = Colorimetry("calibrated RGB", curves, (points[0], points[1], points[2]), points[3])  # type: ignore[arg-type]
        return None if found.is_srgb else found
    except (ValueError, np.linalg.LinAlgError):
        return None


def decode_qoi(data: bytes, task: Task) -> Decoded:
    """The samples of a QOI picture, taken as sRGB.

    Its header can say that they are linear light, but "is purely informative" (specification 1.0),
    and Pillow says so of every picture that it saves. So it is said, and not converted.
    """
    decoded = decode_pillow(opened(data, task, "QOI"), task)
    if data[13:14] == b"\1":
        decoded.notes.append(
            "marked as linear light, as some programs mark all QOI, and taken as sRGB"
        )
    return decoded


def decode_tga(data: bytes, task: Task) -> Decoded:
    """The samples of a Targa picture, whose extension area says what the fourth channel and the
    gamma are.
    """
    decoded = decode_pillow(opened(data, task, "TGA"), task)
    area = _tga_extension(data)
    if area:
        meaning = area[494]
        over, under = struct.unpack_from("<HH", area, 478)
        if over and under and 0.1 < over / under < 10:
            decoded.numbers = colorimetry.of_gamma(over / under, None)
        if meaning in (0, 1, 2):
            _without_alpha(decoded)
        decoded.premultiplied = meaning == 4
    elif not data[17] & 15 and _invisible(decoded):
        _without_alpha(decoded)
        decoded.notes.append("its fourth channel is empty and was ignored")
    return decoded


def _tga_extension(data: bytes) -> bytes:
    if data[-18:] != _TGA_FOOTER:
        return b""
    offset = struct.unpack_from("<I", data, len(data) - 26)[0]
    area = data[offset : offset + 495] if offset else b""
    return area if len(area) == 495 and area[:2] == b"\xef\x01" else b""


def _invisible(decoded: Decoded) -> bool:
    alpha = decoded.rows(0, decoded.size.height)[1]
    return alpha is not None and not alpha.any()


def _without_alpha(decoded: Decoded) -> None:
    rows = decoded.rows

    def opaque(top: int, bottom: int) -> Any:
        return rows(top, bottom)[0], None

    decoded.rows = opaque


def decode_psd(data: bytes, task: Task) -> Decoded:
    """The samples of a Photoshop document's merged picture.

    Raises BadPicture for documents of 16 or 32 bits a channel, and for those that were saved
    without it.
    """
    bits, mode = struct.unpack_from(">HH", data, 22)
    if bits not in (1, 8) or mode == 7:
        what = f"{bits} bits a channel" if bits not in (1, 8) else "several color channels"
        raise BadPicture(
            f"{task.label} is a Photoshop document with {what}.", "Save it as TIFF in Photoshop."
        )
    image = opened(data, task, "PSD")
    for number, _, body in getattr(image, "resources", ()):
        if number == _PSD_VERSION_INFO and len(body) > 4 and not body[4]:
            raise BadPicture(
                f"{task.label} is a Photoshop document that was saved without its merged picture.",
                "Save it again with Maximize Compatibility, or as TIFF.",
            )
    decoded = decode_pillow(image, task)
    decoded.take_exif(image)
    return decoded
