"""The sentences of refusal: what a file is, if it is no picture that can be read, and what to do
about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from impasto.errors import BadPicture
from impasto.geometry import Size

Check = Callable[[Size], None]
"""Raises BadPicture if a picture of this size has no pixels, or too many."""

_PNG_FIRST = "Export it as PNG first."
_RASTERISE = "Export it as PNG or TIFF first."
_AGAIN = "Copy or download it again."
_RASTER = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"8BPS\0\1",
    b"qoif",
)

# First bytes (lower case), what it is, what to do. The first that fits counts.
_TEXTS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    (
        (b"<!doctype html", b"<html", b"<head"),
        "a web page",
        "Open the address in a browser and save the picture itself.",
    ),
    ((b"<svg", b"<?xml"), "an SVG drawing or other XML", _PNG_FIRST),
    ((b"version https://git-lfs",), "a Git LFS pointer, not the file itself", "Run: git lfs pull"),
    ((b"%!", b"\x04%!", b"\x1b%-12345x"), "a PostScript document (EPS)", _RASTERISE),
    ((b"{\\rtf",), "a text document (RTF)", "Give the picture inside."),
    ((b"/* xpm",), "an XPM drawing", _PNG_FIRST),
    ((b"#define",), "an XBM drawing or a program text", _PNG_FIRST),
)
_BYTES: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"\xc5\xd0\xd3\xc6",), "a PostScript document (EPS)", _RASTERISE),
    (
        (b"PK\x03\x04", b"PK\x05\x06"),
        "a ZIP archive or an office document",
        "Unpack it and give the picture inside.",
    ),
    (
        (b"Rar!", b"7z\xbc\xaf\x27\x1c", b"\x1f\x8b", b"BZh", b"\xfd7zXZ"),
        "an archive",
        "Unpack it first.",
    ),
    ((b"\xd0\xcf\x11\xe0",), "an office document", "Give the picture inside."),
    (
        (b"\x1a\x45\xdf\xa3", b"OggS", b"ID3", b"fLaC"),
        "a video or a sound",
        "Give a still picture.",
    ),
    ((b"8BPS\0\2",), "a large Photoshop document (PSB)", "Save it as TIFF in Photoshop."),
    ((b"gimp xcf",), "a GIMP document (XCF)", "Export it as PNG in GIMP."),
    (
        (b"\x76\x2f\x31\x01",),
        "an OpenEXR picture",
        "Convert it to an 8-bit or 16-bit PNG, with a tone curve.",
    ),
    (
        (b"#?RADIANCE", b"#?RGBE"),
        "a Radiance HDR picture",
        "Convert it to an 8-bit or 16-bit PNG, with a tone curve.",
    ),
    ((b"II\xbc\x01",), "a JPEG XR picture", _PNG_FIRST),
    ((b"AT&TFORM",), "a DjVu document", "Export the page as PNG first."),
    ((b"BPG\xfb",), "a BPG picture", "Convert it first: bpgdec -o out.png in.bpg"),
    ((b"FLIF",), "a FLIF picture", "Convert it first: flif -d in.flif out.png"),
    ((b"DDS ",), "a DDS texture", _PNG_FIRST),
    ((b"SIMPLE  =",), "a FITS file", "Export the picture as PNG or TIFF first."),
    ((b"\x89HDF\r\n",), "an HDF5 file", "Give the array, or export it as PNG."),
    ((b"\x93NUMPY",), "a numpy array", "Give the array itself: images.read(numpy.load(file))."),
    ((b"\xd7\xcd\xc6\x9a",), "a Windows metafile (WMF)", _PNG_FIRST),
    ((b"SQLite format",), "a database", "Give the picture itself."),
    ((b"\x7fELF", b"MZ"), "a program", "Give a picture file."),
    ((b"P7\n",), "a PAM picture", "Convert it first: pamtopng in.pam > out.png"),
    ((b"\x59\xa6\x6a\x95", b"SFW94A"), "a picture of a format that is not read here", _PNG_FIRST),
)


def shown(name: str) -> str:
    """A file's name as text that any terminal takes: bytes that are not UTF-8 as ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_size(label: str, size: Size, limit: float) -> None:
    """Raise BadPicture if there are no pixels, or more than ``limit`` million."""
    if size.short_side < 1:
        raise BadPicture(f"{label} has no pixels: its size is {size}.")
    if size.pixels > limit * 1e6:
        megapixels = size.pixels / 1e6
        raise BadPicture(
            f"{label} has {_plain(megapixels)} megapixels ({size}), and the limit is {limit:g}.",
            f"If you trust it, raise it with --max-megapixels {math.ceil(megapixels)}.",
        )


