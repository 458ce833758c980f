"""Decode the largest page of a TIFF (6.0 and supplements) at full depth, with its color tags.

tifffile and imagecodecs decode. What they do not support (subsampled YCbCr, old JPEG) is decoded by
libtiff.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import colorimetry, exif, ifds, jpeg
from impasto.images.decoding import (
    Decoded,
    Task,
    decode_pillow,
    decoded_arrays,
    full_scale,
    to_full_scale,
    too_many_channels,
)
from impasto.images.profiles import Samples, Space
from impasto.images.refusals import cut_short, not_a_picture
from impasto.images.silence import no_stderr

if TYPE_CHECKING:
    from tifffile import TiffPage

SIGNATURES = ifds.TIFF
_WHITE_IS_ZERO, _PALETTE, _SEPARATED, _YCBCR, _CIELAB, _ICCLAB = 0, 3, 5, 6, 8, 9
_SPACES: dict[int, Space] = {
    0: "gray",
    1: "gray",
    2: "rgb",
    3: "rgb",
    5: "cmyk",
    6: "rgb",
    8: "lab",
    9: "lab",
}
_CHANNELS: dict[Space, int] = {"gray": 1, "rgb": 3, "cmyk": 4, "lab": 3}
_UNSUPPORTED = {10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_ICC, _TRANSFER, _WHITE, _PRIMARIES, _INK_SET, _COLOR_MAP = 34675, 301, 318, 319, 332, 320
_NO_COMPRESSION, _JPEG = 1, 7
_MAX_CHANNELS = 32
_BUFFER = 4 << 20  # bytes of strips or tiles that are unpacked at a time


def largest(all_directories: list[ifds.Directory]) -> ifds.Directory | None:
    """The directory of the picture with the most pixels; None if there is none."""
    pictures = [directory for directory in all_directories if directory.is_picture]
    return max(pictures, key=lambda directory: directory.size.pixels, default=None)


def decode(data: bytes, task: Task) -> Decoded:
    """Decode the largest page: 1..32 bits a channel, any known layout and compression."""
    all_directories = ifds.directories(data)
    page = largest(all_directories)
    if page is None:
        raise not_a_picture(task.label, data[:4096])
    task.check(page.size)
    photometric = page.first(ifds.PHOTOMETRIC)
    if photometric in _UNSUPPORTED:
        raise BadPicture(
            f"{task.label} cannot be read as a picture: it is a TIFF of "
            f"{_UNSUPPORTED[photometric]} colors.",
            "Export it as an RGB TIFF or PNG.",
        )
    if page.first(ifds.CHANNELS, 1) > _MAX_CHANNELS:
        raise too_many_channels(task, page.first(ifds.CHANNELS))
    image = _pillow_image(data, page, task)
    decoded = _samples(data, page, image, task)
    if image is not None:  # Pillow rotates a TIFF when it loads it, and removes the tag
        upright, decoded.orientation = decoded.orientation, 1
        decoded.take_exif(image)
        decoded.orientation = upright
    decoded.notes[:0] = _page_notes(all_directories, page)
    return decoded


def _page_notes(all_directories: list[ifds.Directory], chosen: ifds.Directory) -> list[str]:
    """A note on which of several pages was chosen."""
    pages = [each for each in all_directories if each.page is not None and each.is_picture]
    if chosen.page is None:
        return ["its largest picture is not among its pages, and is used"]
    if len(pages) < 2:
        return []
    if chosen.page == pages[0].page:
        return [f"has {len(pages)} pages; the first one is used"]
    return [f"has {len(pages)} pages; page {chosen.page + 1} is the largest and is used"]


def _pillow_image(data: bytes, chosen: ifds.Directory, task: Task) -> Any:
    """The page as a Pillow image, not decoded; None if Pillow does not support it."""
    if chosen.page is None:
        return None
    try:
        image = Image.open(BytesIO(data), formats=("TIFF",))
        image.seek(chosen.page)
    except MemoryError:
        raise
    except Exception:  # a damaged header can make Pillow raise anything
        return None
    return image


def _samples(data: bytes, chosen: ifds.Directory, image: Any, task: Task) -> Decoded:
    """The samples, decoded by tifffile, or else by libtiff."""
    import tifffile

    reason: Exception | None = None
    stream = BytesIO(data)
    try:
        with tifffile.TiffFile(stream) as file, no_stderr():
            file.filehandle.seek(chosen.offset)
            page = tifffile.TiffPage(file, index=chosen.page or 0)
            _check_segments(page, len(data), task)
            if page.bitspersample > 1:  # bilevel pictures are left to libtiff
                return _decode_page(page)
    except (BadPicture, MemoryError):
        raise
    except Exception as error:  # tifffile and the codecs raise any exception
        reason = error
    finally:
        stream.close()  # frees memory: tifffile keeps a reference to it
    if image is None:
        raise reason or ValueError("it is a TIFF of an unknown kind")
    try:
        with no_stderr():
            decoded = decode_pillow(image, task)
    except Exception as error:
        raise (reason or error) from None
    decoded.orientation = exif.orientation(exif.read(image))  # 1 if loading has rotated it
    return decoded


def _check_segments(page: TiffPage, length: int, task: Task) -> None:
    """Check that strips and tiles lie in the file and have the size that they should have."""
    # A damaged tag may contain a text instead of a number.
    if int(page.tilewidth) * int(page.tilelength) > max(task.limit * 1e6, 1 << 20):
        raise ValueError("its tiles are too large")
    if page.imagedepth != 1:
        raise ValueError("it is a volume, not a picture")
    if page.photometric == _YCBCR and page.compression != _JPEG:
        raise ValueError("it is a TIFF with subsampled colors")
    if page.photometric not in _SPACES:
        raise ValueError("it is a TIFF of an unknown kind")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + count > length:
            raise cut_short(task.label)
    if int(page.compression) == _JPEG:
        widest = Size(page.tilelength or page.imagelength, page.tilewidth or page.imagewidth)
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            fh = page.parent.filehandle
            fh.seek(offset)
            inner = jpeg.frame(fh.read(min(count, 1 << 16))).size
            if inner.height > widest.height + 16 or inner.width > widest.width + 16:
                raise ValueError("a part of it is larger than it says")


def _decode_page(page: TiffPage) -> Decoded:
    notes: list[str] = []
    samples = _channels_last(page, page.asarray(buffersize=_BUFFER))
    bits, photometric = page.bitspersample, int(page.photometric)
    if photometric == _PALETTE:
        samples, bits = _palette_colors(page, samples), 16
    elif samples.dtype.kind == "u" and bits < 16:  # bits that are not whole bytes come unscaled
        samples = to_full_scale(samples, bits) if bits != 8 else samples
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    space = _SPACES[photometric]
    channels = _CHANNELS[space]
    if samples.shape[2] < channels:
        raise ValueError(f"it has {samples.shape[2]} channels instead of {channels}")
    if space == "lab":
        samples = _lab_for_lcms(samples, photometric, notes)
    samples = full_scale(samples, notes)
    color = samples[..., :channels]
    if photometric == _WHITE_IS_ZERO:
        color = (1 if color.dtype.kind == "f" else np.iinfo(color.dtype).max) - color
    if photometric == _SEPARATED and page.tags.valueof(_INK_SET, default=1) != 1:
        notes.append(
            "its inks are not cyan, magenta, yellow and black, so its colors are approximate"
        )
    extra = int(page.extrasamples[0]) if page.extrasamples else 2
    alpha = samples[..., channels] if samples.shape[2] > channels and extra in (1, 2) else None
    icc = bytes(page.tags.valueof(_ICC, default=b"") or b"")
    orientation = page.tags.valueof(274, default=1)
    decoded = decoded_arrays(color, space, alpha, icc=icc, premultiplied=extra == 1, notes=notes)
    decoded.orientation = orientation if orientation in range(1, 9) else 1
    white = _fractions(page, _WHITE, 2)
    if space == "lab" and white and not icc and not np.allclose(white, colorimetry.D50, atol=0.002):
        _use_white_point(decoded, (white[0], white[1]))
    elif not icc:
        decoded.numbers = _colorimetry(page, bits)
    return decoded


def _channels_last(page: TiffPage, samples: Samples) -> Samples:
    """(H, W, C)."""
    if page.axes == "SYX":  # planes after each other
        return samples.transpose(1, 2, 0)
    if page.axes == "YX":
        return samples[..., None]
    if page.axes != "YXS":
        raise ValueError(f"it is a TIFF with axes {page.axes}")
    return samples


def _palette_colors(page: TiffPage, samples: Samples) -> Samples:
    """A palette's 16-bit colors in the place of its numbers."""
    colors: Samples = np.asarray(page.tags.valueof(_COLOR_MAP), np.uint16).reshape(3, -1).T
    if colors.max() < 256:  # some programs write 8-bit values
        colors = colors * np.uint16(257)
    # And others 256 times those, which would leave white a step short.
    elif not (colors & 255).any():
        colors = (colors >> 8) * np.uint16(257)
    return colors[np.minimum(samples[..., 0], len(colors) - 1)]


