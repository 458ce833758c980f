"""The LPIPS perceptual distance (Zhang et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from impasto.assets.catalogue import Progress
from impasto.images.pixels import Pixels
from impasto.networks import alexnet, vgg, weights
from impasto.networks.convolution import KERNELS, Kernel
from impasto.networks.features import Network


class Lpips:
    """LPIPS 0.1: a distance of feature maps with channel weights trained on human judgments.

    At every position the features are normalized to unit length. Squared differences are weighted
    by channel, averaged over positions and summed over layers (equation 1). Convolutions have zero
    padding, as in training.
    """

    VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

    def __init__(
        self,
        backbone: weights.LpipsName,
        *,
        kernel: Kernel = KERNELS["conv2d"],
        progress: Progress | None = None,
    ) -> None:
        self._heads = weights.load_heads(backbone, progress=progress)
        self._encode: Callable[[Tensor], Sequence[Tensor]]
        if backbone == "alexnet":
            tensors = weights.load_alexnet(progress=progress)
            self._encode = lambda picture: alexnet.forward(tensors, picture)
        else:
            tensors = weights.load(backbone, progress=progress)
            network = Network(
                tensors, vgg.CONFIGURATION_OF[backbone], self.VGG_LAYERS, kernel=kernel
            )
            in_order = itemgetter(*self.VGG_LAYERS)
            self._encode = lambda picture: in_order(network(picture))

    def maps(self, pixels: Pixels) -> list[Tensor]:
        """The five maps of a picture (H, W, 3), each (1, C, h, w), normalized over channels."""
        with torch.no_grad():
            maps = self._encode(picture_tensor(pixels))
            return [each / (each.square().sum(1, keepdim=True).sqrt() + 1e-10) for each in maps]

    def distance(self, maps: Sequence[Tensor], others: Sequence[Tensor]) -> float:
        """The distance of two pictures of the same size, from the ``maps`` of each."""
        total = 0.0
        for features, other, head in zip(maps, others, self._heads, strict=True):
            # (C,): the head is linear, so the mean can come first.
            by_channel = (features - other).square().mean((0, 2, 3))
            total += float(by_channel.double() @ head.double())
        return total


def lpips(one: Pixels, other: Pixels, backbone: weights.LpipsName) -> float:
    """LPIPS 0.1 of two pictures (H, W, 3) of the same size.

    For several pictures use ``Lpips``, which loads the network once.
    """
    if one.shape != other.shape:
        raise ValueError(f"the pictures are {one.shape} and {other.shape}")
    network = Lpips(backbone)
    return network.distance(network.maps(one), network.maps(other))


def picture_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), np.float32, order="C"))[None]
