"""EXIF data: the tags that are kept, orientation, and color space (CIPA DC-008, DCF 2.0)."""

from __future__ import annotations

from typing import Any

from PIL import ExifTags, Image

from impasto.images.colorimetry import ADOBE_RGB, Colorimetry, from_gamma

_MAX_BYTES = 60_000  # bytes; a JPEG segment holds 65,533
_KEPT_TAGS = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
}
_DROPPED_DETAILS = {
    ExifTags.Base.MakerNote,  # its offsets break when moved, and it may contain the location
    ExifTags.Base.ExifInteroperabilityOffset,  # Adobe RGB or sRGB; the result is sRGB
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,  # of the photo, not of the result
    ExifTags.Base.SubjectLocation,
    _GAMMA := 0xA500,  # of the file's values; the result is sRGB
}
_INTEROPERABILITY, _INDEX = 0xA005, 1
# Values of ColorSpace; 2 is in no standard, but some cameras write it.
_ADOBE, _UNCALIBRATED = 2, 65535


def read(image: Image.Image) -> Image.Exif | None:
    """An image's EXIF data; None if they are too damaged to read."""
    try:
        return image.getexif()
    except Exception:  # damaged EXIF data make Pillow raise anything
        return None


def parse(block: bytes) -> Image.Exif | None:
    """The EXIF data of a block of bytes, with or without ``Exif\\0\\0`` before it.

    None if damaged.
    """
    try:
        data = Image.Exif()
        data.load(block)
    except Exception:  # as above
        return None
    return data


def orientation(data: Image.Exif | None) -> int:
    """The orientation, 1..8; 1 if there is none, or it is invalid."""
    try:
        value = 1 if data is None else data.get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def block_to_keep(data: Image.Exif | None, notes: list[str]) -> bytes:
    """The data worth keeping as a new block that begins with ``Exif\\0\\0``.

    Empty if there are none.
    """
    try:
        if data is None:
            raise ValueError("no EXIF data")
        block = _block(data)
    except Exception:  # as above
        notes.append("its EXIF data are damaged and are not kept")
        return b""
    if len(block) > _MAX_BYTES:
        notes.append("its EXIF data are too long and are not kept")
        return b""
    return block


def _block(data: Image.Exif) -> bytes:
    chosen = Image.Exif()
    for tag in _KEPT_TAGS & set(data):
        chosen[tag] = data[tag]
    details = data.get_ifd(ExifTags.IFD.Exif)
    details = {tag: value for tag, value in details.items() if tag not in _DROPPED_DETAILS}
    if not chosen and not details:
        return b""
    chosen[ExifTags.Base.Orientation] = 1
    chosen[ExifTags.IFD.Exif] = {**details, ExifTags.Base.ColorSpace: 1}  # 1: sRGB
    return chosen.tobytes()


def colorimetry_of(data: Image.Exif | None) -> Colorimetry | None:
    """The meaning of RGB values according to EXIF data; None: sRGB, or not given.

    A camera marks Adobe RGB by ColorSpace 65535 (uncalibrated) and the interoperability index R03
    (DCF 2.0). Many leave the index out. So 65535 alone counts too, unless the index is that of sRGB
    (R98) or the primaries are given.
    """
    try:
        return None if data is None else _colorimetry_of(data)
    except Exception:  # as above
        return None


def _colorimetry_of(data: Image.Exif) -> Colorimetry | None:
    details = data.get_ifd(ExifTags.IFD.Exif)
    index = str(data.get_ifd(_INTEROPERABILITY).get(_INDEX, "")).strip("\0 ")
    space = details.get(ExifTags.Base.ColorSpace)
    if index == "R03" or space == _ADOBE:
        return ADOBE_RGB
    if space != _UNCALIBRATED or index == "R98":
        return None
    white, primaries = (
        data.get(ExifTags.Base.WhitePoint),
        data.get(ExifTags.Base.PrimaryChromaticities),
    )
    if white and primaries and len(white) == 2 and len(primaries) == 6:
        numbers: list[Any] = [float(value) for value in (*white, *primaries)]
        points = [(numbers[at], numbers[at + 1]) for at in range(0, 8, 2)]
        return from_gamma(
            float(details.get(_GAMMA, 2.2)), (points[0], points[1], points[2], points[3])
        )
    return ADOBE_RGB
