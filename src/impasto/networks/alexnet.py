"""AlexNet's layers and its forward pass; pictures are evaluated with it, never painted.

Source: Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014), the
one-column network, with the widths for which LPIPS was trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Layer:
    """A convolution with zero padding and the ReLU after it.

    ``window``: side of its square kernel. ``pooled``: whether 3x3 max pooling with a stride of 2
    comes before it.
    """

    name: str
    channels_in: int
    channels: int
    window: int
    stride: int
    padding: int
    pooled: bool


LAYERS = (
    Layer("conv1", 3, 64, 11, 4, 2, False),
    Layer("conv2", 64, 192, 5, 1, 2, True),
    Layer("conv3", 192, 384, 3, 1, 1, True),
    Layer("conv4", 384, 256, 3, 1, 1, False),
    Layer("conv5", 256, 256, 3, 1, 1, False),
)


def forward(weights: Mapping[str, Tensor], picture: Tensor) -> list[Tensor]:
    """The maps (1, C, h, w) after each ReLU of a picture (1, 3, H, W), RGB, sRGB-encoded, 0..1.

    ``weights``: "conv1.weight" (O, I, n, n) and "conv1.bias" (O,) to "conv5", and "input.weight"
    (3, 3), "input.bias" (3,).
    """
    x = (
        torch.einsum("oi,bihw->bohw", weights["input.weight"], picture)
        + weights["input.bias"][:, None, None]
    )
    maps: list[Tensor] = []
    for layer in LAYERS:
        x = functional.max_pool2d(x, 3, 2) if layer.pooled else x
        weight, bias = weights[f"{layer.name}.weight"], weights[f"{layer.name}.bias"]
        x = functional.conv2d(x, weight, bias, stride=layer.stride, padding=layer.padding).relu()
        maps.append(x)
    return maps
