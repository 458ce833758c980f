"""Measure the size of the patches of one picture that another picture contains."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from impasto import images

_SIDES = (4, 8, 16, 32, 64)
_UNEXPLAINED = 0.7
_BATCH = 256  # patches: their distances to all others take 50 MB at 256 px


def patch_size(pixels: images.Pixels, painting: images.Pixels) -> float:
    """The side, in pixels, of the largest patches of a painting that a picture reproduces.

    Both are (h, w, 3). Each patch of the picture is compared with the most similar patch of the
    painting, after subtracting the mean of each. The larger the patches, the more variance remains
    unexplained. The result is the side at which 70% remains, interpolated between powers of two on
    a logarithmic scale.
    """
    picture, reference = (images.to_tensor(each) for each in (pixels, painting))
    largest = min(*picture.shape[-2:], *reference.shape[-2:])
    previous: tuple[float, float] | None = None
    for side in (side for side in _SIDES if side <= largest):
        unexplained = _unexplained_variance(picture, reference, side)
        if unexplained >= _UNEXPLAINED:
            if previous is None:
                return side * _UNEXPLAINED / unexplained
            share = (_UNEXPLAINED - previous[1]) / (unexplained - previous[1])
            return float(previous[0] * (side / previous[0]) ** share)
        previous = (side, unexplained)
    return float(previous[0]) if previous else float(largest)


def _unexplained_variance(picture: Tensor, reference: Tensor, side: int) -> float:
    """The share of the variance of the picture's patches that their best matches do not explain."""
    patches = _centered_patches(picture, side, max(1, side // 2))
    candidates = _centered_patches(reference, side, max(1, side // 4))
    residual = sum(
        float(torch.cdist(batch, candidates).min(1).values.square().sum())
        for batch in patches.split(_BATCH)
    )
    return residual / max(float(patches.square().sum()), 1e-12)


def _centered_patches(picture: Tensor, side: int, stride: int) -> Tensor:
    """(patches, 3 side^2), each minus its mean."""
    patches = functional.unfold(picture, side, stride=stride)[0].T
    return patches - patches.mean(1, keepdim=True)