def _lab_for_lcms(samples: Samples, photometric: int, notes: list[str]) -> Samples:
    """CIELab (a and b signed) or ICCLab (offset by half) in lcms2's encoding of the same depth.

    The samples have 8 or 16 bits, or are floats.
    """
    lab = samples[..., :3]
    if lab.dtype == np.uint8:
        return lab ^ np.array([0, 128, 128], np.uint8) if photometric == _CIELAB else lab
    if lab.dtype.kind == "f":
        lightness, color = lab[..., :1] / 100 * 65535, (lab[..., 1:] + 128) * 257
    elif photometric == _CIELAB:  # L of 65535, a and b in steps of 1/256, signed
        lightness, color = (
            lab[..., :1].astype(np.float32),
            (lab[..., 1:].view(np.int16) / np.float32(256) + 128) * 257,
        )
    else:  # ICC's first encoding: L of 65280, a and b in steps of 1/256 from 32768
        lightness, color = (
            lab[..., :1] * np.float32(65535 / 65280),
            lab[..., 1:] * np.float32(257 / 256),
        )
    return np.clip(np.rint(np.concatenate([lightness, color], axis=2)), 0, 65535).astype(np.uint16)


def _use_white_point(decoded: Decoded, white: colorimetry.Point) -> None:
    """Convert Lab relative to a white point other than D50.

    D50 is the default by Photoshop's supplement to TIFF.
    """
    encoded = decoded.rows

    def rows(top: int, bottom: int) -> tuple[Samples, Samples | None]:
        samples, alpha = encoded(top, bottom)
        unit = samples.astype(np.float32) / np.iinfo(samples.dtype).max
        return colorimetry.lab_to_srgb(unit * [100, 255, 255] - [0, 128, 128], white), alpha

    decoded.rows, decoded.space = rows, "rgb"
    decoded.notes.append("Lab, converted to sRGB")


