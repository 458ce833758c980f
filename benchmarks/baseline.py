"""The baseline: style transfer in plain PyTorch, with the objective of a recipe.

It uses convolutions tracked by autograd, normalized or relative content, Gram matrices or the
Wasserstein distance of Gaussians at one or several scales, one size, and torch's L-BFGS with its
defaults. It shares only the recipe's numbers with Impasto: weights and pixels are passed in as
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
_TEMPORARY = 4 * 64  # numbers per pixel: gradients and copies of the first block's maps
_LEAST_SIDE = 32  # px, of the picture and the painting at every scale
# Eigenvalues below this share of the largest count as zero. This is part of the objective.
_RANK = 1e-6


class Baseline:
    """The loss of a recipe and its gradient at a picture.

    Args:
        recipe: with one painting, "normalized" or "relative" content, style statistics
            "gram-relative" or "wasserstein", and no term for faces.
        weights: "input.weight", "input.bias", "conv1_1.weight", "conv1_1.bias" and so on, in the
            network's order.
        photo: (1, 3, H, W), 0..1, at the size of the picture.
        painting: (1, 3, h, w), 0..1, at the size at which it is evaluated.
        content_factor: factor on the content weight, from strength and size.
    """

    def __init__(
        self,
        recipe: Recipe,
        weights: Mapping[str, Tensor],
        photo: Tensor,
        painting: Tensor,
        content_factor: float,
    ) -> None:
        known = set(recipe.style.statistics) <= set(DISTANCES)
        if not known or recipe.content.scaling not in CONTENT or recipe.protect.regions != "none":
            raise ValueError(
                f"the baseline supports {', '.join(DISTANCES)} and {' or '.join(CONTENT)} content "
                "only, and protects no faces"
            )
        self.recipe = recipe
        self.weights = weights
        self.content_weight = recipe.content.weight * content_factor
        self.convolutions = _needed(weights, {*recipe.content.layers, *recipe.style.layers})
        with torch.no_grad():
            maps = self.features(photo)
            self.photo = {name: maps[name] for name in recipe.content.layers}
            self.paintings: list[dict[str, Target]] = []  # of each scale
            while len(self.paintings) < recipe.style.octaves:
                maps = self.features(painting)
                self.paintings.append({name: _target(maps[name]) for name in recipe.style.layers})
                if min(*painting.shape[2:], *photo.shape[2:]) < 2 * _LEAST_SIDE + 3:
                    break  # the next scale would be too small
                painting, photo = halved(painting), halved(photo)

    def __call__(self, pixels: Tensor) -> tuple[float, Tensor]:
        """The loss at a picture (1, 3, H, W) and its gradient, of the same shape."""
        leaf = pixels.detach().clone().requires_grad_()
        loss = self.loss(leaf)
        loss.backward()
        assert leaf.grad is not None
        return loss.item(), leaf.grad

    def features(self, pixels: Tensor) -> Maps:
        """The feature maps after each ReLU, by name."""
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
        """The weighted sum of content, style and smoothness."""
        recipe = self.recipe
        maps = self.features(pixels)
        distance = CONTENT[recipe.content.scaling]
        content = sum(
            weight * distance(maps[name], self.photo[name])
            for name, weight in recipe.content.layers.items()
        )
        style = self._style(maps, self.paintings[0])
        scaled = pixels
        for painting in self.paintings[1:]:
            scaled = halved(scaled)
            style = style + self._style(self.features(scaled), painting)
        return (
            self.content_weight * content
            + recipe.style.weight / len(self.paintings) * style
            + recipe.smooth.weight * total_variation(pixels)
        )

    def _style(self, maps: Maps, painting: Mapping[str, Target]) -> Tensor:
        style = self.recipe.style
        distances = [
            factor * weight * DISTANCES[statistic](maps[name], painting[name])
            for statistic, factor in style.statistics.items()
            for name, weight in style.layers.items()
        ]
        return torch.stack(distances).sum()


def halved(pixels: Tensor) -> Tensor:
    """Every second pixel after a filter of five taps, only where it fits."""
    taps = torch.tensor([0.05, 0.25, 0.4, 0.25, 0.05], dtype=pixels.dtype, device=pixels.device)
    filters = (taps[:, None] * taps).repeat(3, 1, 1, 1)
    return functional.conv2d(pixels, filters, stride=2, groups=3)


def relative_distance(maps: Tensor, target: Tensor) -> Tensor:
    """Squared difference over the target's sum of squared deviations."""
    return (maps - target).square().sum() / (
        target - target.mean((-2, -1), keepdim=True)
    ).square().sum()


