"""AVIF and HEIC: decoded by libavif (in Pillow) and libheif (in pillow-heif), colored and cropped
as their boxes say.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from impasto.images import bmff, colorimetry
from impasto.images.decoding import Decoded, Task, decode_pillow, opened
from impasto.images.refusals import damaged
from impasto.images.silence import no_stderr

_UNSPECIFIED = 2
_NEWER = "pip install --upgrade pillow"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def kind(head: bytes) -> str:
    """ "avif", "heic", or "" for other bytes."""
    if head[4:8] != b"ftyp":
        return ""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if {b"avif", b"avis"} & brands:
        return "avif"
    return "heic" if head[8:12] in _HEIF_BRANDS else ""


def decode(data: bytes, name: str, task: Task) -> Decoded:
    """The samples of the primary picture. Raises MissingExtra for HEIC without pillow-heif."""
    found = bmff.primary(data)
    if found.size.pixels:
        task.check(found.size)
    with no_stderr():
        image = _avif(data, task) if name == "avif" else _checked(header(data, task.label), task)
        decoded = decode_pillow(image, task)
    if name == "avif" and image.n_frames > 1:
        decoded.notes.append(f"has {image.n_frames} frames; the first one is used")
    if name == "avif":  # libheif crops by itself
        _crop(decoded, found)
    decoded.icc = found.icc or decoded.icc
    if not decoded.icc and found.nclx is not None:
        # The range and the matrix are undone by the decoder, which gives RGB.
        decoded.numbers, note = colorimetry.of_h273(*found.nclx[:2])
        decoded.notes += [note] if note else []
    numbers = decoded.numbers
    decoded.take_exif(image)
    if found.nclx is not None and found.nclx[0] != _UNSPECIFIED:
        decoded.numbers = numbers  # the file's own word counts more than the camera's
    return decoded


def header(data: bytes, label: str) -> Any:
    """A HEIC file's header as a Pillow image. Raises MissingExtra without pillow-heif, BadPicture
    if it is damaged.
    """
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise MissingExtra(
            f"{label} is a HEIC picture, and reading those needs pillow-heif.",
            "pip install 'impasto[heif]'",
        ) from None
    try:  # used directly: registering it would change Pillow for the whole program
        return HeifImageFile(BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # a damaged header can make it raise anything
        raise damaged(label, error) from None


def _avif(data: bytes, task: Task) -> Any:
    try:
        return opened(data, task, "AVIF")
    except KeyError:  # Pillow before 11.3
        raise BadPicture(
            f"{task.label} is an AVIF picture, and this Pillow cannot read those.", _NEWER
        ) from None


def _checked(image: Any, task: Task) -> Any:
    task.check(Size(image.height, image.width))
    return image


def _crop(decoded: Decoded, found: bmff.Primary) -> None:
    """Leave what the clean aperture (clap) shows, which comes before turning and mirroring (MIAF,
    7.3.6.7).
    """
    region = found.shown(decoded.size)
    if region is None:
        if found.clap and not _covers(found, decoded.size):
            decoded.notes.append("its crop makes no sense and was ignored")
        return
    whole = decoded.rows

    def rows(top: int, bottom: int) -> Any:
        color, alpha = whole(region.top + top, region.top + bottom)
        span = slice(region.left, region.right)
        return color[:, span], None if alpha is None else alpha[:, span]

    decoded.rows, decoded.size = rows, region.size


def _covers(found: bmff.Primary, size: Size) -> bool:
    return bool(found.clap[1] == size.height and found.clap[0] == size.width)
