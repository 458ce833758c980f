"""Decoded: one picture's samples as its file has them, to be had in strips of rows; and those of
any Pillow image.

Integers of 8 and 16 bits are full scale. Longer integers are taken as 16 bit, and floats as 0..1;
values outside that are refused with a ValueError, because guessing a scale from the brightest pixel
makes a picture depend on its own contents.
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
"""Rows from the first number up to the second: color (h, W, C) and alpha (h, W), uint8, uint16 or
float 0..1.
"""

_SIGNS = np.array([0, 128, 128], np.uint8)
_OVERSHOOT = 1e-3  # what resampling and rounding do to floats; less than an 8-bit step


@dataclass(frozen=True)
class Task:
    """What every decoder is told."""

    label: str
    """How sentences call the picture."""
    limit: float
    """The largest number of pixels, in millions."""
    side: int | None = None
    """The long side that will be needed at most; a decoder may leave out detail beyond twice that.
    """

    def check(self, size: Size) -> None:
        """Raise BadPicture if a picture of this size has no pixels, or too many."""
        check_size(self.label, size, self.limit)

    def box(self, size: Size) -> int:
        """How many pixels a side are averaged into one: as many as leave the long side twice
        ``side`` or more.

        And the short side 8 or more, since the boxes at the far edges may be cut, which bends what
        is thinner.
        """
        return (
            1
            if self.side is None
            else max(1, min(size.long_side // (2 * self.side), size.short_side // 8))
        )


@dataclass
class Decoded:
    """Samples as the file has them: not yet upright, not yet sRGB."""

    size: Size
    """As stored, before turning."""
    rows: Rows
    space: Space
    icc: bytes = b""
    numbers: Colorimetry | None = None
    """What the samples mean, where there is no ICC profile; None: sRGB."""
    premultiplied: bool = False
    """Whether color was multiplied by alpha."""
    orientation: int = 1
    """EXIF's 1..8, still to be applied."""
    exif: bytes = b""
    """The block to keep."""
    full_size: Size | None = None
    """Of the picture in the file, where the decoder has left out detail."""
    notes: list[str] = field(default_factory=list)

    def take_exif(self, image: Image.Image) -> None:
        """Keep the image's EXIF block, and what it says about turning and, where nothing else does,
        color.
        """
        found = exif.found(image)
        self.orientation = exif.orientation(found)
        self.exif = exif.kept(found, self.notes)
        if not self.icc and self.numbers is None and self.space == "rgb":
            self.numbers = exif.colors(found)


def of_arrays(color: Samples, space: Space, alpha: Samples | None = None, **more: Any) -> Decoded:
    """Decoded from whole arrays, color (H, W, C) and alpha (H, W)."""

    def rows(top: int, bottom: int) -> tuple[Samples, Samples | None]:
        return color[top:bottom], None if alpha is None else alpha[top:bottom]

    return Decoded(Size(*color.shape[:2]), rows, space, **more)


def opened(data: bytes, task: Task, *formats: str) -> Any:
    """The header of a file as a Pillow image of one of these formats; its size is checked, nothing
    is decoded.

    Raises BadPicture, or whatever else Pillow raises on what it cannot read.
    """
    try:
        with quiet(math.inf):  # Pillow's limit knows no sentence; ours follows
            image = Image.open(BytesIO(data), formats=formats)
    except UnidentifiedImageError:  # whose message names an object
        raise not_a_picture(task.label, data[:4096]) from None
    task.check(Size(image.height, image.width))
    return image


def decode_pillow(image: Image.Image, task: Task) -> Decoded:
    """The samples of an image of any Pillow mode; the image is decoded if it was not, and left as
    it was.
    """
    image.load()
    size = Size(image.height, image.width)
    task.check(size)  # an icon's header may lie about what is inside
    icc = image.info.get("icc_profile") or b""
    mode, notes = image.mode, list[str]()
    if mode in ("I", "F") or mode.startswith("I;16"):
        samples = full_scale(np.asarray(image)[..., None], notes)
        return of_arrays(samples, "gray", icc=icc, notes=notes)
    if mode == "CMYK":
        return Decoded(size, _pillow_rows(image, "CMYK", False), "cmyk", icc=icc)
    if mode == "LAB":
        signed = _pillow_rows(image, "LAB", False)
        # Pillow hands out a and b as signed bytes, lcms2 takes them offset by 128.
        return Decoded(size, lambda *span: (signed(*span)[0] ^ _SIGNS, None), "lab", icc=icc)
    gray, clear = mode in ("1", "L", "LA", "La"), image.has_transparency_data
    wanted = ("LA" if clear else "L") if gray else ("RGBA" if clear else "RGB")
    return Decoded(size, _pillow_rows(image, wanted, clear), "gray" if gray else "rgb", icc=icc)


def _pillow_rows(image: Image.Image, mode: str, has_alpha: bool) -> Rows:
    """Rows of an image, converted to ``mode`` part by part: Pillow's own storage is the only whole
    copy.
    """

    def rows(top: int, bottom: int) -> tuple[Samples, Samples | None]:
        whole = (top, bottom) == (0, image.height)
        part = image if whole else image.crop((0, top, image.width, bottom))
        samples = np.asarray(part if part.mode == mode else part.convert(mode))
        samples = samples[..., None] if samples.ndim == 2 else samples
        return (samples[..., :-1], samples[..., -1]) if has_alpha else (samples, None)

    return rows


def check_floats(values: Samples) -> None:
    """Raise ValueError if any is not finite or clearly outside 0..1."""
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it has values that are not numbers (NaN or infinite)")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(f"its values go from {low:.6g} to {high:.6g}, and floats must be 0..1")


def full_scale(samples: Samples, notes: list[str]) -> Samples:
    """Samples of any type as uint8, uint16 or float 0..1, by the rule at the top of this file."""
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
            "its samples are signed integers of 8 bits, whose black and white it does not say"
        )
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its values go from {low} to {high}, and integers must be 0..65535")
    notes.append(f"{samples.dtype.itemsize * 8}-bit integers, taken as 16 bit (0..65535)")
    return samples.astype(np.uint16)


def scaled(samples: Samples, bits: int) -> Samples:
    """Unsigned samples of ``bits`` significant bits, 1..16, as uint8 (up to 8 bits) or uint16 of
    full scale.
    """
    if bits in (8, 16):
        return samples
    kind = np.uint8 if bits < 8 else np.uint16
    top = 2**bits - 1
    table = np.rint(np.arange(top + 1) * (np.iinfo(kind).max / top)).astype(kind)
    return table[np.minimum(samples, top)]


def too_many_channels(task: Task, channels: int) -> BadPicture:
    """The refusal of scientific data with more channels than a picture has."""
    return BadPicture(
        f"{task.label} has {channels} channels, and a picture has 1 to 5.",
        "Export three of them as an RGB picture.",
    )
