"""The activation of one channel, for feature visualization.

Sources: Erhan, Bengio, Courville, Vincent, "Visualizing Higher-Layer Features of a Deep Network"
(2009); Olah, Mordvintsev, Schubert, "Feature Visualization" (2017), the "channel objective".
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from impasto.objectives.base import Stats, TileContext

# Negative values count with this factor: a ReLU would have no gradient there.
_NEGATIVE_SLOPE = 0.1


class Activation:
    """Minus the mean activation of one channel, so that minimizing it maximizes the activation.

    It reads the convolution before its ReLU. A channel that is inactive everywhere has a gradient
    there, and none after the ReLU.

    Args:
        layer: name of the convolution.
        stride: picture pixels between positions of its map.
        channel: index from 0.
    """

    name = "activation"
    additive = True
    weight = 1.0

    def __init__(self, layer: str, stride: int, channel: int) -> None:
        self.layers: Mapping[str, int] = {layer: stride}
        self._layer, self._channel = layer, channel

    def measure(self, features: Mapping[str, Tensor], context: TileContext) -> Stats:
        # (1, h, w).
        own = context.own(features[self._layer], self.layers[self._layer])[:, self._channel]
        wide = own if own.dtype == torch.float64 else own.float()
        return {
            "sum": functional.leaky_relu(wide, _NEGATIVE_SLOPE).sum(),
            "count": wide.new_tensor(float(wide.numel())),
        }

    def score(self, stats: Stats) -> dict[str, Tensor]:
        return {self._layer: -stats["sum"] / stats["count"]}
