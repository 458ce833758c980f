"""The Picture record, and functions on pixels.

Pixels are (H, W, 3) float32, sRGB-encoded, 0..1, rows from the top; alpha is (H, W) float32, 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from impasto.geometry import Size

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[np.float32]
"""(H, W, 3) sRGB-encoded pixels, or (H, W) alpha; 0..1."""

_SAME = Size(0, 0)


@dataclass(frozen=True, eq=False)  # arrays have no single truth value, so equality is identity
class Picture:
    """A picture as it was read: upright, in sRGB, with metadata worth keeping.

    ``pixels`` are sRGB whatever the file was, so there is no ICC profile; ``profile`` names the one
    that they were converted from.
    """

    pixels: Pixels
    """(H, W, 3) float32, C-contiguous, sRGB-encoded, 0..1. Transparent pixels have the color of the
    nearest visible pixel.
    """
    alpha: Pixels | None
    """(H, W) float32, 0..1, not premultiplied into ``pixels``; None when every pixel is opaque."""
    exif: bytes
    """Camera, lens, exposure, dates, author: an EXIF block that starts with ``Exif\\0\\0`` and has
    orientation 1, without location, thumbnail and maker notes. Empty if there is none.
    """
    profile: str
    """The color profile that the pixels were converted from; empty if they were sRGB."""
    source: str
    """The path as it was given, or "array", "tensor" or "image"."""
    sha256: str
    """The hash of the file; without a file, of ``pixels`` and ``alpha`` as little-endian float32.
    """
    notes: tuple[str, ...] = ()
    """Facts about the reading for the user. Each continues a sentence after the picture's name and
    a colon.
    """
    full_size: Size = _SAME
    """Height and width in the file, upright. It equals ``size`` unless the picture was reduced."""

    def __post_init__(self) -> None:
        if self.full_size == _SAME:
            object.__setattr__(self, "full_size", self.size)

    @property
    def size(self) -> Size:
        """Height and width in pixels, after rotation."""
        return Size(*self.pixels.shape[:2])


def resize(pixels: Pixels, size: Size) -> Pixels:
    """``pixels`` (H, W, 3) or (H, W), 0..1, at another size: float32, 0..1.

    Lanczos, antialiased when shrinking, clipped where it overshoots. The same size gives back
    ``pixels`` itself. Raises ValueError for another shape or an empty size.
    """
    if pixels.ndim not in (2, 3) or size.short_side < 1:
        raise ValueError(f"cannot resize an array of shape {pixels.shape} to {size}")
    if tuple(pixels.shape[:2]) == tuple(size):
        return pixels
    planes = pixels[..., None] if pixels.ndim == 2 else pixels  # (H, W, C)
    resized = np.empty((*size, planes.shape[2]), np.float32)
    for channel in range(planes.shape[2]):
        # Pillow resamples single-channel float images only: one plane at a time keeps full
        # precision.
        plane = Image.fromarray(np.ascontiguousarray(planes[..., channel], np.float32))
        resized[..., channel] = np.asarray(
            plane.resize((size.width, size.height), Image.Resampling.LANCZOS)
        )
    np.clip(resized, 0, 1, out=resized)  # Lanczos overshoots at edges
    return resized[..., 0] if pixels.ndim == 2 else resized


def median(pixels: Pixels, side: int) -> Pixels:
    """``pixels`` (H, W, 3) with each channel's median over a square of ``side`` px about each
    pixel; the edge goes on.
    """
    from scipy.ndimage import median_filter  # type: ignore[import-untyped,unused-ignore]

    return np.stack(
        [median_filter(pixels[..., channel], side, mode="nearest") for channel in range(3)], axis=-1
    )


def to_tensor(pixels: Pixels) -> torch.Tensor:
    """(H, W, 3) pixels as a new float32 tensor (1, 3, H, W), (H, W) alpha as (1, 1, H, W); same
    values.
    """
    import torch

    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.array(planes.transpose(2, 0, 1), np.float32, order="C"))[None]


def from_tensor(tensor: torch.Tensor) -> Pixels:
    """A tensor (1, 3, H, W) or (3, H, W) as new (H, W, 3) float32 with the same values.

    Raises ValueError for another shape.
    """
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or len(planes) != 3:
        raise ValueError(f"expected a (1, 3, H, W) tensor, not {tuple(tensor.shape)}")
    return np.array(planes.detach().float().cpu().numpy().transpose(1, 2, 0), np.float32, order="C")


def reduced(tensor: torch.Tensor, side: int) -> Pixels:
    """A tensor (1, 3, H, W) as pixels for display: (h, w, 3) float32, clipped to 0..1.

    No side is longer than ``side``. There is never a second copy of the full size, which at 24
    megapixels has 290 MB.
    """
    from torch.nn import functional

    size = Size(*tensor.shape[-2:])
    if size.long_side > side:
        tensor = functional.interpolate(tensor, size=tuple(size.with_long_side(side)), mode="area")
    return np.clip(from_tensor(tensor), 0, 1)


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """``pixels`` (H, W, 3) with transparent pixels replaced by the nearest visible color.

    The color under transparent pixels is arbitrary, often black. A network would see it: it would
    change the style statistics, and its edge would be painted as a contour. The nearest visible
    color is a color of the picture, and makes no edge. ``alpha`` is (H, W), and some pixel must be
    visible.
    """
    hidden = alpha <= 0
    if not hidden.any():
        return pixels
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped,unused-ignore]

    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    filled = np.array(pixels, np.float32, order="C")
    filled[hidden] = pixels[rows[hidden], columns[hidden]]
    return filled
