"""The bounds loss, which keeps pixels in 0..1 without clamping them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional

from impasto.objectives.base import Stats, TileContext


class Bounds:
    """The mean of max(0, -x) + max(0, x - 1) over pixels and channels."""

    name = "bounds"
    layers: Mapping[str, int] = {"input": 1}
    additive = True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        own = context.own(features["input"], 1)
        outside = functional.relu(-own).sum() + functional.relu(own - 1).sum()
        return {"outside": outside, "count": outside.new_tensor(float(own.numel()))}

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {"input": stats["outside"] / stats["count"]}
