"""A picture format's samples at full depth: 8 bits by Pillow, 16-bit PNG by imagecodecs, TIFF by tifffile.

It knows sample formats: bits, palettes, transparency, ink. It refuses to know paths, profiles and what a
person is told: what it cannot read it raises as ValueError with half a sentence.

Integers of 8 and 16 bits are full scale. Longer integers are taken as 16 bit, and floats as 0..1; values
outside that are refused, because guessing a scale from the brightest pixel makes a picture depend on its
own contents.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from impasto.images.pixels import Pixels
from impasto.images.profiles import Samples, Space, unit

if TYPE_CHECKING:
    from tifffile import TiffPage

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_SPACES: dict[int, Space] = {0: "gray", 1: "gray", 2: "rgb", 5: "cmyk"}  # by PhotometricInterpretation
_CHANNELS: dict[Space, int] = {"gray": 1, "rgb": 3, "cmyk": 4, "lab": 3}
_OVERSHOOT = 1e-3  # what resampling and rounding do to floats; less than an 8-bit step


@dataclass
class Decoded:
    """Samples as the file has them: not yet upright, not yet sRGB."""

    samples: Samples
    """(H, W, C) in ``space``."""
    space: Space
    alpha: Pixels | None
    """(H, W), 0..1, not premultiplied."""
    orientation: int = 1
    """EXIF's 1..8, still to be applied."""
    icc: bytes = b""
    notes: list[str] = field(default_factory=list)


def is_deep_png(data: bytes) -> bool:
    """Whether these are the bytes of a PNG with 16 bits a channel (Pillow reads the colour ones at 8)."""
    return data.startswith(_PNG) and data[24:25] == b"\x10"


def is_tiff(data: bytes) -> bool:
    return data.startswith(_TIFF)


def decode_deep_png(data: bytes) -> Decoded:
    """The samples of a 16-bit PNG of any colour type; a transparent colour (tRNS) becomes alpha."""
    import imagecodecs

    samples = imagecodecs.png_decode(data)  # (H, W) or (H, W, 2 | 3 | 4) uint16
    samples = samples[..., None] if samples.ndim == 2 else samples
    has_alpha = samples.shape[2] in (2, 4)
    alpha = unit(samples[..., -1]) if has_alpha else None
    colour = samples[..., :-1] if has_alpha else samples
    return Decoded(colour, "gray" if colour.shape[2] == 1 else "rgb", alpha)


def tiff_page(data: bytes) -> TiffPage | None:
    """A TIFF's first page, if it is grey, RGB or CMYK of 8 bits or more; None if it is for Pillow."""
    import tifffile

    try:
        page = tifffile.TiffFile(BytesIO(data)).pages[0]
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError):
        return None  # Pillow will say what is wrong with it
    if not isinstance(page, tifffile.TiffPage) or page.bitspersample < 8:
        return None
    return page if int(page.photometric) in _TIFF_SPACES else None


def decode_tiff_page(page: TiffPage) -> Decoded:
    """The samples of a page from ``tiff_page``: 8..16 bits, 32-bit integers or floats a channel."""
    samples = page.asarray()
    if page.axes == "SYX":  # planes after each other
        samples = samples.transpose(1, 2, 0)
    elif page.axes == "YX":
        samples = samples[..., None]
    elif page.axes != "YXS":
        raise ValueError(f"it is a TIFF with axes {page.axes}")
    if samples.dtype == np.uint16 and page.bitspersample < 16:  # 10, 12 and 14 bits come unscaled
        samples = np.rint(samples * (65535 / (2**page.bitspersample - 1))).astype(np.uint16)
    notes: list[str] = []
    samples = _full_scale(samples, notes)
    space = _TIFF_SPACES[int(page.photometric)]
    channels = _CHANNELS[space]
    colour = samples[..., :channels]
    if int(page.photometric) == 0:  # white is zero
        colour = (1 if colour.dtype.kind == "f" else np.iinfo(colour.dtype).max) - colour
    extra = int(page.extrasamples[0]) if page.extrasamples else 2
    alpha = unit(samples[..., channels]) if samples.shape[2] > channels and extra in (1, 2) else None
    if alpha is not None and extra == 1:  # premultiplied
        colour = np.clip(unit(colour) / np.maximum(alpha, 1e-6)[..., None], 0, 1)
    orientation, icc = page.tags.valueof(274, default=1), page.tags.valueof(34675, default=b"")
    return Decoded(colour, space, alpha, int(orientation), bytes(icc or b""), notes)


def decode_pillow(image: Image.Image) -> Decoded:
    """The samples of an image of any Pillow mode; the image is decoded if it was not, and left as it was."""
    image.load()
    icc = image.info.get("icc_profile") or b""
    mode, notes = image.mode, list[str]()
    if mode in ("I", "F") or mode.startswith("I;16"):
        samples = _full_scale(np.asarray(image)[..., None], notes)
        return Decoded(samples, "gray", None, icc=icc, notes=notes)
    if mode == "CMYK":
        return Decoded(np.asarray(image), "cmyk", None, icc=icc)
    if mode == "LAB":
        lab = np.array(image)
        lab[..., 1:] ^= 128  # Pillow hands out a and b as signed bytes, lcms2 takes them offset by 128
        return Decoded(lab, "lab", None, icc=icc)
    grey = mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        samples = np.asarray(image.convert("LA" if grey else "RGBA"))
        return Decoded(samples[..., :-1], "gray" if grey else "rgb", unit(samples[..., -1]), icc=icc)
    samples = np.asarray(image.convert("L" if grey else "RGB"))
    return Decoded(samples[..., None] if grey else samples, "gray" if grey else "rgb", None, icc=icc)


def checked_floats(values: Samples) -> Pixels:
    """Floats as float32 clipped to 0..1; ValueError if any is not finite or clearly outside."""
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it has values that are not numbers (NaN or infinite)")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(f"its values go from {low:.6g} to {high:.6g}, and floats must be 0..1")
    return np.clip(values, 0, 1).astype(np.float32)


def _full_scale(samples: Samples, notes: list[str]) -> Samples:
    """Samples of any type as uint8, uint16 or float32 0..1, by the rule at the top of this file."""
    if samples.dtype.kind == "f":
        notes.append("floating point values, taken as sRGB-encoded 0..1")
        return checked_floats(samples)
    if samples.dtype in (np.uint8, np.uint16) or samples.dtype.newbyteorder("=") == np.uint16:
        return samples.astype(samples.dtype.newbyteorder("="), copy=False)
    low, high = int(samples.min()), int(samples.max())
    if low < 0 or high > 65535:
        raise ValueError(f"its values go from {low} to {high}, and integers must be 0..65535")
    notes.append(f"{samples.dtype.itemsize * 8}-bit integers, taken as 16 bit (0..65535)")
    return samples.astype(np.uint16)
