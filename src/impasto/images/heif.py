"""Decode AVIF with libavif (in Pillow) and HEIC with libheif (in pillow-heif)."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from impasto.images import bmff, colorimetry
from impasto.images.decoding import Decoded, Task, decode_pillow, open_pillow
from impasto.images.refusals import damaged
from impasto.images.silence import no_stderr

_UNSPECIFIED = 2
_UPGRADE_PILLOW = "pip install --upgrade pillow"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def kind(head: bytes) -> str:
    """The kind of file: "avif", "heic", or "" for others."""
    if head[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[offset : offset + 4] for offset in range(16, length, 4))}
    if {b"avif", b"avis"} & brands:
        return "avif"
    return "heic" if head[8:12] in _HEIF_BRANDS else ""


def decode(data: bytes, kind: str, task: Task) -> Decoded:
    """Decode the primary picture. Raises MissingExtra for HEIC without pillow-heif."""
    properties = bmff.primary(data)
    if properties.size.pixels:
        task.check(properties.size)
    with no_stderr():
        image = (
            _avif(data, task) if kind == "avif" else _checked_size(header(data, task.label), task)
        )
        decoded = decode_pillow(image, task)
    if kind == "avif" and image.n_frames > 1:
        decoded.notes.append(f"has {image.n_frames} frames; the first one is used")
    if kind == "avif":  # libheif crops by itself
        _crop(decoded, properties)
    decoded.icc = properties.icc or decoded.icc
    if not decoded.icc and properties.nclx is not None:
        # The decoder has applied the range and the matrix already: it returns RGB.
        decoded.numbers, note = colorimetry.from_h273(*properties.nclx[:2])
        decoded.notes += [note] if note else []
    file_colors = decoded.numbers
    decoded.take_exif(image)
    if properties.nclx is not None and properties.nclx[0] != _UNSPECIFIED:
        decoded.numbers = file_colors  # the file's color data take precedence over EXIF
    return decoded


def header(data: bytes, label: str) -> Any:
    """A HEIC file's header as a Pillow image.

    Raises MissingExtra without pillow-heif, and BadPicture if the header is damaged.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtra(
            f"{label} is a HEIC picture, and reading those needs pillow-heif.",
            "pip install 'impasto[heif]'",
        ) from None
    try:  # not registered: that would change Pillow for the whole program
        return HeifImageFile(BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # a damaged header can make it raise anything
        raise damaged(label, error) from None


def _avif(data: bytes, task: Task) -> Any:
    try:
        return open_pillow(data, task, "AVIF")
    except KeyError:  # Pillow before 11.3
        raise BadPicture(
            f"{task.label} is an AVIF picture, and this Pillow cannot read those.", _UPGRADE_PILLOW
        ) from None


def _checked_size(image: Any, task: Task) -> Any:
    task.check(Size(image.height, image.width))
    return image


def _crop(decoded: Decoded, properties: bmff.Primary) -> None:
    """Crop to the clean aperture (clap), which is applied before rotation (MIAF, 7.3.6.7)."""
    region = properties.clean_aperture(decoded.size)
    if region is None:
        if properties.clap and not _covers(properties, decoded.size):
            decoded.notes.append("its crop is invalid and was ignored")
        return
    uncropped = decoded.rows

    def rows(top: int, bottom: int) -> Any:
        color, alpha = uncropped(region.top + top, region.top + bottom)
        span = slice(region.left, region.right)
        return color[:, span], None if alpha is None else alpha[:, span]

    decoded.rows, decoded.size = rows, region.size


def _covers(properties: bmff.Primary, size: Size) -> bool:
    return bool(properties.clap[1] == size.height and properties.clap[0] == size.width)
