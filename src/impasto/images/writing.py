"""Save pixels as PNG, JPEG, WebP or TIFF, each file whole or not at all.

What a format can hold is checked before any work is done.
"""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, TiffImagePlugin

from impasto.errors import CannotWrite, did_you_mean
from impasto.geometry import Size
from impasto.images.embedding import xmp_packet
from impasto.images.pixels import Pixels
from impasto.images.profiles import srgb_profile
from impasto.storage.files import replace_file
from impasto.storage.output_paths import absolute_file_path, check_writable

BitDepth = Literal[8, 16]
_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
EXTENSIONS = tuple(_FORMATS)
"""File name extensions that a picture can be saved under."""
_MAX_SIDE = {"JPEG": 65_500, "WebP": 16_383}
_TIFF_STRIP_BYTES = 1 << 20  # before compression; small, for readers that go strip by strip


def check_output(
    path: str | os.PathLike[str], *, bits: BitDepth = 8, size: Size | None = None
) -> Path:
    """The absolute path, once it is sure that a picture can be saved there.

    Call this before the work starts. A missing folder is made, and incomplete files that killed
    programs left of this file are removed. Give ``bits`` and ``size`` if they are known: not every
    format can hold them.

    Raises:
        CannotWrite: an unknown extension; a folder or a write-protected file of that name; a folder
            that cannot be made or written to (tested with a real file, which is removed); 16 bits
            in JPEG or WebP; a side too long for the format.
    """
    target = absolute_file_path(path)
    kind = _format_for(target, bits)
    if size is not None and size.long_side > _MAX_SIDE.get(kind, size.long_side):
        raise CannotWrite(
            f"{path} would be {size}, and a {kind} file holds at most {_MAX_SIDE[kind]} "
            f"pixels a side.",
            f"Save it as {target.with_suffix('.png').name}.",
        )
    return check_writable(target)


def save(
    path: str | os.PathLike[str],
    pixels: Pixels,
    *,
    alpha: Pixels | None = None,
    exif: bytes = b"",
    recipe: str = "",
    credit: str = "",
    title: str = "",
    bits: BitDepth = 8,
    quality: int = 95,
) -> None:
    """Save (H, W, 3) sRGB ``pixels``, 0..1, in the extension's format, with an sRGB profile.

    ``alpha`` (H, W), 0..1, is saved too. JPEG has no alpha: there the picture is composited over
    white. Values outside 0..1 are clipped, and rounded to the nearest of ``bits`` bits (16: PNG and
    TIFF only).

    ``exif`` is a block as in ``Picture.exif``. ``recipe``, ``credit`` and ``title`` are embedded as
    XMP in every format. ``quality`` (1..100) is for JPEG (always 4:4:4) and WebP (lossy, always
    4:2:0). The same arguments give the same bytes.

    The file is written whole or not at all. After a failure what was there before is unchanged, and
    nothing else is left behind.

    Raises:
        CannotWrite: the disk is full, there is no permission, pixels are NaN or infinite, or the
            metadata are too long for a JPEG (64 kB).
        ValueError: an array has the wrong shape.
    """
    target = Path(os.path.abspath(path))
    kind = _format_for(target, bits)
    alpha_shape = None if alpha is None else alpha.shape
    if pixels.ndim != 3 or pixels.shape[2] != 3 or alpha_shape not in (None, pixels.shape[:2]):
        raise ValueError(
            f"expected (H, W, 3) pixels and (H, W) alpha, not {pixels.shape} and {alpha_shape}"
        )
    if not np.isfinite(pixels).all() or (alpha is not None and not np.isfinite(alpha).all()):
        raise CannotWrite(f"{target} was not saved: some pixels are not numbers (NaN or infinite).")
    if alpha is not None and kind == "JPEG":
        pixels, alpha = pixels * alpha[..., None] + (1 - alpha[..., None]), None
    color = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    samples = _quantized(color, bits)
    xmp = xmp_packet(recipe, credit, title)
    try:
        if kind == "PNG":
            data = _png(samples, exif, xmp)
        elif kind == "TIFF":
            data = _tiff(samples, exif, xmp)
        else:
            data = _jpeg_or_webp(kind, samples, exif, xmp, quality)
    # A side is too long, there are too much metadata, or the file exceeds 4 GiB.
    except (ValueError, OSError, struct.error) as error:
        raise CannotWrite(
            f"{target} cannot be made: {kind} does not hold this picture ({error}).",
            f"Save it as {target.with_suffix('.png').name}.",
        ) from error
    replace_file(target, data)


