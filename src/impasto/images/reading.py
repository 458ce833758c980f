"""The door in: a file, an array, a tensor or a Pillow image becomes a Picture, or a civil refusal.

It knows what people hand over as pictures and what can be wrong with it, and checks it before decoding. It
refuses to know which size of picture anyone wants.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, ImageFile

from impasto.errors import BadPicture, MissingExtra, did_you_mean
from impasto.geometry import Size
from impasto.images import decoding
from impasto.images.decoding import Decoded
from impasto.images.pixels import Picture, Pixels, fill_transparent
from impasto.images.profiles import Samples, to_srgb, unit

if TYPE_CHECKING:
    import torch

_LOCK = threading.RLock()
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SEQUENCES = {"GIF", "WEBP", "PNG", "TIFF", "AVIF", "FLI", "DCX"}  # not MPO or PSD: their parts are no frames
_EXIF_LIMIT = 60_000  # bytes; a JPEG segment holds 65,533
_KEPT_EXIF = {
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
}
_DROPPED_DETAILS = {
    ExifTags.Base.MakerNote,  # its offsets break when moved, and it may hold the place
    ExifTags.Base.ExifInteroperabilityOffset,  # says Adobe RGB or sRGB; the pixels are sRGB now
    ExifTags.Base.ExifImageWidth,
    ExifTags.Base.ExifImageHeight,  # of the photo; the result has its own
    ExifTags.Base.SubjectLocation,
}
_LOOKS_LIKE = (  # the first bytes, lower case; what it seems to be; what to do
    (
        (b"<!doctype html", b"<html", b"<head"),
        "a web page",
        "Open the address in a browser and save the picture itself.",
    ),
    ((b"<svg", b"<?xml"), "an SVG drawing or other XML", "Export it as PNG first."),
    ((b"version https://git-lfs",), "a Git LFS pointer, not the file itself", "Run: git lfs pull"),
    ((b"%pdf",), "a PDF document", "Export the page as PNG first."),
    ((b"pk\x03\x04",), "a ZIP archive or an office document", "Unpack it and give the picture inside."),
    ((b"\x1a\x45\xdf\xa3", b"riff"), "a video or a sound", "Give a still picture."),
)


def read(source: object, *, max_megapixels: float) -> Picture:
    """Read a picture, upright and in sRGB.

    ``source`` is a path (str or Path: any format Pillow reads, and HEIC with the extra ``heif``); a
    ``PIL.Image``; a numpy array (H, W) or (H, W, 1 | 3 | 4), uint8, uint16 or float 0..1; or a torch tensor
    (C, H, W) or (1, C, H, W) of 1, 3 or 4 channels, uint8, uint16 or float 0..1. Arrays and tensors are
    sRGB-encoded, a fourth channel is alpha, and the caller's data are never changed. 16-bit files are read
    at 16 bits; the first frame or page is used.

    Raises BadPicture (missing, empty, damaged, no picture, more than ``max_megapixels`` million pixels,
    values out of range) and MissingExtra (HEIC). The pixel count is checked before anything is decoded.
    """
    limit = max_megapixels
    if isinstance(source, str | os.PathLike):
        return _read_file(os.fspath(source), limit)
    if isinstance(source, Image.Image):
        return _read_image(source, limit)
    if isinstance(source, np.ndarray):
        return _read_array(source, "array", limit)
    torch = sys.modules.get("torch")  # whoever holds a tensor has imported it
    if torch is not None and isinstance(source, torch.Tensor):
        return _read_array(_array_of(source), "tensor", limit)
    raise BadPicture(
        f"A picture cannot be read from a {type(source).__name__}.",
        "Give a path, a PIL image, a numpy array (H, W, 3) or a torch tensor (3, H, W).",
    )


# -- files -----------------------------------------------------------------------------------------


def _read_file(path: str, limit: float) -> Picture:
    with open_picture(path) as file:
        image = identify(file, path)
        if image is not None:
            _check_size(path, Size(image.height, image.width), limit)
        where = file.tell()  # some plugins go on reading from where they stopped
        file.seek(0)
        data = file.read()
        file.seek(where)
        with _quiet(limit):
            try:
                picture = _decode(data, image, path, limit)
            except (BadPicture, MemoryError):
                raise
            except Exception as error:  # decoders raise anything at all on damaged files
                raise _damaged(path, error) from error
    return _finished(*picture, source=path, sha256=hashlib.sha256(data).hexdigest())


@contextmanager
def open_picture(path: str) -> Iterator[Any]:
    """The open binary file, at its start; BadPicture if there is none, or nothing in it."""
    if path.lower().startswith(("http://", "https://")):
        raise BadPicture(f"{path} is an address, not a file.", "Download the picture first.")
    try:
        info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            raise BadPicture(f"{path} is a folder, not a picture.", "Give one file in it.")
        if not stat.S_ISREG(info.st_mode):
            raise BadPicture(f"{path} is not a regular file.")
        if info.st_size == 0:
            raise BadPicture(f"{path} is empty (0 bytes).", "Copy or download it again.")
        file = open(path, "rb")  # noqa: SIM115 (closed below; opening it has errors of its own)
    except FileNotFoundError:
        folder = Path(path).parent
        if not folder.is_dir():
            raise BadPicture(f"{path} does not exist: there is no folder {folder}.") from None
        hint = did_you_mean(Path(path).name, sorted(os.listdir(folder))) or f"Looked in {folder.resolve()}."
        raise BadPicture(f"{path} does not exist.", hint) from None
    except PermissionError:
        raise BadPicture(f"{path} may not be read: permission denied.", "Change its permissions, or copy it.") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise BadPicture(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from None
    with file:
        yield file


def identify(file: Any, path: str) -> ImageFile.ImageFile | None:
    """The file's header as a Pillow image, nothing decoded; None for a TIFF that Pillow does not know.

    Raises BadPicture if the file is no picture, and MissingExtra for HEIC without pillow-heif.
    """
    head: bytes = file.read(64)
    opener: Any = Image.open
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head[8:40]:
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            raise MissingExtra(
                f"{path} is a HEIC picture, and reading those needs pillow-heif.",
                "pip install 'impasto[heif]'",
            ) from None
        opener = HeifImageFile  # used directly: registering it would change Pillow for the whole program
    file.seek(0)
    with _quiet(math.inf):
        try:
            return opener(file)
        except MemoryError:
            raise
        except Exception:  # besides UnidentifiedImageError, a damaged header can make a plugin raise anything
            if decoding.is_tiff(head):
                return None
            raise _not_a_picture(path, head) from None


def _decode(data: bytes, image: Image.Image | None, path: str, limit: float) -> tuple[Decoded, bytes, list[str]]:
    """The decoded samples, the EXIF block to keep, and notes about the file."""
    notes: list[str] = []
    frames = getattr(image, "n_frames", 1) if image is not None and image.format in _SEQUENCES else 1
    if frames > 1:
        word = "pages" if decoding.is_tiff(data) else "frames"
        notes.append(f"has {frames} {word}; the first one is used")
    page = decoding.tiff_page(data) if decoding.is_tiff(data) else None
    exif, orientation = (b"", 1) if image is None else (_kept_exif(image, notes), _orientation(image))
    if page is not None:
        _check_size(path, Size(page.imagelength, page.imagewidth), limit)
        decoded = decoding.decode_tiff_page(page)
    elif image is None:
        raise _not_a_picture(path, data[:64])
    elif decoding.is_deep_png(data):
        decoded = decoding.decode_deep_png(data)
        decoded.orientation, decoded.icc = orientation, image.info.get("icc_profile") or b""
    else:
        decoded = decoding.decode_pillow(image)
        # Loading a TIFF turns it upright and takes the tag away, so the tag is read again.
        decoded.orientation = _orientation(image) if decoding.is_tiff(data) else orientation
        _check_size(path, Size(image.height, image.width), limit)  # an icon's header may lie about what is inside
    return decoded, exif, notes


# -- other sources ---------------------------------------------------------------------------------


def _read_image(image: Image.Image, limit: float) -> Picture:
    source = str(getattr(image, "filename", "") or "image")
    _check_size(source, Size(image.height, image.width), limit)
    notes: list[str] = []
    with _quiet(limit):
        try:
            decoded = decoding.decode_pillow(image)
            exif, decoded.orientation = _kept_exif(image, notes), _orientation(image)
        except MemoryError:
            raise
        except Exception as error:  # a lazily opened file is decoded only here
            raise _damaged(source, error) from error
    return _finished(decoded, exif, notes, source=source)


def _read_array(array: Samples, source: str, limit: float) -> Picture:
    def refuse(reason: str, hint: str = "") -> BadPicture:
        return BadPicture(f"The {source} of shape {array.shape} and type {array.dtype} {reason}.", hint)

    samples = array[..., None] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in (1, 3, 4):
        order = source == "array" and samples.ndim == 3 and samples.shape[0] in (1, 3, 4)
        raise refuse(
            "is not a picture: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is expected",
            "Move the channels last: array.transpose(1, 2, 0)." if order else "",
        )
    _check_size(f"The {source}", Size(*samples.shape[:2]), limit)
    if samples.dtype.kind == "f":
        try:
            samples = decoding.checked_floats(samples)
        except ValueError as error:
            raise refuse(f"cannot be used: {error}", "Scale it to 0..1 first.") from None
    elif samples.dtype not in (np.uint8, np.uint16):
        raise refuse("is not uint8, uint16 or float 0..1", "Convert it: array.astype('uint8').")
    has_alpha = samples.shape[2] == 4
    colour = samples[..., :3] if has_alpha else samples
    alpha = unit(samples[..., 3]) if has_alpha else None
    decoded = Decoded(colour, "gray" if colour.shape[2] == 1 else "rgb", alpha)
    return _finished(decoded, b"", [], source=source)


def _array_of(tensor: torch.Tensor) -> Samples:
    """A (C, H, W) or (1, C, H, W) tensor as an array (H, W, C)."""
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or len(planes) not in (1, 3, 4):
        raise BadPicture(
            f"The tensor of shape {tuple(tensor.shape)} is not a picture: (3, H, W) is expected.",
            "One, three or four channels come before height and width; a batch holds one picture.",
        )
    planes = planes.detach().cpu()
    array: Samples = (planes.float() if planes.is_floating_point() else planes).numpy()
    return array.transpose(1, 2, 0)


# -- what all have in common -----------------------------------------------------------------------


def _finished(decoded: Decoded, exif: bytes, notes: list[str], *, source: str, sha256: str = "") -> Picture:
    """Colour, rotation, transparency: from decoded samples to a Picture."""
    pixels, profile, colour_notes = to_srgb(decoded.samples, decoded.space, decoded.icc)
    pixels = _upright(pixels, decoded.orientation)
    alpha = None if decoded.alpha is None else _upright(decoded.alpha, decoded.orientation)
    if alpha is not None and alpha.min() >= 1:
        alpha = None  # opaque: no alpha
    if alpha is not None:
        if alpha.max() <= 0:
            raise BadPicture(f"{source} is transparent everywhere, so there is nothing to see in it.")
        pixels = fill_transparent(pixels, alpha)
    if not sha256:
        digest = hashlib.sha256(pixels.astype("<f4").tobytes())
        digest.update(b"" if alpha is None else alpha.astype("<f4").tobytes())
        sha256 = digest.hexdigest()
    every_note = (*notes, *decoded.notes, *colour_notes)
    return Picture(pixels, alpha, exif, profile, source, sha256, every_note)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """(H, W, ...) pixels turned and mirrored as EXIF's orientation 1..8 asks; C-contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # cameras and editors write EXIF blocks that break parsers in every way
        return 1
    return value if value in range(1, 9) else 1


