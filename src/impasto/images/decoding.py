"""The result of every decoder, and the decoder of Pillow images.

Integers of 8 and 16 bits are full scale. Longer integers are taken as 16 bit, and floats as 0..1.
Values outside these ranges raise ValueError: a scale that is guessed from the brightest pixel would
make a picture depend on its own contents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from impasto.errors import BadPicture
from impasto.geometry import Size
from impasto.images import exif
from impasto.images.colorimetry import Colorimetry
from impasto.images.profiles import Samples, Space
from impasto.images.refusals import check_size, not_a_picture
from impasto.images.silence import quiet

Rows = Callable[[int, int], tuple[Samples, Samples | None]]
"""Rows ``top`` to ``bottom``: color (h, W, C), alpha (h, W); uint8, uint16 or float 0..1."""

_SIGNS = np.array([0, 128, 128], np.uint8)
_OVERSHOOT = 1e-3  # from resampling and rounding of floats; less than an 8-bit step


@dataclass(frozen=True)
class Task:
    """The parameters of every decoder."""

    label: str
    """The picture's name in messages."""
    limit: float
    """The largest number of pixels, in millions."""
    side: int | None = None
    """The largest long side that is needed; detail beyond twice that may be left out."""

    def check(self, size: Size) -> None:
        """Raise BadPicture if a picture of this size has no pixels, or too many."""
        check_size(self.label, size, self.limit)

    def box(self, size: Size) -> int:
        """The side of the squares of pixels that are averaged into one.

        It leaves the long side twice ``side`` or more. It also leaves the short side 8 or more:
        squares at the far edges may be cut, which would distort a thinner picture.
        """
        return (
            1
            if self.side is None
            else max(1, min(size.long_side // (2 * self.side), size.short_side // 8))
        )


@dataclass
class Decoded:
    """Samples as the file has them: not yet rotated, not yet sRGB."""

    size: Size
    """As stored, before rotation."""
    rows: Rows
    space: Space
    icc: bytes = b""
    numbers: Colorimetry | None = None
    """The meaning of the samples where there is no ICC profile; None: sRGB."""
    premultiplied: bool = False
    """Whether color was multiplied by alpha."""
    orientation: int = 1
    """EXIF's 1..8, not applied yet."""
    exif: bytes = b""
    """The block to keep."""
    full_size: Size | None = None
    """The size of the picture in the file, where the decoder has reduced it."""
    notes: list[str] = field(default_factory=list)

    def take_exif(self, image: Image.Image) -> None:
        """Take orientation and EXIF block from an image, and colors if nothing else gives them."""
        data = exif.read(image)
        self.orientation = exif.orientation(data)
        self.exif = exif.block_to_keep(data, self.notes)
        if not self.icc and self.numbers is None and self.space == "rgb":
            self.numbers = exif.colorimetry_of(data)


def decoded_arrays(
    color: Samples, space: Space, alpha: Samples | None = None, **more: Any
) -> Decoded:
    """Decoded samples from whole arrays, color (H, W, C) and alpha (H, W)."""

    def rows(top: int, bottom: int) -> tuple[Samples, Samples | None]:
        return color[top:bottom], None if alpha is None else alpha[top:bottom]

    return Decoded(Size(*color.shape[:2]), rows, space, **more)


def open_pillow(data: bytes, task: Task, *formats: str) -> Any:
    """The header of a file as a Pillow image of one of these formats; nothing is decoded.

    Its size is checked. Raises BadPicture, or whatever Pillow raises for a damaged header.
    """
    try:
        with quiet(math.inf):  # without Pillow's own size limit; ours is checked below
            image = Image.open(BytesIO(data), formats=formats)
    except UnidentifiedImageError:  # its message names an object in memory
        raise not_a_picture(task.label, data[:4096]) from None
    task.check(Size(image.height, image.width))
    return image


def decode_pillow(image: Image.Image, task: Task) -> Decoded:
    """The samples of an image of any Pillow mode, which is loaded but not changed."""
    image.load()
    size = Size(image.height, image.width)
    task.check(size)  # an icon's header may have the wrong size
    icc = image.info.get("icc_profile") or b""
    mode, notes = image.mode, list[str]()
    if mode in ("I", "F") or mode.startswith("I;16"):
        samples = full_scale(np.asarray(image)[..., None], notes)
        return decoded_arrays(samples, "gray", icc=icc, notes=notes)
    if mode == "CMYK":
        return Decoded(size, _rows_of_image(image, "CMYK", False), "cmyk", icc=icc)
    if mode == "LAB":
        signed = _rows_of_image(image, "LAB", False)
        # Pillow has a and b as signed bytes, lcms2 wants them offset by 128.
        return Decoded(size, lambda *span: (signed(*span)[0] ^ _SIGNS, None), "lab", icc=icc)
    is_gray, has_alpha = mode in ("1", "L", "LA", "La"), image.has_transparency_data
    target_mode = ("LA" if has_alpha else "L") if is_gray else ("RGBA" if has_alpha else "RGB")
    return Decoded(
        size, _rows_of_image(image, target_mode, has_alpha), "gray" if is_gray else "rgb", icc=icc
    )


def _rows_of_image(image: Image.Image, mode: str, has_alpha: bool) -> Rows:
    """Rows of an image, converted to ``mode`` part by part to save memory.

    Pillow's own storage is the only copy of the whole picture.
    """

    def rows(top: int, bottom: int) -> tuple[Samples, Samples | None]:
        is_whole = (top, bottom) == (0, image.height)
        part = image if is_whole else image.crop((0, top, image.width, bottom))
        samples = np.asarray(part if part.mode == mode else part.convert(mode))
        samples = samples[..., None] if samples.ndim == 2 else samples
        return (samples[..., :-1], samples[..., -1]) if has_alpha else (samples, None)

    return rows


def check_floats(values: Samples) -> None:
    """Raise ValueError if a value is not finite or clearly outside 0..1."""
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it has values that are not numbers (NaN or infinite)")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(f"its values go from {low:.6g} to {high:.6g}, and floats must be 0..1")


def full_scale(samples: Samples, notes: list[str]) -> Samples:
    """Samples of any type as uint8, uint16 or float 0..1, by the rule of this module."""
    if samples.dtype.kind == "f":
        check_floats(samples)
        notes.append("floating point values, taken as sRGB-encoded 0..1")
        return samples
    if samples.dtype.kind == "b":
        return samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype.newbyteorder("=") in (np.uint8, np.uint16):
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if samples.dtype == np.int8:
        raise ValueError(
            "its samples are signed integers of 8 bits, and their black and white are not given"
        )
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its values go from {low} to {high}, and integers must be 0..65535")
    notes.append(f"{samples.dtype.itemsize * 8}-bit integers, taken as 16 bit (0..65535)")
    return samples.astype(np.uint16)


def to_full_scale(samples: Samples, bits: int) -> Samples:
    """Unsigned samples of ``bits`` significant bits, 1..16, at full scale.

    Returns uint8 for up to 8 bits, and uint16 for more.
    """
    if bits in (8, 16):
        return samples
    kind = np.uint8 if bits < 8 else np.uint16
    top = 2**bits - 1
    table = np.rint(np.arange(top + 1) * (np.iinfo(kind).max / top)).astype(kind)
    return table[np.minimum(samples, top)]


def too_many_channels(task: Task, channels: int) -> BadPicture:
    """The error for data with more channels than a picture has."""
    return BadPicture(
        f"{task.label} has {channels} channels, and a picture has 1 to 5.",
        "Export three of them as an RGB picture.",
    )
