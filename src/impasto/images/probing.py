"""Read a picture's header: its size, and the memory that reading it will take."""

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

_COLOR, _ALPHA = 12, 4  # bytes a pixel of float32 color and alpha
_FILLING = 21  # bytes a pixel while colors of transparent pixels are replaced
_STRIP = 36  # bytes a pixel of a strip: samples, floats, their conversion and mean
# Bytes a pixel at the peak of decoding, by Pillow's name of the format: the library's memory and
# the samples.
_PEAK_BYTES = {
    "WEBP": 16.8,
    "GIF": 2.4,
    "AVIF": 11,
    "HEIF": 16,
    "JPEG2000": 24,
    "JPEG XL": 16,
    "TGA": 13,
    "RAW": 40,
}
# Bytes a pixel that stay allocated after that, including memory that the library does not free.
_KEPT_BYTES = {
    "WEBP": 12.4,
    "GIF": 2.4,
    "AVIF": 7,
    "HEIF": 8,
    "JPEG2000": 6,
    "JPEG XL": 6,
    "RAW": 6,
    "TGA": 4,
}
# Bytes a pixel of Pillow's own storage, by mode; 4 for all others.
_PILLOW_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "deep": 12}


@dataclass(frozen=True)
class Header:
    """Facts about a picture before it is decoded."""

    size: Size
    """Height and width of the whole picture, upright."""
    kind: str
    """The format, such as JPEG."""
    file_bytes: int
    per_pixel: float
    """Bytes a pixel of decoded samples."""
    peak_per_pixel: float
    """Bytes a pixel while decoding."""
    has_alpha: bool
    scales: bool
    """Whether the decoder can reduce the picture while it decodes."""
    unscaled: float = 0
    """Bytes a pixel of the full size that are needed even then."""

    def read_size(self, side: int | None) -> Size:
        """The size of the picture that ``read`` returns for this ``side``."""
        task = Task("", math.inf, side)
        decoded = self._decoded(side)
        box = task.box(decoded)
        return Size(-(-decoded.height // box), -(-decoded.width // box))

    def decode_bytes(self, side: int | None = None) -> int:
        """An estimate, in bytes, of the peak memory of ``read`` with this ``side``."""
        decoded, result = self._decoded(side).pixels, self.read_size(side).pixels
        strip = min(decoded, STRIP) * _STRIP
        decoding = (
            self.file_bytes + decoded * self.peak_per_pixel + self.size.pixels * self.unscaled
        )
        result_bytes = _COLOR + (_ALPHA if self.has_alpha else 0)
        finishing = decoded * self.per_pixel + result * result_bytes + strip
        filling = (
            decoded * self.per_pixel + result * (result_bytes + _FILLING) if self.has_alpha else 0
        )
        return int(max(decoding, finishing, filling))

    def _decoded(self, side: int | None) -> Size:
        scale = jpeg.scale(Task("", math.inf, side), self.size) if self.scales else 1
        return Size(-(-self.size.height // scale), -(-self.size.width // scale))


def probe(source: Any, max_megapixels: float) -> Header:
    """The header of any source that ``read`` accepts.

    Nothing is decoded. A stream is read to its end.

    Raises:
        BadPicture: missing, empty, no picture, or more than ``max_megapixels`` million pixels.
        MissingExtra: HEIC and raw files without their extras.
    """
    if not sources.is_file(source):
        return _header_of_object(source, max_megapixels)
    with sources.open_source(source) as (file, label, name):
        formats.refuse_early(file, label)
        data = sources.contents(file, label, name).data
    task = Task(label, max_megapixels)
    size = stored_size(data)
    if size is not None:
        task.check(size)
    with quiet(max_megapixels):
        try:
            header = _file_header(data, task)
        except (BadPicture, MissingExtra, MemoryError):
            raise
        except Exception as error:  # parsers raise any exception for damaged headers
            raise damaged(label, error) from error
    task.check(header.size)
    return header


def _header_of_object(source: Any, max_megapixels: float) -> Header:
    """The header of a ``PIL.Image``, an array (H, W[, C]) or a tensor ([1,] C, H, W)."""
    if isinstance(source, Image.Image):
        size, orientation = Size(source.height, source.width), exif.orientation(exif.read(source))
        alpha, per_pixel = source.has_transparency_data, 4 if getattr(source, "tile", None) else 0
    else:
        shape = tuple(getattr(source, "shape", ()))
        is_array = isinstance(source, np.ndarray)
        if len(shape) < 2:
            raise BadPicture(
                f"A picture cannot be read from a {type(source).__name__}.",
                "Give a path or an array.",
            )
        size, orientation, per_pixel = Size(*(shape[:2] if is_array else shape[-2:])), 1, 0
        alpha = shape[-1 if is_array else -3 % len(shape)] == 4 and len(shape) > 2
    check_size("The picture", size, max_megapixels)
    return Header(
        _upright(size, orientation), type(source).__name__, 0, per_pixel, per_pixel, alpha, False
    )


def stored_size(data: bytes) -> Size | None:
    """The size in the header, before rotation, if no decoder is needed to read it; else None."""
    with suppress(Exception):  # errors are reported when it is decoded
        size = next(
            (reader(data) for signature, reader in _SIZES if data.startswith(signature)), None
        )
        return size if size is not None and size.pixels else None
    return None


def _tiff_size(data: bytes) -> Size | None:
    page = None if raw.kind(data) else tiff.largest(ifds.directories(data))
    return page.size if page else None


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


def _file_header(data: bytes, task: Task) -> Header:
    if raw.kind(data):
        return _generic_header(data, "RAW", raw.size(data, raw.kind(data), task), 1)
    if data.startswith(png.SIGNATURE):
        return _png_header(data, task)
    if data.startswith(jpeg.SIGNATURE):
        return _jpeg_header(data, task)
    if data.startswith(tiff.SIGNATURES):
        return _tiff_header(data, task)
    if netpbm.is_deep(data[: sources.HEAD]):
        return _generic_header(data, "PPM", netpbm.size(data), 1, mode="deep")
    if data.startswith((jpegxl.BOX, jpegxl.STREAM)):
        jxl = jpegxl.header(data)
        return _generic_header(data, "JPEG XL", jxl.size, jxl.orientation, alpha=bool(jxl.alphas))
    if data.startswith((jpeg2000.BOX, jpeg2000.STREAM)):
        jp2 = jpeg2000.header(data)
        return _generic_header(data, "JPEG2000", jp2.size, 1, alpha=len(jp2.bits) in (2, 4))
    is_heic = heif.kind(data[: sources.HEAD]) == "heic"
    image = heif.header(data, task.label) if is_heic else formats.header(data, task.label)
    size = Size(image.height, image.width)
    if image.format == "AVIF":
        region = bmff.primary(data).clean_aperture(size)
        size = region.size if region else size
    orientation = exif.orientation(exif.read(image))
    return _generic_header(
        data,
        image.format or "",
        size,
        orientation,
        alpha=image.has_transparency_data,
        mode=image.mode,
    )


def _generic_header(
    data: bytes, kind: str, size: Size, orientation: int, *, alpha: bool = False, mode: str = "RGB"
) -> Header:
    per_pixel = _KEPT_BYTES.get(kind, _PILLOW_BYTES.get(mode, 4))
    peak = _PEAK_BYTES.get(kind, per_pixel)
    return Header(_upright(size, orientation), kind, len(data), per_pixel, peak, alpha, False)


def _png_header(data: bytes, task: Task) -> Header:
    chunks = png.read_chunks(data, task.label)
    alpha = chunks.channels in (2, 4) or chunks.has_transparent_color
    if chunks.bits == 16:
        per_pixel: float = 2 * (
            chunks.channels + (chunks.has_transparent_color and chunks.channels in (1, 3))
        )
    else:
        per_pixel = 1 if chunks.channels == 1 else 4
    return Header(
        _upright(chunks.size, png.orientation(chunks)),
        "PNG",
        len(data),
        per_pixel,
        per_pixel,
        alpha,
        False,
    )


def _jpeg_header(data: bytes, task: Task) -> Header:
    frame = jpeg.frame(data)
    if not frame.marker:
        raise not_a_picture(task.label, data[:64])
    per_pixel = 1 if len(frame.components) == 1 else 4
    across = max((each[1] for each in frame.components), default=1) or 1
    down = max((each[2] for each in frame.components), default=1) or 1
    # For progressive pictures libjpeg keeps all coefficients, two bytes each, at any scale.
    coefficients = sum(2 * each[1] * each[2] / (across * down) for each in frame.components)
    orientation = exif.orientation(exif.read(formats.header(data, task.label)))
    unscaled = coefficients if frame.progressive else 0
    return Header(
        _upright(frame.size, orientation),
        "JPEG",
        len(data),
        per_pixel,
        per_pixel,
        False,
        True,
        unscaled,
    )


def _tiff_header(data: bytes, task: Task) -> Header:
    page = tiff.largest(ifds.directories(data))
    if page is None:
        raise not_a_picture(task.label, data[:64])
    channels = page.first(ifds.CHANNELS, 1)
    per_pixel = channels * max(1, page.first(ifds.BITS, 1) // 8)
    orientation, is_one_strip = (
        1,
        page.first(ifds.ROWS_PER_STRIP, page.size.height) >= page.size.height,
    )
    with suppress(Exception):  # Pillow does not know all TIFFs
        orientation = exif.orientation(exif.read(Image.open(BytesIO(data), formats=("TIFF",))))
    # A compressed strip needs memory before and after decompression.
    peak = per_pixel * (2 if is_one_strip and page.first(ifds.COMPRESSION, 1) != 1 else 1)
    return Header(
        _upright(page.size, orientation),
        "TIFF",
        len(data),
        per_pixel,
        peak,
        channels in (2, 4),
        False,
    )


def _upright(size: Size, orientation: int) -> Size:
    return Size(*reversed(size)) if orientation >= 5 else size
