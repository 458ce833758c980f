"""Convert samples of any color space to sRGB.

ICC profiles are applied by lcms2, at 16 bits: 8 bits would show as bands after a wide gamut is
compressed.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ImageCms

from impasto.images.colorimetry import Colorimetry
from impasto.images.pixels import Pixels

Space = Literal["gray", "rgb", "cmyk", "lab"]
Samples = npt.NDArray[Any]
"""(H, W, C) uint8, uint16, or float32 in 0..1; C is 1 for gray, 3 for rgb and lab, 4 for cmyk."""

_SPACES: dict[str, Space] = {"GRAY": "gray", "RGB": "rgb", "CMYK": "cmyk", "Lab": "lab"}
_CHANNELS: dict[Space, int] = {"gray": 1, "rgb": 3, "cmyk": 4, "lab": 3}
_RELATIVE_COLORIMETRIC = 1
_BLACK_POINT_COMPENSATION = 0x2000
_NO_OPTIMIZATION = 0x0100


@cache
def srgb_profile() -> bytes:
    """The sRGB profile that every saved picture contains; always the same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # lcms2 writes the time into bytes 24..36; they are replaced, so that files are reproducible.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


def to_unit_range(samples: Samples) -> Pixels:
    """uint8 or uint16 samples as float32 in 0..1; float samples as float32, clipped."""
    if samples.dtype.kind == "u":
        return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return np.clip(samples, 0, 1).astype(np.float32)


class Conversion:
    """The conversion of one picture's samples to sRGB, part by part, with notes about it.

    ``icc`` may be empty. ``numbers`` is used if there is no ICC profile, and may be None. A profile
    that is damaged or for another color space is ignored with a note. A profile that equals sRGB
    changes nothing, to the last bit.
    """

    profile: str
    """The name of the colors that the pixels are converted from; "" if they were sRGB."""
    notes: list[str]

    def __init__(self, space: Space, icc: bytes, numbers: Colorimetry | None = None) -> None:
        self.profile, self.notes = "", []
        self._tables: dict[np.dtype[Any], Pixels] = {}
        self._space, self._icc, self._numbers = space, b"", None
        if icc and self._use_profile(icc):
            return
        if space == "cmyk":
            self.notes.append("CMYK without a usable color profile, so its colors are approximate")
        elif space == "lab":
            self.profile, self._icc = "Lab", _lab_profile()
            self.notes.append("Lab, converted to sRGB")
        elif numbers is not None:
            self.profile, self._numbers = numbers.name, numbers
            self.notes.append(f"{_label(space)}, converted from {numbers.name} to sRGB")

    def _use_profile(self, icc: bytes) -> bool:
        """Use the profile, if possible; return whether it is."""
        try:
            name, profile_space = _identify(icc)
            # Gray pictures often have their camera's RGB profile.
            space: Space = "rgb" if (self._space, profile_space) == ("gray", "rgb") else self._space
            if profile_space != space:
                self.notes.append(
                    f"its color profile ({name}) is not for {_label(space)} and was ignored"
                )
                return False
            _transform(np.zeros((1, 1, _CHANNELS[space]), np.uint8), space, icc)
            if _is_srgb(icc, space):
                return True
        # lcms2 reports damage as RuntimeError.
        except (RuntimeError, ValueError, OSError, ImageCms.PyCMSError):
            self.notes.append("its color profile is damaged and was ignored")
            return False
        self._space, self._icc, self.profile = space, icc, name
        self.notes.append(f"{_label(space)}, converted from {name} to sRGB")
        return True

    def __call__(self, samples: Samples) -> Pixels:
        """Samples (H, W, C) of any part of the picture as sRGB pixels (H, W, 3)."""
        if self._icc:
            if samples.shape[2] == 1 and self._space == "rgb":
                samples = np.repeat(samples, 3, axis=2)
            return _transform(samples, self._space, self._icc)
        if self._space == "cmyk":
            ink = to_unit_range(samples)
            return (1 - ink[..., :3]) * (1 - ink[..., 3:])
        pixels = (
            to_unit_range(samples)
            if self._numbers is None
            else self._convert_by_numbers(self._numbers, samples)
        )
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels

    def _convert_by_numbers(self, numbers: Colorimetry, samples: Samples) -> Pixels:
        if samples.dtype.kind == "f":
            return numbers.to_srgb(to_unit_range(samples))
        # The curves are evaluated once for each possible value, not for each sample.
        if samples.dtype not in self._tables:
            all_values = np.linspace(0, 1, np.iinfo(samples.dtype).max + 1, dtype=np.float32)
            self._tables[samples.dtype] = numbers.linear(
                np.repeat(all_values[:, None], samples.shape[2], axis=1)
            )
        table = self._tables[samples.dtype]
        planes = [table[samples[..., channel], channel] for channel in range(samples.shape[2])]
        return numbers.from_linear(np.stack(planes, axis=-1))


def _transform(samples: Samples, space: Space, icc: bytes) -> Pixels:
    # lcms2 accepts floats, but then it exceeds the gamut and is six times slower.
    if samples.dtype.kind == "f":
        samples = np.rint(to_unit_range(samples) * 65535).astype(np.uint16)
    # By default lcms2 uses a coarse table for anything but 8-bit RGB. Measured on Adobe RGB: errors
    # of up to 0.06 near the border of the gamut, but 0.0007 without it (2.2 s for 12 megapixels).
    exact = samples.dtype == np.uint8 and space == "rgb"
    import imagecodecs

    converted = imagecodecs.cms_transform(
        np.ascontiguousarray(samples[..., 0] if space == "gray" else samples),
        icc,
        srgb_profile(),
        colorspace=space,
        outcolorspace="rgb",
        outdtype="uint16",
        intent=_RELATIVE_COLORIMETRIC,
        flags=_BLACK_POINT_COMPENSATION | (0 if exact else _NO_OPTIMIZATION),
    )
    return to_unit_range(converted)


def _identify(icc: bytes) -> tuple[str, Space | None]:
    profile = ImageCms.ImageCmsProfile(BytesIO(icc)).profile
    description = (profile.profile_description or "an unnamed profile").strip()
    return description, _SPACES.get(profile.xcolor_space.strip())


def _is_srgb(icc: bytes, space: Space) -> bool:
    """Whether the profile changes no color of a 9 x 9 x 9 lattice by more than one 8-bit step."""
    if space not in ("gray", "rgb"):
        return False
    ramp = np.linspace(0, 255, 9 if space == "rgb" else 256).round().astype(np.uint8)
    axes = np.meshgrid(*[ramp] * (3 if space == "rgb" else 1), indexing="ij")
    lattice = np.stack(axes, axis=-1).reshape(1, -1, len(axes))  # (1, N, 1 or 3)
    return bool(
        np.abs(_transform(lattice, space, icc) - to_unit_range(lattice)).max() <= 1.01 / 255
    )


@cache
def _lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _label(space: Space) -> str:
    return {"gray": "gray", "rgb": "RGB", "cmyk": "CMYK", "lab": "Lab"}[space]
