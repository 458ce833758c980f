"""The plain program that Impasto is compared with: style transfer as anybody would write it in
PyTorch.

The same objective as a recipe's, by formula: convolutions that autograd keeps track of, a dict of
feature maps, Gram matrices or the Wasserstein distance of Gaussians, one size, torch's L-BFGS as it
comes. Nothing of Impasto's is in it but the recipe's numbers: weights and pixels are given to it as
tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from impasto.recipe.records import Recipe

Maps = dict[str, Tensor]
Evaluate = Callable[[Tensor], tuple[float, Tensor]]  # pixels -> loss and gradient

_PADDING_MODE = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
_PASSING = 4 * 64  # numbers for each pixel: gradients and copies of the first block's maps
# Eigenvalues below this share of the largest count as none: a part of the objective, not of how it
# is done.
_RANK = 1e-6


class Yardstick:
    """The loss of a recipe and its gradient at a picture.

    Args:
        recipe: of one painting, with style statistics "gram-relative" and "wasserstein" and
            relative content.
        weights: "input.weight", "input.bias", then "conv1_1.weight", "conv1_1.bias" and so on, in
            the network's order.
        photo: (1, 3, H, W), 0..1, at the size of the picture.
        painting: (1, 3, h, w), 0..1, at the size at which it is looked at.
        content_factor: what strength and size make of the content weight.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Mapping[str, Tensor],
        photo: Tensor,
        painting: Tensor,
        content_factor: float,
    ) -> None:
        if (
            not set(recipe.style.statistics) <= set(DISTANCES)
            or recipe.content.scaling != "relative"
        ):
            raise ValueError(
                f"the yardstick knows {', '.join(DISTANCES)} and relative content only"
            )
        self.recipe = recipe
        self.weights = weights
        self.content_weight = recipe.content.weight * content_factor
        self.convolutions = _needed(weights, {*recipe.content.layers, *recipe.style.layers})
        with torch.no_grad():
            maps = self.features(photo)
            self.photo = {name: maps[name] for name in recipe.content.layers}
            maps = self.features(painting)
            self.painting = {name: _target(maps[name]) for name in recipe.style.layers}

    def __call__(self, pixels: Tensor) -> tuple[float, Tensor]:
        """The loss at a picture (1, 3, H, W), and its gradient of the same shape."""
        leaf = pixels.detach().clone().requires_grad_()
        loss = self.loss(leaf)
        loss.backward()
        assert leaf.grad is not None
        return loss.item(), leaf.grad

    def features(self, pixels: Tensor) -> Maps:
        """The maps after each ReLU."""
        network = self.recipe.network
        x = functional.conv2d(
            pixels, self.weights["input.weight"][:, :, None, None], self.weights["input.bias"]
        )
        maps: Maps = {}
        block = "1"
        for name in self.convolutions:
            if name[4] != block:
                x = (
                    functional.max_pool2d(x, 2)
                    if network.pooling == "max"
                    else functional.avg_pool2d(x, 2)
                )
                block = name[4]
            x = functional.pad(x, (1, 1, 1, 1), mode=_PADDING_MODE[network.padding])
            x = functional.relu(
                functional.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])
            )
            maps[f"relu{name[4:]}"] = x
        return maps

    def loss(self, pixels: Tensor) -> Tensor:
        recipe = self.recipe
        maps = self.features(pixels)
        content = sum(
            weight * content_distance(maps[name], self.photo[name])
            for name, weight in recipe.content.layers.items()
        )
        style = sum(
            factor * weight * DISTANCES[statistic](maps[name], self.painting[name])
            for statistic, factor in recipe.style.statistics.items()
            for name, weight in recipe.style.layers.items()
        )
        return (
            self.content_weight * content
            + recipe.style.weight * style
            + recipe.smooth.weight * total_variation(pixels)
        )


def content_distance(found: Tensor, target: Tensor) -> Tensor:
    """Squared difference over the target's own variation."""
    return (found - target).square().sum() / (
        target - target.mean((-2, -1), keepdim=True)
    ).square().sum()


def total_variation(pixels: Tensor) -> Tensor:
    """Mean squared difference to the right and to the lower neighbour."""
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().sum()
    across = (pixels[..., 1:] - pixels[..., :-1]).square().sum()
    return (down + across) / pixels.numel()


