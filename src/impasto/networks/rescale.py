"""Rescaling of a network's activations, which only the recipes of published systems use.

Published systems were tuned for networks with other activations than the fetched ones.

"caffe" is the VGG-19 of Simonyan and Zisserman. The fetched VGG-19 is that network with each filter
divided by its mean activation (Gatys et al. 2016). The divisors follow from both networks' biases
and are stored in a file, made by ``docs/caffe_factors.py``.

"torchvision" is a VGG-19 that was trained separately; its weights cannot be fetched, so it is
estimated. Weight decay balances layers: the incoming and outgoing weights of a filter have the same
Euclidean norm. With given mean activations of some layers, exactly one network is balanced.

Source, for gradient descent: Du, Hu, Lee, "Algorithmic Regularization in Learning Deep Homogeneous
Models: Layers are Automatically Balanced" (2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from impasto.errors import BadRecipe
from impasto.networks import vgg
from impasto.recipe.choices import Scale

# A pixel range of 0..255 in units of the standard deviations that torchvision's networks divide by
# (0.226 of 1 on average).
CAFFE = 57.6

# float32, the factors of the filters of VGG-19 in the order of its layers
CAFFE_FACTORS = Path(__file__).with_name("vgg19_caffe_factors.npy")

# Mean activations of an ImageNet VGG-16 after the ReLU, which stand for those of torchvision's
# VGG-19.
MEAN_ACTIVATIONS = {
    "conv1_1": 0.335,
    "conv2_1": 0.866,
    "conv3_1": 1.55,
    "conv4_1": 1.451,
    "conv5_1": 0.912,
}
_ITERATIONS, _TOLERANCE = 1000, 1e-6  # the tolerance is that of a factor's logarithm


def rescaled(weights: Mapping[str, Tensor], name: str, scale: Scale) -> dict[str, Tensor]:
    """The weights of the fetched ``vgg19`` or ``vgg16`` with activations of another scale.

    Every feature map is multiplied by a positive factor for each channel. "caffe": as published,
    for pixels in 0..255; for VGG-16, whose factors are not known, one factor for all.
    "torchvision": for pixels divided by their standard deviation, like the fetched VGG-16. The
    weights are named as by ``weights.load``.

    Raises:
        BadRecipe: a filter has only zero weights, so that no factor exists.
    """
    if scale == "fetched" or (name == "vgg16" and scale == "torchvision"):
        return dict(weights)
    if name == "vgg16":
        unscaled = {key for key in weights if key.startswith("conv") and key.endswith("weight")}
        return {
            key: tensor if key in unscaled else CAFFE * tensor for key, tensor in weights.items()
        }
    names = [layer.name for layer in vgg.layers(vgg.CONFIGURATION_OF[name]) if layer.kind == "conv"]
    result = dict(weights)
    previous = torch.ones(3, dtype=torch.float64)
    filters = [weights[f"{layer}.weight"] for layer in names]
    factors = caffe_factors(filters) if scale == "caffe" else balanced_factors(filters, names)
    for layer, factor in zip(names, factors, strict=True):
        weight = weights[f"{layer}.weight"].double() * factor[:, None, None, None]
        result[f"{layer}.weight"] = (weight / previous[:, None, None]).float()
        result[f"{layer}.bias"] = (weights[f"{layer}.bias"].double() * factor).float()
        previous = factor
    return result


def caffe_factors(weights: list[Tensor]) -> list[Tensor]:
    """The factor (O,) of every filter of VGG-19, float64; ``weights`` are (O, I, h, w)."""
    stored = torch.from_numpy(np.load(CAFFE_FACTORS)).double()
    return list(stored.split([len(weight) for weight in weights]))


def balanced_factors(weights: list[Tensor], names: list[str]) -> list[Tensor]:
    """The factor (O,) of every filter, float64, for consecutive convolutions.

    ``weights`` are (O, I, h, w). The fetched maps have a mean of 1, so a layer's mean activation is
    the mean of its factors. The last layer has no outgoing weights here: its filters get weights of
    equal norm, and their total norm is that of the deepest layer with a known mean.
    """
    means = MEAN_ACTIVATIONS
    squares = [weight.double().square().sum((2, 3)) for weight in weights]
    if any((square.sum(1) == 0).any() for square in squares):
        raise BadRecipe(
            "This network has filters without weights, so its activations cannot be rescaled.",
            "Leave out --network-scale.",
        )
    logarithms = [torch.zeros(len(square), dtype=torch.float64) for square in squares]
    deepest = max(index for index, name in enumerate(names) if name in means)

    def incoming(index: int) -> Tensor:
        before = (-2 * logarithms[index - 1]).exp() if index else torch.ones(3, dtype=torch.float64)
        return (2 * logarithms[index]).exp() * (squares[index] @ before)

    def outgoing(index: int) -> Tensor:
        after = (2 * logarithms[index + 1]).exp()
        return (-2 * logarithms[index]).exp() * (squares[index + 1].T @ after)

    def update(index: int, name: str) -> float:
        """Balance one layer; returns the largest change."""
        old = logarithms[index]
        if index + 1 < len(names):
            new = old + (outgoing(index) / incoming(index)).log() / 4
        else:
            new = old + (incoming(deepest).sum() / len(old) / incoming(index)).log() / 2
        if name in means:
            new = new - (new.exp().mean() / means[name]).log()
        logarithms[index] = new
        return float((new - old).abs().max())

    for _ in range(_ITERATIONS):
        changes = [update(index, name) for index, name in enumerate(names)]
        if max(changes) < _TOLERANCE:
            break
    return [logarithm.exp() for logarithm in logarithms]