def _colorimetry(page: TiffPage, bits: int) -> colorimetry.Colorimetry | None:
    """The colorimetry of WhitePoint, PrimaryChromaticities and TransferFunction.

    None: sRGB, or not given. Source: TIFF 6.0, section 20.
    """
    white, primaries = _fractions(page, _WHITE, 2), _fractions(page, _PRIMARIES, 6)
    table = page.tags.valueof(_TRANSFER, default=None)
    if not (white or primaries) and table is None:
        return None
    points = [*(white or colorimetry.D65), *(primaries or np.ravel(colorimetry.BT709))]
    pairs = [(float(points[index]), float(points[index + 1])) for index in range(0, 8, 2)]
    curves: list[colorimetry.Curve] = [colorimetry.srgb_to_linear] * 3
    size = 2 ** min(bits, 16)
    if table is not None and np.size(table) in (size, 3 * size):
        tables = np.reshape(table, (-1, size))
        curves = [
            colorimetry.curve_of_table(tables[min(channel, len(tables) - 1)])
            for channel in range(3)
        ]
    result = colorimetry.Colorimetry(
        "the primaries and curves in its tags",
        (curves[0], curves[1], curves[2]),
        (pairs[1], pairs[2], pairs[3]),
        pairs[0],
    )
    try:
        return None if result.is_srgb else result
    except (ValueError, np.linalg.LinAlgError):
        return None


def _fractions(page: TiffPage, tag: int, count: int) -> list[float]:
    """The values of a tag of ``count`` fractions; empty if it is missing or invalid."""
    value = page.tags.valueof(tag, default=())
    if len(value) != 2 * count or not all(value[1::2]):
        return []
    return [
        numerator / denominator
        for numerator, denominator in zip(value[::2], value[1::2], strict=True)
    ]
