"""Activation: how strongly one channel of a layer answers, on average over the picture.

Sources: Erhan, Bengio, Courville, Vincent, "Visualizing Higher-Layer Features of a Deep Network"
(2009); Olah, Mordvintsev, Schubert, "Feature Visualization" (2017), whose "channel objective" this
is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from impasto.objectives.base import Stats, TileContext

# What lies below zero counts for this part: a ReLU hides it and with it the way up, but it is no
# answer either.
_BELOW = 0.1


class Activation:
    """Minus the mean of one channel over the positions of its map, so that a search for less makes
    it answer more.

    The map is that of the convolution, before its ReLU: a channel that is silent everywhere, as at
    the start it may be, has a gradient there and none after it. Sums and counts add up, so tiles
    are exact.

    Args:
        layer: the convolution's name. stride: picture pixels between positions of its map. channel:
            from 0.
    """

    name = "activation"
    additive = True
    weight = 1.0

    def __init__(self, layer: str, stride: int, channel: int) -> None:
        self.layers: Mapping[str, int] = {layer: stride}
        self._layer, self._channel = layer, channel

    def measure(self, features: Mapping[str, Tensor], where: TileContext) -> Stats:
        # (1, h, w).
        own = where.own(features[self._layer], self.layers[self._layer])[:, self._channel]
        wide = own if own.dtype == torch.float64 else own.float()
        return {
            "sum": functional.leaky_relu(wide, _BELOW).sum(),
            "count": wide.new_tensor(float(wide.numel())),
        }

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {self._layer: -stats["sum"] / stats["count"]}