def _plain(number: float) -> str:
    """Four digits, or all that are before the point; never an exponent."""
    return f"{number:.0f}" if number >= 1000 else f"{number:.4g}"


def not_a_picture(label: str, data: bytes) -> BadPicture:
    """The refusal of a file, or of its first kilobytes, that no decoder takes; by name where its
    kind is known.
    """
    if data.startswith(_RASTER) or data[8:12] == b"WEBP":
        return BadPicture(f"{label} is damaged or cut short near its beginning.", _AGAIN)
    return named(label, data) or _unknown(label, data[:64])


def named(label: str, data: bytes) -> BadPicture | None:
    """The refusal by name of what is known to be no picture, or of a kind that is not read; None if
    it may be one.
    """
    if data.startswith(_RASTER) or data[8:12] == b"WEBP":
        return None
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginnings, what, hint in _TEXTS:
        if start.startswith(beginnings):
            return BadPicture(f"{label} is not a picture: it seems to be {what}.", hint)
    for beginnings, what, hint in _BYTES:
        if data.startswith(beginnings):
            return BadPicture(f"{label} cannot be read as a picture: it is {what}.", hint)
    # Readers accept both marks anywhere in the first kilobyte (ISO 32000-1, annex H).
    if b"%PDF-" in data[:1024]:
        return BadPicture(
            f"{label} is not a picture: it is a PDF document.", "Export the page as PNG first."
        )
    if b"%!PS-Adobe" in data[:1024]:
        return BadPicture(
            f"{label} is not a picture: it is a PostScript document (EPS).", _RASTERISE
        )
    return _by_place(label, data)


def _by_place(label: str, data: bytes) -> BadPicture | None:
    """The refusal of files whose mark is not at their beginning."""
    if data[:4].upper() == b"RIFF":
        return BadPicture(
            f"{label} is not a picture: it seems to be a video or a sound.", "Give a still picture."
        )
    if data[4:8] == b"ftyp":
        return BadPicture(
            f"{label} is not a picture that can be read: it is a video, or of a newer format.",
            "Export it as PNG.",
        )
    if data[:4] == b"\x01\0\0\0" and data[40:44] == b" EMF":
        return BadPicture(
            f"{label} cannot be read as a picture: it is a Windows metafile (EMF).", _PNG_FIRST
        )
    if data[128:132] == b"DICM":
        return BadPicture(f"{label} cannot be read as a picture: it is a DICOM file.", _PNG_FIRST)
    if data[257:262] == b"ustar":
        return BadPicture(
            f"{label} cannot be read as a picture: it is an archive.", "Unpack it first."
        )
    if data[2048:2055] == b"PCD_IPI":
        return BadPicture(
            f"{label} cannot be read as a picture: it is a Photo CD file.", _PNG_FIRST
        )
    return None


def _unknown(label: str, head: bytes) -> BadPicture:
    if all(byte in b"\t\n\r\f\x1b" or byte >= 32 for byte in head):
        return BadPicture(
            f"{label} is not a picture: it seems to be text.",
            "Give a PNG, JPEG, WebP or TIFF file.",
        )
    return BadPicture(
        f"{label} is not a picture, is damaged, or is of a kind that is not known here.",
        "Open it in a picture viewer; if that works, export it as PNG.",
    )


def cut_short(label: str) -> BadPicture:
    """The refusal of a file whose pixels are not all there."""
    return BadPicture(f"{label} is cut short: it ends before the picture does.", _AGAIN)


def damaged(label: str, error: Exception) -> BadPicture:
    """The refusal of a file that a decoder gave up on, with the reason it gave."""
    reason = str(error).strip().rstrip(".") or type(error).__name__
    if "cannot identify image file" in reason:  # by the name of an object in memory
        return BadPicture(f"{label} is damaged or cut short near its beginning.", _AGAIN)
    if any(
        word in reason.lower()
        for word in ("truncated", "too small", "not enough", "unexpected end")
    ):
        return cut_short(label)
    return BadPicture(
        f"{label} cannot be read as a picture: {reason}.",
        "Open it in an editor and export it as PNG.",
    )
