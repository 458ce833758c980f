"""Load the network that a recipe chooses, and choose its convolution methods."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from impasto.assets import catalogue
from impasto.errors import BadRecipe
from impasto.hardware import kernel_cache
from impasto.networks import rescale, vgg, weights
from impasto.networks.convolution import KERNELS, Kernel, has_method
from impasto.networks.features import Network
from impasto.recipe.records import Recipe


def load_network(
    recipe: Recipe,
    layers: Iterable[str],
    kernel: Kernel,
    device: torch.device,
    progress: catalogue.Progress,
) -> Network:
    """Load the network that a recipe chooses, cut after the deepest of ``layers``."""
    settings = recipe.network
    file = Path(settings.weights) if settings.weights else None
    tensors = weights.load(settings.name, progress=progress, file=file)
    if file is None:  # weights from a user's file are not rescaled
        tensors = rescale.rescaled(tensors, settings.name, settings.scale)
    return Network(
        tensors,
        vgg.CONFIGURATION_OF[settings.name],
        layers,
        pooling=settings.pooling,
        padding=settings.padding,
        kernel=kernel,
        device=device,
        gain=settings.gain,
    )


def choose_kernel(recipe: Recipe, device: torch.device) -> Kernel:
    """The convolution methods that a recipe names, or the fastest ones of this machine.

    Raises:
        BadRecipe: the recipe's text names no methods, or one that does not exist here.
    """
    named = recipe.compute.kernel
    if named == "auto":
        return kernel_cache.fastest_kernel(recipe.compute.precision, device)
    hint = f"Give auto, one of {', '.join(KERNELS)}, or the line that a run's record has as kernel."
    try:
        kernel = Kernel.parse(named)
    except ValueError:
        raise BadRecipe(f"kernel is {named!r}, which names no kernel.", hint) from None
    if missing := _missing_method(kernel, device):
        raise BadRecipe(f"kernel needs the convolution {missing!r}, which is not here.", hint)
    return kernel


def saved_kernel(text: str, device: torch.device) -> Kernel:
    """The convolution methods of a saved state, parsed from its line of text.

    Raises:
        ValueError: a method that this version or this machine does not have; says which.
    """
    try:
        kernel = Kernel.parse(text)
    except ValueError:
        raise ValueError("this version does not have its convolutions") from None
    if missing := _missing_method(kernel, device):
        raise ValueError(f"this machine does not have its convolution, {missing}")
    return kernel


def _missing_method(kernel: Kernel, device: torch.device) -> str:
    """A convolution method that this device does not have; "" if it has all."""
    methods = {kernel.default, *kernel.methods.values()}
    return min((name for name in methods if not has_method(name, device)), default="")


def network_key(recipe: Recipe) -> object:
    """What decides the network, except for its convolution methods."""
    return recipe.network, sorted(recipe.used_layers), recipe.compute.device


def evaluation_key(recipe: Recipe) -> object:
    """What decides, for one network, how long an evaluation takes."""
    style = recipe.style
    terms = [sorted(recipe.content.layers), sorted(style.layers), sorted(style.statistics)]
    if recipe.nearest.weight > 0:
        terms.append(sorted(recipe.nearest.layers))
    if recipe.histogram.weight > 0:
        terms.append(sorted(recipe.histogram.layers))
    return tuple(terms), (style.scale, style.sizing, style.enlarge, style.octaves)
