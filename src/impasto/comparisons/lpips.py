"""The LPIPS perceptual distance."""

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
    """LPIPS 0.1: how different two pictures look to a network whose channels were weighted by
    people's judgements.

    Unit-length features at every position, squared differences weighted by channel, mean over
    positions, sum over layers (equation 1). The networks see zeros beyond the border, as they did
    when the weights were found.
    """

    VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")

    def __init__(
        self,
        backbone: weights.HeadedName,
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
        """The five maps of a picture (H, W, 3), each (1, C, h, w), of unit length over the
        channels.
        """
        with torch.no_grad():
            maps = self._encode(picture_tensor(pixels))
            return [found / (found.square().sum(1, keepdim=True).sqrt() + 1e-10) for found in maps]

    def between(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """The distance of two pictures of one size by their ``maps``."""
        total = 0.0
        for one, other, head in zip(ours, theirs, self._heads, strict=True):
            # (C,): the head is linear, so the mean may come first.
            by_channel = (one - other).square().mean((0, 2, 3))
            total += float(by_channel.double() @ head.double())
        return total


def lpips(one: Pixels, other: Pixels, backbone: weights.HeadedName) -> float:
    """LPIPS 0.1 of two pictures (H, W, 3) of one size; ``Lpips`` does the same for many without
    loading anew.
    """
    if one.shape != other.shape:
        raise ValueError(f"the pictures are {one.shape} and {other.shape}")
    judge = Lpips(backbone)
    return judge.between(judge.maps(one), judge.maps(other))


def picture_tensor(pixels: Pixels) -> Tensor:
    """(H, W, 3) -> (1, 3, H, W)."""
    return torch.from_numpy(np.array(pixels.transpose(2, 0, 1), np.float32, order="C"))[None]