def _format_for(target: Path, bits: BitDepth) -> str:
    extension = target.suffix.lower()
    if extension not in _FORMATS:
        known = " ".join(_FORMATS)
        was = f"ends in {target.suffix}" if extension else "has no extension"
        hint = did_you_mean(extension, _FORMATS) if extension else f"Call it {target.name}.png."
        raise CannotWrite(f"{target} {was}, and a picture is saved as one of: {known}.", hint)
    kind = _FORMATS[extension]
    if bits not in (8, 16):
        raise CannotWrite(f"{target} cannot have {bits} bits a channel; 8 and 16 are possible.")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise CannotWrite(
            f"{target} cannot have 16 bits a channel: {kind} holds 8.",
            f"Save it as {target.with_suffix('.png').name} or {target.with_suffix('.tif').name}.",
        )
    return kind


def _quantized(color: Pixels, bits: BitDepth) -> npt.NDArray[Any]:
    full = np.float32(2**bits - 1)
    scaled: npt.NDArray[Any] = np.clip(color, 0, 1)
    np.rint(np.multiply(scaled, full, out=scaled), out=scaled)
    return scaled.astype(np.uint8 if bits == 8 else np.uint16)


def _png(samples: npt.NDArray[Any], exif: bytes, xmp: bytes) -> bytes:
    import imagecodecs  # Pillow writes no 16-bit color

    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(samples), 6))
    chunks = [(b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile()))]
    if exif:
        chunks.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    if xmp:  # keyword, not compressed, no language, no translated keyword
        chunks.append((b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + xmp))
    after_header = 8 + 25  # signature and IHDR; these chunks must come before the pixels
    return data[:after_header] + b"".join(_chunk(*chunk) for chunk in chunks) + data[after_header:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _jpeg_or_webp(
    kind: str, samples: npt.NDArray[Any], exif: bytes, xmp: bytes, quality: int
) -> bytes:
    options: dict[str, Any] = {"icc_profile": srgb_profile(), "quality": quality}
    options |= {"exif": exif} if exif else {}
    options |= {"xmp": xmp} if xmp else {}
    # 4:4:4, because paintings have saturated edges; exact keeps the colors of transparent pixels.
    options |= {"subsampling": 0, "optimize": True} if kind == "JPEG" else {"exact": True}
    buffer = BytesIO()
    Image.fromarray(samples).save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def _tiff(samples: npt.NDArray[Any], exif: bytes, xmp: bytes) -> bytes:
    """A little-endian TIFF: deflated strips of horizontal differences.

    Pillow writes no 16-bit color, and tifffile no EXIF directory.
    """
    height, width, channels = samples.shape
    differences = samples.astype(samples.dtype.newbyteorder("<"))
    differences[:, 1:] -= samples[:, :-1]  # wraps around, as the predictor requires
    rows = max(1, _TIFF_STRIP_BYTES // differences[0].nbytes)
    strips = [
        zlib.compress(differences[top : top + rows].tobytes()) for top in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    exif_data = Image.Exif()
    exif_data.load(exif)
    for tag in exif_data:
        ifd[tag] = exif_data[tag]
    if exif_directory := exif_data.get_ifd(ExifTags.IFD.Exif):
        ifd[ExifTags.IFD.Exif] = exif_directory
    for tag, value in {
        ExifTags.Base.ImageWidth: width,
        ExifTags.Base.ImageLength: height,
        ExifTags.Base.BitsPerSample: (samples.dtype.itemsize * 8,) * channels,
        ExifTags.Base.Compression: 8,  # deflate
        ExifTags.Base.PhotometricInterpretation: 2,  # RGB
        # Pillow makes these absolute when it saves the directory.
        ExifTags.Base.StripOffsets: tuple(accumulate(lengths[:-1], initial=0)),
        ExifTags.Base.SamplesPerPixel: channels,
        ExifTags.Base.RowsPerStrip: rows,
        ExifTags.Base.StripByteCounts: tuple(lengths),
        ExifTags.Base.PlanarConfiguration: 1,  # RGBRGB...
        ExifTags.Base.Predictor: 2,  # horizontal differences
        ExifTags.Base.InterColorProfile: srgb_profile(),
        **({ExifTags.Base.ExtraSamples: 2} if channels == 4 else {}),  # alpha, not premultiplied
        **({ExifTags.Base.XMLPacket: xmp} if xmp else {}),
    }.items():
        ifd[tag] = value
    buffer = BytesIO()
    ifd.save(buffer)
    buffer.write(b"".join(strips))
    return buffer.getvalue()
