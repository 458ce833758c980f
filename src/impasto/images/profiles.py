"""Colour: samples of any colour space, with or without an ICC profile, to sRGB.

It knows ICC profiles (through lcms2, at 16 bits, since eight would show as bands after a wide gamut is
squeezed). It refuses to know files and formats.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import ImageCms

from impasto.images.pixels import Pixels

Space = Literal["gray", "rgb", "cmyk", "lab"]
Samples = npt.NDArray[Any]
"""(H, W, C) uint8, uint16, or float32 in 0..1; C is 1 for gray, 3 for rgb and lab, 4 for cmyk."""

_SPACES: dict[str, Space] = {"GRAY": "gray", "RGB": "rgb", "CMYK": "cmyk", "Lab": "lab"}
_RELATIVE_COLORIMETRIC = 1
_BLACK_POINT_COMPENSATION = 0x2000
_NO_OPTIMIZATION = 0x0100


@cache
def srgb_profile() -> bytes:
    """The sRGB profile that every saved picture carries; always the same bytes."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # lcms2 stamps the time of day into bytes 24..36 of the header; the same picture must give the same file.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


def unit(samples: Samples) -> Pixels:
    """uint8 or uint16 samples as float32 in 0..1; float samples as float32."""
    if samples.dtype.kind == "u":
        return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return samples.astype(np.float32)


def to_srgb(samples: Samples, space: Space, icc: bytes) -> tuple[Pixels, str, list[str]]:
    """Samples as sRGB pixels (H, W, 3), the name of the profile they were in ("" if sRGB), and notes.

    ``icc`` may be empty. A profile that is damaged, or made for another colour space, is ignored with a
    note. One that amounts to sRGB changes nothing, to the last bit.
    """
    notes: list[str] = []
    name = ""
    if icc:
        try:
            name, found = _identify(icc)
            if space == "gray" and found == "rgb":  # common: a grey picture tagged with its camera's profile
                samples, space = np.repeat(samples, 3, axis=2), "rgb"
            if found != space:
                notes.append(f"its colour profile ({name}) is not for {_label(space)} and was ignored")
            elif not _is_srgb(icc, space):
                notes.append(f"{_label(space)}, converted from {name} to sRGB")
                return _transform(samples, space, icc), name, notes
        except (
            RuntimeError,
            ValueError,
            OSError,
            ImageCms.PyCMSError,
        ):  # lcms2 reports damage as RuntimeError
            notes = ["its colour profile is damaged and was ignored"]
    if space == "cmyk":
        ink = unit(samples)
        notes.append("CMYK without a usable colour profile, so its colours are approximate")
        return (1 - ink[..., :3]) * (1 - ink[..., 3:]), "", notes
    if space == "lab":
        notes.append("Lab, converted to sRGB")
        return _transform(samples, space, _lab_profile()), "Lab", notes
    pixels = unit(samples)
    return (np.repeat(pixels, 3, axis=2) if space == "gray" else pixels), "", notes


def _transform(samples: Samples, space: Space, icc: bytes) -> Pixels:
    if samples.dtype.kind == "f":  # lcms2 takes floats too, but leaves the gamut with them and is six times slower
        samples = np.rint(samples * 65535).astype(np.uint16)
    # Left to itself, lcms2 goes through a coarse table for anything but 8-bit RGB: measured on Adobe RGB,
    # errors of up to 0.06 near the border of the gamut, against 0.0007 without (and 2.2 s for 12
    # megapixels).
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
    return unit(converted)


def _identify(icc: bytes) -> tuple[str, Space | None]:
    profile = ImageCms.ImageCmsProfile(BytesIO(icc)).profile
    description = (profile.profile_description or "an unnamed profile").strip()
    return description, _SPACES.get(profile.xcolor_space.strip())


def _is_srgb(icc: bytes, space: Space) -> bool:
    """Whether the profile moves no colour of a 9 x 9 x 9 lattice by more than one 8-bit step."""
    if space not in ("gray", "rgb"):
        return False
    ramp = np.linspace(0, 255, 9 if space == "rgb" else 256).round().astype(np.uint8)
    axes = np.meshgrid(*[ramp] * (3 if space == "rgb" else 1), indexing="ij")
    lattice = np.stack(axes, axis=-1).reshape(1, -1, len(axes))  # (1, N, 1 or 3)
    return bool(np.abs(_transform(lattice, space, icc) - unit(lattice)).max() <= 1.01 / 255)


@cache
def _lab_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _label(space: Space) -> str:
    return {"gray": "grey", "rgb": "RGB", "cmyk": "CMYK", "lab": "Lab"}[space]