def normalized_distance(maps: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the maps, each channel with mean 0 and deviation 1.

    Channels in which the target does not vary are left out. To a variance a hundred-thousandth of
    the target's mean square is added.
    """
    least = 1e-5 * target.square().mean()
    variances = target.var((2, 3), correction=0)[0]
    varied = variances > 1e-3 * least
    ours, theirs = ((each - each.mean((2, 3), keepdim=True))[:, varied] for each in (maps, target))
    products = (ours * theirs).mean((0, 2, 3))
    scale = (ours.square().mean((0, 2, 3)) + least) * (variances[varied] + least)
    return 2 * (1 - products / scale.sqrt()).mean()


CONTENT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relative": relative_distance,
    "normalized": normalized_distance,
}


def total_variation(pixels: Tensor) -> Tensor:
    """Mean squared difference to the right and to the lower neighbor."""
    down = (pixels[..., 1:, :] - pixels[..., :-1, :]).square().sum()
    across = (pixels[..., 1:] - pixels[..., :-1]).square().sum()
    return (down + across) / pixels.numel()


@dataclass(frozen=True)
class Target:
    """The painting's statistics in one layer."""

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


def gram_relative(maps: Tensor, target: Target) -> Tensor:
    """Squared distance of the Gram matrices over the target's squared norm."""
    return (_gram(maps) - target.gram).square().sum() / target.gram.square().sum()


def wasserstein(maps: Tensor, target: Target) -> Tensor:
    """Squared Wasserstein-2 distance of the Gaussians, over the target's mean squared norm.

    The eigenvalues are computed in float64, which takes a few percent of an evaluation. In float32
    the loss is off by up to 1e-4, and the decomposition fails for a map with fewer positions than
    channels.
    """
    mean, covariance = _gaussian(maps)
    values = torch.linalg.eigvalsh(target.root @ covariance.double() @ target.root)
    fidelity = values[values > values.detach().max() * _RANK].sqrt().sum().to(mean.dtype)
    shift = (mean - target.mean).square().sum()
    variance = covariance.diagonal().sum() + target.covariance.diagonal().sum()
    return (shift + variance - 2 * fidelity) / target.gram.diagonal().sum()


DISTANCES: dict[str, Callable[[Tensor, Target], Tensor]] = {
    "gram-relative": gram_relative,
    "wasserstein": wasserstein,
}


def _needed(weights: Mapping[str, Tensor], layers: set[str]) -> list[str]:
    """The names of the convolutions up to the deepest of ``layers``."""
    names = [
        key.removesuffix(".weight")
        for key in weights
        if key.startswith("conv") and key.endswith(".weight")
    ]
    names.sort(key=lambda name: tuple(int(part) for part in name.removeprefix("conv").split("_")))
    deepest = max(names.index(f"conv{layer.removeprefix('relu')}") for layer in layers)
    return names[: deepest + 1]


def needs(recipe: Recipe, weights: Mapping[str, Tensor], pixels: int) -> int:
    """Bytes that an evaluation of ``pixels`` pixels needs.

    They are what autograd stores, plus temporary tensors at the widest maps.
    """
    stored = 0.0  # numbers per pixel
    for name in _needed(weights, {*recipe.content.layers, *recipe.style.layers}):
        stride = 2 ** (int(name[4]) - 1)
        channels, channels_in = weights[f"{name}.weight"].shape[:2]
        stored += (
            channels_in + channels
        ) / stride**2  # the padded input, and the output of the ReLU
        if name.endswith("_1") and stride > 1:
            # The pooled map, and the position of each maximum as int64.
            stored += 3 * channels_in / stride**2
    return int(pixels * (stored + _TEMPORARY) * weights["input.weight"].element_size())


@dataclass(frozen=True)
class Search:
    """The losses of a search, one per evaluation, and the picture (1, 3, H, W) of the lowest."""

    losses: list[float]
    picture: Tensor


def search(
    evaluate: Evaluate,
    start: Tensor,
    evaluations: int,
    say: Callable[[str], None] = lambda text: None,
) -> Search:
    """Run torch's L-BFGS with its defaults for ``evaluations`` evaluations."""
    pixels = start.detach().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([pixels])
    losses: list[float] = []
    best = start

    def closure() -> Tensor:
        nonlocal best
        if len(losses) == evaluations:
            raise _Done
        loss, pixels.grad = evaluate(pixels.detach())
        if not losses or loss < min(losses):
            best = pixels.detach().clone()
        losses.append(loss)
        if len(losses) % 25 == 0:
            say(f"baseline: evaluation {len(losses)} of {evaluations}, loss {loss:.5f}")
        return torch.tensor(loss)

    try:
        while True:
            optimizer.step(closure)
    except _Done:
        return Search(losses, best)


class _Done(Exception):
    """Ends the optimizer within a step, which makes up to 20 evaluations."""
