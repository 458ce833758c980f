"""The Picture record, and what can be done to pixels without knowing where they came from.

Pixels are float32, (H, W, 3), sRGB-encoded, 0..1, rows from the top; alpha is float32, (H, W),
0..1.
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
    """A picture as it was read: upright, sRGB, and with what is worth keeping of the file around
    it.

    There is no ICC profile in here, because ``pixels`` are sRGB whatever the file was; ``profile``
    names what it was.
    """

    pixels: Pixels
    """(H, W, 3) float32, C-contiguous, sRGB-encoded, 0..1. Where alpha is 0 the color is that of
    the nearest visible pixel.
    """
    alpha: Pixels | None
    """(H, W) float32, 0..1, not premultiplied into ``pixels``; None when every pixel is opaque."""
    exif: bytes
    """Camera, lens, exposure, dates, author: an EXIF block that starts with ``Exif\\0\\0``,
    orientation 1, without place, thumbnail and maker notes; empty when there is none.
    """
    profile: str
    """The name of the color profile that the pixels were converted from; empty when they were
    sRGB.
    """
    source: str
    """The path as it was given, or "array", "tensor" or "image"."""
    sha256: str
    """Of the file's bytes; without a file, of ``pixels`` and ``alpha`` as little-endian float32."""
    notes: tuple[str, ...] = ()
    """What a person may want to know about the reading; each follows the picture's name and a
    colon.
    """
    full_size: Size = _SAME
    """Height and width of the whole picture in the file, upright: ``size``, unless it was read
    reduced.
    """

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
    """A (1, 3, H, W) or (3, H, W) tensor of any device and float type as new float32 (H, W, 3);
    same values.

    Raises ValueError for another shape.
    """
    planes = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    if planes.ndim != 3 or len(planes) != 3:
        raise ValueError(f"expected a (1, 3, H, W) tensor, not {tuple(tensor.shape)}")
    return np.array(planes.detach().float().cpu().numpy().transpose(1, 2, 0), np.float32, order="C")


def reduced(tensor: torch.Tensor, side: int) -> Pixels:
    """A (1, 3, H, W) tensor as pixels to look at: float32 (h, w, 3), cut to 0..1, no side longer
    than ``side``.

    It never holds a second picture of the whole size, which at 24 megapixels is 290 MB.
    """
    from torch.nn import functional

    size = Size(*tensor.shape[-2:])
    if size.long_side > side:
        tensor = functional.interpolate(tensor, size=tuple(size.with_long_side(side)), mode="area")
    return np.clip(from_tensor(tensor), 0, 1)


def fill_transparent(pixels: Pixels, alpha: Pixels) -> Pixels:
    """``pixels`` (H, W, 3), where ``alpha`` (H, W) is 0 replaced by the color of the nearest
    visible pixel.

    What lies under transparent pixels is arbitrary (often black, sometimes what was cut away), but
    a network sees it: it would enter the style statistics, and its edge would be painted as a
    contour. The nearest visible color is at least a color of the picture, and makes no edge. Some
    pixel must be visible.
    """
    hidden = alpha <= 0
    if not hidden.any():
        return pixels
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped,unused-ignore]

    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    filled = np.array(pixels, np.float32, order="C")
    filled[hidden] = pixels[rows[hidden], columns[hidden]]
    return filled
