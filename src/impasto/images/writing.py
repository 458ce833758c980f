"""Saving: pixels become a PNG, JPEG, WebP or TIFF file, whole or not at all.

What each format can hold is checked before any work is done.
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

Bits = Literal[8, 16]
_KINDS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WebP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
EXTENSIONS = tuple(_KINDS)
"""The endings of a file name that a picture can be saved under."""
_LONGEST_SIDE = {"JPEG": 65_500, "WebP": 16_383}
_TIFF_STRIP = 1 << 20  # bytes before compression: small enough for readers that go strip by strip


def check_output(path: str | os.PathLike[str], *, bits: Bits = 8, size: Size | None = None) -> Path:
    """The absolute path, once it is sure that a picture can be saved there; a missing folder is
    made.

    To be called before the work starts; what a killed program left half-written of this file is
    removed. Give ``bits`` and ``size`` where they are known: not every format holds them. Raises
    CannotWrite for an unknown extension, a folder or a write-protected file of that name, a folder
    that cannot be made or written to (tried with a real file, which is removed), 16 bits in JPEG or
    WebP, a side too long for it.
    """
    target = absolute_file_path(path)
    kind = _kind_for(target, bits)
    if size is not None and size.long_side > _LONGEST_SIDE.get(kind, size.long_side):
        raise CannotWrite(
            f"{path} would be {size}, and a {kind} file holds at most {_LONGEST_SIDE[kind]} "
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
    bits: Bits = 8,
    quality: int = 95,
) -> None:
    """Save (H, W, 3) sRGB ``pixels``, 0..1, as the format that the extension names, with an sRGB
    profile.

    ``alpha`` (H, W), 0..1, is kept, except in JPEG, which has none: there the picture is laid over
    white. Values are rounded to the nearest of ``bits`` bits (16: PNG and TIFF only); values
    outside 0..1 are clipped. ``exif`` is a block as in ``Picture.exif``; ``recipe``, ``credit`` and
    ``title`` are embedded as XMP in every format. ``quality`` (1..100) is for JPEG (always 4:4:4)
    and WebP (lossy, its color always 4:2:0). Same arguments, same bytes.

    The file appears whole or not at all: on any failure what was there before stays, and nothing
    else is left behind. Raises CannotWrite (disk full, no permission, NaN or infinite pixels,
    metadata too long for a JPEG: 64 kB), and ValueError for arrays of the wrong shape.
    """
    target = Path(os.path.abspath(path))
    kind = _kind_for(target, bits)
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
    samples = _rounded(color, bits)
    xmp = xmp_packet(recipe, credit, title)
    try:
        if kind == "PNG":
            data = _png(samples, exif, xmp)
        elif kind == "TIFF":
            data = _tiff(samples, exif, xmp)
        else:
            data = _jpeg_or_webp(kind, samples, exif, xmp, quality)
    except (
        ValueError,
        OSError,
        struct.error,
    ) as error:  # too long a side, too much metadata, more than 4 GiB
        raise CannotWrite(
            f"{target} cannot be made: {kind} does not hold this picture ({error}).",
            f"Save it as {target.with_suffix('.png').name}.",
        ) from error
    replace_file(target, data)


def _kind_for(target: Path, bits: Bits) -> str:
    extension = target.suffix.lower()
    if extension not in _KINDS:
        known = " ".join(_KINDS)
        was = f"ends in {target.suffix}" if extension else "has no extension"
        hint = did_you_mean(extension, _KINDS) if extension else f"Call it {target.name}.png."
        raise CannotWrite(f"{target} {was}, and a picture is saved as one of: {known}.", hint)
    kind = _KINDS[extension]
    if bits not in (8, 16):
        raise CannotWrite(f"{target} cannot have {bits} bits a channel; 8 and 16 are possible.")
    if bits == 16 and kind not in ("PNG", "TIFF"):
        raise CannotWrite(
            f"{target} cannot have 16 bits a channel: {kind} holds 8.",
            f"Save it as {target.with_suffix('.png').name} or {target.with_suffix('.tif').name}.",
        )
    return kind


def _rounded(color: Pixels, bits: Bits) -> npt.NDArray[Any]:
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
    after_header = 8 + 25  # signature and IHDR; ours have to come before the pixels
    return data[:after_header] + b"".join(_chunk(*chunk) for chunk in chunks) + data[after_header:]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _jpeg_or_webp(
    kind: str, samples: npt.NDArray[Any], exif: bytes, xmp: bytes, quality: int
) -> bytes:
    options: dict[str, Any] = {"icc_profile": srgb_profile(), "quality": quality}
    options |= {"exif": exif} if exif else {}
    options |= {"xmp": xmp} if xmp else {}
    # 4:4:4, since paintings live on saturated edges; exact keeps the colors under transparent
    # pixels.
    options |= {"subsampling": 0, "optimize": True} if kind == "JPEG" else {"exact": True}
    buffer = BytesIO()
    Image.fromarray(samples).save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def _tiff(samples: npt.NDArray[Any], exif: bytes, xmp: bytes) -> bytes:
    """A little-endian TIFF: deflated strips of horizontal differences (Pillow writes no 16-bit
    color).
    """
    height, width, channels = samples.shape
    differences = samples.astype(samples.dtype.newbyteorder("<"))
    differences[:, 1:] -= samples[:, :-1]  # wraps around, as it should
    rows = max(1, _TIFF_STRIP // differences[0].nbytes)
    strips = [
        zlib.compress(differences[top : top + rows].tobytes()) for top in range(0, height, rows)
    ]
    lengths = [len(strip) for strip in strips]
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    kept = Image.Exif()
    kept.load(exif)
    for tag in kept:
        ifd[tag] = kept[tag]
    if details := kept.get_ifd(ExifTags.IFD.Exif):
        ifd[ExifTags.IFD.Exif] = details
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
