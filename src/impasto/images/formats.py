"""Choose a decoder by a file's content.

No other decoder is ever run on a file.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

from PIL import Image

from impasto.geometry import Size
from impasto.images import (
    bitmaps,
    heif,
    jpeg,
    jpeg2000,
    jpegxl,
    netpbm,
    png,
    raw,
    refusals,
    sources,
    tiff,
    webp,
)
from impasto.images.decoding import Decoded, Task, decode_pillow
from impasto.images.silence import quiet

Decoder = Callable[[bytes, Task], Decoded]

# Formats that Pillow's own plugins decode. Other plugins are for documents and data (some start
# other programs), or read only a part of the picture (Photo CD). TGA, without a signature, is last.
_OTHERS = ("GIF", "ICO", "CUR", "ICNS", "PPM", "PCX", "SGI", "SUN", "DIB", "TGA")
_ANIMATED = {"GIF"}


def decoder(data: bytes) -> Decoder | None:
    """The decoder for these bytes; None if they are no picture.

    The first 4096 bytes are enough, except for raw files.
    """
    raw_kind = raw.kind(data)
    if raw_kind:
        return lambda whole, task: raw.decode(whole, raw_kind, task)
    for signature, decode in _BY_SIGNATURE:
        if data.startswith(signature):
            return decode
    if webp.is_webp(data):
        return webp.decode
    heif_kind = heif.kind(data[: sources.HEAD])
    if heif_kind:
        return lambda whole, task: heif.decode(whole, heif_kind, task)
    if netpbm.is_deep(data[: sources.HEAD]):
        return netpbm.decode
    return None if refusals.named_refusal("", data[: sources.HEAD]) else _decode_other


def _decode_other(data: bytes, task: Task) -> Decoded:
    """Decode with one of Pillow's own plugins."""
    try:
        with quiet(math.inf):  # without Pillow's own size limit; ours is checked below
            image = Image.open(io.BytesIO(data), formats=_OTHERS)
    except MemoryError:
        raise
    # Besides UnidentifiedImageError, a damaged header can make a plugin raise anything.
    except Exception:
        raise refusals.not_a_picture(task.label, data[: sources.HEAD]) from None
    if image.format == "TGA":
        return bitmaps.decode_tga(data, task)
    task.check(Size(image.height, image.width))
    frames = getattr(image, "n_frames", 1) if image.format in _ANIMATED else 1
    decoded = decode_pillow(image, task)
    if frames > 1:
        decoded.notes.append(f"has {frames} frames; the first one is used")
    decoded.take_exif(image)
    return decoded


def refuse_early(file: Any, label: str) -> None:
    """Raise BadPicture for a file that is no picture, before all of it is read.

    The position in the file stays.
    """
    try:
        start = file.tell()
        head = file.read(sources.HEAD)
        file.seek(start)
    except (AttributeError, OSError, ValueError, TypeError):  # a stream that cannot be rewound
        return
    if not isinstance(head, bytes) or not head:
        return
    decode = decoder(head)
    if decode is None:
        raise refusals.not_a_picture(label, head)
    if decode is _decode_other:
        with quiet(math.inf):
            try:
                Image.open(file, formats=_OTHERS)
            except MemoryError:
                raise
            except Exception:  # as above
                raise refusals.not_a_picture(label, head) from None
            finally:
                file.seek(start)


_BY_SIGNATURE: tuple[tuple[bytes, Decoder], ...] = (
    (png.SIGNATURE, png.decode),
    (jpeg.SIGNATURE, jpeg.decode),
    *((signature, tiff.decode) for signature in tiff.SIGNATURES),
    (jpeg2000.BOX, jpeg2000.decode),
    (jpeg2000.STREAM, jpeg2000.decode),
    (jpegxl.BOX, jpegxl.decode),
    (jpegxl.STREAM, jpegxl.decode),
    (b"BM", bitmaps.decode_bmp),
    (b"8BPS\0\1", bitmaps.decode_psd),
    (b"qoif", bitmaps.decode_qoi),
)


def is_beyond_pillow(data: bytes) -> bool:
    """Whether these are the bytes of a picture that Pillow may not be able to open."""
    deep = netpbm.is_deep(data[: sources.HEAD]) or bool(raw.kind(data))
    return deep or data.startswith((*tiff.SIGNATURES, jpegxl.BOX, jpegxl.STREAM))


def header(data: bytes, label: str) -> Image.Image:
    """A file's header as a Pillow image, for its metadata; nothing is decoded."""
    names: tuple[str, ...] = ("JPEG", "WEBP", "TIFF", "JPEG2000", "BMP", "PSD", "QOI", *_OTHERS)
    if heif.kind(data[: sources.HEAD]) == "avif":  # unknown to older versions of Pillow
        names = ("AVIF",)
    try:
        with quiet(math.inf):
            return Image.open(io.BytesIO(data), formats=names)
    except MemoryError:
        raise
    except Exception:  # as above
        raise refusals.not_a_picture(label, data[: sources.HEAD]) from None
