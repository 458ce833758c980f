"""The parts of a photo that keep their shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from impasto.images.pixels import Pixels
from impasto.regions.faces import protected_faces


def protected_parts(
    regions: str, photo: Pixels, mask: Pixels | None, opacity: Pixels | None
) -> NDArray[np.float32] | None:
    """How firmly each pixel of a photo keeps its shape, (H, W), 0..1; None if nothing does.

    Args:
        regions: "none", "faces", or anything else for the mask.
        mask: (h, w, 3), white where the photo is protected.
        opacity: (h, w), of the mask: what is transparent is not protected.
    """
    if regions == "none":
        return None
    if regions == "faces":
        return protected_faces(photo)
    assert mask is not None
    found = mask.mean(2, dtype=np.float32).clip(0, 1)
    if opacity is not None:
        found = found * opacity.astype(np.float32)
    return found if found.any() else None
