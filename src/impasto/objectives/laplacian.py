"""The Laplacian loss: the picture's edges, at a coarser scale, should be the photo's.

Source: Li, Xu, Nie, Chua, "Laplacian-Steered Neural Style Transfer" (2017), equation 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from impasto.geometry import Region
from impasto.objectives.base import Stats, TileContext


class Laplacian:
    """The mean over positions of (D(pool(x)) - D(pool(photo)))^2, in pixels of 0..255.

    pool is the mean of ``pool`` x ``pool`` pixels, D the sum over channels of 4 times a position
    minus its four neighbors, where all of these exist.

    Args:
        photo: pixels (1, 3, H, W), 0..1.
        pool: px; a divisor of the network's coarsest stride, so that no square belongs to two
            tiles.
    """

    name = "laplacian"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(self, photo: Tensor, pool: int, weight: float) -> None:
        self.weight = weight
        self._pool = pool
        self._target = _laplacian(functional.avg_pool2d(photo * 255, pool))

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        pixels, pool = features["input"], self._pool
        height, width = (side // pool for side in context.size)
        own = context.region(pool)
        inner = Region(
            max(own.top, 1),
            max(own.left, 1),
            min(own.bottom, height - 1),
            min(own.right, width - 1),
        )
        if inner.size.height <= 0 or inner.size.width <= 0:
            return {"laplacian.sum": 0 * pixels.sum(), "laplacian.count": pixels.new_zeros(())}
        needed = Region(
            (inner.top - 1) * pool,
            (inner.left - 1) * pool,
            (inner.bottom + 1) * pool,
            (inner.right + 1) * pool,
        )
        x = pixels[(..., *needed.within(context.tile.outer).slices)]
        found = _laplacian(functional.avg_pool2d(x * 255, pool))
        target = self._target[
            ..., inner.top - 1 : inner.bottom - 1, inner.left - 1 : inner.right - 1
        ]
        return {
            "laplacian.sum": (found - target.to(found)).square().sum(),
            "laplacian.count": pixels.new_tensor(float(found.numel())),
        }

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"input": stats["laplacian.sum"] / stats["laplacian.count"].clamp_min(1)}


def _laplacian(picture: Tensor) -> Tensor:
    """(1, C, h, w) -> (1, 1, h - 2, w - 2)."""
    x = picture.sum(1, keepdim=True)
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return 4 * x[..., 1:-1, 1:-1] - around