def _kept_exif(image: Image.Image, notes: list[str]) -> bytes:
    """What is worth keeping of the EXIF data, as a block of its own; empty if there is nothing."""
    try:
        found = image.getexif()
        kept = Image.Exif()
        for tag in _KEPT_EXIF & set(found):
            kept[tag] = found[tag]
        details = found.get_ifd(ExifTags.IFD.Exif)
        details = {tag: value for tag, value in details.items() if tag not in _DROPPED_DETAILS}
        if not kept and not details:
            return b""
        kept[ExifTags.Base.Orientation] = 1
        kept[ExifTags.IFD.Exif] = {**details, ExifTags.Base.ColorSpace: 1}  # 1: sRGB
        block = kept.tobytes()
    except Exception:  # as above
        notes.append("its EXIF data are damaged and are not kept")
        return b""
    if len(block) > _EXIF_LIMIT:
        notes.append("its EXIF data are too long and are not kept")
        return b""
    return block


@contextmanager
def _quiet(limit: float) -> Iterator[None]:
    """Decoders under our limit, silent and strict; their own global settings are restored afterwards."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
        loggers = [logging.getLogger(name) for name in ("tifffile", "PIL.TiffImagePlugin")]
        were_disabled = [logger.disabled for logger in loggers]
        for logger in loggers:  # they say on stderr what becomes a sentence of our own
            logger.disabled = True
        # Headers are checked by _check_size, which can say how large the picture is. Pillow's own check,
        # which refuses twice its limit, stays as a net under containers whose header does not tell the size
        # of what is inside.
        Image.MAX_IMAGE_PIXELS = max(1, int(limit * 1e6)) if math.isfinite(limit) else None
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = before
            for logger, was in zip(loggers, were_disabled, strict=True):
                logger.disabled = was


def _check_size(source: str, size: Size, limit: float) -> None:
    if size.short_side < 1:
        raise BadPicture(f"{source} has no pixels: its size is {size}.")
    if size.pixels > limit * 1e6:
        megapixels = size.pixels / 1e6
        raise BadPicture(
            f"{source} has {_plain(megapixels)} megapixels ({size}), and the limit is {limit:g}.",
            f"If you trust it, raise it with --max-megapixels {math.ceil(megapixels)}.",
        )


def _plain(number: float) -> str:
    """Four digits, or all that are before the point; never an exponent."""
    return f"{number:.0f}" if number >= 1000 else f"{number:.4g}"


def _not_a_picture(path: str, head: bytes) -> BadPicture:
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")) or head[8:12] == b"WEBP":
        return BadPicture(f"{path} is damaged or cut short near its beginning.", "Copy or download it again.")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginnings, what, hint in _LOOKS_LIKE:
        if start.startswith(beginnings):
            return BadPicture(f"{path} is not a picture: it seems to be {what}.", hint)
    if head[4:8] == b"ftyp":
        return BadPicture(f"{path} is not a picture that can be read: a video, or a newer format.", "Export it as PNG.")
    if all(byte in b"\t\n\r\f\x1b" or byte >= 32 for byte in head):
        return BadPicture(f"{path} is not a picture: it seems to be text.", "Give a PNG, JPEG, WebP or TIFF file.")
    return BadPicture(
        f"{path} is not a picture, is damaged, or is of a kind that is not known here.",
        "Open it in a picture viewer; if that works, export it as PNG.",
    )


def _damaged(path: str, error: Exception) -> BadPicture:
    reason = str(error).strip().rstrip(".") or type(error).__name__
    if any(word in reason.lower() for word in ("truncated", "too small", "not enough", "unexpected end")):
        return BadPicture(f"{path} is cut short: it ends before the picture does.", "Copy or download it again.")
    return BadPicture(f"{path} cannot be read as a picture: {reason}.", "Open it in an editor and export it as PNG.")
