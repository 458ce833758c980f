"""Error messages for files that cannot be read as pictures: what the file is, and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable

from impasto.errors import BadPicture
from impasto.geometry import Size

Check = Callable[[Size], None]
"""Raises BadPicture if a picture of this size has no pixels, or too many."""

_EXPORT_PNG = "Export it as PNG first."
_EXPORT_PNG_OR_TIFF = "Export it as PNG or TIFF first."
_COPY_AGAIN = "Copy or download it again."
_PICTURE_SIGNATURES = (
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

# First bytes (lower case), what the file is, what to do. The first match counts.
_TEXTS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    (
        (b"<!doctype html", b"<html", b"<head"),
        "a web page",
        "Open the address in a browser and save the picture itself.",
    ),
    ((b"<svg", b"<?xml"), "an SVG drawing or other XML", _EXPORT_PNG),
    ((b"version https://git-lfs",), "a Git LFS pointer, not the file itself", "Run: git lfs pull"),
    ((b"%!", b"\x04%!", b"\x1b%-12345x"), "a PostScript document (EPS)", _EXPORT_PNG_OR_TIFF),
    ((b"{\\rtf",), "a text document (RTF)", "Give the picture inside."),
    ((b"/* xpm",), "an XPM drawing", _EXPORT_PNG),
    ((b"#define",), "an XBM drawing or a program text", _EXPORT_PNG),
)
_BYTES: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    ((b"\xc5\xd0\xd3\xc6",), "a PostScript document (EPS)", _EXPORT_PNG_OR_TIFF),
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
    ((b"II\xbc\x01",), "a JPEG XR picture", _EXPORT_PNG),
    ((b"AT&TFORM",), "a DjVu document", "Export the page as PNG first."),
    ((b"BPG\xfb",), "a BPG picture", "Convert it first: bpgdec -o out.png in.bpg"),
    ((b"FLIF",), "a FLIF picture", "Convert it first: flif -d in.flif out.png"),
    ((b"DDS ",), "a DDS texture", _EXPORT_PNG),
    ((b"SIMPLE  =",), "a FITS file", "Export the picture as PNG or TIFF first."),
    ((b"\x89HDF\r\n",), "an HDF5 file", "Give the array, or export it as PNG."),
    ((b"\x93NUMPY",), "a numpy array", "Give the array itself: images.read(numpy.load(file))."),
    ((b"\xd7\xcd\xc6\x9a",), "a Windows metafile (WMF)", _EXPORT_PNG),
    ((b"SQLite format",), "a database", "Give the picture itself."),
    ((b"\x7fELF", b"MZ"), "a program", "Give a picture file."),
    ((b"P7\n",), "a PAM picture", "Convert it first: pamtopng in.pam > out.png"),
    ((b"\x59\xa6\x6a\x95", b"SFW94A"), "a picture of a format that is not read here", _EXPORT_PNG),
)


def shown(name: str) -> str:
    """A file's name as text for any terminal; bytes that are not UTF-8 are written ``\\xff``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_size(label: str, size: Size, limit: float) -> None:
    """Raise BadPicture if there are no pixels, or more than ``limit`` million."""
    if size.short_side < 1:
        raise BadPicture(f"{label} has no pixels: its size is {size}.")
    if size.pixels > limit * 1e6:
        megapixels = size.pixels / 1e6
        raise BadPicture(
            f"{label} has {_decimal(megapixels)} megapixels ({size}), and the limit is {limit:g}.",
            f"If you trust it, raise the limit with --max-megapixels {math.ceil(megapixels)}.",
        )


def _decimal(number: float) -> str:
    """A number with four digits, or all digits before the point; never with an exponent."""
    return f"{number:.0f}" if number >= 1000 else f"{number:.4g}"


def not_a_picture(label: str, data: bytes) -> BadPicture:
    """The error for a file that no decoder accepts; it names the kind of file if it is known.

    ``data`` are the file's first kilobytes, or more.
    """
    if data.startswith(_PICTURE_SIGNATURES) or data[8:12] == b"WEBP":
        return BadPicture(f"{label} is damaged or cut short near its beginning.", _COPY_AGAIN)
    return named_refusal(label, data) or _unknown_kind(label, data[:64])


def named_refusal(label: str, data: bytes) -> BadPicture | None:
    """The error for a known kind of file that cannot be read; None if it may be a picture."""
    if data.startswith(_PICTURE_SIGNATURES) or data[8:12] == b"WEBP":
        return None
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signatures, kind, hint in _TEXTS:
        if start.startswith(signatures):
            return BadPicture(f"{label} is not a picture: it seems to be {kind}.", hint)
    for signatures, kind, hint in _BYTES:
        if data.startswith(signatures):
            return BadPicture(f"{label} cannot be read as a picture: it is {kind}.", hint)
    # Readers accept both signatures anywhere in the first kilobyte (ISO 32000-1, annex H).
    if b"%PDF-" in data[:1024]:
        return BadPicture(
            f"{label} is not a picture: it is a PDF document.", "Export the page as PNG first."
        )
    if b"%!PS-Adobe" in data[:1024]:
        return BadPicture(
            f"{label} is not a picture: it is a PostScript document (EPS).", _EXPORT_PNG_OR_TIFF
        )
    return _named_by_offset(label, data)


def _named_by_offset(label: str, data: bytes) -> BadPicture | None:
    """The error for files whose signature is not at their beginning."""
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
            f"{label} cannot be read as a picture: it is a Windows metafile (EMF).", _EXPORT_PNG
        )
    if data[128:132] == b"DICM":
        return BadPicture(f"{label} cannot be read as a picture: it is a DICOM file.", _EXPORT_PNG)
    if data[257:262] == b"ustar":
        return BadPicture(
            f"{label} cannot be read as a picture: it is an archive.", "Unpack it first."
        )
    if data[2048:2055] == b"PCD_IPI":
        return BadPicture(
            f"{label} cannot be read as a picture: it is a Photo CD file.", _EXPORT_PNG
        )
    return None


def _unknown_kind(label: str, head: bytes) -> BadPicture:
    if all(byte in b"\t\n\r\f\x1b" or byte >= 32 for byte in head):
        return BadPicture(
            f"{label} is not a picture: it seems to be text.",
            "Give a PNG, JPEG, WebP or TIFF file.",
        )
    return BadPicture(
        f"{label} is not a picture, is damaged, or is of an unknown kind.",
        "Open it in a picture viewer; if that works, export it as PNG.",
    )


def cut_short(label: str) -> BadPicture:
    """The error for a file whose end is missing."""
    return BadPicture(f"{label} is cut short: it ends before the picture does.", _COPY_AGAIN)


def damaged(label: str, error: Exception) -> BadPicture:
    """The error for a file that a decoder rejected, with the decoder's reason."""
    reason = str(error).strip().rstrip(".") or type(error).__name__
    if "cannot identify image file" in reason:  # followed by the name of an object in memory
        return BadPicture(f"{label} is damaged or cut short near its beginning.", _COPY_AGAIN)
    if any(
        word in reason.lower()
        for word in ("truncated", "too small", "not enough", "unexpected end")
    ):
        return cut_short(label)
    return BadPicture(
        f"{label} cannot be read as a picture: {reason}.",
        "Open it in an editor and export it as PNG.",
    )
