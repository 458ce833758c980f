"""The fetched networks with maps as large as those of the networks that published systems were made
for.

It knows weights. It refuses to know files and pictures.

The fetched VGG-19 is the published one with each filter divided by the mean of its map (Gatys et
al. 2016). The divisors were not published with it, but training leaves their mark: weight decay
makes what goes into a filter as large as what comes out of it, in the Euclidean norm (for gradient
descent: Du, Hu, Lee, "Algorithmic Regularization in Learning Deep Homogeneous Models: Layers are
Automatically Balanced", 2018). Among all the networks that differ from the fetched one by a factor
for each filter, one is balanced so, given how large the maps of some layers are in the mean; and
that has been printed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from impasto.errors import BadRecipe
from impasto.networks import vgg
from impasto.recipe.choices import Scale

# What a pixel of 0..255 is, in the deviations (0.226 of 1 in the mean) that torchvision's networks
# divide by.
CAFFE = 57.6

# The means of maps of VGG-19 after their ReLUs. Caffe's, which sees 0..255: those that TensorFlow's
# tutorial "Neural style transfer" prints of Keras' copy, which looks at a painting. torchvision's:
# those of an ImageNet VGG-16.
MEAN_ACTIVATIONS: dict[str, dict[str, float]] = {
    "caffe": {
        "conv1_1": 34.0,
        "conv2_1": 200.0,
        "conv3_1": 231.0,
        "conv4_1": 791.0,
        "conv5_1": 59.2,
    },
    "torchvision": {
        "conv1_1": 0.335,
        "conv2_1": 0.866,
        "conv3_1": 1.55,
        "conv4_1": 1.451,
        "conv5_1": 0.912,
    },
}
_ROUNDS, _ENOUGH = 1000, 1e-6  # of the logarithm of a factor


def rescaled(weights: Mapping[str, Tensor], name: str, scale: Scale) -> dict[str, Tensor]:
    """The weights of the fetched ``vgg19`` or ``vgg16`` with maps of another scale, in the form of
    ``weights.load``.

    Every map is the fetched network's times a positive factor for each channel, so that what it
    sees is the same. "caffe" is the networks as they were published, which see 0..255;
    "torchvision" those whose pixels are divided by deviations, as the fetched VGG-16 is.

    Raises:
        BadRecipe: a filter has no weights at all, so that no factor can be found.
    """
    if scale == "fetched" or (name == "vgg16" and scale == "torchvision"):
        return dict(weights)
    if name == "vgg16":
        passes_on = {key for key in weights if key.startswith("conv") and key.endswith("weight")}
        return {
            key: tensor if key in passes_on else CAFFE * tensor for key, tensor in weights.items()
        }
    names = [layer.name for layer in vgg.layers(vgg.CONFIGURATION_OF[name]) if layer.kind == "conv"]
    found = dict(weights)
    before = torch.ones(3, dtype=torch.float64)
    for layer, logarithms in zip(
        names, factors([weights[f"{each}.weight"] for each in names], names, scale), strict=True
    ):
        factor = logarithms.exp()
        weight = (
            weights[f"{layer}.weight"].double()
            * factor[:, None, None, None]
            / before[:, None, None]
        )
        found[f"{layer}.weight"] = weight.float()
        found[f"{layer}.bias"] = (weights[f"{layer}.bias"].double() * factor).float()
        before = factor
    return found


def factors(weights: list[Tensor], names: list[str], scale: str) -> list[Tensor]:
    """The logarithm (O,) of every filter's factor, float64, for convolutions (O, I, h, w) that
    follow each other.

    The fetched maps have a mean of 1, so that a layer's mean is that of its factors. Of the last
    layer's way out nothing is known: its filters are given weights of one norm, and all of them
    together the norm of the deepest layer that is.
    """
    levels = MEAN_ACTIVATIONS[scale]
    squares = [weight.double().square().sum((2, 3)) for weight in weights]
    if any((square.sum(1) == 0).any() for square in squares):
        raise BadRecipe(
            "This network has filters without weights, so its maps cannot be scaled.",
            "Leave --network-scale.",
        )
    found = [torch.zeros(len(square), dtype=torch.float64) for square in squares]
    deepest = max(index for index, name in enumerate(names) if name in levels)

    def inward(index: int) -> Tensor:
        before = (-2 * found[index - 1]).exp() if index else torch.ones(3, dtype=torch.float64)
        return (2 * found[index]).exp() * (squares[index] @ before)

    def outward(index: int) -> Tensor:
        return (-2 * found[index]).exp() * (squares[index + 1].T @ (2 * found[index + 1]).exp())

    for _ in range(_ROUNDS):
        moved = 0.0
        for index, name in enumerate(names):
            old = found[index]
            if index + 1 < len(names):
                new = old + (outward(index) / inward(index)).log() / 4
            else:
                new = old + (inward(deepest).sum() / len(old) / inward(index)).log() / 2
            if name in levels:
                new = new - (new.exp().mean() / levels[name]).log()
            found[index] = new
            moved = max(moved, float((new - old).abs().max()))
        if moved < _ENOUGH:
            break
    return found