@dataclass(frozen=True)
class Target:
    """What is known of the painting in one layer."""

    gram: Tensor  # (C, C)
    mean: Tensor  # (C,)
    covariance: Tensor  # (C, C)
    root: Tensor  # (C, C), the square root of the covariance, in float64


def _target(maps: Tensor) -> Target:
    mean, covariance = _gaussian(maps)
    values, vectors = torch.linalg.eigh(covariance.double())
    return Target(_gram(maps), mean, covariance, (vectors * values.clamp_min(0).sqrt()) @ vectors.T)


def _gram(maps: Tensor) -> Tensor:
    flat = maps[0].flatten(1)  # (C, n)
    return flat @ flat.T / flat.shape[1]


def _gaussian(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance (C, C) over the positions of a map."""
    flat = maps[0].flatten(1)  # (C, n)
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    return mean, centred @ centred.T / flat.shape[1]


def gram_relative(found: Tensor, target: Target) -> Tensor:
    """Squared distance of the Gram matrices over the target's squared length."""
    return (_gram(found) - target.gram).square().sum() / target.gram.square().sum()


def wasserstein(found: Tensor, target: Target) -> Tensor:
    """Squared Wasserstein-2 distance of the Gaussians, over the target's mean squared length.

    The eigenvalues are found in float64, which takes some hundredths of an evaluation: in float32
    the loss is off by up to 1e-4, and a map with fewer positions than channels has none that are
    found at all.
    """
    mean, covariance = _gaussian(found)
    values = torch.linalg.eigvalsh(target.root @ covariance.double() @ target.root)
    fidelity = values[values > values.detach().max() * _RANK].sqrt().sum().to(mean.dtype)
    apart = (mean - target.mean).square().sum()
    spread = covariance.diagonal().sum() + target.covariance.diagonal().sum()
    return (apart + spread - 2 * fidelity) / target.gram.diagonal().sum()


DISTANCES: dict[str, Callable[[Tensor, Target], Tensor]] = {
    "gram-relative": gram_relative,
    "wasserstein": wasserstein,
}


def _needed(weights: Mapping[str, Tensor], layers: set[str]) -> list[str]:
    """The convolutions up to the deepest layer asked for."""
    names = [
        key.removesuffix(".weight")
        for key in weights
        if key.startswith("conv") and key.endswith(".weight")
    ]
    names.sort(key=lambda name: tuple(int(part) for part in name.removeprefix("conv").split("_")))
    deepest = max(names.index(f"conv{layer.removeprefix('relu')}") for layer in layers)
    return names[: deepest + 1]


def needs(recipe: Recipe, weights: Mapping[str, Tensor], pixels: int) -> int:
    """Bytes that an evaluation of so many pixels takes: what autograd keeps, and what comes and
    goes at the widest maps.
    """
    kept = 0.0  # numbers for each pixel
    for name in _needed(weights, {*recipe.content.layers, *recipe.style.layers}):
        stride = 2 ** (int(name[4]) - 1)
        channels, channels_in = weights[f"{name}.weight"].shape[:2]
        kept += (channels_in + channels) / stride**2  # the padded input, and what the ReLU gave
        if name.endswith("_1") and stride > 1:
            # The pooled map, and where each maximum was in numbers twice as wide.
            kept += 3 * channels_in / stride**2
    return int(pixels * (kept + _PASSING) * weights["input.weight"].element_size())


@dataclass(frozen=True)
class Search:
    """The losses of a search, one for each evaluation, and the picture (1, 3, H, W) of the least of
    them.
    """

    losses: list[float]
    picture: Tensor


def search(
    evaluate: Evaluate,
    start: Tensor,
    evaluations: int,
    say: Callable[[str], None] = lambda text: None,
) -> Search:
    """torch's L-BFGS with its defaults, until it has asked for so many losses."""
    pixels = start.detach().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([pixels])
    losses: list[float] = []
    best = start

    def closure() -> Tensor:
        nonlocal best
        if len(losses) == evaluations:
            raise _Enough
        loss, pixels.grad = evaluate(pixels.detach())
        if not losses or loss < min(losses):
            best = pixels.detach().clone()
        losses.append(loss)
        if len(losses) % 25 == 0:
            say(f"the yardstick's evaluation {len(losses)} of {evaluations}: loss {loss:.5f}")
        return torch.tensor(loss)

    try:
        while True:
            optimiser.step(closure)
    except _Enough:
        return Search(losses, best)


class _Enough(Exception):
    """Ends the optimiser within the round of 20 evaluations that it is in."""
