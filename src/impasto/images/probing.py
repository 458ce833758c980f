"""Probing: what a picture's header says, before anything is decoded: its size, and the memory that
reading it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from impasto.errors import BadPicture, MissingExtra
from impasto.geometry import Size
from impasto.images import (
    bmff,
    exif,
    formats,
    heif,
    ifds,
    jpeg,
    jpeg2000,
    jpegxl,
    netpbm,
    png,
    raw,
    sources,
    tiff,
)
from impasto.images.decoding import Task
from impasto.images.finishing import STRIP
from impasto.images.refusals import check_size, damaged, not_a_picture
from impasto.images.silence import quiet

_RESULT, _ALPHA = 12, 4  # bytes a pixel of float32 color and alpha
_FILLING = 21  # bytes a pixel while colors under transparent pixels are filled in
_PER_STRIP_PIXEL = 36  # bytes: samples, floats, their conversion and mean
# Bytes a pixel at the peak of decoding, by Pillow's name of the format: what the library keeps, and
# the samples.
_PEAK = {
    "WEBP": 16.8,
    "GIF": 2.4,
    "AVIF": 11,
    "HEIF": 16,
    "JPEG2000": 24,
    "JPEG XL": 16,
    "TGA": 13,
    "RAW": 40,
}
# Bytes a pixel that are kept after that, with what the library does not give back.
_KEPT = {
    "WEBP": 12.4,
    "GIF": 2.4,
    "AVIF": 7,
    "HEIF": 8,
    "JPEG2000": 6,
    "JPEG XL": 6,
    "RAW": 6,
    "TGA": 4,
}
# Of Pillow's own storage, by mode; 4 for all others.
_PILLOW = {"1": 1, "L": 1, "P": 1, "I;16": 2, "deep": 12}


@dataclass(frozen=True)
class Header:
    """What is known of a picture before it is decoded."""

    size: Size
    """Height and width of the whole picture, upright."""
    kind: str
    """The format, such as JPEG."""
    file_bytes: int
    per_pixel: float
    """Bytes of decoded samples a pixel."""
    peak_per_pixel: float
    """Bytes a pixel while decoding."""
    has_alpha: bool
    scales: bool
    """Whether the decoder can leave out detail while it decodes."""
    unscaled: float = 0
    """Bytes a pixel that it needs all the same then."""

    def read_size(self, side: int | None) -> Size:
        """The size that ``read`` with this ``side`` gives."""
        task = Task("", math.inf, side)
        decoded = self._decoded(side)
        box = task.box(decoded)
        return Size(-(-decoded.height // box), -(-decoded.width // box))

    def decode_bytes(self, side: int | None = None) -> int:
        """An estimate of the memory that ``read`` with this ``side`` takes at its peak, with what
        it returns.

        In bytes, beside what the program held before.
        """
        decoded, result = self._decoded(side).pixels, self.read_size(side).pixels
        strip = min(decoded, STRIP) * _PER_STRIP_PIXEL
        decoding = (
            self.file_bytes + decoded * self.peak_per_pixel + self.size.pixels * self.unscaled
        )
        made = _RESULT + (_ALPHA if self.has_alpha else 0)
        finishing = decoded * self.per_pixel + result * made + strip
        filling = decoded * self.per_pixel + result * (made + _FILLING) if self.has_alpha else 0
        return int(max(decoding, finishing, filling))

    def _decoded(self, side: int | None) -> Size:
        scale = jpeg.scale(Task("", math.inf, side), self.size) if self.scales else 1
        return Size(-(-self.size.height // scale), -(-self.size.width // scale))


def probe(source: Any, max_megapixels: float) -> Header:
    """The header of whatever ``read`` takes; nothing is decoded, and a stream is read to its end.

    Raises:
        BadPicture: missing, empty, no picture, or more than ``max_megapixels`` million pixels.
        MissingExtra: HEIC and raw files without their extras.
    """
    if not sources.is_file(source):
        return _of_object(source, max_megapixels)
    with sources.open_source(source) as (file, label, name):
        formats.refuse_early(file, label)
        data = sources.contents(file, label, name).data
    task = Task(label, max_megapixels)
    size = stored_size(data)
    if size is not None:
        task.check(size)
    with quiet(max_megapixels):
        try:
            found = _header(data, task)
        except (BadPicture, MissingExtra, MemoryError):
            raise
        except Exception as error:  # damaged headers make parsers raise anything
            raise damaged(label, error) from error
    task.check(found.size)
    return found


def _of_object(source: Any, max_megapixels: float) -> Header:
    """The same of a ``PIL.Image``, an array (H, W[, C]) or a tensor ([1,] C, H, W), which the
    caller holds already.
    """
    if isinstance(source, Image.Image):
        size, turn = Size(source.height, source.width), exif.orientation(exif.read(source))
        alpha, per_pixel = source.has_transparency_data, 4 if getattr(source, "tile", None) else 0
    else:
        shape = tuple(getattr(source, "shape", ()))
        is_array = isinstance(source, np.ndarray)
        if len(shape) < 2:
            raise BadPicture(
                f"A picture cannot be read from a {type(source).__name__}.",
                "Give a path or an array.",
            )
        size, turn, per_pixel = Size(*(shape[:2] if is_array else shape[-2:])), 1, 0
        alpha = shape[-1 if is_array else -3 % len(shape)] == 4 and len(shape) > 2
    check_size("The picture", size, max_megapixels)
    return Header(
        _upright(size, turn), type(source).__name__, 0, per_pixel, per_pixel, alpha, False
    )


def stored_size(data: bytes) -> Size | None:
    """The size in the header, before turning, where it can be had without a decoder; None
    elsewhere.
    """
    with suppress(Exception):  # whatever is wrong will be said when it is decoded
        found = next(
            (reader(data) for signature, reader in _SIZES if data.startswith(signature)), None
        )
        return found if found is not None and found.pixels else None
    return None


def _tiff_size(data: bytes) -> Size | None:
    chosen = None if raw.kind(data) else tiff.largest(ifds.directories(data))
    return chosen.size if chosen else None


_SIZES: tuple[tuple[bytes, Callable[[bytes], Size | None]], ...] = (
    (
        png.SIGNATURE,
        lambda data: Size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")),
    ),
    (jpeg.SIGNATURE, lambda data: jpeg.frame(data).size),
    *((signature, _tiff_size) for signature in tiff.SIGNATURES),
    (jpeg2000.BOX, lambda data: jpeg2000.header(data).size),
    (jpeg2000.STREAM, lambda data: jpeg2000.header(data).size),
    (jpegxl.BOX, lambda data: jpegxl.header(data).size),
    (jpegxl.STREAM, lambda data: jpegxl.header(data).size),
)


def _header(data: bytes, task: Task) -> Header:
    if raw.kind(data):
        return _plain(data, "RAW", raw.size(data, raw.kind(data), task), 1)
    if data.startswith(png.SIGNATURE):
        return _png(data, task)
    if data.startswith(jpeg.SIGNATURE):
        return _jpeg(data, task)
    if data.startswith(tiff.SIGNATURES):
        return _tiff(data, task)
    if netpbm.is_deep(data[: sources.HEAD]):
        return _plain(data, "PPM", netpbm.size(data), 1, mode="deep")
    if data.startswith((jpegxl.BOX, jpegxl.STREAM)):
        found = jpegxl.header(data)
        return _plain(data, "JPEG XL", found.size, found.orientation, alpha=bool(found.alphas))
    if data.startswith((jpeg2000.BOX, jpeg2000.STREAM)):
        facts = jpeg2000.header(data)
        return _plain(data, "JPEG2000", facts.size, 1, alpha=len(facts.bits) in (2, 4))
    is_heic = heif.kind(data[: sources.HEAD]) == "heic"
    image = heif.header(data, task.label) if is_heic else formats.header(data, task.label)
    size = Size(image.height, image.width)
    if image.format == "AVIF":
        region = bmff.primary(data).clean_aperture(size)
        size = region.size if region else size
    turn = exif.orientation(exif.read(image))
    return _plain(
        data, image.format or "", size, turn, alpha=image.has_transparency_data, mode=image.mode
    )


def _plain(
    data: bytes, kind: str, size: Size, turn: int, *, alpha: bool = False, mode: str = "RGB"
) -> Header:
    per_pixel = _KEPT.get(kind, _PILLOW.get(mode, 4))
    peak = _PEAK.get(kind, per_pixel)
    return Header(_upright(size, turn), kind, len(data), per_pixel, peak, alpha, False)


def _png(data: bytes, task: Task) -> Header:
    found = png.walk(data, task.label)
    alpha = found.channels in (2, 4) or found.has_key
    if found.bits == 16:
        per_pixel: float = 2 * (found.channels + (found.has_key and found.channels in (1, 3)))
    else:
        per_pixel = 1 if found.channels == 1 else 4
    return Header(
        _upright(found.size, png.orientation(found)),
        "PNG",
        len(data),
        per_pixel,
        per_pixel,
        alpha,
        False,
    )


def _jpeg(data: bytes, task: Task) -> Header:
    found = jpeg.frame(data)
    if not found.marker:
        raise not_a_picture(task.label, data[:64])
    per_pixel = 1 if len(found.components) == 1 else 4
    across = max((each[1] for each in found.components), default=1) or 1
    down = max((each[2] for each in found.components), default=1) or 1
    # Of a picture in several scans libjpeg keeps all coefficients, two bytes each, at any scale.
    coefficients = sum(2 * each[1] * each[2] / (across * down) for each in found.components)
    turn = exif.orientation(exif.read(formats.header(data, task.label)))
    unscaled = coefficients if found.progressive else 0
    return Header(
        _upright(found.size, turn), "JPEG", len(data), per_pixel, per_pixel, False, True, unscaled
    )


def _tiff(data: bytes, task: Task) -> Header:
    chosen = tiff.largest(ifds.directories(data))
    if chosen is None:
        raise not_a_picture(task.label, data[:64])
    channels = chosen.first(ifds.CHANNELS, 1)
    per_pixel = channels * max(1, chosen.first(ifds.BITS, 1) // 8)
    turn, whole = 1, chosen.first(ifds.ROWS_PER_STRIP, chosen.size.height) >= chosen.size.height
    with suppress(Exception):  # Pillow does not know all TIFFs
        turn = exif.orientation(exif.read(Image.open(BytesIO(data), formats=("TIFF",))))
    # A strip, and where it goes.
    peak = per_pixel * (2 if whole and chosen.first(ifds.COMPRESSION, 1) != 1 else 1)
    return Header(
        _upright(chosen.size, turn), "TIFF", len(data), per_pixel, peak, channels in (2, 4), False
    )


def _upright(size: Size, turn: int) -> Size:
    return Size(*reversed(size)) if turn >= 5 else size
