"""Find the faces in a photo.

Source: Viola, Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features" (2001),
with the local binary patterns of Liao, Zhu, Lei, Zhang, Li, "Learning Multi-scale Block Local
Binary Patterns for Face Recognition" (2007). The trained cascade is a file of scikit-image.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impasto import images
from impasto.geometry import Region, Size
from impasto.images.pixels import Pixels

# Chosen on eleven photos: with fewer agreeing finds, leaves and windows become faces.
_SEARCH_SIDE = 768  # px, the long side at which faces are searched
_LEAST_SIDE = 28  # px, of a face at that size
_GROWTH = 1.1  # from one size of the search window to the next
_AGREEING = 10  # overlapping finds that make a face
# Shares of the long side: faces up to the first are protected in full, from the second on not at
# all. A large face has the pixels to stay a face, and the paint to show.
_SMALL, _LARGE = 0.2, 0.5


def find_faces(pixels: Pixels) -> list[Region]:
    """The boxes from brow to chin of the upright frontal faces in (H, W, 3), the largest first."""
    size = Size(*pixels.shape[:2])
    scale = min(1.0, _SEARCH_SIDE / size.long_side)
    searched = _reduced(pixels, size, scale)
    found = _cascade().detect_multi_scale(
        img=searched,
        scale_factor=_GROWTH,
        step_ratio=1,
        min_size=(_LEAST_SIDE, _LEAST_SIDE),
        max_size=searched.shape[:2],
        min_neighbor_number=_AGREEING,
    )
    faces: list[Region] = []
    # Of two that overlap the smaller one is kept: the other often holds two people.
    for box in sorted((_box(each, scale, size) for each in found), key=lambda box: box.size.pixels):
        if not any(_overlap(box, face) for face in faces):
            faces.insert(0, box)
    return faces


def protected_faces(photo: Pixels) -> NDArray[np.float32] | None:
    """The mask of the faces in a photo (H, W), 0..1: how firmly each keeps its shape; None if none.

    It is 1 for a face up to a fifth of the long side and falls to 0 for one of half of it.
    """
    size = Size(*photo.shape[:2])
    shares = {face: face.size.height / size.long_side for face in find_faces(photo)}
    faces = {face: (_LARGE - share) / (_LARGE - _SMALL) for face, share in shares.items()}
    mask = face_mask({face: min(1.0, firm) for face, firm in faces.items() if firm > 0}, size)
    return mask if mask.any() else None


def face_mask(faces: Mapping[Region, float], size: Size) -> NDArray[np.float32]:
    """(H, W): the value of each face within it, 0 away from them, with a soft edge.

    A face is an ellipse around its box, from the hairline to the chin.
    """
    rows, columns = np.mgrid[: size.height, : size.width].astype(np.float32)
    mask = np.zeros(size, np.float32)
    for face, value in faces.items():
        height, width = face.size
        middle = (face.top + face.bottom) / 2 + 0.05 * height, (face.left + face.right) / 2
        down, across = (rows - middle[0]) / (0.75 * height), (columns - middle[1]) / (0.6 * width)
        distance = np.sqrt(down**2 + across**2)  # 1 on the ellipse
        mask = np.maximum(mask, value * np.clip((1.25 - distance) / 0.5, 0, 1))
    return mask


def _overlap(one: Region, other: Region) -> bool:
    rows = min(one.bottom, other.bottom) - max(one.top, other.top)
    columns = min(one.right, other.right) - max(one.left, other.left)
    return rows > 0 and columns > 0


def _reduced(pixels: Pixels, size: Size, scale: float) -> NDArray[np.uint8]:
    if scale < 1:
        pixels = images.resize(pixels, size.with_long_side(_SEARCH_SIDE))
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)


def _box(found: dict[str, int], scale: float, size: Size) -> Region:
    ends = (found["r"], found["c"], found["r"] + found["height"], found["c"] + found["width"])
    top, left, bottom, right = (round(end / scale) for end in ends)
    return Region(top, left, min(bottom, size.height), min(right, size.width))


@cache
def _cascade() -> Any:
    from skimage import data
    from skimage.feature import Cascade

    return Cascade(data.lbp_frontal_face_cascade_filename())
